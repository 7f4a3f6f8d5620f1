//! Verdicts: where an attempt stands, and what is said of it once that is certain.

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::Transfers;
use super::absent::SecondLeg;
use super::diagnosis::{Facts, Found};
use super::identity;
use super::method::{Known, second_leg};
use super::stage::Due;
use super::state::PendingAttempt;
use super::verdict::{Provisional, Unknown, Verdict};
use crate::leg::{AttemptId, Dialects, Invite, Leg, Origin};
use crate::record::{
    self, Attempt, ByeFrom, Dialect, Evidence, Fault, LegRole, Notice, Outcome, Output, Quality, ReplacesFit,
    Seen, UnknownReason, Visibility,
};
use crate::sip::{CSeq, Method};
use crate::timestamp::Timestamp;
use crate::trunk::TrunkId;

/// Bytes of an attempt's id: some thousand attempts a second for a day have no two alike.
const ID_BYTES: usize = 8;
/// Second legs of one call that are remembered.
const MOST_SECOND_LEGS: usize = 64;

/// Why an attempt is settled although more could have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The capture ends here.
    CaptureEnded,
    /// Its call is let go of for want of memory.
    Evicted,
}

impl Transfers {
    /// Judges all that is due again.
    pub(super) fn review_due(&mut self, now: Timestamp) {
        while let Some(due) = self.stage.due.pop_front() {
            match due {
                Due::Attempt(id) => self.review(id, now),
                Due::Second(leg) => second_leg::events::review(&mut self.stage, leg, now),
            }
        }
        let withdrawn = self.stage.withdrawn.drain(..);
        self.outputs.extend(withdrawn.map(|notice| Output::Notice(Box::new(Notice { time: now, ..notice }))));
    }

    /// Judges an attempt again: settles it if its verdict stands, sets its deadline if not.
    pub(super) fn review(&mut self, id: AttemptId, now: Timestamp) {
        let Some(attempt) = self.stage.attempts.get(&id) else { return };
        let Provisional { at, verdict } = self.evaluate(attempt, now);
        if at <= now {
            return self.settle(id, now, None);
        }
        self.stage.set_deadline(id, at);
        if self.stage.config.notices {
            self.notice(id, &verdict, now);
        }
    }

    /// Gives an early word, if it is another than the last: as soon as the message is there that it comes of.
    fn notice(&mut self, id: AttemptId, verdict: &Verdict, now: Timestamp) {
        let decided = verdict.decided.is_some() && !verdict.silence;
        let said = Some((verdict.outcome, decided));
        let Some(attempt) = self.stage.attempts.get_mut(&id) else { return };
        if std::mem::replace(&mut attempt.noticed, said) == said {
            return;
        }
        let Some(attempt) = self.stage.attempts.get(&id) else { return };
        let known = Known { attempt, stage: &self.stage };
        let record = self.record(known, verdict, now);
        let found = decided.then(|| self.diagnose(known, verdict, &record, now));
        let notice = Notice {
            id: record.id,
            call_id: record.call_id,
            method: record.method,
            time: now,
            outcome: record.outcome,
            evidence: record.evidence,
            decided,
            status: record.status,
            fault: found.as_ref().map(|found| found.fault),
            cause: found.and_then(|found| found.diagnosis.into_iter().next()).map(|cause| cause.code),
            trace_id: record.trace_id,
            withdrawn: false,
            parties: record.parties,
        };
        self.outputs.push_back(Output::Notice(Box::new(notice)));
    }

    fn evaluate(&self, attempt: &PendingAttempt, now: Timestamp) -> Provisional {
        attempt.machine.as_method().evaluate(Known { attempt, stage: &self.stage }, now)
    }

