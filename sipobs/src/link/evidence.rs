//! What ties a leg to a call at the moment it begins.

use std::collections::BTreeMap;
use std::time::Duration;

use smallvec::SmallVec;

use super::LinkConfig;
use super::clues::Clues;
use super::index::{By, Index};
use super::second::Second;
use super::state::{answered_at, ended_at};
use crate::leg::{Leg, LegId, Legs, Party, Refer};
use crate::record::{LinkMethod, Side};
use crate::timestamp::Timestamp;

/// A call that a leg could belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) call: LegId,
    /// How many times likelier than a call that fits by host and number only.
    pub(super) weight: f64,
    /// The strongest evidence.
    pub(super) evidence: Evidence,
    /// The REFER that asked for the leg.
    pub(super) refer: Option<u32>,
    /// The leg hides its caller, whom the call shows.
    pub(super) hides: bool,
}

impl Candidate {
    /// Whether the leg hides who calls, and no more than a REFER to its target ties it to a call that shows that.
    pub(super) fn hides_its_caller(&self) -> bool {
        self.hides && self.evidence <= Evidence::ReferTo
    }
}

/// Evidence that two legs belong together, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// It comes from the host that terminates the call and shows the call's own number: all that LiveKit leaves.
    HostNumber,
    /// It comes from the host that terminates the call and names the call's number as diverting.
    Diverted,
    /// It comes from the host that terminates the call and shows the call's caller.
    Caller,
    /// It calls whom a REFER in the call named.
    ReferTo,
    /// The same, by who sent the REFER.
    ReferredBy,
    /// A configured header, by its index.
    Header(u8),
    SessionId,
    TargetDialog,
    Join,
    Replaces,
    /// It replaces what a REFER in the call said to replace.
    ReferReplaces,
}

/// Seconds for which a REFER asks for a leg, without and with its sender's name.
const REFER_TO: f64 = 10.0;
const REFERRED_BY: f64 = 30.0;
/// A leg follows its REFER at once; in this many seconds the evidence fades to a third.
const REFER_FADES: f64 = 3.0;
const HOLD: f64 = 60.0;
/// So long after a call reached it may a B2BUA place its other half.
const FORWARDED_WITHIN: f64 = 30.0;
/// So long after a REFER may the transferee be sent on from its target to another.
const SENT_ON: f64 = 60.0;
/// Unanswered legs of one party that are looked at.
const MOST_DIALING: usize = 32;

impl Evidence {
    /// How it is told, where the times had no say.
    pub(super) fn method(self) -> LinkMethod {
        match self {
            Self::HostNumber => LinkMethod::HostNumber,
            Self::Diverted => LinkMethod::Diverted,
            Self::Caller => LinkMethod::Caller,
            Self::ReferTo => LinkMethod::ReferTo,
            Self::ReferredBy => LinkMethod::ReferredBy,
            Self::Header(_) => LinkMethod::Header,
            Self::SessionId => LinkMethod::SessionId,
            Self::TargetDialog => LinkMethod::TargetDialog,
            Self::Join => LinkMethod::Join,
            Self::Replaces | Self::ReferReplaces => LinkMethod::Replaces,
        }
    }

    /// Whether it names the call, so that nothing needs to be waited for.
    pub(super) fn is_direct(self) -> bool {
        self >= Self::ReferTo
    }

    fn weight(self, config: &LinkConfig) -> f64 {
        let weights = &config.weights;
        match self {
            Self::HostNumber => 1.0,
            Self::Diverted => weights.diverted,
            Self::Caller => weights.caller,
            Self::ReferTo => weights.refer_to,
            Self::ReferredBy => weights.referred_by,
            Self::Header(index) => config.headers.get(usize::from(index)).map_or(1.0, |header| header.weight),
            Self::SessionId => weights.session_id,
            Self::TargetDialog => weights.target_dialog,
            Self::Join => weights.join,
            Self::Replaces => weights.replaces,
            Self::ReferReplaces => weights.refer_replaces,
        }
    }
}

/// Everything that the calls a leg could belong to are looked up in.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) legs: &'a Legs,
    pub(super) index: &'a Index,
    pub(super) config: &'a LinkConfig,
    /// How long after its end a call is found by header, Session-ID or REFER.
    pub(super) gone: Duration,
}

