//! No frame goes missing without being counted: under load, when a ring overflows, and after a restart.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::peers::Peers;
use super::subject::Subject;
use super::{END, Frames, Ground, Seen, accounting};
use crate::children::run;
use crate::daemon::transfer_of;
use crate::lab::Lab;
use crate::live::RINGS;
use crate::recording;

/// Passes over the shipped capture.
const LOOPS: u32 = 2000;

/// The shipped capture over and over, as fast as it goes.
pub(super) fn load(ground: &Ground) -> Result<Seen> {
    let lab = Lab::for_replay(&crate::scratch("faults/load")?)?;
    let mut subject = ground.plan(&lab).start()?;
    let before = lab.packets()?;
    let start = Instant::now();
    let mut rate = Duration::ZERO;
    let replay = |_: &dyn Fn() -> bool, _: &dyn Fn() -> usize| {
        replay(&lab)?;
        rate = start.elapsed();
        Ok(())
    };
    let looks = accounting::beside(replay, || accounting::look(ground, &lab, 0))?.len();
    ensure!(looks > 0, "sipobs check --live was never asked");
    let after = lab.packets()?;
    let wire = (after.0 - before.0) + (after.1 - before.1);
    let frames = settled(&mut subject)?;
    ensure!(frames.seen == wire, "{wire} packets crossed the wire and the programs saw {}", frames.seen);
    ensure!(frames.delivered > 0, "nothing was delivered");
    subject.stop(0, END)?;
    Ok(Seen::Passed(format!(
        "{wire} packets in {:.1} s = {} not matched + {} read + {} lost; even {looks} times meanwhile",
        rate.as_secs_f32(),
        frames.seen - frames.delivered - frames.lost,
        frames.delivered,
        frames.lost
    )))
}

/// The smallest ring, and a daemon that stands still while it runs over: the verdict of the attempt whose end
/// was lost says so.
pub(super) fn overflow(ground: &Ground) -> Result<Seen> {
    let seen = RINGS.map(|ring| overflow_of(ring, ground).context(ring));
    Ok(Seen::Passed(seen.into_iter().collect::<Result<Vec<_>>>()?.join("; ")))
}

fn overflow_of(ring: &str, ground: &Ground) -> Result<String> {
    let lab = Ground::lab("overflow")?;
    let plan = ground.plan(&lab).set("SIPOBS_CAPTURE__RING_BYTES", "131072");
    let mut subject = plan.set("SIPOBS_CAPTURE__RING", ring).start()?;
    let peers = Peers::new(&lab)?;
    // All on one CPU: it is its ring that overflows, so that what comes last is lost.
    let metrics = pinned(0, || {
        let call = peers.call("open")?;
        call.refer()?;
        subject.wait_count("sipobs_messages_total", &[], 5)?;
        subject.signal(Signal::STOP)?;
        let sent = peers.flood(3000).and_then(|()| call.transferred());
        subject.signal(Signal::CONT)?;
        sent?;
        subject.wait_count("sipobs_capture_frames_lost_total", &["reason=\"ring_full\""], 1)
    })?;
    let bytes = metrics.sum("sipobs_capture_ring_bytes", &[])?;
    ensure!(bytes == 131_072, "the ring has {bytes} bytes");
    let frames = settled(&mut subject)?;
    let matched = 5 + 3000 + 4;
    ensure!(frames.delivered + frames.lost == matched, "{matched} messages were sent: {frames:?}");
    subject.wait_said("frames lost so far on their way from the kernel")?;
    let (lines, _) = subject.stop(0, END)?;
    let transfer = transfer_of(&lines, "open").context("the attempt was not settled")?;
    ensure!(transfer["outcome"] == "unknown", "it was settled as {}", transfer["outcome"]);
    ensure!(transfer["quality"]["ring_lost"].as_u64() > Some(0), "quality is {}", transfer["quality"]);
    let Frames { delivered, lost, .. } = frames;
    Ok(format!(
        "{ring}: {matched} matched = {delivered} read + {lost} lost, the verdict is unknown and says why"
    ))
}

/// Killed under load, and started again.
pub(super) fn restart(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("restart")?;
    let peers = Peers::new(&lab)?;
    let subject = ground.plan(&lab).start()?;
    let frames = thread::scope(|scope| -> Result<Frames> {
        let flood = scope.spawn(|| {
            for _ in 0..100 {
                peers.flood(100)?;
                thread::sleep(Duration::from_millis(20));
            }
            anyhow::Ok(())
        });
        subject.kill()?;
        let mut subject = ground.plan(&lab).start()?;
        flood.join().map_err(|_| anyhow!("the flood panicked"))??;
        let frames = settled(&mut subject)?;
        subject.stop(0, END)?;
        Ok(frames)
    })?;
    ensure!(frames.delivered > 0 && frames.seen < 10_000, "the daemon was not away meanwhile: {frames:?}");
    Ok(Seen::Passed(format!("of 10000 messages it saw {}, and accounts for them", frames.seen)))
}

/// The account once nothing moves any more and the daemon has read everything.
fn settled(subject: &mut Subject<'_>) -> Result<Frames> {
    let mut last = 0;
    subject.wait("the daemon has caught up", Duration::from_secs(60), |subject| {
        let metrics = subject.metrics()?;
        let count = |what: &str| metrics.sum(&format!("sipobs_capture_frames_{what}_total"), &[]);
        let (seen, behind) = (count("seen")?, count("delivered")? - count("read")? - count("damaged")?);
        let rests = std::mem::replace(&mut last, seen) == seen && behind == 0;
        Ok(rests.then_some(()))
    })?;
    Frames::accounted(&subject.metrics()?)
}

/// The shipped capture's frames, each in its direction.
fn replay(lab: &Lab) -> Result<()> {
    let mut tcpreplay = recording::replayer(lab, &recording::shipped())?;
    tcpreplay.args(["--topspeed", "--preload-pcap", &format!("--loop={LOOPS}")]).arg(recording::shipped());
    tcpreplay.stdout(Stdio::null()).stderr(Stdio::null());
    run(&mut tcpreplay, Duration::from_secs(60))
}

/// Does `work` on one CPU.
pub(super) fn pinned<T>(cpu: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let all = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one)?;
    let done = work();
    sched_setaffinity(None, &all)?;
    done
}
