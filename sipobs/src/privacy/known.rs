//! The numbers of the parties to an output.

use std::net::Ipv4Addr;
use std::ops::Range;

use smallvec::SmallVec;

use super::number::{NUMBER, Number};
use super::plain::is_separator;
use super::text::{Parts, find_scheme, number_of};
use crate::record::Parties;
use crate::steps::step;

/// Digits of a party that are looked at; E.164 has 15 at most.
const MAX_DIGITS: usize = 32;

/// The fewest digits of a number that is looked for; shorter ones are extensions, and stay.
const SHORTEST: usize = 5;

/// What is known of the texts of an output.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whole numbers of five and six digits, and every seven digits in a row of longer ones, in order.
    runs: SmallVec<[Run; 24]>,
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
                None => text.rsplit_once('@').map_or(text, |(user, _)| user),
            };
            // Where a URI has no user its host stands here.
            let user = Some(user).filter(|user| user.parse::<Ipv4Addr>().is_err());
            let Some(digits) = user.and_then(number_of) else { continue };
            let digits = &digits[..digits.len().min(MAX_DIGITS)];
            if digits.len() < NUMBER {
                known.runs.extend(Run::of(digits));
            } else {
                known.runs.extend(digits.as_bytes().windows(NUMBER).map(Run::read));
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
        step(text.len());
        if self.runs.is_empty() {
            return false;
        }
        let mut digits: SmallVec<[u8; 64]> = SmallVec::new();
        for byte in text.bytes() {
            match byte {
                b'0'..=b'9' => {
                    digits.push(byte);
                    let ends =
                        |len: usize| digits.len().checked_sub(len).map(|from| Run::read(&digits[from..]));
                    if (SHORTEST..=NUMBER).filter_map(ends).any(|run| self.has(run)) {
                        return true;
                    }
                }
                // Escapes and digits of other scripts take a closer look.
                b'%' | 0x80.. => return true,
                b'+' => {}
                _ if byte.is_ascii_graphic() && !is_separator(char::from(byte)) => digits.clear(),
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
        step(digits.len());
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

/// Up to seven digits: their value, with a 1 before them that tells `00123` from `0123`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run(u32);

impl Run {
    /// Of a text of five or six digits.
    fn of(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let is_short = (SHORTEST..NUMBER).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        is_short.then(|| Self::read(digits))
    }

    /// Of seven digits at most.
    fn read(digits: &[u8]) -> Self {
        Self(digits.iter().fold(1, |value, digit| value * 10 + u32::from(digit - b'0')))
    }
}
