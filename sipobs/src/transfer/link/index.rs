//! Finding the calls a leg could belong to without looking at all of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

use super::LegId;
use super::group::Group;
use super::leg::{Leg, Refer};
use super::party::Party;
use crate::timestamp::Timestamp;
use crate::transfer::attempt::Side;

/// A number at a host.
pub(super) type GroupKey = (IpAddr, String);

/// Answered calls by what a second leg may show of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    groups: HashMap<GroupKey, Group>,
    /// Groups without calls in the order in which they lost the last one; may hold outdated entries.
    empty: VecDeque<(GroupKey, Timestamp)>,
    most_empty: usize,
    callers: HashMap<GroupKey, BTreeSet<LegId>>,
    call_ids: HashMap<String, LegId>,
    keys: HashMap<(usize, String), BTreeSet<LegId>>,
    sessions: HashMap<String, BTreeSet<LegId>>,
    targets: HashMap<String, BTreeSet<LegId>>,
    replaces: HashMap<String, BTreeSet<LegId>>,
    /// Legs without an answer, by whom they call and by who calls.
    dialing: HashMap<String, BTreeSet<LegId>>,
}

/// Numbers whose usual rates are remembered while no call to them is known, at most.
const EMPTY_GROUPS: usize = 10_000;

impl Index {
    /// For as many legs at a time.
    pub(super) fn new(legs: usize) -> Self {
        Self { most_empty: EMPTY_GROUPS.min(legs / 4), ..Self::default() }
    }

    /// From the first INVITE on a leg can be named by its Call-ID.
    pub(super) fn name(&mut self, id: LegId, call_id: &str) {
        self.call_ids.insert(call_id.to_owned(), id);
    }

    pub(super) fn unname(&mut self, id: LegId, call_id: &str) {
        if self.call_ids.get(call_id) == Some(&id) {
            self.call_ids.remove(call_id);
        }
    }

    /// Once answered a call can be transferred: it is found by its numbers, …
    pub(super) fn number(&mut self, id: LegId, leg: &Leg, now: Timestamp) {
        for key in group_keys(leg) {
            self.groups.entry(key).or_insert_with(|| Group::new(now)).call_answered(id, now);
        }
        for key in caller_keys(leg) {
            self.callers.entry(key).or_default().insert(id);
        }
    }

    /// … and by what names it.
    pub(super) fn name_up(&mut self, id: LegId, leg: &Leg) {
        leg.keys.iter().for_each(|key| self.key(id, key));
        leg.sessions.iter().for_each(|uuid| self.session(id, uuid));
        leg.refers.iter().for_each(|refer| self.refer(id, refer));
    }

    pub(super) fn key(&mut self, id: LegId, key: &(usize, String)) {
        self.keys.entry(key.clone()).or_default().insert(id);
    }

    pub(super) fn session(&mut self, id: LegId, uuid: &str) {
        self.sessions.entry(uuid.to_owned()).or_default().insert(id);
    }

    pub(super) fn refer(&mut self, id: LegId, refer: &Refer) {
        if let Some(target) = &refer.target {
            self.targets.entry(target.tail().to_owned()).or_default().insert(id);
        }
        if let Some(call_id) = &refer.replaces {
            self.replaces.entry(call_id.clone()).or_default().insert(id);
        }
    }

    /// It ended, but can still be found for a while.
    pub(super) fn ended(&mut self, leg: &Leg, now: Timestamp, side: Side) {
        for key in group_keys(leg) {
            if let Some(group) = self.groups.get_mut(&key) {
                group.call_ended(now, side);
            }
        }
    }

    /// It can't be found by number any more.
    pub(super) fn leave(&mut self, id: LegId, leg: &Leg, now: Timestamp) {
        if leg.answered_at().is_none() {
            return;
        }
        for key in group_keys(leg) {
            if let Some(group) = self.groups.get_mut(&key) {
                let left = group.calls.remove(&id);
                if left && leg.ended().is_none() {
                    group.call_ended(now, Side::Caller);
                }
                if left && group.calls.is_empty() {
                    group.emptied = now;
                    self.empty.push_back((key, now));
                }
            }
        }
        for key in caller_keys(leg) {
            take(&mut self.callers, &key, id);
        }
        while self.empty.len() > self.most_empty {
            let Some((key, since)) = self.empty.pop_front() else { break };
            if self.groups.get(&key).is_some_and(|group| group.calls.is_empty() && group.emptied == since) {
                self.groups.remove(&key);
            }
        }
    }

