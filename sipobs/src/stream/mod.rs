//! Packets → SIP byte messages: TCP reassembly, framing by Content-Length, resync after a gap. Sans-IO and
//! bounded.

use std::net::{IpAddr, SocketAddr};

use crate::packet::Packet;
use crate::timestamp::Timestamp;

/// One SIP message as it crossed the wire, whole, not yet understood. HEP, too, would join here.
#[derive(Clone, Copy, Debug)]
pub struct WireMessage<'a> {
    /// When its last byte was captured.
    pub time: Timestamp,
    /// The number of the frame that completed it.
    pub frame: u64,
    /// Who sent it.
    pub src: SocketAddr,
    /// Who it was sent to.
    pub dst: SocketAddr,
    /// Over which transport.
    pub transport: TransportKind,
    /// Start line to end of body.
    pub bytes: &'a [u8],
    /// Bytes at the end of its body are known to be missing (cut by the capture or by a gap).
    pub cut: bool,
}

/// The transports sipobs sees in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// UDP (RFC 3261 §18).
    Udp,
    /// TCP.
    Tcp,
}

/// Evidence that is known to be missing. It spoils verdicts that would have rested on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Frames that the kernel's ring had no room for, anywhere on this node.
    RingLost(u64),
    /// Bytes missing in the TCP stream between these hosts.
    TcpGap {
        /// Sender of the missing bytes.
        src: IpAddr,
        /// Receiver of the missing bytes.
        dst: IpAddr,
    },
    /// A datagram between these hosts of which fragments never came.
    MissingFragment {
        /// Sender of the datagram.
        src: IpAddr,
        /// Receiver of the datagram.
        dst: IpAddr,
    },
}

/// What comes out of this stage.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A whole message.
    Message(WireMessage<'a>),
    /// Evidence known to be missing.
    Damage(Damage),
}

/// The stage: TCP reassembly and message framing.
#[derive(Debug, Default)]
pub struct Streams {}

impl Streams {
    /// Takes one packet and gives what it completes, in order, to `sink`.
    pub fn push(&mut self, _packet: &Packet<'_>, _sink: &mut dyn FnMut(Item<'_>)) {}

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Gives up on what has waited too long at `now`.
    pub fn handle_timeout(&mut self, _now: Timestamp, _sink: &mut dyn FnMut(Item<'_>)) {}

    /// The capture is over: gives what is left.
    pub fn finish(&mut self, _sink: &mut dyn FnMut(Item<'_>)) {}
}
