//! One call among many: the options that ask for some, by the program itself.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::process::{Command, Output};

use serde_json::{Value, json};

mod common;
use common::five;

fn run(args: &[&str]) -> Output {
    // Files need no command.
    let program =
        Command::new(env!("CARGO_BIN_EXE_sipobs")).args(five()).args(args).env("TZ", "UTC").output();
    let output = program.unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn jsonl(args: &[&str]) -> Vec<Value> {
    let output = run(&[args, &["--format", "jsonl"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(args: &[&str]) -> String {
    String::from_utf8(run(args).stdout).unwrap()
}

fn transfers(records: &[Value]) -> Vec<Value> {
    records.iter().filter(|record| record["kind"] == "transfer").cloned().collect()
}

/// The user of a URI.
fn user(uri: &Value) -> &str {
    let uri = uri.as_str().unwrap();
    uri.split_once(':').unwrap().1.split(['@', ';']).next().unwrap()
}

#[test]
fn what_is_asked_for_is_shown_and_everything_is_judged() {
    let all = jsonl(&[]);
    let every = transfers(&all);
    assert_eq!(every.len(), 4);
    for (seq, record) in every.iter().enumerate() {
        assert_eq!(record["seq"], seq + 1);
    }
    let whole = transfers(&jsonl(&["--mask", "full"]));
    for (masked, full) in every.iter().zip(&whole) {
        // By number, however it is written, although the output is masked.
        let target = user(&full["target"]);
        if target.bytes().all(|b| b.is_ascii_digit() || b == b'+') && target.len() > 6 {
            let digits = target.trim_start_matches('+');
            let spaced = format!("{} ({}) {}", &target[..3], &target[3..6], &target[6..]);
            for number in [target, digits, &spaced, &digits[digits.len() - 4..], &format!("00{digits}")] {
                let found = jsonl(&["--number", number]);
                assert!(transfers(&found).contains(masked), "{number}");
                assert!(!serde_json::to_string(&found).unwrap().contains(digits), "{number}");
            }
        }
        let call = full["call_id"].as_str().unwrap();
        let id = masked["id"].as_str().unwrap();
        let seq = format!("#{}", masked["seq"]);
        for name in [call, masked["call_id"].as_str().unwrap(), id, &seq, &seq[1..]] {
            assert_eq!(transfers(&jsonl(&["--call", name])), std::slice::from_ref(masked), "{name}");
        }
        assert!(transfers(&jsonl(&["--call-id", &call[..call.len() - 1]])).contains(masked));
        let host = masked["messages"][0]["from"].as_str().unwrap().rsplit_once(':').unwrap().0;
        assert!(transfers(&jsonl(&["--ip", host])).contains(masked), "{host}");
        for (option, field) in [("--outcome", "outcome"), ("--fault", "fault"), ("--trunk", "trunk")] {
            let value = masked[field].as_str().unwrap();
            let wanted: Vec<_> = every.iter().filter(|record| record[field] == value).cloned().collect();
            assert_eq!(transfers(&jsonl(&[option, value])), wanted, "{option} {value}");
        }
    }
    let failed = jsonl(&["--failed"]);
    let bad: Vec<_> = every.iter().filter(|record| record["outcome"] != "succeeded").cloned().collect();
    assert_eq!(transfers(&failed), bad);
    assert!(failed.iter().all(|record| record["kind"] != "call"));
    let (found, told) = (failed.last().unwrap(), all.last().unwrap());
    assert_eq!(
        (&told["shown"], &found["shown"]),
        (&Value::Null, &json!({"transfers": bad.len(), "calls": 0, "alerts": 0}))
    );
    for count in ["packets", "messages", "calls", "transfers"] {
        assert_eq!(found[count], told[count], "{count}");
    }
    assert_eq!(transfers(&jsonl(&["--ip", "203.0.113.0/24"])), [] as [Value; 0]);
}

#[test]
fn an_id_survives_other_files() {
    let all = transfers(&jsonl(&[]));
    for file in five() {
        let output =
            Command::new(env!("CARGO_BIN_EXE_sipobs")).args(["--format", "jsonl"]).arg(&file).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            if line["kind"] == "transfer" {
                assert_eq!(line["seq"], 1);
                assert!(all.iter().any(|record| record["id"] == line["id"]), "{file:?}");
            }
        }
    }
}

#[test]
fn times_are_local_and_carry_their_offset() {
    let all = transfers(&jsonl(&[]));
    let first = all.iter().min_by_key(|record| record["started"].as_str().unwrap().to_owned()).unwrap();
    let started = first["started"].as_str().unwrap();
    let ended = first["ended"].as_str().unwrap();
    let of_first = |args: &[&str]| transfers(&jsonl(args)).contains(first);
    assert!(of_first(&["--since", started]) && of_first(&["--until", &format!("{}Z", &ended[..26])]));
    assert!(!of_first(&["--until", started]));
    // Without an offset the time is local: here UTC, in Kolkata 5 h 30 min earlier.
    let local = &started[..19];
    assert!(!of_first(&["--until", local]) && of_first(&["--since", &local.replace('T', " ")]));
    let program = |zone: &str, args: &[&str]| {
        let program =
            Command::new(env!("CARGO_BIN_EXE_sipobs")).args(five()).args(args).env("TZ", zone).output();
        String::from_utf8(program.unwrap().stdout).unwrap()
    };
    let id = first["id"].as_str().unwrap();
    let text = program("<+0530>-5:30", &["--call", id]);
    assert!(text.contains("+05:30 · "), "{text}");
    assert!(program("UTC", &["--call", id]).contains(&format!("{}Z · ", started[..23].replace('T', " "))));
    assert!(!program("<+0530>-5:30", &["--format", "jsonl", "--since", local]).contains("\"schema\":2"));
    assert!(program("<+0530>-5:30", &["--format", "jsonl", "--since", local]).contains(id));
    assert!(
        !program("<-0530>+5:30", &["--format", "jsonl", "--since", local, "--until", "2000-01-01"])
            .contains(id)
    );
    let wrong = Command::new(env!("CARGO_BIN_EXE_sipobs"))
        .args(five())
        .args(["--since", "noonish"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("14:30"), "{wrong:?}");
}

#[test]
fn a_person_is_told_who_was_handed_to_whom() {
    let all = transfers(&jsonl(&[]));
    let shown = text(&[]);
    for record in &all {
        let line = format!("#{} · {} · ", record["seq"], record["id"].as_str().unwrap());
        let line =
            shown.lines().find(|shown| shown.contains(&line)).unwrap_or_else(|| panic!("{line}\n{shown}"));
        assert!(line.contains(&format!(" → {}", user(&record["target"]))), "{line}");
    }
    // Nothing of that name is said to be nothing, also by the exit status.
    for (args, said) in [
        (["--number", "999999999"], "--number: no transfer and no call"),
        (["--number", "abc"], "--number: no transfer and no call"),
        (["--call", "#999"], "--call: no verdict and no call"),
        (["--call-id", "nobody's"], "--call-id: no transfer and no call"),
    ] {
        let none = Command::new(env!("CARGO_BIN_EXE_sipobs")).args(five()).args(args).output().unwrap();
        assert_eq!(none.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&none.stdout).contains("Shown: 0 of 4 transfers."), "{args:?}");
        assert!(String::from_utf8_lossy(&none.stderr).contains(said), "{args:?}");
    }
    let empty = Command::new(env!("CARGO_BIN_EXE_sipobs")).args(five()).args(["--call", ""]).output();
    assert_eq!(empty.unwrap().status.code(), Some(2));
    // An id may be cut short, as long as it is told from the others.
    let id = all[0]["id"].as_str().unwrap();
    assert_eq!(transfers(&jsonl(&["--call", &id[..9]])), [all[0].clone()]);
    // A call that no transfer concerns is shown where it is asked for.
    let calls: Vec<Value> = jsonl(&[]);
    let plain = calls
        .iter()
        .find(|record| record["kind"] == "call" && record["transfers"] == 0 && record["answered"].is_string())
        .unwrap();
    let told = text(&["--call", plain["call_id"].as_str().unwrap()]);
    assert!(told.contains(plain["call_id"].as_str().unwrap()), "{told}");
}
