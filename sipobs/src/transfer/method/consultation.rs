//! Consultations: the call that a transferor of an attended transfer makes first looks like a second leg, and is none.

use smallvec::SmallVec;

use crate::leg::{AttemptId, LegId};
use crate::record::{LegRole, Side};
use crate::transfer::facts::{self, Target};
use crate::transfer::ladder::Ladder;
use crate::transfer::stage::Stage;
use crate::transfer::state::Named;

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

/// The consultation before a REFER that was not captured, by this side of `home`: the only other call that its sender holds
/// then, or `home` itself, where that is the later of the two.
pub(super) fn of_unseen(stage: &Stage, home: LegId, by: Side) -> Option<LegId> {
    let is_second_leg = || {
        let serves = stage.state(home).and_then(|state| state.serves);
        serves.and_then(|id| stage.attempts.get(&id)).is_some_and(|attempt| attempt.second_leg().is_some())
    };
    only_other_call(stage, home).or_else(|| (by == Side::Caller && is_second_leg()).then_some(home))
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
pub(super) fn consulted_before(stage: &mut Stage, named: &Named) {
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
        let called = known.and_then(|leg| facts::user(leg.request()));
        called.is_some_and(|called| crate::link::same_party(&called, wanted))
    };
    others(stage, home).into_iter().filter(calls).max()
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
