//! Calls in TLS are judged as in the clear, where their secrets are known. `tls/sessions` holds one golden case as OpenSSL
//! and Go spoke it, by each version and cipher.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use sipobs::capture::file::{Capture, Contents, FileError, Next, Reader, Stop};
use sipobs::engine::{Config, Engine};
use sipobs::frame::Frame;
use sipobs::privacy::Privacy;
use sipobs::record::{Method, Outcome, Output};
use sipobs::stream::{KeyLog, TlsCounts, TransportKind};
use sipobs::timestamp::Timestamp;

mod common;

use common::frames;

fn sessions() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/sessions");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "pcap")).collect();
    files.sort();
    assert_eq!(files.len(), 8, "{files:?}");
    files
}

fn keys(capture: &Path) -> KeyLog {
    let mut keys = KeyLog::default();
    keys.add(&std::fs::read(capture.with_extension("keys")).unwrap()).unwrap();
    keys
}

type Verdict = (Method, Outcome, Option<u16>);

fn engine(keys: KeyLog) -> Engine {
    let mut config = Config::default();
    config.stream.keys = Arc::new(keys);
    config.stream.awaits_keys = true;
    Engine::new(config, Privacy::default()).unwrap()
}

fn judge(frames: &[Frame<'_>], keys: KeyLog) -> (Vec<Verdict>, Vec<TransportKind>, TlsCounts) {
    let mut engine = engine(keys);
    frames.iter().for_each(|frame| engine.frame(frame));
    settle(engine, frames.last().unwrap().time)
}

fn settle(mut engine: Engine, now: Timestamp) -> (Vec<Verdict>, Vec<TransportKind>, TlsCounts) {
    engine.finish(now);
    assert_eq!(engine.counters().balance().residual(), 0);
    let (mut verdicts, mut transports) = (Vec::new(), Vec::new());
    while let Some(output) = engine.poll_output() {
        if let Output::Transfer(attempt) = output {
            verdicts.push((attempt.method, attempt.outcome, attempt.status));
            transports.extend(attempt.messages.iter().map(|line| line.transport));
        }
    }
    (verdicts, transports, engine.counters().stream.tls)
}

#[test]
fn a_call_in_tls_is_judged_as_in_the_clear() {
    let expected = in_the_clear();
    assert!(!expected.is_empty());
    for file in sessions() {
        let (verdicts, transports, counts) = judge(&frames(&file), keys(&file));
        assert_eq!(verdicts, expected, "{}", file.display());
        assert!(transports.iter().all(|transport| *transport == TransportKind::Tls), "{}", file.display());
        assert!(counts.opened > 0 && counts.opened == counts.sessions, "{}: {counts:?}", file.display());
    }
}

#[test]
fn what_is_not_opened_is_counted_by_reason() {
    let files = sessions();
    for (at, file) in files.iter().enumerate() {
        let frames = frames(file);
        let (verdicts, _, counts) = judge(&frames, keys(&files[(at + 1) % files.len()]));
        assert!(verdicts.is_empty(), "{}", file.display());
        assert!(counts.no_key > 0 && counts.no_key == counts.sessions, "{}: {counts:?}", file.display());
    }
}

#[test]
fn a_cipher_suite_that_is_not_read_is_named() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/unread/go-12-cbc.pcap");
    let (verdicts, _, counts) = judge(&frames(&file), keys(&file));
    assert!(verdicts.is_empty());
    let suites: Vec<_> = counts.suites.into_iter().collect();
    assert_eq!(suites, [("TLS 1.2 TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA".to_owned(), 1)]);
    assert_eq!((counts.sessions, counts.cipher_suite, counts.no_key), (1, 1, 0));
}

