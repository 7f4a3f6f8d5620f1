//! The stages in a row: frames in, outputs out. The only place that knows them all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Memory, Sight};
use crate::dialog::{DialogKey, NoDialogKey};
use crate::discard::{DiscardClass, DiscardCounts, DiscardReason};
use crate::evidence::Collect;
use crate::follow::Follow;
use crate::frame::{Frame, Place};
use crate::journal::Journal;
use crate::packet::{self, Packets, Transport};
use crate::privacy::Privacy;
use crate::record::Output;
use crate::sip::{Event, Message, Method, Name, ParseError, Sipfrag};
use crate::stream::{self, ByHep, Loss, Streams, TransportKind, WireMessage};
use crate::timestamp::Timestamp;
use crate::transfer::ratio::RatioState;
use crate::transfer::{self, ConfigError, Evicted, Fullness, Rules, Transfers};

/// Limits and choices of the stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// From frames to packets.
    pub packet: packet::Config,
    /// From packets to messages.
    pub stream: stream::Config,
    /// From messages to verdicts.
    pub transfer: transfer::Config,
}

/// Takes every message that the engine takes, as it comes: to hand it on.
pub trait Relay: std::fmt::Debug + Send {
    /// Takes one. It must not wait for anything.
    fn message(&mut self, message: &WireMessage<'_>);
}

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
    fn since(self, before: Self) -> Self {
        let opaque = std::array::from_fn(|reason| self.opaque[reason] - before.opaque[reason]);
        Self {
            messages: self.messages - before.messages,
            messages_cut: self.messages_cut - before.messages_cut,
            incomplete: self.incomplete - before.incomplete,
            opaque,
        }
    }

