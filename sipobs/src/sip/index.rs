//! The header index: where each header's name and value stand in the bytes (RFC 3261 §7.3).

use memchr::memchr;
use smallvec::SmallVec;

use super::name::{HeaderName, HeaderNames, Name, digest};
use super::text::{token_len, trim_end, trim_start};
use crate::work;

/// Headers kept inline: more than an ordinary message has, so that indexing one allocates nothing.
const INLINE: usize = 40;

/// Headers indexed at most. A message with more is indexed up to here and flagged; so is one whose header
/// section outgrows the 16 bits of an offset.
const MAX_HEADERS: usize = 1024;

/// Headers of a message or of a body part, in order.
#[derive(Clone, Debug)]
pub(super) struct Headers<'a> {
    /// The header section: from after the start line to the empty line.
    bytes: &'a [u8],
    entries: SmallVec<[Entry; INLINE]>,
    /// Where among the entries each name comes first, or [`LATE`] where it does not before that; or [`NOWHERE`].
    first: [u8; Name::COUNT],
    /// Lines that are no headers: without a colon, or with something before it that is no token.
    pub(super) junk: u16,
    /// The section went on beyond one of the limits.
    pub(super) capped: bool,
    /// An empty line ended the section.
    pub(super) ended: bool,
}

/// One header: its name from `start`, its trimmed value from `value` to `end`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u16,
    value: u16,
    end: u16,
    name: Name,
    /// Of its spelling, if the name is not a known one.
    digest: u8,
}

/// See [`Headers::first`].
const LATE: u8 = 254;
const NOWHERE: u8 = 255;

impl<'a> Headers<'a> {
    /// Indexes the header section that `bytes` begin with; gives it and what follows its empty line.
    pub(super) fn index(bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let mut headers = Self::of(bytes);
        let rest = headers.read();
        (headers, rest)
    }

    /// The header section that `bytes` begin with, yet to be [read](Self::read).
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let (entries, first) = (SmallVec::new(), [NOWHERE; Name::COUNT]);
        Self { bytes, entries, first, junk: 0, capped: false, ended: false }
    }

    /// Indexes it where it lies, as it is large; gives what follows its empty line.
    pub(super) fn read(&mut self) -> &'a [u8] {
        let bytes = self.bytes;
        let mut at = 0;
        while at < bytes.len() {
            let next = line_end(bytes, at);
            if is_blank(&bytes[at..next]) {
                self.ended = true;
                return &bytes[next..];
            }
            // A line that begins with white space goes on with the one before (§7.3.1).
            let mut end = next;
            while matches!(bytes.get(end), Some(b' ' | b'\t')) {
                end = line_end(bytes, end);
            }
            self.add(at, end);
            at = end;
        }
        &[]
    }

    /// Trimmed raw values of the headers called `name`, in order.
    pub(super) fn named(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + '_ {
        let named = self.onwards(name).inspect(|_| work::count(1)).filter(move |entry| entry.name == name);
        named.map(|entry| self.value(entry))
    }

    /// Every header: its name, its spelling on the wire, its trimmed raw value.
    pub(super) fn all(&self) -> impl Iterator<Item = (Name, &'a [u8], &'a [u8])> + '_ {
        work::count(self.entries.len());
        self.entries.iter().map(|entry| (entry.name, self.spelling(entry), self.value(entry)))
    }

    /// First value of the header called `name`, known or not.
    pub(super) fn called(&self, name: &HeaderName) -> Option<&'a [u8]> {
        match name.name {
            Name::Other => self.spelt(name.text.as_bytes(), name.digest),
            known => self.named(known).next(),
        }
    }

    /// Every value of a header that is among `names`, with its place there.
    pub(super) fn among<'n>(
        &'n self,
        names: &'n HeaderNames,
    ) -> impl Iterator<Item = (usize, &'a [u8])> + 'n {
        let known = names.known.iter();
        let known = known.flat_map(|&(at, name)| self.named(name).map(move |value| (at, value)));
        let others = self.onwards(Name::Other).inspect(|_| work::count(1));
        let others = others.filter(|entry| entry.name == Name::Other && names.may_hold(entry.digest));
        known.chain(others.filter_map(|entry| {
            let spelling = self.spelling(entry);
            let is_same = |name: &HeaderName| spelling.eq_ignore_ascii_case(name.text.as_bytes());
            Some((names.names.iter().position(is_same)?, self.value(entry)))
        }))
    }

    /// First value of the header spelt `name` in any case, known or not.
    pub(super) fn other(&self, name: &str) -> Option<&'a [u8]> {
        match Name::of(name.as_bytes()) {
            Name::Other => self.spelt(name.as_bytes(), digest(name.as_bytes())),
            known => self.named(known).next(),
        }
    }

    /// First value of a header that is not a known one.
    fn spelt(&self, name: &[u8], digest: u8) -> Option<&'a [u8]> {
        let mut others = self.onwards(Name::Other);
        let same = |entry: &&Entry| {
            work::count(1);
            (entry.name, entry.digest) == (Name::Other, digest)
                && self.spelling(entry).eq_ignore_ascii_case(name)
        };
        others.find(same).map(|entry| self.value(entry))
    }

    /// Spellings of the headers that begin with `X-`, in any case.
    pub(super) fn extensions(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        let begins =
            |entry: &&Entry| matches!(self.bytes[usize::from(entry.start)..], [b'X' | b'x', b'-', ..]);
        // Most messages have none that may.
        let first = Name::PERHAPS_EXTENSIONS.map(|name| self.first[name as usize]).into_iter().min();
        let from = first.filter(|at| *at != NOWHERE).map_or(self.entries.len(), usize::from);
        let entries = &self.entries[from..];
        work::count(entries.len());
        entries.iter().filter(begins).map(|entry| self.spelling(entry))
    }

    /// The entries from the first that is called `name` on; of a late one, those from a bit before.
    fn onwards(&self, name: Name) -> std::slice::Iter<'_, Entry> {
        match self.first[name as usize] {
            NOWHERE => [].iter(),
            at => self.entries[usize::from(at)..].iter(),
        }
    }

    fn value(&self, entry: &Entry) -> &'a [u8] {
        &self.bytes[usize::from(entry.value)..usize::from(entry.end)]
    }

    fn spelling(&self, entry: &Entry) -> &'a [u8] {
        let line = &self.bytes[usize::from(entry.start)..usize::from(entry.end)];
        trim_end(&line[..memchr(b':', line).unwrap_or(line.len())])
    }

    /// Adds the line, folds included, from `start` to `end`.
    fn add(&mut self, start: usize, end: usize) {
        let line = &self.bytes[start..end];
        let Some((name, digest, after)) = named(line) else {
            self.junk = self.junk.saturating_add(1);
            return;
        };
        let value = trim_start(after);
        let from = end - value.len();
        let to = from + trim_end(value).len();
        let count = self.entries.len();
        // No offset of it is beyond its end.
        if to > usize::from(u16::MAX) || count >= MAX_HEADERS {
            self.capped = true;
            return;
        }
        let first = &mut self.first[name as usize];
        if *first == NOWHERE {
            *first = u8::try_from(count.min(usize::from(LATE))).unwrap_or(LATE);
        }
        #[allow(clippy::cast_possible_truncation, reason = "looked at above")]
        let [start, value, end] = [start, from, to].map(|offset| offset as u16);
        self.entries.push(Entry { start, value, end, name, digest });
    }
}

