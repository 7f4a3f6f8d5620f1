//! The record of an attempt: what is known of it at a moment, with the verdict that stands then.

use super::Rules;
use super::identity;
use super::method::Known;
use super::verdict::{Unknown, Verdict};
use crate::leg::Leg;
use crate::record::{self, Attempt, Fault, Outcome, Quality, Seen, Visibility};
use crate::timestamp::Timestamp;
use crate::trunk::TrunkId;

/// The record of an attempt with this verdict. Its fault, causes, visibility, quality and ladder are left empty.
pub(super) fn of(known: Known<'_>, rules: &Rules, verdict: &Verdict, now: Timestamp) -> Attempt {
    let attempt = known.attempt;
    let method = attempt.machine.as_method();
    let fate = method.fate(known);
    // A timer that ran out after the last frame was fired by the end of the capture.
    let ended = verdict.decided.unwrap_or(now).min(now).max(attempt.started);
    let because = verdict.because.as_ref().filter(|_| verdict.outcome == Outcome::Unknown);
    let trace = identity::trace(known);
    Attempt {
        id: id_of(known),
        seq: None,
        call_id: attempt.call_id.clone(),
        method: attempt.method,
        kind: attempt.kind,
        trunk: rules.trunks.name(trunk_of(known)).clone(),
        transferor: attempt.transferor.clone(),
        transferee: attempt.transferee.clone(),
        target: attempt.target.uri.clone(),
        started: attempt.started,
        ended,
        duration_ms: ended.millis_since(attempt.started),
        outcome: verdict.outcome,
        evidence: verdict.evidence,
        fault: Fault::Unknown,
        unknown_reason: because.map(|because| because.reason),
        unknown_because: because.map(Unknown::sentence),
        status: verdict.status,
        reason: verdict.reason.clone(),
        refer_cseq: method.numbers().last().copied(),
        target_call_id: fate.map(|leg| leg.call_id_text().into_owned()),
        followed: (attempt.method == record::Method::Redirect).then_some(fate.is_some()),
        followed_outcome: None,
        link: attempt.link.clone(),
        ringing_ms: fate.and_then(|leg| since_tried(leg, leg.invite.as_ref()?.ringing.get()?)),
        answer_ms: fate.and_then(|leg| since_tried(leg, leg.invite.as_ref()?.answer()?.time)),
        provider_ids: identity::provider_ids(known),
        target_provider_ids: identity::target_provider_ids(known),
        trace_id: trace.as_ref().filter(|trace| trace.joins).map(|trace| trace.trace_id.clone()),
        evidence_file: None,
        wire_trace: trace.map(Box::new),
        diagnosis: Vec::new(),
        visibility: Visibility::default(),
        quality: Quality::default(),
        messages: Vec::new(),
        parties: known.stage.parties(attempt),
        originated: attempt.all_legs().filter_map(|leg| known.stage.legs.get(leg)).any(|leg| leg.originated),
    }
}

/// What is known to be missing or wrong around an attempt.
pub(super) fn quality(known: Known<'_>) -> Quality {
    let lost = known.stage.lost_of(known.attempt);
    let midcall = known.attempt.homes().any(|leg| known.stage.legs.get(leg).is_some_and(Leg::midcall));
    Quality {
        ring_lost: lost.ring,
        tcp_gaps: lost.gaps,
        missing_fragments: lost.fragments,
        evicted_calls: lost.calls,
        clock_steps: lost.steps.into(),
        restarts: lost.restarts.into(),
        refer_unseen: known.attempt.machine.as_method().is_unseen(),
        midcall,
        hearsay: known.attempt.machine.as_method().is_told_by_stranger(),
    }
}

/// What of the call, and of the leg to the target, was seen.
pub(super) fn visibility(known: Known<'_>) -> Visibility {
    let method = known.attempt.machine.as_method();
    Visibility { call: method.call_seen(known), target: method.fate(known).map_or(Seen::None, Leg::visible) }
}

/// The trunk of its legs: the first that has a name.
pub(super) fn trunk_of(known: Known<'_>) -> TrunkId {
    let trunks =
        known.attempt.all_legs().filter_map(|leg| known.stage.legs.get(leg)).map(|leg| leg.call.trunk);
    trunks.into_iter().find(|trunk| *trunk != TrunkId::OTHER).unwrap_or(TrunkId::OTHER)
}

/// A name for the attempt, of what it has from its first message on: the leg that carries it, how it is tried, and when
/// it began. It hides no Call-ID from who can guess one: docs/security.md says so.
fn id_of(known: Known<'_>) -> String {
    let attempt = known.attempt;
    let method = attempt.machine.as_method();
    let number = method.numbers().first().copied().unwrap_or_default();
    record::id_of(&[
        known.dialog().map(Leg::call_id).unwrap_or_default(),
        &[0],
        method.begun_as(attempt).as_str().as_bytes(),
        &number.to_be_bytes(),
        &attempt.started.as_nanos().to_be_bytes(),
    ])
}

fn since_tried(leg: &Leg, time: Timestamp) -> Option<i64> {
    Some(time.millis_since(leg.invite.as_ref()?.tried))
}
