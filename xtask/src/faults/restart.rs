//! One daemon after another on one state: what the first leaves, the next takes up.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::peers::Peers;
use super::{END, Ground, Seen, holds};
use crate::children::pause;
use crate::collector::{Collector, Span};
use crate::daemon::call_of;
use crate::faults::Plan;
use crate::lab::Lab;

/// Nothing is there.
const DEAD: &str = "http://127.0.0.1:4999";

/// SIGTERM between a REFER and the ringing, and between that and the end.
pub(super) fn midtransfer(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("restarts")?;
    let collector = Collector::start(&lab)?;
    let peers = Peers::new(&lab)?;
    let start = || keeping(ground, &lab).exporting(Collector::HTTP).set("SIPOBS_TIMERS__ENDED", "1s").start();

    let mut first = start()?;
    let (call, ordinary) = (peers.call("across")?, peers.call("ordinary")?);
    call.refer()?;
    first.wait_count("sipobs_messages_total", &[], 8)?;
    let (lines, said) = first.stop(0, END)?;
    holds(&said, &["left to the next start: 2 calls that are not over, 1 transfers under way"])?;
    ensure!(of(&lines, "transfer").is_empty(), "the open attempt was settled: {lines:?}");
    ensure!(left(&lab).exists(), "nothing was left");

    let mut second = start()?;
    second.wait_said("2 calls of the run that ended")?;
    holds(&second.said()?, &[" s ago go on, 1 transfers under way"])?;
    ensure!(!left(&lab).exists(), "what was left is still there");
    call.rings()?;
    second.wait_count("sipobs_messages_total", &[], 2)?;
    ensure!(
        second.metrics()?.sum("sipobs_transfer_attempts_total", &[]).unwrap_or(0) == 0,
        "counted too early"
    );
    let (lines, _) = second.stop(0, END)?;
    ensure!(of(&lines, "transfer").is_empty(), "the open attempt was settled: {lines:?}");

    let mut third = start()?;
    call.transferred()?;
    ordinary.hang_up()?;
    third.wait_count("sipobs_transfer_attempts_total", &[], 1)?;
    third.wait_count("sipobs_calls_ended_total", &[], 2)?;
    let metrics = third.metrics()?;
    ensure!(metrics.sum("sipobs_transfer_attempts_total", &[])? == 1, "it was counted twice");
    third.signal(Signal::INT)?;
    let (status, lines, said) = third.over(END)?;
    ensure!(status.success(), "sipobs ended with {status}: {said}");

    let transfers = of(&lines, "transfer");
    let [transfer] = transfers[..] else { anyhow::bail!("{} attempts: {transfers:?}", transfers.len()) };
    ensure!(transfer["outcome"] == "succeeded", "it was settled as {}", transfer["outcome"]);
    let quality = &transfer["quality"];
    ensure!(quality["restarts"] == 2 && quality["midcall"] == 0, "quality is {quality}");
    let lines_of_ladder = transfer["messages"].as_array().map_or(0, Vec::len);
    ensure!(lines_of_ladder >= 4, "its ladder: {}", transfer["messages"]);
    ensure!(of(&lines, "call").len() == 2, "calls are told once each: {lines:?}");
    let ordinary = call_of(&lines, "ordinary").context("the ordinary call was lost")?;
    ensure!(ordinary["answered"].is_string(), "its beginning was lost: {ordinary}");
    let spans = collector.wait("the spans", |spans| spans.iter().any(Span::is_of_transfer))?;
    one_tree(&spans, "across")?;
    let days = counted(&lab)?;
    ensure!(days == (1, 1), "(calls, REFERs) of the ratio are {days:?}");
    Ok(Seen::Passed(format!(
        "{lines_of_ladder} lines of one ladder, one tree of spans, 1 call with 1 REFER counted"
    )))
}

/// A successor that starts more than a minute later, and another after that.
pub(super) fn late(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("restart-late")?;
    let peers = Peers::new(&lab)?;
    let mut first = keeping(ground, &lab).start()?;
    peers.call("open")?.refer()?;
    first.wait_count("sipobs_messages_total", &[], 5)?;
    first.stop(0, END)?;
    pause(Duration::from_secs(62))?;
    let mut second = keeping(ground, &lab).start()?;
    second.wait_said("the calls that an earlier run left are settled as they stood: it ended 6")?;
    let (lines, _) = second.stop(0, END)?;
    let transfers = of(&lines, "transfer");
    ensure!(transfers.len() == 1 && transfers[0]["outcome"] == "unknown", "{transfers:?}");
    let third = keeping(ground, &lab).start()?;
    let (lines, _) = third.stop(0, END)?;
    ensure!(of(&lines, "transfer").len() == 1, "it was settled twice: {lines:?}");

    // A file that is damaged is no hindrance, and neither is one of another version.
    for (bytes, why) in
        [(&b"sipobs calls\n\x01damaged"[..], "is damaged"), (b"sipobs calls\n\x63", "version 99")]
    {
        fs::write(left(&lab), bytes)?;
        let mut subject = keeping(ground, &lab).start()?;
        subject.wait_said("what an earlier run left there is not taken up")?;
        holds(&subject.said()?, &[why])?;
        subject.stop(0, END)?;
    }
    Ok(Seen::Passed("settled as unknown, once".into()))
}

