//! What a run comes to: counts by outcome, fault, method, cause, trunk and target, and over time. All of it is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use strum::VariantArray;

use super::{Look, Tone, words};
use crate::record::{Attempt, Fault, Method, Outcome, Output};
use crate::timestamp::Timestamp;

/// Different trunks, targets and causes that are counted; what comes later counts as one.
const MOST_NAMES: usize = 4_096;
/// Attempts that are named for a cause.
const MOST_EXAMPLES: usize = 3;
/// Bars of the picture over time.
const MOST_BARS: i64 = 48;
/// How long a bar may stand for, in seconds.
const STEPS: &[i64] = &[60, 300, 900, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400];
/// The place of an hour among them.
const HOUR: usize = 3;
/// What stands for names that found no room.
const OTHERS: &str = "(others)";

/// Counts of what is shown.
#[derive(Debug)]
pub(super) struct Figures {
    look: Look,
    pub(super) transfers: u64,
    pub(super) outcomes: BTreeMap<(Outcome, Method), u64>,
    tones: [u64; 4],
    /// Of those that failed or are in doubt.
    pub(super) faults: BTreeMap<&'static str, u64>,
    causes: BTreeMap<String, Cause>,
    trunks: BTreeMap<Arc<str>, Share>,
    targets: BTreeMap<String, Share>,
    pub(super) timeline: Timeline,
}

/// A cause, the first word of its diagnosis, and who has it.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) count: u64,
    pub(super) said: String,
    pub(super) fault: Fault,
    /// The first of them.
    pub(super) examples: Vec<u64>,
}

/// How many, and how many of them failed or are in doubt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) all: u64,
    pub(super) failed: u64,
}

impl Figures {
    pub(super) fn new(look: Look) -> Self {
        Self {
            look,
            transfers: 0,
            outcomes: BTreeMap::new(),
            tones: [0; 4],
            faults: BTreeMap::new(),
            causes: BTreeMap::new(),
            trunks: BTreeMap::new(),
            targets: BTreeMap::new(),
            timeline: Timeline::default(),
        }
    }

    pub(super) fn count(&mut self, output: &Output) {
        match output {
            Output::Transfer(attempt) => self.attempt(attempt),
            Output::Notice(_) | Output::Alert(_) | Output::Call(_) => {}
        }
        self.timeline.count(self.look, output);
    }

    pub(super) fn by_tone(&self, tone: Tone) -> u64 {
        self.tones[tone as usize]
    }

    pub(super) fn failed(&self) -> u64 {
        self.by_tone(Tone::Bad) + self.by_tone(Tone::Doubt)
    }

    /// Causes, the most frequent first.
    pub(super) fn causes(&self) -> Vec<(&str, &Cause)> {
        let mut causes: Vec<_> = self.causes.iter().map(|(code, cause)| (code.as_str(), cause)).collect();
        causes.sort_by_key(|(code, cause)| (std::cmp::Reverse(cause.count), *code));
        causes
    }

    /// Trunks, those with the most failures first.
    pub(super) fn trunks(&self) -> Vec<(&str, Share)> {
        worst(self.trunks.iter().map(|(name, share)| (&**name, *share)).collect())
    }

    /// Targets, those with the most failures first.
    pub(super) fn targets(&self) -> Vec<(&str, Share)> {
        worst(self.targets.iter().map(|(name, share)| (name.as_str(), *share)).collect())
    }

    fn attempt(&mut self, attempt: &Attempt) {
        let failed = words::has_failed(attempt);
        self.transfers += 1;
        *self.outcomes.entry((attempt.outcome, attempt.method)).or_default() += 1;
        self.tones[words::tone(attempt) as usize] += 1;
        note(&mut self.trunks, attempt.trunk.clone(), failed);
        note(&mut self.targets, words::target(attempt), failed);
        if !failed {
            return;
        }
        *self.faults.entry(attempt.fault.as_str()).or_default() += 1;
        let Some(first) = attempt.diagnosis.first() else { return };
        let code = if self.causes.len() < MOST_NAMES { first.code.as_str() } else { OTHERS };
        let cause = self.causes.entry(code.to_owned()).or_insert_with(|| Cause {
            count: 0,
            said: words::cause(0, &first.cause).1,
            fault: first.fault,
            examples: Vec::new(),
        });
        cause.count += 1;
        if cause.examples.len() < MOST_EXAMPLES {
            cause.examples.extend(attempt.seq);
        }
    }
}