    /// Says what became of an attempt. `cut`: it is not waited for any more, for this reason.
    pub(super) fn settle(&mut self, id: AttemptId, now: Timestamp, cut: Option<Cut>) {
        let Some(attempt) = self.stage.attempts.get(&id) else { return };
        let known = Known { attempt, stage: &self.stage };
        let method = attempt.machine.as_method();
        let mut verdict = self.evaluate(attempt, now).verdict;
        let quality = quality(known);
        let visibility = visibility(known);
        let because = doubt(&verdict, quality, visibility, method.needs_both_directions(known), cut);
        let because = because.or_else(|| is_hearsay(known, &verdict).then_some(UnknownReason::OneHostAlone));
        because.into_iter().for_each(|because| verdict.downgrade(because));
        let mut record = self.record(known, &verdict, now);
        (record.quality, record.visibility) = (quality, visibility);
        let found = self.diagnose(known, &verdict, &record, now);
        (record.diagnosis, record.fault) = (found.diagnosis, found.fault);
        let suppressed = method.is_suppressed(known, now);
        let second_leg = (method.is_second_leg() && !suppressed)
            .then(|| SecondLeg { started: attempt.started, answered: answered(record.outcome) });
        let call = attempt.call;
        let copies = copies(known);
        if suppressed {
            self.stage.withdraw(id);
            return self.stage.uncount(call);
        }
        let Some(mut attempt) = self.stage.close(id) else { return };
        for (role, cseq, copies) in copies {
            attempt.ladder.repeated(role, cseq, copies);
        }
        record.messages = attempt.ladder.finish(record.started);
        if let (Some(second), Some(call)) = (second_leg, call)
            && let Some(state) = self.stage.state_or_new(call)
        {
            // Those about the call's end are asked for.
            if state.second_legs.len() == MOST_SECOND_LEGS {
                state.second_legs.remove(0);
            }
            state.second_legs.push(second);
        }
        *self.counts.transfers.entry(record.outcome).or_default() += 1;
        self.outputs.push_back(Output::Transfer(Box::new(record)));
    }

    /// What the attempt and its verdict say.
    fn record(&self, known: Known<'_>, verdict: &Verdict, now: Timestamp) -> Attempt {
        let attempt = known.attempt;
        let fate = attempt.machine.as_method().fate(known);
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
            trunk: self.rules.trunks.name(trunk_of(known)).clone(),
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
            refer_cseq: attempt.refer().and_then(|refer| refer.numbers.last().copied()),
            target_call_id: fate.map(|leg| leg.call_id_text().into_owned()),
            link: attempt.link.clone(),
            ringing_ms: fate.and_then(|leg| since_tried(leg, leg.invite.as_ref()?.ringing.get()?)),
            answer_ms: fate.and_then(|leg| since_tried(leg, leg.invite.as_ref()?.answer()?.time)),
            provider_ids: identity::provider_ids(known),
            target_provider_ids: identity::target_provider_ids(known),
            trace_id: trace.as_ref().filter(|trace| trace.joins).map(|trace| trace.trace_id.clone()),
            wire_trace: trace.map(Box::new),
            diagnosis: Vec::new(),
            visibility: Visibility::default(),
            quality: Quality::default(),
            messages: Vec::new(),
            parties: self.stage.parties(attempt),
            originated: attempt
                .all_legs()
                .filter_map(|leg| self.stage.legs.get(leg))
                .any(|leg| leg.originated),
        }
    }

    fn diagnose(&self, known: Known<'_>, verdict: &Verdict, record: &Attempt, now: Timestamp) -> Found {
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
        let trunk = trunk_of(known);
        let usual = self.rules.trunks.expected(trunk);
        let usual = usual.or_else(|| self.ratio.usual(self.rules.trunks.name(trunk)));
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
            decided_ms: verdict.decided.filter(|_| !is_refer_unseen(attempt)).map(|_| record.duration_ms),
            answered_ms: up.map(|(bye, answered)| bye.millis_since(answered)),
            target_bye: target.and_then(Leg::ended).map(|(_, side)| side),
            target: attempt.target.uri.as_deref(),
            replaces: replaces_fit(known),
            went_elsewhere: call.is_some_and(|call| went_elsewhere(attempt, call)),
            target_seen: target.is_some(),
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
            refer_not_allowed: call
                .and_then(|call| call.end(attempt.by.other()).refuses_refer)
                .unwrap_or(false),
            switched_from: usual.filter(|usual| method.is_second_leg() && *usual != attempt.method),
            dialects: &dialects,
            unknown_reason: record.unknown_reason,
            unknown_because: record.unknown_because.as_deref(),
            ..Facts::new(attempt.method, record.outcome)
        };
        method.tell(known, &mut facts);
        let told = attempt.refer().and_then(|refer| refer.result.as_ref());
        facts.bye_after_notify_ms =
            facts.bye_after_notify_ms.or_else(|| told.map(|result| now.millis_since(result.time)));
        self.rules.diagnoses.of(&facts)
    }
}

