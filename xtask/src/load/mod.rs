//! `cargo xtask load`: how much live capture takes before it loses a message, and what a flood does to it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use clap::Args;

use self::attack::Attack;
use self::run::{Outcome, Pace, Plan, Wanted, run as run_one};
use crate::bench::machine;
use crate::children::check_interrupt;
use crate::live::RINGS;
use crate::setup::{self, Need};
use crate::traffic::dense::{self, Dense};
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
    /// Messages that are judged and exported at one rate, in millions.
    #[arg(long, default_value_t = 1.0)]
    cost_millions: f64,
    /// That rate, in messages a second.
    #[arg(long, default_value_t = 40_000)]
    cost_rate: u64,
    /// Length of the flood, in seconds.
    #[arg(long, default_value_t = 120)]
    flood_seconds: u64,
    /// Forged INVITEs a second; of REFERs and NOTIFYs, each of which is an attempt, a quarter.
    #[arg(long, default_value_t = 20_000)]
    flood_rate: u64,
    /// Malformed messages, in thousands.
    #[arg(long, default_value_t = 1_000)]
    malformed: u64,
    /// Genuine calls among them; a fifth of them among calls that are set up.
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
    /// What a million messages cost when they are judged and exported.
    Cost,
    /// INVITEs from forged addresses.
    Flood,
    /// Messages that are none.
    Malformed,
    /// REFERs and NOTIFYs from forged addresses.
    Referrals,
    /// Calls, set up and never ended, from forged addresses, from one host, and in the trunk's name.
    Confirmed,
}

/// Seconds in which the malformed messages come, and the referrals.
const ATTACK_SECONDS: u64 = 60;

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(&[Need::Live, Need::Lab, Need::Checks])?;
    let sipobs = daemon::build_for_nodes()?;
    if let Some(reason) = crate::live::impossible(&sipobs) {
        bail!("{reason}");
    }
    let wanted = |kind: Kind| options.runs.is_empty() || options.runs.contains(&kind);
    let attacks = attacks(options);
    let mut report = format!("cargo xtask load\n\n{}", machine()?);
    for ring in RINGS.into_iter().filter(|ring| options.ring.as_ref().is_none_or(|only| only == ring)) {
        writeln!(report, "\n── through {}", if ring == "perf" { "perf rings" } else { "BPF ring buffers" })?;
        if wanted(Kind::Knee) {
            knee(&sipobs, ring, options, &mut report)?;
        }
        if wanted(Kind::Cost) {
            cost(&sipobs, ring, options, &mut report)?;
        }
        for (_, attack) in attacks.iter().filter(|(kind, _)| wanted(*kind)) {
            attack.run(&sipobs, ring, &mut report)?;
        }
    }
    print!("{report}");
    if options.save {
        ensure!(options.runs.is_empty() && options.ring.is_none(), "only the result of all runs is saved");
        fs::write(root().join("xtask/load-results.txt"), report)?;
    }
    Ok(())
}

fn attacks(options: &Options) -> Vec<(Kind, Attack<'static>)> {
    let flood = Attack {
        name: "flood",
        what: "INVITEs from forged addresses",
        count: options.flood_seconds * options.flood_rate,
        seconds: options.flood_seconds,
        message: hostile::invite,
        has_attempts: false,
        stories: genuine::STORIES,
        calls: options.calls,
        may_be_wrong: 0,
    };
    let malformed = Attack {
        name: "malformed",
        what: "malformed messages",
        count: options.malformed * 1_000,
        seconds: ATTACK_SECONDS,
        message: hostile::malformed,
        has_attempts: true,
        ..flood
    };
    let referrals = Attack {
        name: "referrals",
        what: "REFERs and NOTIFYs from forged addresses",
        count: ATTACK_SECONDS * options.flood_rate / 4,
        message: hostile::referral,
        ..malformed
    };
    let confirmed = |name, what, message| {
        let attack = Attack {
            name,
            what,
            // Three messages each.
            count: ATTACK_SECONDS * options.flood_rate / 3,
            seconds: ATTACK_SECONDS,
            message,
            stories: genuine::REFERS,
            calls: options.calls / 5,
            may_be_wrong: options.calls / 5 / 40,
            ..flood
        };
        (Kind::Confirmed, attack)
    };
    vec![
        (Kind::Flood, flood),
        (Kind::Malformed, malformed),
        (Kind::Referrals, referrals),
        confirmed("anywhere", "calls set up from forged addresses", hostile::call_from_anywhere),
        confirmed("one-host", "calls set up from one host", hostile::call_from_one_host),
        confirmed("trunk", "calls set up in the trunk's name", hostile::call_from_the_trunk),
    ]
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
    writeln!(
        report,
        "  {:>10} {:>10} {:>10} {:>10} {:>16}",
        "messages/s", "sent", "delivered", "lost", "CPU s a million"
    )?;
    let trial = |rate: u64, limit: u64| {
        let pace = Pace::Rate(rate, Some(limit));
        let plan = Plan { name: "knee", ring, capture: &capture, agent: PLATFORM, pace, wanted: None };
        run_one(sipobs, &plan)
    };
    let mut row = |outcome: &Outcome| -> Result<()> {
        let Outcome { rate, frames, .. } = outcome;
        let cpu = outcome.cpu_a_million();
        let line = format!(
            "  {rate:>10} {:>10} {:>10} {:>10} {cpu:>16.2}",
            frames.seen, frames.delivered, frames.lost
        );
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

/// Dense calls at one rate, with a collector behind the daemon: every verdict, and every span.
fn cost(sipobs: &Path, ring: &str, options: &Options, report: &mut String) -> Result<()> {
    // One of ten calls is transferred, which takes six messages more than the seven of every call.
    let shape = Dense { calls: times(1_000_000, options.cost_millions / 7.6), ..Dense::default() };
    let attempts = usize::try_from(shape.transfers())?;
    let capture = scratch("load/traffic")?.join("dense.pcap");
    shape.write(&capture)?;
    let plan = Plan {
        name: "cost",
        ring,
        capture: &capture,
        agent: dense::AGENT,
        pace: Pace::Rate(options.cost_rate, None),
        wanted: Some(Wanted { attempts, mark: dense::MARK, may_miss: false }),
    };
    let outcome = run_one(sipobs, &plan)?;
    fs::remove_file(&capture)?;
    let succeeded = outcome
        .lines
        .iter()
        .filter(|line| line["kind"] == "transfer" && line["outcome"] == "succeeded")
        .count();
    let line = format!(
        "Judged and exported at {} messages/s: {:.2} CPU s a million messages, {:.1} MiB; {} of {} read, {succeeded} of \
         {attempts} transfers right, and {} of their spans at the collector.",
        outcome.rate,
        outcome.cpu_a_million(),
        mebibytes(outcome.peak_kib),
        outcome.frames.delivered,
        outcome.frames.seen,
        outcome.spans
    );
    println!("{line}");
    writeln!(report, "\n{line}")?;
    ensure!(outcome.frames.lost == 0, "{} messages were lost", outcome.frames.lost);
    ensure!(
        (succeeded, outcome.spans) == (attempts, attempts),
        "not every transfer was judged right and exported"
    );
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
