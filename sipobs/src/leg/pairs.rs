//! The pairs of hosts that legs go between: whether whole dialogs were seen there, and what is known to be missing.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::hash::Keyed;

/// Two hosts, the lesser first.
pub(crate) type Pair = (IpAddr, IpAddr);

/// Pairs without legs that are remembered to have held whole dialogs.
const MOST_IDLE: usize = 4096;
/// Losses of one pair that are told apart by when they came.
const LOG: usize = 16;

/// All pairs that legs go between, and some that they went between.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    known: HashMap<Pair, Known, Keyed>,
    /// Proven pairs in the order in which they lost their last leg; may hold outdated entries.
    idle: VecDeque<Pair>,
    /// How many losses there have been.
    losses: u64,
    /// Frames that the capture lost, anywhere on this node.
    ring: Log,
}

#[derive(Debug, Default)]
struct Known {
    legs: u32,
    /// A whole dialog was seen between them: a request inside it was answered.
    proven: bool,
    log: Option<Box<Log>>,
}

/// What is lost. A leg notes how much had been lost when it began ([`Pairs::mark`]) and asks later what came since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// Frames lost in the kernel's ring.
    pub(crate) ring: u64,
    /// Gaps in TCP streams.
    pub(crate) gaps: u64,
    /// Datagrams that missed fragments.
    pub(crate) fragments: u64,
    /// Calls let go of for want of memory.
    pub(crate) calls: u64,
    /// Times that the clock was found to lie.
    pub(crate) steps: u32,
    /// Times that nobody watched, as sipobs was restarted.
    pub(crate) restarts: u32,
    /// Messages that were cut off before what they say.
    #[serde(default)]
    pub(crate) cut: u32,
}

/// Losses by when they came. Of many, early ones count as if they had come later: rather doubt too much.
#[derive(Debug, Default)]
struct Log(Vec<(u64, Lost)>);

impl Pairs {
    /// A leg goes between these hosts.
    pub(super) fn enter(&mut self, pair: Pair) {
        self.known.entry(pair).or_default().legs += 1;
    }

    /// A leg that went between these hosts is gone.
    pub(super) fn leave(&mut self, pair: Pair) {
        let Some(known) = self.known.get_mut(&pair) else { return };
        known.legs = known.legs.saturating_sub(1);
        if known.legs > 0 {
            return;
        }
        if !known.proven {
            self.known.remove(&pair);
            return;
        }
        self.idle.push_back(pair);
        while self.idle.len() > MOST_IDLE {
            let Some(oldest) = self.idle.pop_front() else { break };
            if self.known.get(&oldest).is_some_and(|known| known.legs == 0) {
                self.known.remove(&oldest);
            }
        }
    }

    /// Bytes that they take up, about.
    pub(super) fn bytes(&self) -> usize {
        // A table is two thirds full, more or less.
        self.known.len() * size_of::<(Pair, Known)>() * 3 / 2
    }

    /// A whole dialog was seen between these hosts.
    pub(super) fn prove(&mut self, pair: Pair) {
        if let Some(known) = self.known.get_mut(&pair) {
            known.proven = true;
        }
    }

    /// Whether a whole dialog was seen between these hosts.
    pub(super) fn is_proven(&self, pair: Pair) -> bool {
        self.known.get(&pair).is_some_and(|known| known.proven)
    }

    /// So much was lost: between these hosts, or nobody knows between whom. What strangers lose is nobody's evidence.
    pub(super) fn lost(&mut self, pair: Option<Pair>, lost: Lost) {
        let log = match pair {
            Some(pair) => self.known.get_mut(&pair).map(|known| &mut **known.log.get_or_insert_default()),
            None => Some(&mut self.ring),
        };
        if let Some(log) = log {
            self.losses += 1;
            log.add(self.losses, lost);
        }
    }

    /// How much has been lost so far: to ask later what came [`Self::since`].
    pub(super) const fn mark(&self) -> u64 {
        self.losses
    }

