//! From the link layer down to IP: Ethernet, Linux cooked, loopback; VLAN tags, PPPoE, MPLS.

use super::{At, Layer};
use crate::frame::LinkType;
use crate::tally::Unused;

/// Passes the header that a frame of this link type begins with.
pub(super) fn frame(link: LinkType, at: At<'_>) -> Result<At<'_>, Unused> {
    match link {
        LinkType::Ethernet => {
            let kind = at.u16(12).ok_or(Unused::LinkHeader)?;
            at.inside(14, Layer::EtherType(kind)).ok_or(Unused::LinkHeader)
        }
        LinkType::Raw => Ok(At { layer: Layer::Ip, ..at }),
        // The address families of IPv4 and, on BSD, macOS and Linux, of IPv6; their order on the wire is
        // the capturing machine's.
        LinkType::Null | LinkType::Loop => match at.bytes.first_chunk() {
            Some(
                [family @ (2 | 10 | 24 | 28 | 30), 0, 0, 0] | [0, 0, 0, family @ (2 | 10 | 24 | 28 | 30)],
            ) => {
                let _ = family;
                at.inside(4, Layer::Ip).ok_or(Unused::LinkHeader)
            }
            Some(_) => Err(Unused::NotIp),
            None => Err(Unused::LinkHeader),
        },
        LinkType::Sll => {
            let kind = at.u16(14).ok_or(Unused::LinkHeader)?;
            at.inside(16, Layer::EtherType(kind)).ok_or(Unused::LinkHeader)
        }
        LinkType::Sll2 => {
            let kind = at.u16(0).ok_or(Unused::LinkHeader)?;
            at.inside(20, Layer::EtherType(kind)).ok_or(Unused::LinkHeader)
        }
    }
}

/// Passes what lies between an EtherType and IP.
pub(super) fn ether_type(kind: u16, at: At<'_>) -> Result<At<'_>, Unused> {
    match kind {
        0x0800 | 0x86dd => Ok(At { layer: Layer::Ip, ..at }),
        // 802.1Q, 802.1ad, and what came before it: tag, then the next EtherType.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
            let inner = at.u16(2).ok_or(Unused::LinkHeader)?;
            at.inside(4, Layer::EtherType(inner)).ok_or(Unused::LinkHeader)
        }
        0x8864 => pppoe(at),
        0x8847 | 0x8848 => mpls(at),
        // A length instead: 802.3 with LLC and SNAP.
        0..=1500 if at.bytes.starts_with(&[0xaa, 0xaa, 0x03, 0, 0, 0]) => {
            let inner = at.u16(6).ok_or(Unused::LinkHeader)?;
            at.inside(8, Layer::EtherType(inner)).ok_or(Unused::LinkHeader)
        }
        // Transparent Ethernet bridging, under GRE and Geneve.
        0x6558 => Ok(At { layer: Layer::Link(LinkType::Ethernet), ..at }),
        _ => Err(Unused::NotIp),
    }
}

/// RFC 2516 §4 with the PPP protocol field of RFC 1661 §2, which may be compressed to one byte.
fn pppoe(at: At<'_>) -> Result<At<'_>, Unused> {
    let bytes = at.bytes.get(6..8).ok_or(Unused::LinkHeader)?;
    let len = match bytes {
        [0x21 | 0x57, _] => 7,
        [0, 0x21 | 0x57] => 8,
        _ => return Err(Unused::NotIp),
    };
    at.inside(len, Layer::Ip).ok_or(Unused::LinkHeader)
}

/// RFC 3032 §2.1: labels up to the bottom of the stack. What follows is told by its first nibble.
fn mpls(at: At<'_>) -> Result<At<'_>, Unused> {
    let bottom = at.bytes.chunks_exact(4).position(|label| label[2] & 1 == 1).ok_or(Unused::LinkHeader)?;
    let inside = at.inside((bottom + 1) * 4, Layer::Ip).ok_or(Unused::LinkHeader)?;
    match inside.bytes.first().map(|first| first >> 4) {
        Some(4 | 6) => Ok(inside),
        // A pseudowire's control word, then Ethernet (RFC 4448 §4.6).
        Some(0) => inside.inside(4, Layer::Link(LinkType::Ethernet)).ok_or(Unused::LinkHeader),
        _ => Err(Unused::NotIp),
    }
}
