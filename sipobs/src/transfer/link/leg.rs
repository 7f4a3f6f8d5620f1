//! A leg as the linker keeps it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::coincidence::Close;
use super::decide::Opinion;
use super::party::Party;
use super::tie::Candidate;
use super::{Decision, LegFacts, LegId, LinkConfig, ReferFacts};
use crate::timestamp::Timestamp;
use crate::transfer::attempt::Side;

/// Most hosts, numbers, Session-IDs, header values and REFERs remembered of one leg.
const MOST: usize = 8;

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) call_id: String,
    pub(super) invited: Timestamp,
    pub(super) caller_host: IpAddr,
    /// The callee, and the hosts an INVITE went through.
    pub(super) hosts: Vec<IpAddr>,
    /// Who calls: From and asserted identities that name somebody.
    pub(super) callers: Vec<Party>,
    /// Who is called, as the callee would show itself: request-URI, To, Diversion, History-Info.
    pub(super) called: Vec<Party>,
    pub(super) from: Option<Party>,
    pub(super) request: Option<Party>,
    pub(super) diverted: Vec<Party>,
    pub(super) referred_by: Option<Party>,
    /// Call-IDs it names: Replaces, Join, Target-Dialog.
    pub(super) replaces: Option<String>,
    pub(super) join: Option<String>,
    pub(super) target_dialog: Option<String>,
    /// UUIDs of Session-ID.
    pub(super) sessions: Vec<String>,
    pub(super) keys: Vec<(usize, String)>,
    pub(super) media: Vec<SocketAddr>,
    pub(super) refers: Vec<Refer>,
    pub(super) held: Option<Timestamp>,
    pub(super) state: State,
    /// Legs that took this call for theirs.
    pub(super) claims: Vec<Claim>,
    /// Other legs whose verdict may still need this one.
    pub(super) pins: BTreeSet<LegId>,
    /// Its owner is done with it.
    pub(super) forgotten: bool,
    /// Calls it could belong to, if it may be a second leg.
    pub(super) second: Option<Second>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Dialing,
    Answered { at: Timestamp, ended: Option<(Timestamp, Side)> },
    Failed { at: Timestamp, status: Option<u16> },
}

#[derive(Debug)]
pub(super) struct Refer {
    pub(super) cseq: u32,
    pub(super) sent: Timestamp,
    pub(super) target: Option<Party>,
    pub(super) replaces: Option<String>,
    pub(super) referred_by: Option<Party>,
}

/// A verdict on another leg that named this call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) by: LegId,
    /// The REFER that asked for it.
    pub(super) refer: Option<u32>,
    pub(super) from: Timestamp,
    pub(super) until: Option<Timestamp>,
}

/// A leg's chances of being a second leg.
#[derive(Debug)]
pub(super) struct Second {
    /// In order of their ids.
    pub(super) candidates: Vec<Candidate>,
    /// Calls that fit as well but are too many to weigh.
    pub(super) unweighed: usize,
    /// Whether it shows a number of the platform's own; else only stronger ties count.
    pub(super) by_number: bool,
    /// Whether transfers went to its target before.
    pub(super) familiar: bool,
    /// What it says for itself, once nothing more can come.
    pub(super) opinion: Option<Opinion>,
    pub(super) decided: Option<Decision>,
    /// The end of this leg and of its call have been learnt from.
    pub(super) learnt: bool,
}

impl Second {
    /// Whether there is but one call it could belong to.
    pub(super) fn is_alone(&self) -> bool {
        self.unweighed == 0 && self.candidates.len() == 1
    }

    pub(super) fn is_linked(&self) -> bool {
        matches!(self.decided, Some(Decision::Linked { .. }))
    }
}

