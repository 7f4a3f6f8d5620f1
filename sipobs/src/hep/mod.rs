//! HEP, the Homer Encapsulation Protocol: one message that an agent has seen, with its addresses and its time, as Homer's
//! agents and SIP proxies send it to a collector. Version 3 is read and written, versions 1 and 2 are read. Pure and bounded.
//!
//! What the wire looks like is in the HEP3 document of the SIPCAPTURE project (rev. 12); of versions 1 and 2 there is none
//! but what Kamailio's `siptrace` and `sipcapture` do.

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::discard::DiscardReason;
use crate::stream::TransportKind;
use crate::timestamp::Timestamp;

mod old;
mod v3;

#[cfg(test)]
mod tests;

/// What a version 3 packet begins with.
const MAGIC: &[u8; 4] = b"HEP3";
/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One packet of HEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The version: 1 to 3.
    pub version: u8,
    /// Who sent what it carries.
    pub src: SocketAddr,
    /// Who that was sent to.
    pub dst: SocketAddr,
    /// The IP protocol that it came over, by its number: 17 is UDP, 6 TCP. Kamailio has 22 for TLS and WebSocket.
    pub protocol: u8,
    /// When the agent saw it, if it says so.
    pub time: Option<Timestamp>,
    /// What it is: 1 is SIP.
    pub kind: u8,
    /// The number of the agent, if it has one.
    pub capture_id: Option<u32>,
    /// The agent's name.
    pub node: Option<&'a [u8]>,
    /// What the agent shows to be let in.
    pub key: Option<&'a [u8]>,
    /// What names the call that it is about.
    pub correlation_id: Option<&'a [u8]>,
    /// The VLAN that it was seen in.
    pub vlan: Option<u16>,
    /// The message, unpacked if it was compressed.
    pub payload: Cow<'a, [u8]>,
}

/// Why a packet could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin like any version.
    #[error("no HEP of version 1, 2 or 3")]
    Version,
    /// Its length is not what it says.
    #[error("its length is not what it says")]
    Length,
    /// A chunk does not fit into the packet, or a value not into its chunk.
    #[error("the chunk {0:#06x} has a length that cannot be")]
    ChunkLength(u16),
    /// A chunk that must be there is not.
    #[error("the chunk {0:#06x} is missing")]
    Missing(u16),
    /// The payload is not compressed as it says.
    #[error("the compressed payload is damaged")]
    Compressed,
    /// The payload is larger than the limit.
    #[error("the payload is larger than the limit")]
    TooLarge,
}

impl From<Error> for DiscardReason {
    fn from(error: Error) -> Self {
        match error {
            Error::Version | Error::Length => Self::HepLength,
            Error::ChunkLength(_) => Self::HepChunk,
            Error::Missing(_) => Self::HepMissing,
            Error::Compressed => Self::HepCompressed,
            Error::TooLarge => Self::HepTooLarge,
        }
    }
}

impl Packet<'_> {
    /// The protocol type of SIP.
    pub const SIP: u8 = 1;

    /// The transport, as far as the engine tells them apart: whatever is no UDP is a connection.
    pub const fn transport(&self) -> TransportKind {
        if self.protocol == UDP { TransportKind::Udp } else { TransportKind::Tcp }
    }
}

/// Whether a payload is HEP and nothing else: version 3 by its mark; versions 1 and 2, which have none, only where every field
/// of the header fits and SIP is behind it.
pub fn begins_like_hep(payload: &[u8]) -> bool {
    payload.starts_with(MAGIC) || old::is_sound(payload)
}

/// Reads the packet that `bytes` are. A payload of more than `most` bytes, unpacked, is refused.
///
/// # Errors
///
/// [`Error`]; it depends on nothing but the bytes.
pub fn decode(bytes: &[u8], most: usize) -> Result<Packet<'_>, Error> {
    let packet = if bytes.starts_with(MAGIC) { v3::decode(bytes, most)? } else { old::decode(bytes)? };
    if packet.payload.len() > most { Err(Error::TooLarge) } else { Ok(packet) }
}

/// The authentication key of the packet that `bytes` are, found without unpacking it. Versions 1 and 2 have none.
///
/// # Errors
///
/// As [`decode`], for what is wrong with chunks or versions.
pub fn key(bytes: &[u8]) -> Result<Option<&[u8]>, Error> {
    if bytes.starts_with(MAGIC) { v3::key(bytes) } else { old::decode(bytes).map(|_| None) }
}

/// The length of a whole packet of version 3 whose beginning is `bytes`, as it says: at least 6. `None` where there is too
/// little of it to tell.
///
/// # Errors
///
/// [`Error::Version`] where no packet of version 3 begins, [`Error::Length`] where it is shorter than its own header.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    v3::length(bytes)
}

/// Writes a packet of version 3.
///
/// # Errors
///
/// [`Error::TooLarge`] where it would be longer than its own length field can say, 65,535 bytes; [`Error::Length`] where one
/// address is IPv4 and the other IPv6.
pub fn encode(packet: &Packet<'_>) -> Result<Vec<u8>, Error> {
    v3::encode(packet)
}

/// A time as all versions have it.
fn moment(seconds: u32, micros: u32) -> Timestamp {
    Timestamp::from_nanos(i64::from(seconds) * 1_000_000_000 + i64::from(micros) * 1000)
}
