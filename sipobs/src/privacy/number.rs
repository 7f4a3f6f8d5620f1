//! Reads telephone numbers in texts, however they are written. Linear in the texts' length.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::{Deref, Range};

use smallvec::SmallVec;

use super::normalize::{is_separator, plain};
use super::party_numbers::Known;
use crate::work;

/// So many digits are taken for somebody's number, whoever's.
pub(super) const NUMBER: usize = 7;

/// Digits, as ASCII. As many as a number has need no allocation.
#[derive(Debug, Default)]
pub(super) struct Digits(SmallVec<[u8; 32]>);

impl Digits {
    /// Adds `c`, if it is a digit.
    pub(super) fn push(&mut self, c: char) {
        if let Some(digit) = u8::try_from(c).ok().filter(u8::is_ascii_digit) {
            self.0.push(digit);
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Digits {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Digits with what stands between them.
#[derive(Debug)]
pub(super) struct Number<'a> {
    /// All its digits.
    pub(super) digits: Digits,
    /// The digits that stand together, in order.
    pub(super) groups: SmallVec<[Group; 4]>,
    /// Where it ends.
    pub(super) end: Cursor<'a>,
}

/// Digits that stand together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Bytes of the text.
    pub(super) bytes: Range<usize>,
    /// Which of the number's digits.
    pub(super) digits: Range<usize>,
}

/// A place in a text, and what goes before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    pub(super) at: usize,
    /// The character before, in its plain form; a blank at the beginning.
    before: char,
    /// The one before that.
    earlier: char,
    /// There is a letter in the word that the place is in, and in the word before that.
    lettered: [bool; 2],
    /// Since the last blank or bracket there was a dot or an at sign: a colon goes before a port.
    host: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn start_of(text: &'a str) -> Self {
        Self { text, at: 0, before: ' ', earlier: ' ', lettered: [false; 2], host: false }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves over one character, and returns it as it is written.
    pub(super) fn take(&mut self) -> &'a str {
        let Some((c, len)) = plain(self.rest()) else { return "" };
        self.pass(c, len);
        &self.text[self.at - len..self.at]
    }

    /// Moves over a character that reads as `c` and takes `len` bytes.
    fn pass(&mut self, c: char, len: usize) {
        work::count(len);
        match c {
            '@' => self.host = true,
            '.' if self.before.is_alphanumeric() => self.host = true,
            ' ' | '<' | '>' | '"' | '\'' | '(' | ')' | ',' | ';' | '=' => self.host = false,
            _ => {}
        }
        self.lettered = match self.lettered {
            [here, before] if c.is_alphanumeric() => [here || c.is_alphabetic(), before],
            [here, _] => [false, here],
        };
        (self.earlier, self.before) = (self.before, c);
        self.at += len;
    }

    /// Moves over characters that begin neither a number nor anything that is [fixed](Self::fixed), at most to `end`, and
    /// returns them.
    pub(super) fn take_idle(&mut self, end: usize) -> &'a str {
        let from = self.at;
        while self.at < end {
            match self.text.as_bytes()[self.at] {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b'+' | b':' | b'%' | 0x80.. => break,
                // As `plain` has it.
                byte if byte.is_ascii_control() => self.pass(' ', 1),
                byte => self.pass(char::from(byte), 1),
            }
        }
        &self.text[from..self.at]
    }