/// The calls that `leg` could belong to, as it begins; `None` if there are none.
pub(super) fn candidates(
    known: Known<'_>,
    leg: &Leg,
    parties: &Parties,
    clues: &Clues<'_>,
) -> Option<Second> {
    let own = Own { leg, parties };
    let forwards = forwards(known, own);
    let mut search = Search { own, known, forwards, found: BTreeMap::new() };
    let unweighed = search.by_own_number();
    let by_number = !search.found.is_empty();
    search.by_parties();
    search.by_refers();
    search.by_dialogs(clues);
    search.by_headers(clues);
    search.finish(unweighed, by_number)
}

/// The call as one that `leg` could belong to by the REFER in it, which was captured after the leg had begun. Where its
/// circumstances were `weighed` before, they are not once more.
pub(super) fn by_late_refer(
    known: Known<'_>,
    leg: &Leg,
    parties: &Parties,
    call: &Leg,
    weighed: bool,
) -> Option<Candidate> {
    let own = Own { leg, parties };
    let mut search = Search { own, known, forwards: false, found: BTreeMap::new() };
    if let Some(target) = &parties.request {
        search.by_refer(call, target);
    }
    if let Some(replaced) = leg.rare().and_then(|rare| rare.replaces) {
        search.by_replaced(call, replaced);
    }
    if weighed {
        return search.found.into_values().next();
    }
    search.finish(0, false)?.candidates.into_iter().next()
}

/// Who calls and who is called, as a leg's first message says.
#[derive(Debug)]
pub(super) struct Parties {
    pub(super) from: Option<Party>,
    pub(super) request: Option<Party>,
    /// From and asserted identities that name somebody.
    pub(super) callers: SmallVec<[Party; 2]>,
    /// Who From and request-URI say are all that there are: most calls are so.
    pub(super) plain: bool,
}

impl Parties {
    pub(super) fn of(leg: &Leg, config: &LinkConfig) -> Self {
        let (from, request) = (from(leg), Party::of_uri(leg.first_request()));
        let callers: SmallVec<[Party; 2]> = named(&from, leg, config).collect();
        let to = match leg.uri(Side::Callee) {
            // As mostly.
            same if same == leg.first_request() => request.clone(),
            to => Party::of_uri(to),
        };
        let identities = leg.rare().map_or(0, |rare| rare.asserted.len() + rare.diverted.len());
        let plain = to == request && identities == 0 && from.as_ref() == callers.first();
        Self { from, request, callers, plain }
    }
}

/// Whom a leg was diverted from.
fn diverted(leg: &Leg) -> &[Party] {
    leg.rare().map_or(&[][..], |rare| &rare.diverted)
}

/// Who calls, by From; nobody where a recorder is called (RFC 7866): it gets a call's media, not the call.
pub(super) fn from(leg: &Leg) -> Option<Party> {
    Party::of_uri(leg.uri(Side::Caller)).filter(|_| !leg.ties.recording)
}

/// Who calls: From and asserted identities that name somebody.
pub(super) fn callers(leg: &Leg, config: &LinkConfig) -> SmallVec<[Party; 2]> {
    named(&from(leg), leg, config).collect()
}

fn named<'a>(
    from: &'a Option<Party>,
    leg: &'a Leg,
    config: &'a LinkConfig,
) -> impl Iterator<Item = Party> + 'a {
    let asserted = leg.rare().map_or(&[][..], |rare| &rare.asserted);
    let names_somebody = |party: &&Party| !config.nobody.iter().any(|nobody| party.is(nobody));
    from.iter().chain(asserted).filter(names_somebody).cloned()
}

/// Who is called, as the callee would show itself: request-URI, To, Diversion, History-Info.
pub(super) fn called(leg: &Leg) -> impl Iterator<Item = Party> + '_ {
    let request = Party::of_uri(leg.first_request());
    let to = Party::of_uri(leg.uri(Side::Callee)).filter(|to| request.as_ref() != Some(to));
    let diverted = leg.rare().map_or(&[][..], |rare| &rare.diverted);
    request.into_iter().chain(to).chain(diverted.iter().cloned())
}

/// Whether a leg is the other half of a call that its host is just being asked for: a B2BUA places it.
fn forwards(known: Known<'_>, own: Own<'_>) -> bool {
    let Known { legs, index, .. } = known;
    let Own { leg, parties } = own;
    let host = leg.hosts.0;
    let called = parties.request.as_ref().map(|party| legs.hash_of(By::Called(host, party.tail())));
    let caller = parties.from.as_ref().map(|party| legs.hash_of(By::Caller(host, party.tail())));
    let asked = [called, caller].into_iter().flatten();
    let asked = asked.flat_map(|key| index.dialing(key).take(MOST_DIALING));
    asked.filter_map(|slot| legs.at(slot)).any(|other| {
        let same = |one: Option<Party>, other: &Option<Party>| {
            one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one.same(other))
        };
        other.id != leg.id
            && legs.vouches_for(other)
            && !talks_to_itself(other)
            && seconds(other.started, leg.started) <= FORWARDED_WITHIN
            && (same(Party::of_uri(other.first_request()), &parties.request)
                || same(from(other), &parties.from))
    })
}

