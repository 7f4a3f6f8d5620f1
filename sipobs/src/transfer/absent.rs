//! The REFER-absent BYE, call by call: fact, method switched, suspected. The fourth level, the ratio, looks
//! at a trunk's calls together and is [`super::ratio`]'s.
//!
//! Every ordinary hang-up is a BYE without REFER, so the fact alone says nothing and never alerts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::{AbsentSignal, Method, ReferAbsent, Side, Signal};
use crate::timestamp::Timestamp;

/// When a missing REFER is worth a word. Weights are heuristics, to be tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AbsentConfig {
    /// Answered calls shorter than this say nothing.
    #[serde(with = "crate::duration")]
    pub min_call: Duration,
    /// A second leg counts from so long before the BYE …
    #[serde(with = "crate::duration")]
    pub before_bye: Duration,
    /// … to so long after it.
    #[serde(with = "crate::duration")]
    pub after_bye: Duration,
    /// A call whose signals sum to this is suspected.
    pub suspected_at: f64,
    /// REFERs per call from which a trunk counts as one that transfers by REFER.
    pub refer_ratio: f64,
    /// What each signal adds.
    pub weights: Weights,
}

/// What each signal adds to the score of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// A second leg failed and none succeeded after it.
    pub failed_second_leg: f64,
    /// The call was on hold when it ended.
    pub hold_unresolved: f64,
    /// REFER is the declared expectation for this trunk or number.
    pub refer_expected: f64,
    /// The trunk's calls are often transferred by REFER.
    pub trunk_refers: f64,
    /// The agent's side sent the BYE.
    pub bye_from_agent: f64,
    /// The BYE's Reason is not Q.850 16, normal clearing.
    pub bye_reason: f64,
    /// The peer's Allow lacks REFER, so nobody could have sent it one.
    pub refer_not_allowed: f64,
}

impl Default for AbsentConfig {
    fn default() -> Self {
        Self {
            min_call: Duration::from_secs(10),
            before_bye: Duration::from_secs(120),
            after_bye: Duration::from_secs(5),
            suspected_at: 3.0,
            refer_ratio: 0.1,
            weights: Weights::default(),
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            failed_second_leg: 3.0,
            hold_unresolved: 2.0,
            refer_expected: 1.0,
            trunk_refers: 1.0,
            bye_from_agent: 0.5,
            bye_reason: -1.0,
            refer_not_allowed: -2.0,
        }
    }
}

/// An ended call, as far as the question goes.
#[derive(Clone, Debug)]
pub struct EndedCall<'a> {
    /// The 2xx to its INVITE; `None` if it was never confirmed.
    pub answered: Option<Timestamp>,
    /// Its BYE; `None` when something else ended it.
    pub bye: Option<Timestamp>,
    /// Who sent the BYE.
    pub ended_by: Option<Side>,
    /// Which end is the agent's, the other being the trunk; `None` if that can't be told.
    pub agent: Option<Side>,
    /// A REFER (in the dialog or by Target-Dialog), an Also, or a REFER-to-BYE was seen.
    pub transferred: bool,
    /// The second legs tied to this call, in the order they began.
    pub second_legs: &'a [SecondLeg],
    /// A second leg would have been seen from here.
    pub second_leg_visible: bool,
    /// The call was held and not resumed.
    pub held: bool,
    /// The method declared for its trunk or number.
    pub expected: Option<Method>,
    /// The method that the trunk's baseline shows: [`super::ratio::Ratio::usual`].
    pub usual: Option<Method>,
    /// REFERs per call in the trunk's baseline: [`super::ratio::Ratio::baseline`].
    pub refer_ratio: Option<f64>,
    /// The Q.850 cause in the BYE's Reason (RFC 3326).
    pub bye_cause: Option<u16>,
    /// The trunk side's Allow was seen and lacks REFER.
    pub refer_not_allowed: bool,
}

/// A second leg tied to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondLeg {
    /// Its first INVITE.
    pub started: Timestamp,
    /// Whether it was answered (2xx), or failed; `None` while open.
    pub answered: Option<bool>,
}

/// Judges ended calls.
#[derive(Clone, Debug, Default)]
pub struct Absent {
    config: AbsentConfig,
}

