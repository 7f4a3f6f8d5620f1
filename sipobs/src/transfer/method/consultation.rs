//! Consultations: the call that a transferor of an attended transfer makes first looks like a second leg, and is none.

use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;

use super::second_leg::ONWARD;
use super::target_leg;
use crate::leg::{AttemptId, Leg, LegId};
use crate::record::{LegRole, Side};
use crate::timestamp::Timestamp;
use crate::transfer::facts::{self, Target};
use crate::transfer::ladder::Ladder;
use crate::transfer::stage::Stage;
use crate::transfer::state::Named;

/// A phone sends its REFER as soon as it has given its consultation up.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A platform's ring timer runs for so long at least.
const RING_TIMER: Duration = Duration::from_millis(14_900);

/// An attended transfer names two calls of its transferor: neither was a second leg of the other, but the
/// consultation. The other of the two, and the consultation's ladder so far.
pub(super) fn of_attended(stage: &mut Stage, home: LegId, target: &Target) -> (Option<LegId>, Ladder) {
    if !target.attended {
        return Default::default();
    }
    // A peer may name the very dialog that its REFER is in.
    let named = target.replaces.as_ref().and_then(|named| stage.legs.named(named, [None, None]));
    let named = named.filter(|named| *named != home);
    // Behind a B2BUA that hides dialogs from one another Replaces names a call that was never seen. Then the
    // transferor's leg to the same target was the consultation, or its only other call.
    let other = named.or_else(|| consulted(stage, home, target)).or_else(|| only_other_call(stage, home));
    let Some(other) = other else { return Default::default() };
    // Of the two the consultation is the later one; the other is the call that is transferred.
    if let Some(leg) = stage.legs.get_mut(home.max(other)) {
        leg.call.is_leg = true;
    }
    stage.note_referred(home.min(other));
    let ladder = withdraw(stage, home, other).or_else(|| withdraw(stage, other, home));
    (Some(other), ladder.map(|ladder| ladder.into_leg(LegRole::Consultation)).unwrap_or_default())
}

/// A REFER without Replaces to whom its sender's own leg rings, or rang until just now: a semi-attended transfer, in which the
/// phone gives its consultation up for the REFER, before it or after. That leg, which is none of a transfer of its own, and its
/// ladder so far.
pub(super) fn of_semi_attended(
    stage: &mut Stage,
    home: LegId,
    target: &Target,
    sender: IpAddr,
    now: Timestamp,
) -> (Option<LegId>, Ladder) {
    let Some(wanted) = target.user.as_deref().filter(|_| !target.attended) else { return Default::default() };
    let rang = |leg: &LegId| {
        let leg = stage.legs.get(*leg).filter(|leg| leg.hosts.0 == sender && is_called(leg, wanted));
        leg.is_some_and(|leg| rings(leg) || is_given_up_just_now(leg, now))
    };
    let Some(leg) = others(stage, home).into_iter().filter(rang).max() else { return Default::default() };
    let ladder = match stage.watched_mut(leg) {
        // It may yet be answered, if nothing comes of the REFER.
        Some(watched) => watched.ladder.clone(),
        None => withdraw(stage, leg, home).unwrap_or_default(),
    };
    (Some(leg), ladder.into_leg(LegRole::Consultation))
}

/// The REFER that a consultation was given up for is an attempt: neither that leg nor the one that a B2BUA made of it is
/// another.
pub(super) fn note_given_up(stage: &mut Stage, id: AttemptId, home: LegId, consultation: LegId) {
    let legs: SmallVec<[LegId; 2]> =
        made_of(stage, home, consultation).into_iter().chain([consultation]).collect();
    for leg in legs {
        if let Some(attempt) = second_leg_of(stage, leg) {
            stage.withdraw(attempt);
        }
        if let Some(state) = stage.state_or_new(leg) {
            state.consults = Some(id);
        }
    }
}

