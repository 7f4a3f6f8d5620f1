//! Writes over, in a SIP message, what names a party or lets somebody in: numbers, names, credentials, and addresses if
//! they are asked for. Every length stays, and so does what a verdict rests on.
//!
//! What reads like a URI, a number or a secret is found as where it is masked (`privacy::text`); beside that the names that
//! the calls' own parties have, wherever they stand. Bodies that are neither SDP nor a part of a SIP message are blank.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use super::number::{Cursor, Group, NUMBER};
use super::party_numbers::Known;
use super::scramble::{Scrambler, chars, put};
use super::secret::is_secret_of;
use super::text::{GAP, HEADERS, number_of};
use super::{Privacy, SECRET};
use crate::evidence::People;
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
/// An IPv6 address in full, with a colon after it.
const LONGEST_ADDRESS: usize = 40;
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

    fn body(&mut self, place: Range<usize>, kind: Option<&[u8]>, is_within: bool) {
        let begins = &self.bytes[place.clone()];
        match kind {
            Some(kind) if kind.starts_with(b"application/sdp") => self.sdp(place),
            Some(kind) if kind.starts_with(b"message/sip") && !is_within => self.message(place, true),
            Some(kind) if kind.starts_with(b"multipart/") => self.parts(place, is_within),
            None if begins.starts_with(b"v=") => self.sdp(place),
            None if !is_within => self.message(place, true),
            None => blank(&mut self.out[place]),
            Some(_) => blank(&mut self.out[place]),
        }
    }

    /// A body of several: each begins with two dashes, and headers of its own (RFC 2046 §5.1).
    fn parts(&mut self, place: Range<usize>, is_within: bool) {
        let bytes = self.bytes;
        let mut starts: Vec<usize> = lines(bytes, place.clone())
            .filter(|line| bytes[line.clone()].starts_with(b"--"))
            .map(|line| line.start)
            .collect();
        blank(&mut self.out[place.start..starts.first().copied().unwrap_or(place.end)]);
        starts.push(place.end);
        for part in starts.windows(2) {
            let mut lines = lines(bytes, part[0]..part[1]);
            let boundary = lines.next().unwrap_or(part[0]..part[0]);
            self.scramble(boundary.clone());
            if part[1] == place.end && bytes[boundary.clone()].trim_ascii_end().ends_with(b"--") {
                blank(&mut self.out[boundary.end..part[1]]);
                continue;
            }
            let (mut kind, mut body) = (None, part[1]);
            for line in lines {
                let text = &bytes[line.clone()];
                if text.trim_ascii().is_empty() {
                    body = line.end;
                    break;
                }
                let key = text.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
                let value = line.start + key..line.end;
                match text[..key].to_ascii_lowercase().as_slice() {
                    b"content-type:" => {
                        kind = Some(text[key..].trim_ascii().to_ascii_lowercase());
                        self.media_type(value);
                    }
                    b"content-disposition:" => self.media_type(value),
                    b"content-transfer-encoding:" | b"content-length:" | b"content-id:" => self.text(value),
                    _ => self.scramble(value),
                }
            }
            // A part within a part has nothing in it that a verdict rests on.
            match kind.as_deref() {
                Some(kind) if kind.starts_with(b"multipart/") => blank(&mut self.out[body..part[1]]),
                Some(kind) => self.body(body..part[1], Some(kind), is_within),
                None => blank(&mut self.out[body..part[1]]),
            }
        }
    }

    /// RFC 8866.
    fn sdp(&mut self, place: Range<usize>) {
        /// Those that name nobody.
        const OPEN: [&str; 14] = [
            "candidate",
            "connection",
            "extmap",
            "fmtp",
            "framerate",
            "group",
            "maxptime",
            "mid",
            "ptime",
            "rtcp",
            "rtcp-fb",
            "rtpmap",
            "setup",
            "silenceSupp",
        ];
        for line in lines(self.bytes, place) {
            let text = self.read(line.clone());
            let value = line.start + 2.min(text.len())..line.end;
            match text.as_bytes() {
                // Ports and formats in a row are no number.
                [b'v' | b't' | b'r' | b'z' | b'm', b'=', ..] => self.rest_of_origin(value),
                [b'b' | b'c', b'=', ..] => self.text(value),
                [b'o', b'=', ..] => {
                    let user = value.start + text[2..].find(' ').unwrap_or(0);
                    self.user(value.start..user);
                    // Numbers of the session, of which only a party's is nobody else's business.
                    self.rest_of_origin(user..value.end);
                }
                [b'a', b'=', ..] => match text[2..].split_once(':') {
                    Some((name, _)) if !OPEN.contains(&name) && !name.starts_with("T38") => {
                        self.text(value.start..value.start + name.len());
                        self.scramble(value.start + name.len() + 1..value.end);
                    }
                    _ => {
                        let end = text[2..].find(" ufrag ").map_or(value.end, |at| value.start + at);
                        self.text(value.start..end);
                        self.scramble(end..value.end);
                    }
                },
                [b's' | b'i' | b'u' | b'e' | b'p' | b'k', b'=', ..] => self.scramble(value),
                _ => blank(&mut self.out[line]),
            }
        }
    }

    fn rest_of_origin(&mut self, place: Range<usize>) {
        let text = self.read(place.clone());
        self.numbers(&text, &place, &[], usize::MAX);
        self.names(&text, &place, &[]);
        self.addresses(&text, &place, &[]);
    }

    /// Free text, start lines and headers among it.
    fn text(&mut self, place: Range<usize>) {
        self.text_beside(place, Vec::new());
    }

    /// Text, but for what is closed in it.
    fn text_beside(&mut self, place: Range<usize>, mut closed: Vec<Range<usize>>) {
        let text = self.read(place.clone());
        for name in free_values(&text) {
            self.scramble(place.start + name.start..place.start + name.end);
            closed.push(name);
        }
        for hidden in self.inner.privacy.hidden(&text) {
            if hidden.shown == HEADERS {
                self.headers_of_uri(place.start + hidden.bytes.start..place.start + hidden.bytes.end);
            } else {
                let here = place.start + hidden.bytes.start..place.start + hidden.bytes.end;
                let is_user = hidden.number || hidden.shown != SECRET;
                if is_user { self.user(here) } else { self.scramble(here) }
            }
            closed.push(hidden.bytes);
        }
        closed.sort_unstable_by_key(|closed| closed.start);
        self.numbers(&text, &place, &closed, NUMBER);
        self.names(&text, &place, &closed);
        self.addresses(&text, &place, &closed);
    }

    /// The headers of a URI, where all that separates is escaped.
    fn headers_of_uri(&mut self, place: Range<usize>) {
        let text = self.read(place.clone());
        let mut closed = names_before_brackets(&text);
        // A quote in a Call-ID opens no name.
        let call_ids = call_ids(&text);
        closed.retain(|name| !call_ids.iter().any(|id| id.start < name.end && name.start < id.end));
        for name in &closed {
            self.name(place.start + name.start..place.start + name.end);
        }
        for value in free_values(&text) {
            self.scramble(place.start + value.start..place.start + value.end);
            closed.push(value);
        }
        // As where it is not escaped.
        for call_id in call_ids {
            self.call_id(place.start + call_id.start..place.start + call_id.end);
            closed.push(call_id);
        }
        let mut from = 0;
        for (c, at) in chars(&text) {
            match c {
                _ if closed.iter().any(|closed| closed.contains(&at.start)) => from = at.end,
                '?' | '&' | '=' | ';' | ',' | ':' | '<' | '(' | '\'' | '"' => from = at.end,
                '@' if from < at.start => {
                    self.user(place.start + from..place.start + at.start);
                    closed.push(from..at.start);
                    from = at.end;
                }
                _ => {}
            }
        }
        for secret in super::secret::secrets(&text) {
            if !closed.iter().any(|closed| closed.start < secret.end && secret.start < closed.end) {
                self.scramble(place.start + secret.start..place.start + secret.end);
                closed.push(secret);
            }
        }
        closed.sort_unstable_by_key(|closed| closed.start);
        self.numbers(&text, &place, &closed, NUMBER);
        self.names(&text, &place, &closed);
        self.addresses(&text, &place, &closed);
    }

    /// A Call-ID, escaped or not: what names its maker's host stays.
    fn call_id(&mut self, place: Range<usize>) {
        let text = self.read(place.clone());
        let local = chars(&text).filter(|(c, _)| *c == '@').last().map_or(0, |(_, at)| at.start);
        self.name(place.start..place.start + local);
        let local = 0..local;
        let closed = std::slice::from_ref(&local);
        self.numbers(&text, &place, closed, NUMBER);
        self.names(&text, &place, closed);
        self.addresses(&text, &place, closed);
    }

    /// Numbers of so many digits, and the parties' numbers of fewer.
    fn numbers(&mut self, text: &str, place: &Range<usize>, closed: &[Range<usize>], most: usize) {
        let known = &self.inner.known;
        let mut cursor = Cursor::start_of(text);
        while cursor.at < text.len() {
            if let Some(closed) = closed.iter().find(|closed| closed.contains(&cursor.at)) {
                cursor.take_to(closed.end);
                continue;
            }
            let stop = |gap: Range<usize>| {
                closed.iter().any(|closed| closed.start < gap.end && gap.start < closed.end)
            };
            let Some(number) = cursor.number(GAP, known, stop) else {
                let fixed = cursor.fixed(known, 0);
                if fixed > 0 {
                    cursor.take_to(cursor.at + fixed)
                } else {
                    cursor.take()
                };
                continue;
            };
            let whole: Vec<&[Group]> = if number.digits.len() >= most {
                number.groups.chunk_by(|group, next| !ends_number(text, group, next)).collect()
            } else {
                let found = known.within(&number).into_iter();
                found.filter_map(|groups| number.groups.get(groups)).collect()
            };
            for groups in whole {
                let places = groups.iter().flat_map(|group| {
                    let start = group.bytes.start;
                    chars(&text[group.bytes.clone()])
                        .map(move |(c, at)| (c, start + at.start..start + at.end))
                });
                let places: Vec<_> = places.filter(|(c, _)| c.is_ascii_digit()).collect();
                self.scrambler.digits(text, &places, &mut self.out[place.clone()]);
            }
            cursor.take_to(number.end.at.max(cursor.at + 1));
        }
    }

    /// The parties' names.
    fn names(&mut self, text: &str, place: &Range<usize>, closed: &[Range<usize>]) {
        let mut from = 0;
        for closed in closed.iter().cloned().chain(std::iter::once(text.len()..text.len())) {
            if from < closed.start {
                let out = &mut self.out[place.start + from..place.start + closed.start];
                self.scrambler.words(&text[from..closed.start], out, |word| self.inner.names.contains(word));
            }
            from = from.max(closed.end);
        }
    }

    fn addresses(&mut self, text: &str, place: &Range<usize>, closed: &[Range<usize>]) {
        if !self.inner.addresses {
            return;
        }
        // As it reads: escaped or not, one byte for each character.
        let places: Vec<_> = chars(text).collect();
        let is_plain = |(c, at): &(char, Range<usize>)| {
            c.is_ascii() && (at.len() == 1 || text[at.start..].starts_with('%'))
        };
        let read: String = places.iter().map(|place| if is_plain(place) { place.0 } else { '?' }).collect();
        let mut before = ' ';
        let mut at = 0;
        while let Some(c) = read[at..].chars().next() {
            let begins = match c {
                '0'..='9' => !before.is_ascii_digit() && before != '.',
                _ => !before.is_alphanumeric() && before != '.' && (c.is_ascii_hexdigit() || c == ':'),
            };
            let is_open = begins && !closed.iter().any(|closed| closed.contains(&places[at].1.start));
            let found = is_open.then(|| address(&read[at..])).flatten();
            // Letters before digits are no part of an address, but may be of a longer word.
            let Some((len, old)) = found.filter(|(_, ip)| ip.is_ipv4() || !before.is_alphanumeric()) else {
                (before, at) = (c, at + 1);
                continue;
            };
            let mut new = read.as_bytes()[at..at + len].to_vec();
            write_address(&read[at..at + len], self.scrambler.address(old), &mut new);
            for (new, (c, written)) in new.into_iter().zip(&places[at..]) {
                if char::from(new) != *c {
                    put(text, written, new, &mut self.out[place.clone()]);
                }
            }
            at += len;
            before = read[..at].chars().next_back().unwrap_or(' ');
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

/// Where a parameter ends: at a comma that is in no quotes.
fn end_of_parameter(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => return at,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Whether a number ends with this group of its digits: it is long enough, and only blanks tie it to the next.
fn ends_number(text: &str, group: &Group, next: &Group) -> bool {
    let mut between = chars(&text[group.bytes.end..next.bytes.start]);
    group.digits.len() >= NUMBER && between.all(|(c, _)| c == ' ')
}

/// Whether what has this name may say anything.
fn is_free(name: &str) -> bool {
    const FREE: [&str; 9] = [
        "name",
        "subject",
        "organization",
        "user-to-user",
        "display",
        "description",
        "cnam",
        // Of a device (RFC 5626 §4.1, RFC 8599 §6).
        "instance",
        "pn-prid",
    ];
    matches!(name, "cn" | "gr") || FREE.iter().any(|free| name.ends_with(free))
}

/// The values of parameters, and of a URI's headers, that may say anything.
fn free_values(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut name = String::new();
    let mut value: Option<usize> = None;
    let mut quoted = false;
    for (c, at) in chars(text) {
        let is_escaped = at.len() > 1;
        match (value, c) {
            (Some(_), '"') => quoted = !quoted,
            (Some(from), '&' | ';' | ',' | '>' | ' ') if !quoted && !is_escaped && from < at.start => {
                found.push(from..at.start);
                (value, name) = (None, String::new());
            }
            (Some(_), _) => {}
            (None, '=') if is_free(&name) => (value, quoted) = (Some(at.end), false),
            (None, c) if c.is_ascii_alphanumeric() || c == '-' => name.push(c.to_ascii_lowercase()),
            (None, _) => name.clear(),
        }
    }
    found.extend(value.map(|from| from..text.len()));
    found
}

/// Call-IDs in the headers of a URI that name another dialog.
fn call_ids(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    for header in text.split_inclusive(['?', '&']) {
        if let Some((name, value)) = header.split_once('=')
            && matches!(Name::of(name.as_bytes()), Name::Replaces | Name::Join | Name::TargetDialog)
        {
            let from = at + name.len() + 1;
            let end = chars(value).find(|(c, at)| *c == ';' || (*c == '&' && at.len() == 1));
            found.push(from..from + end.map_or(value.len(), |(_, at)| at.start));
        }
        at += header.len();
    }
    found
}

/// Names before an angle bracket, quoted or not, and one that is cut off before its quotes end.
fn names_before_brackets(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut name: Option<Range<usize>> = None;
    let (mut quoted, mut escaped) = (false, false);
    for (c, at) in chars(text) {
        match c {
            '"' if !escaped => quoted = !quoted,
            '<' if !quoted => found.extend(name.take()),
            ',' | ';' | '=' | ':' | '>' | '&' | '?' if !quoted => name = None,
            ' ' => {}
            _ => name = Some(name.map_or(at.start, |name| name.start)..at.end),
        }
        escaped = c == '\\' && quoted && !escaped;
    }
    // An escaped quote in a URI may be a Call-ID's.
    let is_open = quoted && text.matches('"').count() % 2 == 1;
    found.extend(name.filter(|_| is_open));
    found
}

/// The address that `text` begins with, and how long it is there: without a port, and without a dot that ends a sentence.
fn address(text: &str) -> Option<(usize, IpAddr)> {
    let run = |is: fn(&u8) -> bool| &text[..text.bytes().take(LONGEST_ADDRESS).take_while(is).count()];
    let v4 = run(|byte| byte.is_ascii_digit() || *byte == b'.').trim_end_matches('.');
    if let Ok(ip) = v4.parse() {
        return Some((v4.len(), IpAddr::V4(ip)));
    }
    let v6 = run(|byte| byte.is_ascii_hexdigit() || *byte == b':');
    // Its end may be written as an IPv4 address, which is one by itself.
    let v6 = if text[v6.len()..].starts_with('.') { &v6[..v6.rfind(':').map_or(0, |at| at + 1)] } else { v6 };
    [v6, v6.strip_suffix(':').unwrap_or_default()]
        .into_iter()
        .find_map(|v6| Some((v6.len(), IpAddr::V6(v6.parse().ok()?))))
}

/// Writes an address as another was written: its numbers are as long.
fn write_address(old: &str, new: IpAddr, out: &mut [u8]) {
    let new: Vec<String> = match new {
        IpAddr::V4(ip) => ip.octets().iter().map(u8::to_string).collect(),
        IpAddr::V6(ip) => {
            // Zeros that are left out stand between those before and those behind them.
            let groups = ip.segments();
            let (before, behind) = old.split_once("::").unwrap_or((old, ""));
            let count = |part: &str| part.split(':').filter(|group| !group.is_empty()).count();
            let behind = groups.len().saturating_sub(count(behind));
            groups
                .iter()
                .take(count(before))
                .chain(groups.iter().skip(behind))
                .map(|group| format!("{group:x}"))
                .collect()
        }
    };
    let mut at = 0;
    let mut new = new.into_iter();
    for part in old.split_inclusive(['.', ':']) {
        let number = part.trim_end_matches(['.', ':']);
        if !number.is_empty()
            && let Some(new) = new.next()
            && new.len() <= number.len()
        {
            // Zeros before it stay.
            out[at + number.len() - new.len()..at + number.len()].copy_from_slice(new.as_bytes());
        }
        at += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of a message with these headers and this body, in a call of 5105550138 and Wolfgang Vogt.
    fn written(addresses: bool, headers: &str, body: &str) -> String {
        let mut people = People::default();
        people.users.insert("+15105550138".to_owned());
        people.names.insert("Wolfgang Vogt".to_owned());
        let message = format!(
            "INVITE sip:+15105550138@b.example SIP/2.0\r\nCall-ID: abcd@10.88.0.1\r\nCSeq: 71 INVITE\r\n\
             {headers}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let out = Redactor::new(&people, addresses).message(message.as_bytes());
        assert_eq!(out.len(), message.len());
        String::from_utf8(out).unwrap()
    }

    /// Whether a word is left of four redactions: a short one may be there by chance in one of them.
    fn is_there(headers: &str, body: &str, word: &str) -> bool {
        (0..4).all(|_| written(false, headers, body).contains(word))
    }

    #[test]
    fn nothing_that_names_or_lets_in_is_left_in_headers() {
        for (header, words) in [
            ("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "QWxhZGRpbjpvcGVuIHNlc2FtZQ"),
            ("Authorization: QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "QWxhZGRpbjpvcGVuIHNlc2FtZQ"),
            ("Authorization: Bearer eyJh.eyJz.sigSIG==", "eyJh eyJz sigSIG"),
            ("Authorization: Digest\tusername=\"heinrich\",nonce=\"nnnn77\"", "heinrich nnnn77"),
            (
                "Proxy-Authorization: Digest\r\n\tusername=\"heinrich\",\r\n response=\"cafebabe\"",
                "heinrich cafebabe",
            ),
            ("WWW-Authenticate: Digest realm=\"x\", nonce=\"wwwNonce\", odd=\"oddOne\"", "wwwNonce oddOne"),
            ("Authentication-Info: nextnonce=\"deadbeef\", rspauth=\"cafebabe\"", "deadbeef cafebabe"),
            ("Proxy-Authentication-Info: rspauth = \"cafebabe\"", "cafebabe"),
            ("s: Kuendigung Zimmermann", "Kuendigung Zimmermann"),
            ("Reply-To: Gottfried Keller <sip:gkeller@x.example>", "Gottfried Keller gkeller"),
            ("X-R: \"Gott\\\" fried\" <sip:9876@x>, Else Lasker <sip:1@x>", "Gott fried 9876 Else Lasker"),
            ("From: \"Gottfried Kel", "Gottfried"),
            ("Diversion: <sip:1@x>;cn=\"Cname Taucher\";reason=unconditional", "Cname Taucher"),
            (
                "X-R: <sip:1@x?Referred-By=%22Hilde%20Bingen%22%20%3Csip%3Ahbin%40x%3E&Subject=Sache%20Orion>",
                "Hilde Bingen hbin Sache Orion",
            ),
            ("X-R: <sip:1@x?User-to-User=4a6f686e20536d697468%3Bencoding%3Dhex>", "4a6f686e20536d697468"),
            ("Content-Disposition: session;filename=\"Ottokar 5105550199.pdf\"", "Ottokar 5105550199"),
            ("Content-Type: application/x;name=\"Brunhilde\"", "Brunhilde"),
            ("Event: refer;id=15105550199", "15105550199"),
            ("Subscription-State: active;contact=\"5105550188\"", "5105550188"),
            ("Require: x-5105550166", "5105550166"),
            ("Allow: X5105550138", "5105550138"),
            ("Date: Wolfgang 5105550138", "Wolfgang 5105550138"),
            ("Max-Forwards: 5105550138", "5105550138"),
            ("Min-SE: 5105550138", "5105550138"),
            ("RAck: 5105550140 1 X", "5105550140"),
            ("Refer-Sub: Wolfgang", "Wolfgang"),
            ("X-5105550155: y", "5105550155"),
        ] {
            for word in words.split(' ') {
                assert!(!is_there(header, "", word), "{header}: {word}: {}", written(false, header, ""));
            }
        }
    }

    #[test]
    fn what_a_verdict_rests_on_stays() {
        for header in [
            "Event: refer;id=93809823",
            "RAck: 776656 314159 INVITE",
            "RSeq: 776656789",
            "Subscription-State: terminated;reason=noresource",
            "Content-Type: message/sipfrag;version=2.0",
            "Max-Forwards: 70",
            "Date: Sat, 13 Nov 2010 23:29:00 GMT",
            "Authorization: Digest algorithm=MD5",
            "Reason: Q.850;cause=17;text=\"busy\"",
        ] {
            assert!(written(true, header, "").contains(header), "{}", written(true, header, ""));
        }
    }

    #[test]
    fn bodies_of_several_parts_are_told_apart_still() {
        let headers = "Content-Type: multipart/mixed;boundary=\"unique-Leonore-5105550138\"";
        let body = "preamble Oskar\r\n--unique-Leonore-5105550138\r\nContent-Type: application/sdp; name=\"Brunhilde\"\r\n\
             Content-Description: for Siegmund\r\n\r\nv=0\r\nb=X-5105550137:1\r\nm=audio 4000 RTP/AVP 0 8 101 18\r\n\
             --unique-Leonore-5105550138--\r\nepilogue Ottilie\r\n";
        for word in "Oskar Leonore 5105550138 Brunhilde Siegmund 5105550137 Ottilie".split(' ') {
            assert!(!is_there(headers, body, word), "{word}: {}", written(false, headers, body));
        }
        let out = written(false, headers, body);
        let boundary = out.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(out.matches(&format!("\r\n--{boundary}")).count(), 2, "{out}");
        assert!(out.contains("m=audio 4000 RTP/AVP 0 8 101 18"), "{out}");
    }

    #[test]
    fn an_address_is_the_same_one_however_it_is_escaped() {
        let out = written(
            true,
            "Refer-To: <sip:1@x?Replaces=abcd%4010.88.0.1%3Bto-tag%3D10.88.0.2>\r\n\
             X-10.88.0.3: x\r\nX-A: [2001:db8::78] %5B2001%3Adb8%3A%3A78%5D =%3D10.88.0.1 a10.88.0.1 2001:db8::10.88.0.1 10.88%2E0.1",
            "",
        );
        let call_id = out.split("Call-ID: ").nth(1).unwrap().split("\r\n").next().unwrap();
        assert!(out.contains(&format!("Replaces={}%3B", call_id.replace('@', "%40"))), "{out}");
        let address = call_id.split('@').nth(1).unwrap();
        assert_eq!(out.matches(address).count(), 5, "{out}");
        assert!(!out.contains("10.88"), "{out}");
        let v6 = out.split('[').nth(1).unwrap().split(']').next().unwrap();
        assert!(v6 != "2001:db8::78" && out.contains(&format!("%5B{}%5D", v6.replace(':', "%3A"))), "{out}");
    }

    #[test]
    fn a_call_id_is_the_same_one_however_it_is_named() {
        for id in [
            "a<b>c@h",
            "a\"b@h",
            "(ab)c?de=f@10.1.2.3",
            "password=abcd@h",
            "pin:12345@h",
            "12345678",
            "nonce=a",
        ] {
            let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let headers = format!(
                "X-Call-ID: {id}\r\nReplaces: {id};to-tag=a\r\nRefer-To: <sip:1@x?a=b&Replaces={escaped}%3Bto-tag%3Da>"
            );
            let out = written(true, &headers, "");
            let line = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let id = line("X-Call-ID: ");
            assert_eq!(line("Replaces: "), format!("{id};to-tag=a"));
            let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
            assert!(out.contains(&format!("Replaces={escaped}%3B")), "{out}");
        }
    }

    #[test]
    fn of_sdp_only_what_everybody_has_stays() {
        let body = "v=0\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\na=X-nick:Leopold\r\n\
                    a=candidate:1 1 udp 2130706431 192.168.77.1 5000 typ host ufrag CANDUF\r\n\
                    a=path:msrp://ulrike:pw@10.1.1.1:7394/sesSECRET;tcp\r\n";
        let headers = "Content-Type: application/sdp";
        for word in ["Leopold", "CANDUF", "ulrike", "sesSECRET"] {
            assert!(!is_there(headers, body, word), "{word}");
        }
        let out = written(false, headers, body);
        assert!(out.contains("a=rtpmap:101 telephone-event/8000\r\na=sendonly\r\na=X-nick:"), "{out}");
    }

    #[test]
    fn a_number_is_the_same_one_whatever_follows_behind_a_blank() {
        let out = written(false, "X-N: z9hG4bK5105550138 510\tx 5105550138\t5105550177 y", "");
        let number = &out[out.find("sip:+").unwrap() + 6..][..10];
        assert_eq!(out.matches(number).count(), 3, "{out}");
    }
}
