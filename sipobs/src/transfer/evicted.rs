//! Calls that were let go of for want of memory while a transfer was under way in them: what comes later under their
//! Call-IDs is no call that begins.

use std::collections::{HashSet, VecDeque};

use crate::leg::{LegId, Legs};

/// Most of them, and …
const MOST: usize = 65_536;
/// … no more than one for so many bytes of the stage's memory: each takes some 24.
const BYTES: usize = 2_048;

/// Their Call-IDs, hashed.
#[derive(Debug)]
pub(super) struct EvictedCalls {
    most: usize,
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl EvictedCalls {
    /// None yet, of a stage that may take up `bytes`.
    pub(super) fn new(bytes: usize) -> Self {
        Self { most: (bytes / BYTES).clamp(1, MOST), known: HashSet::new(), order: VecDeque::new() }
    }

    /// A leg with a transfer under way is let go of.
    pub(super) fn add(&mut self, legs: &Legs, leg: LegId) {
        let Some(leg) = legs.get(leg) else { return };
        let hash = legs.hash(leg.call_id());
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > self.most
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
