//! The second-leg INVITE machine: what a leg to the target has come to.
//!
//! | state | what is awaited | else |
//! |---|---|---|
//! | dialing | anything at all, for 64·T1 | `network_failure` |
//! | challenged | the INVITE with credentials, for 64·T1 | `auth_failed` |
//! | trying, ringing | a final answer | `unknown` |
//! | cancelled | the call's BYE close by: `abandoned` | `no_answer` |
//! | failed | another try | by its status |
//! | acknowledged, its 2xx unseen | | `succeeded`, inferred |
//! | answered | both legs up for 5 s (second legs only) | `succeeded`; `abandoned` if the call had ended |

use super::config::Timers;
use super::diagnosis::Answer as Answered;
use super::verdict::{Stand, Verdict};
use super::{Evidence, Outcome};
use crate::dialog::{Answer, Invite, Leg, is_challenge};
use crate::timestamp::Timestamp;

/// Copies of an INVITE over UDP until its client gives up: at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s.
const COPIES: u32 = 7;

/// Where the leg stands.
#[derive(Clone, Copy, Debug)]
enum State<'a> {
    Dialing,
    Challenged(&'a Answer),
    Proceeding,
    Cancelled(Timestamp, Option<&'a Answer>),
    Failed(&'a Answer),
    Answered(&'a Answer),
    /// Its 2xx was not seen, only the ACK to it.
    Acknowledged(Timestamp),
}

/// What else bears on a leg's verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// BYE of the call it belongs to, by a side whose leaving takes the leg with it.
    pub(super) hung_up: Option<Timestamp>,
    /// The call goes on over this leg: it must be bridged to count.
    pub(super) bridge: bool,
    /// Its INVITE has Replaces or Join.
    pub(super) replaces: bool,
}

/// The verdict on `leg` as it stands.
pub(super) fn stand(leg: &Leg, context: Context, timers: &Timers) -> Option<Stand> {
    let invite = leg.invite.as_ref()?;
    Some(match State::of(leg, invite) {
        State::Dialing => Stand {
            at: invite.tried + timers.transaction,
            verdict: Verdict { early: invite.copies < COPIES, ..Verdict::silence(Outcome::NetworkFailure) },
        },
        State::Challenged(answer) => Stand {
            at: answer.time + timers.transaction,
            // Credentials that were asked for again were not good.
            verdict: Verdict {
                silence: true,
                early: invite.challenges < 2,
                ..by(answer, Outcome::AuthFailed)
            },
        },
        State::Proceeding => Stand {
            at: leg.seen + timers.ringing,
            verdict: Verdict::unknown("the target leg never got a final answer"),
        },
        State::Cancelled(cancelled, answer) => {
            // Gone before, the caller can't be who did not get an answer; gone soon after, it was on its way out.
            let near = context
                .hung_up
                .is_some_and(|bye| bye <= cancelled || bye.since(cancelled) <= timers.abandoned);
            let outcome = if near { Outcome::Abandoned } else { Outcome::NoAnswer };
            match answer {
                Some(answer) => {
                    let at = cancelled + timers.abandoned;
                    Stand { at: at.max(answer.time), verdict: by(answer, outcome) }
                }
                None => Stand {
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
            Stand { at: answer.time + wait, verdict: by(answer, outcome) }
        }
        State::Answered(answer) => answered(leg, invite, answer, context, timers),
        State::Acknowledged(time) => Stand {
            at: time + timers.bridged,
            verdict: Verdict::seen(Outcome::Succeeded, Evidence::Inferred, time),
        },
    })
}

fn answered(leg: &Leg, invite: &Invite, answer: &Answer, context: Context, timers: &Timers) -> Stand {
    if context.bridge && context.hung_up.is_some_and(|bye| bye <= answer.time) {
        return Stand { at: answer.time, verdict: by(answer, Outcome::Abandoned) };
    }
    let evidence = if invite.acknowledged.is_some() { Evidence::Confirmed } else { Evidence::Inferred };
    let mut verdict = Verdict { evidence, ..by(answer, Outcome::Succeeded) };
    let awaited = match invite.acknowledged {
        Some(time) => time,
        None => answer.time + timers.transaction,
    };
    if !context.bridge {
        return Stand { at: awaited, verdict };
    }
    // Answered it was; bridged for less than that it is only likely.
    let ends = [context.hung_up, leg.bye.map(|(time, _)| time)];
    match ends.into_iter().flatten().min() {
        Some(end) if end.since(answer.time) < timers.bridged => {
            verdict.evidence = Evidence::Inferred;
            Stand { at: end + timers.grace, verdict }
        }
        _ => Stand { at: answer.time + timers.bridged, verdict },
    }
}

/// Whether a CANCEL at `time` looks like a ring timer's: those run for full five seconds (30 s, mostly) from the
/// first INVITE.
pub(super) fn is_ring_timer(time: Timestamp, invite: &Invite) -> bool {
    let ran = time.since(invite.first).as_millis();
    ran >= 4900 && !(100..4900).contains(&(ran % 5000))
}

impl<'a> State<'a> {
    fn of(leg: &Leg, invite: &'a Invite) -> Self {
        // A BYE before the answer takes an early dialog down like a CANCEL (RFC 3261 §15).
        let early_bye = leg.bye.map(|(time, _)| time).filter(|_| leg.answered.is_none());
        let cancelled = invite.cancelled.or(early_bye);
        match (&invite.answer, cancelled) {
            (Some(answer), _) if answer.status < 300 => Self::Answered(answer),
            (Some(answer), Some(time)) if answer.status == 487 => Self::Cancelled(time, Some(answer)),
            (Some(answer), _) if is_challenge(answer.status) => Self::Challenged(answer),
            (Some(answer), _) => Self::Failed(answer),
            (None, _) if leg.answered.is_some() => Self::Acknowledged(leg.answered.unwrap_or(invite.tried)),
            (None, Some(time)) => Self::Cancelled(time, None),
            (None, None) if invite.heard.is_none() => Self::Dialing,
            (None, None) => Self::Proceeding,
        }
    }
}

fn by(answer: &Answer, outcome: Outcome) -> Verdict {
    Verdict::seen(outcome, Evidence::Confirmed, answer.time).status(
        answer.status,
        &answer.reason,
        Answered::Target,
    )
}
