//! What the HTTP server knows of the capture thread: that it is alive, and, on demand, its counters.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sipobs::export::metrics::Health;
use tokio::sync::watch;
use tokio::time::timeout;

/// A capture thread that has not come round for so long hangs.
const HUNG: Duration = Duration::from_secs(10);

/// The longest a scrape waits for fresh counters; then it gets those of the last one.
const REFRESH: Duration = Duration::from_secs(2);

/// Shared by the capture thread and the server.
#[derive(Debug)]
pub(super) struct Vitals {
    captures: AtomicBool,
    attached: AtomicBool,
    /// Whether the kernel's counters could not be read when they were last asked for.
    uncounted: AtomicBool,
    /// When the capture thread last came round.
    beat: Mutex<Option<Instant>>,
    /// Scrapes that have asked for counters.
    asked: AtomicU64,
    /// Those of them that are answered.
    answered: watch::Sender<u64>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            captures: AtomicBool::new(false),
            attached: AtomicBool::new(false),
            uncounted: AtomicBool::new(false),
            beat: Mutex::new(None),
            asked: AtomicU64::new(0),
            answered: watch::Sender::new(0),
        }
    }
}

impl Vitals {
    /// Whether capture is under way.
    pub(super) fn captures(&self, does: bool) {
        self.beat();
        self.captures.store(does, Ordering::Release);
    }

    /// Whether a program is attached anywhere.
    pub(super) fn attached(&self, is: bool) {
        self.attached.store(is, Ordering::Release);
    }

    /// Whether the kernel's counters could be read. Gives whether that is news.
    pub(super) fn counts(&self, does: bool) -> bool {
        self.uncounted.swap(!does, Ordering::AcqRel) == does
    }

    /// The capture thread has come round.
    pub(super) fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
    }

    /// The number of the latest scrape that waits for counters, if any does.
    pub(super) fn asked(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::Acquire);
        (asked > *self.answered.borrow()).then_some(asked)
    }

    /// The counters as of scrape `asked` are published.
    pub(super) fn answered(&self, asked: u64) {
        self.answered.send_replace(asked);
    }
}

impl Health for Vitals {
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let mine = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
            let mut answered = self.answered.subscribe();
            // Too late is no reason to fail the scrape: the counters are then a little old.
            let _ = timeout(REFRESH, answered.wait_for(|answered| *answered >= mine)).await;
        })
    }

    fn ailment(&self) -> Option<&'static str> {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        let hangs = self.captures.load(Ordering::Acquire) && beat.is_some_and(|beat| now() - beat > HUNG);
        let uncounted = self.uncounted.load(Ordering::Acquire);
        let uncounted = uncounted.then_some("the kernel's counters cannot be read");
        hangs.then_some("the capture thread hangs").or(uncounted)
    }

    fn absence(&self) -> Option<&'static str> {
        if !self.captures.load(Ordering::Acquire) {
            return Some("capture has not started, or is over");
        }
        (!self.attached.load(Ordering::Acquire)).then_some("no interface that fits is there yet")
    }
}

#[allow(clippy::disallowed_methods, reason = "a heartbeat")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counters_that_cannot_be_read_are_an_ailment_and_no_answer() {
        let vitals = Vitals::default();
        vitals.captures(true);
        assert!(!vitals.counts(true), "as it should be");
        // The capture thread was asked, failed, and says nothing.
        vitals.refresh().await;
        assert_eq!(vitals.asked(), Some(1));
        assert!(vitals.counts(false) && !vitals.counts(false), "told once");
        assert_eq!(vitals.ailment(), Some("the kernel's counters cannot be read"));
        assert!(vitals.counts(true) && !vitals.counts(true), "told once");
        assert_eq!(vitals.ailment(), None);
    }
}
