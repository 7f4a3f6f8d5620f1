//! What the HTTP server knows of the capture thread: that it is alive, and, on demand, its counters.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sipobs::capture::live::Coverage;
use sipobs::export::metrics::Health;
use tokio::sync::watch;
use tokio::time::timeout;

/// A capture thread that has not come round for so long hangs.
const HUNG: Duration = Duration::from_secs(10);

/// The longest a scrape waits for fresh counters; then it gets those of the last one.
const REFRESH: Duration = Duration::from_secs(2);

/// Shared by the capture thread and the server.
#[derive(Debug)]
pub(super) struct CaptureHealth {
    captures: AtomicBool,
    coverage: Mutex<Coverage>,
    /// HEP is listened for.
    listens: AtomicBool,
    /// Whether the kernel's counters could not be read when they were last asked for.
    uncounted: AtomicBool,
    /// When the capture thread last came round.
    beat: Mutex<Option<Instant>>,
    /// Scrapes that have asked for counters.
    asked: AtomicU64,
    /// Those of them that are answered.
    answered: watch::Sender<u64>,
}

impl Default for CaptureHealth {
    fn default() -> Self {
        Self {
            captures: AtomicBool::new(false),
            coverage: Mutex::new(Coverage::default()),
            listens: AtomicBool::new(false),
            uncounted: AtomicBool::new(false),
            beat: Mutex::new(None),
            asked: AtomicU64::new(0),
            answered: watch::Sender::new(0),
        }
    }
}

impl CaptureHealth {
    /// Whether capture is under way.
    pub(super) fn captures(&self, does: bool) {
        self.beat();
        self.captures.store(does, Ordering::Release);
    }

    /// What is watched of all that is meant.
    pub(super) fn covers(&self, coverage: Coverage) {
        *self.coverage.lock().unwrap_or_else(PoisonError::into_inner) = coverage;
    }

    /// HEP is listened for.
    pub(super) fn listens(&self) {
        self.listens.store(true, Ordering::Release);
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

impl Health for CaptureHealth {
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let mine = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
            let mut answered = self.answered.subscribe();
            // Too late is no reason to fail the scrape: the counters are then a little old.
            let _ = timeout(REFRESH, answered.wait_for(|answered| *answered >= mine)).await;
        })
    }

    fn liveness(&self) -> Result<String, String> {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        if self.captures.load(Ordering::Acquire) && beat.is_some_and(|beat| now() - beat > HUNG) {
            return Err("the capture thread hangs".into());
        }
        if self.uncounted.load(Ordering::Acquire) {
            return Err("the kernel's counters cannot be read".into());
        }
        Ok("ok".into())
    }

    fn readiness(&self) -> Result<String, String> {
        if !self.captures.load(Ordering::Acquire) {
            return Err("capture has not started, or is over".into());
        }
        let listens = self.listens.load(Ordering::Acquire);
        coverage_readiness(&self.coverage.lock().unwrap_or_else(PoisonError::into_inner), listens)
    }
}

/// A pattern that nothing fits on this node is no fault: a rollout must not wait for it.
fn coverage_readiness(coverage: &Coverage, listens: bool) -> Result<String, String> {
    let Coverage { watched, refused, missing } = coverage;
    let why = |name: &String| refused.get(name).map_or_else(|| format!("{name} is not there"), Clone::clone);
    let all = |names: &mut dyn Iterator<Item = &String>| names.map(why).collect::<Vec<_>>().join("; ");
    if !missing.is_empty() {
        return Err(format!("wanted by name, and not watched: {}", all(&mut missing.iter())));
    }
    match (watched.is_empty(), refused.is_empty()) {
        (false, _) => Ok("ok".into()),
        (true, true) if listens => Ok("ok".into()),
        (true, true) => Ok("nothing to watch here: no interface fits capture.interfaces".into()),
        (true, false) => Err(format!("no program could be attached: {}", all(&mut refused.keys()))),
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
    async fn counters_that_cannot_be_read_are_no_liveness_and_no_answer() {
        let health = CaptureHealth::default();
        health.captures(true);
        assert!(!health.counts(true), "as it should be");
        // The capture thread was asked, failed, and says nothing.
        health.refresh().await;
        assert_eq!(health.asked(), Some(1));
        assert!(health.counts(false) && !health.counts(false), "told once");
        assert_eq!(health.liveness(), Err("the kernel's counters cannot be read".into()));
        assert!(health.counts(true) && !health.counts(true), "told once");
        assert_eq!(health.liveness(), Ok("ok".into()));
    }

    #[test]
    fn a_name_is_a_promise_and_a_pattern_is_none() {
        let readiness = |watched: &[&str], refused: &[&str], missing: &[&str]| {
            let [watched, missing] =
                [watched, missing].map(|names| names.iter().map(|it| (*it).to_owned()).collect());
            let refused = refused.iter().map(|it| ((*it).to_owned(), format!("{it}: missing CAP_NET_ADMIN")));
            let refused = refused.collect();
            coverage_readiness(&Coverage { watched, refused, missing }, false)
        };
        assert!(readiness(&[], &[], &[]).unwrap().starts_with("nothing to watch here"));
        assert_eq!(readiness(&["eth0"], &[], &[]).unwrap(), "ok");
        assert_eq!(coverage_readiness(&Coverage::default(), true).unwrap(), "ok", "HEP alone");
        assert_eq!(readiness(&["eth0"], &["eth1"], &[]).unwrap(), "ok", "it is told elsewhere");
        let refused = readiness(&[], &["eth1"], &[]).unwrap_err();
        assert_eq!(refused, "no program could be attached: eth1: missing CAP_NET_ADMIN");
        let missing = readiness(&["eth0"], &["eth1"], &["eth1", "eth2"]).unwrap_err();
        assert_eq!(
            missing,
            "wanted by name, and not watched: eth1: missing CAP_NET_ADMIN; eth2 is not there"
        );
    }
}
