//! Outputs → spans: call ⊃ `sip.transfer` ⊃ one span a transaction, with an event for each message.
//!
//! A call ends after its transfers are settled, so its span is sent last; the ids follow from the call, and
//! the tree joins up all the same. Which calls have one is a setting ([`CallSpans`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use serde::{Deserialize, Serialize};

use super::attributes::attributes;
use super::ids;
use super::transactions::{Transaction, event, transactions};
use crate::config::CallSpans;
use crate::export::words::{self, Tone};
use crate::record::{Alert, Attempt, Call, Fault, LegRole, Output, WireTrace};
use crate::stream::TransportKind;
use crate::timestamp::Timestamp;

/// Calls that spans have named as their parent or by a link and which have not ended, at most. Those beyond, which then
/// end without a BYE, have no span.
const MOST_OPEN: usize = 16_384;

/// Makes spans.
#[derive(Debug)]
pub(super) struct Spans {
    node: String,
    calls: CallSpans,
    scope: InstrumentationScope,
    /// Calls whose own span is still to come, by Call-ID.
    open: BTreeMap<Arc<str>, OpenCall>,
    /// The same, those first that go first when there are too many.
    order: BTreeSet<(OpenCall, Arc<str>)>,
}

/// A call that a transfer concerns: those that rest on one side's word come first, then the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct OpenCall {
    two_sided: bool,
    /// When it was last heard of, and first.
    #[serde(with = "nanos")]
    ended: Timestamp,
    #[serde(with = "nanos")]
    started: Timestamp,
}

/// As a number: they stay within sipobs.
mod nanos {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::timestamp::Timestamp;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.as_nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_nanos)
    }
}

impl Spans {
    pub(super) fn new(node: String, calls: CallSpans) -> Self {
        let scope = InstrumentationScope::builder("sipobs").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { node, calls, scope, open: BTreeMap::new(), order: BTreeSet::new() }
    }

    pub(super) const fn calls(&self) -> CallSpans {
        self.calls
    }

    /// The spans of one output.
    pub(super) fn of(&mut self, output: &Output) -> Vec<SpanData> {
        match output {
            Output::Notice(_) => vec![],
            Output::Transfer(attempt) => self.attempt(attempt),
            Output::Call(call) => self.call(call),
            Output::Alert(alert) => vec![self.alert(alert)],
        }
    }

    /// The calls whose own span is still to come, taken out: another run will send them.
    pub(super) fn take_open(&mut self) -> Vec<(String, OpenCall)> {
        self.open.clear();
        std::mem::take(&mut self.order)
            .into_iter()
            .map(|(open, call_id)| (call_id.to_string(), open))
            .collect()
    }

    /// Takes up a call whose own span another run has left to be sent.
    pub(super) fn take_up(&mut self, call_id: &str, open: OpenCall) {
        self.close(call_id);
        self.note_open(call_id, open);
    }

    /// A span that says nothing yet.
    pub(super) fn empty(&self) -> SpanData {
        self.span(SpanContext::NONE, SpanId::INVALID, "", Timestamp::default(), Timestamp::default())
    }

    /// Spans for the calls that were still up at the end, so that transfers have a parent, and links lead somewhere.
    pub(super) fn unfinished(&mut self) -> impl Iterator<Item = SpanData> {
        self.open.clear();
        std::mem::take(&mut self.order).into_iter().rev().map(|(OpenCall { started, ended, .. }, call_id)| {
            let context = self.context_of(&call_id);
            let mut span = self.span(context, SpanId::INVALID, "sip.call", started, ended);
            span.attributes.push(KeyValue::new("sip.call_id", call_id));
            span.attributes.push(KeyValue::new("sip.call.unfinished", true));
            span
        })
    }

