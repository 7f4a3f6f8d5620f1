//! `sipobs check`: whether this machine can capture.

use clap::Args;
use sipobs::capture::Mode;

use super::{Exit, Failure, Settings};

const AFTER: &str = "\
Loads the programs and opens the rings as `sipobs run` would, attaches nothing,
and takes all down again. Run it as the user that will capture: it names each
capability that is missing.

Examples:
  sudo sipobs check                        every interface that is up
  sudo sipobs check -i eth0 --mode tc
  sudo sipobs check -c /etc/sipobs/sipobs.toml";

/// Say whether this machine can capture, what would attach, and why not
#[derive(Debug, Args)]
#[command(after_help = format!("{AFTER}\n\n{}", super::EXIT_CODES))]
pub(super) struct Check {
    /// Interfaces to look at; those of the configuration, else all that are up, if none is given
    #[arg(long, short = 'i', value_name = "NAME")]
    interface: Vec<String>,
    /// How received packets are to be seen
    #[arg(long, value_name = "HOW", value_enum)]
    mode: Option<Mode>,
    #[command(flatten)]
    settings: Settings,
}

#[cfg(not(all(feature = "live", target_os = "linux")))]
pub(super) fn check(args: &Check) -> Result<Exit, Failure> {
    let _ = (&args.interface, args.mode);
    args.settings.resolve().map_err(Failure::usage)?;
    Err(super::run::without_live())
}

#[cfg(all(feature = "live", target_os = "linux"))]
pub(super) fn check(args: &Check) -> Result<Exit, Failure> {
    let mut config = args.settings.resolve().map_err(Failure::usage)?.capture;
    if let Some(mode) = args.mode {
        config.mode = mode;
    }
    if !args.interface.is_empty() {
        config.interfaces.clone_from(&args.interface);
    }
    live::check(&config)
}

#[cfg(all(feature = "live", target_os = "linux"))]
mod live {
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
            Ok(()) => text.push_str("programs\n  yes all load, and every CPU has a ring\n"),
            Err(error) => problems.push(error.to_string()),
        }

        text.push_str("what would attach\n");
        match outlook(config) {
            Ok(outlooks) => {
                if outlooks.is_empty() {
                    text.push_str("  nothing yet: no interface fits; sipobs run would wait for one\n");
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
                text.push_str("\nThis machine can not capture so:\n");
                for problem in problems {
                    // A String takes everything.
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
}
