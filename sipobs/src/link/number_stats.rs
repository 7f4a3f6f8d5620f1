//! One number of a platform: what is usual for it.

use super::state::{answered_at, ended};
use crate::leg::Leg;
use crate::record::Side;
use crate::timestamp::Timestamp;

/// The rates of the calls to one number at one host, against which a coincidence is held.
#[derive(Clone, Debug)]
pub(super) struct NumberStats {
    /// Calls that are found by it: those that are up, and some that were.
    pub(super) calls: u32,
    up: u32,
    changed: Timestamp,
    /// Seconds with and without any call up, and the sum of the seconds of all calls.
    busy: f64,
    idle: f64,
    talked: f64,
    /// Calls ended by their caller and by their callee.
    ended: [f64; 2],
    share: Share,
    /// Second-leg-like legs that began while no call was up.
    strays: f64,
    /// When the last of its calls went.
    pub(super) emptied: Timestamp,
}

/// How many legs that show a platform's own number are second legs, and how many are not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    unrelated: f64,
    related: f64,
}

/// How many legs the shares of the level above count for.
const PRIOR_LEGS: f64 = 6.0;
/// Counts above these are halved, so that a change of habits shows.
const MOST_LEGS: f64 = 200.0;
const MOST_SECONDS: f64 = 40_000.0;

impl NumberStats {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            calls: 0,
            up: 0,
            changed: now,
            busy: 0.0,
            idle: 0.0,
            talked: 0.0,
            ended: [0.0; 2],
            share: Share::default(),
            strays: 0.0,
            emptied: now,
        }
    }

    /// Those of a number to which this is the only call.
    pub(super) fn of_call(leg: &Leg) -> Option<Self> {
        let mut stats = Self::new(answered_at(leg)?);
        stats.add_call(leg);
        Some(stats)
    }

    /// A call is found by it now.
    pub(super) fn add_call(&mut self, leg: &Leg) {
        let Some(answered) = answered_at(leg) else { return };
        self.calls += 1;
        self.call_answered(answered);
        if let Some((time, side)) = ended(leg) {
            self.call_ended(time, side);
        }
    }

    pub(super) fn call_answered(&mut self, now: Timestamp) {
        self.pass(now);
        self.up += 1;
    }

    pub(super) fn call_ended(&mut self, now: Timestamp, side: Side) {
        self.pass(now);
        self.up = self.up.saturating_sub(1);
        self.ended[side as usize] += 1.0;
    }

    /// A leg from this number began and no call was there that it could belong to. Gives how many such legs
    /// must be expected among the calls for it.
    pub(super) fn stray(&mut self, now: Timestamp) -> f64 {
        self.pass(now);
        self.strays += 1.0;
        self.strays_among_calls()
    }

    /// How often one call ends by `side` for reasons of its own, a second.
    pub(super) fn end_rate(&self, side: Side) -> f64 {
        // As if one minute-long call had been seen before.
        let rate = (1.0 + self.ended[0] + self.ended[1]) / (60.0 + self.talked);
        let by_side = (1.0 + self.ended[side as usize]) / (2.0 + self.ended[0] + self.ended[1]);
        rate.max(1.0 / 600.0) * by_side
    }

    /// The share of calls that last for `seconds` more.
    pub(super) fn survival(&self, seconds: f64) -> f64 {
        let rate = self.end_rate(Side::Caller) + self.end_rate(Side::Callee);
        (-rate * seconds.max(0.0)).exp()
    }

    /// How likely a leg from this number is no second leg, while a call is up; `above` is what is usual at its
    /// host.
    pub(super) fn unrelated(&self, above: f64) -> f64 {
        let strays = self.strays * self.strays_among_calls();
        Share { unrelated: self.share.unrelated + strays, related: self.share.related }.unrelated(above)
    }

    /// Strays are seen while no call is up; as many a second come while one is.
    fn strays_among_calls(&self) -> f64 {
        if self.idle > self.busy { self.busy / self.idle } else { 1.0 }
    }

    /// A leg turned out to be unrelated with that probability.
    pub(super) fn learn(&mut self, unrelated: f64) {
        self.share.learn(unrelated, 1.0);
    }

    /// Time passes.
    fn pass(&mut self, now: Timestamp) {
        let seconds = now.since(self.changed).as_secs_f64();
        self.changed = self.changed.max(now);
        if self.up > 0 {
            self.busy += seconds;
            self.talked += seconds * f64::from(self.up);
        } else {
            self.idle += seconds;
        }
        if self.talked > MOST_SECONDS {
            self.talked /= 2.0;
            self.ended = self.ended.map(|count| count / 2.0);
        }
        if self.strays > MOST_LEGS {
            self.strays /= 2.0;
            self.busy /= 2.0;
            self.idle /= 2.0;
        }
    }
}

impl Share {
    pub(super) fn unrelated(&self, above: f64) -> f64 {
        (self.unrelated + above * PRIOR_LEGS) / (self.unrelated + self.related + PRIOR_LEGS)
    }

    /// So many legs turned out to be unrelated with that probability.
    pub(super) fn learn(&mut self, unrelated: f64, legs: f64) {
        self.unrelated += unrelated * legs;
        self.related += (1.0 - unrelated) * legs;
        if self.unrelated + self.related > MOST_LEGS {
            self.unrelated /= 2.0;
            self.related /= 2.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn outbound_calls_while_idle_raise_doubt() {
        let second = |n| Timestamp::default() + Duration::from_secs(n);
        let mut number = NumberStats::new(second(0));
        number.call_answered(second(0));
        number.call_ended(second(100), Side::Caller);
        let before = number.unrelated(0.08);
        for n in 0..10 {
            number.stray(second(110 + n * 9));
        }
        assert!(before < 0.1 && number.unrelated(0.08) > 0.5);
    }
}
