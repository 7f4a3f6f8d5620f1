//! The counters of the stages, which are kept where they are counted, in a scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::engine;

/// All stages' counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The kernel's, by hook.
    pub hooks: Vec<HookCounts>,
    /// What is attached.
    pub attached: Vec<Attached>,
    /// Frames read from the rings.
    pub frames: u64,
    /// Records in the rings that could not be read.
    pub damaged: u64,
    /// Bytes of each CPU's ring.
    pub ring_bytes: usize,
    /// Seconds by which the wall clock has been stepped since frames are timed.
    pub clock_error: f64,
    /// The engine's.
    pub engine: Option<engine::Counters>,
    /// Spans' way to the collector.
    pub spans: Option<SpanCounts>,
    /// Writes of the state file that failed.
    pub state_failures: u64,
}

/// One hook's counters: `seen = passed + delivered + lost`.
#[derive(Clone, Debug, Default)]
pub struct HookCounts {
    /// The hook.
    pub hook: &'static str,
    /// Frames that the program looked at.
    pub seen: u64,
    /// Frames that are none of ours, by reason.
    pub passed: Vec<(&'static str, u64)>,
    /// Frames written to the ring.
    pub delivered: u64,
    /// Those of them that were cut.
    pub truncated: u64,
    /// Frames that matched and could not be written, by reason.
    pub lost: Vec<(&'static str, u64)>,
}

/// One attached program.
#[derive(Clone, Debug)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// The way.
    pub how: &'static str,
}

/// What became of spans: `made = acknowledged + dropped + waiting`.
#[derive(Clone, Debug, Default)]
pub struct SpanCounts {
    /// Made.
    pub made: u64,
    /// Acknowledged by the collector.
    pub acknowledged: u64,
    /// Dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Waiting.
    pub waiting: u64,
    /// Requests that failed.
    pub failed_requests: u64,
}

#[cfg(feature = "otlp")]
impl From<&crate::export::otlp::Counters> for SpanCounts {
    fn from(counters: &crate::export::otlp::Counters) -> Self {
        let drops = counters.drops();
        Self {
            acknowledged: counters.acknowledged(),
            waiting: counters.waiting(),
            made: counters.spans(),
            dropped: vec![
                ("queue_full", drops.queue_full),
                ("rejected", drops.rejected),
                ("gave_up", drops.gave_up),
                ("shutdown", drops.shutdown),
            ],
            failed_requests: counters.failed_requests(),
        }
    }
}

/// Encodes the snapshot of the moment.
#[derive(Debug)]
pub(super) struct Collected(pub(super) Arc<Mutex<Snapshot>>);

impl Collector for Collected {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut out = Encoder(encoder);
        capture(&snapshot, &mut out)?;
        if let Some(counters) = &snapshot.engine {
            stages(counters, &mut out)?;
        }
        if let Some(spans) = &snapshot.spans {
            exported(spans, &mut out)?;
        }
        out.counter(
            "state_write_failures",
            "Writes of the state file that failed",
            [(vec![], snapshot.state_failures)],
        )
    }
}

type LabelPairs<'a> = Vec<(&'static str, &'a str)>;

struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (LabelPairs<'l>, u64)>,
    ) -> fmt::Result {
        self.family(name, help, series.into_iter().map(|(labels, n)| (labels, ConstCounter::new(n))))
    }

    fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (LabelPairs<'l>, f64)>,
    ) -> fmt::Result {
        self.family(name, help, series.into_iter().map(|(labels, n)| (labels, ConstGauge::new(n))))
    }

    fn family<'l, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (LabelPairs<'l>, M)>,
    ) -> fmt::Result {
        let mut series = series.peekable();
        let Some((_, first)) = series.peek() else { return Ok(()) };
        let mut descriptor = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        for (labels, metric) in series {
            if labels.is_empty() {
                return metric.encode(descriptor);
            }
            metric.encode(descriptor.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Kernel and rings: `seen = passed + delivered + lost`, `delivered = read + damaged` once all is drained.
fn capture(snapshot: &Snapshot, out: &mut Encoder<'_>) -> fmt::Result {
    let hooks = &snapshot.hooks;
    let each = |count: fn(&HookCounts) -> u64| hooks.iter().map(move |h| (vec![("hook", h.hook)], count(h)));
    out.counter("capture_frames_seen", "Frames that the kernel programs looked at", each(|h| h.seen))?;
    out.counter("capture_frames_delivered", "Frames written to the ring", each(|h| h.delivered))?;
    out.counter("capture_frames_truncated", "Delivered frames that were cut", each(|h| h.truncated))?;
    let reasons = |of: fn(&HookCounts) -> &Vec<(&'static str, u64)>| {
        hooks.iter().flat_map(move |h| {
            of(h).iter().map(move |&(reason, n)| (vec![("hook", h.hook), ("reason", reason)], n))
        })
    };
    out.counter("capture_frames_passed", "Frames that are none of ours", reasons(|h| &h.passed))?;
    out.counter("capture_frames_lost", "Frames that matched and had no way to us", reasons(|h| &h.lost))?;
    out.counter("capture_frames_read", "Frames read from the rings", [(vec![], snapshot.frames)])?;
    out.counter("capture_frames_damaged", "Records that could not be read", [(vec![], snapshot.damaged)])?;
    let attached = snapshot.attached.iter();
    out.gauge(
        "capture_attached",
        "Programs attached, and how",
        attached.map(|a| (vec![("interface", a.interface.as_str()), ("how", a.how)], 1.0)),
    )?;
    #[allow(clippy::cast_precision_loss, reason = "a size in bytes, far below 2^53")]
    out.gauge("capture_ring_bytes", "Bytes of one CPU's ring", [(vec![], snapshot.ring_bytes as f64)])?;
    out.gauge(
        "capture_clock_step_seconds",
        "How far the wall clock was stepped away from frame times",
        [(vec![], snapshot.clock_error)],
    )
}

/// From frames to messages: every frame that led nowhere, by stage and reason.
fn stages(counters: &engine::Counters, out: &mut Encoder<'_>) -> fmt::Result {
    let unused = [("packet", &counters.packet.unused), ("stream", &counters.stream.unused)];
    out.counter("packets", "UDP datagrams and TCP segments", [(vec![], counters.packet.packets)])?;
    out.counter(
        "unused",
        "Frames, packets and segments that led to no message",
        unused.into_iter().flat_map(|(stage, tally)| {
            tally.iter().map(move |(reason, n)| (vec![("stage", stage), ("reason", reason.name())], n))
        }),
    )?;
    out.counter("messages", "SIP messages, retransmissions included", [(vec![], counters.messages)])?;
    books(&counters.balance(), out)?;
    let evictions = [
        (
            "tcp_connections",
            counters.stream.connections_evicted,
            counters.stream.connections_evicted_for_share,
        ),
        ("calls", counters.calls_evicted, counters.calls_evicted_for_share),
    ];
    out.counter(
        "evicted",
        "What a table let go of to stay within its memory, and how much of that for one host's share",
        evictions.into_iter().flat_map(|(table, all, share)| {
            [("room", all - share), ("host_share", share)]
                .map(|(reason, n)| (vec![("table", table), ("reason", reason)], n))
        }),
    )?;
    let named = |label, counts: std::collections::BTreeMap<&'static str, u64>| {
        counts.into_iter().map(move |(name, n)| (vec![(label, name)], n))
    };
    out.counter("not_understood", "What could not be read", named("reason", counters.not_understood()))?;
    out.counter("evidence_lost", "What is known to be missing", named("where", counters.lost()))
}

/// Where every frame the engine took has ended: `frames read = the sum of fates`, at any moment.
fn books(balance: &engine::Balance, out: &mut Encoder<'_>) -> fmt::Result {
    let fates = [
        ("parsed", balance.parsed),
        ("joined", balance.joined),
        ("not_sip", balance.not_sip),
        ("copy", balance.copies),
        ("malformed", balance.malformed),
        ("capped", balance.capped),
        ("incomplete", balance.incomplete),
    ];
    out.counter(
        "frames_accounted",
        "Frames by what became of them",
        fates.into_iter().map(|(fate, n)| (vec![("fate", fate)], n)),
    )?;
    #[allow(clippy::cast_precision_loss, reason = "no more than the tables hold")]
    out.gauge(
        "frames_buffered",
        "Frames that wait for others of their datagram or message",
        [(vec![], balance.buffered as f64)],
    )
}

fn exported(spans: &SpanCounts, out: &mut Encoder<'_>) -> fmt::Result {
    out.counter("otlp_spans", "Spans made", [(vec![], spans.made)])?;
    out.counter("otlp_spans_acknowledged", "Spans the collector has", [(vec![], spans.acknowledged)])?;
    out.counter(
        "otlp_spans_dropped",
        "Spans dropped",
        spans.dropped.iter().map(|&(reason, n)| (vec![("reason", reason)], n)),
    )?;
    #[allow(clippy::cast_precision_loss, reason = "no more than the queue holds")]
    out.gauge("otlp_spans_waiting", "Spans in the queue or under way", [(vec![], spans.waiting as f64)])?;
    out.counter(
        "otlp_requests_failed",
        "Requests that failed, retries included",
        [(vec![], spans.failed_requests)],
    )
}
