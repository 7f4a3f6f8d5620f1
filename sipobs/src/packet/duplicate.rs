//! One packet seen at two taps: both ends of a veth pair, a bridge and its port, every interface at once.
//!
//! The rule: a UDP packet, or a fragment, is a copy if within the last few milliseconds one was seen with
//! the same addresses, ports, IP identification and payload, on whatever interface. An identification of 0 tells nothing:
//! there a twin that equals the first in all its bytes, at the same interface, is what somebody sent twice, as long as
//! twins are few. What routers, bridges
//! and network cards change on the way is left out: hop limit, traffic class, checksums. A SIP
//! retransmission comes no earlier than T1 = 500 ms after the first (RFC 3261 §17.1.1.2), and most stacks
//! give it another identification; so it is never taken for a copy. TCP segments are not looked at: their
//! sequence numbers tell.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::ip::{Fragment, Ip};
use super::{Packet, Transport};
use crate::frame::Frame;
use crate::hash::Keyed;
use crate::timestamp::Timestamp;

/// At most so many packets are remembered: 10 ms of 1.6 million a second.
const MAX_REMEMBERED: usize = 16_384;

/// What was seen within the window.
///
/// Packets are compared by their hashes alone. Whoever wants another's packet to be taken for a copy would have to send
/// one with the same hash just before it, without knowing the keys; with the packet itself, if he knew it
/// beforehand, he would gain nothing, as a copy is all the same to what follows.
#[derive(Debug)]
pub(super) struct Duplicates {
    window: Duration,
    hasher: Keyed,
    /// With each, what its frame was, where that matters.
    seen: HashTable<(u64, u64)>,
    order: VecDeque<(Timestamp, u64)>,
    /// Packets so far, and those of them that equal one before them.
    packets: u64,
    twins: u64,
}

/// Packets that must have come before it can be said that there is no second tap.
const ENOUGH: u64 = 4;
/// At a second tap there is a twin of more than one packet in so many.
const FEW: u64 = 8;

impl Duplicates {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            hasher: Keyed::default(),
            seen: HashTable::new(),
            order: VecDeque::new(),
            packets: 0,
            twins: 0,
        }
    }

    /// Whether `packet`, which `frame` carried, is a copy. Payloads that cannot be SIP are none of its business.
    pub(super) fn packet(&mut self, ip: Ip, packet: &Packet<'_>, frame: &Frame<'_>) -> bool {
        let payload = match packet.transport {
            Transport::Udp { payload, .. } => payload,
            // Wireshark exports a segment once for each message in it.
            Transport::Exported { payload, .. } => payload,
            Transport::Tcp { .. } => return false,
        };
        if !payload.first().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, b'\r' | b'\n'))
        {
            return false;
        }
        let whole = match ip.id {
            0 => self.hasher.hash_one((frame.interface, frame.direction, frame.bytes)),
            _ => 0,
        };
        let first = self.seen(packet.time, whole, |hash| {
            (packet.src, packet.dst, ip.id).hash(hash);
            hash.write(payload);
        });
        let few = self.packets > ENOUGH && self.twins * FEW < self.packets;
        self.packets += 1;
        let Some(first) = first else { return false };
        self.twins += 1;
        !(ip.id == 0 && few && first == whole)
    }

    /// Whether `fragment` is a copy.
    pub(super) fn fragment(&mut self, time: Timestamp, fragment: &Fragment<'_>) -> bool {
        let first = self.seen(time, 0, |hash| {
            let ip = fragment.ip;
            (ip.src, ip.dst, ip.id, fragment.protocol, fragment.offset, fragment.more).hash(hash);
            hash.write(fragment.bytes);
        });
        first.is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.seen.len().max(self.order.len())
    }

    /// What the frame was of the same that was seen within the window; else this one is remembered.
    fn seen(
        &mut self,
        time: Timestamp,
        whole: u64,
        identity: impl FnOnce(&mut <Keyed as BuildHasher>::Hasher),
    ) -> Option<u64> {
        if self.window.is_zero() {
            return None;
        }
        while let Some(&(earlier, oldest)) = self.order.front()
            && (time.since(earlier) > self.window || self.order.len() >= MAX_REMEMBERED)
        {
            if let Ok(entry) = self.seen.find_entry(oldest, |(hash, _)| *hash == oldest) {
                entry.remove();
            }
            self.order.pop_front();
        }
        let mut hash = self.hasher.build_hasher();
        identity(&mut hash);
        let hash = hash.finish();
        match self.seen.entry(hash, |(known, _)| *known == hash, |(known, _)| *known) {
            Entry::Occupied(first) => Some(first.get().1),
            Entry::Vacant(free) => {
                free.insert((hash, whole));
                self.order.push_back((time, hash));
                None
            }
        }
    }
}
