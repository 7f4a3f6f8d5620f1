//! The INVITE that a leg began with, and what became of it.

use std::time::Duration;

use super::{Branch, When};
use crate::timestamp::Timestamp;

/// The round-trip time that is assumed (RFC 3261 §17.1.1.1).
const T1: Duration = Duration::from_millis(500);
/// Times that a 2xx is repeated before it is more than a lost ACK, the third at 3.5 s, …
const REPEATED: u8 = 3;
/// … and until nobody is believed to be there, the eighth at 23.5 s.
const GIVEN_UP: u8 = 8;

/// The initial INVITE, with all its tries (RFC 3261 §13, §17.1.1). Its first copy began the leg: a caller's ring timer
/// counts from [`super::Leg::started`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invite {
    pub(crate) number: u32,
    pub(crate) branch: Branch,
    /// The first copy of its latest try, with credentials if there was a challenge.
    pub(crate) tried: Timestamp,
    /// Copies of the latest try on its first hop.
    pub(crate) copies: u16,
    /// Challenges so far.
    pub(crate) challenges: u8,
    /// Provisional statuses of the latest try, a bit for each; some rare ones share one.
    provisional: u32,
    /// The status of its final answer; 0 before that.
    answer_status: u16,
    /// When that came.
    answer_time: When,
    /// Times that its 2xx came again before any ACK.
    repeated: u8,
    /// An answer of any kind came to the latest try.
    pub(crate) heard: bool,
    /// The first 18x of the latest try: the target's phone rings, or its network says so.
    pub(crate) ringing: When,
    pub(crate) acknowledged: When,
    pub(crate) cancelled: When,
}

/// A final answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Final {
    pub(crate) status: u16,
    pub(crate) time: Timestamp,
}

impl Invite {
    /// The first copy of the latest try: nothing was heard of it yet.
    pub(crate) fn new(number: u32, branch: Branch, tried: Timestamp, challenges: u8) -> Self {
        Self {
            number,
            branch,
            tried,
            copies: 1,
            challenges,
            heard: false,
            provisional: 0,
            answer_status: 0,
            answer_time: When::NEVER,
            repeated: 0,
            ringing: When::NEVER,
            acknowledged: When::NEVER,
            cancelled: When::NEVER,
        }
    }

    /// Whether its latest try was not seen itself: an answer told of it.
    pub(crate) fn is_inferred(&self) -> bool {
        self.branch == Branch::default()
    }

    /// Status and time of its final answer; the phrase is [`super::Leg::phrase`].
    pub(crate) fn answer(&self) -> Option<Final> {
        Some(Final { status: self.answer_status, time: self.answer_time.get()? })
    }

    /// Notes its final answer.
    pub(crate) fn answered(&mut self, status: u16, now: Timestamp) {
        (self.answer_status, self.answer_time) = (status, now.into());
    }

    /// Its 2xx came again: sent again after T1 (RFC 3261 §13.3.1.4), and not just seen at the next hop.
    pub(crate) fn answered_again(&mut self, status: u16, now: Timestamp) {
        let again =
            self.answer().is_some_and(|first| first.status == status && now.since(first.time) >= T1 / 2);
        if again && !self.acknowledged.is_set() {
            self.repeated = self.repeated.saturating_add(1);
        }
    }

    /// Its 2xx was sent over and over, and nobody acknowledged it: no ACK reached who sent it.
    pub(crate) fn is_unacknowledged(&self) -> bool {
        self.repeated >= REPEATED && !self.acknowledged.is_set()
    }

    /// And that so often that its sender is about to give up, which is after ten times, at 31.5 s.
    pub(crate) fn is_given_up(&self) -> bool {
        self.repeated >= GIVEN_UP && !self.acknowledged.is_set()
    }

    /// Notes a provisional status; whether it is the first of its number.
    pub(crate) fn proceeding(&mut self, status: u16, now: Timestamp) -> bool {
        let bit = 1 << (status % 32);
        let new = self.provisional & bit == 0;
        self.provisional |= bit;
        if status > 100 {
            self.ringing.first(now);
        }
        new
    }
}
