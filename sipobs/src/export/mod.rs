//! Outputs → the outside: JSONL, terminal, OTLP, metrics.
//!
//! Everything here gets records that are already masked, and nothing here may hold up the capture: sinks
//! that can stall sit behind bounded queues that count what they drop.

use std::io;

use crate::record::{Call, Output};

pub mod accounting;
mod brief;
mod entry;
#[cfg(test)]
mod golden;
#[cfg(feature = "daemon")]
pub mod hep;
mod jsonl;
mod ladder;
mod layout;
#[cfg(feature = "daemon")]
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
#[cfg(feature = "daemon")]
pub mod page;
mod report;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod schema;
mod style;
mod summary;
mod terminal;
#[cfg(feature = "webhook")]
pub mod webhook;
mod whole_call;
mod words;

pub use brief::Brief;
pub use entry::Entry;
pub use jsonl::Jsonl;
pub use report::{MOST_LADDERS, Report};
pub use style::{Look, clean};
pub use summary::{ReadFile, Shown, Summary};
pub use terminal::Terminal;
pub use whole_call::{Drawn, WholeCall, deciding};
pub use words::has_failed;

/// Where outputs are written, one after another.
pub trait Sink {
    /// Takes one output.
    fn output(&mut self, output: &Output) -> io::Result<()>;

    /// Takes a call that was still up when the capture ended, as if it had ended then.
    fn open_call(&mut self, _call: &Call) -> io::Result<()> {
        Ok(())
    }

    /// Takes all messages of a call that somebody asked for.
    fn whole_call(&mut self, _call: &WholeCall) -> io::Result<()> {
        Ok(())
    }

    /// The run is over.
    fn summary(&mut self, summary: &Summary) -> io::Result<()>;

    /// Writes out what is buffered.
    fn flush(&mut self) -> io::Result<()>;
}
