//! The ways to transfer a call, a folder each: its machine as a table beside the RFC, its handlers, how an attempt is
//! evaluated, and what it tells of other legs. What several of them do with other legs has files of its own: `target_leg`,
//! `consultation`.
//!
//! A new method is a folder here, a variant of [`Machine`] with its line in [`Machine::as_method`], what it listens to in
//! [`super::dispatch`], and a word in [`crate::record::Method`].

use super::config::Timers;
use super::diagnosis::Facts;
use super::stage::Stage;
use super::state::PendingAttempt;
use super::verdict::{Provisional, Verdict};
use crate::leg::Leg;
use crate::record::{self, Answered, LegRole, Seen};
use crate::sip::CSeq;
use crate::timestamp::Timestamp;

pub(super) mod consultation;
pub(super) mod handover;
pub(super) mod redirect;
pub(super) mod refer;
pub(super) mod second_leg;
mod target_leg;

/// What the method of an attempt knows of it.
#[derive(Debug)]
pub(super) enum Machine {
    Refer(Box<refer::Refer>),
    SecondLeg(second_leg::SecondLeg),
    Redirect(redirect::Redirect),
    Handover(handover::Handover),
}

/// An attempt and what is known around it.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) attempt: &'a PendingAttempt,
    pub(super) stage: &'a Stage,
}

/// What a method has to say of an attempt.
pub(super) trait Method {
    /// The verdict as it stands at `now`, and when it stands for good if nothing else comes.
    fn evaluate(&self, known: Known<'_>, now: Timestamp) -> Provisional;

    /// The leg whose fate is the attempt's, where it was seen.
    fn fate<'a>(&self, known: Known<'a>) -> Option<&'a Leg> {
        known.target_leg()
    }

    /// How much was seen of the call that was to be transferred.
    fn call_seen(&self, known: Known<'_>) -> Seen {
        known.seen(known.attempt.call.unwrap_or(known.attempt.dialog))
    }

    /// Whether silence is evidence only where both directions of the call were captured.
    fn needs_both_directions(&self, known: Known<'_>) -> bool {
        known.attempt.call.is_some()
    }

    /// Of a redirect: what became of the leg that followed it, as far as that is certain.
    fn followed(&self, _known: Known<'_>, _now: Timestamp) -> Option<Verdict> {
        None
    }

    /// Headers that say why, of the message with the deciding status.
    fn headers<'a>(&self, known: Known<'a>, answered: Answered) -> &'a [(&'static str, String)] {
        match answered {
            Answered::Target => target_headers(known),
            Answered::Sipfrag | Answered::Refer => &known.attempt.headers,
        }
    }

    /// Adds what the table of likely causes may ask for.
    fn tell<'a>(&'a self, _known: Known<'a>, _now: Timestamp, _facts: &mut Facts<'a>) {}

    /// The method that it was taken for when it began: its id is of that.
    fn begun_as(&self, attempt: &PendingAttempt) -> record::Method {
        attempt.method
    }

    /// CSeq numbers of the request that carries it, from its first try to its last.
    fn numbers(&self) -> &[u32] {
        &[]
    }

    /// Whether that request was not captured: what came of it tells of it.
    fn is_unseen(&self) -> bool {
        false
    }

    /// Whether somebody who has no part in the call told an outcome of it.
    fn is_told_by_stranger(&self) -> bool {
        false
    }

    /// Requests that were sent more than once.
    fn copies(&self, _known: Known<'_>) -> Option<(LegRole, CSeq, u32)> {
        None
    }

    /// Whether the attempt turned out to be none, or is told of elsewhere.
    fn is_suppressed(&self, _known: Known<'_>, _now: Timestamp) -> bool {
        false
    }

    /// Whether it counts as a second leg where a missing REFER is asked for.
    fn is_second_leg(&self) -> bool {
        false
    }

    /// Whether another leg of its call was taken in its place.
    fn is_taken_elsewhere(&self, _known: Known<'_>) -> bool {
        false
    }

    /// Whether it hangs on its call alone, and not on the leg that carries it.
    fn hangs_on_call_alone(&self) -> bool {
        false
    }

    /// Whether every message of its call belongs into its ladder.
    fn shows_all(&self) -> bool {
        false
    }
}

/// Headers that say why, of the target's answer.
fn target_headers(known: Known<'_>) -> &[(&'static str, String)] {
    let state = known.target_leg().and_then(|leg| known.stage.state_of(leg));
    state.map_or(&[][..], |state| &state.answer_headers)
}

impl Machine {
    pub(super) fn as_method(&self) -> &dyn Method {
        match self {
            Self::Refer(method) => &**method,
            Self::SecondLeg(method) => method,
            Self::Redirect(method) => method,
            Self::Handover(method) => method,
        }
    }
}

impl PendingAttempt {
    pub(super) fn refer(&self) -> Option<&refer::Refer> {
        let Machine::Refer(refer) = &self.machine else { return None };
        Some(refer)
    }

    pub(super) fn refer_mut(&mut self) -> Option<&mut refer::Refer> {
        let Machine::Refer(refer) = &mut self.machine else { return None };
        Some(refer)
    }

    pub(super) fn second_leg(&self) -> Option<&second_leg::SecondLeg> {
        let Machine::SecondLeg(second) = &self.machine else { return None };
        Some(second)
    }
}

impl<'a> Known<'a> {
    pub(super) fn timers(self) -> &'a Timers {
        &self.stage.config.timers
    }

    /// The call that was to be transferred.
    pub(super) fn call(self) -> Option<&'a Leg> {
        self.stage.legs.get(self.attempt.call?)
    }

    /// The leg whose messages carry the attempt.
    pub(super) fn dialog(self) -> Option<&'a Leg> {
        self.stage.legs.get(self.attempt.dialog)
    }

    /// Whether both sides were heard in a call that is known to have been up: its end would have been seen.
    pub(super) fn dialog_is_whole(self) -> bool {
        self.call().is_some_and(|call| call.is_confirmed_by_both() && call.visible() == Seen::Both)
    }

    /// The leg to the target: of several, the one that was answered, else the last.
    pub(super) fn target_leg(self) -> Option<&'a Leg> {
        let legs = || self.attempt.legs.iter().filter_map(move |leg| self.stage.legs.get(*leg));
        legs().find(|leg| leg.answered.is_set()).or(legs().next_back())
    }

    /// Where the leg to the target stands, for attempts whose transferor need not stay.
    pub(super) fn target_provisional(self) -> Option<Provisional> {
        let leg = self.target_leg()?;
        // A transferor leaves once it has handed over; only the transferee's leaving takes the leg with it.
        let bye = self.call().and_then(Leg::ended).filter(|(_, side)| *side != self.attempt.by);
        let hung_up = bye.map(|(time, _)| time).or_else(|| second_leg::caller_left(self, leg));
        let context = second_leg::invite::Context {
            hung_up,
            bridge: false,
            replaces: self.attempt.target.attended,
            cancel_cause: self.cancel_cause(leg),
        };
        second_leg::invite::evaluate(leg, context, self.timers())
    }

    /// The status of another branch that a leg's CANCEL says it comes of.
    fn cancel_cause(self, leg: &Leg) -> Option<u16> {
        self.stage.state_of(leg)?.cancel_cause()
    }

    pub(super) fn seen(self, leg: crate::leg::LegId) -> Seen {
        self.stage.legs.get(leg).map_or(Seen::None, Leg::visible)
    }
}