    /// Moves to `at`, over what is shown as it is, and returns that.
    pub(super) fn take_to(&mut self, at: usize) -> &'a str {
        let from = self.at;
        while self.at < at {
            self.take();
        }
        &self.text[from..self.at]
    }

    /// Moves to `at`, over what is not shown: it must not matter to what follows, or masking what is masked
    /// would find something else.
    pub(super) fn jump_to(&mut self, at: usize) {
        let host = self.host;
        self.take_to(at);
        self.host = host;
    }

    fn digit(&self) -> bool {
        plain(self.rest()).is_some_and(|(c, _)| c.is_ascii_digit())
    }

    /// The number that begins here, with at most `gap` separators between two digits; `None` where none does.
    /// It ends where `stop` holds of the bytes from its last digit to the next.
    pub(super) fn number(
        &self,
        gap: usize,
        known: &Known,
        mut stop: impl FnMut(Range<usize>) -> bool,
    ) -> Option<Number<'a>> {
        let mut place = *self;
        if plain(place.rest())?.0 == '+' {
            place.take();
        }
        if !place.digit() || place.fixed(known, 0) > 0 {
            return None;
        }
        let mut number = Number { digits: Digits::default(), groups: SmallVec::new(), end: place };
        loop {
            let (from, first) = (place.at, number.digits.len());
            while let Some((digit, _)) = plain(place.rest()).filter(|(c, _)| c.is_ascii_digit()) {
                number.digits.push(digit);
                place.take();
            }
            number.groups.push(Group { bytes: from..place.at, digits: first..number.digits.len() });
            number.end = place;
            for _ in 0..gap {
                if plain(place.rest()).is_some_and(|(c, _)| is_separator(c)) {
                    place.take();
                }
            }
            // A plus between digits is a blank, as forms send it.
            if place.at == number.end.at && plain(place.rest()).is_some_and(|(c, _)| c == '+') {
                place.take();
            }
            let joined = place.at > number.end.at && place.digit();
            if !joined || stop(number.end.at..place.at + 1) || place.fixed(known, number.digits.len()) > 0 {
                return Some(number);
            }
        }
    }

    /// How many bytes from here are digits that are nobody's number, though they may look like one: an address,
    /// a port, a date, a time, a version, a status. `before`: how many digits of one number go before them.
    pub(super) fn fixed(&self, known: &Known, before: usize) -> usize {
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':') || self.before.is_ascii_digit() {
            return 0;
        }
        work::count(1);
        // Digits that a separator other than a blank ties to those before them are part of one number.
        let tied = self.before != ' ' && is_separator(self.before) && self.earlier.is_ascii_digit();
        // Some hosts have a digit in the word before: `ec2-54-…`.
        let [here, last] = self.lettered;
        let in_host = here || (self.before == '-' && last && before <= 2);
        let word = !self.before.is_alphanumeric() && !tied;
        let dated = self.before == 'T' && self.earlier.is_ascii_digit();
        let at_host = self.before == ':' && self.host && self.earlier.is_alphanumeric();
        let mut len = 0;
        if word && !matches!(self.before, ':' | '.') {
            len = ipv6(rest);
        }
        // All others begin with a digit.
        if len == 0 && !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return 0;
        }
        if len == 0 && !tied {
            len = ipv4(rest);
        }
        if len == 0 && (!tied || in_host) {
            len = dashed(rest, in_host);
        }
        if len == 0 && word {
            len = date(rest);
        }
        if len == 0 && (dated || (word && self.before != ':')) {
            len = time(rest, if dated { 9 } else { 6 });
        }
        if len == 0 && self.before == '/' && self.earlier.is_alphabetic() {
            len = version(rest);
        }
        if len == 0 && at_host {
            len = port(rest);
        }
        if len == 0 && before == 0 {
            len = self.status(known);
        }
        if len == 0 {
            return 0;
        }
        let goes_on = plain(&rest[len..]).is_some_and(|(c, _)| c.is_ascii_digit());
        if goes_on || known.owns(&rest[..len]) { 0 } else { len }
    }

    /// A status before its phrase, or the code of a Warning.
    fn status(&self, known: &Known) -> usize {
        let rest = self.rest();
        let Some(status) = rest.get(..3).filter(|status| status.bytes().all(|b| b.is_ascii_digit())) else {
            return 0;
        };
        let told = self.before == ' ' && (self.earlier == '→' || known.status.as_deref() == Some(status));
        let told = told || self.text[..self.at].ends_with("Warning: ");
        if told && is_whole(&rest[3..]) { 3 } else { 0 }
    }
}

/// Whether a word ends before `after`.
fn is_whole(after: &str) -> bool {
    after.is_empty() || after.starts_with(' ')
}

/// The longest beginning of `rest` of bytes for which `is` holds; at most `most` bytes.
fn run(rest: &str, most: usize, is: impl Fn(u8) -> bool) -> &str {
    let len = rest.bytes().take(most).take_while(|b| is(*b)).count();
    work::count(len);
    &rest[..len]
}

