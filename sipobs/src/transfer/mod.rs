//! Dialog events → transfer attempts, judged.
//!
//! `dispatch` brings every event to the attempts it concerns; each `method` has a folder of its own; `settle` gives
//! verdicts, with `causes` for why and `attempt_record` for what is said; `call_record` has the records of ended calls.
//! What they all work on is the `stage`. `facts`, `identity` and `dialect` read messages for it; `verdict` and `state` hold
//! what is known; `callers` and `recent` remember hosts and legs; `absent` and `ratio` ask for REFERs that did not come;
//! `restart` hears a predecessor's messages again.

use std::collections::{BTreeMap, VecDeque};

use crate::dialog::{self, DialogKey, Taken};
use crate::leg::{LegId, Lost};
use crate::record::{Call, Output};
use crate::sip::{Message, Method};
use crate::stream::{Loss, WireMessage};
use crate::timers::Deadline;
use crate::timestamp::Timestamp;
use crate::trunk::TrunkId;

pub mod absent;
mod attempt_record;
mod call_record;
mod callers;
mod causes;
mod config;
mod counts;
pub mod diagnosis;
mod dialect;
mod dispatch;
mod early;
mod facts;
pub mod identity;
mod ladder;
mod method;
pub mod ratio;
mod recent;
mod restart;
mod rules;
mod settle;
mod stage;
mod state;
#[cfg(test)]
mod tests;
mod verdict;

pub use config::{Config, ConfigError, Limits, Timers};
pub use counts::{Counts, Evicted, Fullness};
pub(crate) use ladder::show;
pub use rules::Rules;

use absent::Absent;
use early::EarlyAnswers;
use method::second_leg;
use ratio::{Ratio, RatioState};
use settle::Cut;
use stage::{Heard, Stage};

/// The stage: dialogs, attempts, links, verdicts.
#[derive(Debug)]
pub struct Transfers {
    stage: Stage,
    early: EarlyAnswers,
    rules: Rules,
    absent: Absent,
    ratio: Ratio,
    outputs: VecDeque<Output>,
    /// What was up when all was over.
    open: Vec<Call>,
    counts: Counts,
    /// By trunk; as many as there are trunks, at most.
    seen: BTreeMap<TrunkId, LastSeen>,
}

/// When something of a trunk's calls was last seen, if it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastSeen {
    /// A message.
    pub message: Option<Timestamp>,
    /// A REFER.
    pub refer: Option<Timestamp>,
}

impl LastSeen {
    fn or_later(self, other: Self) -> Self {
        Self { message: self.message.max(other.message), refer: self.refer.max(other.refer) }
    }
}