    /// None, where such a call has none.
    fn call(&mut self, call: &Call) -> Vec<SpanData> {
        self.close(&call.call_id);
        if !self.calls.include(call) {
            return vec![];
        }
        let context = self.context_of(&call.call_id);
        let mut span = self.span(context, SpanId::INVALID, "sip.call", call.started, call.ended);
        span.attributes = attributes("sip.call", call, &["started", "ended", "trace_id"]);
        span.attributes.push(KeyValue::new("sip.call_id", call.call_id.clone()));
        if let Some(status) = call.status {
            span.attributes.push(KeyValue::new("sip.response.status_code", i64::from(status)));
        }
        vec![span]
    }

    fn attempt(&mut self, attempt: &Attempt) -> Vec<SpanData> {
        let anchor = anchor(attempt);
        if let Some(call_id) = &attempt.call_id {
            self.keep_open(call_id, attempt);
        }
        let call = attempt.call_id.as_deref().and_then(|call_id| self.call_context(call_id));
        let parent = span_id(call.as_ref());
        let trace = trace_of(attempt, anchor);
        let wire = attempt.wire_trace.as_ref().and_then(|wire| Some((wire, wire_context(wire)?)));
        let joins = attempt.wire_trace.as_ref().is_some_and(|wire| wire.joins);
        let parent = match &wire {
            Some((wire, context)) if wire.joins => context.span_id(),
            // A trace without a span in it has no place for this one but the top.
            _ if joins => SpanId::INVALID,
            _ => parent,
        };
        let which = format!(
            "{:?} {:?} {:?} {}",
            attempt.method, attempt.refer_cseq, attempt.target_call_id, attempt.started
        );
        let id = ids::span(&self.node, anchor, "transfer", &which);
        let mut root = self.span(context(trace, id), parent, "sip.transfer", attempt.started, attempt.ended);
        root.parent_span_is_remote = joins && parent != SpanId::INVALID;
        root.links = links(match wire {
            Some((wire, context)) if !wire.joins => Some(context),
            // The call's own span is in the call's own trace.
            Some(_) => call,
            None => None,
        });
        root.attributes = attributes("sip.transfer", attempt, &["started", "ended", "messages"]);
        if let Some(call_id) = &attempt.call_id {
            root.attributes.push(KeyValue::new("sip.call_id", call_id.clone()));
        }
        if is_incident(attempt) {
            let outcome = attempt.outcome.to_string();
            root.status = Status::error(words::headline(attempt));
            root.attributes.push(KeyValue::new("error.type", outcome));
        }

        let own_trace = attempt.target_call_id.as_deref().filter(|&id| id != anchor);
        if let Some(target) = own_trace {
            self.keep_open(target, attempt);
        }
        let mut spans = vec![];
        for (number, transaction) in transactions(&attempt.messages).iter().enumerate() {
            let id = ids::span(&self.node, anchor, "transaction", &format!("{which} {number}"));
            let mut span =
                self.transaction(context(trace, id), root.span_context.span_id(), attempt, transaction);
            // Links go on a child: on a root, Jaeger shows them as incomplete.
            if let Some(target) = own_trace.filter(|_| transaction.leg == LegRole::Target) {
                span.links = links(self.call_context(target));
            }
            spans.push(span);
        }
        spans.insert(0, root);
        spans
    }

