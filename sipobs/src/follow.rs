//! All messages of some calls, for whoever asked for these: what a second reading of a capture keeps, and a third where that
//! found more legs.
//!
//! The first reading judges, and keeps no messages but those of attempts. Which calls are to be seen whole is known behind
//! it; so ordinary runs pay nothing.

use std::collections::BTreeMap;

use crate::dialog::DialogKey;
use crate::record::{LadderLine, LegRole, Parties};
use crate::sip::{self, Message, Name, brief};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;
use crate::transfer::show;

/// Messages that are kept; the others are only counted.
const MOST: usize = 4_096;
/// The same where their headers are kept, too: several calls are asked for then.
const MOST_WITH_HEADERS: usize = 16_384;
/// A message that is repeated is looked for among so many before it in its leg.
const AROUND: usize = 64;
/// Headers of a message that are kept.
const MOST_HEADERS: usize = 40;
/// Bytes of a header's value that are kept.
const LONGEST_HEADER: usize = 200;

/// Lines of a body that are kept.
const MOST_LINES: usize = 100;

/// How much of each message is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// What a ladder shows.
    #[default]
    Line,
    /// And its headers, as they are written.
    Headers,
    /// And its headers as rsip reads them, where that agrees with the index on what names the dialog, and of its body what
    /// it is.
    Typed,
    /// And its headers as they are written, and its body where that is text.
    Whole,
}

/// Keeps the messages of these calls.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    /// By Call-ID.
    legs: BTreeMap<String, Leg>,
    /// Frames that a verdict rests on: whatever call their messages are of has to do with it.
    evidence: BTreeMap<u64, LegRole>,
    /// Calls that were found by those.
    found: BTreeMap<String, Found>,
    keep: Keep,
    kept: usize,
    more: u64,
}

/// One leg of a call that is followed.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Which leg it is; where it is one of several calls, of the one that was named last.
    pub role: LegRole,
    /// Its messages in the order in which they were captured.
    pub messages: Vec<FollowedMessage>,
    /// Users of everyone who takes part in it.
    pub parties: Parties,
}

/// A call that has to do with a verdict, by a frame that this rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which leg it is.
    pub role: LegRole,
    /// The number of the frame ([`crate::frame::Place`]).
    pub frame: u64,
}

/// A message that was kept, as on the wire: to be masked.
#[derive(Clone, Debug)]
pub struct FollowedMessage {
    /// Its place in a ladder.
    pub line: LadderLine,
    /// Its headers in order, but for those with credentials; none where they were not asked for.
    pub headers: Vec<Header>,
    /// What it carries behind them, where that was asked for.
    pub body: Option<Body>,
    /// A frame may hold several.
    order: usize,
}

/// A header of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub name: Name,
    /// How it is spelt.
    pub spelling: String,
    /// Its value, in one line, the end cut off where it is long.
    pub value: String,
}

/// What a message carries behind its headers: text that is safe to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Its Content-Type.
    pub kind: String,
    /// How long it is.
    pub bytes: usize,
    /// The streams that a session description in it has, each in a line ([`sip::streams`]).
    pub streams: Vec<String>,
    /// Its own lines, where it is text.
    pub lines: Vec<String>,
    /// It has more lines than these.
    pub is_partial: bool,
}

impl Body {
    /// Whether all of it is a session description (RFC 8866).
    pub(crate) fn is_description(&self) -> bool {
        self.is("application/sdp")
    }

    /// Whether it is a part of a message (RFC 3420).
    pub(crate) fn is_fragment(&self) -> bool {
        self.is("message/sipfrag")
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.split(';').next().is_some_and(|known| known.trim().eq_ignore_ascii_case(kind))
    }
}

impl Follow {
    /// Follows calls by their Call-IDs, and finds others by the numbers of frames ([`crate::frame::Place`]).
    pub fn new(
        legs: impl IntoIterator<Item = (String, LegRole)>,
        evidence: impl IntoIterator<Item = (u64, LegRole)>,
    ) -> Self {
        let legs = legs.into_iter().map(|(id, role)| (id, Leg::new(role))).collect();
        Self { legs, evidence: evidence.into_iter().collect(), ..Self::default() }
    }

