//! A message that is held until another one shows what is to be made of it.

use std::net::SocketAddr;

use super::Branch;
use crate::sip::CSeq;
use crate::stream::{TransportKind, WireMessage};
use crate::timestamp::Timestamp;

/// Longer ones are not held.
const LONGEST: usize = 4096;

/// A message as it came, with its place in a transaction.
#[derive(Clone, Debug)]
pub(crate) struct HeldMessage {
    pub(crate) time: Timestamp,
    frame: u64,
    src: SocketAddr,
    dst: SocketAddr,
    transport: TransportKind,
    originated: bool,
    cseq: CSeq,
    branch: Branch,
    bytes: Vec<u8>,
}

impl HeldMessage {
    /// Whether a message is short enough to be held.
    pub(crate) fn may_be(wire: &WireMessage<'_>) -> bool {
        wire.bytes.len() <= LONGEST
    }

    /// Holds a message, in room that may have been another one's.
    pub(crate) fn of(wire: &WireMessage<'_>, cseq: CSeq, branch: Branch, mut room: Vec<u8>) -> Self {
        room.clear();
        room.extend_from_slice(wire.bytes);
        let WireMessage { time, frame, src, dst, transport, originated, .. } = *wire;
        Self { time, frame, src, dst, transport, originated, cseq, branch, bytes: room }
    }

    /// Whether a message goes the other way in the same transaction: one is the answer to the other.
    pub(crate) fn pairs_with(&self, wire: &WireMessage<'_>, cseq: CSeq, branch: Branch) -> bool {
        (self.cseq, self.branch) == (cseq, branch) && (self.src, self.dst) == (wire.dst, wire.src)
    }

    /// The message, as if it had come then.
    pub(crate) fn at(&self, time: Timestamp) -> WireMessage<'_> {
        let Self { frame, src, dst, transport, originated, ref bytes, .. } = *self;
        WireMessage { time, frame, src, dst, transport, seq: None, bytes, cut: false, originated }
    }

    /// Bytes that it takes up.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }

    /// Its room, for another one.
    pub(crate) fn into_room(self) -> Vec<u8> {
        self.bytes
    }
}
