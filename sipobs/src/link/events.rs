//! What becomes of legs, as the linker hears of it: under which keys each is found, and from when to when.

use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;

use super::clues::{self, Clues};
use super::evidence::{self, Known, Parties, called, callers};
use super::index::{self, By, Kind};
use super::second::Second;
use super::state::{State, answered_at, ended, ended_at, over};
use super::{Decision, Links, ReferClues};
use crate::leg::{Leg, LegId, Legs, Party, Refer};
use crate::sip::{Message, Name};
use crate::timers::{Deadline, Timers};
use crate::timestamp::Timestamp;

impl Links {
    /// A leg begins, by its first INVITE (or, of one older than the capture, by its first message).
    pub(crate) fn started(&mut self, legs: &mut Legs, id: LegId, message: &Message<'_>) {
        let clues = Clues::of(message, &self.config);
        clues::keep(legs, id, message, &clues);
        let Some(leg) = legs.get(id) else { return };
        let parties = Parties::of(leg, &self.config);
        let known = Known { legs, index: &self.index, config: &self.config, gone: self.gone };
        let second = evidence::candidates(known, leg, &parties, &clues);
        let familiar = self.is_familiar(leg.hosts.0, parties.request.as_ref());
        match second {
            Some(second) => {
                for candidate in &second.candidates {
                    self.pins.entry(candidate.call).or_default().insert(id);
                }
                let second = self.seconds.insert(Second { familiar, ..second });
                if let Some(leg) = legs.get_mut(id) {
                    leg.ties.second = Some(second);
                }
            }
            None => self.stray(legs, id, &parties, familiar),
        }
        self.dialing(legs, id, &parties);
        let Some(leg) = legs.get_mut(id) else { return };
        leg.ties.known = true;
        if leg.midcall() {
            self.up(legs, id);
        }
    }

    /// Another host that takes part as callee: the next hop of a proxied INVITE.
    pub(crate) fn reached(&mut self, legs: &mut Legs, id: LegId, host: IpAddr) {
        // Once answered, it is found by the hosts it had.
        let dialing = |leg: &Leg| leg.ties.known && State::of(leg) == State::Dialing;
        if legs.get(id).is_some_and(dialing) && legs.get_mut(id).is_some_and(|leg| leg.reached(host)) {
            let Some(leg) = legs.get(id) else { return };
            let parties = Parties::of(leg, &self.config);
            self.dialing(legs, id, &parties);
        }
    }

    /// What a later message of a leg may say that ties it: a Session-ID, configured headers.
    pub(crate) fn heard(&mut self, legs: &mut Legs, id: LegId, message: &Message<'_>) {
        let is_tied =
            message.header(Name::SessionId).is_some() || message.among(&self.headers).next().is_some();
        if !is_tied || legs.get(id).is_none_or(|leg| !leg.ties.known) {
            return;
        }
        let headers: SmallVec<[_; 4]> = clues::headers(message, &self.config)
            .map(|(header, value)| crate::leg::HeaderValue { header, hash: legs.hash(value) })
            .collect();
        let sessions = clues::sessions(legs, message);
        let Some(leg) = legs.get_mut(id) else { return };
        let answered = answered_at(leg).is_some();
        let mut new = false;
        for header in headers {
            new |= leg.rare_mut().add_header(header);
        }
        for session in sessions {
            new |= leg.rare_mut().add_session(session);
        }
        if new && answered {
            self.name(legs, id);
        }
    }

    /// The 2xx to its INVITE; its SDP says where it wants the media.
    pub(crate) fn answered(&mut self, legs: &mut Legs, id: LegId, message: &Message<'_>) {
        let media = clues::media(legs, message);
        if let Some(leg) = legs.get_mut(id) {
            leg.ties.media[1] = media;
        }
        self.confirmed_as_dialed(legs, id);
        self.up(legs, id);
    }

    /// A call that is found by just the numbers that it was dialed by: both sides of it were heard.
    fn confirmed_as_dialed(&mut self, legs: &mut Legs, id: LegId) {
        let Some(leg) = legs.get_mut(id).filter(|leg| leg.is_confirmed_by_both()) else { return };
        // An ACK that was captured before the 2xx has taken it out of those that dial.
        let dials = leg.ties.places.is_some();
        if answered_at(leg).is_none() || !leg.ties.plain || leg.ties.numbered || !dials {
            return;
        }
        leg.ties.numbered = true;
        let places = leg.ties.places;
        legs.note_parties(id);
        self.index.answered(legs, places);
    }

    /// It is up, if only one side says so: it is found by what names it, and by number only once it is
    /// [`Self::confirmed`].
    pub(crate) fn up(&mut self, legs: &mut Legs, id: LegId) {
        let Some(now) = legs.get(id).and_then(answered_at) else { return };
        self.leave_dialing(legs, id, now);
        self.name(legs, id);
    }

