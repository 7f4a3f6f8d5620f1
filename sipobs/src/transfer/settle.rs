//! Verdicts: what an attempt stands at, and what is said of it once that is certain.

use super::absent::SecondLeg;
use super::diagnosis::{ByeFrom, Facts};
use super::invite::{self, Context};
use super::open::{AttemptId, Open, What};
use super::refer::Subscription;
use super::verdict::{Stand, Verdict};
use super::{
    Attempt, Evidence, Notice, Outcome, Output, Quality, Seen, Side, Timer, Transfers, Visibility, handover,
};
use crate::dialog::{Leg, LegId};
use crate::sip::{CSeq, Method};
use crate::timestamp::Timestamp;

impl Transfers {
    /// Judges an attempt again: settles it if its verdict stands, sets its timer if not.
    pub(super) fn review(&mut self, id: AttemptId, now: Timestamp) {
        self.count_copies(id);
        let Some(open) = self.attempts.get(&id) else { return };
        let old = open.due;
        let stand = self.stand(open, now);
        if stand.at <= now {
            return self.settle(id, now, false);
        }
        let outcome = stand.verdict.outcome;
        let due = if old == Some(stand.at) { old } else { self.set_timer(Timer::Attempt(id), old, stand.at) };
        let Some(open) = self.attempts.get_mut(&id) else { return };
        open.due = due;
        if self.config.notices && open.noticed != Some(outcome) {
            open.noticed = Some(outcome);
            let (call_id, method) = (open.call_id.clone(), open.method);
            let parties = self.parties(id);
            let notice = Notice { call_id, method, time: now, outcome, parties };
            self.outputs.push_back(Output::Notice(Box::new(notice)));
        }
    }

    /// Takes note of retransmissions of the REFER: they come without an event of their own.
    fn count_copies(&mut self, id: AttemptId) {
        let Some(open) = self.attempts.get_mut(&id) else { return };
        let (dialog, by) = (open.dialog, open.by_of(open.dialog));
        let Some(refer) = open.refer_mut() else { return };
        let Some(&number) = refer.numbers.last() else { return };
        let cseq = CSeq { number, method: Method::Refer };
        refer.copies = self.dialogs.leg(dialog).map_or(1, |leg| leg.transactions.copies(by, cseq));
    }

    fn stand(&self, open: &Open, now: Timestamp) -> Stand {
        let timers = &self.config.timers;
        match &open.what {
            What::Refer(refer) => {
                let target = self.target_stand(open);
                refer.stand(target.as_ref(), now, timers)
            }
            What::Second { .. } => {
                let mut stand = self.target_stand(open).unwrap_or(Stand {
                    at: now,
                    verdict: Verdict::unknown("the leg to the target was lost sight of"),
                });
                // While the call is on hold, the new leg may yet turn out to be the consultation before a REFER,
                // however long they talk.
                if stand.verdict.outcome == Outcome::Succeeded && self.is_consulting(open) {
                    stand.at = stand.at.max(now + timers.notify);
                    stand.verdict.early = true;
                }
                // Or have been nothing but a word with somebody else, if the call goes on without it.
                if let Some(over) = self.on_hold_throughout(open) {
                    stand.at = stand.at.max(over + timers.bridged);
                }
                // Whatever may still come of the leg: its call is gone, and somebody waits for the verdict.
                if let Some(bye) = self.calls_over(open) {
                    stand.at = stand.at.min(bye + timers.after_bye);
                }
                stand
            }
            What::Redirect { answer } => {
                let followed = self.dialogs.leg(open.dialog).filter(|leg| was_followed(leg, answer.time));
                let stand = followed.and_then(|leg| invite::stand(leg, Context::alone(), timers));
                handover::redirect(answer, stand.as_ref(), timers)
            }
            What::Handover { bye, answer } => {
                let target = self.target_stand(open);
                handover::handover(*bye, answer.as_ref(), target.as_ref(), timers)
            }
        }
    }

