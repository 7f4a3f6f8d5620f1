//! `sipobs check --live` beside a daemon at work: its accounts add up at any moment, whatever goes on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;

use super::identity::pinned;
use super::peers::Peers;
use super::{END, Ground, Seen, holds};
use crate::lab::Lab;
use crate::live::RINGS;

/// Nobody listens there.
const COLLECTOR: &str = "http://127.0.0.1:4900";
const EVEN: &str = "Every frame, message, span and record is accounted for.";

/// Transfers and noise, a collector that is away, a ring that overflows; in between the accounts are looked at, by
/// somebody without privileges.
pub(super) fn even(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("accounting")?;
    let said = look(ground, &lab, 3)?;
    holds(
        &said,
        &["no sipobs daemon answers at 127.0.0.1:9464 (metrics.listen)", "refused", "--live HOST:PORT"],
    )?;

    let looks = RINGS.map(|ring| even_with(ring, ground, &lab).context(ring));
    let looks: usize = looks.into_iter().sum::<Result<_>>()?;
    Ok(Seen::Passed(format!("{looks} times under traffic, and after a ring ran over")))
}

/// Gives how often the accounts were looked at.
fn even_with(ring: &str, ground: &Ground, lab: &Lab) -> Result<usize> {
    let plan = ground.plan(lab).exporting(COLLECTOR).set("SIPOBS_CAPTURE__RING_BYTES", "131072");
    let plan = plan.set("SIPOBS_CAPTURE__RING", ring);
    let mut subject = plan.set("SIPOBS_OTLP__FLUSH", "100ms").start()?;
    let first = subject.metrics()?;
    let peers = Peers::new(lab)?;
    let looks = beside(
        |over, looked| {
            // However slow the machine is: there are looks while it goes on.
            for number in (0..).take_while(|number| *number < 40 || !over() && looked() < 3) {
                let call = peers.call(&format!("busy{number}"))?;
                call.refer()?;
                peers.flood(if over() { 0 } else { 500 })?;
                call.transferred()?;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        },
        || look(ground, lab, 0),
    )?;
    subject.wait_count("sipobs_outputs_written_total", &["sink=\"jsonl\""], 1)?;

    pinned(0, || {
        subject.signal(Signal::STOP)?;
        let sent = peers.flood(3000);
        subject.signal(Signal::CONT)?;
        sent
    })?;
    subject.wait_count("sipobs_capture_frames_lost_total", &["reason=\"ring_full\""], 1)?;
    let last = subject.wait_count("sipobs_evidence_lost_total", &["where=\"ring\""], 1)?;
    ensure!(last.born_since(&first).is_empty(), "not there from the start: {:?}", last.born_since(&first));
    let said = look(ground, lab, 0)?;
    holds(
        &said,
        &[
            "lost, by error and CPU",
            "ring_full",
            "CPU 0: ",
            "queued or under way",
            "given to jsonl",
            "Lost so far: ",
        ],
    )?;
    subject.stop(1, END)?;
    Ok(looks.len() + 1)
}

/// What `sipobs check --live` says to a user without privileges.
pub(super) fn look(ground: &Ground, lab: &Lab, exit: i32) -> Result<String> {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
    let plan = ground.plan(lab).named("check", 9464).arguments(&["--live"]);
    let said = plan.behind(nobody).checks(exit)?;
    ensure!(exit != 0 || said.contains(&format!("\n{EVEN}\n")), "{said}");
    Ok(said)
}

/// Does `work` once and `other` over and over beside it; gives what the latter gave. `work` is told whether `other`
/// has failed, and how many times it is done.
pub(super) fn beside<T>(
    work: impl FnOnce(&dyn Fn() -> bool, &dyn Fn() -> usize) -> Result<()> + Send,
    mut other: impl FnMut() -> Result<T>,
) -> Result<Vec<T>> {
    let (failed, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let work = scope.spawn(|| work(&|| failed.load(Ordering::Relaxed), &|| done.load(Ordering::Relaxed)));
        let mut given = Vec::new();
        while !work.is_finished() {
            given.push(other().inspect_err(|_| failed.store(true, Ordering::Relaxed))?);
            done.store(given.len(), Ordering::Relaxed);
        }
        work.join().map_err(|_| anyhow!("the work panicked"))??;
        Ok(given)
    })
}
