//! What the entries of a table take up, and which goes first when there is no room: one policy for legs and for TCP
//! connections, which strangers can fill the tables of.
//!
//! Two small tables have simpler rules, each for a reason: an IP fragment beyond its sender's share is refused
//! (`packet::fragment`), since to evict another loses a datagram that was good; and hosts that have called
//! (`transfer::callers`) leave no room to tentative ones, since nothing has to begin as one.
//!
//! Entries are of classes, worth more from one to the next. Those that rest on one side's word, which anybody can
//! send in anybody's name, are *one-sided*. They and those that a forger of both sides could make are *tentative*; the
//! others are *firm*.
//!
//! 1. Once half of the room is taken, no owner may have more than a quarter of it with one-sided entries: its oldest
//!    goes.
//! 2. When the room is full, the oldest goes of the tentative class that takes up most: a flood is of one class,
//!    and so pushes out itself. No tentative entry pushes out a firm one; but an eighth of the room is left to
//!    tentative ones, since every call begins as one.
//! 3. Among firm entries those of the lowest class go first: of legs, those that are over and only remembered. Then an
//!    owner that has more than a quarter of the room pays with its own oldest; else the oldest goes, the lower class
//!    first.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

use crate::hash::Keyed;
use crate::slab::{Slab, Slot};

/// The part of the room that one owner may have.
const SHARE: usize = 4;
/// The part of the room that is left to tentative entries.
const LEFT: usize = 8;
/// Most classes a table may have.
const CLASSES: usize = 8;

/// Why an entry has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There is no room for any more.
    Room,
    /// Its owner has more than its share.
    Share,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<O> {
    /// Its class, from 0.
    pub(crate) class: u8,
    /// Whose share it counts for, if anybody's.
    pub(crate) owner: Option<O>,
    /// Bytes it takes up.
    pub(crate) bytes: u32,
}

/// What every entry of a table takes up.
#[derive(Debug)]
pub(crate) struct Ledger<O> {
    /// Bytes that all entries may take up.
    limit: usize,
    /// Classes below it are one-sided.
    two_sided: u8,
    /// Classes below it are tentative.
    firm: u8,
    /// Bytes that all entries take up, and the tentative ones.
    bytes: usize,
    tentative: usize,
    nodes: Slab<Node>,
    /// Entries of each class, the one that came into it first at the head, and the bytes they take up.
    classes: [List; CLASSES],
    class_bytes: [usize; CLASSES],
    owners: Slab<Share<O>>,
    by_owner: HashTable<Slot>,
    hasher: Keyed,
    /// The owners, of one-sided entries and of others, that last grew beyond their share.
    over_share: [Option<Slot>; 2],
}

#[derive(Debug)]
struct Node {
    /// What its owner knows the entry by.
    what: Slot,
    owner: Option<Slot>,
    bytes: u32,
    class: u8,
    in_class: Link,
    in_owner: Link,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: Option<Slot>,
    after: Option<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: Option<Slot>,
    last: Option<Slot>,
    len: u32,
}

/// What one owner's entries take up.
#[derive(Debug)]
struct Share<O> {
    owner: O,
    bytes: usize,
    entries: List,
}

impl<O: Copy + Eq + Hash> Ledger<O> {
    /// For entries of `limit` bytes in all, of classes of which those from `two_sided` on do not rest on one side's
    /// word, and those from `firm` on are firm.
    pub(crate) fn new(limit: usize, two_sided: u8, firm: u8) -> Self {
        Self {
            limit,
            two_sided,
            firm,
            bytes: 0,
            tentative: 0,
            nodes: Slab::default(),
            classes: [List::EMPTY; CLASSES],
            class_bytes: [0; CLASSES],
            owners: Slab::default(),
            by_owner: HashTable::new(),
            hasher: Keyed::default(),
            over_share: [None; 2],
        }
    }

    /// Bytes that all entries take up.
    pub(crate) fn bytes(&self) -> usize {
        // Owners take up room, too: a flood may have as many as entries.
        self.bytes + self.owners.len() * size_of::<Share<O>>() * 5 / 4
    }

