//! Packets → SIP byte messages: TCP reassembly, framing by Content-Length, resync after a gap. Sans-IO and
//! bounded.
//!
//! SIP is recognised by its start line, on any port unless the configuration names some. Streams that are
//! not SIP are let go at their first bytes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use memchr::{memmem, memrchr};
use serde::{Deserialize, Serialize, Serializer};

use self::length::Length;
use self::tcp::{Connections, Segment, Surroundings};
pub(crate) use self::tls::Random;
pub use self::tls::{Counts as TlsCounts, KeyLog};
use self::twice::{Tap, Twice};
pub use self::websocket::Counts as WebSocketCounts;
use crate::discard::{DiscardCounts, DiscardReason};
use crate::hep;
pub use crate::loss::Loss;
use crate::packet::{Packet, Transport};
use crate::timestamp::Timestamp;

mod framer;
mod half;
mod length;
mod tcp;
mod tls;
mod twice;
mod websocket;

use crate::sip::Message;
use crate::sip::start_line::{self, begins_like_sip};

/// One SIP message as it crossed the wire, whole, not yet understood.
#[derive(Clone, Copy, Debug)]
pub struct WireMessage<'a> {
    /// When its last byte was captured.
    pub time: Timestamp,
    /// The number of the frame that completed it.
    pub frame: u64,
    /// Who sent it.
    pub src: SocketAddr,
    /// Who it was sent to.
    pub dst: SocketAddr,
    /// Over which transport.
    pub transport: TransportKind,
    /// The sequence number of its first byte in its TCP connection, where it came over one and lies there as it is.
    pub seq: Option<u32>,
    /// Start line to end of body.
    pub bytes: &'a [u8],
    /// Bytes at the end of its body are known to be missing (cut by the capture or by a gap).
    pub cut: bool,
    /// All that carried it came out of a socket of this very host: see [`Packet::originated`].
    pub originated: bool,
}

/// What a packet of HEP says of one message.
#[derive(Clone, Copy, Debug)]
pub struct ByHep<'a> {
    /// When the packet came.
    pub time: Timestamp,
    /// The number of the frame, or of the packet, that it came in.
    pub frame: u64,
    /// Who sent the message.
    pub src: SocketAddr,
    /// Who it was sent to.
    pub dst: SocketAddr,
    /// Over which transport.
    pub transport: TransportKind,
    /// What the packet carries.
    pub bytes: &'a [u8],
}

/// The transports that sipobs sees messages come over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// UDP (RFC 3261 §18).
    Udp,
    /// TCP.
    Tcp,
    /// TLS, opened by its secrets.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket in TLS.
    Wss,
}

impl TransportKind {
    /// As a Via names it, in small letters (RFC 3261 §20.42).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether it comes within TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether packets hold the messages as they are, and not within something else.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub const fn is_plain(&self) -> bool {
        matches!(self, Self::Udp | Self::Tcp)
    }
}

impl Serialize for TransportKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What SIP is wrapped in within a TCP connection: it can't be read without all that went before it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrapper {
    /// The TLS session that it is in now.
    pub(crate) session: Option<Random>,
}

/// What comes out of this stage.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A whole message, and its headers where framing has read them all.
    Message(WireMessage<'a>, Option<&'a Message<'a>>),
    /// Evidence known to be missing.
    Loss(Loss),
}

/// Limits and choices of this stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Look at packets from or to these ports only; empty: at all.
    #[serde(deserialize_with = "crate::list::ports")]
    pub ports: BTreeSet<u16>,
    /// Bytes that all TCP connections may take up, buffers and bookkeeping. Its share of the memory.
    #[serde(skip)]
    pub max_bytes: usize,
    /// Bytes of one direction of a connection that may wait for bytes before them.
    pub max_stream_bytes: usize,
    /// The largest SIP message, headers and body, on a stream.
    pub max_message_bytes: usize,
    /// How long bytes wait for those before them.
    #[serde(with = "crate::duration")]
    pub gap_timeout: Duration,
    /// How long a SIP connection may be quiet before it is forgotten.
    #[serde(with = "crate::duration")]
    pub idle_timeout: Duration,
    /// The same for a connection that has not said anything yet.
    #[serde(with = "crate::duration")]
    pub handshake_timeout: Duration,
    /// The secrets of TLS sessions, where some are known: of files.
    #[serde(skip)]
    pub keys: Arc<KeyLog>,
    /// More secrets may come ([`Streams::add_keys`]), also of sessions that have begun.
    #[serde(skip)]
    pub awaits_keys: bool,
    /// HEP in captured datagrams is believed: in files. Live it has a listener, which asks for the key.
    #[serde(skip)]
    pub reads_hep: bool,
}

