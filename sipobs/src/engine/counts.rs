//! What the engine counts: what became of frames and messages, by file and in all, and that nothing is missing in that.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::dialog::NoDialogKey;
use crate::discard::{DiscardClass, DiscardCounts, DiscardReason};
use crate::packet::{self, Transport};
use crate::sip::ParseError;
use crate::stream::{self, WireMessage};
use crate::transfer::{Evicted, Fullness};

/// What became of everything that the engine took.
#[derive(Clone, Debug, Serialize)]
pub struct Counters {
    /// Frames that wait for those behind them to tell of the clock, before any stage.
    pub waiting: u64,
    /// Frames.
    pub packet: packet::Counters,
    /// Packets.
    pub stream: stream::Counters,
    /// SIP messages, also those that were given whole; retransmissions included, each once.
    pub messages: u64,
    /// Those of them that belong to a dialog that could be named.
    pub understood: u64,
    /// The others, by reason: without a start line, or without the headers that name a dialog.
    pub unparsed: BTreeMap<&'static str, u64>,
    /// Calls dropped before their end, by reason.
    pub calls_evicted: Evicted,
    /// Hosts no longer known to be seen calling, because there were too many.
    pub callers_evicted: u64,
    /// How full the table of calls is.
    pub calls: Fullness,
    /// Frames that the capture lost before they came here.
    pub ring_lost: u64,
}

/// What is told file by file, where several are read side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// SIP messages.
    pub messages: u64,
    /// Those of them that were cut off, by the capture or by a gap.
    pub messages_cut: u64,
    /// Messages within a TCP stream that lack their end: nothing is left of them.
    pub incomplete: u64,
    /// Frames that stay closed, in the order of [`Self::OPAQUE`].
    pub opaque: [u64; Self::OPAQUE.len()],
}

impl Tally {
    /// Why a frame stays closed that another program, or one with keys, may open.
    pub const OPAQUE: [DiscardReason; 3] =
        [DiscardReason::LinkType, DiscardReason::Encrypted, DiscardReason::WifiParts];

    /// What has come since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        let opaque = std::array::from_fn(|reason| self.opaque[reason] - before.opaque[reason]);
        Self {
            messages: self.messages - before.messages,
            messages_cut: self.messages_cut - before.messages_cut,
            incomplete: self.incomplete - before.incomplete,
            opaque,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.messages_cut += other.messages_cut;
        self.incomplete += other.incomplete;
        self.opaque.iter_mut().zip(other.opaque).for_each(|(sum, other)| *sum += other);
    }
}

/// What a capture holds beside transfers: counted where files are read, for whoever looks for one that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// UDP packets that look like RTP (RFC 3550 §5.1).
    pub rtp: u64,
    /// TCP segments of TLS on port 5061, that of SIP over TLS.
    pub tls: u64,
    /// SIP messages by the port that they were sent to, of the first ports only.
    pub sip_ports: BTreeMap<u16, u64>,
}

impl Surroundings {
    /// Ports that are told apart.
    const MOST_PORTS: usize = 64;
    /// SIP over TLS (RFC 3261 §19.1.2).
    const SIPS: u16 = 5061;

    pub(super) fn packet(&mut self, packet: &packet::Packet<'_>) {
        match packet.transport {
            // Version 2, and no RTCP (RFC 5761 §4).
            Transport::Udp { payload: [0x80..=0xbf, kind, ..], .. } if !(192..=223).contains(kind) => {
                self.rtp += u64::from(packet.src.port() != 53 && packet.dst.port() != 53);
            }
            Transport::Tcp { payload: [0x14..=0x17, 3, ..], .. } => {
                self.tls += u64::from([packet.src.port(), packet.dst.port()].contains(&Self::SIPS));
            }
            Transport::Udp { .. } | Transport::Tcp { .. } | Transport::Exported { .. } => {}
        }
    }

    pub(super) fn message(&mut self, wire: &WireMessage<'_>) {
        let port = wire.dst.port();
        if self.sip_ports.len() < Self::MOST_PORTS || self.sip_ports.contains_key(&port) {
            *self.sip_ports.entry(port).or_default() += 1;
        }
    }
}

/// Every frame that the engine took, by what became of it: each is in exactly one of the terms, at any
/// moment, so [`Self::residual`] is 0. The reasons behind the last five are in the stages' counts of what they
/// discarded, by [`DiscardClass`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Frames taken.
    pub delivered: u64,
    /// Frames of which bytes are in a SIP message that was given on.
    pub parsed: u64,
    /// Fragments that became part of a datagram, but for the last: that one tells what became of it.
    pub joined: u64,
    /// Frames that wait: behind a leap of the clock, fragments for others of their datagram, TCP segments for
    /// bytes before them or for the rest of their message.
    pub buffered: u64,
    /// Frames that are understood, and hold no SIP.
    pub not_sip: u64,
    /// Frames seen before.
    pub copies: u64,
    /// Frames that break the rules of their protocol.
    pub malformed: u64,
    /// Frames that a limit threw away.
    pub capped: u64,
    /// Frames that the capture does not hold all of, or of whose datagram or message it lacks the rest.
    pub incomplete: u64,
    /// Messages given on: [`Self::understood`] and, by reason, [`Counters::unparsed`].
    pub messages: u64,
    /// Messages that belong to a dialog that could be named.
    pub understood: u64,
    /// Messages that do not.
    pub unparsed: u64,
}