    /// When the call of a second leg ended; of an ambiguous one, the last of the calls it could belong to.
    fn calls_over(&self, open: &Open) -> Option<Timestamp> {
        // A call that is not known any more has been over for long.
        let bye = |call: &LegId| self.dialogs.leg(*call).map_or(Some(open.started), |leg| Some(leg.bye?.0));
        let calls = open.call.as_ref().into_iter().chain(&open.candidates);
        let byes: Option<Vec<_>> = calls.map(bye).collect();
        byes?.into_iter().max()
    }

    fn is_consulting(&self, open: &Open) -> bool {
        let held = open
            .call
            .and_then(|call| self.dialogs.leg(call))
            .is_some_and(|call| call.bye.is_none() && (call.caller.holds || call.callee.holds));
        held && self.target_leg(open).is_some_and(|leg| leg.bye.is_none())
    }

    /// When a call and its second leg ceased to be up both, if the call was on hold until then: nobody was
    /// bridged.
    fn on_hold_throughout(&self, open: &Open) -> Option<Timestamp> {
        let over = self.ends(open)?.into_iter().flatten().min()?;
        let call = open.call.and_then(|call| self.calls.get(&call))?;
        let held = call.was_held(open.started) && call.resumed.is_none_or(|resumed| resumed > over);
        held.then_some(over)
    }

    /// The BYEs of a call and of its second leg, if that was answered.
    fn ends(&self, open: &Open) -> Option<[Option<Timestamp>; 2]> {
        let leg = self.target_leg(open).filter(|leg| leg.answered.is_some())?;
        let call = open.call.and_then(|call| self.dialogs.leg(call))?;
        Some([leg, call].map(|leg| leg.bye.map(|(bye, _)| bye)))
    }

    /// Whether such a call and leg outlived one another: somebody was consulted, and nobody transferred.
    fn was_no_transfer(&self, open: &Open, now: Timestamp) -> bool {
        let What::Second { replaces: false } = open.what else { return false };
        let (Some(ends), Some(over)) = (self.ends(open), self.on_hold_throughout(open)) else { return false };
        let until = ends.into_iter().map(|end| end.unwrap_or(now)).fold(over, Timestamp::max);
        until.since(over) >= self.config.timers.bridged
    }

    /// Where the leg to the target stands: of several, the one that was answered, else the last.
    fn target_stand(&self, open: &Open) -> Option<Stand> {
        let leg = self.target_leg(open)?;
        let bye = open.call.and_then(|call| self.dialogs.leg(call)).and_then(|call| call.bye);
        let second = matches!(open.what, What::Second { .. });
        // A transferor leaves once it has handed over; only the transferee's leaving takes the leg with it.
        let hung_up = bye.filter(|(_, side)| second || *side != open.by).map(|(time, _)| time);
        let replaces = match open.what {
            What::Second { replaces } => replaces,
            _ => open.target.replaces.is_some(),
        };
        // A replaced call ends because the new leg took its place.
        let hung_up = hung_up.filter(|_| !(second && replaces));
        let context = Context { hung_up, bridge: second && !replaces, replaces };
        let stand = invite::stand(leg, context, &self.config.timers)?;
        let cancelled = leg.invite.as_ref().is_some_and(|invite| invite.cancelled.is_some());
        if stand.verdict.outcome != Outcome::NoAnswer || !cancelled || open.candidates.is_empty() {
            return Some(stand);
        }
        let verdict = Verdict {
            outcome: if self.left_just_before(open, leg) { Outcome::Abandoned } else { Outcome::NoAnswer },
            evidence: Evidence::Inferred,
            ..stand.verdict
        };
        Some(Stand { verdict, ..stand })
    }

    /// Whether one of the calls that a leg could belong to had ended just before it was cancelled, and no ring
    /// timer explains that: of all those calls it is then likely the one.
    fn left_just_before(&self, open: &Open, leg: &Leg) -> bool {
        let Some(invite) = &leg.invite else { return false };
        let Some(cancelled) = invite.cancelled.filter(|time| !invite::is_ring_timer(*time, invite)) else {
            return false;
        };
        let byes = open.candidates.iter().filter_map(|call| self.dialogs.leg(*call)?.bye);
        byes.into_iter().any(|(bye, side)| {
            side == Side::Caller && bye <= cancelled && cancelled.since(bye) <= self.config.timers.abandoned
        })
    }

