//! Verdicts: where an attempt stands, and what is said of it once that is certain.

use smallvec::SmallVec;

use super::absent::SecondLeg;
use super::diagnosis::Found;
use super::method::{Known, refer, second_leg};
use super::stage::Due;
use super::state::PendingAttempt;
use super::verdict::{Provisional, Verdict};
use super::{Transfers, attempt_record, causes};
use crate::leg::{AttemptId, Leg, Origin};
use crate::record::{
    Attempt, Evidence, LegRole, Notice, Outcome, Output, Quality, Seen, UnknownReason, Visibility,
};
use crate::sip::{CSeq, Method};
use crate::timestamp::Timestamp;

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
        let is_last_word = at <= now || refer::halves::is_untold(&self.stage, attempt, now);
        // Then its leg tells, and it is judged again.
        if is_last_word && refer::halves::attach_asked(&mut self.stage, id, now) {
            return;
        }
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
        let Some(attempt) = self.stage.attempts.get(&id) else { return };
        let same = |last: &Notice| (last.outcome, last.decided) == (verdict.outcome, decided);
        if attempt.noticed.as_deref().is_some_and(same) {
            return;
        }
        let known = Known { attempt, stage: &self.stage };
        let record = attempt_record::of(known, &self.rules, verdict, now);
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
        if let Some(attempt) = self.stage.attempts.get_mut(&id) {
            attempt.noticed = Some(Box::new(notice.clone()));
        }
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
        let quality = attempt_record::quality(known);
        let visibility = attempt_record::visibility(known);
        let cut_off = self.stage.lost_of(known.attempt).cut > 0;
        let both = method.needs_both_directions(known);
        let because = doubt(&verdict, quality, visibility, both, cut_off, cut);
        let because = because.or_else(|| is_hearsay(known, &verdict).then_some(UnknownReason::OneHostAlone));
        because.into_iter().for_each(|because| verdict.downgrade(because));
        let mut record = attempt_record::of(known, &self.rules, &verdict, now);
        (record.quality, record.visibility) = (quality, visibility);
        let followed = method.followed(known, now).map(|mut leg| {
            let seen = Visibility { call: visibility.target, ..visibility };
            doubt(&leg, quality, seen, true, cut_off, cut).into_iter().for_each(|why| leg.downgrade(why));
            leg
        });
        record.followed_outcome = followed.as_ref().map(|leg| leg.outcome);
        // A redirect that led nowhere is explained by the leg that failed.
        let found = match followed.filter(|leg| leg.outcome.is_failure()) {
            Some(leg) => {
                let (outcome, status, reason) = (leg.outcome, leg.status, leg.reason.clone());
                self.diagnose(known, &leg, &Attempt { outcome, status, reason, ..record.clone() }, now)
            }
            None => self.diagnose(known, &verdict, &record, now),
        };
        (record.diagnosis, record.fault) = (found.diagnosis, found.fault);
        let suppressed = method.is_suppressed(known, now);
        let second_leg = (method.is_second_leg() && !suppressed).then(|| SecondLeg {
            started: attempt.started,
            // A phone that did not take the call shows no failure where another did.
            answered: answered(record.outcome).filter(|_| !method.is_taken_elsewhere(known)),
        });
        let call = attempt.call;
        let copies = copies(known);
        if suppressed {
            self.stage.withdraw(id);
            return;
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

    fn diagnose(&self, known: Known<'_>, verdict: &Verdict, record: &Attempt, now: Timestamp) -> Found {
        let expected = self.rules.trunks.expected(attempt_record::trunk_of(known));
        let usual = expected.or_else(|| self.ratio.usual(&record.trunk));
        causes::diagnose(known, &self.rules, usual, verdict, record, now)
    }
}

/// Why a verdict does not hold: what it rests on is silence, and that may be ours.
fn doubt(
    verdict: &Verdict,
    quality: Quality,
    visibility: Visibility,
    needs_both_directions: bool,
    cut_off: bool,
    cut: Option<Cut>,
) -> Option<UnknownReason> {
    let missing = quality.ring_lost + quality.tcp_gaps + quality.missing_fragments + quality.restarts > 0;
    let damaged = missing || cut_off;
    let why = if missing { UnknownReason::MessagesMissing } else { UnknownReason::MessageCut };
    // Of an ambiguous leg the call, and with it what could be seen of it, is not known.
    let one_way = visibility.call != Seen::Both && needs_both_directions;
    match cut {
        _ if verdict.silence && damaged && verdict.outcome == Outcome::Unknown => Some(why),
        Some(Cut::CaptureEnded) if verdict.early => Some(UnknownReason::CaptureEnded),
        Some(Cut::Evicted) if verdict.early => Some(UnknownReason::CallEvicted),
        _ if verdict.silence && damaged => Some(why),
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

impl Verdict {
    /// Takes it back. Even so, what the transferor or the target did say stands beside it.
    fn downgrade(&mut self, because: UnknownReason) {
        self.outcome = Outcome::Unknown;
        self.evidence = Evidence::Inferred;
        self.because = Some(because.into());
    }
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
