//! Versions 1 and 2: a header of version, length, family, protocol and ports, then the addresses, and in version 2 seconds,
//! microseconds and the agent's number, little-endian, which the length in the header leaves out. SIP and nothing else
//! is behind it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::{Error, Packet, TCP, UDP, moment};
use crate::sip::start_line::begins_like_sip;

const HEADER: usize = 8;
/// Of version 2, padding included.
const TIME: usize = 12;
/// AF_INET and AF_INET6 of Linux; the latter differs elsewhere.
const AF_INET: u8 = 2;
const AF_INET6: [u8; 4] = [10, 24, 28, 30];
/// XNS IDP, which stands for TLS, and SCTP.
const IDP: u8 = 22;
const SCTP: u8 = 132;

/// Whether it is one beyond doubt.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    decode(bytes).is_ok_and(|packet| begins_like_sip(&packet.payload))
}

pub(super) fn decode(bytes: &[u8]) -> Result<Packet<'_>, Error> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Error::Version)?;
    let [version @ 1..=2, length, family, protocol @ (TCP | UDP | IDP | SCTP), ..] = *header else {
        return Err(Error::Version);
    };
    let address = match family {
        AF_INET => 4,
        family if AF_INET6.contains(&family) => 16,
        _ => return Err(Error::Version),
    };
    let end = HEADER + 2 * address;
    let behind = if version == 2 { end + TIME } else { end };
    // Some count the time, too.
    if ![end, behind].contains(&usize::from(length)) {
        return Err(Error::Length);
    }
    let payload = bytes.get(behind..).ok_or(Error::Length)?;
    let ip = |at: usize| {
        let octets = bytes.get(at..at + address).ok_or(Error::Length)?;
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).map_err(|_| Error::Length)
    };
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (src, dst) = (SocketAddr::new(ip(HEADER)?, port(4)), SocketAddr::new(ip(HEADER + address)?, port(6)));
    let (time, capture_id) = match bytes[end..behind] {
        [a, b, c, d, e, f, g, h, i, j, _, _] => {
            let (seconds, micros) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
            (Some(moment(seconds, micros)), Some(u32::from(u16::from_le_bytes([i, j]))))
        }
        _ => (None, None),
    };
    Ok(Packet {
        version,
        src,
        dst,
        protocol,
        time,
        kind: Packet::SIP,
        capture_id,
        node: None,
        key: None,
        correlation_id: None,
        vlan: None,
        payload: Cow::Borrowed(payload),
    })
}