impl Config {
    /// Whether TLS may be opened.
    fn opens_tls(&self) -> bool {
        self.awaits_keys || !self.keys.is_empty()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ports: BTreeSet::new(),
            max_bytes: 24 << 20,
            max_stream_bytes: 256 << 10,
            max_message_bytes: 128 << 10,
            gap_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(900),
            handshake_timeout: Duration::from_secs(60),
            keys: Arc::default(),
            awaits_keys: false,
            reads_hep: false,
        }
    }
}

/// What became of every packet: `packets = used + held + unfinished + unused.total()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets taken.
    pub packets: u64,
    /// Packets whose bytes went into messages. A TCP segment is counted once, by the first message in it.
    pub used: u64,
    /// TCP segments that wait for bytes before them now.
    pub held: u64,
    /// TCP segments that wait for the rest of their message now.
    pub unfinished: u64,
    /// Packets that led to nothing, by reason.
    pub unused: DiscardCounts,
    /// Messages given.
    pub messages: u64,
    /// Those of them of which bytes are missing at the end.
    pub messages_cut: u64,
    /// Messages larger than the limit, or that claim to be.
    pub too_large: u64,
    /// Messages that ended before their headers or body did.
    pub incomplete: u64,
    /// Messages on a stream without a Content-Length, or with one that makes no sense on any transport.
    pub bad_length: u64,
    /// Datagrams with bytes behind their message, which RFC 3261 §18.3 says to discard.
    pub datagram_tails: u64,
    /// Times that a stream went on with something else than a start line.
    pub resyncs: u64,
    /// Bytes passed over in search of a start line.
    pub bytes_skipped: u64,
    /// Gaps in TCP streams that carry SIP.
    pub tcp_gaps: u64,
    /// Bytes in those gaps.
    pub tcp_bytes_missing: u64,
    /// TCP connections known now.
    pub connections: u64,
    /// TCP connections thrown out to make room.
    pub connections_evicted: u64,
    /// Those of them whose host had more than its share of connections that nobody answered.
    pub connections_evicted_for_share: u64,
    /// What became of TLS, where secrets are known.
    pub tls: TlsCounts,
    /// What became of WebSocket connections that asked for SIP.
    pub websocket: WebSocketCounts,
}

/// The stage: TCP reassembly and message framing.
#[derive(Debug)]
pub struct Streams {
    config: Config,
    tcp: Connections,
    /// What was seen both by HEP and in the clear.
    twice: Twice,
    counters: Counters,
}

impl Default for Streams {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Streams {
    /// An empty stage.
    pub fn new(config: Config) -> Self {
        Self {
            tcp: Connections::new(config.max_bytes),
            twice: Twice::default(),
            config,
            counters: Counters::default(),
        }
    }

    /// What became of every packet so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Opens TLS with these secrets, too, from here on.
    pub fn add_keys(&mut self, keys: &KeyLog) {
        Arc::make_mut(&mut self.config.keys).join(keys);
    }

    /// What became of TLS; `None` where no secrets are known.
    pub fn tls(&self) -> Option<&TlsCounts> {
        (!self.config.keys.is_empty()).then_some(&self.counters.tls)
    }

    /// What the TCP connection between these ends is wrapped in, where it is.
    pub(crate) fn wrapper(&self, src: SocketAddr, dst: SocketAddr) -> Option<Wrapper> {
        self.tcp.wrapper(src, dst)
    }

    /// The secrets that are known.
    pub(crate) fn keys(&self) -> &KeyLog {
        &self.config.keys
    }

    /// Whether the rest of a SIP message is to come over the TCP connection between these ends.
    pub(crate) fn is_mid_message(&self, src: SocketAddr, dst: SocketAddr) -> bool {
        self.tcp.is_mid_message(src, dst)
    }

