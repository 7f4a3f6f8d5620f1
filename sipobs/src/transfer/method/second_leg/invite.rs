//! The INVITE machine: what a leg to the target has come to, whichever method asked for it.
//!
//! | state | what is awaited | else |
//! |---|---|---|
//! | dialing | anything at all, for 64·T1 | `network_failure` |
//! | challenged | the INVITE with credentials, for 64·T1 | `auth_failed` |
//! | trying, ringing | a final answer | `unknown` |
//! | cancelled | the call's BYE close by: `abandoned` | `no_answer` |
//! | failed | another try | by its status |
//! | acknowledged, its 2xx unseen | | `succeeded`, inferred |
//! | answered, its 2xx repeated | the ACK, for 64·T1 | `network_failure`; `unknown` if it was not repeated for so long |
//! | answered | both legs up for 5 s (second legs only) | `succeeded`; `abandoned` if the call had ended |

use crate::dialog::is_challenge;
use crate::leg::{Final, INVITE_COPIES, Invite, Leg};
use crate::record::{Answered, Evidence, Outcome, Side, UnknownReason};
use crate::timestamp::Timestamp;
use crate::transfer::config::Timers;
use crate::transfer::verdict::{Provisional, Verdict};

/// How soon after an answer that crossed its CANCEL a caller ends the call: as soon as it can.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Where the leg stands.
#[derive(Clone, Copy, Debug)]
enum State {
    Dialing,
    Challenged(Final),
    Proceeding,
    Cancelled(Timestamp, Option<Final>),
    Failed(Final),
    Answered(Final),
    /// Its 2xx was not seen, only the ACK to it.
    Acknowledged(Timestamp),
}

/// What else bears on a leg's verdict.
#[derive(Clone, Copy, Debug)]
pub(in crate::transfer) struct Context {
    /// BYE of the call it belongs to, by a side whose leaving takes the leg with it.
    pub(in crate::transfer) hung_up: Option<Timestamp>,
    /// The call goes on over this leg: it must be bridged to count.
    pub(in crate::transfer) bridge: bool,
    /// Its INVITE has Replaces or Join.
    pub(in crate::transfer) replaces: bool,
    /// The status of another branch, that its CANCEL says it comes of.
    pub(in crate::transfer) cancel_cause: Option<u16>,
}

impl Context {
    /// The leg belongs to no call.
    pub(in crate::transfer) const ALONE: Self =
        Self { hung_up: None, bridge: false, replaces: false, cancel_cause: None };

    /// What a cancelled leg comes to: what its CANCEL says, unless the caller had left before that.
    fn cancelled(self, cancelled: Timestamp, leg: &Leg, timers: &Timers) -> Outcome {
        let said = self.cancel_cause.filter(|_| self.hung_up.is_none_or(|bye| bye > cancelled));
        match said {
            // Another phone of the target took the call: this one did not answer.
            Some(..300) => Outcome::NoAnswer,
            Some(status) => Outcome::of_status(status),
            None if self.left_before(cancelled, leg, timers) => Outcome::Abandoned,
            None => Outcome::NoAnswer,
        }
    }

    /// Whether the BYE of its call explains the leg's CANCEL: a caller who left before it, or just after it, was leaving. But
    /// a CANCEL after whole seconds is a ring timer's, if the BYE came after it.
    fn left_before(self, cancelled: Timestamp, leg: &Leg, timers: &Timers) -> bool {
        // Of a CANCEL that was not captured it is not known how long before the BYE it was, nor whether there was one.
        let seen = leg.bye.is_set() || leg.invite.as_ref().is_some_and(|invite| invite.cancelled.is_set());
        let by_timer = !seen || leg.is_cancelled_on_the_second(cancelled);
        let soon = |bye: Timestamp| bye.since(cancelled) <= timers.abandoned;
        self.hung_up.is_some_and(|bye| bye <= cancelled || soon(bye) && !by_timer)
    }
}

