//! A redirect before the answer (RFC 3261 §21.3): a deflection, not the transfer of an answered call.

use smallvec::SmallVec;

use super::second_leg::invite;
use super::{Known, Machine, Method, refer, target_headers, target_leg};
use crate::leg::{AttemptId, Leg, LegId, Party};
use crate::record::{Answered, Evidence, Method as Word, Outcome, Side, UnknownReason};
use crate::timestamp::Timestamp;
use crate::transfer::config::Timers;
use crate::transfer::diagnosis::Facts;
use crate::transfer::facts::{self, Answer, Target};
use crate::transfer::stage::{Heard, Stage};
use crate::transfer::state::PendingAttempt;
use crate::transfer::verdict::{Provisional, Verdict};

/// Legs that are looked at for a loop.
const MOST_HOPS: usize = 16;

/// A 3xx to an initial INVITE.
#[derive(Debug)]
pub(in crate::transfer) struct Redirect {
    answer: Answer,
}

/// A 3xx to the initial INVITE.
pub(in crate::transfer) fn on_redirect(stage: &mut Stage, heard: Heard<'_>) {
    let Heard { event, wire, message, .. } = heard;
    let Some(leg) = stage.legs.get(event.leg) else { return };
    let Some(answer) = leg.failure() else { return };
    let answer = Answer { status: answer.status, reason: leg.phrase().into_owned(), time: answer.time };
    let contact = message.contact().map(|contact| contact.uri);
    let machine = Machine::Redirect(Redirect { answer });
    let attempt = PendingAttempt {
        call: Some(leg.id),
        call_id: Some(leg.call_id_text().into_owned()),
        transferor: Some(leg.uri_text(Side::Callee)),
        transferee: Some(leg.uri_text(Side::Caller)),
        target: contact.map(Target::of_uri).unwrap_or_default(),
        headers: facts::telling(message),
        ..PendingAttempt::new(Word::Redirect, machine, leg.id, Side::Callee, wire.time)
    };
    let id = stage.begin(attempt);
    follow_earlier(stage, id, event.leg);
}

/// The leg that follows a redirect may have been captured before it: taps and queues turn things around.
fn follow_earlier(stage: &mut Stage, id: AttemptId, redirected: LegId) {
    let Some(attempt) = stage.attempts.get(&id) else { return };
    let is_it = |leg: &&Leg| {
        leg.id > redirected
            && attempt.started.since(leg.started) <= refer::TURNED_AROUND
            && stage.state_of(leg).is_none_or(|state| state.serves.is_none())
            && follows(stage, attempt, leg)
    };
    let Some(leg) = stage.recent_legs().find(is_it).map(|leg| leg.id) else { return };
    if is_followed_by(stage, leg) {
        stage.unwatch(leg);
    }
}

/// Whether a new leg follows a redirect under a Call-ID of its own: RFC 3261 §8.1.3.4 asks for the old one, but callers
/// and B2BUAs begin anew.
pub(in crate::transfer) fn is_followed_by(stage: &mut Stage, new: LegId) -> bool {
    let Some(leg) = stage.legs.get(new) else { return false };
    let redirect = stage.recent_attempts().find(|(_, attempt)| follows(stage, attempt, leg));
    let Some((id, dialog)) = redirect.map(|(id, attempt)| (id, attempt.dialog)) else { return false };
    let serves = stage.state_or_new(dialog).and_then(|state| {
        state.followed_by = Some(new);
        state.serves
    });
    target_leg::follow(stage, id, new);
    if let Some(served) = serves {
        target_leg::follow(stage, served, new);
    }
    true
}

/// Whether a leg goes from whoever got the redirect to its Contact, for the same caller or with a Diversion that names it.
fn follows(stage: &Stage, attempt: &PendingAttempt, leg: &Leg) -> bool {
    let Machine::Redirect(redirect) = &attempt.machine else { return false };
    let Some(redirected) = stage.legs.get(attempt.dialog) else { return false };
    let soon = leg.started.since(redirect.answer.time) <= stage.config.timers.target;
    if !soon || !attempt.legs.is_empty() || redirected.hosts.0 != leg.hosts.0 {
        return false;
    }
    let target = attempt.target.user.as_deref().and_then(|user| Party::new(user.as_bytes()));
    let to_target = same(target.as_ref(), Party::of_uri(leg.request()).as_ref());
    let (caller, called) = (Party::of_uri(redirected.uri(Side::Caller)), Party::of_uri(redirected.request()));
    let from = Party::of_uri(leg.uri(Side::Caller));
    let diverted = leg.rare().map_or(&[][..], |rare| &rare.diverted);
    let shows = [&caller, &called].into_iter().any(|party| same(from.as_ref(), party.as_ref()))
        || diverted.iter().any(|party| same(Some(party), called.as_ref()));
    to_target && shows
}

