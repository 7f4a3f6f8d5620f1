//! The loss identity of a running daemon, drawn up from its `/metrics`: where every frame, span and record is, and
//! what is left over, which is nothing unless sipobs has a bug.

use std::fmt;

mod exposition;

pub use exposition::{Exposition, ExpositionError};

use super::style::{clean, grouped};

/// All that the accounts take of an answer.
const FAMILIES: [&str; 37] = [
    "sipobs_build_info",
    "sipobs_capture_cpu_frames_lost_total",
    "sipobs_capture_frames_damaged_total",
    "sipobs_capture_frames_delivered_total",
    "sipobs_capture_frames_in_ring",
    "sipobs_capture_frames_lost_total",
    "sipobs_capture_frames_matched_total",
    "sipobs_capture_frames_passed_total",
    "sipobs_capture_frames_read_total",
    "sipobs_capture_frames_seen_total",
    "sipobs_capture_frames_truncated_total",
    "sipobs_capture_ring_frames_lost_total",
    "sipobs_evicted_total",
    "sipobs_frames_accounted_total",
    "sipobs_frames_buffered",
    "sipobs_hep_datagrams_dropped_total",
    "sipobs_hep_out_packets_dropped_total",
    "sipobs_hep_out_packets_sent_total",
    "sipobs_hep_out_packets_total",
    "sipobs_hep_out_packets_waiting",
    "sipobs_hep_packets_total",
    "sipobs_hep_packets_unused_total",
    "sipobs_hep_packets_used_total",
    "sipobs_hep_packets_waiting",
    "sipobs_messages_total",
    "sipobs_messages_understood_total",
    "sipobs_messages_unparsed_total",
    "sipobs_otlp_requests_failed_total",
    "sipobs_otlp_spans_acknowledged_total",
    "sipobs_otlp_spans_dropped_total",
    "sipobs_otlp_spans_total",
    "sipobs_otlp_spans_waiting",
    "sipobs_outputs_dropped_total",
    "sipobs_outputs_total",
    "sipobs_outputs_waiting",
    "sipobs_outputs_written_total",
    "sipobs_unused_total",
];

/// All accounts of a daemon at one moment.
#[derive(Clone, Debug)]
pub struct Accounts {
    version: String,
    sections: Vec<Section>,
}

/// What one part of the daemon has to account for.
#[derive(Clone, Debug)]
struct Section {
    name: &'static str,
    accounts: Vec<Account>,
    /// What does not enter a sum, and is worth a line.
    remarks: Vec<String>,
    /// What will not come back: how much, and of what.
    gone: Vec<(u64, &'static str)>,
}

/// A count and the parts that must come to it.
#[derive(Clone, Debug)]
struct Account {
    what: String,
    whole: u64,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    what: String,
    count: u64,
    /// What it is made of, which must come to it, if known: name, count, and more about it.
    reasons: Option<Vec<(String, u64, String)>>,
}

/// What does not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residual {
    /// Whose account.
    pub of: String,
    /// How much of it is in none of its parts; below 0, in two.
    pub count: i128,
}

impl Accounts {
    /// Draws up the accounts.
    ///
    /// # Errors
    ///
    /// When a family is missing, or no count.
    pub fn of(metrics: &Exposition) -> Result<Self, ExpositionError> {
        let version = metrics.text("sipobs_build_info", "version").unwrap_or("of no version").to_owned();
        Ok(Self {
            version,
            sections: [
                Some(kernel(metrics)?),
                hep(metrics)?,
                Some(engine(metrics)?),
                Some(spans(metrics)?),
                Some(records(metrics)?),
                hep_out(metrics)?,
            ]
            .into_iter()
            .flatten()
            .collect(),
        })
    }

    /// What is accounted for, and will not come back, in words; empty if it is nothing.
    pub fn gone(&self) -> String {
        let gone = self.sections.iter().flat_map(|section| &section.gone).filter(|(count, _)| *count > 0);
        gone.map(|(count, what)| format!("{what}: {}", grouped(*count))).collect::<Vec<_>>().join("; ")
    }

