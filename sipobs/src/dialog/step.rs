//! What one message does to its leg.

use super::leg::{Answer, Invite, Leg, Origin};
use super::{Event, LONGEST_ID, Side, cut, is_challenge, reason};
use crate::sip::{CSeq, Message, Method, Name, Start, sdp};
use crate::stream::WireMessage;

/// Provisional statuses of one INVITE that are told apart.
const PROVISIONALS: usize = 16;

impl Leg {
    /// Takes a message of this leg. `by` sent the request that it is, or answers.
    pub(super) fn take(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        cseq: CSeq,
        by: Side,
        to_tag: Option<&[u8]>,
    ) -> Option<Event> {
        let new_path = self.travelled(wire.src.ip(), wire.dst.ip());
        match message.start() {
            Start::Request { uri, .. } => {
                let sender = self.end_mut(by);
                (sender.heard, sender.agrees) = (true, true);
                match cseq.method {
                    Method::Invite if self.origin == Origin::Invite && to_tag.is_none() => {
                        self.initial_invite(wire, message, cseq, by, uri, new_path)
                    }
                    Method::Ack => self.ack(wire, message, cseq, by, to_tag),
                    _ => self.request(wire, message, cseq, by, to_tag),
                }
            }
            Start::Response { status, .. } => {
                let sender = self.end_mut(by.other());
                sender.heard |= status > 100;
                sender.agrees |= (200..300).contains(&status);
                self.infer_try(wire, cseq, by);
                if self.is_initial(cseq, by) {
                    return self.invite_answer(wire, message, status, to_tag);
                }
                self.transactions.response(by, cseq, status).then_some(Event::Response(cseq, status))
            }
        }
    }

    /// RFC 3261 §13.2.1; another try after a failure has a higher number (§22.2, §8.1.3.4).
    fn initial_invite(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        cseq: CSeq,
        by: Side,
        uri: &[u8],
        new_path: bool,
    ) -> Option<Event> {
        let branch = branch(message);
        let Some(invite) = &mut self.invite else {
            self.invite = Some(Invite {
                number: cseq.number,
                branch,
                first: wire.time,
                tried: wire.time,
                request_uri: cut(uri),
                copies: 1,
                challenges: 0,
                heard: None,
                provisional: Vec::new(),
                answer: None,
                acknowledged: None,
                cancelled: None,
            });
            return Some(Event::Invited);
        };
        let challenged = invite.answer.as_ref().is_some_and(|answer| is_challenge(answer.status));
        let same = cseq.number == invite.number;
        if by != Side::Caller || cseq.number < invite.number || self.answered.is_some() {
            return None;
        }
        if same && !(challenged && branch != invite.branch && has_credentials(message)) {
            invite.copies += u32::from(branch == invite.branch);
            return new_path.then_some(Event::Relayed);
        }
        if invite.cancelled.is_some() && invite.answer.is_none() {
            return None;
        }
        *invite = Invite {
            number: cseq.number,
            branch,
            first: invite.first,
            tried: wire.time,
            request_uri: cut(uri),
            copies: 1,
            challenges: invite.challenges,
            heard: None,
            provisional: Vec::new(),
            answer: None,
            acknowledged: None,
            cancelled: None,
        };
        Some(Event::Retried)
    }

    fn invite_answer(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        status: u16,
        to_tag: Option<&[u8]>,
    ) -> Option<Event> {
        // At a forking proxy only what goes back to the caller is the answer: a branch's failure is not.
        let relayed = self.paths.len() > 1 && wire.dst.ip() != self.hosts.0;
        let invite = self.invite.as_mut()?;
        invite.heard = invite.heard.or(Some(wire.time));
        if let Some(known) = &invite.answer {
            // A 2xx beats a failure (§16.7 step 5); nothing beats a 2xx.
            if known.status < 300 || !(200..300).contains(&status) {
                return None;
            }
        }
        if status < 200 {
            let known = invite.provisional.iter().any(|(known, _)| *known == status);
            if known || invite.provisional.len() == PROVISIONALS {
                return None;
            }
            invite.provisional.push((status, wire.time));
            return Some(Event::InviteAnswer(status));
        }
        if status >= 300 && relayed {
            return None;
        }
        invite.challenges += u32::from(is_challenge(status));
        invite.answer = Some(Answer { status, reason: reason(message), time: wire.time });
        if status < 300 {
            self.answered = Some(wire.time);
            self.callee.tag = to_tag.map(Box::from);
        }
        Some(Event::InviteAnswer(status))
    }