/// The verdict on `leg` as it stands; `None` for one without an INVITE.
pub(in crate::transfer) fn evaluate(leg: &Leg, context: Context, timers: &Timers) -> Option<Provisional> {
    let invite = leg.invite.as_ref()?;
    Some(match State::of(leg, invite) {
        State::Dialing => Provisional {
            at: invite.tried + timers.transaction,
            verdict: Verdict {
                early: invite.copies < INVITE_COPIES,
                ..Verdict::silence(Outcome::NetworkFailure)
            },
        },
        State::Challenged(answer) => Provisional {
            at: answer.time + timers.transaction,
            // Credentials that were asked for again were not good.
            verdict: Verdict {
                silence: true,
                early: invite.challenges < 2,
                ..by(leg, answer, Outcome::AuthFailed)
            },
        },
        State::Proceeding => Provisional {
            at: leg.seen + timers.ringing,
            verdict: Verdict::unknown(UnknownReason::NoFinalAnswer),
        },
        State::Cancelled(cancelled, answer) => {
            let outcome = context.cancelled(cancelled, leg, timers);
            match answer {
                Some(answer) => {
                    let at = cancelled + timers.abandoned;
                    let mut verdict = by(leg, answer, outcome);
                    if !matches!(outcome, Outcome::NoAnswer | Outcome::Abandoned) {
                        verdict.evidence = Evidence::Inferred;
                    }
                    Provisional { at: at.max(answer.time), verdict }
                }
                None => Provisional {
                    at: cancelled + timers.transaction,
                    verdict: Verdict::seen(outcome, Evidence::Inferred, cancelled),
                },
            }
        }
        State::Failed(answer) => {
            let outcome = match answer.status {
                481 if context.replaces => Outcome::DialogGone,
                status => Outcome::of_status(status),
            };
            let wait = if answer.status < 400 { timers.target } else { timers.grace };
            Provisional { at: answer.time + wait, verdict: by(leg, answer, outcome) }
        }
        State::Answered(answer) => answered(leg, invite, answer, context, timers),
        State::Acknowledged(time) => Provisional {
            at: time + timers.bridged,
            verdict: Verdict::seen(Outcome::Succeeded, Evidence::Inferred, time),
        },
    })
}

fn answered(leg: &Leg, invite: &Invite, answer: Final, context: Context, timers: &Timers) -> Provisional {
    if context.bridge && context.hung_up.is_some_and(|bye| bye <= answer.time) {
        return Provisional { at: answer.time, verdict: by(leg, answer, Outcome::Abandoned) };
    }
    if invite.is_unacknowledged() {
        let verdict = match invite.is_given_up() {
            true => Verdict { evidence: Evidence::Inferred, ..by(leg, answer, Outcome::NetworkFailure) },
            false => Verdict {
                because: Some(UnknownReason::Unacknowledged.into()),
                ..by(leg, answer, Outcome::Unknown)
            },
        };
        return Provisional { at: answer.time + timers.transaction, verdict };
    }
    let evidence = if invite.acknowledged.is_set() { Evidence::Confirmed } else { Evidence::Inferred };
    let mut verdict = Verdict { evidence, ..by(leg, answer, Outcome::Succeeded) };
    let awaited = match invite.acknowledged.get() {
        Some(time) => time,
        None => answer.time + timers.transaction,
    };
    if !context.bridge {
        return Provisional { at: awaited, verdict };
    }
    // Answered it was; bridged for less than that it is only likely.
    let ends = [context.hung_up, leg.bye.get()];
    match ends.into_iter().flatten().min() {
        Some(end) if end.since(answer.time) < timers.bridged => {
            verdict.evidence = Evidence::Inferred;
            Provisional { at: end + timers.grace, verdict }
        }
        _ => Provisional { at: answer.time + timers.bridged, verdict },
    }
}

impl State {
    fn of(leg: &Leg, invite: &Invite) -> Self {
        // A BYE before the answer takes an early dialog down like a CANCEL (RFC 3261 §15).
        let early_bye = leg.bye.get().filter(|_| !leg.answered.is_set());
        let cancelled = invite.cancelled.get().or(early_bye);
        match (invite.answer(), cancelled) {
            (Some(answer), Some(time)) if answer.status < 300 && is_taken_back(leg, answer, time) => {
                Self::Cancelled(time, None)
            }
            (Some(answer), _) if answer.status < 300 => Self::Answered(answer),
            // Its CANCEL may not have been captured.
            (Some(answer), time) if answer.status == 487 => {
                Self::Cancelled(time.unwrap_or(answer.time), Some(answer))
            }
            (Some(answer), _) if is_challenge(answer.status) => Self::Challenged(answer),
            (Some(answer), _) => Self::Failed(answer),
            (None, _) if leg.answered.is_set() => {
                Self::Acknowledged(leg.answered.get().unwrap_or(invite.tried))
            }
            (None, Some(time)) => Self::Cancelled(time, None),
            (None, None) if !invite.heard => Self::Dialing,
            (None, None) => Self::Proceeding,
        }
    }
}

/// Whether an answer crossed the CANCEL: the caller ends at once what it did not want any more (RFC 3261 §9.1).
fn is_taken_back(leg: &Leg, answer: Final, cancelled: Timestamp) -> bool {
    let at_once = |(bye, side): (Timestamp, Side)| side == Side::Caller && bye.since(answer.time) <= AT_ONCE;
    cancelled <= answer.time && leg.ended().is_some_and(at_once)
}

fn by(leg: &Leg, answer: Final, outcome: Outcome) -> Verdict {
    Verdict::seen(outcome, Evidence::Confirmed, answer.time).status(
        answer.status,
        &leg.phrase(),
        Answered::Target,
    )
}
