//! Reassembly of IP fragments (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! Fragments may come in any order and more than once. A fragment of which every byte is within one that
//! came before is a repetition: the first wins. Any other overlap discards the datagram with all that
//! still comes of it, as RFC 5722 §4 demands for IPv6 and as Linux does for IPv4.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::ip::Fragment;
use super::{Counters, Item};
use crate::discard::DiscardReason;
use crate::loss::Loss;
use crate::timestamp::Timestamp;
use crate::work;

/// Fragments that wait for others.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    max_bytes: usize,
    timeout: Duration,
    datagrams: HashMap<Key, Datagram>,
    /// Deadlines; the number keeps two of the same moment apart, in the order of their coming.
    deadlines: BTreeMap<(Timestamp, u64), Key>,
    /// What each sender's fragments take up.
    senders: HashMap<IpAddr, usize>,
    bytes: usize,
    serial: u64,
}

/// What became of a fragment.
pub(super) enum Joined {
    /// It was the last of its datagram.
    Whole(Whole),
    /// It waits, or it was dropped and counted.
    Not,
}

/// What a whole datagram carries.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    /// All its pieces did ([`super::Packet::originated`]).
    pub(super) originated: bool,
}

/// RFC 791 §3.2: fragments of one datagram share these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
}

#[derive(Debug)]
struct Datagram {
    deadline: (Timestamp, u64),
    /// By offset; no two overlap.
    pieces: BTreeMap<usize, Box<[u8]>>,
    /// Bytes in `pieces`.
    received: usize,
    originated: bool,
    /// Its length, once the last fragment has come.
    total: Option<usize>,
    /// What it takes up.
    cost: usize,
    /// It was discarded; what still comes of it is dropped.
    discarded: bool,
}

/// What a datagram and each of its pieces take up beside their bytes, about.
const OVERHEAD: usize = 128;

/// No sender may take up more than this part of the room.
const SHARE: usize = 4;

impl Fragments {
    pub(super) fn new(max_bytes: usize, timeout: Duration) -> Self {
        Self { max_bytes, timeout, ..Self::default() }
    }

