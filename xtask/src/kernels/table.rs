//! What came of it all, as text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Error, Result, ensure};

use super::File;
use super::guest::Report;
use super::machines::{Machine, Rights, SETTINGS, Way};
use crate::daemon::{Metrics, json_lines};
use crate::live::same_transfers;

/// The rows, and what is to be said below them.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<[String; COLUMNS.len()]>,
    notes: Vec<String>,
    /// A line a machine: which rings `sipobs check` found for each of the settings.
    rings: Vec<Vec<String>>,
    /// Why, each once.
    reasons: BTreeSet<String>,
    pub(super) failed: usize,
}

const COLUMNS: [&str; 13] = [
    "kernel",
    "CPUs",
    "capabilities",
    "paranoid",
    "rings",
    "driver",
    "mode",
    "received",
    "sent",
    "transfers",
    "seen",
    "delivered",
    "lost",
];

impl Table {
    /// One row a way.
    pub(super) fn add(&mut self, machine: &Machine, report: &Report, file: &File) {
        let release = report.text("release");
        for way in machine.ways {
            self.add_way(machine, way, &release, report, file);
        }
        if !machine.settings.is_empty() {
            self.add_rings(machine, &release, report);
        }
        self.notes.extend(report.lines("problem").iter().map(|problem| format!("{release}: {problem}")));
    }

    /// A kernel that was not had or did not get as far.
    pub(super) fn fail(&mut self, what: &str, error: &Error) {
        self.failed += 1;
        self.notes.push(format!("{what}: FAILED: {error:#}"));
    }

