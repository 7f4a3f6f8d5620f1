//! Values in numbered slots, in chunks: a table of a million grows without moving or copying what it holds.

use std::num::NonZeroU32;

/// Values of a chunk: few enough that a small table stays small.
const CHUNK: usize = 64;

/// A slot's number. Freed slots are used again, so whoever keeps one must know that it is still the same value's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(NonZeroU32);

/// Values in slots.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<Slot>,
    len: usize,
}

impl Slot {
    /// The slot of this number.
    pub(crate) fn new(index: u32) -> Option<Self> {
        index.checked_add(1).and_then(NonZeroU32::new).map(Self)
    }

    /// Its number, from 0.
    pub(crate) const fn index(self) -> u32 {
        self.0.get() - 1
    }

    fn place(self) -> (usize, usize) {
        let index = self.index() as usize;
        (index / CHUNK, index % CHUNK)
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// How many values there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Puts a value into a free slot.
    ///
    /// # Panics
    ///
    /// Beyond 2³² - 1 values, which no memory budget allows.
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            let (chunk, at) = slot.place();
            self.chunks[chunk][at] = Some(value);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        chunk.push(Some(value));
        let index = u32::try_from(last * CHUNK + chunk.len() - 1);
        index.ok().and_then(Slot::new).expect("fewer than 2^32 - 1 slots")
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        let (chunk, at) = slot.place();
        self.chunks.get(chunk)?.get(at)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let (chunk, at) = slot.place();
        self.chunks.get_mut(chunk)?.get_mut(at)?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let (chunk, at) = slot.place();
        let value = self.chunks.get_mut(chunk)?.get_mut(at)?.take()?;
        self.len -= 1;
        self.free.push(slot);
        Some(value)
    }

    /// Every value, in the order of the slots: it depends on what was freed before, so no output may.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().flatten()
    }

    /// The same, to change.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut slab = Slab::default();
        let slots: Vec<_> = (0..1000).map(|n| slab.insert(n)).collect();
        assert_eq!((slab.len(), slab.remove(slots[7]), slab.remove(slots[7])), (1000, Some(7), None));
        assert_eq!(slab.get(slots[7]), None);
        assert_eq!(slab.insert(1000), slots[7]);
        assert_eq!((slab.get(slots[7]), slab.get(slots[999])), (Some(&1000), Some(&999)));
        assert_eq!(slab.iter().count(), 1000);
        assert_eq!(slab.get(Slot::new(1000).unwrap()), None);
    }
}
