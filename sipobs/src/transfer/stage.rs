//! What the handlers of every method work on: legs, links, attempts under way, and the one queue of deadlines.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use super::callers::Callers;
use super::config::Config;
use super::identity;
use super::ladder::{Ladder, show};
use super::method::refer::elsewhere::Elsewhere;
use super::recent::{Begun, Recent};
use super::state::{CallState, PendingAttempt, Watched};
use crate::dialog::{DialogEvent, DialogKey};
use crate::leg::{AttemptId, Leg, LegId, Legs, Lost, Remembered, When};
use crate::link::Links;
use crate::record::{LegRole, Notice, Parties};
use crate::sip::{CSeq, Message};
use crate::slab::Slab;
use crate::stream::WireMessage;
use crate::timers::{Deadline, Timers};
use crate::timestamp::Timestamp;

/// Attempts that [`Stage::recent_attempts`] gives.
const RECENT: usize = 64;
/// What an attempt takes up beside its ladder, about.
const ATTEMPT: usize = 2_048;
/// Most Call-IDs of calls let go of that are remembered, and …
const MOST_EVICTED: usize = 65_536;
/// … no more than one for so many bytes of the stage's memory.
const BYTES_AN_EVICTED: usize = 2_048;

/// The tables, and what is to be judged again.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) config: Config,
    pub(super) legs: Legs,
    pub(super) links: Links,
    pub(super) timers: Timers,
    pub(super) attempts: BTreeMap<AttemptId, Box<PendingAttempt>>,
    pub(super) callers: Callers,
    /// Headers that name calls elsewhere.
    pub(super) identity: identity::Headers,
    /// Where outcomes are told that are told on dialogs of their own.
    pub(super) elsewhere: Elsewhere,
    /// Attempts and possible second legs to be judged again once the event is taken.
    pub(super) due: VecDeque<Due>,
    /// The legs that began last, and those that ended last.
    pub(super) recent: Recent<Begun>,
    pub(super) ended: Recent<LegId>,
    /// Calls that were let go of for want of memory while a transfer was under way in them.
    pub(super) evicted: Remembered,
    /// Notices that take others back, without their time yet.
    pub(super) withdrawn: Vec<Notice>,
    /// How many calls there have been.
    pub(super) calls: u64,
    /// Frames that the capture is known to have lost.
    pub(super) ring_lost: u64,
    states: Slab<CallState>,
    /// How many attempts there have been.
    begun: u64,
}

/// What is to be judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// An attempt.
    Attempt(AttemptId),
    /// Whose second leg a leg is.
    Second(LegId),
}

/// One event, with the message that made it.
#[derive(Clone, Copy)]
pub(super) struct Heard<'e> {
    pub(super) event: DialogEvent,
    pub(super) wire: &'e WireMessage<'e>,
    pub(super) message: &'e Message<'e>,
    pub(super) key: &'e DialogKey<'e>,
}

impl Stage {
    pub(super) fn new(config: Config) -> Self {
        Self {
            legs: Legs::new(config.limits.bytes, config.limits.journal),
            links: Links::new(config.link.clone(), config.timers.after_bye),
            timers: Timers::default(),
            attempts: BTreeMap::new(),
            callers: Callers::new(config.limits.bytes),
            identity: identity::Headers::new(&config.identity),
            elsewhere: Elsewhere::default(),
            due: VecDeque::new(),
            recent: Recent::default(),
            ended: Recent::default(),
            evicted: Remembered::new((config.limits.bytes / BYTES_AN_EVICTED).clamp(1, MOST_EVICTED)),
            withdrawn: Vec::new(),
            calls: 0,
            ring_lost: 0,
            states: Slab::default(),
            begun: 0,
            config,
        }
    }

    /// What is kept of a leg that has to do with an attempt, if it has.
    pub(super) fn state(&self, leg: LegId) -> Option<&CallState> {
        self.state_of(self.legs.get(leg)?)
    }

    /// What is kept of a leg at hand that has to do with an attempt, if it has.
    pub(super) fn state_of(&self, leg: &Leg) -> Option<&CallState> {
        self.states.get(leg.call.state?)
    }

    /// What is kept of a leg, to change; `None` for one of which nothing is kept.
    pub(super) fn state_mut(&mut self, leg: LegId) -> Option<&mut CallState> {
        self.states.get_mut(self.legs.get(leg)?.call.state?)
    }

    /// What is kept of a leg, to change; made for one of which nothing was kept. `None` for a leg that is gone.
    pub(super) fn state_or_new(&mut self, leg: LegId) -> Option<&mut CallState> {
        let leg = self.legs.get_mut(leg)?;
        let slot = *leg.call.state.get_or_insert_with(|| self.states.insert(CallState::default()));
        self.states.get_mut(slot)
    }

