//! One message seen both by HEP and in the clear: an agent on the node that is watched, or its packets in the same file as
//! what they are about. It counts once, whichever came first.
//!
//! Of each message is kept how often more it came one way than the other. So a retransmission that both saw counts as one
//! retransmission, and what only one of them saw is never taken for a copy. Nothing is kept before the first HEP has come: a
//! message in the clear just before it counts twice, and `dialog` takes both for one event.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::time::Duration;

use crate::hash::Keyed;
use crate::timestamp::Timestamp;

/// Agents send at once, and some of them in batches.
const WINDOW: Duration = Duration::from_secs(2);
/// Messages that are remembered at most.
const MOST: usize = 16_384;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tap {
    /// In a packet of its own.
    Clear,
    /// In one of HEP.
    Hep,
}

/// What came within the window.
#[derive(Debug, Default)]
pub(super) struct Twice {
    hasher: Keyed,
    /// By hash: how often more in the clear than by HEP.
    seen: BTreeMap<u64, i32>,
    order: VecDeque<(Timestamp, u64)>,
    /// There was HEP.
    has_hep: bool,
}

impl Twice {
    /// Whether this message has come the other way.
    pub(super) fn is_copy(
        &mut self,
        tap: Tap,
        time: Timestamp,
        src: SocketAddr,
        dst: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        self.has_hep |= tap == Tap::Hep;
        if !self.has_hep {
            return false;
        }
        while let Some(&(earlier, oldest)) = self.order.front()
            && (time.since(earlier) > WINDOW || self.order.len() >= MOST)
        {
            self.seen.remove(&oldest);
            self.order.pop_front();
        }
        let mut hash = self.hasher.build_hasher();
        (src, dst).hash(&mut hash);
        hash.write(bytes);
        let hash = hash.finish();
        let surplus = self.seen.entry(hash).or_insert_with(|| {
            self.order.push_back((time, hash));
            0
        });
        let (is_copy, step) = match tap {
            Tap::Clear => (*surplus < 0, 1),
            Tap::Hep => (*surplus > 0, -1),
        };
        *surplus = surplus.saturating_add(step);
        is_copy
    }
}
