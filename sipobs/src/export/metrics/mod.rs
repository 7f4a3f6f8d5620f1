//! What Prometheus sees: outputs counted as they come, and the counters of every stage as of the scrape.
//!
//! Every series of a configured trunk is there from the start, at 0: a counter that is born at 1 is invisible
//! to `increase()`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use strum::VariantNames;

use crate::record::{AlertKind, Attempt, Fault, Kind, Method, Outcome, Output, ReferAbsent, Side};
use crate::timestamp::Timestamp;

#[cfg(test)]
mod contract;
mod hep;
mod plain;
#[cfg(target_os = "linux")]
mod process;
mod serve;
mod snapshot;

pub use hep::HepCounts;
pub use serve::{Access, AccessError, Health, ServeError, serve};
pub use snapshot::{Attached, HookCounts, RecorderCounts, SinkCounts, Snapshot, SpanCounts, TrunkSeen};

type Labels = Vec<(&'static str, String)>;
type Times = Family<Labels, HistogramWithExemplars<Labels>, Buckets>;

/// Upper ends of buckets, in seconds.
#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<HistogramWithExemplars<Labels>> for Buckets {
    fn new_metric(&self) -> HistogramWithExemplars<Labels> {
        HistogramWithExemplars::new(self.0.iter().copied())
    }
}

/// From what an attempt begins with: ringing as people ring, and timer C's three minutes.
const TELEPHONE: Buckets =
    Buckets(&[0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0]);
/// From what decided to the verdict: at once, after the grace of a second, or when a late NOTIFY's time is over.
const DELAY: Buckets = Buckets(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 200.0]);

/// The registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    attempts: Family<Labels, Counter>,
    faults: Family<Labels, Counter>,
    ended: Family<Labels, Counter>,
    alerts: Family<Labels, Counter>,
    ringing: Times,
    answer: Times,
    duration: Times,
    delay: Times,
    /// Connections to the server that had to make way for others.
    pushed_out: Counter,
    /// Verdicts that made way on the page.
    removed: Removed,
    snapshot: Arc<Mutex<Snapshot>>,
}

/// Verdicts that made way on the page for newer ones.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// As there were too many.
    pub by_count: Counter,
    /// As they took up too much.
    pub by_bytes: Counter,
}

/// What stands for the end that ended a call where none did.
const NOBODY: &str = "none";

