//! Files of `deploy/` that are made from others.

use std::fs;

use anyhow::{Context, Result, bail};

use super::{dashboards, rules};

/// Writes what is made from other files, or, with `check`, says what differs from it.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut stale = Vec::new();
    let rule = std::iter::once(rules::prometheus_rule()?);
    for (path, text) in rule.chain(dashboards::generated()?) {
        let shown = path.strip_prefix(crate::root()).unwrap_or(&path).display().to_string();
        if fs::read_to_string(&path).is_ok_and(|held| held == text) {
            continue;
        }
        if check {
            stale.push(shown);
        } else {
            fs::write(&path, text).with_context(|| shown.clone())?;
            println!("{shown}");
        }
    }
    if !stale.is_empty() {
        bail!("not what its source makes of it: {}; run cargo xtask generate", stale.join(", "));
    }
    Ok(())
}
