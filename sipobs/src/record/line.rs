//! A record as it leaves: in JSON lines, and to a server.

use serde::{Serialize, Serializer};

use super::Output;

/// Grows when the meaning of a field changes. A field that is added changes none.
pub const SCHEMA: u32 = 1;

/// A record with what every line begins with.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Line<'a, T> {
    /// What it is.
    kind: &'static str,
    /// [`SCHEMA`].
    schema: u32,
    /// Where it was captured; none where a file was read.
    host: Option<&'a str>,
    #[serde(flatten)]
    record: &'a T,
}

impl<'a, T> Line<'a, T> {
    /// The line of a `record`, which is of this `kind`.
    pub fn new(kind: &'static str, host: Option<&'a str>, record: &'a T) -> Self {
        Self { kind, schema: SCHEMA, host, record }
    }
}

/// An output's line.
#[derive(Clone, Copy, Debug)]
pub struct OutputLine<'a> {
    output: &'a Output,
    host: Option<&'a str>,
}

impl Output {
    /// Its line; `host` is where it was captured.
    pub fn line<'a>(&'a self, host: Option<&'a str>) -> OutputLine<'a> {
        OutputLine { output: self, host }
    }
}

impl Serialize for OutputLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.output {
            Output::Notice(notice) => Line::new("notice", self.host, notice).serialize(serializer),
            Output::Transfer(attempt) => Line::new("transfer", self.host, attempt).serialize(serializer),
            Output::Call(call) => Line::new("call", self.host, call).serialize(serializer),
            Output::Alert(alert) => Line::new("alert", self.host, alert).serialize(serializer),
        }
    }
}
