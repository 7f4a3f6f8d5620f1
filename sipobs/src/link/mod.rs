//! Which call a second leg belongs to.
//!
//! A leg that begins while an answered call is up may be that call's second leg. Sometimes a header says so;
//! where the platform copies none, host, number and time must do. `evidence` finds what ties the leg to calls as it
//! begins, `posterior` weighs it together with what became of the legs, `assign` sees to it that no
//! call gets two legs at once, and `number_stats`, `platform_stats` and `end_lag` learn what is usual, since a
//! coincidence is worth only as much as it is rare.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;

use self::end_lag::EndLag;
use self::index::{By, Index};
use self::number_stats::NumberStats;
use self::platform_stats::PlatformStats;
use self::second::Second;
use self::state::over;
use crate::hash::Keyed;
use crate::leg::{Claim, Leg, LegId, Legs, Party};
use crate::record::{Link, Side};
use crate::sip::HeaderNames;
use crate::slab::Slab;
use crate::timestamp::Timestamp;

mod assign;
mod clues;
mod config;
mod end_lag;
mod events;
mod evidence;
mod index;
mod number_stats;
mod platform_stats;
mod posterior;
mod second;
mod state;

#[cfg(test)]
mod calibration;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod tests;

pub use config::{LinkConfig, LinkHeader, LinkWeights};

/// Whether two users name one party, however their numbers are written.
pub(crate) fn same_party(one: &str, other: &str) -> bool {
    let parties = [one, other].map(|user| Party::new(user.as_bytes()));
    matches!(parties, [Some(one), Some(other)] if one.same(&other))
}

/// What ties legs to one another.
///
/// Every leg is announced by [`Self::started`], once. Only legs that [`Self::could_be_second_leg`] names
/// need [`Self::decide`]; ask again no later than it says. Events of legs that were not announced are ignored.
#[derive(Debug)]
pub(crate) struct Links {
    config: LinkConfig,
    /// The configured headers: few messages have one, and a look at all names at once tells.
    headers: HeaderNames,
    settle: Duration,
    patience: Duration,
    after_end: Duration,
    /// For how long after a call's end its second leg may go without a verdict.
    gone: Duration,
    index: Index,
    /// What is known of possible second legs.
    seconds: Slab<Second>,
    /// Possible second legs whose verdict may still need a call, by that.
    pins: HashMap<LegId, BTreeSet<LegId>, Keyed>,
    /// Calls that no verdict needs any more.
    unneeded: Vec<LegId>,
    /// Possible second legs that are over, by the host they came from and the moment.
    over: BTreeSet<(IpAddr, Timestamp, LegId)>,
    /// What is usual, for all numbers of a platform and for all platforms.
    platforms: HashMap<IpAddr, PlatformStats, Keyed>,
    end_lag: EndLag,
    unknown: NumberStats,
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

/// A REFER, as far as legs are tied by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReferClues<'a> {
    pub(crate) cseq: u32,
    /// User of Refer-To, or its host where it has none.
    pub(crate) target: Option<&'a [u8]>,
    /// Call-ID that a Replaces in Refer-To names.
    pub(crate) replaces: Option<&'a [u8]>,
    /// URI of Referred-By, or of From where it has none.
    pub(crate) referred_by: Option<&'a [u8]>,
    /// The host that sent it.
    pub(crate) sender: IpAddr,
}

/// Platforms whose habits are remembered.
const MOST_PLATFORMS: usize = 256;

impl Links {
    /// `gone`: for how long after a call's end a leg that belongs to it may go without a verdict.
    pub(crate) fn new(config: LinkConfig, gone: Duration) -> Self {
        Self {
            // The window in which ends are compared is the upper bound: see `end_lag::WINDOW`.
            settle: config.settle.min(Duration::from_secs_f64(end_lag::WINDOW - 0.5)),
            patience: config.patience,
            after_end: config.after_end,
            gone,
            index: Index::default(),
            headers: config.headers.iter().map(|header| header.name.clone()).collect(),
            config,
            seconds: Slab::default(),
            pins: HashMap::default(),
            unneeded: Vec::new(),
            over: BTreeSet::new(),
            platforms: HashMap::default(),
            end_lag: EndLag::new(),
            unknown: NumberStats::new(Timestamp::default()),
        }
    }

    /// Whether the verdict on some leg may still need this one.
    pub(crate) fn is_needed(&self, id: LegId) -> bool {
        self.pins.contains_key(&id)
    }