#[test]
fn behind_a_gap_reading_goes_on() {
    for file in sessions() {
        let frames = frames(&file);
        let mut resumed = 0;
        for lost in 0..frames.len() {
            let left: Vec<_> = frames.iter().enumerate().filter(|(at, _)| *at != lost).collect();
            let left: Vec<_> = left.into_iter().map(|(_, frame)| *frame).collect();
            let (_, _, counts) = judge(&left, keys(&file));
            resumed += counts.resumed;
            let unread = counts.bytes_missing + counts.record_damaged + counts.no_key;
            assert!(counts.sessions <= 1 && unread <= 1, "{} {lost}: {counts:?}", file.display());
            // Something is said in it, and by the same host behind it, too.
            let (host, says) = (26..30, |frame: &Frame<'_>| frame.wire_len > 80);
            let goes_on = frames[lost + 1..]
                .iter()
                .any(|frame| says(frame) && frame.bytes[host.clone()] == frames[lost].bytes[host.clone()]);
            if lost >= frames.len() / 2 && says(&frames[lost]) && goes_on {
                assert_eq!((counts.resumed, unread), (1, 0), "{} {lost}: {counts:?}", file.display());
            }
        }
        assert!(resumed > 4, "{}: {resumed}", file.display());
    }
}

#[test]
fn a_damaged_record_is_no_message() {
    for file in sessions() {
        for at in 4..frames(&file).len() {
            let frames = frames(&file);
            let mut bytes = frames[at].bytes.to_vec();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            let mut damaged = frames;
            damaged[at].bytes = Vec::leak(bytes);
            judge(&damaged, keys(&file));
        }
    }
}

/// What a file's messages come to, what they came by, and what was opened.
type Judged = (Vec<Verdict>, Vec<TransportKind>, TlsCounts);

/// A file that may hold secrets is judged; also what it held, and why not all of it was read.
fn judge_file(path: &Path) -> (Judged, Contents, Option<FileError>) {
    let mut capture = Capture::open(&[path], &Stop::never()).unwrap();
    let (mut engine, mut last, mut held) = (engine(KeyLog::default()), Timestamp::default(), None);
    while let Some(next) = capture.next() {
        match next {
            Next::Frame(frame) => {
                last = frame.time;
                engine.frame(&frame);
            }
            Next::Secrets(keys) => engine.add_keys(&keys),
            Next::End(end) => held = Some((end.contents, end.error)),
        }
    }
    let (contents, error) = held.unwrap();
    (settle(engine, last), contents, error)
}

fn with_secrets(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/secrets").join(name)
}

fn in_the_clear() -> Vec<Verdict> {
    let clear = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/06_trunk_success/input.pcap");
    judge(&frames(&clear), KeyLog::default()).0
}

/// The blocks of a little-endian pcapng file.
fn blocks(file: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut blocks) = (file, Vec::new());
    while let Some(len) = rest.get(4..8) {
        let (block, behind) = rest.split_at(u32::from_le_bytes(len.try_into().unwrap()) as usize);
        blocks.push(block);
        rest = behind;
    }
    blocks
}

const SECRETS: u8 = 10;

fn written(bytes: &[u8]) -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn secrets_in_the_file_open_it() {
    for (name, kinds) in [
        ("editcap-12.pcapng", vec![("tls", 1)]),
        ("editcap-13.pcapng", vec![("tls", 1)]),
        ("editcap-wireguard.pcapng", vec![("tls", 1), ("wireguard", 1)]),
    ] {
        let ((verdicts, _, counts), contents, error) = judge_file(&with_secrets(name));
        assert!(error.is_none(), "{name}: {error:?}");
        assert_eq!(verdicts, in_the_clear(), "{name}");
        assert_eq!((counts.opened, counts.late_key), (counts.sessions, 0), "{name}: {counts:?}");
        assert_eq!(contents.secrets.by_kind().collect::<Vec<_>>(), kinds, "{name}");
        assert_eq!(contents.secrets.bad_lines, 0, "{name}");
    }
}

#[test]
fn secrets_open_what_is_behind_them() {
    for name in ["editcap-12.pcapng", "editcap-13.pcapng"] {
        let file = std::fs::read(with_secrets(name)).unwrap();
        let mut others = blocks(&file);
        let secrets =
            others.remove(others.iter().position(|block| block.starts_with(&[SECRETS, 0, 0, 0])).unwrap());
        let mut found = Vec::new();
        for at in 2..=others.len() {
            let mut blocks = others.clone();
            blocks.insert(at, secrets);
            let ((verdicts, _, counts), contents, _) = judge_file(&written(&blocks.concat()));
            assert_eq!(contents.secrets.by_kind().collect::<Vec<_>>(), [("tls", 1)], "{name} {at}");
            if verdicts == in_the_clear() {
                found.push(at);
            } else {
                assert_eq!(counts.late_key.max(counts.no_key), 1, "{name} {at}: {counts:?}");
            }
        }
        // Between the server's hello and the first thing said, too, which is where apps on phones put them.
        assert!(found.len() > 8 && found.starts_with(&[2, 3, 4, 5, 6, 7, 8]), "{name}: {found:?}");
    }
}

