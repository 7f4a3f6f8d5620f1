//! Every event of a leg, brought to the attempts it concerns.

use super::ladder::show;
use super::open::{AttemptId, Kept, Open, What};
use super::{Leg, Q850, Side, Timer, Transfers, facts};
use crate::dialog::{Event, Heard, LegId, Origin, is_challenge};
use crate::sip::{CSeq, Message, Method, Name};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

/// What an attempt takes up beside its ladder, about.
const ATTEMPT: usize = 2_048;
/// Platforms told apart in one call.
const DIALECTS: usize = 4;

impl Transfers {
    pub(super) fn hear(&mut self, heard: Heard, wire: &WireMessage<'_>, message: &Message<'_>) {
        let Heard { leg, by, event } = heard;
        if !self.calls.contains_key(&leg) {
            self.begin_leg(leg, wire, message);
        }
        self.learn(leg, heard, message);
        match event {
            Event::Invited => self.watch(leg, message),
            Event::Relayed => self.links.reached(leg, wire.dst.ip()),
            Event::InviteAnswer(status) => self.invite_answer(leg, status, wire, message),
            Event::Request(cseq) => match cseq.method {
                Method::Refer => self.refer(leg, by, cseq, wire, message),
                Method::Notify => self.notify(leg, by, cseq, wire, message),
                Method::Bye => self.bye(leg, by, cseq, wire, message),
                Method::Invite | Method::Update => self.reinvited(leg, wire.time),
                _ => {}
            },
            Event::Response(cseq, status) => match cseq.method {
                Method::Refer => self.refer_answer(leg, by, cseq, status, wire, message),
                Method::Bye => self.bye_answer(leg, status, wire, message),
                _ => {}
            },
            Event::Acknowledged => self.acknowledged(leg, wire.time),
            Event::Retried => {}
        }
        if self.dialogs.leg(leg).is_some_and(|leg| leg.is_confirmed_by_both()) {
            self.links.confirmed(leg);
        }
        self.draw(heard, wire, message);
        self.review_leg(leg, wire.time);
        self.dialogs.charge(leg, self.held_for(leg));
    }

    /// Bytes held for a leg beside what any leg takes up, about.
    fn held_for(&self, leg: LegId) -> usize {
        let Some(call) = self.calls.get(&leg) else { return 0 };
        let attempts = call.open.iter().chain(&call.serves).filter_map(|id| self.attempts.get(id));
        let attempts: usize = attempts.map(|open| ATTEMPT + open.ladder.bytes()).sum();
        let second = call.second.as_ref().map_or(0, |second| second.ladder.bytes());
        self.links.held_for(leg) + second + attempts
    }

    /// A leg that was not known before.
    fn begin_leg(&mut self, leg: LegId, wire: &WireMessage<'_>, message: &Message<'_>) {
        let Some(signalling) = self.dialogs.leg(leg) else { return };
        let call = Kept {
            trunk: facts::trunk(&self.trunks, wire, message),
            dialects: Vec::new(),
            open: Vec::new(),
            transfers: 0,
            transferred: false,
            referred: false,
            second_legs: Vec::new(),
            perhaps_second_leg: false,
            second: None,
            serves: None,
            consults: None,
            is_leg: false,
            answer_headers: Vec::new(),
            refer_not_allowed: [None; 2],
            held: None,
            resumed: None,
            bye_line: None,
            bye_cause: None,
            mark: self.losses.mark(&signalling.paths),
        };
        self.calls.insert(leg, call);
        if self.losses.is_crowded() {
            let marks = self.calls.values().map(|call| &call.mark);
            self.losses.keep(marks.chain(self.attempts.values().map(|open| &open.mark)));
        }
        if signalling.origin == Origin::Refer {
            return;
        }
        self.counts.calls += 1;
        if signalling.origin == Origin::Invite {
            self.callers.called(signalling.hosts.0, wire.time);
        }
        self.links.started(facts::leg(leg, wire, message, &self.config.link));
        if signalling.midcall() {
            self.links.up(leg, wire.time, None);
        }
    }

