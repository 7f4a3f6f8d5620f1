//! REFER and its NOTIFYs, brought to the machine of their attempt.

use super::facts::{self, Target};
use super::ladder::Ladder;
use super::open::{AttemptId, Open, What};
use super::refer::{News, Refer, Subscription};
use super::{Kind, Method, Side, Transfers};
use crate::dialog::{Answer, LegId, Origin, cut};
use crate::sip::{self, CSeq, Message, Name, Sipfrag, SubscriptionState};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

/// Attempts looked at for the one that a NOTIFY without its REFER is about.
pub(super) const RECENT: usize = 64;
/// Outcomes told on other dialogs that are waited for.
const ELSEWHERE: usize = 1024;

impl Transfers {
    /// A REFER, or its retry with credentials.
    pub(super) fn refer(
        &mut self,
        dialog: LegId,
        by: Side,
        cseq: CSeq,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
    ) {
        let refer_to = message.header(Name::ReferTo).unwrap_or_default();
        let target = Target::of(message);
        let credentials = crate::dialog::has_credentials(message);
        for id in self.open_in(dialog) {
            let Some(open) = self.attempts.get_mut(&id) else { continue };
            if open.dialog != dialog || open.by_of(dialog) != by {
                continue;
            }
            let Some(refer) = open.refer_mut() else { continue };
            if refer.is_retried_by(refer_to, credentials) {
                refer.retry(cseq.number, wire.time);
                refer.credentials = credentials;
                open.own(dialog, by, cseq);
                return;
            }
            refer.supersede(wire.time);
            self.review(id, wire.time);
        }
        let Some(signalling) = self.dialogs.leg(dialog) else { return };
        // Outside a dialog only a REFER that names one transfers a call; others just ask for one.
        let (call, call_id) = if signalling.origin == Origin::Refer {
            let named = facts::target_dialog(message);
            match (named, &target.replaces) {
                (Some(named), _) => {
                    let tags = [named.local_tag, named.remote_tag];
                    (self.dialogs.named(named.call_id, tags), cut(named.call_id))
                }
                (None, Some(_)) => (None, signalling.call_id.clone()),
                (None, None) => return,
            }
        } else {
            (Some(dialog), signalling.call_id.clone())
        };
        let from = message.from().map(|from| cut(from.uri));
        let to = message.to().map(|to| cut(to.uri));
        // Which end of the named call the sender is: by its URI, else by its host.
        let side = match call.filter(|call| *call != dialog).and_then(|call| self.dialogs.leg(call)) {
            Some(named) if from.as_ref() == Some(&named.caller.uri) => Side::Caller,
            Some(named) if from.as_ref() == Some(&named.callee.uri) => Side::Callee,
            Some(named) if named.hosts.0 == wire.src.ip() => Side::Caller,
            Some(_) => Side::Callee,
            None => by,
        };
        let mut mark = self.losses.mark(&signalling.paths);
        if let Some(named) = call.and_then(|call| self.dialogs.leg(call)) {
            self.losses.extend(&mut mark, &named.paths);
        }
        let home = call.unwrap_or(dialog);
        let (other, consultation) = self.consultation(home, &target);
        self.links.refer_sent(home, wire.time, facts::refer(cseq.number, &target, message));
        for leg in [home, dialog] {
            if let Some(call) = self.calls.get_mut(&leg) {
                (call.transferred, call.referred) = (true, true);
            }
        }
        let mut open = Open {
            method: Method::Refer,
            kind: if target.replaces.is_some() { Kind::Attended } else { Kind::Blind },
            what: What::Refer(Refer::new(cseq.number, refer_to, wire.time)),
            call,
            call_id: Some(call_id),
            dialog,
            by: side,
            transferor: from,
            transferee: to,
            target,
            started: wire.time,
            legs: Vec::new(),
            candidates: Vec::new(),
            link: None,
            ladder: consultation,
            owned: Vec::new(),
            headers: Vec::new(),
            mark,
            due: None,
            noticed: None,
        };
        let nosub = message.values(Name::Require).any(|option| option.eq_ignore_ascii_case(b"nosub"));
        if let Some(refer) = open.refer_mut() {
            refer.wants_no_subscription = nosub;
            refer.credentials = credentials;
        }
        open.own(dialog, by, cseq);
        let id = self.begin(open);
        if let Some(other) = other.filter(|other| *other != home).and_then(|other| self.calls.get_mut(&other))
        {
            other.consults = Some(id);
        }
        self.review(id, wire.time);
    }

