//! Where the rows come from: capture files that are read, or a daemon that watches.

use sipobs::export::clean;
use sipobs::record::Output;

#[cfg(all(feature = "live", target_os = "linux"))]
use super::live::Watching;
use super::page::Ladder;
use super::work::{News, Workers};
use crate::cli::pcap::found::Found;

pub(super) enum Feed {
    Files(Workers),
    #[cfg(all(feature = "live", target_os = "linux"))]
    Live(Watching),
}

impl Feed {
    /// What is read, or watched.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Files(workers) => match &*workers.source().names {
                [name] => clean(name),
                names => format!("{} files", names.len()),
            },
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(watching) => clean(&watching.what),
        }
    }

    /// The threads that read files, where files are read.
    pub(super) const fn workers(&mut self) -> Option<&mut Workers> {
        match self {
            Self::Files(workers) => Some(workers),
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(_) => None,
        }
    }

    /// Whether rows come as long as somebody looks.
    pub(super) const fn is_live(&self) -> bool {
        match self {
            Self::Files(_) => false,
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(_) => true,
        }
    }

    /// The next of what is told.
    pub(super) fn news(&self) -> Option<News> {
        match self {
            Self::Files(workers) => workers.news(),
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(watching) => watching.next(),
        }
    }

    /// Asks for all messages of a call, where there are more than its record has.
    pub(super) fn whole(&mut self, found: &Found) -> Ladder {
        match self {
            Self::Files(workers) => {
                let asked = found.asked().filter(|_| workers.source().can_be_read_again);
                match asked.map(|asked| workers.whole(asked)) {
                    Some(Ok(())) => Ladder::Awaited,
                    Some(Err(error)) => Ladder::Missing(format!("{error:#}")),
                    None => Ladder::Own,
                }
            }
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(_) => Ladder::Own,
        }
    }

    /// Nobody waits for the whole call any more.
    pub(super) fn forget_whole(&mut self) {
        self.workers().into_iter().for_each(Workers::forget_whole);
    }

    /// Whether packets can be saved now, where all `is_read` or not; else what there is to say to that. Of a daemon, that is where
    /// those of `chosen` are.
    pub(super) fn may_save(&self, chosen: Option<&Output>, is_read: bool) -> Result<(), Option<String>> {
        let reason = match self {
            Self::Files(workers) if !workers.source().can_be_read_again => {
                "A pipe can be read only once: save it to a file first"
            }
            Self::Files(_) if !is_read => "Packets can be saved once all is read",
            Self::Files(workers) if workers.saves() => "Another file is still being written",
            Self::Files(_) => return Ok(()),
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(watching) => return Err(chosen.map(|chosen| watching.packets(chosen))),
        };
        // Files hold the packets of all rows.
        let _ = chosen;
        Err(Some(reason.to_owned()))
    }

    /// Whether a file is being written.
    pub(super) fn saves(&self) -> bool {
        match self {
            Self::Files(workers) => workers.saves(),
            #[cfg(all(feature = "live", target_os = "linux"))]
            Self::Live(_) => false,
        }
    }

    /// Waits until all threads have ended.
    pub(super) fn end(&mut self) {
        self.workers().into_iter().for_each(Workers::end);
    }
}
