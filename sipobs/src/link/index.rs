//! Finding the calls a leg could belong to without looking at all of them: from a hashed key to the legs that have it,
//! the newest first.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::number_stats::NumberStats;
use crate::leg::LegId;
use crate::slab::{Slab, Slot};
use crate::timestamp::Timestamp;

/// What legs are found by, with its text hashed: the keyed hash of a [`By`].
pub(super) type Key = u64;

/// What legs are found by.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum By<'a> {
    /// Answered calls to this number at this host.
    Called(std::net::IpAddr, &'a [u8]),
    /// Answered calls of this caller at this host.
    Caller(std::net::IpAddr, &'a [u8]),
    /// Legs without an answer that this party makes, or gets, at this host.
    Dialing(std::net::IpAddr, &'a [u8]),
    /// Answered calls with this value of a configured header.
    Header(u8, u64),
    /// Answered calls with this UUID in Session-ID.
    Session(u64),
    /// Answered calls in which a REFER names this target.
    Target(&'a [u8]),
    /// Answered calls in which a REFER has a Replaces that names this dialog.
    Replaces(u64),
}

/// Legs by key. Each leg knows the first of its places, and leaves all of one kind, or all, at once.
#[derive(Debug, Default)]
pub(super) struct Index {
    lists: Slab<List>,
    by_key: HashTable<Slot>,
    places: Slab<Place>,
    stats: Slab<NumberStats>,
    /// Lists with statistics and without legs, in the order in which they lost the last one; may hold outdated entries.
    empty: VecDeque<(Slot, Key, Timestamp)>,
}

/// Why a leg has a place: places of one kind are left together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is dialing.
    Dialing,
    /// It is, or was a moment ago, a call that can be told by its numbers.
    Number,
    /// Something in it names it.
    Name,
}

/// The legs of one key.
#[derive(Debug)]
struct List {
    key: Key,
    first: Option<Slot>,
    len: u32,
    stats: Option<Slot>,
}

/// A leg in one list.
#[derive(Debug)]
struct Place {
    /// The leg's slot: it leaves its places before it goes.
    leg: Slot,
    list: Slot,
    kind: Kind,
    newer: Option<Slot>,
    older: Option<Slot>,
    /// The next place of the same leg.
    next: Option<Slot>,
}

/// Numbers whose usual rates are remembered while no call to them is known, at most.
const EMPTY_LISTS: usize = 10_000;

impl Index {
    /// Puts a leg into the list of a key, unless it is the newest there already. `places` is the leg's own.
    pub(super) fn insert(&mut self, places: &mut Option<Slot>, leg: LegId, key: Key, kind: Kind) {
        let Some(leg) = leg.slot() else { return };
        let list = self.list(key);
        let Some(known) = self.lists.get_mut(list) else { return };
        let older = known.first;
        if older.and_then(|first| self.places.get(first)).is_some_and(|first| first.leg == leg) {
            return;
        }
        let place = self.places.insert(Place { leg, list, kind, newer: None, older, next: *places });
        (known.first, known.len) = (Some(place), known.len + 1);
        if let Some(older) = older.and_then(|older| self.places.get_mut(older)) {
            older.newer = Some(place);
        }
        *places = Some(place);
    }

    /// Takes a leg out of all lists that it is in for a reason of that kind.
    pub(super) fn leave(&mut self, places: &mut Option<Slot>, kind: Kind, now: Timestamp) {
        self.retain(places, |place| place.kind != kind, now);
    }

    /// Takes a leg out of every list.
    pub(super) fn remove_all(&mut self, places: &mut Option<Slot>, now: Timestamp) {
        self.retain(places, |_| false, now);
    }

    /// The slots of the legs of a key, the newest first.
    pub(super) fn get(&self, key: Key) -> impl Iterator<Item = Slot> {
        let mut next = self.find(key).and_then(|list| self.lists.get(list)?.first);
        std::iter::from_fn(move || {
            let place = self.places.get(next?)?;
            next = place.older;
            Some(place.leg)
        })
    }

    /// How many there are.
    pub(super) fn len(&self, key: Key) -> usize {
        self.find(key).and_then(|list| self.lists.get(list)).map_or(0, |list| list.len as usize)
    }

    /// What is usual for a number.
    pub(super) fn stats(&self, key: Key) -> Option<&NumberStats> {
        self.stats.get(self.lists.get(self.find(key)?)?.stats?)
    }

    /// The same, to add to; `None` for a number to which no call is known.
    pub(super) fn stats_mut(&mut self, key: Key) -> Option<&mut NumberStats> {
        self.stats.get_mut(self.lists.get(self.find(key)?)?.stats?)
    }

    /// What is usual for a number to which a call is known, from `now` on if nothing is known yet.
    pub(super) fn stats_or_new(&mut self, key: Key, now: Timestamp) -> Option<&mut NumberStats> {
        let list = self.lists.get_mut(self.find(key)?)?;
        let stats = *list.stats.get_or_insert_with(|| self.stats.insert(NumberStats::new(now)));
        self.stats.get_mut(stats)
    }

    /// The numbers at which a leg can be found as a call.
    pub(super) fn numbers(&self, places: Option<Slot>) -> impl Iterator<Item = Key> {
        let mut next = places;
        let places = std::iter::from_fn(move || {
            let place = self.places.get(next?)?;
            next = place.next;
            Some(place)
        });
        places
            .filter(|place| place.kind == Kind::Number)
            .filter_map(|place| self.lists.get(place.list))
            .filter(|list| list.stats.is_some())
            .map(|list| list.key)
    }

    fn find(&self, key: Key) -> Option<Slot> {
        self.by_key.find(key, |list| self.lists.get(*list).is_some_and(|list| list.key == key)).copied()
    }

    fn list(&mut self, key: Key) -> Slot {
        if let Some(list) = self.find(key) {
            return list;
        }
        let Self { lists, by_key, .. } = self;
        let list = lists.insert(List { key, first: None, len: 0, stats: None });
        by_key.insert_unique(key, list, |list| lists.get(*list).map_or(0, |list| list.key));
        list
    }

    /// Takes a leg out of the lists of all places that are not to be kept.
    fn retain(&mut self, places: &mut Option<Slot>, keep: impl Fn(&Place) -> bool, now: Timestamp) {
        // The place before the one that is looked at.
        let mut before = None;
        let mut next = *places;
        while let Some((slot, place)) = next.and_then(|slot| Some((slot, self.places.get(slot)?))) {
            next = place.next;
            if keep(place) {
                before = Some(slot);
                continue;
            }
            match before.and_then(|before| self.places.get_mut(before)) {
                Some(before) => before.next = next,
                None => *places = next,
            }
            self.unlink(slot, now);
        }
    }

    fn unlink(&mut self, slot: Slot, now: Timestamp) {
        let Some(Place { list, newer, older, .. }) = self.places.remove(slot) else { return };
        if let Some(older) = older.and_then(|older| self.places.get_mut(older)) {
            older.newer = newer;
        }
        let Some(known) = self.lists.get_mut(list) else { return };
        match newer.and_then(|newer| self.places.get_mut(newer)) {
            Some(newer) => newer.older = older,
            None => known.first = older,
        }
        known.len -= 1;
        if known.len > 0 {
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
            let known = self.lists.get(list).filter(|known| known.key == key && known.len == 0);
            let stats = known.and_then(|known| self.stats.get(known.stats?));
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
