//! Frame → datagram or TCP segment: link layers, encapsulations, IP fragments, and the recognition of one
//! packet seen at two taps. Sans-IO and bounded.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sipobs_common::{VXLAN_PORT, VXLAN_PORT_LINUX};

use self::duplicate::Duplicates;
use self::fragment::{Fragments, Joined};
use self::ip::{Inside, Ip};
use crate::discard::{DiscardCounts, DiscardReason};
use crate::frame::{Direction, Frame, LinkType};
use crate::loss::Loss;
use crate::timestamp::Timestamp;

mod duplicate;
mod fragment;
mod ip;
mod link;
pub(crate) mod locate;
mod pdu;
mod pseudo;
mod tunnel;
mod wifi;

/// A UDP datagram or TCP segment, whole.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When the (last) frame that carried it was captured.
    pub time: Timestamp,
    /// The number of that frame.
    pub frame: u64,
    /// Innermost source address.
    pub src: SocketAddr,
    /// Innermost destination address.
    pub dst: SocketAddr,
    /// Every frame that carried it came out of a socket of this very host ([`Direction::Originated`]), and no tunnel is
    /// around it: whatever its source address, nobody elsewhere has forged it.
    pub originated: bool,
    /// What it carries.
    pub transport: Transport<'a>,
}

/// What a packet carries above IP.
#[derive(Clone, Copy, Debug)]
pub enum Transport<'a> {
    /// A UDP payload; `cut` when the capture holds less of it than its header promises.
    Udp {
        /// The payload.
        payload: &'a [u8],
        /// Whether bytes at its end are missing.
        cut: bool,
    },
    /// A TCP segment.
    Tcp {
        /// Sequence number of the first byte (of the SYN, if set).
        seq: u32,
        /// What it acknowledges, if its ACK flag is set.
        ack: Option<u32>,
        /// SYN.
        syn: bool,
        /// FIN.
        fin: bool,
        /// RST.
        rst: bool,
        /// The payload as captured.
        payload: &'a [u8],
        /// Bytes of payload that the capture cut off.
        cut: u32,
    },
    /// A message that a tool took out of a TCP or TLS connection; `cut` as for a datagram.
    Exported {
        /// The message.
        payload: &'a [u8],
        /// Whether bytes at its end are missing.
        cut: bool,
    },
}

/// What comes out of this stage.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A packet for the stream stage.
    Packet(Packet<'a>),
    /// Evidence known to be missing.
    Loss(Loss),
}

/// Limits and choices of this stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of fragments that may wait for others, with a fixed sum for each. Its share of the memory.
    #[serde(skip)]
    pub max_fragment_bytes: usize,
    /// UDP ports of VXLAN tunnels to look into: those of the live capture's configuration.
    #[serde(skip)]
    pub vxlan_ports: Vec<u16>,
    /// How long a fragment waits for the others.
    #[serde(with = "crate::duration")]
    pub fragment_timeout: Duration,
    /// A UDP packet or fragment that equals one seen no longer ago than this is a copy
    /// of it seen at another tap. 0: never.
    #[serde(with = "crate::duration")]
    pub copy_window: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_fragment_bytes: 8 << 20,
            vxlan_ports: vec![VXLAN_PORT, VXLAN_PORT_LINUX],
            fragment_timeout: Duration::from_secs(5),
            copy_window: Duration::from_millis(10),
        }
    }
}

/// What became of every frame: `frames = packets + fragments_joined + fragments_waiting + unused.total()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Frames taken.
    pub frames: u64,
    /// Packets given to the stream stage.
    pub packets: u64,
    /// Fragments that became part of a packet, but for the last of each.
    pub fragments_joined: u64,
    /// Fragments that wait for others now.
    pub fragments_waiting: u64,
    /// Datagrams given up that may have been SIP.
    pub datagrams_lost: u64,
    /// Frames that led to nothing, by reason.
    pub unused: DiscardCounts,
}

/// The stage: link layers, encapsulations, IP fragments, double taps.
#[derive(Debug)]
pub struct Packets {
    fragments: Fragments,
    duplicates: Duplicates,
    vxlan_ports: Vec<u16>,
    counters: Counters,
}

/// More headers than a frame has in practice: QinQ, PPPoE, MPLS, two tunnels and their IP headers.
const MAX_LAYERS: usize = 24;

/// A place inside a frame: what comes next, and the bytes from there on.
#[derive(Clone, Copy, Debug)]
struct At<'a> {
    layer: Layer,
    bytes: &'a [u8],
    /// Bytes behind `bytes` that were on the wire but not captured.
    missing: usize,
}

