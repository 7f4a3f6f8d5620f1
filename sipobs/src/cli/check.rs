//! `sipobs check`: whether this machine can capture.

use clap::Args;

use super::{Exit, Failure};

/// Say whether this machine can capture, what would attach, and why not
#[derive(Debug, Args)]
#[command(after_help = super::EXIT_CODES)]
pub(super) struct Check {
    /// Interfaces to look at; all that are up, if none is given
    #[arg(long, short = 'i', value_name = "NAME")]
    interface: Vec<String>,
}

pub(super) fn check(args: &Check) -> Result<Exit, Failure> {
    let _ = &args.interface;
    Err(super::run::without_live())
}