    /// Keeps so much of each message.
    #[must_use]
    pub fn keeping(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// The same with the calls that were found, to read once more; nothing where there were none.
    pub fn again(&self) -> Option<Self> {
        let legs = self.legs.iter().map(|(id, leg)| (id, leg.role));
        let legs = legs.chain(self.found.iter().map(|(id, found)| (id, found.role)));
        let legs = legs.map(|(id, role)| (id.clone(), Leg::new(role))).collect();
        let keep = self.keep;
        (!self.found.is_empty()).then(|| Self { legs, keep, ..Self::default() })
    }

    /// The calls that were found.
    pub fn found(&self) -> impl Iterator<Item = (&str, Found)> {
        self.found.iter().map(|(id, found)| (id.as_str(), *found))
    }

    /// The leg of this Call-ID.
    pub fn leg(&self, call_id: &str) -> Option<&Leg> {
        self.legs.get(call_id)
    }

    /// The Call-IDs, and which legs they are.
    pub fn legs(&self) -> impl Iterator<Item = (&str, LegRole)> {
        self.legs.iter().map(|(id, leg)| (id.as_str(), leg.role))
    }

    /// Users of everyone who takes part in them.
    pub fn parties(&self) -> Parties {
        self.legs.values().flat_map(|leg| leg.parties.iter()).collect()
    }

    /// The messages in the order of time, and how many more there were.
    pub fn into_messages(self) -> (Vec<FollowedMessage>, u64) {
        let messages = self.legs.into_values().flat_map(|leg| leg.messages);
        let mut messages: Vec<_> = messages.collect();
        messages.sort_by_key(FollowedMessage::place);
        if let Some(start) = messages.first().map(|first| first.line.time) {
            messages.iter_mut().for_each(|message| message.line.t_ms = message.line.time.millis_since(start));
        }
        (messages, self.more)
    }

    /// Messages that found no room.
    pub fn more(&self) -> u64 {
        self.more
    }

    pub(crate) fn lines_mut(&mut self) -> impl Iterator<Item = &mut LadderLine> {
        self.legs.values_mut().flat_map(|leg| &mut leg.messages).map(|message| &mut message.line)
    }

    pub(crate) fn message(&mut self, wire: &WireMessage<'_>, message: &Message<'_>, key: &DialogKey<'_>) {
        // As records have it.
        let call_id = sip::line(key.call_id);
        let Some(leg) = self.legs.get_mut(&*call_id) else {
            if let Some(&role) = self.evidence.get(&wire.frame) {
                let found = Found { role, frame: wire.frame };
                self.found.entry(call_id.into_owned()).or_insert(found);
            }
            return;
        };
        let uris = [Some(key.from.uri), Some(key.to.uri), message.request_uri()];
        uris.into_iter().flatten().for_each(|uri| leg.parties.add_user_of(uri));
        let line = show(wire, message, key.cseq, leg.role);
        let is_again = |known: &&mut LadderLine| {
            (known.cseq, known.from, known.to) == (line.cseq, line.from, line.to) && known.line == line.line
        };
        let before = leg.messages.iter_mut().rev().take(AROUND).map(|known| &mut known.line);
        if let Some(known) = before.into_iter().find(is_again) {
            known.copies += 1;
        } else if self.kept < if self.keep == Keep::Headers { MOST_WITH_HEADERS } else { MOST } {
            let (headers, body) = kept(self.keep, message);
            leg.messages.push(FollowedMessage { line, headers, body, order: self.kept });
            self.kept += 1;
        } else {
            self.more += 1;
        }
    }
}

impl FollowedMessage {
    /// Where it stands among others.
    pub fn place(&self) -> (Timestamp, u64, usize) {
        (self.line.time, self.line.frame, self.order)
    }
}

impl Leg {
    fn new(role: LegRole) -> Self {
        Self { role, messages: Vec::new(), parties: Parties::default() }
    }
}

fn kept(keep: Keep, message: &Message<'_>) -> (Vec<Header>, Option<Body>) {
    match keep {
        Keep::Line => (Vec::new(), None),
        Keep::Headers => (headers(message), None),
        Keep::Typed => (typed_headers(message).unwrap_or_else(|| headers(message)), body(message, false)),
        Keep::Whole => (headers(message), body(message, true)),
    }
}

fn body(message: &Message<'_>, with_lines: bool) -> Option<Body> {
    let body = message.body();
    if body.is_empty() {
        return None;
    }
    // Without its parameters, which may hold anything: an address of the body itself (RFC 4483), say.
    let kind = message.header(Name::ContentType).unwrap_or_default().split(|byte| *byte == b';').next();
    let kind = brief(kind.unwrap_or_default().trim_ascii(), LONGEST_HEADER);
    let streams = message.body_of("application/sdp").map(sip::streams).unwrap_or_default();
    let text = std::str::from_utf8(body).ok().filter(|text| with_lines && !text.contains('\0'));
    // Also what a lone CR ends, as a reader may take it for a line (RFC 8866 §5: readers take what ends in LF, too).
    let lines = || {
        let lines = text.into_iter().flat_map(|text| text.split_terminator(['\r', '\n']));
        lines.filter(|line| !line.is_empty())
    };
    Some(Body {
        kind,
        bytes: body.len(),
        streams,
        lines: lines().take(MOST_LINES).map(|line| brief(line.as_bytes(), LONGEST_HEADER)).collect(),
        is_partial: with_lines && (text.is_none() || lines().nth(MOST_LINES).is_some()),
    })
}

/// The headers as rsip reads them.
#[cfg(feature = "typed")]
fn typed_headers(message: &Message<'_>) -> Option<Vec<Header>> {
    use rsip::message::HasHeaders as _;
    let typed = sip::typed(message)?;
    let written = typed.headers().iter().map(|header| header.to_string());
    let header = |text: String| {
        let (spelling, value) = text.split_once(": ").unwrap_or((&text, ""));
        let name = Name::of(spelling.as_bytes());
        let (spelling, value) = (spelling.as_bytes(), value.as_bytes());
        Header { name, spelling: brief(spelling, LONGEST_HEADER), value: brief(value, LONGEST_HEADER) }
    };
    Some(written.map(header).filter(|header| !header.name.is_secret()).take(MOST_HEADERS).collect())
}

#[cfg(not(feature = "typed"))]
fn typed_headers(_: &Message<'_>) -> Option<Vec<Header>> {
    None
}

fn headers(message: &Message<'_>) -> Vec<Header> {
    let shown = message.all_headers().filter(|(name, ..)| !name.is_secret());
    let header = |(name, spelling, value): (Name, &[u8], &[u8])| Header {
        name,
        spelling: brief(spelling, LONGEST_HEADER),
        value: brief(value, LONGEST_HEADER),
    };
    shown.take(MOST_HEADERS).map(header).collect()
}
