//! Whose leg a leg is: the linker is asked until it knows.

use super::facts::{self, Target};
use super::ladder::Ladder;
use super::link::Decision;
use super::open::{AttemptId, Named, Open, Second, What};
use super::{Kind, Leg, Link, Method, Side, Timer, Transfers};
use crate::dialog::{self, LegId, Origin, cut, is_challenge};
use crate::sip::{Join, Message, Name, Replaces};
use crate::timestamp::Timestamp;

type Signalling = dialog::Leg;

impl Transfers {
    /// Watches a leg that has just begun, if it could belong to a transfer.
    pub(super) fn watch(&mut self, leg: LegId, message: &Message<'_>) {
        // Directed pickup takes a call that only rings (RFC 3891 §1, §7.1): no transfer.
        let replaced = message.header(Name::Replaces).and_then(Replaces::parse);
        let joined = message.header(Name::Join).and_then(Join::parse);
        let named =
            |call_id, to_tag: &[u8], join| Named { call_id: cut(call_id), to_tag: to_tag.into(), join };
        let named = match (replaced.filter(|named| !named.early_only), joined) {
            (Some(replaced), _) => Some(named(replaced.call_id, replaced.to_tag, false)),
            (None, Some(joined)) => Some(named(joined.call_id, joined.to_tag, true)),
            (None, None) => None,
        };
        let rings = |leg: &Signalling| leg.origin == Origin::Invite && leg.answered.is_none();
        let named = named.filter(|named| {
            let replaced = self.dialogs.named(named.call_id.as_bytes(), [None, None]);
            !replaced.and_then(|leg| self.dialogs.leg(leg)).is_some_and(rings)
        });
        if let Some(named) = named.as_ref().filter(|named| !named.join)
            && let Some(replaced) = self.dialogs.named(named.call_id.as_bytes(), [None, None])
        {
            self.consulted_before(replaced);
        }
        if (named.is_some() || self.links.could_be_second_leg(leg))
            && let Some(call) = self.calls.get_mut(&leg)
        {
            call.second = Some(Second { named, ..Second::default() });
        }
    }

    pub(super) fn second_mut(&mut self, leg: LegId) -> Option<&mut Second> {
        self.calls.get_mut(&leg)?.second.as_mut()
    }

    /// The legs that may belong to a call get their verdicts until `at`: it has ended.
    pub(super) fn hurry(&mut self, call: LegId, at: Timestamp) {
        for leg in self.links.waiting_for(call) {
            let Some(old) = self.second_mut(leg).map(|second| second.due) else { continue };
            if old.is_none_or(|old| old <= at) {
                continue;
            }
            let due = self.set_timer(Timer::Second(leg), old, at);
            if let Some(second) = self.second_mut(leg) {
                second.due = due;
            }
        }
    }

    /// Asks again whose leg it is.
    pub(super) fn review_second(&mut self, leg: LegId, now: Timestamp) {
        let Some(second) = self.second_mut(leg) else { return };
        let (old, told) = (second.due, second.told);
        // The linker hears of a leg that just died away only from here.
        let death = self.dies_away(leg).filter(|_| !told);
        let due = |death: &Death| death.known <= now || death.at <= now && self.links.is_left_over(leg, now);
        if let Some(death) = death.filter(due) {
            self.links.failed(leg, death.at, death.status);
            if let Some(second) = self.second_mut(leg) {
                second.told = true;
            }
        }
        let dies = death.map(|death| death.known);
        match self.links.decide(leg, now) {
            Decision::NotYet { until } => {
                let until = dies.filter(|dies| *dies > now).map_or(until, |dies| dies.min(until));
                let due = self.set_timer(Timer::Second(leg), old, until.max(now + TICK));
                if let Some(second) = self.second_mut(leg) {
                    second.due = due;
                }
            }
            decision => self.decided(leg, decision, now),
        }
    }

