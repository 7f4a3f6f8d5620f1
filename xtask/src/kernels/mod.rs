//! `cargo xtask kernels`: what the kernel programs do under the kernels that Debian packages.
//!
//! Each boots in an emulator, without any privilege here, with two, four and eight CPUs. In it the real program
//! watches a replay of the lab's calls, in every way it knows to attach, as root and as a container has it, and must
//! tell of the transfers that the file reader finds.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::daemon::{self, read_capture};
use crate::setup::{self, Need};
use crate::{recording, root, target};

use self::debian::Kernel;
use self::guest::{Load, Report};
use self::machines::{MACHINES, Machine};
use self::table::Table;

mod debian;
mod guest;
mod machines;
mod table;

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
        match fetch(suite, options.refresh) {
            Ok(kernel) => {
                for (machine, report) in under(&kernel, suite, &load) {
                    match report {
                        Ok(report) => table.add(machine, &report, &file),
                        Err(error) => table.fail(&format!("{version}, {machine}"), &error),
                    }
                }
            }
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

/// Fetches a suite's kernel.
fn fetch(suite: &str, refresh: bool) -> Result<Kernel> {
    let dir = target().join("xtask/kernels").join(suite);
    if refresh && dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    Kernel::fetch(suite, &dir)
}

/// Guests at once: each waits for verdicts most of its time.
const AT_ONCE: usize = 4;

/// Runs the load on every machine, under this kernel.
fn under<'a>(kernel: &Kernel, suite: &str, load: &Load) -> Vec<(&'a Machine, Result<Report>)> {
    let boot = |(number, machine)| {
        let report = crate::scratch(&format!("kernels-{suite}-{number}"))
            .and_then(|dir| guest::run(kernel, load, machine, &dir));
        (machine, report)
    };
    let numbered: Vec<(usize, &Machine)> = MACHINES.iter().enumerate().collect();
    let mut reports = Vec::new();
    for some in numbered.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let guests: Vec<_> = some.iter().map(|&one| (one.1, scope.spawn(move || boot(one)))).collect();
            reports.extend(guests.into_iter().map(|(machine, guest)| {
                guest.join().unwrap_or_else(|_| (machine, Err(anyhow!("the guest's thread panicked"))))
            }));
        });
    }
    reports
}

/// The least time between two packets. An emulated network card takes its time, and what is sent is seen at once:
/// an answer that is replayed close behind the request would overtake it.
const GAP: u64 = 300_000;

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
