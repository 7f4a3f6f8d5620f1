//! From a frame to its counter and, if it is SIP, to the ring.

use core::hint::black_box;

use aya_log_ebpf::warn;
use sipobs_common::{Counters, Failure, Hook};

use crate::deliver::deliver;
use crate::frame::Frame;
use crate::maps::counters;
use crate::parse::{Link, Verdict, judge};

/// Looks at one frame. Every path through here adds to exactly the counters that the equations of
/// [`sipobs_common::Counters`] name.
#[inline(always)]
pub fn observe<F: Frame>(frame: &F, hook: Hook, link: Link) {
    let Some(counters) = counters(hook) else { return };
    // SAFETY: the counters are this CPU's own, and no other program of this hook interrupts this one.
    let counters = unsafe { &mut *counters };
    count(&mut counters.seen);
    match judge(frame, link) {
        Verdict::Other => count(&mut counters.other),
        Verdict::Malformed => count(&mut counters.malformed),
        Verdict::KeepAlive => count(&mut counters.keep_alive),
        Verdict::Noise => count(&mut counters.noise),
        Verdict::Match(marks) => {
            count(&mut counters.matched);
            let (result, truncated) = deliver(frame, hook, link, marks);
            if result == 0 {
                count(&mut counters.delivered);
                counters.truncated += u64::from(truncated);
            } else {
                refuse(counters, hook, result);
            }
        }
    }
}

/// Adds one. What is opaque can't be joined with other ways to here: behind them, the counter's place would be
/// computed, and that is pointer arithmetic which only the holder of CAP_PERFMON may do.
#[inline(always)]
fn count(counter: &mut u64) {
    *counter = black_box(*counter + 1);
}

/// Counts a frame that the helper did not take.
#[inline(always)]
fn refuse(counters: &mut Counters, hook: Hook, result: i64) {
    match Failure::of(result) {
        // The daemon hears of this by the counter; a line a frame would only add to the load.
        Failure::Full => {
            count(&mut counters.failed[Failure::Full as usize]);
            return;
        }
        Failure::NoRing => count(&mut counters.failed[Failure::NoRing as usize]),
        Failure::RingOff => count(&mut counters.failed[Failure::RingOff as usize]),
        Failure::Busy => count(&mut counters.failed[Failure::Busy as usize]),
        Failure::Fault => count(&mut counters.failed[Failure::Fault as usize]),
        Failure::Other => count(&mut counters.failed[Failure::Other as usize]),
    }
    // Off unless the configuration asks for it: then the verifier leaves it out of the program.
    warn!((), "hook {}: a frame could not be handed over: error {}", hook as u32, result);
}
