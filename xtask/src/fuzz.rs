//! `cargo xtask fuzz`: the targets of sipobs/fuzz, one after the other.
//!
//! Seeds are in sipobs/fuzz/seeds; what a run finds worth keeping goes below `target/xtask/fuzz`, and the next run
//! begins with it. The stages have no unsafe code of their own, so no sanitizer is used by default: what it would
//! find is in dependencies, and a run without it tries several times as much. A leak shows in the memory limit.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::children::{Running, check_interrupt, run as run_command};
use crate::setup::{self, Need};
use crate::{root, target};

/// Each target, and the folders of seeds that it begins with.
const TARGETS: &[(&str, &[&str])] = &[
    ("frame", &["frame"]),
    ("defragment", &["defragment"]),
    ("reassembly", &["reassembly"]),
    ("framing", &["framing"]),
    ("index", &["message"]),
    ("typed", &["message"]),
    ("sipfrag", &["sipfrag", "message"]),
    ("transfer", &["transfer"]),
    ("file", &["file"]),
    ("hep", &["hep"]),
    ("config", &["config"]),
];

/// How long one input may take, in seconds, and how much memory a target, in MiB.
const INPUT_SECONDS: u32 = 5;
const MEMORY_MIB: u32 = 1024;
/// The longest input, in bytes: long enough for what grows faster than its input to show.
const LONGEST: u32 = 16_384;
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

#[derive(Args)]
pub(crate) struct Options {
    /// How long each target runs, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// With a sanitizer, as cargo-fuzz names it.
    #[arg(long, default_value = "none")]
    sanitizer: String,
    /// Only these targets.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let known = |name: &str| TARGETS.iter().any(|(known, _)| *known == name);
    if let Some(unknown) = options.targets.iter().find(|name| !known(name)) {
        let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        bail!("there is no target {unknown:?}; there are {}", names.join(", "));
    }
    setup::ensure(&[Need::Fuzz])?;
    let wanted =
        |name: &str| options.targets.is_empty() || options.targets.iter().any(|target| target == name);
    fuzz(options.seconds, &options.sanitizer, wanted)
}

/// A short run of every target, for the gate: the seeds, and `seconds` of new inputs for each.
pub(crate) fn short(seconds: u64) -> Result<()> {
    setup::ensure(&[Need::Fuzz])?;
    fuzz(seconds, "none", |_| true)
}

/// Why no target can be built here, if so.
pub(crate) fn impossible() -> Option<String> {
    let nightly = setup::nightly();
    (!nightly)
        .then(|| "fuzzing needs a nightly Rust: rustup toolchain install nightly --profile minimal".into())
}

fn fuzz(seconds: u64, sanitizer: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let targets: Vec<_> = TARGETS.iter().filter(|(name, _)| wanted(name)).collect();
    // All at once where all are wanted: they share everything but their last step.
    let mut build = cargo_fuzz("build", sanitizer);
    if let [(name, _)] = targets[..] {
        build.arg(name);
    }
    run_command(&mut build, BUILD_LIMIT)?;
    for (name, seeds) in targets {
        check_interrupt()?;
        let dir = target().join("xtask/fuzz");
        let found = dir.join(name);
        fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let mut command = cargo_fuzz("run", sanitizer);
        command.arg(name).arg(&found);
        for folder in *seeds {
            command.arg(folder_of("seeds").join(folder));
        }
        command.arg("--").arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-timeout={INPUT_SECONDS}")).arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        command.arg(format!("-max_len={LONGEST}")).arg("-print_final_stats=1");
        let mut running = Running::start(name, command, &dir.join(format!("{name}.log")))?;
        running.succeed(Duration::from_secs(seconds + 300)).with_context(|| {
            format!("{name}: the input that did it is in {}", folder_of("artifacts").join(name).display())
        })?;
        println!("── {name}: {} inputs in {seconds} s", inputs(&running.output()?));
    }
    Ok(())
}

/// How many inputs libFuzzer says that it tried.
fn inputs(log: &str) -> &str {
    let count = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    count.map_or("?", str::trim)
}

fn folder_of(name: &str) -> PathBuf {
    root().join("sipobs/fuzz").join(name)
}

fn cargo_fuzz(verb: &str, sanitizer: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["+nightly", "fuzz", verb, "--fuzz-dir"]).arg(root().join("sipobs/fuzz"));
    cargo.args(["--sanitizer", sanitizer]);
    cargo.env("PATH", setup::search_path()).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    cargo.current_dir(root());
    cargo
}
