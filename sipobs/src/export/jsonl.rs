//! One JSON object a line: the output contract's own form.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;
use serde_json::ser::Formatter;

use super::{Sink, Summary};
use crate::record::{Call, Line, OpenCall, Output};

/// Bytes that may wait for a flush.
const BUFFER: usize = 64 * 1024;

/// Writes outputs as JSON lines. The same outputs give the same bytes.
///
/// A line is written whole or not at all: what a full disk cut off is finished before the next line, so that
/// every line that is there can be read.
#[derive(Debug)]
pub struct Jsonl<W: Write> {
    out: W,
    /// What is not written yet: lines, but for the first, which may be the rest of one.
    buffer: Vec<u8>,
    /// How many bytes of the buffer are such a rest.
    rest: usize,
    notices: bool,
    host: Option<Arc<str>>,
}

impl<W: Write> Jsonl<W> {
    /// What every line begins with.
    pub const BEGINNING: &str = "{\"kind\":\"";

    /// Writes to `out`; early notices only if `notices`.
    pub fn new(out: W, notices: bool) -> Self {
        Self { out, buffer: Vec::with_capacity(BUFFER), rest: 0, notices, host: None }
    }

    /// Names the host that captures in every line.
    #[must_use]
    pub fn of_host(mut self, host: impl Into<Arc<str>>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Writes to `out` from now on. What is not written yet goes there; but what is left of a line that was begun goes to
    /// where that was begun, or is given up.
    pub fn reopen(&mut self, out: W) {
        let _ = self.write();
        self.buffer.drain(..self.rest);
        self.rest = 0;
        self.out = out;
    }

    fn line(&mut self, record: &impl Serialize) -> io::Result<()> {
        record.serialize(&mut serde_json::Serializer::with_formatter(&mut self.buffer, Terminal))?;
        self.buffer.push(b'\n');
        if self.buffer.len() < BUFFER { Ok(()) } else { self.write() }
    }

    /// Writes the buffer. On failure, lines of which nothing is written yet are given up.
    fn write(&mut self) -> io::Result<()> {
        let (mut written, mut result) = (0, Ok(()));
        while result.is_ok() && written < self.buffer.len() {
            match self.out.write(&self.buffer[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        let within_a_line = match written {
            0 => self.rest > 0,
            _ => self.buffer[written - 1] != b'\n',
        };
        let end = self.buffer[written..].iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.rest = if within_a_line { end } else { 0 };
        self.buffer.drain(..written);
        self.buffer.truncate(self.rest);
        result
    }
}

/// JSON that a terminal shows as what it is: DEL and the controls above it, which JSON allows but terminals
/// obey, are escaped like those below the space.
struct Terminal;

impl Formatter for Terminal {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        // Nearly all is visible ASCII. What is below the space never comes here.
        if is_below_del(text.as_bytes()) {
            return out.write_all(text.as_bytes());
        }
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_control()) {
            let (before, from) = rest.split_at(at);
            let control = from.chars().next().unwrap_or_default();
            write!(out, "{before}\\u{:04x}", u32::from(control))?;
            rest = &from[control.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

/// Whether all bytes are below 0x7f. They are looked at eight at once, as most texts are short.
fn is_below_del(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    // Of 0x7f and all above, the upper bit is set: before one is added, or after.
    let one_more = |word: u64| (word & 0x7f7f_7f7f_7f7f_7f7f) + 0x0101_0101_0101_0101;
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let found = words.fold(0, |found, word| found | word | one_more(word));
    found & 0x8080_8080_8080_8080 == 0 && rest.iter().all(|byte| *byte < 0x7f)
}

impl<W: Write> Sink for Jsonl<W> {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        match output {
            Output::Notice(_) if !self.notices => Ok(()),
            _ => {
                let host = self.host.clone();
                self.line(&output.line(host.as_deref()))
            }
        }
    }

    fn open_call(&mut self, call: &Call) -> io::Result<()> {
        let host = self.host.clone();
        self.line(&Line::new("open_call", host.as_deref(), &OpenCall::from(call)))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let host = self.host.clone();
        self.line(&Line::new("summary", host.as_deref(), summary))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples;

    #[test]
    fn no_control_reaches_a_terminal() {
        let mut attempt = samples::busy();
        let phrase = "a\u{9b}31mb\u{7f}\u{1b}[2J\u{85}é";
        attempt.reason = Some(phrase.to_owned());
        let text = lines(false, &[Output::Transfer(Box::new(attempt))]);
        assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["reason"], phrase);
    }

    #[test]
    fn every_byte_is_told_from_del_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for (before, after) in [(0, 0), (0, 7), (7, 0), (3, 12), (12, 3), (8, 1)] {
                let bytes = [vec![b'~'; before], vec![byte], vec![b' '; after]].concat();
                assert_eq!(is_below_del(&bytes), byte < 0x7f, "{byte} after {before}");
            }
        }
    }

    fn lines(notices: bool, outputs: &[Output]) -> String {
        let mut bytes = Vec::new();
        let mut sink = Jsonl::new(&mut bytes, notices);
        for output in outputs {
            sink.output(output).unwrap();
        }
        sink.flush().unwrap();
        drop(sink);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_a_record_with_its_kind_first() {
        let text = lines(false, &[Output::Transfer(Box::new(samples::busy())), samples::notice()]);
        assert_eq!(text.lines().count(), 1, "a notice is not printed unless asked for");
        assert!(text.starts_with(r#"{"kind":"transfer","schema":1,"host":null,"call_id":"#), "{text}");
        assert!(text.starts_with(Jsonl::<Vec<u8>>::BEGINNING), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["outcome"], "busy");
        assert_eq!(value["quality"]["midcall"], 0);
        assert_eq!(value["messages"][0]["frame"], 5);
    }

    #[test]
    fn notices_when_asked_for() {
        assert!(lines(true, &[samples::notice()]).starts_with(r#"{"kind":"notice""#));
    }

    #[test]
    fn the_summary_names_its_kind_and_its_zeroes() {
        let mut bytes = Vec::new();
        let mut sink = Jsonl::new(&mut bytes, false);
        sink.summary(&Summary::default()).unwrap();
        sink.flush().unwrap();
        drop(sink);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\"kind\":\"summary\",\"schema\":1,\"host\":null,\"packets\":0,\"messages\":0,\"calls\":0,\"transfers\":{},\
             \"not_understood\":{},\"lost\":{},\"evicted_since\":null,\"files\":[],\"shown\":null,\"tls\":null}\n"
        );
    }

    /// A disk with `room` for so many bytes.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..room]);
            if room == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(room) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_leaves_no_torn_line() {
        let record = Output::Transfer(Box::new(samples::busy()));
        let length = lines(false, std::slice::from_ref(&record)).len();
        for room in [0, 1, length - 1, length, length + 1] {
            let mut disk = Disk { bytes: Vec::new(), room };
            let mut sink = Jsonl::new(&mut disk, false);
            let write = |sink: &mut Jsonl<&mut Disk>| {
                sink.output(&record).unwrap();
                sink.flush().is_ok()
            };
            let taken = [write(&mut sink), write(&mut sink), write(&mut sink)];
            assert_eq!(taken, [room >= length, false, false], "room for {room} of {length}");
            sink.out.room = usize::MAX;
            assert!(write(&mut sink));
            drop(sink);
            let text = String::from_utf8(disk.bytes).unwrap();
            let begun = room.div_ceil(length);
            assert_eq!(text.lines().count(), begun + 1, "room for {room} of {length}");
            assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        }
    }
}
