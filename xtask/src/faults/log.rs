//! What the daemon says of itself.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peers::Peers;
use super::{END, Ground, Seen};
use crate::collector::Collector;
use crate::daemon::json_lines;
use crate::lab::Lab;

/// The start, that it is ready, what changes, and the end: a line each, and each once.
pub(super) fn told_once(ground: &Ground) -> Result<Seen> {
    let lab: Lab = Ground::lab("log")?;
    let plan = ground.plan(&lab).exporting(Collector::HTTP).set("SIPOBS_LOG__FORMAT", "json");
    let mut subject = plan.set("SIPOBS_LOG__SILENCE", "500ms").set("SIPOBS_LOG_LEVEL", "info").start()?;
    subject.wait_said("nothing like SIP was seen")?;
    let peers = Peers::new(&lab)?;
    for id in ["one", "two"] {
        let call = peers.call(id)?;
        call.refer()?;
        call.transferred()?;
    }
    subject.wait_said("the first SIP message was seen")?;
    subject.wait_said("requests to the collector have failed")?;
    let made = subject.wait_count("sipobs_transfer_attempts_total", &[], 2)?;
    let made = made.sum("sipobs_otlp_spans_total", &[])?;
    let collector = Collector::start(&lab)?;
    subject.wait_said("collector reachable again")?;
    subject.wait_count("sipobs_otlp_spans_acknowledged_total", &[], made)?;
    let (_, said) = subject.stop(0, END)?;
    drop(collector);

    let lines = json_lines(&said)?;
    for (message, level) in [
        ("SIPOBS_LOG_LEVEL: no such setting: is SIPOBS_LOG__LEVEL meant?", "WARN"),
        ("started", "INFO"),
        ("ready: watching 1 interface", "INFO"),
        ("nothing like SIP was seen", "WARN"),
        ("the first SIP message was seen", "INFO"),
        ("requests to the collector have failed", "WARN"),
        ("collector reachable again, ", "INFO"),
        ("ended after ", "INFO"),
    ] {
        let is_it = |line: &&Value| line["message"].as_str().is_some_and(|text| text.contains(message));
        let found: Vec<&Value> = lines.iter().filter(is_it).collect();
        ensure!(found.len() == 1 && found[0]["level"] == level, "{message:?}: {found:?} in\n{said}");
    }
    let start = lines.iter().find(|line| line["message"] == "started").context("no start")?;
    for field in ["version", "commit", "interfaces", "ports", "ring", "collector", "metrics", "trunks"] {
        ensure!(start[field].as_str().is_some_and(|value| !value.is_empty()), "no {field}: {start}");
    }
    let end = lines.last().and_then(|line| line["message"].as_str()).unwrap_or_default();
    ensure!(end.contains("2 transfers (2 succeeded)") && end.contains(" spans delivered, 0 lost"), "{end}");
    Ok(Seen::Passed(format!("{} lines, the last: {end}", lines.len())))
}
