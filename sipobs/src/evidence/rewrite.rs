//! What is written of a frame: as it was captured, or with everything written over that may name somebody.

use std::net::IpAddr;
use std::ops::Range;

use super::Notes;
use crate::frame::{Frame, LinkType};
use crate::packet::locate::{self, Layers, Located, Segment};
use crate::privacy::redact::Redactor;

/// A frame to be written.
#[derive(Debug)]
pub struct Rewritten {
    /// How its bytes begin.
    pub link: LinkType,
    /// Its bytes, if they are others than the frame's.
    pub bytes: Option<Vec<u8>>,
    /// Its length on the wire.
    pub wire_len: u32,
    /// What it is for the verdict.
    pub says: String,
}

/// What stands in place of a payload that is nobody's business: line ends, which are no SIP and keep a stream in step (RFC
/// 5626 §3.5.1).
const BLANK: u8 = b'\n';

impl Notes {
    /// What is to be written of a frame, with the redactor that the notes were taken with; `None` if nothing is.
    pub fn rewrite(
        &self,
        frame: &Frame<'_>,
        vxlan_ports: &[u16],
        redactor: Option<&Redactor>,
    ) -> Option<Rewritten> {
        let note = self.frames.get(&frame.number)?;
        let opened = locate::open(frame, vxlan_ports);
        let is_empty = opened.as_ref().is_some_and(|opened| opened.inside.is_empty());
        let says = match note.says.as_slice() {
            [] if is_empty => "of the same TCP connection, without SIP".to_owned(),
            [] => "of the same TCP connection, not of these calls: without it the stream would have a gap"
                .to_owned(),
            says => says.join("; "),
        };
        let Some(redactor) = redactor else {
            return Some(Rewritten { link: frame.link, bytes: None, wire_len: frame.wire_len, says });
        };
        let opened = opened?;
        let mut bytes = frame.bytes.to_vec();
        bytes[opened.inside.clone()].fill(BLANK);
        bytes[opened.inside.end..].fill(0);
        for (at, patch) in &note.patches {
            if let Some(place) = bytes.get_mut(*at..at + patch.len()) {
                place.copy_from_slice(patch);
            }
        }
        settle(&mut bytes, &opened.layers, redactor);
        let (link, cut) = head(&mut bytes, frame.link, &opened.layers, redactor);
        bytes.drain(..cut);
        let wire_len = frame.wire_len.saturating_sub(u32::try_from(cut).unwrap_or(0));
        Some(Rewritten { link, bytes: Some(bytes), wire_len, says })
    }
}

/// A datagram that came in fragments, with a message written over in it.
pub(super) fn whole(
    located: &Located<'_>,
    place: Range<usize>,
    message: &[u8],
    redactor: &Redactor,
) -> Vec<u8> {
    let mut bytes = located.base.to_vec();
    bytes[located.payload.clone()].fill(BLANK);
    bytes[located.payload.end..].fill(0);
    if let Some(place) = bytes.get_mut(place) {
        place.copy_from_slice(message);
    }
    settle(&mut bytes, &located.layers, redactor);
    bytes
}

/// Writes other addresses where they are not to be told, hardware's too, and right checksums.
fn settle(bytes: &mut [u8], layers: &Layers, redactor: &Redactor) {
    for &at in &layers.ip {
        change_addresses(&mut bytes[at..], redactor);
    }
    for &at in layers.ethernet.iter().filter(|_| redactor.hides_addresses()) {
        if let Some(hardware) = bytes.get_mut(at..at + 12) {
            hardware.fill(0);
        }
    }
    // Innermost first: the outer ones sum up what is in them, inner IP headers too.
    let headers = layers.ip.iter().map(|at| (*at, None));
    let segments = layers.transport.iter().map(|segment| (segment.bytes.start, Some(segment)));
    let mut sums: Vec<_> = headers.chain(segments).collect();
    sums.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    for (at, segment) in sums {
        match segment {
            Some(segment) => {
                let ends = [segment.src, segment.dst].map(|ip| redactor.address(ip));
                sum_up(bytes, segment, ends);
            }
            None => sum_up_header(&mut bytes[at..]),
        }
    }
}

fn change_addresses(header: &mut [u8], redactor: &Redactor) {
    match header.first().map(|first| first >> 4) {
        Some(4) => {
            for place in header.get_mut(12..20).into_iter().flat_map(|both| both.chunks_exact_mut(4)) {
                let octets: [u8; 4] = [place[0], place[1], place[2], place[3]];
                if let IpAddr::V4(ip) = redactor.address(octets.into()) {
                    place.copy_from_slice(&ip.octets());
                }
            }
        }
        Some(6) => {
            for place in header.get_mut(8..40).into_iter().flat_map(|both| both.chunks_exact_mut(16)) {
                let octets = <[u8; 16]>::try_from(&*place).unwrap_or_default();
                if let IpAddr::V6(ip) = redactor.address(octets.into()) {
                    place.copy_from_slice(&ip.octets());
                }
            }
        }
        _ => {}
    }
}

