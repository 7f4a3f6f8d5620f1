//! Which call a second leg belongs to.
//!
//! A leg that begins while an answered call is up may be that call's second leg. Sometimes a header says so;
//! where the platform copies none, host, number and time must do. [`tie`] finds what ties the leg to calls as it
//! begins, [`decide`] weighs these ties together with what became of the legs, [`assign`] sees to it that no
//! call gets two legs at once, and [`group`] and [`coincidence`] learn what is usual, since a coincidence is
//! worth only as much as it is rare.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use self::coincidence::Coincidence;
use self::group::Group;
use self::host::Host;
use self::index::{Index, group_key};
use self::leg::{Claim, Leg, Second, State};
use super::attempt::{Link, Side};
use crate::timestamp::Timestamp;

mod assign;
mod coincidence;
mod config;
mod decide;
mod facts;
mod group;
mod host;
mod index;
mod leg;
mod party;
mod tie;

#[cfg(test)]
mod calibration;
#[cfg(test)]
mod tests;

pub use config::{LinkConfig, LinkHeader, LinkWeights};
pub(crate) use facts::{LegFacts, LegId, ReferFacts};

type Legs = BTreeMap<LegId, Leg>;

/// Whether two users name one party, however their numbers are written.
pub(crate) fn same_party(one: &str, other: &str) -> bool {
    let parties = [one, other].map(party::Party::new);
    matches!(parties, [Some(one), Some(other)] if one.same(&other))
}

/// All legs that could be tied to one another, and what has become of them.
///
/// Every leg is announced by [`Self::started`], once. Only legs that [`Self::could_be_second_leg`] names
/// need [`Self::decide`]; ask again no later than it says. Events of unknown legs are ignored.
#[derive(Debug)]
pub(crate) struct Links {
    config: LinkConfig,
    settle: Duration,
    patience: Duration,
    after_end: Duration,
    /// For how long after a call's end its second leg may go without a verdict.
    gone: Duration,
    legs: Legs,
    index: Index,
    /// Legs that no answer has confirmed: the first to go when there are too many.
    half_open: BTreeSet<LegId>,
    /// Possible second legs that are over, by the host they came from and the moment.
    over: BTreeSet<(IpAddr, Timestamp, LegId)>,
    timers: BTreeSet<(Timestamp, LegId, Timer)>,
    /// Undecided legs; see [`MOST_PENDING`].
    pending: usize,
    /// What is usual, for all numbers of a host and for all platforms.
    hosts: HashMap<IpAddr, Host>,
    coincidence: Coincidence,
    unknown: Group,
    counts: LinkCounts,
}

/// To which call a leg belongs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// More evidence can come until then: ask again at that time, or whenever something happened.
    NotYet {
        /// When to ask at the latest.
        until: Timestamp,
    },
    /// To none: an ordinary call.
    No,
    /// To this call.
    Linked {
        /// The call.
        call: LegId,
        /// The REFER in it that asked for this leg, by its CSeq number.
        refer: Option<u32>,
        /// By what evidence, and how sure.
        link: Link,
    },
    /// It is a second leg, but of which call can't be told; the candidates are in the link.
    Ambiguous {
        /// `method` is `ambiguous`.
        link: Link,
        /// A REFER asked for it, in whichever call.
        referred: bool,
    },
}

/// What the linker had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounts {
    /// Legs dropped before their end, for [`LinkConfig::max_legs`].
    pub evicted: u64,
    /// Possible second legs passed over because too many were undecided.
    pub passed_over: u64,
}

/// Things to do later about a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Learn from its end.
    Learn,
    /// It can't get a second leg by number any more.
    Leave,
    /// It can't get one at all.
    Drop,
}

/// For how long after its end a call is found by header, REFER or dialog name.
const NAMED_AFTER_END: Duration = Duration::from_secs(35);
/// Undecided legs at once; each holds up to [`LinkConfig::max_candidates`].
const MOST_PENDING: usize = 4096;
/// What a key takes up in the index beside its text, about.
const KEY: usize = 128;
/// Hosts whose habits are remembered.
const MOST_HOSTS: usize = 256;

