//! `sipobs view` as somebody sees it who sits at a terminal: the program itself in a pseudo-terminal, keys in, a screen out.

#![cfg(all(unix, feature = "view"))]
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::Value;

mod common;
#[path = "common/screen.rs"]
mod screen;
use common::{first_frames, five};
use screen::Screen;

const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";
const DOWN: &str = "\x1b[B";
const END: &str = "\x1b[F";
const HOME: &str = "\x1b[H";
const F1: &str = "\x1bOP";
const F2: &str = "\x1bOQ";
const CLEAR: &str = "\x15";

/// `sipobs view` of these files.
fn open(files: &[PathBuf], args: &[&str], environment: &[(&str, &str)]) -> Screen {
    let files = files.iter().map(|file| file.as_os_str());
    let args = args.iter().map(OsStr::new);
    let all: Vec<_> = [OsStr::new("view")].into_iter().chain(files).chain(args).collect();
    Screen::start(&all, environment)
}

fn transfers(files: &[PathBuf], args: &[&str]) -> Vec<Value> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    let output = program.args(["pcap", "--format", "jsonl"]).args(files).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == "transfer").collect()
}

/// What no reader may change.
fn verdict(record: &Value) -> String {
    ["id", "outcome", "status", "evidence", "method", "started", "ended", "target", "diagnosis"]
        .map(|field| record[field].to_string())
        .join(" ")
}

#[test]
fn a_call_is_found_opened_and_saved_with_the_same_verdict() {
    let files = five();
    let all = transfers(&files, &[]);
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("case.pcapng");
    let mut screen = open(&files, &[], &[]);
    let text = screen.shows("Enter call");
    assert!(text.contains("Who → whom"), "{text}");
    let text = screen.until("all are read", |text| !text.contains("reading") && text.contains("#4"));
    for record in &all {
        let name = format!("#{} ", record["seq"]);
        let row = text.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("{name}\n{text}"));
        let words = record["outcome"].as_str().unwrap().replace('_', " ");
        assert!(row.contains(&words), "{row}");
    }
    // To the last row, back to the first, and on to the next.
    let first = screen.chosen();
    screen.press(END);
    screen.wait("the last row", |screen| screen.chosen() != first);
    screen.press(HOME);
    screen.wait("the first row", |screen| screen.chosen() == first);
    screen.press(DOWN);
    screen.wait("the second row", |screen| screen.chosen() != first);
    screen.press("k");
    screen.wait("the first row again", |screen| screen.chosen() == first);

    // By the last digits of its number, however long that is: masked, and still found.
    let busy = all.iter().find(|record| record["outcome"] == "busy").unwrap();
    screen.press("/");
    screen.shows("Show:");
    screen.press("busy");
    let text = screen.shows("1 of 1 shown");
    assert!(text.contains("Show: busy"), "{text}");
    screen.press(ENTER);
    screen.shows("Shown is what fits: busy");

    // The whole call, as `pcap --call` has it, and a message of it.
    screen.press(ENTER);
    let text = screen.shows("The whole call");
    let id = busy["id"].as_str().unwrap();
    assert!(text.contains(id), "{text}");
    screen.press(END);
    let text = screen.shows("200 OK (BYE)");
    assert!(text.contains("⟵ this is the verdict"), "{text}");
    // The parties stay in sight.
    let parties = text.lines().nth(1).unwrap();
    assert!(parties.contains(':') && parties.contains('.'), "{text}");
    screen.press("k");
    screen.press("k");
    screen.press(ENTER);
    let text = screen.shows("Call-ID:");
    assert!(text.contains("CSeq:") && text.contains(" · leg ("), "{text}");
    screen.press("q");
    screen.until("the call again", |text| !text.contains("Call-ID:"));

    // Its packets, where they are asked for; a file that is there is not lost by accident.
    std::fs::write(&to, "something").unwrap();
    screen.press(F2);
    screen.shows(&format!("Save to: sipobs-{id}.pcapng"));
    screen.press(CLEAR);
    screen.press(to.to_str().unwrap());
    screen.press(ENTER);
    screen.shows("is there already");
    assert_eq!(std::fs::read(&to).unwrap(), b"something");
    screen.press(ENTER);
    screen.shows("case.pcapng is written");
    let again = transfers(std::slice::from_ref(&to), &[]);
    assert_eq!(again.iter().map(verdict).collect::<Vec<_>>(), [verdict(busy)]);

    screen.press(F1);
    // Esc and what comes at once behind it would be one key.
    screen.until("the keys", |text| text.contains("as in sngrep") && !text.contains("Enter message"));
    screen.press(ESCAPE);
    screen.until("the call once more", |text| text.contains("Enter message"));
    screen.press("q");
    screen.shows("Enter call");
    screen.press(ESCAPE);
    screen.until("all again", |text| text.contains("#4") && text.contains("Who → whom"));
    screen.press("q");
    let (status, bytes) = screen.end();
    assert_eq!(status, 0);
    // The terminal is given back as it was.
    assert!(bytes.contains("\x1b[?1049h") && bytes.contains("\x1b[?1049l") && bytes.contains("\x1b[?25h"));
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["case.pcapng"]);
}

