//! The queue between the capture and the collector: batches, retries with back-off, an end within a bound.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// The first wait after a failed request; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A batch that could not be delivered for so long makes room for younger ones.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);

/// What became of spans, and of requests.
#[derive(Debug, Default)]
pub struct Counters {
    counts: Mutex<QueueCounts>,
    failed_requests: AtomicU64,
    last_failure: Mutex<String>,
}

/// Every span at one moment: each is in exactly one of the terms, so [`Self::residual`] is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Spans made.
    pub made: u64,
    /// In the queue.
    pub queued: u64,
    /// In a batch that is under way, or waits to be sent again.
    pub under_way: u64,
    /// Acknowledged by the collector.
    pub acknowledged: u64,
    /// Dropped, by reason.
    pub drops: Drops,
}

/// Spans dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// The queue had no room.
    pub queue_full: u64,
    /// The collector refused them for good.
    pub rejected: u64,
    /// The collector could not be reached for ten minutes.
    pub gave_up: u64,
    /// They were left when sipobs ended.
    pub shutdown: u64,
}

/// Why spans were dropped.
#[derive(Clone, Copy, Debug)]
enum Reason {
    Rejected,
    GaveUp,
    Shutdown,
}

impl Counters {
    /// All spans at this moment.
    pub fn counts(&self) -> QueueCounts {
        *self.lock()
    }

    /// Spans that the collector has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }

    /// Spans dropped.
    pub fn drops(&self) -> Drops {
        self.lock().drops
    }

    /// Spans that wait in the queue or for an answer.
    pub fn waiting(&self) -> u64 {
        self.lock().waiting()
    }

    /// Spans that have left the queue one way or the other, in the order in which they were put in.
    pub fn handed_over(&self) -> u64 {
        let QueueCounts { acknowledged, drops, .. } = self.counts();
        acknowledged + drops.rejected + drops.gave_up + drops.shutdown
    }

    /// Spans made.
    pub fn spans(&self) -> u64 {
        self.lock().made
    }

    /// Requests that failed, each retry counted.
    pub fn failed_requests(&self) -> u64 {
        self.failed_requests.load(Ordering::Relaxed)
    }

    /// Why the last of them failed.
    pub fn last_failure(&self) -> String {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, why: String) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.failed_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A span is about to be queued.
    pub(super) fn made(&self) {
        let mut counts = self.lock();
        counts.made += 1;
        counts.queued += 1;
    }

    /// It found no room.
    pub(super) fn refused(&self) {
        let mut counts = self.lock();
        counts.queued = counts.queued.saturating_sub(1);
        counts.drops.queue_full += 1;
    }

    fn taken_up(&self, spans: usize) {
        let (mut counts, spans) = (self.lock(), spans as u64);
        counts.queued = counts.queued.saturating_sub(spans);
        counts.under_way += spans;
    }

    fn acknowledge(&self, spans: usize) {
        let (mut counts, spans) = (self.lock(), spans as u64);
        counts.under_way = counts.under_way.saturating_sub(spans);
        counts.acknowledged += spans;
    }

    /// Spans that were under way will not arrive.
    fn dropped(&self, reason: Reason, spans: usize) {
        let (mut counts, spans) = (self.lock(), spans as u64);
        counts.under_way = counts.under_way.saturating_sub(spans);
        *match reason {
            Reason::Rejected => &mut counts.drops.rejected,
            Reason::GaveUp => &mut counts.drops.gave_up,
            Reason::Shutdown => &mut counts.drops.shutdown,
        } += spans;
    }

    fn lock(&self) -> MutexGuard<'_, QueueCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueCounts {
    /// Spans that wait in the queue or for an answer.
    pub const fn waiting(&self) -> u64 {
        self.queued + self.under_way
    }

    /// Spans that are in none of the terms, or in two: 0, unless sipobs has a bug.
    pub const fn residual(&self) -> i64 {
        let settled = self.acknowledged + self.drops.sum();
        self.made.wrapping_sub(settled + self.waiting()).cast_signed()
    }
}

impl Drops {
    /// All of them.
    pub const fn sum(&self) -> u64 {
        self.queue_full + self.rejected + self.gave_up + self.shutdown
    }
}