    fn target_leg(&self, open: &Open) -> Option<&Leg> {
        let legs = || open.legs.iter().filter_map(|leg| self.dialogs.leg(*leg));
        legs().find(|leg| leg.answered.is_some()).or(legs().next_back())
    }

    /// Users of everyone who takes part.
    fn parties(&self, id: AttemptId) -> Vec<String> {
        let Some(open) = self.attempts.get(&id) else { return Vec::new() };
        let legs = open.call.iter().chain([&open.dialog]).chain(&open.legs);
        let mut parties: Vec<_> =
            legs.filter_map(|leg| self.dialogs.leg(*leg)).flat_map(Leg::parties).collect();
        parties.extend(open.target.user.clone());
        parties.sort_unstable();
        parties.dedup();
        parties
    }

    /// The requests that were sent more than once, as far as that matters: REFER and the legs' INVITEs.
    fn copies(&self, open: &Open) -> Vec<(super::Leg, CSeq, u32)> {
        let refer = open.refer().and_then(|refer| {
            let cseq = CSeq { number: *refer.numbers.last()?, method: Method::Refer };
            Some((super::Leg::Call, cseq, refer.copies))
        });
        let legs = open.legs.iter().filter_map(|leg| {
            let invite = self.dialogs.leg(*leg)?.invite.as_ref()?;
            let cseq = CSeq { number: invite.number, method: Method::Invite };
            Some((super::Leg::Target, cseq, invite.copies))
        });
        refer.into_iter().chain(legs).filter(|(.., copies)| *copies > 1).collect()
    }

    /// Says what became of an attempt. `ended`: the capture, or what is kept of it, ends here.
    pub(super) fn settle(&mut self, id: AttemptId, now: Timestamp, ended: bool) {
        self.count_copies(id);
        let Some(open) = self.attempts.get(&id) else { return };
        let mut verdict = self.stand(open, now).verdict;
        let quality = self.quality(open);
        let visibility = self.visibility(open);
        self.doubt(&mut verdict, quality, visibility, open, ended);
        let target = self.target_leg(open);
        let decided = verdict.decided.unwrap_or(now).max(open.started);
        let follow = match &open.what {
            What::Redirect { answer } => {
                self.dialogs.leg(open.dialog).filter(|leg| was_followed(leg, answer.time))
            }
            _ => target,
        };
        let mut attempt = Attempt {
            call_id: open.call_id.clone(),
            method: open.method,
            kind: open.kind,
            trunk: self.trunks.name(self.trunk_of(open)).to_owned(),
            transferor: open.transferor.clone(),
            transferee: open.transferee.clone(),
            target: open.target.uri.clone(),
            started: open.started,
            ended: decided,
            duration_ms: decided.millis_since(open.started),
            outcome: verdict.outcome,
            evidence: verdict.evidence,
            unknown_because: verdict
                .because
                .clone()
                .filter(|_| verdict.outcome == Outcome::Unknown)
                .map(std::borrow::Cow::into_owned),
            status: verdict.status,
            reason: verdict.reason.clone(),
            refer_cseq: open.refer().and_then(|refer| refer.numbers.last().copied()),
            target_call_id: follow.map(|leg| leg.call_id.clone()),
            link: open.link.clone(),
            ringing_ms: follow.and_then(|leg| since_tried(leg, leg.invite.as_ref()?.ringing()?)),
            answer_ms: follow.and_then(|leg| since_tried(leg, leg.invite.as_ref()?.answer.as_ref()?.time)),
            diagnosis: Vec::new(),
            visibility,
            quality,
            messages: Vec::new(),
            parties: self.parties(id),
        };
        attempt.diagnosis = self.diagnose(open, &verdict, &attempt);
        // A redirected leg that turned out to be the leg of another attempt is told of there.
        let told_there = matches!(open.what, What::Redirect { .. })
            && self.calls.get(&open.dialog).is_some_and(|call| call.serves.is_some());
        let untold = told_there || self.was_no_transfer(open, now);
        let second_leg = (matches!(open.what, What::Second { .. }) && !untold)
            .then(|| SecondLeg { started: open.started, answered: answered(attempt.outcome) });
        let call = open.call;
        let copies = self.copies(open);
        let Some(mut open) = self.close(id) else { return };
        for (leg, cseq, copies) in copies {
            open.ladder.repeated(leg, cseq, copies);
        }
        attempt.messages = open.ladder.finish(attempt.started);
        if let (Some(leg), Some(call)) = (second_leg, call.and_then(|call| self.calls.get_mut(&call))) {
            call.second_legs.push(leg);
        }
        if untold {
            if let Some(call) = call.and_then(|call| self.calls.get_mut(&call)) {
                call.transfers = call.transfers.saturating_sub(1);
            }
            return;
        }
        *self.counts.transfers.entry(attempt.outcome).or_default() += 1;
        self.outputs.push_back(Output::Transfer(Box::new(attempt)));
    }

