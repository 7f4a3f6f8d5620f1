//! The table of TCP connections.
//!
//! A connection enters it with its SYN, or with a segment that holds a SIP start line, and leaves it as
//! soon as its first bytes show that it is not SIP: no state is kept for web traffic, TLS or media.
//!
//! The table is bounded in bytes. What goes first: connections that are over; then those without SIP in them,
//! or those in which only one side said any (a flood is of one of these kinds), whichever take up more; then
//! the others; among equals the one that has been quiet longest. And once half of the room is taken, no host
//! may have more than its share with connections that it opened and in which the other side said nothing.

use std::collections::HashMap;
use std::collections::hash_map;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::eviction::{Entry, Ledger};
use super::half::{Context, Foreign, Half};
use super::{Config, Counters, Item, Loss};
use crate::discard::DiscardReason;
use crate::sip::start_line::find_start_line;
use crate::timestamp::Timestamp;

/// A TCP segment with its addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) time: Timestamp,
    pub(super) frame: u64,
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) payload: &'a [u8],
    /// Bytes behind `payload` that the capture cut off.
    pub(super) cut: u32,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Connections {
    table: HashMap<Key, Box<Connection>>,
    ledger: Ledger,
}

/// The two ends, the lesser first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([SocketAddr; 2]);

#[derive(Debug)]
struct Connection {
    /// What each end of the key sends.
    halves: [Half; 2],
    /// Who sent its first segment.
    opener: IpAddr,
    entry: Entry,
    last: Timestamp,
    closed: bool,
}

/// What a connection is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// It is over.
    #[default]
    Over,
    /// There was no SIP in it yet.
    Unproven,
    /// One side has sent SIP.
    OneSided,
    /// Both have.
    TwoSided,
}

impl Class {
    pub(super) const COUNT: usize = 4;
}

/// What a connection takes up beside its buffers, about: measured in `tests/budget.rs`.
const CONNECTION: usize = 1_408;

/// How long a closed connection is remembered, so that what is sent again is not taken for new.
const LINGER: Duration = Duration::from_secs(5);

/// What a stage works with: its limits, its counts, and who takes what it finds.
pub(super) struct Surroundings<'a, 's> {
    pub(super) config: &'a Config,
    pub(super) counters: &'a mut Counters,
    pub(super) sink: &'s mut dyn FnMut(Item<'_>),
}

impl Connections {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether an end of the connection between them has sent a part of a SIP message, and the rest is to come.
    pub(super) fn is_mid_message(&self, src: SocketAddr, dst: SocketAddr) -> bool {
        let connection = self.table.get(&Key::of(src, dst).0);
        connection.is_some_and(|connection| connection.halves.iter().any(Half::is_mid_message))
    }

