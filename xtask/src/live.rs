//! The steps of the test that need the kernel: the lab's calls live, and a replay held against the file reader.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::calls::{self, Story};
use crate::collector::{Collector, Span};
use crate::daemon::{self, Daemon, Metrics, call_of, read_capture, transfer_of};
use crate::hook::Hook;
use crate::lab::{Lab, Side};
use crate::recording::{self, Tap};

/// A verdict comes 35 s after its call's BYE at the latest.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// Places the lab's calls under the eyes of `sipobs run` and of a collector, and holds what was said, sent and
/// counted against what happened.
pub(crate) fn lab(sipobs: &Path) -> Result<()> {
    let lab = Lab::new(&crate::scratch("test-lab")?)?;
    let collector = Collector::start(&lab)?;
    let hook = Hook::start(&lab)?;
    let config = hook.config.to_string_lossy().into_owned();
    let daemon = Daemon::start_with(&lab, sipobs, &["--otlp", Collector::GRPC, "--config", &config], false)?;
    let first = daemon.metrics(&lab)?;
    let before = Count::take(&lab, &daemon)?;
    let recorded = lab.dir.join("wire.pcap");
    let tap = Tap::start(&lab, &recorded)?;
    calls::place(&lab, &Story::ALL)?;
    tap.stop()?;
    let after = Count::take(&lab, &daemon)?;
    let metrics = daemon.metrics(&lab)?;
    nothing_lost(&before, &after, &metrics)?;

    let attempts = Story::ALL.iter().filter(|story| story.expected().method.is_some()).count();
    daemon.wait_settled(attempts, "", SETTLE_LIMIT)?;
    let last = daemon.metrics(&lab)?;
    ensure!(last.born_since(&first).is_empty(), "not there from the start: {:?}", last.born_since(&first));
    let lines = daemon.stop()?;
    for story in Story::ALL {
        judged(story, &lines).with_context(|| format!("{}: {}", story.name(), story.what()))?;
    }
    let found = transfers(&lines);
    ensure!(found == attempts, "{found} transfers were found, {attempts} were made");

    let spans =
        collector.wait("a span for every attempt", |spans| of_transfers(spans).count() >= attempts)?;
    traced(&lines, &spans)?;
    calls_traced(&lines, &spans, "transferred")?;
    named_live(&spans)?;
    hook.has_told(&lines)?;

    // What tcpdump saw on the same wire, read as a file.
    same_transfers(&lines, &read_capture(sipobs, &recorded)?).context("live, and from tcpdump's file")?;
    Ok(())
}

/// What the file reader says of the shipped capture.
pub(crate) fn from_file(sipobs: &Path) -> Result<()> {
    let lines = read_capture(sipobs, &recording::shipped())?;
    for story in Story::ALL {
        judged(story, &lines).with_context(|| format!("{}: {}", story.name(), story.what()))?;
    }
    Ok(())
}

/// Replays the shipped capture through XDP and tc, and through each kind of rings: the transfers must be those that
/// the file reader finds.
pub(crate) fn replayed(sipobs: &Path) -> Result<()> {
    let from_file = read_capture(sipobs, &recording::shipped())?;
    // A daemon mostly waits for its verdicts.
    std::thread::scope(|scope| {
        let replays = RINGS.map(|ring| {
            let from_file = &from_file;
            scope.spawn(move || replayed_through(ring, sipobs, from_file).context(ring))
        });
        replays.into_iter().try_for_each(|replay| replay.join().map_err(|_| anyhow!("a replay panicked"))?)
    })
}

/// The kinds of rings.
pub(crate) const RINGS: [&str; 2] = ["perf", "ringbuf"];

fn replayed_through(ring: &'static str, sipobs: &Path, from_file: &[Value]) -> Result<()> {
    let capture = recording::shipped();
    let lab = Lab::for_replay(&crate::scratch(&format!("test-replay-{ring}"))?)?;
    let daemon = Daemon::start_with(&lab, sipobs, &["--ring", ring], false)?;
    let before = Count::take(&lab, &daemon)?;
    recording::replay(&lab, &capture)?;
    let after = Count::take(&lab, &daemon)?;
    let metrics = daemon.metrics(&lab)?;
    nothing_lost(&before, &after, &metrics)?;
    ensure!(metrics.sum("sipobs_capture_ring_bytes", &[&format!("kind=\"{ring}\"")])? > 0, "another ring");
    daemon.wait_settled(transfers(from_file), "", SETTLE_LIMIT)?;
    same_transfers(&daemon.stop()?, from_file).context("replayed, and from the file")
}