    /// What was lost between these hosts since the mark was made.
    pub(super) fn since(&self, mark: u64, pairs: impl Iterator<Item = Pair>) -> Lost {
        let mut seen = smallvec::SmallVec::<[Pair; 4]>::new();
        let mut lost = self.ring.since(mark);
        for pair in pairs {
            if !seen.contains(&pair) {
                seen.push(pair);
                lost = lost.and(
                    self.known
                        .get(&pair)
                        .and_then(|known| known.log.as_ref())
                        .map_or_else(Lost::default, |log| log.since(mark)),
                );
            }
        }
        lost
    }
}

impl Log {
    fn add(&mut self, at: u64, lost: Lost) {
        if self.0.len() == LOG {
            let (_, first) = self.0.remove(0);
            self.0[0].1 = self.0[0].1.and(first);
        }
        self.0.push((at, lost));
    }

    fn since(&self, mark: u64) -> Lost {
        let after = self.0.iter().rev().take_while(|(at, _)| *at > mark);
        after.fold(Lost::default(), |sum, (_, lost)| sum.and(*lost))
    }
}

impl Lost {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            ring: self.ring.saturating_add(other.ring),
            gaps: self.gaps.saturating_add(other.gaps),
            fragments: self.fragments.saturating_add(other.fragments),
            calls: self.calls.saturating_add(other.calls),
            steps: self.steps.saturating_add(other.steps),
            restarts: self.restarts.saturating_add(other.restarts),
            cut: self.cut.saturating_add(other.cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Lost = Lost { ring: 0, gaps: 1, fragments: 0, calls: 0, steps: 0, restarts: 0, cut: 0 };

    fn pair(a: u32, b: u32) -> Pair {
        (IpAddr::from(a.to_be_bytes()), IpAddr::from(b.to_be_bytes()))
    }

    #[test]
    fn only_what_came_after_the_mark_between_its_hosts_counts() {
        let mut pairs = Pairs::default();
        pairs.enter(pair(1, 2));
        pairs.enter(pair(1, 3));
        pairs.lost(Some(pair(1, 2)), GAP);
        let mark = pairs.mark();
        pairs.lost(Some(pair(1, 2)), GAP);
        pairs.lost(Some(pair(1, 3)), Lost { fragments: 2, ..Lost::default() });
        pairs.lost(Some(pair(7, 8)), GAP);
        pairs.lost(None, Lost { ring: 7, ..Lost::default() });
        let lost = pairs.since(mark, [pair(1, 2), pair(1, 2)].into_iter());
        assert_eq!(lost, Lost { ring: 7, gaps: 1, ..Lost::default() });
        assert_eq!(pairs.since(mark, [pair(1, 2), pair(1, 3)].into_iter()).fragments, 2);
        assert_eq!(pairs.since(pairs.mark(), [pair(1, 2)].into_iter()), Lost::default());
    }

    #[test]
    fn many_losses_are_never_counted_too_early() {
        let mut pairs = Pairs::default();
        pairs.enter(pair(1, 2));
        let marks: Vec<u64> = (0..100)
            .map(|_| {
                pairs.lost(Some(pair(1, 2)), GAP);
                pairs.mark()
            })
            .collect();
        for (before, mark) in marks.iter().enumerate() {
            assert!(pairs.since(*mark, [pair(1, 2)].into_iter()).gaps >= 99 - before as u64);
        }
        assert_eq!(pairs.since(marks[98], [pair(1, 2)].into_iter()).gaps, 1);
        assert_eq!(pairs.since(0, [pair(1, 2)].into_iter()).gaps, 100);
    }

    #[test]
    fn strangers_are_forgotten_and_proven_pairs_remembered() {
        let mut pairs = Pairs::default();
        pairs.enter(pair(1, 2));
        pairs.prove(pair(1, 2));
        pairs.leave(pair(1, 2));
        for n in 0..8192 {
            pairs.enter(pair(9, n));
            pairs.leave(pair(9, n));
        }
        assert!(pairs.is_proven(pair(1, 2)) && pairs.known.len() == 1);
        for n in 0..8192 {
            pairs.enter(pair(9, n));
            pairs.prove(pair(9, n));
            pairs.leave(pair(9, n));
        }
        assert!(!pairs.is_proven(pair(1, 2)) && pairs.known.len() == MOST_IDLE);
    }
}
