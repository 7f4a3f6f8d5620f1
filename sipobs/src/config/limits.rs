//! One figure for memory, and what each table gets of it.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{engine, transfer};

/// Bounds of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// What all tables together may take up: a number of bytes, or a text such as `256MiB`. Of its 32 parts
    /// three are for TCP connections, one is for IP fragments, and all others but one are for calls and transfers: where there is a state, eight of them
    /// for messages that a restart needs. Unless set it
    /// is 256 MiB for a daemon, and half of what the machine has free for files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Most lines of one ladder.
    pub ladder: usize,
}

/// A number of bytes, at least [`Size::LEAST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(usize);

/// Parts for the messages of calls, where these are kept for a restart.
const JOURNAL: usize = 8;

/// What a daemon's tables may take up unless it is set.
const DEFAULT: Size = Size(256 << 20);

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, ladder: transfer::Limits::default().ladder }
    }
}

impl Limits {
    /// Divides the memory among the tables of an engine.
    pub(super) fn divide(self, engine: &mut engine::Config, keeps_calls: bool) {
        let part = self.memory.unwrap_or(DEFAULT).bytes() / 32;
        engine.packet.max_fragment_bytes = part;
        engine.stream.max_bytes = 3 * part;
        let journal = if keeps_calls { JOURNAL * part } else { 0 };
        engine.transfer.limits =
            transfer::Limits { bytes: 27 * part - journal, ladder: self.ladder, journal };
    }
}

impl Size {
    /// Less is of no use to anyone.
    pub const LEAST: Self = Self(1 << 20);

    /// `None` for less than [`Self::LEAST`].
    pub fn new(bytes: usize) -> Option<Self> {
        Some(Self(bytes)).filter(|size| *size >= Self::LEAST)
    }

    /// So many MiB, at least one.
    pub(super) const fn of_mib(mib: usize) -> Self {
        Self(mib << 20)
    }

    /// As a number of bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match text[digits..].trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        Self::new(text[..digits].parse::<usize>().ok()?.checked_mul(unit)?)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut unit) = (self.0, "B");
        for larger in ["KiB", "MiB", "GiB"] {
            if number.is_multiple_of(1024) {
                (number, unit) = (number / 1024, larger);
            } else {
                break;
            }
        }
        write!(f, "{number}{unit}")
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a size of at least {}, such as \"256MiB\"", Size::LEAST)
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
                let size = usize::try_from(bytes).ok().and_then(Size::new);
                size.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(bytes), &self))
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                let size = usize::try_from(bytes).ok().and_then(Size::new);
                size.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("memory = \"256MiB\"", 256 << 20),
            ("memory = \"1 GiB\"", 1 << 30),
            ("memory = 2000000", 2_000_000),
            ("memory = \"1500kB\"", 1_500_000),
            ("memory = \"1048576\"", 1 << 20),
        ] {
            let limits: Limits = toml::from_str(text).unwrap();
            assert_eq!(limits.memory.map(Size::bytes), Some(bytes), "{text}");
            let again: Limits = toml::from_str(&toml::to_string(&limits).unwrap()).unwrap();
            assert_eq!(again, limits, "{text}");
        }
        for text in ["1000", "-5", "\"5 bananas\"", "\"999999999999GiB\"", "\"MiB\"", "\"10KiB\"", "true"] {
            let error = toml::from_str::<Limits>(&format!("memory = {text}")).unwrap_err().to_string();
            assert!(error.contains("a size of at least 1MiB"), "{text}: {error}");
        }
    }

    #[test]
    fn the_tables_share_it() {
        let mut engine = engine::Config::default();
        let defaults = engine.clone();
        Limits::default().divide(&mut engine, false);
        let of = |engine: &engine::Config| {
            let transfer::Limits { bytes, journal, .. } = engine.transfer.limits;
            engine.packet.max_fragment_bytes + engine.stream.max_bytes + bytes + journal
        };
        assert!(of(&engine) <= DEFAULT.bytes());
        let all = of(&engine);
        Limits::default().divide(&mut engine, true);
        assert!(engine.transfer.limits.journal > 0 && of(&engine) == all);
        Limits::default().divide(&mut engine, false);
        assert_eq!(engine, defaults, "an engine without a configuration has the same limits");
    }
}
