//! `docs/metrics.md`, made of what a daemon serves that has everything to tell. `SIPOBS_BLESS=1 cargo test -p sipobs
//! --features daemon contract` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{
    Attached, HepCounts, HookCounts, Metrics, RecorderCounts, SinkCounts, Snapshot, SpanCounts, TrunkSeen,
};
use crate::bless::hold;
use crate::engine::Engine;
use crate::export::hep::HepOutCounts;

const INTRODUCTION: &str = "\
# Metrics

What `/metrics` serves: OpenMetrics to who asks for it (`Accept: application/openmetrics-text`), else Prometheus's text format,
where a counter's family is called like its samples. Made of the program's output, and held to it by a test.

**The contract.** Names, labels and the meaning of both change only with a note in the [changelog](../CHANGELOG.md). Series and
values of labels may be added. Series of each configured trunk are there from the start, at 0, and so is `other`, for peers that
have no name; words of the output (`outcome`, `method`, `fault`, …) mean what [words.md](words.md) says. Histograms carry the
trace of a call as exemplar (`trace_id`), where spans are exported: start Prometheus with `--enable-feature=exemplar-storage`. What is
read is counted by interface, what the kernel programs pass or lose by hook alone. Those of the process are called as every Prometheus client calls them, so a
query of them names the job as well.

| Metric | Type | Labels | Meaning |
|---|---|---|---|
";

/// A daemon with all that a daemon may have.
fn everything() -> Metrics {
    let metrics = Metrics::new(["t"]);
    metrics.publish(Snapshot {
        hooks: vec![HookCounts {
            hook: "xdp",
            passed: vec![("other", 1)],
            lost: vec![("full", 1)],
            ..HookCounts::default()
        }],
        attached: vec![Attached { interface: "eth0".into(), how: "tc", hook: "tc_egress", frames: 1 }],
        interfaces: vec![("watched", 1)],
        lost_by_cpu: vec![(0, vec![("full", 1)])],
        lost_told: Some(0),
        ring_kind: "perf",
        trunks: vec![TrunkSeen { trunk: "t".into(), ..TrunkSeen::default() }],
        hep_out: Some(HepOutCounts { dropped: vec![("queue_full", 0)], ..HepOutCounts::default() }),
        hep: Some(HepCounts {
            packets: vec![("udp", 0)],
            unused: vec![("hep_key", 0)],
            closed: vec![("limit", 0)],
            ..HepCounts::default()
        }),
        engine: Some(Engine::default().counters()),
        spans: Some(SpanCounts { dropped: vec![("queue_full", 0)], ..SpanCounts::default() }),
        sinks: vec![SinkCounts { sink: "jsonl", ..SinkCounts::default() }],
        recorder: Some(RecorderCounts {
            files_dropped: vec![("queue_full", 0)],
            files_removed: vec![("bytes", 0)],
            ..RecorderCounts::default()
        }),
        ..Snapshot::default()
    });
    metrics
}

/// A family as it is served.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once(['{', ' ']).unwrap();
            let suffixes = ["_total", "_info", "_bucket", "_sum", "_count", ""];
            let family = suffixes
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find_map(|name| families.contains_key(name).then(|| name.to_owned()));
            let family =
                families.get_mut(&family.unwrap_or_else(|| panic!("{line} is of no family"))).unwrap();
            let labels = rest.split_once('}').filter(|_| line.contains('{')).map_or("", |(labels, _)| labels);
            let names = labels.split(',').filter_map(|label| label.split_once("=\""));
            family.labels.extend(names.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
        }
    }
    families
}

#[test]
fn the_contract_is_what_is_served() {
    let mut page = INTRODUCTION.to_owned();
    for (name, family) in families(&everything().text()) {
        let suffix = match &*family.kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `{name}{suffix}` | {} | {} | {} |", family.kind, labels.join(", "), family.help)
            .unwrap();
        assert!(family.help.len() > 10, "{name}: {}", family.help);
        let leans =
            ["The same", "Those", "The others", "They"].iter().any(|word| family.help.starts_with(word));
        assert!(!leans, "{name}: {:?} does not stand alone", family.help);
    }
    hold("../docs/metrics.md", &page);
}