    /// Asks for the last word.
    pub(super) fn force_second(&mut self, leg: LegId, now: Timestamp) {
        if self.second_mut(leg).is_none() {
            return;
        }
        // A challenge that nobody took up until now will not be taken up in what was captured.
        let told = self.second_mut(leg).is_some_and(|second| second.told);
        if let Some(death) = self.dies_away(leg).filter(|death| !told && death.at <= now) {
            self.links.failed(leg, death.at, death.status);
        }
        let decision = self.links.conclude(leg, now);
        self.decided(leg, decision, now);
    }

    /// An attended transfer names two calls of its transferor: neither was a second leg of the other, but the
    /// consultation. The other of the two, and the consultation's ladder so far.
    pub(super) fn consultation(&mut self, home: LegId, target: &Target) -> (Option<LegId>, Ladder) {
        let Some(named) = target.replaces.as_ref() else { return Default::default() };
        let known = self.dialogs.named(named.as_bytes(), [None, None]);
        // Behind a B2BUA that hides dialogs from one another Replaces names a call that was never seen. Then the
        // transferor's leg to the same target was the consultation.
        let Some(other) = known.or_else(|| self.consulted(home, target)) else { return Default::default() };
        // Of the two the consultation is the later one; the other is the call that is transferred.
        if let Some(call) = self.calls.get_mut(&home.max(other)) {
            call.is_leg = true;
        }
        if let Some(call) = self.calls.get_mut(&home.min(other)) {
            (call.transferred, call.referred) = (true, true);
        }
        let ladder = self.withdraw(home, other).or_else(|| self.withdraw(other, home));
        (Some(other), ladder.map(|ladder| ladder.into_leg(Leg::Consultation)).unwrap_or_default())
    }

    /// A leg takes `replaced` over: what was up beside it, or what it was beside, was a consultation.
    fn consulted_before(&mut self, replaced: LegId) {
        let open = self.open_in(replaced).into_iter().filter_map(|id| self.attempts.get(&id));
        let beside = open.filter(|open| matches!(open.what, What::Second { replaces: false }));
        let mut pairs: Vec<_> = beside.map(|open| (open.dialog, replaced)).collect();
        let serves = self.calls.get(&replaced).and_then(|kept| kept.serves);
        pairs.extend(serves.and_then(|id| self.attempts.get(&id)?.call).map(|call| (replaced, call)));
        for (leg, call) in pairs {
            self.withdraw(leg, call);
        }
    }

    /// Takes back that `leg` is, or may be, a second leg of `call`. Its ladder so far.
    fn withdraw(&mut self, leg: LegId, call: LegId) -> Option<Ladder> {
        if let Some(second) = self.calls.get_mut(&leg).and_then(|kept| kept.second.take()) {
            if let Some(due) = second.due {
                self.timers.remove(&(due, Timer::Second(leg)));
            }
            return Some(second.ladder);
        }
        let id = self.calls.get(&leg)?.serves?;
        let open = self.attempts.get(&id)?;
        if !matches!(open.what, What::Second { .. }) || open.call.is_some_and(|of| of != call) {
            return None;
        }
        if let Some(kept) = self.calls.get_mut(&call) {
            kept.transfers = kept.transfers.saturating_sub(1);
        }
        self.close(id).map(|open| open.ladder)
    }

    /// The transferor's latest leg to the target that may still turn out to be a consultation.
    fn consulted(&self, home: LegId, target: &Target) -> Option<LegId> {
        let wanted = target.user.as_deref()?;
        let undecided = self.timers.iter().filter_map(|(_, timer)| match timer {
            Timer::Second(leg) if self.links.could_belong(*leg, home) => Some(*leg),
            _ => None,
        });
        let open = self.open_in(home).into_iter().filter_map(|id| self.attempts.get(&id));
        let served = open.filter(|open| matches!(open.what, What::Second { .. })).map(|open| open.dialog);
        undecided
            .chain(served)
            .filter(|leg| {
                let invite = self.dialogs.leg(*leg).and_then(|leg| leg.invite.as_ref());
                let called = invite.and_then(|invite| facts::user(invite.request_uri.as_bytes()));
                called.is_some_and(|called| super::link::same_party(&called, wanted))
            })
            .max()
    }

