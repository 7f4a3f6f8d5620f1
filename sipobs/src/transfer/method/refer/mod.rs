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
//! | refused | at once; 0.5 s later if the REFER itself may still be captured | `dialog_gone` (481), `refer_unanswered` (408), `refer_refused` |
//! | final sipfrag | 2 s (optimistic: 10 s) later; a success with no BYE, 35 s later | by its status; the target leg overrides |
//! | terminated without one | 35 s later | `unknown` |
//! | accepted without subscription | 10 s later | `unknown` |
//! | accepted | expiry, else 180 s without news | `notify_timeout` |
//! | accepted, then BYE | 35 s after the BYE | `unknown` |

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Known, Method, target_headers};
use crate::dialog::{copies, is_challenge};
use crate::leg::{Leg, LegId, Origin, Tag};
use crate::record::{self, Answered, AnsweredBy, Kind, LegRole, Outcome};
use crate::sip::{self, CSeq};
use crate::timestamp::Timestamp;
use crate::transfer::diagnosis::Facts;
use crate::transfer::facts::{Answer, Headers};
use crate::transfer::state::PendingAttempt;
use crate::transfer::verdict::Provisional;

mod again;
mod dialogs;
pub(in crate::transfer) mod elsewhere;
pub(in crate::transfer) mod events;
pub(in crate::transfer) mod halves;
mod judge;
pub(in crate::transfer) mod notify;
pub(in crate::transfer) mod unseen;

/// Copies of a REFER over UDP until its client gives up, the last at 31.5 s (RFC 3261 §17.1.2.2).
const REFER_COPIES: u32 = 11;
/// Copies after which nobody can say that a BYE came before the answer had time to: the fourth goes out 3.5 s after the
/// first.
const SILENT: u32 = 4;
/// A leg tied with no more confidence than this may be another's: what the dialog tells counts more.
const SURE: f64 = 0.75;
/// How far two taps, or two queues of a card, may turn messages around.
pub(in crate::transfer) const TURNED_AROUND: Duration = Duration::from_millis(500);
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
    /// That is not on the call's path, and who was asked agreed to it.
    pub(in crate::transfer) outside: bool,
    /// Where its latest try was sent to.
    pub(in crate::transfer) sent_to: Option<SocketAddr>,
    /// The answer came from that host, but from another port: one from the right port may follow, and counts then.
    pub(in crate::transfer) astray: bool,
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
    /// The same, from elsewhere: it counts where nobody in the dialog tells.
    pub(in crate::transfer) hearsay: Option<Box<Hearsay>>,
    /// The tags of its sender and of its receiver in its dialog: a fork's are not those of its leg.
    pub(in crate::transfer) tags: [Option<Tag>; 2],
    /// Subscription-State: terminated.
    pub(in crate::transfer) terminated: Option<(Timestamp, String)>,
    /// When the subscription runs out.
    pub(in crate::transfer) expires: Option<Timestamp>,
    /// The dialog's BYE, and whether the transferor sent it.
    pub(in crate::transfer) bye: Option<(Timestamp, bool)>,
    pub(in crate::transfer) superseded: Option<Timestamp>,
    /// A newer REFER was sent in its dialog.
    pub(in crate::transfer) followed: bool,
    /// It came outside its call's dialog, under another Call-ID.
    pub(in crate::transfer) beside: Option<Beside>,
    /// It asks a conference's focus.
    pub(in crate::transfer) to_focus: bool,
    /// It may be another's REFER, passed on: whose answer tells then, and comes next.
    pub(in crate::transfer) perhaps_passed_on: bool,
    /// Copies of it under other Call-IDs.
    pub(in crate::transfer) more_copies: u32,
    /// Of one that was not captured: what may be its consultation.
    pub(in crate::transfer) consultation: Option<LegId>,
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

/// Who tells what becomes of a REFER, the least believed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::transfer) enum Teller {
    /// Somebody under a tag that the dialog does not have.
    Stranger,
    /// A host that is not on the call's path, but tells it in the dialog, to a transferor that takes it for genuine.
    OtherHost,
    /// Whom a B2BUA asked the same, in another call.
    PassedOn,
    /// Its receiver, in its dialog.
    Dialog,
}