impl Metrics {
    /// A registry with every series of `trunks` at 0.
    pub fn new<'a>(trunks: impl IntoIterator<Item = &'a str>) -> Self {
        let mut whole = Registry::default();
        #[cfg(target_os = "linux")]
        if let Ok(process) = process::Process::new() {
            whole.register_collector(Box::new(process));
        }
        let registry = whole.sub_registry_with_prefix("sipobs");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        let mut family = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let attempts = family("transfer_attempts", "Settled transfer attempts");
        let faults = family("transfer_faults", "Settled transfer attempts by whose fault the outcome is");
        let ended = family("calls_ended", "Ended calls, and whether a REFER was absent");
        let alerts = family("alerts", "Alerts that the daemon has raised itself");
        let mut times = |name: &str, help: &str, buckets: Buckets| {
            let family = Times::new_with_constructor(buckets);
            registry.register(name, help, family.clone());
            family
        };
        let ringing = times(
            "transfer_ringing_seconds",
            "From a transfer's INVITE to the first ringing (18x), where both were seen",
            TELEPHONE,
        );
        let answer = times(
            "transfer_answer_seconds",
            "From a transfer's INVITE to its final answer, where both were seen",
            TELEPHONE,
        );
        let duration = times(
            "transfer_duration_seconds",
            "From a transfer attempt's first message to what decided it",
            TELEPHONE,
        );
        let delay = times(
            "transfer_verdict_delay_seconds",
            "From what decided a transfer attempt to its verdict, which waits until nothing can change it",
            DELAY,
        );
        let pushed_out = Counter::default();
        let help = "Connections to this server that were closed to make room for others";
        registry.register("http_connections_pushed_out", help, pushed_out.clone());
        let removed = Family::<Labels, Counter>::default();
        let help = "Verdicts that made way on the page for newer ones, as it keeps so many, or so many bytes of them";
        registry.register("page_verdicts_removed", help, removed.clone());
        let by = |reason: &'static str| removed.get_or_create(&vec![("reason", reason.to_owned())]).clone();
        let removed = Removed { by_count: by("count"), by_bytes: by("bytes") };
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        registry.register_collector(Box::new(snapshot::Collected(Arc::clone(&snapshot))));

        let metrics = Self {
            registry: whole,
            attempts,
            faults,
            ended,
            alerts,
            ringing,
            answer,
            duration,
            delay,
            pushed_out,
            removed,
            snapshot,
        };
        metrics.trunks(trunks);
        metrics
    }

    /// Counts verdicts that make way on the page.
    pub fn page_removed(&self) -> Removed {
        self.removed.clone()
    }

    /// Makes every series of `trunks`, at 0 if it is new.
    pub fn trunks<'a>(&self, trunks: impl IntoIterator<Item = &'a str>) {
        let Self { attempts, faults, ended, alerts, .. } = self;
        for trunk in trunks {
            for &outcome in Outcome::ALL {
                for &method in Method::ALL {
                    for &kind in Kind::ALL.iter().filter(|kind| can_occur(method, **kind, outcome)) {
                        let _ = attempts.get_or_create(&attempt_labels(trunk, method, kind, outcome));
                    }
                }
            }
            for &fault in Fault::ALL {
                let _ = faults.get_or_create(&fault_labels(trunk, fault));
            }
            for ended_by in Side::ALL.iter().copied().map(Some).chain([None]) {
                for absent in ReferAbsent::VARIANTS {
                    let _ = ended.get_or_create(&call_labels(trunk, ended_by, absent));
                }
            }
            for &alert in AlertKind::ALL {
                let _ = alerts.get_or_create(&alert_labels(trunk, alert));
            }
            for times in [&self.ringing, &self.answer, &self.duration, &self.delay] {
                let _ = times.get_or_create(&trunk_labels(trunk));
            }
        }
    }

    /// Counts one output, said at `now`; without, at the end of all, when nothing was waited for.
    pub fn output(&self, output: &Output, now: Option<Timestamp>) {
        match output {
            Output::Notice(_) => {}
            Output::Transfer(attempt) => {
                let labels = attempt_labels(&attempt.trunk, attempt.method, attempt.kind, attempt.outcome);
                self.attempts.get_or_create(&labels).inc();
                self.faults.get_or_create(&fault_labels(&attempt.trunk, attempt.fault)).inc();
                self.times(attempt, now);
            }
            Output::Call(call) => {
                let labels = call_labels(&call.trunk, call.ended_by, (&call.refer_absent).into());
                self.ended.get_or_create(&labels).inc();
            }
            Output::Alert(alert) => {
                self.alerts.get_or_create(&alert_labels(&alert.trunk, alert.alert)).inc();
            }
        }
    }

    /// How long an attempt's parts took, each with its trace as the exemplar.
    fn times(&self, attempt: &Attempt, now: Option<Timestamp>) {
        let labels = trunk_labels(&attempt.trunk);
        let observe = |times: &Times, seconds: f64| {
            let trace = attempt.trace_id.clone().map(|id| vec![("trace_id", id)]);
            times.get_or_create(&labels).observe(seconds, trace, None);
        };
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of a call")]
        let from_millis = |millis: i64| millis.max(0) as f64 / 1e3;
        if let Some(millis) = attempt.ringing_ms {
            observe(&self.ringing, from_millis(millis));
        }
        if let Some(millis) = attempt.answer_ms {
            observe(&self.answer, from_millis(millis));
        }
        observe(&self.duration, from_millis(attempt.duration_ms));
        if let Some(now) = now {
            observe(&self.delay, now.since(attempt.ended).as_secs_f64());
        }
    }

    /// The counters of the stages as they stand.
    pub fn publish(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    /// A scrape, as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// Whether an attempt can end so. What can't has no series that says 0 for ever.
fn can_occur(method: Method, kind: Kind, outcome: Outcome) -> bool {
    let by_refer = method == Method::Refer;
    let kind_fits = match method {
        Method::Refer | Method::Invite | Method::ReferBye => true,
        Method::Redirect | Method::Also => kind == Kind::Blind,
    };
    kind_fits
        && match outcome {
            Outcome::ReferUnanswered | Outcome::NotifyTimeout | Outcome::Superseded => by_refer,
            Outcome::Redirected => method == Method::Redirect,
            Outcome::Succeeded
            | Outcome::Busy
            | Outcome::NoAnswer
            | Outcome::Declined
            | Outcome::Forbidden
            | Outcome::NotFound
            | Outcome::Media
            | Outcome::NetworkFailure
            | Outcome::ReferRefused
            | Outcome::AuthFailed
            | Outcome::DialogGone
            | Outcome::Abandoned
            | Outcome::Unknown => true,
        }
}

fn trunk_labels(trunk: &str) -> Labels {
    vec![("trunk", trunk.to_owned())]
}

fn attempt_labels(trunk: &str, method: Method, kind: Kind, outcome: Outcome) -> Labels {
    vec![
        ("trunk", trunk.to_owned()),
        ("method", method.to_string()),
        ("type", kind.to_string()),
        ("outcome", outcome.to_string()),
    ]
}

fn fault_labels(trunk: &str, fault: Fault) -> Labels {
    vec![("trunk", trunk.to_owned()), ("fault", fault.to_string())]
}

fn call_labels(trunk: &str, ended_by: Option<Side>, refer_absent: &str) -> Labels {
    vec![
        ("trunk", trunk.to_owned()),
        ("ended_by", ended_by.map_or(NOBODY, Side::as_str).to_owned()),
        ("refer_absent", refer_absent.to_owned()),
    ]
}

fn alert_labels(trunk: &str, alert: AlertKind) -> Labels {
    vec![("trunk", trunk.to_owned()), ("alert", alert.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::export::samples;

    #[test]
    fn series_are_there_before_anything_happens() {
        let text = Metrics::new(["twilio", "other"]).text();
        for series in [
            r#"sipobs_transfer_attempts_total{trunk="twilio",method="refer",type="blind",outcome="busy"} 0"#,
            r#"sipobs_calls_ended_total{trunk="other",ended_by="caller",refer_absent="fact"} 0"#,
            r#"sipobs_alerts_total{trunk="twilio",alert="refer_ratio"} 0"#,
            r#"sipobs_transfer_attempts_total{trunk="other",method="refer_bye",type="blind",outcome="unknown"} 0"#,
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn counts_of_the_stages_are_there_before_anything_is_counted() {
        let metrics = Metrics::new([]);
        metrics.publish(Snapshot {
            engine: Some(Engine::default().counters()),
            sinks: vec![SinkCounts { sink: "jsonl", ..SinkCounts::default() }],
            ..Snapshot::default()
        });
        let text = metrics.text();
        for series in [
            r#"sipobs_outputs_dropped_total{sink="jsonl"} 0"#,
            r#"sipobs_evidence_lost_total{where="ring"} 0"#,
            r#"sipobs_evidence_lost_total{where="tcp_gaps"} 0"#,
            r#"sipobs_not_understood_total{reason="start_line"} 0"#,
            r#"sipobs_not_understood_total{reason="content_length"} 0"#,
            r#"sipobs_messages_unparsed_total{reason="method"} 0"#,
            r#"sipobs_unused_total{stage="packet",reason="ip_header",fate="malformed"} 0"#,
            r#"sipobs_evicted_total{table="calls",reason="host_share"} 0"#,
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn outputs_raise_the_series_that_were_there() {
        let metrics = Metrics::new(["twilio"]);
        let before = metrics.text().lines().count();
        for output in [Output::Transfer(Box::new(samples::busy())), samples::call(), samples::alert()] {
            metrics.output(&output, None);
        }
        let text = metrics.text();
        assert_eq!(text.lines().count(), before, "no series was born by its first event:\n{text}");
        for series in [
            r#"sipobs_transfer_attempts_total{trunk="twilio",method="refer",type="blind",outcome="busy"} 1"#,
            r#"sipobs_transfer_faults_total{trunk="twilio",fault="target"} 1"#,
            r#"sipobs_transfer_faults_total{trunk="twilio",fault="nobody"} 0"#,
            r#"sipobs_calls_ended_total{trunk="twilio",ended_by="caller",refer_absent="fact"} 1"#,
            r#"sipobs_alerts_total{trunk="twilio",alert="refer_ratio"} 1"#,
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn times_are_told_with_the_trace_they_are_of() {
        let metrics = Metrics::new(["twilio", "other"]);
        let mut attempt = samples::busy();
        attempt.trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".into());
        (attempt.ringing_ms, attempt.answer_ms) = (Some(180), Some(7_500));
        let now = attempt.ended + std::time::Duration::from_secs(3);
        metrics.output(&Output::Transfer(Box::new(attempt)), Some(now));
        let text = metrics.text();
        for line in [
            r#"sipobs_transfer_ringing_seconds_bucket{le="0.25",trunk="twilio"} 1 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.18"#,
            r#"sipobs_transfer_ringing_seconds_bucket{le="+Inf",trunk="other"} 0"#,
            r#"sipobs_transfer_answer_seconds_bucket{le="5.0",trunk="twilio"} 0"#,
            r#"sipobs_transfer_answer_seconds_bucket{le="10.0",trunk="twilio"} 1 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 7.5"#,
            r#"sipobs_transfer_duration_seconds_count{trunk="twilio"} 1"#,
            r#"sipobs_transfer_verdict_delay_seconds_sum{trunk="twilio"} 3.0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!plain::plain(&text).contains("trace_id"), "the text format has no exemplars");
    }

    #[test]
    fn there_is_a_series_for_every_attempt_of_the_golden_cases_and_for_none_that_cannot_be() {
        let labels = |method, kind, outcome| attempt_labels("t", method, kind, outcome);
        assert!(!can_occur(Method::Redirect, Kind::Attended, Outcome::Busy));
        assert!(!can_occur(Method::Invite, Kind::Blind, Outcome::NotifyTimeout));
        for case in crate::export::golden::cases() {
            for output in crate::export::golden::outputs(&case) {
                let Output::Transfer(attempt) = output else { continue };
                let (method, kind, outcome) = (attempt.method, attempt.kind, attempt.outcome);
                assert!(
                    can_occur(method, kind, outcome),
                    "{}: {:?}",
                    case.display(),
                    labels(method, kind, outcome)
                );
            }
        }
    }

    #[test]
    fn the_stages_counters_are_in_the_scrape() {
        let metrics = Metrics::new([]);
        metrics.publish(Snapshot {
            hooks: vec![HookCounts {
                hook: "xdp",
                seen: 10,
                passed: vec![("other", 3), ("keep_alive", 1)],
                matched: 6,
                delivered: 5,
                truncated: 0,
                lost: vec![("ring_full", 1)],
            }],
            attached: vec![Attached { interface: "eth0".into(), how: "xdp_native", hook: "xdp", frames: 3 }],
            lost_by_cpu: vec![(1, vec![("ring_full", 1)])],
            frames: 4,
            in_rings: 1,
            ..Snapshot::default()
        });
        let text = metrics.text();
        for series in [
            r#"sipobs_capture_frames_seen_total{hook="xdp"} 10"#,
            r#"sipobs_capture_frames_passed_total{hook="xdp",reason="keep_alive"} 1"#,
            r#"sipobs_capture_frames_delivered_total{hook="xdp"} 5"#,
            r#"sipobs_capture_frames_lost_total{hook="xdp",reason="ring_full"} 1"#,
            r#"sipobs_capture_attached{interface="eth0",how="xdp_native"} 1"#,
            r#"sipobs_capture_frames_matched_total{hook="xdp"} 6"#,
            r#"sipobs_capture_interface_frames_total{interface="eth0",hook="xdp"} 3"#,
            r#"sipobs_capture_cpu_frames_lost_total{cpu="1",reason="ring_full"} 1"#,
            "sipobs_capture_frames_read_total 4",
            "sipobs_capture_frames_in_ring 1.0",
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
