//! A second-leg INVITE: the method that replaces a REFER where a B2BUA calls the target itself (`sip_invite`,
//! `<Dial>`), and the INVITE with Replaces or Join that takes a call over (RFC 3891, RFC 3911).

use super::{Known, Method};
use crate::leg::{Final, Leg, Party};
use crate::record::{Dialect, Evidence, LinkMethod, Outcome, Seen, Side, UnknownReason};
use crate::timestamp::Timestamp;
use crate::transfer::diagnosis::Facts;
use crate::transfer::verdict::{Provisional, Verdict};

pub(in crate::transfer) mod events;
pub(in crate::transfer) mod invite;

/// How soon a B2BUA dials on.
pub(super) const ONWARD: std::time::Duration = std::time::Duration::from_secs(1);

/// What is known of it beside its leg.
#[derive(Clone, Copy, Debug)]
pub(in crate::transfer) struct SecondLeg {
    /// Its INVITE has Replaces or Join.
    pub(in crate::transfer) replaces: bool,
}

impl Method for SecondLeg {
    fn evaluate(&self, known: Known<'_>, now: Timestamp) -> Provisional {
        let timers = known.timers();
        let mut stands = self
            .leg_stands(known)
            .unwrap_or(Provisional { at: now, verdict: Verdict::unknown(UnknownReason::LegLost) });
        // As long as both go on, the new leg may yet turn out to be the consultation before a REFER, however long they
        // talk.
        if stands.verdict.outcome == Outcome::Succeeded && !self.replaces && may_consult(known) {
            stands.at = stands.at.max(now + timers.notify);
            stands.verdict.early |= is_on_hold(known);
        }
        // Or have been nothing but a word with somebody else, if the call goes on without it.
        if let Some(over) = on_hold_throughout(known) {
            stands.at = stands.at.max(over + timers.bridged);
        }
        // Whatever may still come of the leg: its call is gone, and somebody waits for the verdict.
        if let Some(bye) = calls_over(known) {
            stands.at = stands.at.min(bye + timers.after_bye);
        }
        stands
    }

    fn call_seen(&self, known: Known<'_>) -> Seen {
        known.attempt.call.map_or(Seen::None, |call| known.seen(call))
    }

    fn tell<'a>(&'a self, known: Known<'a>, _now: Timestamp, facts: &mut Facts<'a>) {
        let invite = known.target_leg().and_then(|leg| leg.invite.as_ref());
        facts.heard = invite.is_some_and(|invite| invite.heard);
        facts.ambiguous = is_ambiguous(known);
        facts.answered_beside = is_answered_beside(known);
    }

    /// A call and a leg that outlived one another, on hold as long as both were up: somebody was consulted, and nobody
    /// transferred.
    /// So was somebody before a REFER, which tells of the transfer.
    fn is_suppressed(&self, known: Known<'_>, now: Timestamp) -> bool {
        let consults = |leg| known.stage.state(leg).is_some_and(|state| state.consults.is_some());
        if !self.replaces && consults(known.attempt.dialog) || self.is_turned_away(known) {
            return true;
        }
        let (Some(ends), Some(over)) = (ends(known), on_hold_throughout(known)) else { return false };
        let until = ends.into_iter().map(|end| end.unwrap_or(now)).fold(over, Timestamp::max);
        !self.replaces && until.since(over) >= known.timers().bridged
    }

    /// An INVITE with Replaces comes of a REFER: whatever becomes of it, none is missing.
    fn is_second_leg(&self) -> bool {
        !self.replaces
    }

    fn is_taken_elsewhere(&self, known: Known<'_>) -> bool {
        let said = known.target_leg().and_then(|leg| known.cancel_cause(leg));
        said.is_some_and(|status| status < 300) || is_answered_beside(known)
    }

    fn hangs_on_call_alone(&self) -> bool {
        true
    }
}

