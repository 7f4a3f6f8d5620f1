//! `sipobs run`: the daemon.

use anyhow::anyhow;
use clap::Args;

use super::{Exit, Failure, Settings};

/// Watch interfaces and export what is found
#[derive(Debug, Args)]
#[command(after_help = super::EXIT_CODES)]
pub(super) struct Run {
    /// Interface to watch; may be given several times
    #[arg(long, short = 'i', value_name = "NAME", required = true)]
    interface: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(args: &Run) -> Result<Exit, Failure> {
    let _ = (&args.interface, &args.settings);
    Err(without_live())
}

pub(super) fn without_live() -> Failure {
    Failure {
        exit: Exit::Capture,
        error: anyhow!(
            "this build reads capture files only; live capture needs Linux and a build with \
             `cargo build --release --features live` (see README, \"Building\")"
        ),
    }
}