    /// What any message may tell of its sender and of the session.
    fn learn(&mut self, leg: LegId, heard: Heard, message: &Message<'_>) {
        let Some(call) = self.calls.get_mut(&leg) else { return };
        let sender = if message.is_request() { heard.by } else { heard.by.other() };
        if call.dialects.len() < DIALECTS
            && let Some(dialect) = facts::dialect(message)
            && !call.dialects.contains(&dialect)
        {
            call.dialects.push(dialect);
        }
        if let Some(lacks) = facts::allow_lacks_refer(message) {
            call.refer_not_allowed[sender as usize] = Some(lacks);
        }
        if heard.event != Event::Invited {
            if let Some(id) = message.header(Name::SessionId) {
                self.links.session_id(leg, &crate::dialog::cut(id));
            }
            for (header, value) in facts::keys(message, &self.config.link) {
                self.links.key(leg, header, &value);
            }
        }
    }

    fn invite_answer(&mut self, leg: LegId, status: u16, wire: &WireMessage<'_>, message: &Message<'_>) {
        let now = wire.time;
        if status >= 200
            && let Some(call) = self.calls.get_mut(&leg)
        {
            call.answer_headers = facts::telling(message);
            if call.trunk == super::trunk::TrunkId::OTHER {
                call.trunk = facts::trunk(&self.trunks, wire, message);
            }
            if let Some(second) = &mut call.second {
                second.told |= !is_challenge(status);
            }
        }
        match status {
            200..300 => {
                self.caller_answered(leg, now);
                self.links.answered(leg, now, facts::media(message));
            }
            300.. if !is_challenge(status) => {
                self.links.failed(leg, now, Some(status));
                if status < 400 {
                    self.redirected(leg, wire, message);
                }
            }
            _ => {}
        }
    }

    /// Whoever acknowledges a 2xx that was not seen has got one all the same.
    fn acknowledged(&mut self, leg: LegId, now: Timestamp) {
        if self.dialogs.leg(leg).is_some_and(|leg| leg.answered == Some(now)) {
            if let Some(second) = self.second_mut(leg) {
                second.told = true;
            }
            self.caller_answered(leg, now);
            self.links.up(leg, now, None);
        }
    }

    fn caller_answered(&mut self, leg: LegId, now: Timestamp) {
        if let Some(signalling) = self.dialogs.leg(leg).filter(|leg| leg.origin == Origin::Invite) {
            self.callers.answered(signalling.hosts.0, now);
        }
    }

    fn reinvited(&mut self, leg: LegId, now: Timestamp) {
        let Some(signalling) = self.dialogs.leg(leg) else { return };
        let holds = signalling.caller.holds || signalling.callee.holds;
        let Some(call) = self.calls.get_mut(&leg) else { return };
        let held = call.held.is_some() && call.resumed.is_none();
        if holds && !held {
            (call.held, call.resumed) = (Some(now), None);
            self.links.held(leg, now);
        } else if !holds && held {
            call.resumed = Some(now);
        }
    }

    fn bye(&mut self, leg: LegId, by: Side, cseq: CSeq, wire: &WireMessage<'_>, message: &Message<'_>) {
        let Some(signalling) = self.dialogs.leg(leg) else { return };
        if signalling.bye != Some((wire.time, by)) {
            return;
        }
        if signalling.answered.is_some() || signalling.midcall() {
            self.links.ended(leg, wire.time, by);
            self.hurry(leg, wire.time + self.config.timers.after_bye);
        } else {
            self.links.failed(leg, wire.time, None);
        }
        let Some(call) = self.calls.get_mut(&leg) else { return };
        let reasons = message.headers(Name::Reason).map(|reason| crate::sip::lossy(reason).into_owned());
        call.bye_cause = reasons.filter_map(|reason| Q850::parse(&reason)).map(|q850| q850.cause).next();
        call.bye_line = Some(show(wire, message, cseq, Leg::Call));
        for id in call.open.clone() {
            let Some(open) = self.attempts.get_mut(&id) else { continue };
            open.own(leg, by, cseq);
            let transferor = by == open.by;
            if let What::Refer(refer) = &mut open.what {
                refer.bye = refer.bye.or(Some((wire.time, transferor)));
            }
        }
        self.handed_over(leg, by, cseq, wire, message);
    }

