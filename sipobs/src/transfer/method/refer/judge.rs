//! Where what is known leaves a REFER, what that means if nothing more comes, and when that is certain.

use std::time::Duration;

use super::{REFER_COPIES, Refer, SILENT, Subscription, TURNED_AROUND};
use crate::dialog::is_challenge;
use crate::record::{Answered, Evidence, Outcome, UnknownReason};
use crate::timestamp::Timestamp;
use crate::transfer::config::Timers;
use crate::transfer::facts::Answer;
use crate::transfer::verdict::{Provisional, Unknown, Verdict};

#[derive(Clone, Copy, Debug)]
enum State<'a> {
    Superseded(Timestamp),
    Sent,
    /// BYE before a final answer.
    Left(Timestamp),
    Challenged(&'a Answer),
    Refused(&'a Answer),
    Final(&'a Answer),
    Terminated(Timestamp, &'a str),
    Unsubscribed(Timestamp),
    Accepted(Timestamp),
    Bye(Timestamp, bool),
}

impl Refer {
    fn state(&self, timers: &Timers) -> State<'_> {
        let bye = self.bye;
        if let Some(time) = self.superseded {
            return State::Superseded(time);
        }
        if let Some(answer) = self.answer.as_ref().filter(|answer| answer.status >= 300) {
            let challenged = is_challenge(answer.status);
            return if challenged { State::Challenged(answer) } else { State::Refused(answer) };
        }
        if let Some(result) = &self.result {
            return State::Final(result);
        }
        let Some(accepted) = self.accepted() else {
            // Who leaves after the REFER has timed out leaves because of it.
            let left = bye.filter(|(time, _)| *time < self.tried + timers.transaction);
            return left.map_or(State::Sent, |(time, _)| State::Left(time));
        };
        match (&self.terminated, self.subscription, bye) {
            (Some((time, reason)), _, _) => State::Terminated(*time, reason),
            (_, Subscription::None | Subscription::Elsewhere, _) if self.notified.is_none() => {
                State::Unsubscribed(accepted)
            }
            (_, _, Some((time, transferor))) => State::Bye(time, transferor),
            _ => State::Accepted(accepted),
        }
    }

    /// The verdict as it stands, from this dialog alone.
    fn evaluate_own(&self, copies: u32, now: Timestamp, timers: &Timers) -> Provisional {
        let at = |at, verdict| Provisional { at, verdict };
        match self.state(timers) {
            // It was over before the newer one came.
            State::Superseded(time) if let Some(expiry) = self.expires.filter(|expiry| *expiry <= time) => {
                let verdict = Verdict::silence(Outcome::NotifyTimeout);
                at(time, self.with_answer(Verdict { decided: Some(expiry), early: false, ..verdict }))
            }
            State::Superseded(time) => {
                at(time, self.with_answer(Verdict::seen(Outcome::Superseded, Evidence::Inferred, time)))
            }
            State::Sent => self.unanswered(None, copies, timers),
            State::Left(bye) => self.unanswered(Some(bye), copies, timers),
            State::Challenged(answer) => at(
                self.bye.map_or(answer.time + timers.transaction, |(bye, _)| bye),
                Verdict {
                    silence: true,
                    early: self.bye.is_none() && self.challenges < 2,
                    ..refused(answer)
                },
            ),
            State::Refused(answer) => {
                let last = if self.astray { self.tried + timers.transaction } else { answer.time };
                let wait = match self.is_captured() {
                    true if self.perhaps_passed_on => timers.grace,
                    true => Duration::ZERO,
                    false => TURNED_AROUND,
                };
                at(last.max(answer.time + wait), refused(answer))
            }
            State::Final(result) => {
                let verdict = self.told_by(result, timers);
                let optimistic = verdict.evidence == Evidence::ReportedOptimistic;
                let wait = if optimistic { timers.target } else { timers.grace };
                at(self.heard_out(result, wait, timers), verdict)
            }
            State::Terminated(time, reason) => {
                let said = (!reason.is_empty()).then(|| reason.to_owned());
                let because = Unknown { reason: UnknownReason::SubscriptionEnded, said };
                let end = self.bye.map_or(time, |(bye, _)| bye.min(time)) + timers.after_bye;
                at(end.max(time), self.untold(time, because))
            }
            State::Unsubscribed(accepted) => {
                let because = match self.subscription {
                    Subscription::Elsewhere => UnknownReason::ToldElsewhere,
                    Subscription::Implicit | Subscription::None => UnknownReason::NoSubscription,
                };
                at(accepted + timers.target, self.untold(accepted, because))
            }
            State::Accepted(accepted) => {
                let news = [self.notified, self.progress.map(|(_, time)| time)];
                let latest = news.into_iter().flatten().fold(accepted, Timestamp::max);
                let quiet = latest + timers.notify;
                let silence = Verdict::silence(Outcome::NotifyTimeout);
                match self.expires.filter(|expires| *expires < quiet) {
                    // Who is a little late tells all the same.
                    Some(expires) => {
                        let verdict = Verdict { decided: Some(expires), early: now < expires, ..silence };
                        at(quiet.min(expires + timers.after_bye), self.with_answer(verdict))
                    }
                    None => at(quiet, self.with_answer(silence)),
                }
            }
            State::Bye(time, transferor) => {
                let because = match (transferor, self.progress) {
                    (true, _) => UnknownReason::TransferorLeft,
                    (false, Some((180.., _))) => UnknownReason::TransfereeLeftRinging,
                    (false, _) => UnknownReason::TransfereeLeft,
                };
                // Where the transferor left, the late NOTIFY may come in what was not captured any more.
                at(time + timers.after_bye, Verdict { early: transferor, ..self.untold(time, because) })
            }
        }
    }

    /// Nobody answered it until it timed out, or until the call ended.
    fn unanswered(&self, bye: Option<Timestamp>, copies: u32, timers: &Timers) -> Provisional {
        // Who sends it eleven times has got no answer, whatever of that was captured.
        let silence = copies < REFER_COPIES;
        let timeout = self.tried + timers.transaction;
        let (at, decided, early, outcome) = match bye {
            None => (timeout + timers.grace, timeout, silence, Outcome::ReferUnanswered),
            // Copies show that nobody had answered it, whoever left then and why.
            Some(bye) if copies >= SILENT => (bye + timers.after_bye, bye, false, Outcome::ReferUnanswered),
            Some(bye) => (bye + timers.after_bye, bye, false, Outcome::Abandoned),
        };
        let verdict = Verdict {
            decided: Some(decided),
            early,
            silence,
            answered: Answered::Refer,
            ..Verdict::silence(outcome)
        };
        Provisional { at, verdict }
    }

    /// Nobody told its outcome.
    fn untold(&self, decided: Timestamp, because: impl Into<Unknown>) -> Verdict {
        self.with_answer(Verdict { decided: Some(decided), early: false, ..Verdict::unknown(because) })
    }

    /// When a final sipfrag stands. Who has transferred a call leaves it at once, or tries once more; where nobody does either,
    /// that is worth a word, and waited for.
    fn heard_out(&self, result: &Answer, wait: Duration, timers: &Timers) -> Timestamp {
        let goes_on = result.status < 300 && self.bye.is_none() && !self.followed;
        result.time + if goes_on { wait.max(timers.after_bye) } else { wait }
    }

    /// What a final sipfrag says.
    fn told_by(&self, result: &Answer, timers: &Timers) -> Verdict {
        let optimistic = self.is_optimistic(result, timers);
        let evidence = if optimistic { Evidence::ReportedOptimistic } else { Evidence::Reported };
        let outcome = match self.bye {
            // Who was to be transferred left, and the target's leg was taken down with it.
            Some((bye, false)) if result.status == 487 && bye.since(result.time) <= timers.abandoned => {
                Outcome::Abandoned
            }
            _ => Outcome::of_status(result.status),
        };
        let verdict = Verdict::seen(outcome, evidence, result.time);
        verdict.status(result.status, &result.reason, Answered::Sipfrag)
    }

    /// The verdict as it stands at `now`, the target's leg considered: what is seen of it overrides what is
    /// told of it, if it is `sure` that the leg is the target's.
    pub(super) fn with_target(
        &self,
        target: Option<&Provisional>,
        sure: bool,
        copies: u32,
        now: Timestamp,
        timers: &Timers,
    ) -> Provisional {
        let own = self.with_hearsay(self.evaluate_own(copies, now, timers), timers);
        let (Some(target), false) = (target, self.is_past_help(timers)) else { return own };
        let verdict = &target.verdict;
        let open = verdict.decided.is_none() && now < target.at;
        if open {
            // The leg will tell; but an attempt does not outlive its longest timers for it.
            let longest = self.tried + timers.notify + timers.after_bye;
            return Provisional { at: own.at.max(target.at).min(own.at.max(longest)), verdict: own.verdict };
        }
        let failed = verdict.outcome != Outcome::Succeeded;
        // What is only inferred of the leg does not outdo what is told of it, nor does a leg that may be another's. But mere
        // optimism is outdone by the leg's CANCEL too, whose 487 may have been lost.
        let agree = self.result.as_ref().is_none_or(|told| (told.status >= 300) == failed);
        let cancelled = failed && verdict.status.is_none() && verdict.decided.is_some();
        let optimistic = own.verdict.evidence == Evidence::ReportedOptimistic;
        let outdoes = verdict.status.is_some() || cancelled && optimistic;
        if self.result.is_some() && !(outdoes && (sure || agree)) {
            // A leg that is cancelled after its success was told is about to say so itself.
            let awaited = cancelled && sure && !agree && now < target.at;
            return if awaited { Provisional { at: own.at.max(target.at), ..own } } else { own };
        }
        // A leg that was answered and never acknowledged has not failed at its answer.
        let refused = failed && verdict.status.is_none_or(|status| status >= 300);
        let later = |told: Timestamp| refused && verdict.decided.is_some_and(|decided| told > decided);
        match (&self.result, self.progress) {
            // A success that is told after the leg's failure is of another leg: the transferee went on.
            (Some(result), _) if result.status < 300 && later(result.time) => {
                return Provisional {
                    at: self.heard_out(result, timers.grace, timers),
                    verdict: Verdict { evidence: Evidence::Reported, ..own.verdict },
                };
            }
            // A leg that is answered after a failure was told is none that was asked for.
            (Some(result), _)
                if result.status >= 300
                    && !failed
                    && verdict.decided.is_some_and(|decided| result.time < decided) =>
            {
                return own;
            }
            // So is progress; what comes of that leg is still to be told.
            (None, Some((_, progress))) if later(progress) && now < own.at => {
                return Provisional { at: own.at.max(target.at), verdict: verdict.clone() };
            }
            _ => {}
        }
        let at = match &self.result {
            Some(result) if !failed => target.at.max(self.heard_out(result, timers.grace, timers)),
            Some(result) => target.at.max(result.time + timers.grace),
            // Another leg, or the NOTIFY that goes with this one, may follow.
            None if failed || !sure => target.at + timers.target,
            None => target.at + timers.grace,
        };
        Provisional { at, verdict: verdict.clone() }
    }

    /// What is told outside the dialog counts once nobody in the dialog tells any more.
    fn with_hearsay(&self, own: Provisional, timers: &Timers) -> Provisional {
        let hearsay = self.hearsay().filter(|_| self.result.is_none() && !self.is_past_help(timers));
        let Some((hearsay, told)) = hearsay else { return own };
        // The subscription may have been taken up beside the dialog (RFC 6665 §4.4.1): then it tells there to the end.
        let early = self.bye.is_none() && !hearsay.announced;
        let verdict = Verdict { silence: true, early, ..self.told_by(told, timers) };
        Provisional { at: own.at.max(told.time + timers.grace), verdict }
    }

    /// No target leg can change the verdict.
    fn is_past_help(&self, timers: &Timers) -> bool {
        matches!(self.state(timers), State::Superseded(_) | State::Refused(_) | State::Challenged(_))
    }

    /// Whether a leg that began then came only after its success was told, and not after mere optimism.
    pub(in crate::transfer) fn is_success_before(&self, leg: Timestamp, timers: &Timers) -> bool {
        let told = self.result.as_ref().filter(|result| result.status < 300 && result.time < leg);
        told.is_some_and(|result| {
            // Who tells it soon, of a target that did not ring, and dials only then, was slow to tell, and optimistic too.
            let soon = |time: Timestamp, since: Timestamp| time.since(since) <= timers.grace;
            let slow = !self.rang() && soon(result.time, self.taken()) && soon(leg, result.time);
            !slow && !self.is_optimistic(result, timers)
        })
    }

    /// Whether success is all that was told of it, and too soon to be more than optimism.
    pub(in crate::transfer) fn is_told_optimistically(&self, timers: &Timers) -> bool {
        self.result.as_ref().is_some_and(|result| self.is_optimistic(result, timers))
    }

    fn is_optimistic(&self, result: &Answer, timers: &Timers) -> bool {
        result.status < 300 && !self.rang() && result.time.since(self.taken()) < timers.optimistic
    }

    /// When its answer came; where that was not seen, it itself; where it was not seen either, the first news of it. How soon
    /// a success followed can't be told if it is that news: it is no more than optimism then.
    fn taken(&self) -> Timestamp {
        self.answer.as_ref().map_or(self.tried, |answer| answer.time)
    }

    /// Whether one that was not captured asked for no call, as far as can be told: success was told right after its answer, and
    /// the call went on. That is how a REFER of another method looks from outside.
    pub(super) fn asked_for_no_call(&self, now: Timestamp, timers: &Timers) -> bool {
        let went_on = |result: &Answer| self.bye.is_none() && now >= result.time + timers.after_bye;
        let at_once = |result: &Answer| self.is_optimistic(result, timers) && went_on(result);
        !self.is_captured() && self.answer.is_some() && self.result.as_ref().is_some_and(at_once)
    }

    /// Whether the target is told to ring. The first NOTIFY is sent at once (RFC 3515 §2.4.4), and its 100 tells nothing
    /// of the target.
    fn rang(&self) -> bool {
        self.progress.is_some_and(|(status, _)| status > 100)
    }

    /// The REFER's own answer is the only status there is.
    fn with_answer(&self, verdict: Verdict) -> Verdict {
        match &self.answer {
            Some(answer) => verdict.status(answer.status, &answer.reason, Answered::Refer),
            None => Verdict { answered: Answered::Refer, ..verdict },
        }
    }
}

fn refused(answer: &Answer) -> Verdict {
    let outcome = Outcome::of_refusal(answer.status);
    Verdict::seen(outcome, Evidence::Confirmed, answer.time).status(
        answer.status,
        &answer.reason,
        Answered::Refer,
    )
}
