//! The capture's clock, as far as it can be believed.
//!
//! A timestamp may lie: that of one frame, a year ahead or at the epoch; or those of all frames from one on, where the
//! clock was set. If time went on with it, every timer would fire, and what comes next would find nothing of its call.
//! So a frame whose time leaps waits for those behind it, which tell what the leap is:
//!
//! | behind it | the leap is |
//! |---|---|
//! | time is back where it was | one frame that lies: it gets its neighbours' time |
//! | time stays, and something goes on that can't have lasted so long ([`evidence`]) | a step: taken out of all times after it |
//! | time stays, back in the past | a step; or the capture of another tap, if its messages are known already |
//! | time stays, and nothing contradicts it | silence |
//!
//! What the stages work with is this *true* time. What leaves the engine has times by the capture's clock as it went
//! when that began ([`Clock::ahead_at`]): its beginning is where the file has it, and it lasts as long as it did.
//!
//! Ticks ([`Clock::tick`]) vouch for the time that they tell: live capture, whose times are the kernel's, has no leaps.

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use crate::frame::Frame;
use crate::timestamp::Timestamp;

mod evidence;

pub(crate) use evidence::{Evidence, Look, Memory, Sight, Witness};

use evidence::FORGOTTEN;

/// Frames overtake one another by no more than this where a capture has several queues or interfaces.
const DISORDER: Duration = Duration::from_secs(2);
/// Whoever is this much behind, and stays there, is another queue of the same capture.
const BEHIND: Duration = Duration::from_secs(30);
/// Silence of less than this is no step: requests are repeated for 32 s (64·T1, RFC 3261 §17.1.2.2), and answered late.
const LEAP: Duration = Duration::from_secs(33);
/// What goes on behind a step goes on within this.
const SOON: Duration = Duration::from_secs(35);
/// Frames that wait, and their bytes, at most.
const MOST: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// Among so many frames behind a request is its answer.
const FEW: usize = 8;
/// Clocks are mostly set by whole hours, or half ones: what a step is more than that has passed.
const UNIT: i64 = 1_800_000_000_000;
/// As long as it is no more than this: a transaction lasts no longer.
const PASSED: Duration = Duration::from_secs(32);
/// 1990 and 2100, in nanoseconds.
const EARLIEST: i64 = 631_152_000_000_000_000;
const LATEST: i64 = 4_102_444_800_000_000_000;
/// Steps that are remembered, for the times of what is told later.
const STEPS: usize = 64;

/// The times of a capture's frames, made to go on without leaps.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// The true time of the last frame.
    last: Option<Timestamp>,
    /// Nanoseconds that the captured times are ahead by.
    ahead: i64,
    /// Since when they were ahead by how much, the oldest first.
    steps: VecDeque<(Timestamp, i64)>,
    /// Another file has begun, and no frame of it was taken yet.
    at_border: bool,
    /// Frames behind a leap, the one that leaps first.
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Buffers that can be used again.
    spare: Vec<Vec<u8>>,
    /// How many of those that wait were asked for evidence, and whether one had some.
    asked: usize,
    told: Option<Evidence>,
}

/// A frame, kept.
#[derive(Debug)]
struct Waiting {
    frame: Frame<'static>,
    bytes: Vec<u8>,
}

/// What a leap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leap {
    /// None, or silence.
    None,
    /// This frame's time lies.
    Lie,
    /// The clock was set.
    Step,
    /// Another capture begins in the same file.
    Border,
}

/// A frame that need not wait any more, at its true time.
#[derive(Debug)]
pub(crate) struct Ready {
    waited: Waiting,
    /// Its time, or the clock, was found to lie.
    pub(crate) lied: bool,
}

impl Ready {
    pub(crate) fn frame(&self) -> Frame<'_> {
        self.waited.view()
    }
}

impl Clock {
    /// The true time of a frame captured at `time` that need not wait: no leap is before it.
    pub(crate) fn pass(&mut self, time: Timestamp) -> Option<Timestamp> {
        if std::mem::take(&mut self.at_border) {
            self.cross_border(time);
        }
        let time = self.truly(time);
        let leaps = self.last.map_or(!is_plausible(time), |last| !is_near(last, time));
        if leaps || !self.waiting.is_empty() {
            return None;
        }
        self.last = Some(time);
        Some(time)
    }

