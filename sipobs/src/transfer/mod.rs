//! Dialog events → transfer attempts, judged.
//!
//! Each method has its machine: `refer`, `invite` for legs to the target, `handover` for redirects and
//! BYEs that hand a call over. `hear` brings every event to the attempts it concerns, `second` finds out
//! whose leg a leg is, `settle` gives verdicts, and `ended` the records of ended calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde::Serialize;

use crate::dialog::{Crowded, Dialogs, LegId, Place, Unplaced};
use crate::sip::Message;
use crate::stream::{Damage, WireMessage};
use crate::timestamp::Timestamp;

pub mod absent;
mod attempt;
mod callers;
mod config;
pub mod diagnosis;
mod ended;
mod facts;
mod handover;
mod hear;
mod invite;
mod ladder;
mod link;
mod losses;
mod open;
mod q850;
pub mod ratio;
mod refer;
mod referred;
mod second;
mod settle;
#[cfg(test)]
mod tests;
pub mod trunk;
mod verdict;

pub use attempt::*;
pub use config::{Config, ConfigError, Limits, Timers};
pub use link::{LinkConfig, LinkCounts, LinkHeader, LinkWeights};
pub use q850::Q850;

use absent::Absent;
use callers::Callers;
use diagnosis::Diagnoses;
use link::Links;
use losses::Losses;
use open::{AttemptId, Kept, Open};
use ratio::{Ratio, RatioState};
use trunk::Trunks;

/// The stage: dialogs, attempts, links, verdicts.
#[derive(Debug)]
pub struct Transfers {
    config: Config,
    dialogs: Dialogs,
    /// One for each leg of `dialogs`.
    calls: BTreeMap<LegId, Kept>,
    attempts: BTreeMap<AttemptId, Open>,
    timers: BTreeSet<(Timestamp, Timer)>,
    next: u64,
    links: Links,
    trunks: Trunks,
    diagnoses: Diagnoses,
    absent: Absent,
    ratio: Ratio,
    losses: Losses,
    callers: Callers,
    /// Where outcomes are told that are told elsewhere (RFC 7614): URI, then the Call-ID that asked there.
    events_at: HashMap<Vec<u8>, AttemptId>,
    outputs: VecDeque<Output>,
    counts: Counts,
}

/// What may change while calls are up: who is which trunk, and what the likely causes are.
#[derive(Clone, Debug)]
pub struct Rules {
    trunks: Trunks,
    diagnoses: Diagnoses,
}

/// What has been found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls seen: initial INVITEs with what became of them, and calls older than the capture.
    pub calls: u64,
    /// Settled attempts by outcome.
    pub transfers: BTreeMap<Outcome, u64>,
    /// Calls dropped before their end.
    pub evicted: Evicted,
}

/// Calls dropped before their end, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// There was no room for more.
    pub room: u64,
    /// Their host had more than its share of calls that nobody confirmed.
    pub host_share: u64,
    /// Too many calls had one Call-ID.
    pub call_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Attempt(AttemptId),
    Second(LegId),
}

impl Evicted {
    /// All of them.
    pub const fn sum(&self) -> u64 {
        self.room + self.host_share + self.call_id
    }

    fn add(&mut self, why: Crowded) {
        *match why {
            Crowded::Room => &mut self.room,
            Crowded::Share => &mut self.host_share,
            Crowded::CallId => &mut self.call_id,
        } += 1;
    }
}

impl Rules {
    /// Those of `config`, checked.
    ///
    /// # Errors
    ///
    /// When a trunk or the diagnosis table makes no sense.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self {
            trunks: Trunks::new(&config.trunk)?,
            diagnoses: Diagnoses::new(config.diagnosis.as_deref())?,
        })
    }
}