impl Balance {
    /// Frames that are in none of the terms, or in two: 0, unless sipobs has a bug.
    pub fn residual(&self) -> i64 {
        let frames = self.parsed + self.joined + self.buffered + self.not_sip + self.copies;
        let frames = frames + self.malformed + self.capped + self.incomplete;
        self.delivered.wrapping_sub(frames).cast_signed()
    }

    /// The same for messages.
    pub fn residual_messages(&self) -> i64 {
        self.messages.wrapping_sub(self.understood + self.unparsed).cast_signed()
    }
}

impl Counters {
    /// What became of every frame.
    pub fn balance(&self) -> Balance {
        let (packet, stream) = (&self.packet, &self.stream);
        let unused = |class| packet.unused.of_class(class) + stream.unused.of_class(class);
        Balance {
            delivered: packet.frames + self.waiting,
            parsed: stream.used,
            joined: packet.fragments_joined,
            buffered: self.waiting + packet.fragments_waiting + stream.held + stream.unfinished,
            not_sip: unused(DiscardClass::NotSip),
            copies: unused(DiscardClass::Copy),
            malformed: unused(DiscardClass::Malformed),
            capped: unused(DiscardClass::Capped),
            incomplete: unused(DiscardClass::Incomplete),
            messages: self.messages,
            understood: self.understood,
            unparsed: self.unparsed.values().sum(),
        }
    }

    /// Every reason in [`Self::unparsed`].
    pub fn unparsed_reasons() -> impl Iterator<Item = &'static str> {
        ParseError::ALL.iter().map(|why| why.as_str()).chain(NoDialogKey::ALL.iter().map(|why| why.as_str()))
    }

    /// What was captured and could not be used although it may have been SIP: reason → count, without
    /// zeros. What is something else, or a copy, is not among it.
    pub fn not_understood(&self) -> BTreeMap<&'static str, u64> {
        without_zeros(self.not_understood_with_zeros())
    }

    /// The same, with every reason that there is.
    pub fn not_understood_with_zeros(&self) -> BTreeMap<&'static str, u64> {
        let unused = |discarded: &DiscardCounts| {
            let counted = discarded.iter().filter(|(reason, _)| {
                // Segments of messages that are told below.
                !matches!(reason, DiscardReason::TcpTooLarge | DiscardReason::TcpSkipped)
                    && matches!(reason.class(), DiscardClass::Malformed | DiscardClass::Capped)
            });
            counted.map(|(reason, count)| (reason.as_str(), count)).collect::<Vec<_>>()
        };
        let stream = [
            ("message_too_large", self.stream.too_large),
            ("message_incomplete", self.stream.incomplete),
            ("content_length", self.stream.bad_length),
            ("resync", self.stream.resyncs),
            ("websocket_extension", self.stream.websocket.extension),
            ("websocket_damaged", self.stream.websocket.damaged),
            ("websocket_too_large", self.stream.websocket.too_large),
        ];
        let mut reasons: BTreeMap<_, u64> = Self::unparsed_reasons().map(|reason| (reason, 0)).collect();
        for (reason, count) in unused(&self.packet.unused)
            .into_iter()
            .chain(unused(&self.stream.unused))
            .chain(stream)
            .chain(self.unparsed.iter().map(|(reason, count)| (*reason, *count)))
        {
            *reasons.entry(reason).or_default() += count;
        }
        reasons
    }

    /// What is known to be missing from the capture: where → count, without zeros.
    pub fn lost(&self) -> BTreeMap<&'static str, u64> {
        without_zeros(self.lost_with_zeros())
    }

    /// The same, with every place that there is.
    pub fn lost_with_zeros(&self) -> BTreeMap<&'static str, u64> {
        let lost = [
            ("ring", self.ring_lost),
            ("evicted_calls", self.calls_evicted.answered),
            ("cut_short", self.packet.unused.of(DiscardReason::CutShort)),
            ("fragments", self.packet.unused.of(DiscardReason::FragmentIncomplete)),
            ("tcp_gaps", self.stream.tcp_gaps),
            ("messages_cut", self.stream.messages_cut),
        ];
        lost.into()
    }
}

fn without_zeros(mut counts: BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
    counts.retain(|_, count| *count > 0);
    counts
}