    /// Both sides of it were heard, and it is up: it can be transferred, and is found by its numbers.
    pub(crate) fn confirmed(&mut self, legs: &mut Legs, id: LegId) {
        let Some(leg) = legs.get(id) else { return };
        let Some(at) = answered_at(leg).filter(|_| leg.ties.known && !leg.ties.numbered) else { return };
        let mut places = leg.ties.places;
        self.index.leave_dialing(legs, &mut places, at);
        let mut seen = SmallVec::<[index::Key; 4]>::new();
        for host in leg.callee_hosts() {
            for number in called(leg) {
                let key = legs.hash_of(By::Called(host, number.tail()));
                if seen.contains(&key) {
                    continue;
                }
                seen.push(key);
                self.index.insert(legs, &mut places, id, key, Kind::Called, false);
            }
            for caller in callers(leg, &self.config) {
                let key = legs.hash_of(By::Caller(host, caller.tail()));
                if !seen.contains(&key) {
                    seen.push(key);
                    self.index.insert(legs, &mut places, id, key, Kind::Caller, false);
                }
            }
        }
        if let Some(leg) = legs.get_mut(id) {
            (leg.ties.places, leg.ties.numbered) = (places, true);
        }
        legs.note_parties(id);
    }

    /// The final failure of its INVITE, after any authentication; `None` when it timed out.
    pub(crate) fn failed(
        &mut self,
        legs: &mut Legs,
        timers: &mut Timers,
        id: LegId,
        now: Timestamp,
        status: Option<u16>,
    ) {
        let Some(leg) = legs.get_mut(id) else { return };
        if !leg.ties.known || State::of(leg) != State::Dialing {
            return;
        }
        (leg.ties.failed, leg.ties.failed_status) = (now.into(), status.unwrap_or_default());
        self.finished(legs, timers, id, now);
    }

    /// BYE of an answered leg.
    pub(crate) fn ended(&mut self, legs: &mut Legs, timers: &mut Timers, id: LegId) {
        let Some(leg) = legs.get(id) else { return };
        let Some((now, side)) = ended(leg).filter(|_| leg.ties.known) else { return };
        if leg.ties.numbered {
            self.index.ended(leg.ties.places, now, side);
        }
        timers.set(Deadline::Leave(id), None, now + self.after_end);
        self.finished(legs, timers, id, now);
    }

    /// A re-INVITE put the call on hold.
    pub(crate) fn held(&mut self, legs: &mut Legs, id: LegId, now: Timestamp) {
        if let Some(leg) = legs.get_mut(id) {
            leg.rare_mut().held = now.into();
        }
    }

    /// A REFER was sent in the call.
    pub(crate) fn refer_sent(&mut self, legs: &mut Legs, id: LegId, now: Timestamp, refer: &ReferClues<'_>) {
        let replaces = refer.replaces.map(|call_id| legs.hash(call_id));
        let Some(leg) = legs.get_mut(id).filter(|leg| leg.ties.known) else { return };
        leg.rare_mut().add_refer(Refer {
            cseq: refer.cseq,
            sent: now,
            target: refer.target.and_then(Party::new),
            replaces,
            referred_by: refer.referred_by.and_then(Party::of_uri),
            sender: refer.sender,
        });
        if answered_at(leg).is_some() {
            self.name(legs, id);
        }
    }

    /// A REFER in `call` was captured just after a leg, as taps and queues turn things around. Whether it asked for that: then
    /// it is to be decided anew whose leg it is.
    pub(crate) fn asked_for(&mut self, legs: &mut Legs, id: LegId, call: LegId) -> bool {
        let (Some(leg), Some(caller)) = (legs.get(id).filter(|leg| leg.ties.known), legs.get(call)) else {
            return false;
        };
        let old = self.second(legs, id).map(|(_, second)| second);
        if old.is_some_and(Second::is_asked_for) {
            return false;
        }
        let parties = Parties::of(leg, &self.config);
        let known = Known { legs, index: &self.index, config: &self.config, gone: self.gone };
        let weighed =
            old.is_some_and(|second| second.candidates.iter().any(|candidate| candidate.call == call));
        let candidate = evidence::by_late_refer(known, leg, &parties, caller, weighed);
        let Some(candidate) = candidate else { return false };
        if let Some(Decision::Linked { call, .. }) = old.and_then(|second| second.decided.clone())
            && let Some(call) = legs.get_mut(call)
        {
            call.rare_mut().claims.retain(|claim| claim.by != id);
        }
        match self.second_mut(legs, id) {
            Some(second) => second.asked_for(candidate),
            None => {
                let slot = self.seconds.insert(Second::new(vec![candidate], 0, false));
                if let Some(leg) = legs.get_mut(id) {
                    leg.ties.second = Some(slot);
                }
            }
        }
        self.pins.entry(call).or_default().insert(id);
        true
    }

