//! Where verdicts go while files are read.

use std::io;

use sipobs::capture::file::{Capture, FileError};
use sipobs::config::Config;
use sipobs::export::{Report, Sink, Summary, WholeCall};
use sipobs::follow::Keep;
use sipobs::record::{Call, Output};

use super::reading::Asked;
use super::{report, whole};

/// What is printed, and a report of the same.
pub(super) struct Sinks {
    /// None where a report alone is wanted.
    pub(super) printed: Option<Box<dyn Sink>>,
    /// How much of each message is told there of a whole call.
    pub(super) keep: Keep,
    /// A whole call is drawn there.
    pub(super) draws: bool,
    pub(super) report: Option<Report>,
}

impl Sink for Sinks {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        self.printed.iter_mut().try_for_each(|sink| sink.output(output))?;
        self.report.iter_mut().try_for_each(|sink| sink.output(output))
    }

    fn open_call(&mut self, call: &Call) -> io::Result<()> {
        self.printed.iter_mut().try_for_each(|sink| sink.open_call(call))
    }

    fn whole_call(&mut self, call: &WholeCall) -> io::Result<()> {
        self.printed.iter_mut().try_for_each(|sink| sink.whole_call(call))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.printed.iter_mut().try_for_each(|sink| sink.summary(summary))?;
        self.report.iter_mut().try_for_each(|sink| sink.summary(summary))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.printed.iter_mut().try_for_each(|sink| sink.flush())
    }
}

impl Sinks {
    /// Reads the capture again, by `read_again`, for all messages of the one call that was asked for, if one was, and of what
    /// a report tells in full. `false` if not all of it could be read.
    pub(super) fn add_whole_calls(
        &mut self,
        config: &Config,
        is_of_one: bool,
        asked: &[Asked],
        read_again: impl Fn() -> Result<Capture, FileError>,
    ) -> io::Result<bool> {
        let mut all = true;
        if is_of_one && self.draws {
            all &= whole::show(config, asked, self.keep, &read_again, self)?;
        }
        if let Some(report) = &mut self.report {
            all &= report::add_whole_calls(report, config, asked, &read_again)?;
        }
        Ok(all)
    }
}