/// Killed between a REFER and its NOTIFY.
pub(super) fn killed(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("restart-kill")?;
    let peers = Peers::new(&lab)?;
    let mut first = keeping(ground, &lab).start()?;
    let call = peers.call("killed")?;
    call.refer()?;
    first.wait_count("sipobs_messages_total", &[], 5)?;
    first.kill()?;
    let mut second = keeping(ground, &lab).impatient().start()?;
    call.transferred()?;
    second.wait_count("sipobs_transfer_attempts_total", &[], 1)?;
    second.signal(Signal::INT)?;
    let (_, lines, _) = second.over(END)?;
    let transfers = of(&lines, "transfer");
    let [transfer] = transfers[..] else { anyhow::bail!("{} attempts: {transfers:?}", transfers.len()) };
    let quality = &transfer["quality"];
    ensure!(quality["refer_unseen"] == 1 && quality["midcall"] == 1, "quality is {quality}");
    Ok(Seen::Passed(format!("quality is {quality}")))
}

/// Ended while the collector is away.
pub(super) fn spans(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("restart-spans")?;
    let peers = Peers::new(&lab)?;
    let plan = || keeping(ground, &lab).set("SIPOBS_OTLP__FLUSH", "500ms");
    let mut first = plan().exporting(DEAD).start()?;
    let call = peers.call("kept")?;
    call.refer()?;
    call.transferred()?;
    first.wait_count("sipobs_otlp_spans_total", &[], 1)?;
    let (_, said) = first.stop(0, END)?;
    holds(&said, &["spans are left to the next start"])?;
    let collector = Collector::start(&lab)?;
    let mut second = plan().exporting(Collector::HTTP).set("SIPOBS_TIMERS__ENDED", "1s").start()?;
    second.wait_count("sipobs_calls_ended_total", &[], 1)?;
    second.stop(0, END)?;
    let spans = collector.wait("the spans", |spans| spans.iter().any(Span::is_of_transfer))?;
    one_tree(&spans, "kept")?;
    Ok(Seen::Passed(format!("{} spans of one tree", spans.len())))
}

fn keeping<'a>(ground: &Ground, lab: &'a Lab) -> Plan<'a> {
    ground.plan(lab).impatient().set("SIPOBS_STATE__PATH", lab.dir.join("state.json"))
}

fn left(lab: &Lab) -> PathBuf {
    lab.dir.join("state.json.calls")
}

fn of<'l>(lines: &'l [Value], kind: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

/// One attempt, one call, every span once, and every parent there.
fn one_tree(spans: &[Span], call_id: &str) -> Result<()> {
    let field = |span: &Span, name: &str| span.fields.get(name).cloned().unwrap_or_default();
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.is_of_transfer()).collect();
    ensure!(attempts.len() == 1, "{} spans of attempts: {attempts:?}", attempts.len());
    let trace = field(attempts[0], "Trace ID");
    let tree: Vec<&Span> = spans.iter().filter(|span| field(span, "Trace ID") == trace).collect();
    let ids: BTreeSet<String> = tree.iter().map(|span| field(span, "ID")).collect();
    ensure!(ids.len() == tree.len(), "a span was sent twice: {tree:?}");
    let tops: Vec<_> = tree.iter().filter(|span| !ids.contains(&field(span, "Parent ID"))).collect();
    ensure!(tops.len() == 1 && field(tops[0], "Name") == "sip.call", "tops of {call_id}'s tree: {tops:?}");
    Ok(())
}

/// Calls and REFERs of the ratio that is kept.
fn counted(lab: &Lab) -> Result<(u64, u64)> {
    let state: Value = serde_json::from_slice(&fs::read(lab.dir.join("state.json"))?)?;
    let days = &state["ratio"]["trunks"]["other"]["days"];
    let sum = |name: &str| {
        let days = days.as_array().into_iter().flatten();
        days.filter_map(|day| day[name].as_u64()).sum::<u64>()
    };
    Ok((sum("dialogs"), sum("refers")))
}
