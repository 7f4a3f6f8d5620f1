//! sipobs as it is watched: a real Prometheus with our rules scrapes it, and a real Alertmanager is told.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::dashboards::{self, Question};
use super::rules;
use crate::children::{Running, wait_for};
use crate::collector::Collector;
use crate::daemon::{Daemon, get};
use crate::lab::{Lab, Side};
use crate::{recording, root, setup};

const PROMETHEUS: &str = "127.0.0.1:9090";
const ALERTMANAGER: &str = "127.0.0.1:9093";
/// They start within a second or two, on a busy machine within some more.
const START_LIMIT: Duration = Duration::from_secs(30);
/// A scrape, an evaluation and a group of alerts take a second each.
const ALERT_LIMIT: Duration = Duration::from_secs(30);

/// Verdicts and records soon after a call ends: nobody waits for a NOTIFY that comes late.
pub(super) const SIPOBS: &str = "\
[timers]
after_bye = \"3s\"
ended = \"4s\"

[[trunk]]
name = \"lab\"
cidr = [\"10.77.0.0/24\"]
expect = \"refer\"
";

/// Replays calls of which some are transferred by a second leg on a trunk that should see REFERs, and waits until
/// Alertmanager has been told of that and of nothing else. Then asks Prometheus what the dashboards ask it.
pub(crate) fn run(sipobs: &Path) -> Result<()> {
    let lab = Lab::for_replay(&crate::scratch("test-monitoring")?)?;
    let config = lab.dir.join("sipobs.toml");
    fs::write(&config, SIPOBS)?;
    let _collector = Collector::start(&lab)?;
    let arguments = ["--config", &config.display().to_string(), "--otlp", Collector::GRPC];
    let daemon = Daemon::start_with(&lab, sipobs, &arguments, false)?;
    let metrics = daemon.metrics(&lab)?.text;
    rules::use_only(&metrics)?;
    check_metrics(&lab, &metrics)?;
    let alertmanager = alertmanager(&lab)?;
    let prometheus = prometheus(&lab)?;
    let switched = r#"sipobs_alerts_total{alert="method_switched",trunk="lab"}"#;
    wait_for("Prometheus scrapes sipobs", START_LIMIT, || {
        let found = query(&lab, switched).ok().filter(|series| !series.is_empty());
        if let Some(series) = &found {
            ensure!(series[0]["value"][1] == "0", "a switch before any call: {series:?}");
        }
        Ok(found)
    })
    .with_context(|| prometheus.tail(20))?;

    recording::replay(&lab, &recording::shipped())?;
    let alert = wait_for("Alertmanager is told", ALERT_LIMIT, || {
        let alerts = alerts(&lab)?;
        Ok(alerts.into_iter().find(|alert| alert["labels"]["alertname"] == "SipobsMethodSwitched"))
    })
    .with_context(|| format!("{}{}", prometheus.tail(20), alertmanager.tail(20)))?;
    for (label, wanted) in [("trunk", "lab"), ("severity", "page")] {
        ensure!(alert["labels"][label] == wanted, "the alert's {label} is {}", alert["labels"][label]);
    }
    let runbook = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
    ensure!(runbook.ends_with("#sipobsmethodswitched"), "the alert leads to {runbook:?}");
    let told: BTreeSet<String> =
        alerts(&lab)?.iter().map(|it| it["labels"]["alertname"].to_string()).collect();
    ensure!(told.len() == 1, "Alertmanager was told of more than the switch: {told:?}");
    dashboards_show(&lab)?;
    daemon.stop()?;
    Ok(())
}

/// Prometheus's own linter has nothing to say of names, types and help texts.
fn check_metrics(lab: &Lab, metrics: &str) -> Result<()> {
    let file = lab.dir.join("metrics.txt");
    fs::write(&file, metrics)?;
    let mut promtool = Command::new(setup::find("promtool").context("no promtool")?);
    let said = promtool.args(["check", "metrics"]).stdin(File::open(&file)?).output().context("promtool")?;
    let complaints = [said.stdout, said.stderr].concat();
    ensure!(
        said.status.success() && complaints.is_empty(),
        "promtool check metrics: {}",
        String::from_utf8_lossy(&complaints)
    );
    Ok(())
}

/// Whatever the dashboards ask has an answer with a number in it.
fn dashboards_show(lab: &Lab) -> Result<()> {
    let questions = dashboards::questions()?;
    ensure!(questions.len() > 50, "the dashboards ask {} questions only", questions.len());
    for Question { from, promql } in &questions {
        let number = |series: &Value| series["value"][1].as_str().is_some_and(|value| value != "NaN");
        let series = query(lab, promql).with_context(|| from.clone())?;
        ensure!(series.iter().any(number), "{from}: no answer to {promql}: {series:?}");
    }
    println!("   {} queries of the dashboards were answered", questions.len());
    Ok(())
}

fn prometheus(lab: &Lab) -> Result<Running> {
    let config = lab.dir.join("prometheus.yaml");
    let rules = root().join("deploy/prometheus/sipobs.rules.yaml");
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{}]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{ALERTMANAGER}']}}]}}]}}\n\
         scrape_configs:\n\
         - {{job_name: sipobs, static_configs: [{{targets: ['{}']}}]}}\n",
        rules.display(),
        crate::daemon::METRICS,
    );
    fs::write(&config, text)?;
    let mut command = lab.inside(Side::Agent, setup::find("prometheus").context("no prometheus")?);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", lab.dir.join("prometheus").display()));
    command.args([&format!("--web.listen-address={PROMETHEUS}"), "--log.level=warn"]);
    Running::start("prometheus", command, &lab.dir.join("prometheus.log"))
}

fn alertmanager(lab: &Lab) -> Result<Running> {
    let config = lab.dir.join("alertmanager.yaml");
    fs::write(&config, "route: {receiver: nobody, group_wait: 0s}\nreceivers: [{name: nobody}]\n")?;
    let program = setup::find("prometheus-alertmanager").context("no prometheus-alertmanager")?;
    let mut command = lab.inside(Side::Agent, program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.path={}", lab.dir.join("alertmanager").display()));
    // One alone, without peers.
    command.args([&format!("--web.listen-address={ALERTMANAGER}"), "--cluster.listen-address="]);
    Running::start("alertmanager", command, &lab.dir.join("alertmanager.log"))
}

/// What Alertmanager has been told.
fn alerts(lab: &Lab) -> Result<Vec<Value>> {
    let (status, body) = get(lab, ALERTMANAGER, "/api/v2/alerts")?;
    ensure!(status == 200, "Alertmanager answers {status}: {body}");
    Ok(serde_json::from_str(&body)?)
}

/// The series that Prometheus finds for `promql` at this moment.
fn query(lab: &Lab, promql: &str) -> Result<Vec<Value>> {
    let (status, body) = get(lab, PROMETHEUS, &format!("/api/v1/query?query={}", encoded(promql)))?;
    ensure!(status == 200, "{promql}: Prometheus answers {status}: {body}");
    let answer: Value = serde_json::from_str(&body)?;
    Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
}

/// For a URL's query (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}
