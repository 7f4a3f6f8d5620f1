//! `cargo xtask bench`: captures read by sipobs and by the readers that people know, in the same run; what a message
//! costs in instructions, and a call in bytes; and what the kernel programs cost.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;

use self::readers::{Known, Reader};
use crate::children::output;
use crate::setup::{self, Need};
use crate::traffic::dense::{Dense, Means};
use crate::traffic::{self, Mix};
use crate::{daemon, root, scratch};

mod counts;
mod readers;

#[derive(Args)]
pub(crate) struct Options {
    /// Only these parts.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Divide the size of every capture by so much, to try things out.
    #[arg(long, default_value_t = 1)]
    divide: u64,
    /// Most runs of each reader on each capture, while they take less than 20 s in all; the one that takes the least CPU time counts.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Seconds after which a reader is stopped.
    #[arg(long, default_value_t = 240)]
    limit: u64,
    /// Write the result to xtask/bench-results.txt, to be committed.
    #[arg(long)]
    save: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// 10,000, 50,000 and 200,000 calls as a voice-agent platform has them, 20 a second.
    Sparse,
    /// 10,000, 50,000 and 200,000 calls, 500 a second, each up for a minute, one in ten transferred.
    Dense,
    /// 10,000 calls with so much RTP that it is nine tenths of the file.
    Rtp,
    /// 300,000 calls up at once.
    Up,
    /// Instructions a message, and bytes and allocations a call.
    Counts,
    /// The kernel programs, by the kernel's test run.
    Programs,
}

/// Calls in the captures of one kind.
const CALLS: [u64; 3] = [10_000, 50_000, 200_000];
/// RTP packets of a call each way that make nine tenths of the bytes.
const RTP: u32 = 72;

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(&[Need::Comparisons, Need::Live])?;
    ensure!(options.divide > 0, "--divide must be more than 0");
    ensure!(
        !options.save || options.parts.is_empty() && options.divide == 1,
        "only the result of all parts is saved"
    );
    let sipobs = daemon::build(false, true)?;
    let bench = Bench { options, sipobs: &sipobs, dir: scratch("bench")? };
    let mut report = Report { text: String::new(), save: options.save };
    report.add(&format!(
        "cargo xtask bench\n\n{}{}{}",
        machine()?,
        readers::versions(),
        options.meaning()
    ))?;
    for capture in captures().iter().filter(|capture| options.wants(capture.part)) {
        report.add(&bench.compare(capture)?)?;
    }
    if options.wants(Part::Counts) {
        report.add(&counts::report(&sipobs, &bench.dir)?)?;
    }
    if options.wants(Part::Programs) {
        report.add(&programs())?;
    }
    Ok(())
}

/// What was measured so far: told, and where wanted saved, part by part, as the whole takes its time.
struct Report {
    text: String,
    save: bool,
}

impl Report {
    fn add(&mut self, part: &str) -> Result<()> {
        print!("{part}");
        self.text.push_str(part);
        if self.save {
            fs::write(root().join("xtask/bench-results.txt"), &self.text)?;
        }
        Ok(())
    }
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// What the columns mean.
    fn meaning(&self) -> String {
        format!(
            "\nsipobs: pcap --format jsonl. tshark: -Y sip with Call-ID, CSeq and status as fields, name resolution off.\n\
             sngrep: no interface, nothing printed, no limit on calls. Of the runs of each, of which there are as many as\n\
             fit into {} s, at most {}, the one that took the least CPU time; user's and system's are added. Messages/s,\n\
             MB/s and × are by CPU time. A reader is stopped after {} s.\n",
            readers::ENOUGH.as_secs(),
            self.runs,
            self.limit
        )
    }
}

/// A capture to be read.
struct Capture {
    part: Part,
    what: String,
    shape: Shape,
}

enum Shape {
    Sparse(Mix),
    Dense(Dense),
}

