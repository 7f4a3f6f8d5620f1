//! From evidence to a verdict.
//!
//! The candidates and "unrelated" are rival explanations of what was seen. Each starts with a share: that of
//! unrelated legs as learnt at this number, the rest spread over the candidates by their ties. Each is then
//! multiplied by how much likelier it makes what became of the candidates than if they had nothing to do with
//! the leg ([`Links::likelihood`]); what is left after scaling to 1 is the confidence.

use std::borrow::Cow;
use std::ops::Bound;

use super::assign::{Row, assign};
use super::end_lag::{Close, WINDOW};
use super::evidence::{Candidate, Evidence, called, from, seconds};
use super::index::{By, Key};
use super::number_stats::NumberStats;
use super::second::Second;
use super::state::{State, answered_at, ended, is_silent, is_unheard, over};
use super::{Decision, Links};
use crate::leg::{Claim, Leg, LegId, Legs, Party};
use crate::record::{Link, LinkMethod};
use crate::timestamp::Timestamp;

/// A leg that is up while its call has ended: the platform lost track of it.
const ORPHANED: f64 = 0.02;
/// Share of calls that end within this many seconds of the target's answer, because they were handed over.
const HANDED_OVER: f64 = 0.05;
const HANDOVER_SECONDS: f64 = 3.0;
/// Rivals and calls considered jointly; so many rivals that ended before, and as many that ended later.
const MOST_RIVALS: usize = 24;
const MOST_CALLS: usize = 12;
/// Legs of one fork begin within so many seconds.
const TOGETHER: f64 = 0.25;
/// Explanations less likely than this are left out.
const FAINT: f64 = 0.004;
/// How many times a doubt counts: the model is not the world, and links at 0.8 shall hold far oftener than that.
const DOUBT: f64 = 5.0;
/// Nothing is surer than this.
const SUREST: f64 = 0.99;
/// Nor that a leg is a call's which shows a number for its caller, where the leg hides it.
const HIDDEN: f64 = 0.75;
const MOST_NAMED: usize = 8;

impl Links {
    /// When nothing more that matters can come.
    pub(super) fn due(&self, legs: &Legs, leg: &Leg, second: &Second) -> Timestamp {
        if second.is_direct() {
            return leg.started;
        }
        match State::of(leg) {
            State::Dialing => leg.started + self.patience,
            // What becomes of a lone call after a failed leg tells nothing.
            State::Failed { at, .. }
                if second.is_alone()
                    && confidence_of(self.prior(legs, leg, second)) >= self.config.link_at =>
            {
                at
            }
            State::Failed { at, .. } => at + self.settle,
            State::Answered { at, ended: None } if self.prior(legs, leg, second) >= SUREST => at,
            State::Answered { at, ended: None } => at + self.patience,
            State::Answered { ended: Some((at, _)), .. } => at + self.settle,
        }
    }

    /// Until when an undecided leg is waited for; `None` once it has to be decided. Whatever may still come of
    /// the leg, a call that ended long ago gets its verdict.
    pub(super) fn until(&self, legs: &Legs, leg: &Leg, second: &Second, now: Timestamp) -> Option<Timestamp> {
        let due = self.due(legs, leg, second);
        let all = self.all_gone_at(legs, second);
        if due.min(all.unwrap_or(due)) <= now {
            return None;
        }
        let owners =
            second.candidates.iter().filter(|candidate| Self::may_have_gone(legs, leg, second, candidate));
        let ends: Vec<_> =
            owners.filter_map(|owner| Some((owner.call, self.gone_at(legs, owner.call)?))).collect();
        let gone = |call| ends.iter().any(|(known, at)| *known == call && *at <= now);
        if ends.iter().any(|(_, at)| *at <= now)
            && matches!(self.verdict(legs, leg, second, now), Decision::Linked { call, .. } if gone(call))
        {
            return None;
        }
        let ends = ends.iter().map(|(_, at)| *at).chain(all);
        Some(ends.filter(|at| *at > now).fold(due, Timestamp::min))
    }

    /// Whether the end of `call` can bring the verdict on an undecided leg forward.
    pub(super) fn is_hurried_by(&self, legs: &Legs, leg: &Leg, second: &Second, call: LegId) -> bool {
        let own = second.candidates.iter().find(|candidate| candidate.call == call);
        own.is_some_and(|candidate| Self::may_have_gone(legs, leg, second, candidate))
            || self.all_gone_at(legs, second).is_some()
    }

