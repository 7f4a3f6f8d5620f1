//! The list while a daemon watches: what it finds comes as an output's sink gets it.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use sipobs::capture::file::Stop;
use sipobs::export::{Look, Sink, Summary};
use sipobs::record::Output;

use super::feed::Feed;
use super::rows::Rows;
use super::work::News;
use super::{App, is_possible};
use crate::cli::logging::{keep, keep_no_more, to_person};
use crate::cli::pcap::found::Found;

/// Rows that wait for the screen.
const QUEUE: usize = 1_024;
/// Rows that are kept, each with its messages; the oldest make way.
const MOST: usize = 2_000;

pub(super) const KEYS: &str = "\
Keys, as in sngrep:
  arrows, PgUp, PgDn, Home, End   move; at the end, the list goes on by itself
  Enter                           the verdict and its ladder
  / F7                            show what fits alone: a number (its last digits
                                  while numbers are masked), a Call-ID, an
                                  outcome, any word of the line; Esc shows all
  s F2                            where its packets are
  m                               the log
  ? F1                            these keys
  q Esc                           back, and out: the daemon then ends";

/// What of a daemon is on the screen.
pub(super) struct Watching {
    /// What is watched.
    pub(super) what: String,
    /// The folder with the packets of what failed, where they are kept.
    evidence: Option<PathBuf>,
    news: Receiver<News>,
}

impl Watching {
    pub(super) fn next(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Where somebody finds the packets.
    pub(super) fn packets(&self, output: &Output) -> String {
        let file = match output {
            Output::Transfer(attempt) => attempt.evidence_file.as_deref(),
            Output::Call(call) => call.evidence_file.as_deref(),
            Output::Alert(_) | Output::Notice(_) => None,
        };
        match (&self.evidence, file) {
            (Some(folder), Some(file)) => format!("Its packets: {}", folder.join(file).display()),
            (Some(_), None) => {
                "Packets are kept of what failed or is flagged, and of nothing else".to_owned()
            }
            (None, _) => "Packets are kept where [recorder] folder says so, and only there".to_owned(),
        }
    }
}

/// What fills the list, as long as there is one.
pub(in crate::cli) struct ListSink {
    look: Look,
    news: Option<SyncSender<News>>,
    /// What is found once the list is gone is printed here.
    afterwards: Box<dyn Sink + Send>,
}

impl Sink for ListSink {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        let Some(news) = &self.news else { return self.afterwards.output(output) };
        // An ordinary call is no news.
        let Some(found) = Found::live(self.look, output).filter(|found| found.entry.is_of_note) else {
            return Ok(());
        };
        if news.send(News::Found(Box::new(found))).is_err() {
            self.news = None;
            return self.afterwards.output(output);
        }
        Ok(())
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.afterwards.flush()
    }
}

/// A list that is to be shown.
pub(in crate::cli) struct List {
    look: Look,
    news: Receiver<News>,
}

/// Whether standard input and output are a terminal that a list can be shown on.
pub(in crate::cli) fn can_be_shown() -> bool {
    io::IsTerminal::is_terminal(&io::stdin()) && is_possible()
}

/// A list and what fills it. What comes once it is left, or when it can't be shown, is given to `afterwards`.
pub(in crate::cli) fn list(look: Look, afterwards: Box<dyn Sink + Send>) -> (ListSink, List) {
    let (sender, news) = sync_channel(QUEUE);
    (ListSink { look, news: Some(sender), afterwards }, List { look, news })
}

/// A list on the screen.
pub(in crate::cli) struct Shown {
    /// Nothing comes: its other end is dropped when the terminal is given back.
    given_back: Receiver<()>,
    stop: Stop,
}

impl List {
    /// Shows it until somebody leaves it, which `left` hears of, or [`Shown::end`]. What is said meanwhile is on the list's
    /// own page, and afterwards on standard error.
    ///
    /// # Errors
    ///
    /// When the terminal can't be had.
    pub(in crate::cli) fn show(
        self,
        what: String,
        evidence: Option<PathBuf>,
        left: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<Shown> {
        let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
        keep();
        let stop = Stop::once(std::sync::Arc::default());
        let feed = Feed::Live(Watching { what, evidence, news: self.news });
        let mut app = App::new(feed, Rows::of_late(MOST), self.look, stop.clone());
        let (held, given_back) = channel::<()>();
        let show = move || {
            let _held = held;
            let shown = app.run(&mut terminal);
            ratatui::restore();
            let has_left = !app.stop.is_asked();
            let said = app.leave_with_what_was_said();
            keep_no_more();
            said.into_iter().for_each(to_person);
            if let Err(error) = shown {
                to_person(format!("sipobs: cannot show the list: {error}"));
            }
            if has_left {
                left();
            }
        };
        let thread = std::thread::Builder::new().name("screen".to_owned()).spawn(show);
        thread.context("cannot start a thread").inspect_err(|_| {
            ratatui::restore();
            keep_no_more();
        })?;
        Ok(Shown { given_back, stop })
    }
}

impl Shown {
    /// Gives the terminal back, for at most `limit`: one that nobody reads may hold up the thread that draws for ever.
    pub(in crate::cli) fn end(self, limit: Duration) {
        self.stop.ask();
        if self.given_back.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            // What takes no output: whoever types there sees it again.
            let _ = ratatui::crossterm::terminal::disable_raw_mode();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use sipobs::export::Brief;
    use sipobs::record::{Alert, AlertKind, Parties};
    use sipobs::timestamp::Timestamp;

    use super::*;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn alert() -> Output {
        Output::Alert(Box::new(Alert {
            alert: AlertKind::ReferRatio,
            time: Timestamp::default(),
            trunk: "twilio".into(),
            numbers: std::collections::BTreeMap::new(),
            message: "too few".into(),
            verdict: None,
            trace_id: None,
            call_id: None,
            parties: Parties::NONE,
        }))
    }

    #[test]
    fn what_comes_after_the_list_is_printed() {
        let out = Out::default();
        let (mut sink, list) = list(Look::default(), Box::new(Brief::new(out.clone())));
        sink.output(&alert()).unwrap();
        assert!(matches!(list.news.try_recv(), Ok(News::Found(_))));
        assert!(out.0.lock().unwrap().is_empty());
        drop(list);
        for lines in 1..=2 {
            sink.output(&alert()).unwrap();
            sink.flush().unwrap();
            let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
            assert_eq!((text.lines().count(), text.matches("too few").count()), (lines, lines), "{text}");
        }
    }

    #[test]
    fn a_terminal_that_nobody_reads_is_waited_for_no_longer_than_is_said() {
        let (held, given_back) = channel();
        let stop = Stop::once(Arc::default());
        Shown { given_back, stop: stop.clone() }.end(Duration::from_millis(20));
        assert!(stop.is_asked());
        drop(held);
    }
}
