//! What stands anywhere in a text: URIs and their headers, numbers, names, addresses.

use std::net::IpAddr;
use std::ops::Range;

use super::Page;
use crate::privacy::SECRET;
use crate::privacy::number::{Cursor, Group, NUMBER};
use crate::privacy::scramble::{chars, put};
use crate::privacy::text::{GAP, HEADERS};
use crate::sip::Name;

/// An IPv6 address in full, with a colon after it.
const LONGEST_ADDRESS: usize = 40;

impl Page<'_> {
    /// Free text, start lines and headers among it.
    pub(super) fn text(&mut self, place: Range<usize>) {
        self.text_beside(place, Vec::new());
    }

    /// Text, but for what is closed in it.
    pub(super) fn text_beside(&mut self, place: Range<usize>, mut closed: Vec<Range<usize>>) {
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
    pub(super) fn headers_of_uri(&mut self, place: Range<usize>) {
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
        for secret in crate::privacy::secret::secrets(&text) {
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
    pub(super) fn call_id(&mut self, place: Range<usize>) {
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
    pub(super) fn numbers(&mut self, text: &str, place: &Range<usize>, closed: &[Range<usize>], most: usize) {
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
    pub(super) fn names(&mut self, text: &str, place: &Range<usize>, closed: &[Range<usize>]) {
        let mut from = 0;
        for closed in closed.iter().cloned().chain(std::iter::once(text.len()..text.len())) {
            if from < closed.start {
                let out = &mut self.out[place.start + from..place.start + closed.start];
                self.scrambler.words(&text[from..closed.start], out, |word| self.inner.names.contains(word));
            }
            from = from.max(closed.end);
        }
    }

    pub(super) fn addresses(&mut self, text: &str, place: &Range<usize>, closed: &[Range<usize>]) {
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
}

/// Where a parameter ends: at a comma that is in no quotes.
pub(super) fn end_of_parameter(text: &str) -> usize {
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
pub(super) fn ends_number(text: &str, group: &Group, next: &Group) -> bool {
    let mut between = chars(&text[group.bytes.end..next.bytes.start]);
    group.digits.len() >= NUMBER && between.all(|(c, _)| c == ' ')
}

/// Whether what has this name may say anything.
pub(super) fn is_free(name: &str) -> bool {
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
pub(super) fn free_values(text: &str) -> Vec<Range<usize>> {
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
pub(super) fn call_ids(text: &str) -> Vec<Range<usize>> {
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
pub(super) fn names_before_brackets(text: &str) -> Vec<Range<usize>> {
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
pub(super) fn address(text: &str) -> Option<(usize, IpAddr)> {
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
pub(super) fn write_address(old: &str, new: IpAddr, out: &mut [u8]) {
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
