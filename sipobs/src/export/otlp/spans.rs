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
        self.span("", SpanId::INVALID, "", Timestamp::default(), Timestamp::default())
    }

    /// Spans for the calls that were still up at the end, so that transfers have a parent, and links lead somewhere.
    pub(super) fn unfinished(&mut self) -> impl Iterator<Item = SpanData> {
        self.open.clear();
        std::mem::take(&mut self.order).into_iter().rev().map(|(OpenCall { started, ended, .. }, call_id)| {
            let mut span = self.span(&call_id, SpanId::INVALID, "sip.call", started, ended);
            span.span_context = self.context_of(&call_id);
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
        let mut span = self.span(&call.call_id, SpanId::INVALID, "sip.call", call.started, call.ended);
        span.span_context = self.context_of(&call.call_id);
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
        let mut root = self.span(anchor, parent, "sip.transfer", attempt.started, attempt.ended);
        root.span_context = context(trace, ids::span(&self.node, anchor, "transfer", &which));
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
            let mut span = self.transaction(anchor, root.span_context.span_id(), attempt, transaction);
            span.span_context = context(trace, id);
            // Links go on a child: on a root, Jaeger shows them as incomplete.
            if let Some(target) = own_trace.filter(|_| transaction.leg == LegRole::Target) {
                span.links = links(self.call_context(target));
            }
            spans.push(span);
        }
        spans.insert(0, root);
        spans
    }

    fn transaction(&self, anchor: &str, parent: SpanId, attempt: &Attempt, of: &Transaction<'_>) -> SpanData {
        let (Some(first), Some(last)) = (of.lines.first(), of.lines.last()) else {
            return self.span(anchor, parent, "", attempt.started, attempt.started);
        };
        let mut span = self.span(anchor, parent, of.method.as_str(), first.time, last.time);
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
        let mut span = self.span(anchor, parent, "sip.alert", alert.time, alert.time);
        let which = format!("{:?} {}", alert.alert, alert.time);
        span.span_context = context(ids::trace(anchor), ids::span(&self.node, anchor, "alert", &which));
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
        anchor: &str,
        parent: SpanId,
        name: &'static str,
        started: Timestamp,
        ended: Timestamp,
    ) -> SpanData {
        SpanData {
            span_context: context(ids::trace(anchor), SpanId::INVALID),
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
mod tests {
    use opentelemetry::{Array, Value};

    use super::*;
    use crate::export::{golden, samples};

    fn spans() -> Spans {
        Spans::new("node".into(), CallSpans::default())
    }

    /// The call of [`samples::busy`].
    fn transferred() -> Output {
        let Output::Call(mut call) = samples::call() else { panic!("a call") };
        (call.transfers, call.in_transfer) = (1, true);
        Output::Call(call)
    }

    fn get<'a>(span: &'a SpanData, name: &str) -> Option<&'a Value> {
        span.attributes.iter().find(|a| a.key.as_str() == name).map(|a| &a.value)
    }

    #[test]
    fn one_trace_holds_call_transfer_and_transactions() {
        let mut spans = spans();
        let mut all = spans.of(&Output::Transfer(Box::new(samples::busy())));
        all.extend(spans.of(&transferred()));
        let names: Vec<_> = all.iter().map(|s| s.name.as_ref()).collect();
        assert_eq!(names, ["sip.transfer", "REFER", "NOTIFY", "NOTIFY", "sip.call"]);
        let trace = ids::trace("3c26700fdb2e8a1f@10.78.0.1");
        assert!(all.iter().all(|s| s.span_context.trace_id() == trace));
        let (transfer, call) = (&all[0], &all[4]);
        assert_eq!(transfer.parent_span_id, call.span_context.span_id());
        assert_eq!(call.parent_span_id, SpanId::INVALID);
        for child in &all[1..4] {
            assert_eq!(child.parent_span_id, transfer.span_context.span_id());
            assert_eq!(child.events.len(), 2);
        }
        let mut ids: Vec<_> = all.iter().map(|s| s.span_context.span_id().to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
        assert_eq!(spans.unfinished().count(), 0);
    }

    #[test]
    fn which_calls_have_a_span_is_a_setting() {
        use CallSpans::{All, None, Transferred};
        for (calls, ordinary, of_transfer) in [(None, 0, 0), (Transferred, 0, 1), (All, 1, 1)] {
            let mut spans = Spans::new("node".into(), calls);
            assert_eq!(spans.of(&samples::call()).len(), ordinary, "{calls:?}");
            assert_eq!(spans.of(&transferred()).len(), of_transfer, "{calls:?}");
            spans.of(&Output::Transfer(Box::new(samples::busy())));
            assert_eq!(spans.unfinished().count(), of_transfer, "{calls:?}");
        }
    }

    /// Whoever reads a line finds its span, and no line names a trace where there is none.
    #[test]
    fn lines_name_the_traces_of_their_spans() {
        for calls in [CallSpans::None, CallSpans::Transferred, CallSpans::All] {
            let mut spans = Spans::new("node".into(), calls);
            for mut output in [
                Output::Transfer(Box::new(samples::busy())),
                transferred(),
                samples::call(),
                samples::alert(),
            ] {
                name(&mut output, calls);
                let line = serde_json::to_value(output.line(None)).unwrap();
                let span = spans.of(&output).first().map(|span| span.span_context.trace_id().to_string());
                assert_eq!(line["trace_id"].as_str(), span.as_deref(), "{calls:?}: {line}");
            }
        }
        let mut notice = samples::notice();
        name(&mut notice, CallSpans::default());
        let line = serde_json::to_value(notice.line(None)).unwrap();
        assert_eq!(
            line["trace_id"].as_str().unwrap(),
            ids::trace(line["call_id"].as_str().unwrap()).to_string()
        );
    }

    #[test]
    fn an_attempt_is_the_same_whichever_calls_have_spans() {
        let of = |calls| {
            let mut spans = Spans::new("node".into(), calls);
            [samples::busy(), samples::second_leg()]
                .into_iter()
                .flat_map(|attempt| spans.of(&Output::Transfer(Box::new(attempt))))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(CallSpans::Transferred), of(CallSpans::All));
        for (mut alone, below) in of(CallSpans::None).into_iter().zip(of(CallSpans::All)) {
            if alone.name == "sip.transfer" {
                assert_eq!(alone.parent_span_id, SpanId::INVALID, "on top: nothing is above it");
                alone.parent_span_id = below.parent_span_id;
            }
            assert!(alone.links.is_empty(), "to what is not there");
            alone.links = below.links.clone();
            assert_eq!(alone, below);
        }
    }

    /// No span hangs below one that never comes, and no link leads nowhere.
    #[test]
    fn every_call_that_a_span_names_has_one() {
        let (mut attempts, mut links) = (0, 0);
        for case in golden::cases() {
            let mut maker = spans();
            let ended: Vec<SpanData> =
                golden::outputs(&case).iter().flat_map(|output| maker.of(output)).collect();
            let unfinished: Vec<SpanData> = maker.unfinished().collect();
            let id = |span: &SpanData| span.span_context.span_id().to_string();
            let mut known = BTreeSet::new();
            for span in ended.iter().chain(&unfinished) {
                // Legs that follow each other under one Call-ID share the id of a span.
                let again = span.name == "sip.call" && get(span, "sip.call.unfinished").is_none();
                assert!(known.insert(id(span)) || again, "{}: twice: {span:?}", case.display());
            }
            let all: Vec<SpanData> = ended.into_iter().chain(unfinished).collect();
            for span in &all {
                let parent = Some(span.parent_span_id).filter(|_| !span.parent_span_is_remote);
                let linked = span.links.iter().map(|link| &link.span_context).filter(|it| !it.is_remote());
                let named = parent.into_iter().filter(|id| *id != SpanId::INVALID);
                for id in named.chain(linked.map(SpanContext::span_id)) {
                    assert!(known.contains(&id.to_string()), "{}: {span:?}", case.display());
                }
                attempts += usize::from(span.name == "sip.transfer");
                links += span.links.len();
            }
        }
        assert!(attempts > 200 && links > 80, "{attempts} attempts, {links} links");
    }

    #[test]
    fn attributes_are_the_contracts() {
        let spans = spans().of(&Output::Transfer(Box::new(samples::second_leg())));
        let transfer = &spans[0];
        for (name, value) in [
            ("sip.transfer.method", Value::from("invite")),
            ("sip.transfer.type", Value::from("blind")),
            ("sip.transfer.outcome", Value::from("busy")),
            ("sip.transfer.status", Value::from(486)),
            ("sip.transfer.link.method", Value::from("host_number")),
            ("sip.transfer.link.confidence", Value::from(0.91)),
            ("sip.transfer.visibility.call", Value::from("both")),
            ("sip.transfer.quality.ring_lost", Value::from(3)),
            ("sip.transfer.trunk", Value::from("twilio")),
            ("error.type", Value::from("busy")),
        ] {
            assert_eq!(get(transfer, name), Some(&value), "{name}");
        }
        assert_eq!(get(transfer, "sip.transfer.evidence_file"), None, "none is written");
        let name = "4fe1b20c9a37d0e1.pcapng";
        let attempt = Attempt { evidence_file: Some(name.to_owned()), ..samples::second_leg() };
        let named = self::spans().of(&Output::Transfer(Box::new(attempt)));
        assert_eq!(get(&named[0], "sip.transfer.evidence_file"), Some(&Value::from(name)));
        let codes = get(transfer, "sip.transfer.diagnosis.code").unwrap();
        assert_eq!(codes, &Value::Array(Array::String(vec!["suspect_policy".into(), "busy".into()])));
        assert!(matches!(transfer.status, Status::Error { .. }));
    }

    #[test]
    fn a_challenged_invite_is_two_transactions_and_one_failure() {
        let spans = spans().of(&Output::Transfer(Box::new(samples::second_leg())));
        let names: Vec<_> = spans.iter().map(|s| s.name.as_ref()).collect();
        assert_eq!(names, ["sip.transfer", "INVITE", "INVITE", "BYE"]);
        assert_eq!(spans[1].events.len(), 3, "INVITE, 407, ACK");
        assert_eq!(spans[1].status, Status::Unset);
        assert!(matches!(spans[2].status, Status::Error { .. }));
        assert_eq!(get(&spans[2], "sip.response.status_code"), Some(&Value::from(486)));
        for (name, value) in
            [("network.protocol.name", "sip"), ("network.transport", "udp"), ("peer.service", "twilio")]
        {
            assert_eq!(get(&spans[2], name), Some(&Value::from(value)), "{name}");
        }
        assert_eq!(spans[2].links.len(), 1, "to the trace of the leg itself");
        assert_eq!(spans[3].links.len(), 0);
    }

    /// Nobody is to be woken for a phone that is busy.
    #[test]
    fn what_is_nobodys_fault_is_no_error() {
        let attempt = Attempt { fault: Fault::Nobody, ..samples::second_leg() };
        let spans = spans().of(&Output::Transfer(Box::new(attempt)));
        assert!(spans.iter().all(|span| span.status == Status::Unset && get(span, "error.type").is_none()));
        assert_eq!(get(&spans[0], "sip.transfer.fault"), Some(&Value::from("nobody")));
    }

    #[test]
    fn success_leaves_the_status_unset() {
        let spans = spans().of(&Output::Transfer(Box::new(samples::succeeded())));
        assert_eq!(spans[0].status, Status::Unset);
        assert_eq!(get(&spans[0], "error.type"), None);
    }

    #[test]
    fn a_call_that_never_ended_still_parents_its_transfer() {
        let mut spans = spans();
        let transfer = spans.of(&Output::Transfer(Box::new(samples::busy()))).remove(0);
        let call: Vec<_> = spans.unfinished().collect();
        assert_eq!(call.len(), 1);
        assert_eq!(call[0].span_context.span_id(), transfer.parent_span_id);
    }

    #[test]
    fn of_too_many_open_calls_those_of_one_side_go_first() {
        let mut spans = spans();
        spans.of(&Output::Transfer(Box::new(samples::busy())));
        let mut of_one_side = |number: usize| {
            let mut attempt = samples::busy();
            attempt.call_id = Some(format!("forged-{number}"));
            attempt.visibility.call = crate::record::Seen::OneWay;
            spans.of(&Output::Transfer(Box::new(attempt)))
        };
        let made: usize = (0..2 * MOST_OPEN).map(|number| of_one_side(number).len()).sum();
        assert_eq!(made, 4 * 2 * MOST_OPEN);
        let left: Vec<_> = spans.unfinished().collect();
        assert_eq!(left.len(), MOST_OPEN);
        let first = get(&left[0], "sip.call_id");
        assert_eq!(
            first,
            Some(&Value::from("3c26700fdb2e8a1f@10.78.0.1")),
            "what both sides said comes first"
        );
    }

    #[test]
    fn an_attempt_joins_the_trace_that_the_wire_names_or_links_to_it() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        let named = |span_id: Option<&str>, joins: bool| {
            let wire = WireTrace {
                header: "traceparent",
                trace_id: TRACE.into(),
                span_id: span_id.map(str::to_owned),
                sampled: joins,
                joins,
            };
            let mut attempt = Attempt { wire_trace: Some(Box::new(wire)), ..samples::busy() };
            attempt.trace_id = joins.then(|| TRACE.into());
            let mut output = Output::Transfer(Box::new(attempt));
            name(&mut output, CallSpans::default());
            let Output::Transfer(attempt) = output else { panic!("an attempt") };
            let id = attempt.trace_id.clone().unwrap();
            let mut spans = spans();
            let call = spans.context_of(attempt.call_id.as_deref().unwrap());
            let made = spans.of(&Output::Transfer(attempt));
            assert!(made.iter().all(|span| span.span_context.trace_id().to_string() == id), "one trace");
            assert!(made[1..].iter().all(|span| span.parent_span_id == made[0].span_context.span_id()));
            (made.into_iter().next().unwrap(), call)
        };
        let linked = |span: &SpanData| -> Vec<SpanContext> {
            span.links.links.iter().map(|link| link.span_context.clone()).collect()
        };

        let (span, call) = named(Some("b7ad6b7169203331"), true);
        assert_eq!(span.span_context.trace_id().to_string(), TRACE);
        assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(span.parent_span_is_remote);
        assert_eq!(linked(&span), [call], "what is left behind is still found");

        let (span, _) = named(None, true);
        assert_eq!(span.span_context.trace_id().to_string(), TRACE);
        assert_eq!((span.parent_span_id, span.parent_span_is_remote), (SpanId::INVALID, false));

        let (span, call) = named(Some("b7ad6b7169203331"), false);
        assert_eq!(span.span_context.trace_id(), call.trace_id());
        assert_eq!(span.parent_span_id, call.span_id());
        let [link] = &linked(&span)[..] else { panic!("one link") };
        assert_eq!(
            (link.trace_id().to_string(), link.span_id().to_string()),
            (TRACE.into(), "b7ad6b7169203331".into())
        );
        assert!(!link.is_sampled() && link.is_remote());
    }

    #[test]
    fn an_alert_is_an_event() {
        let spans = spans().of(&samples::alert());
        assert_eq!(spans[0].events[0].name, "refer_ratio");
        assert_eq!(get(&spans[0], "sip.alert.numbers.baseline"), Some(&Value::from(0.2)));
    }
}