/// What is told outside a REFER's dialog.
#[derive(Clone, Debug)]
pub(in crate::transfer) struct Hearsay {
    teller: Teller,
    /// The first final one.
    result: Option<Answer>,
    /// It began by a sipfrag 1xx, as a subscription of its own does.
    announced: bool,
    /// Headers that say why.
    headers: Headers,
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

impl Method for Refer {
    fn evaluate(&self, known: Known<'_>, now: Timestamp) -> Provisional {
        let target = known.target_provisional();
        let sure = known.attempt.link.as_ref().is_none_or(|link| link.confidence > SURE);
        let copies = self.copies_sent(known);
        let mut stands = self.with_target(target.as_ref(), sure, copies, now, known.timers());
        let verdict = &mut stands.verdict;
        // The same as the target's own answer would say: the dialog that Replaces names is not there (RFC 3891 §3).
        if verdict.status == Some(481)
            && verdict.answered == Answered::Sipfrag
            && known.attempt.kind == Kind::Attended
            && (known.attempt.target.attended || self.is_unseen())
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
        // Where there was no BYE, none came until now, if it would have been seen.
        let bye = self.bye.map(|(bye, _)| bye).or_else(|| known.dialog_is_whole().then_some(now));
        facts.bye_after_notify_ms =
            self.result.as_ref().zip(bye).map(|(result, bye)| bye.millis_since(result.time));
        facts.hearsay = self.is_told_by_stranger();
    }

    /// One that its receiver answers by a BYE with the number is found to be another method only then.
    fn begun_as(&self, _attempt: &PendingAttempt) -> record::Method {
        record::Method::Refer
    }

    fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    fn is_unseen(&self) -> bool {
        !self.is_captured()
    }

    /// A 2xx to a REFER outside the call's dialog may be about another call; and 481 to it means that it was not about this one.
    /// Whom a focus takes in at a participant's request joins a conference, and nobody is transferred (RFC 4579 §5.5); what
    /// it refuses may well have been meant as a transfer.
    fn is_suppressed(&self, known: Known<'_>, now: Timestamp) -> bool {
        if self.is_strangers(known) || !self.is_captured() && is_beside_known(known) {
            return true;
        }
        if known.target_leg().is_none() && self.asked_for_no_call(now, known.timers()) {
            return true;
        }
        let fails = |answer: &Option<Answer>| answer.as_ref().is_some_and(|answer| answer.status >= 300);
        if self.to_focus && !fails(&self.answer) && !fails(&self.result) {
            return true;
        }
        match self.beside {
            Some(Beside::Parties) => self.accepted().is_some(),
            Some(Beside::Tags) => self.answer.as_ref().is_some_and(|answer| answer.status == 481),
            None => false,
        }
    }

    fn headers<'a>(&self, known: Known<'a>, answered: Answered) -> &'a [(&'static str, String)] {
        if answered == Answered::Target {
            return target_headers(known);
        }
        let hearsay = known.attempt.refer().and_then(|refer| refer.hearsay.as_deref());
        match hearsay.filter(|_| answered == Answered::Sipfrag && self.result.is_none()) {
            Some(hearsay) => &hearsay.headers,
            None => &known.attempt.headers,
        }
    }

    fn is_told_by_stranger(&self) -> bool {
        Self::is_told_by_stranger(self)
    }

    fn copies(&self, known: Known<'_>) -> Option<(LegRole, CSeq, u32)> {
        Some((LegRole::Call, self.cseq()?, self.copies_sent(known)))
    }
}

/// Whether only one host speaks in the dialog of an attempt, while both sides do in another under its Call-ID: that is the call.
fn is_beside_known(known: Known<'_>) -> bool {
    let alone = known.dialog().filter(|dialog| !dialog.two_hosts && !dialog.originated);
    alone.is_some_and(|alone| {
        let mut others = known.stage.legs.under(alone.call_id()).filter(|leg| leg.id != alone.id);
        others.any(|leg| !leg.alleged && leg.is_confirmed_by_both())
    })
}

impl Refer {
    /// Whether it was sent to a host that the call's INVITE was not seen at: a Contact of its own.
    fn went_elsewhere(&self, call: &Leg) -> bool {
        let known = |host| host == call.hosts.0 || call.callee_hosts().any(|known| known == host);
        call.origin == Origin::Invite && self.sent_to.is_some_and(|to| !known(to.ip()))
    }

    /// How many copies of its latest try one hop has sent: they come without an event of their own.
    fn copies_sent(&self, known: Known<'_>) -> u32 {
        let Some((cseq, leg)) = self.cseq().zip(known.dialog()) else { return 1 };
        let by = known.attempt.by_of(leg.id);
        copies(leg, by, cseq).saturating_add(self.more_copies)
    }

