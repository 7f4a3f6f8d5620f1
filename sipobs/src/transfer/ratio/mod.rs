//! The REFER ratio of each trunk, and the alert when calls that used to be transferred just end.
//!
//! A trunk's baseline is p, the share of answered calls that hold a REFER, over the last seven days. After n
//! calls in a row without one, (1−p)ⁿ is how likely the baseline makes such a run; below 1 in 1,000 it is an
//! alert: n ≥ 31 at p = 0.2, 66 at 0.1, 135 at 0.05.
//!
//! That bar is for one run, and a trunk makes as many runs as REFERs: of 1,000 REFERs one run crosses it by
//! chance, and busy trunks would alert every week. So the run must also outdo the longest one of the baseline, by
//! as much as chance would in one of 100,000 windows (52 calls at p = 0.2) if the REFERs come as dice fall, and by
//! less the more evenly they come: where every fifth call is transferred the longest run is 4, and 31 calls
//! without one are news. Where they come in clusters (self-service days, week-ends), the clusters are in the
//! record. A trunk that takes to them alerts twice, and then no more.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{Alert, AlertKind, Method, Parties, RatioVerdict};
use crate::timestamp::Timestamp;
use crate::trunk::MAX_TRUNKS;

mod baseline;
#[cfg(test)]
mod tests;

use baseline::{Baseline, Days};

/// When a ratio is a baseline, and when its end is an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatioConfig {
    /// How far the baseline looks back: whole days, 1 to 31.
    #[serde(with = "crate::duration")]
    pub window: Duration,
    /// Calls that it needs.
    pub min_dialogs: u64,
    /// Calls with a REFER that it needs.
    pub min_refers: u64,
    /// Answered calls without a REFER count if they lasted this long.
    #[serde(with = "crate::duration")]
    pub min_call: Duration,
    /// A run without a REFER alerts when the baseline makes it less likely than this.
    pub chance: f64,
    /// Answered calls without any transfer after which a trunk declared `expect = "refer"` that has no
    /// baseline is reported; 0 for never.
    pub expected_within: u64,
}

impl Default for RatioConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(7 * DAY_S),
            min_dialogs: 200,
            min_refers: 20,
            min_call: Duration::from_secs(10),
            chance: 0.001,
            expected_within: 66,
        }
    }
}

impl RatioConfig {
    fn days(&self) -> u32 {
        u32::try_from(self.window.as_secs() / DAY_S).unwrap_or(u32::MAX)
    }
}

const DAY_S: u64 = 86_400;

/// REFERs that must come, none of them after another such run, before a trunk counts as mended.
const MENDED_AFTER: u64 = 5;

/// REFERs that must come with no second-leg INVITE between them before a switch of method counts as undone.
const UNSWITCHED_AFTER: u64 = 20;

/// An ended call, as far as the ratio goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatioCall<'a> {
    /// Name of its trunk.
    pub trunk: &'a str,
    /// The trunk's declared method.
    pub expected: Option<Method>,
    /// Its Call-ID, and …
    pub call_id: &'a str,
    /// … its parties, both for the alert it may raise.
    pub parties: &'a Parties,
    /// From answer to end.
    pub talked: Duration,
    /// It held a REFER.
    pub refer: bool,
    /// A second-leg INVITE was tied to it.
    pub invite: bool,
    /// Nothing of it is known to be missing: no ring loss, gaps or orphans meanwhile.
    pub intact: bool,
}

/// The ratios of all trunks.
#[derive(Clone, Debug, Default)]
pub struct Ratio {
    config: RatioConfig,
    trunks: BTreeMap<String, Trunk>,
}

/// What is known of one trunk. Bounded: a few numbers for each day of the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trunk {
    /// Calls up to the last REFER.
    days: Days,
    /// Calls since.
    run: Run,
    /// Set from the first alert until REFERs are back.
    incident: Option<Incident>,
}

/// The calls since the last one with a REFER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// Day of the first, in days since the epoch.
    since: i64,
    calls: u64,
    /// Those of them with a second leg.
    invites: u64,
    /// Calls left out since because something of them is missing.
    damaged: u64,
}

/// What has been told, so that it is told once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Incident {
    /// Day of its first alert.
    since: i64,
    ratio: bool,
    switched: bool,
    vanished: bool,
    /// The run that the ratio alert took.
    needed: u64,
    /// The longest run of that length or more.
    longest: u64,
    /// REFERs since the last such run.
    refers: u64,
    /// REFERs since the last second leg.
    refers_straight: u64,
}

/// What the edge keeps on disk across restarts, as JSON or the like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatioState {
    version: u32,
    trunks: BTreeMap<String, Trunk>,
}

impl RatioState {
    /// The version written; no other is read.
    pub const VERSION: u32 = 1;

    /// Whether it is of that version: another is not taken up.
    pub const fn is_current(&self) -> bool {
        self.version == Self::VERSION
    }
}

impl Ratio {
    /// Nothing learned yet.
    pub fn new(config: RatioConfig) -> Self {
        Self { config, trunks: BTreeMap::new() }
    }