    pub(super) fn refer_answer(
        &mut self,
        dialog: LegId,
        by: Side,
        cseq: CSeq,
        status: u16,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
    ) {
        let copies = self.dialogs.leg(dialog).map_or(1, |leg| leg.transactions.copies(by, cseq));
        for id in self.open_in(dialog) {
            let Some(open) = self.attempts.get_mut(&id).filter(|open| open.owns(dialog, by, cseq)) else {
                continue;
            };
            if status >= 300 {
                open.headers = facts::telling(message);
            }
            let Some(refer) = open.refer_mut() else { continue };
            if refer.numbers.last() != Some(&cseq.number) {
                continue;
            }
            refer.copies = copies;
            refer.answered(answer(status, wire, message));
            if !(200..300).contains(&status) {
                continue;
            }
            let refused = |value: &[u8]| {
                value
                    .split(|byte| *byte == b';')
                    .next()
                    .is_some_and(|v| v.trim_ascii().eq_ignore_ascii_case(b"false"))
            };
            if let Some(at) = message.values(Name::ReferEventsAt).next() {
                refer.subscription = Subscription::Elsewhere;
                let uri = sip::NameAddr::parse(at).map_or(at, |address| address.uri);
                if self.events_at.len() < ELSEWHERE {
                    self.events_at.insert(uri.to_vec(), id);
                }
            } else if message.header(Name::ReferSub).is_some_and(refused) || refer.wants_no_subscription {
                refer.subscription = Subscription::None;
            }
        }
    }

    /// A NOTIFY of the refer package, in the dialog of its REFER.
    pub(super) fn notify(
        &mut self,
        dialog: LegId,
        by: Side,
        cseq: CSeq,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
    ) {
        let id = message.header(Name::Event).and_then(sip::Event::parse).and_then(|event| event.refer_cseq());
        let attempt = match self.subscribed(dialog, by, id) {
            Some(attempt) => attempt,
            None => {
                // The REFER may be older than the capture, or lost; the sipfrag tells of it all the same.
                let referred = self.calls.get(&dialog).is_none_or(|call| call.referred);
                let origin = self.dialogs.leg(dialog).map(|leg| leg.origin);
                if referred || origin == Some(Origin::Refer) || Sipfrag::of(message).is_err() {
                    return;
                }
                // Where an INVITE with Replaces shows the transfer, its maker's report is of that one.
                let shown = self.attempts.values().rev().take(RECENT).any(|open| {
                    let maker = self.dialogs.leg(open.dialog).map(|leg| leg.hosts.0);
                    matches!(open.what, What::Second { replaces: true }) && maker == Some(wire.src.ip())
                });
                if shown {
                    return;
                }
                let Some(attempt) = self.unseen(dialog, by, id, wire) else { return };
                attempt
            }
        };
        let Some(open) = self.attempts.get_mut(&attempt) else { return };
        open.own(dialog, by, cseq);
        let news = news(wire.time, message);
        let is_final = news.status.as_ref().is_some_and(|(status, _)| *status >= 200);
        let headers = if is_final { told(message) } else { Vec::new() };
        let Some(refer) = open.refer_mut() else { return };
        refer.numbered |= id.is_some();
        let first = refer.result.is_none();
        refer.notified(wire.time, news);
        if is_final && first {
            open.headers = headers;
        }
    }

    /// The attempt whose subscription a NOTIFY belongs to: by its Event id (RFC 3515 §2.4.6); without one the
    /// oldest that still waits, as only later REFERs must give ids.
    fn subscribed(&self, dialog: LegId, by: Side, id: Option<u32>) -> Option<AttemptId> {
        let open = self.open_in(dialog);
        let refers = || {
            open.iter().filter_map(|attempt| {
                let open = self.attempts.get(attempt)?;
                let refer = open.refer().filter(|_| open.dialog == dialog && open.by_of(dialog) != by)?;
                Some((*attempt, refer))
            })
        };
        if let Some(id) = id
            && let Some((attempt, _)) = refers().find(|(_, refer)| refer.numbers.contains(&id))
        {
            return Some(attempt);
        }
        // A number that names no REFER is a peer's mistake, as long as there is only one it can mean.
        let transfers = self.calls.get(&dialog).map_or(0, |call| call.transfers);
        if id.is_some() && (refers().count() != 1 || transfers > 1) {
            return None;
        }
        // Nor does one without a number mean a REFER whose own carry it: it is an overtaken REFER's last word.
        let fits = |(_, refer): &(AttemptId, &Refer)| transfers <= 1 || !refer.numbered;
        let waiting = refers().find(|(_, refer)| refer.result.is_none() && refer.superseded.is_none());
        waiting.or(refers().next_back()).filter(fits).map(|(attempt, _)| attempt)
    }

