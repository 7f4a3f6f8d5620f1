//! The table of legs: one record a leg, found once a message by its Call-ID.
//!
//! Legs lie in a slab. The Call-ID's keyed hash leads to the newest leg under it, and from there to the older ones; tags
//! and numbers are compared by keyed hashes. Who goes first when there is no room is decided here, too
//! ([`crate::eviction`]).

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::num::NonZeroU64;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::eviction::{Ledger, Reason};
use crate::hash::Keyed;
use crate::journal::Entry as Heard;
use crate::record::Side;
use crate::sip::Message;
use crate::slab::{Slab, Slot};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

mod held;
mod id;
mod invite;
mod log;
mod pairs;
mod party;
mod path;
mod rare;
mod record;
mod remembered;
mod texts;
mod when;
mod worth;

pub(crate) use held::HeldMessage;
pub(crate) use id::{AttemptId, LegId};
pub(crate) use invite::{Final, Invite};
use log::Logs;
pub(crate) use pairs::Lost;
use pairs::Pairs;
pub(crate) use party::Party;
pub(crate) use rare::{Claim, HeaderValue, MOST_OF_EACH, Rare, Refer};
pub(crate) use record::{Branch, Dialects, Leg, Media, Origin, Speaker, Ties, Transaction, cut};
use record::{Call, End};
pub(crate) use remembered::Remembered;
use texts::Texts;
pub(crate) use when::When;
use worth::{Class, Owner, class, entry};

/// What the tables around a leg need for it, about: its places by Call-ID, called number and caller, its timer, its
/// node in the ledger, and what memory allocation adds. Held against what is really taken in `tests/budget.rs`.
pub(crate) const OVERHEAD: usize = 230;
/// What one place in the index of legs needs.
pub(crate) const PLACE: usize = 64;
/// Legs under one Call-ID: B2BUAs that keep it, and hostile ones.
const LEGS_PER_CALL_ID: usize = 8;
/// Call-IDs of forgotten calls that are remembered: what fits into 4,096 places of a hash set.
const MOST_GONE: usize = 3_584;
/// Hosts that are remembered to have taken part in calls: what fits into 1,024 places.
const MOST_PARTIES: usize = 896;
/// Copies of an INVITE over UDP until its client gives up: at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s (RFC 3261
/// §17.1.1.2).
pub(crate) const INVITE_COPIES: u16 = 7;
/// URIs are kept up to here: a little more than is shown, to see that there is more.
const LONGEST_URI: usize = 516;

/// A tag, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag(NonZeroU64);

impl Tag {
    fn hash(self) -> u64 {
        self.0.get()
    }
}

/// Why a leg has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvictionReason {
    /// There is no room for any more.
    Room,
    /// Its host, or its pair of hosts, has more than its share.
    Share,
    /// Its Call-ID names more legs than one Call-ID may.
    CallId,
}

/// Every leg.
#[derive(Debug)]
pub(crate) struct Legs {
    slab: Slab<Leg>,
    /// The newest leg under each Call-ID, with half of the hash that leads to it.
    by_call_id: HashTable<(u32, Slot)>,
    hasher: Keyed,
    /// How many there have been.
    born: u64,
    ledger: Ledger<Owner>,
    pairs: Pairs,
    /// Calls that are over and forgotten.
    gone: Remembered,
    /// Hosts that took part in calls which were seen from both sides.
    parties: Remembered,
    /// One leg too many under its Call-ID.
    surplus: Option<LegId>,
    /// Their messages, where these are kept.
    logs: Option<Box<Logs>>,
}

/// A leg that begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewLeg<'a> {
    pub(crate) call_id: &'a [u8],
    /// URI and tag of From and To.
    pub(crate) caller: (&'a [u8], Option<&'a [u8]>),
    pub(crate) callee: (&'a [u8], Option<&'a [u8]>),
    /// The request-URI, if an INVITE begins it.
    pub(crate) request: &'a [u8],
    pub(crate) origin: Origin,
    pub(crate) hosts: (IpAddr, IpAddr),
    pub(crate) time: Timestamp,
    /// Another dialog is known under its Call-ID, or one side alone says that it is about another's call.
    pub(crate) alleged: bool,
    /// This very host sent the message that begins it.
    pub(crate) originated: bool,
}

