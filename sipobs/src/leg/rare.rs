//! What only few legs have: more than one hop, a phrase of their own, headers that tie them to others, REFERs.

use std::net::IpAddr;

use super::{HeldMessage, LegId, Party, Tag, When};
use crate::sip::TraceContext;
use crate::timestamp::Timestamp;

/// Most numbers, Session-IDs, header values and REFERs remembered of one leg.
pub(crate) const MOST_OF_EACH: usize = 8;

/// The part of a leg that ordinary calls do without.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// The pairs of hosts that its messages went between, but for the first.
    pub(super) paths: Vec<(IpAddr, IpAddr)>,
    /// Tags of callees that answered its INVITE by 2xx after the first: forks of the call.
    pub(crate) forks: Vec<Tag>,
    /// Hosts that its INVITE went on to.
    pub(super) reached: Vec<IpAddr>,
    /// Where the latest try of its INVITE goes, if that is not where the first went.
    pub(crate) request: Option<Box<[u8]>>,
    /// The phrase of its INVITE's final answer, if that is not the standard one.
    pub(super) phrase: Option<Box<str>>,
    /// P-Asserted-Identity, P-Preferred-Identity and Remote-Party-ID, as far as they differ from From.
    pub(crate) asserted: Vec<Party>,
    /// Diversion and History-Info, in order.
    pub(crate) diverted: Vec<Party>,
    /// Referred-By.
    pub(crate) referred_by: Option<Party>,
    /// The dialog that its Replaces names (RFC 3891), by the hash of its Call-ID.
    pub(crate) replaces: Option<u64>,
    /// The latest hold.
    pub(crate) held: When,
    /// UUIDs of Session-ID, hashed.
    pub(crate) sessions: Vec<u64>,
    /// Values of the configured headers, hashed.
    pub(crate) headers: Vec<HeaderValue>,
    /// REFERs sent in it, the latest of them.
    pub(crate) refers: Vec<Refer>,
    /// Legs that took it for theirs.
    pub(crate) claims: Vec<Claim>,
    /// A request that counts only once it is answered.
    pub(crate) doubted: Option<Box<HeldMessage>>,
    /// What names it elsewhere.
    pub(crate) identity: Option<Box<Identity>>,
}

/// What names a leg elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// A provider's ids, each with its header's place in the configuration.
    pub(crate) ids: Vec<(u8, Box<str>)>,
    /// The trace that its INVITE names, and by which header.
    pub(crate) trace: Option<(u8, TraceContext)>,
}

/// The value of a header whose equality ties legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderValue {
    /// The header, by its place in the configuration.
    pub(crate) header: u8,
    pub(crate) hash: u64,
}

/// A REFER sent in a call.
#[derive(Debug)]
pub(crate) struct Refer {
    pub(crate) cseq: u32,
    pub(crate) sent: Timestamp,
    /// Whom Refer-To names.
    pub(crate) target: Option<Party>,
    /// The dialog that a Replaces in Refer-To names, by the hash of its Call-ID.
    pub(crate) replaces: Option<u64>,
    /// Referred-By, or From where it has none.
    pub(crate) referred_by: Option<Party>,
    /// The host that sent it.
    pub(crate) sender: IpAddr,
}

/// A verdict on another leg that named this call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) by: LegId,
    /// The REFER that asked for it.
    pub(crate) refer: Option<u32>,
    pub(crate) from: Timestamp,
    pub(crate) until: Option<Timestamp>,
}

impl Rare {
    /// Bytes that it takes up, about.
    pub(super) fn bytes(&self) -> usize {
        let parties = self.asserted.iter().chain(&self.diverted).chain(&self.referred_by);
        size_of::<Self>()
            + self.paths.capacity() * size_of::<(IpAddr, IpAddr)>()
            + self.reached.capacity() * size_of::<IpAddr>()
            + self.forks.capacity() * size_of::<Tag>()
            + self.request.as_ref().map_or(0, |request| request.len())
            + self.phrase.as_ref().map_or(0, |phrase| phrase.len())
            + (self.asserted.capacity() + self.diverted.capacity()) * size_of::<Party>()
            + parties.map(Party::bytes).sum::<usize>()
            // With their places in the index.
            + (self.sessions.len() + self.headers.len()) * (size_of::<HeaderValue>() + super::PLACE)
            + self.refers.len() * (size_of::<Refer>() + 2 * super::PLACE)
            + self.claims.capacity() * size_of::<Claim>()
            + self.doubted.as_ref().map_or(0, |doubted| doubted.bytes())
            + self.identity.as_ref().map_or(0, |identity| identity.bytes())
    }

    /// What names it elsewhere, to add to.
    pub(crate) fn identity_mut(&mut self) -> &mut Identity {
        self.identity.get_or_insert_default()
    }

    /// Adds the tag of a fork.
    pub(crate) fn add_fork(&mut self, tag: Tag) {
        add(&mut self.forks, tag);
    }

    /// Adds a UUID of Session-ID; whether it is new.
    pub(crate) fn add_session(&mut self, uuid: u64) -> bool {
        add(&mut self.sessions, uuid)
    }

    /// Adds a header's value; whether it is new.
    pub(crate) fn add_header(&mut self, value: HeaderValue) -> bool {
        add(&mut self.headers, value)
    }

    /// Adds a REFER, in place of the oldest where there are too many.
    pub(crate) fn add_refer(&mut self, refer: Refer) {
        make_room(&mut self.refers);
        self.refers.push(refer);
    }

    /// Adds a claim, or renews it.
    pub(crate) fn add_claim(&mut self, claim: Claim) {
        self.claims.retain(|old| old.by != claim.by);
        make_room(&mut self.claims);
        self.claims.push(claim);
    }
}

impl Identity {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.ids.capacity() * size_of::<(u8, Box<str>)>()
            + self.ids.iter().map(|(_, id)| id.len()).sum::<usize>()
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) -> bool {
    let new = list.len() < MOST_OF_EACH && !list.contains(&item);
    if new {
        list.push(item);
    }
    new
}

fn make_room<T>(list: &mut Vec<T>) {
    if list.len() >= MOST_OF_EACH {
        list.remove(0);
    }
}
