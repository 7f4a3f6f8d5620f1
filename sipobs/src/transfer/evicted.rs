//! Calls that were let go of for want of memory while a transfer was under way in them: what comes later under their
//! Call-IDs is no call that begins.

use std::collections::{HashSet, VecDeque};

use crate::leg::{LegId, Legs};

/// Most of them; a Call-ID takes some 24 bytes.
const MOST: usize = 65_536;

/// Their Call-IDs, hashed.
#[derive(Debug, Default)]
pub(super) struct EvictedCalls {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl EvictedCalls {
    /// A leg with a transfer under way is let go of.
    pub(super) fn add(&mut self, legs: &Legs, leg: LegId) {
        let Some(leg) = legs.get(leg) else { return };
        let hash = legs.hash(leg.call_id());
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether a leg is what is left of one of them.
    pub(super) fn holds(&self, legs: &Legs, leg: LegId) -> bool {
        !self.known.is_empty()
            && legs.get(leg).is_some_and(|leg| self.known.contains(&legs.hash(leg.call_id())))
    }
}