impl Absent {
    /// A judge by `config`.
    pub fn new(config: AbsentConfig) -> Self {
        Self { config }
    }

    /// Whether a REFER might have been expected in `call` and did not come.
    pub fn judge(&self, call: &EndedCall<'_>) -> ReferAbsent {
        let (Some(answered), Some(bye)) = (call.answered, call.bye) else { return ReferAbsent::No };
        if call.transferred {
            return ReferAbsent::No;
        }
        let from = bye - self.config.before_bye;
        let until = bye + self.config.after_bye;
        let second_legs = || call.second_legs.iter().filter(move |leg| (from..=until).contains(&leg.started));
        let has_second_leg = second_legs().next().is_some();

        let by_refer = call.expected.or(call.usual) == Some(Method::Refer);
        if has_second_leg && by_refer {
            return ReferAbsent::MethodSwitched;
        }
        // Where second legs are the way to transfer, none of this is about a missing REFER.
        let failed = second_legs().next_back().is_some_and(|leg| leg.answered == Some(false))
            && call.expected != Some(Method::Invite);
        if has_second_leg && !failed {
            return ReferAbsent::No;
        }
        // A failed second leg shows that a transfer was wanted, however short the call.
        if !failed && bye.since(answered) < self.config.min_call {
            return ReferAbsent::No;
        }
        let signals = self.signals(call, failed);
        let score: f64 = signals.iter().map(|signal| signal.weight).sum();
        if score >= self.config.suspected_at {
            return ReferAbsent::Suspected { score, signals };
        }
        // With a second leg in sight the call is not one that just ended.
        if failed {
            return ReferAbsent::No;
        }
        ReferAbsent::Fact { invite_unknown: !call.second_leg_visible }
    }

    fn signals(&self, call: &EndedCall<'_>, failed_second_leg: bool) -> Vec<Signal> {
        let weights = &self.config.weights;
        [
            (AbsentSignal::FailedSecondLeg, weights.failed_second_leg, failed_second_leg),
            (AbsentSignal::HoldUnresolved, weights.hold_unresolved, call.held),
            (AbsentSignal::ReferExpected, weights.refer_expected, call.expected == Some(Method::Refer)),
            (
                AbsentSignal::TrunkRefers,
                weights.trunk_refers,
                call.refer_ratio.is_some_and(|p| p >= self.config.refer_ratio),
            ),
            (
                AbsentSignal::ByeFromAgent,
                weights.bye_from_agent,
                call.ended_by.is_some() && call.ended_by == call.agent,
            ),
            (AbsentSignal::ByeReason, weights.bye_reason, call.bye_cause.is_some_and(|cause| cause != 16)),
            (AbsentSignal::ReferNotAllowed, weights.refer_not_allowed, call.refer_not_allowed),
        ]
        .into_iter()
        .filter(|(_, _, seen)| *seen)
        .map(|(name, weight, _)| Signal { name, weight })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn call() -> EndedCall<'static> {
        EndedCall {
            answered: Some(at(0)),
            bye: Some(at(300)),
            ended_by: Some(Side::Caller),
            agent: Some(Side::Callee),
            transferred: false,
            second_legs: &[],
            second_leg_visible: true,
            held: false,
            expected: None,
            usual: None,
            refer_ratio: None,
            bye_cause: None,
            refer_not_allowed: false,
        }
    }

    fn judge(call: &EndedCall<'_>) -> ReferAbsent {
        Absent::default().judge(call)
    }

    const FACT: ReferAbsent = ReferAbsent::Fact { invite_unknown: false };

    #[test]
    fn an_ordinary_hang_up_is_a_fact() {
        assert_eq!(judge(&call()), FACT);
        assert_eq!(judge(&EndedCall { ended_by: Some(Side::Callee), ..call() }), FACT);
        let half_blind = EndedCall { second_leg_visible: false, ..call() };
        assert_eq!(judge(&half_blind), ReferAbsent::Fact { invite_unknown: true });
    }

