//! What one message does to its leg.

use super::transaction::{self, Exchange};
use super::{DialogEventKind, DialogKey, is_challenge};
use crate::leg::{Branch, Final, Invite, Leg, Origin, Speaker, Tag, When};
use crate::record::Side;
use crate::sip::{CSeq, Message, Method, Name, Start, sdp};
use crate::stream::WireMessage;

/// The To tag of a message.
#[derive(Clone, Copy)]
pub(super) struct ToTag {
    pub(super) tag: Option<Tag>,
    /// It is of LiveKit's form.
    pub(super) livekit: bool,
}

impl Leg {
    /// Takes a message of this leg. `by` sent the request that it is, or answers.
    pub(super) fn take(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        key: &DialogKey<'_>,
        exchange: Exchange,
        to: ToTag,
        new_path: bool,
    ) -> Option<(DialogEventKind, Speaker)> {
        let Exchange { by, cseq, speaker, .. } = exchange;
        let asked = |kind: Option<DialogEventKind>| kind.map(|kind| (kind, speaker));
        match message.start() {
            Start::Request { uri, .. } => {
                let sender = self.end_mut(by);
                (sender.heard, sender.agrees) = (true, true);
                asked(match cseq.method {
                    Method::Invite if self.origin == Origin::Invite && to.tag.is_none() => {
                        self.initial_invite(wire, message, key, by, uri, new_path)
                    }
                    Method::Ack => self.ack(wire, key, by, to),
                    _ => self.later_request(wire, message, exchange, to),
                })
            }
            Start::Response { status, reason, .. } => {
                let sender = self.end_mut(by.other());
                sender.heard |= status > 100;
                sender.agrees |= (200..300).contains(&status);
                self.infer_try(wire, cseq, by);
                if self.is_initial(cseq, by) {
                    return asked(self.invite_answer(wire, status, reason, to));
                }
                self.response(exchange, status)
            }
        }
    }

    /// RFC 3261 §13.2.1; another try after a failure has a higher number (§22.2, §8.1.3.4).
    fn initial_invite(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        key: &DialogKey<'_>,
        by: Side,
        uri: &[u8],
        new_path: bool,
    ) -> Option<DialogEventKind> {
        let DialogKey { cseq, branch, .. } = *key;
        let Some(invite) = &mut self.invite else {
            self.invite = Some(Invite::new(cseq.number, branch, wire.time, 0));
            return Some(DialogEventKind::Invited);
        };
        let failed = invite.answer().filter(|answer| answer.status >= 300);
        let same = cseq.number == invite.number;
        if by != Side::Caller || cseq.number < invite.number || self.answered.is_set() {
            return None;
        }
        // Its answer was captured before it, and has shown that it was tried.
        if same && invite.is_inferred() && wire.src.ip() == self.hosts.0 {
            invite.branch = branch;
            self.requests(uri);
            return Some(DialogEventKind::Retried);
        }
        // Some begin again under the number that failed; a challenge is answered with credentials.
        let again = branch != invite.branch
            && wire.src.ip() == self.hosts.0
            && failed.is_some_and(|answer| !is_challenge(answer.status) || has_credentials(message));
        if same && !again {
            invite.copies = invite.copies.saturating_add(u16::from(branch == invite.branch));
            return new_path.then_some(DialogEventKind::Relayed);
        }
        if invite.cancelled.is_set() && invite.answer().is_none() {
            return None;
        }
        *invite = Invite::new(cseq.number, branch, wire.time, invite.challenges);
        self.requests(uri);
        Some(DialogEventKind::Retried)
    }

    fn invite_answer(
        &mut self,
        wire: &WireMessage<'_>,
        status: u16,
        reason: &[u8],
        to: ToTag,
    ) -> Option<DialogEventKind> {
        // At a forking proxy only what goes back to the caller is the answer: a branch's failure is not.
        let relayed = self.is_relayed() && wire.dst.ip() != self.hosts.0;
        let invite = self.invite.as_mut()?;
        invite.heard = true;
        if let Some(known) = invite.answer() {
            // A 2xx beats a failure (§16.7 step 5); nothing beats a 2xx.
            if known.status < 300 || !(200..300).contains(&status) {
                invite.answered_again(status, wire.time);
                self.note_fork(known, status, to);
                return None;
            }
        }
        if status < 200 {
            return invite.proceeding(status, wire.time).then_some(DialogEventKind::InviteAnswer(status));
        }
        if status >= 300 && relayed {
            return None;
        }
        invite.challenges = invite.challenges.saturating_add(u8::from(is_challenge(status)));
        invite.answered(status, wire.time);
        self.set_phrase(status, reason);
        if status < 300 {
            self.up(wire, to);
        }
        Some(DialogEventKind::InviteAnswer(status))
    }

