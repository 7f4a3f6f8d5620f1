//! A trunk's calls, day by day, and the baseline they make.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Run, count};

/// Longest window, in days.
const MAX_WINDOW: u32 = 31;

/// Runs shorter than this never alert, however sure the baseline: at p = 0.5 and beyond a handful of calls
/// would be enough.
const SHORTEST_RUN: u64 = 10;

/// Of the calls before the first REFER ever seen, so many are counted, and not as a run. They may be from before
/// transfers were in use at all, and say little of how rare REFERs are since.
const BEFORE_THE_FIRST: u64 = 50;

/// A record run is outdone by chance once in so many windows at most.
const RECORDS: f64 = 1e-5;

/// Days, oldest first, each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Days(VecDeque<Day>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Day {
    /// Days since the epoch.
    day: i64,
    dialogs: u64,
    refers: u64,
    /// Calls with a second leg and no REFER.
    invites: u64,
    /// Longest run without a REFER that ended on it.
    longest: u64,
    /// Longest run that alerted, if one did. Its calls are counted nowhere.
    alerted: u64,
}

/// Several days together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Baseline {
    pub(super) dialogs: u64,
    pub(super) refers: u64,
    pub(super) invites: u64,
    pub(super) longest: u64,
}

impl Days {
    /// Adds a run and the call with a REFER that ended it, all on the day that it ended.
    pub(super) fn add(&mut self, today: i64, mut run: Run, window: u32) {
        let first = self.0.is_empty();
        if first && run.calls > BEFORE_THE_FIRST {
            run.invites = run.invites.min(BEFORE_THE_FIRST);
            run.calls = BEFORE_THE_FIRST;
        }
        // A clock may step back over midnight: the newest day then takes the call.
        let newest = self.0.back().map(|day| day.day);
        if newest.is_none_or(|newest| newest < today) {
            self.0.push_back(Day { day: today, dialogs: 0, refers: 0, invites: 0, longest: 0, alerted: 0 });
        }
        while self.0.len() > window.min(MAX_WINDOW) as usize + 2 {
            self.0.pop_front();
        }
        if let Some(day) = self.0.back_mut() {
            day.dialogs = day.dialogs.saturating_add(run.calls).saturating_add(1);
            day.refers = day.refers.saturating_add(1);
            day.invites = day.invites.saturating_add(run.invites);
            day.longest = if first { 0 } else { day.longest.max(run.calls) };
        }
    }

    /// Takes note that an incident which began on day `since` is over, its longest run being `longest`. Its
    /// calls are no part of what is usual; but if there was such a run before, within the window, then runs
    /// like these are the trunk's own way (self-service days, week-ends), and a third is no news.
    pub(super) fn add_alerted(&mut self, since: i64, longest: u64, window: u32) {
        let from = since.saturating_sub(i64::from(window));
        let before = self.0.iter().filter(|day| day.day >= from).map(|day| day.alerted).max().unwrap_or(0);
        if let Some(day) = self.0.back_mut() {
            day.longest = day.longest.max(before.min(longest));
            day.alerted = day.alerted.max(longest);
        }
    }

    /// Counts days later than `today` (a clock was wrong, and was put back) as yesterday's and today's.
    pub(super) fn none_after(&mut self, today: i64) {
        // One day ahead is a clock stepping around midnight.
        while let Some(last) = self.0.back().copied().filter(|last| last.day > today.saturating_add(1)) {
            self.0.pop_back();
            match self.0.back_mut() {
                Some(before) if before.day >= today => before.absorb(last),
                _ => {
                    self.0.push_back(Day { day: today, ..last });
                    break;
                }
            }
        }
    }

    /// The `window` days up to `until`, that day included.
    pub(super) fn before(&self, until: i64, window: u32) -> Baseline {
        let Some(newest) = self.0.back().map(|day| day.day) else { return Baseline::default() };
        // Without an end the newest day is it.
        let until = if until == i64::MAX { newest } else { until };
        let from = until.saturating_sub(i64::from(window.clamp(1, MAX_WINDOW)));
        let mut baseline = Baseline::default();
        for day in self.0.iter().filter(|day| day.day >= from) {
            baseline.dialogs = baseline.dialogs.saturating_add(day.dialogs);
            baseline.refers = baseline.refers.saturating_add(day.refers);
            baseline.invites = baseline.invites.saturating_add(day.invites);
            baseline.longest = baseline.longest.max(day.longest);
        }
        baseline
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the numbers can have come from [`Self::add`].
    pub(super) fn is_sound(&self) -> bool {
        self.0.len() <= MAX_WINDOW as usize + 2
            && self.0.iter().zip(self.0.iter().skip(1)).all(|(a, b)| a.day < b.day)
            && self
                .0
                .iter()
                .all(|day| day.refers > 0 && day.refers <= day.dialogs && day.invites <= day.dialogs)
    }
}

impl Day {
    fn absorb(&mut self, other: Self) {
        self.dialogs = self.dialogs.saturating_add(other.dialogs);
        self.refers = self.refers.saturating_add(other.refers);
        self.invites = self.invites.saturating_add(other.invites);
        self.longest = self.longest.max(other.longest);
        self.alerted = self.alerted.max(other.alerted);
    }
}

impl Baseline {
    /// REFERs per call, 0 to 1.
    pub(super) fn ratio(self) -> f64 {
        if self.dialogs == 0 { 0.0 } else { count(self.refers) / count(self.dialogs) }
    }

    /// How long a run without a REFER must be to alert: see the module's own words.
    pub(super) fn run_needed(self, chance: f64) -> u64 {
        let p = self.ratio();
        let run = |chance: f64| chance.clamp(1e-12, 0.5).ln() / (-p).ln_1p();
        let improbable = run(chance).floor();
        // Out of a ratio of 0 or 1 comes -inf or 0: never, and at once.
        let improbable = if improbable.is_finite() { whole(improbable).saturating_add(1) } else { u64::MAX };
        let improbable = improbable.max(SHORTEST_RUN);
        // 0 where REFERs come evenly, 1 where they come as dice fall, or in clusters.
        let irregular = (count(self.longest) * p / 2.0).clamp(0.0, 1.0);
        improbable.max(self.longest.saturating_add(whole((run(RECORDS) * irregular).ceil())))
    }
}

/// A positive float as a whole number, saturating.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is meant")]
const fn whole(x: f64) -> u64 {
    x as u64
}
