//! One JSON object a line: the output contract's own form.

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use super::{Sink, Summary};
use crate::transfer::Output;

/// Writes outputs as JSON lines. The same outputs give the same bytes.
#[derive(Debug)]
pub struct Jsonl<W: Write> {
    out: BufWriter<W>,
    notices: bool,
}

impl<W: Write> Jsonl<W> {
    /// Writes to `out`; early notices only if `notices`.
    pub fn new(out: W, notices: bool) -> Self {
        Self { out: BufWriter::with_capacity(64 * 1024, out), notices }
    }

    fn line(&mut self, record: &impl Serialize) -> io::Result<()> {
        record.serialize(&mut serde_json::Serializer::with_formatter(&mut self.out, Terminal))?;
        self.out.write_all(b"\n")
    }
}

/// JSON that a terminal shows as what it is: DEL and the controls above it, which JSON allows but terminals
/// obey, are escaped like those below the space.
struct Terminal;

impl Formatter for Terminal {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
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

impl<W: Write> Sink for Jsonl<W> {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        match output {
            Output::Notice(_) if !self.notices => Ok(()),
            _ => self.line(output),
        }
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.line(summary)
    }

    fn flush(&mut self) -> io::Result<()> {
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
        assert!(text.starts_with(r#"{"kind":"transfer","call_id":"#), "{text}");
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
            "{\"kind\":\"summary\",\"packets\":0,\"messages\":0,\"calls\":0,\"transfers\":{},\
             \"not_understood\":{},\"lost\":{}}\n"
        );
    }
}
