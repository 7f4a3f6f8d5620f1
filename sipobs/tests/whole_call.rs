//! `--call` draws all of a call: every leg, every message, and where the verdict is.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

fn program(files: &[PathBuf], args: &[&str], columns: &str) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_sipobs"))
        .args(files)
        .args(args)
        .env("COLUMNS", columns)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(program.status.success(), "{}", String::from_utf8_lossy(&program.stderr));
    program
}

fn whole(files: &[PathBuf], args: &[&str], columns: &str) -> String {
    let text = String::from_utf8(program(files, args, columns).stdout).unwrap();
    let (_, whole) = text.split_once("The whole call").unwrap_or_else(|| panic!("{text}"));
    whole.split("\nOutcome").next().unwrap().to_owned()
}

/// Rows of messages, a row for each, and how many messages they stand for.
fn messages(whole: &str) -> (Vec<&str>, usize) {
    let is_row = |line: &&str| line.get(2..3) == Some(":") && line.get(8..9) == Some(".");
    let rows: Vec<_> = whole.lines().filter(is_row).collect();
    let copies = |row: &&str| -> usize {
        let copies = row.split_once('×').map(|(_, rest)| rest.split(' ').next().unwrap().parse().unwrap());
        copies.unwrap_or(1)
    };
    let all = rows.iter().map(copies).sum();
    (rows, all)
}

/// A call that is alone in its file, its SIP messages as tshark counts them, its legs, and the row that is the verdict.
const CALLS: &[(&str, usize, &str, &str)] = &[
    ("livekit/refer_busy.pcap", 13, "a", "NOTIFY: 486 Busy Here"),
    ("livekit/refer_unanswered.pcap", 18, "a", "REFER ×11"),
    ("livekit/invite_second_leg_486_fast.pcap", 15, "ab", "486 Busy Here"),
    ("recorded/pjsua_attended_ok.pcap", 27, "abc", "200 OK (INVITE)"),
    ("recorded/pjsua_blind_tcp_segmented.pcap", 18, "ab", "200 OK (INVITE)"),
];

#[test]
fn every_message_of_every_leg_is_drawn() {
    for &(name, count, legs, verdict) in CALLS {
        let whole = whole(&[capture(name)], &["--call", "#1"], "160");
        let (rows, drawn) = messages(&whole);
        assert_eq!(drawn, count, "{name}: {whole}");
        for leg in legs.chars() {
            assert!(whole.contains(&format!("\n  ({leg}) ")), "{name}: {whole}");
            assert!(
                rows.iter().any(|row| row.get(24..27) == Some(&format!(" {leg} "))),
                "{name}: {leg} {whole}"
            );
        }
        assert!(rows[0].contains("INVITE") && rows.last().unwrap().contains("(BYE)"), "{name}: {whole}");
        let before = whole
            .lines()
            .zip(whole.lines().skip(1))
            .find(|(_, mark)| mark.contains("⟵ this is the verdict on #1"));
        assert!(before.unwrap_or_else(|| panic!("{name}: {whole}")).0.contains(verdict), "{name}: {whole}");
    }
}

#[test]
fn a_call_that_no_transfer_concerns_is_drawn_too() {
    let file = capture("livekit/plain_bye_livekit.pcap");
    let records =
        String::from_utf8(program(std::slice::from_ref(&file), &["--format", "jsonl"], "").stdout).unwrap();
    let call: serde_json::Value = records
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|record: &serde_json::Value| record["kind"] == "call")
        .unwrap();
    let whole = whole(&[file], &["--call", call["call_id"].as_str().unwrap()], "120");
    let (rows, _) = messages(&whole);
    assert!(
        rows.iter().any(|row| row.contains("INVITE")) && rows.iter().any(|row| row.contains("BYE")),
        "{whole}"
    );
    assert!(!whole.contains('⟵'), "{whole}");
}

