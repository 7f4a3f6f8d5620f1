//! The last line of an offline run: what was read, what was found, what was not understood and what was lost.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::record::{Method, Outcome, Output, ReferAbsent};

/// Totals of one run.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(tag = "kind", rename = "summary")]
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
    pub not_understood: BTreeMap<&'static str, u64>,
    /// What was known to be there and not seen, by where it was lost.
    pub lost: BTreeMap<&'static str, u64>,
    /// Settled attempts by outcome and method, for the table.
    #[serde(skip)]
    pub by_method: BTreeMap<(Outcome, Method), u64>,
    /// Answered calls of 10 s or more that ended without any transfer.
    #[serde(skip)]
    pub refer_absent: u64,
    /// Alerts raised.
    #[serde(skip)]
    pub alerts: u64,
}

impl Summary {
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
                self.refer_absent += u64::from(matches!(call.refer_absent, ReferAbsent::Fact { .. }));
            }
            Output::Alert(_) => self.alerts += 1,
        }
    }
}