    /// Keeps a frame that must wait.
    pub(crate) fn wait(&mut self, frame: &Frame<'_>) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(frame.bytes);
        self.bytes += bytes.len();
        self.waiting.push_back(Waiting { frame: Frame { bytes: &[], ..*frame }, bytes });
    }

    /// The next frame that need not wait any more. `is_last`: nothing comes behind those that wait.
    pub(crate) fn ready(&mut self, is_last: bool, witness: &impl Witness) -> Option<Ready> {
        let time = self.truly(self.waiting.front()?.frame.time);
        let last = self.last.or_else(|| self.first_plausible()).unwrap_or(time);
        let leap = match self.last {
            None if self.waiting.len() == 1 && !is_last => return None,
            None if is_near(last, time) => Leap::None,
            None => Leap::Lie,
            Some(last) => self.judge(last, time, is_last, witness)?,
        };
        let captured = self.waiting.front()?.frame.time;
        let with_next = leap == Leap::Lie && self.leads_on(is_last, witness)?;
        let time = match leap {
            Leap::None => time,
            // What it leads to tells when it came; else what led to it.
            Leap::Lie if with_next => self.next_true(last, time),
            Leap::Lie => last,
            Leap::Step => self.step(last, captured),
            Leap::Border => {
                self.forget();
                captured
            }
        };
        self.last = Some(time);
        (self.asked, self.told) = (0, None);
        let mut waited = self.waiting.pop_front()?;
        self.bytes -= waited.bytes.len();
        waited.frame.time = time;
        Some(Ready { waited, lied: matches!(leap, Leap::Lie | Leap::Step) })
    }

    /// How many frames wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Takes a buffer back.
    pub(crate) fn done_with(&mut self, ready: Ready) {
        let mut bytes = ready.waited.bytes;
        bytes.clear();
        self.spare.push(bytes);
        self.spare.truncate(4);
    }