    /// What does not add up: nothing, unless sipobs has a bug.
    pub fn residuals(&self) -> Vec<Residual> {
        let accounts = self
            .sections
            .iter()
            .flat_map(|section| section.accounts.iter().map(move |it| (section.name, it)));
        let mut residuals = Vec::new();
        for (section, account) in accounts {
            let mut note = |of: &str, count| {
                if count != 0 {
                    residuals.push(Residual { of: format!("{section}: {of}"), count });
                }
            };
            note(&account.what, account.residual());
            for part in &account.parts {
                note(&format!("{}, {}", account.what, part.what), part.residual());
            }
        }
        residuals
    }
}

impl Account {
    fn residual(&self) -> i128 {
        let parts: i128 = self.parts.iter().map(|part| i128::from(part.count)).sum();
        i128::from(self.whole) - parts
    }
}

impl Part {
    fn new(what: impl Into<String>, count: u64) -> Self {
        Self { what: what.into(), count, reasons: None }
    }

    fn residual(&self) -> i128 {
        self.reasons.as_ref().map_or(0, |reasons| {
            i128::from(self.count) - reasons.iter().map(|(_, count, _)| i128::from(*count)).sum::<i128>()
        })
    }
}

/// From the wire into the daemon. `matched` of each hook, and of all of them together what came of it.
fn kernel(metrics: &Exposition) -> Result<Section, ExpositionError> {
    const SEEN: &str = "sipobs_capture_frames_seen_total";
    const PASSED: &str = "sipobs_capture_frames_passed_total";
    const MATCHED: &str = "sipobs_capture_frames_matched_total";
    const DELIVERED: &str = "sipobs_capture_frames_delivered_total";
    const TRUNCATED: &str = "sipobs_capture_frames_truncated_total";
    const LOST: &str = "sipobs_capture_frames_lost_total";
    const LOST_BY_CPU: &str = "sipobs_capture_cpu_frames_lost_total";
    if !metrics.has(SEEN) && metrics.has(HEP) {
        let remarks = vec!["no interface is watched: capture.interfaces is not set".to_owned()];
        return Ok(Section { name: "kernel", accounts: Vec::new(), remarks, gone: Vec::new() });
    }
    let mut accounts = Vec::new();
    for (hook, seen) in metrics.sums_by(SEEN, "hook", &[])? {
        let of = [("hook", hook)];
        let mut parts: Vec<Part> = metrics
            .sums_by(PASSED, "reason", &of)?
            .into_iter()
            .map(|(reason, count)| Part::new(format!("not matched: {}", clean(reason)), count))
            .collect();
        parts.push(Part::new("matched", metrics.sum(MATCHED, &of)?));
        accounts.push(Account { what: format!("seen by {}", clean(hook)), whole: seen, parts });
        let lost = metrics.sum(LOST, &of)?;
        let delivered = metrics.sum(DELIVERED, &of)?;
        let truncated = metrics.sum(TRUNCATED, &of)?;
        let parts = vec![
            Part::new("delivered whole", delivered.saturating_sub(truncated)),
            Part::new("delivered, but cut (truncated)", truncated),
            Part::new("lost", lost),
        ];
        accounts.push(Account {
            what: format!("matched by {}", clean(hook)),
            whole: metrics.sum(MATCHED, &of)?,
            parts,
        });
    }
    // A hook whose program runs nowhere says nothing.
    accounts.retain(|account| account.whole > 0 || account.residual() != 0);

    let mut failed = Vec::new();
    for (reason, _) in metrics.sums_by(LOST, "reason", &[])? {
        let by_cpu = metrics.sums_by(LOST_BY_CPU, "cpu", &[("reason", reason)])?;
        let cpus: Vec<_> = by_cpu.iter().filter(|(_, count)| *count > 0).collect();
        let cpus: Vec<_> =
            cpus.iter().map(|(cpu, n)| format!("CPU {}: {}", clean(cpu), grouped(*n))).collect();
        let all = metrics.sum(LOST_BY_CPU, &[("reason", reason)])?;
        failed.push((clean(reason), all, cpus.join(", ")));
    }
    let (lost, matched) = (metrics.sum(LOST, &[])?, metrics.sum(MATCHED, &[])?);
    accounts.push(Account {
        what: "matched".to_owned(),
        whole: matched,
        parts: vec![
            Part::new("read", metrics.sum("sipobs_capture_frames_read_total", &[])?),
            Part::new("in the ring, not yet read", metrics.sum("sipobs_capture_frames_in_ring", &[])?),
            Part::new("damaged in the ring", metrics.sum("sipobs_capture_frames_damaged_total", &[])?),
            Part { reasons: Some(failed), ..Part::new("lost, by error and CPU", lost) },
        ],
    });
    const TOLD: &str = "sipobs_capture_ring_frames_lost_total";
    let mut remarks = Vec::new();
    // BPF ring buffers tell of none.
    if lost > 0 && metrics.has(TOLD) {
        let told = grouped(metrics.sum(TOLD, &[])?);
        remarks.push(format!("the rings' own notes tell of {told} lost so far"));
    }
    Ok(Section {
        name: "kernel",
        accounts,
        remarks,
        gone: vec![(lost, "frames on their way from the kernel")],
    })
}