    /// The next call that no verdict needs any more.
    pub(crate) fn unneeded(&mut self) -> Option<LegId> {
        self.unneeded.pop()
    }

    /// Whether some answered call could own this leg. Settled when the leg starts; cheap.
    pub(crate) fn could_be_second_leg(leg: &Leg) -> bool {
        leg.ties.second.is_some()
    }

    /// The one call that is up between two hosts and two parties, each pair in the order of a message that goes from
    /// the first to the second; with tags, the call of those tags.
    pub(crate) fn call_between<'l>(
        &self,
        legs: &'l Legs,
        hosts: (IpAddr, IpAddr),
        uris: [&[u8]; 2],
        tags: [Option<&[u8]>; 2],
    ) -> Option<&'l Leg> {
        let [from, to] = uris.map(Party::of_uri);
        let (from, to) = (from?, to?);
        let tags = tags.map(|tag| tag.and_then(|tag| legs.tag(tag)));
        let keys = [By::Called(hosts.0, from.tail()), By::Called(hosts.1, to.tail())];
        let calls = keys.into_iter().flat_map(|key| {
            self.index
                .calls(legs.hash_of(key))
                .take(self.config.max_candidates)
                .filter_map(|slot| legs.at(slot))
        });
        let same = |uri: &[u8], party: &Party| Party::of_uri(uri).is_some_and(|other| other.same(party));
        let mut fitting = calls.filter(|call| {
            let ends = [call.caller.tag, call.callee.tag];
            let (caller, callee) = (call.uri(Side::Caller), call.uri(Side::Callee));
            let between = call.hosts == hosts || call.hosts == (hosts.1, hosts.0);
            let parties =
                (same(caller, &from) && same(callee, &to)) || (same(caller, &to) && same(callee, &from));
            let tagged = ends == tags || ends == [tags[1], tags[0]];
            !call.bye.is_set() && between && if tags[1].is_some() { tagged } else { parties }
        });
        let only = fitting.next()?;
        fitting.all(|other| other.id == only.id).then_some(only)
    }

    /// Undecided legs that could belong to a call.
    pub(crate) fn possible_seconds_of(&self, legs: &Legs, call: LegId) -> SmallVec<[LegId; 4]> {
        let undecided =
            |id: &LegId| self.second(legs, *id).is_some_and(|(_, second)| second.decided.is_none());
        self.pins.get(&call).into_iter().flatten().copied().filter(undecided).collect()
    }

    /// The calls that an undecided leg could belong to.
    pub(crate) fn possible_calls_of(&self, legs: &Legs, leg: LegId) -> SmallVec<[LegId; 4]> {
        let second = self.second(legs, leg).filter(|(_, second)| second.decided.is_none());
        let candidates = second.into_iter().flat_map(|(_, second)| &second.candidates);
        candidates.map(|candidate| candidate.call).collect()
    }

    /// Undecided legs whose verdict the end of this call brings forward.
    pub(crate) fn waiting_for(&self, legs: &Legs, call: LegId) -> SmallVec<[LegId; 4]> {
        let undecided = |id: &LegId| {
            let undecided = self.second(legs, *id).filter(|(_, second)| second.decided.is_none());
            undecided.is_some_and(|(leg, second)| self.is_hurried_by(legs, leg, second, call))
        };
        self.pins.get(&call).into_iter().flatten().copied().filter(undecided).collect()
    }

    /// Whether every call it could belong to ended so long ago that its verdict is due.
    pub(crate) fn is_left_over(&self, legs: &Legs, id: LegId, now: Timestamp) -> bool {
        let second = self.second(legs, id).map(|(_, second)| second);
        second.and_then(|second| self.all_gone_at(legs, second)).is_some_and(|at| at <= now)
    }

    /// Bytes held for a leg beside its record, about.
    pub(crate) fn held_for(&self, leg: &Leg) -> usize {
        leg.ties.second.and_then(|second| self.seconds.get(second)).map_or(0, Second::bytes)
    }

    /// To which call the leg belongs, by all that is known at `now`. A verdict does not change any more.
    pub(crate) fn decide(&mut self, legs: &mut Legs, id: LegId, now: Timestamp) -> Decision {
        let Some((leg, second)) = self.second(legs, id) else { return Decision::No };
        if second.decided.is_none()
            && let Some(until) = self.until(legs, leg, second, now)
        {
            return Decision::NotYet { until };
        }
        self.conclude(legs, id, now)
    }

    /// What would be decided by what is known now, without deciding it.
    pub(crate) fn likely(&self, legs: &Legs, id: LegId, now: Timestamp) -> Decision {
        let Some((leg, second)) = self.second(legs, id) else { return Decision::No };
        second.decided.clone().unwrap_or_else(|| self.verdict(legs, leg, second, now))
    }

    /// Like [`Self::decide`], but by what is known now, even if more could come.
    pub(crate) fn conclude(&mut self, legs: &mut Legs, id: LegId, now: Timestamp) -> Decision {
        if let Some(decided) = self.second(legs, id).and_then(|(_, second)| second.decided.as_ref()) {
            return decided.clone();
        }
        self.keep_posteriors(legs, id, now);
        let Some((leg, second)) = self.second(legs, id) else { return Decision::No };
        let decision = self.verdict(legs, leg, second, now);
        // A leg that is up for long would hold many calls only to learn little from its end.
        let let_go = second.learnt || (over(leg).is_none() && second.candidates.len() > 4);
        if let Decision::Linked { call, refer, .. } = &decision {
            let until = over(leg).map(|(over, _)| over);
            let claim = Claim { by: id, refer: *refer, from: leg.started, until };
            if let Some(call) = legs.get_mut(*call) {
                call.rare_mut().add_claim(claim);
            }
        }
        if let Some(second) = self.second_mut(legs, id) {
            second.decided = Some(decision.clone());
        }
        if let_go {
            self.release(legs, id);
        }
        decision
    }

    /// What is due at `now`: to learn from the end of a leg.
    pub(crate) fn learn_from(&mut self, legs: &mut Legs, id: LegId, now: Timestamp) {
        self.keep_posteriors(legs, id, now);
        self.learn(legs, id, now);
        if let Some(second) = self.second_mut(legs, id) {
            second.learnt = true;
            if second.decided.is_some() {
                self.release(legs, id);
            }
        }
    }

    /// What is due at `now`: an ended call can't get a second leg by number any more.
    pub(crate) fn leave(&mut self, legs: &mut Legs, id: LegId, now: Timestamp) {
        let Some(leg) = legs.get_mut(id) else { return };
        let mut places = leg.ties.places;
        self.index.leave_numbers(legs, &mut places, now);
        if let Some(leg) = legs.get_mut(id) {
            leg.ties.places = places;
        }
    }

    /// Whether second legs from there went to this target before.
    fn is_familiar(&self, host: IpAddr, target: Option<&Party>) -> bool {
        let platform = self.platforms.get(&host);
        platform.zip(target).is_some_and(|(platform, target)| platform.is_familiar(target.tail()))
    }

    fn platform_mut(&mut self, host: IpAddr) -> Option<&mut PlatformStats> {
        if self.platforms.len() >= MOST_PLATFORMS && !self.platforms.contains_key(&host) {
            return None;
        }
        Some(self.platforms.entry(host).or_default())
    }

    /// A leg that may be a second leg.
    fn second<'a>(&'a self, legs: &'a Legs, id: LegId) -> Option<(&'a Leg, &'a Second)> {
        let leg = legs.get(id)?;
        Some((leg, self.seconds.get(leg.ties.second?)?))
    }

    fn second_mut(&mut self, legs: &Legs, id: LegId) -> Option<&mut Second> {
        self.seconds.get_mut(legs.get(id)?.ties.second?)
    }

    /// Of a leg and of its rivals.
    fn keep_posteriors(&mut self, legs: &Legs, id: LegId, now: Timestamp) {
        let rivals = legs.get(id).map_or(Vec::new(), |leg| self.rivals(legs, leg));
        for id in rivals.into_iter().chain([id]) {
            self.keep_posterior(legs, id, now);
        }
    }

    /// Lets go of a leg's candidates: its verdict is given or not wanted any more.
    pub(crate) fn release(&mut self, legs: &Legs, id: LegId) {
        let Some(leg) = legs.get(id) else { return };
        let Some(second) = leg.ties.second.and_then(|second| self.seconds.get_mut(second)) else { return };
        second.decided.get_or_insert(Decision::No);
        let candidates = std::mem::take(&mut second.candidates);
        second.posterior = None;
        if let Some((at, _)) = over(leg) {
            self.over.remove(&(leg.hosts.0, at, id));
        }
        for candidate in candidates {
            if let Some(pins) = self.pins.get_mut(&candidate.call) {
                pins.remove(&id);
                if pins.is_empty() {
                    self.pins.remove(&candidate.call);
                    self.unneeded.push(candidate.call);
                }
            }
        }
    }
}