impl SecondLeg {
    /// Whether a host that takes part in no call wants to take one over that is up, and whoever holds that denies it: the call
    /// is there, so it is the sender that is not believed.
    fn is_turned_away(&self, known: Known<'_>) -> bool {
        let (Some(leg), Some(call)) = (known.target_leg(), known.call()) else { return false };
        let denied = leg.failure().filter(|answer| matches!(answer.status, 403 | 481));
        let up = |answer: Final| call.bye.get().is_none_or(|bye| bye > answer.time);
        self.replaces
            && denied.is_some_and(up)
            && call.is_confirmed_by_both()
            && !leg.originated
            && !known.stage.legs.is_party(leg.hosts.0)
    }

    /// Where the leg itself stands.
    fn leg_stands(&self, known: Known<'_>) -> Option<Provisional> {
        let leg = known.target_leg()?;
        // A replaced call ends because the new leg took its place.
        let hung_up = known.call().and_then(|call| call.bye.get()).filter(|_| !self.replaces);
        let context = invite::Context {
            hung_up,
            bridge: !self.replaces,
            replaces: self.replaces,
            cancel_cause: known.cancel_cause(leg),
        };
        let stands = invite::evaluate(leg, context, known.timers())?;
        let cancelled = leg.invite.as_ref().is_some_and(|invite| invite.cancelled.is_set());
        if !is_ambiguous(known) {
            return Some(stands);
        }
        let outcome = match stands.verdict.outcome {
            Outcome::NoAnswer if cancelled && left_just_before(known, leg) => Outcome::Abandoned,
            outcome => outcome,
        };
        // What became of the leg was seen, but not that a call was transferred by it.
        let verdict = Verdict { outcome, evidence: Evidence::Inferred, ..stands.verdict };
        Some(Provisional { verdict, ..stands })
    }
}

/// When the caller behind a B2BUA left, if the target's leg was cancelled because of that: his BYE came just before, in
/// the other half of the call that is transferred.
pub(super) fn caller_left(known: Known<'_>, target: &Leg) -> Option<Timestamp> {
    let cancelled = target.invite.as_ref()?.cancelled.get()?;
    let call = known.call()?;
    let host = target.hosts.0;
    let mut ended = known.stage.ended.iter().filter_map(|leg| known.stage.legs.get(leg));
    let half = ended.find(|leg| {
        let Some((bye, side)) = leg.ended() else { return false };
        let (sender, receiver) = match side {
            Side::Caller => leg.hosts,
            Side::Callee => (leg.hosts.1, leg.hosts.0),
        };
        let near = bye <= cancelled && cancelled.since(bye) <= known.timers().abandoned;
        near && receiver == host
            && sender != host
            && ![call.id, target.id].contains(&leg.id)
            && (is_other_half(leg, call) || shows_caller(leg, target))
    });
    half.and_then(|leg| leg.bye.get())
}

/// Whether a B2BUA made one of two legs because of the other: it has the same caller, or began as that came.
fn is_other_half(leg: &Leg, call: &Leg) -> bool {
    let onward = leg.hosts.1 == call.hosts.0 && call.started.since(leg.started) <= ONWARD && leg.id < call.id;
    onward || shows_caller(leg, call)
}

/// Whether the callers of two legs are one party.
fn shows_caller(leg: &Leg, other: &Leg) -> bool {
    let [one, other] = [leg, other].map(|leg| Party::of_uri(leg.uri(Side::Caller)));
    matches!((one, other), (Some(one), Some(other)) if one.same(&other))
}

/// When the call of a second leg ended; of an ambiguous one, the last of the calls it could belong to.
fn calls_over(known: Known<'_>) -> Option<Timestamp> {
    let attempt = known.attempt;
    // A call that is not known any more has been over for long.
    let bye = |call| known.stage.legs.get(call).map_or(Some(attempt.started), |leg| leg.bye.get());
    let calls = attempt.call.into_iter().chain(attempt.candidates.iter().copied());
    let byes: Option<Vec<_>> = calls.map(bye).collect();
    byes?.into_iter().max()
}

