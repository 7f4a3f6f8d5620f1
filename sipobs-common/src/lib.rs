//! What the kernel programs and the daemon share. `no_std`, `#[repr(C)]`, no implicit padding: every byte of
//! a type here is written by the side that makes it.
#![no_std]

mod counters;
mod frame;
pub mod ring;
mod settings;

pub use counters::{Counters, Failure, Hook};
pub use frame::{FrameHeader, flags};
pub use settings::{FragmentKey, PORT_WORDS, Settings, noise, port_bit};

/// The most bytes of one frame that a program hands over. A perf record's size is a `u16` that holds the
/// record's own headers too, and wraps silently past 64 KiB; longer frames are cut here and counted.
pub const MAX_CAPTURE: u32 = 60 * 1024;

/// How many datagrams' fragments the kernel side remembers at once.
pub const FRAGMENTED_DATAGRAMS: u32 = 8192;

/// The SIP port when none is configured (RFC 3261, section 18.1.1).
pub const SIP_PORT: u16 = 5060;

/// VXLAN's UDP port (RFC 7348, section 4.1).
pub const VXLAN_PORT: u16 = 4789;

/// The UDP port that Linux used for VXLAN before RFC 7348; flannel still does.
pub const VXLAN_PORT_LINUX: u16 = 8472;
