//! From evidence to a verdict.
//!
//! The candidates and "unrelated" are rival explanations of what was seen. Each starts with a share: that of
//! unrelated legs as learnt at this number, the rest spread over the candidates by their ties. Each is then
//! multiplied by how much likelier it makes what became of the candidates than if they had nothing to do with
//! the leg ([`Links::likelihood`]); what is left after scaling to 1 is the confidence.

use super::assign::{Row, assign};
use super::coincidence::{Close, WINDOW};
use super::group::Group;
use super::index::group_key;
use super::leg::{Claim, Leg, Second, State};
use super::tie::{Candidate, Tie, seconds};
use super::{Decision, LegId, Links};
use crate::timestamp::Timestamp;
use crate::transfer::attempt::Link;

/// A leg that is up while its call has ended: the platform lost track of it.
const ORPHANED: f64 = 0.02;
/// Share of calls that end within this many seconds of the target's answer, because they were handed over.
const HANDED_OVER: f64 = 0.05;
const HANDOVER_SECONDS: f64 = 3.0;
/// Rivals and calls considered jointly.
const MOST_RIVALS: usize = 48;
const MOST_CALLS: usize = 12;
/// Explanations less likely than this are left out.
const FAINT: f64 = 0.004;
/// How many times a doubt counts: the model is not the world, and links at 0.8 shall hold far oftener than that.
const DOUBT: f64 = 5.0;
/// Nothing is surer than this.
const SUREST: f64 = 0.99;
const MOST_NAMED: usize = 8;

impl Links {
    /// When nothing more that matters can come.
    pub(super) fn due(&self, leg: &Leg, second: &Second) -> Timestamp {
        let alone = || second.unweighed == 0 && second.candidates.len() == 1;
        if second.candidates.iter().any(|candidate| candidate.tie.is_direct()) {
            return leg.invited;
        }
        match leg.state {
            State::Dialing => leg.invited + self.patience,
            // What becomes of a lone call after a failed leg tells nothing.
            State::Failed { at, .. }
                if alone() && confidence_of(self.prior(leg, second)) >= self.config.link_at =>
            {
                at
            }
            State::Failed { at, .. } => at + self.settle,
            State::Answered { at, ended: None } if self.prior(leg, second) >= SUREST => at,
            State::Answered { at, ended: None } => at + self.patience,
            State::Answered { ended: Some((at, _)), .. } => at + self.settle,
        }
    }

    /// The verdict by what is known at `now`.
    pub(super) fn verdict(&self, id: LegId, leg: &Leg, second: &Second, now: Timestamp) -> Decision {
        let row = self.with_rivals(id, leg, second, now);
        let best = row.calls.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let Some((call, confidence)) = best else { return Decision::No };
        let confidence = confidence_of(confidence);
        let candidate = second.candidates.iter().find(|candidate| candidate.call == call);
        if let Some(candidate) = candidate.filter(|_| confidence >= self.config.link_at) {
            let among = second.unweighed + second.candidates.len();
            let method = match candidate.tie {
                Tie::HostNumber if among > 1 => "host_number_time",
                tie => tie.name(),
            };
            let link = Link { method, confidence, candidates: Vec::new() };
            return Decision::Linked { call, refer: candidate.refer, link };
        }
        let unrelated = row.none * self.weigh(leg, second, now).unrelated_of_none();
        if unrelated >= self.config.unrelated_at {
            return Decision::No;
        }
        let mut likely = row.calls;
        likely.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let call_id = |(call, _): &(LegId, f64)| self.legs.get(call).map(|leg| leg.call_id.clone());
        let candidates = likely.iter().take(MOST_NAMED).filter_map(call_id).collect();
        Decision::Ambiguous { link: Link { method: "ambiguous", confidence, candidates } }
    }

    /// How likely each explanation is, other legs considered. `none` holds the faint ones too.
    pub(super) fn with_rivals(&self, id: LegId, leg: &Leg, second: &Second, now: Timestamp) -> Row {
        let mut own = self.weigh(leg, second, now).row(second);
        for (call, weight) in &mut own.calls {
            let claims = self.legs.get(call).map_or(&[][..], |call| &call.claims);
            if claims.iter().any(|claim| claim.by != id && overlap(leg, claim)) {
                *weight = 0.0;
            }
        }
        let mut rows = Vec::new();
        for rival in self.rivals(id, leg) {
            let rival = self.legs.get(&rival).and_then(|rival| Some((rival, rival.second.as_ref()?)));
            // One that has been linked made its claim.
            let Some((rival, their)) = rival.filter(|(_, their)| !their.is_linked()) else { continue };
            let row = self.weigh(rival, their, now).row(their);
            if row.calls.iter().any(|(call, _)| own.calls.iter().any(|(own, _)| own == call)) {
                rows.push(row);
            }
        }
        rows.insert(0, own);
        assign(&rows)
    }

