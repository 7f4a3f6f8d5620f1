//! Attempts by a REFER that was not captured: known by its answer, by its NOTIFYs, and by the leg that came of it.

use std::net::IpAddr;
use std::time::Duration;

use super::Refer;
use super::dialogs::{is_in_dialog, tags_by};
use crate::dialog;
use crate::leg::{AttemptId, Leg, LegId, Origin, Party};
use crate::record::{Kind, Method, Side};
use crate::sip::{self, Sipfrag};
use crate::stream::WireMessage;
use crate::transfer::facts::Target;
use crate::transfer::method::{Machine, consultation};
use crate::transfer::stage::{Heard, Stage};
use crate::transfer::state::PendingAttempt;

/// How long after the REFER its leg may begin.
const LEG_WITHIN: Duration = Duration::from_secs(30);
/// Within what time a transferor ends both its calls.
const TOGETHER: Duration = Duration::from_secs(2);

/// The attempt that a NOTIFY alone tells of: the REFER may be older than the capture, or lost; the sipfrag tells of it
/// all the same.
pub(super) fn by_notify(stage: &mut Stage, heard: Heard<'_>, number: Option<u32>) -> Option<AttemptId> {
    if Sipfrag::of(heard.message).is_err() || is_shown(stage, heard.wire) {
        return None;
    }
    let by = heard.event.by.other();
    if let Some(id) = number.and_then(|number| infer_retry(stage, heard, by, number)) {
        return Some(id);
    }
    let leg = stage.legs.get(heard.event.leg)?;
    // After a REFER that was captured only a number can tell of another.
    let latest = dialog::captured(leg, by, sip::Method::Refer).max();
    let is_next = number.zip(latest).is_some_and(|(number, latest)| number > latest);
    if leg.call.referred && !is_next {
        return None;
    }
    begin(stage, heard, by, number)
}

/// The attempt that an answer to a REFER alone tells of.
pub(super) fn by_answer(stage: &mut Stage, heard: Heard<'_>, status: u16) -> Option<AttemptId> {
    let event = heard.event;
    if dialog::is_challenge(status)
        || is_captured(stage, event.leg, event.by, event.cseq.number)
        || is_shown(stage, heard.wire)
        || is_awaited(stage, heard)
    {
        return None;
    }
    begin(stage, heard, event.by, Some(event.cseq.number))
}

/// The attempt whose challenged REFER was tried again, unseen: a higher number shows it (RFC 3261 §22.2).
pub(super) fn infer_retry(stage: &mut Stage, heard: Heard<'_>, by: Side, number: u32) -> Option<AttemptId> {
    let leg = heard.event.leg;
    if is_captured(stage, leg, by, number) {
        return None;
    }
    let id = stage.open_in(leg).into_iter().find(|id| {
        stage.attempts.get(id).is_some_and(|attempt| {
            let follows = |refer: &Refer| refer.is_challenged() && refer.numbers.last() < Some(&number);
            attempt.dialog == leg
                && attempt.by == by
                && is_in_dialog(stage, attempt, heard)
                && attempt.refer().is_some_and(follows)
        })
    })?;
    stage.attempts.get_mut(&id)?.refer_mut()?.retry(number, heard.wire.time);
    Some(id)
}

fn is_captured(stage: &Stage, leg: LegId, by: Side, number: u32) -> bool {
    let leg = stage.legs.get(leg);
    leg.is_some_and(|leg| dialog::captured(leg, by, sip::Method::Refer).any(|captured| captured == number))
}

/// Whether the answer may be that to a REFER which is known.
fn is_awaited(stage: &Stage, heard: Heard<'_>) -> bool {
    let Heard { event, .. } = heard;
    let part = stage.state(event.leg).is_some_and(|state| state.part_of.is_some());
    let open = stage.open_in(event.leg);
    let mut open = open.iter().filter_map(|id| stage.attempts.get(id));
    part || open.any(|attempt| {
        attempt.by_of(event.leg) == event.by
            && attempt.refer().is_some_and(|refer| refer.may_be_answered_as(event.cseq.number))
    })
}

fn begin(stage: &mut Stage, heard: Heard<'_>, by: Side, number: Option<u32>) -> Option<AttemptId> {
    let Heard { event, wire, .. } = heard;
    let leg = stage.legs.get(event.leg)?;
    if leg.call.asked || leg.call.leftover || leg.origin == Origin::Refer {
        return None;
    }
    let mut refer = Refer::new(number.unwrap_or_default(), b"", wire.time);
    if number.is_none() {
        refer.numbers.clear();
    }
    refer.tags = tags_by(stage, heard, by);
    let consultation = consultation::of_unseen(stage, event.leg, by);
    refer.consultation = consultation;
    let attempt = PendingAttempt {
        kind: match consultation {
            Some(other) if consultation::is_on_hold(stage, leg.id, other) => Kind::Attended,
            _ => Kind::Blind,
        },
        call: Some(leg.id),
        call_id: Some(leg.call_id_text().into_owned()),
        transferor: Some(leg.uri_text(by)),
        transferee: Some(leg.uri_text(by.other())),
        ..PendingAttempt::new(Method::Refer, Machine::Refer(Box::new(refer)), leg.id, by, wire.time)
    };
    stage.note_referred(event.leg);
    let id = stage.begin(attempt);
    if let Some(state) = consultation.and_then(|leg| stage.state_or_new(leg)) {
        state.consults = Some(id);
    }
    Some(id)
}

