//! Users and numbers, comparable however they are written.

use smallvec::SmallVec;

use crate::sip::Uri;

/// A user or a number: `+1 (510) 555-0100`, `15105550100` and `5105550100` are one party.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Party(SmallVec<[u8; 24]>);

/// Fewer digits than these are an extension, which must match in full.
const SUBSCRIBER: usize = 7;
/// Longer users are cut: they only need to differ.
const LONGEST: usize = 512;

impl Party {
    /// `None` for an empty user.
    pub(crate) fn new(user: &[u8]) -> Option<Self> {
        let user = &user[..user.len().min(LONGEST)];
        let mut digits = SmallVec::new();
        for &byte in user {
            match byte {
                b'0'..=b'9' => digits.push(byte),
                // RFC 3966 §5.1.1: visual separators carry no meaning.
                b'+' | b'-' | b'.' | b'(' | b')' | b' ' => {}
                _ => {
                    digits.clear();
                    break;
                }
            }
        }
        if digits.len() >= 3 {
            return Some(Self(digits));
        }
        (!user.is_empty()).then(|| Self(user.into()))
    }

    /// The user of a URI (the number of a `tel:` URI), escapes decoded, or its host where it has none.
    pub(crate) fn of_uri(uri: &[u8]) -> Option<Self> {
        let uri = Uri::parse(uri)?;
        match uri.user_part() {
            Some(user) => Self::new(&user),
            None => Self::new(uri.host),
        }
    }

    /// What all ways to write this party share: the key to look it up by.
    pub(crate) fn tail(&self) -> &[u8] {
        if self.is_long_number() { &self.0[self.0.len() - SUBSCRIBER..] } else { &self.0 }
    }

    /// Whether it is a whole number, not an extension or a name.
    pub(crate) fn is_number(&self) -> bool {
        self.is_long_number()
    }

    /// Whether it is written exactly so, but for case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Country codes and trunk prefixes may be missing on one side.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let (short, long) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        short == long
            || (short.is_long_number()
                && long.is_long_number()
                && long.0.ends_with(&short.0)
                && long.0.len() - short.0.len() <= 4)
    }

    /// Bytes that it takes up outside itself.
    pub(super) fn bytes(&self) -> usize {
        if self.0.spilled() { self.0.capacity() } else { 0 }
    }

    fn is_long_number(&self) -> bool {
        self.0.len() >= SUBSCRIBER && self.0.iter().all(u8::is_ascii_digit)
    }
}

/// Only its length: a number must not slip into a log.
impl std::fmt::Debug for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Party({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn party(user: &str) -> Party {
        Party::new(user.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_match_however_written() {
        let number = party("+1 (510) 555-0100");
        for same in ["15105550100", "5105550100", "+15105550100", "01115105550100", "5550100"] {
            assert!(number.same(&party(same)) && party(same).same(&number), "{same}");
            assert_eq!(number.tail(), party(same).tail());
        }
        for other in ["15105550101", "550100", "100", "alice", "4915105550100555"] {
            assert!(!number.same(&party(other)), "{other}");
        }
        assert!(party("100").same(&party("100")) && !party("100").same(&party("2100")));
        assert_eq!(Party::new(b""), None);
    }

    #[test]
    fn a_uri_without_a_user_is_its_host() {
        assert_eq!(Party::of_uri(b"sip:%2B15105550100;x=1@h"), Some(party("15105550100")));
        assert_eq!(Party::of_uri(b"<sip:h.example:5060>"), Some(party("h.example")));
        assert_eq!(Party::of_uri(b"tel:510-555-0100"), Some(party("5105550100")));
        assert_eq!(Party::of_uri(b"nonsense"), None);
    }

    proptest! {
        /// Digits if there are three and more and nothing but separators between them, else the user as it is.
        #[test]
        fn a_number_is_its_digits(user in "[0-9+.() -]{0,30}[a-z#0-9]{0,2}") {
            let digits: Vec<u8> = user.bytes().filter(|byte| !b"+-.() ".contains(byte)).collect();
            let number = digits.len() >= 3 && digits.iter().all(u8::is_ascii_digit);
            let expected = if number { &digits[..] } else { user.as_bytes() };
            prop_assert_eq!(Party::new(user.as_bytes()).map(|party| party.0.to_vec()).unwrap_or_default(), expected);
        }
    }
}
