//! Legs to the target, given to the attempts that they serve, whatever their method.

use super::refer;
use super::second_leg::ONWARD;
use crate::leg::{AttemptId, Leg, LegId};
use crate::record::{LegRole, Link, LinkMethod};
use crate::transfer::ladder::Ladder;
use crate::transfer::stage::Stage;

/// How sure it is that a leg was asked for by whom its Referred-By names, at the host that tells of the transfer.
const REFERRED: f64 = 0.95;
/// The same of the leg behind a consultation that rings, by its moment alone.
const BEHIND: f64 = 0.8;

/// Gives an attempt by a REFER that was not captured the leg whose Referred-By names its transferor.
pub(super) fn attach_referred(stage: &mut Stage, id: AttemptId, leg: LegId) {
    let ladder = stage.take_ladder(leg).unwrap_or_default();
    let link = Link { method: LinkMethod::ReferredBy, confidence: REFERRED, candidates: Vec::new() };
    attach(stage, id, leg, link, ladder);
}

/// Where the consultation was not answered, through a B2BUA, the leg behind it that rings is the target's: nobody dials
/// another.
pub(super) fn attach_behind(stage: &mut Stage, id: AttemptId, consultation: LegId) {
    let Some(leg) = behind(stage, consultation) else { return };
    let ladder = stage.take_ladder(leg).unwrap_or_default();
    attach(
        stage,
        id,
        leg,
        Link { method: LinkMethod::Replaces, confidence: BEHIND, candidates: Vec::new() },
        ladder,
    );
}

/// The same of a consultation that failed itself.
pub(super) fn attach_consultation(stage: &mut Stage, id: AttemptId, leg: LegId) {
    let ladder = stage.take_ladder(leg).unwrap_or_default();
    let link = Link { method: LinkMethod::Replaces, confidence: REFERRED, candidates: Vec::new() };
    attach(stage, id, leg, link, ladder);
}

/// The one leg that rings, and that the receiver of an unanswered consultation began as that came.
fn behind(stage: &Stage, consultation: LegId) -> Option<LegId> {
    let rings = |leg: &Leg| {
        leg.invite.as_ref().is_some_and(|invite| invite.answer().is_none()) && !leg.is_confirmed()
    };
    let front = stage.legs.get(consultation).filter(|leg| leg.invite.is_some() && !leg.is_confirmed())?;
    let mut behind = stage.recent_legs().filter(|leg| {
        leg.id > consultation
            && leg.hosts.0 == front.hosts.1
            && leg.started.since(front.started) <= ONWARD
            && rings(leg)
            && stage.state_of(leg).is_none_or(|state| state.serves.is_none())
    });
    let only = behind.next()?;
    behind.next().is_none().then_some(only.id)
}

/// Gives an attempt its target leg.
pub(super) fn attach(stage: &mut Stage, id: AttemptId, leg: LegId, link: Link, ladder: Ladder) {
    let most = stage.config.limits.ladder;
    let request = stage.legs.get(leg).map(|leg| leg.request().to_vec()).unwrap_or_default();
    let followed_by = stage.state(leg).and_then(|state| state.followed_by);
    let Some(attempt) = stage.attempts.get_mut(&id) else { return };
    refer::unseen::learn_target(attempt, &request);
    attempt.legs.push(leg);
    attempt.link = Some(link);
    attempt.ladder.extend(ladder.into_leg(LegRole::Target), most);
    stage.serve(leg, id);
    if let Some(next) = followed_by {
        follow(stage, id, next);
    }
    stage.review(id);
}

/// The target's leg was redirected, and goes on under another Call-ID.
pub(super) fn follow(stage: &mut Stage, id: AttemptId, next: LegId) {
    if let Some(attempt) = stage.attempts.get_mut(&id)
        && !attempt.legs.contains(&next)
    {
        attempt.legs.push(next);
        stage.serve(next, id);
        stage.review(id);
    }
}
