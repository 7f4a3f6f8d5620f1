//! Golden cases: one folder each below `tests/golden`, each a test of its name:
//! `cargo test -p sipobs --test golden 97` runs those that have `97` in it.
//!
//! `input.pcap` is read by the real program. Its output must be `expected.jsonl`, byte for byte (but for the summary's
//! last field, `files`, which `files.rs` has), and must hold what the `expect` lines of `ladder.txt` (or `expect.txt`,
//! for recorded cases) say:
//!
//! ```text
//! expect transfer outcome=busy diagnosis.0.code=suspect_policy
//! expect call refer_absent=fact
//! expect none
//! ```
//!
//! The n-th `expect transfer` speaks of the n-th transfer, and there must be as many transfers as such lines.
//! `expect damaged` says that the program says so of the capture, by exit status 1. `expect call` must hold for some call, `expect alert` for some alert; in a wanted value `%20` is a space. A case
//! with a `config.toml` is read with it. `SIPOBS_BLESS=1` rewrites `expected.jsonl`; the `expect` lines, which
//! a person wrote, still have to hold.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

/// There are more; fewer would mean that they are not found.
const FEWEST: usize = 400;

fn main() {
    let bless = std::env::var_os("SIPOBS_BLESS").is_some();
    let cases = cases();
    assert!(cases.len() >= FEWEST, "only {} cases found", cases.len());
    let trial = |case: PathBuf| {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        Trial::test(name, move || check(&case, bless))
    };
    libtest_mimic::run(&Arguments::from_args(), cases.into_iter().map(trial).collect()).exit();
}

fn check(case: &Path, bless: bool) -> Result<(), Failed> {
    let output = analyse(case);
    let expected = case.join("expected.jsonl");
    let differs = fs::read_to_string(&expected).unwrap_or_default() != output;
    if bless && differs {
        fs::write(&expected, &output)?;
    }
    expectations(case, &output)?;
    if differs && !bless {
        return Err("the output differs from expected.jsonl".into());
    }
    Ok(())
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

fn analyse(case: &Path) -> String {
    let config = case.join("config.toml");
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    // The output names the file as it was named here.
    program.current_dir(case).args(["pcap", "--format", "jsonl", "input.pcap"]);
    if config.exists() {
        program.arg("--config").arg("config.toml");
    }
    let output = program.output().expect("the program runs");
    let damaged = expect_lines(case).is_ok_and(|text| text.contains("\nexpect damaged\n"));
    let status = output.status.code();
    assert_eq!(
        status,
        Some(damaged.into()),
        "{}: {}",
        case.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let (records, _) = text.rsplit_once(",\"files\":[").expect("the summary ends in `files`");
    // Ladders mostly stop where nothing more matters; `open_calls.rs` has the calls that are up then.
    let is_held = |line: &&str| !line.starts_with("{\"kind\":\"open_call\"");
    let records = records.lines().filter(is_held).collect::<Vec<_>>().join("\n");
    format!("{records}}}\n")
}

/// The file that has them.
fn expect_lines(case: &Path) -> Result<String, String> {
    let file =
        ["ladder.txt", "expect.txt"].map(|name| case.join(name)).into_iter().find(|path| path.exists());
    fs::read_to_string(file.ok_or("no expect lines")?).map_err(|error| error.to_string())
}

fn expectations(case: &Path, output: &str) -> Result<(), String> {
    let text = expect_lines(case)?;
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let transfers = of("transfer");
    let mut next = 0;
    let mut stated = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("expect ")) {
        stated += 1;
        let (kind, wanted) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "none" | "damaged" => {}
            "transfer" => {
                let transfer = transfers.get(next).ok_or(format!("transfer {} is missing", next + 1))?;
                next += 1;
                holds(transfer, wanted).map_err(|why| format!("transfer {next}: {why}"))?;
            }
            kind => {
                let tried: Vec<String> =
                    of(kind).into_iter().filter_map(|value| holds(value, wanted).err()).collect();
                if tried.len() == of(kind).len() {
                    return Err(format!("no {kind} with {wanted}: {}", tried.join("; ")));
                }
            }
        }
    }
    match (stated, transfers.len().cmp(&next)) {
        (0, _) => Err("no expect lines".into()),
        (_, std::cmp::Ordering::Greater) => Err(format!("{} transfers too many", transfers.len() - next)),
        _ => Ok(()),
    }
}

fn holds(value: &Value, wanted: &str) -> Result<(), String> {
    for pair in wanted.split_whitespace() {
        let (path, expected) = pair.split_once('=').expect("expect lines hold path=value");
        let found = value.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or(&Value::Null);
        let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        if text != expected.replace("%20", " ") {
            return Err(format!("{path} is {text}, not {expected}"));
        }
    }
    Ok(())
}
