//! Dialog events → transfer attempts, judged.

use std::collections::VecDeque;

use crate::sip::Message;
use crate::stream::{Damage, WireMessage};
use crate::timestamp::Timestamp;

pub mod absent;
mod attempt;
pub mod diagnosis;
#[allow(dead_code, reason = "not wired in yet")]
mod link;
mod q850;
pub mod ratio;
pub mod trunk;

pub use attempt::*;
pub use link::{LinkConfig, LinkHeader, LinkWeights};
pub use q850::Q850;

/// The stage: dialogs, attempts, links, verdicts.
#[derive(Debug, Default)]
pub struct Transfers {
    outputs: VecDeque<Output>,
}

impl Transfers {
    /// Takes one SIP message.
    pub fn message(&mut self, _wire: &WireMessage<'_>, _message: &Message<'_>) {}

    /// Takes note of missing evidence at `now`.
    pub fn damage(&mut self, _now: Timestamp, _damage: Damage) {}

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Fires every timer due at `now`, in order of their deadlines.
    pub fn handle_timeout(&mut self, _now: Timestamp) {}

    /// The capture is over at `now`: settles all that is open as it stands.
    pub fn finish(&mut self, _now: Timestamp) {}

    /// What has been found since the last call, in time order. Not yet masked.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