fn captures() -> Vec<Capture> {
    let sparse = |calls| Capture {
        part: Part::Sparse,
        what: format!("{calls} calls, 20 a second"),
        shape: Shape::Sparse(Mix { calls, rate: 20.0, ..Mix::default() }),
    };
    let dense = |calls| Capture {
        part: Part::Dense,
        what: format!("{calls} calls, 500 a second, each up 60 s, every tenth transferred"),
        shape: Shape::Dense(Dense { calls, ..Dense::default() }),
    };
    let rtp = Capture {
        part: Part::Rtp,
        what: "10000 calls, 500 a second, and so much RTP that it is nine tenths of the bytes".into(),
        shape: Shape::Dense(Dense { calls: 10_000, rtp: RTP, ..Dense::default() }),
    };
    let up = Capture {
        part: Part::Up,
        what: "300000 calls up at once, every tenth with a second leg".into(),
        // All have begun before the first ends.
        shape: Shape::Dense(Dense {
            calls: 300_000,
            rate: 5_000.0,
            up: 70.0,
            by: Means::Caller,
            ..Dense::default()
        }),
    };
    CALLS.map(dense).into_iter().chain([rtp]).chain(CALLS.map(sparse)).chain([up]).collect()
}

struct Bench<'a> {
    options: &'a Options,
    sipobs: &'a Path,
    dir: PathBuf,
}

impl Bench<'_> {
    /// What each reader needs for a capture, which is written for it and removed.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn compare(&self, capture: &Capture) -> Result<String> {
        println!("{}", capture.what);
        let path = self.dir.join("calls.pcap");
        capture.shape.write(&path, self.options.divide)?;
        let known = readers::read(self.sipobs, &path)?;
        capture.shape.check(&known, self.options.divide)?;
        let bytes = path.metadata()?.len();
        let mut report = format!("\n{}", capture.what);
        if self.options.divide > 1 {
            write!(report, " (all divided by {})", self.options.divide)?;
        }
        writeln!(
            report,
            "\n{} SIP messages in {} packets and {bytes} bytes; sipobs: {}\n",
            known.messages, known.packets, known.verdicts
        )?;
        writeln!(
            report,
            "  {:8} {:>8} {:>8} {:>12} {:>12} {:>8} {:>9} {:>12}",
            "reader", "wall s", "CPU s", "µs a message", "messages/s", "MB/s", "peak MiB", "× of sipobs"
        )?;
        let mut first = None;
        for reader in Reader::all(self.sipobs, &path) {
            let Some(cost) = reader.cheapest(&self.dir, self.options.runs, self.options.limit)? else {
                writeln!(report, "  {:8} not within {} s", reader.name, self.options.limit)?;
                continue;
            };
            let messages = known.messages as f64;
            let base = *first.get_or_insert(cost.cpu);
            writeln!(
                report,
                "  {:8} {:8.2} {:8.2} {:12.2} {:12.0} {:8.1} {:9.1} {:12.1}",
                reader.name,
                cost.seconds,
                cost.cpu,
                cost.cpu * 1e6 / messages,
                messages / cost.cpu,
                bytes as f64 / cost.cpu / 1e6,
                cost.peak_kib as f64 / 1024.0,
                cost.cpu / base,
            )?;
        }
        fs::remove_file(&path)?;
        Ok(report)
    }
}

impl Shape {
    /// Dense calls have their transfers, all of them answered, and nothing else is said.
    fn check(&self, known: &Known, divide: u64) -> Result<()> {
        let Self::Dense(dense) = self else { return Ok(()) };
        let transfers = Dense { calls: dense.calls / divide, ..dense.clone() }.transfers();
        let wanted = format!("{{\"succeeded\":{transfers}}} transfers, {{}} lost");
        ensure!(known.verdicts == wanted, "sipobs says {}, and it should be {wanted}", known.verdicts);
        Ok(())
    }

    fn write(&self, path: &Path, divide: u64) -> Result<()> {
        match self {
            Self::Sparse(mix) => {
                let truth = path.with_extension("truth");
                traffic::write(Mix { calls: mix.calls / divide, ..mix.clone() }, path, &truth)?;
                fs::remove_file(truth)?;
            }
            Self::Dense(dense) => Dense { calls: dense.calls / divide, ..dense.clone() }.write(path)?,
        }
        Ok(())
    }
}

/// What the kernel programs cost, by the kernel's test run; or why that can't be had here.
fn programs() -> String {
    let mut bench = Command::new("cargo");
    bench.args(["bench", "--locked", "--package", "sipobs", "--no-default-features", "--features", "live"]);
    bench.args(["--bench", "programs"]).env("PATH", setup::search_path()).current_dir(root());
    match output(&mut bench) {
        Ok(text) => format!("\nThe kernel programs, by the kernel's test run, warm\n\n{text}"),
        Err(error) => format!("\nThe kernel programs were not measured: {error}\n"),
    }
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