#[test]
fn damaged_secrets_are_told() {
    let file = std::fs::read(with_secrets("editcap-13.pcapng")).unwrap();
    let at = file.windows(4).position(|four| four == [SECRETS, 0, 0, 0]).unwrap();
    let with = |place: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at + place..at + place + bytes.len()].copy_from_slice(bytes);
        judge_file(&written(&file))
    };
    // The block's length, that of the secrets, and the first letter of a line.
    for (place, bytes, field) in [
        (4, &[16_u8, 0, 0, 0][..], "block length"),
        (12, &[0xff; 4], "secrets length"),
        (4, &[0xfc, 0xff, 0xff, 0x7f], "secrets"),
    ] {
        let (_, _, error) = with(place, bytes);
        let error = error.unwrap().to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    let lines = with(16, b"\nnonsense\n");
    assert_eq!((lines.1.secrets.bad_lines, lines.1.secrets.first_bad), (2, Some(at as u64)));
    let len = usize::from(u16::from_le_bytes([file[at + 4], file[at + 5]]));
    for cut in (at + 1..at + len).step_by(11) {
        assert!(judge_file(&written(&file[..cut])).2.is_some(), "{cut}");
    }
}

fn sipobs(args: &[&std::ffi::OsStr]) -> (Vec<Value>, String, Option<i32>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    let output = program.args(["pcap", "--format", "jsonl"]).args(args).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let records = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (records, String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// The records but for what tells of the file, and their summary.
fn told(mut records: Vec<Value>) -> (Vec<Value>, Value) {
    let summary = records.pop().unwrap();
    for record in &mut records {
        for message in record["messages"].as_array_mut().into_iter().flatten() {
            (message["frame"], message["file"]) = (Value::Null, Value::Null);
        }
    }
    (records, summary)
}

#[test]
fn packets_of_tls_are_handed_on_with_the_secrets_of_their_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let all_keys = folder.path().join("all.keys");
    let all: Vec<u8> =
        sessions().iter().flat_map(|file| std::fs::read(file.with_extension("keys")).unwrap()).collect();
    std::fs::write(&all_keys, all).unwrap();
    for file in sessions() {
        let case = folder.path().join("case.pcapng");
        let args = [file.as_os_str(), "--keylog".as_ref(), all_keys.as_ref(), "-w".as_ref(), case.as_ref()];
        let (records, said, status) = sipobs(&args);
        assert_eq!(status, Some(0), "{}: {said}", file.display());
        assert!(said.contains("holds the secrets of 1 TLS sessions"), "{said}");
        let (again, said, status) = sipobs(&[case.as_ref()]);
        assert_eq!(status, Some(0), "{}: {said}", file.display());
        let ((records, summary), (again, of_case)) = (told(records), told(again));
        assert!(records.iter().any(|record| record["kind"] == "transfer"), "{records:?}");
        assert!(records[0]["messages"].as_array().unwrap().iter().all(|line| line["transport"] == "tls"));
        assert_eq!(again, records, "{}", file.display());
        assert_eq!(of_case["tls"], summary["tls"]);
        assert_eq!(of_case["files"][0]["secrets"]["tls"], 1);
        // The secrets of this session, and of no other one.
        let bytes = std::fs::read(&case).unwrap();
        let holds = |random: &str| bytes.windows(64).any(|window| window == random.as_bytes());
        for other in sessions() {
            let keys = std::fs::read_to_string(other.with_extension("keys")).unwrap();
            let random = keys.lines().last().unwrap().split(' ').nth(1).unwrap().to_owned();
            assert_eq!(holds(&random), other == file, "{} in {}", other.display(), file.display());
        }
        std::fs::remove_file(case).unwrap();
    }
}

#[test]
fn packets_of_tls_are_left_out_where_nobody_is_to_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let case = folder.path().join("case.pcapng");
    let file = with_secrets("editcap-13.pcapng");
    let (_, said, status) = sipobs(&[file.as_ref(), "-w".as_ref(), case.as_ref(), "--redact".as_ref()]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("can't be written over"), "{said}");
    let bytes = std::fs::read(&case).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"CLIENT"), "a secret");
    assert!(bytes.len() < 1000, "{}", bytes.len());
}

#[test]
fn the_captures_are_read() {
    for file in sessions() {
        assert!(Reader::open(&file).unwrap().next().unwrap().is_some());
    }
}
