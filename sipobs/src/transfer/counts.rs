//! What has been found, and how full the tables are, in numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::leg::EvictionReason;
use crate::record::Outcome;
use crate::timestamp::Timestamp;

/// What has been found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls seen: initial INVITEs with what became of them, and calls older than the capture.
    pub calls: u64,
    /// Settled attempts by outcome.
    pub transfers: BTreeMap<Outcome, u64>,
    /// Calls dropped before their end.
    pub evicted: Evicted,
}

/// Calls dropped before their end, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// There was no room for more.
    pub room: u64,
    /// Their host, or pair of hosts, had more than its share.
    pub host_share: u64,
    /// Too many calls had one Call-ID.
    pub call_id: u64,
    /// Those of them that were up, as both sides said: a verdict may rest on them.
    pub answered: u64,
    /// When the first of these went.
    pub since: Option<Timestamp>,
}

/// How full the table of calls is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fullness {
    /// Legs known now.
    pub legs: u64,
    /// Attempts under way now.
    pub attempts: u64,
    /// Bytes that they take up, about.
    pub bytes: u64,
    /// Bytes that they may take up.
    pub limit: u64,
}

impl Evicted {
    /// All of them.
    pub const fn sum(&self) -> u64 {
        self.room + self.host_share + self.call_id
    }

    pub(super) fn add(&mut self, why: EvictionReason) {
        *match why {
            EvictionReason::Room => &mut self.room,
            EvictionReason::Share => &mut self.host_share,
            EvictionReason::CallId => &mut self.call_id,
        } += 1;
    }
}
