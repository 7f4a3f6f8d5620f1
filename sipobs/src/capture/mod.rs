//! Where frames come from: the kernel's rings or a capture file. The only module that knows of aya,
//! of files and of clocks.

use crate::timestamp::Timestamp;

mod config;
pub mod file;
#[cfg(all(feature = "live", target_os = "linux"))]
pub mod live;

pub use config::{Config, Mode, RingChoice};

/// One captured frame, borrowed from the ring or the file's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured (wall clock).
    pub time: Timestamp,
    /// Its number in the capture, from 1, as tshark counts.
    pub number: u64,
    /// Interface index (kernel) or pcapng interface id (file).
    pub interface: u32,
    /// Which way it crossed that interface.
    pub direction: Direction,
    /// How `bytes` begins.
    pub link: LinkType,
    /// Length on the wire; more than `bytes.len()` when the capture cut it short.
    pub wire_len: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

/// Which way a frame crossed its interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the node.
    Ingress,
    /// Out of the node.
    Egress,
    /// The capture does not say.
    #[default]
    Unknown,
}

/// The link types sipobs reads, named as the pcap registry names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// BSD loopback: address family in host order of the capturing machine (NULL, 0).
    Null,
    /// Ethernet (1).
    Ethernet,
    /// IPv4 or IPv6 by the version nibble (RAW 101, and 12, 14, IPV4 228, IPV6 229).
    Raw,
    /// OpenBSD loopback: address family in network order (LOOP, 108).
    Loop,
    /// Linux cooked capture v1 (LINUX_SLL, 113).
    Sll,
    /// Linux cooked capture v2 (LINUX_SLL2, 276).
    Sll2,
}