    /// Drops what is kept of a leg.
    pub(super) fn drop_state(&mut self, leg: LegId) -> Option<CallState> {
        let slot = self.legs.get_mut(leg)?.call.state.take()?;
        self.states.remove(slot)
    }

    /// A leg that may be a second leg, until that is decided.
    pub(super) fn watched_mut(&mut self, leg: LegId) -> Option<&mut Watched> {
        self.state_mut(leg)?.watched.as_mut()
    }

    /// Attempts under way in a call.
    pub(super) fn open_in(&self, leg: LegId) -> SmallVec<[AttemptId; 2]> {
        self.state(leg).map(|state| state.open.clone()).unwrap_or_default()
    }

    /// The attempts that began last, the latest first: as many as are looked at for the one that a message without a name for
    /// it is about.
    pub(super) fn recent_attempts(&self) -> impl Iterator<Item = (AttemptId, &PendingAttempt)> {
        self.attempts.iter().rev().take(RECENT).map(|(id, attempt)| (*id, &**attempt))
    }

    /// The legs that began last and are known, the latest first.
    pub(super) fn recent_legs(&self) -> impl Iterator<Item = &Leg> {
        self.recent.iter().filter_map(|begun| self.legs.get(begun.leg))
    }

    /// The ladder of a leg that nobody drew until now, as far as its INVITE is remembered.
    pub(super) fn begun_ladder(&self, id: LegId) -> Ladder {
        let begun = self.recent.iter().find(|begun| begun.leg == id);
        let line = begun.zip(self.legs.get(id)).map(|(begun, leg)| begun.line(leg));
        let mut ladder = Ladder::default();
        line.into_iter().for_each(|line| ladder.push(line, self.config.limits.ladder));
        ladder
    }

    /// Takes up a new attempt. A second leg's hangs on its call alone, as its own leg serves it; every other hangs on the
    /// dialog that carries it, too.
    pub(super) fn begin(&mut self, mut attempt: PendingAttempt) -> AttemptId {
        let id = AttemptId(self.begun);
        self.begun += 1;
        attempt.mark = self.legs.mark();
        let homes: SmallVec<[LegId; 2]> = if attempt.machine.as_method().hangs_on_call_alone() {
            attempt.call.into_iter().collect()
        } else {
            attempt.homes().collect()
        };
        for home in homes {
            if let Some(state) = self.state_or_new(home)
                && !state.open.contains(&id)
            {
                state.open.push(id);
            }
            self.note_transferring(home);
        }
        if let Some(call) = attempt.call.and_then(|call| self.legs.get_mut(call)) {
            call.call.transfers = call.call.transfers.saturating_add(1);
        }
        self.attempts.insert(id, Box::new(attempt));
        id
    }

    /// Lets go of an attempt that turned out to be none: its call has one less. If a notice told of it, another will take
    /// that back.
    pub(super) fn withdraw(&mut self, id: AttemptId) -> Option<Box<PendingAttempt>> {
        let mut attempt = self.close(id)?;
        if let Some(leg) = attempt.call.and_then(|call| self.legs.get_mut(call)) {
            leg.call.transfers = leg.call.transfers.saturating_sub(1);
        }
        self.withdrawn.extend(attempt.noticed.take().map(|notice| notice.taken_back()));
        Some(attempt)
    }

    /// Lets go of an attempt.
    pub(super) fn close(&mut self, id: AttemptId) -> Option<Box<PendingAttempt>> {
        let attempt = self.attempts.remove(&id)?;
        self.timers.cancel(Deadline::Attempt(id), attempt.due.get());
        let legs: SmallVec<[LegId; 4]> = attempt.all_legs().collect();
        for leg in legs {
            if let Some(state) = self.state_mut(leg) {
                state.open.retain(|known| *known != id);
                state.serves = state.serves.filter(|serves| *serves != id);
            }
            self.note_transferring(leg);
            self.charge(leg);
        }
        let home = attempt.call.unwrap_or(attempt.dialog);
        attempt
            .all_legs()
            .chain(attempt.candidates.iter().copied())
            .for_each(|leg| self.legs.relate(leg, home));
        self.elsewhere.forget(id);
        Some(attempt)
    }

    /// A leg serves an attempt.
    pub(super) fn serve(&mut self, leg: LegId, id: AttemptId) {
        if let Some(state) = self.state_or_new(leg) {
            state.serves = Some(id);
        }
        if let Some(leg) = self.legs.get_mut(leg) {
            leg.call.is_leg = true;
        }
        self.note_transferring(leg);
    }

