//! What ties a leg to a call at the moment it begins.

use std::collections::BTreeMap;

use super::index::{Index, group_key};
use super::leg::{Leg, Second};
use super::party::Party;
use super::{LegId, Legs, LinkConfig};
use crate::timestamp::Timestamp;

/// A call that a leg could belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) call: LegId,
    /// How many times likelier than a call that fits by host and number only.
    pub(super) weight: f64,
    /// The strongest tie.
    pub(super) tie: Tie,
    /// The REFER that asked for the leg.
    pub(super) refer: Option<u32>,
}

/// Evidence that two legs belong together, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tie {
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
    Header(usize),
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
/// A leg follows its REFER at once; in this many seconds the tie fades to a third.
const REFER_FADES: f64 = 3.0;
const HOLD: f64 = 60.0;
/// So long after a call reached it may a B2BUA place its other half.
const FORWARDED_WITHIN: f64 = 30.0;
/// Unanswered legs of one party that are looked at.
const MOST_DIALING: usize = 32;

impl Tie {
    /// The word for it in the output.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HostNumber => "host_number",
            Self::Diverted => "diverted",
            Self::Caller => "caller",
            Self::ReferTo => "refer_to",
            Self::ReferredBy => "referred_by",
            Self::Header(_) => "header",
            Self::SessionId => "session_id",
            Self::TargetDialog => "target_dialog",
            Self::Join => "join",
            Self::Replaces | Self::ReferReplaces => "replaces",
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
            Self::Header(index) => config.headers.get(index).map_or(1.0, |header| header.weight),
            Self::SessionId => weights.session_id,
            Self::TargetDialog => weights.target_dialog,
            Self::Join => weights.join,
            Self::Replaces => weights.replaces,
            Self::ReferReplaces => weights.refer_replaces,
        }
    }
}

/// The calls that `leg` could belong to, as it begins; `None` if there are none.
pub(super) fn candidates(
    id: LegId,
    leg: &Leg,
    legs: &Legs,
    index: &Index,
    config: &LinkConfig,
) -> Option<Second> {
    let forwards = forwards(leg, legs, index);
    let mut search = Search { id, leg, legs, config, forwards, found: BTreeMap::new() };
    let mut unweighed = 0;
    let group = leg.from.as_ref().and_then(|from| index.group(&group_key(leg.caller_host, from)));
    if let (Some(group), Some(from)) = (group, &leg.from) {
        unweighed = group.calls.len().saturating_sub(config.max_candidates);
        for call in group.calls.iter().rev().take(config.max_candidates) {
            search
                .by_number(*call, Tie::HostNumber, |call| call.called.iter().any(|number| number.same(from)));
        }
    }
    let by_number = !search.found.is_empty();
    for number in &leg.diverted {
        let group = index.group(&group_key(leg.caller_host, number));
        for call in group.iter().flat_map(|group| group.calls.iter().rev()).take(config.max_candidates) {
            search
                .by_number(*call, Tie::Diverted, |call| call.called.iter().any(|called| called.same(number)));
        }
    }
    for caller in &leg.callers {
        for call in index.by_caller(leg.caller_host, caller).take(config.max_candidates) {
            search.by_number(call, Tie::Caller, |call| call.callers.iter().any(|other| other.same(caller)));
        }
    }
    if let Some(target) = &leg.request {
        for call in index.by_target(target).take(config.max_candidates) {
            search.by_refer(call);
        }
    }
    let named = |call_id: &Option<String>| call_id.as_deref().and_then(|call_id| index.by_call_id(call_id));
    for (call_id, tie) in
        [(&leg.replaces, Tie::Replaces), (&leg.join, Tie::Join), (&leg.target_dialog, Tie::TargetDialog)]
    {
        named(call_id).into_iter().for_each(|call| search.tie(call, tie, None));
    }
    if let Some(call_id) = &leg.replaces {
        for call in index.by_replaces(call_id).take(config.max_candidates) {
            let refers = legs.get(&call).into_iter().flat_map(|call| call.refers.iter().rev());
            let refer = refers.into_iter().find(|refer| refer.replaces.as_deref() == Some(call_id.as_str()));
            search.tie(call, Tie::ReferReplaces, refer.map(|refer| refer.cseq));
        }
    }
    for uuid in &leg.sessions {
        for call in index.by_session(uuid).take(config.max_candidates) {
            search.tie(call, Tie::SessionId, None);
        }
    }
    for key in &leg.keys {
        for call in index.by_key(key).take(config.max_candidates).chain(index.by_call_id(&key.1)) {
            search.tie(call, Tie::Header(key.0), None);
        }
    }
    search.finish(unweighed, by_number)
}

/// Whether a leg is the other half of a call that its host is just being asked for: a B2BUA places it.
fn forwards(leg: &Leg, legs: &Legs, index: &Index) -> bool {
    let parties = [&leg.request, &leg.from];
    let asked = parties.into_iter().flatten().flat_map(|party| index.by_dialing(party).take(MOST_DIALING));
    asked.filter_map(|id| legs.get(&id)).any(|other| {
        let same = |one: &Option<Party>, other: &Option<Party>| {
            one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one.same(other))
        };
        other.hosts.contains(&leg.caller_host)
            && other.hosts != [other.caller_host]
            && seconds(other.invited, leg.invited) <= FORWARDED_WITHIN
            && (same(&other.request, &leg.request) || same(&other.from, &leg.from))
    })
}