#[test]
fn what_is_saved_is_what_w_writes() {
    let files = five();
    let dir = tempfile::tempdir().unwrap();
    let (seen, written) = (dir.path().join("seen.pcapng"), dir.path().join("written.pcapng"));
    let mut screen = open(&files, &["--call", "#1"], &[]);
    screen.until("all is read", |text| !text.contains("reading") && text.contains("#1"));
    screen.press("s");
    screen.shows("Save to: ");
    screen.press(CLEAR);
    screen.press(seen.to_str().unwrap());
    screen.press("\t");
    screen.shows("credentials rewritten");
    screen.press("\t\t");
    screen.shows("as captured");
    screen.press(ENTER);
    screen.shows("seen.pcapng is written");
    screen.press("\x03");
    assert_eq!(screen.end().0, 0);
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    program.arg("pcap").args(&files).args(["--call", "#1", "-w"]).arg(&written);
    assert!(program.output().unwrap().status.success());
    let seen = std::fs::read(&seen).unwrap();
    assert!(!seen.is_empty() && seen == std::fs::read(&written).unwrap());
}

#[test]
fn numbers_are_masked_and_found_all_the_same() {
    let files = five();
    let digits = |record: &Value| {
        let target = record["target"].as_str().unwrap().to_owned();
        let user = target.split_once(':').unwrap().1.split('@').next().unwrap().to_owned();
        user.trim_start_matches('+').to_owned()
    };
    let number = transfers(&files, &["--mask", "full"])
        .iter()
        .map(digits)
        .find(|user| user.len() > 6 && user.bytes().all(|byte| byte.is_ascii_digit()))
        .unwrap();
    let mut screen = open(&files, &[], &[]);
    let text = screen.until("all is read", |text| !text.contains("reading") && text.contains("#4"));
    assert!(!text.contains(&number), "{text}");
    screen.press("/");
    screen.press(&number);
    screen.press(ENTER);
    let text = screen.shows("Shown is what fits");
    // What was typed is there, and nowhere else.
    assert_eq!(text.matches(&number).count(), 1, "{text}");
    assert!(text.contains(&format!("***{}", &number[number.len() - 4..])), "{text}");
    screen.press(ENTER);
    let text = screen.shows("The whole call");
    assert_eq!(text.matches(&number).count(), 0, "{text}");
    screen.press("\x03");
    assert_eq!(screen.end().0, 0);
    let mut screen = open(&files, &["--mask", "full"], &[]);
    screen.shows(&number);
    screen.press("q");
    assert_eq!(screen.end().0, 0);
}

#[test]
fn it_follows_the_terminal_and_colours_only_where_wanted() {
    let files = five();
    let mut screen = open(&files, &[], &[]);
    screen.until("all is read", |text| !text.contains("reading") && text.contains("#4"));
    assert!(screen.text().contains("Likely cause"));
    for (height, width) in [(12, 70), (6, 40), (3, 20), (1, 1), (50, 200), (24, 80)] {
        screen.resize(height, width);
        let is_drawn = |text: &str| match (height, width) {
            (..4, _) => true,
            (_, ..60) => text.contains("Outcome"),
            (_, ..110) => text.contains("Who → whom") && !text.contains("Likely cause"),
            _ => text.contains("Likely cause"),
        };
        let text = screen.until("the new size", is_drawn);
        assert!(text.lines().count() <= height.into(), "{text}");
    }
    screen.press(ENTER);
    screen.shows("The whole call");
    for (height, width) in [(12, 60), (24, 40), (40, 160)] {
        screen.resize(height, width);
        // The keys are told in the last line: what stood there before was drawn for another size.
        let is_last = |text: &str| {
            text.lines().nth(usize::from(height) - 1).is_some_and(|line| line.contains("Enter message"))
        };
        screen.until("the new size", is_last);
    }
    assert!(screen.is_coloured());
    screen.press("qq");
    assert_eq!(screen.end().0, 0);

    let mut screen = open(&files, &[], &[("NO_COLOR", "1")]);
    screen.until("all is read", |text| !text.contains("reading") && text.contains("#4"));
    assert!(!screen.is_coloured());
    screen.press(ENTER);
    screen.shows("The whole call");
    assert!(!screen.is_coloured());
    screen.press("qq");
    assert_eq!(screen.end().0, 0);
}

