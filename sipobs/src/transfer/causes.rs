//! What an attempt tells the table of likely causes.

use smallvec::SmallVec;

use super::Rules;
use super::diagnosis::{Facts, Found};
use super::method::Known;
use super::state::PendingAttempt;
use super::verdict::Verdict;
use crate::leg::{Dialects, Invite, Leg, Origin};
use crate::record::{Attempt, ByeFrom, Dialect, Method, ReplacesFit};
use crate::timestamp::Timestamp;

/// Its likely causes, and whose fault it is. `usual`: how calls of its trunk are transferred otherwise.
pub(super) fn diagnose(
    known: Known<'_>,
    rules: &Rules,
    usual: Option<Method>,
    verdict: &Verdict,
    record: &Attempt,
    now: Timestamp,
) -> Found {
    let attempt = known.attempt;
    let method = attempt.machine.as_method();
    let (call, target) = (known.call(), known.target_leg());
    let invite = target.and_then(|leg| leg.invite.as_ref());
    let headers = method.headers(known, verdict.answered);
    let headers: SmallVec<[(&str, &str); 4]> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let dialects: Dialects =
        call.into_iter().chain(target).fold(Dialects::default(), |all, leg| all.and(leg.call.dialects));
    let dialects: SmallVec<[Dialect; 4]> = dialects.iter().collect();
    let bye = call.and_then(Leg::ended).map(|(_, side)| match side == attempt.by {
        true => ByeFrom::Transferor,
        false => ByeFrom::Transferee,
    });
    let state = |leg: Option<&'_ Leg>| leg.and_then(|leg| known.stage.state_of(leg));
    let (call_state, target_state) = (state(call), state(target));
    let up = target.and_then(|leg| leg.bye.get().zip(leg.answered.get()));
    let mut facts = Facts {
        evidence: record.evidence,
        status: record.status,
        reason: record.reason.as_deref(),
        answer: verdict.answered,
        answered_by: target_state.and_then(|state| state.answered_by),
        headers: &headers,
        cancel_reasons: target_state.map_or(&[], |state| &state.cancel_reasons),
        bye_reasons: call_state.map_or(&[], |state| &state.bye_reasons),
        target_bye_reasons: target_state.map_or(&[], |state| &state.bye_reasons),
        decided_ms: verdict.decided.filter(|_| !method.is_unseen()).map(|_| record.duration_ms),
        answered_ms: up.map(|(bye, answered)| bye.millis_since(answered)),
        target_bye: target.and_then(Leg::ended).map(|(_, side)| side),
        target: attempt.target.uri.as_deref(),
        replaces: replaces_fit(known),
        target_seen: target.is_some(),
        taken_elsewhere: method.is_taken_elsewhere(known),
        tried_before: target.is_some_and(|leg| was_tried_before(known, leg)),
        before_answer: call.is_some_and(|call| began_before_answer(attempt, call)),
        target_unacknowledged: invite.is_some_and(Invite::is_unacknowledged),
        call_unacknowledged: call.is_some_and(is_unacknowledged),
        ringing_ms: record.ringing_ms,
        answer_ms: record.answer_ms,
        cancel_ms: target
            .zip(invite)
            .and_then(|(leg, invite)| Some(invite.cancelled.get()?.millis_since(leg.started))),
        challenges: invite.map_or(0, |invite| u32::from(invite.challenges)),
        copies: invite.map_or(1, |invite| u32::from(invite.copies)),
        bye,
        refer_not_allowed: call.and_then(|call| call.end(attempt.by.other()).refuses_refer).unwrap_or(false),
        switched_from: usual.filter(|usual| method.is_second_leg() && *usual != attempt.method),
        dialects: &dialects,
        unknown_reason: record.unknown_reason,
        unknown_because: record.unknown_because.as_deref(),
        ..Facts::new(attempt.method, record.outcome)
    };
    method.tell(known, now, &mut facts);
    rules.diagnoses.of(&facts)
}

/// How the Replaces that it names fits the calls that were seen.
fn replaces_fit(known: Known<'_>) -> Option<ReplacesFit> {
    let target = &known.attempt.target;
    let named = target.replaces.as_deref()?;
    let own = known.attempt.homes().filter_map(|leg| known.stage.legs.get(leg));
    Some(if own.into_iter().any(|leg| leg.call_id() == named) {
        ReplacesFit::OwnDialog
    } else if target.untagged {
        ReplacesFit::NoTags
    } else if known.stage.legs.named(named, [None, None]).is_some() {
        ReplacesFit::Matched
    } else {
        ReplacesFit::Unmatched
    })
}

/// Whether an INVITE under the same Call-ID had failed before this leg began.
fn was_tried_before(known: Known<'_>, leg: &Leg) -> bool {
    let failed = |earlier: &Leg| {
        let answer = earlier.invite.as_ref().and_then(Invite::answer);
        answer.is_some_and(|answer| answer.status >= 300 && answer.time <= leg.started)
    };
    known.stage.legs.under(leg.call_id()).any(|earlier| earlier.id != leg.id && failed(earlier))
}

fn began_before_answer(attempt: &PendingAttempt, call: &Leg) -> bool {
    call.origin == Origin::Invite && call.answered.get().is_none_or(|answered| attempt.started < answered)
}

/// Answered by a 2xx that was seen, and never acknowledged.
fn is_unacknowledged(call: &Leg) -> bool {
    let invite = call.invite.as_ref();
    let accepted = |invite: &Invite| invite.answer().is_some_and(|answer| answer.status < 300);
    invite.is_some_and(|invite| accepted(invite) && !invite.acknowledged.is_set())
}
