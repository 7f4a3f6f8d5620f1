//! Which TCP segments a message came in, and which ones else a reader needs to be in step.
//!
//! A reader that misses bytes of a connection takes them for lost. So all its segments are kept from the first one that a
//! call of the selection needs to the last one: also those that carry other calls' messages. Segments before the first are
//! not; but the handshake is, where the first one follows it. What is wrapped in something else, such as TLS, can't be read
//! without all before it: of such a connection everything is kept from its beginning on.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;

use super::Notes;
use crate::packet::Transport;
use crate::packet::locate::Located;
use crate::stream::{Random, WireMessage, Wrapper};

/// Connections that are known at once, at most.
const MOST: usize = 1 << 16;
/// Segments whose bytes are in no message yet, for each direction.
const MOST_WAITING: usize = 4_096;
/// Messages that are remembered for segments that come once more.
const REMEMBERED: usize = 16;

/// Frames that one connection may have between two messages of the calls.
const MOST_BETWEEN: usize = 1 << 22;

/// The same of all connections that are kept from their beginning on.
const MOST_WRAPPED: usize = 1 << 24;
/// TLS handshakes in one connection.
const MOST_SESSIONS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Connections {
    table: HashMap<[SocketAddr; 2], Connection>,
    /// Frames of those that are wrapped.
    wrapped: usize,
}

#[derive(Debug, Default)]
struct Connection {
    /// The number of the SYN that opened it.
    opened: Option<u32>,
    handshake: Vec<u64>,
    /// The first frame with bytes in it.
    first: Option<u64>,
    /// Segments by direction.
    waiting: [VecDeque<Waiting>; 2],
    /// Messages that were written over, by direction.
    written: [VecDeque<(u32, Vec<u8>)>; 2],
    /// Frames since the first that is needed.
    since: Option<Vec<u64>>,
    /// Frames since the first that may be needed, in order.
    recent: VecDeque<u64>,
    /// It is wrapped in something else.
    wrapped: Option<Wrapped>,
}

/// All of a connection that is wrapped.
#[derive(Debug, Default)]
struct Wrapped {
    /// Its frames, but for those that are noted already.
    frames: Vec<u64>,
    /// TLS sessions in it.
    sessions: Vec<Random>,
    /// Not all of it found room.
    overflown: bool,
}

/// Bytes of a segment.
#[derive(Debug)]
struct Waiting {
    seq: u32,
    len: usize,
    parts: Vec<Part>,
    /// Its headers, where IP fragments carry them: frame, place and bytes.
    head: Vec<(u64, usize, Vec<u8>)>,
}

/// A part of a segment that lies in one frame: all of it, unless that is an IP fragment.
#[derive(Debug)]
struct Part {
    frame: u64,
    /// Where it lies in the frame.
    at: usize,
    /// Which bytes of the segment it is.
    bytes: Range<usize>,
}

impl Connections {
    /// Takes note of a segment.
    pub(super) fn segment(&mut self, located: &Located<'_>, notes: &mut Notes) {
        let Transport::Tcp { seq, ack, syn, payload, .. } = located.packet.transport else { return };
        let (key, side) = key(located.packet.src, located.packet.dst);
        if !self.table.contains_key(&key) {
            if payload.is_empty() && !syn {
                return;
            }
            if self.table.len() >= MOST {
                self.table.retain(|_, connection| connection.since.is_some());
                let all = self.table.values().filter_map(|connection| connection.wrapped.as_ref());
                self.wrapped = all.map(|wrapped| wrapped.frames.len()).sum();
            }
        }
        let frame = located.packet.frame;
        let connection = self.table.entry(key).or_default();
        if syn && ack.is_none() && connection.opened != Some(seq) {
            let before = std::mem::take(connection);
            self.wrapped -= before.wrapped.map_or(0, |wrapped| wrapped.frames.len());
            connection.opened = Some(seq);
        }
        if let Some(wrapped) = &mut connection.wrapped {
            let pieces = located.pieces.iter().map(|piece| piece.frame);
            return wrapped.take(pieces, &mut self.wrapped);
        }
        let start = located.payload.start;
        let parts = located.frames_of(located.payload.clone());
        let parts =
            parts.map(|(frame, at, bytes)| Part { frame, at, bytes: bytes.start - start..bytes.end - start });
        let seq = seq.wrapping_add(u32::from(syn));
        let waiting = Waiting { seq, len: payload.len(), parts: parts.collect(), head: head_of(located) };
        let all = located.pieces.iter().map(|piece| piece.frame);
        match &mut connection.since {
            Some(since) if since.len() < MOST_BETWEEN => since.extend(all),
            Some(_) => notes.left_out += 1,
            None if syn => connection.handshake.extend(all),
            None => connection.recent.extend(all),
        }
        for (message, bytes) in &connection.written[side] {
            for (frame, at, part) in waiting.within(*message, bytes.len()) {
                notes.say(frame, "TCP segment once more");
                notes.patch(frame, at, &bytes[part]);
            }
        }
        if payload.is_empty() {
            return;
        }
        connection.first = connection.first.or(Some(frame));
        connection.waiting[side].push_back(waiting);
        if connection.waiting[side].len() > MOST_WAITING {
            connection.waiting[side].pop_front();
        }
        connection.forget_recent();
    }

