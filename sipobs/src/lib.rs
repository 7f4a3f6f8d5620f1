//! sipobs rebuilds SIP dialogs from captured packets and judges every call transfer in them.
//!
//! Data goes one way, and each stage knows only the type it takes and the type it gives:
//!
//! ```text
//! capture ─ Frame ─ packet ─ Packet ─ stream ─ WireMessage ─ sip ─ Message ─ dialog ─ transfer ─ Output ─ export
//! ```
//!
//! From [`packet`] to [`transfer`] there is no I/O, no clock, no task and no global: time comes with the
//! frame, timers through [`engine::Engine::poll_timeout`] and [`engine::Engine::handle_timeout`]. A capture
//! file therefore gives the same bytes of output on every run, and the live daemon runs the same engine.

#[cfg(test)]
mod bless;
pub mod capture;
mod clock;
pub mod config;
pub mod dialog;
pub mod discard;
mod duration;
pub mod engine;
#[cfg(any(all(feature = "live", target_os = "linux"), feature = "webhook"))]
mod error_chain;
mod eviction;
pub mod evidence;
pub mod export;
pub mod files;
pub mod follow;
pub mod frame;
mod hash;
pub mod hep;
pub mod journal;
mod leg;
pub mod link;
mod list;
pub mod loss;
pub mod packet;
mod pattern;
pub mod privacy;
pub mod record;
mod sealed;
pub mod sip;
mod slab;
pub mod stream;
mod timers;
pub mod timestamp;
mod toml_error;
pub mod transfer;
pub mod trunk;
mod work;
