//! `-w` writes the packets of calls: read again they give the same verdicts. With `--redact` nobody's number or name is left
//! in them.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Every capture of the tests, with the configuration that it is read with.
fn captures() -> Vec<(PathBuf, Option<PathBuf>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let list = |folder: &str| {
        let mut found: Vec<_> =
            std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    };
    let mut all: Vec<_> = list("golden")
        .into_iter()
        .filter(|case| case.is_dir())
        .map(|case| {
            (case.join("input.pcap"), Some(case.join("config.toml")).filter(|config| config.exists()))
        })
        .collect();
    for folder in ["captures/recorded", "captures/livekit", "captures/public", "captures/files"] {
        all.extend(list(folder).into_iter().map(|file| (file, None)));
    }
    assert!(all.len() > 200, "{}", all.len());
    all
}

fn sipobs(file: &Path, config: Option<&PathBuf>, args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    program.args(["pcap", "--format", "jsonl", "--mask", "full"]).arg(file).args(args);
    if let Some(config) = config {
        program.arg("--config").arg(config);
    }
    program.env("TZ", "UTC").output().unwrap()
}

/// The records that something is written of.
fn records(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| match record["kind"].as_str().unwrap() {
            "transfer" => true,
            "call" => record["refer_absent"] != "no",
            _ => false,
        })
        .collect()
}

/// What must be the same, whoever the parties are: a verdict for each line.
fn verdicts(records: &[Value], fields: &[&str]) -> Vec<String> {
    let shown = |record: &Value| {
        let each = fields.iter().map(|field| format!("{field}={}", record[*field]));
        each.collect::<Vec<_>>().join(" ")
    };
    records.iter().map(shown).collect()
}

const VERDICT: &[&str] = &[
    "kind",
    "method",
    "type",
    "outcome",
    "evidence",
    "status",
    "fault",
    "started",
    "ended",
    "duration_ms",
    "unknown_reason",
    "refer_cseq",
    "ringing_ms",
    "answer_ms",
    "refer_absent",
];

/// Those that also stay where nothing is written over.
const NAMES: &[&str] = &[
    "id",
    "call_id",
    "target_call_id",
    "transferor",
    "transferee",
    "target",
    "reason",
    "diagnosis",
    "trunk",
];

/// Holds what is written of every capture against the capture.
fn each_read_again(args: &[&str], fields: &[&str]) -> (usize, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut written, mut wrong) = (0, Vec::new());
    for (file, config) in captures() {
        let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        let to = dir.path().join("out.pcapng");
        let _ = std::fs::remove_file(&to);
        let to_write = [&["-w", to.to_str().unwrap()], args].concat();
        let first = sipobs(&file, config.as_ref(), &to_write);
        let before = records(&first);
        if before.is_empty() {
            assert!(!to.exists(), "{name}");
            continue;
        }
        if !to.exists() {
            wrong.push(format!("{name}: {}", String::from_utf8_lossy(&first.stderr)));
            continue;
        }
        written += 1;
        let again = records(&sipobs(&to, config.as_ref(), &[]));
        let (before, again) = (verdicts(&before, fields), verdicts(&again, fields));
        if before != again {
            wrong.push(format!("{name}:\n  {}\nnow\n  {}", before.join("\n  "), again.join("\n  ")));
        }
    }
    (written, wrong)
}

#[test]
fn what_is_written_gives_the_same_verdicts() {
    let fields = [VERDICT, NAMES].concat();
    let (written, wrong) = each_read_again(&[], &fields);
    assert!(wrong.is_empty(), "{} of {written}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(written > 170, "{written}");
}

#[test]
fn what_names_nobody_gives_the_same_verdicts() {
    for args in [&["--redact"][..], &["--redact=addresses"]] {
        let (written, wrong) = each_read_again(args, VERDICT);
        assert!(wrong.is_empty(), "{args:?}: {} of {written}:\n{}", wrong.len(), wrong.join("\n"));
        assert!(written > 170, "{written}");
    }
}

/// What stands in a capture between these, of no more than one line.
fn between<'a>(bytes: &'a [u8], before: &'a str, ends: &'a [u8]) -> impl Iterator<Item = String> + 'a {
    memchr::memmem::find_iter(bytes, before.as_bytes()).map(move |at| {
        let rest = &bytes[at + before.len()..];
        let end = rest.iter().take(200).position(|byte| ends.contains(byte) || !(b' '..=b'~').contains(byte));
        String::from_utf8_lossy(&rest[..end.unwrap_or(0)]).into_owned()
    })
}