    /// Whether a host that takes part in no call sent it, in a dialog that nobody knows, to one that does, which does not
    /// know that either (RFC 3261 §12.2.2): scanners try that. What is refused otherwise may be of a call whose INVITE was
    /// lost, unless it is in none.
    fn is_strangers(&self, known: Known<'_>) -> bool {
        let status = self.answer.as_ref().map(|answer| answer.status);
        let told = self.notified.is_some() || self.is_told();
        let taken = told || status.is_some_and(|status| status < 300);
        let unknown = known.dialog().is_some_and(|leg| match leg.origin {
            Origin::Invite => false,
            Origin::Midcall => !leg.originated && !leg.two_hosts && matches!(status, None | Some(481)),
            Origin::Refer => !leg.originated,
        });
        let is_party = |host| known.stage.legs.is_party(host);
        unknown
            && !taken
            && self.sender.is_some_and(|sender| !is_party(sender))
            && self.sent_to.is_some_and(|to| is_party(to.ip()))
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
            outside: false,
            sent_to: None,
            astray: false,
            referred_by: false,
            notify_answer: None,
            wants_no_subscription: false,
            subscription: Subscription::Implicit,
            notified: None,
            numbered: false,
            progress: None,
            result: None,
            hearsay: None,
            tags: [None; 2],
            terminated: None,
            expires: None,
            bye: None,
            superseded: None,
            followed: false,
            beside: None,
            to_focus: false,
            perhaps_passed_on: false,
            more_copies: 0,
            consultation: None,
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

    /// Whether it was seen itself, and not only what came of it.
    pub(super) fn is_captured(&self) -> bool {
        self.sender.is_some()
    }

    /// Whether only what came of it was seen, and that by this number, or just now and by no number.
    fn is_only_told(&self, number: u32, just_now: bool) -> bool {
        !self.is_captured() && (self.numbers == [number] || self.numbers.is_empty() && just_now)
    }

    /// Whether an answer under a number may be its own.
    fn may_be_answered_as(&self, number: u32) -> bool {
        self.numbers.is_empty() || self.numbers.contains(&number)
    }

    /// Whether it waits for credentials.
    fn is_challenged(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| is_challenge(answer.status))
    }

    /// Takes over what was told of it before it was seen.
    fn told(&mut self, before: Self) {
        (self.answer, self.notified, self.progress) = (before.answer, before.notified, before.progress);
        (self.result, self.terminated, self.expires) = (before.result, before.terminated, before.expires);
        (self.subscription, self.numbered) = (before.subscription, before.numbered);
        (self.hearsay, self.bye) = (before.hearsay, before.bye);
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

    /// The same, from elsewhere.
    pub(in crate::transfer) fn heard_elsewhere(
        &mut self,
        now: Timestamp,
        news: Notified,
        teller: Teller,
        headers: Headers,
    ) {
        let Some((status, reason)) = news.status else { return };
        if self.hearsay.as_ref().is_some_and(|known| known.teller < teller) {
            self.hearsay = None;
        }
        let new = || {
            Box::new(Hearsay { teller, result: None, announced: status < 200, headers: Headers::default() })
        };
        let hearsay = self.hearsay.get_or_insert_with(new);
        if hearsay.teller == teller && hearsay.result.is_none() && status >= 200 {
            hearsay.result = Some(Answer { status, reason, time: now });
            hearsay.headers = headers;
        }
    }

    /// Whether anybody told its outcome.
    fn is_told(&self) -> bool {
        self.result.is_some() || self.hearsay().is_some()
    }

    /// What is told outside its dialog, where that is believed: not a stranger's word where the dialog has begun to tell, nor
    /// another host's where the dialog goes on to tell.
    fn hearsay(&self) -> Option<(&Hearsay, &Answer)> {
        let hearsay = self.hearsay.as_deref()?;
        let told = hearsay.result.as_ref()?;
        let believed = match hearsay.teller {
            Teller::Stranger => self.notified.is_none(),
            Teller::OtherHost => self.last_notified().is_none_or(|last| last < told.time),
            Teller::PassedOn | Teller::Dialog => true,
        };
        believed.then_some((hearsay, told))
    }

    /// Whether somebody told its outcome who has no part in the call, as far as can be seen.
    fn is_told_by_stranger(&self) -> bool {
        let told = |hearsay: &Hearsay| hearsay.teller < Teller::PassedOn && hearsay.result.is_some();
        self.hearsay.as_deref().is_some_and(told)
    }

    /// The latest NOTIFY in its dialog that told anything.
    fn last_notified(&self) -> Option<Timestamp> {
        let ended = self.terminated.as_ref().map(|(time, _)| *time);
        [self.notified, self.progress.map(|(_, time)| time), ended].into_iter().flatten().max()
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
        !self.is_told() && !refused && self.terminated.is_none()
    }
}
