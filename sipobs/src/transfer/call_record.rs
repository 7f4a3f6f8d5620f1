//! Ended calls: their records, and the question of the missing REFER.

use super::absent::{Absent, EndedCall};
use super::config::Config;
use super::ratio::RatioCall;
use super::stage::Stage;
use super::state::CallState;
use super::{Rules, Transfers};
use crate::leg::{Invite, Leg, LegId, Origin};
use crate::record::{Call, Output, Parties, ReferAbsent, Seen, Side};
use crate::timestamp::Timestamp;

/// Least time until a leg is looked at again, whatever `grace` says.
const RECHECK: std::time::Duration = std::time::Duration::from_millis(100);

impl Transfers {
    /// A leg of which nothing more is expected: told of and forgotten, unless an attempt still needs it.
    pub(super) fn leg_over(&mut self, id: LegId, now: Timestamp) {
        let Some(leg) = self.stage.legs.get(id) else { return };
        let wanted = self.stage.config.lifetimes().of(leg);
        if wanted > now {
            return self.stage.keep_until(id, wanted);
        }
        if self.stage.state(id).is_some_and(CallState::is_needed) {
            let again = now + self.stage.config.timers.grace.max(RECHECK);
            return self.stage.keep_until(id, again);
        }
        self.end_leg(id, now);
    }

    /// Tells of an ended call and forgets it, but for what the verdicts on other legs still need.
    pub(super) fn end_leg(&mut self, id: LegId, now: Timestamp) {
        let Some(leg) = self.stage.legs.get(id) else { return };
        if !leg.retired
            && let Some(ended) = end_of(leg, now, &self.stage.config)
        {
            let record = record(&self.stage, &self.rules, &self.absent, &self.ratio, leg, ended);
            let alerts = self.counted(id, &record);
            self.outputs.push_back(Output::Call(Box::new(record)));
            self.outputs.extend(alerts);
        }
        self.stage.forget(id);
    }

    /// A call that nobody has ended, as if it ended now.
    pub(super) fn open_call(&self, id: LegId, now: Timestamp) -> Option<Call> {
        let leg = self.stage.legs.get(id).filter(|leg| !leg.retired && !leg.call.leftover)?;
        let is_call = leg.origin != Origin::Refer && (leg.invite.is_some() || leg.answered.is_set());
        let is_open = is_call && end_of(leg, now, &self.stage.config).is_none();
        is_open.then(|| record(&self.stage, &self.rules, &self.absent, &self.ratio, leg, now))
    }

    /// Counts an ended call for its trunk's ratio; gives the alerts that it raises.
    fn counted(&mut self, id: LegId, record: &Call) -> Vec<Output> {
        let Some(leg) = self.stage.legs.get(id) else { return Vec::new() };
        let (Some(answered), true, false) = (leg.answered.get(), leg.bye.is_set(), leg.call.is_leg) else {
            return Vec::new();
        };
        let lost = self.stage.legs.lost_since(leg.call.mark, [id]);
        let second_legs = self.stage.state_of(leg).map_or(0, |state| state.second_legs.len());
        let alerts = self.ratio.call_ended(
            record.ended,
            &RatioCall {
                trunk: &record.trunk,
                expected: self.rules.trunks.expected(leg.call.trunk),
                call_id: &record.call_id,
                parties: &record.parties,
                talked: record.ended.since(answered),
                refer: leg.call.referred,
                invite: second_legs > 0,
                intact: lost == crate::leg::Lost::default() && !leg.midcall() && leg.visible() == Seen::Both,
            },
        );
        alerts.into_iter().map(|alert| Output::Alert(Box::new(alert))).collect()
    }
}

/// What is said of an ended call.
fn record(
    stage: &Stage,
    rules: &Rules,
    absent: &Absent,
    ratio: &super::ratio::Ratio,
    leg: &Leg,
    ended: Timestamp,
) -> Call {
    let trunk = rules.trunks.name(leg.call.trunk);
    let mut parties = Parties::default();
    leg.add_parties(&mut parties);
    Call {
        call_id: leg.call_id_text().into_owned(),
        started: leg.started,
        answered: leg.answered.get(),
        ended,
        ended_by: match leg.ended() {
            Some((_, side)) => Some(side).filter(|_| !leg.midcall()),
            None => {
                let cancelled = leg.invite.as_ref().is_some_and(|invite| invite.cancelled.is_set());
                cancelled.then_some(Side::Caller)
            }
        },
        status: leg.invite.as_ref().and_then(|invite| Some(invite.answer()?.status)),
        trunk: trunk.clone(),
        transfers: u32::from(leg.call.transfers),
        trace_id: None,
        evidence_file: None,
        refer_absent: refer_absent(stage, rules, absent, ratio, leg),
        in_transfer: leg.call.transfers > 0 || leg.call.transferred || leg.call.is_leg,
        seen: leg.visible(),
        hosts: [leg.hosts.0, leg.hosts.1],
        parties,
    }
}

fn refer_absent(
    stage: &Stage,
    rules: &Rules,
    absent: &Absent,
    ratio: &super::ratio::Ratio,
    leg: &Leg,
) -> ReferAbsent {
    let trunk = rules.trunks.name(leg.call.trunk);
    let agent = [Side::Caller, Side::Callee].into_iter().find(|side| leg.end(*side).livekit);
    let second_legs = stage.state_of(leg).map_or(&[][..], |state| &state.second_legs);
    absent.judge(&EndedCall {
        // A call whose 2xx was never acknowledged was not up: nobody could transfer it.
        answered: leg.answered.get().filter(|_| !leg.invite.as_ref().is_some_and(Invite::is_unacknowledged)),
        bye: leg.bye.get(),
        ended_by: leg.ended().map(|(_, side)| side),
        agent,
        transferred: leg.call.transferred || leg.call.is_leg,
        second_legs,
        second_leg_visible: leg.visible() == Seen::Both
            && stage.callers.holds(leg.hosts.1)
            && !leg.call.perhaps_second_leg,
        held: leg.caller.holds || leg.callee.holds,
        expected: rules.trunks.expected(leg.call.trunk),
        usual: ratio.usual(trunk),
        refer_ratio: ratio.baseline(trunk),
        bye_cause: leg.call.bye_cause,
        refer_not_allowed: agent.and_then(|agent| leg.end(agent.other()).refuses_refer).unwrap_or(false),
    })
}

/// When a call ended, if it was one and did.
fn end_of(leg: &Leg, now: Timestamp, config: &Config) -> Option<Timestamp> {
    if leg.origin == Origin::Refer || leg.call.leftover {
        return None;
    }
    if let Some(bye) = leg.bye.get() {
        return Some(bye);
    }
    if let Some(failure) = leg.failure() {
        return Some(failure.time);
    }
    // Cancelled or never heard of again: it ended when its transaction did.
    let invite = leg.invite.as_ref().filter(|_| !leg.answered.is_set())?;
    let gone = invite.cancelled.get().unwrap_or(invite.tried) + config.timers.transaction;
    (gone <= now && (!invite.heard || invite.cancelled.is_set())).then_some(gone)
}
