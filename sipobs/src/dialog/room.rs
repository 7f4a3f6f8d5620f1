//! What legs take up, and who goes first when there is no room.
//!
//! A leg that both sides have confirmed is never thrown out for one that is not. Those that are not are of four
//! kinds: nobody has answered, it failed, it rings, it is up as only one side says. The oldest goes of the kind that
//! there is most of: a flood is of one kind, whether it comes from forged addresses or is refused by its target, and
//! so pushes out itself. And once half of the room is taken, no host may have more than its share of them: who calls
//! from one address throws out no one else's calls. Where the confirmed leave too little for calls to begin in, the
//! oldest leg goes.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::leg::{Leg, LegId};

/// What a leg takes up beside its texts, about, in all tables of the stage: measured in `tests/budget.rs`.
pub(crate) const LEG: usize = 4_864;

/// No host may take up more than this part of the room with legs that are not confirmed, once half is taken.
const SHARE: usize = 4;

/// This part of the room is left to legs that are not confirmed, however many others there are: every call begins as
/// one.
const LEFT: usize = 8;

/// Kinds of legs that are not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Nobody has answered its requests.
    Unanswered,
    /// Its INVITE failed, or was challenged.
    Failed,
    /// Under way.
    Early,
    /// Its caller acknowledges an answer that was not seen.
    Acknowledged,
}

/// Why a leg has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// There is no room for any more.
    Room,
    /// Its host has more than its share.
    Share,
    /// Its Call-ID names more legs than one Call-ID may.
    CallId,
}

/// The books of what legs take up.
#[derive(Debug)]
pub(super) struct Room {
    limit: usize,
    taken: usize,
    tentative: BTreeSet<(Kind, LegId)>,
    by_host: BTreeSet<(IpAddr, Kind, LegId)>,
    all: Tentative,
    hosts: HashMap<IpAddr, Tentative>,
    /// The host that has gone beyond its share.
    greedy: Option<IpAddr>,
}

/// What a leg stands with in the books.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// `None` once it is confirmed, or not in the books.
    kind: Option<Kind>,
    cost: usize,
    /// What later stages hold for it.
    charged: usize,
}

/// Legs that are not confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Tentative {
    bytes: usize,
    /// How many there are of each kind.
    legs: [usize; 4],
}

impl Room {
    /// Room for so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: 0,
            tentative: BTreeSet::new(),
            by_host: BTreeSet::new(),
            all: Tentative::default(),
            hosts: HashMap::new(),
            greedy: None,
        }
    }

    /// Puts a leg, new or changed, where it belongs.
    pub(super) fn settle(&mut self, leg: &mut Leg) {
        let Standing { charged, .. } = leg.standing;
        let kind = if leg.is_confirmed_by_both() { None } else { Some(kind(leg)) };
        let standing = Standing { kind, cost: cost(leg) + charged, charged };
        let was = std::mem::replace(&mut leg.standing, standing);
        self.change(leg.id, leg.hosts.0, was, standing);
    }

    /// Notes what later stages hold for a leg.
    pub(super) fn charge(&mut self, leg: &mut Leg, bytes: usize) {
        if leg.standing.charged != bytes {
            leg.standing.charged = bytes;
            self.settle(leg);
        }
    }

    /// Takes a leg out.
    pub(super) fn leave(&mut self, leg: &Leg) {
        self.change(leg.id, leg.hosts.0, leg.standing, Standing::default());
    }

    /// Whether a leg has to go, and which, if it is one that is not confirmed.
    pub(super) fn crowded(&self) -> Option<(Crowded, Option<LegId>)> {
        if let Some(host) = self.greedy
            && let Some(of_host) = self.hosts.get(&host)
            && self.taken > self.limit / 2
            && of_host.bytes > self.limit / SHARE
        {
            let first = self.by_host.range((host, of_host.most(), LegId(0))..).next();
            return first.filter(|(of, ..)| *of == host).map(|(.., id)| (Crowded::Share, Some(*id)));
        }
        let first = self.tentative.range((self.all.most(), LegId(0))..).next();
        let first = first.filter(|_| self.all.bytes > self.limit / LEFT);
        (self.taken > self.limit).then_some((Crowded::Room, first.map(|(_, id)| *id)))
    }

    fn change(&mut self, id: LegId, host: IpAddr, from: Standing, to: Standing) {
        self.taken = self.taken - from.cost + to.cost;
        if from.kind != to.kind {
            if let Some(kind) = from.kind {
                self.tentative.remove(&(kind, id));
                self.by_host.remove(&(host, kind, id));
            }
            if let Some(kind) = to.kind {
                self.tentative.insert((kind, id));
                self.by_host.insert((host, kind, id));
            }
        }
        if from.kind.is_some() || to.kind.is_some() {
            self.all.change(from, to);
            let of_host = self.hosts.entry(host).or_default();
            of_host.change(from, to);
            if of_host.bytes > self.limit / SHARE {
                self.greedy = Some(host);
            } else if of_host.bytes == 0 {
                self.hosts.remove(&host);
            }
        }
    }
}

impl Tentative {
    fn change(&mut self, from: Standing, to: Standing) {
        if let Some(kind) = from.kind {
            self.bytes -= from.cost;
            self.legs[kind as usize] -= 1;
        }
        if let Some(kind) = to.kind {
            self.bytes += to.cost;
            self.legs[kind as usize] += 1;
        }
    }

    /// The kind that there is most of.
    fn most(&self) -> Kind {
        let kinds = [Kind::Unanswered, Kind::Failed, Kind::Early, Kind::Acknowledged];
        // Of equals the first: the last in this order.
        kinds.into_iter().rev().max_by_key(|kind| self.legs[*kind as usize]).unwrap_or(Kind::Unanswered)
    }
}

fn kind(leg: &Leg) -> Kind {
    let heard = leg.callee.heard || leg.invite.as_ref().is_some_and(|invite| invite.heard.is_some());
    if leg.is_confirmed() {
        Kind::Acknowledged
    } else if !heard {
        Kind::Unanswered
    } else if leg.failure().is_some() {
        Kind::Failed
    } else {
        Kind::Early
    }
}

/// What a leg takes up. Its Call-ID stands in five tables, its URIs and tags in two.
fn cost(leg: &Leg) -> usize {
    let ends = [&leg.caller, &leg.callee];
    let ends: usize =
        ends.iter().map(|end| end.uri.len() + end.tag.as_ref().map_or(0, |tag| tag.len())).sum();
    let request = leg.invite.as_ref().map_or(0, |invite| invite.request_uri.len());
    LEG + 5 * leg.key.len() + 2 * (ends + request)
}
