//! A line for each attempt and each alert, for a person who reads a journal: no ladder, no colour.

use std::io::{self, Write};

use super::terminal::facts;
use super::{Look, Sink, Summary, clean, words};
use crate::record::{Alert, Attempt, Output};

/// Writes a line for each.
#[derive(Debug)]
pub struct Brief<W: Write> {
    out: W,
}

impl<W: Write> Brief<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write> Sink for Brief<W> {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        match output {
            Output::Notice(_) | Output::Call(_) => Ok(()),
            Output::Transfer(attempt) => writeln!(self.out, "{}", verdict(attempt)),
            Output::Alert(alert) => writeln!(self.out, "{}", raised(alert)),
        }
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn verdict(attempt: &Attempt) -> String {
    let mut line = format!("{} · {}", words::headline(attempt), facts(Look::default(), attempt));
    if let Some(first) = attempt.diagnosis.first() {
        let (word, cause) = words::cause(0, &first.cause);
        line.push_str(&format!(" · {word}: {}", clean(cause.trim_end_matches('.'))));
    }
    if &*attempt.trunk != "other" {
        line.push_str(&format!(" · trunk {}", clean(&attempt.trunk)));
    }
    if let Some(call_id) = &attempt.call_id {
        line.push_str(&format!(" · call {}", clean(call_id)));
    }
    line.push_str(&format!(" · id {}", attempt.id));
    line
}

fn raised(alert: &Alert) -> String {
    format!("Alert {}: {} · trunk {}", alert.alert.as_str(), clean(&alert.message), clean(&alert.trunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples;

    #[test]
    fn an_attempt_is_a_line() {
        let mut bytes = Vec::new();
        let mut sink = Brief::new(&mut bytes);
        let mut forged = samples::busy();
        forged.reason = Some("Busy\n<0>forged".into());
        for output in [
            Output::Transfer(Box::new(samples::second_leg())),
            Output::Transfer(Box::new(forged)),
            samples::notice(),
            samples::call(),
            samples::alert(),
        ] {
            sink.output(&output).unwrap();
        }
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        insta::assert_snapshot!(text);
    }
}
