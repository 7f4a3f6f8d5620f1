//! Spans that nobody took before the end, and calls whose own span is still to come: for the next run to deliver.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SpanData;
use serde::{Deserialize, Serialize};

use super::spans::{OpenCall, Spans};
use crate::sealed::{Reader, Unreadable, Writer};

/// The version that is written; no other is read.
const VERSION: u8 = 1;

/// What an exporter leaves at its end.
#[derive(Debug, Default)]
pub struct Left {
    pub(super) spans: Vec<SpanData>,
    pub(super) open: Vec<(String, OpenCall)>,
}

#[derive(Serialize, Deserialize)]
enum Entry {
    Span(Box<Span>),
    Open(String, OpenCall),
}

#[derive(Serialize, Deserialize)]
struct Span {
    context: Context,
    parent: [u8; 8],
    parent_is_remote: bool,
    is_client: bool,
    name: String,
    nanos: (u64, u64),
    attributes: Vec<Attribute>,
    events: Vec<(String, u64, Vec<Attribute>)>,
    links: Vec<(Context, Vec<Attribute>)>,
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Context {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
    is_remote: bool,
}

type Attribute = (String, Of);

/// A value, as far as the spans made here have them.
#[derive(Serialize, Deserialize)]
enum Of {
    Bool(bool),
    I64(i64),
    F64(f64),
    Text(String),
    Texts(Vec<String>),
}

impl Left {
    /// How every file of it begins. The version follows.
    pub const MARK: &'static [u8] = b"sipobs spans\n";

    /// How many spans there are.
    pub fn spans(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.open.is_empty()
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// When `to` takes no more.
    pub fn write(self, to: impl Write) -> io::Result<()> {
        let mut writer = Writer::begin(to, Self::MARK, VERSION)?;
        for span in self.spans {
            writer.add(&Entry::Span(Box::new(span.into())))?;
        }
        for (call_id, open) in self.open {
            writer.add(&Entry::Open(call_id, open))?;
        }
        writer.end()
    }

    /// Reads what [`Self::write`] has written, for an exporter that makes its own of `spans`.
    pub(super) fn read(bytes: &[u8], spans: &Spans) -> Result<Self, Unreadable> {
        let mut reader = Reader::begin(bytes, Self::MARK, VERSION)?;
        let mut left = Self::default();
        while !reader.is_over() {
            match reader.next()? {
                Entry::Span(span) => left.spans.push(span.data(spans)),
                Entry::Open(call_id, open) => left.open.push((call_id, open)),
            }
        }
        Ok(left)
    }
}

impl From<SpanData> for Span {
    fn from(span: SpanData) -> Self {
        Self {
            context: (&span.span_context).into(),
            parent: span.parent_span_id.to_bytes(),
            parent_is_remote: span.parent_span_is_remote,
            is_client: span.span_kind == SpanKind::Client,
            name: span.name.into_owned(),
            nanos: (nanos(span.start_time), nanos(span.end_time)),
            attributes: kept(span.attributes),
            events: span
                .events
                .events
                .into_iter()
                .map(|event| (event.name.into_owned(), nanos(event.timestamp), kept(event.attributes)))
                .collect(),
            links: span
                .links
                .links
                .into_iter()
                .map(|link| ((&link.span_context).into(), kept(link.attributes)))
                .collect(),
            error: match span.status {
                Status::Error { description } => Some(description.into_owned()),
                Status::Ok | Status::Unset => None,
            },
        }
    }
}

impl Span {
    fn data(self, spans: &Spans) -> SpanData {
        let mut data = spans.empty();
        data.span_context = self.context.into();
        data.parent_span_id = SpanId::from_bytes(self.parent);
        data.parent_span_is_remote = self.parent_is_remote;
        data.span_kind = if self.is_client { SpanKind::Client } else { SpanKind::Internal };
        data.name = Cow::Owned(self.name);
        (data.start_time, data.end_time) = (moment(self.nanos.0), moment(self.nanos.1));
        data.attributes = attributes(self.attributes);
        let events = self.events.into_iter();
        data.events.events =
            events.map(|(name, nanos, of)| Event::new(name, moment(nanos), attributes(of), 0)).collect();
        let links = self.links.into_iter();
        data.links.links = links.map(|(context, of)| Link::new(context.into(), attributes(of), 0)).collect();
        data.status = self.error.map_or(Status::Unset, Status::error);
        data
    }
}

impl From<&SpanContext> for Context {
    fn from(context: &SpanContext) -> Self {
        Self {
            trace: context.trace_id().to_bytes(),
            span: context.span_id().to_bytes(),
            flags: context.trace_flags().to_u8(),
            is_remote: context.is_remote(),
        }
    }
}

impl From<Context> for SpanContext {
    fn from(context: Context) -> Self {
        let Context { trace, span, flags, is_remote } = context;
        let (trace, span) = (TraceId::from_bytes(trace), SpanId::from_bytes(span));
        Self::new(trace, span, TraceFlags::new(flags), is_remote, TraceState::NONE)
    }
}

fn kept(attributes: Vec<KeyValue>) -> Vec<Attribute> {
    attributes.into_iter().map(|KeyValue { key, value, .. }| (key.to_string(), of(value))).collect()
}

fn of(value: Value) -> Of {
    match value {
        Value::Bool(it) => Of::Bool(it),
        Value::I64(it) => Of::I64(it),
        Value::F64(it) => Of::F64(it),
        Value::String(it) => Of::Text(it.into()),
        Value::Array(Array::String(texts)) => Of::Texts(texts.into_iter().map(Into::into).collect()),
        // The library may come to know more; none is made here.
        other => Of::Text(other.to_string()),
    }
}

fn attributes(kept: Vec<Attribute>) -> Vec<KeyValue> {
    let value = |of| match of {
        Of::Bool(it) => Value::Bool(it),
        Of::I64(it) => Value::I64(it),
        Of::F64(it) => Value::F64(it),
        Of::Text(it) => Value::String(it.into()),
        Of::Texts(texts) => Value::Array(Array::String(texts.into_iter().map(StringValue::from).collect())),
    };
    kept.into_iter().map(|(key, of)| KeyValue::new(key, value(of))).collect()
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn moment(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CallSpans;
    use crate::export::samples;
    use crate::record::Output;

    #[test]
    fn spans_are_the_same_afterwards() {
        let mut spans = Spans::new("node".into(), CallSpans::default());
        let transfers = [samples::busy(), samples::second_leg(), samples::succeeded()];
        let outputs = transfers.map(|attempt| Output::Transfer(Box::new(attempt)));
        let outputs = outputs.into_iter().chain([samples::alert()]);
        let made: Vec<SpanData> = outputs.flat_map(|output| spans.of(&output)).collect();
        let open = spans.take_open();
        assert!(made.len() > 5 && !open.is_empty());
        let mut bytes = Vec::new();
        Left { spans: made.clone(), open: open.clone() }.write(&mut bytes).unwrap();
        let read = Left::read(&bytes, &spans).unwrap();
        assert_eq!(read.spans, made);
        assert_eq!(read.open, open);
    }
}
