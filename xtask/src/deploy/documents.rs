//! The documentation: its links lead somewhere, and the metrics that it names are served.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::root;

/// Documents outside of `docs`.
const OTHERS: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "RELEASING.md"];

pub(crate) fn check() -> Result<()> {
    let contract = fs::read_to_string(root().join("docs/metrics.md"))?;
    let served: BTreeSet<&str> =
        contract.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    ensure!(served.len() > 40, "docs/metrics.md names {} metrics only", served.len());
    let documents = fs::read_dir(root().join("docs"))?.map(|file| Ok(file?.path()));
    let documents: Result<Vec<PathBuf>> =
        documents.chain(OTHERS.iter().map(|name| Ok(root().join(name)))).collect();
    for document in documents?.iter().filter(|path| path.extension().is_some_and(|it| it == "md")) {
        let text = fs::read_to_string(document)?;
        let name = document.strip_prefix(root()).unwrap_or(document).display();
        for target in links(&text) {
            leads_somewhere(document, target).with_context(|| format!("{name}: {target}"))?;
        }
        for metric in metrics(&text) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
            let is_served = served.contains(metric) || base.is_some_and(|base| served.contains(base));
            ensure!(is_served, "{name}: {metric} is not among docs/metrics.md");
        }
    }
    Ok(())
}

/// Where the links of a text lead, but for those to other hosts.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|target| !target.contains("://"))
}

fn leads_somewhere(document: &Path, target: &str) -> Result<()> {
    let (path, section) = target.split_once('#').unwrap_or((target, ""));
    let folder = document.parent().context("no folder")?;
    let file = if path.is_empty() { document.to_owned() } else { folder.join(path) };
    ensure!(file.exists(), "leads nowhere");
    if section.is_empty() {
        return Ok(());
    }
    let text = fs::read_to_string(&file)?;
    let anchors: Vec<String> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    ensure!(anchors.iter().any(|it| it == section), "there is no such section");
    Ok(())
}

/// A heading's anchor, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Names of metrics: those of samples, which have more than one word behind `sipobs_`.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words
        .filter(|word| word.starts_with("sipobs_") && word.matches('_').count() > 1 && !word.ends_with('_'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_metrics_are_found() {
        let text = "[a](docs/a.md) [b](https://x.example) ![c](d.png) [e](#how-it-works)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md", "d.png", "#how-it-works"]);
        assert_eq!(anchor("## `[log]`: What, it says"), "log-what-it-says");
        let found = metrics("`sipobs_otlp_spans_total{a}` sipobs_ SIPOBS_X sipobs_x");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["sipobs_otlp_spans_total"]);
    }
}
