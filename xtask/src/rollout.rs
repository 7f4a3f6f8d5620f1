//! `cargo xtask rollout`: how long nobody watches while one daemon takes another's place, whatever the collector does.
//!
//! Short calls cross the wire all the while. Those that neither daemon has a record of were missed; the time between
//! the last that the first one saw and the first that the second one saw is how long nobody watched. The second daemon
//! is started when the first is gone, as a rollout of a DaemonSet does, without what an orchestrator takes in between.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use rustix::process::Signal;
use serde_json::Value;

use crate::bench::machine;
use crate::children::{check_interrupt, pause};
use crate::collector::Collector;
use crate::daemon::{build, cannot_capture};
use crate::faults::{NameServer, Peers, Plan, inside};
use crate::lab::{Lab, Side, address};
use crate::setup::{self, Need};
use crate::{root, scratch};

/// Between two calls.
const PACE: Duration = Duration::from_millis(10);
/// Before the end of the first daemon, and after the start of the second.
const AROUND: Duration = Duration::from_millis(500);
const END: Duration = Duration::from_secs(30);
/// Where no collector is, and where one is that says nothing.
const DEAD: &str = "http://127.0.0.1:4999";
const MUTE: &str = "http://127.0.0.1:4998";

#[derive(Args)]
pub(crate) struct Options {
    /// How often each daemon is replaced.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Write the result to xtask/rollout-results.txt, to be committed.
    #[arg(long)]
    save: bool,
}

/// What the collector does.
#[derive(Clone, Copy)]
enum Case {
    Answers,
    /// It is away, and spans wait for it.
    Dead,
    /// It is away, and nothing has waited for it yet.
    DeadUnnoticed,
    /// It takes connections and says nothing.
    Mute,
    /// It has a name, and no name server answers.
    Nameless,
}

const CASES: [(Case, &str); 5] = [
    (Case::Answers, "answers"),
    (Case::Dead, "is away, spans wait"),
    (Case::DeadUnnoticed, "is away, nothing waits"),
    (Case::Mute, "says nothing, spans wait"),
    (Case::Nameless, "has a name, no DNS"),
];

/// What came of one replacement.
struct Outcome {
    /// From SIGTERM to the exit of the first daemon.
    ending: Duration,
    /// From its exit until the second was ready.
    starting: Duration,
    /// Nobody watched.
    blind: Duration,
    placed: usize,
    missed: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(&[Need::Live, Need::Lab])?;
    let sipobs = build(true, true)?;
    let mut report = format!("cargo xtask rollout\n\n{}\n", machine()?);
    writeln!(
        report,
        "{:26} {:>9} {:>10} {:>17} {:>14}",
        "the collector", "ends in", "starts in", "nobody watches", "calls missed"
    )?;
    for (case, what) in CASES {
        let mut outcomes = Vec::new();
        for round in 0..options.rounds.max(1) {
            check_interrupt()?;
            outcomes.push(
                replaced(&sipobs, case).with_context(|| format!("the collector {what}, round {round}"))?,
            );
        }
        let longest = |of: fn(&Outcome) -> Duration| outcomes.iter().map(of).max().unwrap_or_default();
        let (missed, placed) = outcomes.iter().fold((0, 0), |(m, p), it| (m + it.missed, p + it.placed));
        let line = format!(
            "{what:26} {:>7.2} s {:>8.2} s {:>6.2} to {:>4.2} s {missed:>6} of {placed}",
            longest(|it| it.ending).as_secs_f64(),
            longest(|it| it.starting).as_secs_f64(),
            outcomes.iter().map(|it| it.blind).min().unwrap_or_default().as_secs_f64(),
            longest(|it| it.blind).as_secs_f64(),
        );
        println!("{line}");
        writeln!(report, "{line}")?;
    }
    if options.save {
        fs::write(root().join("xtask/rollout-results.txt"), report)?;
    }
    Ok(())
}