/// An IPv4 header's checksum (RFC 791 §3.1).
fn sum_up_header(header: &mut [u8]) {
    let Some(first) = header.first().filter(|first| *first >> 4 == 4) else { return };
    let len = usize::from(first & 0x0f) * 4;
    if let Some(header) = header.get_mut(..len).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let sum = fold(sum(0, header));
        header[10..12].copy_from_slice(&(!sum).to_be_bytes());
    }
}

/// The checksum of a datagram or segment (RFC 768, RFC 9293 §3.1, RFC 8200 §8.1). Of one that was cut off it can't be
/// known: there it is 0.
fn sum_up(bytes: &mut [u8], segment: &Segment, [src, dst]: [IpAddr; 2]) {
    let Some(all) = bytes.get_mut(segment.bytes.clone()) else { return };
    let (place, protocol) = if segment.is_tcp { (16, 6) } else { (6, 17) };
    if all.len() < place + 2 {
        return;
    }
    let absent = !segment.is_tcp && all[6..8] == [0, 0] && src.is_ipv4();
    let promised = usize::from(u16::from_be_bytes([all[4], all[5]]));
    let len = if segment.is_tcp || promised < 8 || promised > all.len() { all.len() } else { promised };
    let is_cut = segment.is_cut && (segment.is_tcp || promised > all.len());
    all[place..place + 2].fill(0);
    if absent || is_cut {
        return;
    }
    let all = &mut all[..len];
    let start = [src, dst].iter().fold(0, |so_far, ip| match ip {
        IpAddr::V4(ip) => sum(so_far, &ip.octets()),
        IpAddr::V6(ip) => sum(so_far, &ip.octets()),
    });
    let start = start + protocol + u64::try_from(len).unwrap_or(0);
    let checksum = match !fold(sum(start, all)) {
        0 if !segment.is_tcp => 0xffff,
        checksum => checksum,
    };
    all[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The sum of 16-bit words (RFC 1071).
fn sum(start: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(start, |sum, word| {
        let word = [word[0], word.get(1).copied().unwrap_or(0)];
        sum + u64::from(u16::from_be_bytes(word))
    })
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

/// What goes before the first IP header: kept where it is known what it holds, else cut off.
fn head(bytes: &mut [u8], link: LinkType, layers: &Layers, redactor: &Redactor) -> (LinkType, usize) {
    let hardware = match link {
        LinkType::Sll => 6..14,
        LinkType::Sll2 => 12..20,
        LinkType::Ethernet
        | LinkType::Raw
        | LinkType::Null
        | LinkType::Loop
        | LinkType::Ppp
        | LinkType::CHdlc => 0..0,
        LinkType::UpperPdu => {
            tags(bytes, redactor);
            return (link, 0);
        }
        _ => return (LinkType::Raw, layers.ip.first().copied().unwrap_or(0)),
    };
    if redactor.hides_addresses()
        && let Some(hardware) = bytes.get_mut(hardware)
    {
        hardware.fill(0);
    }
    (link, 0)
}

/// The tags before an exported PDU: addresses are changed, and what is none of those that are read is blank.
fn tags(bytes: &mut [u8], redactor: &Redactor) {
    let mut at = 0;
    while let Some(&[a, b, c, d]) = bytes.get(at..at + 4).and_then(|tag| tag.first_chunk()) {
        let (code, len) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
        at += 4;
        let Some(value) = bytes.get_mut(at..at + len) else { return };
        match (code, len) {
            (0, _) => return,
            (20 | 21, 4) => {
                let octets: [u8; 4] = [value[0], value[1], value[2], value[3]];
                if let IpAddr::V4(ip) = redactor.address(octets.into()) {
                    value.copy_from_slice(&ip.octets());
                }
            }
            (22 | 23, 16) => {
                let octets = <[u8; 16]>::try_from(&*value).unwrap_or_default();
                if let IpAddr::V6(ip) = redactor.address(octets.into()) {
                    value.copy_from_slice(&ip.octets());
                }
            }
            // Names of dissectors, ports, and what TCP's header said.
            (12..=14 | 24..=26 | 34, _) => {}
            _ => value.fill(0),
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_right() {
        // RFC 1071 §3.
        let sum = fold(sum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]));
        assert_eq!(sum, 0xddf2);
        let mut header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xff, 0xff, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        sum_up_header(&mut header);
        assert_eq!(header[10..12], [0xb8, 0x61]);
    }
}