    /// Whether the leg may be that of a call which has ended. Among many that are up it is not, unless more than
    /// host and number ties it, or the call was handed over.
    fn may_have_gone(legs: &Legs, leg: &Leg, second: &Second, candidate: &Candidate) -> bool {
        let ended = legs.get(candidate.call).and_then(ended);
        ended.is_some_and(|(ended, _)| {
            second.candidates.len() <= MOST_CALLS
                || candidate.evidence > Evidence::HostNumber
                || answered_at(leg).is_some_and(|at| (0.0..HANDOVER_SECONDS).contains(&seconds(at, ended)))
        })
    }

    /// When nothing more is waited for that has to do with any call it could belong to.
    pub(super) fn all_gone_at(&self, legs: &Legs, second: &Second) -> Option<Timestamp> {
        let ends = second.candidates.iter().rev().map(|candidate| self.gone_at(legs, candidate.call));
        let last = ends.collect::<Option<Vec<_>>>()?.into_iter().max();
        last.filter(|_| second.unweighed == 0)
    }

    /// When nothing more is waited for that has to do with a call.
    fn gone_at(&self, legs: &Legs, call: LegId) -> Option<Timestamp> {
        Some(ended(legs.get(call)?)?.0 + self.gone)
    }

    /// The verdict by what is known at `now`.
    pub(super) fn verdict(&self, legs: &Legs, leg: &Leg, second: &Second, now: Timestamp) -> Decision {
        if !legs.vouches_for(leg) {
            return Decision::No;
        }
        let posterior = self.among_rivals(legs, leg, second, now);
        let Some((call, share)) = posterior.calls.first().copied() else { return Decision::No };
        let candidate = second.candidates.iter().find(|candidate| candidate.call == call);
        let most = if candidate.is_some_and(Candidate::hides_its_caller) { HIDDEN } else { SUREST };
        let confidence = confidence_of(share).min(most);
        if let Some(candidate) = candidate.filter(|_| confidence >= self.config.link_at) {
            let method = match candidate.evidence {
                Evidence::HostNumber if !second.is_alone() => LinkMethod::HostNumberTime,
                evidence => evidence.method(),
            };
            let link = Link { method, confidence, candidates: Vec::new() };
            return Decision::Linked { call, refer: candidate.refer, link };
        }
        // With one candidate the question is not whose leg it is, but whether it is one at all.
        let unrelated_at = if second.is_alone() { 0.5 } else { self.config.unrelated_at };
        if posterior.unrelated >= unrelated_at {
            return Decision::No;
        }
        let call_id = |(call, _): &(LegId, f64)| legs.get(*call).map(|leg| leg.call_id_text().into_owned());
        let candidates = posterior.calls.iter().take(MOST_NAMED).filter_map(call_id).collect();
        let asked = |call| second.candidates.iter().any(|known| known.call == call && known.refer.is_some());
        let referred = posterior.calls.iter().all(|(call, _)| asked(*call));
        Decision::Ambiguous { link: Link { method: LinkMethod::Ambiguous, confidence, candidates }, referred }
    }