    #[test]
    fn short_unanswered_and_transferred_calls_are_not() {
        assert_eq!(judge(&EndedCall { bye: Some(at(9)), ..call() }), ReferAbsent::No);
        assert_eq!(judge(&EndedCall { bye: Some(at(10)), ..call() }), FACT);
        assert_eq!(judge(&EndedCall { answered: None, ..call() }), ReferAbsent::No);
        assert_eq!(judge(&EndedCall { bye: None, ..call() }), ReferAbsent::No);
        assert_eq!(judge(&EndedCall { transferred: true, ..call() }), ReferAbsent::No);
    }

    #[test]
    fn a_second_leg_where_refer_is_usual_or_declared_is_a_switched_method() {
        let legs = [SecondLeg { started: at(295), answered: Some(true) }];
        let call = EndedCall { second_legs: &legs, ..call() };
        assert_eq!(judge(&call), ReferAbsent::No);
        let usual = EndedCall { usual: Some(Method::Refer), ..call.clone() };
        assert_eq!(judge(&usual), ReferAbsent::MethodSwitched);
        let declared = EndedCall { expected: Some(Method::Refer), ..call.clone() };
        assert_eq!(judge(&declared), ReferAbsent::MethodSwitched);
        // What was declared outweighs what was usual.
        let moved = EndedCall { expected: Some(Method::Invite), usual: Some(Method::Refer), ..call };
        assert_eq!(judge(&moved), ReferAbsent::No);
    }

    #[test]
    fn only_second_legs_near_the_bye_count() {
        for (started, near) in [(179, false), (180, true), (305, true), (306, false)] {
            let legs = [SecondLeg { started: at(started), answered: Some(true) }];
            let call = EndedCall { second_legs: &legs, usual: Some(Method::Refer), ..call() };
            let wanted = if near { ReferAbsent::MethodSwitched } else { FACT };
            assert_eq!(judge(&call), wanted, "{started}");
        }
    }

    #[test]
    fn a_failed_second_leg_alone_is_suspected() {
        let legs = [SecondLeg { started: at(2), answered: Some(false) }];
        let call = EndedCall { bye: Some(at(6)), second_legs: &legs, ..call() };
        let signals = vec![Signal { name: AbsentSignal::FailedSecondLeg, weight: 3.0 }];
        assert_eq!(judge(&call), ReferAbsent::Suspected { score: 3.0, signals });
        let legs = [legs[0], SecondLeg { started: at(4), answered: Some(true) }];
        assert_eq!(judge(&EndedCall { second_legs: &legs, ..call.clone() }), ReferAbsent::No);
        let by_invite = EndedCall { expected: Some(Method::Invite), ..call };
        assert_eq!(judge(&by_invite), ReferAbsent::No);
    }

    #[test]
    fn signals_add_up() {
        let suspected = EndedCall {
            held: true,
            refer_ratio: Some(0.1),
            ended_by: Some(Side::Callee),
            bye_cause: Some(16),
            ..call()
        };
        let ReferAbsent::Suspected { score, signals } = judge(&suspected) else { panic!("not suspected") };
        let names: Vec<_> = signals.iter().map(|signal| signal.name).collect();
        assert_eq!(
            (score, names),
            (3.5, vec![AbsentSignal::HoldUnresolved, AbsentSignal::TrunkRefers, AbsentSignal::ByeFromAgent])
        );
        // Each of these takes it below 3 again.
        assert_eq!(judge(&EndedCall { bye_cause: Some(38), ..suspected.clone() }), FACT);
        assert_eq!(judge(&EndedCall { refer_not_allowed: true, ..suspected.clone() }), FACT);
        assert_eq!(judge(&EndedCall { refer_ratio: Some(0.09), ..suspected.clone() }), FACT);
        assert_eq!(judge(&EndedCall { held: false, ..suspected }), FACT);
    }

    #[test]
    fn weights_are_configuration() {
        let config: AbsentConfig = toml::from_str("[weights]\nhold_unresolved = 3").unwrap();
        let held = EndedCall { held: true, ..call() };
        assert!(matches!(Absent::new(config).judge(&held), ReferAbsent::Suspected { .. }));
        assert!(toml::from_str::<AbsentConfig>("[weights]\nholds = 3").is_err());
    }
}