    /// Takes one packet and gives what it completes, in order, to `sink`.
    pub fn push(&mut self, packet: &Packet<'_>, sink: &mut dyn FnMut(Item<'_>)) {
        self.counters.packets += 1;
        // Of HEP the ports count that its message went by.
        if self.config.reads_hep
            && let Transport::Udp { payload, cut } = packet.transport
            && hep::begins_like_hep(payload)
        {
            return match self.hep(packet, payload, cut, sink) {
                Ok(()) => self.counters.used += 1,
                Err(reason) => self.counters.unused.add(reason, 1),
            };
        }
        if self.is_other_port(packet.src, packet.dst) {
            return self.counters.unused.add(DiscardReason::OtherPort, 1);
        }
        match packet.transport {
            Transport::Udp { payload, cut } => {
                match self.message(packet, TransportKind::Udp, Some(Tap::Clear), payload, cut, sink) {
                    Ok(behind) => {
                        self.counters.used += 1;
                        self.counters.datagram_tails += u64::from(!behind.is_empty());
                    }
                    Err(reason) => self.counters.unused.add(reason, 1),
                }
            }
            Transport::Exported { payload, cut } => self.exported(packet, payload, cut, sink),
            Transport::Tcp { seq, ack, syn, fin, rst, payload, cut } => {
                let Packet { time, frame, src, dst, originated, .. } = *packet;
                let segment =
                    Segment { time, frame, src, dst, originated, seq, ack, syn, fin, rst, payload, cut };
                self.tcp(sink, |tcp, around| tcp.push(&segment, around));
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.tcp.poll_timeout()
    }

    /// Gives up on what has waited too long at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp, sink: &mut dyn FnMut(Item<'_>)) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.tcp(sink, |tcp, around| tcp.handle_timeout(now, around));
        }
    }

    /// The capture is over at `now`: gives what is left.
    pub fn finish(&mut self, now: Timestamp, sink: &mut dyn FnMut(Item<'_>)) {
        self.tcp(sink, |tcp, around| tcp.finish(now, around));
    }

    /// Takes a payload out of a TCP connection: the messages that came in one segment, one behind the other.
    fn exported(&mut self, packet: &Packet<'_>, payload: &[u8], cut: bool, sink: &mut dyn FnMut(Item<'_>)) {
        let (mut rest, mut found) = (payload, false);
        let unused = loop {
            match self.message(packet, TransportKind::Tcp, None, rest, cut, sink) {
                Ok(behind) => (rest, found) = (behind, true),
                Err(reason) => break reason,
            }
        };
        if found {
            self.counters.used += 1;
        } else {
            self.counters.unused.add(unused, 1);
        }
    }