    /// A leg takes part in a transfer.
    pub(super) fn note_transferred(&mut self, leg: LegId) {
        if let Some(leg) = self.legs.get_mut(leg) {
            leg.call.transferred = true;
        }
    }

    /// A leg takes part in a transfer by REFER (or its like).
    pub(super) fn note_referred(&mut self, leg: LegId) {
        self.note_transferred(leg);
        if let Some(leg) = self.legs.get_mut(leg) {
            leg.call.referred = true;
        }
    }

    /// Sets an attempt's deadline in place of the one that it has.
    pub(super) fn set_deadline(&mut self, id: AttemptId, at: Timestamp) {
        if let Some(attempt) = self.attempts.get_mut(&id) {
            self.timers.set(Deadline::Attempt(id), attempt.due.get(), at);
            attempt.due = at.into();
        }
    }

    /// Sets a possible second leg's deadline in place of the one that it has.
    pub(super) fn set_second_deadline(&mut self, leg: LegId, at: Timestamp) {
        let Some(old) = self.watched_mut(leg).map(|watched| watched.due) else { return };
        self.timers.set(Deadline::Second(leg), old.get(), at);
        if let Some(watched) = self.watched_mut(leg) {
            watched.due = at.into();
        }
    }

    /// Watches a leg no more. What was watched of it.
    pub(super) fn unwatch(&mut self, leg: LegId) -> Option<Watched> {
        let watched = self.state_mut(leg)?.watched.take()?;
        self.timers.cancel(Deadline::Second(leg), watched.due.get());
        Some(watched)
    }

    /// Brings a leg's deadline forward, if it must be. A later one is set when the earlier fires.
    pub(super) fn schedule(&mut self, id: LegId) {
        let Some(leg) = self.legs.get_mut(id) else { return };
        let wanted = self.config.lifetimes().of(leg);
        if leg.due.get().is_none_or(|due| wanted < due) {
            self.timers.set(Deadline::Leg(id), leg.due.get(), wanted);
            leg.due = wanted.into();
        }
    }

    /// Looks at a leg again then.
    pub(super) fn keep_until(&mut self, id: LegId, at: Timestamp) {
        if let Some(leg) = self.legs.get_mut(id) {
            self.timers.set(Deadline::Leg(id), leg.due.get(), at);
            leg.due = at.into();
        }
    }

    /// Judges an attempt again once the event is taken.
    pub(super) fn review(&mut self, id: AttemptId) {
        self.due.push_back(Due::Attempt(id));
    }

    /// Charges a leg for what is held for it beside its record.
    pub(super) fn charge(&mut self, id: LegId) {
        let Some(leg) = self.legs.get(id) else { return };
        let mut bytes = self.links.held_for(leg);
        if let Some(state) = self.state_of(leg) {
            let attempts = state.open.iter().chain(&state.serves).filter_map(|id| self.attempts.get(id));
            bytes += size_of::<CallState>()
                + attempts.map(|attempt| ATTEMPT + attempt.ladder.bytes()).sum::<usize>()
                + state.watched.as_ref().map_or(0, |watched| watched.ladder.bytes())
                + state.bye_line.as_ref().map_or(0, |line| line.line.len());
        }
        self.legs.charge(id, bytes);
    }

    /// Adds the message to the ladders it belongs in.
    pub(super) fn draw(&mut self, heard: Heard<'_>) {
        let Heard { event, wire, message, .. } = heard;
        let most = self.config.limits.ladder;
        let Some(state) = self.legs.get(event.leg).and_then(|leg| self.states.get_mut(leg.call.state?))
        else {
            return;
        };
        let line = |role| show(wire, message, event.cseq, role);
        if let Some(watched) = &mut state.watched {
            watched.ladder.push(line(LegRole::Target), most);
        }
        if let Some(attempt) = state.serves.and_then(|id| self.attempts.get_mut(&id)) {
            attempt.ladder.push(line(LegRole::Target), most);
        }
        if event.cseq.method == crate::sip::Method::Bye
            && let Some(attempt) =
                state.consults.filter(|id| !state.open.contains(id)).and_then(|id| self.attempts.get_mut(&id))
        {
            attempt.ladder.push(line(LegRole::Consultation), most);
        }
        for id in &state.open {
            let Some(attempt) = self.attempts.get_mut(id) else { continue };
            match attempt.owned(event) {
                Some(owned) if owned.doubted => attempt.ladder.push_doubted(line(LegRole::Call), most),
                None if !attempt.machine.as_method().shows_all() => {}
                _ => attempt.ladder.push(line(LegRole::Call), most),
            }
        }
    }

