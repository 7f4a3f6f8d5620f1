//! `cargo xtask kernels`: what the kernel programs do under the kernels that Debian packages.
//!
//! Each boots in an emulator, without any privilege here. In it the real program watches a replay of the lab's
//! calls, in every way it knows to attach, and must tell of the transfers that the file reader finds.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::daemon::{self, Metrics, json_lines, read_capture};
use crate::live::same_transfers;
use crate::setup::{self, Need};
use crate::{recording, root, target};

use self::debian::Kernel;
use self::guest::{Load, Report};

mod debian;
mod guest;

#[derive(Args)]
pub(crate) struct Options {
    /// Only these of 5.10, 6.1, 6.12 and newest.
    #[arg(value_name = "VERSION")]
    versions: Vec<String>,
    /// Fetch them anew: what was fetched once is kept.
    #[arg(long)]
    refresh: bool,
    /// Write the table to deploy/kernels.txt.
    #[arg(long, conflicts_with = "versions")]
    save: bool,
}

/// The kernels, and the Debian suites that have them. The last is as new as it gets.
const KERNELS: [(&str, &str); 4] =
    [("5.10", "bullseye"), ("6.1", "bookworm"), ("6.12", "bookworm-backports"), ("newest", "sid")];

/// A way to attach to an interface.
#[derive(Debug)]
struct Way {
    /// A word for it.
    name: &'static str,
    /// The driver of its interface.
    driver: &'static str,
    /// What `sipobs run --mode` is told.
    mode: &'static str,
    /// The interface that is watched, and the one at the other end of its wire.
    ends: [&'static str; 2],
}

const WAYS: [Way; 4] = [
    Way { name: "veth", driver: "veth", mode: "auto", ends: ["veth0", "veth1"] },
    Way { name: "virtio", driver: "virtio_net", mode: "auto", ends: ["eth0", "eth1"] },
    Way { name: "veth-tc", driver: "veth", mode: "tc", ends: ["veth2", "veth3"] },
    Way { name: "veth-generic", driver: "veth", mode: "generic", ends: ["veth4", "veth5"] },
];

impl Way {
    /// As the guest reads it.
    fn line(&self) -> String {
        format!("{} {} {}", self.name, self.mode, self.ends.join(" "))
    }
}

/// Boots the kernels one after the other and prints what came of it. Fails if anything was not as it should be.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(unknown) = options.versions.iter().find(|name| KERNELS.iter().all(|(known, _)| known != name))
    {
        bail!("no kernel {unknown}: there are {}", KERNELS.map(|(name, _)| name).join(", "));
    }
    setup::ensure(&[Need::Live, Need::Lab, Need::Checks, Need::Kernels])?;
    let sipobs = daemon::build(true, false)?;
    let capture = crate::scratch("kernels-capture")?.join("spaced.pcap");
    fs::write(&capture, spaced(fs::read(recording::shipped())?)?)?;
    let file = File::read(&sipobs, &capture)?;
    let load = Load { sipobs: &sipobs, capture: &capture, transfers: file.transfers };

    let mut table = Table::default();
    for (version, suite) in KERNELS {
        if !options.versions.is_empty() && !options.versions.iter().any(|wanted| wanted == version) {
            continue;
        }
        println!("── {version}, from Debian {suite}");
        match under(suite, options.refresh, &load) {
            Ok(report) => table.add(&report, &file),
            Err(error) => table.fail(version, &error),
        }
    }
    let text = table.text(&file);
    print!("\n{text}");
    if options.save {
        fs::write(root().join("deploy/kernels.txt"), &text)?;
    }
    ensure!(table.failed == 0, "{} of the rows are not as they should be", table.failed);
    Ok(())
}

/// Fetches a suite's kernel and runs the load under it.
fn under(suite: &str, refresh: bool, load: &Load) -> Result<Report> {
    let dir = target().join("xtask/kernels").join(suite);
    if refresh && dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let kernel = Kernel::fetch(suite, &dir)?;
    guest::run(&kernel, load, &WAYS, &crate::scratch(&format!("kernels-{suite}"))?)
}

/// The least time between two packets. An emulated network card takes its time, and what is sent is seen at once:
/// an answer that is replayed close behind the request would overtake it.
const GAP: u64 = 100_000;

/// A capture with its packets at least [`GAP`] microseconds apart.
fn spaced(mut capture: Vec<u8>) -> Result<Vec<u8>> {
    const FILE_HEADER: usize = 24;
    const MICROSECONDS: [u8; 4] = 0xa1b2_c3d4_u32.to_le_bytes();
    const SECOND: u64 = 1_000_000;
    ensure!(capture.starts_with(&MICROSECONDS), "the capture is no little-endian pcap file in microseconds");
    let (mut at, mut shift, mut last) = (FILE_HEADER, 0, None);
    while at < capture.len() {
        let header = capture.get_mut(at..at + 16).context("the capture is cut short")?;
        let word =
            |number: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte: usize| header[4 * number + byte]));
        let time = u64::from(word(0)) * SECOND + u64::from(word(1)) + shift;
        let length = word(2) as usize;
        let spaced = last.map_or(time, |last: u64| time.max(last + GAP));
        shift += spaced - time;
        last = Some(spaced);
        header[..4].copy_from_slice(&u32::try_from(spaced / SECOND)?.to_le_bytes());
        header[4..8].copy_from_slice(&u32::try_from(spaced % SECOND)?.to_le_bytes());
        at += 16 + length;
    }
    Ok(capture)
}

