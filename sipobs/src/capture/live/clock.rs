//! From the kernel's monotonic clock to wall time: here, and nowhere else.
//!
//! Frame times must neither jump nor run back, or timers would fire at once or hang. So the offset between
//! the clocks is taken once; drift is followed slowly, a step not at all until the daemon says so.

use crate::timestamp::Timestamp;

/// A step and no drift: beyond this the wall clock was set.
const STEP: i64 = 1_000_000_000;

/// The fastest that drift is followed: one part in this many, as the kernel's own clock discipline does.
const SLEW: u64 = 2000;

/// The time of frames, which neither jumps nor runs back.
#[derive(Debug)]
pub struct Clock {
    /// Wall time less monotonic time, in nanoseconds.
    offset: i64,
    /// When drift was last followed.
    checked: u64,
}

impl Clock {
    /// One that goes by the wall clock as it is now.
    #[allow(clippy::new_without_default, reason = "it is another one each time")]
    pub fn new() -> Self {
        Self { offset: measure(), checked: monotonic() }
    }

    /// The time now. Follows drift of the wall clock.
    pub fn time(&mut self) -> Timestamp {
        let now = monotonic();
        self.follow(now);
        self.wall(now)
    }

    /// The wall time of a monotonic moment.
    pub(super) fn wall(&self, monotonic: u64) -> Timestamp {
        Timestamp::from_nanos(monotonic.cast_signed().saturating_add(self.offset))
    }

    /// Follows drift up to `now`.
    pub(super) fn follow(&mut self, now: u64) {
        self.approach(now, measure());
    }

    fn approach(&mut self, now: u64, measured: i64) {
        let most = (now.saturating_sub(self.checked) / SLEW).cast_signed();
        self.checked = now;
        let error = measured.saturating_sub(self.offset);
        if error.abs() < STEP {
            self.offset += error.clamp(-most, most);
        }
    }

    /// Nanoseconds that the wall clock is ahead of frame times.
    pub fn error(&self) -> i64 {
        measure().saturating_sub(self.offset)
    }

    /// Takes the wall clock as it is now.
    pub fn adopt(&mut self) {
        self.offset = measure();
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: what `bpf_ktime_get_ns` gives.
pub(super) fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC).cast_unsigned()
}

/// Wall time less monotonic time now.
fn measure() -> i64 {
    let before = read(libc::CLOCK_MONOTONIC);
    let wall = read(libc::CLOCK_REALTIME);
    let after = read(libc::CLOCK_MONOTONIC);
    wall - (before + (after - before) / 2)
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result; both clocks exist on every Linux.
    unsafe {
        libc::clock_gettime(clock, &raw mut time);
    }
    #[allow(clippy::useless_conversion, reason = "the fields are narrower on some targets")]
    (i64::from(time.tv_sec) * 1_000_000_000 + i64::from(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_followed_slowly_and_a_step_is_not() {
        let mut clock = Clock { offset: 1_000, checked: 0 };
        clock.approach(2_000_000, 1_500);
        assert_eq!(clock.offset, 1_500, "500 ns within 1000 allowed");
        clock.approach(4_000_000, 9_500);
        assert_eq!(clock.offset, 2_500, "no more than one part in 2000");
        clock.approach(6_000_000, 2_500 - 100);
        assert_eq!(clock.offset, 2_400, "backwards alike");
        clock.approach(8_000_000, 2_400 + 3_600 * 1_000_000_000);
        assert_eq!(clock.offset, 2_400, "an hour's step waits for adopt()");
    }

    #[test]
    fn wall_time_is_now() {
        let clock = Clock::new();
        let wall = clock.wall(monotonic()).as_nanos();
        assert!((read(libc::CLOCK_REALTIME) - wall).abs() < STEP);
    }
}
