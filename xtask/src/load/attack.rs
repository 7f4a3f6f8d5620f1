//! Genuine calls among what does them harm: every one of them must be judged right, within the memory allowed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::genuine::{self, Calls};
use super::mebibytes;
use super::run::{Outcome, Pace, Plan, Wanted, run};
use crate::daemon::{Metrics, read_capture};
use crate::scratch;
use crate::traffic::Dice;
use crate::wire::Trace;

/// Writes one message, and what goes with it.
pub(super) type Hostile = fn(&mut Trace<BufWriter<File>>, u64, &mut Dice);

/// So many messages of a kind in so many seconds, at even distances.
#[derive(Clone, Copy)]
pub(super) struct Attack<'a> {
    /// Names its folders.
    pub(super) name: &'a str,
    pub(super) what: &'a str,
    pub(super) count: u64,
    pub(super) seconds: u64,
    pub(super) message: Hostile,
    /// Whether some of the messages are attempts to transfer, however broken.
    pub(super) has_attempts: bool,
    /// What the genuine calls are, and how many there are.
    pub(super) stories: &'static [&'static str],
    pub(super) calls: usize,
    /// How many of them may be judged wrong, if it is said why.
    pub(super) may_be_wrong: usize,
}

impl Attack<'_> {
    /// Sends it with genuine calls in between and a collector behind the daemon, and tells what came of it.
    pub(super) fn run(&self, sipobs: &Path, ring: &str, report: &mut String) -> Result<()> {
        let calls = Calls::spread(self.stories, self.calls, self.seconds)?;
        sound(sipobs, &calls)?;
        println!("{} {} in {} s", self.count, self.what, self.seconds);
        let capture = self.capture(&calls)?;
        let plan = Plan {
            name: self.name,
            ring,
            capture: &capture,
            agent: genuine::AGENT,
            pace: Pace::Own,
            wanted: Some(Wanted {
                attempts: calls.attempts(),
                mark: genuine::MARK,
                may_miss: self.may_be_wrong > 0,
            }),
        };
        let outcome = run(sipobs, &plan)?;
        writeln!(
            report,
            "\n{} {} and {} genuine calls, sent in {:.0} s\n",
            self.count,
            self.what,
            calls.len(),
            outcome.seconds
        )?;
        self.tell(report, &calls, &outcome)?;
        fs::remove_file(&capture)?;
        Ok(())
    }

    fn tell(&self, report: &mut String, calls: &Calls, outcome: &Outcome) -> Result<()> {
        let comparison = calls.compare(&outcome.lines);
        let Outcome { frames, peak_kib, metrics, spans, others, .. } = outcome;
        let count = |name: &str, labels: &[&str]| metrics.sum(name, labels).unwrap_or(0);
        let lines = [
            format!(
                "{} of {} genuine calls judged right; of {} others it is said that calls were let go of",
                comparison.right,
                calls.len(),
                comparison.excused
            ),
            format!("{spans} spans of their {} attempts at the collector", calls.attempts()),
            format!(
                "{} attempts in other calls written, and {} of their spans at the collector",
                others.0, others.1
            ),
            format!("{} frames: {} delivered, {} lost", frames.seen, frames.delivered, frames.lost),
            format!(
                "{} messages: {} placed in a dialog, {} not",
                count("sipobs_messages_total", &[]),
                count("sipobs_messages_understood_total", &[]),
                count("sipobs_messages_unparsed_total", &[]),
            ),
            format!("not understood: {}", by_reason(metrics, "sipobs_not_understood_total", &["reason"])),
            format!("evicted: {}", by_reason(metrics, "sipobs_evicted_total", &["table", "reason"])),
            format!("{:.1} MiB resident at most; the tables may take 256 MiB", mebibytes(*peak_kib)),
        ];
        for line in lines {
            println!("  {line}");
            writeln!(report, "  {line}")?;
        }
        for wrong in comparison.wrong.iter().take(10) {
            println!("{wrong}");
        }
        let wrong = comparison.wrong.len();
        ensure!(wrong <= self.may_be_wrong, "{wrong} calls were judged wrong");
        ensure!(wrong == comparison.excused, "{} wrong verdicts do not say why", wrong - comparison.excused);
        ensure!(wrong > 0 || *spans == calls.attempts(), "{spans} spans for {} attempts", calls.attempts());
        let made_up = others.0 + others.1;
        ensure!(made_up == 0 || self.has_attempts, "{} attempts that nobody made", others.0.max(others.1));
        ensure!(mebibytes(*peak_kib) < 256.0 * 1.1, "the daemon took {:.1} MiB", mebibytes(*peak_kib));
        Ok(())
    }

    fn capture(&self, calls: &Calls) -> Result<PathBuf> {
        let path = scratch(&format!("load/{}-capture", self.name))?.join("mixed.pcap");
        let mut trace = trace_of(calls, &path)?;
        let mut dice = Dice(1);
        for number in 0..self.count {
            let time = number * self.seconds * 1_000_000 / self.count;
            (self.message)(&mut trace, time, &mut dice);
            if number % 1_024 == 0 {
                trace.settle(time)?;
            }
        }
        trace.finish()?;
        Ok(path)
    }
}

/// The calls alone, read as a file: what is wrong there is not the attack's doing.
fn sound(sipobs: &Path, calls: &Calls) -> Result<()> {
    let path = scratch("load/alone")?.join("calls.pcap");
    trace_of(calls, &path)?.finish()?;
    let comparison = calls.compare(&read_capture(sipobs, &path)?);
    ensure!(
        comparison.wrong.is_empty() && comparison.others == 0,
        "the calls are judged wrong by themselves: {:#?}",
        &comparison.wrong[..comparison.wrong.len().min(10)]
    );
    Ok(())
}

fn trace_of(calls: &Calls, path: &Path) -> Result<Trace<BufWriter<File>>> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut trace = Trace::new(BufWriter::new(file))?;
    for (time, frame) in &calls.frames {
        trace.frame(*time, frame.clone());
    }
    Ok(trace)
}

/// The series of a counter that are not 0, named by these labels: `12 missing, 3 cseq`.
fn by_reason(metrics: &Metrics, name: &str, by: &[&str]) -> String {
    let series = metrics.text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let named = series.filter_map(|series| {
        let (labels, count) = series.rsplit_once("} ")?;
        let value = |label| labels.split(&format!("{label}=\"")).nth(1)?.split('"').next();
        let values = by.iter().map(value).collect::<Option<Vec<_>>>()?;
        (count != "0").then(|| format!("{count} {}", values.join(", ")))
    });
    let told = named.collect::<Vec<_>>().join("; ");
    if told.is_empty() { "nothing".into() } else { told }
}
