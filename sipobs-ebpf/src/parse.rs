//! Is this frame SIP? From the link layer to the first bytes of the payload, in constant time.

use sipobs_common::{FragmentKey, flags, noise};

use crate::frame::Frame;
use crate::maps::{first_fragment_matched, is_sip_port, remember_first_fragment, settings};

/// How a frame begins.
#[derive(Clone, Copy)]
pub enum Link {
    Ethernet,
    /// With its IP header.
    Raw,
}

/// What a frame is to us.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// SIP, with marks from [`flags`].
    Match(u32),
    Other,
    Malformed,
    KeepAlive,
    Noise,
}

/// The rest of a frame, from its network header on.
struct Network {
    at: u32,
    ethertype: u16,
}

/// An IP packet's payload.
struct Transport {
    at: u32,
    /// Where the payload ends in the frame: padding may follow. None where the header's length field is too
    /// short for what segmentation offload has put together.
    end: Option<u32>,
    protocol: u8,
    fragment: Fragment,
    /// Meaningful for fragments only.
    key: FragmentKey,
}

#[derive(Clone, Copy, PartialEq)]
enum Fragment {
    Whole,
    First,
    Later,
}

/// What a transport header leads to.
enum Payload {
    Sip,
    /// A tunnelled Ethernet frame that begins here.
    Tunnel(u32),
}

