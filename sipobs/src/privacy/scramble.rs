//! Replaces digits, letters and addresses by others of the same length: the same by the same and different by different,
//! under a key that one run has and nobody keeps.
//!
//! Numbers that end alike still do, as that tells that they are one: each digit goes by those behind it. A zero stays one,
//! so that what is dialled before a number does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::normalize::plain;
use super::text::number_of;
use crate::hash::random;

/// Users that are nobody in particular.
const NOBODY: [&str; 6] = ["anonymous", "private", "restricted", "unavailable", "unknown", "invalid"];

/// The key, and what it does.
#[derive(Clone)]
pub(super) struct Scrambler(Hmac<Sha256>);

/// Without the key.
impl std::fmt::Debug for Scrambler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrambler")
    }
}

impl Scrambler {
    /// One with a new key.
    pub(super) fn new() -> Option<Self> {
        let key: Vec<u8> = (0..4).flat_map(|_| random().to_ne_bytes()).collect();
        Hmac::new_from_slice(&key).ok().map(Self)
    }

    /// Writes another user or name over `text`, which `out` holds: other letters and digits in each of its parts.
    pub(super) fn user(&self, text: &str, out: &mut [u8]) {
        let mut at = 0;
        for part in text.split_inclusive([';', ':']) {
            // The names of a user's own parameters stay.
            let from = part.find('=').filter(|_| at > 0).map_or(0, |equals| equals + 1);
            let end = part.trim_end_matches([';', ':']).len().max(from);
            self.part(&part[from..end], &mut out[at + from..at + end]);
            at += part.len();
        }
    }

    /// Writes another name, or a part of a user, over `text`.
    pub(super) fn part(&self, text: &str, out: &mut [u8]) {
        if NOBODY.iter().any(|nobody| nobody.eq_ignore_ascii_case(text)) {
            return;
        }
        if number_of(text).is_some() {
            let places: Vec<_> = chars(text).filter(|(c, _)| c.is_ascii_digit()).collect();
            return self.digits(text, &places, out);
        }
        self.words(text, out, |_| true);
    }

    /// Writes other words over those for which `which` holds.
    pub(super) fn words(&self, text: &str, out: &mut [u8], which: impl Fn(&str) -> bool) {
        let mut word: Vec<(char, std::ops::Range<usize>)> = Vec::new();
        for next in chars(text).map(Some).chain([None]) {
            match next {
                Some(next) if next.0.is_alphanumeric() => word.push(next),
                _ if word.is_empty() => {}
                _ => {
                    let plain: String = word.iter().flat_map(|(c, _)| c.to_lowercase()).collect();
                    if which(&plain) {
                        self.word(text, &word, out);
                    }
                    word.clear();
                }
            }
        }
    }

    /// Other letters for each half of a word by those of the other half: no two words become one, as Call-IDs may differ in
    /// a single letter.
    fn word(&self, text: &str, word: &[(char, std::ops::Range<usize>)], out: &mut [u8]) {
        let letters: Vec<_> = word.iter().filter(|(c, _)| !c.is_ascii_digit()).collect();
        let (front, back) = letters.split_at(letters.len() / 2);
        let small = |half: &[&(char, std::ops::Range<usize>)]| -> String {
            half.iter().flat_map(|(c, _)| c.to_lowercase()).collect()
        };
        let written = self.half(b'f', text, front, &small(back), out);
        self.half(b'b', text, back, &written, out);
        for digits in word.split(|(c, _)| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()) {
            self.digits(text, digits, out);
        }
    }

    /// Writes other letters over those of one half, by what the other half is. What they are now, in small letters.
    fn half(
        &self,
        which: u8,
        text: &str,
        half: &[&(char, std::ops::Range<usize>)],
        other: &str,
        out: &mut [u8],
    ) -> String {
        let mut written = String::new();
        for (part, letters) in (0_u32..).zip(half.chunks(32)) {
            let stream = self.sum(which, &[&part.to_be_bytes(), other.as_bytes()]);
            for ((c, place), by) in letters.iter().zip(stream) {
                let letter = match *c {
                    'a'..='z' => shifted(*c as u8, b'a', 26, by),
                    'A'..='Z' => shifted(*c as u8, b'A', 26, by),
                    _ => b'a' + by % 26,
                };
                put(text, place, letter, out);
                written.push(char::from(letter.to_ascii_lowercase()));
            }
        }
        written
    }

    /// Writes other digits over those at `places`, which are one number's.
    pub(super) fn digits(&self, text: &str, places: &[(char, std::ops::Range<usize>)], out: &mut [u8]) {
        let mut behind = Vec::new();
        for (c, place) in places.iter().rev() {
            let digit = u8::try_from(*c).unwrap_or(b'0');
            if digit != b'0' {
                let by = self.sum(b'd', &[&behind])[0];
                put(text, place, shifted(digit, b'1', 9, by), out);
            }
            behind.push(digit);
        }
    }