    /// A leg is gone.
    pub(crate) fn forget(&mut self, legs: &mut Legs, timers: &mut Timers, id: LegId) {
        self.release(legs, id);
        let Some(leg) = legs.get_mut(id) else { return };
        let over = over(leg).map(|(over, _)| over);
        timers.cancel(Deadline::Leave(id), ended_at(leg).map(|ended| ended + self.after_end));
        timers.cancel(Deadline::Learn(id), over.map(|over| self.learnt_at(over)));
        let now = over.unwrap_or(leg.seen);
        let (mut places, second) = (leg.ties.places.take(), leg.ties.second.take());
        leg.ties.known = false;
        self.index.remove_all(legs, &mut places, now);
        if let Some(second) = second {
            self.seconds.remove(second);
        }
        self.pins.remove(&id);
    }

    fn leave_dialing(&mut self, legs: &mut Legs, id: LegId, now: Timestamp) {
        let Some(mut places) = legs.get(id).map(|leg| leg.ties.places) else { return };
        self.index.leave_dialing(legs, &mut places, now);
        if let Some(leg) = legs.get_mut(id) {
            leg.ties.places = places;
        }
    }

    /// From the first INVITE to the answer a leg may be what another forwards.
    fn dialing(&mut self, legs: &mut Legs, id: LegId, parties: &Parties) {
        let Some(leg) = legs.get(id) else { return };
        let mut places = leg.ties.places;
        for host in leg.callee_hosts() {
            if let Some(request) = &parties.request {
                let key = legs.hash_of(By::Called(host, request.tail()));
                self.index.insert(legs, &mut places, id, key, Kind::Called, true);
            }
            if let Some(from) = &parties.from {
                let key = legs.hash_of(By::Caller(host, from.tail()));
                self.index.insert(legs, &mut places, id, key, Kind::Caller, true);
            }
        }
        if let Some(leg) = legs.get_mut(id) {
            (leg.ties.places, leg.ties.plain) = (places, parties.plain);
        }
    }

    /// Once it is up, a leg is found by all that names it.
    fn name(&mut self, legs: &mut Legs, id: LegId) {
        let Some(leg) = legs.get(id) else { return };
        let Some(rare) = leg.rare() else { return };
        let mut places = leg.ties.places;
        self.index.leave_names(legs, &mut places, leg.seen);
        for header in &rare.headers {
            let key = legs.hash_of(By::Header(header.header, header.hash));
            self.index.insert(legs, &mut places, id, key, Kind::Name, false);
        }
        for session in &rare.sessions {
            self.index.insert(legs, &mut places, id, legs.hash_of(By::Session(*session)), Kind::Name, false);
        }
        for refer in &rare.refers {
            if let Some(target) = &refer.target {
                self.index.insert(
                    legs,
                    &mut places,
                    id,
                    legs.hash_of(By::Target(target.tail())),
                    Kind::Name,
                    false,
                );
            }
            if let Some(replaces) = refer.replaces {
                self.index.insert(
                    legs,
                    &mut places,
                    id,
                    legs.hash_of(By::Replaces(replaces)),
                    Kind::Name,
                    false,
                );
            }
        }
        if let Some(leg) = legs.get_mut(id) {
            leg.ties.places = places;
        }
    }

    /// A possible second leg is over; its end will be compared with those of calls.
    fn finished(&mut self, legs: &mut Legs, timers: &mut Timers, id: LegId, now: Timestamp) {
        let Some(host) = legs.get(id).map(|leg| leg.hosts.0) else { return };
        self.leave_dialing(legs, id, now);
        let Some((_, second)) = self.second(legs, id) else { return };
        if second.candidates.is_empty() {
            return;
        }
        let linked = match &second.decided {
            Some(Decision::Linked { call, .. }) => Some(*call),
            Some(Decision::No | Decision::Ambiguous { .. } | Decision::NotYet { .. }) | None => None,
        };
        self.over.insert((host, now, id));
        timers.set(Deadline::Learn(id), None, self.learnt_at(now));
        if let Some(call) = linked.and_then(|call| legs.get_mut(call)) {
            let claims = call.rare_mut().claims.iter_mut().filter(|claim| claim.by == id);
            claims.for_each(|claim| claim.until = Some(now));
        }
    }

    /// When the end of a possible second leg that was over at `over` is learnt from: after the verdict, which is due a
    /// moment earlier and shall not rest on itself.
    fn learnt_at(&self, over: Timestamp) -> Timestamp {
        over + self.settle + Duration::from_millis(1)
    }

    /// A leg that shows a platform's number without any call to it.
    fn stray(&mut self, legs: &Legs, id: LegId, parties: &Parties, familiar: bool) {
        let (Some(leg), Some(from)) = (legs.get(id), &parties.from) else { return };
        let (host, key) = (leg.hosts.0, legs.hash_of(By::Called(leg.hosts.0, from.tail())));
        let Some(stats) = self.index.stats_mut(legs, key) else { return };
        let strays = stats.stray(leg.started);
        if let Some(platform) = self.platform_mut(host) {
            platform.share.learn(1.0, strays);
            if let Some(target) = &parties.request {
                platform.learn_target(target.tail(), familiar, 1.0, 1.0);
            }
        }
    }
}
