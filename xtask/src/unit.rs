//! The unit step: every test program that cargo builds, as many at a time as there are cores.
//!
//! `cargo test` runs one program after the other, and many a program is one long test: then a core has nothing to do. Each
//! program runs by one thread here, in its package's folder, as cargo would run it. All are run, whatever fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::children::{Running, check_interrupt, pause, run};
use crate::test::CARGO_LIMIT;
use crate::{root, setup};

/// No test program takes longer.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether one has ended.
const TICK: Duration = Duration::from_millis(50);
/// What takes longest starts first, so that it does not run alone at the end.
const LONG: &[&str] = &["outsiders", "sipobs", "budget", "evidence", "restart", "golden"];
/// What all of them are built with.
const BUILD: &[&str] = &["--locked", "--workspace", "--features", "sipobs/live"];

/// A test program.
struct Program {
    /// The name of its target: `golden`, or `sipobs` for the library's own tests and the program's.
    name: String,
    file: PathBuf,
    /// Its package's folder, where it runs.
    folder: PathBuf,
}

/// Builds and runs all of them, and the examples in the documentation. Fails if any fails.
pub(crate) fn test() -> Result<()> {
    let logs = root().join("target/xtask/unit");
    fs::create_dir_all(&logs)?;
    let mut waiting = build(&logs)?;
    // The last are taken first.
    waiting.sort_by_key(|program| LONG.iter().rev().position(|long| *long == program.name));
    let mut running: Vec<(Instant, Running)> = Vec::new();
    let mut failed = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        check_interrupt()?;
        while running.len() < available_parallelism()?.get()
            && let Some(program) = waiting.pop()
        {
            running.push((Instant::now(), start(&program, &logs)?));
        }
        let mut index = 0;
        while let Some((since, program)) = running.get_mut(index) {
            let took = since.elapsed();
            let ended = program.ended()?;
            if ended.is_none() && took < LIMIT {
                index += 1;
                continue;
            }
            let passed = ended.is_some_and(|status| status.success());
            println!(
                "   {} {} in {:.1} s",
                program.name(),
                if passed { "passed" } else { "FAILED" },
                took.as_secs_f32()
            );
            if !passed {
                println!("{}", program.tail(60));
                failed.push(program.name().to_owned());
            }
            running.swap_remove(index);
        }
        pause(TICK)?;
    }
    if !failed.is_empty() {
        bail!("failed: {}; what they said is in {}", failed.join(", "), logs.display());
    }
    let mut examples = Command::new("cargo");
    examples
        .args(["test", "--doc", "--quiet"])
        .args(BUILD)
        .env("PATH", setup::search_path())
        .current_dir(root());
    run(&mut examples, LIMIT)
}

/// Builds the test programs, and names them. What cargo tells of them is in `logs`.
fn build(logs: &Path) -> Result<Vec<Program>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]).args(BUILD);
    let messages = logs.join("build.jsonl");
    let file = fs::File::create(&messages).with_context(|| messages.display().to_string())?;
    cargo.env("PATH", setup::search_path()).current_dir(root()).stdout(file);
    run(&mut cargo, CARGO_LIMIT).context("the tests don't build")?;
    let messages = fs::read_to_string(&messages).with_context(|| messages.display().to_string())?;
    Ok(messages.lines().filter_map(|line| program(&serde_json::from_str(line).ok()?)).collect())
}

/// The test program that a message of cargo tells of.
fn program(message: &Value) -> Option<Program> {
    message["profile"]["test"].as_bool().filter(|test| *test)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let name = message["target"]["name"].as_str()?.to_owned();
    Some(Program { name, file: message["executable"].as_str()?.into(), folder })
}

fn start(program: &Program, logs: &Path) -> Result<Running> {
    let Program { name, file, folder } = program;
    let mut test = Command::new(file);
    test.arg("--test-threads=1").current_dir(folder).env("CARGO_MANIFEST_DIR", folder);
    test.env("PATH", setup::search_path());
    if rustix::process::geteuid().is_root() {
        test.env("SIPOBS_TEST_LIVE", "1");
    }
    let unique = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Running::start(name, test, &logs.join(format!("{unique}.log")))
}
