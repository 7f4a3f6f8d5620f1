//! Writes over, in a SIP message, what names a party or lets somebody in: numbers, names, credentials, and addresses if
//! they are asked for. Every length stays, and so does what a verdict rests on.
//!
//! What reads like a URI, a number or a secret is found as where it is masked (`privacy::text`); beside that the names that
//! the calls' own parties have, wherever they stand. Bodies that are neither SDP nor a part of a SIP message are blank.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use super::number::{Cursor, NUMBER};
use super::party_numbers::Known;
use super::scramble::{Scrambler, chars};
use super::secret::is_secret_of;
use super::text::{GAP, HEADERS, number_of};
use super::{Privacy, SECRET};
use crate::evidence::People;
use crate::record::Parties;
use crate::sip::{Message, Name, NameAddr};

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
            Name::Route,
            Name::RecordRoute,
        ] {
            for display in message.values(name).filter_map(|value| NameAddr::parse(value)?.display) {
                self.user(within(display));
            }
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
        match name {
            Name::Allow
            | Name::AllowEvents
            | Name::CSeq
            | Name::ContentLength
            | Name::ContentType
            | Name::ContentEncoding
            | Name::ContentDisposition
            | Name::Date
            | Name::Event
            | Name::Expires
            | Name::MaxForwards
            | Name::MinExpires
            | Name::MinSe
            | Name::RAck
            | Name::ReferSub
            | Name::Require
            | Name::SubscriptionState => {}
            Name::Authorization | Name::ProxyAuthorization | Name::ProxyAuthenticate => {
                self.credentials(value);
            }
            Name::Identity => self.scramble(value),
            _ => {
                let named = String::from_utf8_lossy(&self.bytes[key]).to_ascii_lowercase();
                let text = String::from_utf8_lossy(&self.bytes[value.clone()]).into_owned();
                let free = ["name", "subject", "organization", "user-to-user", "display"];
                if named.contains("authenticate") || named.contains("authentication") {
                    self.credentials(value);
                } else if is_secret_of(&named, &text) || free.iter().any(|free| named.ends_with(free)) {
                    self.scramble(value);
                } else {
                    self.text(value);
                }
            }
        }
    }

    /// Credentials, or what asks for them: all values but those that everybody has.
    fn credentials(&mut self, place: Range<usize>) {
        const OPEN: [&str; 6] = ["algorithm", "qop", "stale", "nc", "charset", "userhash"];
        let text = self.read(place.clone());
        let scheme = text.find(' ').unwrap_or(text.len());
        let mut at = scheme;
        while at < text.len() {
            let rest = &text[at..];
            let end = at + end_of_parameter(rest);
            let part = &text[at..end];
            match part.find('=') {
                Some(equals) if !part[equals + 1..].trim().is_empty() => {
                    let value = place.start + at + equals + 1..place.start + end;
                    match part[..equals].trim().to_ascii_lowercase().as_str() {
                        name if OPEN.contains(&name) => {}
                        "uri" | "realm" | "domain" => self.text(value),
                        "username" => self.user(value),
                        _ => self.scramble(value),
                    }
                }
                _ => self.scramble(place.start + at..place.start + end),
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
            let (mut kind, mut body) = (None, part[1]);
            for line in lines(bytes, part[0]..part[1]).skip(1) {
                let text = &bytes[line.clone()];
                if text.trim_ascii().is_empty() {
                    body = line.end;
                    break;
                }
                let text = text.to_ascii_lowercase();
                match text.strip_prefix(b"content-type:") {
                    Some(named) => kind = Some(named.trim_ascii().to_vec()),
                    None => self.text(line),
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
        const KEYS: [&str; 8] =
            ["crypto", "ice-pwd", "ice-ufrag", "key-mgmt", "ssrc", "msid", "fingerprint", "identity"];
        for line in lines(self.bytes, place) {
            let text = self.read(line.clone());
            let value = line.start + 2.min(text.len())..line.end;
            match text.as_bytes() {
                [b'v' | b't' | b'r' | b'z' | b'b' | b'm', b'=', ..] => {}
                [b'c', b'=', ..] => self.text(value),
                [b'o', b'=', ..] => {
                    let user = value.start + text[2..].find(' ').unwrap_or(0);
                    self.user(value.start..user);
                    // Numbers of the session, of which only a party's is nobody else's business.
                    self.rest_of_origin(user..value.end);
                }
                [b'a', b'=', ..] => match text[2..].split_once(':') {
                    Some((name, _)) if KEYS.contains(&name) => {
                        self.scramble(value.start + name.len() + 1..value.end);
                    }
                    _ => self.text(value),
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
        let text = self.read(place.clone());
        let hidden = self.inner.privacy.hidden(&text);
        let mut closed: Vec<Range<usize>> = Vec::new();
        for hidden in hidden {
            if hidden.shown == HEADERS {
                self.headers_of_uri(place.start + hidden.bytes.start..place.start + hidden.bytes.end);
            } else {
                let here = place.start + hidden.bytes.start..place.start + hidden.bytes.end;
                let is_user = hidden.number || hidden.shown != SECRET;
                if is_user { self.user(here) } else { self.scramble(here) }
            }
            closed.push(hidden.bytes);
        }
        for name in names_before_brackets(&text) {
            if !closed.iter().any(|closed| closed.start < name.end && name.start < closed.end) {
                self.user(place.start + name.start..place.start + name.end);
                closed.push(name);
            }
        }
        closed.sort_unstable_by_key(|closed| closed.start);
        self.numbers(&text, &place, &closed, NUMBER);
        self.names(&text, &place, &closed);
        self.addresses(&text, &place, &closed);
    }

    /// The headers of a URI, where all that separates is escaped.
    fn headers_of_uri(&mut self, place: Range<usize>) {
        let text = self.read(place.clone());
        let mut closed = Vec::new();
        let mut from = 0;
        for (c, at) in chars(&text) {
            match c {
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
            let found = if number.digits.len() >= most {
                std::iter::once(0..number.groups.len()).collect()
            } else {
                known.within(&number)
            };
            for groups in found {
                let groups = number.groups.get(groups).unwrap_or_default();
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
        let mut before = ' ';
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let begins = !before.is_alphanumeric() && before != '.' && (c.is_ascii_hexdigit() || c == ':');
            let is_open = begins && !closed.iter().any(|closed| closed.contains(&at));
            let Some((len, old)) = is_open.then(|| address(&text[at..])).flatten() else {
                (before, at) = (c, at + c.len_utf8());
                continue;
            };
            let new = self.scrambler.address(old);
            write_address(&text[at..at + len], new, &mut self.out[place.start + at..]);
            (before, at) = ('0', at + len);
        }
    }

    /// A user, or a display name.
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

/// What is quoted before an angle bracket.
fn names_before_brackets(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = None;
    for (at, _) in text.match_indices('"') {
        match from.take() {
            Some(from) if text[at + 1..].trim_start().starts_with('<') => found.push(from..at),
            Some(_) => {}
            None => from = Some(at + 1),
        }
    }
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