impl Transfers {
    /// The stage with these settings.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let Rules { trunks, diagnoses } = Rules::new(&config)?;
        Ok(Self {
            dialogs: Dialogs::new(config.lifetimes()),
            calls: BTreeMap::new(),
            attempts: BTreeMap::new(),
            timers: BTreeSet::new(),
            next: 0,
            links: Links::new(config.links(), config.timers.after_bye),
            trunks,
            diagnoses,
            absent: Absent::new(config.absent.clone()),
            ratio: Ratio::new(config.ratio.clone()),
            losses: Losses::default(),
            callers: Callers::new(config.limits.bytes),
            events_at: HashMap::new(),
            outputs: VecDeque::new(),
            counts: Counts::default(),
            config,
        })
    }

    /// Takes one SIP message, if it can be said to which dialog it belongs.
    pub fn message(&mut self, wire: &WireMessage<'_>, message: &Message<'_>) -> Result<(), Unplaced> {
        let place = Place::of(message)?;
        while let Some((why, id)) = self.dialogs.crowded() {
            self.counts.evicted.add(why);
            self.drop_leg(id, wire.time);
        }
        if self.told_elsewhere(wire, message) {
            return Ok(());
        }
        if let Some(heard) = self.dialogs.message(wire, message, &place) {
            self.hear(heard, wire, message);
        }
        Ok(())
    }

    /// Takes note of missing evidence at `now`.
    pub fn damage(&mut self, _now: Timestamp, damage: Damage) {
        self.losses.take(damage);
    }

    /// Hosts no longer known to be seen calling, because there were too many.
    pub fn callers_evicted(&self) -> u64 {
        self.callers.evicted()
    }

    /// What there was no room for where second legs are tied to their calls.
    pub fn link_counts(&self) -> LinkCounts {
        self.links.counts()
    }

    /// Frames that the capture is known to have lost.
    pub fn ring_lost(&self) -> u64 {
        self.losses.ring()
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let own = self.timers.first().map(|(time, _)| *time);
        [own, self.dialogs.poll_timeout()].into_iter().flatten().min()
    }

    /// Fires every timer due at `now`, in order of their deadlines.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(&(time, timer)) = self.timers.first().filter(|(time, _)| *time <= now) {
            self.timers.remove(&(time, timer));
            // A deadline is judged as of itself, however late the call: a file has no ticks in silence.
            match timer {
                Timer::Attempt(id) => {
                    if let Some(open) = self.attempts.get_mut(&id) {
                        open.due = None;
                    }
                    self.review(id, time);
                }
                Timer::Second(leg) => {
                    if let Some(second) = self.second_mut(leg) {
                        second.due = None;
                    }
                    self.review_second(leg, time);
                }
            }
        }
        while let Some(id) = self.dialogs.over(now) {
            self.leg_over(id, now);
        }
    }

    /// The capture is over at `now`: settles all that is open as it stands.
    pub fn finish(&mut self, now: Timestamp) {
        self.handle_timeout(now);
        let undecided: Vec<_> =
            self.calls.iter().filter(|(_, call)| call.second.is_some()).map(|(id, _)| *id).collect();
        for leg in undecided {
            self.force_second(leg, now);
        }
        while let Some((&id, _)) = self.attempts.first_key_value() {
            self.settle(id, now, true);
        }
        while let Some(id) = self.dialogs.first() {
            self.drop_leg(id, now);
        }
    }

    /// What has been found since the last call, in time order. Not yet masked.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What has been found so far, in numbers.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Names of the trunks, `other` first.
    pub fn trunks(&self) -> impl Iterator<Item = &str> {
        self.trunks.names()
    }

    /// Goes by other rules from now on. A call that is up stays with its trunk, unless no trunk has that name any
    /// more.
    pub fn adopt(&mut self, rules: Rules) {
        let Rules { trunks, diagnoses } = rules;
        let renumbered = trunks.renumbered(&self.trunks);
        for call in self.calls.values_mut() {
            call.trunk = call.trunk.among(&renumbered);
        }
        (self.trunks, self.diagnoses) = (trunks, diagnoses);
    }

    /// What has been learned of the trunks' transfer ratios, to be kept across restarts.
    pub fn ratio_state(&self) -> RatioState {
        self.ratio.state()
    }

    /// Takes up what was learned before a restart.
    pub fn restore_ratio(&mut self, state: RatioState) {
        self.ratio.restore(state);
    }

    /// Sets the timer of an attempt or a second leg in place of `old`.
    fn set_timer(&mut self, timer: Timer, old: Option<Timestamp>, at: Timestamp) -> Option<Timestamp> {
        if let Some(old) = old {
            self.timers.remove(&(old, timer));
        }
        self.timers.insert((at, timer));
        Some(at)
    }

    /// Settles what hangs on a leg, tells of it, and forgets it.
    fn drop_leg(&mut self, id: LegId, now: Timestamp) {
        self.force_second(id, now);
        while let Some(open) = self.calls.get(&id).and_then(|call| call.open.first().copied()) {
            self.settle(open, now, true);
        }
        self.end_leg(id, now);
    }
}

impl Default for Transfers {
    fn default() -> Self {
        Self::new(Config::default()).expect("the defaults are valid")
    }
}
