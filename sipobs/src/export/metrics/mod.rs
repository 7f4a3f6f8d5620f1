//! What Prometheus sees: outputs counted as they come, and the counters of every stage as of the scrape.
//!
//! Every series of a configured trunk is there from the start, at 0: a counter that is born at 1 is invisible
//! to `increase()`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use strum::VariantNames;

use crate::record::{AlertKind, Fault, Kind, Method, Outcome, Output, ReferAbsent, Side};

mod plain;
mod serve;
mod snapshot;

pub use serve::{Access, AccessError, Health, ServeError, serve};
pub use snapshot::{Attached, HookCounts, SinkCounts, Snapshot, SpanCounts};

type Labels = Vec<(&'static str, String)>;

/// The registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    attempts: Family<Labels, Counter>,
    faults: Family<Labels, Counter>,
    ended: Family<Labels, Counter>,
    alerts: Family<Labels, Counter>,
    /// Connections to the server that had to make way for others.
    pushed_out: Counter,
    snapshot: Arc<Mutex<Snapshot>>,
}

/// What stands for the end that ended a call where none did.
const NOBODY: &str = "none";

impl Metrics {
    /// A registry with every series of `trunks` at 0.
    pub fn new<'a>(trunks: impl IntoIterator<Item = &'a str>) -> Self {
        let mut registry = Registry::with_prefix("sipobs");
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
        let alerts = family("alerts", "Alerts raised");
        let pushed_out = Counter::default();
        let help = "Connections to this server that were closed to make room for others";
        registry.register("http_connections_pushed_out", help, pushed_out.clone());
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        registry.register_collector(Box::new(snapshot::Collected(Arc::clone(&snapshot))));

        let metrics = Self { registry, attempts, faults, ended, alerts, pushed_out, snapshot };
        metrics.trunks(trunks);
        metrics
    }

    /// Makes every series of `trunks`, at 0 if it is new.
    pub fn trunks<'a>(&self, trunks: impl IntoIterator<Item = &'a str>) {
        let Self { attempts, faults, ended, alerts, .. } = self;
        for trunk in trunks {
            for &outcome in Outcome::ALL {
                for &method in Method::ALL {
                    for &kind in Kind::ALL {
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
        }
    }

    /// Counts one output.
    pub fn output(&self, output: &Output) {
        match output {
            Output::Notice(_) => {}
            Output::Transfer(attempt) => {
                let labels = attempt_labels(&attempt.trunk, attempt.method, attempt.kind, attempt.outcome);
                self.attempts.get_or_create(&labels).inc();
                self.faults.get_or_create(&fault_labels(&attempt.trunk, attempt.fault)).inc();
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
            metrics.output(&output);
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
            attached: vec![Attached { interface: "eth0".into(), how: "xdp_native" }],
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
            r#"sipobs_capture_cpu_frames_lost_total{cpu="1",reason="ring_full"} 1"#,
            "sipobs_capture_frames_read_total 4",
            "sipobs_capture_frames_in_ring 1.0",
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
