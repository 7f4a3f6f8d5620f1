//! Secrets in the configuration, in their place and in others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::subject::Plan;
use super::{END, Ground, Seen, holds};
use crate::children::output;

/// As a text and as a number, which a setting may be taken for.
const SECRETS: [&str; 2] = ["q5ecret", "5553331234"];

/// Secrets of a wrong type, in the file and in the environment; then right ones, in a file that everybody can read.
pub(super) fn hidden(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("secrets")?;
    let file = lab.dir.join("sipobs.toml");
    let name = file.display().to_string();
    let on = |text: &str| fs::write(&file, format!("[capture]\ninterfaces = [\"agent0\"]\n{text}\n"));
    let mut refused = 0;
    let mut complains = |plan: Plan<'_>, words: &[&str]| -> Result<()> {
        refused += 1;
        let said = plan.fails(2)?;
        holds(&said, words)?;
        ensure!(!shows(&said), "it shows the secret:\n{said}");
        Ok(())
    };
    for (text, field) in [
        ("[privacy]\nkey = 5553331234", "privacy.key: "),
        ("[privacy]\nkey = [\"q5ecret\"]", "privacy.key: "),
        ("[privacy]\nmask = \"hash\"\nkey = { q = \"q5ecret\" }", "privacy.key: "),
        ("[privacy]\nmask = \"q5ecret\"", "privacy.mask: unknown value, expected "),
        ("[otlp]\nheaders = \"Authorization=Bearer q5ecret\"", "otlp.headers: "),
        ("[otlp]\nheaders = [\"q5ecret\"]", "otlp.headers: "),
        ("[otlp.headers]\nAuthorization = 5553331234", "`Authorization`: "),
        ("[otlp]\nprotocol = \"http://me:q5ecret@c\"", "otlp.protocol: "),
        ("[otlp]\nendpoint = \"me:q5ecret@c:4317\"", "otlp.endpoint: "),
        ("[otlp]\nendpoint = [\"http://me:q5ecret@c\"]", "otlp.endpoint: "),
        ("[otlp]\nq = q5ecret", ":4:5: "),
    ] {
        on(text)?;
        complains(ground.plan(&lab).arguments(&["-c", &name]), &[field])?;
    }
    on("")?;
    for (variable, value) in [
        ("SIPOBS_OTLP__HEADERS", "Authorization=Bearer q5ecret"),
        ("SIPOBS_OTLP__HEADERS", "5553331234"),
        ("SIPOBS_OTLP__PROTOCOL", "q5ecret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "q5ecret"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "q5ecret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "q5ecret"),
    ] {
        complains(ground.plan(&lab).arguments(&["-c", &name]).set(variable, value), &[variable])?;
    }

    on(
        "[privacy]\nmask = \"hash\"\nkey = \"q5ecret q5ecret q5ecret\"\n[otlp.headers]\nAuthorization = \"5553331234\"",
    )?;
    for (mode, warnings) in [(0o644, 2), (0o640, 0)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        let (_, said) = ground.plan(&lab).arguments(&["-c", &name]).start()?.stop(0, END)?;
        let found = said.matches("everybody on this host can read it, and it holds a secret (").count();
        ensure!(found == warnings && !shows(&said), "mode {mode:o}: {found} warnings:\n{said}");
    }
    let shown = config(&ground.sipobs, &name)?;
    ensure!(shown.matches("(hidden)").count() == 2 && !shows(&shown), "sipobs config shows:\n{shown}");
    Ok(Seen::Passed(format!("{refused} of a wrong type refused without it; told where all can read it")))
}

fn shows(text: &str) -> bool {
    SECRETS.iter().any(|secret| text.contains(secret))
}

fn config(sipobs: &Path, file: &str) -> Result<String> {
    output(Command::new(sipobs).args(["config", "-c", file]))
}