fn note<K: Ord + From<&'static str>>(names: &mut BTreeMap<K, Share>, name: K, failed: bool) {
    let has_room = names.len() < MOST_NAMES || names.contains_key(&name);
    let share = names.entry(if has_room { name } else { OTHERS.into() }).or_default();
    share.all += 1;
    share.failed += u64::from(failed);
}

fn worst(mut names: Vec<(&str, Share)>) -> Vec<(&str, Share)> {
    names.sort_by_key(|(name, share)| (std::cmp::Reverse(share.failed), std::cmp::Reverse(share.all), *name));
    names
}

/// How a transfer was tried, as the picture over time tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub(super) enum Way {
    Refer,
    SecondLeg,
    Redirect,
    /// By means that are rare: BYE/Also, REFER-to-BYE.
    Other,
    /// An answered call that ended without any.
    None,
}

impl Way {
    const fn of(method: Method) -> Self {
        match method {
            Method::Refer => Self::Refer,
            Method::Invite => Self::SecondLeg,
            Method::Redirect => Self::Redirect,
            Method::Also | Method::ReferBye => Self::Other,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Refer => "REFER",
            Self::SecondLeg => "second leg",
            Self::Redirect => "redirect",
            Self::Other => "other",
            Self::None => "none",
        }
    }
}

/// Counts over time: as fine as fits into the picture.
#[derive(Debug, Default)]
pub(in crate::export) struct Timeline {
    step: usize,
    /// Bars stand for an hour at most, and the oldest make way.
    is_of_late: bool,
    /// By the local second at which each begins.
    bars: BTreeMap<i64, Bar>,
}

/// Counts of one stretch of time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bar {
    /// By [`Way`].
    pub(super) ways: [u64; 5],
    /// By [`Tone`].
    pub(super) tones: [u64; 4],
}

impl Timeline {
    /// One that goes on without end, and shows what was of late: the last two days at most.
    #[cfg(feature = "daemon")]
    pub(in crate::export) fn of_late() -> Self {
        Self { is_of_late: true, ..Self::default() }
    }

    /// Counts a transfer, or an answered call that ended without any.
    pub(in crate::export) fn count(&mut self, look: Look, output: &Output) {
        match output {
            Output::Transfer(attempt) => {
                let tone = Some(words::tone(attempt));
                self.note(look, attempt.started, Way::of(attempt.method), tone);
            }
            // A leg of a transfer is counted as that.
            Output::Call(call) if super::is_bare(call) => self.note(look, call.ended, Way::None, None),
            Output::Call(_) | Output::Notice(_) | Output::Alert(_) => {}
        }
    }

    /// How long a bar stands for, in seconds.
    pub(super) fn seconds(&self) -> i64 {
        STEPS[self.step]
    }

    /// When each begins, in seconds of the reader's clock, and what it counts, in the order of time; those without any
    /// count left out.
    pub(super) fn bars(&self) -> impl Iterator<Item = (i64, Bar)> {
        self.bars.iter().map(|(at, bar)| (*at, *bar))
    }

