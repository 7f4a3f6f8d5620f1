//! One direction of a TCP connection: segments → bytes in order (RFC 9293 §3.4, §3.10.7.4).
//!
//! Of bytes that come twice, the first win. Bytes that come early are held until those before them come,
//! or until it is clear that those were not captured: their receiver acknowledged them, the wait has
//! lasted too long, or too much is held.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::framer::{Framer, Sink};
use super::tcp::Segment;
use super::tls::{Session, Work};
use super::websocket::WebSocket;
use super::{Config, Counters, Item, Loss, TransportKind, WireMessage};
use crate::discard::DiscardReason;
use crate::sip::start_line::{begins_like_sip, find_start_line};
use crate::timestamp::Timestamp;
use crate::work;

/// A segment further from the current byte than this belongs to another connection: no window of a SIP
/// peer is as large.
const MAX_DISTANCE: u64 = 16 << 20;

/// A RST must have the number of the next byte exactly, and an acknowledgement be of bytes that were sent (RFC 5961
/// §3.2, §5.2), or anyone could end any connection. So far from what was captured may be what was sent.
const REACH: u64 = 65_535;

/// How long after an acknowledgement the bytes it acknowledges may still turn up, in a capture that has
/// its packets out of order.
const LATE: Duration = Duration::from_millis(50);

/// What a held piece takes up beside its bytes, about.
const OVERHEAD: usize = 128;

/// Offset of the first byte: room below it for what comes from before a capture's start.
const ORIGIN: u64 = 1 << 40;

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) framer: Framer,
    /// The sequence number of its SYN, if that was seen.
    syn: Option<u32>,
    /// The next byte in order: its offset in the stream and its sequence number. `None` before the first.
    next: Option<Next>,
    /// By offset; no two overlap, none begins at or before `next`.
    held: BTreeMap<u64, Piece>,
    held_cost: usize,
    /// Up to where the other end has acknowledged.
    acked: u64,
    /// Where the stream ends, once its FIN has come.
    end: Option<u64>,
    /// When to give up on the bytes before the held ones.
    pub(super) deadline: Option<Timestamp>,
    /// The frame that the last bytes came in.
    last: Bearer,
    /// All that waits in the framer did ([`WireMessage::originated`]), and the last bytes.
    originated: bool,
    /// Segments that wait for the rest of their TLS record or WebSocket frame.
    waiting: u64,
}

/// The frame that bytes came in.
#[derive(Clone, Copy, Debug, Default)]
struct Bearer {
    time: Timestamp,
    number: u64,
    originated: bool,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    offset: u64,
    seq: u32,
}

#[derive(Debug)]
struct Piece {
    end: u64,
    /// Empty if the capture cut these bytes off.
    bytes: Box<[u8]>,
    frame: Bearer,
    /// Whether the segment is counted with this piece.
    counts: bool,
}

/// What it takes to deal with one packet or timer.
pub(super) struct Context<'a, 's> {
    pub(super) config: &'a Config,
    pub(super) counters: &'a mut Counters,
    /// The connection is known to be SIP.
    pub(super) proven: bool,
    /// Which end of its key sends these bytes.
    pub(super) side: usize,
    /// The TLS session in it.
    pub(super) tls: &'a mut Option<Box<Session>>,
    /// The WebSocket in it.
    pub(super) web: &'a mut Option<Box<WebSocket>>,
    /// Who sends these bytes, and to whom.
    pub(super) ends: (SocketAddr, SocketAddr),
    pub(super) sink: &'s mut dyn FnMut(Item<'_>),
}

/// The stream never was SIP.
pub(super) struct Foreign;

impl Context<'_, '_> {
    fn transport(&self) -> TransportKind {
        match (self.tls.is_some(), self.web.is_some()) {
            (false, false) => TransportKind::Tcp,
            (true, false) => TransportKind::Tls,
            (false, true) => TransportKind::Ws,
            (true, true) => TransportKind::Wss,
        }
    }

    /// Reading goes on, but something is missing before it.
    fn note_loss(&mut self) {
        let (src, dst) = (self.ends.0.ip(), self.ends.1.ip());
        (self.sink)(Item::Loss(Loss::TcpGap { src, dst }));
    }
}

impl Default for Half {
    fn default() -> Self {
        Self {
            framer: Framer::midway(),
            syn: None,
            next: None,
            held: BTreeMap::new(),
            held_cost: 0,
            acked: 0,
            end: None,
            deadline: None,
            last: Bearer::default(),
            originated: false,
            waiting: 0,
        }
    }
}

