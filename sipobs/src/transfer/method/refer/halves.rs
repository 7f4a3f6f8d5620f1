//! The two halves of a call through a B2BUA: what a REFER in one half asks for may look like a second leg of the other, as
//! the B2BUA passes that half's caller on, and dials whatever it makes of the number that the REFER names.

use std::net::IpAddr;
use std::time::Duration;

use super::unseen::{is_unseen, notifier};
use crate::leg::{AttemptId, Leg, LegId, Party};
use crate::record::Side;
use crate::transfer::stage::Stage;
use crate::transfer::state::PendingAttempt;

/// How soon a B2BUA calls whom a REFER names.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The one attempt by a REFER in the other half of `call` that a leg, known to be the call's, was begun for.
pub(in crate::transfer) fn asked_beside(stage: &Stage, call: LegId, leg: LegId) -> Option<AttemptId> {
    let (call, leg) = (stage.legs.get(call)?, stage.legs.get(leg)?);
    let mut asked = stage.recent_attempts().filter(|(_, attempt)| is_asked(stage, attempt, call, leg));
    let (id, _) = asked.next()?;
    asked.next().is_none().then_some(id)
}

fn is_asked(stage: &Stage, attempt: &PendingAttempt, call: &Leg, leg: &Leg) -> bool {
    let half = stage.legs.get(attempt.call.unwrap_or(attempt.dialog));
    let (Some(refer), Some(half)) = (attempt.refer(), half) else { return false };
    let taken = refer.answer.as_ref().is_none_or(|answer| answer.status < 300);
    let at_once = leg.started >= refer.tried && leg.started.since(refer.tried) <= AT_ONCE;
    !is_unseen(attempt)
        && taken
        && at_once
        && !refer.is_success_before(leg.started, &stage.config.timers)
        && notifier(stage, attempt) == Some(leg.hosts.0)
        && are_halves(half, call, leg.hosts.0)
}

/// Whether two calls that are up are one through that host: it received one, and began the other for the same caller.
fn are_halves(one: &Leg, other: &Leg, host: IpAddr) -> bool {
    let (first, then) = if one.id < other.id { (one, other) } else { (other, one) };
    let is_up = |leg: &Leg| leg.is_confirmed() && !leg.bye.is_set();
    let caller = |leg: &Leg| Party::of_uri(leg.uri(Side::Caller));
    one.id != other.id
        && first.hosts.1 == host
        && then.hosts.0 == host
        && is_up(first)
        && is_up(then)
        && caller(first).zip(caller(then)).is_some_and(|(first, then)| first.same(&then))
}