/// The leg that a B2BUA began at once for a consultation: to the same party, or given up with it. Whoever serves many calls
/// begins others in the same second, so none that is taken for the second leg of another call.
fn made_of(stage: &Stage, home: LegId, consultation: LegId) -> Option<LegId> {
    let (front, own) = (stage.legs.get(consultation)?, stage.legs.get(home)?);
    let at_once = |first: Timestamp, then: Timestamp| then >= first && then.since(first) <= ONWARD;
    let is_ours = |call: LegId| {
        let made_of_it = |call: &Leg| call.hosts.1 == own.hosts.0 && at_once(call.started, own.started);
        [home, consultation].contains(&call) || stage.legs.get(call).is_some_and(made_of_it)
    };
    let is_free = |leg: &Leg| {
        second_leg_of(stage, leg.id).and_then(|id| stage.attempts.get(&id)?.call).is_none_or(is_ours)
    };
    let cancelled = |leg: &Leg| leg.invite.as_ref().and_then(|invite| invite.cancelled.get());
    let goes_with =
        |leg: &Leg| cancelled(front).zip(cancelled(leg)).is_some_and(|(first, then)| at_once(first, then));
    let wanted = facts::user(front.request());
    let same = |leg: &Leg| wanted.as_deref().is_some_and(|wanted| is_called(leg, wanted));
    let behind = stage.recent_legs().filter(|leg| {
        let begun = leg.hosts.0 == front.hosts.1 && at_once(front.started, leg.started);
        begun && leg.id > consultation && leg.invite.is_some() && !leg.is_confirmed() && is_free(leg)
    });
    let behind: SmallVec<[&Leg; 4]> = behind.filter(|leg| same(leg) || goes_with(leg)).collect();
    let to_same = behind.iter().find(|leg| same(leg));
    to_same.or_else(|| behind.first().filter(|_| behind.len() == 1)).map(|leg| leg.id)
}

/// The attempt as whose second leg a leg is told.
fn second_leg_of(stage: &Stage, leg: LegId) -> Option<AttemptId> {
    let id = stage.state(leg)?.serves?;
    stage.attempts.get(&id).filter(|attempt| attempt.second_leg().is_some()).map(|_| id)
}

/// A consultation that rang is answered: if the REFER that it was given up for came to nothing, it may be a second leg after
/// all.
pub(in crate::transfer) fn on_answered(stage: &mut Stage, leg: LegId) {
    let consults = stage.state(leg).and_then(|state| state.consults);
    let under_way = consults.is_some_and(|id| stage.attempts.contains_key(&id));
    if let Some(state) = stage.state_mut(leg).filter(|_| !under_way) {
        state.consults = None;
    }
}

/// A consultation that rang fails by itself, of which the REFER's receiver has only said that it is well: it was the target's leg,
/// and did not come to anything.
pub(in crate::transfer) fn on_failed(stage: &mut Stage, leg: LegId) {
    let Some(id) = stage.state(leg).and_then(|state| state.consults) else { return };
    let given_up = |leg: &Leg| {
        let invite = leg.invite.as_ref();
        leg.bye.is_set() || invite.is_none_or(|invite| invite.cancelled.is_set())
    };
    let fails = stage.legs.get(leg).is_some_and(|leg| !given_up(leg) && leg.failure().is_some());
    let optimistic =
        stage.attempts.get(&id).filter(|attempt| attempt.legs.is_empty()).is_some_and(|attempt| {
            attempt.refer().is_some_and(|refer| refer.is_told_optimistically(&stage.config.timers))
        });
    if fails && optimistic {
        target_leg::attach_consultation(stage, id, leg);
    }
}

fn rings(leg: &Leg) -> bool {
    let invite = leg.invite.as_ref().filter(|_| !leg.is_confirmed());
    invite.is_some_and(|invite| invite.heard && invite.answer().is_none() && !invite.cancelled.is_set())
}

/// Whether its caller has cancelled a leg just now, and not as a ring timer does.
fn is_given_up_just_now(leg: &Leg, now: Timestamp) -> bool {
    let invite = leg.invite.as_ref().filter(|_| !leg.is_confirmed());
    let cancelled = invite.and_then(|invite| invite.cancelled.get());
    cancelled.is_some_and(|time| {
        let timer = leg.is_ring_timer(time) && time.since(leg.started) >= RING_TIMER;
        now.since(time) <= AT_ONCE && !timer
    })
}

/// The consultation before a REFER that was not captured, by this side of `home`: the only other call that its sender holds
/// then, or `home` itself, where that is the later of the two.
pub(super) fn of_unseen(stage: &Stage, home: LegId, by: Side) -> Option<LegId> {
    let is_second_leg = || second_leg_of(stage, home).is_some();
    only_other_call(stage, home).or_else(|| (by == Side::Caller && is_second_leg()).then_some(home))
}

/// Whether somebody is on hold in a call of whoever consults: in `home`, in the consultation, or in the call that this is
/// beside.
pub(super) fn is_on_hold(stage: &Stage, home: LegId, consultation: LegId) -> bool {
    let holds = |leg: &Leg| leg.caller.holds || leg.callee.holds;
    let serves = stage.state(consultation).and_then(|state| state.serves);
    let beside = serves.and_then(|id| stage.attempts.get(&id)?.call);
    [home, consultation].into_iter().chain(beside).any(|leg| stage.legs.get(leg).is_some_and(holds))
}

