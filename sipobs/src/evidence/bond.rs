//! Which frames belong together whatever they hold.

use std::net::{IpAddr, SocketAddr};

use crate::frame::Frame;
use crate::packet::Transport;
use crate::packet::locate::{Belongs, belongs};

/// What a frame shares with others without which its bytes can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bond {
    /// The IP datagram that it carries a fragment of: addresses, identification and protocol (RFC 791 §3.2).
    Datagram(IpAddr, IpAddr, u32, u8),
    /// The TCP connection: its ends, the lesser first.
    Connection([SocketAddr; 2]),
}

impl Bond {
    /// The bond of a frame; `None` of one that is read by itself, or holds no packet.
    pub fn of(frame: &Frame<'_>, vxlan_ports: &[u16]) -> Option<Self> {
        match belongs(frame, vxlan_ports)? {
            Belongs::Fragment(src, dst, id, protocol) => Some(Self::Datagram(src, dst, id, protocol)),
            Belongs::Packet(src, dst, Transport::Tcp { .. }) => {
                Some(Self::Connection(if src <= dst { [src, dst] } else { [dst, src] }))
            }
            Belongs::Packet(_, _, Transport::Udp { .. } | Transport::Exported { .. }) => None,
        }
    }
}
