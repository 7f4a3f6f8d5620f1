//! A sink with a thread and a bounded queue of its own: a pipe that nobody reads, or a full disk, must not
//! hold up the capture.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use sipobs::export::Sink;
use sipobs::export::metrics::Metrics;
use sipobs::transfer::Output;

use crate::cli::note;

/// Outputs that may wait.
const QUEUE: usize = 4096;

/// The sink's near end.
pub(super) struct Outlet {
    name: &'static str,
    queue: SyncSender<Arc<Output>>,
    metrics: Arc<Metrics>,
    result: Receiver<io::Result<()>>,
}

impl Outlet {
    /// Starts to write to `sink` what will come.
    pub(super) fn start(
        name: &'static str,
        sink: Box<dyn Sink + Send>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let (queue, outputs) = sync_channel(QUEUE);
        let (done, result) = sync_channel(1);
        let counted = Arc::clone(metrics);
        thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let _ = done.send(write(name, sink, &outputs, &counted));
            })
            .with_context(|| format!("cannot start the output {name}"))?;
        Ok(Self { name, queue, metrics: Arc::clone(metrics), result })
    }

    /// Takes one output, or drops and counts it when too many wait.
    pub(super) fn output(&mut self, output: &Arc<Output>) {
        if self.queue.try_send(Arc::clone(output)).is_err() {
            self.metrics.dropped(self.name);
        }
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

/// Writes until the queue's near end is gone. A sink that fails (a full disk) may work again later: what it
/// did not take meanwhile is counted.
fn write(
    name: &'static str,
    mut sink: Box<dyn Sink + Send>,
    outputs: &Receiver<Arc<Output>>,
    metrics: &Metrics,
) -> io::Result<()> {
    let mut last = Ok(());
    for output in outputs {
        let result = sink.output(&output).and_then(|()| sink.flush());
        if let Err(error) = &result {
            metrics.dropped(name);
            if last.is_ok() {
                note(format_args!("the output {name} cannot be written: {error}"));
            }
            if error.kind() == io::ErrorKind::BrokenPipe {
                // Its reader has seen enough; the other outputs go on.
                for _ in outputs {
                    metrics.dropped(name);
                }
                return Ok(());
            }
        }
        last = result;
    }
    last
}