    /// Bytes that they may take up.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// A new entry, which its owner knows as `what`. Gives the handle to change it by.
    pub(crate) fn enter(&mut self, what: Slot, entry: Entry<O>) -> Slot {
        let owner = self.owner(entry.owner);
        let Entry { class, bytes, .. } = entry;
        let node = self.nodes.insert(Node {
            what,
            owner,
            bytes: 0,
            class,
            in_class: Link::NONE,
            in_owner: Link::NONE,
        });
        self.link(node);
        self.resize(node, bytes);
        node
    }

    /// An entry has changed. It is the youngest of its class if that changed.
    pub(crate) fn change(&mut self, node: Slot, entry: Entry<O>) {
        let Some(known) = self.nodes.get(node) else { return };
        if known.class == entry.class
            && known.bytes == entry.bytes
            && known.owner.is_some() == entry.owner.is_some()
        {
            // An owner changes with the class only.
            return;
        }
        let owner = known.owner.and_then(|owner| self.owners.get(owner)).map(|share| share.owner);
        if known.class != entry.class || owner != entry.owner {
            self.resize(node, 0);
            self.unlink(node);
            let owner = self.owner(entry.owner);
            if let Some(known) = self.nodes.get_mut(node) {
                (known.owner, known.class) = (owner, entry.class);
            }
            self.link(node);
        }
        self.resize(node, entry.bytes);
    }

    /// An entry has shown that it is still in use: it is the youngest of its class, and of its owner's.
    pub(crate) fn touch(&mut self, node: Slot) {
        let Some(&Node { owner, class, .. }) = self.nodes.get(node) else { return };
        self.classes[usize::from(class)].renew(&mut self.nodes, node, |node| &mut node.in_class);
        if let Some(share) = owner.and_then(|owner| self.owners.get_mut(owner)) {
            share.entries.renew(&mut self.nodes, node, |node| &mut node.in_owner);
        }
    }

    /// An entry is gone.
    pub(crate) fn leave(&mut self, node: Slot) {
        self.resize(node, 0);
        self.unlink(node);
        self.nodes.remove(node);
    }

    /// The entry that has to go, if one has. `beside`: bytes that the table takes up beside its entries.
    pub(crate) fn crowded(&self, beside: usize) -> Option<(Reason, Slot)> {
        let bytes = self.bytes() + beside;
        let of_over_share = |two_sided: bool| {
            let share = self.owners.get(self.over_share[usize::from(two_sided)]?)?;
            let first = self.nodes.get(share.entries.first?)?;
            let of_kind = (first.class >= self.two_sided) == two_sided;
            (share.bytes > self.limit / SHARE && of_kind).then_some(first.what)
        };
        if bytes > self.limit / 2
            && let Some(what) = of_over_share(false)
        {
            return Some((Reason::Share, what));
        }
        if bytes <= self.limit {
            return None;
        }
        let (tentative, firm) = self.classes.split_at(usize::from(self.firm));
        // Of equals the lower class.
        let most = tentative.iter().zip(&self.class_bytes).rev().max_by_key(|(_, bytes)| **bytes);
        let most = most.and_then(|(list, _)| self.nodes.get(list.first?));
        if self.tentative > self.limit / LEFT
            && let Some(first) = most
        {
            return Some((Reason::Room, first.what));
        }
        let oldest = |list: &List| self.nodes.get(list.first?);
        if let Some(over) = firm.first().and_then(oldest) {
            return Some((Reason::Room, over.what));
        }
        if let Some(what) = of_over_share(true) {
            return Some((Reason::Share, what));
        }
        let first = firm.iter().find_map(oldest).or(most);
        first.map(|first| (Reason::Room, first.what))
    }

    /// The owner's place among the owners.
    fn owner(&mut self, owner: Option<O>) -> Option<Slot> {
        let owner = owner?;
        let Self { owners, by_owner, hasher, .. } = self;
        let hash = hasher.hash_one(owner);
        let is = |slot: &Slot| owners.get(*slot).is_some_and(|share| share.owner == owner);
        if let Some(slot) = by_owner.find(hash, is) {
            return Some(*slot);
        }
        let slot = owners.insert(Share { owner, bytes: 0, entries: List::EMPTY });
        by_owner.insert_unique(hash, slot, |slot| {
            owners.get(*slot).map_or(0, |share| hasher.hash_one(share.owner))
        });
        Some(slot)
    }

