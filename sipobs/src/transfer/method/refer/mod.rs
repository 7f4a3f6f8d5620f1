//! The REFER machine (RFC 3515, 4488, 6665, 7614).
//!
//! Facts are gathered as they come, in whatever order; [`Refer::state`] names where they leave the attempt,
//! [`Refer::evaluate_own`] is the table of what each state means if nothing more comes, and when that is certain.
//!
//! | state | stands at | verdict |
//! |---|---|---|
//! | superseded | at once | `superseded` |
//! | sent | 64·T1 after the REFER, and 2 s more to show what followed | `refer_unanswered` |
//! | sent, then BYE | 35 s after the BYE | `refer_unanswered` after four copies, else `abandoned` |
//! | challenged | 64·T1, or the BYE | `auth_failed` |
//! | refused | at once | `dialog_gone` (481), `refer_unanswered` (408), `refer_refused` |
//! | final sipfrag | 2 s (optimistic: 10 s) later | by its status; the target leg overrides |
//! | terminated without one | 35 s later | `unknown` |
//! | accepted without subscription | 10 s later | `unknown` |
//! | accepted | expiry, else 180 s without news | `notify_timeout` |
//! | accepted, then BYE | 35 s after the BYE | `unknown` |

use std::net::IpAddr;

use super::{Known, Method};
use crate::dialog::{copies, is_challenge};
use crate::leg::{Leg, Origin};
use crate::record::{self, Answered, AnsweredBy, Evidence, LegRole, Outcome, UnknownReason};
use crate::sip::{self, CSeq};
use crate::timestamp::Timestamp;
use crate::transfer::config::Timers;
use crate::transfer::diagnosis::Facts;
use crate::transfer::facts::Answer;
use crate::transfer::state::PendingAttempt;
use crate::transfer::verdict::{Provisional, Unknown, Verdict};

mod again;
pub(in crate::transfer) mod elsewhere;
pub(in crate::transfer) mod events;
pub(in crate::transfer) mod unseen;

/// Copies of a REFER over UDP until its client gives up, the last at 31.5 s (RFC 3261 §17.1.2.2).
const COPIES: u32 = 11;
/// Copies after which nobody can say that a BYE came before the answer had time to: the fourth goes out 3.5 s after the
/// first.
const SILENT: u32 = 4;
/// Tries of one REFER that are remembered.
const MOST_TRIES: usize = 16;

/// One REFER with its retries after a challenge.
#[derive(Clone, Debug)]
pub(in crate::transfer) struct Refer {
    /// CSeq numbers of its tries; the last is the attempt's.
    pub(in crate::transfer) numbers: Vec<u32>,
    /// The latest try.
    pub(in crate::transfer) tried: Timestamp,
    /// Refer-To, whole: a retry after a challenge has the same.
    pub(in crate::transfer) refer_to: Vec<u8>,
    /// The latest try has credentials.
    pub(in crate::transfer) credentials: bool,
    pub(in crate::transfer) challenges: u32,
    pub(in crate::transfer) answer: Option<Answer>,
    /// Who gave that.
    pub(in crate::transfer) answered_by: Option<AnsweredBy>,
    /// The host that sent it.
    pub(in crate::transfer) sender: Option<IpAddr>,
    /// The host that its latest try was sent to.
    pub(in crate::transfer) sent_to: Option<IpAddr>,
    /// It has a Referred-By (RFC 3892).
    pub(in crate::transfer) referred_by: bool,
    /// The highest status that a NOTIFY of its subscription was answered with.
    pub(in crate::transfer) notify_answer: Option<u16>,
    /// It asked for no subscription (`nosub`, RFC 7614 §5).
    pub(in crate::transfer) wants_no_subscription: bool,
    pub(in crate::transfer) subscription: Subscription,
    /// The first NOTIFY.
    pub(in crate::transfer) notified: Option<Timestamp>,
    /// Its NOTIFYs carry its number in Event (RFC 3515 §2.4.6).
    pub(in crate::transfer) numbered: bool,
    /// The latest sipfrag 1xx.
    pub(in crate::transfer) progress: Option<(u16, Timestamp)>,
    /// The first sipfrag ≥ 200.
    pub(in crate::transfer) result: Option<Answer>,
    /// Subscription-State: terminated.
    pub(in crate::transfer) terminated: Option<(Timestamp, String)>,
    /// When the subscription runs out.
    pub(in crate::transfer) expires: Option<Timestamp>,
    /// The dialog's BYE, and whether the transferor sent it.
    pub(in crate::transfer) bye: Option<(Timestamp, bool)>,
    pub(in crate::transfer) superseded: Option<Timestamp>,
    /// It came outside its call's dialog, under another Call-ID.
    pub(in crate::transfer) beside: Option<Beside>,
    /// Copies of it under other Call-IDs.
    pub(in crate::transfer) more_copies: u32,
}