    /// Another address, in which each number is written as long as before.
    pub(super) fn address(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => self.v4(ip).into(),
            IpAddr::V6(ip) => self.v6(ip).into(),
        }
    }

    /// Those of one network stay in one. Nobody's address and a host's own stay.
    fn v4(&self, ip: Ipv4Addr) -> Ipv4Addr {
        if ip.is_unspecified() || ip.is_loopback() || ip.is_broadcast() {
            return ip;
        }
        let mut octets = ip.octets();
        for (n, octet) in ip.octets().into_iter().enumerate() {
            let (first, count) = match octet {
                0 => continue,
                1..=9 => (1, 9),
                10..=99 => (10, 90),
                100.. => (100, 156),
            };
            octets[n] = shifted(octet, first, count, self.sum(b'4', &[&ip.octets()[..n]])[0]);
        }
        octets.into()
    }

    fn v6(&self, ip: Ipv6Addr) -> Ipv6Addr {
        if ip.is_unspecified() || ip.is_loopback() {
            return ip;
        }
        let mut groups = ip.segments();
        for (n, group) in ip.segments().into_iter().enumerate() {
            let first: u16 = match group {
                0 => continue,
                0x1..=0xf => 0x1,
                0x10..=0xff => 0x10,
                0x100..=0xfff => 0x100,
                0x1000.. => 0x1000,
            };
            let sum = self.sum(b'6', &[&ip.octets()[..2 * n]]);
            let (count, by) = (u32::from(first) * 15, u32::from(u16::from_be_bytes([sum[0], sum[1]])));
            let by = 1 + by % (count - 1);
            groups[n] = first + u16::try_from((u32::from(group - first) + by) % count).unwrap_or(0);
        }
        groups.into()
    }

    fn sum(&self, what: u8, of: &[&[u8]]) -> [u8; 32] {
        let mut hmac = self.0.clone();
        hmac.update(&[what]);
        of.iter().for_each(|part| hmac.update(part));
        hmac.finalize().into_bytes().into()
    }
}

/// Another of `count` values from `first` on.
fn shifted(value: u8, first: u8, count: u16, by: u8) -> u8 {
    let by = 1 + u16::from(by) % (count - 1);
    let shifted = (u16::from(value - first) + by) % count + u16::from(first);
    u8::try_from(shifted).unwrap_or(first)
}

/// The characters of a text in their plain form, and where each is written.
pub(super) fn chars(text: &str) -> impl Iterator<Item = (char, std::ops::Range<usize>)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (c, len) = plain(&text[at..])?;
        at += len;
        Some((c, at - len..at))
    })
}

/// Writes a character where another was, in as many bytes: escaped where that was.
pub(super) fn put(text: &str, place: &std::ops::Range<usize>, new: u8, out: &mut [u8]) {
    let Some(written) = text.get(place.clone()) else { return };
    if written.starts_with('%') && written.len() > 1 {
        for (at, byte) in (place.start..).step_by(3).zip(std::iter::repeat_n(new, written.len() / 3)) {
            out[at + 1..at + 3].copy_from_slice(format!("{byte:02X}").as_bytes());
        }
    } else {
        out[place.clone()].fill(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrambled(scrambler: &Scrambler, text: &str) -> String {
        let mut out = text.as_bytes().to_vec();
        scrambler.user(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_that_end_alike_still_do() {
        let scrambler = Scrambler::new().unwrap();
        let of = |text: &str| scrambled(&scrambler, text);
        let (long, short) = (of("+49301234567"), of("0301234567"));
        assert_eq!(long[4..], short[2..]);
        assert_eq!((&long[..1], &short[..1]), ("+", "0"));
        assert_eq!(of("+49 (30) 123-4567").replace([' ', '(', ')', '-'], ""), long);
        for (a, b) in long.chars().zip("+49301234567".chars()) {
            assert_eq!(a == b, matches!(b, '+' | '0'), "{long}");
        }
        assert_ne!(of("5550100"), of("5550101"));
        assert_eq!(of("%2B49301234567")[3..], long[1..]);
    }

    #[test]
    fn names_keep_their_shape() {
        let scrambler = Scrambler::new().unwrap();
        let of = |text: &str| scrambled(&scrambler, text);
        assert_eq!(of("alice").to_uppercase(), of("ALICE"));
        assert_eq!(of("bob.alice")[4..], of("alice"));
        assert_eq!(of("Müller").len(), "Müller".len());
        assert!(of("M%C3%BCller").starts_with(|c: char| c.is_ascii_uppercase()));
        assert_eq!(of("anonymous"), "anonymous");
        let others = std::iter::repeat_with(|| scrambled(&Scrambler::new().unwrap(), "alice")).take(3);
        assert!(others.into_iter().any(|other| other != of("alice")));
    }

    #[test]
    fn no_two_words_become_one() {
        let letters = || 'a'..='z';
        let short = letters().map(String::from);
        let two = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
        let in_longer = letters().flat_map(|a| letters().map(move |b| format!("x{a}1lia{b}s9")));
        for words in [short.collect::<Vec<_>>(), two.collect(), in_longer.collect()] {
            let scrambler = Scrambler::new().unwrap();
            let other: std::collections::BTreeSet<_> =
                words.iter().map(|word| scrambled(&scrambler, word)).collect();
            assert_eq!(other.len(), words.len());
            for (word, other) in words.iter().map(|word| (word, scrambled(&scrambler, word))) {
                assert!(word.chars().zip(other.chars()).all(|(a, b)| a != b), "{word} {other}");
            }
        }
    }

    #[test]
    fn addresses_are_written_as_long_as_before() {
        let scrambler = Scrambler::new().unwrap();
        for text in ["10.77.0.11", "192.168.1.254", "8.8.8.8", "2001:db8::1", "fe80::a:bc:def:1234"] {
            let ip: IpAddr = text.parse().unwrap();
            let other = scrambler.address(ip);
            assert_ne!(other, ip);
            assert_eq!(other.to_string().len(), text.len(), "{other}");
        }
        let [a, b] =
            ["10.77.0.11", "10.77.0.12"].map(|ip| scrambler.address(ip.parse().unwrap()).to_string());
        assert_eq!(a.rsplit_once('.').unwrap().0, b.rsplit_once('.').unwrap().0);
        assert_ne!(a, b);
    }
}
