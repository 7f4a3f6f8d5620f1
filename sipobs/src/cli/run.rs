//! `sipobs run`: the daemon's command line.

#[cfg(all(feature = "live", target_os = "linux"))]
use std::io::IsTerminal as _;
use std::net::SocketAddr;
#[cfg(all(feature = "live", target_os = "linux"))]
use std::path::Path;

use clap::{Args, ValueEnum};
use sipobs::capture::{Mode, RingChoice};
use sipobs::config::{HepUrl, LogFormat, LogLevel, PortRange, socket_address};
#[cfg(all(feature = "live", target_os = "linux"))]
use sipobs::{config::Config, config::entries, export::Look};

#[cfg(all(feature = "live", target_os = "linux"))]
use super::logging;
use super::{Colour, Settings};
#[cfg(not(all(feature = "live", target_os = "linux")))]
use super::{Exit, Failure};

const AFTER: &str = "\
On a terminal, verdicts are listed as they settle: Enter draws the ladder of one,
/ finds one, ? tells the keys, q ends the daemon (docs/view.md); --plain prints
them. Elsewhere each is printed as it settles: at most 35 s after the call's BYE, as
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
  sipobs run --hep udp://0.0.0.0:9060
  SIPOBS_JSONL__PATH=/var/log/sipobs.jsonl sipobs run -c /etc/sipobs/sipobs.toml";

/// Watch interfaces and export what is found
///
/// Attaches an XDP program (received packets) and a tc program (sent packets) to each interface, rebuilds the
/// SIP dialogs they show, and judges every transfer. The programs pass every packet on, whatever happens.
#[derive(Clone, Debug, Args)]
#[command(after_help = format!("{AFTER}\n\n{}", super::EXIT_CODES))]
pub(super) struct Run {
    /// Interface to watch: a name; or a pattern that may come to fit later: a glob, /a regex/, a network
    /// such as 10.0.0.0/8, default-route, pods. Several by commas, or by several flags (capture.interfaces)
    #[arg(long, short = 'i', value_name = "NAME")]
    interface: Vec<String>,
    /// Interface not to watch, in the same forms
    #[arg(long, value_name = "NAME")]
    exclude: Vec<String>,
    /// Ports that carry SIP, 5060 if none is given: 5060,5080-5090
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<PortRange>,
    /// Take HEP here, too, or alone: udp://0.0.0.0:9060, tcp://[::]:9060. Alone it takes no privilege. Several by commas, or by
    /// several flags (hep.listen)
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    hep: Vec<HepUrl>,
    /// Send every SIP message there by HEP, whole and unmasked: udp://homer:9060, tcp://homer:9060 (hep_out.to)
    #[arg(long, value_name = "URL")]
    hep_out: Option<HepUrl>,
    /// How to see received packets
    #[arg(long, value_name = "HOW", value_enum)]
    mode: Option<Mode>,
    /// What carries frames from the kernel
    #[arg(long, value_name = "KIND", value_enum)]
    ring: Option<RingChoice>,
    /// Serve /metrics, /healthz and /readyz here, and under / a page of what is found if [page] is enabled (metrics.listen)
    #[arg(long, value_name = "ADDRESS", value_parser = socket_address)]
    metrics: Option<SocketAddr>,
    /// What to print; without it, on a terminal a list to choose from, and elsewhere a line for each attempt
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print text in place of the list, also on a terminal: --format text
    #[arg(long, conflicts_with = "format")]
    plain: bool,
    /// Who reads the log, on standard error: a person or a program (log.format)
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// What the log leaves out: all that matters less (log.level)
    #[arg(long, value_name = "LEVEL", value_enum)]
    log_level: Option<LogLevel>,
    /// When to colour
    #[arg(long, value_enum, default_value_t)]
    color: Colour,
    #[command(flatten)]
    settings: Settings,
}

/// What the daemon prints to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For a person, with ladders
    Text,
    /// The same in a line for each attempt and each alert
    Brief,
    /// One JSON object a line
    Jsonl,
    /// Nothing
    None,
}

#[cfg(all(feature = "live", target_os = "linux"))]
impl Run {
    /// File, environment and flags, as they are now. From the first time on there is a log.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let (mut config, warnings) = self.settings.load()?;
        if !self.interface.is_empty() {
            config.capture.interfaces = parted(&self.interface);
        }
        if !self.exclude.is_empty() {
            config.capture.exclude = parted(&self.exclude);
        }
        if !self.port.is_empty() {
            config.capture.ports = self.port.iter().cloned().flat_map(PortRange::ports).collect();
        }
        if !self.hep.is_empty() {
            config.hep.listen.clone_from(&self.hep);
        }
        if let Some(to) = &self.hep_out {
            config.hep_out.to = Some(to.clone());
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
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
        if let Some(level) = self.log_level {
            config.log.level = level;
        }
        logging::start(&config.log);
        warnings.iter().for_each(|warning| logging::warn(format_args!("{warning}")));
        config.check()?;
        anyhow::ensure!(
            !config.capture.interfaces.is_empty() || !config.hep.listen.is_empty(),
            "no interface to watch: give -i NAME, or capture.interfaces in the configuration; or --hep URL, to hear by HEP alone"
        );
        Ok(config)
    }

    /// The configuration file, if one is named.
    pub(super) fn file(&self) -> Option<&Path> {
        self.settings.config.as_deref()
    }

    /// Whether a list is to be shown, where a terminal is.
    #[cfg(feature = "view")]
    pub(super) const fn lists(&self) -> bool {
        self.format.is_none() && !self.plain
    }

    /// No ladders in a journal, unless asked for.
    pub(super) fn format(&self) -> Format {
        if self.plain {
            return Format::Text;
        }
        let usual = if std::io::stdout().is_terminal() { Format::Text } else { Format::Brief };
        self.format.unwrap_or(usual)
    }

    pub(super) fn look(&self) -> Look {
        self.color.look()
    }
}

/// The entries of a flag that may be given several times, or hold several at once.
#[cfg(all(feature = "live", target_os = "linux"))]
pub(super) fn parted(flags: &[String]) -> Vec<String> {
    flags.iter().flat_map(|flag| entries(flag)).map(Into::into).collect()
}

/// `run` in a build that only reads files.
#[cfg(not(all(feature = "live", target_os = "linux")))]
pub(super) fn refuse(args: &Run) -> Result<Exit, Failure> {
    // What is wrong with the arguments is said first: it would be wrong in any build.
    let Run {
        interface,
        exclude,
        port,
        hep,
        hep_out,
        mode,
        ring,
        metrics,
        format,
        plain,
        log_format,
        log_level,
        color,
        settings: _,
    } = args;
    let _ = (
        interface, exclude, port, hep, hep_out, mode, ring, metrics, format, plain, log_format, log_level,
        color,
    );
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