    fn transaction(
        &self,
        context: SpanContext,
        parent: SpanId,
        attempt: &Attempt,
        of: &Transaction<'_>,
    ) -> SpanData {
        let (Some(first), Some(last)) = (of.lines.first(), of.lines.last()) else {
            return self.span(context, parent, "", attempt.started, attempt.started);
        };
        let mut span = self.span(context, parent, of.method.as_str(), first.time, last.time);
        span.span_kind = SpanKind::Client;
        let call_id = match of.leg {
            LegRole::Call => attempt.call_id.as_ref(),
            LegRole::Target => attempt.target_call_id.as_ref().or(attempt.call_id.as_ref()),
            LegRole::Consultation => None,
        };
        let (client, server) = if of.opened { (first.from, first.to) } else { (first.to, first.from) };
        span.attributes = vec![
            KeyValue::new("sip.request.method", of.method.as_str()),
            KeyValue::new("sip.cseq", i64::from(of.number)),
            KeyValue::new("sip.transfer.leg", leg(of.leg)),
            KeyValue::new("client.address", client.ip().to_string()),
            KeyValue::new("client.port", i64::from(client.port())),
            KeyValue::new("server.address", server.ip().to_string()),
            KeyValue::new("server.port", i64::from(server.port())),
            KeyValue::new("network.peer.address", server.ip().to_string()),
            KeyValue::new("network.peer.port", i64::from(server.port())),
            KeyValue::new("network.protocol.name", "sip"),
            KeyValue::new("network.transport", transport(first.transport)),
            KeyValue::new("sip.transport", first.transport.as_str()),
        ];
        if first.transport.is_tls() {
            span.attributes.push(KeyValue::new("tls.protocol.name", "tls"));
        }
        if &*attempt.trunk != "other" {
            // What a service map calls the other end.
            span.attributes.push(KeyValue::new("peer.service", attempt.trunk.to_string()));
        }
        span.attributes.extend(call_id.map(|id| KeyValue::new("sip.call_id", id.clone())));

        let mut events = vec![];
        let mut answer = None;
        for line in &of.lines {
            let (event, status) = event(line);
            if let Some((code, reason)) = status.filter(|&(code, _)| code >= 200) {
                answer = Some((code, reason.to_owned()));
            }
            if let Some((_, sipfrag)) = line.line.split_once(" → ") {
                span.attributes.push(KeyValue::new("sip.transfer.sipfrag", sipfrag.to_owned()));
            }
            events.push(event);
        }
        span.events = SpanEvents::default();
        span.events.events = events;
        if let Some((code, reason)) = answer {
            span.attributes.push(KeyValue::new("sip.response.status_code", i64::from(code)));
            span.attributes.push(KeyValue::new("sip.response.reason", reason.clone()));
            // A challenge is an ordinary step, not yet a failure.
            if code >= 400 && !matches!(code, 401 | 407) && is_incident(attempt) {
                span.status = Status::error(format!("{code} {reason}"));
                span.attributes.push(KeyValue::new("error.type", code.to_string()));
            }
        }
        span
    }

    /// A span of its own, whatever the call's has become: an alert may come before or after it.
    fn alert(&self, alert: &Alert) -> SpanData {
        let anchor = alert.call_id.as_deref().unwrap_or(&alert.trunk);
        let call = alert.call_id.as_ref().and_then(|call_id| self.call_context(call_id));
        let parent = span_id(call.as_ref());
        let which = format!("{:?} {}", alert.alert, alert.time);
        let context = context(ids::trace(anchor), ids::span(&self.node, anchor, "alert", &which));
        let mut span = self.span(context, parent, "sip.alert", alert.time, alert.time);
        span.attributes = attributes("sip.alert", alert, &["time", "trace_id"]);
        let mut event = span.attributes.clone();
        event.retain(|a| a.key.as_str() == "sip.alert.message");
        span.events.events = vec![Event::new(alert.alert.as_str(), moment(alert.time), event, 0)];
        span
    }

    /// Remembers that the call's span is still to come, if it will.
    fn keep_open(&mut self, call_id: &str, attempt: &Attempt) {
        if self.calls == CallSpans::None {
            return;
        }
        let Attempt { started, ended, .. } = *attempt;
        let mut open = OpenCall { two_sided: !attempt.is_one_sided(), ended, started };
        if let Some(known) = self.close(call_id) {
            open.two_sided |= known.two_sided;
            (open.started, open.ended) = (open.started.min(known.started), open.ended.max(known.ended));
        }
        self.note_open(call_id, open);
    }

    fn note_open(&mut self, call_id: &str, open: OpenCall) {
        let call_id: Arc<str> = call_id.into();
        self.open.insert(Arc::clone(&call_id), open);
        self.order.insert((open, call_id));
        if self.open.len() > MOST_OPEN
            && let Some((_, first)) = self.order.pop_first()
        {
            self.open.remove(&first);
        }
    }

    fn close(&mut self, call_id: &str) -> Option<OpenCall> {
        let (call_id, open) = self.open.remove_entry(call_id)?;
        self.order.remove(&(open, call_id));
        Some(open)
    }

