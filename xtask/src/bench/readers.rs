//! The readers of captures, and what each needs for one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::Value;

use crate::children::{Running, output, wait_for};

/// A reader is not run again once it has taken so long on a capture.
pub(super) const ENOUGH: Duration = Duration::from_secs(20);

/// A program that reads a capture.
pub(super) struct Reader {
    pub(super) name: &'static str,
    words: Vec<String>,
}

/// What a reader needed for one capture.
pub(super) struct Cost {
    /// By the clock on the wall.
    pub(super) seconds: f64,
    /// CPU seconds of the user and the system.
    pub(super) cpu: f64,
    pub(super) peak_kib: u64,
}

impl Reader {
    /// sipobs first.
    pub(super) fn all(sipobs: &Path, capture: &Path) -> [Self; 3] {
        let (sipobs, file) = (sipobs.display().to_string(), capture.display().to_string());
        let reader =
            |name, words: &[&str]| Self { name, words: words.iter().map(ToString::to_string).collect() };
        let fields = ["-T", "fields", "-e", "sip.Call-ID", "-e", "sip.CSeq", "-e", "sip.Status-Code"];
        [
            reader("sipobs", &[&sipobs, "pcap", "--format", "jsonl", &file]),
            reader("tshark", &[&["tshark", "-n", "-r", &file, "-Y", "sip"], &fields[..]].concat()),
            reader("sngrep", &["sngrep", "-F", "-N", "-q", "-l", "1000000", "-I", &file]),
        ]
    }

    /// The one of at most so many runs that took the least CPU time; `None` if one takes longer than `limit` seconds.
    pub(super) fn cheapest(&self, dir: &Path, runs: u32, limit: u64) -> Result<Option<Cost>> {
        let start = Instant::now();
        let mut best: Option<Cost> = None;
        for run in 0..runs.max(1) {
            if run > 0 && start.elapsed() >= ENOUGH {
                break;
            }
            let Some(cost) = self.once(dir, Duration::from_secs(limit))? else { return Ok(None) };
            if best.as_ref().is_none_or(|best| cost.cpu < best.cpu) {
                best = Some(cost);
            }
        }
        Ok(best)
    }

    fn once(&self, dir: &Path, limit: Duration) -> Result<Option<Cost>> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdout(Stdio::null());
        let (start, cpu) = (Instant::now(), cpu_of_children()?);
        let mut running = Running::start_shown(self.name, command, &dir.join(format!("{}.log", self.name)))?;
        let mut peak_kib = 0;
        let status = wait_for(self.name, limit * 2, || {
            // The kernel keeps the peak, so the last look before the end is enough.
            peak_kib = running.peak_kib().unwrap_or(0).max(peak_kib);
            let status = running.ended()?;
            Ok(if status.is_none() && start.elapsed() < limit { None } else { Some(status) })
        })?;
        let Some(status) = status else { return Ok(None) };
        ensure!(status.success(), "{}: {status}\n{}", self.name, running.tail(10));
        Ok(Some(Cost { seconds: start.elapsed().as_secs_f64(), cpu: cpu_of_children()? - cpu, peak_kib }))
    }
}

/// CPU seconds of all children that have ended so far.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn cpu_of_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
}

/// What sipobs says of a capture as a whole.
pub(super) struct Known {
    pub(super) messages: u64,
    pub(super) packets: u64,
    /// Transfers by outcome, and what was lost.
    pub(super) verdicts: String,
}

/// Lets sipobs read a capture.
pub(super) fn read(sipobs: &Path, capture: &Path) -> Result<Known> {
    let text = output(Command::new(sipobs).args(["pcap", "--format", "jsonl"]).arg(capture))?;
    let summary: Value = serde_json::from_str(text.lines().last().context("sipobs printed nothing")?)?;
    let count = |name: &str| summary[name].as_u64().with_context(|| format!("no {name} in the summary"));
    Ok(Known {
        messages: count("messages")?,
        packets: count("packets")?,
        verdicts: format!("{} transfers, {} lost", summary["transfers"], summary["lost"]),
    })
}

/// The peers' own words for their versions.
pub(super) fn versions() -> String {
    let version = |program: &str| {
        let said = output(Command::new(program).arg("--version")).unwrap_or_default();
        said.lines().next().unwrap_or_default().to_owned()
    };
    format!("{}\n{}\n", version("tshark"), version("sngrep"))
}