const HEP: &str = "sipobs_hep_packets_total";

/// From sockets to messages, where HEP is listened for.
fn hep(metrics: &Exposition) -> Result<Option<Section>, ExpositionError> {
    const UNUSED: &str = "sipobs_hep_packets_unused_total";
    if !metrics.has(HEP) {
        return Ok(None);
    }
    let mut parts = vec![
        Part::new("used", metrics.sum("sipobs_hep_packets_used_total", &[])?),
        Part::new("waiting", metrics.sum("sipobs_hep_packets_waiting", &[])?),
    ];
    for (reason, count) in metrics.sums_by(UNUSED, "reason", &[])?.into_iter().filter(|(_, count)| *count > 0)
    {
        parts.push(Part::new(format!("not used: {}", clean(reason)), count));
    }
    let read = Account { what: "packets read".to_owned(), whole: metrics.sum(HEP, &[])?, parts };
    let dropped = metrics.sum("sipobs_hep_datagrams_dropped_total", &[])?;
    let full = metrics.sum(UNUSED, &[("reason", "hep_queue_full")])?;
    let gone = vec![(dropped + full, "packets of HEP")];
    Ok(Some(Section { name: "hep", accounts: vec![read], remarks: Vec::new(), gone }))
}

/// From frames to messages.
fn engine(metrics: &Exposition) -> Result<Section, ExpositionError> {
    const FATES: &str = "sipobs_frames_accounted_total";
    const UNUSED: &str = "sipobs_unused_total";
    let mut parts = Vec::new();
    for (fate, count) in metrics.sums_by(FATES, "fate", &[])? {
        let why = metrics.sums_by(UNUSED, "reason", &[("fate", fate)])?;
        let why: Vec<_> =
            why.into_iter().map(|(reason, count)| (clean(reason), count, String::new())).collect();
        let reasons = if why.is_empty() { None } else { Some(why) };
        parts.push(Part { reasons, ..Part::new(clean(fate), count) });
    }
    parts.push(Part::new("buffered", metrics.sum("sipobs_frames_buffered", &[])?));
    // What is best comes first, what is none of ours last.
    let order = ["parsed", "joined", "buffered", "malformed", "capped", "incomplete", "copy", "not_sip"];
    parts.sort_by_key(|part| order.iter().position(|name| *name == part.what).unwrap_or(order.len()));
    let frames = Account {
        what: "frames read".to_owned(),
        whole: metrics.sum("sipobs_capture_frames_read_total", &[])?,
        parts,
    };

    let mut parts = vec![Part::new("understood", metrics.sum("sipobs_messages_understood_total", &[])?)];
    for (reason, count) in metrics.sums_by("sipobs_messages_unparsed_total", "reason", &[])? {
        parts.push(Part::new(format!("not understood: {}", clean(reason)), count));
    }
    let messages =
        Account { what: "messages".to_owned(), whole: metrics.sum("sipobs_messages_total", &[])?, parts };

    let mut remarks = Vec::new();
    for (table, _) in metrics.sums_by("sipobs_evicted_total", "table", &[])? {
        for (reason, count) in metrics.sums_by("sipobs_evicted_total", "reason", &[("table", table)])? {
            if count > 0 {
                remarks.push(format!(
                    "evicted of {}, for {}: {}",
                    clean(table),
                    clean(reason),
                    grouped(count)
                ));
            }
        }
    }
    let capped = metrics.sum(FATES, &[("fate", "capped")])?;
    let gone = vec![(capped, "frames to a limit")];
    Ok(Section { name: "engine", accounts: vec![frames, messages], remarks, gone })
}

