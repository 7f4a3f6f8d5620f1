//! What is wrong with a message, by RFC 3261, as a passive observer may tell it (RFC 4475 shows most of it).

use super::Message;

/// One thing wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Defect {
    /// The version is not 2.0.
    Version,
}

impl Defect {
    /// A short name for counters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Version => "version",
        }
    }
}

/// A set of [`Defect`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects(u32);

pub(super) fn defects(_message: &Message<'_>) -> Defects {
    Defects(0)
}
