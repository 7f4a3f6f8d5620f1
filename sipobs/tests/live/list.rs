//! `sipobs run` as somebody sees it who sits at a terminal: calls cross an interface, and are listed as they are judged.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sipobs::capture::file::{Capture, Next, Stop};

use crate::screen::Screen;
use crate::tags::send;
use crate::{alone, may_run};

const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";
const DOWN: &str = "\x1b[B";
const F1: &str = "\x1bOP";
const LINKS: [&str; 3] =
    ["link add list0 type veth peer name list1", "link set list0 up", "link set list1 up"];
/// Verdicts come soon.
const IMPATIENT: [(&str, &str); 2] = [("SIPOBS_TIMERS__TARGET", "1s"), ("SIPOBS_TIMERS__GRACE", "1s")];

/// Lets the frames of a capture come in at the interface that is watched.
fn play(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/livekit").join(name);
    let mut capture = Capture::open(&[file], &Stop::never()).unwrap();
    while let Some(next) = capture.next() {
        if let Next::Frame(frame) = next {
            send("list1", frame.bytes).unwrap();
        }
    }
}

fn settings(dir: &Path) -> Vec<(&'static str, String)> {
    let at = |name: &str| dir.join(name).display().to_string();
    vec![
        ("SIPOBS_JSONL__PATH", at("records.jsonl")),
        ("SIPOBS_RECORDER__FOLDER", at("evidence")),
        ("SIPOBS_METRICS__LISTEN", "127.0.0.1:9464".to_owned()),
        (IMPATIENT[0].0, IMPATIENT[0].1.to_owned()),
        (IMPATIENT[1].0, IMPATIENT[1].1.to_owned()),
    ]
}

fn run(dir: &Path, more: &[&str]) -> Screen {
    let settings = settings(dir);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut arguments = vec!["run", "-i", "list0"];
    arguments.extend(more);
    Screen::start(&arguments, &settings)
}

fn records(file: PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == "transfer").collect()
}

#[test]
fn calls_are_listed_as_they_go_by_opened_and_found() {
    if !may_run("calls_are_listed_as_they_go_by_opened_and_found") {
        return;
    }
    alone(&LINKS, || {
        let dir = tempfile::tempdir().unwrap();
        let mut screen = run(dir.path(), &[]);
        let text = screen.shows("Watching. A transfer is listed as soon as it is judged.");
        assert!(text.contains("sipobs · list0") && text.contains("q end the daemon"), "{text}");
        play("refer_busy.pcap");
        let text = screen.shows("busy (486)");
        assert!(!text.contains("510555") && text.contains("1 in all"), "{text}");
        // While it is on the screen.
        play("invite_second_leg_403.pcap");
        screen.shows("2 in all");

        // By the last digits of a number, by a word, and all again.
        screen.press("/");
        screen.shows("Show:");
        screen.press("forbidden");
        screen.until("one of them", |text| text.contains("1 of 1 shown") && !text.contains("busy (486)"));
        screen.press(ENTER);
        screen.shows("Shown is what fits: forbidden");
        screen.press(ESCAPE);
        screen.until("both again", |text| text.contains("busy (486)") && text.contains("of 2 shown"));

        // The ladder of the busy one, which came first.
        screen.press("g");
        screen.wait("the first row", |screen| screen.chosen().contains("busy"));
        screen.press(ENTER);
        // The screen may be read while it is being drawn.
        let whole = |text: &str| ["REFER", "NOTIFY", "reported busy"].iter().all(|part| text.contains(part));
        let text = screen.until("its ladder", whole);
        assert!(!text.contains("510555"), "{text}");
        screen.press("s");
        screen.shows("Its packets: ");
        screen.press("q");
        screen.shows("Enter call");
        screen.press(F1);
        screen.shows("the daemon then ends");
        screen.press("q");
        screen.shows("Enter call");
        // What the daemon says of itself meanwhile does not spoil the screen.
        let is_said = |text: &str| text.contains(" INFO ") || text.contains(" WARN ");
        screen.signal(libc::SIGHUP);
        screen.until("what a SIGHUP came to", is_said);
        screen.press("m");
        let text = screen.until("the log", |text| text.contains("Its packets: ") && is_said(text));
        assert!(text.contains("sipobs · list0"), "{text}");
        screen.press("q");
        screen.shows("Enter call");
        screen.press(DOWN);
        screen.press("q");
        let (status, bytes) = screen.end();
        assert_eq!(status, 0, "{bytes}");
        // The terminal is given back, and what a daemon says at its end stands there.
        let (_, after) = bytes.rsplit_once("\x1b[?1049l").unwrap();
        assert!(after.contains("INFO"), "{after}");
        // The list is one output of several.
        let outcomes: Vec<_> = records(dir.path().join("records.jsonl"))
            .iter()
            .map(|record| record["outcome"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(outcomes, ["busy", "forbidden"]);
    });
}

#[test]
fn plain_lines_are_printed_where_they_are_asked_for() {
    if !may_run("plain_lines_are_printed_where_they_are_asked_for") {
        return;
    }
    alone(&LINKS, || {
        for format in [&["--plain"][..], &["--format", "brief"]] {
            let dir = tempfile::tempdir().unwrap();
            let mut screen = run(dir.path(), format);
            screen.shows("ready: watching 1 interface");
            play("refer_busy.pcap");
            screen.shows("busy");
            screen.press("\x03");
            let (status, bytes) = screen.end();
            assert!(status == 0 && !bytes.contains("\x1b[?1049h"), "{bytes}");
        }
    });
}

#[test]
fn a_signal_ends_it_and_gives_the_terminal_back() {
    if !may_run("a_signal_ends_it_and_gives_the_terminal_back") {
        return;
    }
    alone(&LINKS, || {
        let dir = tempfile::tempdir().unwrap();
        let mut screen = run(dir.path(), &[]);
        screen.shows("Watching.");
        screen.signal(libc::SIGTERM);
        let (status, bytes) = screen.end();
        assert!(
            status == 0 && bytes.contains("\x1b[?1049l") && bytes.contains("\x1b[?25h"),
            "{status} {bytes}"
        );
    });
}
