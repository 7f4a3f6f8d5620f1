//! Calls over WebSocket, as a real stack speaks it, are judged as any others.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use sipobs::engine::{Config, Counters, Engine};
use sipobs::frame::Frame;
use sipobs::privacy::Privacy;
use sipobs::record::{Method, Outcome, Output};
use sipobs::stream::{KeyLog, TransportKind};

mod common;

use common::frames;

/// File, messages as tshark counts them, what they came over, and what became of the transfer.
const CASES: &[(&str, u64, TransportKind, Outcome)] = &[
    ("kamailio-ws", 52, TransportKind::Ws, Outcome::Busy),
    ("jssip-deflate", 56, TransportKind::Ws, Outcome::Succeeded),
    ("jssip-wss", 52, TransportKind::Wss, Outcome::Busy),
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websocket").join(name).with_extension("pcap")
}

fn judge<'a>(
    file: &Path,
    frames: impl IntoIterator<Item = &'a Frame<'a>>,
) -> (Vec<(Method, Outcome)>, Vec<TransportKind>, Counters) {
    let (mut config, mut keys) = (Config::default(), KeyLog::default());
    if let Ok(text) = std::fs::read(file.with_extension("keys")) {
        keys.add(&text).unwrap();
    }
    config.stream.keys = Arc::new(keys);
    let mut engine = Engine::new(config, Privacy::default()).unwrap();
    let mut last = None;
    for frame in frames {
        engine.frame(frame);
        last = Some(frame.time);
    }
    engine.finish(last.unwrap());
    let counters = engine.counters();
    assert_eq!((counters.balance().residual(), counters.balance().residual_messages()), (0, 0));
    let (mut verdicts, mut transports) = (Vec::new(), Vec::new());
    while let Some(output) = engine.poll_output() {
        if let Output::Transfer(attempt) = output {
            verdicts.push((attempt.method, attempt.outcome));
            transports.extend(attempt.messages.iter().map(|line| line.transport));
        }
    }
    (verdicts, transports, counters)
}

#[test]
fn calls_over_websocket_are_judged() {
    for &(name, messages, transport, outcome) in CASES {
        let (verdicts, transports, counters) = judge(&file(name), &frames(&file(name)));
        assert_eq!(verdicts, [(Method::Refer, outcome)], "{name}");
        assert!(transports.iter().all(|found| *found == transport) && !transports.is_empty(), "{name}");
        assert_eq!(
            (counters.messages, counters.not_understood().len(), counters.lost().len()),
            (messages, 0, 0),
            "{name}"
        );
        let web = &counters.stream.websocket;
        let read_all =
            web.refused + web.extension + web.damaged + web.bytes_missing + web.too_large + web.not_sip;
        assert_eq!((web.connections, read_all), (3, 0), "{name}: {web:?}");
    }
}

#[test]
fn what_is_missing_costs_what_was_in_it() {
    for &(name, messages, _, outcome) in CASES {
        let all = frames(&file(name));
        // Each third: all of them take long unoptimised.
        for lost in (0..all.len()).step_by(3) {
            let left = all.iter().enumerate().filter(|(at, _)| *at != lost).map(|(_, frame)| frame);
            let (verdicts, _, counters) = judge(&file(name), left);
            let web = &counters.stream.websocket;
            assert_eq!((web.damaged, web.extension), (0, 0), "{name} {lost}: {web:?}");
            let found = counters.messages;
            assert!(found <= messages, "{name} {lost}: {found}");
            let is_known = verdicts.iter().all(|(_, found)| *found == outcome || *found == Outcome::Unknown);
            assert!(is_known || found < messages, "{name} {lost}: {verdicts:?}");
            // Compressed messages rest on one another, and so does what is behind a handshake.
            if name != "jssip-deflate" && lost > all.len() / 3 {
                assert!(found + 4 >= messages, "{name} {lost}: {found}: {web:?}");
            }
        }
    }
}

#[test]
fn their_packets_are_handed_on() {
    let folder = tempfile::tempdir().unwrap();
    for &(name, ..) in CASES {
        let (file, case) = (file(name), folder.path().join("case.pcapng"));
        let keys = file.with_extension("keys");
        let keys: &[&OsStr] = if keys.exists() { &["--keylog".as_ref(), keys.as_ref()] } else { &[] };
        let run = |file: &Path, args: &[&OsStr]| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
            let output = program.args(["pcap", "--format", "jsonl"]).arg(file).args(args).output().unwrap();
            let lines = String::from_utf8(output.stdout).unwrap();
            let transfers = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mut transfers: Vec<_> = transfers.filter(|line| line["kind"] == "transfer").collect();
            for message in
                transfers.iter_mut().flat_map(|transfer| transfer["messages"].as_array_mut().unwrap())
            {
                (message["frame"], message["file"]) = (Value::Null, Value::Null);
            }
            (transfers, String::from_utf8(output.stderr).unwrap(), output.status.code())
        };
        let (judged, said, status) = run(&file, &[keys, &["-w".as_ref(), case.as_ref()]].concat());
        assert_eq!((status, judged.len()), (Some(0), 1), "{name}: {said}");
        let (again, said, status) = run(&case, &[]);
        assert_eq!((status, &again), (Some(0), &judged), "{name}: {said}");
        let redact: &[&OsStr] = &["-w".as_ref(), case.as_ref(), "--redact".as_ref()];
        std::fs::remove_file(&case).unwrap();
        let (_, said, status) = run(&file, &[keys, redact].concat());
        assert_eq!(status, Some(1), "{name}");
        assert!(said.contains("can't be written over"), "{name}: {said}");
        assert!(std::fs::metadata(&case).unwrap().len() < 1000, "{name}");
        std::fs::remove_file(&case).unwrap();
    }
}
