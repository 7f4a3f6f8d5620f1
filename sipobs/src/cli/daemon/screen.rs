//! The list of `sipobs run` on a terminal: the screens of `sipobs view`, filled as an output is.

use std::time::Duration;

use sipobs::config::Config;
#[cfg(feature = "view")]
use sipobs::export::Brief;

use super::queued_sink::QueuedSink;
use super::records::Records;
use crate::cli::run::Run;
#[cfg(feature = "view")]
use crate::cli::{pcap, warn};

/// A list that is to be shown, if one is.
#[derive(Default)]
pub(super) struct Screen {
    #[cfg(feature = "view")]
    list: Option<pcap::List>,
    sink: Option<QueuedSink>,
}

/// A list on the terminal, if there is one.
#[derive(Default)]
pub(super) struct Shown {
    #[cfg(feature = "view")]
    list: Option<pcap::Shown>,
}

impl Screen {
    /// None where something else is to be printed, or nobody could look at it.
    #[cfg_attr(not(feature = "view"), allow(clippy::unnecessary_wraps, reason = "a list may fail to start"))]
    pub(super) fn of(args: &Run, records: &Records) -> anyhow::Result<Self> {
        #[cfg(feature = "view")]
        if args.lists() && !matches!(records, Records::Stdout) && pcap::can_be_shown() {
            let (sink, list) = pcap::list(args.look(), Box::new(Brief::new(std::io::stdout())));
            let sink = QueuedSink::start("print", Box::new(sink))?;
            return Ok(Self { list: Some(list), sink: Some(sink) });
        }
        let _ = (args, records);
        Ok(Self::default())
    }

    pub(super) const fn is_there(&self) -> bool {
        self.sink.is_some()
    }

    /// What fills it.
    pub(super) const fn sink(&mut self) -> Option<QueuedSink> {
        self.sink.take()
    }

    /// Takes the terminal. Whoever leaves the list ends the daemon, as by Ctrl-C.
    pub(super) fn show(self, config: &Config) -> Shown {
        #[cfg(feature = "view")]
        if let Some(list) = self.list {
            let hep = config.hep.listen.iter().map(ToString::to_string);
            let what = config.capture.interfaces.iter().cloned().chain(hep).collect::<Vec<_>>().join(", ");
            let left = || {
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT);
            };
            return match list.show(what, config.recorder.folder.clone(), left) {
                Ok(list) => Shown { list: Some(list) },
                Err(error) => {
                    warn(format_args!("{error:#}: what is found is printed in its place, a line for each"));
                    Shown::default()
                }
            };
        }
        let _ = config;
        Shown::default()
    }
}

impl Shown {
    /// Gives the terminal back, unless that takes longer than `limit`.
    pub(super) fn end(self, limit: Duration) {
        #[cfg(feature = "view")]
        if let Some(list) = self.list {
            list.end(limit);
        }
        #[cfg(not(feature = "view"))]
        let _ = limit;
    }
}
