//! The names of legs and of attempts.

use std::num::NonZeroU64;

use crate::slab::Slot;

/// Bits of an id that hold the slot: 16 million legs at once.
const SLOT_BITS: u32 = 24;
/// Bits that hold the number of legs before: 5 months of 10,000 a second.
const BORN_BITS: u32 = 37;

/// A leg, by a number that is never used again; rising numbers are rising ages. It holds the leg's slot in the
/// table, and the number of legs that came before it, by which a slot's next leg is told from its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LegId(NonZeroU64);

impl LegId {
    /// No leg's id is less, and …
    pub(crate) const MIN: Self = Self(NonZeroU64::MIN);
    /// … none is greater.
    pub(crate) const MAX: Self = Self(NonZeroU64::MAX);

    /// The id of the leg in `slot` that came after `before` others. `None` where the numbers have run out.
    pub(super) fn new(before: u64, slot: Slot) -> Option<Self> {
        let born = before.checked_add(1).filter(|born| born >> BORN_BITS == 0)?;
        let slot = u64::from(slot.index());
        NonZeroU64::new(born << SLOT_BITS | slot).filter(|_| slot >> SLOT_BITS == 0).map(Self)
    }

    /// Its slot in the table.
    pub(crate) fn slot(self) -> Option<Slot> {
        // The lower bits: they fit by construction.
        #[allow(clippy::cast_possible_truncation)]
        let index = (self.0.get() & ((1 << SLOT_BITS) - 1)) as u32;
        Slot::new(index)
    }

    /// The id as a number of 61 bits.
    pub(crate) const fn number(self) -> u64 {
        self.0.get()
    }

    /// The id of that number.
    pub(crate) fn of_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }
}

/// An attempt, by a number that is never used again; rising numbers are rising ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptId(pub(crate) u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_legs_have_greater_ids_whatever_their_slots() {
        let slot = |index| Slot::new(index).unwrap();
        let (early, late) = (LegId::new(7, slot(1_000_000)).unwrap(), LegId::new(8, slot(3)).unwrap());
        assert!(early < late);
        assert_eq!((early.slot(), late.slot()), (Slot::new(1_000_000), Slot::new(3)));
        assert_eq!((LegId::new(0, slot(1 << 24)), LegId::new(1 << 37, slot(0))), (None, None));
    }
}
