//! `cargo xtask traffic`: a capture of calls to a voice-agent platform with its transfers, and the truth of it.
//!
//! The traffic is the hard case of leg linking: second legs that share only host, number and time with their
//! calls, on a number with many calls up, among unrelated outbound calls from the same host. Beside the capture
//! stands a JSONL file with one line for each outbound leg: `target_call_id`, and the `call_id` of its call and the
//! `outcome`, both null for an unrelated one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

pub(crate) use self::plan::{Dice, Mix};
use self::plan::{Fate, Plan, Role, Story};
use crate::wire::Trace;

pub(crate) mod dense;
mod messages;
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times and dice are small")]
mod plan;

/// Settings of the generator.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    shape: Option<Shape>,
    /// Inbound calls.
    #[arg(long, default_value_t = 3600)]
    calls: u64,
    /// Inbound calls a second.
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Calls that the busy number has up at once, at most 9 in 10 of all.
    #[arg(long, default_value_t = 50.0)]
    busy: f64,
    /// Share of answered calls that get transferred.
    #[arg(long, default_value_t = 0.125)]
    transferred: f64,
    /// Share of transfers that show the caller's number.
    #[arg(long, default_value_t = 0.2)]
    caller_id: f64,
    /// Unrelated outbound calls for each transferred one.
    #[arg(long, default_value_t = 0.2)]
    unrelated: f64,
    /// Spread of the half second between the ends of two legs, in seconds.
    #[arg(long, default_value_t = 0.04)]
    spread: f64,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The capture to write; the truth goes beside it, with `.truth.jsonl` added to the name.
    #[arg(short, long, required_unless_present = "calibrate")]
    output: Option<PathBuf>,
    /// Let sipobs read the capture and print how far its confidence in links holds.
    #[arg(long)]
    calibrate: bool,
}

/// Another shape of traffic.
#[derive(clap::Subcommand)]
enum Shape {
    /// Calls at an even pace, each up for the same time, every so many-th transferred: to see how sipobs bears many.
    Dense(dense::Options),
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(Shape::Dense(options)) = &options.shape {
        return dense::run(options);
    }
    ensure!(options.rate > 0.0, "--rate must be more than 0");
    let mix = Mix {
        calls: options.calls,
        rate: options.rate,
        busy: options.busy,
        transferred: options.transferred,
        caller_id: options.caller_id,
        unrelated: options.unrelated,
        spread: options.spread,
        seed: options.seed,
    };
    let output = match &options.output {
        Some(output) => output.clone(),
        None => crate::scratch("traffic")?.join("traffic.pcap"),
    };
    let truth = truth_beside(&output);
    write(mix, &output, &truth)?;
    if options.calibrate {
        let report = Report::of(&truth, &judged_by_sipobs(&output)?)?;
        print!("{report}");
    }
    Ok(())
}

/// Writes the capture and its truth.
pub(crate) fn write(mix: Mix, capture: &Path, truth: &Path) -> Result<()> {
    let create = |path: &Path| File::create(path).with_context(|| format!("can't write {}", path.display()));
    let mut trace = Trace::new(BufWriter::new(create(capture)?))?;
    let mut lines = BufWriter::new(create(truth)?);
    let seed = mix.seed;
    for story in Plan::new(mix) {
        if let Some(first) = story.first() {
            trace.settle(first.invited)?;
        }
        for leg in &story {
            messages::write(&mut trace, leg, seed);
        }
        write_truth(&mut lines, &story, seed)?;
    }
    trace.finish()?;
    lines.flush()?;
    Ok(())
}

fn write_truth(lines: &mut impl Write, story: &Story, seed: u64) -> Result<()> {
    let call = story.first().filter(|leg| leg.role == Role::Inbound);
    for leg in story.iter().filter(|leg| leg.role != Role::Inbound) {
        let abandoned = call.is_some_and(|call| call.fate.over() < leg.fate.over());
        let outcome = match leg.role {
            Role::Unrelated => Value::Null,
            _ => leg.fate.outcome(abandoned && matches!(leg.fate, Fate::Cancelled { .. })).into(),
        };
        let line = json!({
            "target_call_id": messages::call_id(leg, seed),
            "call_id": call.map(|call| messages::call_id(call, seed)),
            "outcome": outcome,
        });
        writeln!(lines, "{line}")?;
    }
    Ok(())
}

fn truth_beside(capture: &Path) -> PathBuf {
    let mut name = capture.as_os_str().to_owned();
    name.push(".truth.jsonl");
    name.into()
}

/// What `sipobs pcap` says of the capture, one value a line.
fn judged_by_sipobs(capture: &Path) -> Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Command::new(cargo)
        .args(["run", "--quiet", "--package", "sipobs", "--no-default-features", "--", "pcap"])
        .arg(capture)
        .args(["--format", "jsonl"])
        .current_dir(crate::root())
        .output()
        .context("can't run sipobs")?;
    ensure!(run.status.success(), "sipobs failed: {}", String::from_utf8_lossy(&run.stderr));
    run.stdout.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