impl Links {
    /// `gone`: for how long after a call's end a leg that belongs to it may go without a verdict.
    pub(crate) fn new(config: LinkConfig, gone: Duration) -> Self {
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Self {
            // The window in which ends are compared is the upper bound: see `coincidence::WINDOW`.
            settle: seconds(config.settle_seconds.min(coincidence::WINDOW - 0.5)),
            patience: seconds(config.patience_seconds),
            after_end: seconds(config.after_end_seconds),
            gone,
            index: Index::new(config.max_legs),
            config,
            legs: Legs::new(),
            half_open: BTreeSet::new(),
            over: BTreeSet::new(),
            timers: BTreeSet::new(),
            pending: 0,
            hosts: HashMap::new(),
            coincidence: Coincidence::new(),
            unknown: Group::new(Timestamp::default()),
            counts: LinkCounts::default(),
        }
    }

    /// The first INVITE of a leg.
    pub(crate) fn started(&mut self, facts: LegFacts) {
        let (id, now) = (facts.id, facts.invited);
        self.pass(now);
        if self.legs.contains_key(&id) {
            return;
        }
        while self.legs.len() >= self.config.max_legs.max(1) {
            let Some(oldest) = self.half_open.first().or(self.legs.keys().next()).copied() else { break };
            self.counts.evicted += 1;
            self.drop_leg(oldest, now);
        }
        let mut leg = Leg::new(facts, &self.config);
        leg.second = tie::candidates(id, &leg, &self.legs, &self.index, &self.config);
        if leg.second.is_some() && self.pending == MOST_PENDING {
            self.counts.passed_over += 1;
            leg.second = None;
        }
        let familiar = self.is_familiar(&leg);
        match &mut leg.second {
            Some(second) => {
                second.familiar = familiar;
                self.pending += 1;
                for candidate in &second.candidates {
                    if let Some(call) = self.legs.get_mut(&candidate.call) {
                        call.pins.insert(id);
                    }
                }
            }
            None => self.stray(&leg, now),
        }
        self.index.name(id, &leg.call_id);
        self.index.dialing(id, &leg);
        self.half_open.insert(id);
        self.legs.insert(id, leg);
    }

