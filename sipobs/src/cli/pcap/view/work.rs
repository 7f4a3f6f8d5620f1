//! What takes long is done by threads of its own: reading the files, and reading them again for one call.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use sipobs::capture::file::{Capture, Progress, Stop};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::{Look, Summary, WholeCall};
use sipobs::follow::Keep;
use sipobs::privacy::Privacy;
use sipobs::record::Output;

use crate::cli::pcap::find::{Find, Unmasked};
use crate::cli::pcap::found::Found;
use crate::cli::pcap::reading::{Asked, Listener, Reading};
use crate::cli::pcap::whole;
use crate::cli::pcap::write::{Evidence, Wants};
use crate::cli::spans::Spans;

/// What threads tell.
pub(super) enum News {
    /// Something was found.
    Found(Box<Found>),
    /// How far reading has come.
    Progress(Progress),
    /// All was read, or what could be.
    Read(Box<Read>),
    /// All messages of the call that was asked for.
    Whole(anyhow::Result<WholeCall>),
    /// The packets were written, all of them or not.
    Saved(PathBuf, anyhow::Result<bool>),
}

/// What a reading came to.
pub(super) struct Read {
    pub(super) summary: Summary,
    pub(super) wants: Wants,
    /// Everything was read, and every span delivered.
    pub(super) is_complete: bool,
}

/// What is needed to read.
pub(super) struct Source {
    pub(super) files: Vec<PathBuf>,
    pub(super) names: Vec<String>,
    pub(super) config: Config,
    pub(super) can_be_read_again: bool,
}

/// The threads, and what they tell.
pub(super) struct Workers {
    source: Arc<Source>,
    news: Receiver<News>,
    sender: Sender<News>,
    reading: Option<JoinHandle<()>>,
    /// The one that reads again for a whole call, and the one that writes a file.
    whole: Option<Job>,
    saving: Option<Job>,
}

struct Job {
    thread: JoinHandle<()>,
    stop: Stop,
}

impl Workers {
    pub(super) fn new(source: Source) -> Self {
        let (sender, news) = channel();
        Self { source: Arc::new(source), news, sender, reading: None, whole: None, saving: None }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Reads the capture, and tells what is found.
    pub(super) fn read(
        &mut self,
        mut capture: Capture,
        engine: Engine,
        spans: Option<Spans>,
        find: Find,
        look: Look,
        privacy: Privacy,
    ) -> anyhow::Result<()> {
        let (news, source) = (self.sender.clone(), Arc::clone(&self.source));
        let read = move || {
            let keeps_messages = !source.can_be_read_again;
            let mut teller = Teller { news: news.clone(), look, privacy, keeps_messages };
            let mut reading = Reading::new(engine, spans, &find, source.config.absent.min_call);
            let told = reading.listen(&mut capture, &mut teller);
            let delivered = reading.spans.take().map(Spans::finish).is_none_or(|(_, lost)| lost == 0);
            let is_complete = told.is_ok() && delivered && reading.summary.all_read();
            let wants = std::mem::take(&mut reading.wants);
            let summary = std::mem::take(&mut reading.summary);
            // Nobody listens any more where the screen is closed.
            let _ = news.send(News::Read(Box::new(Read { summary, wants, is_complete })));
        };
        self.reading = Some(thread("reading", read)?);
        Ok(())
    }

    /// Reads the files again for all messages of one call, and of no other that was asked for before.
    pub(super) fn whole(&mut self, asked: Asked) -> anyhow::Result<()> {
        self.forget_whole();
        self.whole = Some(self.job(move |source, stop, news| {
            let open = || Capture::open(&source.files, stop);
            let whole = whole::of(&source.config, &[asked], Keep::Whole, open);
            if stop.is_asked() {
                return;
            }
            if let Ok((_, faults)) = &whole {
                faults.iter().for_each(|fault| whole::say_of(fault));
            }
            let whole = whole.map(|(whole, _)| whole).map_err(anyhow::Error::from);
            let _ = news.send(News::Whole(whole));
        })?);
        Ok(())
    }

    /// Nobody waits for the whole call any more.
    pub(super) fn forget_whole(&mut self) {
        if let Some(job) = self.whole.take() {
            job.stop.ask();
        }
    }

    /// Whether a file is being written.
    pub(super) fn saves(&self) -> bool {
        self.saving.as_ref().is_some_and(|job| !job.thread.is_finished())
    }

    /// Writes packets to a file.
    pub(super) fn save(&mut self, evidence: Evidence, path: PathBuf, wants: Wants) -> anyhow::Result<()> {
        self.saving = Some(self.job(move |source, stop, news| {
            let written = evidence.save(&source.files, &source.config, &wants, &source.names, stop);
            let _ = news.send(News::Saved(path, written));
        })?);
        Ok(())
    }

    /// Writes until nobody sends any more.
    #[cfg(test)]
    pub(super) fn save_until(&mut self, end: Receiver<()>) {
        self.saving = Some(self.job(move |_, _, _| assert!(end.recv().is_err())).unwrap());
    }

    fn job(&self, work: impl FnOnce(&Source, &Stop, &Sender<News>) + Send + 'static) -> anyhow::Result<Job> {
        let stop = Stop::once(Arc::new(AtomicBool::new(false)));
        let (source, news, ended) = (Arc::clone(&self.source), self.sender.clone(), stop.clone());
        let thread = thread("call", move || work(&source, &ended, &news))?;
        Ok(Job { thread, stop })
    }

    /// The next of what they have told.
    pub(super) fn news(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Waits until all have ended; the reading is to be stopped before. The files are left as they are to be.
    pub(super) fn end(&mut self) {
        self.forget_whole();
        if let Some(job) = self.saving.take() {
            job.stop.ask();
            let _ = job.thread.join();
        }
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).context("cannot start a thread")
}

/// Tells the screen what reading finds.
struct Teller {
    news: Sender<News>,
    look: Look,
    privacy: Privacy,
    keeps_messages: bool,
}

impl Listener for Teller {
    fn heard(&mut self, output: Output, unmasked: Unmasked) {
        if let Some(found) = Found::new(self.look, &self.privacy, output, unmasked, self.keeps_messages) {
            let _ = self.news.send(News::Found(Box::new(found)));
        }
    }

    fn open_call(&mut self, call: Output, unmasked: Unmasked) {
        if let Some(found) = Found::open_call(self.look, &self.privacy, call, unmasked) {
            let _ = self.news.send(News::Found(Box::new(found)));
        }
    }

    fn progress(&mut self, progress: Progress) {
        let _ = self.news.send(News::Progress(progress));
    }
}