/// From messages to whoever takes HEP, if somebody does.
fn hep_out(metrics: &Exposition) -> Result<Option<Section>, ExpositionError> {
    const MADE: &str = "sipobs_hep_out_packets_total";
    const DROPPED: &str = "sipobs_hep_out_packets_dropped_total";
    if !metrics.has(MADE) {
        return Ok(None);
    }
    let mut parts = vec![
        Part::new("sent", metrics.sum("sipobs_hep_out_packets_sent_total", &[])?),
        Part::new("queued", metrics.sum("sipobs_hep_out_packets_waiting", &[])?),
    ];
    for (reason, count) in metrics.sums_by(DROPPED, "reason", &[])? {
        parts.push(Part::new(format!("dropped: {}", clean(reason)), count));
    }
    let made = Account { what: "packets made".to_owned(), whole: metrics.sum(MADE, &[])?, parts };
    let gone = vec![(metrics.sum(DROPPED, &[])?, "packets of HEP on their way out")];
    Ok(Some(Section { name: "hep out", accounts: vec![made], remarks: Vec::new(), gone }))
}

/// From verdicts to the collector.
fn spans(metrics: &Exposition) -> Result<Section, ExpositionError> {
    const ENDED: &str = "sipobs_otlp_spans_total";
    if !metrics.has(ENDED) {
        let remarks = vec!["none are exported: otlp.endpoint is not set".to_owned()];
        return Ok(Section { name: "spans", accounts: Vec::new(), remarks, gone: Vec::new() });
    }
    let mut parts = vec![
        Part::new("acknowledged", metrics.sum("sipobs_otlp_spans_acknowledged_total", &[])?),
        Part::new("queued or under way", metrics.sum("sipobs_otlp_spans_waiting", &[])?),
    ];
    for (reason, count) in metrics.sums_by("sipobs_otlp_spans_dropped_total", "reason", &[])? {
        parts.push(Part::new(format!("dropped: {}", clean(reason)), count));
    }
    let ended = Account { what: "ended".to_owned(), whole: metrics.sum(ENDED, &[])?, parts };
    let failed = metrics.sum("sipobs_otlp_requests_failed_total", &[])?;
    let remarks =
        if failed > 0 { vec![format!("requests that failed: {}", grouped(failed))] } else { vec![] };
    let gone = vec![(metrics.sum("sipobs_otlp_spans_dropped_total", &[])?, "spans")];
    Ok(Section { name: "spans", accounts: vec![ended], remarks, gone })
}