    fn add(&mut self, other: Self) {
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

    fn packet(&mut self, packet: &packet::Packet<'_>) {
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

    fn message(&mut self, wire: &WireMessage<'_>) {
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

/// The sans-IO engine. Give it frames in time order, or whole messages; drain [`Self::poll_output`]; call
/// [`Self::handle_timeout`] no later than [`Self::poll_timeout`] says.
#[derive(Debug, Default)]
pub struct Engine {
    clock: Clock,
    packets: Packets,
    streams: Streams,
    inner: Inner,
    privacy: Privacy,
    /// By the file that a frame is of; empty where no files are read.
    tallies: Vec<Tally>,
    /// All that they add up to.
    tallied: Tally,
    /// What finds the packets of calls, where somebody asked for some.
    collect: Option<Box<Collect>>,
}

/// The half of the engine that takes whole messages: split off so that the stages before it can lend it
/// their bytes.
#[derive(Debug, Default)]
struct Inner {
    transfers: Transfers,
    memory: Memory,
    messages: u64,
    understood: u64,
    unparsed: BTreeMap<&'static str, u64>,
    /// Calls of which all messages are kept, where somebody asked for some.
    follow: Option<Box<Follow>>,
    /// What takes each message, too.
    relay: Option<Box<dyn Relay>>,
    /// Counted where files are read.
    surroundings: Option<Box<Surroundings>>,
    last_message: Option<Timestamp>,
}

impl Engine {
    /// An engine that has seen nothing yet. What it says is masked by `privacy`.
    ///
    /// # Errors
    ///
    /// When a trunk or the diagnosis table of `config` makes no sense.
    pub fn new(config: Config, privacy: Privacy) -> Result<Self, ConfigError> {
        Ok(Self {
            clock: Clock::default(),
            packets: Packets::new(config.packet),
            streams: Streams::new(config.stream),
            inner: Inner { transfers: Transfers::new(config.transfer)?, ..Inner::default() },
            privacy,
            tallies: Vec::new(),
            tallied: Tally::default(),
            collect: None,
        })
    }

    /// What became of everything so far.
    pub fn counters(&self) -> Counters {
        let counts = self.inner.transfers.counts();
        Counters {
            waiting: self.clock.waiting(),
            packet: self.packets.counters().clone(),
            stream: self.streams.counters().clone(),
            messages: self.inner.messages,
            understood: self.inner.understood,
            unparsed: self.inner.unparsed.clone(),
            calls_evicted: counts.evicted,
            callers_evicted: self.inner.transfers.callers_evicted(),
            calls: self.inner.transfers.fullness(),
            ring_lost: self.inner.transfers.ring_lost(),
        }
    }

    /// Frames will be of so many files: their numbers are [`Place`]s.
    pub fn expect_files(&mut self, files: usize) {
        self.tallies = vec![Tally::default(); files];
        self.inner.surroundings = Some(Box::default());
    }

    /// Keeps all messages of some calls from now on.
    pub fn follow(&mut self, follow: Follow) {
        self.inner.follow = Some(Box::new(follow));
    }

    /// Hands each message to `relay` as well from now on: once, whatever it came by.
    pub fn relay_to(&mut self, relay: Box<dyn Relay>) {
        self.inner.relay = Some(relay);
    }

    /// What was kept of them, as on the wire: to be masked ([`Privacy::lines`]).
    pub fn take_followed(&mut self) -> Option<Follow> {
        let mut follow = *self.inner.follow.take()?;
        for line in follow.lines_mut() {
            line.time = line.time.ahead_by(self.clock.ahead_at(line.time));
        }
        Some(follow)
    }

    /// Finds the packets of some calls from now on.
    pub fn collect(&mut self, collect: Collect) {
        self.collect = Some(Box::new(collect));
    }

    /// What found them.
    pub fn take_collected(&mut self) -> Option<Collect> {
        self.collect.take().map(|collect| *collect)
    }

    /// What there was beside transfers, where files are read.
    pub fn surroundings(&self) -> Surroundings {
        self.inner.surroundings.as_deref().cloned().unwrap_or_default()
    }

    /// What became of TLS; `None` where no key log was given.
    pub fn tls(&self) -> Option<stream::TlsCounts> {
        self.streams.tls().cloned()
    }

    /// What the frames of a file came to.
    pub fn tally_of(&self, file: usize) -> Tally {
        self.tallies.get(file).copied().unwrap_or_default()
    }

    fn tally(&self) -> Tally {
        let (unused, streams) = (&self.packets.counters().unused, self.streams.counters());
        let (messages_cut, incomplete) = (streams.messages_cut, streams.incomplete);
        Tally {
            messages: self.inner.messages,
            messages_cut,
            incomplete,
            opaque: Tally::OPAQUE.map(|reason| unused.of(reason)),
        }
    }

    /// Takes one frame. One whose time leaps waits for those behind it, which tell whether the clock lies.
    pub fn frame(&mut self, frame: &Frame<'_>) {
        match self.clock.pass(frame.time) {
            Some(time) => self.timed(&Frame { time, ..*frame }),
            None => {
                self.clock.wait(frame);
                self.take_waiting(false);
            }
        }
    }

    /// A capture file is over. The next one may be a piece of the same capture, or have nothing to do with it.
    pub fn end_file(&mut self) {
        self.take_waiting(true);
        self.clock.border();
    }

    /// Takes the frames that need not wait any more.
    fn take_waiting(&mut self, is_last: bool) {
        loop {
            let (vxlan_ports, memory) = (self.packets.vxlan_ports(), &self.inner.memory);
            let sight =
                Sight { vxlan_ports, streams: &self.streams, memory, transfers: &self.inner.transfers };
            let Some(ready) = self.clock.ready(is_last, &sight) else { return };
            let frame = ready.frame();
            self.timed(&frame);
            // Behind what the frame began: that rests on its time, too.
            if ready.lied {
                self.inner.transfers.note_loss(Loss::ClockStep);
            }
            self.clock.done_with(ready);
        }
    }

    /// Takes a frame at its true time.
    fn timed(&mut self, frame: &Frame<'_>) {
        if let Some(collect) = &mut self.collect {
            collect.frame(frame);
        }
        self.packet(frame);
        if !self.tallies.is_empty() {
            let now = self.tally();
            let before = std::mem::replace(&mut self.tallied, now);
            if let Some(tally) = self.tallies.get_mut(Place::of(frame.number).file) {
                tally.add(now.since(before));
            }
        }
    }

    fn packet(&mut self, frame: &Frame<'_>) {
        self.fire(frame.time);
        let (streams, inner) = (&mut self.streams, &mut self.inner);
        self.packets.push(frame, &mut |item| forward(streams, inner, &item));
    }

    /// Takes one SIP message that some other tool already framed. Its time is taken at its word.
    pub fn message(&mut self, message: &WireMessage<'_>) {
        self.handle_timeout(message.time);
        self.inner.message(message);
    }

    /// Takes one message that came by HEP as such, at the time at which it came. One that was seen in the clear, too, counts once,
    /// whichever came first.
    ///
    /// # Errors
    ///
    /// Why it leads to nothing: no counter of [`Self::counters`] has it then.
    pub fn by_hep(&mut self, message: &ByHep<'_>) -> Result<(), DiscardReason> {
        self.handle_timeout(message.time);
        let (streams, inner) = (&mut self.streams, &mut self.inner);
        streams.by_hep(message, &mut |item| inner.stream_item(&item))
    }

    /// Takes note of evidence lost before it reached the engine.
    pub fn note_loss(&mut self, loss: Loss) {
        self.inner.transfers.note_loss(loss);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        [self.packets.poll_timeout(), self.streams.poll_timeout(), self.inner.transfers.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has come to `now`, whatever frames said: fires every timer due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.take_waiting(true);
        let now = self.clock.tick(now);
        self.inner.memory.retire();
        self.fire(now);
    }

    fn fire(&mut self, now: Timestamp) {
        let (streams, inner) = (&mut self.streams, &mut self.inner);
        self.packets.handle_timeout(now, &mut |item| forward(streams, inner, &item));
        self.streams.handle_timeout(now, &mut |item| inner.stream_item(&item));
        self.inner.transfers.handle_timeout(now);
    }

    /// The capture is over at `now`, which its last frame's time may be: settles all that is open as it stands.
    pub fn finish(&mut self, now: Timestamp) {
        self.take_waiting(true);
        let now = self.clock.end(now);
        self.fire(now);
        let (streams, inner) = (&mut self.streams, &mut self.inner);
        self.packets.finish(&mut |item| forward(streams, inner, &item));
        self.streams.finish(now, &mut |item| inner.stream_item(&item));
        self.inner.transfers.finish(now);
        if let Some(collect) = &mut self.collect {
            collect.finish(now);
        }
    }

    /// The next output, in time order, masked.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.poll_output_seen(|_| ()).map(|(output, ())| output)
    }

    /// The same, with what `look` makes of it before it is masked: whether it is of somebody's number, for one. No number
    /// must leave by that.
    pub fn poll_output_seen<T>(&mut self, look: impl FnOnce(&Output) -> T) -> Option<(Output, T)> {
        let mut output = self.inner.transfers.poll_output()?;
        let ahead = self.clock.ahead_at(output.began());
        if ahead != 0 {
            output.change_times(|time| time.ahead_by(ahead));
        }
        let seen = look(&output);
        self.privacy.output(&mut output);
        Some((output, seen))
    }

    /// The calls that were still up at the end ([`Self::finish`]), as if they had ended then, with what `look` makes of each before
    /// it is masked.
    pub fn take_open_seen<T>(&mut self, look: impl Fn(&Output) -> T) -> Vec<(Output, T)> {
        let open = self.inner.transfers.take_open().into_iter().map(|call| Output::Call(Box::new(call)));
        let told = |mut output: Output| {
            let ahead = self.clock.ahead_at(output.began());
            output.change_times(|time| time.ahead_by(ahead));
            let seen = look(&output);
            self.privacy.output(&mut output);
            (output, seen)
        };
        open.map(told).collect()
    }

    /// When the last SIP message was seen, if there was one.
    pub fn last_message(&self) -> Option<Timestamp> {
        self.inner.last_message
    }

    /// The transfer stage, for its counts and for what it keeps across restarts.
    pub fn transfers(&self) -> &Transfers {
        &self.inner.transfers
    }

    /// Goes by other trunks and likely causes from now on; calls that are up stay.
    pub fn adopt(&mut self, rules: Rules) {
        self.inner.transfers.adopt(rules);
    }

    /// Looks into VXLAN tunnels on these ports from now on.
    pub fn set_vxlan_ports(&mut self, ports: &[u16]) {
        self.packets.set_vxlan_ports(ports);
    }

    /// Takes out what was heard of calls that are not over at `now`, for a successor to [`Self::resume`] from. What waits to
    /// be said is not in it, and nothing is to be heard after that; [`Self::finish`] may still settle all.
    pub fn take_journal(&mut self, now: Timestamp) -> Journal<'static> {
        self.handle_timeout(now);
        let mut journal = self.inner.transfers.take_journal(self.clock.tick(now));
        // A successor's clock is right from the start.
        for entry in &mut journal.entries {
            entry.change_time(|time| time.ahead_by(self.clock.ahead_at(time)));
        }
        journal.until = journal.until.ahead_by(self.clock.ahead_at(journal.until));
        journal
    }

    /// Takes up, before any frame and after [`Self::restore_ratio`], the calls of a predecessor that ended when the journal
    /// does. What it has said is not said again; what passed since is known to be missing.
    pub fn resume(&mut self, journal: &Journal<'_>) {
        self.inner.transfers.resume(journal);
        self.note_loss(Loss::Restart);
    }

    /// Settles, as they stood, the calls of a predecessor that ended too long ago for them to go on; before any frame.
    pub fn settle(&mut self, journal: &Journal<'_>) {
        self.inner.transfers.resume(journal);
        self.inner.transfers.finish(journal.until());
    }

    /// Takes up what was learned of trunks before a restart.
    pub fn restore_ratio(&mut self, state: RatioState) {
        self.inner.transfers.restore_ratio(state);
    }
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
        ParseError::ALL.map(ParseError::as_str).into_iter().chain(NoDialogKey::ALL.map(NoDialogKey::as_str))
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

impl Inner {
    fn stream_item(&mut self, item: &stream::Item<'_>) {
        match item {
            stream::Item::Message(wire, Some(message)) => self.understand(wire, Ok(message)),
            stream::Item::Message(wire, None) => self.message(wire),
            stream::Item::Loss(loss) => self.transfers.note_loss(*loss),
        }
    }

    fn message(&mut self, wire: &WireMessage<'_>) {
        self.understand(wire, Message::parse(wire.bytes).as_ref());
    }

    fn understand(&mut self, wire: &WireMessage<'_>, message: Result<&Message<'_>, &ParseError>) {
        self.messages += 1;
        if let Some(relay) = &mut self.relay {
            relay.message(wire);
        }
        if let Some(surroundings) = &mut self.surroundings {
            surroundings.message(wire);
        }
        self.last_message = self.last_message.max(Some(wire.time));
        let named = message.map_err(|error| error.as_str()).and_then(|message| {
            DialogKey::of(message).map(|key| (message, key)).map_err(NoDialogKey::as_str)
        });
        if wire.cut && is_cut_off(wire, named.as_ref().ok().map(|(message, _)| *message)) {
            let (src, dst) = (wire.src.ip(), wire.dst.ip());
            self.transfers.note_loss(Loss::MessageCut { src, dst });
        }
        match named {
            Ok((message, key)) => {
                self.understood += 1;
                self.memory.message(message, &key, wire.time);
                if let Some(follow) = &mut self.follow {
                    follow.message(wire, message, &key);
                }
                self.transfers.message(wire, message, &key);
            }
            Err(reason) => *self.unparsed.entry(reason).or_default() += 1,
        }
    }
}

/// Whether the capture cut a message off before it says what it is about, or, being a NOTIFY, what came of a transfer. What
/// a TCP stream lacks is a gap in it.
fn is_cut_off(wire: &WireMessage<'_>, message: Option<&Message<'_>>) -> bool {
    let tells = |message: &Message<'_>| {
        let refers = message.header(Name::Event).and_then(Event::parse).is_none_or(|event| event.is_refer());
        message.method() != Some(Method::Notify) || !refers || Sipfrag::of(message).is_ok()
    };
    wire.transport == TransportKind::Udp && !message.is_some_and(tells)
}

fn forward(streams: &mut Streams, inner: &mut Inner, item: &packet::Item<'_>) {
    match item {
        packet::Item::Packet(packet) => {
            if let Some(surroundings) = &mut inner.surroundings {
                surroundings.packet(packet);
            }
            if let Transport::Udp { .. } = packet.transport {
                inner.memory.packet(packet);
            }
            streams.push(packet, &mut |item| inner.stream_item(&item));
        }
        packet::Item::Loss(loss) => inner.transfers.note_loss(*loss),
    }
}