    /// It can't be found at all any more.
    pub(super) fn remove(&mut self, id: LegId, leg: &Leg) {
        leg.keys.iter().for_each(|key| take(&mut self.keys, key, id));
        leg.sessions.iter().for_each(|uuid| take(&mut self.sessions, uuid, id));
        leg.refers.iter().for_each(|refer| self.remove_refer(id, refer));
    }

    pub(super) fn remove_refer(&mut self, id: LegId, refer: &Refer) {
        if let Some(target) = &refer.target {
            take(&mut self.targets, target.tail(), id);
        }
        if let Some(call_id) = &refer.replaces {
            take(&mut self.replaces, call_id, id);
        }
    }

    /// From the first INVITE to the answer a leg may be what another forwards.
    pub(super) fn dialing(&mut self, id: LegId, leg: &Leg) {
        for party in [&leg.request, &leg.from].into_iter().flatten() {
            self.dialing.entry(party.tail().to_owned()).or_default().insert(id);
        }
    }

    pub(super) fn dialed(&mut self, id: LegId, leg: &Leg) {
        for party in [&leg.request, &leg.from].into_iter().flatten() {
            take(&mut self.dialing, party.tail(), id);
        }
    }

    /// Legs without an answer that `party` makes or gets, newest first.
    pub(super) fn by_dialing(&self, party: &Party) -> impl Iterator<Item = LegId> {
        newest(self.dialing.get(party.tail()))
    }

    pub(super) fn group(&self, key: &GroupKey) -> Option<&Group> {
        self.groups.get(key)
    }

    pub(super) fn group_mut(&mut self, key: &GroupKey) -> Option<&mut Group> {
        self.groups.get_mut(key)
    }

    pub(super) fn by_call_id(&self, call_id: &str) -> Option<LegId> {
        self.call_ids.get(call_id).copied()
    }

    pub(super) fn by_caller(&self, host: IpAddr, caller: &Party) -> impl Iterator<Item = LegId> {
        newest(self.callers.get(&(host, caller.tail().to_owned())))
    }

    pub(super) fn by_key(&self, key: &(usize, String)) -> impl Iterator<Item = LegId> {
        newest(self.keys.get(key))
    }

    pub(super) fn by_session(&self, uuid: &str) -> impl Iterator<Item = LegId> {
        newest(self.sessions.get(uuid))
    }

    pub(super) fn by_target(&self, target: &Party) -> impl Iterator<Item = LegId> {
        newest(self.targets.get(target.tail()))
    }

    pub(super) fn by_replaces(&self, call_id: &str) -> impl Iterator<Item = LegId> {
        newest(self.replaces.get(call_id))
    }
}

/// The group a leg from this number at this host would look in.
pub(super) fn group_key(host: IpAddr, number: &Party) -> GroupKey {
    (host, number.tail().to_owned())
}

fn group_keys(leg: &Leg) -> BTreeSet<GroupKey> {
    let numbers = || leg.called.iter();
    leg.hosts.iter().flat_map(|host| numbers().map(|number| group_key(*host, number))).collect()
}

fn caller_keys(leg: &Leg) -> BTreeSet<GroupKey> {
    let numbers = || leg.callers.iter();
    leg.hosts.iter().flat_map(|host| numbers().map(|number| group_key(*host, number))).collect()
}

fn newest(found: Option<&BTreeSet<LegId>>) -> impl Iterator<Item = LegId> {
    found.into_iter().flat_map(|ids| ids.iter().rev().copied())
}

fn take<K, Q>(map: &mut HashMap<K, BTreeSet<LegId>>, key: &Q, id: LegId)
where
    K: Hash + Eq + std::borrow::Borrow<Q>,
    Q: Hash + Eq + ?Sized,
{
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