    pub(super) fn push(&mut self, segment: &Segment<'_>, around: &mut Surroundings<'_, '_>) {
        let (key, side) = Key::of(segment.src, segment.dst);
        let mut segment = *segment;
        let connection = match self.table.entry(key) {
            hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hash_map::Entry::Vacant(entry) => match admit(&mut segment) {
                Ok(()) => entry.insert(Box::new(Connection::opened_by(segment.src.ip()))),
                Err(reason) => return around.counters.unused.add(reason, 1),
            },
        };
        connection.last = segment.time;
        match connection.segment(&key, side, &segment, around) {
            Ok(()) => {
                connection.settle(&mut self.ledger, &key, segment.time, around.config);
                self.make_room(around);
            }
            Err(Foreign) => self.remove(&key, DiscardReason::NotSip, around.counters),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.ledger.next().map(|(time, _)| time)
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp, around: &mut Surroundings<'_, '_>) {
        while let Some((due, key)) = self.ledger.next()
            && due <= now
        {
            let Some(connection) = self.table.get_mut(&key) else { break };
            let idle = connection.last + connection.patience(around.config) <= now;
            if connection.time_out(&key, now, idle, around).is_err() || idle {
                self.remove(&key, DiscardReason::NotSip, around.counters);
            } else {
                connection.settle(&mut self.ledger, &key, now, around.config);
            }
        }
    }

    pub(super) fn finish(&mut self, now: Timestamp, around: &mut Surroundings<'_, '_>) {
        while let Some(key) = self.ledger.last() {
            if let Some(connection) = self.table.get_mut(&key) {
                // An error says that it never was SIP: nothing to give, then.
                let _ = connection.time_out(&key, now, true, around);
            }
            self.remove(&key, DiscardReason::NotSip, around.counters);
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.ledger.bytes()
    }

    /// Bytes that the framers of all connections have looked at or copied.
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> usize {
        self.table.values().flat_map(|c| &c.halves).map(|half| half.framer.looked_at).sum()
    }

    fn make_room(&mut self, around: &mut Surroundings<'_, '_>) {
        while let Some((key, for_share)) = self.ledger.crowded(around.config.max_bytes) {
            around.counters.connections_evicted += 1;
            around.counters.connections_evicted_for_share += u64::from(for_share);
            let halves = self.table.get(&key).map_or(&[][..], |connection| &connection.halves);
            for (side, half) in halves.iter().enumerate() {
                // An unfinished message is evidence lost.
                if half.framer.proven() && half.cost() > 0 {
                    (around.sink)(Item::Loss(key.lose(side)));
                }
            }
            self.remove(&key, DiscardReason::TcpEvicted, around.counters);
        }
    }

    /// Takes a connection out, with what it holds.
    fn remove(&mut self, key: &Key, reason: DiscardReason, counters: &mut Counters) {
        let Some(mut connection) = self.table.remove(key) else { return };
        connection.forget(reason, counters);
        self.ledger.leave(*key, connection.opener, connection.entry);
    }
}

/// Whether a segment of an unknown connection is worth one. If it is in the midst of a stream, all before
/// the first start line is taken off.
fn admit(segment: &mut Segment<'_>) -> Result<(), DiscardReason> {
    if segment.syn {
        return Ok(());
    }
    if segment.payload.is_empty() {
        return Err(DiscardReason::NoPayload);
    }
    let start = find_start_line(segment.payload).ok_or(DiscardReason::NotSip)?;
    segment.payload = &segment.payload[start..];
    segment.seq = segment.seq.wrapping_add(u32::try_from(start).unwrap_or(0));
    Ok(())
}

impl Connection {
    fn opened_by(opener: IpAddr) -> Self {
        let (halves, entry) = (Default::default(), Entry::default());
        Self { halves, opener, entry, last: Timestamp::default(), closed: false }
    }

    /// Sees to the ledger after it has changed.
    fn settle(&mut self, ledger: &mut Ledger, key: &Key, now: Timestamp, config: &Config) {
        let cost = CONNECTION + self.halves.iter().map(Half::cost).sum::<usize>();
        let (class, next) = (self.class(), self.next_due(config));
        let was = self.entry;
        // A timer that has moved away is left where it is: when it fires, it is set anew.
        let moves = class != was.class || next < was.due || was.due <= now;
        self.entry = Entry { class, cost, due: if moves { next } else { was.due } };
        ledger.change(*key, self.opener, was, self.entry);
    }

    fn segment(
        &mut self,
        key: &Key,
        side: usize,
        segment: &Segment<'_>,
        around: &mut Surroundings<'_, '_>,
    ) -> Result<(), Foreign> {
        if segment.rst && !self.is_reset(side, segment) {
            let empty = segment.payload.is_empty();
            around
                .counters
                .unused
                .add(if empty { DiscardReason::NoPayload } else { DiscardReason::TcpDistance }, 1);
            return Ok(());
        }
        if segment.syn && !self.halves[side].opened_by(segment.seq) {
            // A SYN without ACK begins a new connection between the same ports.
            if segment.ack.is_none() {
                self.restart(key, 1 - side, segment.time, around);
                self.closed = false;
            }
            self.restart(key, side, segment.time, around);
            self.halves[side].open(segment.seq);
        } else if !self.halves[side].started() && !segment.payload.is_empty() {
            self.halves[side].join(segment.seq);
        }
        let [own, other] = [side, 1 - side].map(|side| &self.halves[side]);
        if let Some(ack) = segment.ack
            && other.reaches(ack)
            && (!own.started() || own.reaches(segment.seq))
        {
            self.halves[1 - side].acknowledged(segment.time, ack);
        }
        if self.halves[side].started() {
            self.with(key, side, around, |half, cx| half.segment(segment, cx))?;
        } else {
            around.counters.unused.add(DiscardReason::NoPayload, 1);
        }
        if segment.rst {
            self.finish(key, segment.time, around)?;
            self.closed = true;
        } else if self.halves.iter().all(Half::ended) {
            self.closed = true;
        }
        if self.halves[side].ended() {
            self.finish_side(key, side, segment.time, around)?;
        }
        Ok(())
    }

    /// Whether a RST is of one of the two ends, going by its numbers (RFC 5961 §3.2, RFC 9293 §3.10.7.3).
    fn is_reset(&self, side: usize, segment: &Segment<'_>) -> bool {
        let (own, other) = (&self.halves[side], &self.halves[1 - side]);
        if own.started() {
            return own.reaches(segment.seq);
        }
        segment.ack.is_none_or(|ack| !other.started() || other.reaches(ack))
    }

    fn time_out(
        &mut self,
        key: &Key,
        now: Timestamp,
        idle: bool,
        around: &mut Surroundings<'_, '_>,
    ) -> Result<(), Foreign> {
        if idle {
            return self.finish(key, now, around);
        }
        for side in 0..2 {
            if self.halves[side].deadline.is_some_and(|deadline| deadline <= now) {
                self.with(key, side, around, |half, cx| half.gap(now, cx))?;
            }
        }
        Ok(())
    }

    fn finish(
        &mut self,
        key: &Key,
        now: Timestamp,
        around: &mut Surroundings<'_, '_>,
    ) -> Result<(), Foreign> {
        self.finish_side(key, 0, now, around)?;
        self.finish_side(key, 1, now, around)
    }

    fn finish_side(
        &mut self,
        key: &Key,
        side: usize,
        now: Timestamp,
        around: &mut Surroundings<'_, '_>,
    ) -> Result<(), Foreign> {
        self.with(key, side, around, |half, cx| half.finish(now, cx))
    }

    /// Ends what one side was sending, for another stream to begin.
    fn restart(&mut self, key: &Key, side: usize, now: Timestamp, around: &mut Surroundings<'_, '_>) {
        // An error says that it never was SIP.
        let _ = self.finish_side(key, side, now, around);
        self.halves[side].forget(DiscardReason::NotSip, around.counters);
        self.halves[side] = Half::default();
    }

    /// Lets one half work, with what it finds given on under the right addresses.
    fn with<R>(
        &mut self,
        key: &Key,
        side: usize,
        around: &mut Surroundings<'_, '_>,
        work: impl FnOnce(&mut Half, &mut Context<'_, '_>) -> R,
    ) -> R {
        let mut cx = Context {
            config: around.config,
            counters: around.counters,
            proven: self.proven(),
            ends: (key.0[side], key.0[1 - side]),
            sink: around.sink,
        };
        work(&mut self.halves[side], &mut cx)
    }

    /// Throws away what it holds.
    fn forget(&mut self, reason: DiscardReason, counters: &mut Counters) {
        for half in &mut self.halves {
            half.forget(reason, counters);
        }
    }

    fn proven(&self) -> bool {
        self.halves.iter().any(|half| half.framer.proven())
    }

    fn class(&self) -> Class {
        match self.halves.iter().filter(|half| half.framer.proven()).count() {
            _ if self.closed => Class::Over,
            0 => Class::Unproven,
            1 => Class::OneSided,
            _ => Class::TwoSided,
        }
    }

    fn patience(&self, config: &Config) -> Duration {
        if self.closed {
            LINGER
        } else if self.proven() {
            config.idle_timeout
        } else {
            config.handshake_timeout
        }
    }

    fn next_due(&self, config: &Config) -> Timestamp {
        let idle = self.last + self.patience(config);
        self.halves.iter().filter_map(|half| half.deadline).fold(idle, Timestamp::min)
    }
}

impl Key {
    /// No other comes before it.
    pub(super) const LEAST: Self = {
        let least = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        Self([least; 2])
    };

    /// The key of a segment, and which end sent it.
    fn of(src: SocketAddr, dst: SocketAddr) -> (Self, usize) {
        if src <= dst { (Self([src, dst]), 0) } else { (Self([dst, src]), 1) }
    }

    fn lose(&self, side: usize) -> Loss {
        Loss::TcpGap { src: self.0[side].ip(), dst: self.0[1 - side].ip() }
    }
}