    fn bye_answer(&mut self, leg: LegId, status: u16, wire: &WireMessage<'_>, message: &Message<'_>) {
        let answer = super::referred::answer(status, wire, message);
        for open in self.open_in(leg) {
            if let Some(Open { what: What::Handover { answer: known, .. }, .. }) =
                self.attempts.get_mut(&open)
            {
                *known = known.take().or_else(|| Some(answer.clone()));
            }
        }
    }

    /// Adds the message to the ladders it belongs in.
    fn draw(&mut self, heard: Heard, wire: &WireMessage<'_>, message: &Message<'_>) {
        let Heard { leg, by, .. } = heard;
        let most = self.config.limits.ladder;
        let Some(cseq) = message.cseq() else { return };
        let Some(call) = self.calls.get_mut(&leg) else { return };
        if let Some(second) = &mut call.second {
            second.ladder.push(show(wire, message, cseq, Leg::Target), most);
        }
        if let Some(open) = call.serves.and_then(|id| self.attempts.get_mut(&id)) {
            open.ladder.push(show(wire, message, cseq, Leg::Target), most);
        }
        if cseq.method == Method::Bye
            && let Some(open) = call.consults.and_then(|id| self.attempts.get_mut(&id))
        {
            open.ladder.push(show(wire, message, cseq, Leg::Consultation), most);
        }
        for id in &call.open {
            let Some(open) = self.attempts.get_mut(id) else { continue };
            if open.owns(leg, by, cseq) || matches!(open.what, What::Redirect { .. }) {
                open.ladder.push(show(wire, message, cseq, Leg::Call), most);
            }
        }
    }

    /// Judges again whatever hangs on this leg.
    fn review_leg(&mut self, leg: LegId, now: Timestamp) {
        self.review_second(leg, now);
        let Some(call) = self.calls.get(&leg) else { return };
        let concerned: Vec<_> = call.open.iter().copied().chain(call.serves).collect();
        for id in concerned {
            self.review(id, now);
        }
    }

    /// Attempts under way in a call.
    pub(super) fn open_in(&self, leg: LegId) -> Vec<AttemptId> {
        self.calls.get(&leg).map(|call| call.open.clone()).unwrap_or_default()
    }

    /// Takes up a new attempt.
    pub(super) fn begin(&mut self, open: Open) -> AttemptId {
        let id = AttemptId(self.next);
        self.next += 1;
        let (dialog, of) = (open.dialog, open.call);
        // A second leg's attempt hangs on the call; its own leg serves it.
        let second = matches!(open.what, What::Second { .. });
        let mut homes: Vec<LegId> = of.into_iter().collect();
        if !second && !homes.contains(&dialog) {
            homes.push(dialog);
        }
        for home in homes {
            if let Some(call) = self.calls.get_mut(&home) {
                call.open.push(id);
            }
        }
        if let Some(call) = of.and_then(|call| self.calls.get_mut(&call)) {
            call.transfers += 1;
        }
        self.attempts.insert(id, open);
        id
    }

    /// Lets go of an attempt.
    pub(super) fn close(&mut self, id: AttemptId) -> Option<Open> {
        let open = self.attempts.remove(&id)?;
        if let Some(due) = open.due {
            self.timers.remove(&(due, Timer::Attempt(id)));
        }
        for leg in open.legs.iter().chain(open.call.iter()).chain([&open.dialog]) {
            if let Some(call) = self.calls.get_mut(leg) {
                call.open.retain(|known| *known != id);
                call.serves = call.serves.filter(|serves| *serves != id);
            }
        }
        self.events_at.retain(|_, at| *at != id);
        Some(open)
    }
}
