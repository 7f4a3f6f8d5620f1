//! What the program is made of, in CycloneDX's form.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;

use super::version;
use crate::children::output;
use crate::{root, setup};

/// Writes the bill of materials of the program with live capture, the kernel programs' included.
pub(super) fn write(dist: &Path) -> Result<()> {
    let mut parts = tree(
        "Cargo.toml",
        &["--package", "sipobs", "--no-default-features", "--features", crate::daemon::NODE],
    )?;
    parts.extend(tree("sipobs-ebpf/Cargo.toml", &[])?);
    ensure!(parts.len() > 100, "{} parts only", parts.len());
    let components: Vec<_> = parts
        .iter()
        .map(|(name, version, licence)| {
            json!({
                "type": "library",
                "name": name,
                "version": version,
                "purl": format!("pkg:cargo/{name}@{version}"),
                "licenses": [{"expression": licence}],
            })
        })
        .collect();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "sipobs", "version": version()}},
        "components": components,
    });
    let path = dist.join(format!("sipobs-{}.cdx.json", version()));
    fs::write(path, format!("{}\n", serde_json::to_string_pretty(&bill)?))?;
    Ok(())
}

/// Name, version and licence of every crate that is linked in and not our own.
fn tree(manifest: &str, options: &[&str]) -> Result<BTreeSet<(String, String, String)>> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "tree",
        "--locked",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ]);
    cargo.arg("--manifest-path").arg(root().join(manifest)).args(options).env("PATH", setup::search_path());
    let part = |line: &str| {
        let (package, licence) = line.split_once('|')?;
        // Ours stand with their folder behind the version.
        let (name, version) = package.split_once(" v").filter(|(_, rest)| !rest.contains("(/"))?;
        Some((name.to_owned(), version.to_owned(), licence.trim_end_matches(" (*)").replace('/', " OR ")))
    };
    Ok(output(&mut cargo)?.lines().filter_map(part).collect())
}