    /// Takes note of what a connection is wrapped in, behind each of its segments.
    pub(super) fn wrapped(&mut self, src: SocketAddr, dst: SocketAddr, wrapper: Option<Wrapper>) {
        let Some(connection) = self.table.get_mut(&key(src, dst).0) else { return };
        match (wrapper, &mut connection.wrapped) {
            (Some(wrapper), Some(wrapped)) => wrapped.session(wrapper),
            (Some(wrapper), None) => {
                let mut wrapped = Wrapped::default();
                let frames = connection.handshake.drain(..).chain(connection.recent.drain(..));
                wrapped.take(frames, &mut self.wrapped);
                wrapped.session(wrapper);
                connection.waiting = Default::default();
                connection.wrapped = Some(wrapped);
            }
            (None, Some(_)) => {
                let wrapped = connection.wrapped.take();
                self.wrapped -= wrapped.map_or(0, |wrapped| wrapped.frames.len());
            }
            (None, None) => {}
        }
    }

    /// Takes note of a message of the calls that was wrapped. `false` if there was no room for its connection.
    pub(super) fn unwrap(&mut self, wire: &WireMessage<'_>, says: &str, notes: &mut Notes) -> bool {
        let connection = self.table.get_mut(&key(wire.src, wire.dst).0);
        let wrapped = connection.and_then(|connection| connection.wrapped.as_mut());
        let Some(wrapped) = wrapped.filter(|wrapped| !wrapped.overflown) else { return false };
        self.wrapped -= wrapped.frames.len();
        wrapped.frames.drain(..).for_each(|frame| notes.keep(frame));
        notes.say(wire.frame, says);
        notes.sessions.extend(wrapped.sessions.iter().copied());
        true
    }

    /// Takes note of a message that begins at a sequence number: of one of the calls if it says what it is, else of
    /// another.
    pub(super) fn message(
        &mut self,
        wire: &WireMessage<'_>,
        seq: u32,
        says: Option<String>,
        redacted: Option<Vec<u8>>,
        notes: &mut Notes,
    ) {
        let (key, side) = key(wire.src, wire.dst);
        let Some(connection) = self.table.get_mut(&key) else { return };
        if let Some(says) = says {
            connection.need(side, seq, wire.bytes.len(), &says, redacted.as_deref(), notes);
            if let Some(redacted) = redacted {
                let written = &mut connection.written[side];
                written.push_back((seq, redacted));
                if written.len() > REMEMBERED {
                    written.pop_front();
                }
            }
        }
        let end = seq.wrapping_add(u32::try_from(wire.bytes.len()).unwrap_or(u32::MAX));
        connection.waiting[side].retain(|waiting| waiting.goes_beyond(end));
        connection.forget_recent();
    }
}

impl Wrapped {
    fn take(&mut self, frames: impl Iterator<Item = u64>, all: &mut usize) {
        for frame in frames {
            if *all >= MOST_WRAPPED {
                self.overflown = true;
                return;
            }
            self.frames.push(frame);
            *all += 1;
        }
    }