    /// How a leg fails although nobody says so: nothing answers it, or its challenge is not taken up.
    fn dies_away(&self, leg: LegId) -> Option<Death> {
        let invite = self.dialogs.leg(leg)?.invite.as_ref()?;
        let transaction = self.config.timers.transaction;
        match &invite.answer {
            Some(answer) if is_challenge(answer.status) => {
                let (at, status) = (answer.time, Some(answer.status));
                Some(Death { at, known: at + transaction, status })
            }
            None if invite.heard.is_none() => {
                let at = invite.tried + transaction;
                Some(Death { at, known: at, status: None })
            }
            _ => None,
        }
    }

    fn decided(&mut self, leg: LegId, decision: Decision, now: Timestamp) {
        let Some(second) = self.calls.get_mut(&leg).and_then(|call| call.second.take()) else { return };
        if let Some(due) = second.due {
            self.timers.remove(&(due, Timer::Second(leg)));
        }
        match decision {
            Decision::Linked { call, refer: Some(number), link } => {
                if let Some(id) = self.refer_attempt(call, number) {
                    self.attach(id, leg, link, second.ladder, now);
                }
            }
            Decision::Linked { link, .. } if let Some(id) = self.unseen_refer(leg, &second) => {
                if let Some(open) = self.attempts.get_mut(&id) {
                    open.kind = Kind::Attended;
                }
                self.attach(id, leg, link, second.ladder, now);
            }
            Decision::Linked { call, refer: None, link } => {
                self.begin_second(leg, Some(call), Some(link), second, now);
            }
            // Nothing of its own: an attempt by REFER, whichever, tells of it.
            Decision::Ambiguous { referred: true, .. } => {
                if let Some(call) = self.calls.get_mut(&leg) {
                    call.is_leg = true;
                }
            }
            Decision::Ambiguous { link, .. } => self.begin_second(leg, None, Some(link), second, now),
            Decision::No if second.named.is_some() => self.begin_second(leg, None, None, second, now),
            Decision::No | Decision::NotYet { .. } => {}
        }
    }

    /// The attempt under way for the REFER with this number in that call.
    fn refer_attempt(&self, call: LegId, number: u32) -> Option<AttemptId> {
        let open = &self.calls.get(&call)?.open;
        open.iter().rev().copied().find(|id| {
            let refer = self.attempts.get(id).and_then(Open::refer);
            refer.is_some_and(|refer| refer.numbers.contains(&number))
        })
    }

    /// The attempt by a REFER that was not seen, but whose NOTIFYs the maker of this INVITE with Replaces sends.
    fn unseen_refer(&self, leg: LegId, second: &Second) -> Option<AttemptId> {
        second.named.as_ref().filter(|named| !named.join)?;
        let maker = self.dialogs.leg(leg)?.hosts.0;
        let recent = self.attempts.iter().rev().take(super::referred::RECENT);
        let mut unseen = recent.filter(|(_, open)| {
            let notifier = self.dialogs.leg(open.dialog).map(|dialog| match open.by {
                Side::Caller => dialog.hosts.1,
                Side::Callee => dialog.hosts.0,
            });
            open.refer().is_some_and(|refer| refer.refer_to.is_empty()) && notifier == Some(maker)
        });
        unseen.next().map(|(id, _)| *id)
    }

    /// Gives an attempt its target leg.
    fn attach(&mut self, id: AttemptId, leg: LegId, link: Link, ladder: Ladder, now: Timestamp) {
        let most = self.config.limits.ladder;
        let (Some(open), Some(signalling)) = (self.attempts.get_mut(&id), self.dialogs.leg(leg)) else {
            return;
        };
        open.legs.push(leg);
        open.link = Some(link);
        open.ladder.extend(ladder.into_leg(Leg::Target), most);
        self.losses.extend(&mut open.mark, &signalling.paths);
        if let Some(call) = self.calls.get_mut(&leg) {
            (call.serves, call.is_leg) = (Some(id), true);
        }
        self.review(id, now);
    }