impl Transfers {
    /// The stage with these settings.
    ///
    /// # Errors
    ///
    /// When a trunk or the diagnosis table makes no sense.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self {
            early: EarlyAnswers::default(),
            rules: Rules::new(&config)?,
            absent: Absent::new(config.absent.clone()),
            ratio: Ratio::new(config.ratio.clone()),
            outputs: VecDeque::new(),
            open: Vec::new(),
            counts: Counts::default(),
            seen: BTreeMap::new(),
            stage: Stage::new(config),
        })
    }

    /// Takes one SIP message, of the dialog that `key` names.
    pub(crate) fn message(&mut self, wire: &WireMessage<'_>, message: &Message<'_>, key: &DialogKey<'_>) {
        self.make_room(wire.time);
        if dispatch::take_outside(&mut self.stage, wire, message) {
            self.review_due(wire.time);
            return;
        }
        if dialog::may_be_early(&self.stage.legs, message, key) {
            self.early.keep(wire, key, self.stage.legs.hash(key.call_id));
        }
        self.take(wire, message, key, false);
    }

    /// Takes a message of a dialog. `vouched`: whoever was asked has agreed to it.
    fn take(&mut self, wire: &WireMessage<'_>, message: &Message<'_>, key: &DialogKey<'_>, vouched: bool) {
        match dialog::take(&mut self.stage.legs, wire, message, key, vouched) {
            Taken::Nothing => {}
            Taken::Event(event) => {
                dispatch::take(&mut self.stage, &self.rules.trunks, Heard { event, wire, message, key });
                self.note_seen(event.leg, wire.time, message.method() == Some(Method::Refer));
                self.review_due(wire.time);
                self.stage.schedule(event.leg);
                self.stage.charge(event.leg);
                self.stage.drop_retired();
                if event.begins {
                    self.take_early_answers(wire, key);
                }
            }
            Taken::Doubted { leg, beside } => {
                self.stage.draw_doubted(beside, wire, message, key.cseq);
                self.stage.schedule(leg);
                self.stage.charge(leg);
            }
            Taken::Vouches(doubted) => {
                self.take_held(&doubted.at(doubted.time), true);
                self.take(wire, message, key, false);
            }
        }
    }

    fn note_seen(&mut self, leg: LegId, time: Timestamp, is_refer: bool) {
        let Some(leg) = self.stage.legs.get(leg) else { return };
        let seen = self.seen.entry(leg.call.trunk).or_default();
        *seen = seen.or_later(LastSeen { message: Some(time), refer: is_refer.then_some(time) });
    }

    /// Takes the answers to a request that were captured before it.
    fn take_early_answers(&mut self, request: &WireMessage<'_>, key: &DialogKey<'_>) {
        while let Some(answer) = self.early.take(request, key, self.stage.legs.hash(key.call_id)) {
            self.take_held(&answer.at(request.time), false);
        }
    }

    /// Takes a message that was held until now.
    fn take_held(&mut self, wire: &WireMessage<'_>, vouched: bool) {
        let Ok(message) = Message::parse(wire.bytes) else { return };
        if let Ok(key) = DialogKey::of(&message) {
            self.take(wire, &message, &key, vouched);
        }
    }

    /// Takes note of missing evidence.
    pub fn note_loss(&mut self, loss: Loss) {
        let nothing = Lost::default();
        let (between, lost) = match loss {
            Loss::ClockStep => (None, Lost { steps: 1, ..nothing }),
            Loss::Restart => (None, Lost { restarts: 1, ..nothing }),
            Loss::RingLost(frames) => (None, Lost { ring: frames, ..nothing }),
            Loss::TcpGap { src, dst } => (Some((src, dst)), Lost { gaps: 1, ..nothing }),
            Loss::MessageCut { src, dst } => (Some((src, dst)), Lost { cut: 1, ..nothing }),
            Loss::MissingFragment { src, dst } => (Some((src, dst)), Lost { fragments: 1, ..nothing }),
        };
        self.stage.ring_lost = self.stage.ring_lost.saturating_add(lost.ring);
        self.stage.legs.lost(between, lost);
    }

    /// Whether a transfer is under way under a Call-ID.
    pub(crate) fn awaits_news(&self, call_id: &[u8]) -> bool {
        let state = |leg| self.stage.state_of(leg);
        self.stage.legs.under(call_id).filter_map(state).any(state::CallState::is_transferring)
    }

    /// Whether a leg to a target may yet begin.
    pub(crate) fn awaits_leg(&self) -> bool {
        self.stage.attempts.values().any(|attempt| attempt.legs.is_empty())
    }

    /// Whether a call under a Call-ID is up.
    pub(crate) fn is_up(&self, call_id: &[u8]) -> bool {
        self.stage.legs.under(call_id).any(|leg| leg.is_confirmed() && !leg.bye.is_set())
    }

    /// Hosts no longer known to be seen calling, because there were too many.
    pub fn callers_evicted(&self) -> u64 {
        self.stage.callers.evicted()
    }

    /// Frames that the capture is known to have lost.
    pub fn ring_lost(&self) -> u64 {
        self.stage.ring_lost
    }

    /// Bytes of messages kept for a restart, and calls of which some are not: there was no room for all.
    pub fn kept(&self) -> (usize, usize) {
        self.stage.legs.kept()
    }

    /// How full the table of calls is.
    pub fn fullness(&self) -> Fullness {
        let (bytes, limit) = self.stage.legs.bytes();
        Fullness {
            legs: self.stage.legs.len() as u64,
            attempts: self.stage.attempts.len() as u64,
            bytes: bytes as u64,
            limit: limit as u64,
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.stage.timers.next()
    }

    /// Fires every timer due at `now`, in order of their deadlines.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        // A deadline is judged as of itself, however late the call: a file has no ticks in silence.
        while let Some((time, deadline)) = self.stage.timers.pop(now) {
            self.stage.passed(deadline);
            match deadline {
                Deadline::Attempt(id) => self.review(id, time),
                Deadline::Second(leg) => second_leg::events::review(&mut self.stage, leg, time),
                Deadline::Learn(leg) => self.stage.links.learn_from(&mut self.stage.legs, leg, time),
                Deadline::Leave(leg) => self.stage.links.leave(&mut self.stage.legs, leg, time),
                Deadline::Leg(leg) => self.leg_over(leg, time),
            }
            self.review_due(time);
            self.stage.drop_retired();
        }
    }

    /// The capture is over at `now`: settles all that is open as it stands.
    pub fn finish(&mut self, now: Timestamp) {
        self.handle_timeout(now);
        let legs = self.stage.legs.by_age();
        for leg in &legs {
            second_leg::events::force(&mut self.stage, *leg, now);
            self.review_due(now);
        }
        while let Some((&id, _)) = self.stage.attempts.first_key_value() {
            self.settle(id, now, Some(Cut::CaptureEnded));
        }
        self.open = legs.iter().filter_map(|leg| self.open_call(*leg, now)).collect();
        for leg in legs {
            self.end_leg(leg, now);
        }
        self.stage.drop_retired();
    }

    /// The calls that were still up when all was over, as if they had ended then; the eldest first, and not yet masked.
    pub fn take_open(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.open)
    }

    /// What has been found since the last call, in time order. Not yet masked.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What has been found so far, in numbers.
    pub fn counts(&self) -> Counts {
        Counts { calls: self.stage.calls, ..self.counts.clone() }
    }

    /// Names of the trunks, `other` first.
    pub fn trunks(&self) -> impl Iterator<Item = &str> {
        self.rules.trunks.names()
    }

    /// When something of each trunk's calls was last seen; `other` first.
    pub fn last_seen(&self) -> impl Iterator<Item = (&str, LastSeen)> {
        let names = self.rules.trunks.names().enumerate();
        names.map(|(place, name)| (name, self.seen.get(&TrunkId::at(place)).copied().unwrap_or_default()))
    }

    /// Goes by other rules from now on. A call that is up stays with its trunk, unless no trunk has that name any
    /// more.
    pub fn adopt(&mut self, rules: Rules) {
        let renumbered = rules.trunks.renumbered(&self.rules.trunks);
        for leg in self.stage.legs.iter_mut() {
            leg.call.trunk = leg.call.trunk.among(&renumbered);
        }
        for (trunk, seen) in std::mem::take(&mut self.seen) {
            let kept = self.seen.entry(trunk.among(&renumbered)).or_default();
            *kept = kept.or_later(seen);
        }
        self.rules = rules;
    }

    /// What has been learned of the trunks' transfer ratios, to be kept across restarts.
    pub fn ratio_state(&self) -> RatioState {
        self.ratio.state()
    }

    /// Takes up what was learned before a restart.
    pub fn restore_ratio(&mut self, state: RatioState) {
        self.ratio.restore(state);
    }

    /// Lets go of what there is no room for.
    fn make_room(&mut self, now: Timestamp) {
        while let Some((why, id)) = self.stage.legs.crowded() {
            self.counts.evicted.add(why);
            self.evict(id, now);
        }
    }

    /// Settles what hangs on a leg, tells of it, and forgets it.
    fn evict(&mut self, id: LegId, now: Timestamp) {
        self.note_evicted(id, now);
        second_leg::events::force(&mut self.stage, id, now);
        self.review_due(now);
        while let Some(open) = self.stage.state(id).and_then(|state| state.open.first().copied()) {
            self.settle(open, now, Some(Cut::Evicted));
        }
        if let Some(serves) = self.stage.state(id).and_then(|state| state.serves) {
            self.settle(serves, now, Some(Cut::Evicted));
        }
        self.end_leg(id, now);
        self.stage.links.forget(&mut self.stage.legs, &mut self.stage.timers, id);
        self.stage.legs.remove(id);
    }

    /// A call that both sides said was up is evidence. Where a transfer is under way in it, more of it will come.
    fn note_evicted(&mut self, id: LegId, now: Timestamp) {
        let Some(leg) = self.stage.legs.get(id) else { return };
        if !leg.is_confirmed_by_both() {
            return;
        }
        let needed = self.stage.state_of(leg).is_some_and(state::CallState::is_needed);
        let call_id = needed.then(|| self.stage.legs.hash(leg.call_id()));
        if !leg.bye.is_set() {
            self.counts.evicted.answered += 1;
            self.counts.evicted.since.get_or_insert(now);
            let hosts = leg.hosts;
            self.stage.legs.lost(Some(hosts), Lost { calls: 1, ..Lost::default() });
        }
        if let Some(call_id) = call_id {
            self.stage.evicted.add(call_id);
        }
    }
}

impl Default for Transfers {
    fn default() -> Self {
        Self::new(Config::default()).expect("the defaults are valid")
    }
}