fn digits(rest: &str) -> &str {
    run(rest, 16, |b| b.is_ascii_digit())
}

/// `2001:db8::1`, and `]:5060` after it.
fn ipv6(rest: &str) -> usize {
    let run = run(rest, 48, |b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    // Most are ordinary words.
    if run.bytes().filter(|b| *b == b':').count() < 2 {
        return 0;
    }
    let sentence_end = run.trim_end_matches('.');
    let Some(address) = [sentence_end, sentence_end.strip_suffix(':').unwrap_or_default()]
        .into_iter()
        .find(|run| run.parse::<Ipv6Addr>().is_ok())
    else {
        return 0;
    };
    let after = &rest[address.len()..];
    let port = after.strip_prefix(']').map_or(0, |after| 1 + colon_port(after));
    address.len() + port
}

/// `10.77.0.11`, and `:5060` after it.
fn ipv4(rest: &str) -> usize {
    let address = run(rest, 16, |b| b.is_ascii_digit() || b == b'.').trim_end_matches('.');
    if address.parse::<Ipv4Addr>().is_err() {
        return 0;
    }
    address.len() + colon_port(&rest[address.len()..])
}

/// `10-0-123-45` in a host's name: after a letter, or with a domain after it.
fn dashed(rest: &str, in_host: bool) -> usize {
    let address = run(rest, 16, |b| b.is_ascii_digit() || b == b'-').trim_end_matches('-');
    let after = &rest[address.len()..];
    let in_host =
        in_host || after.strip_prefix('.').is_some_and(|domain| domain.starts_with(char::is_alphabetic));
    let is_address = in_host && address.replace('-', ".").parse::<Ipv4Addr>().is_ok();
    if is_address { address.len() } else { 0 }
}

/// `:5060`, if that follows an address.
fn colon_port(after: &str) -> usize {
    match after.strip_prefix(':').map_or(0, port) {
        0 => 0,
        digits => 1 + digits,
    }
}

fn port(rest: &str) -> usize {
    let digits = digits(rest);
    if digits.len() <= 5 && digits.parse::<u16>().is_ok() { digits.len() } else { 0 }
}

/// `2026-11-27` (RFC 3339 full-date).
fn date(rest: &str) -> usize {
    let date = run(rest, 11, |b| b.is_ascii_digit() || b == b'-');
    let mut parts = date.split('-');
    let mut part = |len: usize, range: Range<u16>| {
        parts.next().is_some_and(|p| p.len() == len && p.parse().is_ok_and(|value| range.contains(&value)))
    };
    let is_date = part(4, 1900..2100) && part(2, 1..13) && part(2, 1..32) && parts.next().is_none();
    if is_date { date.len() } else { 0 }
}

/// `15:54`, `15:54:23`, `15:54:23.123456` (RFC 3339 partial-time), with at most so many digits of a second: more
/// might be a number's.
fn time(rest: &str, fraction: usize) -> usize {
    let part = |at: usize, below: u8| {
        let digits = digits(rest.get(at..).unwrap_or_default());
        digits.len() == 2 && digits.parse::<u8>().is_ok_and(|value| value < below)
    };
    let colon = |at: usize| rest.get(at..).is_some_and(|rest| rest.starts_with(':'));
    if !(part(0, 24) && colon(2) && part(3, 60)) {
        return 0;
    }
    if !(colon(5) && part(6, 61)) {
        return 5;
    }
    match rest[8..].strip_prefix('.').map_or(0, |rest| digits(rest).len()) {
        len if (1..=fraction).contains(&len) => 9 + len,
        _ => 8,
    }
}

/// `2.0` of `SIP/2.0`, and the status after it.
fn version(rest: &str) -> usize {
    let is_version = match rest.as_bytes() {
        [major, b'.', minor, after @ ..] => {
            major.is_ascii_digit()
                && minor.is_ascii_digit()
                && !after.first().is_some_and(|b| b.is_ascii_digit() || *b == b'.')
        }
        _ => false,
    };
    if !is_version {
        return 0;
    }
    let status = rest[3..].strip_prefix(' ').unwrap_or_default();
    let has_status = digits(status).len() == 3 && is_whole(&status[3..]);
    if has_status { 7 } else { 3 }
}
