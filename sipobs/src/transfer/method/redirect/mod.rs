//! A redirect before the answer (RFC 3261 §21.3): a deflection, not the transfer of an answered call.

use super::second_leg::invite;
use super::{Known, Machine, Method};
use crate::leg::Leg;
use crate::record::{Answered, Evidence, Method as Word, Outcome, Side};
use crate::timestamp::Timestamp;
use crate::transfer::config::Timers;
use crate::transfer::diagnosis::Facts;
use crate::transfer::facts::{self, Answer, Target};
use crate::transfer::stage::{Heard, Stage};
use crate::transfer::state::PendingAttempt;
use crate::transfer::verdict::{Provisional, Verdict};

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
    stage.begin(attempt);
}

impl Method for Redirect {
    /// It is `redirected`, followed or not; the verdict only waits to show what followed.
    fn evaluate(&self, known: Known<'_>, _now: Timestamp) -> Provisional {
        let timers = known.timers();
        let followed = self.fate(known).and_then(|leg| invite::evaluate(leg, invite::Context::ALONE, timers));
        Provisional { at: self.stands_at(followed.as_ref(), timers), verdict: self.verdict() }
    }

    /// The redirected leg, once its caller tried again.
    fn fate<'a>(&self, known: Known<'a>) -> Option<&'a Leg> {
        let tried_again =
            |leg: &&Leg| leg.invite.as_ref().is_some_and(|invite| invite.tried > self.answer.time);
        known.dialog().filter(tried_again)
    }

    fn headers<'a>(&self, known: Known<'a>, _answered: Answered) -> &'a [(&'static str, String)] {
        &known.attempt.headers
    }

    fn tell<'a>(&'a self, _known: Known<'a>, _facts: &mut Facts<'a>) {}

    /// A redirected leg that turned out to be the leg of another attempt is told of there.
    fn is_suppressed(&self, known: Known<'_>, _now: Timestamp) -> bool {
        known.stage.state(known.attempt.dialog).is_some_and(|state| state.serves.is_some())
    }

    fn shows_all(&self) -> bool {
        true
    }
}

impl Redirect {
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
