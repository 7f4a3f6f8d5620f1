//! The numbers of the parties to an output.

use std::net::Ipv4Addr;
use std::ops::Range;

use memchr::memrchr;
use smallvec::SmallVec;

use super::normalize::is_separator;
use super::number::{NUMBER, Number};
use super::text::{Parts, find_scheme, number_of};
use crate::record::Parties;
use crate::work;

/// Digits of a party that are looked at; E.164 has 15 at most.
const MAX_DIGITS: usize = 32;

/// The fewest digits of a number that is looked for; shorter ones are extensions, and stay.
pub(super) const SHORTEST: usize = 5;

/// What is known of the texts of an output.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whole numbers of five and six digits, and every seven digits in a row of longer ones, in order.
    runs: SmallVec<[Run; 24]>,
    /// Some of them are such whole numbers.
    shorts: bool,
    /// The deciding status. It may go before a phrase that begins with a number.
    pub(super) status: Option<String>,
}

impl Known {
    /// The numbers among `parties` and in `uris`.
    pub(super) fn of(parties: &Parties, uris: &[&str]) -> Self {
        let mut known = Self::default();
        for text in parties.iter().chain(uris.iter().copied()) {
            let user = match find_scheme(text) {
                Some((_, user)) => Parts::of(&text[user..]).user,
                None => memrchr(b'@', text.as_bytes()).map_or(text, |at| &text[..at]),
            };
            // Where a URI has no user its host stands here.
            let number = number_of(user).filter(|_| user.parse::<Ipv4Addr>().is_err());
            let Some(number) = number else { continue };
            let mut run = Run::default();
            for (digit, len) in number.as_bytes().iter().zip(1..=MAX_DIGITS) {
                run.push(*digit);
                if len >= NUMBER {
                    known.runs.push(run);
                }
            }
            if (SHORTEST..NUMBER).contains(&number.as_bytes().len()) {
                known.runs.push(run);
                known.shorts = true;
            }
        }
        known.runs.sort_unstable();
        known.runs.dedup();
        known
    }

    /// Whether `text`, which may look like an address or the like, is a party's number: a short one only where
    /// nothing stands between its digits.
    pub(super) fn owns(&self, text: &str) -> bool {
        if self.runs.is_empty() {
            return false;
        }
        let digits: SmallVec<[u8; 32]> = text.bytes().filter(u8::is_ascii_digit).collect();
        digits.windows(NUMBER).any(|part| self.has(Run::read(part))) || self.is_short(text)
    }

    /// Whether `text` may hold a party's number, whatever stands between its digits. If not, there is none.
    pub(super) fn may_be_in(&self, text: &str) -> bool {
        work::count(text.len());
        if self.runs.is_empty() {
            return false;
        }
        let (mut last, mut len) = (Run::default(), 0);
        for byte in text.bytes() {
            match byte {
                b'0'..=b'9' => {
                    last.push(byte);
                    len += 1;
                    let shorts = if self.shorts { SHORTEST..NUMBER } else { 0..0 };
                    if len >= NUMBER && self.has(last)
                        || shorts.into_iter().any(|short| len >= short && self.has(last.last(short)))
                    {
                        return true;
                    }
                }
                // Escapes and digits of other scripts take a closer look.
                b'%' | 0x80.. => return true,
                b'+' => {}
                _ if byte.is_ascii_graphic() && !is_separator(char::from(byte)) => len = 0,
                _ => {}
            }
        }
        false
    }

    /// Whether `digits` are a whole number of five or six digits.
    fn is_short(&self, digits: &str) -> bool {
        Run::of(digits).is_some_and(|run| self.has(run))
    }

    fn has(&self, run: Run) -> bool {
        self.runs.binary_search(&run).is_ok()
    }

    /// Which groups of `number` hold a party's number, in order.
    pub(super) fn within(&self, number: &Number<'_>) -> Vec<Range<usize>> {
        let Number { digits, groups, .. } = number;
        work::count(digits.len());
        let mut found: Vec<Range<usize>> = Vec::new();
        for end in NUMBER..=digits.len() {
            if self.has(Run::read(&digits.as_bytes()[end - NUMBER..end])) {
                match found.last_mut() {
                    Some(last) if end - NUMBER < last.end => last.end = end,
                    _ => found.push(end - NUMBER..end),
                }
            }
        }
        for found in &mut found {
            let first = groups.partition_point(|group| group.digits.end <= found.start);
            *found = first..groups.partition_point(|group| group.digits.start < found.end);
        }
        for (first, group) in groups.iter().enumerate() {
            let short =
                groups[first..].iter().take_while(|last| last.digits.end - group.digits.start < NUMBER);
            let is_number = |last: usize| self.is_short(&digits[group.digits.start..groups[last].digits.end]);
            found.extend(
                (first..first + short.count()).filter(|last| is_number(*last)).map(|last| first..last + 1),
            );
        }
        found.sort_unstable_by_key(|found| (found.start, found.end));
        found.dedup_by(|next, last| {
            let overlaps = next.start < last.end;
            if overlaps {
                last.end = last.end.max(next.end);
            }
            overlaps
        });
        found
    }
}

/// The last seven digits of some, or all if they are fewer: their value, with a 1 before them that tells `00123` from
/// `0123`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run(u32);

impl Default for Run {
    fn default() -> Self {
        Self(1)
    }
}

impl Run {
    const FULL: u32 = 10_u32.pow(7);

    /// Of a text of five or six digits.
    fn of(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let is_short = (SHORTEST..NUMBER).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        is_short.then(|| Self::read(digits))
    }

    fn read(digits: &[u8]) -> Self {
        let mut run = Self::default();
        digits.iter().for_each(|digit| run.push(*digit));
        run
    }

    /// Adds an ASCII digit.
    fn push(&mut self, digit: u8) {
        let value = if self.0 < Self::FULL { self.0 } else { Self::FULL / 10 + self.0 % (Self::FULL / 10) };
        self.0 = value * 10 + u32::from(digit - b'0');
    }

    /// Its last digits; it has to have so many.
    fn last(self, len: usize) -> Self {
        let full = (0..len).fold(1, |full, _| full * 10);
        Self(full + self.0 % full)
    }
}