/// What a place inside a frame begins with.
#[derive(Clone, Copy, Debug)]
enum Layer {
    Link(LinkType),
    EtherType(u16),
    Ip,
    /// Tags, and what they are about.
    Pdu,
    /// An IP payload of this protocol.
    Payload(u8, Ip),
}

/// What is under one header.
enum Under<'a> {
    More(At<'a>),
    Fragment(ip::Fragment<'a>),
    Packet(Ip, SocketAddr, SocketAddr, Transport<'a>),
}

impl Default for Packets {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Packets {
    /// An empty stage.
    pub fn new(config: Config) -> Self {
        Self {
            fragments: Fragments::new(config.max_fragment_bytes, config.fragment_timeout),
            duplicates: Duplicates::new(config.copy_window),
            vxlan_ports: config.vxlan_ports,
            counters: Counters::default(),
        }
    }

    /// UDP ports of VXLAN tunnels that are looked into.
    pub(crate) fn vxlan_ports(&self) -> &[u16] {
        &self.vxlan_ports
    }

    /// What became of every frame so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Looks into VXLAN tunnels on these ports from now on.
    pub fn set_vxlan_ports(&mut self, ports: &[u16]) {
        ports.clone_into(&mut self.vxlan_ports);
    }

    /// Takes one frame and gives what it completes, in order, to `sink`.
    pub fn push(&mut self, frame: &Frame<'_>, sink: &mut dyn FnMut(Item<'_>)) {
        self.counters.frames += 1;
        let mut whole: Vec<u8>;
        let (mut originated, mut headers) = (frame.direction == Direction::Originated, 0);
        let mut at = At::of(frame);
        for _ in 0..MAX_LAYERS {
            // Whoever wraps a packet up for a tunnel need not have made it.
            headers += u8::from(matches!(at.layer, Layer::Ip));
            originated &= headers <= 1;
            match under(at, &self.vxlan_ports) {
                Ok(Under::More(inside)) => at = inside,
                Ok(Under::Fragment(fragment)) => {
                    let time = frame.time;
                    if self.duplicates.fragment(time, &fragment) {
                        return self.counters.unused.add(DiscardReason::OtherTap, 1);
                    }
                    let layer = Layer::Payload(fragment.protocol, fragment.ip);
                    match self.fragments.push(time, &fragment, originated, &mut self.counters, sink) {
                        Joined::Whole(datagram) => {
                            (whole, originated) = (datagram.bytes, datagram.originated);
                        }
                        Joined::Not => return,
                    }
                    at = At { layer, bytes: &whole, missing: 0 };
                }
                Ok(Under::Packet(ip, src, dst, transport)) => {
                    let (time, frame_number) = (frame.time, frame.number);
                    let packet = Packet { time, frame: frame_number, src, dst, originated, transport };
                    if self.duplicates.packet(ip, &packet, frame) {
                        return self.counters.unused.add(DiscardReason::OtherTap, 1);
                    }
                    self.counters.packets += 1;
                    return sink(Item::Packet(packet));
                }
                Err(reason) => return self.counters.unused.add(reason, 1),
            }
        }
        self.counters.unused.add(DiscardReason::TooDeep, 1);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.fragments.poll_timeout()
    }

    /// Gives up on what has waited too long at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp, sink: &mut dyn FnMut(Item<'_>)) {
        self.fragments.handle_timeout(now, &mut self.counters, sink);
    }

    /// The capture is over: gives up on what still waits.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Item<'_>)) {
        self.fragments.give_up_all(&mut self.counters, sink);
    }
}

/// Takes off one header.
/// The packet in a frame that is none of the stage's business yet: a fragment has none.
pub(crate) fn peek<'a>(
    frame: &Frame<'a>,
    vxlan_ports: &[u16],
) -> Option<(SocketAddr, SocketAddr, Transport<'a>)> {
    let mut at = At { layer: Layer::Link(frame.link), bytes: frame.bytes, missing: 0 };
    for _ in 0..MAX_LAYERS {
        match under(at, vxlan_ports).ok()? {
            Under::More(inside) => at = inside,
            Under::Fragment(_) => return None,
            Under::Packet(_, src, dst, transport) => return Some((src, dst, transport)),
        }
    }
    None
}