    /// Takes up what was learned before, in place of what was learned so far. Says false, and changes
    /// nothing, for a state of another version. Trunks whose numbers make no sense are left out.
    pub fn restore(&mut self, state: RatioState) -> bool {
        if !state.is_current() {
            return false;
        }
        self.trunks = state
            .trunks
            .into_iter()
            .filter(|(_, trunk)| trunk.days.is_sound() && trunk.run.invites <= trunk.run.calls)
            .take(MAX_TRUNKS + 1)
            .collect();
        true
    }

    /// What has been learned, for [`Self::restore`].
    pub fn state(&self) -> RatioState {
        RatioState { version: RatioState::VERSION, trunks: self.trunks.clone() }
    }

    /// Takes an answered call that ended at `now`; gives the alerts it raises, none mostly.
    pub fn call_ended(&mut self, now: Timestamp, call: &RatioCall<'_>) -> Vec<Alert> {
        if !call.refer && call.talked < self.config.min_call {
            return Vec::new();
        }
        if !self.trunks.contains_key(call.trunk) {
            if self.trunks.len() > MAX_TRUNKS {
                return Vec::new();
            }
            self.trunks.insert(call.trunk.to_owned(), Trunk::default());
        }
        let Some(trunk) = self.trunks.get_mut(call.trunk) else { return Vec::new() };
        trunk.tick(day(now), &self.config);
        if call.refer {
            trunk.refer(day(now), &self.config);
            return Vec::new();
        }
        if !call.intact {
            // The REFER may be in what is missing: such a call says nothing.
            trunk.run.damaged = trunk.run.damaged.saturating_add(1);
            return Vec::new();
        }
        trunk.no_refer(now, call, &self.config)
    }

    /// REFERs per call in the baseline of `trunk`, once it has one.
    pub fn baseline(&self, trunk: &str) -> Option<f64> {
        self.trunks.get(trunk)?.baseline(&self.config).map(|baseline| baseline.ratio())
    }

    /// The method that the baseline of `trunk` shows to be its usual one, once it has one: REFER, if at most
    /// one call in ten as many had a second leg instead.
    pub fn usual(&self, trunk: &str) -> Option<Method> {
        let baseline = self.trunks.get(trunk)?.baseline(&self.config)?;
        (baseline.invites.saturating_mul(10) <= baseline.refers).then_some(Method::Refer)
    }
}

impl Trunk {
    /// Keeps days in order when the clock steps, and forgets an incident whose baseline has gone stale.
    fn tick(&mut self, today: i64, config: &RatioConfig) {
        self.days.none_after(today);
        self.run.since = self.run.since.min(today);
        if let Some(incident) = &mut self.incident {
            incident.since = incident.since.min(today);
            if incident.ratio && today.saturating_sub(incident.since) > i64::from(config.days()) {
                // What was usual before is history: learn anew. What has been told stays told.
                incident.ratio = false;
                incident.vanished = true;
                self.days = Days::default();
                self.run = Run::default();
            }
        }
    }

    fn refer(&mut self, today: i64, config: &RatioConfig) {
        let run = std::mem::take(&mut self.run);
        let mut learn = true;
        if let Some(incident) = &mut self.incident {
            incident.refers = incident.refers.saturating_add(1);
            if incident.ratio && run.calls >= incident.needed {
                // Part of the incident, so no part of what is usual.
                learn = false;
                incident.longest = incident.longest.max(run.calls);
                incident.refers = 1;
            }
            incident.refers_straight = incident.refers_straight.saturating_add(1);
            if incident.refers >= MENDED_AFTER {
                if incident.ratio {
                    self.days.add_alerted(incident.since, incident.longest, config.days());
                }
                (incident.ratio, incident.vanished) = (false, false);
            }
            if incident.refers_straight >= UNSWITCHED_AFTER {
                incident.switched = false;
            }
            if !(incident.ratio || incident.vanished || incident.switched) {
                self.incident = None;
            }
        }
        if learn {
            self.days.add(today, run, config.days());
        }
    }

    fn no_refer(&mut self, now: Timestamp, call: &RatioCall<'_>, config: &RatioConfig) -> Vec<Alert> {
        if self.run.calls == 0 {
            self.run.since = day(now);
        }
        self.run.calls = self.run.calls.saturating_add(1);
        self.run.invites = self.run.invites.saturating_add(u64::from(call.invite));
        let baseline = self.baseline(config);
        let told = self.incident.unwrap_or_default();
        let expects_refer = call.expected == Some(Method::Refer);
        let by_refer = match call.expected {
            Some(expected) => expected == Method::Refer,
            None => baseline.is_some_and(|b| b.invites.saturating_mul(10) <= b.refers),
        };
        if call.invite
            && let Some(incident) = &mut self.incident
        {
            incident.refers_straight = 0;
        }

        let mut alerts = Vec::new();
        if call.invite && by_refer && !told.switched {
            self.incident_of(now).switched = true;
            alerts.push(switched(now, call, baseline));
        }
        // Up to one call in five may be damaged; beyond that the silence may be the capture's.
        let hold = self.run.damaged.saturating_mul(5) > self.run.calls;
        match baseline {
            Some(baseline) => {
                let needed = baseline.run_needed(config.chance);
                if self.run.calls >= needed && !hold && !told.ratio {
                    let alert = crossed(now, call.trunk, baseline, self.run, needed);
                    let incident = self.incident_of(now);
                    (incident.ratio, incident.needed, incident.longest, incident.refers) =
                        (true, needed, 0, 0);
                    alerts.push(alert);
                }
            }
            None => {
                let within = config.expected_within;
                let silent = within > 0 && self.run.calls >= within && self.run.invites == 0;
                if expects_refer && silent && !hold && !told.vanished && self.days.is_empty() {
                    let incident = self.incident_of(now);
                    (incident.vanished, incident.needed, incident.refers) = (true, within, 0);
                    alerts.push(vanished(now, call.trunk, self.run));
                }
            }
        }
        alerts
    }

