//! `[recorder]`: the packets of failed transfers, kept and written to files.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Size;

/// The packets of transfers that failed. The daemon keeps the last SIP frames in memory, and writes those of each attempt that
/// failed, or whose outcome is not known, and of each call that lacks a REFER by more than the plain fact, to a pcapng file, as
/// `sipobs pcap -w` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecorderConfig {
    /// The folder for the files, each called by the id of the attempt; it is made if it is not there. Without it nothing is
    /// kept. `/var/lib/sipobs/evidence` fits the unit, the container and the chart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// What frames may take up in memory; beside `limits.memory`.
    pub memory: Size,
    /// How long frames are kept.
    #[serde(with = "crate::duration")]
    pub history: Duration,
    /// How long a file waits after the verdict for what follows it, such as the BYE.
    #[serde(with = "crate::duration")]
    pub after: Duration,
    /// What is written over in the files.
    pub redact: Redact,
    /// What all files together may take up on the disk: the oldest make way.
    pub most_bytes: Size,
    /// How long a file stays.
    #[serde(with = "crate::duration")]
    pub most_age: Duration,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            folder: None,
            memory: Size::of_mib(64),
            history: Duration::from_secs(30 * 60),
            after: Duration::from_secs(5),
            redact: Redact::Parties,
            most_bytes: Size::of_mib(1024),
            most_age: Duration::from_secs(30 * 86_400),
        }
    }
}

/// What is written over in the files, in place; every length and every verdict stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redact {
    /// Nothing: numbers, names and credentials stand there in full, for the daemon's own user alone (mode 0600).
    Nothing,
    /// Numbers, names and credentials.
    #[default]
    Parties,
    /// These, and IP addresses.
    Addresses,
}
