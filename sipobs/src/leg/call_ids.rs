//! Call-IDs of legs that are no longer in the table, remembered so that what comes later under them is not taken for a
//! call that begins.

use std::collections::{HashSet, VecDeque};

/// The latest Call-IDs, hashed by [`super::Legs::hash`], in the order in which they were added.
#[derive(Debug)]
pub(crate) struct CallIds {
    most: usize,
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl CallIds {
    /// None yet, and never more than `most`, which is at least 1. Each takes up some 24 bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, order: VecDeque::new(), known: HashSet::new() }
    }

    /// Remembers one, and forgets the oldest where there is no room.
    pub(crate) fn add(&mut self, call_id: u64) {
        if self.known.contains(&call_id) {
            return;
        }
        // Before there is one too many, for which both would grow.
        if self.order.len() == self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(call_id);
        self.order.push_back(call_id);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether it is remembered.
    pub(crate) fn holds(&self, call_id: u64) -> bool {
        self.known.contains(&call_id)
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
        let mut gone = CallIds::new(3_584);
        (0..20_000).for_each(|call_id| gone.add(call_id));
        assert!(gone.holds(19_999) && !gone.holds(0));
        assert_eq!((gone.order.len(), gone.known.len()), (3_584, 3_584));
    }
}
