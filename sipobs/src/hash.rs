//! The one hash for what comes from the wire: fast, and keyed.
//!
//! Its keys come from the operating system, anew in each process, and never leave it. It is no cryptographic hash:
//! whoever saw its values, or measured how long one lookup takes, could work the keys out and then make texts
//! that collide. Neither gets out of here: sipobs answers nobody on the wire, and no output holds a hash or depends on
//! one. Without the keys nobody can make two texts collide but by chance, at odds of about 2⁻⁶⁴ a pair.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};

/// Makes hashers with one set of keys: hashes compare only among those of one of these and its clones.
#[derive(Clone, Debug)]
pub(crate) struct Keyed(SeedableRandomState);

impl Default for Keyed {
    /// With new keys.
    fn default() -> Self {
        // foldhash's own keys come from the time and from addresses, which can be guessed.
        static SHARED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(random()));
        Self(SeedableRandomState::with_seed(random(), &SHARED))
    }
}

impl BuildHasher for Keyed {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// A number that nobody outside knows: what SipHash makes of nothing under keys from the operating system.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_under_the_same_keys_only() {
        let (one, other) = (Keyed::default(), Keyed::default());
        assert_eq!(one.hash_one(b"z9hG4bK1"), one.clone().hash_one(b"z9hG4bK1"));
        assert_ne!(one.hash_one(b"z9hG4bK1"), other.hash_one(b"z9hG4bK1"));
        assert_ne!(one.hash_one(b"z9hG4bK1"), one.hash_one(b"z9hG4bK2"));
    }
}