impl Legs {
    /// For legs of so many bytes in all, with what later stages hold for them; and for so many bytes of their messages,
    /// none of which are kept where that is 0.
    pub(crate) fn new(bytes: usize, journal: usize) -> Self {
        Self {
            slab: Slab::default(),
            by_call_id: HashTable::new(),
            hasher: Keyed::default(),
            born: 0,
            ledger: Ledger::new(bytes, Class::Unproven as u8, Class::Ended as u8),
            pairs: Pairs::default(),
            gone: Remembered::new(MOST_GONE),
            parties: Remembered::new(MOST_PARTIES),
            surplus: None,
            logs: (journal > 0).then(|| Box::new(Logs::new(journal))),
        }
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.slab.len()
    }

    /// Bytes that they take up, and that they may take up.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.ledger.bytes() + self.beside(), self.ledger.limit())
    }

    pub(crate) fn get(&self, id: LegId) -> Option<&Leg> {
        self.slab.get(id.slot()?).filter(|leg| leg.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        self.slab.get_mut(id.slot()?).filter(|leg| leg.id == id)
    }

    /// The leg in a slot.
    pub(crate) fn at(&self, slot: Slot) -> Option<&Leg> {
        self.slab.get(slot)
    }

    /// The legs under a Call-ID, the newest first.
    pub(crate) fn under(&self, call_id: &[u8]) -> impl Iterator<Item = &Leg> {
        let mut next = self.newest(self.hash(call_id), call_id);
        std::iter::from_fn(move || {
            let leg = self.slab.get(next?)?;
            next = leg.older;
            Some(leg)
        })
    }

    /// Whether a leg is more than the word of somebody unknown. Before an INVITE is answered its sender alone speaks.
    ///
    /// | who sent it | how that is known | believed |
    /// |---|---|---|
    /// | this very host | it came out of a socket of this host, whole ([`crate::packet::Packet::originated`]): live only | yes |
    /// | a party of calls that were seen from both sides | by its address | yes: as much as what it says in them |
    /// | anybody else | | once somebody answers it, or it came as often as a client sends it that is not answered |
    ///
    /// What is not believed ties itself to no call, and turns nothing that is said of one. An address can be forged, where
    /// no router on the way cares, and a capture tells nothing of that. So what a forger gains by a party's is bounded:
    /// one more leg of its call, which fails.
    pub(crate) fn vouches_for(&self, leg: &Leg) -> bool {
        let heard = |invite: &Invite| invite.heard || invite.copies >= INVITE_COPIES;
        leg.originated
            || leg.callee.heard
            || leg.invite.as_ref().is_none_or(heard)
            || self.is_party(leg.hosts.0)
    }

    /// Whether a host takes part in calls that were seen from both sides.
    pub(crate) fn is_party(&self, host: IpAddr) -> bool {
        self.parties.holds(self.hash_of(host))
    }

    /// A leg was seen from both sides: the hosts that it goes between take part in calls.
    pub(crate) fn note_parties(&mut self, id: LegId) {
        let Some(leg) = self.get(id) else { return };
        let hosts: SmallVec<[IpAddr; 4]> = leg.paths().flat_map(|(one, other)| [one, other]).collect();
        for host in hosts {
            self.parties.add(self.hash_of(host));
        }
    }

    /// The leg that holds the dialog named by Call-ID and tags, as Replaces and Target-Dialog name it. When tags don't
    /// tell: one that is up, else the newest.
    pub(crate) fn named(&self, call_id: &[u8], tags: [Option<&[u8]>; 2]) -> Option<LegId> {
        let tags = tags.map(|tag| tag.and_then(|tag| self.tag(tag)));
        let fits = |leg: &&Leg| {
            let known = leg.caller.tag;
            known.is_none() || tags.contains(&known) || tags == [None, None]
        };
        let known = || self.under(call_id).filter(|leg| !leg.alleged);
        let up = known().filter(|leg| leg.is_confirmed()).find(fits);
        up.or_else(|| known().find(fits)).or_else(|| known().next()).map(|leg| leg.id)
    }

    /// Whether there was a dialog under a Call-ID that is over and forgotten.
    pub(crate) fn is_gone(&self, call_id: &[u8]) -> bool {
        self.gone.holds(self.hash(call_id))
    }

    /// The keyed hash of a text.
    pub(crate) fn hash(&self, text: &[u8]) -> u64 {
        self.hasher.hash_one(text)
    }

    /// The keyed hash of anything.
    pub(crate) fn hash_of(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// A tag, hashed; `None` for an empty one.
    pub(crate) fn tag(&self, tag: &[u8]) -> Option<Tag> {
        let hash = NonZeroU64::new(self.hash(tag)).unwrap_or(NonZeroU64::MIN);
        (!tag.is_empty()).then_some(Tag(hash))
    }

    /// A leg begins. `None` only where 2³⁷ have been, or 2²⁴ are.
    pub(crate) fn insert(&mut self, new: &NewLeg<'_>) -> Option<LegId> {
        let call_id = new.call_id;
        let hash = self.hash(call_id);
        let newest = self.newest(hash, call_id);
        if newest.is_some() {
            self.look_for_surplus(call_id);
        }
        let end =
            |tag: Option<&[u8]>| End::new(tag.and_then(|tag| self.tag(tag)), tag.is_some_and(is_livekit));
        let leg = Leg {
            id: LegId::MIN,
            started: new.time,
            seen: new.time,
            due: When::NEVER,
            texts: Texts::new([call_id, brief(new.caller.0), brief(new.callee.0), brief(new.request)]),
            hosts: new.hosts,
            caller: end(new.caller.1),
            callee: end(new.callee.1),
            origin: new.origin,
            invite: None,
            answered: When::NEVER,
            bye: When::NEVER,
            bye_by: Side::Caller,
            bye_refused: false,
            two_hosts: false,
            proven: false,
            in_proven_pair: false,
            alleged: new.alleged,
            originated: new.originated,
            path: Box::default(),
            transactions: SmallVec::new(),
            call: Call::default(),
            ties: Ties::default(),
            rare: None,
            older: newest,
            ledger: None,
            charged: 0,
            retired: false,
        };
        self.pairs.enter(leg.pair());
        let entry = entry(&leg);
        let slot = self.slab.insert(leg);
        let Some(id) = LegId::new(self.born, slot) else {
            self.slab.remove(slot);
            return None;
        };
        self.born += 1;
        let ledger = self.ledger.enter(slot, entry);
        if let Some(leg) = self.slab.get_mut(slot) {
            (leg.id, leg.ledger) = (id, Some(ledger));
        }
        match self.place(hash, newest) {
            Some(place) => place.1 = slot,
            None => {
                let half = half(hash);
                self.by_call_id.insert_unique(whole(half), (half, slot), |(half, _)| whole(*half));
            }
        }
        Some(id)
    }

    /// Takes note of what a leg has come to.
    pub(crate) fn settle(&mut self, id: LegId) {
        let leg = id.slot().and_then(|slot| self.slab.get_mut(slot)).filter(|leg| leg.id == id);
        let Some((leg, ledger)) = leg.and_then(|leg| leg.ledger.map(|ledger| (leg, ledger))) else { return };
        if leg.proven && !leg.in_proven_pair {
            self.pairs.prove(leg.pair());
        }
        // Whoever answers what this host has sent has seen it.
        let is_real = |leg: &Leg| leg.originated || self.pairs.is_proven(leg.pair());
        if !leg.in_proven_pair {
            leg.in_proven_pair = leg.proven || leg.is_confirmed_by_both() && is_real(leg);
        }
        self.ledger.change(ledger, entry(leg));
    }

    /// Notes how many bytes later stages hold for a leg.
    pub(crate) fn charge(&mut self, id: LegId, bytes: usize) {
        if let Some(leg) = self.get_mut(id) {
            leg.charged = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.settle(id);
        }
    }

    /// The leg to drop before the next message, and why.
    pub(crate) fn crowded(&mut self) -> Option<(EvictionReason, LegId)> {
        if let Some(id) = self.surplus.filter(|id| self.get(*id).is_some()) {
            return Some((EvictionReason::CallId, id));
        }
        loop {
            let (reason, slot) = self.ledger.crowded(self.beside())?;
            let leg = self.slab.get(slot)?;
            // Another leg may have shown since that its hosts are no forger's.
            if class(leg) == Class::Unproven && self.pairs.is_proven(leg.pair()) {
                self.settle(leg.id);
                continue;
            }
            let reason = match reason {
                Reason::Room => EvictionReason::Room,
                Reason::Share => EvictionReason::Share,
            };
            return Some((reason, leg.id));
        }
    }

    /// Bytes that are taken up beside the legs: every other leg of a flood may come from a host of its own.
    fn beside(&self) -> usize {
        self.pairs.bytes() + self.gone.bytes() + self.parties.bytes()
    }

    /// Forgets a leg.
    pub(crate) fn remove(&mut self, id: LegId) -> Option<Leg> {
        self.get(id)?;
        let leg = self.slab.remove(id.slot()?)?;
        if let Some(logs) = &mut self.logs {
            logs.forget(id);
        }
        if let Some(ledger) = leg.ledger {
            self.ledger.leave(ledger);
        }
        leg.paths().for_each(|pair| self.pairs.leave(pair));
        if !leg.retired {
            self.note_gone(&leg);
            self.unchain(&leg);
        }
        Some(leg)
    }

    /// Lets no further message find a leg, of which all is told: only the verdicts on other legs still need it.
    pub(crate) fn retire(&mut self, id: LegId) {
        let Some(slot) = id.slot() else { return };
        let Some(leg) = self.slab.get_mut(slot).filter(|leg| leg.id == id && !leg.retired) else { return };
        leg.retired = true;
        let older = leg.older;
        let hash = self.hasher.hash_one(leg.call_id());
        if is_known(leg) {
            self.gone.add(hash);
        }
        self.unchain_slot(hash, slot, older);
    }

    /// Remembers the Call-ID of a leg that no message finds any more.
    fn note_gone(&mut self, leg: &Leg) {
        if is_known(leg) {
            self.gone.add(self.hash(leg.call_id()));
        }
    }

    /// Notes the hosts that a message of a leg went between; whether they are new.
    pub(crate) fn travelled(&mut self, id: LegId, from: IpAddr, to: IpAddr) -> bool {
        let new = self.get_mut(id).is_some_and(|leg| leg.travelled(from, to));
        if new {
            self.pairs.enter(record::in_order(from, to));
        }
        new
    }

    /// So much was lost: between two hosts, or nobody knows between whom.
    pub(crate) fn lost(&mut self, between: Option<(IpAddr, IpAddr)>, lost: Lost) {
        let between = between.map(|(a, b)| record::in_order(a, b));
        self.pairs.lost(between, lost);
        if let Some(logs) = &mut self.logs {
            logs.lost(between, lost);
        }
    }

    /// Keeps a message of a leg, where messages are kept.
    pub(crate) fn note(&mut self, id: LegId, wire: &WireMessage<'_>, message: &Message<'_>) {
        let Self { slab, logs, .. } = self;
        let (Some(logs), Some(leg)) = (logs, id.slot().and_then(|slot| slab.get(slot))) else { return };
        let Call { transferring, transferred, is_leg, .. } = leg.call;
        logs.note(id, transferring || transferred || is_leg, wire, message);
    }

    /// Two legs have taken part in a transfer: what is known of the one comes of the other's messages, too.
    pub(crate) fn relate(&mut self, one: LegId, other: LegId) {
        if let Some(logs) = &mut self.logs
            && one != other
        {
            logs.relate(one, other);
        }
    }

    /// Takes out the messages that are kept, with what was lost meanwhile: all in the order in which it was heard.
    pub(crate) fn take_log(&mut self) -> Vec<Heard<'static>> {
        self.logs.as_mut().map(|logs| logs.take()).unwrap_or_default()
    }

    /// Bytes of messages that are kept, and legs of which one is missing.
    pub(crate) fn kept(&self) -> (usize, usize) {
        let Some(logs) = &self.logs else { return (0, self.len()) };
        let whole = |leg: &&Leg| logs.since(leg.id) == Some(leg.started);
        (logs.bytes(), self.slab.iter().filter(|leg| !whole(leg)).count())
    }

    /// How much has been lost so far: to ask later what came [`Self::lost_since`].
    pub(crate) const fn mark(&self) -> u64 {
        self.pairs.mark()
    }

    /// What was lost between the hosts of these legs since the mark was made.
    pub(crate) fn lost_since(&self, mark: u64, legs: impl IntoIterator<Item = LegId>) -> Lost {
        let legs = legs.into_iter().filter_map(|leg| self.get(leg));
        self.pairs.since(mark, legs.flat_map(Leg::paths))
    }

    /// Every leg, in the order of the slots: no output may depend on it.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.slab.iter_mut()
    }

    /// Every leg, the oldest first.
    pub(crate) fn by_age(&self) -> Vec<LegId> {
        let mut ids: Vec<_> = self.slab.iter().map(|leg| leg.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Where the newest leg under a Call-ID lies.
    fn newest(&self, hash: u64, call_id: &[u8]) -> Option<Slot> {
        let is = |(known, slot): &(u32, Slot)| {
            *known == half(hash) && self.slab.get(*slot).is_some_and(|leg| leg.call_id() == call_id)
        };
        self.by_call_id.find(whole(half(hash)), is).map(|(_, slot)| *slot)
    }

    /// The table's place that names `slot` as the newest.
    fn place(&mut self, hash: u64, slot: Option<Slot>) -> Option<&mut (u32, Slot)> {
        let slot = slot?;
        self.by_call_id.find_mut(whole(half(hash)), |(_, known)| *known == slot)
    }

    /// Takes a leg out of the chain under its Call-ID.
    fn unchain(&mut self, leg: &Leg) {
        if let Some(slot) = leg.id.slot() {
            self.unchain_slot(self.hash(leg.call_id()), slot, leg.older);
        }
    }

    fn unchain_slot(&mut self, hash: u64, slot: Slot, older: Option<Slot>) {
        let Self { slab, by_call_id, .. } = self;
        if let Ok(place) = by_call_id.find_entry(whole(half(hash)), |(_, known)| *known == slot) {
            match older {
                Some(older) => place.into_mut().1 = older,
                None => drop(place.remove()),
            }
            return;
        }
        // A newer one leads to it. Others whose hashes share a half may be looked through, too.
        let newest: SmallVec<[Slot; 2]> = by_call_id
            .iter_hash(whole(half(hash)))
            .filter(|(known, _)| *known == half(hash))
            .map(|(_, slot)| *slot)
            .collect();
        for newest in newest {
            let mut next = Some(newest);
            while let Some(newer) = next.and_then(|slot| slab.get_mut(slot)) {
                if newer.older == Some(slot) {
                    newer.older = older;
                    return;
                }
                next = newer.older;
            }
        }
    }

    /// Looks for the leg to drop where another begins under a Call-ID that names enough.
    fn look_for_surplus(&mut self, call_id: &[u8]) {
        if self.under(call_id).count() < LEGS_PER_CALL_ID {
            return;
        }
        // Not the oldest: whoever knows a call's Call-ID may follow it with others.
        let tentative = self.under(call_id).find(|leg| !leg.is_confirmed_by_both());
        self.surplus = tentative.or_else(|| self.under(call_id).last()).map(|leg| leg.id);
    }
}

/// As much of a URI as is kept.
fn brief(uri: &[u8]) -> &[u8] {
    &uri[..uri.len().min(LONGEST_URI)]
}

/// Whether a leg is more than one side's word.
fn is_known(leg: &Leg) -> bool {
    !leg.alleged && (leg.origin == Origin::Invite || leg.is_confirmed())
}

/// LiveKit's tags: `SCL_` and 12 characters.
pub(crate) fn is_livekit(tag: &[u8]) -> bool {
    tag.len() == 16 && tag.starts_with(b"SCL_")
}

/// The half of a hash that the table keeps.
#[allow(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn half(hash: u64) -> u32 {
    hash as u32
}

/// A hash for the table from the half that it keeps.
const fn whole(half: u32) -> u64 {
    // An odd multiplier: the upper bits, which the table looks at first, depend on all of the half's.
    (half as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