/// The name that a line begins with, the digest of its spelling if it is not a known one, and what follows its colon; `None`
/// without a name or a colon.
fn named(line: &[u8]) -> Option<(Name, u8, &[u8])> {
    if let Some((name, len)) = Name::leading(line) {
        work::count(len);
        return Some((name, 0, &line[len + 1..]));
    }
    let token = &line[..token_len(line)];
    work::count(token.len());
    // Blanks may stand before the colon (§25.1 HCOLON), but no fold; and nothing before the name.
    let after = &line[token.len()..];
    let blanks = after.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let after = after[blanks..].strip_prefix(b":").filter(|_| !token.is_empty())?;
    Some((Name::of(token), digest(token), after))
}

/// Offset after the line that begins at `at`.
pub(super) fn line_end(bytes: &[u8], at: usize) -> usize {
    let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |newline| at + newline + 1);
    work::count(end - at);
    end
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, b"\r\n" | b"\n" | b"\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_is_found_however_late_it_comes() {
        for before in [0, 1, 39, 40, 253, 254, 255, 256, 300, MAX_HEADERS - 3] {
            let bytes = ["X-A: 1\r\n".repeat(before), "X-B: 2\r\nTo: 3\r\nt: 4\r\n\r\n".to_owned()].concat();
            let (headers, rest) = Headers::index(bytes.as_bytes());
            assert!(headers.ended && !headers.capped && rest.is_empty(), "{before}");
            assert!(headers.named(Name::To).eq([b"3", b"4"]), "{before}");
            assert_eq!(headers.other("x-b"), Some(&b"2"[..]), "{before}");
            assert_eq!(headers.called(&"X-B".into()), Some(&b"2"[..]), "{before}");
            assert_eq!(headers.called(&"TO".into()), Some(&b"3"[..]), "{before}");
            assert_eq!(headers.named(Name::From).next(), None, "{before}");
            let names: HeaderNames = ["x-c", "X-b", "t"].map(HeaderName::from).into_iter().collect();
            assert!(headers.among(&names).eq([(2, &b"3"[..]), (2, b"4"), (1, b"2")]), "{before}");
        }
    }
}
