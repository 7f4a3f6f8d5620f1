//! What has become of a leg, as far as links go.

use super::end_lag::Close;
use crate::leg::Leg;
use crate::record::Side;
use crate::timestamp::Timestamp;

/// Where a leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Dialing,
    Answered { at: Timestamp, ended: Option<(Timestamp, Side)> },
    Failed { at: Timestamp, status: Option<u16> },
}

impl State {
    pub(super) fn of(leg: &Leg) -> Self {
        if let Some(at) = leg.ties.failed.get() {
            return Self::Failed { at, status: Some(leg.ties.failed_status).filter(|status| *status > 0) };
        }
        // Who speaks of a dialog older than the capture says that it is up.
        match leg.answered.get().or(leg.midcall().then_some(leg.started)) {
            Some(at) => Self::Answered { at, ended: leg.ended() },
            None => Self::Dialing,
        }
    }
}

/// When it was answered.
pub(super) fn answered_at(leg: &Leg) -> Option<Timestamp> {
    match State::of(leg) {
        State::Answered { at, .. } => Some(at),
        State::Dialing | State::Failed { .. } => None,
    }
}

/// BYE of an answered leg.
pub(super) fn ended(leg: &Leg) -> Option<(Timestamp, Side)> {
    match State::of(leg) {
        State::Answered { ended, .. } => ended,
        State::Dialing | State::Failed { .. } => None,
    }
}

/// When an answered leg ended.
pub(super) fn ended_at(leg: &Leg) -> Option<Timestamp> {
    ended(leg).map(|(at, _)| at)
}

/// Whether its INVITE is under way, and nothing came back yet.
pub(super) fn is_silent(leg: &Leg) -> bool {
    matches!(State::of(leg), State::Dialing) && leg.invite.as_ref().is_some_and(|invite| !invite.heard)
}

/// It timed out without any answer.
pub(super) fn is_unheard(leg: &Leg) -> bool {
    matches!(State::of(leg), State::Failed { status: None, .. })
}

/// When a leg was over, and how.
pub(super) fn over(leg: &Leg) -> Option<(Timestamp, Close)> {
    match State::of(leg) {
        State::Dialing | State::Answered { ended: None, .. } => None,
        State::Answered { ended: Some((at, Side::Caller)), .. } => Some((at, Close::Hangup)),
        State::Answered { ended: Some((at, Side::Callee)), .. } => Some((at, Close::TargetHangup)),
        State::Failed { at, status: Some(487) } if leg.is_ring_timer(at) => Some((at, Close::RangOut)),
        State::Failed { at, status: Some(487) } => Some((at, Close::Cancelled)),
        State::Failed { at, .. } => Some((at, Close::Refused)),
    }
}