    /// An attempt known by its NOTIFY alone.
    fn unseen(
        &mut self,
        dialog: LegId,
        by: Side,
        number: Option<u32>,
        wire: &WireMessage<'_>,
    ) -> Option<AttemptId> {
        let leg = self.dialogs.leg(dialog)?;
        let mut refer = Refer::new(number.unwrap_or_default(), b"", wire.time);
        if number.is_none() {
            refer.numbers.clear();
        }
        let open = Open {
            method: Method::Refer,
            kind: Kind::Blind,
            what: What::Refer(refer),
            call: Some(dialog),
            call_id: Some(leg.call_id.clone()),
            dialog,
            by: by.other(),
            transferor: Some(leg.end(by.other()).uri.clone()),
            transferee: Some(leg.end(by).uri.clone()),
            target: Target::default(),
            started: wire.time,
            legs: Vec::new(),
            candidates: Vec::new(),
            link: None,
            ladder: Ladder::default(),
            owned: Vec::new(),
            headers: Vec::new(),
            mark: self.losses.mark(&leg.paths),
            due: None,
            noticed: None,
        };
        if let Some(call) = self.calls.get_mut(&dialog) {
            (call.transferred, call.referred) = (true, true);
        }
        Some(self.begin(open))
    }

    /// Outcomes told on another dialog (RFC 7614 §4): a SUBSCRIBE to the 2xx's Refer-Events-At, and the NOTIFYs
    /// that answer it, under a Call-ID of their own. Whether the message was one.
    pub(super) fn told_elsewhere(&mut self, wire: &WireMessage<'_>, message: &Message<'_>) -> bool {
        if self.events_at.is_empty() || !message.is_request() {
            return false;
        }
        let Some(call_id) = message.call_id() else { return false };
        match message.method() {
            Some(sip::Method::Subscribe) => {
                let uri = message.request_uri().unwrap_or_default();
                if let Some(attempt) = self.events_at.get(uri).copied()
                    && self.events_at.len() < ELSEWHERE
                {
                    self.events_at.insert(call_id.to_vec(), attempt);
                }
                false
            }
            Some(sip::Method::Notify) => {
                let Some(attempt) = self.events_at.get(call_id).copied() else { return false };
                let Some(cseq) = message.cseq() else { return false };
                let most = self.config.limits.ladder;
                if let Some(open) = self.attempts.get_mut(&attempt) {
                    open.ladder.push(super::ladder::show(wire, message, cseq, super::Leg::Call), most);
                    if let Some(refer) = open.refer_mut() {
                        refer.notified(wire.time, news(wire.time, message));
                    }
                }
                self.review(attempt, wire.time);
                true
            }
            _ => false,
        }
    }
}

/// The final answer that a message is.
pub(super) fn answer(status: u16, wire: &WireMessage<'_>, message: &Message<'_>) -> Answer {
    Answer { status, reason: message.reason_phrase().map(cut).unwrap_or_default(), time: wire.time }
}

fn news(now: Timestamp, message: &Message<'_>) -> News {
    let state = message.header(Name::SubscriptionState).and_then(SubscriptionState::parse);
    News {
        status: Sipfrag::of(message).ok().map(|frag| (frag.status, cut(frag.reason))),
        terminated: state
            .as_ref()
            .filter(|state| state.state == sip::Subscription::Terminated)
            .map(|state| state.reason.map(cut).unwrap_or_default()),
        expires: state
            .and_then(|state| state.expires)
            .map(|seconds| now + std::time::Duration::from_secs(u64::from(seconds))),
    }
}

/// Headers that say why: those within the sipfrag, then the NOTIFY's own.
fn told(message: &Message<'_>) -> Vec<(&'static str, String)> {
    let mut headers =
        Sipfrag::of(message).map(|frag| facts::telling_of(|name| frag.header(name))).unwrap_or_default();
    headers.extend(facts::telling(message));
    headers
}
