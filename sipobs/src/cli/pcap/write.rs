//! `-w`: the packets of the calls that are shown, in a file to hand on.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What to hand on.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to hand on")]
pub(super) struct Evidence {
    /// Write the packets of what is shown, or of every call with a transfer or a flag, to a pcapng file: all legs, each
    /// packet with a comment that says what it is for the verdict; `-` is standard output
    #[arg(long, short = 'w', value_name = "FILE")]
    write: Option<PathBuf>,
    /// Rewrite numbers, names and credentials in it (with `=addresses` IP addresses too), in place: every length and every
    /// verdict stays, and what one run replaces by the same was the same
    #[arg(long, value_name = "WHAT", requires = "write", num_args = 0..=1, require_equals = true, default_missing_value = "parties")]
    redact: Option<Redact>,
}

/// What is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Redact {
    /// Numbers, names and credentials
    Parties,
    /// And IP addresses
    Addresses,
}