/// How links compare with the truth.
#[derive(Debug, Default)]
struct Report {
    /// By outcome that was planned: second legs, of them reported, with that outcome.
    outcomes: BTreeMap<String, [u32; 3]>,
    /// By confidence in hundredths: links given, right.
    links: BTreeMap<u32, [u32; 2]>,
    ambiguous: u32,
    unrelated: u32,
    unrelated_linked: u32,
    unrelated_ambiguous: u32,
    /// Transfers of which the truth knows nothing.
    unknown: u32,
}

impl Report {
    fn of(truth: &Path, judged: &[Value]) -> Result<Self> {
        let mut transfers: BTreeMap<&str, &Value> = BTreeMap::new();
        let mut report = Self::default();
        for line in judged.iter().filter(|line| line["kind"] == "transfer") {
            match line["target_call_id"].as_str() {
                Some(leg) => drop(transfers.insert(leg, line)),
                None => report.unknown += 1,
            }
        }
        for line in BufReader::new(File::open(truth)?).lines() {
            let truth: Value = serde_json::from_str(&line?)?;
            let leg = truth["target_call_id"].as_str().context("the truth lacks target_call_id")?;
            report.count(&truth, transfers.remove(leg));
        }
        report.unknown += u32::try_from(transfers.len())?;
        Ok(report)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "confidence is 0 to 1")]
    fn count(&mut self, truth: &Value, transfer: Option<&Value>) {
        let ambiguous = transfer.is_some_and(|transfer| transfer["link"]["method"] == "ambiguous");
        if truth["call_id"].is_null() {
            self.unrelated += 1;
            self.unrelated_ambiguous += u32::from(ambiguous);
            self.unrelated_linked += u32::from(transfer.is_some() && !ambiguous);
        } else {
            let outcome = truth["outcome"].as_str().unwrap_or_default().to_owned();
            let count = self.outcomes.entry(outcome).or_default();
            count[0] += 1;
            count[1] += u32::from(transfer.is_some());
            count[2] += u32::from(transfer.is_some_and(|transfer| transfer["outcome"] == truth["outcome"]));
            self.ambiguous += u32::from(ambiguous);
        }
        if let Some(transfer) = transfer.filter(|_| !ambiguous) {
            let confidence = transfer["link"]["confidence"].as_f64().unwrap_or_default();
            let count = self.links.entry((confidence * 100.0).round() as u32).or_default();
            count[0] += 1;
            count[1] += u32::from(transfer["call_id"] == truth["call_id"]);
        }
    }

    fn between(&self, from: u32, to: u32) -> [u32; 2] {
        self.links.range(from..to).fold([0, 0], |sum, (_, one)| [sum[0] + one[0], sum[1] + one[1]])
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:<16} {:>8} {:>8} {:>8}", "second legs", "there", "found", "right")?;
        for (outcome, [there, found, right]) in &self.outcomes {
            writeln!(f, "{outcome:<16} {there:>8} {found:>8} {right:>8}")?;
        }
        writeln!(f, "\n{:<16} {:>8} {:>8} {:>8}", "confidence", "given", "right", "share")?;
        for (from, to) in [(0, 60), (60, 70), (70, 80), (80, 90), (90, 95), (95, 99), (99, 101), (80, 101)] {
            let [given, right] = self.between(from, to);
            let share = f64::from(right) / f64::from(given.max(1));
            let name = format!("{:.2} to {:.2}", f64::from(from) / 100.0, f64::from(to.min(100)) / 100.0);
            writeln!(f, "{name:<16} {given:>8} {right:>8} {share:>8.3}")?;
        }
        let Self { ambiguous, unrelated, unrelated_linked, unrelated_ambiguous, unknown, .. } = self;
        writeln!(f, "\nambiguous: {ambiguous}")?;
        writeln!(f, "unrelated: {unrelated}, linked {unrelated_linked}, ambiguous {unrelated_ambiguous}")?;
        writeln!(f, "transfers nobody made: {unknown}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let dir = crate::scratch("traffic-test").unwrap();
        let file = |name: &str| {
            let (capture, truth) = (dir.join(name), dir.join(format!("{name}.truth")));
            write(Mix { calls: 50, ..Mix::default() }, &capture, &truth).unwrap();
            (std::fs::read(capture).unwrap(), std::fs::read_to_string(truth).unwrap())
        };
        let (capture, truth) = file("once");
        assert!((capture.clone(), truth.clone()) == file("twice"));
        assert!(capture.len() > 100_000 && truth.lines().count() > 3);
    }
}
