//! Why something that was captured was not used: every frame, packet and segment that leads to no message
//! is counted here, by one reason.

use std::fmt;

use serde::{Serialize, Serializer};

/// What a reason says about the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscardClass {
    /// It is understood, and it is not SIP.
    NotSip,
    /// It has been seen before.
    Copy,
    /// It breaks the rules of its protocol.
    Malformed,
    /// A limit of sipobs's own threw it away.
    Capped,
    /// The capture does not hold all of it.
    Incomplete,
}

impl DiscardClass {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSip => "not_sip",
            Self::Copy => "copy",
            Self::Malformed => "malformed",
            Self::Capped => "capped",
            Self::Incomplete => "incomplete",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $class:ident;)*) => {
        /// Why something was not used.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DiscardReason { $($(#[doc = $doc])* $variant,)* }

        impl DiscardReason {
            /// Every reason, in the order of the stages.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in metrics and summaries.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it says about the capture.
            pub const fn class(self) -> DiscardClass {
                match self { $(Self::$variant => DiscardClass::$class,)* }
            }
        }
    };
}

reasons! {
    /// A frame that carries no IP.
    NotIp = "not_ip", NotSip;
    /// IP that carries neither UDP nor TCP, and no tunnel that sipobs looks into. What ICMP quotes, too.
    OtherProtocol = "other_protocol", NotSip;
    /// A packet seen a moment ago at another tap.
    OtherTap = "other_tap", Copy;
    /// A frame of a link type that sipobs does not read, or with such a frame behind a capturing machine's header.
    LinkType = "link_type", Capped;
    /// An IEEE 802.11 frame that is part of a packet, or carries several.
    WifiParts = "wifi_parts", Capped;
    /// An IEEE 802.11 frame that is encrypted.
    Encrypted = "encrypted", Capped;
    /// A link-layer, VLAN, PPPoE, MPLS or capture header that is too short or cannot be.
    LinkHeader = "link_header", Malformed;
    /// An IPv4 or IPv6 header, or an extension header, that cannot be.
    IpHeader = "ip_header", Malformed;
    /// A GRE, VXLAN, Geneve or GTP-U header that cannot be.
    TunnelHeader = "tunnel_header", Malformed;
    /// A UDP header that cannot be.
    UdpHeader = "udp_header", Malformed;
    /// A TCP header that cannot be.
    TcpHeader = "tcp_header", Malformed;
    /// More headers on one another than sipobs looks through.
    TooDeep = "too_deep", Capped;
    /// A header, or a fragment, that the capture cut off.
    CutShort = "cut_short", Incomplete;
    /// A fragment that cannot be: empty, of odd length, or beyond 65,535 bytes.
    FragmentShape = "fragment_shape", Malformed;
    /// A fragment of which every byte is there already.
    FragmentRepeated = "fragment_repeated", Copy;
    /// Fragments of a datagram in which two overlap: it is discarded whole (RFC 5722 §4).
    FragmentOverlap = "fragment_overlap", Malformed;
    /// Fragments of a datagram whose others never came.
    FragmentIncomplete = "fragment_incomplete", Incomplete;
    /// Fragments for which there was no room.
    FragmentEvicted = "fragment_evicted", Capped;
    /// Neither port is one of those that were asked for.
    OtherPort = "other_port", NotSip;
    /// A datagram or stream that does not begin like SIP.
    NotSip = "not_sip", NotSip;
    /// Nothing but line ends or zeros: a keep-alive (RFC 5626 §3.5.1). Or a TCP segment without payload.
    NoPayload = "no_payload", NotSip;
    /// HEP of which the capture does not hold all.
    HepCut = "hep_cut", Incomplete;
    /// HEP that is longer or shorter than it says.
    HepLength = "hep_length", Malformed;
    /// HEP with a chunk that does not fit, or whose value has an odd length.
    HepChunk = "hep_chunk", Malformed;
    /// HEP without addresses, ports, protocol, type or payload.
    HepMissing = "hep_missing", Malformed;
    /// HEP whose compressed payload is damaged.
    HepCompressed = "hep_compressed", Malformed;
    /// HEP whose payload is larger than the limit for messages.
    HepTooLarge = "hep_too_large", Capped;
    /// HEP that does not show the key that is asked for.
    HepKey = "hep_key", Malformed;
    /// HEP for which there was no room while others waited.
    HepQueueFull = "hep_queue_full", Capped;
    /// HEP that carries something else than SIP: RTCP, logs, quality reports.
    HepOther = "hep_other", NotSip;
    /// A TCP segment of a TLS connection whose secrets are known, with nothing that is said in it: of a handshake, say.
    TlsAlone = "tls_alone", NotSip;
    /// A TCP segment of a WebSocket connection for SIP, without a message in it: of its beginning, or a ping, say.
    WebSocketAlone = "websocket_alone", NotSip;
    /// A TCP segment of which every byte was seen before.
    TcpRepeated = "tcp_repeated", Copy;
    /// A TCP segment too far from the bytes that its connection is at.
    TcpDistance = "tcp_distance", Malformed;
    /// A TCP segment that waited, for the bytes before it or for the rest of its message, when its connection
    /// was evicted.
    TcpEvicted = "tcp_evicted", Capped;
    /// A TCP segment of a message that is larger than the limit.
    TcpTooLarge = "tcp_too_large", Capped;
    /// A TCP segment passed over in search of a start line.
    TcpSkipped = "tcp_skipped", Malformed;
    /// A TCP segment of a message of which bytes are missing.
    TcpUnfinished = "tcp_unfinished", Incomplete;
}

/// Counts by reason.
#[derive(Clone, PartialEq, Eq)]
pub struct DiscardCounts([u64; DiscardReason::ALL.len()]);

impl Default for DiscardCounts {
    fn default() -> Self {
        Self([0; DiscardReason::ALL.len()])
    }
}

impl DiscardCounts {
    /// How many there were for this reason.
    pub const fn of(&self, reason: DiscardReason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its count, also the zeros.
    pub fn iter(&self) -> impl Iterator<Item = (DiscardReason, u64)> + '_ {
        DiscardReason::ALL.iter().map(|reason| (*reason, self.of(*reason)))
    }

    /// How many there were for reasons of this class.
    pub fn of_class(&self, class: DiscardClass) -> u64 {
        self.iter().filter(|(reason, _)| reason.class() == class).map(|(_, count)| count).sum()
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) const fn add(&mut self, reason: DiscardReason, count: u64) {
        self.0[reason as usize] += count;
    }
}

impl fmt::Debug for DiscardCounts {
    /// Without the zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = self.iter().filter(|(_, count)| *count > 0);
        f.debug_map().entries(some.map(|(reason, count)| (reason.as_str(), count))).finish()
    }
}

impl Serialize for DiscardCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(reason, count)| (reason.as_str(), count)))
    }
}
