//! `cargo xtask bench`: one capture, read by sipobs and by the readers that people know, in the same run; and
//! what the kernel programs cost.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::children::{self, Running, output, wait_for};
use crate::setup::{self, Need};
use crate::{daemon, root, scratch};

const LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(Args)]
pub(crate) struct Options {
    /// Calls in the larger capture; the smaller has a fifth of them.
    #[arg(long, default_value_t = 50_000)]
    calls: u64,
    /// Runs of each reader; the fastest counts.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Write the result to xtask/bench-results.txt, to be committed.
    #[arg(long)]
    save: bool,
}

/// What one reader needed for one capture.
struct Cost {
    seconds: f64,
    peak_kib: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(&[Need::Comparisons, Need::Live])?;
    let sipobs = daemon::build(false, true)?;
    let dir = scratch("bench")?;
    let mut report = format!("cargo xtask bench\n\n{}{}", machine()?, readers_versions());
    for calls in [options.calls / 5, options.calls] {
        let capture = generate(&dir, calls)?;
        let messages = messages(&sipobs, &capture)?;
        let bytes = capture.metadata()?.len();
        writeln!(report, "\n{calls} calls: {messages} SIP messages, {bytes} bytes of pcap\n")?;
        writeln!(
            report,
            "  {:8} {:>8} {:>12} {:>8} {:>10} {:>9}",
            "reader", "seconds", "messages/s", "MB/s", "peak MiB", "sipobs is"
        )?;
        let mut first = None;
        for (name, command) in readers(&sipobs, &capture) {
            let cost = fastest(name, &command, &dir, options.runs)?;
            let base = *first.get_or_insert(cost.seconds);
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            writeln!(
                report,
                "  {name:8} {:8.2} {:12.0} {:8.1} {:10.1} {:8.1}×",
                cost.seconds,
                messages as f64 / cost.seconds,
                bytes as f64 / cost.seconds / 1e6,
                cost.peak_kib as f64 / 1024.0,
                cost.seconds / base,
            )?;
        }
        fs::remove_file(&capture)?;
    }
    report.push_str(&programs()?);
    report.push_str(
        "\nsipobs: pcap --format jsonl. tshark: -Y sip with Call-ID, CSeq and status as fields, name resolution off.\n\
         sngrep: no interface, nothing printed, no limit on calls. The fastest of the runs of each.\n",
    );
    print!("{report}");
    if options.save {
        fs::write(root().join("xtask/bench-results.txt"), report)?;
    }
    Ok(())
}

/// What the kernel programs cost, by the kernel's test run; or why that can't be had here.
fn programs() -> Result<String> {
    let mut bench = Command::new("cargo");
    bench.args(["bench", "--locked", "--package", "sipobs", "--no-default-features", "--features", "live"]);
    bench.args(["--bench", "programs"]).env("PATH", setup::search_path()).current_dir(root());
    Ok(match output(&mut bench) {
        Ok(text) => format!("\nThe kernel programs, by the kernel's test run, warm\n\n{text}"),
        Err(error) => format!("\nThe kernel programs were not measured: {error}\n"),
    })
}

fn readers(sipobs: &Path, capture: &Path) -> Vec<(&'static str, Vec<String>)> {
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.to_owned()).collect() };
    let (sipobs, file) = (sipobs.display().to_string(), capture.display().to_string());
    let fields = ["-T", "fields", "-e", "sip.Call-ID", "-e", "sip.CSeq", "-e", "sip.Status-Code"];
    vec![
        ("sipobs", words(&[&sipobs, "pcap", "--format", "jsonl", &file])),
        ("tshark", [words(&["tshark", "-n", "-r", &file, "-Y", "sip"]), words(&fields)].concat()),
        ("sngrep", words(&["sngrep", "-F", "-N", "-q", "-l", "1000000", "-I", &file])),
    ]
}

fn fastest(name: &str, words: &[String], dir: &Path, runs: u32) -> Result<Cost> {
    let mut best: Option<Cost> = None;
    for _ in 0..runs.max(1) {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdout(Stdio::null());
        let start = Instant::now();
        let mut running = Running::start_shown(name, command, &dir.join(format!("{name}.log")))?;
        let mut peak_kib = 0;
        let status = wait_for(name, LIMIT, || {
            // The kernel keeps the peak, so the last look before the end is enough.
            peak_kib = running.peak_kib().unwrap_or(0).max(peak_kib);
            running.ended()
        })?;
        ensure!(status.success(), "{name}: {status}\n{}", running.tail(10));
        let cost = Cost { seconds: start.elapsed().as_secs_f64(), peak_kib };
        if best.as_ref().is_none_or(|best| cost.seconds < best.seconds) {
            best = Some(cost);
        }
    }
    best.context("no run")
}

/// A capture of `calls` calls as a voice-agent platform has them.
fn generate(dir: &Path, calls: u64) -> Result<PathBuf> {
    let path = dir.join(format!("{calls}-calls.pcap"));
    let mut traffic = Command::new(std::env::current_exe()?);
    traffic.args(["traffic", "--rate", "20", "--calls", &calls.to_string(), "--output"]).arg(&path);
    traffic.stdout(Stdio::null());
    children::run(&mut traffic, LIMIT)?;
    Ok(path)
}

fn messages(sipobs: &Path, capture: &Path) -> Result<u64> {
    let text = output(Command::new(sipobs).args(["pcap", "--format", "jsonl"]).arg(capture))?;
    let summary: Value = serde_json::from_str(text.lines().last().context("sipobs printed nothing")?)?;
    summary["messages"].as_u64().context("no messages in the summary")
}

/// What the figures were measured on, in a line.
pub(crate) fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(": ")))
        .map_or("unknown", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    let release = output(Command::new("uname").arg("-r"))?;
    let kernel = release.trim_end().split('-').next().unwrap_or_default();
    Ok(format!("{cores} × {model}, Linux {kernel}\n"))
}

fn readers_versions() -> String {
    let version = |program: &str, flag: &str| {
        let said = output(Command::new(program).arg(flag)).unwrap_or_default();
        said.lines().next().unwrap_or_default().to_owned()
    };
    format!("{}\n{}\n", version("tshark", "--version"), version("sngrep", "--version"))
}