#[test]
fn a_broken_file_is_said_and_the_rest_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (cut, junk) = (dir.path().join("cut.pcap"), dir.path().join("junk.pcap"));
    let whole = std::fs::read(&five()[0]).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 7]).unwrap();
    std::fs::write(&junk, "no capture at all, but a text of some length").unwrap();
    let mut screen = open(&[cut.clone(), five()[1].clone()], &[], &[]);
    screen.until("all is read", |text| text.contains("not all was read") && text.contains("#2"));
    screen.press("m");
    let text = screen.shows("cut.pcap");
    assert!(!text.contains("Nothing was said"), "{text}");
    screen.press("q");
    screen.shows("Enter call");
    screen.press("q");
    assert_eq!(screen.end().0, 1);
    // Of what is no capture at all there is nothing to choose from.
    let mut screen = open(std::slice::from_ref(&junk), &[], &[]);
    screen.shows("not all was read");
    screen.press("q");
    assert_eq!(screen.end().0, 1);
    let gone = open(&[dir.path().join("gone.pcap")], &[], &[]);
    let (status, said) = gone.end();
    assert_eq!(status, 2);
    assert!(said.contains("gone.pcap") && !said.contains("\x1b[?1049h"), "{said}");
}

#[test]
fn without_a_terminal_it_is_pcap() {
    let output = |command: &str, term: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
        program.arg(command).args(five()).args(["--failed"]).env("TZ", "UTC").env("TERM", term);
        program.output().unwrap()
    };
    let (view, pcap) = (output("view", "xterm"), output("pcap", "xterm"));
    assert!(view.status.success() && !view.stdout.is_empty());
    assert_eq!(String::from_utf8(view.stdout).unwrap(), String::from_utf8(pcap.stdout).unwrap());
}

/// What a peer wrote is shown as text, whatever it would have a terminal do.
#[test]
fn the_wire_does_not_drive_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let hostile = dir.path().join("hostile.pcap");
    let mut bytes = std::fs::read(&five()[0]).unwrap();
    // Same length: the lengths of packets stay right. Where no checksum is looked at, nobody minds.
    let mut replaced = 0;
    for at in 0..bytes.len() - 9 {
        if &bytes[at..at + 9] == b"Busy Here" {
            bytes[at..at + 9].copy_from_slice(b"\x1b[2J\x1b[H\x9b\x07");
            replaced += 1;
        }
    }
    assert!(replaced > 0);
    std::fs::write(&hostile, bytes).unwrap();
    let mut screen = open(&[hostile], &[], &[]);
    screen.until("all is read", |text| !text.contains("reading") && text.contains("#1"));
    screen.press(ENTER);
    let text = screen.shows("The whole call");
    // What is left of it without the characters that a terminal obeys.
    assert!(text.contains("[2J"), "{text}");
    screen.press(END);
    screen.press("qq");
    let (status, bytes) = screen.end();
    assert_eq!(status, 0);
    assert!(!bytes.contains("\x1b[2J\x1b[H\u{9b}") && !bytes.contains('\u{9b}') && !bytes.contains('\x07'));
}

#[test]
fn a_call_that_is_still_up_is_listed_among_all_calls() {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part.pcapng");
    first_frames(&five()[0], &part, 4);
    let mut screen = open(&[part], &[], &[]);
    screen.shows("Calls without one: a.");
    screen.press("a");
    screen.shows("still up at the end");
    screen.press(ENTER);
    let text = screen.shows("INVITE");
    assert!(text.contains("still up"), "{text}");
    screen.press("qq");
    assert_eq!(screen.end().0, 0);
}

/// Nobody is told by a signal where a terminal is not the one that controls the program.
#[test]
fn it_ends_where_its_terminal_is_gone() {
    let pair = native_pty_system().openpty(PtySize { rows: 30, cols: 120, ..PtySize::default() }).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sipobs"));
    command.arg("view");
    command.args(five());
    command.env("TERM", "xterm-256color");
    command.set_controlling_tty(false);
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let mut reader = pair.master.try_clone_reader().unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !seen.windows(2).any(|bytes| bytes == b"#4") {
        let read = reader.read(&mut buffer).unwrap();
        assert!(read > 0, "it has ended");
        seen.extend_from_slice(&buffer[..read]);
    }
    drop((reader, pair.master));
    // A test that hangs here has failed.
    child.wait().unwrap();
}