impl Half {
    /// Whether its next byte is known.
    pub(super) fn started(&self) -> bool {
        self.next.is_some()
    }

    /// Whether a SYN with this number opened it.
    pub(super) fn opened_by(&self, seq: u32) -> bool {
        self.syn == Some(seq)
    }

    /// Whether all up to its FIN has come.
    pub(super) fn ended(&self) -> bool {
        self.next.is_some_and(|next| self.end == Some(next.offset))
    }

    /// Whether the rest of a SIP message is to come.
    pub(super) fn is_mid_message(&self) -> bool {
        self.framer.is_mid_message()
    }

    /// Bytes it takes up.
    pub(super) fn cost(&self) -> usize {
        self.framer.cost() + self.held_cost
    }

    /// Begins with its SYN, of sequence number `seq`.
    pub(super) fn open(&mut self, seq: u32) {
        self.framer = Framer::at_start();
        self.syn = Some(seq);
        self.next = Some(Next { offset: ORIGIN, seq: seq.wrapping_add(1) });
    }

    /// Begins in the middle, with the byte of sequence number `seq`.
    pub(super) fn join(&mut self, seq: u32) {
        self.next = Some(Next { offset: ORIGIN, seq });
    }

    /// The offset of a sequence number; `None` if it is too far off.
    fn offset(&self, seq: u32) -> Option<u64> {
        let next = self.next?;
        let distance = i64::from(seq.wrapping_sub(next.seq).cast_signed());
        let near = distance.unsigned_abs() <= MAX_DISTANCE;
        near.then(|| next.offset.saturating_add_signed(distance))
    }

    /// Whether `seq` may be the number of its sender's next byte, by what was captured.
    pub(super) fn reaches(&self, seq: u32) -> bool {
        let offset = self.offset(seq).zip(self.next);
        offset.is_some_and(|(offset, next)| offset.abs_diff(next.offset) <= REACH)
    }

