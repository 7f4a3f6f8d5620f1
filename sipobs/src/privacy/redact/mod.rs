//! Writes over, in a SIP message, what names a party or lets somebody in: numbers, names, credentials, and addresses if
//! they are asked for. Every length stays, and so does what a verdict rests on.
//!
//! What reads like a URI, a number or a secret is found as where it is masked (`privacy::text`); beside that the names that
//! the calls' own parties have, wherever they stand. Bodies that are neither SDP nor a part of a SIP message are blank.

mod body;
mod text;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use self::text::{end_of_parameter, is_free, names_before_brackets};
use crate::evidence::People;
use crate::privacy::Privacy;
use crate::privacy::number::NUMBER;
use crate::privacy::party_numbers::Known;
use crate::privacy::scramble::Scrambler;
use crate::privacy::secret::is_secret_of;
use crate::privacy::text::number_of;
use crate::record::Parties;
use crate::sip::{Message, Name};

/// Redacts messages, all with one key.
#[derive(Clone, Debug)]
pub struct Redactor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` where there can be no key: everything is blank then.
    scrambler: Option<Scrambler>,
    addresses: bool,
    known: Known,
    /// The parties' names, in small letters, word by word.
    names: BTreeSet<String>,
    /// Finds what is hidden of a text.
    privacy: Privacy,
}

/// What takes the place of bytes of which nothing can be kept.
const BLANK: u8 = b'x';
/// The fewest letters of a name that is looked for where no name is expected.
const SHORTEST_NAME: usize = 3;

/// Words that stay where they stand for themselves, whoever has them in a name.
const COMMON: &[&str] = &[
    "accepted",
    "ack",
    "active",
    "agent",
    "and",
    "answer",
    "anonymous",
    "application",
    "asterisk",
    "audio",
    "auth",
    "avp",
    "branch",
    "busy",
    "bye",
    "call",
    "caller",
    "cancel",
    "cause",
    "client",
    "com",
    "conference",
    "contact",
    "decline",
    "declined",
    "digest",
    "early",
    "error",
    "event",
    "example",
    "expires",
    "forbidden",
    "found",
    "freeswitch",
    "from",
    "gateway",
    "here",
    "inactive",
    "info",
    "internal",
    "invalid",
    "invite",
    "kamailio",
    "line",
    "livekit",
    "local",
    "localhost",
    "message",
    "method",
    "mixed",
    "multipart",
    "net",
    "none",
    "not",
    "notify",
    "only",
    "option",
    "options",
    "org",
    "pbx",
    "pcma",
    "pcmu",
    "pending",
    "phone",
    "prack",
    "provider",
    "proxy",
    "publish",
    "reason",
    "received",
    "recvonly",
    "refer",
    "register",
    "rejected",
    "replaces",
    "request",
    "ringing",
    "rport",
    "rtp",
    "savp",
    "sdp",
    "sendonly",
    "sendrecv",
    "server",
    "service",
    "session",
    "sip",
    "sipfrag",
    "sips",
    "subscribe",
    "support",
    "tag",
    "tcp",
    "tel",
    "telephone",
    "telnyx",
    "temporarily",
    "terminated",
    "test",
    "text",
    "the",
    "timeout",
    "tls",
    "transfer",
    "transport",
    "trunk",
    "trying",
    "twilio",
    "udp",
    "unavailable",
    "unknown",
    "update",
    "user",
    "video",
    "with",
];

impl Redactor {
    /// One with a new key, for calls of these people.
    pub fn new(people: &People, addresses: bool) -> Self {
        let all = || people.users.iter().chain(&people.names).map(String::as_str);
        let all_of: Vec<&str> = all().collect();
        let mut names = BTreeSet::new();
        for text in all().filter(|text| number_of(text).is_none()) {
            let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
            names.extend(words.filter(|word| {
                let letters = word.chars().filter(|c| c.is_alphabetic()).count();
                letters >= SHORTEST_NAME && !COMMON.contains(&word.as_str())
            }));
        }
        Self(Arc::new(Inner {
            scrambler: Scrambler::new(),
            addresses,
            known: Known::of(&Parties::NONE, &all_of),
            names,
            privacy: Privacy::default(),
        }))
    }

    /// The message as it is to be written, of the same length.
    pub(crate) fn message(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        match &self.0.scrambler {
            Some(scrambler) => {
                Page { scrambler, inner: &self.0, bytes, out: &mut out }.message(0..bytes.len(), false);
            }
            None => blank(&mut out),
        }
        out
    }

    /// What stands for an address.
    pub(crate) fn address(&self, ip: IpAddr) -> IpAddr {
        match &self.0.scrambler {
            Some(scrambler) if self.0.addresses => scrambler.address(ip),
            _ => ip,
        }
    }

    /// Whether addresses are not to be told.
    pub(crate) fn hides_addresses(&self) -> bool {
        self.0.addresses
    }
}

/// A message that is written over.
struct Page<'a> {
    scrambler: &'a Scrambler,
    inner: &'a Inner,
    bytes: &'a [u8],
    out: &'a mut [u8],
}

impl Page<'_> {
    /// A message, or the beginning of one in a body.
    fn message(&mut self, place: Range<usize>, is_within: bool) {
        let bytes = &self.bytes[place.clone()];
        let Ok(message) = Message::parse(bytes) else { return blank(&mut self.out[place]) };
        let within = |part: &[u8]| {
            let start = part.as_ptr().addr().saturating_sub(bytes.as_ptr().addr()).min(bytes.len());
            place.start + start..place.start + (start + part.len()).min(bytes.len())
        };
        // What is none of its headers is nobody's.
        let behind = message.after_headers();
        let end = if behind.is_empty() { place.end } else { within(behind).start };
        let head = place.start..end;
        let mut rest = head.start;
        let mut parts: Vec<_> =
            message.all_headers().map(|(name, key, value)| (name, within(key), within(value))).collect();
        parts.sort_by_key(|(_, key, _)| key.start);
        let line = within(message.first_line());
        self.text(line.clone());
        rest = rest.max(line.end);
        for (_, key, value) in &parts {
            self.junk(rest..key.start);
            rest = rest.max(value.end);
        }
        self.junk(rest..head.end);
        for (name, key, value) in parts {
            self.header(name, key, value);
        }
        let kind = message.header(Name::ContentType).map(<[u8]>::to_ascii_lowercase);
        let is_packed = message.header(Name::ContentEncoding).is_some_and(|how| how != b"identity");
        let body = head.end..place.end;
        if is_packed || body.is_empty() {
            blank(&mut self.out[body]);
        } else {
            self.body(body, kind.as_deref(), is_within);
        }
    }

    /// What lies between headers: line ends stay.
    fn junk(&mut self, place: Range<usize>) {
        if place.start < place.end && self.bytes[place.clone()].iter().any(|byte| !b"\r\n \t:".contains(byte))
        {
            blank(&mut self.out[place]);
        }
    }

    fn header(&mut self, name: Name, key: Range<usize>, value: Range<usize>) {
        let named = self.read(key.clone());
        if name == Name::Other {
            self.numbers(&named, &key, &[], NUMBER);
            self.addresses(&named, &key, &[]);
        }
        let named = named.to_ascii_lowercase();
        let text = self.read(value.clone());
        match name {
            Name::CSeq
            | Name::ContentLength
            | Name::Event
            | Name::Expires
            | Name::MaxForwards
            | Name::MinExpires
            | Name::MinSe
            | Name::RAck
            | Name::RSeq => {
                let kept = self.counters(name, &text);
                self.text_beside(value, kept);
            }
            Name::ContentType | Name::ContentDisposition => self.media_type(value),
            Name::Authorization
            | Name::ProxyAuthorization
            | Name::ProxyAuthenticate
            | Name::WwwAuthenticate => self.credentials(value),
            Name::Identity | Name::Subject => self.scramble(value),
            Name::CallId | Name::XCallId | Name::XCid => self.call_id(value),
            Name::Replaces | Name::Join | Name::TargetDialog => {
                let end = value.start + text.find(';').unwrap_or(text.len());
                self.call_id(value.start..end);
                self.text(end..value.end);
            }
            _ if named.starts_with("proxy-authentication") || named.starts_with("authentication") => {
                self.credentials(value);
            }
            _ if is_secret_of(&named, &text) || is_free(&named) => self.scramble(value),
            _ => {
                let names = names_before_brackets(&text);
                for name in &names {
                    self.name(value.start + name.start..value.start + name.end);
                }
                self.text_beside(value, names);
            }
        }
    }

    /// Where the counters of a header stand that others are held against, and that are no party's number.
    fn counters(&self, name: Name, text: &str) -> Vec<Range<usize>> {
        let (from, most) = match name {
            Name::RAck => (0, 2),
            Name::Event => (text.find(";id=").map_or(text.len(), |at| at + ";id=".len()), 1),
            _ => (0, 1),
        };
        let words =
            text[from..].split([' ', '\t', '\r', '\n', ';']).filter(|word| !word.is_empty()).take(most);
        // RFC 3261 §8.1.1.5: less than 2**31.
        let is_counter = |word: &&str| {
            word.bytes().all(|byte| byte.is_ascii_digit())
                && word.parse::<i32>().is_ok()
                && !self.inner.known.owns(word)
        };
        let start = |word: &str| word.as_ptr().addr() - text.as_ptr().addr();
        words.filter(is_counter).map(|word| start(word)..start(word) + word.len()).collect()
    }

    /// What a body is: its type stays, and so do values that everybody has.
    fn media_type(&mut self, place: Range<usize>) {
        const OPEN: [&str; 4] = ["version", "charset", "base", "handling"];
        let text = self.read(place.clone());
        let kind = text.find(';').unwrap_or(text.len());
        self.text(place.start..place.start + kind);
        let mut at = kind;
        for parameter in text[kind..].split_inclusive(';') {
            let here = place.start + at..place.start + at + parameter.len();
            match parameter.split_once('=') {
                Some((name, _)) if OPEN.contains(&name.trim().to_ascii_lowercase().as_str()) => {
                    self.text(here);
                }
                Some((name, _)) => {
                    self.text(here.start..here.start + name.len());
                    self.scramble(here.start + name.len()..here.end);
                }
                None => self.scramble(here),
            }
            at += parameter.len();
        }
    }

    /// Credentials, or what asks for them: all values but those that everybody has, of a digest; of another scheme nothing.
    fn credentials(&mut self, place: Range<usize>) {
        const OPEN: [&str; 6] = ["algorithm", "qop", "stale", "nc", "charset", "userhash"];
        const SECRET: [&str; 7] = ["nonce", "cnonce", "nextnonce", "response", "rspauth", "opaque", "auts"];
        let text = self.read(place.clone());
        let first = text.split_whitespace().next().unwrap_or_default();
        // Authentication-Info has none (RFC 7615 §3).
        let scheme = if first.contains('=') { "" } else { first };
        let mut at = text.find(first).unwrap_or(0) + scheme.len();
        if !scheme.is_empty() && !scheme.eq_ignore_ascii_case("digest") {
            // A single word may be all of it.
            let from = if text[at..].trim().is_empty() { 0 } else { at };
            return self.scramble(place.start + from..place.end);
        }
        while at < text.len() {
            let end = at + end_of_parameter(&text[at..]);
            let part = &text[at..end];
            let (name, value) = part.split_once('=').unwrap_or_default();
            let place = place.start + at..place.start + end;
            let value_place = place.end - value.len()..place.end;
            match name.trim().to_ascii_lowercase().as_str() {
                name if OPEN.contains(&name) => self.rest_of_origin(value_place),
                "realm" if value.trim().contains(char::is_whitespace) => self.scramble(value_place),
                "uri" | "realm" | "domain" => self.text(value_place),
                "username" => {
                    let quoted = value.trim().trim_matches('"');
                    let from = value_place.start + value.find(quoted).unwrap_or(0);
                    self.user(from..from + quoted.len());
                }
                name if SECRET.contains(&name) => self.scramble(value_place),
                _ => self.scramble(place),
            }
            at = end + 1;
        }
    }

    /// A display name.
    fn name(&mut self, place: Range<usize>) {
        let text = self.read(place.clone());
        self.scrambler.part(&text, &mut self.out[place]);
    }

    /// A user.
    fn user(&mut self, place: Range<usize>) {
        let text = self.read(place.clone());
        self.scrambler.user(&text, &mut self.out[place]);
    }

    /// All words.
    fn scramble(&mut self, place: Range<usize>) {
        let text = self.read(place.clone());
        self.scrambler.words(&text, &mut self.out[place], |_| true);
    }

    /// The text there. What is no UTF-8 is blank in what is written, too.
    fn read(&mut self, place: Range<usize>) -> String {
        let mut text = String::with_capacity(place.len());
        let mut at = place.start;
        for chunk in self.bytes[place].utf8_chunks() {
            text.push_str(chunk.valid());
            at += chunk.valid().len();
            for _ in chunk.invalid() {
                text.push('?');
                self.out[at] = b'?';
                at += 1;
            }
        }
        text
    }
}

/// Blanks all but line ends.
fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| !matches!(**byte, b'\r' | b'\n')).for_each(|byte| *byte = BLANK);
}

/// Lines, with their ends.
fn lines(bytes: &[u8], place: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = place.start;
    bytes[place].split_inclusive(|byte| *byte == b'\n').map(move |line| {
        at += line.len();
        at - line.len()..at
    })
}

#[cfg(test)]
mod tests;
