//! What is to be looked at again, and when: one queue for legs, links and attempts.

use std::collections::BTreeSet;

use crate::leg::{AttemptId, LegId};
use crate::timestamp::Timestamp;

/// What a deadline is for. Of several at one moment those of attempts come first: their verdicts shall not rest on what
/// the others forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The verdict on an attempt may stand.
    Attempt(AttemptId),
    /// It may be told whose second leg a leg is.
    Second(LegId),
    /// The end of a possible second leg, and that of its call, can be learnt from.
    Learn(LegId),
    /// An ended call can't get a second leg by number any more.
    Leave(LegId),
    /// Nothing more is expected of a leg.
    Leg(LegId),
}

/// Deadlines in order; of equals, in the order of what they are for.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Timestamp, Packed)>);

/// A deadline in eight bytes: what it is for in the upper bits, whose it is below. There is one for every leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packed(u64);

/// Bits that say whose a deadline is.
const WHOSE: u32 = 61;

impl Timers {
    /// Sets a deadline in place of `old`, which its owner keeps.
    pub(crate) fn set(&mut self, what: Deadline, old: Option<Timestamp>, at: Timestamp) {
        if old == Some(at) {
            return;
        }
        self.cancel(what, old);
        self.0.insert((at, what.into()));
    }

    /// Takes a deadline back.
    pub(crate) fn cancel(&mut self, what: Deadline, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.0.remove(&(at, what.into()));
        }
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the next deadline that has passed at `now`.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<(Timestamp, Deadline)> {
        let next = self.0.first().filter(|(at, _)| *at <= now).copied()?;
        self.0.remove(&next);
        Some((next.0, next.1.deadline()?))
    }
}

impl From<Deadline> for Packed {
    fn from(deadline: Deadline) -> Self {
        let (what, whose) = match deadline {
            Deadline::Attempt(AttemptId(id)) => (0, id),
            Deadline::Second(leg) => (1, leg.number()),
            Deadline::Learn(leg) => (2, leg.number()),
            Deadline::Leave(leg) => (3, leg.number()),
            Deadline::Leg(leg) => (4, leg.number()),
        };
        Self(what << WHOSE | whose)
    }
}

impl Packed {
    fn deadline(self) -> Option<Deadline> {
        let whose = self.0 & ((1 << WHOSE) - 1);
        let leg = LegId::of_number(whose);
        match self.0 >> WHOSE {
            0 => Some(Deadline::Attempt(AttemptId(whose))),
            1 => leg.map(Deadline::Second),
            2 => leg.map(Deadline::Learn),
            3 => leg.map(Deadline::Leave),
            4 => leg.map(Deadline::Leg),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_pass_in_order_and_once() {
        let at = Timestamp::from_nanos;
        let attempt = |n| Deadline::Attempt(AttemptId(n));
        let mut timers = Timers::default();
        timers.set(attempt(2), None, at(5));
        timers.set(attempt(1), None, at(5));
        timers.set(attempt(3), None, at(9));
        timers.set(attempt(3), Some(at(9)), at(3));
        timers.set(attempt(4), None, at(4));
        timers.cancel(attempt(4), Some(at(4)));
        assert_eq!(timers.next(), Some(at(3)));
        let passed: Vec<_> = std::iter::from_fn(|| timers.pop(at(5))).map(|(_, what)| what).collect();
        assert_eq!((passed, timers.next()), (vec![attempt(3), attempt(1), attempt(2)], None));
    }
}