    /// A second leg is an attempt of its own.
    fn begin_second(
        &mut self,
        leg: LegId,
        call: Option<LegId>,
        link: Option<Link>,
        second: Second,
        now: Timestamp,
    ) {
        let most = self.config.limits.ladder;
        let Some(signalling) = self.dialogs.leg(leg) else { return };
        let Some(invite) = &signalling.invite else { return };
        let owner = call.and_then(|call| self.calls.get(&call));
        let owner_leg = call.and_then(|call| self.dialogs.leg(call));
        let held = owner.is_some_and(|owner| owner.was_held(invite.first));
        let attended = second.named.is_some() || held;
        let mut ladder = second.ladder.into_leg(Leg::Target);
        if let Some(line) = owner.and_then(|owner| owner.bye_line.clone()) {
            ladder.push(line, most);
        }
        let mut mark = self.calls.get(&leg).map_or_else(|| self.losses.mark(&[]), |call| call.mark.clone());
        if let Some(owner_leg) = owner_leg {
            self.losses.extend(&mut mark, &owner_leg.paths);
        }
        let candidates = link.as_ref().map_or(&[][..], |link| &link.candidates);
        let replaced = second.named.as_ref().filter(|_| candidates.is_empty());
        let replaced = replaced.map(|named| named.call_id.clone());
        let perhaps: Vec<_> = candidates
            .iter()
            .filter_map(|call_id| self.dialogs.named(call_id.as_bytes(), [None, None]))
            .collect();
        let (by, transferor, transferee) = parties(signalling, owner_leg, second.named.as_ref());
        let open = Open {
            method: Method::Invite,
            kind: if attended { Kind::Attended } else { Kind::Blind },
            what: What::Second { replaces: second.named.is_some() },
            call,
            call_id: owner_leg.map(|owner| owner.call_id.clone()).or(replaced),
            dialog: leg,
            by,
            transferor: Some(transferor),
            transferee,
            target: Target {
                uri: Some(invite.request_uri.clone()),
                user: facts::user(invite.request_uri.as_bytes()),
                ..Target::default()
            },
            started: invite.first,
            legs: vec![leg],
            candidates: perhaps.clone(),
            link,
            ladder,
            owned: Vec::new(),
            headers: Vec::new(),
            mark,
            due: None,
            noticed: None,
        };
        let id = self.begin(open);
        if let Some(call) = self.calls.get_mut(&leg) {
            (call.serves, call.is_leg) = (Some(id), true);
        }
        for candidate in perhaps {
            if let Some(call) = self.calls.get_mut(&candidate) {
                call.perhaps_second_leg = true;
            }
        }
        self.review(id, now);
    }
}

/// The end of a leg that nobody told.
#[derive(Clone, Copy)]
struct Death {
    at: Timestamp,
    /// When that is sure.
    known: Timestamp,
    status: Option<u16>,
}

/// Whose second leg it is: the transferor's side of the call, the transferor, and the transferee where known.
fn parties(
    leg: &Signalling,
    call: Option<&Signalling>,
    named: Option<&Named>,
) -> (Side, String, Option<String>) {
    let maker = leg.caller.uri.clone();
    let Some(call) = call else { return (Side::Callee, maker, None) };
    let Some(named) = named else {
        // The transferee is the end of the call that the second leg's maker does not host.
        let by = if call.hosts.0 == leg.hosts.0 { Side::Caller } else { Side::Callee };
        return (by, call.end(by).uri.clone(), Some(call.end(by.other()).uri.clone()));
    };
    let has_tag = |side: &Side| call.end(*side).tag.as_deref() == Some(&named.to_tag[..]);
    let by_tag = [Side::Caller, Side::Callee].into_iter().find(has_tag);
    let by_host = if call.hosts.0 == leg.hosts.1 { Side::Caller } else { Side::Callee };
    let addressee = by_tag.unwrap_or(by_host);
    let other = call.end(addressee.other()).uri.clone();
    if named.join {
        return (addressee, maker, Some(other));
    }
    // Who is replaced in the addressee's call had asked the maker to do so.
    (addressee.other(), other, Some(maker))
}

/// The least step of a clock, so that asking again makes progress.
const TICK: std::time::Duration = std::time::Duration::from_millis(1);
