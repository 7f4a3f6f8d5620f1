//! The packets of a few calls, to be handed on: which frames they came in, what each is for the verdict, and what is to be
//! written over in it where parties shall not be named.
//!
//! Whose calls they are is known behind a first reading, which judges. A second one finds their frames, by the same
//! stages but with copies at other taps let through; frames of calls that only it found take it once more. What is kept
//! is a note for each frame, no frame.

use std::collections::{BTreeMap, BTreeSet};

pub use self::around::{Around, MARGIN, Wide};
pub use self::bond::Bond;
use self::connections::Connections;
pub use self::rewrite::Rewritten;
use crate::dialog::DialogKey;
use crate::frame::Frame;
use crate::packet::locate::Lost;
use crate::packet::locate::{Located, Locator, place_of};
use crate::packet::{self, Transport};
use crate::privacy::redact::Redactor;
use crate::record::LegRole;
use crate::sip::{Message, Method, Name, NameAddr, Sipfrag, Uri};
use crate::stream::{self, Item, KeyLog, Random, Streams, WireMessage};
use crate::timestamp::Timestamp;
use crate::work;

mod around;
mod bond;
mod connections;
mod rewrite;

/// Bytes that notes of frames may take up, about.
const MOST: usize = 512 << 20;
/// What a frame's note takes up beside its bytes, about.
const OVERHEAD: usize = 128;
const UDP_HEADER: usize = 8;
/// Names of parties that are looked for, at most.
const MOST_PEOPLE: usize = 1 << 20;

/// The calls whose packets are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By Call-ID.
    legs: BTreeMap<String, LegRole>,
    /// Frames that a verdict rests on: whatever call their messages are of has to do with it.
    evidence: BTreeMap<u64, LegRole>,
    /// Frames that decided, and the names of the verdicts.
    verdicts: BTreeMap<u64, Vec<String>>,
    /// Which calls beside these are wanted, too, and who they are of.
    wide: Option<(Wide, Around)>,
    /// Those, by Call-ID.
    beside: BTreeSet<String>,
}

impl Selection {
    /// Adds a leg; the first word on what it is counts.
    pub fn add_leg(&mut self, call_id: &str, leg: LegRole) {
        if !self.legs.contains_key(call_id) {
            self.legs.insert(call_id.to_owned(), leg);
        }
    }

    /// Whether both have a call in common.
    pub fn shares(&self, other: &Self) -> bool {
        other.legs.keys().any(|id| self.legs.contains_key(id))
    }

    /// Takes over the legs of another one.
    pub fn join(&mut self, other: &Self) {
        other.legs.iter().for_each(|(id, leg)| self.add_leg(id, *leg));
    }

    /// Adds a frame that a verdict rests on.
    pub fn add_evidence(&mut self, frame: u64, leg: LegRole) {
        self.evidence.entry(frame).or_insert(leg);
    }

    /// Says that a frame decided the verdict of this name: its number, or its id.
    pub fn add_verdict(&mut self, frame: u64, name: String) {
        self.verdicts.entry(frame).or_default().push(name);
    }

    /// The calls by Call-ID, as records have it; those beside them are left out.
    pub fn call_ids(&self) -> impl Iterator<Item = &str> {
        self.legs.keys().map(String::as_str)
    }

    /// Whether a verdict rests on the frame of this number.
    pub fn rests_on(&self, frame: u64) -> bool {
        self.evidence.contains_key(&frame)
    }

    /// Wants calls beside these, too, where a reader might judge otherwise without them.
    pub fn widen(&mut self, wide: Wide, around: Around) {
        self.wide = Some((wide, around));
        self.beside.clear();
    }

    /// Whether calls beside these are looked for.
    pub fn is_wide(&self) -> bool {
        self.wide.is_some()
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.legs.is_empty() && self.evidence.is_empty()
    }
}

/// Who takes part in the calls, as on the wire: never printed.
#[derive(Clone, Default)]
pub struct People {
    /// Users of URIs.
    pub(crate) users: BTreeSet<String>,
    /// Display names.
    pub(crate) names: BTreeSet<String>,
}

