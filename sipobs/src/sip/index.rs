//! The header index: where each header's name and value stand in the bytes (RFC 3261 §7.3).

use memchr::memchr;

use super::name::Name;
use super::text::{is_token, trim, trim_end};
use crate::steps::step;

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
    inline: [Entry; INLINE],
    count: u16,
    spilled: Vec<Entry>,
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
}

impl<'a> Headers<'a> {
    /// Indexes the header section that `bytes` begin with; gives it and what follows its empty line.
    pub(super) fn index(bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let empty = Entry { start: 0, value: 0, end: 0, name: Name::Other };
        let mut headers = Self {
            bytes,
            inline: [empty; INLINE],
            count: 0,
            spilled: Vec::new(),
            junk: 0,
            capped: false,
            ended: false,
        };
        let mut at = 0;
        while at < bytes.len() {
            let next = line_end(bytes, at);
            if is_blank(&bytes[at..next]) {
                headers.ended = true;
                return (headers, &bytes[next..]);
            }
            // A line that begins with white space goes on with the one before (§7.3.1).
            let mut end = next;
            while matches!(bytes.get(end), Some(b' ' | b'\t')) {
                end = line_end(bytes, end);
            }
            headers.add(at, end);
            at = end;
        }
        (headers, &[])
    }

    /// Trimmed raw values of the headers called `name`, in order.
    pub(super) fn named(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + '_ {
        let named = self.entries().filter(move |entry| entry.name == name);
        named.map(|entry| self.value(entry))
    }

    /// Every header: its name, its spelling on the wire, its trimmed raw value.
    pub(super) fn all(&self) -> impl Iterator<Item = (Name, &'a [u8], &'a [u8])> + '_ {
        self.entries().map(|entry| (entry.name, self.spelling(entry), self.value(entry)))
    }

    /// First value of the header spelt `name` in any case, known or not.
    pub(super) fn spelt(&self, name: &str) -> Option<&'a [u8]> {
        match Name::of(name.as_bytes()) {
            Name::Other => self
                .entries()
                .find(|entry| {
                    entry.name == Name::Other && self.spelling(entry).eq_ignore_ascii_case(name.as_bytes())
                })
                .map(|entry| self.value(entry)),
            known => self.named(known).next(),
        }
    }

    /// Spellings of the headers that begin with `X-`, in any case.
    pub(super) fn extensions(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        let begins =
            |entry: &&Entry| matches!(self.bytes[usize::from(entry.start)..], [b'X' | b'x', b'-', ..]);
        self.entries().filter(begins).map(|entry| self.spelling(entry))
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        step(usize::from(self.count));
        let inline = usize::from(self.count).min(INLINE);
        self.inline[..inline].iter().chain(&self.spilled)
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
        let colon = memchr(b':', line);
        step(colon.unwrap_or(line.len()));
        // White space may stand before the colon (§7.3.1), not before the name: a fold without a header.
        let spelling = trim_end(&line[..colon.unwrap_or(0)]);
        let Some(colon) = colon.filter(|_| is_token(spelling)) else {
            self.junk = self.junk.saturating_add(1);
            return;
        };
        let value = trim(&line[colon + 1..]);
        // Where a trimmed-away value would have stood does not matter: it is empty.
        let offset = if value.is_empty() { end } else { end - trimmed_tail(line, value) - value.len() };
        let (Ok(start), Ok(value), Ok(end)) =
            (u16::try_from(start), u16::try_from(offset), u16::try_from(offset + value.len()))
        else {
            self.capped = true;
            return;
        };
        if usize::from(self.count) >= MAX_HEADERS {
            self.capped = true;
            return;
        }
        let entry = Entry { start, value, end, name: Name::of(spelling) };
        match self.inline.get_mut(usize::from(self.count)) {
            Some(slot) => *slot = entry,
            None => self.spilled.push(entry),
        }
        self.count += 1;
    }
}

/// White space after `value` in the line it ends.
fn trimmed_tail(line: &[u8], value: &[u8]) -> usize {
    debug_assert!(!value.is_empty());
    line.len() - trim_end(line).len()
}

/// Offset after the line that begins at `at`.
pub(super) fn line_end(bytes: &[u8], at: usize) -> usize {
    let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |newline| at + newline + 1);
    step(end - at);
    end
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, b"\r\n" | b"\n" | b"\r")
}