/// The latest REFER of a call to a target: that is the one that asked.
fn latest_refer<'l>(leg: &'l Leg, target: &Party) -> Option<&'l Refer> {
    let refers = leg.rare().map_or(&[][..], |rare| &rare.refers);
    refers.iter().rev().find(|refer| refer.target.as_ref().is_some_and(|party| target.same(party)))
}

/// Whether caller and callee are one host.
fn talks_to_itself(leg: &Leg) -> bool {
    leg.hosts.0 == leg.hosts.1 && leg.callee_hosts().count() == 1
}

/// The leg whose call is looked for.
#[derive(Clone, Copy)]
struct Own<'a> {
    leg: &'a Leg,
    parties: &'a Parties,
}

struct Search<'a> {
    own: Own<'a>,
    known: Known<'a>,
    /// It forwards a call that is not answered yet.
    forwards: bool,
    found: BTreeMap<LegId, Candidate>,
}

impl<'a> Search<'a> {
    /// The calls at a place of the index, as many as are weighed.
    fn calls(&self, by: By) -> impl Iterator<Item = &'a Leg> + use<'a> {
        let Known { legs, index, config, .. } = self.known;
        index.calls(legs.hash_of(by)).take(config.max_candidates).filter_map(|slot| legs.at(slot))
    }

    /// Calls to the number that the leg shows, at the host that it comes from. How many more there are than are weighed.
    fn by_own_number(&mut self) -> usize {
        let Known { legs, index, config, .. } = self.known;
        let Some(from) = &self.own.parties.from else { return 0 };
        let by = || By::Called(self.own.leg.hosts.0, from.tail());
        let unweighed = index.len(legs.hash_of(by())).saturating_sub(config.max_candidates);
        for call in self.calls(by()) {
            self.by_number(call, Evidence::HostNumber, |call| called(call).any(|number| number.same(from)));
        }
        unweighed
    }

    /// Calls at that host whose number the leg names as diverting, or whose caller it shows.
    fn by_parties(&mut self) {
        let Own { leg, parties } = self.own;
        let (host, config) = (leg.hosts.0, self.known.config);
        for number in diverted(leg) {
            for call in self.calls(By::Called(host, number.tail())) {
                let fits = |call: &Leg| called(call).any(|called| called.same(number));
                self.by_number(call, Evidence::Diverted, fits);
            }
        }
        for caller in &parties.callers {
            for call in self.calls(By::Caller(host, caller.tail())) {
                let fits = |call: &Leg| callers(call, config).iter().any(|other| other.same(caller));
                self.by_number(call, Evidence::Caller, fits);
            }
        }
    }

    /// Calls with a REFER to whom the leg calls, or to whom it was diverted from.
    fn by_refers(&mut self) {
        let Own { leg, parties } = self.own;
        if let Some(target) = &parties.request {
            for call in self.calls(By::Target(target.tail())) {
                self.by_refer(call, target);
            }
        }
        for target in diverted(leg) {
            for call in self.calls(By::Target(target.tail())) {
                self.sent_on(call, target);
            }
        }
    }

    /// Calls that the leg names, or whose REFER said to replace what it replaces.
    fn by_dialogs(&mut self, clues: &Clues<'_>) {
        for (call_id, evidence) in [
            (clues.replaces, Evidence::Replaces),
            (clues.join, Evidence::Join),
            (clues.target_dialog, Evidence::TargetDialog),
        ] {
            if let Some(call) = call_id.and_then(|call_id| self.named(call_id)) {
                self.tie(call, evidence, None);
            }
        }
        let Some(replaced) = self.own.leg.rare().and_then(|rare| rare.replaces) else { return };
        for call in self.calls(By::Replaces(replaced)) {
            self.by_replaced(call, replaced);
        }
    }

    /// A call whose REFER said to replace what the leg replaces.
    fn by_replaced(&mut self, call: &Leg, replaced: u64) {
        let refers = call.rare().map_or(&[][..], |rare| &rare.refers);
        if let Some(refer) = refers.iter().rev().find(|refer| refer.replaces == Some(replaced)) {
            self.tie_if_recent(call, Evidence::ReferReplaces, Some(refer.cseq));
        }
    }