/// Whether two of its legs were sent to one party and redirected there, or one is redirected to where it was sent.
fn leads_back(known: Known<'_>) -> bool {
    let redirected = |leg: &&Leg| leg.failure().is_some_and(|answer| (300..400).contains(&answer.status));
    let legs = || {
        known
            .dialog()
            .into_iter()
            .chain(known.attempt.legs.iter().filter_map(|leg| known.stage.legs.get(*leg)))
    };
    let sent_to: SmallVec<[_; 4]> =
        legs().filter(redirected).take(MOST_HOPS).map(|leg| Party::of_uri(leg.request())).collect();
    let twice = sent_to
        .iter()
        .enumerate()
        .any(|(at, one)| sent_to[..at].iter().any(|other| same(one.as_ref(), other.as_ref())));
    let target = known.attempt.target.user.as_deref().and_then(|user| Party::new(user.as_bytes()));
    let itself =
        known.dialog().is_some_and(|leg| same(target.as_ref(), Party::of_uri(leg.first_request()).as_ref()));
    twice || itself && legs().filter(redirected).count() > 1
}

fn same(one: Option<&Party>, other: Option<&Party>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.same(other))
}

impl Method for Redirect {
    /// It is `redirected`, followed or not; the verdict only waits to show what followed.
    fn evaluate(&self, known: Known<'_>, _now: Timestamp) -> Provisional {
        let timers = known.timers();
        let followed = self.leg(known);
        let longest = self.answer.time + timers.after_bye;
        // Whether the redirected leg is another attempt's is not decided yet.
        let undecided = known.stage.state(known.attempt.dialog).is_some_and(|state| state.watched.is_some());
        let at = if undecided { longest } else { self.stands_at(followed.as_ref(), timers) };
        Provisional { at, verdict: self.verdict() }
    }

    /// The redirected leg, once its caller tried again, or the leg that follows it under another Call-ID.
    fn fate<'a>(&self, known: Known<'a>) -> Option<&'a Leg> {
        let tried_again =
            |leg: &&Leg| leg.invite.as_ref().is_some_and(|invite| invite.tried > self.answer.time);
        known.target_leg().or_else(|| known.dialog().filter(tried_again))
    }

    fn followed(&self, known: Known<'_>, now: Timestamp) -> Option<Verdict> {
        let Provisional { at, verdict } = self.leg(known)?;
        let is_open = at > now && (verdict.status.is_none() || verdict.silence);
        Some(if is_open { Verdict::unknown(UnknownReason::NoFinalAnswer) } else { verdict })
    }

    /// Where the leg that followed failed, that is what needs a reason.
    fn headers<'a>(&self, known: Known<'a>, _answered: Answered) -> &'a [(&'static str, String)] {
        match self.leg(known).is_some_and(|leg| leg.verdict.outcome.is_failure()) {
            true => target_headers(known),
            false => &known.attempt.headers,
        }
    }

    fn tell<'a>(&'a self, known: Known<'a>, _now: Timestamp, facts: &mut Facts<'a>) {
        facts.redirects_back = leads_back(known);
    }

    /// A redirected leg that turned out to be the leg of another attempt is told of there.
    fn is_suppressed(&self, known: Known<'_>, _now: Timestamp) -> bool {
        known.dialog().is_some_and(|leg| leg.call.is_leg)
    }

    fn shows_all(&self) -> bool {
        true
    }
}

impl Redirect {
    /// The leg that followed, as it stands.
    fn leg(&self, known: Known<'_>) -> Option<Provisional> {
        invite::evaluate(self.fate(known)?, invite::Context::ALONE, known.timers())
    }

    fn stands_at(&self, followed: Option<&Provisional>, timers: &Timers) -> Timestamp {
        let unfollowed = self.answer.time + timers.target;
        let longest = self.answer.time + timers.after_bye;
        followed.map_or(unfollowed, |leg| leg.at.min(longest))
    }

    fn verdict(&self) -> Verdict {
        Verdict::seen(Outcome::Redirected, Evidence::Confirmed, self.answer.time).status(
            self.answer.status,
            &self.answer.reason,
            Answered::Target,
        )
    }
}
