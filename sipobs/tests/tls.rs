//! Calls in TLS are judged as in the clear, where their secrets are known. `tls/sessions` holds one golden case as OpenSSL
//! spoke it, by each version and cipher.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sipobs::capture::file::Reader;
use sipobs::engine::{Config, Engine};
use sipobs::frame::Frame;
use sipobs::privacy::Privacy;
use sipobs::record::{Method, Outcome, Output};
use sipobs::stream::{KeyLog, TlsCounts, TransportKind};

mod common;

use common::frames;

fn sessions() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/sessions");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "pcap")).collect();
    files.sort();
    assert_eq!(files.len(), 6, "{files:?}");
    files
}

fn keys(capture: &Path) -> KeyLog {
    let mut keys = KeyLog::default();
    keys.add(&std::fs::read(capture.with_extension("keys")).unwrap()).unwrap();
    keys
}

type Verdict = (Method, Outcome, Option<u16>);

fn judge(frames: &[Frame<'_>], keys: KeyLog) -> (Vec<Verdict>, Vec<TransportKind>, TlsCounts) {
    let mut config = Config::default();
    config.stream.keys = Arc::new(keys);
    let mut engine = Engine::new(config, Privacy::default()).unwrap();
    frames.iter().for_each(|frame| engine.frame(frame));
    engine.finish(frames.last().unwrap().time);
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
    let clear = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/06_trunk_success/input.pcap");
    let (expected, ..) = judge(&frames(&clear), KeyLog::default());
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
        // Without a frame in the midst of what is said, the session can't be read on.
        let lost: Vec<_> = frames.iter().enumerate().filter(|(at, _)| *at != frames.len() / 2).collect();
        let lost: Vec<_> = lost.into_iter().map(|(_, frame)| *frame).collect();
        let (.., counts) = judge(&lost, keys(file));
        assert_eq!(counts.bytes_missing + counts.record_damaged, 1, "{}: {counts:?}", file.display());
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

#[test]
fn the_captures_are_read() {
    for file in sessions() {
        assert!(Reader::open(&file).unwrap().next().unwrap().is_some());
    }
}
