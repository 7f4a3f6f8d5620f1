//! The runbooks: each alert has one, and their commands do what they say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::monitoring;
use crate::children::output;
use crate::daemon::json_lines;
use crate::{recording, root};

/// Where the rules say that the runbooks are, as long as nobody says otherwise.
pub(super) const RUNBOOKS: &str = "https://example.invalid/sipobs/blob/main/docs/runbooks.md";

/// Each alert's `runbook_url` leads to a section of the runbooks, and each section has its alert.
pub(super) fn check(alerts: &[(String, Value)]) -> Result<()> {
    let text = fs::read_to_string(root().join("docs/runbooks.md"))?;
    let sections: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let cargo = fs::read_to_string(root().join("Cargo.toml"))?;
    let repository = cargo
        .lines()
        .find_map(|line| line.strip_prefix("repository = \"")?.strip_suffix('"'))
        .context("Cargo.toml names no repository")?;
    ensure!(RUNBOOKS.starts_with(repository), "the runbooks are not in {repository}");
    for (name, annotations) in alerts {
        let wanted = format!("{RUNBOOKS}#{}", name.to_lowercase());
        ensure!(annotations["runbook_url"] == wanted, "{name}: its runbook_url should be {wanted}");
        ensure!(sections.contains(name.as_str()), "docs/runbooks.md has no section {name}");
    }
    let names: BTreeSet<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    let strays: Vec<_> = sections.difference(&names).collect();
    ensure!(strays.is_empty(), "docs/runbooks.md has sections of no alert: {strays:?}");
    Ok(())
}

/// Every command that asks the records runs on those of the shipped capture, and asks for fields that they have.
pub(crate) fn commands(sipobs: &Path) -> Result<()> {
    let folder = crate::scratch("runbooks")?;
    let (config, records) = (folder.join("sipobs.toml"), folder.join("records.jsonl"));
    fs::write(&config, monitoring::SIPOBS)?;
    let mut read = Command::new(sipobs);
    read.args(["pcap", "--format", "jsonl", "--config"]).arg(&config).arg(recording::shipped());
    let lines = output(&mut read)?;
    fs::write(&records, &lines)?;
    let mut fields = BTreeSet::new();
    json_lines(&lines)?.iter().for_each(|line| collect_fields(line, &mut fields));

    let text = fs::read_to_string(root().join("docs/runbooks.md"))?;
    let commands: Vec<&str> = text.lines().filter(|line| line.starts_with("records |")).collect();
    ensure!(commands.len() > 5, "{} commands only", commands.len());
    for command in commands {
        // What is behind the filter only counts or cuts.
        let (asked, _) = command.rsplit_once('\'').with_context(|| format!("no filter: {command}"))?;
        let script = format!("records() {{ cat '{}'; }}\n{asked}' >/dev/null", records.display());
        output(Command::new("sh").args(["-c", &script])).with_context(|| command.to_owned())?;
        let filter = asked.split('\'').nth(1).with_context(|| format!("no filter: {command}"))?;
        for word in filter.split('.').skip(1) {
            let field: String = word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            ensure!(field.is_empty() || fields.contains(&field), "{command}: no record has {field:?}");
        }
    }
    Ok(())
}

fn collect_fields(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                fields.insert(name.clone());
                collect_fields(value, fields);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_fields(value, fields)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether `url` leads to a section of the runbooks.
pub(super) fn has_runbook(url: &str) -> Result<bool> {
    let text = fs::read_to_string(root().join("docs/runbooks.md"))?;
    let section = url.strip_prefix(RUNBOOKS).and_then(|rest| rest.strip_prefix('#'));
    let sections = text.lines().filter_map(|line| line.strip_prefix("## "));
    Ok(section.is_some_and(|wanted| sections.map(str::to_lowercase).any(|section| section == wanted)))
}
