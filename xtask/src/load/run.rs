//! One run: a capture sent through the kernel programs under a daemon's eyes, and the accounts afterwards.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::children::{Running, output, wait_for};
use crate::collector::Collector;
use crate::daemon::{Daemon, Frames, Metrics};
use crate::lab::{Lab, Side};
use crate::recording::replayer_at;

/// What to send, and how.
pub(super) struct Plan<'a> {
    /// Names the run's folder.
    pub(super) name: &'a str,
    /// The kind of rings.
    pub(super) ring: &'a str,
    pub(super) capture: &'a Path,
    /// The agent's address or network: what comes from there leaves by the agent's end.
    pub(super) agent: &'a str,
    pub(super) pace: Pace,
    /// What is to be known of it beside the frames.
    pub(super) wanted: Option<Wanted<'a>>,
}

/// Attempts whose verdicts are waited for, in JSON lines and at a collector.
pub(super) struct Wanted<'a> {
    pub(super) attempts: usize,
    /// What is in their Call-IDs, and in no others.
    pub(super) mark: &'a str,
    /// Some may never come.
    pub(super) may_miss: bool,
}

/// How fast.
pub(super) enum Pace {
    /// As the capture has it.
    Own,
    /// So many frames a second, and of the capture all, or no more than so many.
    Rate(u64, Option<u64>),
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) frames: Frames,
    /// Frames a second that really left.
    pub(super) rate: u64,
    /// How long they took to leave.
    pub(super) seconds: f64,
    /// The most memory that the daemon had resident, in KiB.
    pub(super) peak_kib: u64,
    /// CPU seconds that the daemon used from the first frame to the last verdict and span.
    pub(super) cpu: f64,
    /// At the end, when all verdicts were given.
    pub(super) metrics: Metrics,
    /// What was said of the wanted.
    pub(super) lines: Vec<Value>,
    /// Their spans at the collector.
    pub(super) spans: usize,
    /// Of others: attempts in lines, and their spans at the collector.
    pub(super) others: (usize, usize),
}

impl Outcome {
    /// CPU seconds that the daemon used for a million frames.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn cpu_a_million(&self) -> f64 {
        self.cpu * 1e6 / self.frames.seen as f64
    }
}

/// Sends, waits for the verdicts, and holds each of the accounts to residual 0.
pub(super) fn run(sipobs: &Path, plan: &Plan<'_>) -> Result<Outcome> {
    let lab = Lab::for_replay(&crate::scratch(&format!("load/{}", plan.name))?)?;
    let collector = plan.wanted.as_ref().map(|_| Collector::start(&lab)).transpose()?;
    let mut arguments = vec!["--ring", plan.ring];
    if collector.is_some() {
        arguments.extend(["--otlp", Collector::GRPC]);
    }
    let daemon = Daemon::start_with(&lab, sipobs, &arguments, false)?;
    let (before, cpu) = (lab.packets()?, daemon.cpu_seconds()?);
    let (sent, seconds) = send(&lab, plan)?;
    let after = lab.packets()?;
    let wire = (after.0 - before.0) + (after.1 - before.1);
    ensure!(wire == sent, "{sent} frames were sent and {wire} crossed the wire");

    caught_up(&lab, &daemon)?;
    if let Some(Wanted { attempts, mark, may_miss }) = plan.wanted {
        daemon
            .wait_settled(attempts, mark, VERDICTS)
            .or_else(|error| if may_miss { Ok(()) } else { Err(error) })?;
        exported(&lab, &daemon)?;
    }
    let cpu = daemon.cpu_seconds()? - cpu;
    let metrics = daemon.metrics(&lab)?;
    let frames = Frames::accounted(&metrics)?;
    ensure!(frames.seen == wire, "{wire} frames crossed the wire and the programs saw {}", frames.seen);
    // Kernel, rings, messages, spans and records: the daemon's own accounts, each with nothing left over.
    output(lab.inside(Side::Agent, sipobs).args(["check", "--live"]))
        .context("sipobs check --live, of what the daemon can account for")?;
    let peak_kib = daemon.peak_kib().context("the daemon's memory can't be read")?;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rate = (sent as f64 / seconds) as u64;
    let mut outcome = Outcome {
        frames,
        rate,
        seconds,
        peak_kib,
        cpu,
        metrics,
        lines: Vec::new(),
        spans: 0,
        others: (0, 0),
    };
    let (Some(Wanted { mark, .. }), Some(collector)) = (&plan.wanted, collector) else {
        daemon.stop()?;
        return Ok(outcome);
    };
    // It ends well only if every span was acknowledged and every line written.
    (outcome.lines, outcome.others.0) = daemon.stop_marked(mark)?;
    collector.each_span(|span| {
        if span.is_of_transfer() {
            let wanted = span.attributes.values().any(|value| value.contains(mark));
            *(if wanted { &mut outcome.spans } else { &mut outcome.others.1 }) += 1;
        }
    })?;
    Ok(outcome)
}

/// The longest run's sending.
const SENDING: Duration = Duration::from_secs(15 * 60);
/// A second leg that rings is waited for, and the NOTIFY of a call that has ended.
const VERDICTS: Duration = Duration::from_secs(120);

/// Frames sent, and the seconds it took.
fn send(lab: &Lab, plan: &Plan<'_>) -> Result<(u64, f64)> {
    let mut tcpreplay: Command = replayer_at(lab, plan.capture, plan.agent)?;
    tcpreplay.arg("--no-flow-stats");
    if let Pace::Rate(rate, limit) = plan.pace {
        tcpreplay.arg(format!("--pps={rate}"));
        tcpreplay.args(limit.map(|limit| format!("--limit={limit}")));
    }
    tcpreplay.arg(plan.capture);
    let mut running = Running::start("tcpreplay", tcpreplay, &lab.dir.join("tcpreplay.log"))?;
    running.succeed(SENDING)?;
    // `Actual: 300000 packets (180000000 bytes) sent in 5.00 seconds`
    let said = running.output()?;
    let words: Vec<&str> = said
        .lines()
        .find_map(|line| line.strip_prefix("Actual: "))
        .context("tcpreplay does not say what it sent")?
        .split_whitespace()
        .collect();
    let number = |index: usize| words.get(index).copied().unwrap_or_default();
    Ok((number(0).parse().context("packets")?, number(6).parse().context("seconds")?))
}

/// Waits until no span is on its way any more.
fn exported(lab: &Lab, daemon: &Daemon) -> Result<()> {
    wait_for("every span is exported", Duration::from_secs(60), || {
        Ok((daemon.metrics(lab)?.sum("sipobs_otlp_spans_waiting", &[])? == 0).then_some(()))
    })
}

/// Waits until the daemon has read all that was delivered.
fn caught_up(lab: &Lab, daemon: &Daemon) -> Result<()> {
    wait_for("the daemon has read everything", Duration::from_secs(60), || {
        let metrics = daemon.metrics(lab)?;
        let count = |what: &str| metrics.sum(&format!("sipobs_capture_frames_{what}_total"), &[]);
        Ok((count("delivered")? == count("read")? + count("damaged")?).then_some(()))
    })
}
