//! NOTIFYs of the refer package, and who tells by them.

use super::dialogs::{is_home, open_in_dialog};
use super::events::supersede_older;
use super::{Notified, Refer, Teller, again, halves, unseen};
use crate::dialog::is_challenge;
use crate::leg::{AttemptId, cut};
use crate::sip::{self, Message, Sipfrag};
use crate::stream::WireMessage;
use crate::transfer::facts;
use crate::transfer::method::target_leg;
use crate::transfer::stage::{Heard, Stage};
use crate::transfer::state::{Owned, PendingAttempt};

/// A NOTIFY of the refer package, in the dialog of its REFER.
pub(in crate::transfer) fn on_notify(stage: &mut Stage, heard: Heard<'_>) {
    let Heard { event, wire, message, .. } = heard;
    let number = message.event().and_then(|event| event.refer_cseq());
    let known = subscribed(stage, heard, number).or_else(|| again::told_of(stage, heard));
    let id = match known {
        // What only a stranger tells of begins no attempt.
        None if event.outside || is_strange(stage, heard, None) => return,
        None => unseen::by_notify(stage, heard, number),
        known => known,
    };
    let Some(id) = id else { return };
    find_leg(stage, id);
    let teller = teller(stage, heard, id);
    let Some(attempt) = stage.attempts.get_mut(&id) else { return };
    attempt.own(match teller {
        Teller::Stranger | Teller::OtherHost => Owned::doubted(event),
        Teller::Dialog | Teller::PassedOn => Owned::of(event),
    });
    let notified = notified(wire, message);
    let is_final = notified.status.as_ref().is_some_and(|(status, _)| *status >= 200);
    let Some(refer) = attempt.refer_mut() else { return };
    refer.numbered |= number.is_some();
    if teller != Teller::Dialog {
        refer.heard_elsewhere(wire.time, notified, teller, facts::told(message));
        return stage.review(id);
    }
    // Nobody tells of a REFER that was not let in: it was tried again, unseen.
    refer.answer.take_if(|answer| is_challenge(answer.status));
    let first = refer.result.is_none();
    refer.notified(wire.time, notified);
    if is_final && first {
        attempt.headers = facts::told(message);
        halves::attach_asked(stage, id, wire.time);
    }
    supersede_older(stage, id);
    stage.review(id);
}

/// Who tells of an attempt.
fn teller(stage: &Stage, heard: Heard<'_>, id: AttemptId) -> Teller {
    let leg = heard.event.leg;
    if is_strange(stage, heard, stage.attempts.get(&id).map(|attempt| &**attempt)) {
        return Teller::Stranger;
    }
    if heard.event.outside {
        return Teller::OtherHost;
    }
    // What is told of a REFER that was passed on is of that: its own dialog tells what became of it (RFC 3515 §2.4.4).
    let passed_on = stage.state(leg).and_then(|state| state.part_of).is_some_and(|part| !part.copy);
    if passed_on { Teller::PassedOn } else { Teller::Dialog }
}

/// Whether a NOTIFY is under a tag that its sender does not have in the dialog of the REFER, or in that of the leg.
fn is_strange(stage: &Stage, heard: Heard<'_>, attempt: Option<&PendingAttempt>) -> bool {
    let Heard { event, key, .. } = heard;
    let known = match attempt {
        Some(attempt) if attempt.dialog != event.leg => None,
        Some(attempt) => attempt.refer().and_then(|refer| refer.tags[1]),
        None => stage.legs.get(event.leg).and_then(|leg| leg.end(event.by).tag),
    };
    known.is_some_and(|known| key.from_tag.and_then(|tag| stage.legs.tag(tag)) != Some(known))
}

/// Of a REFER that was not captured the target's leg may have begun before anything told of it.
fn find_leg(stage: &mut Stage, id: AttemptId) {
    if let Some(leg) = unseen::leg_of(stage, id) {
        target_leg::attach_referred(stage, id, leg);
    }
}

/// An answer to a NOTIFY: one that refuses it shows that the transferor has dropped the subscription.
pub(in crate::transfer) fn on_notify_answer(stage: &mut Stage, heard: Heard<'_>, status: u16) {
    let event = heard.event;
    for id in stage.open_in(event.leg) {
        let attempt = stage.attempts.get_mut(&id).filter(|attempt| attempt.owns(event));
        if let Some(refer) = attempt.and_then(|attempt| attempt.refer_mut()) {
            refer.notify_answer = refer.notify_answer.max(Some(status));
        }
    }
}

/// The attempt whose subscription a NOTIFY belongs to: by its Event id (RFC 3515 §2.4.6); without one the
/// oldest that still waits, as only later REFERs must give ids.
fn subscribed(stage: &Stage, heard: Heard<'_>, number: Option<u32>) -> Option<AttemptId> {
    let (dialog, by) = (heard.event.leg, heard.event.by);
    let open = open_in_dialog(stage, heard);
    let refers = || {
        open.iter().filter_map(|id| {
            let attempt = stage.attempts.get(id)?;
            let refer =
                attempt.refer().filter(|_| is_home(stage, attempt, dialog) && attempt.by_of(dialog) != by)?;
            Some((*id, refer))
        })
    };
    if let Some(number) = number
        && let Some((id, _)) = refers().find(|(_, refer)| refer.numbers.contains(&number))
    {
        return Some(id);
    }
    // A number that names no REFER is a peer's mistake, as long as there is only one it can mean.
    let transfers = stage.legs.get(dialog).map_or(0, |leg| leg.call.transfers);
    if number.is_some() && (refers().count() != 1 || transfers > 1) {
        return None;
    }
    // Nor is one without a number about a REFER whose NOTIFYs carry one: it is about the REFER before that.
    let fits = |(_, refer): &(AttemptId, &Refer)| transfers <= 1 || !refer.numbered;
    let waiting = refers().find(|(_, refer)| !refer.is_told() && refer.superseded.is_none());
    waiting.or(refers().next_back()).filter(fits).map(|(id, _)| id)
}

/// What a NOTIFY says.
pub(super) fn notified(wire: &WireMessage<'_>, message: &Message<'_>) -> Notified {
    let state = message.subscription_state();
    Notified {
        status: Sipfrag::of(message).ok().map(|frag| (frag.status, cut(frag.reason))),
        terminated: state
            .as_ref()
            .filter(|state| state.state == sip::Subscription::Terminated)
            .map(|state| state.reason.map(cut).unwrap_or_default()),
        expires: state
            .and_then(|state| state.expires)
            .map(|seconds| wire.time + std::time::Duration::from_secs(u64::from(seconds))),
    }
}
