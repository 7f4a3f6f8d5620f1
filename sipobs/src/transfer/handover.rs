//! Calls handed over without REFER: a redirect before the answer (RFC 3261 §21.3), a BYE with Also, and a BYE
//! with the number in its Reason.

use super::config::Timers;
use super::diagnosis::Answer as Answered;
use super::facts::{self, Target};
use super::ladder::{Ladder, show};
use super::open::{Open, What};
use super::verdict::{Stand, Verdict};
use super::{Evidence, Kind, Leg, Method, Outcome, Side, Transfers};
use crate::dialog::{Answer, LegId, cut};
use crate::sip::{CSeq, Message, Name, NameAddr};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

impl Transfers {
    /// A 3xx to the initial INVITE.
    pub(super) fn redirected(&mut self, leg: LegId, wire: &WireMessage<'_>, message: &Message<'_>) {
        let Some(signalling) = self.dialogs.leg(leg) else { return };
        let Some(answer) = signalling.failure().cloned() else { return };
        let contact = message.contact().map(|contact| contact.uri);
        let open = Open {
            method: Method::Redirect,
            kind: Kind::Blind,
            what: What::Redirect { answer },
            call: Some(leg),
            call_id: Some(signalling.call_id.clone()),
            dialog: leg,
            by: Side::Callee,
            transferor: Some(signalling.callee.uri.clone()),
            transferee: Some(signalling.caller.uri.clone()),
            target: Target {
                uri: contact.map(cut),
                user: contact.and_then(facts::user),
                ..Target::default()
            },
            started: wire.time,
            legs: Vec::new(),
            candidates: Vec::new(),
            link: None,
            ladder: Ladder::default(),
            owned: Vec::new(),
            headers: facts::telling(message),
            mark: self.losses.mark(&signalling.paths),
            due: None,
            noticed: None,
        };
        let id = self.begin(open);
        self.review(id, wire.time);
    }

    /// A BYE that says where the call goes on, if it does.
    pub(super) fn handed_over(
        &mut self,
        leg: LegId,
        by: Side,
        cseq: CSeq,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
    ) {
        if let Some(also) = message.header(Name::Also).and_then(NameAddr::parse) {
            return self.begin_handover(leg, by, cseq, Method::Also, cut(also.uri), wire, message);
        }
        let refers = self.open_in(leg);
        for id in &refers {
            let Some(open) = self.attempts.get_mut(id).filter(|open| open.method == Method::Refer) else {
                continue;
            };
            // The REFER's own number comes back in the BYE: it was turned into this BYE.
            let ended =
                open.refer().is_some_and(|refer| refer.terminated.is_some() || refer.result.is_some());
            if ended && facts::handed_over(message, open.target.user.as_deref()).is_some() {
                open.method = Method::ReferBye;
                return;
            }
        }
        if refers.is_empty()
            && let Some(target) = facts::handed_over(message, None)
        {
            self.begin_handover(leg, by, cseq, Method::ReferBye, target, wire, message);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one call's worth of facts")]
    fn begin_handover(
        &mut self,
        leg: LegId,
        by: Side,
        cseq: CSeq,
        method: Method,
        target: String,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
    ) {
        let Some(signalling) = self.dialogs.leg(leg) else { return };
        let mut ladder = Ladder::default();
        ladder.push(show(wire, message, cseq, Leg::Call), self.config.limits.ladder);
        let user = facts::user(target.as_bytes());
        let mut open = Open {
            method,
            kind: Kind::Blind,
            what: What::Handover { bye: wire.time, answer: None },
            call: Some(leg),
            call_id: Some(signalling.call_id.clone()),
            dialog: leg,
            by,
            transferor: Some(signalling.end(by).uri.clone()),
            transferee: Some(signalling.end(by.other()).uri.clone()),
            target: Target { uri: Some(target), user, ..Target::default() },
            started: wire.time,
            legs: Vec::new(),
            candidates: Vec::new(),
            link: None,
            ladder,
            owned: Vec::new(),
            headers: facts::telling(message),
            mark: self.losses.mark(&signalling.paths),
            due: None,
            noticed: None,
        };
        open.own(leg, by, cseq);
        if let Some(call) = self.calls.get_mut(&leg) {
            call.transferred = true;
        }
        self.begin(open);
    }
}

/// A redirect: it is `redirected`, followed or not; the verdict only waits to show what followed.
pub(super) fn redirect(answer: &Answer, followed: Option<&Stand>, timers: &Timers) -> Stand {
    let verdict = Verdict::seen(Outcome::Redirected, Evidence::Confirmed, answer.time).status(
        answer.status,
        &answer.reason,
        Answered::Target,
    );
    let unfollowed = answer.time + timers.target;
    let longest = answer.time + timers.after_bye;
    Stand { at: followed.map_or(unfollowed, |leg| leg.at.min(longest)), verdict }
}

/// A BYE that hands over: nothing tells its outcome but the target's own leg.
pub(super) fn handover(
    bye: Timestamp,
    answer: Option<&Answer>,
    target: Option<&Stand>,
    timers: &Timers,
) -> Stand {
    let at = bye + timers.after_bye;
    if let Some(target) = target.filter(|target| target.verdict.decided.is_some()) {
        return Stand { at: target.at, verdict: target.verdict.clone() };
    }
    let verdict = Verdict {
        decided: Some(bye),
        early: false,
        ..Verdict::unknown("the call was handed over in a BYE: nothing tells the outcome")
    };
    let verdict = match answer {
        Some(answer) => verdict.status(answer.status, &answer.reason, Answered::Refer),
        None => verdict,
    };
    Stand { at, verdict }
}