#[test]
fn it_is_found_among_others_in_several_files_and_masked() {
    let files: Vec<_> = CALLS.iter().map(|(name, ..)| capture(name)).collect();
    let all =
        String::from_utf8(program(&files, &["--format", "jsonl", "--mask", "full"], "").stdout).unwrap();
    let mut seen = 0;
    for record in all.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        let Some(id) = record["id"].as_str() else { continue };
        let whole = whole(&files, &["--call", id], "160");
        let name = record["messages"][0]["file"].as_str().unwrap();
        let (_, count, ..) = CALLS.iter().find(|(file, ..)| name.ends_with(file)).unwrap();
        assert_eq!(messages(&whole).1, *count, "{name}: {whole}");
        for uri in ["target", "transferee", "transferor"] {
            let Some(uri) = record[uri].as_str() else { continue };
            let digits: String =
                uri.split('@').next().unwrap().chars().filter(char::is_ascii_digit).collect();
            assert!(digits.len() < 7 || !whole.contains(&digits), "{digits}: {whole}");
        }
        seen += 1;
    }
    assert_eq!(seen, CALLS.len());
}

#[test]
fn nothing_is_broader_than_columns_say() {
    for columns in [60, 80, 100, 140] {
        let output =
            program(&[capture("recorded/pjsua_attended_ok.pcap")], &["--call", "1"], &columns.to_string());
        let text = String::from_utf8(output.stdout).unwrap();
        let broadest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(broadest <= columns, "{broadest} > {columns}:\n{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_which_can_be_read_once_shows_the_attempt() {
    let file = std::fs::File::open(capture("livekit/refer_busy.pcap")).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_sipobs")).args(["-", "--call", "1"]).stdin(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("NOTIFY: 486 Busy Here") && !text.contains("The whole call"), "{text}");
}

/// Parameters of a Content-Type may hold anything.
#[test]
fn of_a_body_only_its_bare_type_is_told() {
    let mut bytes = std::fs::read(capture("livekit/refer_busy.pcap")).unwrap();
    let (known, other) = (b";version=2.0", b";v=155512345");
    let places: Vec<_> = bytes.windows(known.len()).enumerate().filter(|(_, at)| at == known).collect();
    let places: Vec<_> = places.into_iter().map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at..*at + other.len()].copy_from_slice(other));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("parameter.pcap");
    std::fs::write(&file, bytes).unwrap();
    let text = whole(&[file], &["--call", "#1", "-v"], "160");
    assert!(text.contains("Body: message/sipfrag, "), "{text}");
}

#[test]
fn headers_and_bodies_are_told_where_they_are_asked_for_and_masked() {
    let busy = [capture("livekit/refer_busy.pcap")];
    let [ladder, headers, bodies] =
        [&[][..], &["-v"], &["-vv"]].map(|more| whole(&busy, &[&["--call", "#1"], more].concat(), "160"));
    let (rows, _) = messages(&ladder);
    assert!(!ladder.contains("CSeq: ") && !ladder.contains("audio to "), "{ladder}");
    for text in [&headers, &bodies] {
        // Every message has one, and the ladder is what it is without.
        assert_eq!(text.matches("      CSeq: ").count(), rows.len(), "{text}");
        assert_eq!(messages(text).0, rows);
        assert!(text.contains("Body: application/sdp, ") && text.contains("audio to "), "{text}");
        assert!(text.contains("Call-ID: ") && !text.contains("Authorization"), "{text}");
    }
    assert!(!headers.contains("        v=0") && bodies.contains("        v=0"), "{bodies}");
    assert!(bodies.contains("        m=audio "), "{bodies}");
    // No digit more of anybody than elsewhere.
    let full = whole(&busy, &["--call", "#1", "-vv", "--mask", "full"], "160");
    let long = |text: &str| {
        let runs = text.split(|c: char| !c.is_ascii_digit()).filter(|run| run.len() > 6);
        runs.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let target = "tel:+";
    let numbers: Vec<_> = full
        .match_indices(target)
        .map(|(at, _)| full[at + target.len()..].split(|c: char| !c.is_ascii_digit()).next().unwrap())
        .collect();
    assert!(!numbers.is_empty(), "{full}");
    for number in numbers.iter().filter(|number| number.len() > 6) {
        assert!(long(&full).contains(*number) && !bodies.contains(number), "{number}");
    }
    for args in [&["-v"][..], &["--call", "#1", "-v", "--format", "jsonl"]] {
        let program = Command::new(env!("CARGO_BIN_EXE_sipobs")).args(&busy).args(args).output().unwrap();
        assert_eq!(program.status.code(), Some(2), "{args:?}");
    }
}