/// What ties a REFER under another Call-ID to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transfer) enum Beside {
    /// The call's tags.
    Tags,
    /// Its parties and hosts.
    Parties,
}

/// How the outcome is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transfer) enum Subscription {
    /// By NOTIFYs in the dialog (RFC 3515 §2.4.4).
    Implicit,
    /// Not at all: `Refer-Sub: false` echoed (RFC 4488), or `nosub` (RFC 7614).
    None,
    /// On another dialog, at the 2xx's Refer-Events-At (RFC 7614 §4).
    Elsewhere,
}

/// What a NOTIFY says.
#[derive(Clone, Debug)]
pub(in crate::transfer) struct Notified {
    /// The sipfrag's status and phrase.
    pub(in crate::transfer) status: Option<(u16, String)>,
    /// Subscription-State: terminated, with its reason.
    pub(in crate::transfer) terminated: Option<String>,
    pub(in crate::transfer) expires: Option<Timestamp>,
}

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

impl Method for Refer {
    fn evaluate(&self, known: Known<'_>, now: Timestamp) -> Provisional {
        let target = known.target_provisional();
        let mut stands = self.with_target(target.as_ref(), self.copies_sent(known), now, known.timers());
        let verdict = &mut stands.verdict;
        // The same as the target's own answer would say: the dialog that Replaces names is not there (RFC 3891 §3).
        if verdict.status == Some(481)
            && verdict.answered == Answered::Sipfrag
            && known.attempt.target.attended
        {
            verdict.outcome = Outcome::DialogGone;
        }
        stands
    }

    /// Nobody answers a REFER that was not captured.
    fn needs_both_directions(&self, _known: Known<'_>) -> bool {
        true
    }

    fn tell<'a>(&'a self, known: Known<'a>, now: Timestamp, facts: &mut Facts<'a>) {
        facts.heard = self.answer.is_some() || self.notified.is_some();
        if facts.answer_ms.is_none() {
            let answer = self.result.as_ref().or(self.answer.as_ref());
            facts.answer_ms = answer.map(|answer| answer.time.millis_since(self.tried));
        }
        if known.target_leg().is_none_or(|leg| leg.invite.is_none()) {
            facts.challenges = self.challenges;
        }
        facts.copies = self.copies_sent(known);
        facts.accepted = self.accepted().is_some();
        facts.accepted_ms = self.accepted().map(|accepted| accepted.millis_since(self.tried));
        let result = self.result.as_ref().map(|result| result.status);
        facts.sipfrag = result.or(self.progress.map(|(status, _)| status));
        facts.no_subscription = self.subscription != Subscription::Implicit;
        facts.referred_by = self.referred_by;
        facts.notify_answer = self.notify_answer;
        if facts.answer == Answered::Refer {
            facts.answered_by = self.answered_by;
        }
        facts.went_elsewhere = known.call().is_some_and(|call| self.went_elsewhere(call));
        // Where there was no BYE, none came until now.
        let bye = self.bye.map_or(now, |(bye, _)| bye);
        facts.bye_after_notify_ms = self.result.as_ref().map(|result| bye.millis_since(result.time));
    }

    /// One that its receiver answers by a BYE with the number is found to be another method only then.
    fn begun_as(&self, _attempt: &PendingAttempt) -> record::Method {
        record::Method::Refer
    }

    fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    fn is_unseen(&self) -> bool {
        self.sender.is_none()
    }

    /// A 2xx to a REFER outside the call's dialog may be about another call; and 481 to it means that it was not about this one.
    fn is_suppressed(&self, _known: Known<'_>, _now: Timestamp) -> bool {
        match self.beside {
            Some(Beside::Parties) => self.accepted().is_some(),
            Some(Beside::Tags) => self.answer.as_ref().is_some_and(|answer| answer.status == 481),
            None => false,
        }
    }

    fn copies(&self, known: Known<'_>) -> Option<(LegRole, CSeq, u32)> {
        Some((LegRole::Call, self.cseq()?, self.copies_sent(known)))
    }
}

