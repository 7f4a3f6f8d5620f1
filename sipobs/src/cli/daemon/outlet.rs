//! A sink with a thread and a bounded queue of its own: a pipe that nobody reads, or a full disk, must not
//! hold up the capture.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use sipobs::export::Sink;
use sipobs::export::metrics::SinkCounts;
use sipobs::transfer::Output;

use crate::cli::note;

/// Outputs that may wait.
const QUEUE: usize = 4096;

/// The sink's near end.
pub(super) struct Outlet {
    name: &'static str,
    queue: SyncSender<Arc<Output>>,
    books: Arc<Books>,
    result: Receiver<io::Result<()>>,
}

impl Outlet {
    /// Starts to write to `sink` what will come.
    pub(super) fn start(name: &'static str, sink: Box<dyn Sink + Send>) -> anyhow::Result<Self> {
        let (queue, outputs) = sync_channel(QUEUE);
        let (done, result) = sync_channel(1);
        let books = Arc::new(Books(Mutex::new(SinkCounts { sink: name, ..SinkCounts::default() })));
        let kept = Arc::clone(&books);
        thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let _ = done.send(write(name, sink, &outputs, &kept));
            })
            .with_context(|| format!("cannot start the output {name}"))?;
        Ok(Self { name, queue, books, result })
    }

    /// Takes one output, or drops and counts it when too many wait.
    pub(super) fn output(&mut self, output: &Arc<Output>) {
        self.books.taken();
        if self.queue.try_send(Arc::clone(output)).is_err() {
            self.books.dropped();
        }
    }

    /// What has become of all it took.
    pub(super) fn counts(&self) -> SinkCounts {
        *self.books.lock()
    }

    /// Waits until all is written, at most for `limit`.
    pub(super) fn finish(self, limit: Duration) -> anyhow::Result<()> {
        drop(self.queue);
        let name = self.name;
        match self.result.recv_timeout(limit) {
            Ok(result) => result.with_context(|| format!("the output {name} could not be written")),
            Err(_) => anyhow::bail!("the output {name} takes no more: what was left of it is lost"),
        }
    }
}

/// Every output is in exactly one of the counts.
struct Books(Mutex<SinkCounts>);

impl Books {
    /// One is about to be queued.
    fn taken(&self) {
        let mut counts = self.lock();
        counts.taken += 1;
        counts.waiting += 1;
    }

    fn written(&self) {
        let mut counts = self.lock();
        counts.waiting = counts.waiting.saturating_sub(1);
        counts.written += 1;
    }

    fn dropped(&self) {
        let mut counts = self.lock();
        counts.waiting = counts.waiting.saturating_sub(1);
        counts.dropped += 1;
    }

    fn lock(&self) -> MutexGuard<'_, SinkCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until the queue's near end is gone. A sink that fails (a full disk) may work again later: what it
/// did not take meanwhile is counted.
fn write(
    name: &'static str,
    mut sink: Box<dyn Sink + Send>,
    outputs: &Receiver<Arc<Output>>,
    books: &Books,
) -> io::Result<()> {
    let mut last = Ok(());
    for output in outputs {
        let result = sink.output(&output).and_then(|()| sink.flush());
        match &result {
            Ok(()) => books.written(),
            Err(_) => books.dropped(),
        }
        if let Err(error) = &result {
            if last.is_ok() {
                note(format_args!("the output {name} cannot be written: {error}"));
            }
            if error.kind() == io::ErrorKind::BrokenPipe {
                // Its reader has seen enough; the other outputs go on.
                for _ in outputs {
                    books.dropped();
                }
                return Ok(());
            }
        }
        last = result;
    }
    last
}
