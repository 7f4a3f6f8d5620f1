//! Ctrl-C and SIGTERM while a capture is read: what was read until then is told.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

fn start(file: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sipobs"))
        .args(["pcap", "--format", "jsonl"])
        .arg(file)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends a signal once the program listens for it.
fn send(child: &Child, signal: Signal) {
    let status = format!("/proc/{}/status", child.id());
    let listens = || {
        let text = fs::read_to_string(&status).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        u64::from_str_radix(&caught, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
    };
    for _ in 0..500 {
        if listens() {
            // Some of it is read.
            sleep(Duration::from_millis(100));
            return kill_process(Pid::from_child(child), signal).unwrap();
        }
        sleep(Duration::from_millis(20));
    }
    panic!("it does not listen for signals");
}

fn records(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_pipe_that_is_cut_off_is_told_to_the_last_packet() {
    let bytes = fs::read(capture("livekit/refer_busy.pcap")).unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = start(Path::new("-"), &[]);
        // Stays open: the capture goes on.
        let mut pipe = child.stdin.take().unwrap();
        let (first, last) = bytes.split_at(bytes.len() / 2);
        pipe.write_all(first).unwrap();
        send(&child, signal);
        // What tcpdump kept back comes when it is asked to end.
        pipe.write_all(last).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(pipe);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let records = records(&output);
        assert!(records.iter().any(|record| record["outcome"] == "busy"), "{records:?}");
        let summary = records.last().unwrap();
        assert_eq!((&summary["kind"], &summary["packets"]), (&"summary".into(), &13.into()));
    }
}

#[test]
fn a_second_one_ends_at_once_and_leaves_no_half_report() {
    let dir = tempfile::TempDir::new().unwrap();
    let report = dir.path().join("report.html");
    let mut child = start(Path::new("-"), &["--html", report.to_str().unwrap()]);
    // Stays open, and gives nothing.
    let pipe = child.stdin.take().unwrap();
    send(&child, Signal::TERM);
    send(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    drop(pipe);
    assert_eq!(output.status.code(), Some(128 + 15), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_long_file_that_is_interrupted_says_so() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("long.pcap");
    let mut bytes = fs::read(capture("livekit/refer_busy.pcap")).unwrap();
    // Frames of no bytes, for some seconds.
    let time = bytes[24..28].to_vec();
    let empty = [&time[..], &[0; 12]].concat();
    bytes.extend(empty.repeat(8_000_000));
    fs::write(&file, bytes).unwrap();
    let child = start(&file, &[]);
    send(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("long.pcap: interrupted before its end"), "{said}");
    let summary = records(&output).pop().unwrap();
    assert_eq!(summary["files"][0]["error"], "interrupted before its end");
    assert!(summary["packets"].as_u64().unwrap() < 8_000_013);
}