    fn ack(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        cseq: CSeq,
        by: Side,
        to_tag: Option<&[u8]>,
    ) -> Option<Event> {
        if !self.is_initial(CSeq { method: Method::Invite, ..cseq }, by) {
            return None;
        }
        let by_caller = wire.src.ip() == self.hosts.0;
        let invite = self.invite.as_mut()?;
        if invite.acknowledged.is_some() {
            return None;
        }
        if invite.answer.is_none() {
            // Only the ACK to a 2xx has a branch of its own (§13.2.2.4, §17.1.1.3): there was one, unseen. What a
            // proxy acknowledges are its branches' failures.
            if !by_caller || branch(message) == invite.branch || to_tag.is_none() {
                return None;
            }
            self.answered = Some(wire.time);
            self.callee.tag = to_tag.map(Box::from);
        }
        invite.acknowledged = Some(wire.time);
        Some(Event::Acknowledged)
    }

    /// An answer under a higher number shows that a challenged or redirected INVITE was tried again, unseen.
    fn infer_try(&mut self, wire: &WireMessage<'_>, cseq: CSeq, by: Side) {
        let Some(invite) = &mut self.invite else { return };
        let failed = invite.answer.as_ref().is_some_and(|answer| answer.status >= 300);
        if by != Side::Caller || cseq.method != Method::Invite || cseq.number <= invite.number || !failed {
            return;
        }
        (invite.number, invite.branch, invite.tried, invite.copies) = (cseq.number, 0, wire.time, 1);
        (invite.heard, invite.answer, invite.acknowledged, invite.cancelled) = (None, None, None, None);
        invite.provisional.clear();
    }

    fn request(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        cseq: CSeq,
        by: Side,
        to_tag: Option<&[u8]>,
    ) -> Option<Event> {
        if !self.transactions.request(by, cseq, branch(message)) {
            return None;
        }
        match cseq.method {
            Method::Cancel => {
                let invite = self.invite.as_mut().filter(|invite| invite.number == cseq.number)?;
                if by == Side::Caller {
                    invite.cancelled = invite.cancelled.or(Some(wire.time));
                }
            }
            Method::Bye => {
                // The BYE of a fork that lost ends nothing.
                let lost = by == Side::Caller
                    && self.answered.is_some()
                    && self.callee.tag.is_some()
                    && to_tag.is_some()
                    && self.callee.tag.as_deref() != to_tag;
                if !lost {
                    self.bye = self.bye.or(Some((wire.time, by)));
                }
            }
            Method::Invite | Method::Update => {
                if let Some(offer) = sdp::Session::of(message) {
                    self.end_mut(by).holds = offer.is_hold();
                }
            }
            _ => {}
        }
        Some(Event::Request(cseq))
    }

    fn is_initial(&self, cseq: CSeq, by: Side) -> bool {
        by == Side::Caller
            && cseq.method == Method::Invite
            && self.invite.as_ref().is_some_and(|invite| invite.number == cseq.number)
    }
}

pub(crate) fn has_credentials(message: &Message<'_>) -> bool {
    message.header(Name::Authorization).is_some() || message.header(Name::ProxyAuthorization).is_some()
}

/// A number for the top Via's branch: FNV-1a, as only equality within one transaction is asked for.
fn branch(message: &Message<'_>) -> u64 {
    let branch = message.top_via().and_then(|via| via.branch()).unwrap_or_default();
    branch
        .iter()
        .take(LONGEST_ID)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
