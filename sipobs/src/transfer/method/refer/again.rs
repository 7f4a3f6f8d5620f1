//! One REFER seen under several Call-IDs: sent anew under another each time, or passed on by a B2BUA.

use std::time::Duration;

use crate::leg::{AttemptId, Leg, LegId, Tag};
use crate::transfer::facts::Target;
use crate::transfer::stage::{Heard, Stage};
use crate::transfer::state::{PartOf, PendingAttempt};

/// A B2BUA passes a REFER on at once.
const PASSED_ON: Duration = Duration::from_secs(1);

/// Whether a REFER is one that is known already, under another Call-ID. Then its leg is noted to be part of that attempt.
pub(super) fn is_known(stage: &mut Stage, heard: Heard<'_>, target: &Target, call: Option<LegId>) -> bool {
    let known = stage.recent_attempts().find_map(|(id, attempt)| {
        let copy = is_copy(stage, attempt, heard, target, call);
        (copy || is_passed_on(stage, attempt, heard, target)).then_some(PartOf { attempt: id, copy })
    });
    let Some(part) = known else { return false };
    join(stage, heard.event.leg, part);
    true
}

/// Drops the attempt that is another's REFER passed on, where only now both calls are known to be up, or where the capture
/// has the two in the wrong order.
pub(super) fn drop_passed_on(stage: &mut Stage, leg: LegId) {
    let twice = stage.open_in(leg).into_iter().find_map(|id| {
        let attempt = stage.attempts.get(&id).filter(|attempt| attempt.dialog == leg)?;
        let mut recent = stage.recent_attempts();
        recent.find_map(|(other_id, other)| {
            if passes_on(attempt, other) {
                Some((id, other_id))
            } else {
                passes_on(other, attempt).then_some((other_id, id))
            }
        })
    });
    let Some((asked, passed_on)) = twice else { return };
    if ![asked, passed_on]
        .iter()
        .all(|id| stage.attempts.get(id).is_some_and(|attempt| is_real(stage, attempt)))
    {
        if let Some(refer) = stage.attempts.get_mut(&passed_on).and_then(|attempt| attempt.refer_mut()) {
            refer.perhaps_passed_on = true;
        }
        return;
    }
    let Some(passed_on) = stage.withdraw(passed_on) else { return };
    join(stage, passed_on.dialog, PartOf { attempt: asked, copy: false });
}

/// Whether who was asked by one attempt's REFER asks the same of somebody else by the other's.
fn passes_on(asked: &PendingAttempt, passed_on: &PendingAttempt) -> bool {
    let (Some(first), Some(second)) = (asked.refer(), passed_on.refer()) else { return false };
    let apart = asked.started.since(passed_on.started).max(passed_on.started.since(asked.started));
    asked.dialog != passed_on.dialog
        && apart <= PASSED_ON
        && asked.target.user.is_some()
        && asked.target.user == passed_on.target.user
        && first.sent_to.map(|to| to.ip()).is_some_and(|to| second.sender == Some(to))
        && second.sent_to.map(|to| to.ip()) != first.sender
}

/// Whether both sides were heard in an attempt's dialog.
fn is_real(stage: &Stage, attempt: &PendingAttempt) -> bool {
    let dialog = stage.legs.get(attempt.dialog);
    dialog.is_some_and(|dialog| dialog.two_hosts || dialog.is_confirmed_by_both())
}

/// The attempt that NOTIFYs of a leg tell of although their Call-ID is another's: theirs that was passed on there, or
/// the one between the same two tags.
pub(super) fn told_of(stage: &Stage, heard: Heard<'_>) -> Option<AttemptId> {
    let part = stage.state(heard.event.leg).and_then(|state| state.part_of);
    if let Some(part) = part {
        return stage.attempts.contains_key(&part.attempt).then_some(part.attempt);
    }
    let tags = tags_of(stage, heard)?;
    let recent = stage.recent_attempts();
    let mut same = recent.filter(|(_, attempt)| {
        attempt.refer().is_some() && attempt.dialog != heard.event.leg && has_tags(stage, attempt, tags)
    });
    same.next().map(|(id, _)| id)
}

/// The attempt of which an answered REFER is a copy.
pub(super) fn copy_of(stage: &Stage, leg: LegId) -> Option<AttemptId> {
    Some(stage.state(leg)?.part_of.filter(|part| part.copy)?.attempt)
}

fn join(stage: &mut Stage, leg: LegId, part: PartOf) {
    stage.note_referred(leg);
    if let Some(state) = stage.state_or_new(leg) {
        state.part_of = Some(part);
    }
    let Some(attempt) = stage.attempts.get_mut(&part.attempt).filter(|_| part.copy) else { return };
    if let Some(refer) = attempt.refer_mut() {
        refer.more_copies = refer.more_copies.saturating_add(1);
    }
}

/// The same sender asks for the same again, in the same call, as nobody has answered.
fn is_copy(
    stage: &Stage,
    attempt: &PendingAttempt,
    heard: Heard<'_>,
    target: &Target,
    call: Option<LegId>,
) -> bool {
    let unanswered = attempt.refer().is_some_and(|refer| refer.answer.is_none() && refer.notified.is_none());
    let soon = heard.wire.time.since(attempt.started) <= stage.config.timers.transaction;
    unanswered
        && soon
        && attempt.dialog != heard.event.leg
        && call.is_some()
        && attempt.call == call
        && attempt.target.uri == target.uri
        && stage.legs.get(attempt.dialog).is_some_and(|dialog| between(dialog, heard))
}

/// What its receiver sends on: to the same target, at once, under the same tags or from the receiver itself.
fn is_passed_on(stage: &Stage, attempt: &PendingAttempt, heard: Heard<'_>, target: &Target) -> bool {
    let soon = heard.wire.time.since(attempt.started) <= PASSED_ON;
    let asked = attempt.refer().is_some_and(|refer| !refer.refer_to.is_empty());
    if !soon || !asked || attempt.dialog == heard.event.leg || attempt.target.user != target.user {
        return false;
    }
    // What only one side says could be said by anybody, to have this one told under its name.
    let dialog = stage.legs.get(attempt.dialog).filter(|dialog| dialog.is_confirmed_by_both());
    let Some(dialog) = dialog else { return false };
    let receiver = match attempt.by_of(dialog.id) {
        crate::record::Side::Caller => dialog.hosts.1,
        crate::record::Side::Callee => dialog.hosts.0,
    };
    let from_receiver = receiver == heard.wire.src.ip() && !between(dialog, heard);
    let same_tags = tags_of(stage, heard).is_some_and(|tags| has_tags(stage, attempt, tags));
    from_receiver || same_tags
}

/// Whether a message goes between the hosts of a leg.
fn between(leg: &Leg, heard: Heard<'_>) -> bool {
    let (src, dst) = (heard.wire.src.ip(), heard.wire.dst.ip());
    [(src, dst), (dst, src)].contains(&leg.hosts)
}

fn tags_of(stage: &Stage, heard: Heard<'_>) -> Option<[Tag; 2]> {
    Some([stage.legs.tag(heard.key.from_tag?)?, stage.legs.tag(heard.key.to_tag?)?])
}

fn has_tags(stage: &Stage, attempt: &PendingAttempt, [one, other]: [Tag; 2]) -> bool {
    let Some(dialog) = stage.legs.get(attempt.dialog) else { return false };
    let tags = [dialog.caller.tag, dialog.callee.tag];
    tags == [Some(one), Some(other)] || tags == [Some(other), Some(one)]
}