    /// How likely each explanation is, other legs considered.
    fn among_rivals(&self, legs: &Legs, leg: &Leg, second: &Second, now: Timestamp) -> Posterior {
        let mut own = self.alone(legs, leg, second, now);
        for (call, share) in &mut own.calls {
            let Some(known) = second.candidates.iter().find(|known| known.call == *call) else { continue };
            let claims = legs.get(*call).and_then(Leg::rare).map_or(&[][..], |rare| &rare.claims);
            let claims = claims.iter().filter(|claim| claim.by != leg.id && overlap(leg, claim));
            let from = |id| legs.get(id).map(|leg| leg.hosts.0);
            let forked = |claim: &Claim| second.is_alone() && together(leg.started, claim.from);
            let taken = |claim: &Claim| match known.refer {
                // A REFER asks for one leg at a time, unless whoever was asked forks it.
                Some(_) => {
                    claim.refer == known.refer && !(forked(claim) && from(claim.by) == Some(leg.hosts.0))
                }
                // What is named is named, whatever other leg the call has: a consultation before a REFER.
                None if known.evidence.is_direct() => false,
                None => !forked(claim),
            };
            if claims.into_iter().any(taken) {
                *share = 0.0;
            }
        }
        let rivals: Vec<Row> = self
            .rivals(legs, leg)
            .into_iter()
            .filter_map(|rival| self.second(legs, rival))
            // One that has been linked made its claim.
            .filter(|(_, rival)| !rival.is_linked())
            .filter(|(rival, alone)| {
                !(second.is_alone() && alone.is_alone() && together(leg.started, rival.started))
            })
            .map(|(rival, second)| self.alone(legs, rival, second, now).row(&own.calls))
            .filter(|row| row.calls.iter().any(|share| *share > 0.0))
            .collect();
        let judged = assign(&own.row(&own.calls), &rivals);
        let none = own.unrelated + own.rest;
        let scale = if none > 0.0 { judged.none / none } else { 0.0 };
        own.unrelated *= scale;
        own.rest *= scale;
        own.calls.iter_mut().zip(judged.calls).for_each(|((_, share), judged)| *share = judged);
        own.sort();
        own
    }

    /// Legs from the same host that were up at the same time and ended at about the same time, the nearest.
    pub(super) fn rivals(&self, legs: &Legs, leg: &Leg) -> Vec<LegId> {
        let Some((over, _)) = over(leg) else { return Vec::new() };
        let (host, reach) = (leg.hosts.0, self.settle + self.settle);
        let own = (host, over, leg.id);
        let before = self.over.range((host, over - reach, LegId::MIN)..own).rev();
        let after = (Bound::Excluded(own), Bound::Excluded((host, over + reach, LegId::MAX)));
        let near = before.take(MOST_RIVALS).chain(self.over.range(after).take(MOST_RIVALS));
        near.filter(|(_, rival_over, rival)| {
            let began = legs.get(*rival).map(|rival| rival.started);
            *rival_over > leg.started && began.is_some_and(|began| began < over)
        })
        .map(|(.., rival)| *rival)
        .collect()
    }

    /// Keeps what a leg says for itself once nothing more can come: its rivals will ask.
    pub(super) fn keep_posterior(&mut self, legs: &Legs, id: LegId, now: Timestamp) {
        let Some((leg, second)) = self.second(legs, id) else { return };
        let settled = over(leg).is_some_and(|(over, _)| over + self.settle <= now);
        if second.posterior.is_some() || !settled {
            return;
        }
        let posterior = self.alone(legs, leg, second, now);
        if let Some(second) = self.second_mut(legs, id) {
            second.posterior = Some(posterior);
        }
    }

    /// How likely each explanation is, as if there were no other leg.
    fn alone(&self, legs: &Legs, leg: &Leg, second: &Second, now: Timestamp) -> Posterior {
        second.posterior.clone().unwrap_or_else(|| self.weigh(legs, leg, second, now).posterior(second))
    }

    /// The same, and every candidate's share.
    fn weigh(&self, legs: &Legs, leg: &Leg, second: &Second, now: Timestamp) -> Weights {
        let direct = second.is_direct();
        let mut weights = self.prior_weights(legs, leg, second);
        let own = self.own_number(legs, leg).and_then(|key| self.index.stats(legs, key));
        for (weight, candidate) in weights.calls.iter_mut().zip(&second.candidates) {
            // Whose call is named needs no circumstances; and a call may well end long before the leg that a
            // REFER in it asked for.
            if let (false, Some(call)) = (direct, legs.get(candidate.call)) {
                *weight *= match &own {
                    Some(stats) => self.likelihood(stats, leg, call, now),
                    None => self.likelihood(&self.stats_of(legs, leg, call), leg, call, now),
                };
            }
        }
        weights.scale();
        weights
    }

