//! Several files are one capture, in whatever order they are named: by the program itself.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sipobs::frame::Frame;
use tempfile::TempDir;

mod common;

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

fn frames(name: &str) -> Vec<Frame<'static>> {
    common::frames(&capture(name))
}

/// Writes a pcap with nanoseconds of these frames, each later by so many nanoseconds than it was captured.
fn write<'a>(path: &Path, frames: impl IntoIterator<Item = &'a Frame<'static>>, later: i64) -> PathBuf {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut bytes = words(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, 1]);
    for frame in frames {
        assert_eq!(frame.link, sipobs::frame::LinkType::Ethernet);
        let time = frame.time.as_nanos() + later;
        let second = 1_000_000_000;
        let head = [
            time.div_euclid(second),
            time.rem_euclid(second),
            frame.bytes.len() as i64,
            frame.wire_len.into(),
        ];
        bytes.extend(words(&head.map(|word| u32::try_from(word).unwrap())));
        bytes.extend(frame.bytes);
    }
    fs::write(path, bytes).unwrap();
    path.to_owned()
}

/// The records, the exit status, and what was said to standard error.
fn jsonl<P: AsRef<Path>>(files: &[P]) -> (Vec<Value>, i32, String) {
    let files = files.iter().map(AsRef::as_ref);
    let program =
        Command::new(env!("CARGO_BIN_EXE_sipobs")).args(["pcap", "--format", "jsonl"]).args(files).output();
    let output = program.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (records, output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// What was said but for where it was found and the summary.
fn story(records: &[Value]) -> Vec<Value> {
    let mut records: Vec<_> = records.iter().filter(|record| record["kind"] != "summary").cloned().collect();
    for line in records.iter_mut().filter_map(|record| record["messages"].as_array_mut()).flatten() {
        let line = line.as_object_mut().unwrap();
        line.retain(|field, _| !matches!(field.as_str(), "file" | "frame"));
    }
    records
}

fn summary(records: &[Value]) -> &Value {
    records.last().unwrap()
}

fn orders(files: &[PathBuf]) -> Vec<Vec<PathBuf>> {
    let [a, b, c] = files else { panic!("{files:?}") };
    let of = |order: [&PathBuf; 3]| order.map(Clone::clone).to_vec();
    vec![of([a, b, c]), of([a, c, b]), of([b, a, c]), of([b, c, a]), of([c, a, b]), of([c, b, a])]
}

const CALL: &str = "livekit/refer_busy_then_ok.pcap";

#[test]
fn pieces_in_any_order_are_one_capture() {
    let dir = TempDir::new().unwrap();
    let all = frames(CALL);
    let (whole, ..) = jsonl(&[write(&dir.path().join("whole.pcap"), &all, 0)]);
    assert_eq!(whole.iter().filter(|record| record["kind"] == "transfer").count(), 2);

    let third = all.len() / 3;
    let pieces = [&all[..third], &all[third..2 * third], &all[2 * third..]];
    let files: Vec<_> = (0..3).map(|n| write(&dir.path().join(format!("piece{n}")), pieces[n], 0)).collect();
    for order in orders(&files) {
        let (records, exit, said) = jsonl(&order);
        assert_eq!((exit, said.as_str()), (0, ""));
        assert_eq!(story(&records), story(&whole), "{order:?}");
        let listed = summary(&records)["files"].as_array().unwrap();
        let names: Vec<_> = listed.iter().map(|file| file["name"].as_str().unwrap()).collect();
        assert_eq!(names, order.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>());
        assert!(listed.iter().all(|file| file["overlaps"].is_null() && file["messages"].as_u64() > Some(0)));
        assert_eq!(summary(&records)["packets"], all.len());
    }

    // Each frame is where the record says that it is.
    let (records, ..) = jsonl(&files);
    let of = |records: &[Value]| -> Vec<Value> {
        records.iter().filter_map(|record| record["messages"].as_array()).flatten().cloned().collect()
    };
    let (here, there) = (of(&records), of(&whole));
    assert!(!here.is_empty() && here.len() == there.len());
    for (here, there) in here.iter().zip(&there) {
        let piece = files.iter().position(|file| here["file"] == file.to_str().unwrap()).unwrap();
        let number = here["frame"].as_u64().unwrap() + (third * piece) as u64;
        assert_eq!(json!(number), there["frame"]);
    }
}

#[test]
fn taps_that_see_a_call_together_are_one_capture() {
    let dir = TempDir::new().unwrap();
    let all = frames(CALL);
    let (whole, ..) = jsonl(&[write(&dir.path().join("whole.pcap"), &all, 0)]);
    // Each lacks another third of the packets; what two of them saw came to the second some microseconds later.
    let files: Vec<_> = (0..3)
        .map(|tap| {
            let seen = all.iter().enumerate().filter(|(n, _)| n % 3 != tap).map(|(_, frame)| frame);
            write(&dir.path().join(format!("tap{tap}")), seen, 90_000 * tap as i64)
        })
        .collect();
    let outcome = |records: &[Value]| -> Vec<Value> {
        let transfers = records.iter().filter(|record| record["kind"] == "transfer");
        transfers
            .map(|record| {
                json!([record["id"], record["outcome"], record["messages"].as_array().unwrap().len()])
            })
            .collect()
    };
    for order in orders(&files) {
        let (records, exit, _) = jsonl(&order);
        assert_eq!((exit, outcome(&records)), (0, outcome(&whole)), "{order:?}");
        assert_eq!(summary(&records)["messages"], summary(&whole)["messages"], "copies count once");
        let listed = summary(&records)["files"].as_array().unwrap();
        assert_eq!(listed.iter().filter(|file| file["overlaps"].is_string()).count(), 2);
    }
}

#[test]
fn a_file_that_begins_before_its_neighbour_ends_is_named() {
    let dir = TempDir::new().unwrap();
    let all = frames(CALL);
    let middle = all.len() / 2;
    let first = write(&dir.path().join("first.pcap"), &all[..middle + 2], 0);
    let second = write(&dir.path().join("second.pcap"), &all[middle..], 0);
    let (records, ..) = jsonl(&[&second, &first]);
    let files = &summary(&records)["files"];
    assert_eq!((&files[0]["overlaps"], &files[1]["overlaps"]), (&json!(first.to_str()), &Value::Null));
    let by = (all[middle + 1].time.as_nanos() - all[middle].time.as_nanos()) / 1_000_000;
    assert_eq!(files[0]["overlap_ms"], by);
    // As text, too.
    let output =
        Command::new(env!("CARGO_BIN_EXE_sipobs")).arg("pcap").args([&second, &first]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&format!("second.pcap begins before {} ends", first.display())), "{text}");
}

#[test]
fn the_same_file_counts_once() {
    let dir = TempDir::new().unwrap();
    let file = write(&dir.path().join("a.pcap"), &frames(CALL), 0);
    let (once, ..) = jsonl(&[&file]);
    let copy = dir.path().join("copy.pcap");
    fs::copy(&file, &copy).unwrap();
    let mut again = vec![file.clone(), copy, dir.path().join("./a.pcap")];
    #[cfg(unix)]
    {
        let link = dir.path().join("link.pcap");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        again.push(link);
    }
    let (records, exit, _) = jsonl(&again);
    assert_eq!((exit, story(&records)), (0, story(&once)));
    for count in ["packets", "messages", "calls", "transfers"] {
        assert_eq!(summary(&records)[count], summary(&once)[count]);
    }
    let files = summary(&records)["files"].as_array().unwrap();
    assert!(files[0]["same_as"].is_null() && files[0]["frames"].as_u64() > Some(0));
    assert!(
        files[1..].iter().all(|again| again["same_as"] == file.to_str().unwrap() && again["frames"] == 0)
    );
}

#[test]
fn what_one_file_holds_keeps_its_order() {
    let dir = TempDir::new().unwrap();
    let mut all = frames(CALL);
    // As from a card with several queues.
    let mut swapped = 0;
    for pair in all.chunks_exact_mut(2) {
        let (a, b) = (pair[0].time, pair[1].time);
        if b.since(a).as_millis() < 500 {
            (pair[0].time, pair[1].time) = (b, a);
            swapped += 1;
        }
    }
    assert!(swapped > 3);
    let (whole, ..) = jsonl(&[write(&dir.path().join("whole.pcap"), &all, 0)]);
    let alone = frames("livekit/refer_unanswered.pcap");
    let other =
        write(&dir.path().join("other.pcap"), &alone, all[0].time.as_nanos() - alone[0].time.as_nanos());
    let file = write(&dir.path().join("call.pcap"), &all, 0);
    let (records, ..) = jsonl(&[other, file]);
    let ids = |records: &[Value]| -> Vec<Value> {
        records
            .iter()
            .filter(|record| record["kind"] == "transfer")
            .map(|record| record["id"].clone())
            .collect()
    };
    for record in whole.iter().filter(|record| record["kind"] == "transfer") {
        let same = records.iter().find(|other| other["id"] == record["id"]);
        let same = same.unwrap_or_else(|| panic!("{} is not in {:?}", record["id"], ids(&records)));
        assert_eq!(same["outcome"], record["outcome"]);
        let lines = |record: &Value| -> Vec<(Value, Value)> {
            let lines = record["messages"].as_array().unwrap();
            lines.iter().map(|line| (line["frame"].clone(), line["line"].clone())).collect()
        };
        assert_eq!(lines(same), lines(record));
    }
}

#[test]
fn a_time_that_lies_holds_up_no_other_file() {
    let dir = TempDir::new().unwrap();
    let all = frames(CALL);
    let (whole, ..) = jsonl(&[write(&dir.path().join("whole.pcap"), &all, 0)]);
    let halves = [0, 1].map(|half| all.iter().copied().skip(half).step_by(2).collect::<Vec<_>>());
    let outcomes = |records: &[Value]| -> Vec<Value> {
        records
            .iter()
            .filter(|record| record["kind"] == "transfer")
            .map(|record| record["outcome"].clone())
            .collect()
    };
    for (place, year) in [(0, 1_000_000_000), (3, 1_000_000_000), (3, 31_536_000), (0, 31_536_000)] {
        let mut first = halves[0].clone();
        let lies = match year {
            1_000_000_000 => 5,
            ahead => first[place].time.as_nanos() + ahead * 1_000_000_000,
        };
        first[place].time = sipobs::timestamp::Timestamp::from_nanos(lies);
        let first = write(&dir.path().join("first.pcap"), &first, 0);
        let second = write(&dir.path().join("second.pcap"), &halves[1], 0);
        let (records, ..) = jsonl(&[first, second]);
        assert_eq!(outcomes(&records), outcomes(&whole), "frame {place} at {lies}");
    }
}

#[test]
fn more_pieces_than_a_process_may_open_are_read() {
    let dir = TempDir::new().unwrap();
    let all = frames(CALL);
    let (whole, ..) = jsonl(&[write(&dir.path().join("whole.pcap"), &all, 0)]);
    // A piece for each frame, and empty ones between.
    let mut files: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(n, frame)| write(&dir.path().join(format!("{n}")), [frame], 0))
        .collect();
    files.extend((0..300).map(|n| write(&dir.path().join(format!("empty{n}")), &all[..0], n)));
    files.reverse();
    let program = format!("ulimit -n 32; exec {} pcap --format jsonl \"$@\"", env!("CARGO_BIN_EXE_sipobs"));
    let output = Command::new("sh").args(["-c", &program, "sh"]).args(&files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(story(&records), story(&whole));
    let summary = records.last().unwrap();
    let told = summary["files"].as_array().unwrap();
    assert_eq!(told.len(), files.len());
    assert!(
        told.iter().all(|file| file["same_as"].is_null()),
        "files without a frame are no copies: {summary}"
    );
}