/// Ladders replayed at once: each has a daemon of its own, which mostly waits.
const AT_ONCE: usize = 24;
/// The agent in the ladders.
const LADDER_AGENT: &str = "10.88.0.2/32";

/// Replays the capture of every golden ladder at its own pace, each through XDP and tc under a daemon of its own
/// that ends when the capture does: the transfers must be those that the file reader finds.
pub(crate) fn ladders(sipobs: &Path) -> Result<()> {
    let golden = crate::root().join("sipobs/tests/golden");
    let mut cases: Vec<_> = std::fs::read_dir(&golden)?
        .flatten()
        .map(|entry| entry.path())
        // A configuration of its own, or made by a play: read as files only.
        .filter(|case| case.join("ladder.txt").exists() && !case.join("config.toml").exists())
        .collect();
    cases.sort();
    let scratch = crate::scratch("test-ladders")?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    if let Err(error) = ladder(sipobs, case, &scratch.join(&name)) {
                        wrong
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .push(format!("{name}: {error:#}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    ensure!(wrong.is_empty(), "{} of {} ladders:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("   {} ladders, live as from the file", cases.len());
    Ok(())
}

fn ladder(sipobs: &Path, case: &Path, dir: &Path) -> Result<()> {
    let capture = case.join("input.pcap");
    let from_file = read_capture(sipobs, &capture)?;
    std::fs::create_dir_all(dir)?;
    let lab = Lab::for_replay(dir)?;
    let daemon = Daemon::start(&lab, sipobs, None, false)?;
    recording::replay_at(&lab, &capture, LADDER_AGENT)?;
    crate::children::pause(Duration::from_millis(300))?;
    let live = daemon.stop()?;
    if transfers(&from_file) == 0 && transfers(&live) == 0 {
        return Ok(());
    }
    same_transfers(&live, &from_file)
}

pub(crate) fn transfers(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["kind"] == "transfer").count()
}

/// The same spans by the other protocol: `sipobs pcap` sends them over HTTP.
pub(crate) fn over_http(sipobs: &Path) -> Result<()> {
    let lab = Lab::new(&crate::scratch("test-http")?)?;
    let collector = Collector::start(&lab)?;
    let mut command = lab.inside(Side::Agent, sipobs);
    command.args(["pcap", "--format", "jsonl", "--otlp", Collector::HTTP]).arg(recording::shipped());
    command.env("SIPOBS_OTLP__PROTOCOL", "http/protobuf");
    let text = crate::children::output(&mut command)?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let attempts = transfers(&lines);
    let spans =
        collector.wait("a span for every attempt", |spans| of_transfers(spans).count() >= attempts)?;
    traced(&lines, &spans)?;
    calls_traced(&lines, &spans, "transferred")?;
    ["none", "all"].into_iter().try_for_each(|calls| spans_of_calls(sipobs, calls).context(calls))?;
    NAMED_ON_THE_WIRE.into_iter().try_for_each(|case| named(sipobs, &lab, &collector, case).context(case))
}

/// Which calls have a span, as `[otlp] calls` says; the attempts have theirs.
fn spans_of_calls(sipobs: &Path, calls: &str) -> Result<()> {
    let lab = Lab::new(&crate::scratch(&format!("test-calls-{calls}"))?)?;
    let collector = Collector::start(&lab)?;
    let mut command = lab.inside(Side::Agent, sipobs);
    command.args(["pcap", "--format", "jsonl", "--otlp", Collector::GRPC]).arg(recording::shipped());
    command.env("SIPOBS_OTLP__CALLS", calls);
    let text = crate::children::output(&mut command)?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // It ends once all spans are acknowledged.
    let attempts = transfers(&lines);
    let spans =
        collector.wait("a span for every attempt", |spans| of_transfers(spans).count() >= attempts)?;
    calls_traced(&lines, &spans, calls)?;
    for span in of_transfers(&spans) {
        let is_joined =
            span.attributes.get("sip.transfer.wire_trace.joins").is_some_and(|joins| joins == "true");
        let parent = &span.fields["Parent ID"];
        let has_parent = !parent.trim_matches('0').is_empty();
        ensure!(has_parent == (is_joined || calls != "none"), "below {parent:?}: {:?}", span.attributes);
    }
    Ok(())
}

/// Golden cases whose messages name a trace.
const NAMED_ON_THE_WIRE: [&str; 3] =
    ["86_traceparent_in_the_refer", "86b_trace_id_in_the_invite", "86c_traceparent_not_sampled"];

/// The span of an attempt is in the trace that the wire names, below the span that it names, and linked to its call; or
/// it is linked to that trace.
fn named(sipobs: &Path, lab: &Lab, collector: &Collector, case: &str) -> Result<()> {
    let mut command = lab.inside(Side::Agent, sipobs);
    command.args(["pcap", "--format", "jsonl", "--otlp", Collector::GRPC]);
    command.arg(crate::root().join("sipobs/tests/golden").join(case).join("input.pcap"));
    let text = crate::children::output(&mut command)?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let line = lines.iter().find(|line| line["kind"] == "transfer").context("no transfer")?;
    let call_id = line["call_id"].as_str().context("no call")?;
    let of_call = |span: &Span| span.attributes.get("sip.call_id").is_some_and(|id| id == call_id);
    let spans = collector.wait("the spans of the call and of its attempt", |spans| {
        let own = || spans.iter().filter(|span| of_call(span));
        own().any(Span::is_of_call) && own().any(Span::is_of_transfer)
    })?;
    let own = || spans.iter().filter(|span| of_call(span));
    let span = own().find(|span| span.is_of_transfer()).context("no span")?;
    let call = own().find(|span| span.is_of_call()).context("no span of the call")?;
    let (wire, parent) = (&line["wire_trace"], &span.fields["Parent ID"]);
    ensure!(
        line["trace_id"] == span.fields["Trace ID"].as_str(),
        "said {}: {:?}",
        line["trace_id"],
        span.fields
    );
    if wire["joins"] == true {
        ensure!(wire["trace_id"] == line["trace_id"], "another trace than {wire}");
        ensure!(parent == wire["span_id"].as_str().unwrap_or_default(), "below {parent:?}: {wire}");
        ensure!(
            wire["span_id"].is_null() || span.links == [call.fields["Trace ID"].clone()],
            "{:?}",
            span.links
        );
    } else {
        ensure!(line["trace_id"] == call.fields["Trace ID"].as_str(), "not in its call's trace");
        ensure!(*parent == call.fields["ID"], "below {parent:?}");
        ensure!(span.links == [wire["trace_id"].as_str().unwrap_or_default()], "{:?}", span.links);
    }
    Ok(())
}

/// What the wire has carried and what the programs have seen, at one moment.
pub(crate) struct Count {
    pub(crate) wire: u64,
    seen: u64,
}

impl Count {
    /// Takes both, at a moment when nothing moves.
    pub(crate) fn take(lab: &Lab, daemon: &Daemon) -> Result<Self> {
        for _ in 0..50 {
            let first = lab.packets()?;
            let seen = daemon.metrics(lab)?.sum("sipobs_capture_frames_seen_total", &[])?;
            if lab.packets()? == first {
                return Ok(Self { wire: first.0 + first.1, seen });
            }
        }
        bail!("the wire never rests");
    }
}

/// Packets sent = not matched + delivered + counted losses, and of those there are none.
pub(crate) fn nothing_lost(before: &Count, after: &Count, metrics: &Metrics) -> Result<()> {
    let (sent, seen) = (after.wire - before.wire, after.seen - before.seen);
    ensure!(sent == seen, "{sent} packets crossed the wire and the programs saw {seen}");
    ensure!(sent > 0, "nothing crossed the wire");
    let total = metrics.sum("sipobs_capture_frames_seen_total", &[])?;
    let passed = metrics.sum("sipobs_capture_frames_passed_total", &[])?;
    let delivered = metrics.sum("sipobs_capture_frames_delivered_total", &[])?;
    let lost = metrics.sum("sipobs_capture_frames_lost_total", &[])?;
    ensure!(
        total == passed + delivered + lost,
        "{total} seen, but {passed} not matched + {delivered} delivered + {lost} lost"
    );
    ensure!(lost == 0, "{lost} frames were lost");
    let read = metrics.sum("sipobs_capture_frames_read_total", &[])?;
    let by_interface = metrics.sum("sipobs_capture_interface_frames_total", &[])?;
    ensure!(read == by_interface, "{read} frames read, and {by_interface} by interface");
    println!(
        "   {sent} packets = {seen} seen; in all {total} = {passed} not matched + {delivered} delivered + 0 lost"
    );
    Ok(())
}

/// Whether the story was told right.
pub(crate) fn judged(story: Story, lines: &[Value]) -> Result<()> {
    let expected = story.expected();
    let call_id = story.call_id();
    let transfer = transfer_of(lines, &call_id);
    let Some(method) = expected.method else {
        ensure!(transfer.is_none(), "an attempt where there was none: {}", transfer.unwrap_or(&Value::Null));
        let call = call_of(lines, &call_id).context("no line for the call")?;
        ensure!(call["refer_absent"] == expected.outcome, "refer_absent is {}", call["refer_absent"]);
        ensure!(call["ended_by"] == "caller", "ended_by is {}", call["ended_by"]);
        return Ok(());
    };
    let transfer = transfer.context("no line for the attempt")?;
    let said = (&transfer["method"], &transfer["outcome"], transfer["status"].as_u64());
    let wanted = (&Value::from(method), &Value::from(expected.outcome), expected.status);
    ensure!(said == wanted, "said {said:?}, and it was {wanted:?}");
    if method == "invite" {
        ensure!(
            transfer["target_call_id"] == story.leg_call_id().as_str(),
            "tied to {}",
            transfer["target_call_id"]
        );
    }
    for (number, lost) in transfer["quality"].as_object().context("no quality")? {
        ensure!(lost == 0, "quality.{number} is {lost}");
    }
    if let Some(word) = expected.diagnosis {
        let first = transfer["diagnosis"][0].to_string().to_lowercase();
        ensure!(first.contains(word), "the first diagnosis does not say {word:?}: {first}");
    }
    Ok(())
}

/// The spans of attempts.
pub(crate) fn of_transfers(spans: &[Span]) -> impl Iterator<Item = &Span> {
    spans.iter().filter(|span| span.is_of_transfer())
}

/// The agent's REFER names its own span, and the trunk's INVITE the provider's id.
fn named_live(spans: &[Span]) -> Result<()> {
    let span = of_transfers(spans)
        .find(|span| span.fields["Trace ID"] == "0af7651916cd43dd8448eb211c80319c")
        .context("no attempt is in the trace that its REFER names")?;
    ensure!(span.fields["Parent ID"] == "b7ad6b7169203331", "below {:?}", span.fields["Parent ID"]);
    let id = span.attributes.get("sip.transfer.provider_ids.X-Twilio-CallSid");
    ensure!(id.is_some_and(|id| id == "CA0123456789abcdef0123456789abcdef"), "the provider's id is {id:?}");
    Ok(())
}

/// Every attempt has its span, with a trace of its call's own, the right outcome and status, and its messages.
fn traced(lines: &[Value], spans: &[Span]) -> Result<()> {
    for line in lines.iter().filter(|line| line["kind"] == "transfer") {
        let call_id = line["call_id"].as_str().context("an attempt without a call")?;
        let outcome = line["outcome"].as_str().unwrap_or_default();
        let span = of_transfers(spans)
            .find(|span| span.attributes.get("sip.call_id").is_some_and(|id| id == call_id))
            .with_context(|| format!("no sip.transfer span of {call_id}"))?;
        for field in ["outcome", "method", "evidence", "fault"] {
            let said = span.attributes.get(&format!("sip.transfer.{field}"));
            ensure!(
                said.map(String::as_str) == line[field].as_str(),
                "{call_id}: the span's {field} is {said:?}"
            );
        }
        ensure!(
            line["trace_id"] == span.fields["Trace ID"].as_str(),
            "{call_id}: its line says {}, its span {}",
            line["trace_id"],
            span.fields["Trace ID"]
        );
        let status = &span.fields["Status code"];
        // Busy and no answer are nobody's error.
        let fault = line["fault"].as_str().unwrap_or_default();
        let wanted = match fault {
            "provider" | "platform" | "network" => "STATUS_CODE_ERROR",
            _ => "STATUS_CODE_UNSET",
        };
        ensure!(status == wanted, "{call_id}: {outcome}, by the fault of {fault}, is {status}");
        let trace = &span.fields["Trace ID"];
        let family: Vec<&Span> = spans.iter().filter(|other| &other.fields["Trace ID"] == trace).collect();
        ensure!(
            family.len() >= 3,
            "{call_id}: a trace of {} spans: call, transfer and messages?",
            family.len()
        );
        let events: usize = family.iter().map(|span| span.events).sum();
        let messages = line["messages"].as_array().map_or(0, Vec::len);
        ensure!(events >= messages, "{call_id}: {events} span events for {messages} messages");
    }
    Ok(())
}

/// The calls that a transfer concerns have a span, and others, as `calls` has it.
fn calls_traced(lines: &[Value], spans: &[Span], calls: &str) -> Result<()> {
    let ended = || lines.iter().filter(|line| line["kind"] == "call");
    let named = |call_id: &Value| {
        lines.iter().any(|line| line["kind"] == "transfer" && line["target_call_id"] == *call_id)
    };
    let mut ordinary = 0;
    for call in ended() {
        let call_id = call["call_id"].as_str().context("a call without an id")?;
        let is_one = call["transfers"] != 0 || named(&call["call_id"]);
        // Of legs that are named nowhere, such as a consultation, nothing is asserted.
        let is_ordinary =
            Story::ALL.iter().any(|story| story.expected().method.is_none() && story.call_id() == call_id);
        ordinary += usize::from(is_ordinary);
        let wanted = match calls {
            "none" => false,
            "transferred" if is_one || is_ordinary => is_one,
            "transferred" => continue,
            _ => true,
        };
        let has = spans.iter().any(|span| {
            span.is_of_call() && span.attributes.get("sip.call_id").is_some_and(|id| id == call_id)
        });
        ensure!(has == wanted, "{call_id}: a span: {has}, and calls = {calls:?}");
    }
    ensure!(ordinary > 0, "no ordinary call among {}", ended().count());
    Ok(())
}

/// Whether two accounts tell of the same transfers.
pub(crate) fn same_transfers(one: &[Value], other: &[Value]) -> Result<()> {
    let told = |lines: &[Value]| -> Vec<String> {
        let fields =
            ["call_id", "method", "type", "outcome", "status", "evidence", "target_call_id", "refer_cseq"];
        let transfers = lines.iter().filter(|line| line["kind"] == "transfer");
        let mut told: Vec<String> = transfers
            .map(|line| {
                let messages: Vec<&Value> = line["messages"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|message| &message["line"])
                    .collect();
                format!("{:?} {messages:?}", fields.map(|field| &line[field]))
            })
            .collect();
        told.sort();
        told
    };
    let (one, other) = (told(one), told(other));
    ensure!(!one.is_empty(), "no transfers at all");
    for (left, right) in one.iter().zip(&other) {
        ensure!(left == right, "two accounts of one attempt:\n  {left}\n  {right}");
    }
    ensure!(one.len() == other.len(), "{} transfers on one side, {} on the other", one.len(), other.len());
    Ok(())
}

/// Why this machine can't do it, if so.
pub(crate) fn impossible(sipobs: &Path) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces and BPF programs need root".into());
    }
    match crate::scratch("probe").and_then(|dir| Lab::new(&dir)) {
        Ok(lab) => daemon::cannot_capture(sipobs, &lab),
        Err(error) => Some(format!("no network namespaces: {error:#}")),
    }
}