/// Only how many: names must not slip into a log.
impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "People({}, {})", self.users.len(), self.names.len())
    }
}

/// Finds the frames of calls.
#[derive(Debug)]
pub struct Collect {
    locator: Locator,
    streams: Streams,
    found: Found,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    selection: Selection,
    /// Calls that frames of evidence led to.
    more: BTreeMap<String, LegRole>,
    /// Calls beside those that are wanted.
    beside: BTreeSet<String>,
    /// Wanted calls of which an INVITE was seen that begins them.
    begun: BTreeSet<String>,
    around: Around,
    connections: Connections,
    people: People,
    /// What the parties' names are replaced by; none where nothing is.
    redactor: Option<Redactor>,
    /// Messages by their hashes: a second one is a retransmission, or the same at another tap.
    seen: BTreeMap<u64, Timestamp>,
    hasher: crate::hash::Keyed,
    notes: Notes,
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Notes {
    frames: BTreeMap<u64, Note>,
    bytes: usize,
    /// Frames that found no room.
    left_out: u64,
    /// Messages of the calls that came over TLS or WebSocket and can't be handed on.
    sealed: u64,
    /// The TLS sessions that others came in, and their secrets.
    sessions: BTreeSet<Random>,
    keys: KeyLog,
}

/// What is known of one frame.
#[derive(Debug, Default)]
struct Note {
    says: Vec<String>,
    /// What is to stand in the frame, and where; where parties are not to be named, all else is blank.
    patches: Vec<(usize, Box<[u8]>)>,
}

impl Collect {
    /// Finds the frames of the calls of `selection`; with a redactor also what is to be written over in them.
    pub fn new(
        packet: &packet::Config,
        stream: stream::Config,
        selection: Selection,
        redactor: Option<Redactor>,
    ) -> Self {
        let found = Found { selection, redactor, ..Found::default() };
        Self { locator: Locator::new(packet), streams: Streams::new(stream), found }
    }

    /// The same calls with those that were found, to read once more; nothing where there were none.
    pub fn again(&self) -> Option<Selection> {
        let Found { more, beside, selection, .. } = &self.found;
        (!more.is_empty() || !beside.is_empty()).then(|| {
            let mut selection = selection.clone();
            more.iter().for_each(|(id, leg)| selection.add_leg(id, *leg));
            selection.beside.extend(beside.iter().cloned());
            selection
        })
    }

    /// Wanted calls of which no INVITE was seen that begins them.
    pub fn without_beginning(&self) -> usize {
        self.found.selection.legs.keys().filter(|id| !self.found.begun.contains(*id)).count()
    }

    /// Which calls they are, who takes part in them and when, and their frames.
    pub fn into_parts(self) -> (Selection, People, Around, Notes) {
        let Found { selection, people, around, mut notes, .. } = self.found;
        notes.keys = self.streams.keys().of(&notes.sessions);
        (selection, people, around, notes)
    }

    /// Opens TLS with these secrets, too.
    pub(crate) fn add_keys(&mut self, keys: &KeyLog) {
        self.streams.add_keys(keys);
    }

    /// Takes one frame.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>) {
        let Self { locator, streams, found } = self;
        locator.handle_timeout(frame.time, &mut |lost| found.lost(lost));
        streams.handle_timeout(frame.time, &mut |item| found.item(&item, None));
        locator.push(frame, &mut |located| {
            let is_tcp = matches!(located.packet.transport, Transport::Tcp { .. });
            if is_tcp {
                found.connections.segment(located, &mut found.notes);
            }
            streams.push(&located.packet, &mut |item| found.item(&item, Some(located)));
            if is_tcp {
                let (src, dst) = (located.packet.src, located.packet.dst);
                found.connections.wrapped(src, dst, streams.wrapper(src, dst));
            }
        });
    }

    /// The capture is over at `now`.
    pub(crate) fn finish(&mut self, now: Timestamp) {
        let Self { locator, streams, found } = self;
        locator.finish(&mut |lost| found.lost(lost));
        streams.finish(now, &mut |item| found.item(&item, None));
    }
}