    fn link(&mut self, node: Slot) {
        let Some(&Node { owner, class, .. }) = self.nodes.get(node) else { return };
        self.classes[usize::from(class)].push(&mut self.nodes, node, |node| &mut node.in_class);
        if let Some(share) = owner.and_then(|owner| self.owners.get_mut(owner)) {
            share.entries.push(&mut self.nodes, node, |node| &mut node.in_owner);
        }
    }

    fn unlink(&mut self, node: Slot) {
        let Some(&Node { owner, class, .. }) = self.nodes.get(node) else { return };
        self.classes[usize::from(class)].remove(&mut self.nodes, node, |node| &mut node.in_class);
        if let Some((owner, share)) = owner.and_then(|owner| Some((owner, self.owners.get_mut(owner)?))) {
            share.entries.remove(&mut self.nodes, node, |node| &mut node.in_owner);
            if share.entries.len == 0 {
                let hash = self.hasher.hash_one(share.owner);
                if let Ok(known) = self.by_owner.find_entry(hash, |known| *known == owner) {
                    known.remove();
                }
                self.owners.remove(owner);
            }
        }
    }

    fn resize(&mut self, node: Slot, bytes: u32) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        let (old, new) = (node.bytes as usize, bytes as usize);
        let (class, owner) = (node.class, node.owner);
        node.bytes = bytes;
        self.bytes = self.bytes - old + new;
        let of_class = &mut self.class_bytes[usize::from(class)];
        *of_class = *of_class - old + new;
        let two_sided = usize::from(class >= self.two_sided);
        if class < self.firm {
            self.tentative = self.tentative - old + new;
        }
        if let Some((owner, share)) = owner.and_then(|owner| Some((owner, self.owners.get_mut(owner)?))) {
            share.bytes = share.bytes - old + new;
            if share.bytes > self.limit / SHARE {
                self.over_share[two_sided] = Some(owner);
            }
        }
    }
}

impl Link {
    const NONE: Self = Self { before: None, after: None };
}

impl List {
    const EMPTY: Self = Self { first: None, last: None, len: 0 };

    fn push(&mut self, nodes: &mut Slab<Node>, slot: Slot, link: fn(&mut Node) -> &mut Link) {
        match self.last.and_then(|last| nodes.get_mut(last)) {
            Some(last) => link(last).after = Some(slot),
            None => self.first = Some(slot),
        }
        if let Some(node) = nodes.get_mut(slot) {
            *link(node) = Link { before: self.last, after: None };
        }
        self.last = Some(slot);
        self.len += 1;
    }

    /// Puts an entry at the end.
    fn renew(&mut self, nodes: &mut Slab<Node>, slot: Slot, link: fn(&mut Node) -> &mut Link) {
        self.remove(nodes, slot, link);
        self.push(nodes, slot, link);
    }