    /// The span of a call that a transfer concerns, if such have any.
    fn call_context(&self, call_id: &str) -> Option<SpanContext> {
        match self.calls {
            CallSpans::None => None,
            CallSpans::Transferred | CallSpans::All => Some(self.context_of(call_id)),
        }
    }

    fn context_of(&self, call_id: &str) -> SpanContext {
        context(ids::trace(call_id), ids::span(&self.node, call_id, "call", ""))
    }

    fn span(
        &self,
        context: SpanContext,
        parent: SpanId,
        name: &'static str,
        started: Timestamp,
        ended: Timestamp,
    ) -> SpanData {
        SpanData {
            span_context: context,
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: moment(started),
            end_time: moment(ended.max(started)),
            attributes: vec![],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Names the trace that the spans of an output are in, where it joins no other, and where such a call has a span.
pub(super) fn name(output: &mut Output, calls: CallSpans) {
    let of = |anchor: &str| ids::trace(anchor).to_string();
    match output {
        Output::Transfer(attempt) => {
            let own = of(anchor(attempt));
            attempt.trace_id.get_or_insert(own);
        }
        Output::Notice(notice) if notice.trace_id.is_none() && !notice.withdrawn => {
            notice.trace_id = notice.call_id.as_deref().map(of);
        }
        Output::Notice(_) => {}
        Output::Call(call) => call.trace_id = calls.include(call).then(|| of(&call.call_id)),
        Output::Alert(alert) => {
            alert.trace_id = Some(of(alert.call_id.as_deref().unwrap_or(&alert.trunk)));
        }
    }
}

/// The Call-ID that the attempt's trace follows from. A second leg whose call can't be told has a trace of its own.
fn anchor(attempt: &Attempt) -> &str {
    attempt.call_id.as_deref().or(attempt.target_call_id.as_deref()).unwrap_or("")
}

/// The trace that an attempt's spans are in.
fn trace_of(attempt: &Attempt, anchor: &str) -> TraceId {
    let joined = attempt.wire_trace.as_ref().filter(|wire| wire.joins);
    joined.and_then(|wire| TraceId::from_hex(&wire.trace_id).ok()).unwrap_or_else(|| ids::trace(anchor))
}

/// The span that the wire named.
fn wire_context(wire: &WireTrace) -> Option<SpanContext> {
    let trace = TraceId::from_hex(&wire.trace_id).ok()?;
    let span = SpanId::from_hex(wire.span_id.as_deref()?).ok()?;
    let flags = if wire.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

/// Whether somebody who runs things has to act: a busy phone, nobody at home and a caller who left are none.
fn is_incident(attempt: &Attempt) -> bool {
    match attempt.fault {
        Fault::Provider | Fault::Platform | Fault::Network => {
            !matches!(words::tone(attempt), Tone::Good | Tone::Neutral)
        }
        Fault::Unknown => words::tone(attempt) == Tone::Bad,
        Fault::Nobody | Fault::Caller | Fault::Target => false,
    }
}

/// A parent's id: none where there is no parent.
fn span_id(parent: Option<&SpanContext>) -> SpanId {
    parent.map_or(SpanId::INVALID, SpanContext::span_id)
}

fn links(contexts: impl IntoIterator<Item = SpanContext>) -> SpanLinks {
    let mut links = SpanLinks::default();
    links.links = contexts.into_iter().map(Link::with_context).collect();
    links
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

pub(super) fn moment(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(0))
}

/// What is below TLS, as OpenTelemetry has it.
const fn transport(transport: TransportKind) -> &'static str {
    match transport {
        TransportKind::Udp => "udp",
        TransportKind::Tcp | TransportKind::Tls | TransportKind::Ws | TransportKind::Wss => "tcp",
    }
}

const fn leg(leg: LegRole) -> &'static str {
    match leg {
        LegRole::Call => "call",
        LegRole::Target => "target",
        LegRole::Consultation => "consultation",
    }
}

#[cfg(test)]
mod tests;
