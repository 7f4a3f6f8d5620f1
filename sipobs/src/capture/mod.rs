//! Where frames come from: the kernel's rings or a capture file. The only module that knows of aya
//! and of capture files.

mod config;
pub mod file;
#[cfg(all(feature = "live", target_os = "linux"))]
pub mod hep;
#[cfg(all(feature = "live", target_os = "linux"))]
pub mod live;

pub use config::{Config, Mode, RingChoice};
