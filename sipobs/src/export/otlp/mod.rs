//! Spans to an OpenTelemetry collector.
//!
//! The SDK's own processor loses a batch within a second of a refused connection and says so to nobody, so
//! the queue, the retries and the counts are ours; only the protocol is the SDK's. For every moment:
//!
//! ```text
//! spans made = acknowledged + dropped (by reason) + waiting
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::config::OtlpConfig;
use crate::record::Output;
use crate::sealed::Unreadable;

mod attributes;
mod client;
mod ids;
mod left;
mod queue;
#[cfg(test)]
mod reference;
mod spans;
mod transactions;

pub use left::Left;
pub use queue::{Counters, Drops, QueueCounts};

use spans::Spans;

/// Why the export could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// A file that the configuration names can't be used.
    #[error("otlp.{field}: {path}: {reason}")]
    File {
        /// The field.
        field: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A value that the protocol does not take.
    #[error("otlp.{field}: {reason}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong. Never the value of a header.
        reason: String,
    },
}

/// What to do when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop and count: a live capture must not wait.
    Drop,
    /// Wait, as a file can; but only as long as a flush may take, and only once.
    Wait,
}

/// The sink: makes spans of outputs and queues them.
#[derive(Debug)]
pub struct Otlp {
    spans: Spans,
    sender: mpsc::Sender<SpanData>,
    counters: Arc<Counters>,
    end: watch::Sender<queue::End>,
    task: JoinHandle<Vec<SpanData>>,
    runtime: Handle,
    flush: Duration,
    when_full: WhenFull,
    /// At the end: the longest wait for the next sign of life from the collector.
    silence: Duration,
}

impl Otlp {
    /// Starts to export to `url` on `runtime`.
    ///
    /// # Errors
    ///
    /// When the configuration can't be used. A collector that is not there is no error: it may come.
    pub fn start(
        config: &OtlpConfig,
        url: &str,
        when_full: WhenFull,
        runtime: &Handle,
    ) -> Result<Self, OtlpError> {
        // The gRPC channel is made for the runtime it is made in.
        let entered = runtime.enter();
        let client = client::Client::new(config, url)?;
        drop(entered);
        let (sender, receiver) = mpsc::channel(config.queue.max(1));
        let (end, heard) = watch::channel(queue::End::Far);
        let counters = Arc::new(Counters::default());
        let queue = queue::Queue::new(receiver, heard, Arc::clone(&counters), config.batch.max(1));
        let task = runtime.spawn(queue.run(client));
        Ok(Self {
            spans: Spans::new(config.host(), config.calls),
            sender,
            counters,
            end,
            task,
            runtime: runtime.clone(),
            flush: config.flush,
            when_full,
            silence: config.flush,
        })
    }

    /// Names the trace that an output's spans will be in, so that every other sink can tell.
    pub fn name(&self, output: &mut Output) {
        spans::name(output, self.spans.calls());
    }

    /// Takes one output. Never waits, unless told to by [`WhenFull::Wait`]; then it must not be called from
    /// within the runtime.
    pub fn output(&mut self, output: &Output) {
        // All spans of an attempt or none. One that rests on one side's word finds half of the queue.
        let half = self.sender.max_capacity() / 2;
        let refused = output.is_one_sided() && self.sender.capacity() <= half && self.patience().is_zero();
        for span in self.spans.of(output) {
            if refused {
                self.counters.made();
                self.counters.refused();
            } else {
                self.queue(span);
            }
        }
    }

    /// The end is near: what waits is tried again at once, and then every now and then.
    pub fn hurry(&mut self) {
        self.end.send_if_modified(|end| {
            let is_far = *end == queue::End::Far;
            if is_far {
                *end = queue::End::Near;
            }
            is_far
        });
    }

    /// No output comes any more but the last: from now on waits for room whatever [`WhenFull`] says, until the time
    /// that a flush may take has passed, or the collector has taken nothing for as long as `silence`.
    pub fn end(&mut self, silence: Duration) {
        self.silence = silence.min(self.flush);
        if self.deadline().is_none() {
            let within = if silence.is_zero() { Duration::ZERO } else { self.flush };
            self.end.send_replace(queue::End::At(Instant::now() + within));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match *self.end.borrow() {
            queue::End::Far | queue::End::Near => None,
            queue::End::At(at) => Some(at),
        }
    }

    /// What has become of the spans so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Hands over what is left, within the configured bound even if the collector is dead, and says what
    /// became of all spans. Must not be called from within the runtime.
    pub fn shutdown(mut self) -> Arc<Counters> {
        self.finish_calls();
        self.leave().0
    }

    /// Sends the spans of calls that have not ended: nobody knows of them any more.
    pub fn finish_calls(&mut self) {
        let unfinished: Vec<_> = self.spans.unfinished().collect();
        for span in unfinished {
            self.queue(span);
        }
    }

    /// Takes up what an earlier run has left. Gives how many spans that is.
    ///
    /// # Errors
    ///
    /// When `bytes` are not what [`Left::write`] has written.
    pub fn take_up(&mut self, bytes: &[u8]) -> Result<usize, Unreadable> {
        let Left { spans, open } = Left::read(bytes, &self.spans)?;
        let count = spans.len();
        spans.into_iter().for_each(|span| self.queue(span));
        open.into_iter().for_each(|(call_id, open)| self.spans.take_up(&call_id, open));
        Ok(count)
    }

    /// Hands over what it can, as [`Self::shutdown`] does, and gives what is left for another run to take up: spans that
    /// are counted as dropped here, and calls that have not ended.
    pub fn leave(mut self) -> (Arc<Counters>, Left) {
        let open = self.spans.take_open();
        self.end(self.silence);
        let Self { sender, mut task, runtime, counters, end, silence, .. } = self;
        drop(sender);
        let spans = runtime.block_on(async {
            let mut before = counters.handed_over();
            loop {
                if let Ok(left) = timeout(silence, &mut task).await {
                    return left;
                }
                let now = counters.handed_over();
                if now == before {
                    end.send_replace(queue::End::At(Instant::now()));
                    return task.await;
                }
                before = now;
            }
        });
        (counters, Left { spans: spans.unwrap_or_default(), open })
    }

    /// Queues a span, or drops and counts it.
    fn queue(&mut self, span: SpanData) {
        self.counters.made();
        let patience = self.patience();
        let Err(error) = self.sender.try_send(span) else { return };
        if let mpsc::error::TrySendError::Full(span) = error
            && !patience.is_zero()
            && self.runtime.block_on(async { self.sender.send_timeout(span, patience).await }).is_ok()
        {
            return;
        }
        self.when_full = WhenFull::Drop;
        self.counters.refused();
    }

    /// How long a span may wait for room.
    fn patience(&self) -> Duration {
        match (self.deadline(), self.when_full) {
            (Some(deadline), _) => deadline.saturating_duration_since(Instant::now()).min(self.silence),
            (None, WhenFull::Wait) => self.flush,
            (None, WhenFull::Drop) => Duration::ZERO,
        }
    }
}

/// The resource that all spans belong to.
fn resource(config: &OtlpConfig) -> BTreeMap<String, String> {
    let mut attributes = config.resource.clone();
    attributes.insert("service.name".into(), config.service_name.clone());
    attributes.entry("service.version".into()).or_insert_with(|| env!("CARGO_PKG_VERSION").into());
    let node = config.host();
    if !node.is_empty() {
        attributes.entry("host.name".into()).or_insert(node);
    }
    attributes
}
