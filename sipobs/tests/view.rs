//! `sipobs view` as somebody sees it who sits at a terminal: the program itself in a pseudo-terminal, keys in, a screen out.

#![cfg(all(unix, feature = "view"))]
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]
#![allow(clippy::disallowed_methods, reason = "bounds how long a screen is waited for")]

use std::io::{Read as _, Write};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use serde_json::Value;

mod common;
use common::five;

/// The longest that anything on the screen is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";
const DOWN: &str = "\x1b[B";
const END: &str = "\x1b[F";
const HOME: &str = "\x1b[H";
const F1: &str = "\x1bOP";
const F2: &str = "\x1bOQ";
const CLEAR: &str = "\x15";

/// The program on a terminal.
struct Screen {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    terminal: vt100::Parser,
    /// All that it wrote.
    bytes: Vec<u8>,
}

impl Screen {
    fn open(files: &[PathBuf], args: &[&str], environment: &[(&str, &str)]) -> Self {
        let pair = native_pty_system().openpty(size(30, 120)).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sipobs"));
        command.arg("view");
        command.args(files);
        command.args(args);
        command.env("TERM", "xterm-256color");
        command.env("TZ", "UTC");
        command.env_remove("NO_COLOR");
        command.env_remove("COLUMNS");
        environment.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let keys = pair.master.take_writer().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let terminal = vt100::Parser::new(lines(30), lines(120), 0);
        Self { child, master: pair.master, keys, output, terminal, bytes: Vec::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn resize(&mut self, height: u16, width: u16) {
        self.terminal.set_size(lines(height), lines(width));
        self.master.resize(size(height, width)).unwrap();
    }

    fn text(&self) -> String {
        self.terminal.screen().contents()
    }

    /// Reads what is written until the screen is as wanted: its text then.
    fn until(&mut self, what: &str, is: impl Fn(&str) -> bool) -> String {
        self.wait(what, |screen| is(&screen.text()))
    }

    /// The same for all that can be told of a screen.
    fn wait(&mut self, what: &str, is: impl Fn(&Self) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if is(self) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    self.terminal.process(&bytes);
                    self.bytes.extend(bytes);
                }
                Err(error) => panic!("{what} ({error}):\n{text}"),
            }
        }
    }

    fn shows(&mut self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    fn is_coloured(&self) -> bool {
        let screen = self.terminal.screen();
        let (rows, columns) = screen.size();
        let mut places = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        places.any(|(row, column)| {
            screen.cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
        })
    }

    /// The line that is chosen.
    fn chosen(&self) -> String {
        let screen = self.terminal.screen();
        let (rows, columns) = screen.size();
        // The title and the keys stand out in the same way.
        let row = (1..rows.get() - 1).find(|&row| screen.cell(row, 0).is_some_and(vt100::Cell::inverse));
        row.and_then(|row| screen.rows(0, columns.get()).nth(row.into())).unwrap_or_default()
    }

    /// Waits for its end, and gives its status.
    fn end(mut self) -> (u32, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.text());
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.bytes.extend(bytes);
            }
        };
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.bytes.extend(bytes);
        }
        (status.exit_code(), String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn size(rows: u16, cols: u16) -> PtySize {
    PtySize { rows, cols, ..PtySize::default() }
}

fn lines(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
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
    let mut screen = Screen::open(&files, &[], &[]);
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
    let mut screen = Screen::open(&files, &["--call", "#1"], &[]);
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
    let mut screen = Screen::open(&files, &[], &[]);
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
    let mut screen = Screen::open(&files, &["--mask", "full"], &[]);
    screen.shows(&number);
    screen.press("q");
    assert_eq!(screen.end().0, 0);
}

#[test]
fn it_follows_the_terminal_and_colours_only_where_wanted() {
    let files = five();
    let mut screen = Screen::open(&files, &[], &[]);
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

    let mut screen = Screen::open(&files, &[], &[("NO_COLOR", "1")]);
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
    let mut screen = Screen::open(&[cut.clone(), five()[1].clone()], &[], &[]);
    screen.until("all is read", |text| text.contains("not all was read") && text.contains("#2"));
    screen.press("m");
    let text = screen.shows("cut.pcap");
    assert!(!text.contains("Nothing was said"), "{text}");
    screen.press("q");
    screen.shows("Enter call");
    screen.press("q");
    assert_eq!(screen.end().0, 1);
    // Of what is no capture at all there is nothing to choose from.
    let mut screen = Screen::open(std::slice::from_ref(&junk), &[], &[]);
    screen.shows("not all was read");
    screen.press("q");
    assert_eq!(screen.end().0, 1);
    let gone = Screen::open(&[dir.path().join("gone.pcap")], &[], &[]);
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
    let mut screen = Screen::open(&[hostile], &[], &[]);
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