impl Found {
    fn item(&mut self, item: &Item<'_>, located: Option<&Located<'_>>) {
        let Item::Message(wire, _) = item else { return };
        let says = Message::parse(wire.bytes).ok().and_then(|message| self.chosen(wire, &message));
        if !wire.transport.is_plain() {
            let Some(says) = says else { return };
            // What is sealed can't be written over.
            if self.redactor.is_some() || !self.connections.unwrap(wire, &says, &mut self.notes) {
                self.notes.sealed += 1;
            }
            return;
        }
        match (wire.seq, located) {
            (Some(seq), _) => {
                let redacted = says.as_ref().and(self.redactor.as_ref());
                let redacted = redacted.map(|redactor| redactor.message(wire.bytes));
                self.connections.message(wire, seq, says, redacted, &mut self.notes);
            }
            (None, Some(located)) => {
                if let Some(says) = says {
                    self.datagram(wire, located, &says);
                }
            }
            (None, None) => {}
        }
    }

    /// What a message is, if it is of one of the calls.
    fn chosen(&mut self, wire: &WireMessage<'_>, message: &Message<'_>) -> Option<String> {
        let key = DialogKey::of(message).ok()?;
        // As records have it.
        let call_id = crate::sip::line(key.call_id);
        let whose = match self.selection.legs.get(&*call_id) {
            Some(leg) => {
                self.around.add(wire, &key);
                let begins = message.status().is_none() && key.cseq.method == Method::Invite;
                if begins && key.to_tag.is_none() && !self.begun.contains(&*call_id) {
                    self.begun.insert(call_id.to_string());
                }
                leg_name(*leg)
            }
            None if self.selection.beside.contains(&*call_id) => "a call beside it",
            None => {
                if let Some(leg) = self.selection.evidence.get(&wire.frame) {
                    self.more.entry(call_id.into_owned()).or_insert(*leg);
                } else if self
                    .selection
                    .wide
                    .as_ref()
                    .is_some_and(|(wide, around)| around.fits(*wide, wire, &key))
                {
                    self.beside.insert(call_id.into_owned());
                }
                return None;
            }
        };
        self.people.add(message);
        let mut says = format!("{} of {whose}", what(message, key.cseq.method));
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, (wire.src, wire.dst, wire.bytes));
        match self.seen.insert(hash, wire.time) {
            Some(before) if wire.time.since(before) <= packet::Config::default().copy_window => {
                says.push_str(": the same once more, as at another tap");
            }
            Some(_) => says.push_str(": retransmission"),
            None => {}
        }
        for name in self.selection.verdicts.get(&wire.frame).into_iter().flatten() {
            says.push_str(&format!(": this is the verdict of {name}"));
        }
        Some(says)
    }

    /// Notes the fragments of a datagram that never got whole: what was lost with it may be why a verdict is in doubt.
    fn lost(&mut self, lost: &Lost<'_>) {
        let is_wanted = self.selection.wide.as_ref().is_some_and(|(_, around)| around.concerns(lost));
        if !is_wanted {
            return;
        }
        for piece in lost.pieces {
            self.notes.say(piece.frame, "fragment of a datagram of which others are missing");
        }
        let head = lost.pieces.iter().find(|piece| piece.at == 0).zip(lost.head.split_at_checked(UDP_HEADER));
        if let Some(((piece, (header, message)), redactor)) = head.zip(self.redactor.as_ref()) {
            let bytes = [header, &redactor.message(message)].concat();
            self.notes.patch(piece.frame, piece.bytes.start, &bytes);
        }
    }

    /// Notes the frames of a message that came by HEP. Where nobody is to be named they are left out, and counted: what its
    /// chunks say of the call is not written over.
    fn hep(&mut self, located: &Located<'_>, says: &str) {
        if self.redactor.is_some() {
            self.notes.left_out += 1;
            return;
        }
        self.notes.say(located.packet.frame, says);
        for piece in located.pieces {
            self.notes.say(piece.frame, says);
        }
    }

    /// Notes the frames of a message that did not come over TCP.
    fn datagram(&mut self, wire: &WireMessage<'_>, located: &Located<'_>, says: &str) {
        if let Transport::Udp { payload, .. } = located.packet.transport
            && crate::hep::begins_like_hep(payload)
        {
            return self.hep(located, says);
        }
        let place = place_of(located, wire.bytes);
        let redacted = self.redactor.as_ref().map(|redactor| (redactor, redactor.message(wire.bytes)));
        if !located.is_joined {
            self.notes.say(wire.frame, says);
            if let Some((_, redacted)) = redacted {
                self.notes.patch(wire.frame, place.start, &redacted);
            }
            return;
        }
        // Headers and checksum of the whole are in its first fragment.
        let whole = redacted.map(|(redactor, redacted)| rewrite::whole(located, place, &redacted, redactor));
        for piece in located.pieces {
            let part = if located.pieces.len() > 1 { " (fragment)" } else { "" };
            self.notes.say(piece.frame, &format!("{says}{part}"));
            if let Some(part) =
                whole.as_ref().and_then(|whole| whole.get(piece.at..piece.at + piece.bytes.len()))
            {
                self.notes.patch(piece.frame, piece.bytes.start, part);
            }
        }
    }
}