/// The parties' numbers as digits, and names and credentials.
fn secrets_of(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut numbers, mut words) = (Vec::new(), Vec::new());
    let users =
        ["sip:", "sips:", "tel:", "sip%3A"].into_iter().flat_map(|scheme| between(bytes, scheme, b"@;>\"% "));
    for user in users.chain(between(bytes, "username=\"", b"\"")) {
        let digits: String = user.chars().filter(char::is_ascii_digit).collect();
        let is_number = user.chars().all(|c| c.is_ascii_digit() || "+-.()".contains(c));
        if is_number && digits.len() >= 5 && user.parse::<std::net::Ipv4Addr>().is_err() {
            numbers.push(digits);
        }
    }
    for name in ["From: \"", "To: \"", "Contact: \"", "P-Asserted-Identity: \""] {
        let names = between(bytes, name, b"\"");
        words.extend(names.filter(|name| name.chars().filter(|c| c.is_alphabetic()).count() >= 4));
    }
    for credential in ["nonce=\"", "response=\"", "opaque=\"", "inline:"] {
        words.extend(between(bytes, credential, b"\"\r|").filter(|value| value.len() >= 6));
    }
    for list in [&mut numbers, &mut words] {
        list.sort();
        list.dedup();
    }
    (numbers, words)
}

/// Places in a file where five digits of a number stand, whatever separates them on the wire.
fn places_of(bytes: &[u8], numbers: &[String]) -> std::collections::BTreeMap<usize, String> {
    let windows: std::collections::BTreeSet<&[u8]> = numbers
        .iter()
        .flat_map(|number| number.as_bytes().windows(5))
        // Zeros stay.
        .filter(|window| window.iter().filter(|digit| **digit != b'0').count() >= 3)
        .collect();
    let all = bytes.windows(5).enumerate().filter(|(_, window)| windows.contains(window));
    all.map(|(at, _)| {
        let around = &bytes[at.saturating_sub(40)..(at + 30).min(bytes.len())];
        (at, String::from_utf8_lossy(around).into_owned())
    })
    .collect()
}

#[test]
fn nobody_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut searched, mut wrong) = (0, Vec::new());
    for (file, config) in captures() {
        let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        let write = |args: &[&str]| {
            let to = dir.path().join("out.pcapng");
            let _ = std::fs::remove_file(&to);
            sipobs(&file, config.as_ref(), &[&["-w", to.to_str().unwrap()], args].concat());
            std::fs::read(&to).ok()
        };
        let Some(plain) = write(&[]) else { continue };
        let (numbers, words) = secrets_of(&plain);
        // Under another key, what is the same by chance is something else.
        let (Some(one), Some(other)) = (write(&["--redact"]), write(&["--redact"])) else {
            wrong.push(format!("{name}: not written"));
            continue;
        };
        searched += numbers.len() + words.len();
        let (one_at, other_at) = (places_of(&one, &numbers), places_of(&other, &numbers));
        for (at, around) in one_at.iter().filter(|(at, _)| other_at.contains_key(at)) {
            wrong.push(format!("{name}: digits at {at}: {around}"));
        }
        for word in &words {
            let is_in = |bytes: &[u8]| memchr::memmem::find(bytes, word.as_bytes()).is_some();
            if is_in(&one) && is_in(&other) {
                wrong.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(searched > 1_000, "{searched}");
}
