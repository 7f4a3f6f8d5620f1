//! The project's own chores: `cargo xtask --help` lists them.

#![allow(clippy::disallowed_methods, reason = "chores look at the clock; the engine does not")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod bench;
mod calls;
mod cases;
mod children;
mod collector;
mod daemon;
mod demo;
mod deploy;
mod dist;
mod faults;
mod fuzz;
mod hook;
mod kernels;
mod kube;
mod lab;
mod ladder;
mod live;
mod load;
mod page;
mod recording;
mod rollout;
mod setup;
mod test;
mod traffic;
mod tunnels;
mod ui;
mod unit;
mod web;
mod wire;

/// Chores of sipobs.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Chore {
    /// Measure the reading of captures beside tshark and sngrep.
    Bench(bench::Options),
    /// Place real calls whose transfers fail and work, and let sipobs explain them as they happen.
    Demo(demo::Options),
    /// Make the Debian package, the container image, the offline program, the page for browsers, their bill of materials and
    /// checksums.
    Dist(dist::Options),
    /// Feed hostile bytes to every stage that eats bytes.
    Fuzz(fuzz::Options),
    /// Write the files of deploy/ that are made from others.
    Generate {
        /// Only say whether they are what their sources say.
        #[arg(long)]
        check: bool,
    },
    /// Boot other kernels in an emulator and hold live capture under each against the file reader.
    Kernels(kernels::Options),
    /// Run the Helm chart on a Kubernetes node of its own, and see what becomes of it when things go wrong.
    Kube(kube::Options),
    /// Write the captures of the golden cases from their ladder files.
    Ladders {
        /// Only say whether they are what their ladders say.
        #[arg(long)]
        check: bool,
    },
    /// Send calls at growing rates until a message is lost, and floods, under the eyes of `sipobs run`.
    Load(load::Options),
    /// Record the lab's calls on the agent's wire into a capture file.
    Record {
        /// The file to write.
        file: PathBuf,
    },
    /// Place the calls of the golden cases that have a `play.txt` between real SIP stacks, and record them.
    RecordCases(cases::Options),
    /// Let one daemon take another's place while calls are placed, and count those that nobody saw.
    Rollout(rollout::Options),
    /// Install what the other chores need (as root on Debian or Ubuntu), or say how.
    Setup,
    /// Run every check there is, or only the steps named.
    Test(test::Options),
    /// Write a capture of calls and transfers as a voice-agent platform makes them, and the truth beside it.
    Traffic(traffic::Options),
    /// Write a page that reads captures in whatever browser opens it, and sends them nowhere.
    Web(web::Options),
}

fn main() -> ExitCode {
    let done = children::watch_signals().and_then(|()| match Chore::parse() {
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Ladders { check } => ladder::run(&root().join("sipobs/tests"), check),
        Chore::Bench(options) => bench::run(&options),
        Chore::Demo(options) => demo::run(&options),
        Chore::Generate { check } => deploy::generate::run(check),
        Chore::Dist(options) => dist::run(&options),
        Chore::Kernels(options) => kernels::run(&options),
        Chore::Kube(options) => kube::run(&options),
        Chore::Load(options) => load::run(&options),
        Chore::Record { file } => recording::record(&file),
        Chore::RecordCases(options) => cases::run(&root().join("sipobs/tests/golden"), &options),
        Chore::Rollout(options) => rollout::run(&options),
        Chore::Setup => setup::ensure(&setup::Need::ALL).map(|()| println!("Everything is there.")),
        Chore::Test(options) => test::run(&options),
        Chore::Traffic(options) => traffic::run(&options),
        Chore::Web(options) => web::run_chore(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The project's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is inside the project")
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A folder below `target` for what one run of a chore writes, emptied.
fn scratch(chore: &str) -> Result<PathBuf> {
    let dir = target().join("xtask").join(chore);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
