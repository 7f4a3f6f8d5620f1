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
        for mut output in
            [Output::Transfer(Box::new(samples::busy())), transferred(), samples::call(), samples::alert()]
        {
            name(&mut output, calls);
            let line = serde_json::to_value(output.line(None)).unwrap();
            let span = spans.of(&output).first().map(|span| span.span_context.trace_id().to_string());
            assert_eq!(line["trace_id"].as_str(), span.as_deref(), "{calls:?}: {line}");
        }
    }
    let mut notice = samples::notice();
    name(&mut notice, CallSpans::default());
    let line = serde_json::to_value(notice.line(None)).unwrap();
    assert_eq!(line["trace_id"].as_str().unwrap(), ids::trace(line["call_id"].as_str().unwrap()).to_string());
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
    assert_eq!(first, Some(&Value::from("3c26700fdb2e8a1f@10.78.0.1")), "what both sides said comes first");
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