/// An attempt turned out to be another, and what was taken for its consultation may be none.
pub(super) fn release(stage: &mut Stage, id: AttemptId) {
    let Some(home) = stage.attempts.get(&id).map(|attempt| attempt.dialog) else { return };
    for leg in others(stage, home).into_iter().chain([home]) {
        if let Some(state) = stage.state_mut(leg).filter(|state| state.consults == Some(id)) {
            state.consults = None;
        }
    }
}

/// A leg takes another over: what was up beside that, or what it was beside, was a consultation.
pub(super) fn consulted_before(stage: &mut Stage, leg: LegId, named: &Named) {
    let Some(replaced) = stage.legs.named(&named.call_id, [None, None]).filter(|_| !named.join) else {
        return;
    };
    let open = stage.open_in(replaced);
    let open = open.iter().filter_map(|id| stage.attempts.get(id));
    let beside = open.filter(|attempt| attempt.second_leg().is_some_and(|second| !second.replaces));
    let mut pairs: Vec<_> = beside.map(|attempt| (attempt.dialog, replaced)).collect();
    let serves = stage.state(replaced).and_then(|state| state.serves);
    let served = serves.and_then(|id| stage.attempts.get(&id)?.call);
    pairs.extend(served.map(|call| (replaced, call)));
    for (leg, call) in pairs {
        withdraw(stage, leg, call);
    }
    if stage.watched_mut(replaced).is_some() {
        consulted_unseen(stage, leg, replaced);
    }
}

/// The same where it is not said yet whose leg the one taken over is: of the calls that it could belong to, that of whoever takes
/// it over is the one that is transferred, by a REFER that was not seen.
fn consulted_unseen(stage: &mut Stage, leg: LegId, replaced: LegId) {
    let Some(taker) = stage.legs.get(leg).map(|leg| leg.hosts.0) else { return };
    let calls = stage.links.possible_calls_of(&stage.legs, replaced);
    let is_takers = |call: &&LegId| {
        stage.legs.get(**call).is_some_and(|call| [call.hosts.0, call.hosts.1].contains(&taker))
    };
    let mut calls = calls.iter().filter(is_takers);
    let Some(call) = calls.next().copied().filter(|_| calls.next().is_none()) else { return };
    stage.unwatch(replaced);
    stage.note_transferred(call);
    if let Some(consultation) = stage.legs.get_mut(replaced) {
        consultation.call.is_leg = true;
    }
}

/// Takes back that `leg` is, or may be, a second leg of `call`. Its ladder so far.
fn withdraw(stage: &mut Stage, leg: LegId, call: LegId) -> Option<Ladder> {
    if let Some(ladder) = stage.take_ladder(leg) {
        return Some(ladder);
    }
    let id = stage.state(leg)?.serves?;
    let attempt = stage.attempts.get(&id)?;
    if attempt.second_leg().is_none() || attempt.call.is_some_and(|of| of != call) {
        return None;
    }
    stage.withdraw(id).map(|attempt| attempt.ladder)
}

/// The transferor's latest leg to the target that may still turn out to be a consultation.
fn consulted(stage: &Stage, home: LegId, target: &Target) -> Option<LegId> {
    let wanted = target.user.as_deref()?;
    let calls = |leg: &LegId| {
        let known = stage.legs.get(*leg).filter(|leg| stage.legs.vouches_for(leg));
        known.is_some_and(|leg| is_called(leg, wanted))
    };
    others(stage, home).into_iter().filter(calls).max()
}

/// Whether a leg calls that party.
fn is_called(leg: &Leg, wanted: &str) -> bool {
    facts::user(leg.request()).is_some_and(|called| crate::link::same_party(&called, wanted))
}

/// The one leg that the transferor of a call holds beside it, as far as that is known.
fn only_other_call(stage: &Stage, home: LegId) -> Option<LegId> {
    let up = |leg: &LegId| stage.legs.get(*leg).is_some_and(|leg| leg.is_confirmed() && !leg.bye.is_set());
    let mut others = others(stage, home).into_iter().filter(up);
    let only = others.next()?;
    others.all(|other| other == only).then_some(only)
}

/// The legs that are, or may be, second legs of a call.
fn others(stage: &Stage, home: LegId) -> SmallVec<[LegId; 4]> {
    let open = stage.open_in(home);
    let open = open.iter().filter_map(|id| stage.attempts.get(id));
    let served = open.filter(|attempt| attempt.second_leg().is_some()).map(|attempt| attempt.dialog);
    served.chain(stage.links.possible_seconds_of(&stage.legs, home)).collect()
}
