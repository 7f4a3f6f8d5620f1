//! The numbers of the parties to an output.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::Range;

use super::number::{NUMBER, Number};
use super::text::{Parts, find_scheme, number_of};
use crate::record::Parties;
use crate::steps::step;

/// Digits of a party that are looked at; E.164 has 15 at most.
const MAX_DIGITS: usize = 32;

/// What is known of the texts of an output.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whole numbers of five digits and more; shorter ones are extensions, and stay.
    numbers: BTreeSet<String>,
    /// Every seven digits in a row of any of them.
    parts: BTreeSet<String>,
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
            if let Some(mut digits) = user.and_then(number_of) {
                digits.truncate(MAX_DIGITS);
                known.parts.extend((NUMBER..=digits.len()).map(|end| digits[end - NUMBER..end].to_owned()));
                if digits.len() > 4 {
                    known.numbers.insert(digits);
                }
            }
        }
        known
    }

    /// Whether `text`, which may look like an address or the like, is a party's number: a short one only where
    /// nothing stands between its digits.
    pub(super) fn owns(&self, text: &str) -> bool {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        self.numbers.contains(text)
            || (NUMBER..=digits.len()).any(|end| self.parts.contains(&digits[end - NUMBER..end]))
    }

    /// Which groups of `number` hold a party's number, in order.
    pub(super) fn within(&self, number: &Number<'_>) -> Vec<Range<usize>> {
        let Number { digits, groups, .. } = number;
        step(digits.len());
        let mut found: Vec<Range<usize>> = Vec::new();
        for end in NUMBER..=digits.len() {
            if self.parts.contains(&digits[end - NUMBER..end]) {
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
            let is_number =
                |last: usize| self.numbers.contains(&digits[group.digits.start..groups[last].digits.end]);
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
