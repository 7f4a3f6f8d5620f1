//! The program on a pseudo-terminal: keys in, a screen out.

#![allow(dead_code, reason = "each test that includes it uses a part of it")]
#![allow(clippy::disallowed_methods, reason = "bounds how long a screen is waited for")]

use std::ffi::OsStr;
use std::io::{Read as _, Write};
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// The longest that anything on the screen is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program on a terminal.
pub(crate) struct Screen {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    terminal: vt100::Parser,
    /// All that it wrote.
    bytes: Vec<u8>,
}

impl Screen {
    /// Starts the program with these arguments, on a terminal of 30 lines and 120 columns.
    pub(crate) fn start(arguments: &[impl AsRef<OsStr>], environment: &[(&str, &str)]) -> Self {
        let pair = native_pty_system().openpty(size(30, 120)).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sipobs"));
        command.args(arguments);
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

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    pub(crate) fn resize(&mut self, height: u16, width: u16) {
        self.terminal.set_size(lines(height), lines(width));
        self.master.resize(size(height, width)).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        self.terminal.screen().contents()
    }

    /// Reads what is written until the screen is as wanted: its text then.
    pub(crate) fn until(&mut self, what: &str, is: impl Fn(&str) -> bool) -> String {
        self.wait(what, |screen| is(&screen.text()))
    }

    /// The same for all that can be told of a screen.
    pub(crate) fn wait(&mut self, what: &str, is: impl Fn(&Self) -> bool) -> String {
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

    pub(crate) fn shows(&mut self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    pub(crate) fn is_coloured(&self) -> bool {
        let screen = self.terminal.screen();
        let (rows, columns) = screen.size();
        let mut places = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        places.any(|(row, column)| {
            screen.cell(row, column).is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
        })
    }

    /// The line that is chosen.
    pub(crate) fn chosen(&self) -> String {
        let screen = self.terminal.screen();
        let (rows, columns) = screen.size();
        // The title and the keys stand out in the same way.
        let row = (1..rows.get() - 1).find(|&row| screen.cell(row, 0).is_some_and(vt100::Cell::inverse));
        row.and_then(|row| screen.rows(0, columns.get()).nth(row.into())).unwrap_or_default()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        let process =
            self.child.process_id().and_then(|id| rustix::process::Pid::from_raw(id.try_into().ok()?));
        let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
        rustix::process::kill_process(process.unwrap(), signal).unwrap();
    }

    /// Waits for its end, and gives its status.
    pub(crate) fn end(mut self) -> (u32, String) {
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
