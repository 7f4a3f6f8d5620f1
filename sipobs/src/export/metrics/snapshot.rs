//! The counters of the stages, which are kept where they are counted, in a scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::hep::HepCounts;
use crate::discard::DiscardClass;
use crate::engine;
use crate::export::hep::HepOutCounts;
use crate::timestamp::Timestamp;
use crate::transfer;

/// All stages' counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The kernel's, by hook.
    pub hooks: Vec<HookCounts>,
    /// What is attached.
    pub attached: Vec<Attached>,
    /// How many of the interfaces that are meant are watched, refused every program, or are missing though wanted by
    /// name.
    pub interfaces: Vec<(&'static str, usize)>,
    /// SIP frames that were lost on their way from the kernel programs, by CPU and reason.
    pub lost_by_cpu: Vec<(u32, Vec<(&'static str, u64)>)>,
    /// Frames of which the rings themselves said that there was no room for them, if such rings say so.
    pub lost_told: Option<u64>,
    /// Frames read from the rings.
    pub frames: u64,
    /// Records in the rings that could not be read.
    pub damaged: u64,
    /// Frames in the rings that are not read yet.
    pub in_rings: u64,
    /// What kind the rings are.
    pub ring_kind: &'static str,
    /// Bytes of each CPU's ring.
    pub ring_bytes: u64,
    /// Bytes of memory that all rings take.
    pub ring_memory: u64,
    /// Seconds by which the wall clock has been stepped since frames are timed.
    pub clock_error: f64,
    /// When the last SIP message was seen.
    pub last_message: Option<Timestamp>,
    /// When a message of each trunk was last seen.
    pub trunks: Vec<TrunkSeen>,
    /// Packets of HEP, where it is listened for.
    pub hep: Option<HepCounts>,
    /// Packets that are sent on by HEP, where they are.
    pub hep_out: Option<HepOutCounts>,
    /// The engine's.
    pub engine: Option<engine::Counters>,
    /// Spans' way to the collector.
    pub spans: Option<SpanCounts>,
    /// Records' way out, by sink.
    pub sinks: Vec<SinkCounts>,
    /// The recorder's frames and files, if there is one.
    pub recorder: Option<RecorderCounts>,
    /// Writes of the state file that failed.
    pub state_failures: u64,
    /// Looks at CPUs and interfaces that failed.
    pub housekeeping_failures: u64,
}

/// One hook's counters: `seen = passed + matched`, `matched = delivered + lost`.
#[derive(Clone, Debug, Default)]
pub struct HookCounts {
    /// The hook.
    pub hook: &'static str,
    /// Frames that the program looked at.
    pub seen: u64,
    /// Frames that are none of ours, by reason.
    pub passed: Vec<(&'static str, u64)>,
    /// Frames that are SIP as far as the program can tell.
    pub matched: u64,
    /// Frames written to the ring.
    pub delivered: u64,
    /// Those of them that were cut.
    pub truncated: u64,
    /// Frames that matched and could not be written, by reason.
    pub lost: Vec<(&'static str, u64)>,
}

/// When something of a trunk's was last seen, if it was.
#[derive(Clone, Debug, Default)]
pub struct TrunkSeen {
    /// The trunk.
    pub trunk: String,
    /// A SIP message.
    pub message: Option<Timestamp>,
    /// A REFER.
    pub refer: Option<Timestamp>,
}

/// One attached program.
#[derive(Clone, Debug)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// The way.
    pub how: &'static str,
    /// The hook that it is at.
    pub hook: &'static str,
    /// Frames of it that were read from the rings.
    pub frames: u64,
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

/// What became of the records that a sink was given: `taken = written + dropped + waiting`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinkCounts {
    /// The sink.
    pub sink: &'static str,
    /// Records it was given.
    pub taken: u64,
    /// Written.
    pub written: u64,
    /// Not written: it was too slow, or failed.
    pub dropped: u64,
    /// In its queue, or being written.
    pub waiting: u64,
}

/// Frames that the recorder keeps, and files that it writes.
#[derive(Clone, Debug, Default)]
pub struct RecorderCounts {
    /// Frames in memory.
    pub frames: u64,
    /// Bytes of memory that they take up.
    pub bytes: u64,
    /// Frames that found no room on their way there.
    pub frames_dropped: u64,
    /// Files that were written.
    pub written: u64,
    /// Those of them that lack the beginning of a call, or packets for which there was no room.
    pub incomplete: u64,
    /// Those of them that give another verdict when they are read by themselves.
    pub differing: u64,
    /// Files that wait for what follows the verdict, or to be written.
    pub waiting: u64,
    /// Files that were not written, by reason.
    pub files_dropped: Vec<(&'static str, u64)>,
    /// Files in the folder.
    pub files: u64,
    /// Bytes that they take up.
    pub folder_bytes: u64,
    /// Files that were removed, by what they had too much of.
    pub files_removed: Vec<(&'static str, u64)>,
}

#[cfg(feature = "otlp")]
impl From<&crate::export::otlp::Counters> for SpanCounts {
    fn from(counters: &crate::export::otlp::Counters) -> Self {
        let counts = counters.counts();
        let drops = counts.drops;
        Self {
            acknowledged: counts.acknowledged,
            waiting: counts.waiting(),
            made: counts.made,
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
        out.gauge(
            "last_message_timestamp_seconds",
            "When the last SIP message was seen, in seconds since 1970; 0 before the first",
            [(vec![], snapshot.last_message.map_or(0.0, seconds))],
        )?;
        last_seen(&snapshot.trunks, &mut out)?;
        if let Some(counts) = &snapshot.hep_out {
            super::hep::encode_out(counts, &mut out)?;
        }
        if let Some(counts) = &snapshot.hep {
            super::hep::encode(counts, &mut out)?;
        }
        if let Some(counters) = &snapshot.engine {
            stages(counters, &mut out)?;
        }
        if let Some(spans) = &snapshot.spans {
            exported(spans, &mut out)?;
        }
        written(&snapshot.sinks, &mut out)?;
        if let Some(counts) = &snapshot.recorder {
            recorder(counts, &mut out)?;
        }
        out.counter(
            "state_write_failures",
            "Writes of the state file that failed",
            [(vec![], snapshot.state_failures)],
        )?;
        out.counter(
            "housekeeping_failures",
            "Looks at CPUs and interfaces that failed; each is tried again",
            [(vec![], snapshot.housekeeping_failures)],
        )
    }
}

fn last_seen(trunks: &[TrunkSeen], out: &mut Encoder<'_>) -> fmt::Result {
    if trunks.is_empty() {
        return Ok(());
    }
    let mut gauge = |name, help, of: fn(&TrunkSeen) -> Option<Timestamp>| {
        let series = trunks.iter().map(|seen| (vec![("trunk", &*seen.trunk)], of(seen).map_or(0.0, seconds)));
        out.gauge(name, help, series)
    };
    gauge(
        "trunk_last_message_timestamp_seconds",
        "When the last SIP message of the trunk's calls was seen, in seconds since 1970; 0 before the first",
        |seen| seen.message,
    )?;
    gauge(
        "trunk_last_refer_timestamp_seconds",
        "When the last REFER in the trunk's calls was seen, in seconds since 1970; 0 before the first",
        |seen| seen.refer,
    )
}

/// Seconds since 1970.
#[allow(clippy::cast_precision_loss, reason = "to the microsecond, for a gauge")]
fn seconds(time: Timestamp) -> f64 {
    time.as_nanos() as f64 / 1e9
}

pub(super) type LabelPairs<'a> = Vec<(&'static str, &'a str)>;

pub(super) struct Encoder<'a>(pub(super) DescriptorEncoder<'a>);

impl Encoder<'_> {
    pub(super) fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (LabelPairs<'l>, u64)>,
    ) -> fmt::Result {
        self.family(name, help, series.into_iter().map(|(labels, n)| (labels, ConstCounter::new(n))))
    }

    /// A counter of seconds.
    pub(super) fn seconds(&mut self, name: &str, help: &str, seconds: f64) -> fmt::Result {
        self.family(name, help, [(vec![], ConstCounter::new(seconds))].into_iter())
    }

    pub(super) fn gauge<'l>(
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

/// Kernel and rings: `seen = passed + matched`, `matched = delivered + lost`, `delivered = read + damaged + in the
/// ring`.
fn capture(snapshot: &Snapshot, out: &mut Encoder<'_>) -> fmt::Result {
    let hooks = &snapshot.hooks;
    let each = |count: fn(&HookCounts) -> u64| hooks.iter().map(move |h| (vec![("hook", h.hook)], count(h)));
    out.counter("capture_frames_seen", "Frames that the kernel programs looked at", each(|h| h.seen))?;
    out.counter("capture_frames_matched", "Frames that are SIP as far as one can tell", each(|h| h.matched))?;
    out.counter("capture_frames_delivered", "Frames written to the ring", each(|h| h.delivered))?;
    out.counter("capture_frames_truncated", "Delivered frames that were cut", each(|h| h.truncated))?;
    let reasons = |of: fn(&HookCounts) -> &Vec<(&'static str, u64)>| {
        hooks.iter().flat_map(move |h| {
            of(h).iter().map(move |&(reason, n)| (vec![("hook", h.hook), ("reason", reason)], n))
        })
    };
    out.counter(
        "capture_frames_passed",
        "Frames that the kernel programs left alone, by the reason",
        reasons(|h| &h.passed),
    )?;
    out.counter(
        "capture_frames_lost",
        "SIP frames that were lost on their way from the kernel programs to the daemon",
        reasons(|h| &h.lost),
    )?;
    let by_cpu: Vec<_> = snapshot.lost_by_cpu.iter().map(|(cpu, lost)| (cpu.to_string(), lost)).collect();
    out.counter(
        "capture_cpu_frames_lost",
        "SIP frames that were lost on their way from the kernel programs to the daemon, by the CPU that saw them",
        by_cpu.iter().flat_map(|(cpu, lost)| {
            lost.iter().map(move |&(reason, n)| (vec![("cpu", cpu.as_str()), ("reason", reason)], n))
        }),
    )?;
    out.counter(
        "capture_ring_frames_lost",
        "Lost frames that perf rings told of: no more than found the ring full",
        snapshot.lost_told.map(|frames| (vec![], frames)),
    )?;
    out.counter("capture_frames_read", "Frames read from the rings", [(vec![], snapshot.frames)])?;
    out.counter(
        "capture_frames_damaged",
        "Records in the rings that could not be read",
        [(vec![], snapshot.damaged)],
    )?;
    #[allow(clippy::cast_precision_loss, reason = "no more than the rings hold")]
    out.gauge(
        "capture_frames_in_ring",
        "Frames in the rings that are not read yet",
        [(vec![], snapshot.in_rings as f64)],
    )?;
    let attached = snapshot.attached.iter();
    out.gauge(
        "capture_attached",
        "Programs attached, and how",
        attached.map(|a| (vec![("interface", a.interface.as_str()), ("how", a.how)], 1.0)),
    )?;
    let attached = snapshot.attached.iter();
    out.counter(
        "capture_interface_frames",
        "Frames read from the rings, by the interface that they crossed, since the programs are attached to it",
        attached.map(|a| (vec![("interface", a.interface.as_str()), ("hook", a.hook)], a.frames)),
    )?;
    #[allow(clippy::cast_precision_loss, reason = "as many interfaces as a node has")]
    out.gauge(
        "capture_interfaces",
        "Interfaces that are meant: watched, refusing every program, or missing though wanted by name",
        snapshot.interfaces.iter().map(|(state, n)| (vec![("state", *state)], *n as f64)),
    )?;
    // None where no interface is watched.
    let kind = || (!snapshot.ring_kind.is_empty()).then(|| vec![("kind", snapshot.ring_kind)]);
    #[allow(clippy::cast_precision_loss, reason = "sizes in bytes, far below 2^53")]
    let (bytes, memory) = (snapshot.ring_bytes as f64, snapshot.ring_memory as f64);
    out.gauge(
        "capture_ring_bytes",
        "Bytes of one CPU's ring, perf or ringbuf",
        kind().map(|kind| (kind, bytes)),
    )?;
    out.gauge(
        "capture_ring_memory_bytes",
        "Bytes that all CPUs' rings take",
        kind().map(|kind| (kind, memory)),
    )?;
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
        unused.into_iter().flat_map(|(stage, discarded)| {
            discarded.iter().map(move |(reason, n)| {
                (vec![("stage", stage), ("reason", reason.as_str()), ("fate", reason.class().as_str())], n)
            })
        }),
    )?;
    out.counter("messages", "SIP messages, retransmissions included", [(vec![], counters.messages)])?;
    out.counter(
        "messages_understood",
        "Messages that belong to a dialog that could be named",
        [(vec![], counters.understood)],
    )?;
    let unparsed = engine::Counters::unparsed_reasons()
        .map(|reason| (vec![("reason", reason)], counters.unparsed.get(reason).copied().unwrap_or(0)));
    out.counter(
        "messages_unparsed",
        "Messages that belong to no dialog that could be named: no start line, or not the headers that name one",
        unparsed,
    )?;
    accounts(&counters.balance(), out)?;
    let (tcp, calls) = (&counters.stream, &counters.calls_evicted);
    let evictions = [
        ("tcp_connections", "room", tcp.connections_evicted - tcp.connections_evicted_for_share),
        ("tcp_connections", "host_share", tcp.connections_evicted_for_share),
        ("calls", "room", calls.room),
        ("calls", "host_share", calls.host_share),
        ("calls", "call_id", calls.call_id),
        ("callers", "room", counters.callers_evicted),
    ];
    out.counter(
        "evicted",
        "What a table let go of to stay within its memory, and how much of that for one host's share",
        evictions.map(|(table, reason, n)| (vec![("table", table), ("reason", reason)], n)),
    )?;
    fullness(&counters.calls, out)?;
    let named = |label, counts: std::collections::BTreeMap<&'static str, u64>| {
        counts.into_iter().map(move |(name, n)| (vec![(label, name)], n))
    };
    out.counter(
        "not_understood",
        "What of frames and messages could not be read, by the reason",
        named("reason", counters.not_understood_with_zeros()),
    )?;
    out.counter(
        "evidence_lost",
        "What is known to be missing from the evidence, by where it went",
        named("where", counters.lost_with_zeros()),
    )
}

/// How full the table of calls is, which the memory is for.
#[allow(clippy::cast_precision_loss, reason = "no more than fit in memory")]
fn fullness(calls: &transfer::Fullness, out: &mut Encoder<'_>) -> fmt::Result {
    let of = |n: u64| [(vec![], n as f64)];
    out.gauge("calls_known", "Legs known, those included that ended a moment ago", of(calls.legs))?;
    out.gauge("attempts_open", "Transfer attempts under way", of(calls.attempts))?;
    out.gauge("calls_memory_bytes", "Bytes that legs and attempts take up", of(calls.bytes))?;
    out.gauge("calls_memory_limit_bytes", "Bytes that legs and attempts may take up", of(calls.limit))
}

/// Where every frame the engine took has ended: `frames read = the sum of fates`, at any moment.
fn accounts(balance: &engine::Balance, out: &mut Encoder<'_>) -> fmt::Result {
    let fates = [
        ("parsed", balance.parsed),
        ("joined", balance.joined),
        (DiscardClass::NotSip.as_str(), balance.not_sip),
        (DiscardClass::Copy.as_str(), balance.copies),
        (DiscardClass::Malformed.as_str(), balance.malformed),
        (DiscardClass::Capped.as_str(), balance.capped),
        (DiscardClass::Incomplete.as_str(), balance.incomplete),
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
    out.counter("otlp_spans", "Spans made for the collector", [(vec![], spans.made)])?;
    out.counter(
        "otlp_spans_acknowledged",
        "Spans that the collector has taken",
        [(vec![], spans.acknowledged)],
    )?;
    out.counter(
        "otlp_spans_dropped",
        "Spans that the collector never got, by the reason",
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

/// The recorder's memory, and its folder.
#[allow(clippy::cast_precision_loss, reason = "no more than memory and disk hold")]
fn recorder(counts: &RecorderCounts, out: &mut Encoder<'_>) -> fmt::Result {
    let of = |n: u64| [(vec![], n as f64)];
    let by_reason = |by: &[(&'static str, u64)]| {
        by.iter().map(|&(reason, n)| (vec![("reason", reason)], n)).collect::<Vec<_>>()
    };
    out.gauge("recorder_frames", "Frames that the recorder keeps in memory", of(counts.frames))?;
    out.gauge(
        "recorder_memory_bytes",
        "Bytes that the recorder's frames take up in memory",
        of(counts.bytes),
    )?;
    out.counter(
        "recorder_frames_dropped",
        "Frames that the recorder had no time for; files may lack them, verdicts do not",
        [(vec![], counts.frames_dropped)],
    )?;
    out.counter("recorder_files_written", "Evidence files that were written", [(vec![], counts.written)])?;
    out.counter(
        "recorder_files_incomplete",
        "Evidence files that lack the beginning of a call, or packets for which there was no room",
        [(vec![], counts.incomplete)],
    )?;
    out.counter(
        "recorder_files_differing",
        "Evidence files that give another verdict when they are read by themselves",
        [(vec![], counts.differing)],
    )?;
    out.counter(
        "recorder_files_dropped",
        "Evidence files that were not written, by the reason",
        by_reason(&counts.files_dropped),
    )?;
    out.gauge(
        "recorder_files_waiting",
        "Evidence files that wait for what follows the verdict, or to be written",
        of(counts.waiting),
    )?;
    out.gauge("recorder_folder_files", "Evidence files in the folder", of(counts.files))?;
    out.gauge(
        "recorder_folder_bytes",
        "Bytes that evidence files take up on the disk",
        of(counts.folder_bytes),
    )?;
    out.counter(
        "recorder_files_removed",
        "Evidence files that were removed, as there were too many bytes or they were too old",
        by_reason(&counts.files_removed),
    )
}

/// Each sink: `taken = written + dropped + waiting`.
fn written(sinks: &[SinkCounts], out: &mut Encoder<'_>) -> fmt::Result {
    let each = |count: fn(&SinkCounts) -> u64| sinks.iter().map(move |s| (vec![("sink", s.sink)], count(s)));
    out.counter("outputs", "Records that a sink was given", each(|s| s.taken))?;
    out.counter("outputs_written", "Records that a sink has written", each(|s| s.written))?;
    out.counter(
        "outputs_dropped",
        "Records that a sink was too slow to take, or failed at",
        each(|s| s.dropped),
    )?;
    #[allow(clippy::cast_precision_loss, reason = "no more than the queue holds")]
    out.gauge(
        "outputs_waiting",
        "Records in the queue or being written",
        sinks.iter().map(|s| (vec![("sink", s.sink)], s.waiting as f64)),
    )
}
