//! The latest legs, for the few look-ups that have no key.

use std::collections::VecDeque;

use crate::leg::LegId;

/// Legs that are remembered: enough for the second or so that is asked for, and little to look through.
const MOST: usize = 256;

/// The latest of something that legs do.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<LegId>);

impl Recent {
    /// A leg has done it.
    pub(super) fn add(&mut self, leg: LegId) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(leg);
    }

    /// Those that did, the latest first; some may be gone.
    pub(super) fn iter(&self) -> impl Iterator<Item = LegId> + '_ {
        self.0.iter().rev().copied()
    }
}