    /// Another host that takes part as callee: the next hop of a proxied INVITE.
    pub(crate) fn reached(&mut self, id: LegId, host: IpAddr) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        // Once answered, it is indexed by the hosts it had.
        if leg.state == State::Dialing {
            leg.add_host(host);
        }
    }

    /// A Session-ID seen in a later message of the leg.
    pub(crate) fn session_id(&mut self, id: LegId, value: &str) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let known = leg.sessions.len();
        leg.add_session(value);
        if leg.answered_at().is_some() {
            leg.sessions[known..].iter().for_each(|uuid| self.index.session(id, uuid));
        }
    }

    /// One of the configured headers in a later message of the leg (index into the list, value).
    pub(crate) fn key(&mut self, id: LegId, header: usize, value: &str) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let known = leg.keys.len();
        leg.add_key(header, value);
        if leg.answered_at().is_some() {
            leg.keys[known..].iter().for_each(|key| self.index.key(id, key));
        }
    }

    /// The 2xx to its INVITE; `media` is where its SDP wants the media.
    pub(crate) fn answered(&mut self, id: LegId, now: Timestamp, media: Option<SocketAddr>) {
        self.up(id, now, media);
        self.confirmed(id);
    }

    /// It is up. That may be only what one side says, who speaks of a dialog older than the capture: then it is
    /// found by what names it, and by number only once it is confirmed.
    pub(crate) fn up(&mut self, id: LegId, now: Timestamp, media: Option<SocketAddr>) {
        self.pass(now);
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.state == State::Dialing) else { return };
        leg.state = State::Answered { at: now, ended: None };
        leg.media.extend(media);
        self.index.dialed(id, leg);
        self.index.name_up(id, leg);
    }

    /// Both sides of it were heard, and it is up.
    pub(crate) fn confirmed(&mut self, id: LegId) {
        if !self.half_open.remove(&id) {
            return;
        }
        let Some((leg, at)) = self.legs.get(&id).and_then(|leg| Some((leg, leg.answered_at()?))) else {
            return;
        };
        self.index.number(id, leg, at);
        if let Some((ended, side)) = leg.ended() {
            self.index.ended(leg, ended, side);
        }
    }

    /// The final failure of its INVITE, after any authentication; `None` when it timed out.
    pub(crate) fn failed(&mut self, id: LegId, now: Timestamp, status: Option<u16>) {
        self.pass(now);
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.state == State::Dialing) else { return };
        leg.state = State::Failed { at: now, status };
        self.half_open.remove(&id);
        self.finished(id, now);
    }

    /// BYE of an answered leg, by `side`.
    pub(crate) fn ended(&mut self, id: LegId, now: Timestamp, side: Side) {
        self.pass(now);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let State::Answered { at, ended: None } = leg.state else { return };
        leg.state = State::Answered { at, ended: Some((now, side)) };
        if !self.half_open.contains(&id) {
            self.index.ended(leg, now, side);
        }
        self.timers.insert((now + self.after_end, id, Timer::Leave));
        self.timers.insert((now + NAMED_AFTER_END.max(self.after_end), id, Timer::Drop));
        self.finished(id, now);
    }

    /// A re-INVITE put the call on hold.
    pub(crate) fn held(&mut self, id: LegId, now: Timestamp) {
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.held = Some(now);
        }
    }

    /// A REFER was sent in the call.
    pub(crate) fn refer_sent(&mut self, id: LegId, now: Timestamp, refer: ReferFacts) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let answered = leg.answered_at().is_some();
        if answered {
            leg.refers.iter().for_each(|refer| self.index.remove_refer(id, refer));
        }
        leg.add_refer(now, refer);
        if answered {
            leg.refers.iter().for_each(|refer| self.index.refer(id, refer));
        }
    }

    /// The owner is done with this leg. Its facts are kept for as long as another leg's verdict needs them.
    pub(crate) fn forget(&mut self, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.forgotten = true;
        self.release(id);
        self.drop_if_unneeded(id);
    }

    /// Whether some answered call could own this leg. Settled when the leg starts; cheap.
    pub(crate) fn could_be_second_leg(&self, id: LegId) -> bool {
        self.legs.get(&id).is_some_and(|leg| leg.second.is_some())
    }

    /// Whether that call is among those the leg could belong to, as long as it is not decided.
    pub(crate) fn could_belong(&self, id: LegId, call: LegId) -> bool {
        let candidates = self.second(id).map(|(_, second)| &second.candidates[..]).unwrap_or_default();
        candidates.iter().any(|candidate| candidate.call == call)
    }

    /// Undecided legs whose verdict the end of this call brings forward.
    pub(crate) fn waiting_for(&self, call: LegId) -> Vec<LegId> {
        let undecided = |id: &LegId| {
            let undecided = self.second(*id).filter(|(_, second)| second.decided.is_none());
            undecided.is_some_and(|(leg, second)| self.is_hurried_by(leg, second, call))
        };
        let pins = self.legs.get(&call).map(|call| &call.pins);
        pins.into_iter().flatten().copied().filter(undecided).collect()
    }

    /// Whether every call it could belong to ended so long ago that its verdict is due.
    pub(crate) fn is_left_over(&self, id: LegId, now: Timestamp) -> bool {
        self.second(id).and_then(|(_, second)| self.all_gone_at(second)).is_some_and(|at| at <= now)
    }

    /// Bytes held for a leg beside what any leg takes up, about: calls it could belong to, and what names it.
    pub(crate) fn held_for(&self, id: LegId) -> usize {
        let Some(leg) = self.legs.get(&id) else { return 0 };
        let candidates = leg.second.as_ref().map_or(0, |second| second.candidates.len());
        let refers: usize =
            leg.refers.iter().filter_map(|refer| refer.replaces.as_ref()).map(String::len).sum();
        let keys: usize = leg.keys.iter().map(|(_, value)| value.len() + KEY).sum();
        candidates * size_of::<tie::Candidate>()
            + (leg.sessions.len() + leg.refers.len()) * KEY
            + 2 * (keys + refers)
    }

    /// To which call the leg belongs, by all that is known at `now`. A verdict does not change any more.
    pub(crate) fn decide(&mut self, id: LegId, now: Timestamp) -> Decision {
        self.pass(now);
        let Some((leg, second)) = self.second(id) else { return Decision::No };
        if second.decided.is_none()
            && let Some(until) = self.until(id, leg, second, now)
        {
            return Decision::NotYet { until };
        }
        self.conclude(id, now)
    }

    /// Like [`Self::decide`], but by what is known now, even if more could come.
    pub(crate) fn conclude(&mut self, id: LegId, now: Timestamp) -> Decision {
        if let Some(decided) = self.second(id).and_then(|(_, second)| second.decided.as_ref()) {
            return decided.clone();
        }
        self.keep_opinions(id, now);
        let Some((leg, second)) = self.second(id) else { return Decision::No };
        let decision = self.verdict(id, leg, second, now);
        let claim = match &decision {
            Decision::Linked { call, refer, .. } => {
                let until = leg.over().map(|(over, _)| over);
                Some((*call, Claim { by: id, refer: *refer, from: leg.invited, until }))
            }
            _ => None,
        };
        // A leg that is up for long would hold many calls only to learn little from its end.
        let let_go = second.learnt || (leg.over().is_none() && second.candidates.len() > 4);
        if let Some((call, claim)) = claim
            && let Some(call) = self.legs.get_mut(&call)
        {
            call.claim(claim);
        }
        self.pending = self.pending.saturating_sub(1);
        if let Some(second) = self.legs.get_mut(&id).and_then(|leg| leg.second.as_mut()) {
            second.decided = Some(decision.clone());
        }
        if let_go {
            self.release(id);
        }
        decision
    }

    /// What the linker had no room for so far.
    pub(crate) fn counts(&self) -> LinkCounts {
        self.counts
    }

    /// A possible second leg is over; its end will be compared with those of calls.
    fn finished(&mut self, id: LegId, now: Timestamp) {
        let Some(leg) = self.legs.get(&id) else { return };
        self.index.dialed(id, leg);
        let Some(second) = &leg.second else { return };
        if second.candidates.is_empty() {
            return;
        }
        let linked = match &second.decided {
            Some(Decision::Linked { call, .. }) => Some(*call),
            _ => None,
        };
        self.over.insert((leg.caller_host, now, id));
        // After the verdict, which is due at the same moment and shall not rest on itself.
        self.timers.insert((now + self.settle + Duration::from_millis(1), id, Timer::Learn));
        if let Some(call) = linked.and_then(|call| self.legs.get_mut(&call)) {
            call.claims.iter_mut().filter(|claim| claim.by == id).for_each(|claim| claim.until = Some(now));
        }
    }

    /// A leg that shows a platform's number without any call to it.
    fn stray(&mut self, leg: &Leg, now: Timestamp) {
        let Some(from) = &leg.from else { return };
        let key = group_key(leg.caller_host, from);
        let Some(group) = self.index.group_mut(&key) else { return };
        let legs = group.stray(now);
        let familiar = self.is_familiar(leg);
        if let Some(host) = self.host_mut(leg.caller_host) {
            host.share.learn(1.0, legs);
            if let Some(target) = &leg.request {
                host.learn_target(target.tail(), familiar, 1.0, 1.0);
            }
        }
    }

    /// Whether second legs from there went to this leg's target before.
    fn is_familiar(&self, leg: &Leg) -> bool {
        let host = self.hosts.get(&leg.caller_host);
        host.zip(leg.request.as_ref()).is_some_and(|(host, target)| host.is_familiar(target.tail()))
    }

    fn host_mut(&mut self, host: IpAddr) -> Option<&mut Host> {
        if self.hosts.len() >= MOST_HOSTS && !self.hosts.contains_key(&host) {
            return None;
        }
        Some(self.hosts.entry(host).or_default())
    }

    /// A leg that may be a second leg.
    fn second(&self, id: LegId) -> Option<(&Leg, &Second)> {
        let leg = self.legs.get(&id)?;
        Some((leg, leg.second.as_ref()?))
    }

    /// Of a leg and of its rivals.
    fn keep_opinions(&mut self, id: LegId, now: Timestamp) {
        let rivals = self.legs.get(&id).map_or(Vec::new(), |leg| self.rivals(id, leg));
        for id in rivals.into_iter().chain([id]) {
            self.keep_opinion(id, now);
        }
    }

    /// Does what is due.
    fn pass(&mut self, now: Timestamp) {
        while let Some(next) = self.timers.first().filter(|(due, ..)| *due <= now).copied() {
            self.timers.remove(&next);
            let (_, id, timer) = next;
            match timer {
                Timer::Learn => {
                    self.keep_opinions(id, now);
                    self.learn(id, now);
                    if let Some(second) = self.legs.get_mut(&id).and_then(|leg| leg.second.as_mut()) {
                        second.learnt = true;
                        if second.decided.is_some() {
                            self.release(id);
                        }
                    }
                }
                Timer::Leave => {
                    if let Some(leg) = self.legs.get(&id) {
                        self.index.leave(id, leg, now);
                    }
                }
                Timer::Drop => {
                    if let Some(leg) = self.legs.get(&id) {
                        self.index.remove(id, leg);
                    }
                    self.drop_if_unneeded(id);
                }
            }
        }
    }

    /// Lets go of a leg's candidates: its verdict is given or not wanted any more.
    fn release(&mut self, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let host = leg.caller_host;
        let over = leg.over();
        let Some(second) = &mut leg.second else { return };
        if second.decided.is_none() {
            second.decided = Some(Decision::No);
            self.pending = self.pending.saturating_sub(1);
        }
        let candidates = std::mem::take(&mut second.candidates);
        second.opinion = None;
        if let Some((at, _)) = over {
            self.over.remove(&(host, at, id));
        }
        for candidate in candidates {
            if let Some(call) = self.legs.get_mut(&candidate.call) {
                call.pins.remove(&id);
            }
            self.drop_if_unneeded(candidate.call);
        }
    }

    /// Drops a leg that its owner is done with, once no verdict can need it.
    fn drop_if_unneeded(&mut self, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        let confirmed = leg.answered_at().is_some() && !self.half_open.contains(&id);
        let findable = confirmed && self.timers_hold(id, leg);
        if leg.forgotten && leg.pins.is_empty() && !findable {
            let now = leg.over().map_or(leg.invited, |(over, _)| over);
            self.drop_leg(id, now);
        }
    }

    /// Whether the call ended so recently that a leg may still ask for it.
    fn timers_hold(&self, id: LegId, leg: &Leg) -> bool {
        let Some((ended, _)) = leg.ended() else { return false };
        self.timers.contains(&(ended + NAMED_AFTER_END.max(self.after_end), id, Timer::Drop))
    }

    fn drop_leg(&mut self, id: LegId, now: Timestamp) {
        self.release(id);
        self.half_open.remove(&id);
        if let Some(leg) = self.legs.remove(&id) {
            self.index.leave(id, &leg, now);
            self.index.remove(id, &leg);
            self.index.dialed(id, &leg);
            self.index.unname(id, &leg.call_id);
        }
    }
}