    /// Another 2xx under another tag: the call has forked (RFC 3261 §13.2.2.4).
    fn note_fork(&mut self, known: Final, status: u16, to: ToTag) {
        let both = [known.status, status].iter().all(|status| (200..300).contains(status));
        if let Some(tag) = to.tag.filter(|tag| both && self.callee.tag.is_some_and(|known| known != *tag)) {
            self.rare_mut().add_fork(tag);
        }
    }

    fn ack(
        &mut self,
        wire: &WireMessage<'_>,
        key: &DialogKey<'_>,
        by: Side,
        to: ToTag,
    ) -> Option<DialogEventKind> {
        if !self.is_initial(CSeq { method: Method::Invite, ..key.cseq }, by) {
            return None;
        }
        let by_caller = wire.src.ip() == self.hosts.0;
        let invite = self.invite.as_mut()?;
        if invite.acknowledged.is_set() {
            return None;
        }
        // Only the ACK to a 2xx has a branch of its own (§13.2.2.4, §17.1.1.3): there was one, unseen. What a
        // proxy acknowledges are its branches' failures.
        let unseen = invite.answer().is_none();
        if unseen && (!by_caller || key.branch == invite.branch || to.tag.is_none()) {
            return None;
        }
        invite.acknowledged = wire.time.into();
        if unseen {
            self.up(wire, to);
        }
        Some(DialogEventKind::Acknowledged)
    }

    /// A 2xx came, seen or unseen: the dialog is the one with this tag.
    fn up(&mut self, wire: &WireMessage<'_>, to: ToTag) {
        self.answered = wire.time.into();
        (self.callee.tag, self.callee.livekit) = (to.tag, to.livekit);
    }

    /// An answer under a higher number shows that a challenged or redirected INVITE was tried again, unseen.
    fn infer_try(&mut self, wire: &WireMessage<'_>, cseq: CSeq, by: Side) {
        let Some(invite) = &mut self.invite else { return };
        let failed = invite.answer().is_some_and(|answer| answer.status >= 300);
        if by != Side::Caller || cseq.method != Method::Invite || cseq.number <= invite.number || !failed {
            return;
        }
        *invite = Invite::new(cseq.number, Branch::default(), wire.time, invite.challenges);
    }

    fn later_request(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        exchange: Exchange,
        to: ToTag,
    ) -> Option<DialogEventKind> {
        let Exchange { by, cseq, .. } = exchange;
        if !transaction::request(&mut self.transactions, exchange) {
            return None;
        }
        // Who goes on after a BYE that was refused never sent it, or never got one (RFC 3261 §15.1.2).
        if self.bye_refused
            && matches!(cseq.method, Method::Invite | Method::Update | Method::Refer | Method::Bye)
        {
            (self.bye, self.bye_refused) = (When::NEVER, false);
        }
        match cseq.method {
            Method::Cancel => {
                let invite = self.invite.as_mut().filter(|invite| invite.number == cseq.number)?;
                if by == Side::Caller {
                    invite.cancelled.first(wire.time);
                }
            }
            Method::Bye => {
                // The BYE of a fork that lost ends nothing.
                let lost = by == Side::Caller
                    && self.answered.is_set()
                    && self.callee.tag.is_some()
                    && to.tag.is_some()
                    && self.callee.tag != to.tag;
                if !lost && !exchange.in_fork && !self.bye.is_set() {
                    (self.bye, self.bye_by) = (wire.time.into(), by);
                }
            }
            Method::Invite | Method::Update => {
                if let Some(offer) = sdp::Session::of(message) {
                    self.end_mut(by).holds = offer.is_hold();
                }
            }
            _ => {}
        }
        Some(DialogEventKind::Request)
    }

    fn response(&mut self, exchange: Exchange, status: u16) -> Option<(DialogEventKind, Speaker)> {
        let Exchange { by, cseq, .. } = exchange;
        // Of a REFER that was not captured its answer tells.
        let unseen = cseq.method == Method::Refer && status >= 200;
        let speaker = match unseen {
            true => transaction::response_or_unseen(&mut self.transactions, exchange, status),
            false => transaction::response(&mut self.transactions, exchange, status),
        }?;
        self.bye_refused |= cseq.method == Method::Bye
            && matches!(status, 403 | 481)
            && self.ended().is_some_and(|(_, side)| side == by);
        self.proven |= (200..300).contains(&status) && cseq.method != Method::Cancel;
        Some((DialogEventKind::Response(status), speaker))
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
