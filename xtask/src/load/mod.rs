//! `cargo xtask load`: how much live capture takes before it loses a message, and what a flood does to it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::genuine::Calls;
use self::run::{Outcome, Pace, Plan, run as run_one};
use crate::bench::machine;
use crate::children::check_interrupt;
use crate::daemon::Metrics;
use crate::setup::{self, Need};
use crate::traffic::{self, Dice, Mix};
use crate::wire::Trace;
use crate::{daemon, root, scratch};

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
    /// Forged INVITEs a second.
    #[arg(long, default_value_t = 25_000)]
    flood_rate: u64,
    /// Malformed messages, in thousands.
    #[arg(long, default_value_t = 1_000)]
    malformed: u64,
    /// Genuine calls among them.
    #[arg(long, default_value_t = 1_000)]
    calls: usize,
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
}

/// Seconds in which the malformed messages come.
const MALFORMED_SECONDS: u64 = 60;

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(&[Need::Live, Need::Lab, Need::Checks])?;
    let sipobs = daemon::build(true, true)?;
    if let Some(reason) = crate::live::impossible(&sipobs) {
        bail!("{reason}");
    }
    let wanted = |kind: Kind| options.runs.is_empty() || options.runs.contains(&kind);
    let mut report = format!("cargo xtask load\n\n{}", machine()?);
    if wanted(Kind::Knee) {
        knee(&sipobs, options.millions, options.from, &mut report)?;
    }
    if wanted(Kind::Flood) {
        let seconds = options.flood_seconds;
        let calls = Calls::spread(options.calls, seconds)?;
        sound(&sipobs, &calls)?;
        let capture = mixed("flood", &calls, seconds * options.flood_rate, seconds, hostile::invite)?;
        let outcome = among(&sipobs, "flood", &capture, &calls)?;
        let count = seconds * options.flood_rate;
        writeln!(report, "\n{count} INVITEs from forged addresses in {seconds} s\n")?;
        told(&mut report, &calls, &outcome)?;
        fs::remove_file(&capture)?;
    }
    if wanted(Kind::Malformed) {
        let count = options.malformed * 1_000;
        let calls = Calls::spread(options.calls, MALFORMED_SECONDS)?;
        sound(&sipobs, &calls)?;
        let capture = mixed("malformed", &calls, count, MALFORMED_SECONDS, hostile::malformed)?;
        let outcome = among(&sipobs, "malformed", &capture, &calls)?;
        writeln!(report, "\n{count} malformed messages in {MALFORMED_SECONDS} s\n")?;
        told(&mut report, &calls, &outcome)?;
        fs::remove_file(&capture)?;
    }
    print!("{report}");
    if options.save {
        ensure!(options.runs.is_empty(), "only the result of all runs is saved");
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
fn knee(sipobs: &Path, millions: f64, from: u64, report: &mut String) -> Result<()> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred thousand")]
    let calls = (millions * 1e6 / FRAMES_PER_CALL * 1.02) as u64;
    let capture = scratch("load/traffic")?.join("calls.pcap");
    traffic::write(Mix { calls, rate: 200.0, ..Mix::default() }, &capture, &capture.with_extension("truth"))?;
    writeln!(report, "\nCalls and their transfers, no two alike, each rate for {TRIAL} s\n")?;
    writeln!(report, "  {:>10} {:>10} {:>10} {:>10}", "messages/s", "sent", "delivered", "lost")?;
    let trial = |rate: u64, limit: u64| {
        let pace = Pace::Rate(rate, limit);
        let plan =
            Plan { name: "knee", capture: &capture, agent: PLATFORM, pace, attempts: 0, collected: false };
        run_one(sipobs, &plan)
    };
    let mut row = |outcome: &Outcome| -> Result<()> {
        let Outcome { rate, frames, .. } = outcome;
        let line = format!("  {rate:>10} {:>10} {:>10} {:>10}", frames.seen, frames.delivered, frames.lost);
        println!("{line}");
        Ok(writeln!(report, "{line}")?)
    };
    let (mut asked, mut best) = (from, 0);
    loop {
        check_interrupt()?;
        let outcome = trial(asked, asked * TRIAL)?;
        row(&outcome)?;
        if outcome.frames.lost > 0 {
            break;
        }
        // The generator's own limit.
        let done = outcome.rate <= best;
        best = best.max(outcome.rate);
        if done {
            break;
        }
        asked = times(asked, STEP);
    }
    ensure!(best > 0, "frames are lost at {from} a second");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few millions")]
    let count = (millions * 1e6) as u64;
    let long = trial(times(best, BELOW), count)?;
    row(&long)?;
    ensure!(long.frames.seen >= count, "the capture has only {} frames", long.frames.seen);
    ensure!(long.frames.lost == 0, "{} of {count} were lost at {} a second", long.frames.lost, long.rate);
    writeln!(
        report,
        "\nThe knee is above {best} messages/s. At {} all of {} were read, in {:.1} s and {:.1} MiB.",
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

/// The calls alone, read as a file: what is wrong there is not the flood's doing.
fn sound(sipobs: &Path, calls: &Calls) -> Result<()> {
    let path = scratch("load/alone")?.join("calls.pcap");
    let mut trace = Trace::new(BufWriter::new(File::create(&path)?))?;
    for (time, frame) in &calls.frames {
        trace.frame(*time, frame.clone());
    }
    trace.finish()?;
    let comparison = calls.compare(&daemon::read_capture(sipobs, &path)?);
    ensure!(
        comparison.wrong.is_empty() && comparison.others == 0,
        "the calls are judged wrong by themselves: {:#?}",
        &comparison.wrong[..comparison.wrong.len().min(10)]
    );
    Ok(())
}

/// A capture of the calls, and among them `count` messages by `hostile` at even distances.
fn mixed(
    name: &str,
    calls: &Calls,
    count: u64,
    seconds: u64,
    hostile: fn(&mut Trace<BufWriter<File>>, u64, &mut Dice),
) -> Result<PathBuf> {
    let path = scratch(&format!("load/{name}-capture"))?.join("mixed.pcap");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut trace = Trace::new(BufWriter::new(file))?;
    for (time, frame) in &calls.frames {
        trace.frame(*time, frame.clone());
    }
    let mut dice = Dice(1);
    for number in 0..count {
        let time = number * seconds * 1_000_000 / count;
        hostile(&mut trace, time, &mut dice);
        if number % 1_024 == 0 {
            trace.settle(time)?;
        }
    }
    trace.finish()?;
    Ok(path)
}

/// Sends the capture with a collector behind the daemon. Every call must be judged right.
fn among(sipobs: &Path, name: &str, capture: &Path, calls: &Calls) -> Result<Outcome> {
    let plan = Plan {
        name,
        capture,
        agent: genuine::AGENT,
        pace: Pace::Own,
        attempts: calls.attempts(),
        collected: true,
    };
    run_one(sipobs, &plan)
}

fn told(report: &mut String, calls: &Calls, outcome: &Outcome) -> Result<()> {
    let comparison = calls.compare(&outcome.lines);
    let Outcome { frames, peak_kib, metrics, spans, .. } = outcome;
    let count = |name: &str, labels: &[&str]| metrics.sum(name, labels).unwrap_or(0);
    let spans =
        spans.iter().filter(|span| span.fields.get("Name").is_some_and(|name| name == "sip.transfer"));
    let lines = [
        format!("{} of {} genuine calls judged right", comparison.right, calls.len()),
        format!(
            "{} spans at the collector: {} attempts in genuine calls, {} in others",
            spans.count(),
            calls.attempts(),
            comparison.others
        ),
        format!("{} frames: {} delivered, {} lost", frames.seen, frames.delivered, frames.lost),
        format!(
            "{} messages: {} placed in a dialog, {} not",
            count("sipobs_messages_total", &[]),
            count("sipobs_messages_understood_total", &[]),
            count("sipobs_messages_unparsed_total", &[]),
        ),
        format!("not understood: {}", by_reason(metrics, "sipobs_not_understood_total", "reason")),
        format!("evicted: {}", by_reason(metrics, "sipobs_evicted_total", "table")),
        format!("{:.1} MiB resident at most; the tables may take 256 MiB", mebibytes(*peak_kib)),
    ];
    for line in lines {
        writeln!(report, "  {line}")?;
    }
    for wrong in comparison.wrong.iter().take(10) {
        println!("{wrong}");
    }
    ensure!(comparison.wrong.is_empty(), "{} calls were judged wrong", comparison.wrong.len());
    ensure!(mebibytes(*peak_kib) < 256.0 * 1.1, "the daemon took {:.1} MiB", mebibytes(*peak_kib));
    Ok(())
}

/// The series of a counter that are not 0: `12 missing, 3 cseq`.
fn by_reason(metrics: &Metrics, name: &str, label: &str) -> String {
    let series = metrics.text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let named = series.filter_map(|series| {
        let (labels, count) = series.rsplit_once("} ")?;
        let value = labels.split(&format!("{label}=\"")).nth(1)?.split('"').next()?;
        (count != "0").then(|| format!("{count} {value}"))
    });
    let told = named.collect::<Vec<_>>().join(", ");
    if told.is_empty() { "nothing".into() } else { told }
}