impl Refer {
    /// Whether it was sent to a host that the call's INVITE was not seen at: a Contact of its own.
    fn went_elsewhere(&self, call: &Leg) -> bool {
        let known = |host| host == call.hosts.0 || call.callee_hosts().any(|known| known == host);
        call.origin == Origin::Invite && self.sent_to.is_some_and(|host| !known(host))
    }

    /// How many copies of its latest try one hop has sent: they come without an event of their own.
    fn copies_sent(&self, known: Known<'_>) -> u32 {
        let Some((cseq, leg)) = self.cseq().zip(known.dialog()) else { return 1 };
        let by = known.attempt.by_of(leg.id);
        copies(leg, by, cseq).saturating_add(self.more_copies)
    }

    /// What names its latest try.
    fn cseq(&self) -> Option<CSeq> {
        Some(CSeq { number: *self.numbers.last()?, method: sip::Method::Refer })
    }

    pub(in crate::transfer) fn new(number: u32, refer_to: &[u8], now: Timestamp) -> Self {
        Self {
            numbers: vec![number],
            tried: now,
            refer_to: refer_to.to_vec(),
            credentials: false,
            challenges: 0,
            answer: None,
            answered_by: None,
            sender: None,
            sent_to: None,
            referred_by: false,
            notify_answer: None,
            wants_no_subscription: false,
            subscription: Subscription::Implicit,
            notified: None,
            numbered: false,
            progress: None,
            result: None,
            terminated: None,
            expires: None,
            bye: None,
            superseded: None,
            beside: None,
            more_copies: 0,
        }
    }

    /// Whether a REFER under a new number is this one again, now with credentials (RFC 3261 §22.2). They show a
    /// challenge even if that was not seen.
    pub(in crate::transfer) fn is_retried_by(&self, refer_to: &[u8], credentials: bool) -> bool {
        let challenged = match &self.answer {
            Some(answer) => is_challenge(answer.status),
            None => self.notified.is_none() && credentials && !self.credentials,
        };
        challenged && self.refer_to == refer_to
    }

    /// Whether only its answer was seen, by this number.
    fn is_unseen(&self, number: u32) -> bool {
        self.refer_to.is_empty() && self.numbers == [number]
    }

    /// Takes over what was told of it before it was seen.
    fn told(&mut self, before: Self) {
        (self.answer, self.notified, self.progress) = (before.answer, before.notified, before.progress);
        (self.result, self.terminated, self.expires) = (before.result, before.terminated, before.expires);
        (self.subscription, self.numbered) = (before.subscription, before.numbered);
    }

    pub(in crate::transfer) fn retry(&mut self, number: u32, now: Timestamp) {
        if self.numbers.last() != Some(&number) {
            // The first names the attempt, the latest are those that may yet be answered.
            if self.numbers.len() == MOST_TRIES {
                self.numbers.remove(1);
            }
            self.numbers.push(number);
        }
        (self.tried, self.answer) = (now, None);
    }

    /// A newer REFER in the dialog.
    pub(in crate::transfer) fn supersede(&mut self, now: Timestamp) {
        if self.is_undecided() {
            self.superseded = Some(now);
        }
    }

