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
use sipobs::record::Output;

use super::{now, send_by};
use crate::cli::warn;

/// Outputs that may wait.
const QUEUE: usize = 4096;
/// Once so many wait, one that rests on one side's word alone is dropped.
const CROWDED: u64 = QUEUE as u64 / 2;

/// The sink's near end.
pub(super) struct QueuedSink {
    name: &'static str,
    /// Which outputs it is for.
    wants: fn(&Output) -> bool,
    queue: SyncSender<Arc<Output>>,
    counts: Arc<SharedCounts>,
    result: Receiver<io::Result<()>>,
    /// How many outputs must have left the queue for all to be out that waited when it began to be handed over.
    goal: u64,
    /// Whether it had its time for that, and has not reached it.
    stuck: bool,
}

impl QueuedSink {
    /// Starts to write to `sink` what will come.
    pub(super) fn start(name: &'static str, sink: Box<dyn Sink + Send>) -> anyhow::Result<Self> {
        Self::start_for(|_| true, name, sink)
    }

    /// The same for the outputs that it `wants`: no others take up room in its queue.
    pub(super) fn start_for(
        wants: fn(&Output) -> bool,
        name: &'static str,
        sink: Box<dyn Sink + Send>,
    ) -> anyhow::Result<Self> {
        let (queue, outputs) = sync_channel(QUEUE);
        let (done, result) = sync_channel(1);
        let counts = Arc::new(SharedCounts::new(name));
        let kept = Arc::clone(&counts);
        thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let _ = done.send(write(name, sink, &outputs, &kept));
            })
            .with_context(|| format!("cannot start the output {name}"))?;
        Ok(Self { name, wants, queue, counts, result, goal: 0, stuck: false })
    }

    /// Takes one output, or drops and counts it when too many wait.
    pub(super) fn output(&mut self, output: &Arc<Output>) {
        if !(self.wants)(output) {
            return;
        }
        let crowded = self.counts.taken() > CROWDED && output.is_one_sided();
        if crowded || self.queue.try_send(Arc::clone(output)).is_err() {
            self.counts.refused();
        }
    }

    /// What has become of all it took.
    pub(super) fn counts(&self) -> SinkCounts {
        self.counts.lock().counts
    }

    /// What waits now is to be written before the end. More may come all the while: under load, the queue need never be
    /// empty.
    pub(super) fn start_hand_over(&mut self) {
        let tally = self.counts.lock();
        self.goal = tally.out + tally.counts.waiting;
    }

    /// Whether all that waited then is written.
    pub(super) fn has_handed_over(&self) -> bool {
        self.counts.lock().out >= self.goal
    }

    /// It had all the time it may have: if it is still behind, it will not be waited for again.
    pub(super) fn give_up_if_stuck(&mut self) {
        self.stuck = !self.has_handed_over();
    }

    /// Takes the `last` outputs and waits until all is written, at most for `limit`.
    pub(super) fn finish(self, last: &[Arc<Output>], limit: Duration) -> anyhow::Result<()> {
        let end = now() + if self.stuck { Duration::ZERO } else { limit };
        for output in last.iter().filter(|output| (self.wants)(output)) {
            self.counts.taken();
            if send_by(&self.queue, Arc::clone(output), end).is_err() {
                self.counts.refused();
            }
        }
        drop(self.queue);
        let name = self.name;
        match self.result.recv_timeout(end.saturating_duration_since(now())) {
            Ok(result) => result.with_context(|| format!("the output {name} could not be written")),
            Err(_) => anyhow::bail!("the output {name} takes no more: what was left of it is lost"),
        }
    }
}

/// What both ends count.
struct SharedCounts(Mutex<Tally>);

struct Tally {
    /// Every output is in exactly one of them.
    counts: SinkCounts,
    /// Outputs that have left the queue, whatever became of them.
    out: u64,
}

impl SharedCounts {
    fn new(sink: &'static str) -> Self {
        Self(Mutex::new(Tally { counts: SinkCounts { sink, ..SinkCounts::default() }, out: 0 }))
    }

    /// One is about to be queued. Gives how many wait, that one included.
    fn taken(&self) -> u64 {
        let counts = &mut self.lock().counts;
        counts.taken += 1;
        counts.waiting += 1;
        counts.waiting
    }

    /// There was no room for it.
    fn refused(&self) {
        let counts = &mut self.lock().counts;
        counts.waiting = counts.waiting.saturating_sub(1);
        counts.dropped += 1;
    }

