//! `cargo xtask load`: how much live capture takes before it loses a message, and what a flood does to it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use clap::Args;

use self::attack::Attack;
use self::run::{Outcome, Pace, Plan, run as run_one};
use crate::bench::machine;
use crate::children::check_interrupt;
use crate::live::RINGS;
use crate::setup::{self, Need};
use crate::traffic::{self, Mix};
use crate::{daemon, root, scratch};

mod attack;
mod genuine;
mod hostile;
mod run;

#[derive(Args)]
pub(crate) struct Options {
    /// Messages of the long run, in millions.
    #[arg(long, default_value_t = 3.2)]
    millions: f64,
    /// The first rate tried, in messages a second.
    #[arg(long, default_value_t = 20_000)]
    from: u64,
    /// Length of the flood, in seconds.
    #[arg(long, default_value_t = 120)]
    flood_seconds: u64,
    /// Forged INVITEs a second; of REFERs and NOTIFYs, each of which is an attempt, a quarter.
    #[arg(long, default_value_t = 20_000)]
    flood_rate: u64,
    /// Malformed messages, in thousands.
    #[arg(long, default_value_t = 1_000)]
    malformed: u64,
    /// Genuine calls among them.
    #[arg(long, default_value_t = 1_000)]
    calls: usize,
    /// Only through this kind of rings.
    #[arg(long, value_name = "KIND", value_parser = RINGS)]
    ring: Option<String>,
    /// Only these runs.
    #[arg(value_enum)]
    runs: Vec<Kind>,
    /// Write the result to xtask/load-results.txt, to be committed.
    #[arg(long)]
    save: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Calls and transfers, ever faster, until a message is lost; then a long run below that.
    Knee,
    /// INVITEs from forged addresses.
    Flood,
    /// Messages that are none.
    Malformed,
    /// REFERs and NOTIFYs from forged addresses.
    Referrals,
}

/// Seconds in which the malformed messages come, and the referrals.
const ATTACK_SECONDS: u64 = 60;

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(&[Need::Live, Need::Lab, Need::Checks])?;
    let sipobs = daemon::build(true, true)?;
    if let Some(reason) = crate::live::impossible(&sipobs) {
        bail!("{reason}");
    }
    let wanted = |kind: Kind| options.runs.is_empty() || options.runs.contains(&kind);
    let attacks = [
        (
            Kind::Flood,
            Attack {
                name: "flood",
                what: "INVITEs from forged addresses",
                count: options.flood_seconds * options.flood_rate,
                seconds: options.flood_seconds,
                message: hostile::invite,
                has_attempts: false,
            },
        ),
        (
            Kind::Malformed,
            Attack {
                name: "malformed",
                what: "malformed messages",
                count: options.malformed * 1_000,
                seconds: ATTACK_SECONDS,
                message: hostile::malformed,
                has_attempts: true,
            },
        ),
        (
            Kind::Referrals,
            Attack {
                name: "referrals",
                what: "REFERs and NOTIFYs from forged addresses",
                count: ATTACK_SECONDS * options.flood_rate / 4,
                seconds: ATTACK_SECONDS,
                message: hostile::referral,
                has_attempts: true,
            },
        ),
    ];
    let mut report = format!("cargo xtask load\n\n{}", machine()?);
    for ring in RINGS.into_iter().filter(|ring| options.ring.as_ref().is_none_or(|only| only == ring)) {
        writeln!(report, "\n── through {}", if ring == "perf" { "perf rings" } else { "BPF ring buffers" })?;
        if wanted(Kind::Knee) {
            knee(&sipobs, ring, options, &mut report)?;
        }
        for (_, attack) in attacks.iter().filter(|(kind, _)| wanted(*kind)) {
            attack.run(&sipobs, ring, options.calls, &mut report)?;
        }
    }
    print!("{report}");
    if options.save {
        ensure!(options.runs.is_empty() && options.ring.is_none(), "only the result of all runs is saved");
        fs::write(root().join("xtask/load-results.txt"), report)?;
    }
    Ok(())
}

/// The platform in generated traffic.
const PLATFORM: &str = "10.78.0.2/32";
/// By how much each rate is more than the one before.
const STEP: f64 = 1.25;
/// How long each rate is tried, in seconds.
const TRIAL: u64 = 8;
/// The long run's rate, as a share of the highest without loss.
const BELOW: f64 = 0.9;
/// Frames of a generated call, about.
const FRAMES_PER_CALL: f64 = 8.5;

/// Calls at rates that grow until a frame is lost, and then many at a rate below that.
fn knee(sipobs: &Path, ring: &str, options: &Options, report: &mut String) -> Result<()> {
    let count = times(1_000_000, options.millions);
    let calls = times(count, 1.02 / FRAMES_PER_CALL);
    let capture = scratch("load/traffic")?.join("calls.pcap");
    traffic::write(Mix { calls, rate: 200.0, ..Mix::default() }, &capture, &capture.with_extension("truth"))?;
    writeln!(report, "\nCalls and their transfers, no two alike, each rate for {TRIAL} s\n")?;
    writeln!(report, "  {:>10} {:>10} {:>10} {:>10}", "messages/s", "sent", "delivered", "lost")?;
    let trial = |rate: u64, limit: u64| {
        let pace = Pace::Rate(rate, limit);
        let plan = Plan { name: "knee", ring, capture: &capture, agent: PLATFORM, pace, wanted: None };
        run_one(sipobs, &plan)
    };
    let mut row = |outcome: &Outcome| -> Result<()> {
        let Outcome { rate, frames, .. } = outcome;
        let line = format!("  {rate:>10} {:>10} {:>10} {:>10}", frames.seen, frames.delivered, frames.lost);
        println!("{line}");
        Ok(writeln!(report, "{line}")?)
    };
    let (mut asked, mut best) = (options.from, 0);
    let end = loop {
        check_interrupt()?;
        let outcome = trial(asked, asked * TRIAL)?;
        row(&outcome)?;
        if outcome.frames.lost > 0 {
            break format!("The knee lies between {best} and {} messages/s.", outcome.rate);
        }
        if outcome.rate <= best {
            break format!("The sender makes no more than {best} messages/s: the knee is above that.");
        }
        best = outcome.rate;
        asked = times(asked, STEP);
    };
    ensure!(best > 0, "frames are lost at {} a second", options.from);
    let long = trial(times(best, BELOW), count)?;
    row(&long)?;
    ensure!(long.frames.seen >= count, "the capture has only {} frames", long.frames.seen);
    ensure!(long.frames.lost == 0, "{} of {count} were lost at {} a second", long.frames.lost, long.rate);
    writeln!(
        report,
        "\n{end} At {} all of {} were read, in {:.1} s and {:.1} MiB.",
        long.rate,
        long.frames.seen,
        long.seconds,
        mebibytes(long.peak_kib)
    )?;
    fs::remove_file(&capture)?;
    Ok(())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn times(rate: u64, factor: f64) -> u64 {
    (rate as f64 * factor) as u64
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
