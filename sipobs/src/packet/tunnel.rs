//! Tunnels that carry IP or Ethernet: GRE, VXLAN, Geneve, GTP-U.

use super::{At, Layer};
use crate::discard::DiscardReason;
use crate::frame::LinkType;

/// Passes a GRE header (RFC 2784, 2890), and ERSPAN's behind it.
pub(super) fn gre(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let short = at.short(DiscardReason::TunnelHeader);
    let (flags, kind) = at.u16(0).zip(at.u16(2)).ok_or(short)?;
    if flags & 0x4007 != 0 {
        // Source routes, long gone; or version 1, which is PPTP.
        return Err(DiscardReason::OtherProtocol);
    }
    let options = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count();
    let len = 4 + 4 * options;
    let ethernet = Layer::Link(LinkType::Ethernet);
    match kind {
        // ERSPAN: type II has a header and always a sequence number, type I has neither.
        0x88be if flags & 0x1000 != 0 => at.inside(len + 8, ethernet),
        0x88be => at.inside(len, ethernet),
        kind => at.inside(len, Layer::EtherType(kind)),
    }
    .ok_or(short)
}

/// Looks for a tunnel in a UDP payload sent to `port`. SIP on the same port is told apart by its first
/// byte, which is a letter or a line end.
pub(super) fn udp<'a>(port: u16, at: &At<'a>, vxlan_ports: &[u16]) -> Option<At<'a>> {
    match port {
        // VXLAN (RFC 7348 §5).
        _ if vxlan_ports.contains(&port) => match at.bytes.first_chunk()? {
            [0x08, 0, 0, 0, _, _, _, 0] => at.inside(8, Layer::Link(LinkType::Ethernet)),
            _ => None,
        },
        // Geneve (RFC 8926 §3.4).
        6081 => match at.bytes.first_chunk()? {
            [first @ 0..=0x3f, _, high, low, _, _, _, 0] => {
                let kind = u16::from_be_bytes([*high, *low]);
                at.inside(8 + usize::from(*first) * 4, Layer::EtherType(kind))
            }
            _ => None,
        },
        2152 => gtp_u(at),
        _ => None,
    }
}

/// A G-PDU (3GPP TS 29.281 §5.1): version 1, protocol type GTP, message type 255.
fn gtp_u<'a>(at: &At<'a>) -> Option<At<'a>> {
    let flags = *at.bytes.first()?;
    if flags & 0xf0 != 0x30 || *at.bytes.get(1)? != 255 {
        return None;
    }
    let mut len = 8;
    if flags & 0x07 != 0 {
        len = 12;
        let mut next = *at.bytes.get(11)?;
        // Extension headers: length in units of 4, type of the next in the last byte. Each is at least 4
        // long, so this ends.
        while flags & 0x04 != 0 && next != 0 {
            let units = usize::from(*at.bytes.get(len)?).max(1);
            len += units * 4;
            next = *at.bytes.get(len - 1)?;
        }
    }
    at.inside(len, Layer::Ip)
}
