//! SIP over WebSocket (RFC 6455, RFC 7118): the bytes of a connection → the SIP messages in it, one in each of its messages.
//!
//! A connection is one from the HTTP request on that asks for the subprotocol `sip`. It holds what is not a whole message
//! yet, and where messages are compressed (RFC 7692) a window for each direction.

use bytes::{Buf, BytesMut};
use serde::Serialize;

use self::frame::{FrameHead, Kind};
use self::handshake::Deflate;
use self::inflate::Inflate;
use super::length::{self, Length};
use crate::sip::start_line::{MAX_START_LINE, begins_like_sip, leading_line_ends};
use crate::work;

mod frame;
mod handshake;
mod inflate;

/// What became of WebSocket connections that asked for SIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "WebSocketCounts"))]
pub struct Counts {
    /// Connections that asked for it, or were granted it.
    pub connections: u64,
    /// Those of them that the server refused.
    pub refused: u64,
    /// Those with an extension that is not read: any but `permessage-deflate`.
    pub extension: u64,
    /// Those with a frame that breaks the rules, or that can't be unpacked.
    pub damaged: u64,
    /// Those of which bytes are missing that reading on takes.
    pub bytes_missing: u64,
    /// Gaps behind which reading went on.
    pub resumed: u64,
    /// Messages that are larger than the limit.
    pub too_large: u64,
    /// Messages that are no SIP.
    pub not_sip: u64,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Came {
    /// SIP messages that were given.
    pub(super) messages: u64,
    /// Whether the direction waits for the rest of something.
    pub(super) is_partial: bool,
}

/// Why a connection can't be read, or not any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is not SIP over WebSocket.
    Foreign,
    /// It was. It is counted already.
    Broken,
}

/// One connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    /// Which end of the connection the client is.
    client: usize,
    /// What the server has granted. Before its answer nothing may be compressed (RFC 7692 §5).
    deflate: Option<Deflate>,
    lanes: [Lane; 2],
    /// Counted as one that asked for SIP.
    is_sip: bool,
    broken: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    state: State,
    /// What came of a head or frame that is not whole yet.
    buffer: BytesMut,
    /// What came of a message in fragments.
    message: Option<Parts>,
    inflate: Option<Box<Inflate>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// HTTP.
    #[default]
    Head,
    /// The same of a client whose server has answered already: its request may have been missed.
    Unseen,
    Frames,
    /// In a frame that is not wanted, with so many bytes to go.
    Skip(u64),
    /// Behind a gap: a frame is searched for that begins with a SIP message.
    Lost,
}

/// A message in fragments.
#[derive(Debug, Default)]
struct Parts {
    bytes: Vec<u8>,
    compressed: bool,
    /// It is not wanted.
    dropped: bool,
}

