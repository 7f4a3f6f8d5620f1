//! What does not depend on how busy the machine is: instructions a message, bytes and allocations a call.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::readers;
use crate::children::{Running, output};
use crate::traffic::dense::Dense;
use crate::{root, setup};

/// A few lines of figures.
pub(super) fn report(sipobs: &Path, dir: &Path) -> Result<String> {
    println!("Instructions a message");
    let instructions = instructions(sipobs, dir)?;
    println!("Bytes and allocations a call");
    let calls = calls(dir)?;
    Ok(format!(
        "\nCounted, not timed\n\n  {instructions} instructions a SIP message, output included\n{calls}"
    ))
}

/// Calls of the capture that is counted; they overlap, as they last a minute.
const CALLS: u64 = 3_000;

/// By callgrind, on dense calls; what a capture of one call takes is start-up, and left out.
fn instructions(sipobs: &Path, dir: &Path) -> Result<u64> {
    let path = dir.join("counted.pcap");
    let counted = |calls| -> Result<(u64, u64)> {
        Dense { calls, ..Dense::default() }.write(&path)?;
        Ok((collected(sipobs, &path, dir)?, readers::read(sipobs, &path)?.messages))
    };
    let (one, many) = (counted(1)?, counted(CALLS)?);
    fs::remove_file(&path)?;
    Ok((many.0 - one.0) / (many.1 - one.1))
}

/// Instructions that sipobs takes for a capture.
fn collected(sipobs: &Path, capture: &Path, dir: &Path) -> Result<u64> {
    let (log, out) = (dir.join("callgrind.log"), dir.join("callgrind.out"));
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(format!("--log-file={}", log.display())).arg(sipobs);
    output(valgrind.args(["pcap", "--format", "jsonl"]).arg(capture))?;
    let said = fs::read_to_string(&log)?;
    // `==4711== Collected : 123456`
    let count =
        said.lines().find_map(|line| line.split_once("Collected : ")).context("callgrind counted nothing")?;
    count.1.trim().parse().context("callgrind's count")
}

/// What `sipobs/tests/budget.rs` prints of ordinary calls, in release: 300,000 of them, and a million.
fn calls(dir: &Path) -> Result<String> {
    let mut test = Command::new("cargo");
    test.args(["test", "--locked", "--release", "--package", "sipobs", "--no-default-features"]);
    test.args(["--test", "budget", "--", "--exact", "--nocapture"]);
    test.args(["an_ordinary_call_takes_little", "a_million_calls_are_up_at_once"]);
    test.env("PATH", setup::search_path()).current_dir(root());
    let mut running = Running::start("cargo test", test, &dir.join("budget.log"))?;
    running.succeed(BUILD_AND_RUN)?;
    let said = running.output()?;
    let mut figures = String::new();
    for line in said.lines().filter(|line| line.contains(" a call")) {
        writeln!(figures, "  {line}")?;
    }
    ensure!(!figures.is_empty(), "the test of budgets printed no figures:\n{said}");
    Ok(figures)
}

const BUILD_AND_RUN: Duration = Duration::from_secs(20 * 60);
