//! One captured frame, as every source gives it and the engine takes it.

use std::fmt;

use crate::timestamp::Timestamp;

/// One captured frame, borrowed from the ring or the file's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured (wall clock).
    pub time: Timestamp,
    /// Its number in the capture, from 1, as tshark counts; where several files are one capture, its [`Place`].
    pub number: u64,
    /// Interface index (kernel) or pcapng interface id (file).
    pub interface: u32,
    /// Which way it crossed that interface.
    pub direction: Direction,
    /// How `bytes` begins.
    pub link: LinkType,
    /// Length on the wire; more than `bytes.len()` when the capture cut it short.
    pub wire_len: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

/// A frame's file and its number there, in the one number that goes along with what is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's index among those that are read together.
    pub file: usize,
    /// The frame's number in it, from 1.
    pub number: u64,
}

impl Place {
    /// Bits of a frame's number; those above are the file's.
    const BITS: u32 = 40;

    /// The place that [`Self::in_capture`] gave.
    pub const fn of(number: u64) -> Self {
        Self { file: (number >> Self::BITS) as usize, number: number & ((1 << Self::BITS) - 1) }
    }

    /// Both in one; of the first file's frames, their number.
    pub const fn in_capture(self) -> u64 {
        (self.file as u64) << Self::BITS | self.number
    }
}

/// Which way a frame crossed its interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the node.
    Ingress,
    /// Out of the node, which may have passed it on.
    Egress,
    /// Out of the node, by a socket of its own: whatever its source address, nobody elsewhere has forged it.
    Originated,
    /// The capture does not say.
    #[default]
    Unknown,
}

macro_rules! link_types {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $number:literal $(| $other:literal)*;)*) => {
        /// How a frame begins, by the number and the name that the pcap registry gives it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum LinkType {
            $($(#[doc = $doc])* $variant,)*
            /// One that sipobs does not read, by its number.
            Other(u32),
        }

        impl LinkType {
            /// Every link type that sipobs reads.
            pub const READ: &[Self] = &[$(Self::$variant,)*];

            /// The link type with this number.
            pub const fn of(number: u32) -> Self {
                match number {
                    $($number $(| $other)* => Self::$variant,)*
                    _ => Self::Other(number),
                }
            }

            /// The number of the link type; the first where it has several.
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Other(number) => number,
                }
            }
        }

        impl fmt::Display for LinkType {
            /// Its name; of one that is not read, its number.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($name),)*
                    Self::Other(number) => write!(f, "link_type_{number}"),
                }
            }
        }
    };
}

link_types! {
    /// Ethernet.
    Ethernet = "ethernet", 1;
    /// IPv4 or IPv6, by the version nibble.
    Raw = "raw", 101 | 12 | 14 | 228 | 229;
    /// BSD loopback: address family in the order of the capturing machine.
    Null = "null", 0;
    /// OpenBSD loopback: address family in network order.
    Loop = "loop", 108;
    /// Linux cooked capture, version 1.
    Sll = "linux_sll", 113;
    /// Linux cooked capture, version 2.
    Sll2 = "linux_sll2", 276;
    /// PPP, with or without HDLC's address and control; pppd writes the direction in place of the address.
    Ppp = "ppp", 9 | 50 | 166;
    /// A PPPoE session's header, without Ethernet's before it.
    PppEther = "ppp_ether", 51;
    /// Cisco's HDLC.
    CHdlc = "c_hdlc", 104;
    /// Frame Relay.
    FrameRelay = "frelay", 107;
    /// ATM, LLC-encapsulated (RFC 2684).
    AtmRfc1483 = "atm_rfc1483", 100;
    /// IEEE 802.11.
    Ieee80211 = "ieee802_11", 105;
    /// IEEE 802.11 behind a Prism header, or AVS's in its place.
    Prism = "ieee802_11_prism", 119;
    /// IEEE 802.11 behind a radiotap header.
    Radiotap = "ieee802_11_radiotap", 127;
    /// IEEE 802.11 behind an AVS header.
    Avs = "ieee802_11_avs", 163;
    /// Per-Packet Information, which names the link type behind it.
    Ppi = "ppi", 192;
    /// Endace's Extensible Record Format.
    Erf = "erf", 197;
    /// Apple's packet tap, which names the link type behind it.
    Pktap = "pktap", 258;
    /// Anybody's; Apple once wrote packet taps under it.
    User2 = "user2", 149;
    /// Linux's netfilter log.
    Nflog = "nflog", 239;
    /// The packet filter's log of BSD systems.
    Pflog = "pflog", 117;
    /// Decrypted IPsec of BSD systems.
    Enc = "enc", 109;
    /// Solaris's packets between zones.
    Ipnet = "ipnet", 226;
    /// Juniper, Ethernet.
    JuniperEther = "juniper_ether", 178;
    /// Juniper, PPP.
    JuniperPpp = "juniper_ppp", 179;
    /// Juniper, Frame Relay.
    JuniperFrelay = "juniper_frelay", 180;
    /// Juniper, Cisco's HDLC.
    JuniperChdlc = "juniper_chdlc", 181;
    /// What Wireshark or another tool took out of its packets, whole and in the clear, with tags that tell whence.
    UpperPdu = "wireshark_upper_pdu", 252;
}
