//! A moment that may not have come yet, in eight bytes.

use std::fmt;

use crate::timestamp::Timestamp;

/// A moment, or none. An `Option<Timestamp>` takes twice the room, and a leg has a dozen of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct When(i64);

impl Default for When {
    fn default() -> Self {
        Self::NEVER
    }
}

impl When {
    /// Not yet.
    pub(crate) const NEVER: Self = Self(i64::MIN);

    /// The moment.
    pub(crate) fn get(self) -> Option<Timestamp> {
        (self != Self::NEVER).then(|| Timestamp::from_nanos(self.0))
    }

    /// Whether it has come.
    pub(crate) fn is_set(self) -> bool {
        self != Self::NEVER
    }

    /// Keeps the first moment of all that are given.
    pub(crate) fn first(&mut self, time: Timestamp) {
        if !self.is_set() {
            *self = time.into();
        }
    }
}

impl From<Timestamp> for When {
    fn from(time: Timestamp) -> Self {
        // The very first moment that can be told is none: nobody captured it.
        Self(time.as_nanos())
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_moment_stays() {
        let [early, late] = [1, 2].map(Timestamp::from_nanos);
        let mut when = When::NEVER;
        assert_eq!(when.get(), None);
        when.first(early);
        when.first(late);
        assert_eq!(when.get(), Some(early));
    }
}
