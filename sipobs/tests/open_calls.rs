//! Calls that are still up when the files end: told, and counted apart from those that ended.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

mod common;
use common::first_frames;

fn busy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/livekit/refer_busy.pcap")
}

fn records(file: &Path, args: &[&str]) -> Vec<Value> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    let output = program.args(["pcap", "--format", "jsonl"]).arg(file).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

#[test]
fn a_call_is_open_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part.pcapng");
    let all = records(&busy(), &[]);
    let ended = of(&all, "call")[0].clone();
    assert!(of(&all, "open_call").is_empty());
    let (mut open, mut over) = (0, 0);
    for frames in 1..40 {
        first_frames(&busy(), &part, frames);
        let records = records(&part, &[]);
        let (up, gone) = (of(&records, "open_call"), of(&records, "call"));
        // Each call is one of the two.
        assert!(up.len() + gone.len() <= 1, "{frames}: {records:?}");
        assert_eq!(records.last().unwrap()["calls"], gone.len());
        for call in up {
            assert_eq!((&call["call_id"], &call["started"]), (&ended["call_id"], &ended["started"]));
            assert!(call["answered"].is_null() || call["answered"] == ended["answered"], "{call}");
            assert!(call["until"].as_str() >= call["started"].as_str());
            open += 1;
        }
        over += gone.len();
    }
    assert!(open > 2 && over > 2, "{open} {over}");
}

#[test]
fn only_what_is_asked_for_is_shown_and_numbers_are_masked() {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part.pcapng");
    first_frames(&busy(), &part, 4);
    let open = of(&records(&part, &[]), "open_call")[0].clone();
    let name = open["call_id"].as_str().unwrap();
    assert_eq!(of(&records(&part, &["--call-id", name]), "open_call"), [&open]);
    assert!(of(&records(&part, &["--failed"]), "open_call").is_empty());
    let text = Command::new(env!("CARGO_BIN_EXE_sipobs")).arg(&part).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("1 call was still up at the end."), "{text}");
}