    /// Calls with the same Session-ID, or the same value of a configured header.
    fn by_headers(&mut self, clues: &Clues<'_>) {
        let sessions = self.own.leg.rare().map_or(&[][..], |rare| &rare.sessions);
        for session in sessions {
            for call in self.calls(By::Session(*session)) {
                self.tie_if_recent(call, Evidence::SessionId, None);
            }
        }
        for &(header, value) in &clues.headers {
            for call in self.calls(By::Header(header, self.known.legs.hash(value))) {
                self.tie_if_recent(call, Evidence::Header(header), None);
            }
            if let Some(call) = self.named(value) {
                self.tie(call, Evidence::Header(header), None);
            }
        }
    }

    /// The leg under a Call-ID that can be named.
    fn named(&self, call_id: &[u8]) -> Option<&'a Leg> {
        let known = || self.known.legs.under(call_id).filter(|leg| leg.ties.known);
        known().find(|leg| leg.is_confirmed()).or_else(|| known().next())
    }

    /// Evidence that only counts while the call is up or has just ended.
    fn by_number(&mut self, leg: &Leg, evidence: Evidence, fits: impl Fn(&Leg) -> bool) {
        let own = self.own.leg;
        // Where a host talks to itself, that a leg comes from the host that terminates the call says nothing.
        if talks_to_itself(leg) || talks_to_itself(own) {
            return;
        }
        // A leg to the very number that was called is the call's own other half behind a B2BUA.
        let request = Party::of_uri(leg.first_request());
        let wanted = self.own.parties.request.as_ref();
        let onward = request.as_ref().zip(wanted).is_some_and(|(called, wanted)| called.same(wanted));
        // Nor is anybody transferred to himself: once the call has ended, that is a call back. While it is up the caller may show
        // the number of a switchboard, and be sent there.
        let back = ended_at(leg).is_some()
            && wanted.is_some_and(|wanted| from(leg).is_some_and(|caller| caller.same(wanted)));
        if self.forwards || onward || back {
            return;
        }
        let age = ended_at(leg).map_or(0.0, |ended| seconds(ended, own.started));
        if age <= self.known.config.after_end.as_secs_f64() && fits(leg) {
            self.tie(leg, evidence, None);
        }
    }

    fn by_refer(&mut self, leg: &Leg, target: &Party) {
        let Some(refer) = latest_refer(leg, target).filter(|refer| !self.is_transferors(leg, refer)) else {
            return;
        };
        // A REFER may be captured after the leg that it asks for.
        let age = seconds(refer.sent, self.own.leg.started).max(0.0);
        let shows = self.shows(leg);
        let at_hand = self.comes_from(leg) || shows && self.is_believed(refer);
        let named = self.own.leg.rare().and_then(|rare| rare.referred_by.as_ref());
        let by_name = refer.referred_by.as_ref().zip(named).is_some_and(|(sender, named)| sender.same(named));
        let evidence = match by_name {
            // Anybody may call there, under any name; who was asked to is an end of the call, or shows one …
            true if age <= REFERRED_BY && at_hand => Evidence::ReferredBy,
            // … and, where that end serves many, does not show the number of somebody else.
            false if age <= REFER_TO && at_hand && (shows || !self.shows_a_number()) => Evidence::ReferTo,
            _ => return,
        };
        self.tie_if_recent(leg, evidence, Some(refer.cseq));
        // Of calls that are transferred to one number at once, the new leg shows whose it is.
        let shown = if shows { self.known.config.weights.caller } else { 1.0 };
        // Nothing but the target, the host and the time ties a leg that hides who calls, where the call does not.
        let hides = !shows && !by_name && callers(leg, self.known.config).iter().any(Party::is_number);
        if let Some(candidate) = self.found.get_mut(&leg.id) {
            candidate.hides = hides;
            candidate.weight *= shown * (-age / REFER_FADES).exp();
        }
    }

    /// Whether a leg from a host that the call does not go through may be what a REFER asked for. A server that makes such legs
    /// has made or taken calls before, or knows the dialog that is to be replaced; what anybody else shows, anybody may show.
    fn is_believed(&self, refer: &Refer) -> bool {
        let own = self.own.leg;
        let replaces =
            refer.replaces.is_some() && own.rare().and_then(|rare| rare.replaces) == refer.replaces;
        replaces || own.originated || self.known.legs.is_party(own.hosts.0)
    }

    /// Ties a leg which follows one that a REFER in a call asked for: it was diverted from the target, and shows a party
    /// of the call.
    fn sent_on(&mut self, leg: &Leg, target: &Party) {
        let Some(refer) = latest_refer(leg, target).filter(|refer| !self.is_transferors(leg, refer)) else {
            return;
        };
        let age = seconds(refer.sent, self.own.leg.started);
        if age <= SENT_ON && self.comes_from(leg) && self.shows(leg) {
            self.tie_if_recent(leg, Evidence::ReferTo, Some(refer.cseq));
        }
    }

    /// Whether the leg comes from the host that sent a REFER in the call, which asked the other end: what the transferor
    /// dials itself, say after a refusal, nobody was asked for.
    fn is_transferors(&self, call: &Leg, refer: &Refer) -> bool {
        self.own.leg.hosts.0 == refer.sender && !talks_to_itself(call)
    }

    /// Whether the leg's caller is a whole number.
    fn shows_a_number(&self) -> bool {
        self.own.parties.callers.iter().any(Party::is_number)
    }

    /// Whether the leg comes from a host that the call goes through.
    fn comes_from(&self, call: &Leg) -> bool {
        let host = self.own.leg.hosts.0;
        call.hosts.0 == host || call.callee_hosts().any(|other| other == host)
    }

    /// Whether the leg's caller is a party of the call.
    fn shows(&self, call: &Leg) -> bool {
        let callers = callers(call, self.known.config);
        self.own.parties.callers.iter().any(|caller| {
            callers.iter().any(|party| party.same(caller)) || called(call).any(|party| party.same(caller))
        })
    }

    /// The same as [`Self::tie`], for what is found by what names it.
    fn tie_if_recent(&mut self, call: &Leg, evidence: Evidence, refer: Option<u32>) {
        let ended = ended_at(call);
        if ended.is_none_or(|ended| self.own.leg.started.since(ended) <= self.known.gone) {
            self.tie(call, evidence, refer);
        }
    }

    fn tie(&mut self, leg: &Leg, evidence: Evidence, refer: Option<u32>) {
        let call = leg.id;
        // A call that is not answered can't be transferred, and no leg is its own second leg.
        if call == self.own.leg.id || answered_at(leg).is_none() {
            return;
        }
        let weight = evidence.weight(self.known.config);
        let found = self.found.entry(call).or_insert(Candidate {
            call,
            weight: 1.0,
            evidence,
            refer: None,
            hides: false,
        });
        found.weight *= weight;
        found.evidence = found.evidence.max(evidence);
        found.refer = refer.or(found.refer);
    }

    /// Weighs the circumstances that tie nothing by themselves.
    fn finish(mut self, unweighed: usize, by_number: bool) -> Option<Second> {
        if self.found.is_empty() {
            return None;
        }
        let Known { legs, config, .. } = self.known;
        let (weights, own) = (&config.weights, self.own.leg);
        let media = own.ties.media[0];
        let places = |call: &Leg| call.ties.media.into_iter().flatten();
        let shares_host = |call: &Leg| {
            media.is_some_and(|own| call.ties.media.into_iter().flatten().any(|its| its.host == own.host))
        };
        let all_share = self.found.keys().all(|call| legs.get(*call).is_some_and(shares_host));
        for candidate in self.found.values_mut() {
            let Some(call) = legs.get(candidate.call) else { continue };
            let since = |moment: Option<Timestamp>| moment.map(|moment| seconds(moment, own.started));
            if since(call.rare().and_then(|rare| rare.held.get())).is_some_and(|age| age <= HOLD) {
                candidate.weight *= weights.hold;
            }
            if media.is_some_and(|own| places(call).any(|its| its == own)) {
                candidate.weight *= weights.media_port;
            } else if !all_share && shares_host(call) {
                candidate.weight *= weights.media_host;
            }
            if candidate.evidence.is_direct() {
                continue;
            }
            if since(answered_at(call)).is_some_and(|age| age < 1.0) {
                candidate.weight *= weights.newborn;
            }
            if ended_at(call).is_some() {
                candidate.weight *= weights.ended;
            }
        }
        Some(Second::new(self.found.into_values().collect(), unweighed, by_number))
    }
}

/// Seconds from one moment to another, negative when the other is earlier.
#[allow(clippy::cast_precision_loss, reason = "nanoseconds don't matter here")]
pub(super) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.as_nanos().saturating_sub(from.as_nanos()) as f64 / 1e9
}
