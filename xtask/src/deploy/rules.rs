//! The alert rules: one file, what is made from it, and the runbook that each alert leads to.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{LIMIT, runbooks, yaml};
use crate::children::run;
use crate::root;

const RULES: &str = "sipobs.rules.yaml";
/// What holds for days is tested in steps of 10 minutes, the rest in steps of one.
const TESTS: [&str; 2] = ["days.test.yaml", "alerts.test.yaml"];

/// The rules are well formed; each alert fires where it should and nowhere else, and leads to its runbook.
pub(crate) fn check() -> Result<()> {
    let dir = dir();
    run(Command::new("promtool").args(["check", "rules", RULES]).current_dir(&dir), LIMIT)?;
    let alerts = alerts()?;
    ensure!(alerts.len() > 10, "{} alerts only", alerts.len());
    tested(&alerts)?;
    runbooks::check(&alerts)?;
    for tests in TESTS {
        run(Command::new("promtool").args(["test", "rules", tests]).current_dir(&dir), LIMIT)?;
    }
    Ok(())
}

/// Every metric that the rules use is one that `exported` (a scrape of the real daemon) holds.
pub(crate) fn use_only(exported: &str) -> Result<()> {
    let rules = fs::read_to_string(dir().join(RULES))?;
    let used = metrics_in(&rules);
    ensure!(!used.is_empty(), "the rules use no metric of sipobs");
    for name in used {
        let sample = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        ensure!(exported.lines().any(sample), "the rules use {name}, which the daemon does not export");
    }
    Ok(())
}

/// The rules as prometheus-operator takes them.
pub(super) fn prometheus_rule() -> Result<(PathBuf, String)> {
    let rules = fs::read_to_string(dir().join(RULES))?;
    let at = rules.find("groups:\n").context("the rules have no groups")?;
    let mut text = format!(
        "# Made from {RULES} by cargo xtask generate.\n\
         apiVersion: monitoring.coreos.com/v1\n\
         kind: PrometheusRule\n\
         metadata:\n  name: sipobs\n  namespace: sipobs\n  labels:\n    app.kubernetes.io/name: sipobs\n\
         spec:\n"
    );
    for line in rules[at..].lines() {
        if !line.is_empty() {
            text.push_str("  ");
            text.push_str(line);
        }
        text.push('\n');
    }
    Ok((dir().join("prometheusrule.yaml"), text))
}

fn dir() -> PathBuf {
    root().join("deploy/prometheus")
}

/// Each alert's name and annotations.
fn alerts() -> Result<Vec<(String, Value)>> {
    let rules = yaml(&dir().join(RULES))?.swap_remove(0);
    let groups = rules["groups"].as_array().context("the rules have no groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    Ok(rules
        .filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule["annotations"].clone())))
        .collect())
}

/// Each alert has a test in which it fires, and one in which it does not.
fn tested(alerts: &[(String, Value)]) -> Result<()> {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in TESTS {
        let file = yaml(&dir().join(file))?.swap_remove(0);
        for test in file["tests"].as_array().into_iter().flatten() {
            for check in test["alert_rule_test"].as_array().into_iter().flatten() {
                let name = check["alertname"].as_str().unwrap_or_default().to_owned();
                let expected = check["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
                if expected { &mut fires } else { &mut silent }.insert(name);
            }
        }
    }
    for (name, _) in alerts {
        ensure!(fires.contains(name), "{name}: there is no test in which it fires");
        ensure!(silent.contains(name), "{name}: there is no test in which it is silent");
    }
    Ok(())
}

/// Names of metrics of sipobs in rules, as they are exported.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with("sipobs_"))
        .collect()
}
