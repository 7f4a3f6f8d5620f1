//! What kernel and rings hold at one moment.
//!
//! The programs count while their counters are read, so one reading of a busy CPU does not add up: a frame may be
//! counted as seen and not yet as delivered, or lie in the ring before it is counted. A CPU's counters are taken as
//! they stood when its ring had not moved during the reading and their own equations held.

use std::thread::{sleep, yield_now};
use std::time::Duration;

use aya::Ebpf;
use sipobs_common::{Counters, Failure, Hook};

use super::Error;
use super::maps::{self, OfCpu, counters_of_cpus};
use super::ring::Rings;

/// Frames by what became of them, at one moment:
///
/// ```text
/// seen      = other + malformed + keep_alive + noise + matched       (each hook)
/// matched   = delivered + failed                                     (each hook)
/// delivered = read + damaged + in_rings                              (all hooks together)
/// ```
#[derive(Clone, Debug)]
pub struct Account {
    /// What the programs have counted, summed over CPUs.
    pub hooks: [(Hook, Counters); 3],
    /// Frames that matched and could not be handed over, by CPU, for each that has a ring or lost any.
    pub failed: Vec<(u32, [u64; Failure::COUNT])>,
    /// Frames handed over.
    pub read: u64,
    /// Records that could not be read.
    pub damaged: u64,
    /// Frames in the rings that are not read yet, counted there.
    pub in_rings: u64,
    /// Lost frames that perf rings have told of: some of those for which a ring was full, once it is read to its
    /// end. BPF ring buffers tell of none.
    pub told: Option<u64>,
}

/// Readings in a row, at first without a pause: a program takes a microsecond or two. Under a flood most accounts
/// need one reading, and few more than this.
const EAGER: u32 = 16;
/// Readings at most. The later ones are for a CPU that was taken away in the middle of a program, which has been
/// seen to take 40 ms: what helps is time, not readings.
const TRIES: u32 = EAGER + 60;
/// Before the first of these, twice as long before each next one, up to [`LONGEST`]: 57 ms in all, which the rings
/// bridge as they do a wait for frames.
const PAUSE: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(1);

/// Takes the account; the caller has read `read` frames.
pub(super) fn take(ebpf: &Ebpf, rings: &Rings, read: u64) -> Result<Account, Error> {
    let mut settled: Vec<Option<OfCpu>> = Vec::new();
    let mut heads: Vec<(u32, u64)> = rings.heads();
    for tries in 1..=TRIES {
        let before = rings.heads();
        let counters = counters_of_cpus(ebpf)?;
        let after = rings.heads();
        settled.resize(counters.len(), None);
        for ((cpu, counters), settled) in (0..).zip(&counters).zip(&mut settled) {
            if settled.is_some() {
                continue;
            }
            let still = before.iter().zip(&after).all(|(before, after)| before.0 != cpu || before == after);
            // The last reading is given as it is: what it leaves over is then seen.
            if (still && counters.iter().all(adds_up)) || tries == TRIES {
                *settled = Some(*counters);
                for (head, after) in heads.iter_mut().zip(&after).filter(|(head, _)| head.0 == cpu) {
                    *head = *after;
                }
            }
        }
        if settled.iter().all(Option::is_some) {
            break;
        }
        match pause(tries) {
            None => yield_now(),
            Some(pause) => sleep(pause),
        }
    }
    let cpus: Vec<OfCpu> = settled.into_iter().flatten().collect();
    Ok(Account {
        hooks: sums(&cpus),
        failed: failed(&cpus, &heads),
        read,
        damaged: rings.damaged(),
        in_rings: rings.frames_up_to(&heads),
        told: rings.lost(),
    })
}

/// How long to wait after so many readings, if not just for another thread's turn.
fn pause(tries: u32) -> Option<Duration> {
    let doubled = tries.checked_sub(EAGER)?;
    (tries < TRIES).then(|| PAUSE.saturating_mul(2_u32.saturating_pow(doubled)).min(LONGEST))
}

/// Whether no frame was between two of these counters when they were read.
fn adds_up(counters: &Counters) -> bool {
    counters.matched == counters.delivered + counters.lost()
        && counters.seen == counters.not_matched() + counters.matched
}

fn sums(cpus: &[OfCpu]) -> [(Hook, Counters); 3] {
    Hook::ALL.map(|hook| {
        let mut sum = Counters::default();
        for cpu in cpus {
            sum.add(&cpu[hook as usize]);
        }
        (hook, sum)
    })
}

fn failed(cpus: &[OfCpu], rings: &[(u32, u64)]) -> Vec<(u32, [u64; Failure::COUNT])> {
    let all = (0..).zip(cpus).map(|(cpu, hooks)| (cpu, maps::failed(hooks)));
    let has_ring = |cpu: u32| rings.iter().any(|(of, _)| *of == cpu);
    all.filter(|(cpu, failed)| has_ring(*cpu) || failed.iter().any(|frames: &u64| *frames > 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_holds_up_the_capture_for_little() {
        let pauses: Vec<Duration> = (1..=TRIES).filter_map(pause).collect();
        assert_eq!(pauses[..3], [50, 100, 200].map(Duration::from_micros));
        assert!(pauses.iter().sum::<Duration>() < Duration::from_millis(60), "{pauses:?}");
        assert_eq!((pause(EAGER - 1), TRIES), (None, 76));
    }
}