/// What the file reader says of the capture.
struct File {
    lines: Vec<Value>,
    transfers: usize,
    packets: u64,
}

impl File {
    fn read(sipobs: &Path, capture: &Path) -> Result<Self> {
        let lines = read_capture(sipobs, capture)?;
        let transfers = lines.iter().filter(|line| line["kind"] == "transfer").count();
        let summary = lines.iter().find(|line| line["kind"] == "summary").context("no summary")?;
        let packets = summary["packets"].as_u64().context("no packets in the summary")?;
        Ok(Self { transfers, packets, lines })
    }
}

/// The rows, and what is to be said below them.
#[derive(Default)]
struct Table {
    rows: Vec<[String; COLUMNS.len()]>,
    notes: Vec<String>,
    /// What `sipobs check` said with few capabilities.
    few: Vec<String>,
    failed: usize,
}

const COLUMNS: [&str; 9] =
    ["kernel", "driver", "mode", "received", "sent", "transfers", "seen", "delivered", "lost"];

impl Table {
    /// One row a way.
    fn add(&mut self, report: &Report, file: &File) {
        let release = report.text("release");
        for way in &WAYS {
            let log = Log::read(way, report);
            let (counts, transfers, verdict) = match Counts::read(way, report) {
                Ok(counts) => {
                    let lines = json_lines(&report.text(&format!("{}.jsonl", way.name)));
                    let found = lines
                        .as_ref()
                        .map_or(0, |lines| lines.iter().filter(|line| line["kind"] == "transfer").count());
                    let verdict = lines
                        .and_then(|lines| same_transfers(&lines, &file.lines))
                        .and_then(|()| counts.check(file.packets));
                    (Some(counts), found, verdict)
                }
                Err(error) => (None, 0, Err(error.context(report.text(&format!("{}.log", way.name))))),
            };
            let count =
                |of: fn(&Counts) -> u64| counts.as_ref().map_or("-".into(), |all| of(all).to_string());
            self.rows.push([
                release.clone(),
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
                self.failed += 1;
                self.notes.push(format!("{release}, {} {}: FAILED: {error:#}", way.driver, way.mode));
            }
        }
        for line in report.lines("privilege") {
            let (level, said) = line.split_once(' ').unwrap_or((line, ""));
            let (status, said) = said.split_once(' ').unwrap_or((said, ""));
            self.few.push(format!("{release}, {level}: {}", said.trim()));
            // Levels above Linux's own are Debian's.
            if level == "2" && status != "0" {
                self.failed += 1;
                self.notes.push(format!("{release}, few capabilities: FAILED: {}", report.text("few")));
            }
        }
        self.notes.extend(report.lines("problem").iter().map(|problem| format!("{release}: {problem}")));
    }

    /// A kernel that was not had or did not get as far.
    fn fail(&mut self, version: &str, error: &anyhow::Error) {
        self.failed += 1;
        self.notes.push(format!("{version}: FAILED: {error:#}"));
    }

    fn text(&self, file: &File) -> String {
        let mut text = format!(
            "What `cargo xtask kernels` saw: sipobs under Debian's kernels, in an emulator with two CPUs. A replay\n\
             of the lab's calls over UDP and TCP, {} packets in both directions, was watched on a veth pair and on\n\
             two virtio network cards joined by a wire. The transfers were held against those that `sipobs pcap`\n\
             finds in the same capture{}.\n\n",
            file.packets,
            if self.failed == 0 { ", and were the same in every row" } else { "" },
        );
        let header = COLUMNS.map(str::to_owned);
        let widths: Vec<usize> = (0..COLUMNS.len())
            .map(|column| {
                self.rows.iter().chain([&header]).map(|row| row[column].len()).max().unwrap_or_default()
            })
            .collect();
        for row in [&header].into_iter().chain(&self.rows) {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text.push_str(
            "\nWith CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON alone, and no limit on locked memory, `sipobs check` said,\n\
             by the level of kernel.perf_event_paranoid that the kernel starts with, and by Linux's own highest:\n\n",
        );
        for line in &self.few {
            let _ = writeln!(text, "{line}");
        }
        text
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
    seen: u64,
    passed: u64,
    delivered: u64,
    lost: u64,
}

impl Counts {
    fn read(way: &Way, report: &Report) -> Result<Self> {
        let metrics = Metrics::parse(report.text(&format!("{}.metrics", way.name)))?;
        let sum = |what: &str| metrics.sum(&format!("sipobs_capture_frames_{what}_total"), &[]);
        Ok(Self {
            seen: sum("seen")?,
            passed: sum("passed")?,
            delivered: sum("delivered")?,
            lost: sum("lost")?,
        })
    }

    /// All of the replay's packets are accounted for.
    fn check(&self, packets: u64) -> Result<()> {
        let Self { seen, passed, delivered, lost } = self;
        ensure!(*seen == packets, "{packets} packets were sent and {seen} seen");
        ensure!(
            *seen == passed + delivered + lost,
            "{seen} seen, but {passed} not matched + {delivered} delivered + {lost} lost"
        );
        ensure!(*lost == 0, "{lost} were lost");
        Ok(())
    }
}
