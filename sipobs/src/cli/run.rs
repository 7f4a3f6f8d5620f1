//! `sipobs run`: the daemon's command line.

use std::net::SocketAddr;
#[cfg(all(feature = "live", target_os = "linux"))]
use std::path::Path;

use clap::{Args, ValueEnum};
use sipobs::capture::{Mode, RingChoice};
use sipobs::config::socket_address;
#[cfg(all(feature = "live", target_os = "linux"))]
use sipobs::{config::Config, export::Look};

use super::{Colour, Settings};
#[cfg(not(all(feature = "live", target_os = "linux")))]
use super::{Exit, Failure};

const AFTER: &str = "\
Each verdict is printed as it settles: at most 35 s after the call's BYE, as
the NOTIFY that tells the outcome may come that late. At SIGINT and SIGTERM it
goes on watching while spans and records that wait are handed over, then settles
what is open as it stands, and ends; a second one cuts that short. Where there
is a state, SIGTERM leaves that to the next start instead. The programs go with
the process, also when it is killed. SIGHUP reads the configuration anew, and
says what takes a restart; so does a file that changes.

Examples:
  sudo sipobs run -i eth0
  sudo sipobs run -i eth0 -i eth1 --port 5060,5080 --otlp http://localhost:4317
  sudo sipobs run -i eth0 --format jsonl | jq 'select(.kind == \"alert\")'
  SIPOBS_JSONL__PATH=/var/log/sipobs.jsonl sipobs run -c /etc/sipobs/sipobs.toml";

/// Watch interfaces and export what is found
///
/// Attaches an XDP program (received packets) and a tc program (sent packets) to each interface, rebuilds the
/// SIP dialogs they show, and judges every transfer. The programs pass every packet on, whatever happens.
#[derive(Clone, Debug, Args)]
#[command(after_help = format!("{AFTER}\n\n{}", super::EXIT_CODES))]
pub(super) struct Run {
    /// Interface to watch: a name; or a pattern that may come to fit later: a glob, /a regex/, a network
    /// such as 10.0.0.0/8, default-route, pods. May be given several times (capture.interfaces)
    #[arg(long, short = 'i', value_name = "NAME")]
    interface: Vec<String>,
    /// Interface not to watch, in the same forms
    #[arg(long, value_name = "NAME")]
    exclude: Vec<String>,
    /// Ports that carry SIP, 5060 if none is given
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<u16>,
    /// How to see received packets
    #[arg(long, value_name = "HOW", value_enum)]
    mode: Option<Mode>,
    /// What carries frames from the kernel
    #[arg(long, value_name = "KIND", value_enum)]
    ring: Option<RingChoice>,
    /// Serve /metrics, /healthz and /readyz here
    #[arg(long, value_name = "ADDRESS", value_parser = socket_address)]
    metrics: Option<SocketAddr>,
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// When to colour
    #[arg(long, value_enum, default_value_t)]
    color: Colour,
    #[command(flatten)]
    settings: Settings,
}

/// What the daemon prints to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For a person
    #[default]
    Text,
    /// One JSON object a line
    Jsonl,
    /// Nothing
    None,
}

#[cfg(all(feature = "live", target_os = "linux"))]
impl Run {
    /// File, environment and flags, as they are now.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let mut config = self.settings.resolve()?;
        if !self.interface.is_empty() {
            config.capture.interfaces.clone_from(&self.interface);
        }
        if !self.exclude.is_empty() {
            config.capture.exclude.clone_from(&self.exclude);
        }
        if !self.port.is_empty() {
            config.capture.ports.clone_from(&self.port);
        }
        if let Some(mode) = self.mode {
            config.capture.mode = mode;
        }
        if let Some(ring) = self.ring {
            config.capture.ring = ring;
        }
        if let Some(address) = self.metrics {
            config.metrics.listen = address;
        }
        anyhow::ensure!(
            !config.capture.interfaces.is_empty(),
            "no interface to watch: give -i NAME, or capture.interfaces in the configuration"
        );
        Ok(config)
    }

    /// The configuration file, if one is named.
    pub(super) fn file(&self) -> Option<&Path> {
        self.settings.config.as_deref()
    }

    pub(super) const fn format(&self) -> Format {
        self.format
    }

    pub(super) fn look(&self) -> Look {
        self.color.look()
    }
}

/// `run` in a build that only reads files.
#[cfg(not(all(feature = "live", target_os = "linux")))]
pub(super) fn refuse(args: &Run) -> Result<Exit, Failure> {
    // What is wrong with the arguments is said first: it would be wrong in any build.
    let Run { interface, exclude, port, mode, ring, metrics, format, color, settings: _ } = args;
    let _ = (interface, exclude, port, mode, ring, metrics, format, color);
    args.settings.resolve().map_err(Failure::usage)?;
    Err(without_live())
}

/// What a build that only reads files says when asked to capture.
#[cfg(not(all(feature = "live", target_os = "linux")))]
pub(super) fn without_live() -> Failure {
    Failure {
        exit: Exit::Capture,
        error: anyhow::anyhow!(
            "this build reads capture files only; live capture needs Linux and a build with \
             `cargo build --release --features live` (see README)"
        ),
    }
}