impl Leg {
    pub(super) fn new(facts: LegFacts, config: &LinkConfig) -> Self {
        let party = |user: Option<String>| user.as_deref().and_then(Party::new);
        let from = party(facts.from);
        let request = party(facts.request);
        let diverted: Vec<Party> =
            facts.diverted.iter().filter_map(|user| Party::new(user)).take(MOST).collect();
        let mut callers = Vec::new();
        let names_nobody = |party: &Party| config.nobody.iter().any(|nobody| party.is(nobody));
        for caller in from.iter().cloned().chain(facts.asserted.iter().filter_map(|user| Party::new(user))) {
            if !names_nobody(&caller) {
                add(&mut callers, caller);
            }
        }
        let mut called = Vec::new();
        for number in request.iter().cloned().chain(party(facts.to)).chain(diverted.iter().cloned()) {
            add(&mut called, number);
        }
        let mut leg = Self {
            call_id: facts.call_id,
            invited: facts.invited,
            caller_host: facts.caller_host,
            hosts: vec![facts.callee_host],
            callers,
            called,
            from,
            request,
            diverted,
            referred_by: party(facts.referred_by),
            replaces: facts.replaces,
            join: facts.join,
            target_dialog: facts.target_dialog,
            sessions: Vec::new(),
            keys: Vec::new(),
            media: facts.media.into_iter().collect(),
            refers: Vec::new(),
            held: None,
            state: State::Dialing,
            claims: Vec::new(),
            pins: BTreeSet::new(),
            forgotten: false,
            second: None,
        };
        facts.session_id.iter().for_each(|value| leg.add_session(value));
        for key in facts.keys {
            add(&mut leg.keys, key);
        }
        leg
    }

    pub(super) fn answered_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Answered { at, .. } => Some(at),
            State::Dialing | State::Failed { .. } => None,
        }
    }

    /// It timed out without any answer.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(self.state, State::Failed { status: None, .. })
    }

    /// BYE of an answered leg.
    pub(super) fn ended(&self) -> Option<(Timestamp, Side)> {
        match self.state {
            State::Answered { ended, .. } => ended,
            State::Dialing | State::Failed { .. } => None,
        }
    }

    /// When the leg was over, and how.
    pub(super) fn over(&self) -> Option<(Timestamp, Close)> {
        match self.state {
            State::Dialing | State::Answered { ended: None, .. } => None,
            State::Answered { ended: Some((at, Side::Caller)), .. } => Some((at, Close::Hangup)),
            State::Answered { ended: Some((at, Side::Callee)), .. } => Some((at, Close::TargetHangup)),
            State::Failed { at, status: Some(487) } if self.rang_out(at) => Some((at, Close::RangOut)),
            State::Failed { at, status: Some(487) } => Some((at, Close::Cancelled)),
            State::Failed { at, .. } => Some((at, Close::Refused)),
        }
    }

    /// Whether a CANCEL at `at` looks like a ring timer's, which run for full five seconds, not a caller's.
    fn rang_out(&self, at: Timestamp) -> bool {
        let odd = at.since(self.invited).as_millis() % 5000;
        at.since(self.invited).as_secs() >= 4 && !(100..4900).contains(&odd)
    }

    /// The UUIDs of an RFC 7989 §5 value but nil, those that are new.
    pub(super) fn add_session(&mut self, value: &str) {
        let (local, parameters) = value.split_once(';').unwrap_or((value, ""));
        let remote = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("remote="));
        for uuid in [Some(local), remote].into_iter().flatten() {
            let uuid = uuid.trim().to_ascii_lowercase();
            if uuid.len() == 32 && uuid.bytes().any(|b| b != b'0') {
                add(&mut self.sessions, uuid);
            }
        }
    }

    pub(super) fn add_key(&mut self, header: usize, value: &str) {
        add(&mut self.keys, (header, value.to_owned()));
    }

    pub(super) fn add_host(&mut self, host: IpAddr) {
        add(&mut self.hosts, host);
    }

    pub(super) fn add_refer(&mut self, now: Timestamp, refer: ReferFacts) {
        if self.refers.len() == MOST {
            self.refers.remove(0);
        }
        self.refers.push(Refer {
            cseq: refer.cseq,
            sent: now,
            target: refer.target.as_deref().and_then(Party::new),
            replaces: refer.replaces,
            referred_by: refer.referred_by.as_deref().and_then(Party::new),
        });
    }

    pub(super) fn claim(&mut self, claim: Claim) {
        self.claims.retain(|old| old.by != claim.by);
        if self.claims.len() == MOST {
            self.claims.remove(0);
        }
        self.claims.push(claim);
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if list.len() < MOST && !list.contains(&item) {
        list.push(item);
    }
}
