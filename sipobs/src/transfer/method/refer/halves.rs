//! The two halves of a call through a B2BUA: what a REFER in one half asks for may look like a second leg of the other, as
//! the B2BUA passes that half's caller on, and dials whatever it makes of the number that the REFER names.

use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;

use super::Refer;
use super::unseen::{is_unseen, notifier};
use crate::leg::{AttemptId, Leg, LegId, Party};
use crate::link::Decision;
use crate::record::{Link, LinkMethod, Side};
use crate::timestamp::Timestamp;
use crate::transfer::method::target_leg;
use crate::transfer::stage::Stage;
use crate::transfer::state::PendingAttempt;

/// How soon a B2BUA calls whom a REFER names.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How sure it is by its moment that a leg was asked for, where numbers leave it open whether it is of a call at all.
const BY_MOMENT: f64 = 0.8;

/// The one attempt by a REFER in `call`, or in its other half, that a leg, known to be the call's, was begun for.
pub(in crate::transfer) fn asked_beside(stage: &Stage, call: LegId, leg: LegId) -> Option<AttemptId> {
    let (call, leg) = (stage.legs.get(call)?, stage.legs.get(leg)?);
    let mut asked = stage.recent_attempts().filter(|(_, attempt)| is_asked(stage, attempt, call, leg));
    let (id, _) = asked.next()?;
    asked.next().is_none().then_some(id)
}

/// The same of a leg that may be of one of these calls, or of none.
pub(in crate::transfer) fn asked_beside_all(
    stage: &Stage,
    calls: &[String],
    leg: LegId,
) -> Option<(AttemptId, Link)> {
    let asked = |call: &String| asked_beside(stage, stage.legs.named(call.as_bytes(), [None, None])?, leg);
    let (first, others) = calls.split_first()?;
    let id = asked(first).filter(|id| others.iter().all(|other| asked(other) == Some(*id)))?;
    Some((id, by_moment()))
}

/// The attempts by a REFER of which nobody will tell any more, and which this leg may have been begun for.
pub(in crate::transfer) fn untold(stage: &Stage, leg: LegId) -> SmallVec<[AttemptId; 2]> {
    let Some(leg) = stage.legs.get(leg) else { return SmallVec::new() };
    let untold = stage.recent_attempts().filter(|(_, attempt)| {
        let asked = attempt.refer().is_some_and(|refer| is_at_once(leg, refer));
        asked && is_untold(stage, attempt, leg.seen)
    });
    untold.map(|(id, _)| id).collect()
}

/// Whether nobody will tell of an attempt any more: the dialog that carries it has ended, and no leg is known. All legs that its
/// REFER may have asked for have begun.
pub(in crate::transfer) fn is_untold(stage: &Stage, attempt: &PendingAttempt, now: Timestamp) -> bool {
    let dialog = stage.legs.get(attempt.dialog);
    attempt.legs.is_empty()
        && attempt.refer().is_some_and(|refer| refer.result.is_none() && now.since(refer.tried) > AT_ONCE)
        && dialog.is_some_and(|dialog| dialog.bye.is_set())
}

fn is_at_once(leg: &Leg, refer: &Refer) -> bool {
    leg.started >= refer.tried && leg.started.since(refer.tried) <= AT_ONCE
}

/// Gives an attempt by a REFER that found no leg, and of which nothing more is expected, the one that its receiver began at once,
/// whatever number it dialled: one that may be of the call, or of its other half, and came to what was told, if anything was.
/// Whether there is one.
pub(in crate::transfer) fn attach_asked(stage: &mut Stage, id: AttemptId, now: Timestamp) -> bool {
    let Some(leg) = stage.attempts.get(&id).and_then(|attempt| asked_by(stage, attempt, now)) else {
        return false;
    };
    let ladder = stage.take_ladder(leg).unwrap_or_default();
    // Whose leg it is may be known by more than its moment.
    let link = match stage.links.conclude(&mut stage.legs, leg, now) {
        Decision::Linked { link, .. } => link,
        Decision::Ambiguous { .. } | Decision::No | Decision::NotYet { .. } => by_moment(),
    };
    target_leg::attach(stage, id, leg, link, ladder);
    true
}

fn asked_by(stage: &Stage, attempt: &PendingAttempt, now: Timestamp) -> Option<LegId> {
    let refer = attempt.refer().filter(|_| attempt.legs.is_empty())?;
    let came_to_it = |leg: &Leg| match (&refer.result, leg.failure()) {
        // Its moment alone does not tell whose leg it is.
        (None, _) => is_linked(stage, attempt, leg, now),
        (Some(told), Some(failure)) => failure.status == told.status,
        (Some(told), None) => leg.answered.is_set() && (200..300).contains(&told.status),
    };
    let may_be_of_it = |leg: &Leg| {
        let calls = stage.links.possible_calls_of(&stage.legs, leg.id);
        let mut calls = calls.iter().filter_map(|call| stage.legs.get(*call));
        calls.any(|call| is_asked(stage, attempt, call, leg))
    };
    let mut asked = stage
        .recent_legs()
        .filter(|leg| is_at_once(leg, refer))
        .filter(|leg| came_to_it(leg) && may_be_of_it(leg));
    let only = asked.next()?;
    asked.next().is_none().then_some(only.id)
}

/// Whether a leg is known to be of the call that a REFER is in, or of its other half, and of no other REFER.
fn is_linked(stage: &Stage, attempt: &PendingAttempt, leg: &Leg, now: Timestamp) -> bool {
    let Decision::Linked { call, refer, .. } = stage.links.likely(&stage.legs, leg.id, now) else {
        return false;
    };
    let of_it = |number| attempt.refer().is_some_and(|refer| refer.numbers.contains(&number));
    refer.is_none_or(of_it) && stage.legs.get(call).is_some_and(|call| is_asked(stage, attempt, call, leg))
}

fn by_moment() -> Link {
    Link { method: LinkMethod::HostNumberTime, confidence: BY_MOMENT, candidates: Vec::new() }
}

fn is_asked(stage: &Stage, attempt: &PendingAttempt, call: &Leg, leg: &Leg) -> bool {
    let half = stage.legs.get(attempt.call.unwrap_or(attempt.dialog));
    let (Some(refer), Some(half)) = (attempt.refer(), half) else { return false };
    let taken = refer.answer.as_ref().is_none_or(|answer| answer.status < 300);
    !is_unseen(attempt)
        && taken
        && is_at_once(leg, refer)
        && !refer.is_success_before(leg.started, &stage.config.timers)
        && notifier(stage, attempt) == Some(leg.hosts.0)
        && (half.id == call.id || are_halves(half, call, leg.hosts.0, refer.tried))
}

/// Whether two calls that are up `then` are one through that host: it received one, and began the other for the same caller.
fn are_halves(one: &Leg, other: &Leg, host: IpAddr, then: Timestamp) -> bool {
    let (first, second) = if one.id < other.id { (one, other) } else { (other, one) };
    let is_up = |leg: &Leg| leg.is_confirmed() && leg.bye.get().is_none_or(|bye| bye >= then);
    let caller = |leg: &Leg| Party::of_uri(leg.uri(Side::Caller));
    first.hosts.1 == host
        && second.hosts.0 == host
        && is_up(first)
        && is_up(second)
        && caller(first).zip(caller(second)).is_some_and(|(first, second)| first.same(&second))
}