    /// The days before the current run began, if they make a baseline.
    fn baseline(&self, config: &RatioConfig) -> Option<Baseline> {
        let until = if self.run.calls == 0 { i64::MAX } else { self.run.since };
        let baseline = self.days.before(until, config.days());
        (baseline.dialogs >= config.min_dialogs.max(1) && baseline.refers >= config.min_refers.max(1))
            .then_some(baseline)
    }

    fn incident_of(&mut self, now: Timestamp) -> &mut Incident {
        self.incident.get_or_insert_with(|| Incident { since: day(now), ..Incident::default() })
    }
}

fn day(now: Timestamp) -> i64 {
    now.as_nanos().div_euclid(86_400_000_000_000)
}

fn crossed(now: Timestamp, trunk: &str, baseline: Baseline, run: Run, needed: u64) -> Alert {
    let p = baseline.ratio();
    // Twice as many second legs as the baseline would have, and at least one.
    let expected_invites = count(baseline.invites) / count(baseline.dialogs) * count(run.calls);
    let switched = run.invites > 0 && count(run.invites) > 2.0 * expected_invites;
    let (verdict, what) = if switched {
        let legs = format!("{} of them had a second-leg INVITE instead", run.invites);
        (RatioVerdict::MethodSwitched, format!("Likely the transfer method switched: {legs}."))
    } else {
        (RatioVerdict::AttemptsVanished, "Nothing took their place: the attempts vanished.".to_owned())
    };
    let message = format!(
        "Trunk {trunk}: none of the last {} answered calls held a REFER, where {:.1} % used to ({} of {}). {what}",
        run.calls,
        p * 100.0,
        baseline.refers,
        baseline.dialogs,
    );
    Alert {
        alert: AlertKind::ReferRatio,
        time: now,
        trunk: trunk.into(),
        numbers: BTreeMap::from([
            ("baseline_ratio", p),
            ("baseline_calls", count(baseline.dialogs)),
            ("baseline_refers", count(baseline.refers)),
            ("baseline_longest_run", count(baseline.longest)),
            ("calls_without_refer", count(run.calls)),
            ("calls_needed", count(needed)),
            ("chance", (1.0 - p).powf(count(run.calls))),
            ("second_legs", count(run.invites)),
            ("damaged_calls", count(run.damaged)),
        ]),
        message,
        verdict: Some(verdict),
        call_id: None,
        trace_id: None,
        parties: Parties::default(),
    }
}

fn switched(now: Timestamp, call: &RatioCall<'_>, baseline: Option<Baseline>) -> Alert {
    let mut numbers = BTreeMap::new();
    let usual = match baseline {
        Some(baseline) => {
            numbers.insert("baseline_ratio", baseline.ratio());
            numbers.insert("baseline_calls", count(baseline.dialogs));
            numbers.insert("baseline_refers", count(baseline.refers));
            numbers.insert("baseline_second_legs", count(baseline.invites));
            format!("{} of {} calls of the baseline held a REFER", baseline.refers, baseline.dialogs)
        }
        None => "REFER is what is declared for it".to_owned(),
    };
    Alert {
        alert: AlertKind::MethodSwitched,
        time: now,
        trunk: call.trunk.into(),
        numbers,
        message: format!(
            "Trunk {}: a call was transferred by a second-leg INVITE where REFER is usual ({usual}). Likely the \
             transfer method switched.",
            call.trunk
        ),
        verdict: None,
        call_id: Some(call.call_id.to_owned()),
        trace_id: None,
        parties: call.parties.clone(),
    }
}

fn vanished(now: Timestamp, trunk: &str, run: Run) -> Alert {
    Alert {
        alert: AlertKind::AttemptsVanished,
        time: now,
        trunk: trunk.into(),
        numbers: BTreeMap::from([("calls_without_refer", count(run.calls))]),
        message: format!(
            "Trunk {trunk}: declared to transfer by REFER, but none of the {} answered calls seen so far held a \
             REFER or a second-leg INVITE.",
            run.calls
        ),
        verdict: None,
        call_id: None,
        trace_id: None,
        parties: Parties::default(),
    }
}

/// A count as a number to reckon with; exact up to 2⁵³.
#[allow(clippy::cast_precision_loss, reason = "counts of calls")]
const fn count(n: u64) -> f64 {
    n as f64
}
