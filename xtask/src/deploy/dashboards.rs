//! The Grafana dashboards: written by their generator, without a loose end, and asked of a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::runbooks;
use crate::children::output;
use crate::{root, setup};

/// What a dashboard asks of Prometheus.
#[derive(Debug)]
pub(super) struct Question {
    /// Dashboard and panel.
    pub(super) from: String,
    /// With every variable of Grafana's filled in.
    pub(super) promql: String,
}

/// The dashboards as their generator writes them.
pub(super) fn generated() -> Result<Vec<(PathBuf, String)>> {
    let folder = crate::scratch("dashboards")?;
    let mut generator = Command::new(setup::python_program("python"));
    output(generator.arg(root().join("deploy/grafana/dashboards.py")).arg(&folder))?;
    let mut made = Vec::new();
    for file in fs::read_dir(&folder)? {
        let file = file?;
        made.push((dir().join(file.file_name()), fs::read_to_string(file.path())?));
    }
    made.sort();
    ensure!(!made.is_empty(), "no dashboard was written");
    Ok(made)
}

/// Panels and queries have names of their own, links lead somewhere, and the kustomization has every dashboard.
pub(crate) fn check() -> Result<()> {
    let kustomization = fs::read_to_string(root().join("deploy/grafana/kustomization.yaml"))?;
    for board in boards()? {
        let uid = board["uid"].as_str().context("a dashboard without uid")?;
        ensure!(kustomization.contains(&format!("dashboards/{uid}.json")), "the kustomization lacks {uid}");
        let mut ids = BTreeSet::new();
        for panel in panels(&board) {
            let title = panel["title"].as_str().filter(|title| !title.is_empty());
            let title = title.with_context(|| format!("{uid}: a panel without a title"))?;
            ensure!(ids.insert(panel["id"].as_u64()), "{uid}: {title}: its id is another panel's");
            let mut letters = BTreeSet::new();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let letter = target["refId"].as_str().unwrap_or_default();
                ensure!(
                    !letter.is_empty() && letters.insert(letter),
                    "{uid}: {title}: two queries {letter:?}"
                );
                let source = &target["datasource"]["uid"];
                ensure!(source == "${metrics}", "{uid}: {title}: a query of {source}");
            }
            ensure!(panel["type"] == "row" || !letters.is_empty(), "{uid}: {title}: no query");
            for link in panel["links"].as_array().into_iter().flatten() {
                let url = link["url"].as_str().unwrap_or_default();
                ensure!(runbooks::has_runbook(url)?, "{uid}: {title}: {url} is no runbook");
            }
        }
    }
    Ok(())
}

/// Everything that the dashboards ask: panels, annotations, and the values of variables.
pub(super) fn questions() -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for board in boards()? {
        let uid = board["uid"].as_str().unwrap_or_default();
        let mut ask = |of: &str, promql: &str| {
            questions.push(Question { from: format!("{uid}: {of}"), promql: filled_in(promql) });
        };
        for panel in panels(&board) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                ask(
                    panel["title"].as_str().unwrap_or_default(),
                    target["expr"].as_str().context("a query of nothing")?,
                );
            }
        }
        for annotation in board["annotations"]["list"].as_array().into_iter().flatten() {
            ask("annotation", annotation["expr"].as_str().context("an annotation of nothing")?);
        }
        for variable in board["templating"]["list"].as_array().into_iter().flatten() {
            let query = variable["query"].as_str().unwrap_or_default();
            if let Some(values) = query.strip_prefix("label_values(") {
                let (metric, label) =
                    values.trim_end_matches(')').split_once(", ").with_context(|| query.to_owned())?;
                ask("variable", &format!("count by ({label}) ({metric}{{{label}!=\"\"}})"));
            }
        }
    }
    Ok(questions)
}

/// Grafana's variables, as it fills them in for a moment ago and all trunks and nodes.
fn filled_in(promql: &str) -> String {
    let mut promql = promql.to_owned();
    for (variable, value) in [
        ("$__rate_interval", "30s"),
        ("$__interval", "30s"),
        ("$__range", "1m"),
        ("$trunk", ".*"),
        ("$instance", ".*"),
    ] {
        promql = promql.replace(variable, value);
    }
    promql
}

fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    board["panels"].as_array().into_iter().flatten()
}

fn boards() -> Result<Vec<Value>> {
    let mut boards = Vec::new();
    for file in fs::read_dir(dir())? {
        let path = file?.path();
        let text = fs::read_to_string(&path)?;
        boards.push(serde_json::from_str(&text).with_context(|| path.display().to_string())?);
    }
    ensure!(!boards.is_empty(), "there are no dashboards");
    Ok(boards)
}

fn dir() -> PathBuf {
    root().join("deploy/grafana/dashboards")
}
