//! The stages in a row: frames in, outputs out. The only place that knows them all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Memory, Sight};
use crate::dialog::{DialogKey, NoDialogKey};
use crate::discard::DiscardReason;
use crate::evidence::Collect;
use crate::follow::Follow;
use crate::frame::{Frame, Place};
use crate::journal::Journal;
use crate::packet::{self, Packets, Transport};
use crate::privacy::Privacy;
use crate::record::Output;
use crate::sip::{Event, Message, Method, Name, ParseError, Sipfrag};
use crate::stream::{self, ByHep, KeyLog, Loss, Streams, TransportKind, WireMessage};
use crate::timestamp::Timestamp;
use crate::transfer::ratio::RatioState;
use crate::transfer::{self, ConfigError, Rules, Transfers};

mod counts;

pub use counts::{Balance, Counters, Surroundings, Tally};

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
    /// The file of the latest frames, which is yet to be given what these came to.
    counting: Option<usize>,
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
            counting: None,
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
        let mut tally = self.tallies.get(file).copied().unwrap_or_default();
        if self.counting == Some(file) {
            tally.add(self.tally().since(self.tallied));
        }
        tally
    }

    /// Frames of this file follow, or none at all: those before them are of another.
    fn count_for(&mut self, file: Option<usize>) {
        if self.counting == file || self.tallies.is_empty() {
            return;
        }
        let now = self.tally();
        let before = std::mem::replace(&mut self.tallied, now);
        let counted = std::mem::replace(&mut self.counting, file);
        if let Some(tally) = counted.and_then(|file| self.tallies.get_mut(file)) {
            tally.add(now.since(before));
        }
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
        self.count_for(None);
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
        self.count_for(Some(Place::of(frame.number).file));
        self.packet(frame);
    }

    fn packet(&mut self, frame: &Frame<'_>) {
        self.fire(frame.time);
        let (streams, inner) = (&mut self.streams, &mut self.inner);
        self.packets.push(frame, &mut |item| forward(streams, inner, &item));
    }

    /// Opens TLS with these secrets, too, from here on.
    pub fn add_keys(&mut self, keys: &KeyLog) {
        self.streams.add_keys(keys);
        if let Some(collect) = &mut self.collect {
            collect.add_keys(keys);
        }
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
        self.count_for(None);
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
        let key = message.map_err(|error| error.as_str());
        let key = key.and_then(|message| DialogKey::of(message).map_err(NoDialogKey::as_str));
        let named = message.ok().zip(key.as_ref().ok());
        if wire.cut && is_cut_off(wire, named.map(|(message, _)| message)) {
            let (src, dst) = (wire.src.ip(), wire.dst.ip());
            self.transfers.note_loss(Loss::MessageCut { src, dst });
        }
        if let Some((message, key)) = named {
            self.understood += 1;
            self.memory.message(message, key, wire.time);
            if let Some(follow) = &mut self.follow {
                follow.message(wire, message, key);
            }
            self.transfers.message(wire, message, key);
        } else if let Err(reason) = key {
            *self.unparsed.entry(reason).or_default() += 1;
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