    /// Legs from the same host that were up at the same time and ended at about the same time.
    fn rivals(&self, id: LegId, leg: &Leg) -> impl Iterator<Item = LegId> {
        let host = leg.caller_host;
        let range = leg.over().map(|(over, _)| {
            let reach = self.settle + self.settle;
            (host, over - reach, LegId(0))..=(host, over + reach, LegId(u64::MAX))
        });
        let near = range.into_iter().flat_map(|range| self.over.range(range));
        let invited = leg.invited;
        let over = leg.over().map(|(over, _)| over);
        near.filter(move |(_, rival_over, rival)| {
            let began = self.legs.get(rival).map(|rival| rival.invited);
            *rival != id && *rival_over > invited && began.zip(over).is_some_and(|(began, over)| began < over)
        })
        .map(|(.., rival)| *rival)
        .take(MOST_RIVALS)
    }

    /// How likely each explanation is, as if there were no other leg.
    fn weigh(&self, leg: &Leg, second: &Second, now: Timestamp) -> Weights {
        let direct = second.candidates.iter().any(|candidate| candidate.tie.is_direct());
        let mut weights = self.prior_weights(leg, second);
        for (weight, candidate) in weights.calls.iter_mut().zip(&second.candidates) {
            // Whose call is named needs no circumstances; and a call may well end long before the leg that a
            // REFER in it asked for.
            if let (false, Some(call)) = (direct, self.legs.get(&candidate.call)) {
                *weight *= self.likelihood(self.group_of(leg, call), leg, call, now);
            }
        }
        weights.scale();
        weights
    }

    /// The likeliest call's share before anything became of the leg.
    fn prior(&self, leg: &Leg, second: &Second) -> f64 {
        let mut weights = self.prior_weights(leg, second);
        weights.scale();
        weights.calls.into_iter().fold(0.0, f64::max)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of calls")]
    fn prior_weights(&self, leg: &Leg, second: &Second) -> Weights {
        let unrelated = self.unrelated_share(leg, second);
        let each = (1.0 - unrelated) / (second.candidates.len() + second.unweighed) as f64;
        Weights {
            unrelated,
            unweighed: each * second.unweighed as f64,
            calls: second.candidates.iter().map(|candidate| each * candidate.weight).collect(),
        }
    }

    fn unrelated_share(&self, leg: &Leg, second: &Second) -> f64 {
        if !second.by_number {
            return self.config.unrelated;
        }
        // Where the moment picks one call out of several, it is the best of many coincidences.
        let alone = second.unweighed == 0 && second.candidates.len() == 1;
        let base = if alone { self.config.unrelated } else { self.config.unrelated_among };
        let host = self.hosts.get(&leg.caller_host);
        let above = host.map_or(base, |host| host.share.unrelated(base));
        let number = leg.from.as_ref().map(|from| group_key(leg.caller_host, from));
        let group = number.and_then(|number| self.index.group(&number));
        let share = group.map_or(above, |group| group.unrelated(above));
        let odds = share / (1.0 - share) * host.map_or(1.0, |host| host.unrelated_by_target(second.familiar));
        odds / (1.0 + odds)
    }

    /// The group whose habits the call shares.
    fn group_of(&self, leg: &Leg, call: &Leg) -> &Group {
        let group = |number| self.index.group(&group_key(leg.caller_host, number));
        leg.from.iter().chain(&call.called).find_map(group).unwrap_or(&self.unknown)
    }

    /// How many times likelier the fate of `call` is if `leg` is its second leg than if it is not.
    ///
    /// | the leg | the call | as its call | as any other |
    /// |---|---|---|---|
    /// | is up | is up | must be | survived by chance |
    /// | is up | has ended | handed over, or the leg was orphaned | ended by chance |
    /// | ended | ended around then | at the platform's usual lag, from the usual side | ended by chance at that moment |
    /// | ended | goes on | at times | survived by chance |
    fn likelihood(&self, group: &Group, leg: &Leg, call: &Leg, now: Timestamp) -> f64 {
        let ended = call.ended().filter(|(ended, _)| *ended <= now);
        let survival = |until| group.survival(seconds(leg.invited, until)).max(0.02);
        let by_chance = |at, side| group.end_rate(side) * survival(at);
        match (leg.over(), ended) {
            (None, None) => 1.0 / survival(now),
            (None, Some((at, side))) => {
                let answered = leg.answered_at().map(|answered| seconds(answered, at));
                let handed_over = answered.is_some_and(|after| (0.0..HANDOVER_SECONDS).contains(&after));
                let close = Close::Hangup;
                // The leg's own end may be on its way.
                let to_come = 1.0 - self.coincidence.later(close, -seconds(at, now).min(WINDOW));
                let orphaned = ORPHANED + to_come.clamp(0.0, 1.0);
                let handover = if handed_over { HANDED_OVER / HANDOVER_SECONDS } else { 0.0 };
                orphaned + handover / by_chance(at, side)
            }
            (Some((over, close)), Some((at, side))) if seconds(over, at).abs() < WINDOW => {
                let lag = seconds(over, at);
                let usual = self.coincidence.density(close, side, lag) / by_chance(at, side);
                let goes_on = if lag > 0.0 { self.goes_on(close) / survival(over) } else { ORPHANED };
                usual + goes_on
            }
            (Some((over, _)), Some((at, _))) if at < over => ORPHANED,
            (Some((over, close)), _) => {
                let waited = seconds(over, now).clamp(0.0, WINDOW - 0.001);
                self.coincidence.later(close, waited) / survival(over)
            }
        }
    }

    /// The share of calls whose end has nothing to do with the leg's.
    fn goes_on(&self, close: Close) -> f64 {
        self.coincidence.later(close, WINDOW - 0.001)
    }

    /// Lets a finished leg sharpen what is usual. Only legs tied by circumstances teach about circumstances.
    pub(super) fn learn(&mut self, id: LegId, now: Timestamp) {
        let Some(leg) = self.legs.get(&id) else { return };
        let (Some(second), Some((over, close))) = (&leg.second, leg.over()) else { return };
        if second.candidates.iter().any(|candidate| candidate.tie.is_direct()) {
            return;
        }
        let row = self.with_rivals(id, leg, second, now);
        let unrelated = row.none * self.weigh(leg, second, now).unrelated_of_none();
        let lessons: Vec<_> = row
            .calls
            .iter()
            .filter_map(|(call, share)| {
                let end = self.legs.get(call)?.ended().map(|(at, side)| (side, seconds(over, at)));
                Some((end.filter(|(_, lag)| lag.abs() < WINDOW), *share))
            })
            .collect();
        for (end, share) in lessons {
            self.coincidence.learn(close, end, share);
        }
        let Some(leg) = self.legs.get(&id) else { return };
        // After a failure all goes on as before, more or less, whoever made the leg.
        let telling = leg.answered_at().is_some();
        let (by_number, familiar) =
            leg.second.as_ref().map_or((false, false), |second| (second.by_number, second.familiar));
        let host = leg.caller_host;
        let target = leg.request.clone().filter(|_| telling || !by_number);
        let number = leg.from.as_ref().filter(|_| telling && by_number).map(|from| group_key(host, from));
        if let Some(host) = self.host_mut(host) {
            if let Some(target) = target {
                host.learn_target(target.tail(), familiar, unrelated, 1.0);
            }
            if number.is_some() {
                host.share.learn(unrelated, 1.0);
            }
        }
        if let Some(group) = number.and_then(|number| self.index.group_mut(&number)) {
            group.learn(unrelated);
        }
    }
}

/// Shares of the explanations.
struct Weights {
    unrelated: f64,
    unweighed: f64,
    /// In the order of the candidates.
    calls: Vec<f64>,
}

impl Weights {
    fn scale(&mut self) {
        let all = (self.unrelated + self.unweighed + self.calls.iter().sum::<f64>()).max(f64::MIN_POSITIVE);
        self.unrelated /= all;
        self.unweighed /= all;
        self.calls.iter_mut().for_each(|weight| *weight /= all);
    }

