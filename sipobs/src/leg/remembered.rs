//! What is remembered of many legs: the Call-IDs of those that are no longer in the table, so that what comes later under
//! them is not taken for a call that begins; and the hosts that took part in calls.

use std::collections::{HashSet, VecDeque};

use crate::hash::Keyed;

/// The latest Call-IDs or hosts, hashed by [`super::Legs::hash_of`], in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Remembered {
    most: usize,
    order: VecDeque<u64>,
    known: HashSet<u64, Keyed>,
}

impl Remembered {
    /// None yet, and never more than `most`, which is at least 1. Each takes up some 24 bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, order: VecDeque::new(), known: HashSet::default() }
    }

    /// Remembers one, and forgets the oldest where there is no room.
    pub(crate) fn add(&mut self, hash: u64) {
        if self.known.contains(&hash) {
            return;
        }
        // Before there is one too many, for which both would grow.
        if self.order.len() == self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(hash);
        self.order.push_back(hash);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether it is remembered.
    pub(crate) fn holds(&self, hash: u64) -> bool {
        self.known.contains(&hash)
    }

    /// Bytes that they take up, about.
    pub(crate) fn bytes(&self) -> usize {
        (self.order.capacity() + self.known.capacity() * 3 / 2) * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let mut gone = Remembered::new(3_584);
        (0..20_000).for_each(|hash| gone.add(hash));
        assert!(gone.holds(19_999) && !gone.holds(0));
        assert_eq!((gone.order.len(), gone.known.len()), (3_584, 3_584));
    }
}