    fn remove(&mut self, nodes: &mut Slab<Node>, slot: Slot, link: fn(&mut Node) -> &mut Link) {
        let Some(node) = nodes.get_mut(slot) else { return };
        let Link { before, after } = *link(node);
        match before.and_then(|before| nodes.get_mut(before)) {
            Some(node) => link(node).after = after,
            None => self.first = after,
        }
        match after.and_then(|after| nodes.get_mut(after)) {
            Some(node) => link(node).before = before,
            None => self.last = before,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tentative classes, two firm ones; room for a bit more than 100 entries.
    fn ledger() -> Ledger<char> {
        Ledger::new((100 << 20) + 65_536, 2, 2)
    }

    fn entry(class: u8, owner: char) -> Entry<char> {
        Entry { class, owner: Some(owner), bytes: 1 << 20 }
    }

    fn slot(n: u32) -> Slot {
        Slot::new(n).unwrap()
    }

    fn fill(ledger: &mut Ledger<char>, what: std::ops::Range<u32>, class: u8, owner: impl Fn(u32) -> char) {
        for what in what {
            ledger.enter(slot(what), entry(class, owner(what)));
        }
    }

    fn anybody(what: u32) -> char {
        char::from_u32(0x1_0000 + what).unwrap()
    }

    #[test]
    fn a_flood_pushes_out_itself() {
        let mut ledger = ledger();
        fill(&mut ledger, 0..20, 2, |_| 'a');
        fill(&mut ledger, 20..30, 1, |_| 'a');
        fill(&mut ledger, 30..101, 0, anybody);
        assert_eq!(ledger.crowded(0), Some((Reason::Room, slot(30))));
        // However valuable it makes itself look.
        let mut ledger = self::ledger();
        fill(&mut ledger, 0..20, 2, |_| 'a');
        fill(&mut ledger, 20..30, 0, |_| 'a');
        fill(&mut ledger, 30..101, 1, anybody);
        assert_eq!(ledger.crowded(0), Some((Reason::Room, slot(30))));
    }

    #[test]
    fn a_flood_of_few_large_ones_pushes_out_itself_too() {
        let mut ledger = ledger();
        fill(&mut ledger, 0..40, 1, anybody);
        for what in 40..56 {
            ledger.enter(slot(what), Entry { bytes: 4 << 20, ..entry(0, anybody(what)) });
        }
        assert_eq!(ledger.crowded(0), Some((Reason::Room, slot(40))));
    }

    #[test]
    fn an_owner_pays_for_what_is_beyond_its_share() {
        let mut ledger = ledger();
        fill(&mut ledger, 0..30, 3, |_| 'a');
        fill(&mut ledger, 30..56, 0, |_| 'b');
        assert_eq!(ledger.crowded(0), Some((Reason::Share, slot(30))));
        let mut ledger = self::ledger();
        fill(&mut ledger, 0..20, 3, |_| 'a');
        fill(&mut ledger, 20..101, 3, |_| 'b');
        assert_eq!(ledger.crowded(0), Some((Reason::Share, slot(20))), "also with what others confirmed");
    }

    #[test]
    fn what_is_over_goes_before_what_is_not() {
        let mut ledger = ledger();
        fill(&mut ledger, 0..60, 3, |_| 'a');
        fill(&mut ledger, 60..101, 2, anybody);
        assert_eq!(ledger.crowded(0), Some((Reason::Room, slot(60))));
    }

    #[test]
    fn firm_entries_leave_room_to_begin_in() {
        let mut ledger = ledger();
        fill(&mut ledger, 0..90, 2, anybody);
        fill(&mut ledger, 90..101, 0, |_| 'b');
        assert_eq!(ledger.crowded(0), Some((Reason::Room, slot(0))));
    }

    #[test]
    fn what_changes_class_is_the_youngest_in_it() {
        let mut ledger = ledger();
        let first = ledger.enter(slot(0), entry(0, 'a'));
        fill(&mut ledger, 1..101, 2, anybody);
        ledger.change(first, entry(2, 'a'));
        assert_eq!(ledger.crowded(0), Some((Reason::Room, slot(1))));
        ledger.change(first, Entry { bytes: 0, ..entry(2, 'a') });
        assert_eq!((ledger.crowded(0), ledger.bytes), (None, 100 << 20));
    }

    #[test]
    fn what_is_still_in_use_goes_last() {
        let mut ledger = ledger();
        let first = ledger.enter(slot(0), entry(2, 'a'));
        fill(&mut ledger, 1..101, 2, anybody);
        ledger.touch(first);
        assert_eq!(ledger.crowded(0), Some((Reason::Room, slot(1))));
        let mut ledger = self::ledger();
        let first = ledger.enter(slot(0), entry(0, 'a'));
        fill(&mut ledger, 1..60, 0, |_| 'a');
        ledger.touch(first);
        assert_eq!(ledger.crowded(0), Some((Reason::Share, slot(1))), "also among its owner's");
    }

    #[test]
    fn nothing_is_left_of_what_left() {
        let mut ledger = ledger();
        let nodes: Vec<_> =
            (0..200).map(|n| ledger.enter(slot(n), entry((n % 3) as u8, anybody(n % 7)))).collect();
        nodes.into_iter().for_each(|node| ledger.leave(node));
        assert_eq!(
            (ledger.bytes, ledger.tentative, ledger.owners.len(), ledger.by_owner.len()),
            (0, 0, 0, 0)
        );
        assert!(
            ledger.classes.iter().all(|list| list.len == 0 && list.first.is_none() && list.last.is_none())
        );
    }
}