fn under<'a>(at: At<'a>, vxlan_ports: &[u16]) -> Result<Under<'a>, DiscardReason> {
    let inside = match at.layer {
        Layer::Link(link) => return link::frame(link, at).map(Under::More).map_err(|e| at.cut_or(e)),
        Layer::EtherType(kind) => {
            return link::ether_type(kind, at).map(Under::More).map_err(|e| at.cut_or(e));
        }
        Layer::Ip => ip::header(at)?,
        Layer::Pdu => return pdu::exported(at),
        Layer::Payload(protocol, ip) => match protocol {
            0 | 43 | 44 | 51 | 60 | 135 | 139 | 140 => ip::extension(protocol, ip, at)?,
            4 | 41 => return Ok(Under::More(At { layer: Layer::Ip, ..at })),
            6 => return tcp(ip, at),
            17 => return udp(ip, at, vxlan_ports),
            47 => return tunnel::gre(at).map(Under::More),
            _ => return Err(DiscardReason::OtherProtocol),
        },
    };
    Ok(match inside {
        Inside::Payload(at) => Under::More(at),
        Inside::Fragment(fragment) => Under::Fragment(fragment),
    })
}

/// RFC 768.
fn udp<'a>(ip: Ip, at: At<'a>, vxlan_ports: &[u16]) -> Result<Under<'a>, DiscardReason> {
    let short = at.short(DiscardReason::UdpHeader);
    let [src, dst, len] = [at.u16(0), at.u16(2), at.u16(4)];
    let (src, dst, len) = (src.ok_or(short)?, dst.ok_or(short)?, usize::from(len.ok_or(short)?));
    let carried = at.bytes.len().saturating_add(at.missing);
    // No length: as with IP's, it is yet to be filled in.
    let len = if len == 0 { carried } else { len };
    if len < 8 || len > carried {
        return Err(DiscardReason::UdpHeader);
    }
    let inside = at.limit(len).inside(8, at.layer).ok_or(short)?;
    if let Some(tunnelled) = tunnel::udp(dst, &inside, vxlan_ports) {
        return Ok(Under::More(tunnelled));
    }
    let transport = Transport::Udp { payload: inside.bytes, cut: inside.missing > 0 };
    Ok(Under::Packet(ip, SocketAddr::new(ip.src, src), SocketAddr::new(ip.dst, dst), transport))
}

/// RFC 9293 §3.1.
fn tcp(ip: Ip, at: At<'_>) -> Result<Under<'_>, DiscardReason> {
    let short = at.short(DiscardReason::TcpHeader);
    let fixed: &[u8; 20] = at.bytes.first_chunk().ok_or(short)?;
    let header = usize::from(fixed[12] >> 4) * 4;
    if header < 20 {
        return Err(DiscardReason::TcpHeader);
    }
    let inside = at.inside(header, at.layer).ok_or(short)?;
    let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let flags = fixed[13];
    let transport = Transport::Tcp {
        seq: word(4),
        ack: (flags & 0x10 != 0).then(|| word(8)),
        syn: flags & 0x02 != 0,
        fin: flags & 0x01 != 0,
        rst: flags & 0x04 != 0,
        payload: inside.bytes,
        cut: u32::try_from(inside.missing).unwrap_or(u32::MAX),
    };
    let src = SocketAddr::new(ip.src, u16::from_be_bytes([fixed[0], fixed[1]]));
    let dst = SocketAddr::new(ip.dst, u16::from_be_bytes([fixed[2], fixed[3]]));
    Ok(Under::Packet(ip, src, dst, transport))
}

impl Transport<'_> {
    fn payload(&self) -> &[u8] {
        match self {
            Transport::Udp { payload, .. }
            | Transport::Tcp { payload, .. }
            | Transport::Exported { payload, .. } => payload,
        }
    }
}

impl<'a> At<'a> {
    /// The beginning of a frame.
    fn of(frame: &Frame<'a>) -> Self {
        let missing = usize::try_from(frame.wire_len).unwrap_or(usize::MAX).saturating_sub(frame.bytes.len());
        Self { layer: Layer::Link(frame.link), bytes: frame.bytes, missing }
    }

    /// What begins `len` bytes further on; `None` if the captured bytes end before.
    fn inside(&self, len: usize, layer: Layer) -> Option<At<'a>> {
        self.bytes.get(len..).map(|bytes| At { layer, bytes, missing: self.missing })
    }

    /// The first `len` bytes: what is behind them is padding. If there are fewer, the others are missing.
    fn limit(&self, len: usize) -> Self {
        match self.bytes.get(..len) {
            Some(bytes) => At { bytes, missing: 0, ..*self },
            None => At { missing: len - self.bytes.len(), ..*self },
        }
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn u16_le(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn u32_le(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    /// Why a header that does not fit here was not understood.
    fn short(&self, malformed: DiscardReason) -> DiscardReason {
        if self.missing > 0 { DiscardReason::CutShort } else { malformed }
    }

    fn cut_or(&self, reason: DiscardReason) -> DiscardReason {
        if reason == DiscardReason::LinkHeader { self.short(reason) } else { reason }
    }
}

#[cfg(test)]
mod tests;
