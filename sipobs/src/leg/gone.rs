//! Call-IDs of legs that are over and forgotten: what is said under them later is not of a call older than the capture.

use std::collections::{HashSet, VecDeque};

/// Call-IDs that are remembered: what fits into 4,096 places of a hash set.
const MOST: usize = 3_584;

/// The latest of them, hashed, in the order in which they went.
#[derive(Debug, Default)]
pub(super) struct Gone {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Gone {
    /// The last leg under this Call-ID is forgotten.
    pub(super) fn add(&mut self, call_id: u64) {
        if self.known.contains(&call_id) {
            return;
        }
        // Before there is one too many, for which both would grow.
        if self.order.len() == MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(call_id);
        self.order.push_back(call_id);
    }

    /// Whether there was a leg under this Call-ID.
    pub(super) fn holds(&self, call_id: u64) -> bool {
        self.known.contains(&call_id)
    }

    /// Bytes that they take up, about.
    pub(super) fn bytes(&self) -> usize {
        (self.order.capacity() + self.known.capacity() * 3 / 2) * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let mut gone = Gone::default();
        (0..20_000).for_each(|call_id| gone.add(call_id));
        assert!(gone.holds(19_999) && !gone.holds(0));
        assert_eq!((gone.order.len(), gone.known.len()), (MOST, MOST));
    }
}