/// What the collector made of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Acknowledged,
    /// Refused for good, for this reason: another try would end the same.
    Refused(String),
    /// Not now, for this reason.
    TryLater(String),
}

/// Delivers one batch.
pub(super) trait Deliver {
    fn deliver(&self, batch: Vec<SpanData>) -> impl Future<Output = Answer> + Send;
}

/// The receiving end.
pub(super) struct Queue {
    receiver: mpsc::Receiver<SpanData>,
    end: watch::Receiver<End>,
    counters: Arc<Counters>,
    batch: usize,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// Not in sight.
    #[default]
    Far,
    /// It waits for what is in the queue: no try is put off for long.
    Near,
    /// What is not delivered by then is not.
    At(Instant),
}

impl Queue {
    pub(super) fn new(
        receiver: mpsc::Receiver<SpanData>,
        end: watch::Receiver<End>,
        counters: Arc<Counters>,
        batch: usize,
    ) -> Self {
        Self { receiver, end, counters, batch }
    }

    /// Delivers until the sender is gone and the queue empty, or the end, once set, has come. Gives the spans that are left
    /// then, which are counted as dropped.
    pub(super) async fn run(mut self, to: impl Deliver) -> Vec<SpanData> {
        let mut batch = Vec::with_capacity(self.batch);
        let mut over = over(self.end.clone());
        while self.receiver.recv_many(&mut batch, self.batch).await > 0 {
            self.counters.taken_up(batch.len());
            tokio::select! {
                // A last answer that is already there counts.
                biased;
                () = deliver(&to, &batch, &self.counters, &mut self.end) => batch.clear(),
                () = &mut over => {
                    self.receiver.close();
                    // Also those that are being put in at this moment.
                    while let Some(span) = self.receiver.recv().await {
                        self.counters.taken_up(1);
                        batch.push(span);
                    }
                    self.counters.dropped(Reason::Shutdown, batch.len());
                    return batch;
                }
            }
        }
        Vec::new()
    }
}

/// Tries until the batch is settled one way or the other, and counts it.
async fn deliver(to: &impl Deliver, batch: &[SpanData], counters: &Counters, end: &mut watch::Receiver<End>) {
    let (start, mut wait) = (Instant::now(), FIRST_WAIT);
    loop {
        match to.deliver(batch.to_vec()).await {
            Answer::Acknowledged => {
                return counters.acknowledge(batch.len());
            }
            Answer::Refused(why) => {
                counters.failed(why);
                return counters.dropped(Reason::Rejected, batch.len());
            }
            Answer::TryLater(why) => counters.failed(why),
        }
        if start.elapsed() >= GIVE_UP_AFTER {
            return counters.dropped(Reason::GaveUp, batch.len());
        }
        wait = pause(wait, end).await;
    }
}

/// Waits before the next try, and gives how long to wait before the one after it. Once the end is near, not for long.
async fn pause(wait: Duration, end: &mut watch::Receiver<End>) -> Duration {
    if *end.borrow() != End::Far {
        sleep(wait.min(FIRST_WAIT)).await;
        return FIRST_WAIT;
    }
    tokio::select! {
        () = sleep(wait) => (wait * 2).min(LONGEST_WAIT),
        // Also when nobody is left to say so: then the end is there.
        _ = end.wait_for(|end| *end != End::Far) => FIRST_WAIT,
    }
}