    /// The likely ones; the faint ones go into `none`.
    fn row(&self, second: &Second) -> Row {
        let named = |(candidate, weight): (&Candidate, &f64)| (candidate.call, *weight);
        let mut calls: Vec<_> = second.candidates.iter().zip(&self.calls).map(named).collect();
        calls.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let kept = calls.iter().take(MOST_CALLS).take_while(|(_, weight)| *weight >= FAINT).count();
        let faint: f64 = calls.drain(kept..).map(|(_, weight)| weight).sum();
        Row { none: self.unrelated + self.unweighed + faint, calls }
    }

    /// How much of [`Row::none`] is "unrelated".
    fn unrelated_of_none(&self) -> f64 {
        let mut calls = self.calls.clone();
        calls.sort_by(|a, b| b.total_cmp(a));
        let kept = calls.iter().take(MOST_CALLS).take_while(|weight| **weight >= FAINT).count();
        let none = self.unrelated + self.unweighed + calls[kept..].iter().sum::<f64>();
        if none > 0.0 { self.unrelated / none } else { 0.0 }
    }
}

/// Whether the claim's leg and this one were there at the same time.
fn overlap(leg: &Leg, claim: &Claim) -> bool {
    let over = leg.over().map(|(over, _)| over);
    claim.until.is_none_or(|until| until > leg.invited) && over.is_none_or(|over| over > claim.from)
}

/// What to say of an explanation that likely. Two decimals, downwards: more would feign precision.
fn confidence_of(share: f64) -> f64 {
    let confidence = (1.0 - DOUBT * (1.0 - share)).clamp(0.0, SUREST);
    (confidence * 100.0 + 1e-6).floor() / 100.0
}