    /// Takes a packet of HEP: the message in it, between those that sent and got it. The time is the capture's own, as that of
    /// all others: an agent's clock is another one.
    fn hep(
        &mut self,
        packet: &Packet<'_>,
        payload: &[u8],
        cut: bool,
        sink: &mut dyn FnMut(Item<'_>),
    ) -> Result<(), DiscardReason> {
        let inner = hep::decode(payload, self.config.max_message_bytes)
            .map_err(|error| if cut { DiscardReason::HepCut } else { error.into() })?;
        if inner.kind != hep::Packet::SIP {
            return Err(DiscardReason::HepOther);
        }
        let Packet { time, frame, .. } = *packet;
        let (src, dst, transport) = (inner.src, inner.dst, inner.transport());
        self.by_hep(&ByHep { time, frame, src, dst, transport, bytes: &inner.payload }, sink)
    }

    /// Takes a message that came by HEP, unless it has come in the clear as well. It is counted among the messages alone.
    ///
    /// # Errors
    ///
    /// Why it leads to nothing.
    pub fn by_hep(
        &mut self,
        message: &ByHep<'_>,
        sink: &mut dyn FnMut(Item<'_>),
    ) -> Result<(), DiscardReason> {
        let ByHep { time, frame, src, dst, transport, bytes } = *message;
        if self.is_other_port(src, dst) {
            return Err(DiscardReason::OtherPort);
        }
        // Whoever sent it need not have seen it.
        let carried = Transport::Udp { payload: bytes, cut: false };
        let seen = Packet { time, frame, src, dst, originated: false, transport: carried };
        self.message(&seen, transport, Some(Tap::Hep), bytes, false, sink).map(drop)
    }

    /// Whether neither port is one of those that are looked at.
    fn is_other_port(&self, src: SocketAddr, dst: SocketAddr) -> bool {
        let ports = &self.config.ports;
        !ports.is_empty() && !ports.contains(&src.port()) && !ports.contains(&dst.port())
    }

    /// Gives the message that a payload begins with, unless it has come by another `tap` already; what is behind it.
    fn message<'a>(
        &mut self,
        packet: &Packet<'_>,
        transport: TransportKind,
        tap: Option<Tap>,
        payload: &'a [u8],
        cut: bool,
        sink: &mut dyn FnMut(Item<'_>),
    ) -> Result<&'a [u8], DiscardReason> {
        let bytes = &payload[start_line::leading_line_ends(payload)..];
        if bytes.iter().take(4).all(|byte| *byte == 0) {
            return Err(DiscardReason::NoPayload);
        }
        if !begins_like_sip(bytes) {
            return Err(DiscardReason::NotSip);
        }
        let mut message = Message::parse(if cut { whole_lines(bytes) } else { bytes }).ok();
        let (end, cut) = end_of_datagram(bytes, message.as_ref(), cut, &mut self.counters);
        let Packet { time, src, dst, .. } = *packet;
        if tap.is_some_and(|tap| self.twice.is_copy(tap, time, src, dst, &bytes[..end])) {
            return Err(DiscardReason::OtherTap);
        }
        let (bytes, behind) = bytes.split_at(end);
        if let Some(message) = &mut message {
            message.end_at(end);
        }
        self.counters.count_message(cut);
        let Packet { time, frame, src, dst, originated, .. } = *packet;
        let wire = WireMessage { time, frame, src, dst, transport, seq: None, bytes, cut, originated };
        sink(Item::Message(wire, message.as_ref()));
        Ok(behind)
    }

    /// Lets the TCP table work, and counts the messages that it gives.
    fn tcp(
        &mut self,
        sink: &mut dyn FnMut(Item<'_>),
        act: impl FnOnce(&mut Connections, &mut Surroundings<'_, '_>),
    ) {
        let (mut messages, mut cut) = (0, 0);
        let twice = &mut self.twice;
        let mut counting = |item: Item<'_>| {
            if let Item::Message(message, _) = &item {
                let WireMessage { time, src, dst, bytes, .. } = *message;
                if twice.is_copy(Tap::Clear, time, src, dst, bytes) {
                    return;
                }
                messages += 1;
                cut += u64::from(message.cut);
            }
            sink(item);
        };
        let mut around =
            Surroundings { config: &self.config, counters: &mut self.counters, sink: &mut counting };
        act(&mut self.tcp, &mut around);
        self.counters.messages += messages;
        self.counters.messages_cut += cut;
        self.counters.connections = self.tcp.len() as u64;
    }
}

/// A message that was cut off within its headers, without the one that it ends in: half a value reads like another.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    let ends = memmem::find(bytes, b"\r\n\r\n").is_some() || memmem::find(bytes, b"\n\n").is_some();
    match memrchr(b'\n', bytes) {
        Some(last) if !ends => &bytes[..=last],
        _ => bytes,
    }
}

/// Where the message ends that a datagram begins with, and whether its own end is missing. A datagram is its own frame:
/// a Content-Length that promises more than came is a lie (RFC 3261 §18.3).
fn end_of_datagram(
    bytes: &[u8],
    message: Option<&Message<'_>>,
    cut: bool,
    counters: &mut Counters,
) -> (usize, bool) {
    let (head, length) = match message.filter(|message| !message.headers_capped()) {
        Some(message) => Length::of(message, bytes),
        // Its start line is damaged, or some of its headers are not in the index.
        None => length::headers(bytes),
    };
    let all = bytes.len();
    let (head, body) = match (head, length) {
        (Some(head), Length::Bytes(body)) => (head, body),
        (Some(_), Length::Bad) => {
            counters.bad_length += 1;
            return (all, cut);
        }
        (Some(_), Length::Absent) | (None, _) => return (all, cut),
    };
    match usize::try_from(body).ok().and_then(|body| head.checked_add(body)).filter(|end| *end <= all) {
        Some(end) => (end, false),
        None => {
            counters.incomplete += u64::from(!cut);
            (all, cut)
        }
    }
}

impl Counters {
    fn count_message(&mut self, cut: bool) {
        self.messages += 1;
        self.messages_cut += u64::from(cut);
    }

    /// So many held segments were thrown away.
    fn drop_held(&mut self, segments: u64, reason: DiscardReason) {
        self.held -= segments;
        self.unused.add(reason, segments);
    }
}

#[cfg(test)]
mod tests;
