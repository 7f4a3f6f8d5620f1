//! What TCP connections take up, when to look at each, and which goes first when there is no room.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::tcp::{Class, Key};
use crate::timestamp::Timestamp;

/// No host may take up more than this part of the room with connections that it opened and in which nobody answered,
/// once half is taken.
const SHARE: usize = 4;

/// The ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// When to look at each connection next, by class.
    due: [BTreeSet<(Timestamp, Key)>; Class::COUNT],
    /// What those of a class take up.
    of_class: [usize; Class::COUNT],
    /// The same but for two-sided ones, by the host that opened them.
    by_host: BTreeSet<(IpAddr, Class, Timestamp, Key)>,
    /// What these take up.
    hosts: HashMap<IpAddr, usize>,
    bytes: usize,
    /// The host that may have more than its share.
    heaviest_host: Option<IpAddr>,
}

/// What a connection stands with in the ledger: nothing, as long as its cost is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) class: Class,
    pub(super) due: Timestamp,
    pub(super) cost: usize,
}

impl Ledger {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The connection to look at next, and when.
    pub(super) fn next(&self) -> Option<(Timestamp, Key)> {
        self.due.iter().filter_map(|due| due.first()).min().copied()
    }

    /// The connection that is worth most.
    pub(super) fn last(&self) -> Option<Key> {
        self.due.iter().rev().find_map(|due| due.first()).map(|(_, key)| *key)
    }

    /// The connection that has to go, if one has, and whether for its host's share.
    pub(super) fn crowded(&self, max: usize) -> Option<(Key, bool)> {
        if let Some(host) = self.heaviest_host
            && self.bytes > max / 2
            && self.hosts.get(&host).is_some_and(|bytes| *bytes > max / SHARE)
        {
            let from = (host, Class::Over, Timestamp::from_nanos(i64::MIN), Key::LEAST);
            let first = self.by_host.range(from..).next();
            return first.filter(|(of, ..)| *of == host).map(|(.., key)| (*key, true));
        }
        if self.bytes <= max {
            return None;
        }
        let mut order = [Class::Over, Class::Unproven, Class::OneSided, Class::TwoSided];
        // A flood is of one class, and pushes out itself; where one direction is all that is captured, not before
        // it takes up as much as the calls do.
        if self.of_class[Class::OneSided as usize] > self.of_class[Class::Unproven as usize] {
            order.swap(1, 2);
        }
        let first = order.iter().find_map(|class| self.due[*class as usize].first());
        first.map(|(_, key)| (*key, false))
    }

    /// A connection has changed.
    pub(super) fn change(&mut self, key: Key, opener: IpAddr, from: Entry, to: Entry) {
        self.bytes = self.bytes - from.cost + to.cost;
        self.of_class[from.class as usize] -= from.cost;
        self.of_class[to.class as usize] += to.cost;
        let moves = from.cost == 0 || to.cost == 0 || from.class != to.class || from.due != to.due;
        if moves && from.cost > 0 {
            self.due[from.class as usize].remove(&(from.due, key));
            self.by_host.remove(&(opener, from.class, from.due, key));
        }
        if moves && to.cost > 0 {
            self.due[to.class as usize].insert((to.due, key));
            if to.class < Class::TwoSided {
                self.by_host.insert((opener, to.class, to.due, key));
            }
        }
        let [before, after] = [from, to].map(|it| if it.class < Class::TwoSided { it.cost } else { 0 });
        if before != after {
            let bytes = self.hosts.entry(opener).or_default();
            *bytes = *bytes - before + after;
            if *bytes == 0 {
                self.hosts.remove(&opener);
            } else if after > before {
                self.heaviest_host = Some(opener);
            }
        }
    }

    /// A connection is gone.
    pub(super) fn leave(&mut self, key: Key, opener: IpAddr, entry: Entry) {
        self.change(key, opener, entry, Entry::default());
    }
}