    fn add_way(&mut self, machine: &Machine, way: &Way, release: &str, report: &Report, file: &File) {
        let log = Log::read(way, report);
        let (counts, transfers, verdict) = match Counts::read(way, report) {
            Ok(counts) => {
                let lines = json_lines(&report.text(&format!("{}.jsonl", way.name)));
                let found = lines
                    .as_ref()
                    .map_or(0, |lines| lines.iter().filter(|line| line["kind"] == "transfer").count());
                let verdict = lines
                    .and_then(|lines| same_transfers(&lines, &file.lines))
                    .and_then(|()| counts.check(way, file.packets));
                (Some(counts), found, verdict)
            }
            Err(error) => (None, 0, Err(error.context(report.text(&format!("{}.log", way.name))))),
        };
        let count = |of: fn(&Counts) -> u64| counts.as_ref().map_or("-".into(), |all| of(all).to_string());
        self.rows.push([
            release.to_owned(),
            machine.cpus.to_string(),
            match way.rights {
                Rights::Root => "all".into(),
                Rights::Three(_) => "three".into(),
            },
            way.paranoid.to_string(),
            counts.as_ref().map_or("-".into(), |counts| counts.rings.clone()),
            way.driver.into(),
            way.mode.into(),
            log.received.unwrap_or_else(|| "-".into()),
            log.sent.unwrap_or_else(|| "-".into()),
            format!("{transfers}/{}", file.transfers),
            count(|all| all.seen),
            count(|all| all.delivered),
            count(|all| all.lost),
        ]);
        for instead in log.instead {
            let note = format!("{release}, {}: {instead}", way.driver);
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        if let Err(error) = verdict {
            self.fail(&format!("{release}, {machine}, {} {}", way.name, way.mode), &error);
        }
    }

    /// What `sipobs check` said of the rings, by setting.
    fn add_rings(&mut self, machine: &Machine, release: &str, report: &Report) {
        let maps_are_locked = release.starts_with("5.10.");
        let mut cells = vec![release.to_owned(), machine.cpus.to_string()];
        for setting in machine.settings {
            let prefix = format!("{} ", setting.line());
            let said = report.lines("setting").iter().find_map(|line| line.strip_prefix(&prefix));
            let (status, said) = said.and_then(|said| said.split_once(' ')).unwrap_or(("-", "nothing"));
            let rings = rings(said);
            let expected = if setting.is_enough(maps_are_locked) {
                status == "0" && rings.as_ref().is_some_and(|(rings, _)| rings.starts_with(setting.ring()))
            } else {
                status == "3" && said.contains("raise RLIMIT_MEMLOCK")
            };
            if !expected {
                self.fail(&format!("{release}, {machine}, {setting}"), &Error::msg(said.to_owned()));
            }
            match rings {
                Some((rings, why)) => {
                    cells.push(rings);
                    self.reasons.extend(why);
                }
                None => {
                    cells.push("refused".into());
                    self.reasons.insert(said.trim().to_owned());
                }
            }
        }
        self.rings.push(cells);
    }

    pub(super) fn text(&self, file: &File) -> String {
        let mut text = format!(
            "What `cargo xtask kernels` saw: sipobs under Debian's kernels, in an emulator. A replay of the lab's calls\n\
             over UDP and TCP, {} packets in both directions, was watched on veth pairs and on pairs of virtio network\n\
             cards joined by a wire. The transfers were held against those that `sipobs pcap` finds in the same\n\
             capture{}. \"Three\" capabilities are CAP_BPF, CAP_NET_ADMIN and\n\
             CAP_PERFMON, with RLIMIT_MEMLOCK at 8 MiB; there, the last CPU came online when sipobs captured already,\n\
             and the packets were sent on it. \"Paranoid\" is kernel.perf_event_paranoid.\n\n",
            file.packets,
            if self.failed == 0 { ", and were the same in every row" } else { "" },
        );
        let header = COLUMNS.map(str::to_owned);
        columns(&mut text, [&header[..]].into_iter().chain(self.rows.iter().map(|row| &row[..])));
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text.push_str(
            "\nWith the three capabilities and user id 0, `sipobs check` found these rings for each CPU, by RLIMIT_MEMLOCK,\n\
             by whether CAP_IPC_LOCK is there too, and by kernel.perf_event_paranoid:\n\n",
        );
        let mut header = vec!["kernel".to_owned(), "CPUs".to_owned()];
        header.extend(SETTINGS.iter().map(ToString::to_string));
        columns(&mut text, [&header[..]].into_iter().chain(self.rings.iter().map(|row| &row[..])));
        text.push_str("\nand said of them:\n\n");
        for reason in &self.reasons {
            let _ = writeln!(text, "{reason}");
        }
        text
    }
}

/// `perf 4 MiB` of the line that tells of the rings, and the reasons behind it.
fn rings(said: &str) -> Option<(String, Vec<String>)> {
    let mut parts = said.split_once("yes ")?.1.split("; ");
    let (what, _) = parts.next()?.split_once(", one for each of ")?;
    let (kind, size) = match what.split_once(" of ")? {
        ("perf rings", size) => ("perf", size),
        ("BPF ring buffers", size) => ("ringbuf", size),
        _ => return None,
    };
    Some((format!("{kind} {size}"), parts.map(str::to_owned).collect()))
}

/// Rows of cells, each column as wide as its widest.
fn columns<'a>(text: &mut String, rows: impl Iterator<Item = &'a [String]> + Clone) {
    let width = |column: usize| rows.clone().filter_map(|row| row.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..).map_while(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

/// What `sipobs run` said of where it attached.
#[derive(Default)]
struct Log {
    received: Option<String>,
    sent: Option<String>,
    /// What stood in the way of what would have been tried first.
    instead: Vec<String>,
}

impl Log {
    fn read(way: &Way, report: &Report) -> Self {
        let mut log = Self::default();
        let prefix = format!("sipobs: {}: ", way.ends[0]);
        for line in report.lines(&format!("{}.log", way.name)) {
            let Some(said) = line.strip_prefix(&prefix) else { continue };
            let (how, instead) = said.split_once(" (").map_or((said, None), |(how, rest)| (how, Some(rest)));
            let slot = if how.ends_with("egress") { &mut log.sent } else { &mut log.received };
            if slot.is_none() {
                *slot = Some(how.to_owned());
                log.instead.extend(instead.map(|rest| format!("{how}, not {}", rest.trim_end_matches(')'))));
            }
        }
        log
    }
}

/// What the programs counted.
struct Counts {
    /// Through which rings it came, as the settings' cells have it.
    rings: String,
    seen: u64,
    passed: u64,
    delivered: u64,
    lost: u64,
}

impl Counts {
    fn read(way: &Way, report: &Report) -> Result<Self> {
        let metrics = Metrics::parse(report.text(&format!("{}.metrics", way.name)))?;
        let sum = |what: &str| metrics.sum(&format!("sipobs_capture_frames_{what}_total"), &[]);
        let said = report.lines(&format!("{}.log", way.name));
        let found = said.iter().find_map(|line| rings(&line.replacen("sipobs: ", "yes ", 1)));
        let (rings, _) = found.context("it does not say which rings it has")?;
        Ok(Self {
            rings,
            seen: sum("seen")?,
            passed: sum("passed")?,
            delivered: sum("delivered")?,
            lost: sum("lost")?,
        })
    }

    /// All of the replay's packets are accounted for.
    fn check(&self, way: &Way, packets: u64) -> Result<()> {
        let Self { rings, seen, passed, delivered, lost } = self;
        ensure!(rings.starts_with(way.ring()), "its rings are {rings}, not {}", way.ring());
        ensure!(*seen == packets, "{packets} packets were sent and {seen} seen");
        ensure!(
            *seen == passed + delivered + lost,
            "{seen} seen, but {passed} not matched + {delivered} delivered + {lost} lost"
        );
        ensure!(*lost == 0, "{lost} were lost");
        Ok(())
    }
}
