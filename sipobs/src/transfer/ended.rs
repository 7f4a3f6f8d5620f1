//! Ended calls: their records, and the question of the missing REFER.

use super::absent::EndedCall;
use super::open::Kept;
use super::ratio::RatioCall;
use super::{Call, Output, Quality, ReferAbsent, Seen, Side, Timer, Transfers, facts};
use crate::dialog::{Leg, LegId, Origin};
use crate::timestamp::Timestamp;

impl Transfers {
    /// A leg of which nothing more is expected: told of and forgotten, unless an attempt still needs it.
    pub(super) fn leg_over(&mut self, id: LegId, now: Timestamp) {
        let needed = self
            .calls
            .get(&id)
            .is_some_and(|call| !call.open.is_empty() || call.serves.is_some() || call.second.is_some());
        if needed {
            return self.dialogs.keep(id, now + self.config.timers.grace.max(LEAST));
        }
        self.end_leg(id, now);
    }

    /// Tells of an ended call and forgets it.
    pub(super) fn end_leg(&mut self, id: LegId, now: Timestamp) {
        let Some(leg) = self.dialogs.remove(id) else { return };
        let Some(call) = self.calls.remove(&id) else { return };
        self.links.forget(id);
        if let Some(due) = call.second.as_ref().and_then(|second| second.due) {
            self.timers.remove(&(due, Timer::Second(id)));
        }
        let Some(ended) = end_of(&leg, now, self.config.timers.transaction) else { return };
        let quality = self.losses.since(&call.mark);
        let trunk = self.trunks.name(call.trunk).to_owned();
        let refer_absent = self.refer_absent(&leg, &call, &trunk);
        let parties = leg.parties();
        let record = Call {
            call_id: leg.call_id.clone(),
            started: leg.started,
            answered: leg.answered,
            ended,
            ended_by: match leg.bye {
                Some((_, side)) => Some(side).filter(|_| !leg.midcall()),
                None => leg.invite.as_ref().and_then(|invite| invite.cancelled).map(|_| Side::Caller),
            },
            status: leg.invite.as_ref().and_then(|invite| Some(invite.answer.as_ref()?.status)),
            trunk: trunk.clone(),
            transfers: call.transfers,
            refer_absent,
            seen: leg.visible(),
            parties: parties.clone(),
        };
        self.outputs.push_back(Output::Call(Box::new(record)));
        if let (Some(answered), Some(_), false) = (leg.answered, leg.bye, call.is_leg) {
            let alerts = self.ratio.call_ended(
                ended,
                &RatioCall {
                    trunk: &trunk,
                    expected: self.trunks.expected(call.trunk),
                    call_id: &leg.call_id,
                    parties: &parties,
                    talked: ended.since(answered),
                    refer: call.referred,
                    invite: !call.second_legs.is_empty(),
                    intact: quality == Quality::default() && !leg.midcall() && leg.visible() == Seen::Both,
                },
            );
            self.outputs.extend(alerts.into_iter().map(|alert| Output::Alert(Box::new(alert))));
        }
    }

    fn refer_absent(&self, leg: &Leg, call: &Kept, trunk: &str) -> ReferAbsent {
        let agent = if facts::is_livekit(leg.caller.tag.as_deref()) {
            Some(Side::Caller)
        } else if facts::is_livekit(leg.callee.tag.as_deref()) {
            Some(Side::Callee)
        } else {
            None
        };
        let refused = |side: Side| call.refer_not_allowed[side as usize];
        self.absent.judge(&EndedCall {
            answered: leg.answered,
            bye: leg.bye.map(|(time, _)| time),
            ended_by: leg.bye.map(|(_, side)| side),
            agent,
            transferred: call.transferred || call.is_leg,
            second_legs: &call.second_legs,
            second_leg_visible: leg.visible() == Seen::Both
                && self.callers.holds(leg.hosts.1)
                && !call.perhaps_second_leg,
            held: leg.caller.holds || leg.callee.holds,
            expected: self.trunks.expected(call.trunk),
            usual: self.ratio.usual(trunk),
            refer_ratio: self.ratio.baseline(trunk),
            bye_cause: call.bye_cause,
            refer_not_allowed: agent.and_then(|agent| refused(agent.other())).unwrap_or(false),
        })
    }
}

/// So that asking again about a leg makes progress whatever the settings.
const LEAST: std::time::Duration = std::time::Duration::from_millis(100);

/// When a call ended, if it was one and did.
fn end_of(leg: &Leg, now: Timestamp, transaction: std::time::Duration) -> Option<Timestamp> {
    if leg.origin == Origin::Refer {
        return None;
    }
    if let Some((bye, _)) = leg.bye {
        return Some(bye);
    }
    if let Some(failure) = leg.failure() {
        return Some(failure.time);
    }
    // Cancelled or never heard of again: it ended when its transaction did.
    let invite = leg.invite.as_ref().filter(|_| leg.answered.is_none())?;
    let gone = invite.cancelled.unwrap_or(invite.tried) + transaction;
    (gone <= now && (invite.heard.is_none() || invite.cancelled.is_some())).then_some(gone)
}