    /// Takes back a verdict that rests on silence where the silence may be ours.
    fn doubt(
        &self,
        verdict: &mut Verdict,
        quality: Quality,
        visibility: Visibility,
        open: &Open,
        ended: bool,
    ) {
        let damaged = quality.ring_lost + quality.tcp_gaps + quality.missing_fragments > 0;
        // Of an ambiguous leg the call, and with it what could be seen of it, is not known.
        let one_way = visibility.call != Seen::Both && (open.call.is_some() || open.refer().is_some());
        let because = if ended && verdict.early {
            "the capture ended before the outcome was told"
        } else if verdict.silence && damaged {
            "messages are missing from the capture, and the outcome may be among them"
        } else if verdict.silence && one_way && verdict.outcome != Outcome::Unknown {
            "only one direction of the call was captured"
        } else {
            return;
        };
        // Even so: what the transferor or the target did say stands beside it.
        verdict.outcome = Outcome::Unknown;
        verdict.evidence = Evidence::Inferred;
        verdict.because = Some(because.into());
    }

    fn quality(&self, open: &Open) -> Quality {
        let midcall = |leg: &LegId| self.dialogs.leg(*leg).is_some_and(Leg::midcall);
        let midcall = open.call.iter().chain([&open.dialog]).any(midcall);
        Quality { midcall, ..self.losses.since(&open.mark) }
    }

    fn visibility(&self, open: &Open) -> Visibility {
        let seen = |leg: LegId| self.dialogs.leg(leg).map_or(Seen::None, Leg::visible);
        let call = match (&open.what, open.call) {
            (_, Some(call)) => seen(call),
            (What::Second { .. }, None) => Seen::None,
            (_, None) => seen(open.dialog),
        };
        let target = match &open.what {
            What::Redirect { answer } => {
                self.dialogs.leg(open.dialog).filter(|leg| was_followed(leg, answer.time))
            }
            _ => self.target_leg(open),
        };
        Visibility { call, target: target.map_or(Seen::None, Leg::visible) }
    }

    fn trunk_of(&self, open: &Open) -> super::trunk::TrunkId {
        let homes = open.call.iter().chain([&open.dialog]).chain(&open.legs);
        let mut trunks = homes.filter_map(|leg| self.calls.get(leg)).map(|call| call.trunk);
        trunks.find(|trunk| *trunk != super::trunk::TrunkId::OTHER).unwrap_or(super::trunk::TrunkId::OTHER)
    }

