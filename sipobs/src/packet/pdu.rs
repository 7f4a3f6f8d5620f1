//! Exported PDUs: what Wireshark and its kin take out of packets, whole and perhaps decrypted, behind tags that tell
//! which protocol it is and between whom it went.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ip::Ip;
use super::{At, Layer, Transport, Under};
use crate::discard::DiscardReason;
use crate::frame::LinkType;
use crate::work;

const END: u16 = 0;
/// The dissector to give the PDU to, by name; the same for one that guesses; a table that holds it.
const DISSECTOR: u16 = 12;
const HEURISTIC: u16 = 13;
const TABLE: u16 = 14;
const IPV4_SRC: u16 = 20;
const IPV4_DST: u16 = 21;
const IPV6_SRC: u16 = 22;
const IPV6_DST: u16 = 23;
const PORT_TYPE: u16 = 24;
const SRC_PORT: u16 = 25;
const DST_PORT: u16 = 26;
const TCP_INFO: u16 = 34;

/// What the tags say.
#[derive(Default)]
struct Tags<'a> {
    protocol: &'a [u8],
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    src_port: u16,
    dst_port: u16,
    udp: bool,
    /// Sequence number and flags.
    tcp: Option<(u32, u8)>,
}

/// Passes the tags.
pub(super) fn exported(at: At<'_>) -> Result<Under<'_>, DiscardReason> {
    let (tags, pdu) = Tags::read(at).ok_or(at.short(DiscardReason::LinkHeader))?;
    match tags.protocol {
        // A message. "sip.tcp" and "sip_udp" are names of dissectors, too.
        b"udp.port" | [b's', b'i', b'p'] | [b's', b'i', b'p', b'.' | b'_', ..] => Ok(tags.message(pdu)),
        // A segment, of which a message may be a part.
        b"tcp.port" => Ok(tags.segment(pdu)),
        b"ip" | b"ipv6" => Ok(Under::More(At { layer: Layer::Ip, ..pdu })),
        b"eth" | b"eth_withoutfcs" | b"eth_maybefcs" => {
            Ok(Under::More(At { layer: Layer::Link(LinkType::Ethernet), ..pdu }))
        }
        _ => Err(DiscardReason::OtherProtocol),
    }
}

impl<'a> Tags<'a> {
    fn read(at: At<'a>) -> Option<(Self, At<'a>)> {
        let (mut tags, mut at) = (Self::default(), at);
        loop {
            work::count(1);
            let (code, len) = at.u16(0).zip(at.u16(2))?;
            let value = at.inside(4, at.layer)?;
            at = value.inside(usize::from(len), at.layer)?;
            if code == END {
                return Some((tags, at));
            }
            tags.take(code, &value.bytes[..usize::from(len)]);
        }
    }

    fn take(&mut self, code: u16, value: &'a [u8]) {
        match code {
            DISSECTOR | HEURISTIC | TABLE => {
                let len = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
                self.protocol = &value[..len];
            }
            IPV4_SRC => self.src = v4(value).or(self.src),
            IPV4_DST => self.dst = v4(value).or(self.dst),
            IPV6_SRC => self.src = v6(value).or(self.src),
            IPV6_DST => self.dst = v6(value).or(self.dst),
            PORT_TYPE => self.udp = value == [0, 0, 0, 3],
            SRC_PORT => self.src_port = port(value),
            DST_PORT => self.dst_port = port(value),
            TCP_INFO => self.tcp = tcp(value).or(self.tcp),
            _ => {}
        }
    }

    fn message(&self, pdu: At<'a>) -> Under<'a> {
        let (payload, cut) = (pdu.bytes, pdu.missing > 0);
        self.packet(if self.udp {
            Transport::Udp { payload, cut }
        } else {
            Transport::Exported { payload, cut }
        })
    }

    fn segment(&self, pdu: At<'a>) -> Under<'a> {
        let Some((seq, flags)) = self.tcp else { return self.message(pdu) };
        self.packet(Transport::Tcp {
            seq,
            ack: None,
            syn: flags & 0x02 != 0,
            fin: flags & 0x01 != 0,
            rst: flags & 0x04 != 0,
            payload: pdu.bytes,
            cut: u32::try_from(pdu.missing).unwrap_or(u32::MAX),
        })
    }

    /// Where no address was written down, nobody's stands for it.
    fn packet(&self, transport: Transport<'a>) -> Under<'a> {
        const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let ip = Ip { src: self.src.unwrap_or(NOBODY), dst: self.dst.unwrap_or(NOBODY), id: 0 };
        let (src, dst) = (SocketAddr::new(ip.src, self.src_port), SocketAddr::new(ip.dst, self.dst_port));
        Under::Packet(ip, src, dst, transport)
    }
}

fn v4(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into())
}

fn v6(value: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// Four octets, of which a port needs two.
fn port(value: &[u8]) -> u16 {
    match value {
        [0, 0, high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

/// Version 1: sequence number, the next one, the last acknowledged, whether it was put together, flags, urgent pointer.
fn tcp(value: &[u8]) -> Option<(u32, u8)> {
    match *value {
        [0, 1, a, b, c, d, _, _, _, _, _, _, _, _, _, _, flags, ..] => {
            Some((u32::from_be_bytes([a, b, c, d]), flags))
        }
        _ => None,
    }
}