/// Ends when the end has come, or everybody who might say when it does is gone.
fn over(mut end: watch::Receiver<End>) -> Pin<Box<impl Future<Output = ()>>> {
    Box::pin(async move {
        loop {
            let now = *end.borrow_and_update();
            let at = async {
                match now {
                    End::At(at) => sleep_until(at).await,
                    End::Far | End::Near => pending().await,
                }
            };
            tokio::select! {
                () = at => return,
                changed = end.changed() => match (changed, now) {
                    (Ok(()), _) => {}
                    (Err(_), End::At(at)) => return sleep_until(at).await,
                    // Gone without a shutdown: nobody waits for the rest.
                    (Err(_), End::Far | End::Near) => return,
                },
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CallSpans;
    use crate::export::otlp::spans::Spans;
    use crate::export::samples;

    /// Answers by a script, its last word for ever.
    struct Script(Mutex<Vec<Answer>>);

    impl Deliver for &Script {
        async fn deliver(&self, _batch: Vec<SpanData>) -> Answer {
            let mut answers = self.0.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
        }
    }

    fn away() -> Answer {
        Answer::TryLater("connection refused".into())
    }

    fn refused() -> Answer {
        Answer::Refused("HTTP status 400".into())
    }

    /// Runs a queue of `spans` spans against `answers`, with the deadline `bound` from the start.
    fn settle(answers: &[Answer], spans: usize, bound: Duration) -> Arc<Counters> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (sender, receiver) = mpsc::channel(spans);
            let (stop, end) = watch::channel(End::Far);
            let counters = Arc::new(Counters::default());
            let span = Spans::new("n".into(), CallSpans::All).of(&samples::call()).remove(0);
            for _ in 0..spans {
                counters.made();
                sender.try_send(span.clone()).unwrap();
            }
            stop.send_replace(End::At(Instant::now() + bound));
            drop(sender);
            let script = Script(Mutex::new(answers.to_vec()));
            Queue::new(receiver, end, Arc::clone(&counters), 4).run(&script).await;
            assert_eq!(counters.counts().residual(), 0, "{:?}", counters.counts());
            assert_eq!(counters.waiting(), 0);
            counters
        })
    }

    #[test]
    fn every_span_is_accounted_for() {
        let counters = settle(&[Answer::Acknowledged], 10, Duration::from_secs(5));
        assert_eq!((counters.acknowledged(), counters.drops().sum()), (10, 0));
    }

    #[test]
    fn a_collector_that_comes_back_gets_everything() {
        let counters = settle(&[away(), away(), Answer::Acknowledged], 10, Duration::from_secs(5));
        assert_eq!((counters.acknowledged(), counters.failed_requests()), (10, 2));
    }

    #[test]
    fn a_dead_collector_does_not_hold_up_the_end() {
        let counters = settle(&[away()], 10, Duration::from_secs(5));
        assert_eq!(counters.drops(), Drops { shutdown: 10, ..Drops::default() });
    }

    #[test]
    fn what_is_refused_is_not_tried_again() {
        let counters = settle(&[refused(), Answer::Acknowledged], 10, Duration::from_secs(5));
        assert_eq!(counters.drops(), Drops { rejected: 4, ..Drops::default() });
        assert_eq!((counters.acknowledged(), counters.failed_requests()), (6, 1));
        assert_eq!(counters.last_failure(), "HTTP status 400");
    }

    #[test]
    fn a_batch_that_nobody_takes_makes_room() {
        let counters = settle(&[away()], 4, GIVE_UP_AFTER * 2);
        assert_eq!(counters.drops(), Drops { gave_up: 4, ..Drops::default() });
    }

    #[test]
    fn once_the_end_is_near_no_try_is_put_off() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (stop, mut end) = watch::channel(End::Far);
            let start = Instant::now();
            assert_eq!(pause(LONGEST_WAIT, &mut end).await, LONGEST_WAIT);
            assert!(start.elapsed() >= LONGEST_WAIT);
            let near = async {
                sleep(FIRST_WAIT).await;
                stop.send_replace(End::Near);
            };
            let start = Instant::now();
            let (next, ()) = tokio::join!(pause(LONGEST_WAIT, &mut end), near);
            assert_eq!((next, pause(next, &mut end).await), (FIRST_WAIT, FIRST_WAIT));
            assert!(start.elapsed() < FIRST_WAIT * 3, "{:?}", start.elapsed());
        });
    }

    #[test]
    fn an_end_that_is_brought_forward_comes_then() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (stop, end) = watch::channel(End::At(Instant::now() + GIVE_UP_AFTER));
            let start = Instant::now();
            let sooner = async {
                sleep(FIRST_WAIT).await;
                stop.send_replace(End::At(Instant::now()));
            };
            tokio::join!(over(end), sooner);
            assert!(start.elapsed() < FIRST_WAIT * 2, "{:?}", start.elapsed());
            let (stop, end) = watch::channel(End::Near);
            drop(stop);
            over(end).await;
        });
    }
}
