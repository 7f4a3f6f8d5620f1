//! A real OTLP collector (rotel), and the spans it has received.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::children::{Running, wait_for};
use crate::lab::{Lab, Side};
use crate::setup;

const GRPC: &str = "127.0.0.1:4317";
const HTTP: &str = "127.0.0.1:4318";

/// The collector, on the loopback of the agent's namespace.
#[derive(Debug)]
pub(crate) struct Collector(Running);

/// A received span.
#[derive(Debug, Default)]
pub(crate) struct Span {
    /// Its fields, by the collector's names for them: `Trace ID`, `Parent ID`, `ID`, `Name`, `Status code`.
    pub(crate) fields: BTreeMap<String, String>,
    /// Its attributes.
    pub(crate) attributes: BTreeMap<String, String>,
    /// How many events it has.
    pub(crate) events: usize,
    /// The traces that it links to.
    pub(crate) links: Vec<String>,
}

impl Collector {
    /// Where it takes spans by gRPC.
    pub(crate) const GRPC: &str = "http://127.0.0.1:4317";
    /// Where it takes spans as protobuf over HTTP.
    pub(crate) const HTTP: &str = "http://127.0.0.1:4318";

    /// Starts it and waits until it listens.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let rotel = setup::rotel().context("rotel is not installed; run cargo xtask setup")?;
        let mut command = lab.inside(Side::Agent, rotel);
        command.args(["start", "--exporter", "blackhole"]);
        command.args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"]);
        command.args(["--otlp-grpc-endpoint", GRPC, "--otlp-http-endpoint", HTTP]);
        let running = Running::start("rotel", command, &lab.dir.join("rotel.log"))?;
        for address in [GRPC, HTTP] {
            lab.wait_listening(Side::Agent, address).with_context(|| running.tail(20))?;
        }
        Ok(Self(running))
    }

    /// Every span received so far.
    pub(crate) fn spans(&self) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        self.each_span(|span| spans.push(span))?;
        Ok(spans)
    }

    /// Gives every span received so far, one at a time: there may be more than should be held.
    pub(crate) fn each_span(&self, take: impl FnMut(Span)) -> Result<()> {
        parse(BufReader::new(self.0.output_file()?), take)
    }

    /// Waits until `enough` of them are there.
    pub(crate) fn wait(&self, what: &str, enough: impl Fn(&[Span]) -> bool) -> Result<Vec<Span>> {
        wait_for(what, Duration::from_secs(15), || {
            let spans = self.spans()?;
            Ok(enough(&spans).then_some(spans))
        })
    }
}

/// The spans that the collector tells of in `account`, what it has written.
pub(crate) fn spans_in(account: &str) -> Result<Vec<Span>> {
    let mut spans = Vec::new();
    parse(account.as_bytes(), |span| spans.push(span))?;
    Ok(spans)
}

/// Reads the collector's own account, which is meant for people:
///
/// ```text
/// Span #0
///     Trace ID       : 5b8e…
///     Name           : sip.transfer
/// Attributes:
///      -> sip.call_id: Str(a@b)
/// Events:
/// SpanEvent #0
/// ```
fn parse(account: impl BufRead, mut take: impl FnMut(Span)) -> Result<()> {
    let mut span: Option<Span> = None;
    let mut in_attributes = false;
    for line in account.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if line.starts_with("Span #") {
            span.replace(Span::default()).map(&mut take);
            in_attributes = false;
            continue;
        }
        if line.starts_with("ResourceSpans #") || line.starts_with("ScopeSpans #") {
            // What follows, up to the next span, is not the last one's.
            in_attributes = false;
            continue;
        }
        if let Some(span) = &mut span {
            span.add(&line, &mut in_attributes);
        }
    }
    span.map(take);
    Ok(())
}

impl Span {
    /// Whether it is that of an attempt.
    pub(crate) fn is_of_transfer(&self) -> bool {
        self.fields.get("Name").is_some_and(|name| name == "sip.transfer")
    }

    /// Whether it is that of a call.
    pub(crate) fn is_of_call(&self) -> bool {
        self.fields.get("Name").is_some_and(|name| name == "sip.call")
    }

    fn add(&mut self, line: &str, in_attributes: &mut bool) {
        match line {
            _ if !*in_attributes && line.trim_start().starts_with("-> Trace ID: ") => {
                self.links.extend(line.split_once("ID: ").map(|(_, id)| id.trim().to_owned()));
            }
            "Attributes:" => *in_attributes = true,
            "Events:" | "Links:" => *in_attributes = false,
            _ if line.starts_with("SpanEvent #") => {
                *in_attributes = false;
                self.events += 1;
            }
            _ if *in_attributes => {
                if let Some((name, value)) =
                    line.trim_start().strip_prefix("-> ").and_then(|it| it.split_once(": "))
                {
                    let value =
                        value.split_once('(').and_then(|(_, it)| it.strip_suffix(')')).unwrap_or(value);
                    self.attributes.insert(name.into(), value.into());
                }
            }
            _ => {
                if let Some((name, value)) = line.split_once(" : ")
                    && self.events == 0
                {
                    self.fields.insert(name.trim().into(), value.trim().into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collectors_account_is_read() {
        let text = "ResourceSpans #0\nResource attributes:\n     -> service.name: Str(sipobs)\nSpan #0\n    \
                    Trace ID       : 5b\n    Name           : sip.transfer\nAttributes:\n     -> a.b: Str(x: (y))\n     \
                    -> n: Int(7)\nEvents:\nSpanEvent #0\n     -> Name: INVITE\nSpanEvent #1\n     -> Name: 200\nSpan #1\n    \
                    Name           : REFER\n";
        let mut spans = Vec::new();
        parse(text.as_bytes(), |span| spans.push(span)).unwrap();
        assert_eq!(spans.len(), 2);
        assert_eq!(spans[0].fields["Trace ID"], "5b");
        assert_eq!(spans[0].attributes["a.b"], "x: (y)");
        assert_eq!(spans[0].attributes["n"], "7");
        assert_eq!(spans[0].events, 2);
        assert_eq!(spans[1].fields["Name"], "REFER");
        assert!(spans[1].attributes.is_empty());
    }
}