impl Notes {
    /// Frames to be written.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frames that there is no room for: fewer calls are to be asked for.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The secrets of the TLS connections that are among the frames.
    pub fn keys(&self) -> &KeyLog {
        &self.keys
    }

    /// Messages of the calls that came over TLS, and whose packets are not among the frames: they would have to be written over,
    /// or there is no room.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// A frame is to be written whatever it says.
    fn keep(&mut self, frame: u64) {
        let _ = self.note(frame, 0);
    }

    fn say(&mut self, frame: u64, says: &str) {
        let Some(note) = self.note(frame, says.len()) else { return };
        if !note.says.iter().any(|said| said == says) {
            note.says.push(says.to_owned());
        }
    }

    fn patch(&mut self, frame: u64, at: usize, bytes: &[u8]) {
        work::count(bytes.len());
        if let Some(note) = self.note(frame, bytes.len()) {
            note.patches.push((at, bytes.into()));
        }
    }

    fn note(&mut self, frame: u64, more: usize) -> Option<&mut Note> {
        if self.bytes + more > MOST {
            self.left_out += 1;
            return None;
        }
        self.bytes += more;
        Some(self.frames.entry(frame).or_insert_with(|| {
            self.bytes += OVERHEAD;
            Note::default()
        }))
    }
}

impl People {
    fn add(&mut self, message: &Message<'_>) {
        if self.users.len() + self.names.len() >= MOST_PEOPLE {
            return;
        }
        self.add_uri(message.request_uri().unwrap_or_default());
        for name in [
            Name::From,
            Name::To,
            Name::Contact,
            Name::PAssertedIdentity,
            Name::PPreferredIdentity,
            Name::RemotePartyId,
            Name::Diversion,
            Name::HistoryInfo,
            Name::ReferTo,
            Name::ReferredBy,
        ] {
            for address in message.values(name).filter_map(NameAddr::parse) {
                self.add_uri(address.uri);
                self.names.extend(address.display_text().map(std::borrow::Cow::into_owned));
            }
        }
    }

    fn add_uri(&mut self, uri: &[u8]) {
        if let Some(user) = Uri::parse(uri).as_ref().and_then(Uri::user_part) {
            self.users.insert(String::from_utf8_lossy(&user).into_owned());
        }
    }
}

/// A message's method, or status and method.
fn what(message: &Message<'_>, method: Method) -> String {
    match message.status() {
        Some(status) => format!("{status} to {}", method.as_str()),
        None if method == Method::Notify => match Sipfrag::of(message) {
            Ok(told) => format!("NOTIFY that tells of {}", told.status),
            Err(_) => "NOTIFY".to_owned(),
        },
        None => method.as_str().to_owned(),
    }
}

fn leg_name(leg: LegRole) -> &'static str {
    match leg {
        LegRole::Call => "the call",
        LegRole::Target => "the second leg",
        LegRole::Consultation => "the consultation",
    }
}