    /// Time has come to `now`, as somebody says who knows.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Timestamp {
        let now = self.truly(now);
        self.last = Some(now);
        now
    }

    /// The true time of the capture's end, whose last frame was captured at `time`.
    pub(crate) fn end(&self, time: Timestamp) -> Timestamp {
        let time = self.truly(time);
        self.last.filter(|last| !is_near(*last, time)).unwrap_or(time)
    }

    /// Another file begins.
    pub(crate) fn border(&mut self) {
        self.at_border = true;
    }

    /// By how many nanoseconds the capture's clock was ahead at this true time.
    pub(crate) fn ahead_at(&self, time: Timestamp) -> i64 {
        self.steps.iter().rev().find(|(since, _)| *since <= time).map_or(0, |(_, ahead)| *ahead)
    }

    fn truly(&self, time: Timestamp) -> Timestamp {
        time.ahead_by(self.ahead.saturating_neg())
    }

    /// Files given together may be pieces of one capture, or nothing to one another: earlier times are no step.
    fn cross_border(&mut self, time: Timestamp) {
        let time = self.truly(time);
        if self.last.is_some_and(|last| last.since(time) > DISORDER) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        (self.last, self.ahead) = (None, 0);
        self.steps.clear();
    }

    /// Sets the clock by what a frame captured at `time` tells; its true time.
    fn step(&mut self, last: Timestamp, time: Timestamp) -> Timestamp {
        let true_time = match self.former(last, time) {
            Some(former) => former.max(after(last)),
            None => after(last) + passed(last, self.truly(time)),
        };
        self.ahead = time.as_nanos().saturating_sub(true_time.as_nanos());
        self.steps.push_back((true_time, self.ahead));
        if self.steps.len() > STEPS {
            self.steps.pop_front();
        }
        true_time
    }

    /// The true time of a frame if the clock is back where it was before its last step.
    fn former(&self, last: Timestamp, time: Timestamp) -> Option<Timestamp> {
        let ahead = match self.steps.len() {
            0 => return None,
            1 => 0,
            steps => self.steps[steps - 2].1,
        };
        let time = time.ahead_by(ahead.saturating_neg());
        is_close(last, time, PASSED).then_some(time)
    }

    /// The time of the second frame, where the first one's is no time of a capture.
    fn first_plausible(&self) -> Option<Timestamp> {
        let mut later = self.later().map(|later| later.time);
        later.next().filter(|later| is_plausible(*later))
    }

    /// Whether one of the frames behind it goes with the first one; nothing while that is open.
    fn leads_on(&self, is_last: bool, witness: &impl Witness) -> Option<bool> {
        let first = self.waiting.front()?.view();
        let found = self.later().take(FEW).any(|later| witness.is_one(&first, &later));
        (found || is_last || self.waiting.len() > FEW).then_some(found)
    }

    /// The true time of a frame that lied to be of `time`: that of the frame behind it.
    fn next_true(&self, last: Timestamp, time: Timestamp) -> Timestamp {
        let later = self.later().take(3).map(|later| self.truly(later.time));
        let mut true_ones =
            later.filter(|later| last.since(*later) <= DISORDER && (time < last || *later < time));
        true_ones.next().map_or(last, |next| next.max(last))
    }

    /// The frames behind the one that leaps.
    fn later(&self) -> impl Iterator<Item = Frame<'_>> {
        self.waiting.iter().skip(1).map(Waiting::view)
    }

    /// What the leap to `time` is; nothing while that is open.
    fn judge(
        &mut self,
        last: Timestamp,
        time: Timestamp,
        is_last: bool,
        witness: &impl Witness,
    ) -> Option<Leap> {
        if is_near(last, time) {
            return Some(Leap::None);
        }
        // Time is back where a later frame goes on from `last`. What leaps elsewhere is judged for itself.
        let stays = |later: Timestamp| match time < last {
            true => last.since(later) > DISORDER,
            false => time.since(later) <= DISORDER || last.since(later) > DISORDER,
        };
        // The next few decide, however many wait.
        let stay: SmallVec<[bool; 3]> =
            self.later().take(3).map(|later| stays(self.truly(later.time))).collect();
        match stay[..] {
            [] if !is_last => None,
            [false] if !is_last => None,
            [false, false, ..] | [false] => Some(Leap::Lie),
            [] if time < last => Some(Leap::Lie),
            _ if time < last => Some(self.judge_behind(last, time, witness)),
            // The next one lies, not this one.
            _ if time.since(last) < LEAP => Some(Leap::None),
            _ => self.judge_ahead(last, time, is_last, witness),
        }
    }

    /// Of a time in the past that stays.
    fn judge_behind(&self, last: Timestamp, time: Timestamp, witness: &impl Witness) -> Leap {
        let known = self
            .waiting
            .iter()
            .take(3)
            .map(Waiting::view)
            .any(|frame| witness.knows(&frame, self.truly(frame.time)));
        match (last.since(time) < BEHIND, known) {
            (true, _) => Leap::None,
            (false, true) => Leap::Border,
            (false, false) => Leap::Step,
        }
    }

    /// Of a time far ahead that stays.
    fn judge_ahead(
        &mut self,
        last: Timestamp,
        time: Timestamp,
        is_last: bool,
        witness: &impl Witness,
    ) -> Option<Leap> {
        if self.former(last, self.waiting.front()?.frame.time).is_some() {
            return Some(Leap::Step);
        }
        let silence = time.since(last);
        let mut is_over = is_last || self.waiting.len() >= MOST || self.bytes >= MOST_BYTES;
        while let Some(next) = self.waiting.get(self.asked)
            && self.told.is_none()
        {
            let frame = next.view();
            if self.truly(frame.time).since(time) > SOON && silence < FORGOTTEN {
                is_over = true;
                break;
            }
            let whole = passed(last, time) > Duration::ZERO;
            self.told = witness.evidence(&Look { frame, last, silence, at_once: whole || self.asked == 0 });
            self.asked += 1;
        }
        match self.told {
            Some(Evidence::GoesOn) => Some(Leap::Step),
            Some(Evidence::TimePassed) => Some(Leap::None),
            None => is_over.then_some(Leap::None),
        }
    }
}

impl Waiting {
    fn view(&self) -> Frame<'_> {
        Frame { bytes: &self.bytes, ..self.frame }
    }
}

