//! From the link layer down to IP: Ethernet, Linux cooked, loopback, serial lines; VLAN tags, PPPoE, MPLS.

use super::{At, Layer, pseudo, wifi};
use crate::discard::DiscardReason;
use crate::frame::LinkType;

/// Passes the header that a frame of this link type begins with.
pub(super) fn frame(link: LinkType, at: At<'_>) -> Result<At<'_>, DiscardReason> {
    match link {
        LinkType::Ethernet => {
            let kind = at.u16(12).ok_or(DiscardReason::LinkHeader)?;
            at.inside(14, Layer::EtherType(kind)).ok_or(DiscardReason::LinkHeader)
        }
        // OpenBSD has its loopback where others have this.
        LinkType::Raw if at.bytes.starts_with(&[0, 0, 0]) => frame(LinkType::Loop, at),
        LinkType::Raw => Ok(At { layer: Layer::Ip, ..at }),
        // The order of the address family on the wire is the capturing machine's.
        LinkType::Null | LinkType::Loop => match at.bytes.first_chunk() {
            Some([family, 0, 0, 0] | [0, 0, 0, family]) if is_ip(*family) => {
                at.inside(4, Layer::Ip).ok_or(DiscardReason::LinkHeader)
            }
            Some(_) => Err(DiscardReason::NotIp),
            None => Err(DiscardReason::LinkHeader),
        },
        LinkType::Sll => cooked(at.u16(2), at.u16(14), 16, at),
        LinkType::Sll2 => cooked(at.u16(8), at.u16(0), 20, at),
        LinkType::Ppp => ppp(at),
        LinkType::PppEther => pppoe(at),
        LinkType::CHdlc => c_hdlc(at),
        LinkType::FrameRelay => frame_relay(at),
        LinkType::AtmRfc1483 => llc(at, 2),
        LinkType::Ieee80211 => wifi::data(at),
        LinkType::Radiotap => pseudo::radiotap(at),
        LinkType::Prism | LinkType::Avs => pseudo::prism(at),
        LinkType::Ppi => pseudo::ppi(at),
        LinkType::Erf => pseudo::erf(at),
        LinkType::Pktap => pseudo::pktap(at),
        LinkType::User2 => pseudo::user2(at),
        LinkType::Nflog => pseudo::nflog(at),
        LinkType::Pflog => pseudo::pflog(at),
        LinkType::Enc => pseudo::enc(at),
        LinkType::Ipnet => pseudo::ipnet(at),
        LinkType::JuniperEther => pseudo::juniper(LinkType::Ethernet, at),
        LinkType::JuniperPpp => pseudo::juniper(LinkType::Ppp, at),
        LinkType::JuniperFrelay => pseudo::juniper(LinkType::FrameRelay, at),
        LinkType::JuniperChdlc => pseudo::juniper(LinkType::CHdlc, at),
        LinkType::UpperPdu => Ok(At { layer: Layer::Pdu, ..at }),
        LinkType::Other(_) => Err(DiscardReason::LinkType),
    }
}

/// Passes what lies between an EtherType and IP.
pub(super) fn ether_type(kind: u16, at: At<'_>) -> Result<At<'_>, DiscardReason> {
    match kind {
        0x0800 | 0x86dd => Ok(At { layer: Layer::Ip, ..at }),
        // 802.1Q, 802.1ad, and what came before it: tag, then the next EtherType.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 => tagged(at.u16(2), 4, at),
        // Cisco's group tag, and the tag of a port extender: IEEE 802.1BR's, and what came before it.
        0x8909 | 0x893f => tagged(at.u16(6), 8, at),
        0x8926 => tagged(at.u16(4), 6, at),
        // Ethernet in a provider's Ethernet (IEEE 802.1ah).
        0x88e7 => at.inside(4, Layer::Link(LinkType::Ethernet)).ok_or(DiscardReason::LinkHeader),
        0x8864 => pppoe(at),
        0x8847 | 0x8848 => mpls(at),
        // A length instead: 802.3.
        0..=1500 => llc(at, 0),
        // Transparent Ethernet bridging, under GRE and Geneve.
        0x6558 => Ok(At { layer: Layer::Link(LinkType::Ethernet), ..at }),
        _ => Err(DiscardReason::NotIp),
    }
}

/// Linux's cooked header of this length: an ARPHRD_ number says what kind of interface it was; where that is one that
/// listens to IEEE 802.11, no EtherType tells what follows.
fn cooked(hardware: Option<u16>, kind: Option<u16>, len: usize, at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let (hardware, kind) = hardware.zip(kind).ok_or(DiscardReason::LinkHeader)?;
    let layer = match hardware {
        801 => Layer::Link(LinkType::Ieee80211),
        802 => Layer::Link(LinkType::Prism),
        803 => Layer::Link(LinkType::Radiotap),
        _ => Layer::EtherType(kind),
    };
    at.inside(len, layer).ok_or(DiscardReason::LinkHeader)
}

/// Whether this is an address family of IPv4 or, on BSD, macOS or Linux, of IPv6.
fn is_ip(family: u8) -> bool {
    matches!(family, 2 | 10 | 24 | 28 | 30)
}

/// A tag of this length, which ends in the EtherType of what is behind it.
fn tagged(inner: Option<u16>, len: usize, at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let layer = Layer::EtherType(inner.ok_or(DiscardReason::LinkHeader)?);
    at.inside(len, layer).ok_or(DiscardReason::LinkHeader)
}

/// LLC (IEEE 802.2), as RFC 1042 and RFC 2684 put protocols into it; `pad` octets come before bridged Ethernet.
pub(super) fn llc(at: At<'_>, pad: usize) -> Result<At<'_>, DiscardReason> {
    let behind = |layer| at.inside(3, layer).ok_or(DiscardReason::LinkHeader);
    match at.bytes.first_chunk() {
        Some([0xaa, 0xaa, 0x03]) => snap(behind(at.layer)?, pad),
        Some([0xfe, 0xfe, 0x03]) => nlpid(behind(at.layer)?),
        Some([0x06, 0x06, 0x03]) => behind(Layer::Ip),
        Some(_) => Err(DiscardReason::NotIp),
        None => Err(DiscardReason::LinkHeader),
    }
}

/// A SNAP header: who numbered the protocol, and its number (RFC 1042, RFC 2684 §5.2).
fn snap(at: At<'_>, pad: usize) -> Result<At<'_>, DiscardReason> {
    let (len, layer) = match at.bytes.first_chunk() {
        // RFC 1042's, and IEEE 802.1H's.
        Some([0, 0, 0 | 0xf8, high, low]) => (5, Layer::EtherType(u16::from_be_bytes([*high, *low]))),
        // Bridged Ethernet, with its check sequence or without.
        Some([0, 0x80, 0xc2, 0, 1 | 7]) => (5 + pad, Layer::Link(LinkType::Ethernet)),
        Some(_) => return Err(DiscardReason::NotIp),
        None => return Err(DiscardReason::LinkHeader),
    };
    at.inside(len, layer).ok_or(DiscardReason::LinkHeader)
}

/// A network layer protocol identifier (ISO 9577) and what is behind it.
fn nlpid(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let behind = |layer| at.inside(1, layer).ok_or(DiscardReason::LinkHeader);
    match at.bytes.first() {
        Some(0xcc | 0x8e) => behind(Layer::Ip),
        Some(0x80) => snap(behind(at.layer)?, 0),
        Some(0xcf) => ppp_protocol(behind(at.layer)?),
        Some(_) => Err(DiscardReason::NotIp),
        None => Err(DiscardReason::LinkHeader),
    }
}

/// PPP in HDLC-like framing (RFC 1662 §3.1): address and control are there unless they were negotiated away.
fn ppp(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    match at.bytes {
        // Cisco's HDLC, captured as a serial line of any kind.
        [0x0f | 0x8f, 0, ..] => c_hdlc(at),
        [0xff | 0 | 1, 0x03, ..] => ppp_protocol(at.inside(2, at.layer).ok_or(DiscardReason::LinkHeader)?),
        _ => ppp_protocol(at),
    }
}

/// A PPP protocol field (RFC 1661 §2), which may be compressed to one octet.
fn ppp_protocol(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let (len, layer) = match at.bytes {
        [0x21 | 0x57, ..] => (1, Layer::Ip),
        [0, 0x21 | 0x57, ..] => (2, Layer::Ip),
        [0x02, 0x81 | 0x83, ..] => (2, Layer::EtherType(0x8847)),
        [_, _, ..] => return Err(DiscardReason::NotIp),
        _ => return Err(DiscardReason::LinkHeader),
    };
    at.inside(len, layer).ok_or(DiscardReason::LinkHeader)
}

/// RFC 2516 §4.
fn pppoe(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    ppp_protocol(at.inside(6, at.layer).ok_or(DiscardReason::LinkHeader)?)
}

/// Cisco's HDLC: address, control, EtherType (RFC 1547 §4.3.1).
fn c_hdlc(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let kind = at.u16(2).ok_or(DiscardReason::LinkHeader)?;
    at.inside(4, Layer::EtherType(kind)).ok_or(DiscardReason::LinkHeader)
}

/// Frame Relay: an address of two to four octets, of which the last has its lowest bit set (Q.922 §3.3); then RFC 2427
/// §3, or Cisco's way, which is an EtherType.
fn frame_relay(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let last = at.bytes.iter().take(4).position(|octet| octet & 1 == 1).filter(|&last| last > 0);
    let address = last.ok_or(DiscardReason::LinkHeader)? + 1;
    let behind = |len, layer| at.inside(address + len, layer).ok_or(DiscardReason::LinkHeader);
    match behind(0, at.layer)?.bytes {
        // Unnumbered information, padded to an even length or not.
        [0x03, 0x00, ..] => nlpid(behind(2, at.layer)?),
        [0x03, ..] => nlpid(behind(1, at.layer)?),
        [high, low, ..] => behind(2, Layer::EtherType(u16::from_be_bytes([*high, *low]))),
        _ => Err(DiscardReason::LinkHeader),
    }
}

/// RFC 3032 §2.1: labels up to the bottom of the stack. What follows is told by its first nibble.
fn mpls(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let bottom =
        at.bytes.chunks_exact(4).position(|label| label[2] & 1 == 1).ok_or(DiscardReason::LinkHeader)?;
    let inside = at.inside((bottom + 1) * 4, Layer::Ip).ok_or(DiscardReason::LinkHeader)?;
    match inside.bytes.first().map(|first| first >> 4) {
        Some(4 | 6) => Ok(inside),
        // A pseudowire's control word, then Ethernet (RFC 4448 §4.6).
        Some(0) => inside.inside(4, Layer::Link(LinkType::Ethernet)).ok_or(DiscardReason::LinkHeader),
        _ => Err(DiscardReason::NotIp),
    }
}