    /// It has left the queue, and was `written` or not.
    fn out(&self, written: bool) {
        let mut tally = self.lock();
        tally.out += 1;
        let counts = &mut tally.counts;
        counts.waiting = counts.waiting.saturating_sub(1);
        counts.written += u64::from(written);
        counts.dropped += u64::from(!written);
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until the queue's near end is gone. A sink that fails (a full disk) may work again later: what it
/// did not take meanwhile is counted.
fn write(
    name: &'static str,
    mut sink: Box<dyn Sink + Send>,
    outputs: &Receiver<Arc<Output>>,
    counts: &SharedCounts,
) -> io::Result<()> {
    let mut last = Ok(());
    for output in outputs {
        let result = sink.output(&output).and_then(|()| sink.flush());
        counts.out(result.is_ok());
        if let Err(error) = &result {
            if last.is_ok() {
                warn(format_args!("the output {name} cannot be written: {error}"));
            }
            if error.kind() == io::ErrorKind::BrokenPipe {
                // Its reader has seen enough; the other outputs go on.
                for _ in outputs {
                    counts.out(false);
                }
                return Ok(());
            }
        }
        last = result;
    }
    last
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use sipobs::export::Summary;
    use sipobs::record::{Alert, AlertKind, Evidence, Fault, Method, Notice, Outcome, Parties};
    use sipobs::timestamp::Timestamp;

    /// Longer than any test here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    /// Takes an output whenever it is told to.
    struct Gate {
        open: Receiver<()>,
        /// Hears of each output that waits there.
        arrived: Sender<()>,
        written: Arc<Mutex<Vec<bool>>>,
    }

    impl Sink for Gate {
        fn output(&mut self, output: &Output) -> io::Result<()> {
            let _ = self.arrived.send(());
            let _ = self.open.recv();
            self.written.lock().unwrap().push(output.is_one_sided());
            Ok(())
        }

        fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn one_sided() -> Arc<Output> {
        Arc::new(Output::Notice(Box::new(Notice {
            id: "4fe1b20c9a37".into(),
            call_id: None,
            method: Method::Refer,
            time: Timestamp::default(),
            outcome: Outcome::Unknown,
            evidence: Evidence::Reported,
            decided: true,
            status: Some(486),
            fault: Some(Fault::Nobody),
            cause: Some("busy".into()),
            trace_id: None,
            withdrawn: false,
            parties: Parties::NONE,
        })))
    }

    fn alert() -> Arc<Output> {
        Arc::new(Output::Alert(Box::new(Alert {
            alert: AlertKind::ReferRatio,
            time: Timestamp::default(),
            trunk: "twilio".into(),
            numbers: std::collections::BTreeMap::new(),
            message: String::new(),
            verdict: None,
            trace_id: None,
            call_id: None,
            parties: Parties::NONE,
        })))
    }

    type Written = Arc<Mutex<Vec<bool>>>;

    fn gated() -> (QueuedSink, Sender<()>, Receiver<()>, Written) {
        let ((open, gate), (arrived, arrivals), written) = (channel(), channel(), Written::default());
        let sink = Gate { open: gate, arrived, written: Arc::clone(&written) };
        (QueuedSink::start("test", Box::new(sink)).unwrap(), open, arrivals, written)
    }

    #[test]
    fn what_rests_on_one_side_alone_makes_way() {
        let (mut queued, open, _arrivals, written) = gated();
        let (one_sided, alert) = (one_sided(), alert());
        for _ in 0..QUEUE {
            queued.output(&one_sided);
        }
        for _ in 0..QUEUE / 4 {
            queued.output(&alert);
        }
        assert_eq!(queued.counts().dropped, QUEUE as u64 - CROWDED);
        drop(open);
        queued.finish(&[], LIMIT).unwrap();
        assert_eq!(written.lock().unwrap().iter().filter(|one_sided| !**one_sided).count(), QUEUE / 4);
    }

    #[test]
    fn the_last_outputs_wait_for_room() {
        let (queued, open, _arrivals, written) = gated();
        let last = vec![one_sided(); 3 * QUEUE];
        drop(open);
        queued.finish(&last, LIMIT).unwrap();
        assert_eq!(written.lock().unwrap().len(), 3 * QUEUE);
    }

    #[test]
    fn what_finds_no_room_at_the_end_is_counted() {
        let (mut queued, _open, arrivals, _) = gated();
        queued.output(&one_sided());
        arrivals.recv().unwrap();
        let counts = Arc::clone(&queued.counts);
        let last = vec![one_sided(); 3 * QUEUE];
        let error = queued.finish(&last, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("the output test takes no more"), "{error}");
        let SinkCounts { taken, waiting, dropped, .. } = counts.lock().counts;
        // The one that is being written has left the queue.
        assert_eq!((taken, waiting, dropped), (3 * QUEUE as u64 + 1, QUEUE as u64 + 1, 2 * QUEUE as u64));
    }

    #[test]
    fn one_that_is_never_seen_idle_is_waited_for_all_the_same() {
        let (mut queued, open, arrivals, written) = gated();
        queued.output(&one_sided());
        arrivals.recv().unwrap();
        queued.output(&one_sided());
        queued.start_hand_over();
        for _ in 0..2 {
            assert!(!queued.has_handed_over());
            // There is always one more behind the one that is being written.
            queued.output(&alert());
            open.send(()).unwrap();
            arrivals.recv().unwrap();
        }
        assert!(queued.has_handed_over());
        assert_eq!(queued.counts().waiting, 2);
        queued.give_up_if_stuck();
        drop(open);
        queued.finish(&[one_sided()], LIMIT).unwrap();
        assert_eq!(written.lock().unwrap().len(), 5);
    }

    #[test]
    fn one_that_is_stuck_is_not_waited_for_again() {
        let (mut queued, _open, arrivals, _) = gated();
        queued.output(&one_sided());
        arrivals.recv().unwrap();
        queued.start_hand_over();
        queued.give_up_if_stuck();
        let error = queued.finish(&[one_sided()], LIMIT).unwrap_err().to_string();
        assert!(error.contains("the output test takes no more"), "{error}");
    }
}
