//! What the kernel programs log of frames they could not hand over: rare, and off unless asked for.

use std::fmt;
use std::io::{self, Write as _};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::Error;

/// The reading end of the programs' log.
pub(super) struct KernelLog(EbpfLogger<StandardError>);

impl KernelLog {
    /// Takes the log of programs not yet loaded.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, Error> {
        EbpfLogger::init_with_logger(ebpf, StandardError)
            .map(Self)
            .map_err(|error| Error::Maps(error.to_string()))
    }

    /// Prints what is there.
    pub(super) fn print(&mut self) {
        self.0.flush();
    }
}

impl fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelLog")
    }
}

struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let _ = writeln!(io::stderr(), "sipobs: kernel: {}", record.args());
    }

    fn flush(&self) {}
}
