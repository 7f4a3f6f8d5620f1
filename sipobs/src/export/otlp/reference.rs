//! `docs/spans.md`: every attribute that a span of any golden case has, so that none is left untold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::resource;
use super::spans::Spans;
use crate::bless::hold;
use crate::config::{CallSpans, OtlpConfig};
use crate::export::{golden, samples};

const INTRODUCTION: &str = "\
# Spans

What is sent by OTLP. Made of the program's output for every golden case, and held to it by a test: no span has an attribute
that is not here. [output.md](output.md) says how spans hang together, and when one is an error.

| span | kind | what it is |
|---|---|---|
| `sip.call` | internal | a call, or a leg to a target: `[otlp] calls` says of which |
| `sip.transfer` | internal | an attempt to transfer |
| a method, such as `REFER` | client | one transaction of an attempt; an event for each of its messages is called by its start line's kind |
| `sip.alert` | internal | an alert, at one moment |

Trace and span ids are made of Call-IDs, so the same call has the same trace wherever it is seen; [output.md](output.md) says
when an application's own trace takes that place.
";

/// Attributes that are no fields of a record.
const OWN: &[(&str, &str)] = &[
    ("client.address", "who sent the request"),
    ("client.port", "its port"),
    ("error.type", "why the span is an error: the outcome, or the status code of a transaction"),
    ("network.local.address", "who sent the message"),
    ("network.local.port", "its port"),
    ("network.peer.address", "who got the request, or the message"),
    ("network.peer.port", "its port"),
    ("network.protocol.name", "`sip`"),
    ("network.transport", "`udp` or `tcp`"),
    ("peer.service", "the trunk's name, where one is configured"),
    ("server.address", "who got the request"),
    ("server.port", "its port"),
    ("sip.call.unfinished", "true: the call was still up when sipobs ended"),
    ("sip.call_id", "the Call-ID, a party's number in it masked"),
    ("sip.cseq", "the number of the request's CSeq"),
    ("sip.request.method", "the request's method"),
    ("sip.response.reason", "the phrase of the final answer, or of the message, masked"),
    ("sip.response.status_code", "the status of the final answer, or of the message"),
    ("sip.start_line", "the message's first line, masked"),
    ("sip.transfer.frame", "the number of the frame that completed the message"),
    ("sip.transfer.leg", "`call`, `target` or `consultation`: the leg that the transaction is on"),
    ("sip.transfer.sipfrag", "what a NOTIFY tells"),
    (
        "sip.transport",
        "as a Via has it: `udp`, `tcp`, `tls`, `ws` or `wss`; within TLS `tls.protocol.name` is there, too: `tls`",
    ),
];

/// What a record's fields become, by the span that has them.
const RECORDS: &[(&str, &str)] =
    &[("sip.alert", "sip.alert."), ("sip.call", "sip.call."), ("sip.transfer", "sip.transfer.")];

#[test]
fn every_attribute_is_told() {
    let mut records: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut own: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut take = |on: &str, key: &str| {
        let told = OWN.iter().any(|(name, _)| *name == key);
        let record = RECORDS.iter().find(|(span, prefix)| *span == on && key.starts_with(prefix));
        match record.filter(|_| !told) {
            Some((span, prefix)) => {
                let field = &key[prefix.len()..];
                // These are called as the headers are.
                let field = match field.split_once("provider_ids.") {
                    Some((which, _)) => format!("{which}provider_ids.<header>"),
                    None => field.to_owned(),
                };
                records.entry(span).or_default().insert(field);
            }
            None => {
                assert!(told, "{key} on {on} is not told of");
                own.entry(key.to_owned()).or_default().insert(on.to_owned());
            }
        }
    };
    let mut outputs = vec![samples::call(), samples::alert()];
    outputs.extend(golden::cases().iter().flat_map(|case| golden::outputs(case)));
    let mut maker = Spans::new("node".into(), CallSpans::All);
    let mut spans: Vec<_> = outputs.iter().flat_map(|output| maker.of(output)).collect();
    spans.extend(maker.unfinished());
    for span in &spans {
        let name =
            RECORDS.iter().find(|(name, _)| *name == span.name).map_or("a transaction", |(name, _)| name);
        span.attributes.iter().for_each(|attribute| take(name, attribute.key.as_str()));
        let events = span.events.iter().flat_map(|event| &event.attributes);
        // An alert's event has what its span has.
        let events = events.filter(|_| name != "sip.alert");
        events.for_each(|attribute| take("a message", attribute.key.as_str()));
    }

    let mut text =
        format!("{INTRODUCTION}\n## Attributes\n\n| attribute | on | what it says |\n|---|---|---|\n");
    for (name, meaning) in OWN {
        let on = own.get(*name).unwrap_or_else(|| panic!("no span has {name}"));
        let on: Vec<&str> = on.iter().map(String::as_str).collect();
        writeln!(text, "| `{name}` | {} | {meaning} |", on.join(", ")).unwrap();
    }
    text.push_str("\n## Fields of records\n\nThey mean what [output.md](output.md) and [words.md](words.md) say; what is null is left out.\n");
    for (span, fields) in records {
        let names: Vec<String> = fields.iter().map(|field| format!("`{span}.{field}`")).collect();
        writeln!(text, "\n`{span}`: {}", names.join(" · ")).unwrap();
    }
    let resource = resource(&OtlpConfig { node: "node".into(), ..OtlpConfig::default() });
    let names: Vec<String> = resource.keys().map(|key| format!("`{key}`")).collect();
    text.push_str("\n## Resource\n\n");
    text.push_str(&names.join(", "));
    text.push_str(
        ", and what `OTEL_RESOURCE_ATTRIBUTES` adds; in a cluster the chart adds `k8s.node.name`.\n",
    );
    hold("../docs/spans.md", &text);
}