    /// The likeliest call's share before anything became of the leg.
    fn prior(&self, legs: &Legs, leg: &Leg, second: &Second) -> f64 {
        let mut weights = self.prior_weights(legs, leg, second);
        weights.scale();
        weights.calls.into_iter().fold(0.0, f64::max)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of calls")]
    fn prior_weights(&self, legs: &Legs, leg: &Leg, second: &Second) -> Weights {
        let unrelated = self.unrelated_share(legs, leg, second);
        let each = (1.0 - unrelated) / (second.candidates.len() + second.unweighed) as f64;
        Weights {
            unrelated,
            unweighed: each * second.unweighed as f64,
            calls: second.candidates.iter().map(|candidate| each * candidate.weight).collect(),
        }
    }

    fn unrelated_share(&self, legs: &Legs, leg: &Leg, second: &Second) -> f64 {
        if !second.by_number {
            return self.config.unrelated;
        }
        // Where the moment picks one call out of several, it is the best of many coincidences.
        let base = if second.is_alone() { self.config.unrelated } else { self.config.unrelated_among };
        let platform = self.platforms.get(&leg.hosts.0);
        let above = platform.map_or(base, |platform| platform.share.unrelated(base));
        let stats = self.own_number(legs, leg).and_then(|key| self.index.stats(legs, key));
        let share = stats.map_or(above, |stats| stats.unrelated(above));
        let by_target = platform.map_or(1.0, |platform| platform.unrelated_by_target(second.familiar));
        let odds = share / (1.0 - share) * by_target;
        odds / (1.0 + odds)
    }

    /// The number that a leg shows, as its platform's own.
    fn own_number(&self, legs: &Legs, leg: &Leg) -> Option<Key> {
        from(leg).map(|from| legs.hash_of(By::Called(leg.hosts.0, from.tail())))
    }

    /// What is usual for the number that was called.
    fn stats_of(&self, legs: &Legs, leg: &Leg, call: &Leg) -> Cow<'_, NumberStats> {
        let stats =
            |number: Party| self.index.stats(legs, legs.hash_of(By::Called(leg.hosts.0, number.tail())));
        called(call).find_map(stats).unwrap_or(Cow::Borrowed(&self.unknown))
    }

    /// How many times likelier the fate of `call` is if `leg` is its second leg than if it is not.
    ///
    /// | the leg | the call | as its call | as any other |
    /// |---|---|---|---|
    /// | is up | is up | must be | survived by chance |
    /// | is up | has ended | handed over, or the leg was orphaned | ended by chance |
    /// | ended | ended around then | at the platform's usual lag, from the usual side | ended by chance at that moment |
    /// | was never heard | ended meanwhile | at times | at times |
    /// | ended | goes on | at times | survived by chance |
    fn likelihood(&self, stats: &NumberStats, leg: &Leg, call: &Leg, now: Timestamp) -> f64 {
        let ended = ended(call).filter(|(ended, _)| *ended <= now);
        let survival = |until| stats.survival(seconds(leg.started, until)).max(0.02);
        let by_chance = |at, side| stats.end_rate(side) * survival(at);
        match (over(leg), ended) {
            (None, None) => 1.0 / survival(now),
            // As below, and the capture ends before anybody gives up.
            (None, Some(_)) if is_silent(leg) => 1.0,
            (None, Some((at, side))) => {
                let answered = answered_at(leg).map(|answered| seconds(answered, at));
                let handed_over = answered.is_some_and(|after| (0.0..HANDOVER_SECONDS).contains(&after));
                let close = Close::Hangup;
                // The leg's own end may be on its way.
                let to_come = 1.0 - self.end_lag.later(close, -seconds(at, now).min(WINDOW));
                let orphaned = ORPHANED + to_come.clamp(0.0, 1.0);
                let handover = if handed_over { HANDED_OVER / HANDOVER_SECONDS } else { 0.0 };
                orphaned + handover / by_chance(at, side)
            }
            (Some((over, close)), Some((at, side))) if seconds(over, at).abs() < WINDOW => {
                let lag = seconds(over, at);
                let usual = self.end_lag.density(close, side, lag) / by_chance(at, side);
                let goes_on = if lag > 0.0 { self.goes_on(close) / survival(over) } else { ORPHANED };
                usual + goes_on
            }
            // A platform may go on dialling an unreachable target long after the call is gone.
            (Some((over, _)), Some((at, _))) if at < over && is_unheard(leg) => 1.0,
            (Some((over, _)), Some((at, _))) if at < over => ORPHANED,
            (Some((over, close)), _) => {
                let waited = seconds(over, now).clamp(0.0, WINDOW - 0.001);
                self.end_lag.later(close, waited) / survival(over)
            }
        }
    }

    /// The share of calls whose end has nothing to do with the leg's.
    fn goes_on(&self, close: Close) -> f64 {
        self.end_lag.later(close, WINDOW - 0.001)
    }