/// A notice that takes back those of an attempt that turned out to be none. Its time is still to come.
pub(super) fn taking_back(known: Known<'_>, outcome: Outcome) -> Notice {
    let attempt = known.attempt;
    Notice {
        id: id_of(known),
        call_id: attempt.call_id.clone(),
        method: attempt.method,
        time: attempt.started,
        outcome,
        evidence: Evidence::Inferred,
        decided: true,
        status: None,
        fault: None,
        cause: None,
        trace_id: None,
        withdrawn: true,
        parties: known.stage.parties(attempt),
    }
}

/// A name for the attempt, of what it has from its first message on: the leg that carries it, how it is tried, and when
/// it began. The time also keeps a number in the Call-ID from being guessed from it.
fn id_of(known: Known<'_>) -> String {
    let attempt = known.attempt;
    let mut hash = Sha256::new();
    hash.update(known.dialog().map(Leg::call_id).unwrap_or_default());
    hash.update([0]);
    // A REFER that its receiver answers by a BYE with the number is found to be another method only then.
    let method = if attempt.refer().is_some() { record::Method::Refer } else { attempt.method };
    hash.update(method.as_str());
    let number = attempt.refer().and_then(|refer| refer.numbers.first().copied());
    hash.update(number.unwrap_or_default().to_be_bytes());
    hash.update(attempt.started.as_nanos().to_be_bytes());
    hash.finalize().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
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

/// Whether the REFER was sent to a host that the call's INVITE was not seen at: a Contact of its own.
fn went_elsewhere(attempt: &PendingAttempt, call: &Leg) -> bool {
    let sent_to = attempt.refer().and_then(|refer| refer.sent_to);
    let known = |host| host == call.hosts.0 || call.callee_hosts().any(|known| known == host);
    call.origin == Origin::Invite && sent_to.is_some_and(|host| !known(host))
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

/// Why a verdict does not hold: what it rests on is silence, and that may be ours.
fn doubt(
    verdict: &Verdict,
    quality: Quality,
    visibility: Visibility,
    needs_both_directions: bool,
    cut: Option<Cut>,
) -> Option<UnknownReason> {
    let damaged = quality.ring_lost + quality.tcp_gaps + quality.missing_fragments + quality.restarts > 0;
    // Of an ambiguous leg the call, and with it what could be seen of it, is not known.
    let one_way = visibility.call != Seen::Both && needs_both_directions;
    match cut {
        _ if verdict.silence && damaged && verdict.outcome == Outcome::Unknown => {
            Some(UnknownReason::MessagesMissing)
        }
        Some(Cut::CaptureEnded) if verdict.early => Some(UnknownReason::CaptureEnded),
        Some(Cut::Evicted) if verdict.early => Some(UnknownReason::CallEvicted),
        _ if verdict.silence && damaged => Some(UnknownReason::MessagesMissing),
        _ if verdict.silence && one_way && verdict.outcome != Outcome::Unknown => {
            Some(UnknownReason::OneDirection)
        }
        _ => None,
    }
}

/// Whether a verdict rests on what one host says in a dialog whose INVITE was not seen: anybody can write that, but where
/// it is this very host that speaks.
fn is_hearsay(known: Known<'_>, verdict: &Verdict) -> bool {
    let unheard = |leg: &Leg| {
        leg.origin != Origin::Invite && !leg.originated && (!leg.two_hosts || leg.visible() != Seen::Both)
    };
    let homes = || known.attempt.homes().filter_map(|leg| known.stage.legs.get(leg));
    let target = known.target_leg().is_some_and(|leg| leg.visible() == Seen::Both);
    verdict.outcome != Outcome::Unknown && !verdict.silence && !target && homes().all(unheard)
}

impl Verdict {
    /// Takes it back. Even so, what the transferor or the target did say stands beside it.
    fn downgrade(&mut self, because: UnknownReason) {
        self.outcome = Outcome::Unknown;
        self.evidence = Evidence::Inferred;
        self.because = Some(because.into());
    }
}

fn quality(known: Known<'_>) -> Quality {
    let lost = known.stage.lost_of(known.attempt);
    let midcall = known.attempt.homes().any(|leg| known.stage.legs.get(leg).is_some_and(Leg::midcall));
    Quality {
        ring_lost: lost.ring,
        tcp_gaps: lost.gaps,
        missing_fragments: lost.fragments,
        evicted_calls: lost.calls,
        clock_steps: lost.steps,
        restarts: lost.restarts,
        refer_unseen: is_refer_unseen(known.attempt),
        midcall,
    }
}

/// Whether its REFER was not captured: what came of it tells of it.
fn is_refer_unseen(attempt: &PendingAttempt) -> bool {
    attempt.refer().is_some_and(|refer| refer.sender.is_none())
}

fn visibility(known: Known<'_>) -> Visibility {
    let method = known.attempt.machine.as_method();
    Visibility { call: method.call_seen(known), target: method.fate(known).map_or(Seen::None, Leg::visible) }
}

fn trunk_of(known: Known<'_>) -> TrunkId {
    let trunks =
        known.attempt.all_legs().filter_map(|leg| known.stage.legs.get(leg)).map(|leg| leg.call.trunk);
    trunks.into_iter().find(|trunk| *trunk != TrunkId::OTHER).unwrap_or(TrunkId::OTHER)
}

/// The requests that were sent more than once, as far as that matters: the method's own, and the legs' INVITEs.
fn copies(known: Known<'_>) -> SmallVec<[(LegRole, CSeq, u32); 2]> {
    let own = known.attempt.machine.as_method().copies(known);
    let legs = known.attempt.legs.iter().filter_map(|leg| {
        let invite = known.stage.legs.get(*leg)?.invite.as_ref()?;
        Some((
            LegRole::Target,
            CSeq { number: invite.number, method: Method::Invite },
            u32::from(invite.copies),
        ))
    });
    own.into_iter().chain(legs).filter(|(.., copies)| *copies > 1).collect()
}

fn since_tried(leg: &Leg, time: Timestamp) -> Option<i64> {
    Some(time.millis_since(leg.invite.as_ref()?.tried))
}

/// Whether a second leg was answered, for the REFER-absent question.
fn answered(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Succeeded => Some(true),
        Outcome::Unknown | Outcome::Abandoned => None,
        Outcome::Busy
        | Outcome::NoAnswer
        | Outcome::Declined
        | Outcome::Forbidden
        | Outcome::NotFound
        | Outcome::Media
        | Outcome::NetworkFailure
        | Outcome::ReferRefused
        | Outcome::ReferUnanswered
        | Outcome::AuthFailed
        | Outcome::DialogGone
        | Outcome::Superseded
        | Outcome::NotifyTimeout
        | Outcome::Redirected => Some(false),
    }
}
