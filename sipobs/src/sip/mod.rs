//! Bytes → [`Message`]: a zero-copy index of headers, and typed values on demand (RFC 3261 §7, §20, §25).
//!
//! Keys and verdicts come from here. Every function takes hostile bytes, never panics, and needs time linear
//! in its input. What is read is what stands on the wire: tolerant where RFC 4475 shows that real messages
//! are odd, and never guessing where they are damaged.

mod address;
mod body;
mod defect;
mod essence;
mod event;
mod index;
mod message;
mod method;
mod name;
mod q850;
mod reason;
mod replaces;
pub mod sdp;
mod sipfrag;
pub(crate) mod start_line;
mod status;
mod streams;
mod text;
mod trace_context;
#[cfg(feature = "typed")]
mod typed;
mod uri;
mod via;

pub use address::NameAddr;
pub use defect::{Defect, Defects};
pub use event::{Event, Subscription, SubscriptionState};
pub use message::{CSeq, Message, ParseError, Start};
pub use method::Method;
pub use name::{HeaderName, HeaderNames, Name};
pub use q850::Q850;
pub use reason::{ReasonHeader, Warning};
pub use replaces::{Join, Replaces, TargetDialog};
pub use sipfrag::{Sipfrag, SipfragError};
pub use status::standard_phrase;
pub use streams::streams;
pub use text::{Params, line, lossy, percent_decode, unescape};
pub(crate) use text::{brief, is_invisible, is_token};
pub use trace_context::TraceContext;
#[cfg(feature = "typed")]
pub use typed::typed;
pub use uri::{Number, Scheme, Uri};
pub use via::Via;
