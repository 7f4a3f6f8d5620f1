//! The last line of an offline run: what was read, what was found, what was not understood and what was lost.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::engine::Surroundings;
use crate::record::{Method, Outcome, Output, ReferAbsent};
use crate::stream::{TlsCounts, WebSocketCounts};
use crate::timestamp::Timestamp;

/// Totals of one run.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// Frames read.
    pub packets: u64,
    /// SIP messages seen, retransmissions included, each once however many segments or fragments it came in.
    pub messages: u64,
    /// Ended calls.
    pub calls: u64,
    /// Settled attempts by outcome.
    pub transfers: BTreeMap<Outcome, u64>,
    /// What was seen and could not be read, by reason.
    pub not_understood: BTreeMap<Cow<'static, str>, u64>,
    /// What was known to be there and not seen, by where it was lost.
    pub lost: BTreeMap<&'static str, u64>,
    /// When the first call was let go of for want of memory although it was up: from then on a transfer may be missing, or
    /// told without its call.
    pub evicted_since: Option<Timestamp>,
    /// What each file held, in the order of the command line.
    pub files: Vec<ReadFile>,
    /// How many of them were shown, where only some were asked for.
    pub shown: Option<Shown>,
    /// What became of TLS connections, where secrets were given, by a key log or in a file.
    pub tls: Option<TlsCounts>,
    /// What became of WebSocket connections for SIP, where there were some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocketCounts>,
    /// Of the ended calls, those that were answered.
    #[serde(skip)]
    pub answered: u64,
    /// What there was beside transfers.
    #[serde(skip)]
    pub surroundings: Surroundings,
    /// Settled attempts by outcome and method, for the table.
    #[serde(skip)]
    pub by_method: BTreeMap<(Outcome, Method), u64>,
    /// Answered calls that ended without any transfer, of those that are long enough to ask.
    #[serde(skip)]
    pub refer_absent: u64,
    /// How long that is, in seconds.
    #[serde(skip)]
    pub min_call: Duration,
    /// Calls that were still up at the end.
    #[serde(skip)]
    pub open_calls: u64,
    /// Alerts raised.
    #[serde(skip)]
    pub alerts: u64,
}

/// What was shown of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Shown {
    /// Settled attempts.
    pub transfers: u64,
    /// Ended calls.
    pub calls: u64,
    /// Alerts.
    pub alerts: u64,
    /// Calls that were still up at the end.
    #[serde(skip)]
    pub open_calls: u64,
}

impl Shown {
    /// Counts one output.
    pub fn count(&mut self, output: &Output) {
        match output {
            Output::Notice(_) => {}
            Output::Transfer(_) => self.transfers += 1,
            Output::Call(_) => self.calls += 1,
            Output::Alert(_) => self.alerts += 1,
        }
    }
}

/// What one file held.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReadFile {
    /// The file as it was named, `-` for standard input.
    pub name: String,
    /// When its first frame was captured.
    pub first: Option<Timestamp>,
    /// When its last frame was.
    pub last: Option<Timestamp>,
    /// Frames read.
    pub frames: u64,
    /// SIP messages that these completed.
    pub messages: u64,
    /// Frames by link type.
    pub link_types: BTreeMap<String, u64>,
    /// Those of them that stayed closed, by link type or other reason.
    pub unread: BTreeMap<String, u64>,
    /// Blocks of secrets that it holds (pcapng's Decryption Secrets Block), by type: `tls` is used, others are not.
    pub secrets: BTreeMap<&'static str, u64>,
    /// Why not all of it could be read.
    pub error: Option<String>,
    /// The file before it that it is again, by another name or as a copy: it was read once.
    pub same_as: Option<String>,
    /// The file that began before it and ends behind its beginning: both were read side by side.
    pub overlaps: Option<String>,
    /// For how long both have frames, in milliseconds.
    pub overlap_ms: Option<i64>,
}

impl Summary {
    /// Whether something was asked for, and nothing of the kind was there.
    pub fn shows_nothing(&self) -> bool {
        self.shown.is_some_and(|shown| shown.transfers + shown.calls + shown.alerts + shown.open_calls == 0)
    }

    /// Whether all that the files hold was read, whatever it was.
    pub fn all_read(&self) -> bool {
        self.files.iter().all(|file| file.error.is_none())
    }

    /// Counts one output.
    pub fn count(&mut self, output: &Output) {
        match output {
            Output::Notice(_) => {}
            Output::Transfer(attempt) => {
                *self.transfers.entry(attempt.outcome).or_default() += 1;
                *self.by_method.entry((attempt.outcome, attempt.method)).or_default() += 1;
            }
            Output::Call(call) => {
                self.calls += 1;
                self.answered += u64::from(call.answered.is_some());
                self.refer_absent += u64::from(matches!(call.refer_absent, ReferAbsent::Fact { .. }));
            }
            Output::Alert(_) => self.alerts += 1,
        }
    }
}