/// Looks at the frame and, should it be a VXLAN tunnel's, at the frame inside: one level, not two.
#[inline(always)]
pub fn judge<F: Frame>(frame: &F, link: Link) -> Verdict {
    match try_judge(frame, link) {
        Ok(marks) => Verdict::Match(marks),
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn try_judge<F: Frame>(frame: &F, link: Link) -> Result<u32, Verdict> {
    let network = match link {
        Link::Ethernet => ethernet(frame, 0)?,
        Link::Raw => raw_ip(frame)?,
    };
    let outer = ip(frame, &network)?;
    if outer.fragment == Fragment::Later {
        return later_fragment(&outer);
    }
    let verdict = match transport(frame, &outer) {
        Ok(Payload::Sip) => Ok(0),
        Ok(Payload::Tunnel(at)) if F::TUNNELS => tunnelled(frame, at),
        Ok(Payload::Tunnel(_)) => Err(Verdict::Other),
        Err(verdict) => Err(verdict),
    };
    if outer.fragment == Fragment::First {
        remember_first_fragment(&outer.key, verdict.is_ok());
    }
    verdict
}

#[inline(always)]
fn tunnelled<F: Frame>(frame: &F, at: u32) -> Result<u32, Verdict> {
    let inner = ip(frame, &ethernet(frame, at)?)?;
    if inner.fragment == Fragment::Later {
        return later_fragment(&inner).map(|marks| marks | flags::VXLAN);
    }
    let verdict = match transport(frame, &inner) {
        Ok(Payload::Sip) => Ok(flags::VXLAN),
        Ok(Payload::Tunnel(_)) => Err(Verdict::Other),
        Err(verdict) => Err(verdict),
    };
    if inner.fragment == Fragment::First {
        remember_first_fragment(&inner.key, verdict.is_ok());
    }
    verdict
}

/// Only the first fragment has ports. One that comes after its successors (on another CPU, or by another
/// path) would leave a hole in the message, so fragments of a datagram not yet known are delivered too;
/// the daemon drops those whose first fragment never comes.
#[inline(always)]
fn later_fragment(packet: &Transport) -> Result<u32, Verdict> {
    match first_fragment_matched(&packet.key) {
        Some(true) => Ok(0),
        Some(false) => Err(Verdict::Other),
        None => Ok(flags::FIRST_UNSEEN),
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Ethernet with up to two VLAN tags (IEEE 802.1Q, 802.1ad, and the 0x9100 of older equipment).
#[inline(always)]
fn ethernet<F: Frame>(frame: &F, at: u32) -> Result<Network, Verdict> {
    let mut at = at + 12;
    for _ in 0..3 {
        let ethertype = u16::from_be_bytes(read(frame, at)?);
        match ethertype {
            0x8100 | 0x88a8 | 0x9100 => at += 4,
            _ => return Ok(Network { at: at + 2, ethertype }),
        }
    }
    Err(Verdict::Malformed)
}

#[inline(always)]
fn raw_ip<F: Frame>(frame: &F) -> Result<Network, Verdict> {
    let [first] = read(frame, 0)?;
    match first >> 4 {
        4 => Ok(Network { at: 0, ethertype: ETHERTYPE_IPV4 }),
        6 => Ok(Network { at: 0, ethertype: ETHERTYPE_IPV6 }),
        _ => Err(Verdict::Other),
    }
}

#[inline(always)]
fn ip<F: Frame>(frame: &F, network: &Network) -> Result<Transport, Verdict> {
    match network.ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, network.at),
        ETHERTYPE_IPV6 => ipv6(frame, network.at),
        _ => Err(Verdict::Other),
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// RFC 791, section 3.1.
#[inline(always)]
fn ipv4<F: Frame>(frame: &F, at: u32) -> Result<Transport, Verdict> {
    let header: [u8; 20] = read(frame, at)?;
    let protocol = header[9];
    if header[0] >> 4 != 4 {
        return Err(Verdict::Malformed);
    }
    if protocol != UDP && protocol != TCP {
        return Err(Verdict::Other);
    }
    let header_len = u32::from(header[0] & 0x0f) * 4;
    let total_len = u32::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < 20 || (total_len != 0 && total_len < header_len) {
        return Err(Verdict::Malformed);
    }
    let more = header[6] & 0x20 != 0;
    let offset = u16::from_be_bytes([header[6] & 0x1f, header[7]]);
    Ok(Transport {
        at: at + header_len,
        end: if total_len == 0 { None } else { Some(at + total_len) },
        protocol,
        fragment: Fragment::of(more, offset != 0),
        key: FragmentKey {
            source: [0, 0, 0, word(&header, 12)],
            destination: [0, 0, 0, word(&header, 16)],
            id: u32::from(u16::from_be_bytes([header[4], header[5]])),
            protocol: u32::from(protocol),
        },
    })
}

/// RFC 8200, sections 3 and 4: up to eight extension headers.
#[inline(always)]
fn ipv6<F: Frame>(frame: &F, at: u32) -> Result<Transport, Verdict> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;
    const MOBILITY: u8 = 135;
    const HIP: u8 = 139;
    const SHIM6: u8 = 140;

    let header: [u8; 40] = read(frame, at)?;
    if header[0] >> 4 != 6 {
        return Err(Verdict::Malformed);
    }
    let payload_len = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let mut transport = Transport {
        at: at + 40,
        end: if payload_len == 0 { None } else { Some(at + 40 + payload_len) },
        protocol: header[6],
        fragment: Fragment::Whole,
        key: FragmentKey {
            source: [word(&header, 8), word(&header, 12), word(&header, 16), word(&header, 20)],
            destination: [word(&header, 24), word(&header, 28), word(&header, 32), word(&header, 36)],
            id: 0,
            // Only addresses and identification tell datagrams apart (RFC 8200, section 4.5).
            protocol: 0,
        },
    };
    for _ in 0..9 {
        match transport.protocol {
            TCP | UDP => return Ok(transport),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => {
                let [next, len] = read(frame, transport.at)?;
                transport.protocol = next;
                transport.at += (u32::from(len) + 1) * 8;
            }
            // RFC 4302, section 2.2: in 4-byte units, minus 2.
            AUTHENTICATION => {
                let [next, len] = read(frame, transport.at)?;
                transport.protocol = next;
                transport.at += (u32::from(len) + 2) * 4;
            }
            FRAGMENT => {
                let header: [u8; 8] = read(frame, transport.at)?;
                transport.protocol = header[0];
                transport.at += 8;
                transport.key.id = word(&header, 4);
                let offset = u16::from_be_bytes([header[2], header[3]]);
                transport.fragment = Fragment::of(offset & 1 != 0, offset & !7 != 0);
                // What follows in a later fragment is payload, not a header.
                if transport.fragment == Fragment::Later {
                    return match transport.protocol {
                        TCP | UDP | DESTINATION_OPTIONS => Ok(transport),
                        _ => Err(Verdict::Other),
                    };
                }
            }
            _ => return Err(Verdict::Other),
        }
    }
    Err(Verdict::Malformed)
}

#[inline(always)]
fn transport<F: Frame>(frame: &F, packet: &Transport) -> Result<Payload, Verdict> {
    match packet.protocol {
        UDP => udp(frame, packet),
        TCP => tcp(frame, packet),
        _ => Err(Verdict::Other),
    }
}

/// RFC 768; what is no SIP on a SIP port: RFC 5626, section 3.5 (CRLF and STUN keep-alives).
#[inline(always)]
fn udp<F: Frame>(frame: &F, packet: &Transport) -> Result<Payload, Verdict> {
    let header: [u8; 8] = read(frame, packet.at)?;
    let source = u16::from_be_bytes([header[0], header[1]]);
    let destination = u16::from_be_bytes([header[2], header[3]]);
    let body = packet.at + 8;
    if !is_sip_port(destination) && !is_sip_port(source) {
        return vxlan(frame, destination, body);
    }
    // The first fragment's length field counts the whole datagram, so this holds for it too.
    if let 8..=12 = u16::from_be_bytes([header[4], header[5]]) {
        return Err(Verdict::KeepAlive);
    }
    let Some(start) = frame.read::<8>(body) else { return Ok(Payload::Sip) };
    if start[0] & 0xc0 == 0 && word(&start, 4) == u32::from_ne_bytes(STUN_COOKIE) {
        return Err(Verdict::KeepAlive);
    }
    let wanted = settings().noise;
    if wanted != 0 {
        let method = match &start {
            b"OPTIONS " => noise::OPTIONS,
            b"REGISTER" => noise::REGISTER,
            b"PUBLISH " => noise::PUBLISH,
            _ => 0,
        };
        if wanted & method != 0 {
            return Err(Verdict::Noise);
        }
    }
    Ok(Payload::Sip)
}

/// RFC 8489, section 5.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// RFC 7348, section 5: the inner frame follows eight bytes of header.
#[inline(always)]
fn vxlan<F: Frame>(frame: &F, port: u16, at: u32) -> Result<Payload, Verdict> {
    let [first, second] = settings().vxlan_ports;
    if port == 0 || (port != first && port != second) {
        return Err(Verdict::Other);
    }
    let [bits] = read(frame, at)?;
    if bits & 0x08 == 0 {
        return Err(Verdict::Other);
    }
    Ok(Payload::Tunnel(at + 8))
}

/// RFC 9293, section 3.1. A segment without data matters only if it opens or ends the stream. CRLF
/// keep-alives go to the daemon: they are bytes of the stream.
#[inline(always)]
fn tcp<F: Frame>(frame: &F, packet: &Transport) -> Result<Payload, Verdict> {
    let ports: [u8; 4] = read(frame, packet.at)?;
    let source = u16::from_be_bytes([ports[0], ports[1]]);
    let destination = u16::from_be_bytes([ports[2], ports[3]]);
    if !is_sip_port(destination) && !is_sip_port(source) {
        return Err(Verdict::Other);
    }
    // A first fragment need not hold the whole header.
    if packet.fragment != Fragment::Whole {
        return Ok(Payload::Sip);
    }
    let [offset, bits] = read(frame, packet.at + 12)?;
    const FIN_SYN_RST: u8 = 0x07;
    if bits & FIN_SYN_RST == 0
        && let Some(end) = packet.end
        && end <= packet.at + u32::from(offset >> 4) * 4
    {
        return Err(Verdict::KeepAlive);
    }
    Ok(Payload::Sip)
}

impl Fragment {
    #[inline(always)]
    fn of(more: bool, has_offset: bool) -> Self {
        match (more, has_offset) {
            (_, true) => Self::Later,
            (true, false) => Self::First,
            (false, false) => Self::Whole,
        }
    }
}

#[inline(always)]
fn read<F: Frame, const N: usize>(frame: &F, at: u32) -> Result<[u8; N], Verdict> {
    frame.read(at).ok_or(Verdict::Malformed)
}

/// Four bytes as they stand: for comparing, not for counting.
#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