/// Whether a REFER may yet tell that the leg was but a consultation: both are up, and the call is on hold, or its
/// transferor could send one.
fn may_consult(known: Known<'_>) -> bool {
    let up = |leg: &Leg| !leg.bye.is_set();
    let (Some(call), Some(leg)) = (known.call().filter(|leg| up(leg)), known.target_leg()) else {
        return false;
    };
    up(leg) && (is_on_hold(known) || refers(known, call, leg))
}

fn is_on_hold(known: Known<'_>) -> bool {
    known.call().is_some_and(|call| call.caller.holds || call.callee.holds)
}

/// Whether the maker of a second leg could send the call's other end a REFER that names the leg: it is an end of both, and
/// nothing says that it never does so (LiveKit), that the other end takes none, or that the two were brought together.
fn refers(known: Known<'_>, call: &Leg, leg: &Leg) -> bool {
    let dialects = call.call.dialects.and(leg.call.dialects);
    let other = call.end(known.attempt.by.other());
    let ends = match known.attempt.by {
        Side::Caller => call.hosts.0 == leg.hosts.0,
        Side::Callee => call.callee_hosts().any(|host| host == leg.hosts.0),
    };
    // Who takes the call off hold while the leg is up has talked enough.
    let resumed = known.stage.state_of(call).is_some_and(|call| call.resumed.is_set());
    ends && !resumed
        && other.refuses_refer != Some(true)
        && !dialects.iter().any(|shown| shown == Dialect::LiveKit)
}

/// When a call and its second leg ceased to be up both, if the call was on hold until then: nobody was bridged.
fn on_hold_throughout(known: Known<'_>) -> Option<Timestamp> {
    let over = ends(known)?.into_iter().flatten().min()?;
    let call = known.stage.state_of(known.call()?)?;
    let held =
        call.was_held(known.attempt.started) && call.resumed.get().is_none_or(|resumed| resumed > over);
    held.then_some(over)
}

/// The BYEs of a call and of its second leg, if that was answered.
fn ends(known: Known<'_>) -> Option<[Option<Timestamp>; 2]> {
    let leg = known.target_leg().filter(|leg| leg.answered.is_set())?;
    Some([leg.bye.get(), known.call()?.bye.get()])
}

/// Whether another leg of the same call was answered just before this one was cancelled: of phones that ring together one
/// takes the call.
fn is_answered_beside(known: Known<'_>) -> bool {
    let cancelled = known.target_leg().and_then(|leg| leg.invite.as_ref()?.cancelled.get());
    let (Some(cancelled), Some(call)) = (cancelled, known.attempt.call) else { return false };
    let stage = known.stage;
    let open = stage.open_in(call);
    let served = open.iter().filter_map(|id| stage.attempts.get(id)).flat_map(|attempt| attempt.legs.iter());
    let undecided = stage.links.possible_seconds_of(&stage.legs, call);
    let mut answered = served.copied().chain(undecided).filter_map(|leg| stage.legs.get(leg)?.answered.get());
    answered.any(|answered| answered <= cancelled && cancelled.since(answered) <= known.timers().abandoned)
}

/// Whether nobody can tell whose leg it is.
fn is_ambiguous(known: Known<'_>) -> bool {
    known.attempt.link.as_ref().is_some_and(|link| link.method == LinkMethod::Ambiguous)
}

/// Whether one of the calls that a leg could belong to had ended just before it was cancelled, and no ring
/// timer explains that: of all those calls it is then likely the one.
fn left_just_before(known: Known<'_>, leg: &Leg) -> bool {
    let cancelled = leg.invite.as_ref().and_then(|invite| invite.cancelled.get());
    let Some(cancelled) = cancelled.filter(|time| !leg.is_ring_timer(*time)) else { return false };
    let byes = known.attempt.candidates.iter().filter_map(|call| known.stage.legs.get(*call)?.ended());
    byes.into_iter().any(|(bye, side)| {
        side == Side::Caller && bye <= cancelled && cancelled.since(bye) <= known.timers().abandoned
    })
}