    pub(in crate::transfer) fn answered(&mut self, answer: Answer) {
        if answer.status < 200 {
            return;
        }
        self.challenges += u32::from(is_challenge(answer.status));
        self.answer = Some(answer);
    }

    pub(in crate::transfer) fn notified(&mut self, now: Timestamp, news: Notified) {
        self.notified = self.notified.or(Some(now));
        match news.status {
            Some((status @ ..200, _)) => self.progress = Some((status, now)),
            Some((status, reason)) if self.result.is_none() => {
                self.result = Some(Answer { status, reason, time: now });
            }
            _ => {}
        }
        if let Some(reason) = news.terminated {
            self.terminated.get_or_insert((now, reason));
        } else if news.expires.is_some() {
            self.expires = news.expires;
        }
    }

    /// Got a 2xx, or a NOTIFY, which may come before it (RFC 3515 §2.4.4).
    pub(in crate::transfer) fn accepted(&self) -> Option<Timestamp> {
        match &self.answer {
            Some(answer) if answer.status < 300 => Some(answer.time),
            Some(_) => None,
            None => self.notified,
        }
    }

    /// A newer REFER would supersede it.
    fn is_undecided(&self) -> bool {
        let refused = self.answer.as_ref().is_some_and(|answer| answer.status >= 300);
        self.result.is_none() && !refused && self.terminated.is_none()
    }

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
    fn evaluate_own(&self, copies: u32, timers: &Timers) -> Provisional {
        let at = |at, verdict| Provisional { at, verdict };
        match self.state(timers) {
            State::Superseded(time) => {
                at(time, self.with_answer(Verdict::seen(Outcome::Superseded, Evidence::Inferred, time)))
            }
            State::Sent => at(
                self.tried + timers.transaction + timers.grace,
                Verdict {
                    decided: Some(self.tried + timers.transaction),
                    early: copies < COPIES,
                    // Who sends it eleven times has got no answer, whatever of that was captured.
                    silence: copies < COPIES,
                    answered: Answered::Refer,
                    ..Verdict::silence(Outcome::ReferUnanswered)
                },
            ),
            State::Left(bye) => {
                // Copies show that nobody had answered it, whoever left then and why.
                let unanswered = copies >= SILENT;
                let outcome = if unanswered { Outcome::ReferUnanswered } else { Outcome::Abandoned };
                at(
                    bye + timers.after_bye,
                    Verdict {
                        decided: Some(bye),
                        early: false,
                        answered: Answered::Refer,
                        silence: copies < COPIES,
                        ..Verdict::silence(outcome)
                    },
                )
            }
            State::Challenged(answer) => at(
                self.bye.map_or(answer.time + timers.transaction, |(bye, _)| bye),
                Verdict {
                    silence: true,
                    early: self.bye.is_none() && self.challenges < 2,
                    ..refused(answer)
                },
            ),
            State::Refused(answer) => at(answer.time, refused(answer)),
            State::Final(result) => {
                let optimistic = self.is_optimistic(result, timers);
                let evidence = if optimistic { Evidence::ReportedOptimistic } else { Evidence::Reported };
                let wait = if optimistic { timers.target } else { timers.grace };
                let outcome = match self.bye {
                    // Who was to be transferred left, and the target's leg was taken down with it.
                    Some((bye, false))
                        if result.status == 487 && bye.since(result.time) <= timers.abandoned =>
                    {
                        Outcome::Abandoned
                    }
                    _ => Outcome::of_status(result.status),
                };
                let verdict = Verdict::seen(outcome, evidence, result.time);
                at(result.time + wait, verdict.status(result.status, &result.reason, Answered::Sipfrag))
            }
            State::Terminated(time, reason) => {
                let said = (!reason.is_empty()).then(|| reason.to_owned());
                let because = Unknown { reason: UnknownReason::SubscriptionEnded, said };
                let verdict = Verdict { decided: Some(time), early: false, ..Verdict::unknown(because) };
                at(time + timers.after_bye, self.with_answer(verdict))
            }
            State::Unsubscribed(accepted) => {
                let because = match self.subscription {
                    Subscription::Elsewhere => UnknownReason::ToldElsewhere,
                    Subscription::Implicit | Subscription::None => UnknownReason::NoSubscription,
                };
                let verdict = Verdict { decided: Some(accepted), early: false, ..Verdict::unknown(because) };
                at(accepted + timers.target, self.with_answer(verdict))
            }
            State::Accepted(accepted) => {
                let news = [self.notified, self.progress.map(|(_, time)| time)];
                let latest = news.into_iter().flatten().fold(accepted, Timestamp::max);
                let quiet = latest + timers.notify;
                let end = self.expires.map_or(quiet, |expires| expires.min(quiet));
                at(end, self.with_answer(Verdict::silence(Outcome::NotifyTimeout)))
            }
            State::Bye(time, transferor) => {
                let because = match (transferor, self.progress) {
                    (true, _) => UnknownReason::TransferorLeft,
                    (false, Some((180.., _))) => UnknownReason::TransfereeLeftRinging,
                    (false, _) => UnknownReason::TransfereeLeft,
                };
                // Where the transferor left, the late NOTIFY may come in what was not captured any more.
                let verdict = Verdict { decided: Some(time), early: transferor, ..Verdict::unknown(because) };
                at(time + timers.after_bye, self.with_answer(verdict))
            }
        }
    }

