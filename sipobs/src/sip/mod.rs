//! Bytes → [`Message`]: a zero-copy index of headers, and typed values on demand (RFC 3261 §7, §20, §25).
//!
//! Keys and verdicts come from here. Every function takes hostile bytes, never panics, and needs time linear
//! in its input. What is read is what stands on the wire: tolerant where RFC 4475 shows that real messages
//! are odd, and never guessing where they are damaged.

mod address;
mod defect;
mod index;
mod message;
mod method;
mod name;
mod text;
mod uri;
mod via;

pub use address::NameAddr;
pub use defect::{Defect, Defects};
pub use message::{CSeq, Message, ParseError, Start};
pub use method::Method;
pub use name::Name;
pub use text::{Params, line, lossy, percent_decode, unescape};
pub use uri::{Number, Scheme, Uri};
pub use via::Via;
