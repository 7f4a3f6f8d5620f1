//! Settings of the transfer stage; every field has a default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::absent::AbsentConfig;
use super::diagnosis;
use super::identity::{IdentityConfig, IdentityError};
use super::ratio::RatioConfig;
use super::stage::Lifetimes;
use crate::link::LinkConfig;
use crate::trunk::{self, TrunkConfig};

/// Settings of dialogs, transfers and their verdicts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Also tell of attempts that are not settled yet, as [`super::Output::Notice`].
    pub notices: bool,
    /// The clocks of the state machines.
    pub timers: Timers,
    /// Bounds of the tables.
    pub limits: Limits,
    /// How second legs are tied to calls.
    pub link: LinkConfig,
    /// The trunks.
    pub trunk: Vec<TrunkConfig>,
    /// The REFER-absent BYE of one call.
    pub absent: AbsentConfig,
    /// The REFER-absent BYE of a trunk.
    pub ratio: RatioConfig,
    /// What names a call elsewhere.
    pub identity: IdentityConfig,
    /// Rows put before the embedded diagnosis table: the text of a TOML file of the same form.
    pub diagnosis: Option<String>,
}

/// The clocks of the state machines. Those marked \[H\] are heuristics, no RFC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// A request without any answer is lost after this: 64·T1 (RFC 3261 §17.1.1.2, §17.1.2.2).
    #[serde(with = "crate::duration")]
    pub transaction: Duration,
    /// How long a late NOTIFY or a target leg may follow the BYE. \[H\]
    #[serde(with = "crate::duration")]
    pub after_bye: Duration,
    /// How long an accepted REFER may stay without any news and without a BYE. \[H\]
    #[serde(with = "crate::duration")]
    pub notify: Duration,
    /// How long after a REFER, a redirect or an optimistic 200 the target leg may begin. \[H\]
    #[serde(with = "crate::duration")]
    pub target: Duration,
    /// How long a verdict from a final answer waits for what goes with it: a retry, the ACK, a NOTIFY. \[H\]
    #[serde(with = "crate::duration")]
    pub grace: Duration,
    /// Both legs up for this long: bridged. \[H\]
    #[serde(with = "crate::duration")]
    pub bridged: Duration,
    /// A CANCEL this close to the call's BYE: the caller gave up. \[H\]
    #[serde(with = "crate::duration")]
    pub abandoned: Duration,
    /// A 200 sipfrag this soon after the 2xx, with no 1xx before it, was perhaps sent before dialling. \[H\]
    #[serde(with = "crate::duration")]
    pub optimistic: Duration,
    /// How long an INVITE may ring: proxies give up after 3 minutes (timer C, RFC 3261 §16.6).
    #[serde(with = "crate::duration")]
    pub ringing: Duration,
    /// How long ended calls are remembered, for legs that belong to them.
    #[serde(with = "crate::duration")]
    pub ended: Duration,
    /// How long a call may last without a message.
    #[serde(with = "crate::duration")]
    pub idle: Duration,
}

/// Bounds of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes that calls and attempts may take up; when there is no room, the oldest call that nobody has
    /// confirmed is settled and dropped.
    pub bytes: usize,
    /// Most lines of one ladder.
    pub ladder: usize,
    /// Bytes that the messages of calls may take up which are kept for a restart; 0 to keep none.
    pub journal: usize,
}

/// Why settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A trunk.
    #[error(transparent)]
    Trunk(#[from] trunk::TrunkError),
    /// The diagnosis table.
    #[error(transparent)]
    Diagnosis(#[from] diagnosis::DiagnosisError),
    /// The headers that name a call elsewhere.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            transaction: Duration::from_secs(32),
            after_bye: Duration::from_secs(35),
            notify: Duration::from_secs(180),
            target: Duration::from_secs(10),
            grace: Duration::from_secs(2),
            bridged: Duration::from_secs(5),
            abandoned: Duration::from_secs(2),
            optimistic: Duration::from_millis(500),
            ringing: Duration::from_secs(200),
            ended: Duration::from_secs(45),
            idle: Duration::from_secs(6 * 3600),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 216 << 20, ladder: 96, journal: 0 }
    }
}

impl Config {
    pub(super) fn lifetimes(&self) -> Lifetimes {
        Lifetimes { ended: self.timers.ended, early: self.timers.ringing, idle: self.timers.idle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_checked() {
        let timers: Timers = toml::from_str("after_bye = \"40s\"\noptimistic = \"250ms\"").unwrap();
        assert_eq!((timers.after_bye.as_secs(), timers.optimistic.as_millis()), (40, 250));
        assert_eq!(timers.notify, Timers::default().notify);
        assert!(toml::from_str::<Timers>("notify = 1").is_err());
        assert!(toml::from_str::<Timers>("notify = \"1e300s\"").is_err());
        assert!(toml::from_str::<Timers>("notifies = \"1s\"").is_err());
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }
}