/// From verdicts to standard output and files.
fn records(metrics: &Exposition) -> Result<Section, ExpositionError> {
    const GIVEN: &str = "sipobs_outputs_total";
    if !metrics.has(GIVEN) {
        let remarks = vec!["none are written: jsonl.path is not set".to_owned()];
        return Ok(Section { name: "records", accounts: Vec::new(), remarks, gone: Vec::new() });
    }
    let mut accounts = Vec::new();
    for (sink, given) in metrics.sums_by(GIVEN, "sink", &[])? {
        let of = [("sink", sink)];
        let parts = vec![
            Part::new("written", metrics.sum("sipobs_outputs_written_total", &of)?),
            Part::new("queued", metrics.sum("sipobs_outputs_waiting", &of)?),
            Part::new("dropped", metrics.sum("sipobs_outputs_dropped_total", &of)?),
        ];
        accounts.push(Account { what: format!("given to {}", clean(sink)), whole: given, parts });
    }
    let gone = vec![(metrics.sum("sipobs_outputs_dropped_total", &[])?, "records")];
    Ok(Section { name: "records", accounts, remarks: Vec::new(), gone })
}

/// Columns of a name, its indentation included.
const NAME: usize = 36;
/// Columns of a count.
const COUNT: usize = 18;

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sipobs {}", clean(&self.version))?;
        for section in &self.sections {
            writeln!(f, "\n{}", section.name)?;
            for account in &section.accounts {
                account.fmt(f)?;
            }
            for remark in &section.remarks {
                writeln!(f, "  {remark}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let residual = self.residual();
        let count = grouped(self.whole);
        writeln!(f, "  {:<1$}{count:>COUNT$}   residual {residual}", self.what, NAME - 2)?;
        for part in &self.parts {
            writeln!(f, "    {:<1$}{2:>COUNT$}", part.what, NAME - 4, grouped(part.count))?;
            for (reason, count, more) in part.reasons.iter().flatten().filter(|(_, count, _)| *count > 0) {
                let line = format!("      {reason:<0$}{1:>COUNT$}   {more}", NAME - 6, grouped(*count));
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Residual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, count } = self;
        if *count > 0 {
            write!(f, "{of}: {count} in none of its parts")
        } else {
            write!(f, "{of}: its parts are {} too many", count.unsigned_abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a daemon says that has seen a little of everything.
    const METRICS: &str = include_str!("sample.txt");

    fn accounts(text: &str) -> Accounts {
        Accounts::of(&Exposition::parse(text).unwrap()).unwrap()
    }

    /// What is left over when the count of one series is another.
    fn residuals_with(series: &str, count: u64) -> Vec<String> {
        let line = METRICS.lines().find(|line| line.starts_with(series)).unwrap();
        let changed = format!("{} {count}", line.rsplit_once(' ').unwrap().0);
        accounts(&METRICS.replace(line, &changed)).residuals().iter().map(Residual::to_string).collect()
    }

    #[test]
    fn accounts_that_add_up_leave_nothing_over() {
        assert_eq!(accounts(METRICS).residuals(), []);
    }

    #[test]
    fn what_is_gone_is_told_though_it_adds_up() {
        let gone = "frames on their way from the kernel: 5; frames to a limit: 1; spans: 1; records: 2";
        assert_eq!(accounts(METRICS).gone(), gone);
        let nothing: Vec<_> =
            METRICS.lines().map(|line| line.rsplit_once(' ').unwrap_or((line, "")).0).collect();
        let nothing: String =
            nothing.iter().filter(|line| !line.starts_with('#')).map(|line| format!("{line} 0\n")).collect();
        assert_eq!(accounts(&(nothing + "# EOF\n")).gone(), "");
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        for (series, count, said) in [
            (
                "sipobs_capture_frames_seen_total{hook=\"xdp\"}",
                101,
                "kernel: seen by xdp: 1 in none of its parts",
            ),
            ("sipobs_capture_frames_in_ring", 1, "kernel: matched: 2 in none of its parts"),
            (
                "sipobs_capture_cpu_frames_lost_total{cpu=\"1\",reason=\"ring_full\"}",
                4,
                "kernel: matched, lost, by error and CPU: its parts are 2 too many",
            ),
            ("sipobs_frames_buffered", 3, "engine: frames read: 1 in none of its parts"),
            (
                "sipobs_unused_total{stage=\"packet\",reason=\"ip_header\"",
                0,
                "engine: frames read, malformed: 2 in none of its parts",
            ),
            ("sipobs_messages_understood_total", 26, "engine: messages: its parts are 1 too many"),
            ("sipobs_otlp_spans_waiting", 0, "spans: ended: 3 in none of its parts"),
            (
                "sipobs_outputs_written_total{sink=\"jsonl\"}",
                4,
                "records: given to jsonl: 1 in none of its parts",
            ),
        ] {
            assert_eq!(residuals_with(series, count), [said], "{series}");
        }
        let truncated = residuals_with("sipobs_capture_frames_truncated_total{hook=\"xdp\"}", 90);
        assert_eq!(truncated.len(), 1, "more cut than delivered: {truncated:?}");
        let lost = residuals_with("sipobs_capture_frames_lost_total{hook=\"xdp\",reason=\"ring_full\"}", 0);
        assert_eq!(lost.len(), 3, "of the hook, of all, and by CPU: {lost:?}");
    }

    #[test]
    fn a_family_that_is_missing_is_named() {
        let text = METRICS.replace("sipobs_capture_frames_in_ring", "sipobs_of_old");
        let error = Accounts::of(&Exposition::parse(&text).unwrap()).unwrap_err();
        assert_eq!(error, ExpositionError::Missing("sipobs_capture_frames_in_ring"));
    }

    #[test]
    fn counts_beyond_all_counting_are_told() {
        for family in ["sipobs_capture_cpu_frames_lost_total", "sipobs_unused_total"] {
            let labels = |n| format!("cpu=\"{n}\",reason=\"ring_full\",fate=\"capped\"");
            let line = |n| format!("{family}{{{}}} 9007199254740992\n", labels(n));
            let lines: String = (100..2148).map(line).collect();
            let text = METRICS.replace("# EOF", &format!("{lines}# EOF"));
            let error = Accounts::of(&Exposition::parse(&text).unwrap()).unwrap_err();
            assert_eq!(error, ExpositionError::Sum(family));
        }
    }

    #[test]
    fn without_a_collector_there_is_nothing_to_account_for() {
        let lines = METRICS.lines().filter(|line| !line.contains("sipobs_otlp"));
        let text = accounts(&lines.collect::<Vec<_>>().join("\n")).to_string();
        assert!(text.contains("spans\n  none are exported: otlp.endpoint is not set\n"), "{text}");
    }

    #[test]
    fn they_are_read_at_a_glance() {
        insta::assert_snapshot!(accounts(METRICS).to_string());
    }

    /// Names change in one place and are read in another.
    #[cfg(feature = "daemon")]
    #[test]
    fn a_daemons_own_metrics_have_all_that_is_read() {
        use crate::engine::Engine;
        use crate::export::metrics::{HookCounts, Metrics, SinkCounts, Snapshot, SpanCounts};

        let metrics = Metrics::new([]);
        let hook = HookCounts {
            hook: "xdp",
            seen: 9,
            passed: vec![("other", 2)],
            matched: 7,
            delivered: 4,
            truncated: 1,
            lost: vec![("ring_full", 3)],
        };
        let spans = SpanCounts {
            made: 3,
            acknowledged: 1,
            dropped: vec![("rejected", 1)],
            waiting: 1,
            failed_requests: 1,
        };
        let snapshot = Snapshot {
            hooks: vec![hook],
            lost_by_cpu: vec![(0, vec![("ring_full", 3)])],
            in_rings: 4,
            engine: Some(Engine::default().counters()),
            spans: Some(spans),
            sinks: vec![SinkCounts { sink: "jsonl", taken: 6, written: 1, dropped: 2, waiting: 3 }],
            ..Snapshot::default()
        };
        metrics.publish(snapshot.clone());
        assert_eq!(accounts(&metrics.text()).residuals(), []);
        metrics.publish(Snapshot { in_rings: 3, ..snapshot });
        assert_eq!(accounts(&metrics.text()).residuals().len(), 1);
    }
}
