//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, extension headers, and fragments.
//!
//! Checksums are not looked at: a capture on the sending host holds them as the network card was yet to
//! fill them in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{At, Layer};
use crate::discard::DiscardReason;

/// What is kept of the innermost IP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    /// IPv4 identification; of IPv6 only fragments have one.
    pub(super) id: u32,
}

/// A piece of an IP payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) ip: Ip,
    /// What the whole carries (of IPv6: the header behind the fragment header).
    pub(super) protocol: u8,
    /// Where `bytes` belong in the whole.
    pub(super) offset: usize,
    /// Whether more come behind it.
    pub(super) more: bool,
    pub(super) bytes: &'a [u8],
}

/// What an IP header leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inside<'a> {
    Payload(At<'a>),
    Fragment(Fragment<'a>),
}

/// Passes an IP header of either version.
pub(super) fn header(at: At<'_>) -> Result<Inside<'_>, DiscardReason> {
    match at.bytes.first().map(|first| first >> 4) {
        Some(4) => v4(at),
        Some(6) => v6(at),
        Some(_) => Err(DiscardReason::IpHeader),
        None => Err(at.short(DiscardReason::IpHeader)),
    }
}

fn v4(at: At<'_>) -> Result<Inside<'_>, DiscardReason> {
    let fixed: &[u8; 20] = at.bytes.first_chunk().ok_or(at.short(DiscardReason::IpHeader))?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    // Segmentation offload: on the sending host a large packet has no length yet. All there is, is it.
    let at = if total == 0 { at } else { at.limit(total) };
    if header < 20 || (total != 0 && total < header) {
        return Err(DiscardReason::IpHeader);
    }
    let ip = Ip {
        src: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
        dst: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
        id: u32::from(u16::from_be_bytes([fixed[4], fixed[5]])),
    };
    let protocol = fixed[9];
    let inside = at.inside(header, Layer::Payload(protocol, ip)).ok_or(at.short(DiscardReason::IpHeader))?;
    let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
    let (more, offset) = (flags & 0x2000 != 0, usize::from(flags & 0x1fff) * 8);
    if more || offset > 0 { piece(inside, ip, protocol, offset, more) } else { Ok(Inside::Payload(inside)) }
}

fn v6(at: At<'_>) -> Result<Inside<'_>, DiscardReason> {
    let fixed: &[u8; 40] = at.bytes.first_chunk().ok_or(at.short(DiscardReason::IpHeader))?;
    let len = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    // Without a length it is a jumbogram (RFC 2675) or was captured before segmentation.
    let at = if len == 0 { at } else { at.limit(40 + len) };
    let address = |from: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&fixed[from..from + 16]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let ip = Ip { src: address(8), dst: address(24), id: 0 };
    at.inside(40, Layer::Payload(fixed[6], ip)).map(Inside::Payload).ok_or(DiscardReason::IpHeader)
}

/// Passes an IPv6 extension header (RFC 8200 §4), or an authentication header (RFC 4302 §2).
pub(super) fn extension<'a>(kind: u8, ip: Ip, at: At<'a>) -> Result<Inside<'a>, DiscardReason> {
    let fixed: &[u8; 8] = at.bytes.first_chunk().ok_or(at.short(DiscardReason::IpHeader))?;
    let (next, len) = (fixed[0], usize::from(fixed[1]));
    let len = match kind {
        44 => 8,
        51 => (len + 2) * 4,
        _ => (len + 1) * 8,
    };
    if kind == 44 {
        let ip = Ip { id: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]), ..ip };
        let inside = at.inside(len, Layer::Payload(next, ip)).ok_or(at.short(DiscardReason::IpHeader))?;
        let flags = u16::from_be_bytes([fixed[2], fixed[3]]);
        let (more, offset) = (flags & 1 != 0, usize::from(flags & !7));
        // An "atomic fragment" is whole (RFC 6946).
        return if more || offset > 0 {
            piece(inside, ip, next, offset, more)
        } else {
            Ok(Inside::Payload(inside))
        };
    }
    at.inside(len, Layer::Payload(next, ip)).map(Inside::Payload).ok_or(at.short(DiscardReason::IpHeader))
}

fn piece(at: At<'_>, ip: Ip, protocol: u8, offset: usize, more: bool) -> Result<Inside<'_>, DiscardReason> {
    if at.missing > 0 {
        return Err(DiscardReason::CutShort);
    }
    let len = at.bytes.len();
    if len == 0 || offset + len > 65_535 || (more && !len.is_multiple_of(8)) {
        return Err(DiscardReason::FragmentShape);
    }
    Ok(Inside::Fragment(Fragment { ip, protocol, offset, more, bytes: at.bytes }))
}