    fn note(&mut self, look: Look, time: Timestamp, way: Way, tone: Option<Tone>) {
        let second = time.as_nanos().div_euclid(1_000_000_000) + i64::from((look.offset)(time));
        let bar = self.bars.entry(begin(second, STEPS[self.step])).or_default();
        bar.ways[way as usize] += 1;
        if let Some(tone) = tone {
            bar.tones[tone as usize] += 1;
        }
        let coarsest = if self.is_of_late { HOUR } else { STEPS.len() - 1 };
        while self.step < coarsest && self.span() > MOST_BARS * STEPS[self.step] {
            self.step += 1;
            for (at, bar) in std::mem::take(&mut self.bars) {
                let coarse = self.bars.entry(begin(at, STEPS[self.step])).or_default();
                coarse.ways.iter_mut().zip(bar.ways).for_each(|(sum, n)| *sum += n);
                coarse.tones.iter_mut().zip(bar.tones).for_each(|(sum, n)| *sum += n);
            }
        }
        // What comes is shown: a time that lies, far ahead, has the picture for itself only until the next one comes.
        let noted = begin(second, STEPS[self.step]);
        while self.is_of_late && self.span() > MOST_BARS * STEPS[self.step] {
            let is_first = self.bars.first_key_value().is_some_and(|(at, _)| *at == noted);
            if is_first {
                self.bars.pop_last()
            } else {
                self.bars.pop_first()
            };
        }
    }

    /// From the beginning of the first bar to the end of the last, in seconds.
    fn span(&self) -> i64 {
        let ends = self.bars.first_key_value().zip(self.bars.last_key_value());
        ends.map_or(0, |((first, _), (last, _))| last - first + STEPS[self.step])
    }
}

fn begin(second: i64, step: i64) -> i64 {
    second.div_euclid(step) * step
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_gets_as_coarse_as_it_must_and_nothing_is_lost() {
        let start = Timestamp::from_nanos(1_790_000_000_000_000_000);
        for (span, step) in [(600, 60), (3 * 3_600, 300), (40 * 3_600, 3_600), (40 * 86_400, 86_400)] {
            let mut timeline = Timeline::default();
            for n in 0..100 {
                let time = start + Duration::from_secs(n * span / 100);
                timeline.note(Look::default(), time, Way::Refer, Some(Tone::Good));
            }
            assert_eq!(timeline.seconds(), step, "{span}");
            assert_eq!(timeline.bars().map(|(_, bar)| bar.ways[0]).sum::<u64>(), 100);
            assert!(i64::try_from(timeline.bars.len()).unwrap() <= MOST_BARS);
            assert!(timeline.bars().all(|(at, bar)| at % step == 0 && bar.tones[0] == bar.ways[0]));
        }
    }

    #[test]
    fn what_was_of_late_is_shown_by_the_hour_and_the_rest_makes_way() {
        let start = Timestamp::from_nanos(1_790_000_000_000_000_000);
        let mut timeline = Timeline { is_of_late: true, ..Timeline::default() };
        for hour in 0..200 {
            let time = start + Duration::from_secs(hour * 3_600);
            timeline.note(Look::default(), time, Way::Refer, Some(Tone::Good));
        }
        assert_eq!((timeline.seconds(), timeline.bars().count()), (3_600, 48));
        assert!(timeline.bars().all(|(at, _)| at > start.as_nanos() / 1_000_000_000 + 150 * 3_600));
    }

    #[test]
    fn a_time_far_ahead_has_the_picture_only_until_the_next_comes() {
        let start = Timestamp::from_nanos(1_790_000_000_000_000_000);
        let mut timeline = Timeline { is_of_late: true, ..Timeline::default() };
        let mut note = |hour: u64| {
            let time = start + Duration::from_secs(hour * 3_600);
            timeline.note(Look::default(), time, Way::Refer, Some(Tone::Good));
            timeline.bars().count()
        };
        assert_eq!([0, 1, 9_000, 2, 3].map(&mut note), [1, 2, 1, 1, 2]);
    }

    #[test]
    fn names_without_end_take_bounded_room() {
        let mut names: BTreeMap<String, Share> = BTreeMap::new();
        (0..10_000).for_each(|n| note(&mut names, n.to_string(), n % 2 == 0));
        assert!(names.len() <= MOST_NAMES + 1);
        assert_eq!(names.values().map(|share| share.all).sum::<u64>(), 10_000);
        assert_eq!(names.values().map(|share| share.failed).sum::<u64>(), 5_000);
    }
}
