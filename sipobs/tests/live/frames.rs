//! Frames, written by hand so that each byte is where the RFC wants it.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const INVITE: &[u8] =
    b"INVITE sip:b@example.com SIP/2.0\r\nCall-ID: x\r\nContent-Length: 0\r\n\r\n";
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const UDP: u8 = 17;
pub(crate) const TCP: u8 = 6;

pub(crate) const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

pub(crate) fn ethernet(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Where a packet stands in its datagram.
#[derive(Clone, Copy, Default)]
pub(crate) struct Part {
    pub(crate) id: u32,
    /// In bytes, a multiple of 8.
    pub(crate) offset: u16,
    pub(crate) more: bool,
}

pub(crate) fn ipv4(options: &[u8], protocol: u8, part: Part, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0];
    packet.extend(u16::try_from(header_len + payload.len()).unwrap_or(0).to_be_bytes());
    packet.extend(u16::try_from(part.id & 0xffff).unwrap().to_be_bytes());
    packet.extend(((part.offset / 8) | if part.more { 0x2000 } else { 0 }).to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(A.octets());
    packet.extend(B.octets());
    packet.extend(options);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// As it stands in an IPv4 header, whose own field is zero.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// `headers`: (its number, its bytes with a placeholder for the next header's number in front).
pub(crate) fn ipv6(headers: &[(u8, Vec<u8>)], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len: usize = headers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + payload.len();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(len).unwrap_or(0).to_be_bytes());
    let mut numbers: Vec<u8> = headers.iter().map(|(number, _)| *number).collect();
    numbers.push(protocol);
    packet.extend([numbers[0], 64]);
    packet.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
    packet.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets());
    for ((_, bytes), next) in headers.iter().zip(&numbers[1..]) {
        packet.push(*next);
        packet.extend(&bytes[1..]);
    }
    packet.extend(payload);
    packet
}

/// The fragment header (RFC 8200, section 4.5).
pub(crate) fn ipv6_fragment(part: Part) -> (u8, Vec<u8>) {
    let mut bytes = vec![0, 0];
    bytes.extend((part.offset | u16::from(part.more)).to_be_bytes());
    bytes.extend(part.id.to_be_bytes());
    (44, bytes)
}

pub(crate) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(source.to_be_bytes());
    datagram.extend(destination.to_be_bytes());
    datagram.extend(u16::try_from(8 + payload.len()).unwrap_or(0).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// With twelve bytes of options, as most segments have.
pub(crate) fn tcp(source: u16, destination: u16, bits: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.to_be_bytes());
    segment.extend(destination.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 8 << 4, bits, 1, 0, 0, 0, 0, 0]);
    segment.extend([1; 12]);
    segment.extend(payload);
    segment
}

/// RFC 7348, section 5.
pub(crate) fn vxlan(inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x08, 0, 0, 0, 0, 0, 42, 0];
    payload.extend(inner);
    payload
}

/// SIP over UDP over IPv4 over Ethernet, nothing special.
pub(crate) fn plain(payload: &[u8]) -> Vec<u8> {
    ethernet(&[], IPV4, &ipv4(&[], UDP, Part::default(), &udp(5060, 5060, payload)))
}
