//! Bytes → [`Message`]: a zero-copy index of headers, and typed values on demand (RFC 3261 §7, §20, §25).

mod method;

pub use method::Method;

/// A CSeq value (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CSeq {
    /// Its number.
    pub number: u32,
    /// Its method.
    pub method: Method,
}

/// Why bytes are not a SIP message. Never carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum ParseError {
    /// The first line is neither a request line nor a status line.
    #[error("no SIP start line")]
    StartLine,
}

/// One SIP message: an index over its bytes.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Indexes `bytes`, which hold one message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        Ok(Self { bytes })
    }

    /// The bytes it was made from.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
