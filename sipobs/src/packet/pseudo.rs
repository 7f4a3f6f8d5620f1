//! Headers that were on no wire: what capturing machines put before a frame.

use super::{At, Layer};
use crate::discard::DiscardReason;
use crate::frame::LinkType;
use crate::work;

const IEEE_802_11: Layer = Layer::Link(LinkType::Ieee80211);

/// Radiotap: version, padding, length.
pub(super) fn radiotap(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let len = at.u16_le(2).ok_or(DiscardReason::LinkHeader)?;
    behind(at, usize::from(len), IEEE_802_11)
}

/// Prism: a message code and the length, in the order of the capturing machine; or AVS, in network order.
pub(super) fn prism(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let len = [at.u32(4), at.u32_le(4)].map(|len| len.and_then(|len| usize::try_from(len).ok()));
    let len = len.into_iter().flatten().min().ok_or(DiscardReason::LinkHeader)?;
    behind(at, len, IEEE_802_11)
}

/// Per-Packet Information: version, flags, length, the link type behind it.
pub(super) fn ppi(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let (len, link) = at.u16_le(2).zip(at.u32_le(4)).ok_or(DiscardReason::LinkHeader)?;
    behind(at, usize::from(len), Layer::Link(LinkType::of(link)))
}

/// Apple's `struct pktap_header`: length, kind of record (1: a packet), the link type behind it, the interface.
pub(super) fn pktap(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    match (at.u32_le(0), at.u32_le(4), at.u32_le(8)) {
        (Some(len @ PKTAP_LEAST..=PKTAP_MOST), Some(1), Some(link)) => {
            behind(at, len as usize, Layer::Link(LinkType::of(link)))
        }
        _ => Err(DiscardReason::LinkHeader),
    }
}

/// The header as Apple published it, and far more than it has grown by.
const PKTAP_LEAST: u32 = 108;
const PKTAP_MOST: u32 = 1024;

/// A number that anybody may use: it is Apple's where the header is.
pub(super) fn user2(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    pktap(at).map_err(|_| DiscardReason::LinkType)
}

/// Endace's record header: a time stamp, the type, flags, three lengths.
pub(super) fn erf(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let kind = *at.bytes.get(8).ok_or(DiscardReason::LinkHeader)?;
    let mut len = 16;
    // Extension headers: in each, and in the type, the highest bit says that one more follows.
    let mut more = kind & 0x80 != 0;
    while more {
        work::count(1);
        more = at.bytes.get(len).ok_or(DiscardReason::LinkHeader)? & 0x80 != 0;
        len += 8;
    }
    match kind & 0x7f {
        // Ethernet, in four colours, behind two octets of padding.
        2 | 11 | 16 | 20 => behind(at, len + 2, Layer::Link(LinkType::Ethernet)),
        // A serial line, also in colour: which of them is told by how it begins.
        1 | 12 | 15 | 17 => {
            let line = behind(at, len, at.layer)?;
            let link = match line.bytes {
                [0xff, 0x03, ..] | [0x0f | 0x8f, 0, ..] => LinkType::Ppp,
                _ => LinkType::FrameRelay,
            };
            Ok(At { layer: Layer::Link(link), ..line })
        }
        22 | 23 => behind(at, len, Layer::Ip),
        _ => Err(DiscardReason::LinkType),
    }
}

/// Linux's netfilter log: address family, version, group; then values with length and type before each, which are in
/// the order of the capturing machine. Where that is the wrong one, the lengths lead out of the frame.
pub(super) fn nflog(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let orders = [At::u16_le, At::u16];
    let payload = orders.into_iter().find_map(|order| nflog_payload(at, order));
    // A bridge also logs what is not IP.
    ip_or_not(payload.ok_or(DiscardReason::LinkHeader)?)
}

fn nflog_payload<'a>(at: At<'a>, order: fn(&At<'a>, usize) -> Option<u16>) -> Option<At<'a>> {
    const PAYLOAD: u16 = 9;
    let mut from = 4;
    loop {
        work::count(1);
        let (len, kind) = (usize::from(order(&at, from)?), order(&at, from + 2)?);
        match (len.checked_sub(4)?, kind) {
            (len, PAYLOAD) => return at.inside(from + 4, Layer::Ip).map(|value| value.limit(len)),
            _ => from += len.next_multiple_of(4),
        }
    }
}

/// The packet filter's log: the header's length without its padding to a word, the address family.
pub(super) fn pflog(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let len = *at.bytes.first().ok_or(DiscardReason::LinkHeader)?;
    behind(at, usize::from(len).next_multiple_of(4), Layer::Ip)
}

/// Decrypted IPsec: address family, index of the association, flags.
pub(super) fn enc(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    behind(at, 12, Layer::Ip)
}

/// Solaris's `ipnet`: version, address family, kind of hook, length, two interfaces, two zones.
pub(super) fn ipnet(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    behind(at, 24, Layer::Ip)
}

/// Juniper's: a magic number, flags, perhaps a list of values with its length before it; then the link layer, or, where
/// it was taken off, the protocol.
pub(super) fn juniper(link: LinkType, at: At<'_>) -> Result<At<'_>, DiscardReason> {
    const NO_LINK_LAYER: u8 = 0x02;
    const VALUES: u8 = 0x80;
    let Some([0x4d, 0x47, 0x43, flags]) = at.bytes.first_chunk() else {
        return Err(DiscardReason::LinkHeader);
    };
    let len = match flags & VALUES {
        0 => 4,
        _ => 6 + usize::from(at.u16(4).ok_or(DiscardReason::LinkHeader)?),
    };
    if flags & NO_LINK_LAYER == 0 {
        return behind(at, len, Layer::Link(link));
    }
    // Its order is not the same everywhere; what it stands before tells as much.
    ip_or_not(behind(at, len + 4, Layer::Ip)?)
}

fn ip_or_not(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    match at.bytes.first().map(|first| first >> 4) {
        Some(4 | 6) => Ok(at),
        Some(_) => Err(DiscardReason::NotIp),
        None => Err(DiscardReason::LinkHeader),
    }
}

fn behind(at: At<'_>, len: usize, layer: Layer) -> Result<At<'_>, DiscardReason> {
    at.inside(len, layer).ok_or(DiscardReason::LinkHeader)
}