/// Whether a capture may begin then: after the first ones were made, and not in another century.
fn is_plausible(time: Timestamp) -> bool {
    (EARLIEST..LATEST).contains(&time.as_nanos())
}

/// Just behind the last frame, and told from it.
fn after(last: Timestamp) -> Timestamp {
    last + Duration::from_nanos(1)
}

/// How much time passed between `last` and a frame whose clock says `time`: what is more than whole units, if that is
/// not too long.
fn passed(last: Timestamp, time: Timestamp) -> Duration {
    let more = time.as_nanos().saturating_sub(last.as_nanos()).rem_euclid(UNIT);
    let more = Duration::from_nanos(more.unsigned_abs());
    if more <= PASSED { more } else { Duration::ZERO }
}

/// Whether frames in this order have these times in every capture.
fn is_near(last: Timestamp, time: Timestamp) -> bool {
    is_close(last, time, DISORDER)
}

/// Whether `time` is at most so long after `last`, and not before it but for disorder.
fn is_close(last: Timestamp, time: Timestamp, within: Duration) -> bool {
    time.since(last) <= within && last.since(time) <= DISORDER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Direction, LinkType};

    const HOUR: i64 = 3600;

    /// Asked of frames that hold a word: whether they go on with what was before, or begin something.
    struct Words;

    impl Witness for Words {
        fn is_one(&self, frame: &Frame<'_>, other: &Frame<'_>) -> bool {
            frame.bytes == b"request" && other.bytes == b"answer"
        }

        fn knows(&self, frame: &Frame<'_>, _: Timestamp) -> bool {
            frame.bytes == b"known"
        }

        fn evidence(&self, look: &Look<'_>) -> Option<Evidence> {
            match look.frame.bytes {
                b"goes on" => Some(Evidence::GoesOn),
                b"time passed" => Some(Evidence::TimePassed),
                _ => None,
            }
        }
    }

    /// The true times, in seconds, that frames with these times and words get; then what is left of them as captured.
    fn given(frames: &[(i64, &str)]) -> Vec<i64> {
        let (mut clock, mut times) = (Clock::default(), Vec::new());
        for (at, (time, word)) in frames.iter().enumerate() {
            let time = Timestamp::from_nanos(time * 1_000_000_000);
            let (direction, link, bytes) = (Direction::Unknown, LinkType::Raw, word.as_bytes());
            let frame = Frame { time, number: 1, interface: 0, direction, link, wire_len: 0, bytes };
            match clock.pass(time) {
                Some(time) => times.push(time),
                None => clock.wait(&frame),
            }
            while let Some(ready) = clock.ready(at + 1 == frames.len(), &Words) {
                if !ready.lied {
                    let number = times.len();
                    let time = ready.frame().time;
                    let captured = time.ahead_by(clock.ahead_at(time)).as_nanos() / 1_000_000_000;
                    assert_eq!(captured, frames[number].0, "frame {number} of {frames:?}");
                }
                times.push(ready.frame().time);
                clock.done_with(ready);
            }
        }
        assert_eq!(times.len(), frames.len());
        times.into_iter().map(|time| time.as_nanos() / 1_000_000_000).collect()
    }

    fn plain(seconds: &[i64]) -> Vec<i64> {
        given(&seconds.iter().map(|at| (*at, "")).collect::<Vec<_>>())
    }

    #[test]
    fn one_frame_that_lies_gets_its_neighbours_time() {
        assert_eq!(plain(&[10, 11, 9000 * HOUR, 12, 13]), [10, 11, 11, 12, 13]);
        assert_eq!(plain(&[10, 11, 41, 12, 13]), [10, 11, 11, 12, 13]);
        assert_eq!(plain(&[9 * HOUR, 0, 9 * HOUR + 1]), [9 * HOUR, 9 * HOUR, 9 * HOUR + 1]);
        assert_eq!(plain(&[100, 60, 101]), [100, 100, 101]);
        assert_eq!(plain(&[100, 0]), [100, 100]);
        let lie = 9000 * HOUR;
        assert_eq!(given(&[(10, ""), (lie, "request"), (40, "answer"), (41, "")]), [10, 40, 40, 41]);
        // After a pause, too; and where it would go on with something.
        assert_eq!(given(&[(10, ""), (lie, "request"), (600, "answer"), (601, "")]), [10, 600, 600, 601]);
        assert_eq!(given(&[(10, ""), (lie, "goes on"), (12, ""), (13, "")]), [10, 10, 12, 13]);
    }

    #[test]
    fn a_step_is_taken_out_of_what_comes_after_it() {
        assert_eq!(given(&[(10, ""), (HOUR + 12, ""), (HOUR + 13, "goes on")]), [10, 12, 13]);
        assert_eq!(given(&[(10, ""), (HOUR + 512, "goes on"), (HOUR + 513, "")]), [10, 10, 11]);
        assert_eq!(plain(&[HOUR + 10, HOUR + 11, 12, 13]), [HOUR + 10, HOUR + 11, HOUR + 12, HOUR + 13]);
        let there_and_back = [(10, ""), (HOUR + 11, "goes on"), (HOUR + 12, ""), (13, ""), (14, "")];
        assert_eq!(given(&there_and_back), [10, 11, 12, 13, 14]);
        let back_and_there = [HOUR + 10, 11, 12, HOUR + 40, HOUR + 41].map(|at| (at, ""));
        assert_eq!(given(&back_and_there), [10, 11, 12, 40, 41].map(|at| HOUR + at));
        let back_after_a_pause = [HOUR, HOUR + 20, 21, 22].map(|at| (at, ""));
        assert_eq!(given(&back_after_a_pause), [0, 20, 21, 22].map(|at| HOUR + at));
    }

    #[test]
    fn silence_is_silence() {
        assert_eq!(plain(&[10, HOUR + 11, HOUR + 12]), [10, HOUR + 11, HOUR + 12]);
        assert_eq!(plain(&[10, 80, 81, 300, 9000, 90000]), [10, 80, 81, 300, 9000, 90000]);
        // Too late to be what was before; and time is known to have passed.
        let late = [(10, ""), (HOUR, ""), (HOUR + 20, ""), (HOUR + 40, "goes on")];
        assert_eq!(given(&late), late.map(|(at, _)| at));
        assert_eq!(given(&[(10, ""), (HOUR, "time passed"), (HOUR + 1, "goes on")]), [10, HOUR, HOUR + 1]);
    }

    #[test]
    fn queues_overtake_one_another() {
        assert_eq!(plain(&[10, 20, 15, 21, 22]), [10, 20, 20, 21, 22]);
        assert_eq!(plain(&[30, 25, 26, 31, 32, 27, 28]), [30, 25, 26, 31, 32, 27, 28]);
        assert_eq!(given(&[(1000, ""), (1001, ""), (10, ""), (11, "known")]), [1000, 1001, 10, 11]);
    }

    #[test]
    fn of_another_file_earlier_times_are_its_own() {
        let mut clock = Clock::default();
        let at = |seconds| Timestamp::from_nanos(EARLIEST + seconds * 1_000_000_000);
        assert_eq!(clock.pass(at(2 * HOUR)), Some(at(2 * HOUR)));
        clock.border();
        assert_eq!(clock.pass(at(5)), Some(at(5)));
    }

    #[test]
    fn a_tick_vouches_for_its_time() {
        let mut clock = Clock::default();
        let at = |seconds| Timestamp::from_nanos(EARLIEST + seconds * 1_000_000_000);
        clock.pass(at(0));
        clock.tick(at(2 * HOUR));
        assert_eq!(clock.pass(at(2 * HOUR + 1)), Some(at(2 * HOUR + 1)));
        clock.tick(at(0));
        assert_eq!(clock.pass(at(1)), Some(at(1)));
    }

    #[test]
    fn a_capture_begins_neither_at_the_epoch_nor_in_another_century() {
        let now = EARLIEST / 1_000_000_000;
        assert_eq!(plain(&[0, now + 1, now + 2]), [now + 1, now + 1, now + 2]);
        assert_eq!(plain(&[i64::MAX / 1_000_000_000, now + 1]), [now + 1, now + 1]);
        assert_eq!(plain(&[0, 1, 2]), [0, 1, 2]);
        assert_eq!(plain(&[0]), [0]);
    }
}