/// One daemon in another's place.
fn replaced(sipobs: &Path, case: Case) -> Result<Outcome> {
    let lab = Lab::new(&scratch("rollout")?)?;
    if let Some(reason) = cannot_capture(sipobs, &lab) {
        anyhow::bail!("this machine cannot capture: {reason}");
    }
    let (url, _collector, _mute) = match case {
        Case::Answers => (Collector::HTTP, Some(Collector::start(&lab)?), None),
        Case::Dead | Case::DeadUnnoticed => (DEAD, None, None),
        Case::Mute => {
            let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4998);
            (MUTE, None, Some(inside::listen(&lab, Side::Agent, at)?))
        }
        Case::Nameless => (NameServer::URL, None, None),
    };
    let names = matches!(case, Case::Nameless).then(|| NameServer::mute(&lab)).transpose()?;
    let plan = |name, port| {
        let plan = Plan::new(&lab, sipobs).named(name, port).exporting(url);
        match &names {
            Some(names) => names.asked_by(plan),
            None => plan,
        }
    };
    let mut first = plan("first", 9465).start()?;
    let peers =
        Peers::at(&lab, [Side::Trunk, Side::Agent].map(|side| SocketAddrV4::new(address(side, 1), 5060)))?;
    if !matches!(case, Case::DeadUnnoticed) {
        let call = peers.call("early")?;
        call.refer()?;
        call.transferred()?;
        first.wait_count("sipobs_otlp_spans_total", &[], 1)?;
    }
    // An attempt that is open at the end: its spans are made last of all.
    peers.call("open")?.refer()?;

    let probes = Probes::start(&lab)?;
    pause(AROUND)?;
    let start = Instant::now();
    first.signal(Signal::TERM)?;
    let (_, seen_first, _) = first.over(END)?;
    let gone = Instant::now();
    let second = plan("second", 9466).start()?;
    let ready = Instant::now();
    pause(AROUND)?;
    let placed = probes.stop()?;
    pause(AROUND)?;
    second.signal(Signal::TERM)?;
    let (_, seen_second, _) = second.over(END)?;
    assess(&placed, [&seen_first, &seen_second], gone - start, ready - gone)
}

fn assess(placed: &[Instant], seen: [&[Value]; 2], ending: Duration, starting: Duration) -> Result<Outcome> {
    let [first, second] = seen.map(probes_in);
    let last = *first.last().context("the first daemon saw no call")?;
    let next = *second.iter().find(|number| **number > last).context("the second daemon saw no call")?;
    ensure!(next < placed.len(), "a call that was not placed");
    let missed = (0..placed.len()).filter(|number| !first.contains(number) && !second.contains(number));
    Ok(Outcome {
        ending,
        starting,
        blind: placed[next] - placed[last],
        placed: placed.len(),
        missed: missed.count(),
    })
}

/// Numbers of the calls that have a record.
pub(crate) fn probes_in(lines: &[Value]) -> BTreeSet<usize> {
    let calls = lines.iter().filter(|line| line["kind"] == "call");
    calls.filter_map(|call| call["call_id"].as_str()?.strip_prefix(PROBE)?.parse().ok()).collect()
}

/// How the Call-IDs of [`Probes`] begin.
pub(crate) const PROBE: &str = "probe-";

/// Calls that are over at once, one after another.
pub(crate) struct Probes {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Instant>>>,
}

impl Probes {
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let (peers, over) = (Peers::new(lab)?, Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&over);
        let place = move || {
            let mut placed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let call = peers.call(&format!("{PROBE}{}", placed.len()))?;
                placed.push(Instant::now());
                call.hang_up()?;
                thread::sleep(PACE);
            }
            Ok(placed)
        };
        Ok(Self { over, thread: thread::spawn(place) })
    }

    /// When each was placed.
    pub(crate) fn stop(self) -> Result<Vec<Instant>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the thread that places calls panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_daemon_has_a_record_of_was_missed() {
        let start = Instant::now();
        let placed: Vec<_> = (0..10).map(|number| start + PACE * number).collect();
        let lines = |numbers: &[usize]| -> Vec<Value> {
            numbers.iter().map(|it| json!({"kind": "call", "call_id": format!("{PROBE}{it}")})).collect()
        };
        let zero = Duration::ZERO;
        let outcome = assess(&placed, [&lines(&[0, 1, 2, 3]), &lines(&[3, 7, 8, 9])], zero, zero).unwrap();
        assert_eq!((outcome.placed, outcome.missed, outcome.blind), (10, 3, PACE * 4));
        assert!(assess(&placed, [&lines(&[]), &lines(&[1])], zero, zero).is_err());
    }
}
