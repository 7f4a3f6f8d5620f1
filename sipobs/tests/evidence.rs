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

/// What is wrong with what is written of a capture; `None` where there is nothing to write.
fn faults_of(file: &Path, config: Option<&PathBuf>, dir: &Path) -> Option<Vec<String>> {
    let to = dir.join("out.pcapng");
    let write = |args: &[&str]| {
        let _ = std::fs::remove_file(&to);
        let output = sipobs(file, config, &[&["-w", to.to_str().unwrap()], args].concat());
        (records(&output), std::fs::read(&to).unwrap_or_default(), output.stderr)
    };
    let mut wrong = Vec::new();
    let mut files = Vec::new();
    let all = [VERDICT, NAMES].concat();
    for (args, fields) in [(&[][..], &all[..]), (&["--redact"], VERDICT), (&["--redact=addresses"], VERDICT)]
    {
        let (before, bytes, said) = write(args);
        if before.is_empty() {
            assert!(bytes.is_empty());
            return None;
        }
        if bytes.is_empty() {
            wrong.push(format!("{args:?}: {}", String::from_utf8_lossy(&said)));
        }
        let again = records(&sipobs(&to, config, &[]));
        let (before, again) = (verdicts(&before, fields), verdicts(&again, fields));
        if before != again {
            wrong.push(format!("{args:?}\n  {}\nnow\n  {}", before.join("\n  "), again.join("\n  ")));
        }
        files.push(bytes);
    }
    let (numbers, words) = secrets_of(&files[0]);
    // Under another key, what is the same by chance is something else.
    let [one, other] = [1, 2].map(|file| places_of(&files[file], &numbers));
    for (at, around) in one.iter().filter(|(at, _)| other.contains_key(at)) {
        wrong.push(format!("digits at {at}: {around}"));
    }
    for word in &words {
        if files[1..].iter().all(|bytes| memchr::memmem::find(bytes, word.as_bytes()).is_some()) {
            wrong.push(format!("still there: {word}"));
        }
    }
    Some(wrong)
}

#[test]
fn what_is_written_gives_the_same_verdicts_and_redacted_names_nobody() {
    let only = std::env::var("SIPOBS_EVIDENCE").unwrap_or_default();
    let captures = captures();
    let half = captures.len().div_ceil(2);
    let (mut written, mut wrong) = (0, Vec::new());
    std::thread::scope(|scope| {
        let all: Vec<_> = captures
            .chunks(half)
            .map(|some| {
                let only = &only;
                scope.spawn(move || {
                    let dir = tempfile::tempdir().unwrap();
                    let wanted =
                        some.iter().filter(|(file, _)| file.to_str().unwrap().contains(only.as_str()));
                    let each =
                        wanted.map(|(file, config)| (file, faults_of(file, config.as_ref(), dir.path())));
                    each.collect::<Vec<_>>()
                })
            })
            .collect();
        for (file, faults) in all.into_iter().flat_map(|some| some.join().unwrap()) {
            let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display();
            written += usize::from(faults.is_some());
            wrong.extend(faults.into_iter().flatten().map(|fault| format!("{name}: {fault}")));
        }
    });
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(written > 170 || !only.is_empty(), "{written}");
}
