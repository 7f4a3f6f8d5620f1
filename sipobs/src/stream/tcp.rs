//! The table of TCP connections.
//!
//! A connection enters it with its SYN, or with a segment that holds a SIP start line, and leaves it as
//! soon as its first bytes show that it is not SIP: no state is kept for web traffic, TLS or media.
//!
//! The table is bounded in bytes by the policy of [`eviction`](crate::eviction): tentative are connections that are
//! over, those without SIP in them, and those in which only one side said any, which all count for the share of the
//! host that opened them; firm, and nobody's share, are those in which both did. Among equals the one goes first that
//! has been quiet longest.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::half::{Context, Foreign, Half};
use super::tls::Session;
use super::websocket::WebSocket;
use super::{Config, Counters, Item, Loss, Wrapper};
use crate::discard::DiscardReason;
use crate::eviction::{Entry, Ledger, Reason};
use crate::sip::start_line::find_start_line;
use crate::slab::{Slab, Slot};
use crate::timestamp::Timestamp;

/// A TCP segment with its addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) time: Timestamp,
    pub(super) frame: u64,
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) originated: bool,
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
#[derive(Debug)]
pub(super) struct Connections {
    table: Slab<Box<Connection>>,
    by_ends: HashMap<Key, Slot>,
    ledger: Ledger<IpAddr>,
    /// When to look at each next.
    due: BTreeSet<(Timestamp, Key)>,
}

/// The two ends, the lesser first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([SocketAddr; 2]);

#[derive(Debug)]
struct Connection {
    key: Key,
    /// What each end of the key sends.
    halves: [Half; 2],
    /// Who sent its first segment.
    opener: IpAddr,
    /// Its entry in the ledger, and as what.
    entry: Option<(Slot, Class)>,
    /// When it is looked at next.
    due: Timestamp,
    last: Timestamp,
    closed: bool,
    /// The TLS session in it, where secrets are known.
    tls: Option<Box<Session>>,
    /// The WebSocket in it, or in that.
    web: Option<Box<WebSocket>>,
}

/// What a connection is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// It is over.
    Over,
    /// There was no SIP in it yet.
    Unproven,
    /// One side has sent SIP.
    OneSided,
    /// Both have.
    TwoSided,
}

/// What a connection takes up beside its buffers, at most: `tests/budget.rs` holds it to that.
const CONNECTION: usize = 1_456;

/// How long a closed connection is remembered, so that what is sent again is not taken for new.
const LINGER: Duration = Duration::from_secs(5);

/// How long a TLS or WebSocket connection may be quiet: what is said in it later can't be read without what was said before.
const WRAPPED_PATIENCE: Duration = Duration::from_secs(86_400);

/// What a stage works with: its limits, its counts, and who takes what it finds.
pub(super) struct Surroundings<'a, 's> {
    pub(super) config: &'a Config,
    pub(super) counters: &'a mut Counters,
    pub(super) sink: &'s mut dyn FnMut(Item<'_>),
}