impl WebSocket {
    /// Whether a stream that begins with these bytes may become one.
    pub(super) fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(b"GET ") || bytes.starts_with(b"HTTP/1.1 101 ")
    }

    /// One that begins with these bytes, which one end sends.
    pub(super) fn new(side: usize, bytes: &[u8]) -> Self {
        let asks = bytes.starts_with(b"GET ");
        let client = if asks { side } else { 1 - side };
        let mut lanes = <[Lane; 2]>::default();
        if !asks {
            lanes[client].state = State::Unseen;
        }
        Self { client, deflate: None, lanes, is_sip: false, broken: false }
    }

    /// Bytes it takes up.
    pub(super) fn cost(&self) -> usize {
        let lanes = self.lanes.iter().map(|lane| {
            let parts = lane.message.as_ref().map_or(0, |parts| parts.bytes.capacity());
            lane.buffer.capacity() + parts + lane.inflate.as_ref().map_or(0, |_| Inflate::COST)
        });
        size_of::<Self>() + lanes.sum::<usize>()
    }

    /// Whether what comes next may be read.
    pub(super) fn goes_on(&self) -> bool {
        !self.broken
    }

    /// Whether both sides are beyond their heads.
    pub(super) fn is_up(&self) -> bool {
        let is_beyond = |lane: &Lane| !matches!(lane.state, State::Head | State::Unseen);
        !self.broken && self.lanes.iter().all(is_beyond)
    }

    /// Takes the next bytes of a direction, and gives the SIP messages that they complete, none longer than `max`.
    ///
    /// # Errors
    ///
    /// When it can't be read from here on. What was given before stays valid.
    pub(super) fn push(
        &mut self,
        side: usize,
        bytes: &[u8],
        max: usize,
        counts: &mut Counts,
        sink: &mut dyn FnMut(&[u8]),
    ) -> (Came, Result<(), Unread>) {
        let mut came = Came::default();
        if self.broken {
            return (came, Err(Unread::Broken));
        }
        let mut buffer = std::mem::take(&mut self.lanes[side].buffer);
        work::count(bytes.len());
        buffer.extend_from_slice(bytes);
        let before = buffer.len();
        let mut read = Ok(true);
        while matches!(read, Ok(true)) {
            read = match self.lanes[side].state {
                State::Head => self.head(side, &mut buffer, counts),
                State::Unseen => self.unseen(side, &buffer, counts),
                State::Frames => self.frame(side, &mut buffer, max, &mut came, counts, sink),
                State::Skip(left) => Ok(self.skip(side, left, &mut buffer)),
                State::Lost => Ok(self.find(side, &mut buffer, max, counts)),
            };
        }
        if let Err(unread) = read {
            self.broken = true;
            self.lanes = Default::default();
            return (came, Err(unread));
        }
        let lane = &mut self.lanes[side];
        // What is left is no more than came last where something was done with it: copied, so that the room is honest.
        lane.buffer = if buffer.len() < before { BytesMut::from(&buffer[..]) } else { buffer };
        came.is_partial = !lane.buffer.is_empty() || lane.message.is_some();
        (came, Ok(()))
    }

    /// So many bytes of a direction are missing.
    pub(super) fn gap(&mut self, side: usize, missing: u64, counts: &mut Counts) {
        if self.broken {
            return;
        }
        let lane = &mut self.lanes[side];
        if let State::Skip(left) = lane.state
            && missing < left
        {
            lane.state = State::Skip(left - missing);
            return;
        }
        // A window that lacks bytes unpacks nothing right, and behind a gap no compressed message is known by its beginning.
        if lane.state == State::Head || self.deflate.is_some() {
            counts.bytes_missing += u64::from(self.is_sip);
            self.broken = true;
            self.lanes = Default::default();
            return;
        }
        *lane = Lane { state: State::Lost, ..Lane::default() };
    }

    /// No more will come of a direction. Whether something of it waited.
    pub(super) fn end(&mut self, side: usize) -> bool {
        let lane = &mut self.lanes[side];
        let waited = !lane.buffer.is_empty() || lane.message.is_some();
        (lane.buffer, lane.message) = Default::default();
        waited && lane.state != State::Head
    }

    /// Looks whether a client's request is still to come. If it was missed, what the client says is as behind a gap.
    fn unseen(&mut self, side: usize, buffer: &[u8], counts: &mut Counts) -> Result<bool, Unread> {
        const ASKS: &[u8] = b"GET ";
        if buffer.len() < ASKS.len() && ASKS.starts_with(buffer) {
            return Ok(false);
        }
        let asks = buffer.starts_with(ASKS);
        if !asks && self.deflate.is_some() {
            counts.bytes_missing += 1;
            return Err(Unread::Broken);
        }
        self.lanes[side].state = if asks { State::Head } else { State::Lost };
        Ok(true)
    }

    /// Reads a head once it is whole. Whether there may be more to read.
    fn head(&mut self, side: usize, buffer: &mut BytesMut, counts: &mut Counts) -> Result<bool, Unread> {
        let Some(end) = handshake::end(buffer) else {
            return if buffer.len() > handshake::LONGEST { Err(Unread::Foreign) } else { Ok(false) };
        };
        let head = handshake::read(&buffer[..end]);
        if side == self.client {
            if !buffer.starts_with(b"GET ") || !head.upgrades || !head.is_sip {
                return Err(Unread::Foreign);
            }
        } else {
            if handshake::status(buffer) != Some(101) || !head.is_sip {
                counts.refused += u64::from(self.is_sip);
                return Err(Unread::Foreign);
            }
            self.deflate = head.deflate;
        }
        counts.connections += u64::from(!std::mem::replace(&mut self.is_sip, true));
        if side != self.client && head.other_extension {
            counts.extension += 1;
            return Err(Unread::Broken);
        }
        buffer.advance(end);
        self.lanes[side].state = State::Frames;
        Ok(true)
    }

    /// Reads a frame once it is whole. Whether there may be more to read.
    fn frame(
        &mut self,
        side: usize,
        buffer: &mut BytesMut,
        max: usize,
        came: &mut Came,
        counts: &mut Counts,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Unread> {
        let head = match FrameHead::read(buffer) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(()) => return damaged(counts),
        };
        if head.compressed && self.lanes[1 - self.client].state == State::Head {
            // The answer has come, or its client would not send, and was not captured.
            counts.bytes_missing += 1;
            return Err(Unread::Broken);
        }
        let lane = &mut self.lanes[side];
        let begins = head.kind == Kind::Data;
        let fits = match head.kind {
            Kind::Control => !head.compressed,
            Kind::Data => lane.message.is_none() && (!head.compressed || self.deflate.is_some()),
            Kind::Continuation => lane.message.is_some() && !head.compressed,
        };
        if !fits {
            return damaged(counts);
        }
        if head.kind != Kind::Control {
            let parts = lane.message.get_or_insert_default();
            parts.compressed |= begins && head.compressed;
            let is_large = head.len > max.saturating_sub(parts.bytes.len()) as u64;
            counts.too_large += u64::from(is_large && !parts.dropped);
            parts.dropped |= is_large;
            if parts.dropped {
                // A window that lacks bytes unpacks nothing right.
                if parts.compressed && takes_over(self.deflate, side, self.client) {
                    return Err(Unread::Broken);
                }
                parts.bytes = Vec::new();
                if head.is_last {
                    lane.message = None;
                }
                buffer.advance(head.size);
                lane.state = State::Skip(head.len);
                return Ok(true);
            }
        }
        // A control frame is no longer than 125 bytes, any other than `max`.
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        let Some(payload) = buffer.get_mut(head.size..).and_then(|rest| rest.get_mut(..len)) else {
            if head.kind == Kind::Data {
                lane.message = None;
            }
            return Ok(false);
        };
        if head.kind != Kind::Control {
            head.unmask(payload);
            work::count(payload.len());
            let mut parts = lane.message.take().unwrap_or_default();
            if head.is_last && parts.bytes.is_empty() && !parts.compressed {
                given(payload, came, counts, sink);
            } else {
                parts.bytes.extend_from_slice(payload);
                if head.is_last {
                    self.whole(side, &parts, max, came, counts, sink)?;
                } else {
                    lane.message = Some(parts);
                }
            }
        }
        buffer.advance(head.size + len);
        Ok(true)
    }

    /// A message that came in fragments, or compressed, is whole.
    fn whole(
        &mut self,
        side: usize,
        parts: &Parts,
        max: usize,
        came: &mut Came,
        counts: &mut Counts,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Unread> {
        if !parts.compressed {
            given(&parts.bytes, came, counts, sink);
            return Ok(());
        }
        let anew = !takes_over(self.deflate, side, self.client);
        let inflate = self.lanes[side].inflate.get_or_insert_default();
        match inflate.message(&parts.bytes, max, anew) {
            Ok(bytes) => {
                given(&bytes, came, counts, sink);
                Ok(())
            }
            Err(inflate::Fault::TooLarge) if anew => {
                counts.too_large += 1;
                Ok(())
            }
            Err(inflate::Fault::TooLarge) => {
                counts.too_large += 1;
                Err(Unread::Broken)
            }
            Err(inflate::Fault::Damaged) => damaged(counts).map(drop),
        }
    }

    fn skip(&mut self, side: usize, left: u64, buffer: &mut BytesMut) -> bool {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        buffer.advance(here);
        let left = left - here as u64;
        self.lanes[side].state = if left == 0 { State::Frames } else { State::Skip(left) };
        left == 0
    }

    /// Behind a gap, looks whether a frame begins where bytes begin that came together, as those that send them write each at
    /// once. It must hold
    /// a SIP message's start line.
    fn find(&mut self, side: usize, buffer: &mut BytesMut, max: usize, counts: &mut Counts) -> bool {
        let found = FrameHead::read(buffer).ok().flatten().filter(|head| {
            let longest = usize::try_from(head.len).unwrap_or(usize::MAX).min(MAX_START_LINE);
            let payload = buffer.get(head.size..).unwrap_or_default();
            let mut first = payload[..payload.len().min(longest)].to_vec();
            head.unmask(&mut first);
            let is_plain = head.kind == Kind::Data && !head.compressed;
            is_plain && head.len <= max as u64 && begins_like_sip(&first)
        });
        match found {
            Some(_) => {
                counts.resumed += 1;
                self.lanes[side].state = State::Frames;
                true
            }
            None => {
                buffer.clear();
                false
            }
        }
    }
}

fn takes_over(deflate: Option<Deflate>, side: usize, client: usize) -> bool {
    deflate.is_some_and(|deflate| !deflate.no_takeover[usize::from(side != client)])
}

fn damaged(counts: &mut Counts) -> Result<bool, Unread> {
    counts.damaged += 1;
    Err(Unread::Broken)
}

/// Gives a message if it is SIP. Line ends alone keep a connection alive (RFC 7118 §6).
fn given(bytes: &[u8], came: &mut Came, counts: &mut Counts, sink: &mut dyn FnMut(&[u8])) {
    let bytes = &bytes[leading_line_ends(bytes)..];
    if bytes.is_empty() {
        return;
    }
    if !begins_like_sip(bytes) {
        counts.not_sip += 1;
        return;
    }
    // Content-Length is not needed here (RFC 7118 §5); what is behind where it says is none of the message.
    let end = match length::headers(bytes) {
        (Some(head), Length::Bytes(body)) => {
            usize::try_from(body).ok().and_then(|body| head.checked_add(body))
        }
        _ => None,
    };
    came.messages += 1;
    sink(&bytes[..end.unwrap_or(bytes.len()).min(bytes.len())]);
}

#[cfg(test)]
mod tests;
