//! Users and numbers, comparable however they are written.

/// A user or a number: `+1 (510) 555-0100`, `15105550100` and `5105550100` are one party.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Party(Box<str>);

/// Fewer digits than these are an extension, which must match in full.
const SUBSCRIBER: usize = 7;

impl Party {
    /// `None` for an empty user.
    pub(super) fn new(user: &str) -> Option<Self> {
        // RFC 3966 §5.1.1: visual separators carry no meaning.
        let digits: String =
            user.chars().filter(|c| !matches!(c, '+' | '-' | '.' | '(' | ')' | ' ')).collect();
        if digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit()) {
            return Some(Self(digits.into()));
        }
        (!user.is_empty()).then(|| Self(user.into()))
    }

    /// What all ways to write this party share: the key to look it up by.
    pub(super) fn tail(&self) -> &str {
        if self.is_long_number() { &self.0[self.0.len() - SUBSCRIBER..] } else { &self.0 }
    }

    /// Whether it is written exactly so, but for case.
    pub(super) fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    /// Country codes and trunk prefixes may be missing on one side.
    pub(super) fn same(&self, other: &Self) -> bool {
        let (short, long) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        short == long
            || (short.is_long_number()
                && long.is_long_number()
                && long.0.ends_with(&*short.0)
                && long.0.len() - short.0.len() <= 4)
    }

    fn is_long_number(&self) -> bool {
        self.0.len() >= SUBSCRIBER && self.0.bytes().all(|b| b.is_ascii_digit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_however_written() {
        let party = |user| Party::new(user).unwrap();
        let number = party("+1 (510) 555-0100");
        for same in ["15105550100", "5105550100", "+15105550100", "01115105550100", "5550100"] {
            assert!(number.same(&party(same)) && party(same).same(&number), "{same}");
            assert_eq!(number.tail(), party(same).tail());
        }
        for other in ["15105550101", "550100", "100", "alice", "4915105550100555"] {
            assert!(!number.same(&party(other)), "{other}");
        }
        assert!(party("100").same(&party("100")) && !party("100").same(&party("2100")));
        assert_eq!(Party::new(""), None);
    }
}
