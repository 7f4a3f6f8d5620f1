//! Finding the calls a leg could belong to without looking at all of them: from a hashed key to the legs that have it,
//! the newest first.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;

use hashbrown::HashTable;

use super::number_stats::NumberStats;
use super::state::ended;
use crate::leg::{LegId, Legs};
use crate::record::Side;
use crate::slab::{Slab, Slot};
use crate::timestamp::Timestamp;

/// The keyed hash of a [`By`].
pub(super) type Key = u64;

/// What legs are found by.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum By<'a> {
    /// This number is called, at this host.
    Called(IpAddr, &'a [u8]),
    /// This party calls, at this host.
    Caller(IpAddr, &'a [u8]),
    /// This value of a configured header.
    Header(u8, u64),
    /// This UUID in Session-ID.
    Session(u64),
    /// A REFER in it names this target.
    Target(&'a [u8]),
    /// A REFER in it has a Replaces that names this dialog.
    Replaces(u64),
}

/// Legs by key. A leg in the list of a key has a place there; it knows the first of its places, and they one another.
#[derive(Debug, Default)]
pub(super) struct Index {
    lists: Slab<List>,
    by_key: HashTable<Slot>,
    places: Slab<Place>,
    stats: Slab<NumberStats>,
    /// Lists with statistics and without legs, in the order in which they lost the last one; may hold outdated entries.
    empty: VecDeque<(Slot, Key, Timestamp)>,
}

/// Why a leg has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The number that it calls.
    Called,
    /// Who calls.
    Caller,
    /// Something in it names it.
    Name,
}

/// The legs of one key: those without an answer apart, for anybody can begin as many as he likes.
#[derive(Debug)]
struct List {
    key: Key,
    dialing: Option<Slot>,
    calls: Option<Slot>,
    stats: Option<Slot>,
}

/// A leg in one list.
#[derive(Debug)]
struct Place {
    /// The leg's slot: it leaves its places before it goes.
    leg: Slot,
    list: Slot,
    kind: Kind,
    /// The leg has no answer yet.
    dialing: bool,
    newer: Option<Slot>,
    older: Option<Slot>,
    /// The next place of the same leg.
    next: Option<Slot>,
}

/// Numbers whose usual rates are remembered while no call to them is known, at most.
const EMPTY_LISTS: usize = 10_000;

impl Index {
    /// Puts a leg into the list of a key, unless it is the newest there already. `places` is the leg's own.
    pub(super) fn insert(
        &mut self,
        legs: &Legs,
        places: &mut Option<Slot>,
        leg: LegId,
        key: Key,
        kind: Kind,
        dialing: bool,
    ) {
        let Some(leg) = leg.slot() else { return };
        let list = self.list(key);
        let newest = self.lists.get(list).and_then(|list| if dialing { list.dialing } else { list.calls });
        if newest.and_then(|newest| self.places.get(newest)).is_some_and(|newest| newest.leg == leg) {
            return;
        }
        let place = Place { leg, list, kind, dialing, newer: None, older: None, next: *places };
        let place = self.places.insert(place);
        *places = Some(place);
        self.link(place);
        self.count(legs, place);
    }

    /// A leg that was dialing is a call, in all its places.
    pub(super) fn answered(&mut self, legs: &Legs, places: Option<Slot>) {
        let mut next = places;
        while let Some((slot, place)) = next.and_then(|slot| Some((slot, self.places.get(slot)?))) {
            next = place.next;
            if place.dialing {
                self.unlink(slot);
                if let Some(place) = self.places.get_mut(slot) {
                    place.dialing = false;
                }
                self.link(slot);
                self.count(legs, slot);
            }
        }
    }

    /// A leg dials no more, and is no call.
    pub(super) fn leave_dialing(&mut self, legs: &Legs, places: &mut Option<Slot>, now: Timestamp) {
        self.retain(legs, places, |place| !place.dialing, now);
    }

    /// A call is not found by its numbers any more.
    pub(super) fn leave_numbers(&mut self, legs: &Legs, places: &mut Option<Slot>, now: Timestamp) {
        self.retain(legs, places, |place| place.kind == Kind::Name, now);
    }

    /// A call is not found by what names it any more.
    pub(super) fn leave_names(&mut self, legs: &Legs, places: &mut Option<Slot>, now: Timestamp) {
        self.retain(legs, places, |place| place.kind != Kind::Name, now);
    }

    /// Takes a leg out of every list.
    pub(super) fn remove_all(&mut self, legs: &Legs, places: &mut Option<Slot>, now: Timestamp) {
        self.retain(legs, places, |_| false, now);
    }

    /// The slots of the calls of a key, the newest first.
    pub(super) fn calls(&self, key: Key) -> impl Iterator<Item = Slot> {
        self.walk(self.find(key).and_then(|list| self.lists.get(list)?.calls))
    }

    /// The slots of the legs of a key that have no answer, the newest first.
    pub(super) fn dialing(&self, key: Key) -> impl Iterator<Item = Slot> {
        self.walk(self.find(key).and_then(|list| self.lists.get(list)?.dialing))
    }

    /// How many calls there are.
    pub(super) fn len(&self, key: Key) -> usize {
        let Some(list) = self.find(key).and_then(|list| self.lists.get(list)) else { return 0 };
        let stats = list.stats.and_then(|stats| self.stats.get(stats));
        stats.map_or(usize::from(list.calls.is_some()), |stats| stats.calls as usize)
    }

    /// What is usual for a number to which a call is, or was, known.
    pub(super) fn stats(&self, legs: &Legs, key: Key) -> Option<Cow<'_, NumberStats>> {
        let list = self.lists.get(self.find(key)?)?;
        match list.stats {
            Some(stats) => self.stats.get(stats).map(Cow::Borrowed),
            None => self.only_call(legs, list).map(Cow::Owned),
        }
    }

    /// The same, to add to.
    pub(super) fn stats_mut(&mut self, legs: &Legs, key: Key) -> Option<&mut NumberStats> {
        let list = self.find(key)?;
        self.stats_of(legs, list)
    }

    /// A call has ended: what is usual for its numbers is to know.
    pub(super) fn ended(&mut self, places: Option<Slot>, now: Timestamp, side: Side) {
        let mut next = places;
        while let Some(place) = next.and_then(|slot| self.places.get(slot)) {
            next = place.next;
            let stats = self.lists.get(place.list).and_then(|list| list.stats);
            let is_call = place.kind == Kind::Called && !place.dialing;
            if let Some(stats) = stats.filter(|_| is_call).and_then(|stats| self.stats.get_mut(stats)) {
                stats.call_ended(now, side);
            }
        }
    }

    /// A call is known at its number. The statistics of a number begin with its second: those of the only one are
    /// the call's own.
    fn count(&mut self, legs: &Legs, slot: Slot) {
        let Some(&Place { leg, list, kind: Kind::Called, dialing: false, older, .. }) = self.places.get(slot)
        else {
            return;
        };
        let known = self.lists.get(list).is_some_and(|list| list.stats.is_some());
        let first = older.and_then(|older| self.places.get(older)).map(|place| place.leg);
        if !known {
            let Some(first) = first.and_then(|leg| legs.at(leg)).and_then(NumberStats::of_call) else {
                return;
            };
            self.begin_stats(list, first);
        }
        let stats = self.lists.get(list).and_then(|list| self.stats.get_mut(list.stats?));
        if let (Some(stats), Some(leg)) = (stats, legs.at(leg)) {
            stats.add_call(leg);
        }
    }

    /// The statistics of a list, begun with its only call where there are none yet.
    fn stats_of(&mut self, legs: &Legs, list: Slot) -> Option<&mut NumberStats> {
        let known = self.lists.get(list)?;
        if known.stats.is_none() {
            let stats = self.only_call(legs, known)?;
            self.begin_stats(list, stats);
        }
        self.stats.get_mut(self.lists.get(list)?.stats?)
    }

    fn begin_stats(&mut self, list: Slot, stats: NumberStats) {
        let stats = self.stats.insert(stats);
        if let Some(list) = self.lists.get_mut(list) {
            list.stats = Some(stats);
        }
    }

    fn only_call(&self, legs: &Legs, list: &List) -> Option<NumberStats> {
        let place = self.places.get(list.calls?).filter(|place| place.kind == Kind::Called)?;
        legs.at(place.leg).and_then(NumberStats::of_call)
    }

    fn walk(&self, from: Option<Slot>) -> impl Iterator<Item = Slot> {
        let mut next = from;
        std::iter::from_fn(move || {
            let place = self.places.get(next?)?;
            next = place.older;
            Some(place.leg)
        })
    }

    fn find(&self, key: Key) -> Option<Slot> {
        self.by_key.find(key, |list| self.lists.get(*list).is_some_and(|list| list.key == key)).copied()
    }

    fn list(&mut self, key: Key) -> Slot {
        if let Some(list) = self.find(key) {
            return list;
        }
        let Self { lists, by_key, .. } = self;
        let list = lists.insert(List { key, dialing: None, calls: None, stats: None });
        by_key.insert_unique(key, list, |list| lists.get(*list).map_or(0, |list| list.key));
        list
    }

    /// Takes a leg out of the lists of all places that are not to be kept.
    fn retain(
        &mut self,
        legs: &Legs,
        places: &mut Option<Slot>,
        keep: impl Fn(&Place) -> bool,
        now: Timestamp,
    ) {
        // The place before the one that is looked at.
        let mut before = None;
        let mut next = *places;
        while let Some((slot, place)) = next.and_then(|slot| Some((slot, self.places.get(slot)?))) {
            let list = place.list;
            next = place.next;
            if keep(place) {
                before = Some(slot);
                continue;
            }
            match before.and_then(|before| self.places.get_mut(before)) {
                Some(before) => before.next = next,
                None => *places = next,
            }
            self.uncount(legs, slot);
            self.unlink(slot);
            self.places.remove(slot);
            self.drop_if_empty(list, now);
        }
    }

    /// A call is known no more at its number, which remembers it.
    fn uncount(&mut self, legs: &Legs, slot: Slot) {
        let Some(&Place { leg, list, kind: Kind::Called, dialing: false, .. }) = self.places.get(slot) else {
            return;
        };
        let ended = legs.at(leg).is_some_and(|leg| ended(leg).is_some());
        let now = legs.at(leg).map(|leg| leg.seen);
        if let Some(stats) = self.stats_of(legs, list) {
            stats.calls = stats.calls.saturating_sub(1);
            if let Some(now) = now.filter(|_| !ended) {
                stats.call_ended(now, Side::Caller);
            }
        }
    }

    /// Puts a place at the head of its list.
    fn link(&mut self, slot: Slot) {
        let Some(place) = self.places.get(slot) else { return };
        let Some(list) = self.lists.get_mut(place.list) else { return };
        let older = list.newest_mut(place.dialing).replace(slot);
        if let Some(place) = self.places.get_mut(slot) {
            (place.newer, place.older) = (None, older);
        }
        if let Some(older) = older.and_then(|older| self.places.get_mut(older)) {
            older.newer = Some(slot);
        }
    }

    /// Takes a place out of its list.
    fn unlink(&mut self, slot: Slot) {
        let Some(&Place { list, dialing, newer, older, .. }) = self.places.get(slot) else { return };
        if let Some(older) = older.and_then(|older| self.places.get_mut(older)) {
            older.newer = newer;
        }
        let Some(list) = self.lists.get_mut(list) else { return };
        match newer.and_then(|newer| self.places.get_mut(newer)) {
            Some(newer) => newer.older = older,
            None => *list.newest_mut(dialing) = older,
        }
    }

    fn drop_if_empty(&mut self, list: Slot, now: Timestamp) {
        let Some(known) = self.lists.get(list) else { return };
        if known.dialing.is_some() || known.calls.is_some() {
            return;
        }
        let key = known.key;
        match known.stats.and_then(|stats| self.stats.get_mut(stats)) {
            Some(stats) => {
                stats.emptied = now;
                self.empty.push_back((list, key, now));
                self.forget_oldest();
            }
            None => self.drop_list(list),
        }
    }

    /// Forgets what was usual for numbers that had no calls for longest.
    fn forget_oldest(&mut self) {
        while self.empty.len() > EMPTY_LISTS {
            let Some((list, key, since)) = self.empty.pop_front() else { break };
            let unused = |list: &&List| list.key == key && list.dialing.is_none() && list.calls.is_none();
            let stats = self.lists.get(list).filter(unused).and_then(|list| self.stats.get(list.stats?));
            if stats.is_some_and(|stats| stats.emptied == since) {
                self.drop_list(list);
            }
        }
    }

    fn drop_list(&mut self, list: Slot) {
        let Some(List { key, stats, .. }) = self.lists.remove(list) else { return };
        if let Some(stats) = stats {
            self.stats.remove(stats);
        }
        if let Ok(known) = self.by_key.find_entry(key, |known| *known == list) {
            known.remove();
        }
    }
}

impl List {
    fn newest_mut(&mut self, dialing: bool) -> &mut Option<Slot> {
        if dialing { &mut self.dialing } else { &mut self.calls }
    }
}