impl Connections {
    /// None yet, of which all may take up so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        let two_sided = Class::TwoSided as u8;
        Self {
            table: Slab::default(),
            by_ends: HashMap::new(),
            ledger: Ledger::new(max_bytes, two_sided, two_sided),
            due: BTreeSet::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether an end of the connection between them has sent a part of a SIP message, and the rest is to come.
    pub(super) fn is_mid_message(&self, src: SocketAddr, dst: SocketAddr) -> bool {
        let slot = self.by_ends.get(&Key::of(src, dst).0);
        let connection = slot.and_then(|slot| self.table.get(*slot));
        connection.is_some_and(|connection| connection.halves.iter().any(Half::is_mid_message))
    }

    /// What the connection between them is wrapped in, where it is.
    pub(super) fn wrapper(&self, src: SocketAddr, dst: SocketAddr) -> Option<Wrapper> {
        let connection = self.table.get(*self.by_ends.get(&Key::of(src, dst).0)?)?;
        let tls = connection.tls.as_ref().filter(|session| session.goes_on());
        let web = connection.web.as_ref().filter(|web| web.goes_on());
        let is_wrapped = tls.is_some() || web.is_some();
        is_wrapped.then(|| Wrapper { session: tls.and_then(|session| session.random()) })
    }

    pub(super) fn push(&mut self, segment: &Segment<'_>, around: &mut Surroundings<'_, '_>) {
        let (key, side) = Key::of(segment.src, segment.dst);
        let mut segment = *segment;
        let slot = match self.by_ends.get(&key) {
            Some(slot) => *slot,
            None => match admit(&mut segment, around.config) {
                Ok(()) => self.open(key, segment.src.ip()),
                Err(reason) => return around.counters.unused.add(reason, 1),
            },
        };
        let Some(connection) = self.table.get_mut(slot) else { return };
        connection.last = segment.time;
        match connection.segment(&key, side, &segment, around) {
            Ok(()) => {
                self.settle(slot, segment.time, around.config);
                self.touch(slot);
                self.make_room(around);
            }
            Err(Foreign) => self.remove(slot, DiscardReason::NotSip, around.counters),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.due.first().map(|(time, _)| *time)
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp, around: &mut Surroundings<'_, '_>) {
        while self.poll_timeout().is_some_and(|due| due <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            let Some(slot) = self.by_ends.get(&key).copied() else { continue };
            let Some(connection) = self.table.get_mut(slot) else { continue };
            let idle = connection.last + connection.patience(around.config) <= now;
            if connection.time_out(&key, now, idle, around).is_err() || idle {
                self.remove(slot, DiscardReason::NotSip, around.counters);
            } else {
                self.settle(slot, now, around.config);
            }
        }
    }

    pub(super) fn finish(&mut self, now: Timestamp, around: &mut Surroundings<'_, '_>) {
        while let Some((_, key)) = self.due.pop_first() {
            let Some(slot) = self.by_ends.get(&key).copied() else { continue };
            if let Some(connection) = self.table.get_mut(slot) {
                // An error says that it never was SIP: nothing to give, then.
                let _ = connection.time_out(&key, now, true, around);
            }
            self.remove(slot, DiscardReason::NotSip, around.counters);
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.ledger.bytes()
    }

    /// Bytes that the framers of all connections have looked at or copied.
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> usize {
        self.table.iter().flat_map(|c| &c.halves).map(|half| half.framer.looked_at).sum()
    }

    fn open(&mut self, key: Key, opener: IpAddr) -> Slot {
        let (halves, never) = (Default::default(), Timestamp::default());
        let connection = Connection {
            key,
            halves,
            opener,
            entry: None,
            due: never,
            last: never,
            closed: false,
            tls: None,
            web: None,
        };
        let slot = self.table.insert(Box::new(connection));
        self.by_ends.insert(key, slot);
        slot
    }

    /// Sees to ledger and timer of a connection that has changed.
    fn settle(&mut self, slot: Slot, now: Timestamp, config: &Config) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let class = connection.class();
        let entry = Entry {
            class: class as u8,
            owner: (class != Class::TwoSided).then_some(connection.opener),
            bytes: u32::try_from(connection.cost()).unwrap_or(u32::MAX),
        };
        let next = connection.next_due(config);
        // A timer that has moved away is left where it is: when it fires, it is set anew.
        let moves = match connection.entry {
            Some((_, was)) => class != was || next < connection.due || connection.due <= now,
            None => true,
        };
        let node = match connection.entry {
            Some((node, _)) => {
                self.ledger.change(node, entry);
                node
            }
            None => self.ledger.enter(slot, entry),
        };
        connection.entry = Some((node, class));
        if moves {
            self.due.remove(&(connection.due, connection.key));
            self.due.insert((next, connection.key));
            connection.due = next;
        }
    }

    /// A segment has come of it.
    fn touch(&mut self, slot: Slot) {
        if let Some((node, _)) = self.table.get(slot).and_then(|connection| connection.entry) {
            self.ledger.touch(node);
        }
    }

    fn make_room(&mut self, around: &mut Surroundings<'_, '_>) {
        while let Some((reason, slot)) = self.ledger.crowded(0) {
            around.counters.connections_evicted += 1;
            around.counters.connections_evicted_for_share += u64::from(reason == Reason::Share);
            if let Some(connection) = self.table.get(slot) {
                // What is said in it from here on can't be read.
                let goes_on = !connection.closed && connection.wrapped();
                for (side, half) in connection.halves.iter().enumerate() {
                    // An unfinished message is evidence lost.
                    if goes_on || half.framer.proven() && half.cost() > 0 {
                        (around.sink)(Item::Loss(connection.key.gap(side)));
                    }
                }
            }
            self.remove(slot, DiscardReason::TcpEvicted, around.counters);
        }
    }

    /// Takes a connection out, with what it holds.
    fn remove(&mut self, slot: Slot, reason: DiscardReason, counters: &mut Counters) {
        let Some(mut connection) = self.table.remove(slot) else { return };
        connection.forget(reason, counters);
        self.by_ends.remove(&connection.key);
        self.due.remove(&(connection.due, connection.key));
        if let Some((node, _)) = connection.entry {
            self.ledger.leave(node);
        }
    }
}

/// Whether a segment of an unknown connection is worth one. If it is in the midst of a stream, all before
/// the first start line is taken off.
fn admit(segment: &mut Segment<'_>, config: &Config) -> Result<(), DiscardReason> {
    let may_wrap =
        (config.opens_tls() && Session::begins(segment.payload)) || WebSocket::begins(segment.payload);
    if segment.syn || may_wrap {
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
    /// Bytes that it takes up.
    fn cost(&self) -> usize {
        let tls = self.tls.as_ref().map_or(0, |session| session.cost());
        let web = self.web.as_ref().map_or(0, |web| web.cost());
        CONNECTION + tls + web + self.halves.iter().map(Half::cost).sum::<usize>()
    }

    /// Whether what comes next in it is read as something within TLS or WebSocket.
    fn wrapped(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.goes_on())
            || self.web.as_ref().is_some_and(|web| web.goes_on())
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
                (self.tls, self.web) = (None, None);
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
        act: impl FnOnce(&mut Half, &mut Context<'_, '_>) -> R,
    ) -> R {
        let mut cx = Context {
            config: around.config,
            counters: around.counters,
            proven: self.proven(),
            side,
            tls: &mut self.tls,
            web: &mut self.web,
            ends: (key.0[side], key.0[1 - side]),
            sink: around.sink,
        };
        act(&mut self.halves[side], &mut cx)
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
        } else if self.tls.as_ref().is_some_and(|session| session.is_opened())
            || self.web.as_ref().is_some_and(|web| web.is_up())
        {
            WRAPPED_PATIENCE
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
    /// The key of a segment, and which end sent it.
    fn of(src: SocketAddr, dst: SocketAddr) -> (Self, usize) {
        if src <= dst { (Self([src, dst]), 0) } else { (Self([dst, src]), 1) }
    }

    fn gap(&self, side: usize) -> Loss {
        Loss::TcpGap { src: self.0[side].ip(), dst: self.0[1 - side].ip() }
    }
}