struct Search<'a> {
    id: LegId,
    leg: &'a Leg,
    legs: &'a Legs,
    config: &'a LinkConfig,
    /// It forwards a call that is not answered yet.
    forwards: bool,
    found: BTreeMap<LegId, Candidate>,
}

impl Search<'_> {
    /// A tie that only counts while the call is up or has just ended.
    fn by_number(&mut self, call: LegId, tie: Tie, fits: impl Fn(&Leg) -> bool) {
        let Some(leg) = self.legs.get(&call) else { return };
        // Where a host talks to itself, that a leg comes from the host that terminates the call says nothing.
        if [leg, self.leg].into_iter().any(|leg| leg.hosts == [leg.caller_host]) {
            return;
        }
        // A leg to the very number that was called is the call's own other half behind a B2BUA.
        let onward = leg.request.as_ref().zip(self.leg.request.as_ref());
        if self.forwards || onward.is_some_and(|(called, request)| called.same(request)) {
            return;
        }
        let age = leg.ended().map_or(0.0, |(ended, _)| seconds(ended, self.leg.invited));
        if age <= self.config.after_end_seconds && fits(leg) {
            self.tie(call, tie, None);
        }
    }

    fn by_refer(&mut self, call: LegId) {
        let (Some(leg), Some(target)) = (self.legs.get(&call), &self.leg.request) else { return };
        // The latest REFER to there is the one that asked.
        let fits = |party: &Option<_>| party.as_ref().is_some_and(|party| target.same(party));
        let Some(refer) = leg.refers.iter().rev().find(|refer| fits(&refer.target)) else { return };
        let age = seconds(refer.sent, self.leg.invited);
        let by_name = match (&refer.referred_by, &self.leg.referred_by) {
            (Some(sender), Some(named)) => sender.same(named),
            _ => false,
        };
        let tie = match by_name {
            true if age <= REFERRED_BY => Tie::ReferredBy,
            // Anybody may call there; who was asked to is an end of the call, or shows one.
            false if age <= REFER_TO && (self.comes_from(leg) || self.shows(leg)) => Tie::ReferTo,
            _ => return,
        };
        self.tie(call, tie, Some(refer.cseq));
        // Of calls that are transferred to one number at once, the new leg shows whose it is.
        let shown = if self.shows(leg) { self.config.weights.caller } else { 1.0 };
        if let Some(candidate) = self.found.get_mut(&call) {
            candidate.weight *= shown * (-age / REFER_FADES).exp();
        }
    }

    /// Whether the leg comes from a host that the call goes through.
    fn comes_from(&self, call: &Leg) -> bool {
        call.caller_host == self.leg.caller_host || call.hosts.contains(&self.leg.caller_host)
    }

    /// Whether the leg's caller is a party of the call.
    fn shows(&self, call: &Leg) -> bool {
        let parties = || call.callers.iter().chain(&call.called);
        self.leg.callers.iter().any(|caller| parties().any(|party| party.same(caller)))
    }

    fn tie(&mut self, call: LegId, tie: Tie, refer: Option<u32>) {
        // A call that is not answered can't be transferred, and no leg is its own second leg.
        if call == self.id || self.legs.get(&call).is_none_or(|leg| leg.answered_at().is_none()) {
            return;
        }
        let weight = tie.weight(self.config);
        let found = self.found.entry(call).or_insert(Candidate { call, weight: 1.0, tie, refer: None });
        found.weight *= weight;
        found.tie = found.tie.max(tie);
        found.refer = refer.or(found.refer);
    }

    /// Weighs the circumstances that tie nothing by themselves.
    fn finish(mut self, unweighed: usize, by_number: bool) -> Option<Second> {
        if self.found.is_empty() {
            return None;
        }
        let weights = &self.config.weights;
        let media = self.leg.media.first();
        let shares_host =
            |call: &Leg| media.is_some_and(|own| call.media.iter().any(|its| its.ip() == own.ip()));
        let all_share = self.found.keys().all(|call| self.legs.get(call).is_some_and(shares_host));
        for candidate in self.found.values_mut() {
            let Some(call) = self.legs.get(&candidate.call) else { continue };
            let since = |moment: Option<Timestamp>| moment.map(|moment| seconds(moment, self.leg.invited));
            if since(call.held).is_some_and(|age| age <= HOLD) {
                candidate.weight *= weights.hold;
            }
            if media.is_some_and(|own| call.media.contains(own)) {
                candidate.weight *= weights.media_port;
            } else if !all_share && shares_host(call) {
                candidate.weight *= weights.media_host;
            }
            if candidate.tie.is_direct() {
                continue;
            }
            if since(call.answered_at()).is_some_and(|age| age < 1.0) {
                candidate.weight *= weights.newborn;
            }
            if call.ended().is_some() {
                candidate.weight *= weights.ended;
            }
        }
        let candidates = self.found.into_values().collect();
        Some(Second {
            candidates,
            unweighed,
            by_number,
            familiar: false,
            opinion: None,
            decided: None,
            learnt: false,
        })
    }
}

/// Seconds from one moment to another, negative when the other is earlier.
#[allow(clippy::cast_precision_loss, reason = "nanoseconds don't matter here")]
pub(super) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.as_nanos().saturating_sub(from.as_nanos()) as f64 / 1e9
}
