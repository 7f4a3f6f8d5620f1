//! Frame → datagram or TCP segment: link layers, encapsulations, IP fragments, and the recognition of one
//! packet seen at two taps. Sans-IO and bounded.

use std::net::SocketAddr;

use crate::capture::Frame;
use crate::stream::Damage;
use crate::timestamp::Timestamp;

/// A UDP datagram or TCP segment, whole.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When the (last) frame that carried it was captured.
    pub time: Timestamp,
    /// The number of that frame.
    pub frame: u64,
    /// Innermost source address.
    pub src: SocketAddr,
    /// Innermost destination address.
    pub dst: SocketAddr,
    /// What it carries.
    pub transport: Transport<'a>,
}

/// What a packet carries above IP.
#[derive(Clone, Copy, Debug)]
pub enum Transport<'a> {
    /// A UDP payload; `cut` when the capture holds less of it than its header promises.
    Udp {
        /// The payload.
        payload: &'a [u8],
        /// Whether bytes at its end are missing.
        cut: bool,
    },
    /// A TCP segment.
    Tcp {
        /// Sequence number of the first byte (of the SYN, if set).
        seq: u32,
        /// SYN.
        syn: bool,
        /// FIN.
        fin: bool,
        /// RST.
        rst: bool,
        /// The payload as captured.
        payload: &'a [u8],
        /// Bytes of payload that the capture cut off.
        cut: u32,
    },
}

/// What comes out of this stage.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A packet for the stream stage.
    Packet(Packet<'a>),
    /// Evidence known to be missing.
    Damage(Damage),
}

/// The stage: link layers, encapsulations, IP fragments, double taps.
#[derive(Debug, Default)]
pub struct Packets {}

impl Packets {
    /// Takes one frame and gives what it completes, in order, to `sink`.
    pub fn push(&mut self, _frame: &Frame<'_>, _sink: &mut dyn FnMut(Item<'_>)) {}

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Gives up on what has waited too long at `now`.
    pub fn handle_timeout(&mut self, _now: Timestamp, _sink: &mut dyn FnMut(Item<'_>)) {}
}
