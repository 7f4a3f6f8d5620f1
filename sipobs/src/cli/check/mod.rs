//! `sipobs check`: whether this machine can capture, or whether a running daemon has lost anything.

use std::path::PathBuf;

use clap::Args;
use sipobs::capture::{Mode, RingChoice};
#[cfg(feature = "daemon")]
use sipobs::export::metrics::Access;
#[cfg(feature = "webhook")]
use sipobs::export::webhook::Webhook;

use self::daemon::Asking;
use super::{Exit, Failure, Settings};

mod daemon;
#[cfg(all(feature = "live", target_os = "linux"))]
mod machine;
#[cfg(feature = "daemon")]
mod tls;

const AFTER: &str = "\
Loads the programs and opens the rings as `sipobs run` would, attaches nothing,
and takes all down again. Run it as the user that will capture: it names each
capability that is missing.

With --live it asks a running daemon instead, which takes no privilege, and
shows where every frame, span and record is. Each residual should be 0.

Examples:
  sudo sipobs check                        every interface that is up
  sudo sipobs check -i eth0 --mode tc
  sudo sipobs check -c /etc/sipobs/sipobs.toml
  sipobs check --live                      the daemon on this host
  sipobs check --live 10.0.0.7:9464        another";

/// Say whether this machine can capture, or whether a running daemon has lost anything
#[derive(Debug, Args)]
#[command(after_help = format!("{AFTER}\n\n{}", super::EXIT_CODES))]
pub(super) struct Check {
    /// Interfaces to look at; those of the configuration, else all that are up, if none is given
    #[arg(long, short = 'i', value_name = "NAME")]
    interface: Vec<String>,
    /// How received packets are to be seen
    #[arg(long, value_name = "HOW", value_enum)]
    mode: Option<Mode>,
    /// What is to carry frames from the kernel
    #[arg(long, value_name = "KIND", value_enum)]
    ring: Option<RingChoice>,
    /// Account for all that a running daemon has seen, as its /metrics tell; it is asked at metrics.listen of
    /// the configuration unless an address is given
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["interface", "mode", "ring"])]
    live: Option<Option<String>>,
    /// Certificate (PEM) to show to a daemon that knows its askers by metrics.client_authority
    #[arg(long, value_name = "FILE", requires = "live", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn check(args: &Check) -> Result<Exit, Failure> {
    let config = args.settings.resolve().map_err(Failure::usage)?;
    if let Some(address) = &args.live {
        let identity = args.certificate.as_deref().zip(args.key.as_deref()).map(<[_; 2]>::from);
        return daemon::check(address.as_deref(), Asking { config: &config.metrics, identity });
    }
    #[cfg(feature = "daemon")]
    Access::read(&config.metrics).map_err(Failure::usage)?;
    #[cfg(feature = "webhook")]
    if let Some(url) = &config.webhook.url {
        Webhook::check(&config.webhook, url).map_err(Failure::usage)?;
    }
    #[cfg(all(feature = "live", target_os = "linux"))]
    {
        let mut config = config.capture;
        if let Some(mode) = args.mode {
            config.mode = mode;
        }
        if let Some(ring) = args.ring {
            config.ring = ring;
        }
        if !args.interface.is_empty() {
            config.interfaces = super::run::parted(&args.interface);
        }
        machine::check(&config)
    }
    #[cfg(not(all(feature = "live", target_os = "linux")))]
    {
        let _ = (&args.interface, args.mode, args.ring);
        Err(super::run::without_live())
    }
}