    /// The verdict as it stands at `now`, the target's leg considered: what is seen of it overrides what is
    /// told of it.
    fn with_target(
        &self,
        target: Option<&Provisional>,
        copies: u32,
        now: Timestamp,
        timers: &Timers,
    ) -> Provisional {
        let own = self.evaluate_own(copies, timers);
        let (Some(target), false) = (target, self.is_past_help(timers)) else { return own };
        let verdict = &target.verdict;
        let open = verdict.decided.is_none() && now < target.at;
        if open {
            // The leg will tell; but an attempt does not outlive its longest timers for it.
            let longest = self.tried + timers.notify + timers.after_bye;
            return Provisional { at: own.at.max(target.at).min(own.at.max(longest)), verdict: own.verdict };
        }
        // What is only inferred of the leg does not outdo what is told of it.
        if verdict.status.is_none() && self.result.is_some() {
            return own;
        }
        let failed = verdict.outcome != Outcome::Succeeded;
        let later = |told: Timestamp| failed && verdict.decided.is_some_and(|decided| told > decided);
        match (&self.result, self.progress) {
            // A success that is told after the leg's failure is of another leg: the transferee went on.
            (Some(result), _) if result.status < 300 && later(result.time) => {
                return Provisional {
                    at: result.time + timers.grace,
                    verdict: Verdict { evidence: Evidence::Reported, ..own.verdict },
                };
            }
            // So is progress; what comes of that leg is still to be told.
            (None, Some((_, progress))) if later(progress) && now < own.at => {
                return Provisional { at: own.at.max(target.at), verdict: verdict.clone() };
            }
            _ => {}
        }
        let at = match &self.result {
            Some(result) => target.at.max(result.time + timers.grace),
            // Another leg, or the NOTIFY that goes with this one, may follow.
            None if failed => target.at + timers.target,
            None => target.at + timers.grace,
        };
        Provisional { at, verdict: verdict.clone() }
    }

    /// No target leg can change the verdict.
    fn is_past_help(&self, timers: &Timers) -> bool {
        matches!(self.state(timers), State::Superseded(_) | State::Refused(_) | State::Challenged(_))
    }

    fn is_optimistic(&self, result: &Answer, timers: &Timers) -> bool {
        // How long after a REFER that was not seen, and after what, can't be told.
        if self.refer_to.is_empty() {
            return false;
        }
        let accepted = self.answer.as_ref().map_or(self.tried, |answer| answer.time);
        // The first NOTIFY is sent at once (RFC 3515 §2.4.4), and its 100 tells nothing of the target.
        let rang = self.progress.is_some_and(|(status, _)| status > 100);
        result.status < 300 && !rang && result.time.since(accepted) < timers.optimistic
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