/// A call has ended. Where a REFER that was not captured was sent beside a consultation, both end together once the two others
/// talk to one another: it was attended.
pub(in crate::transfer) fn on_end(stage: &mut Stage, leg: LegId) {
    let consults = stage.state(leg).and_then(|state| state.consults);
    for id in stage.open_in(leg).into_iter().chain(consults) {
        let Some(attempt) = stage.attempts.get(&id).filter(|attempt| is_unseen(attempt)) else { continue };
        let consultation = attempt.refer().and_then(|refer| refer.consultation);
        let Some(consultation) = consultation.filter(|leg| *leg != attempt.dialog) else { continue };
        let bye = |leg| stage.legs.get(leg).and_then(|leg| leg.bye.get());
        let together = bye(attempt.dialog)
            .zip(bye(consultation))
            .is_some_and(|(one, other)| one.since(other).max(other.since(one)) <= TOGETHER);
        if let Some(attempt) = stage.attempts.get_mut(&id).filter(|_| together) {
            attempt.kind = Kind::Attended;
        }
    }
}

/// Where an INVITE with Replaces shows the transfer, its maker's report is of that one.
fn is_shown(stage: &Stage, wire: &WireMessage<'_>) -> bool {
    stage.recent_attempts().any(|(_, attempt)| {
        let maker = stage.legs.get(attempt.dialog).map(|leg| leg.hosts.0);
        attempt.second_leg().is_some_and(|second| second.replaces) && maker == Some(wire.src.ip())
    })
}

/// The attempt whose NOTIFYs the maker of this INVITE with Replaces sends.
pub(in crate::transfer) fn of_maker(stage: &Stage, maker: &Leg) -> Option<AttemptId> {
    let recent = stage.recent_attempts();
    let mut unseen =
        recent.filter(|(_, attempt)| is_unseen(attempt) && notifier(stage, attempt) == Some(maker.hosts.0));
    unseen.next().map(|(id, _)| id)
}

/// What a leg that is known to be a call's is to the REFER in it.
pub(in crate::transfer) enum Part {
    Target,
    /// The transferor had made it itself, before that.
    Consultation,
}

/// The attempt in this call that a leg which is known to be the call's has to do with, but for a consultation that is known as
/// that.
pub(in crate::transfer) fn of_call(stage: &Stage, call: LegId, leg: LegId) -> Option<(AttemptId, Part)> {
    if stage.state(leg).is_some_and(|state| state.consults.is_some()) {
        return None;
    }
    let leg = stage.legs.get(leg)?;
    stage.open_in(call).into_iter().find_map(|id| {
        let attempt = stage.attempts.get(&id).filter(|attempt| is_unseen(attempt))?;
        let near = attempt.legs.is_empty() && attempt.started <= leg.started + LEG_WITHIN;
        let dialog = stage.legs.get(attempt.dialog)?;
        let [transferor, transferee] = ends(dialog, attempt.by);
        let consults = leg.started < attempt.started && transferor != transferee && leg.hosts.0 == transferor;
        near.then_some((id, if consults { Part::Consultation } else { Part::Target }))
    })
}

/// The attempt that a leg's Referred-By names: its maker was asked by the transferor.
pub(in crate::transfer) fn named_by(stage: &Stage, leg: &Leg) -> Option<AttemptId> {
    leg.rare()?.referred_by.as_ref()?;
    let recent = stage.recent_attempts();
    let mut fits = recent.filter(|(_, attempt)| fits(stage, attempt, leg));
    fits.next().map(|(id, _)| id)
}

/// A leg that began before the attempt was known, and names its transferor.
pub(super) fn leg_of(stage: &Stage, id: AttemptId) -> Option<LegId> {
    let attempt = stage.attempts.get(&id)?;
    let found = stage.recent_legs().find(|leg| fits(stage, attempt, leg) && !serves(stage, leg));
    found.map(|leg| leg.id)
}

fn fits(stage: &Stage, attempt: &PendingAttempt, leg: &Leg) -> bool {
    let near = leg.started <= attempt.started + LEG_WITHIN && attempt.started <= leg.started + LEG_WITHIN;
    is_unseen(attempt) && attempt.legs.is_empty() && near && is_for_transferor(stage, attempt, leg)
}

/// Whether the transferee's host made a leg, and says by its Referred-By that the transferor asked for it (RFC 3892).
pub(in crate::transfer) fn is_for_transferor(stage: &Stage, attempt: &PendingAttempt, leg: &Leg) -> bool {
    let named = leg.rare().and_then(|rare| rare.referred_by.as_ref());
    let call = attempt.call.and_then(|call| stage.legs.get(call));
    let transferor = call.and_then(|call| Party::of_uri(call.uri(attempt.by)));
    notifier(stage, attempt) == Some(leg.hosts.0)
        && transferor.zip(named).is_some_and(|(transferor, named)| transferor.same(named))
}

fn serves(stage: &Stage, leg: &Leg) -> bool {
    stage.state_of(leg).is_some_and(|state| state.serves.is_some())
}

pub(super) fn is_unseen(attempt: &PendingAttempt) -> bool {
    attempt.machine.as_method().is_unseen()
}

/// The host of the transferee, which sends the NOTIFYs.
pub(super) fn notifier(stage: &Stage, attempt: &PendingAttempt) -> Option<IpAddr> {
    Some(ends(stage.legs.get(attempt.dialog)?, attempt.by)[1])
}

/// The hosts of the transferor and of the transferee.
fn ends(dialog: &Leg, by: Side) -> [IpAddr; 2] {
    match by {
        Side::Caller => [dialog.hosts.0, dialog.hosts.1],
        Side::Callee => [dialog.hosts.1, dialog.hosts.0],
    }
}

/// What the target's leg tells of the target that the REFER named.
pub(in crate::transfer) fn learn_target(attempt: &mut PendingAttempt, request: &[u8]) {
    if is_unseen(attempt) && attempt.target.uri.is_none() {
        attempt.target = Target::of_uri(request);
    }
}
