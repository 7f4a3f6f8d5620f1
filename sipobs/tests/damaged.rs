//! Damaged capture files, given to the program: what came before the damage is reported, a complaint names the file
//! and the offset, and the exit status is as `sipobs pcap --help` says.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

fn analyse(files: &[&Path]) -> Output {
    let mut sipobs = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    sipobs.args(["pcap", "--format", "jsonl"]).args(files).output().unwrap()
}

fn summary(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let summary: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no summary: {text:?}"));
    assert_eq!(summary["kind"], "summary");
    summary
}

#[test]
fn the_status_tells_and_what_came_before_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let good = capture("livekit/refer_ok_twilio.pcap");
    let whole = fs::read(&good).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let packets = |output: &Output| summary(output)["packets"].as_u64().unwrap();
    let all = analyse(&[&good]);
    assert_eq!((all.status.code(), all.stderr.len()), (Some(0), 0));

    let cut = write("cut.pcap", &whole[..whole.len() - 9]);
    let output = analyse(&[&cut]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(packets(&output), packets(&all) - 1);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.starts_with(&format!("sipobs: {}: cut short at offset ", cut.display())),
        "{complaint}"
    );

    for (name, bytes, says) in [
        ("empty.pcap", &b""[..], "cut short at offset 0"),
        ("text.pcap", b"GET / HTTP/1.1\r\n", "not a pcap, pcapng or snoop file"),
        ("short.pcapng", &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0], "cut short at offset 0"),
        ("half.pcap.gz", &[0x1f, 0x8b, 8], "cut short at offset 0"),
    ] {
        let file = write(name, bytes);
        // Alone, and with a good one behind it, which is read none the less.
        for (files, expected) in [(vec![&*file], 0), (vec![&*file, &*good], packets(&all))] {
            let output = analyse(&files);
            assert_eq!((output.status.code(), packets(&output)), (Some(1), expected), "{name}");
            let complaint = String::from_utf8(output.stderr).unwrap();
            assert!(complaint.contains(name) && complaint.contains(says), "{name}: {complaint}");
        }
    }

    let missing = analyse(&[&folder.path().join("missing.pcap")]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("missing.pcap: cannot be opened"));
}

#[test]
fn frames_that_the_capture_cut_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = fs::read(capture("livekit/refer_ok_twilio.pcap")).unwrap();
    // A snaplen of 200: of each frame, that much is left.
    let mut cut = file.drain(..24).collect::<Vec<_>>();
    while !file.is_empty() {
        let mut header: Vec<u8> = file.drain(..16).collect();
        let len = u32::from_le_bytes(header[8..12].try_into().unwrap());
        let frame: Vec<u8> = file.drain(..len as usize).collect();
        let kept = len.min(200);
        header[8..12].copy_from_slice(&kept.to_le_bytes());
        cut.extend(header);
        cut.extend(&frame[..kept as usize]);
    }
    let path = folder.path().join("snaplen.pcap");
    fs::write(&path, cut).unwrap();
    let output = analyse(&[&path]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("frames of 200 bytes at most; the first is frame 1"), "{complaint}");
    assert!(complaint.contains("`-s 0`"), "{complaint}");
    let summary = summary(&output);
    assert_eq!(summary["lost"]["messages_cut"], summary["messages"], "{summary}");
}