    fn diagnose(&self, open: &Open, verdict: &Verdict, attempt: &Attempt) -> Vec<super::Diagnosis> {
        let target = self.target_leg(open);
        let invite = target.and_then(|leg| leg.invite.as_ref());
        let call = open.call.and_then(|call| self.calls.get(&call));
        let target_call = target.and_then(|leg| self.calls.get(&leg.id));
        let trunk = self.trunk_of(open);
        let headers: Vec<(&str, &str)> = match verdict.answered {
            super::diagnosis::Answer::Target => {
                let own = matches!(open.what, What::Redirect { .. }).then_some(&open.headers);
                let target = target_call.map(|call| &call.answer_headers);
                own.or(target).into_iter().flatten()
            }
            _ => Some(&open.headers).into_iter().flatten(),
        }
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
        let mut dialects: Vec<_> =
            call.into_iter().chain(target_call).flat_map(|call| call.dialects.iter().copied()).collect();
        dialects.sort_unstable();
        dialects.dedup();
        let usual = self.trunks.expected(trunk).or_else(|| self.ratio.usual(self.trunks.name(trunk)));
        let refer = open.refer();
        let bye = match (open.call.and_then(|call| self.dialogs.leg(call)?.bye), &open.what) {
            (None, _) => None,
            (Some((_, side)), _) if side == open.by => Some(ByeFrom::Transferor),
            (Some(_), _) => Some(ByeFrom::Transferee),
        };
        let transferee = open.by.other();
        self.diagnoses.of(&Facts {
            evidence: attempt.evidence,
            status: attempt.status,
            reason: attempt.reason.as_deref(),
            answer: verdict.answered,
            headers: &headers,
            heard: match open.what {
                What::Second { .. } => invite.is_some_and(|invite| invite.heard.is_some()),
                _ => refer.is_none_or(|refer| refer.answer.is_some() || refer.notified.is_some()),
            },
            ringing_ms: attempt.ringing_ms,
            answer_ms: match (attempt.answer_ms, refer) {
                (Some(time), _) => Some(time),
                (None, Some(refer)) => {
                    let answer = refer.result.as_ref().or(refer.answer.as_ref());
                    answer.map(|answer| answer.time.millis_since(refer.tried))
                }
                (None, None) => None,
            },
            cancel_ms: invite.and_then(|invite| Some(invite.cancelled?.millis_since(invite.first))),
            challenges: match (invite, refer) {
                (Some(invite), _) => invite.challenges,
                (None, Some(refer)) => refer.challenges,
                (None, None) => 0,
            },
            copies: match (invite, refer) {
                (_, Some(refer)) => refer.copies,
                (Some(invite), None) => invite.copies,
                (None, None) => 1,
            },
            tel: open.target.tel,
            accepted_ms: refer.and_then(|refer| Some(refer.accepted()?.millis_since(refer.tried))),
            accepted: refer.is_some_and(|refer| refer.accepted().is_some()),
            sipfrag: refer.and_then(|refer| {
                let result = refer.result.as_ref().map(|result| result.status);
                result.or(refer.progress.map(|(status, _)| status))
            }),
            no_subscription: refer.is_some_and(|refer| refer.subscription != Subscription::Implicit),
            bye,
            refer_not_allowed: call
                .and_then(|call| call.refer_not_allowed[transferee as usize])
                .unwrap_or(false),
            switched_from: usual
                .filter(|usual| *usual != open.method && matches!(open.what, What::Second { .. })),
            dialects: &dialects,
            unknown_because: attempt.unknown_because.as_deref(),
            ..Facts::new(open.method, attempt.outcome)
        })
    }
}

impl Context {
    fn alone() -> Self {
        Self { hung_up: None, bridge: false, replaces: false }
    }
}

/// The caller tried again after the redirect at `time`.
fn was_followed(leg: &Leg, time: Timestamp) -> bool {
    leg.invite.as_ref().is_some_and(|invite| invite.tried > time)
}

fn since_tried(leg: &Leg, time: Timestamp) -> Option<i64> {
    Some(time.millis_since(leg.invite.as_ref()?.tried))
}

/// Whether a second leg was answered, for the REFER-absent question.
fn answered(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Succeeded => Some(true),
        Outcome::Unknown | Outcome::Abandoned => None,
        _ => Some(false),
    }
}