    fn session(&mut self, wrapper: Wrapper) {
        if let Some(random) = wrapper.session.filter(|random| self.sessions.last() != Some(random)) {
            self.overflown |= self.sessions.len() >= MOST_SESSIONS;
            self.sessions.truncate(MOST_SESSIONS - 1);
            self.sessions.push(random);
        }
    }
}

impl Connection {
    fn need(
        &mut self,
        side: usize,
        seq: u32,
        len: usize,
        says: &str,
        redacted: Option<&[u8]>,
        notes: &mut Notes,
    ) {
        let mut first = None;
        for waiting in &self.waiting[side] {
            let is_of_it = waiting.within(seq, len).next().is_some();
            for (frame, at, bytes) in waiting.head.iter().filter(|_| is_of_it && redacted.is_some()) {
                notes.patch(*frame, *at, bytes);
            }
            for (frame, at, part) in waiting.within(seq, len) {
                first = first.or(Some(frame));
                notes
                    .say(frame, &format!("{says}{}", if part.len() == len { "" } else { " (a part of it)" }));
                if let Some(bytes) = redacted.and_then(|redacted| redacted.get(part)) {
                    notes.patch(frame, at, bytes);
                }
            }
        }
        let Some(first) = first else { return };
        let since = match self.since.take() {
            Some(since) => since,
            None => {
                let handshake = (self.first == Some(first)).then_some(std::mem::take(&mut self.handshake));
                for frame in handshake.into_iter().flatten() {
                    notes.say(frame, "opens the TCP connection");
                }
                std::mem::take(&mut self.recent).into_iter().skip_while(|frame| *frame != first).collect()
            }
        };
        for frame in since {
            notes.keep(frame);
        }
        self.since = Some(Vec::new());
    }

    /// Forgets frames before the first one that a message may still need.
    fn forget_recent(&mut self) {
        let needed = self.waiting.iter().filter_map(|waiting| waiting.front());
        let needed: Vec<u64> = needed.filter_map(|waiting| Some(waiting.parts.first()?.frame)).collect();
        while self.recent.front().is_some_and(|frame| !needed.contains(frame)) {
            self.recent.pop_front();
        }
    }
}

/// The headers of a segment that came in fragments. Its checksum is of bytes that are written over, and left out.
fn head_of(located: &Located<'_>) -> Vec<(u64, usize, Vec<u8>)> {
    let Some(segment) = located.layers.transport.last().filter(|_| located.is_joined) else {
        return Vec::new();
    };
    let mut head = located.base[..located.payload.start].to_vec();
    if let Some(checksum) = head.get_mut(segment.bytes.start + 16..segment.bytes.start + 18) {
        checksum.fill(0);
    }
    located.frames_of(0..head.len()).map(|(frame, at, bytes)| (frame, at, head[bytes].to_vec())).collect()
}

impl Waiting {
    /// Where bytes of a message lie that begins at a sequence number: frame, place in it, and which bytes of the message.
    fn within(&self, message: u32, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> + '_ {
        let (ahead, len) = (distance(message, self.seq), signed(len));
        self.parts.iter().filter_map(move |part| {
            let begins = ahead + signed(part.bytes.start);
            let (from, to) = (begins.max(0), (ahead + signed(part.bytes.end)).min(len));
            let at = part.at + usize::try_from(from - begins).ok()?;
            (from < to).then_some((part.frame, at, usize::try_from(from).ok()?..usize::try_from(to).ok()?))
        })
    }

    /// Whether it ends behind a sequence number.
    fn goes_beyond(&self, end: u32) -> bool {
        distance(end, self.seq) + signed(self.len) > 0
    }
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// How far one sequence number is ahead of another.
fn distance(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from).cast_signed())
}

/// The two ends, the lesser first, and which one sends.
fn key(src: SocketAddr, dst: SocketAddr) -> ([SocketAddr; 2], usize) {
    if src <= dst { ([src, dst], 0) } else { ([dst, src], 1) }
}