    /// Lets a finished leg sharpen what is usual. Only legs tied by circumstances teach about circumstances.
    pub(super) fn learn(&mut self, legs: &Legs, id: LegId, now: Timestamp) {
        let Some((leg, second)) = self.second(legs, id) else { return };
        let Some((over, close)) = over(leg) else { return };
        // A consultation that a REFER handed over is no second leg, and not unrelated either.
        let replaced = legs.hash_of(By::Replaces(legs.hash(leg.call_id())));
        if second.is_direct() || self.index.len(replaced) > 0 {
            return;
        }
        let posterior = self.among_rivals(legs, leg, second, now);
        let (by_number, familiar) = (second.by_number, second.familiar);
        let Some(leg) = legs.get(id) else { return };
        let unrelated = posterior.unrelated;
        for (call, share) in &posterior.calls {
            let Some(call) = legs.get(*call) else { continue };
            let end = ended(call).map(|(at, side)| (side, seconds(over, at)));
            self.end_lag.learn(close, end.filter(|(_, lag)| lag.abs() < WINDOW), *share);
        }
        // After a failure all goes on as before, more or less, whoever made the leg.
        let telling = answered_at(leg).is_some();
        let target = Party::of_uri(leg.first_request()).filter(|_| telling || !by_number);
        let number = self.own_number(legs, leg).filter(|_| telling && by_number);
        if let Some(platform) = self.platform_mut(leg.hosts.0) {
            if let Some(target) = target {
                platform.learn_target(target.tail(), familiar, unrelated, 1.0);
            }
            if number.is_some() {
                platform.share.learn(unrelated, 1.0);
            }
        }
        if let Some(stats) = number.and_then(|number| self.index.stats_mut(legs, number)) {
            stats.learn(unrelated);
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

    /// The likely ones by name, the faint ones as a sum.
    fn posterior(&self, second: &Second) -> Posterior {
        let named = |(candidate, share): (&Candidate, &f64)| (candidate.call, *share);
        let calls = second.candidates.iter().zip(&self.calls).map(named).collect();
        let mut posterior = Posterior { unrelated: self.unrelated, rest: self.unweighed, calls };
        posterior.sort();
        let likely = posterior.calls.iter().take(MOST_CALLS).take_while(|(_, share)| *share >= FAINT).count();
        // Of very many that fit alike each is faint, and yet it is one of them.
        let likely = if likely == 0 { MOST_NAMED.min(posterior.calls.len()) } else { likely };
        posterior.rest += posterior.calls.drain(likely..).map(|(_, share)| share).sum::<f64>();
        posterior
    }
}

/// How likely each explanation of a leg is.
#[derive(Clone, Debug)]
pub(super) struct Posterior {
    unrelated: f64,
    /// All calls not named.
    rest: f64,
    /// Likeliest first.
    calls: Vec<(LegId, f64)>,
}

impl Posterior {
    fn sort(&mut self) {
        self.calls.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }

    /// The shares of these calls.
    fn row(&self, calls: &[(LegId, f64)]) -> Row {
        let share = |call| self.calls.iter().find(|(own, _)| *own == call).map_or(0.0, |(_, share)| *share);
        let calls: Vec<f64> = calls.iter().map(|(call, _)| share(*call)).collect();
        let others = self.calls.iter().map(|(_, share)| share).sum::<f64>() - calls.iter().sum::<f64>();
        Row { none: self.unrelated + self.rest + others.max(0.0), calls }
    }
}

/// Whether two legs began as one: a call has one second leg at a time, unless it forks.
fn together(one: Timestamp, other: Timestamp) -> bool {
    seconds(one, other).abs() < TOGETHER
}

/// Whether the claim's leg and this one were there at the same time.
fn overlap(leg: &Leg, claim: &Claim) -> bool {
    let over = over(leg).map(|(over, _)| over);
    claim.until.is_none_or(|until| until > leg.started) && over.is_none_or(|over| over > claim.from)
}

/// What to say of an explanation that likely. Two decimals, downwards: more would feign precision.
fn confidence_of(share: f64) -> f64 {
    let confidence = (1.0 - DOUBT * (1.0 - share)).clamp(0.0, SUREST);
    (confidence * 100.0 + 1e-6).floor() / 100.0
}