    pub(super) fn push(
        &mut self,
        now: Timestamp,
        fragment: &Fragment<'_>,
        originated: bool,
        counters: &mut Counters,
        sink: &mut dyn FnMut(Item<'_>),
    ) -> Joined {
        let key = Key {
            src: fragment.ip.src,
            dst: fragment.ip.dst,
            id: fragment.ip.id,
            protocol: fragment.protocol,
        };
        let known = self.datagrams.contains_key(&key);
        let cost = fragment.bytes.len() + if known { OVERHEAD } else { 2 * OVERHEAD };
        if self.senders.get(&key.src).copied().unwrap_or(0) + cost > self.max_bytes / SHARE {
            counters.unused.add(DiscardReason::FragmentEvicted, 1);
            return Joined::Not;
        }
        if !known {
            self.begin(now, key);
        }
        let Some(datagram) = self.datagrams.get_mut(&key) else { return Joined::Not };
        match datagram.add(fragment, originated) {
            Added::Repeated => counters.unused.add(DiscardReason::FragmentRepeated, 1),
            Added::Discarded(pieces) => {
                counters.fragments_waiting -= pieces;
                counters.unused.add(DiscardReason::FragmentOverlap, pieces + 1);
                let freed = datagram.cost - OVERHEAD;
                datagram.cost = OVERHEAD;
                self.release(key.src, freed);
            }
            Added::Waiting => {
                counters.fragments_waiting += 1;
                datagram.cost += cost;
                self.bytes += cost;
                *self.senders.entry(key.src).or_default() += cost;
            }
            Added::Complete => {
                let Some(Datagram { pieces, originated, .. }) = self.remove(&key) else { return Joined::Not };
                let earlier = (pieces.len() as u64).saturating_sub(1);
                counters.fragments_waiting -= earlier;
                counters.fragments_joined += earlier;
                work::count(pieces.len() + pieces.values().map(|piece| piece.len()).sum::<usize>());
                let bytes = pieces.into_values().collect::<Vec<_>>().concat();
                return Joined::Whole(Whole { bytes, originated });
            }
        }
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.deadlines.first_key_value()
        {
            let oldest = *oldest;
            self.give_up(&oldest, DiscardReason::FragmentEvicted, counters, sink);
        }
        Joined::Not
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Timestamp,
        counters: &mut Counters,
        sink: &mut dyn FnMut(Item<'_>),
    ) {
        while let Some(((deadline, _), key)) = self.deadlines.first_key_value()
            && *deadline <= now
        {
            let key = *key;
            self.give_up(&key, DiscardReason::FragmentIncomplete, counters, sink);
        }
    }

    pub(super) fn give_up_all(&mut self, counters: &mut Counters, sink: &mut dyn FnMut(Item<'_>)) {
        while let Some((_, key)) = self.deadlines.first_key_value() {
            let key = *key;
            self.give_up(&key, DiscardReason::FragmentIncomplete, counters, sink);
        }
    }

    /// Datagrams, senders, bytes.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        assert_eq!(self.datagrams.len(), self.deadlines.len());
        (self.datagrams.len(), self.senders.len(), self.bytes)
    }

    fn begin(&mut self, now: Timestamp, key: Key) {
        self.serial += 1;
        let deadline = (now + self.timeout, self.serial);
        self.deadlines.insert(deadline, key);
        self.datagrams.insert(
            key,
            Datagram {
                deadline,
                pieces: BTreeMap::new(),
                received: 0,
                originated: true,
                total: None,
                cost: 0,
                discarded: false,
            },
        );
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.deadlines.remove(&datagram.deadline);
        self.release(key.src, datagram.cost);
        Some(datagram)
    }

    fn release(&mut self, sender: IpAddr, bytes: usize) {
        self.bytes -= bytes;
        if let Some(held) = self.senders.get_mut(&sender) {
            *held -= bytes;
            if *held == 0 {
                self.senders.remove(&sender);
            }
        }
    }

    fn give_up(
        &mut self,
        key: &Key,
        reason: DiscardReason,
        counters: &mut Counters,
        sink: &mut dyn FnMut(Item<'_>),
    ) {
        let Some(datagram) = self.remove(key) else { return };
        let pieces = datagram.pieces.len() as u64;
        counters.fragments_waiting -= pieces;
        counters.unused.add(reason, pieces);
        if key.protocol == UDP && datagram.may_be_sip() {
            counters.datagrams_lost += 1;
            sink(Item::Loss(Loss::MissingFragment { src: key.src, dst: key.dst }));
        }
    }
}

/// What adding a fragment to its datagram came to.
enum Added {
    Waiting,
    Complete,
    Repeated,
    /// The datagram is discarded, with as many pieces as had come before.
    Discarded(u64),
}

impl Datagram {
    fn add(&mut self, fragment: &Fragment<'_>, originated: bool) -> Added {
        let (start, end) = (fragment.offset, fragment.offset + fragment.bytes.len());
        work::count(fragment.bytes.len());
        let before = self.pieces.range(..=start).next_back().map(|(at, piece)| at + piece.len());
        if before.is_some_and(|before| end <= before) {
            return Added::Repeated;
        }
        let reach = self.pieces.last_key_value().map_or(0, |(at, piece)| at + piece.len());
        let total = if fragment.more { self.total } else { Some(end) };
        let overlaps = before.is_some_and(|before| start < before)
            || self.pieces.range(start..end).next().is_some()
            || total.is_some_and(|total| total < end.max(reach))
            || (self.total.is_some() && self.total != total);
        if self.discarded || overlaps {
            let pieces = std::mem::take(&mut self.pieces).len() as u64;
            work::count(1);
            self.discarded = true;
            return Added::Discarded(pieces);
        }
        self.pieces.insert(start, fragment.bytes.into());
        self.received += fragment.bytes.len();
        self.originated &= originated;
        self.total = total;
        // Nothing overlaps, so that many bytes leave no hole.
        if self.total == Some(self.received) { Added::Complete } else { Added::Waiting }
    }

    /// Whether what is lost with this UDP datagram may be a SIP message. Its first fragment tells. Without
    /// it nothing does; but media is sent in packets too small to be fragmented, so it rather is.
    fn may_be_sip(&self) -> bool {
        match self.pieces.get(&0) {
            Some(first) => first.get(8..).is_some_and(crate::sip::start_line::begins_like_sip),
            None => !self.discarded,
        }
    }
}

const UDP: u8 = 17;
