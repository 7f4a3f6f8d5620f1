//! Whether this machine can capture.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use sipobs::capture::Config;
use sipobs::capture::live::{How, Outlook, outlook, probe, rehearse};

use crate::cli::{Exit, Failure, written};

pub(super) fn check(config: &Config) -> Result<Exit, Failure> {
    let machine = probe().map_err(|error| Failure { exit: Exit::Capture, error: error.into() })?;
    let mut text = machine.to_string();
    let mut problems = Vec::new();
    match rehearse(config) {
        Ok(rings) => {
            // A String takes everything.
            let _ = writeln!(text, "programs\n  yes all load\nrings\n  yes {rings}");
        }
        Err(error) => problems.push(error.to_string()),
    }

    text.push_str("what would be tried, the first that the driver takes attaching\n");
    match outlook(config) {
        Ok(outlooks) => {
            if outlooks.is_empty() {
                text.push_str("  nothing\n");
                problems.push("nothing to watch: no interface fits; sipobs run would wait for one".into());
            }
            for outlook in outlooks {
                match outlook {
                    Ok(outlook) => describe(&mut text, &outlook),
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        Err(error) => problems.push(error.to_string()),
    }
    match &problems[..] {
        [] => text.push_str("\nThis machine can capture.\n"),
        problems => {
            text.push_str("\nThis machine cannot capture:\n");
            for problem in problems {
                let _ = writeln!(text, "  {problem}");
            }
        }
    }
    let printed = written(io::stdout().write_all(text.as_bytes()));
    Ok(if problems.is_empty() { printed } else { Exit::Capture })
}

fn describe(text: &mut String, outlook: &Outlook) {
    for (what, ways) in [("received", &outlook.ingress), ("sent", &outlook.egress)] {
        let _ = writeln!(text, "  {:<16} {what:<9}{}", outlook.interface.name, order(ways));
    }
    if !outlook.interface.up {
        let _ = writeln!(text, "  {:<16} is down: nothing crosses it yet", outlook.interface.name);
    }
}

/// `native XDP, else generic XDP; not tcx: …`.
fn order(ways: &[(How, Option<String>)]) -> String {
    let open: Vec<String> =
        ways.iter().filter(|(_, barred)| barred.is_none()).map(|(how, _)| how.to_string()).collect();
    let mut text = open.join(", else ");
    for (how, barred) in ways {
        if let Some(reason) = barred {
            let _ = write!(text, "; not {how}: {reason}");
        }
    }
    text
}