    /// Adds a message that nothing vouches for to the ladders of its leg.
    pub(super) fn draw_doubted(
        &mut self,
        leg: LegId,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        cseq: CSeq,
    ) {
        let most = self.config.limits.ladder;
        let Some(state) = self.legs.get(leg).and_then(|leg| self.states.get_mut(leg.call.state?)) else {
            return;
        };
        if let Some(watched) = &mut state.watched {
            watched.ladder.push_doubted(show(wire, message, cseq, LegRole::Target), most);
        }
        let served = state.serves.into_iter().map(|id| (id, LegRole::Target));
        for (id, role) in state.open.iter().map(|id| (*id, LegRole::Call)).chain(served) {
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.ladder.push_doubted(show(wire, message, cseq, role), most);
            }
        }
    }

    /// Withdraws the attempts that were begun in a leg which turned out to be forged.
    pub(super) fn disown(&mut self, leg: LegId) {
        self.unwatch(leg);
        for id in self.open_in(leg) {
            self.withdraw(id);
        }
        self.legs.retire(leg);
    }

    /// Users of everyone who takes part in an attempt.
    pub(super) fn parties(&self, attempt: &PendingAttempt) -> Parties {
        let mut parties = Parties::default();
        attempt.all_legs().filter_map(|leg| self.legs.get(leg)).for_each(|leg| leg.add_parties(&mut parties));
        if let Some(user) = &attempt.target.user {
            parties.add(user);
        }
        parties
    }

    /// What was lost between the hosts of an attempt since it began.
    pub(super) fn lost_of(&self, attempt: &PendingAttempt) -> Lost {
        self.legs.lost_since(attempt.mark, attempt.all_legs())
    }

    /// Clears a deadline that fired, in the attempt, possible second leg or leg that noted it.
    pub(super) fn passed(&mut self, deadline: Deadline) {
        match deadline {
            Deadline::Attempt(id) => {
                if let Some(attempt) = self.attempts.get_mut(&id) {
                    attempt.due = When::NEVER;
                }
            }
            Deadline::Second(leg) => {
                if let Some(watched) = self.watched_mut(leg) {
                    watched.due = When::NEVER;
                }
            }
            Deadline::Leg(leg) => {
                if let Some(leg) = self.legs.get_mut(leg) {
                    leg.due = When::NEVER;
                }
            }
            Deadline::Learn(_) | Deadline::Leave(_) => {}
        }
    }

    /// Forgets a leg of which all is told. Its record stays as long as the verdict on another leg needs it.
    pub(super) fn forget(&mut self, id: LegId) {
        self.unwatch(id);
        self.drop_state(id);
        let Some(leg) = self.legs.get(id) else { return };
        self.timers.cancel(Deadline::Leg(id), leg.due.get());
        self.links.release(&self.legs, id);
        if self.links.is_needed(id) {
            self.legs.retire(id);
            return;
        }
        self.links.forget(&mut self.legs, &mut self.timers, id);
        self.legs.remove(id);
    }

    /// Drops the legs that nobody needs any more.
    pub(super) fn drop_retired(&mut self) {
        while let Some(id) = self.links.unneeded() {
            if self.legs.get(id).is_some_and(|leg| leg.retired) {
                self.links.forget(&mut self.legs, &mut self.timers, id);
                self.legs.remove(id);
            }
        }
    }

    /// The ladder of a leg that is watched, taken from it.
    pub(super) fn take_ladder(&mut self, leg: LegId) -> Option<Ladder> {
        self.unwatch(leg).map(|watched| watched.ladder)
    }

    /// A leg with a transfer under way is the last to be evicted.
    fn note_transferring(&mut self, id: LegId) {
        let transferring = self.state(id).is_some_and(CallState::is_transferring);
        if let Some(leg) = self.legs.get_mut(id)
            && leg.call.transferring != transferring
        {
            leg.call.transferring = transferring;
            self.legs.settle(id);
        }
    }
}

/// How long legs are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    /// After a BYE or a final failure.
    pub(super) ended: std::time::Duration,
    /// Without an answer since the last message.
    pub(super) early: std::time::Duration,
    /// Answered, since the last message.
    pub(super) idle: std::time::Duration,
}

impl Lifetimes {
    /// When nothing more is expected of a leg.
    pub(super) fn of(&self, leg: &Leg) -> Timestamp {
        if let Some(bye) = leg.bye.get() {
            return bye + if leg.bye_refused { self.ended.max(self.early) } else { self.ended };
        }
        if let Some(failure) = leg.failure() {
            return failure.time + self.ended;
        }
        leg.seen + if leg.is_confirmed() { self.idle } else { self.early }
    }
}
