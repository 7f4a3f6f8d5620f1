//! Who takes part in what a record tells.

use smallvec::SmallVec;

use crate::sip::{self, Uri};

/// Users of the calls' From, To and request-URIs, as on the wire: never printed. They tell [`crate::privacy`] which
/// digits in a Call-ID or a sentence are somebody's number.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parties {
    /// All of them, one behind the other.
    text: String,
    /// Where each ends.
    ends: SmallVec<[u32; 4]>,
}

/// Only how many: numbers must not slip into a log.
impl std::fmt::Debug for Parties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parties({})", self.ends.len())
    }
}

impl Parties {
    /// Nobody.
    pub const NONE: Self = Self { text: String::new(), ends: SmallVec::new_const() };

    /// Adds a user, unless it is there already.
    pub fn add(&mut self, user: &str) {
        if user.is_empty() || self.iter().any(|known| known == user) {
            return;
        }
        let Ok(end) = u32::try_from(self.text.len() + user.len()) else { return };
        self.text.push_str(user);
        self.ends.push(end);
    }

    /// Adds the user of a URI, if it has one.
    pub(crate) fn add_user_of(&mut self, uri: &[u8]) {
        if let Some(user) = Uri::parse(uri).as_ref().and_then(Uri::user_part) {
            self.add(&sip::lossy(&user));
        }
    }

    /// All of them, each once.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let end = end as usize;
            let user = &self.text[start..end];
            start = end;
            user
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<'a> FromIterator<&'a str> for Parties {
    fn from_iter<T: IntoIterator<Item = &'a str>>(users: T) -> Self {
        let mut parties = Self::default();
        users.into_iter().for_each(|user| parties.add(user));
        parties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_party_once_in_order() {
        let parties: Parties = ["+15550100", "", "alice", "+15550100"].into_iter().collect();
        assert_eq!(parties.iter().collect::<Vec<_>>(), ["+15550100", "alice"]);
        assert_eq!(format!("{parties:?}"), "Parties(2)");
    }
}