    /// Takes a segment. It must have started.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, cx: &mut Context<'_, '_>) -> Result<(), Foreign> {
        let seq = segment.seq.wrapping_add(u32::from(segment.syn));
        if self.offset(seq).is_none() && begins_like_sip(segment.payload) {
            // A new connection between the same ports, of which the SYN was not captured. An error says that
            // the one before it never was SIP.
            let _ = self.finish(segment.time, cx);
            self.forget(DiscardReason::NotSip, cx.counters);
            *self = Self::default();
            (*cx.tls, *cx.web) = (None, None);
            self.join(seq);
        }
        let (Some(start), Some(next)) = (self.offset(seq), self.next) else {
            let reason = if segment.payload.is_empty() {
                DiscardReason::NoPayload
            } else {
                DiscardReason::TcpDistance
            };
            cx.counters.unused.add(reason, 1);
            return Ok(());
        };
        let cut = start + segment.payload.len() as u64;
        let end = cut + u64::from(segment.cut);
        if segment.fin {
            self.end = Some(end);
        }
        if start == end {
            cx.counters.unused.add(DiscardReason::NoPayload, 1);
            return Ok(());
        }
        if end <= next.offset {
            cx.counters.unused.add(DiscardReason::TcpRepeated, 1);
            return Ok(());
        }
        let frame = Bearer { time: segment.time, number: segment.frame, originated: segment.originated };
        // Almost always: just what was waited for. It goes on without being copied.
        if self.held.is_empty() && start <= next.offset && cut == end {
            let front = usize::try_from(next.offset - start).unwrap_or(usize::MAX);
            self.take(end, segment.payload.get(front..).unwrap_or_default(), frame, true, cx)?;
            if self.acked <= end {
                self.deadline = None;
            }
            return Ok(());
        }
        let bytes = self.hold(start.max(next.offset), cut, start, segment.payload, frame);
        let missing = self.hold(cut.max(next.offset), end, cut, &[], frame);
        let Some(last) = bytes.or(missing) else {
            cx.counters.unused.add(DiscardReason::TcpRepeated, 1);
            return Ok(());
        };
        if let Some(piece) = self.held.get_mut(&last) {
            piece.counts = true;
            cx.counters.held += 1;
        }
        self.deadline.get_or_insert(segment.time + cx.config.gap_timeout);
        self.drain(segment.time, cx)?;
        while self.held_cost > cx.config.max_stream_bytes {
            self.gap(segment.time, cx)?;
        }
        Ok(())
    }

    /// The other end has acknowledged all before `seq`: what is missing of it will not be sent again.
    pub(super) fn acknowledged(&mut self, now: Timestamp, seq: u32) {
        let (Some(acked), Some(next)) = (self.offset(seq), self.next) else { return };
        // One more than came may be the FIN's own number, whose packet was not captured.
        if acked > next.offset + 1 || (acked > next.offset && !self.held.is_empty()) {
            self.acked = self.acked.max(acked);
            let soon = now + LATE;
            self.deadline = Some(self.deadline.map_or(soon, |deadline| deadline.min(soon)));
        }
    }

    /// Gives up on the bytes that are waited for, up to those that are there or are known to exist.
    pub(super) fn gap(&mut self, now: Timestamp, cx: &mut Context<'_, '_>) -> Result<(), Foreign> {
        let Some(next) = self.next else { return Ok(()) };
        self.deadline = None;
        let end = match self.held.first_key_value() {
            Some((start, _)) => *start,
            None => self.acked.min(self.end.unwrap_or(u64::MAX)),
        };
        if end <= next.offset {
            return Ok(());
        }
        self.missing(end, cx)?;
        self.drain(now, cx)
    }

    /// No more will come: gives what is left.
    pub(super) fn finish(&mut self, now: Timestamp, cx: &mut Context<'_, '_>) -> Result<(), Foreign> {
        while !self.held.is_empty() {
            self.gap(now, cx)?;
        }
        self.gap(now, cx)?;
        let reason = if self.framer.proven() { DiscardReason::TcpUnfinished } else { DiscardReason::NotSip };
        self.drop_waiting(reason, cx.counters);
        if let Some(web) = cx.web {
            cx.counters.incomplete += u64::from(web.end(cx.side) && self.framer.proven());
        }
        let (ends, last, transport, end) = (cx.ends, self.bearer(), cx.transport(), self.place(cx));
        let sink = &mut *cx.sink;
        self.framer.finish(cx.counters, &mut |bytes, cut, behind| {
            sink(message(ends, last, transport, place_of(end, bytes, behind), bytes, cut));
        });
        Ok(())
    }

    /// Throws away what waits, and counts the segments.
    pub(super) fn forget(&mut self, reason: DiscardReason, counters: &mut Counters) {
        self.held_cost = 0;
        let held = std::mem::take(&mut self.held);
        counters.drop_held(held.into_values().map(|piece| u64::from(piece.counts)).sum(), reason);
        self.framer.forget(reason, counters);
        self.drop_waiting(reason, counters);
    }

    fn drop_waiting(&mut self, reason: DiscardReason, counters: &mut Counters) {
        let waiting = std::mem::take(&mut self.waiting);
        counters.unfinished -= waiting;
        counters.unused.add(reason, waiting);
    }

    /// Holds those of the bytes from `start` to `end` that are not held yet; `payload` begins at `origin`,
    /// and is empty if the capture cut them off. Tells where the last piece begins; `None` if there is none.
    fn hold(&mut self, start: u64, end: u64, origin: u64, payload: &[u8], frame: Bearer) -> Option<u64> {
        let mut at = match self.held.range(..=start).next_back() {
            Some((_, piece)) => start.max(piece.end),
            None => start,
        };
        let mut last = None;
        while at < end {
            work::count(1);
            let after = self.held.range(at..end).next().map(|(start, piece)| (*start, piece.end));
            let until = after.map_or(end, |(start, _)| start);
            if at < until {
                let range = usize::try_from(at - origin).ok().zip(usize::try_from(until - origin).ok());
                let bytes = range.and_then(|(from, to)| payload.get(from..to)).unwrap_or_default();
                work::count(bytes.len());
                self.held_cost += bytes.len() + OVERHEAD;
                self.held.insert(at, Piece { end: until, bytes: bytes.into(), frame, counts: false });
                last = Some(at);
            }
            at = after.map_or(end, |(_, end)| end);
        }
        last
    }

    /// Takes the held bytes that have become the next in order.
    fn drain(&mut self, now: Timestamp, cx: &mut Context<'_, '_>) -> Result<(), Foreign> {
        let mut moved = false;
        while let (Some(next), Some(first)) = (self.next, self.held.first_entry())
            && *first.key() <= next.offset
        {
            let piece = first.remove();
            work::count(1);
            self.held_cost -= piece.bytes.len() + OVERHEAD;
            moved = true;
            cx.counters.held -= u64::from(piece.counts);
            if piece.bytes.is_empty() {
                cx.counters.unused.add(DiscardReason::CutShort, u64::from(piece.counts));
                self.missing(piece.end, cx)?;
            } else {
                self.take(piece.end, &piece.bytes, piece.frame, piece.counts, cx)?;
            }
        }
        if moved {
            self.deadline = (!self.held.is_empty()).then(|| now + cx.config.gap_timeout);
        }
        Ok(())
    }

    /// Takes the next bytes in order, up to `end`; the segment is `counted` with them.
    fn take(
        &mut self,
        end: u64,
        bytes: &[u8],
        frame: Bearer,
        counted: bool,
        cx: &mut Context<'_, '_>,
    ) -> Result<(), Foreign> {
        self.advance(end);
        self.last = frame;
        // Of several messages that come with these bytes, those behind the first count as the first does.
        self.originated = frame.originated && (self.originated || self.framer.is_empty());
        if cx.tls.is_none() {
            let may_be = !cx.proven && self.framer.is_empty() && cx.config.opens_tls();
            if !may_be || !Session::begins(bytes) {
                return self.frame(bytes, u64::from(counted), cx);
            }
            *cx.tls = Some(Box::new(Session::new(cx.side, &mut cx.counters.tls)));
        }
        self.open_up(bytes, counted, cx)
    }

    /// Takes the next bytes of a TLS session, and what they say.
    fn open_up(&mut self, bytes: &[u8], counted: bool, cx: &mut Context<'_, '_>) -> Result<(), Foreign> {
        let Some(session) = cx.tls else { return Ok(()) };
        let waited = std::mem::take(&mut self.waiting);
        cx.counters.unfinished -= waited;
        let segments = waited + u64::from(counted);
        let mut said = Vec::new();
        work::count(bytes.len());
        let mut work = Work {
            keys: &cx.config.keys,
            awaits_keys: cx.config.awaits_keys,
            counts: &mut cx.counters.tls,
            said: &mut said,
            missed: false,
        };
        let read = session.push(cx.side, bytes, &mut work);
        let missed = work.missed;
        let is_partial = session.is_partial(cx.side);
        if missed {
            cx.note_loss();
        }
        if !said.is_empty() {
            self.frame(&said, segments, cx)?;
        } else if is_partial {
            self.waiting = segments;
            cx.counters.unfinished += segments;
        } else if read.is_ok() {
            cx.counters.unused.add(DiscardReason::TlsAlone, segments);
        } else if cx.proven {
            cx.counters.unused.add(DiscardReason::TcpUnfinished, segments);
        } else {
            cx.counters.unused.add(DiscardReason::NotSip, segments);
            return Err(Foreign);
        }
        if read.is_err() {
            cx.note_loss();
        }
        Ok(())
    }

    /// Takes the next bytes of a WebSocket, with so many segments.
    fn unframe(&mut self, bytes: &[u8], segments: u64, cx: &mut Context<'_, '_>) -> Result<(), Foreign> {
        let (ends, last, transport) = (cx.ends, self.bearer(), cx.transport());
        let Some(web) = cx.web else { return Ok(()) };
        let waited = std::mem::take(&mut self.waiting);
        cx.counters.unfinished -= waited;
        let segments = waited + segments;
        let (max, counts, sink) = (cx.config.max_message_bytes, &mut cx.counters.websocket, &mut *cx.sink);
        let (came, read) = web.push(cx.side, bytes, max, counts, &mut |bytes| {
            sink(message(ends, last, transport, None, bytes, false));
        });
        let counters = &mut *cx.counters;
        if came.messages > 0 {
            self.framer.prove();
            counters.used += segments;
        } else if came.is_partial {
            self.waiting = segments;
            counters.unfinished += segments;
        } else if read.is_ok() {
            counters.unused.add(DiscardReason::WebSocketAlone, segments);
        } else if cx.proven {
            counters.unused.add(DiscardReason::TcpUnfinished, segments);
        } else {
            counters.unused.add(DiscardReason::NotSip, segments);
            return Err(Foreign);
        }
        if read.is_err() {
            cx.note_loss();
        }
        Ok(())
    }

    /// Takes the next bytes of what is said; so many segments are counted with them.
    fn frame(&mut self, bytes: &[u8], segments: u64, cx: &mut Context<'_, '_>) -> Result<(), Foreign> {
        if cx.web.is_none() && !cx.proven && self.framer.is_empty() && WebSocket::begins(bytes) {
            *cx.web = Some(Box::new(WebSocket::new(cx.side, bytes)));
        }
        if cx.web.is_some() {
            return self.unframe(bytes, segments, cx);
        }
        let (ends, last, transport, end) = (cx.ends, self.bearer(), cx.transport(), self.place(cx));
        let sink = &mut *cx.sink;
        let sink: Sink<'_> = &mut |bytes, cut, behind| {
            sink(message(ends, last, transport, place_of(end, bytes, behind), bytes, cut));
        };
        let max = cx.config.max_message_bytes;
        if self.framer.push(bytes, segments, max, cx.counters, sink) {
            return Ok(());
        }
        // Or it begins with something else, like the PROXY protocol of a load balancer.
        if !cx.proven && find_start_line(bytes).is_none() {
            cx.counters.unused.add(DiscardReason::NotSip, segments);
            return Err(Foreign);
        }
        self.framer.resync(cx.counters);
        self.framer.push(bytes, segments, max, cx.counters, sink);
        Ok(())
    }

    /// The bytes up to `end` will not come.
    fn missing(&mut self, end: u64, cx: &mut Context<'_, '_>) -> Result<(), Foreign> {
        let missing = self.next.map_or(0, |next| end.saturating_sub(next.offset));
        let before = self.place(cx);
        if let Some(session) = cx.tls {
            session.gap(cx.side, missing, &mut cx.counters.tls);
        }
        // How much of what is said is missing, TLS does not tell.
        let unsaid = if cx.tls.is_some() { u64::MAX } else { missing };
        if let Some(web) = cx.web {
            web.gap(cx.side, unsaid, &mut cx.counters.websocket);
        }
        self.drop_waiting(DiscardReason::TcpUnfinished, cx.counters);
        self.advance(end);
        if !cx.proven && !self.framer.proven() {
            let goes_on = cx.tls.as_ref().is_some_and(|session| session.goes_on())
                || cx.web.as_ref().is_some_and(|web| web.goes_on());
            self.framer.resync(cx.counters);
            return if goes_on { Ok(()) } else { Err(Foreign) };
        }
        cx.counters.tcp_gaps += 1;
        cx.counters.tcp_bytes_missing += missing;
        let (ends, last, transport) = (cx.ends, self.bearer(), cx.transport());
        let sink = &mut *cx.sink;
        self.framer.gap(unsaid, cx.counters, &mut |bytes, cut, behind| {
            sink(message(ends, last, transport, place_of(before, bytes, behind), bytes, cut));
        });
        sink(Item::Loss(Loss::TcpGap { src: ends.0.ip(), dst: ends.1.ip() }));
        Ok(())
    }

    /// The frame that completes what waits.
    fn bearer(&self) -> Bearer {
        Bearer { originated: self.originated, ..self.last }
    }

    /// The sequence number of the next byte.
    fn seq(&self) -> u32 {
        self.next.map_or(0, |next| next.seq)
    }

    /// The same, where what is said lies in the segments as it is.
    fn place(&self, cx: &Context<'_, '_>) -> Option<u32> {
        (cx.tls.is_none() && cx.web.is_none()).then(|| self.seq())
    }

    fn advance(&mut self, end: u64) {
        if let Some(next) = &mut self.next {
            let by = u32::try_from((end - next.offset) & u64::from(u32::MAX)).unwrap_or(0);
            *next = Next { offset: end, seq: next.seq.wrapping_add(by) };
        }
    }
}

/// The sequence number of a message that ends so many bytes before the one of another.
fn place_of(end: Option<u32>, bytes: &[u8], behind: usize) -> Option<u32> {
    // Sequence numbers wrap around; a message and what waits behind it are shorter than they go.
    Some(end?.wrapping_sub(u32::try_from(behind + bytes.len()).unwrap_or(0)))
}

fn message(
    (src, dst): (SocketAddr, SocketAddr),
    Bearer { time, number: frame, originated }: Bearer,
    transport: TransportKind,
    seq: Option<u32>,
    bytes: &[u8],
    cut: bool,
) -> Item<'_> {
    let wire = WireMessage { time, frame, src, dst, transport, seq, bytes, cut, originated };
    Item::Message(wire, None)
}
