//! Messages → transactions and dialogs (RFC 3261 §12, §17).
//!
//! `take` turns each message into at most one `DialogEvent`: copies, whether retransmitted or shown again by
//! a proxy, give none, and neither do the many messages that change nothing (OPTIONS, INFO, PRACK, …), which
//! touch no table.

use crate::leg::{Leg, LegId, Legs, NewLeg, Origin, Tag};
use crate::record::Side;
use crate::sip::{self, CSeq, Message, Method, Name};
use crate::stream::WireMessage;

mod key;
mod message;
mod transaction;

pub(crate) use key::DialogKey;
pub use key::NoDialogKey;
pub(crate) use message::has_credentials;
pub(crate) use transaction::{copies, is_challenge};

/// Longer Call-IDs and tags are no peer's; shorter bounds would cost real ones.
const LONGEST_ID: usize = 1024;

/// What a message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DialogEvent {
    pub(crate) leg: LegId,
    /// Who sent the request that the message is, or answers.
    pub(crate) by: Side,
    pub(crate) cseq: CSeq,
    pub(crate) kind: DialogEventKind,
    /// The leg is new.
    pub(crate) begins: bool,
}

/// What can happen to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialogEventKind {
    /// The first INVITE of a leg.
    Invited,
    /// That INVITE between two other hosts.
    Relayed,
    /// The initial INVITE again under a new number: with credentials, to a redirect's Contact, ….
    Retried,
    /// An answer to the initial INVITE.
    InviteAnswer(u16),
    /// The first ACK to its final answer.
    Acknowledged,
    /// Any other request: CANCEL, or one inside the dialog.
    Request,
    /// An answer to one of those.
    Response(u16),
}

/// Takes one message: finds its leg, or begins one, and says what is new.
pub(crate) fn take(
    legs: &mut Legs,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
    key: &DialogKey<'_>,
) -> Option<DialogEvent> {
    let cseq = key.cseq;
    if !matters(cseq.method, message) {
        return None;
    }
    let to_tag = key.to_tag.and_then(|tag| legs.tag(tag));
    let found = find(legs, key, to_tag, Sent::of(wire, message));
    let (id, by) = match found {
        Some(found) => found,
        None => (begin(legs, wire, message, key)?, Side::Caller),
    };
    let new_path = legs.travelled(id, wire.src.ip(), wire.dst.ip());
    let leg = legs.get_mut(id)?;
    let to_tag = message::ToTag { tag: to_tag, livekit: key.to_tag.is_some_and(crate::leg::is_livekit) };
    let kind = leg.take(wire, message, cseq, by, to_tag, new_path)?;
    leg.seen = wire.time;
    Some(DialogEvent { leg: id, by, cseq, kind, begins: found.is_none() })
}

/// Where a message comes from, as far as that tells which of several legs it belongs to.
#[derive(Clone, Copy)]
struct Sent<'a> {
    wire: &'a WireMessage<'a>,
    message: &'a Message<'a>,
}

impl<'a> Sent<'a> {
    fn of(wire: &'a WireMessage<'a>, message: &'a Message<'a>) -> Self {
        Self { wire, message }
    }

    /// An INVITE after the leg's own was cancelled and has got its final answer: another call, whatever it is named.
    fn begins_anew(self, leg: &Leg) -> bool {
        let Some(invite) = &leg.invite else { return false };
        let over = invite.cancelled.is_set() && invite.answer().is_some_and(|answer| answer.status >= 300);
        over && self.message.is_request()
            && self.wire.src.ip() == leg.hosts.0
            && message::branch(self.message) != invite.branch
    }
}

/// The leg of a message and the side that sent its request: the one whose tags both are in it, else the newest whose
/// caller's tag is in From (the caller's request) or To (the callee's). Missing tags (RFC 2543) fit any; then From
/// tells the side.
fn find(legs: &Legs, key: &DialogKey<'_>, to: Option<Tag>, sent: Sent<'_>) -> Option<(LegId, Side)> {
    let method = key.cseq.method;
    let mut under = legs.under(key.call_id).peekable();
    under.peek()?;
    let from = key.from_tag.and_then(|tag| legs.tag(tag));
    let side = |leg: &Leg| {
        // A new INVITE after the BYE is a new call, however lazy its Call-ID.
        if method == Method::Invite && to.is_none() && (leg.bye.is_set() || sent.begins_anew(leg)) {
            return None;
        }
        match leg.caller.tag {
            Some(tag) if from == Some(tag) => Some((leg.id, Side::Caller)),
            Some(tag) if to == Some(tag) => Some((leg.id, Side::Callee)),
            Some(_) if from.is_some() => None,
            None if is_callee(leg, from, key.from.uri) => Some((leg.id, Side::Callee)),
            _ => Some((leg.id, Side::Caller)),
        }
    };
    // Some callees forget the To tag in what they send within a dialog.
    let untagged = |leg: &Leg| {
        let known = leg.callee.tag;
        (known.is_none() || known == from).then_some((leg.id, Side::Callee))
    };
    let forgetful = to.is_none() && matches!(method, Method::Notify | Method::Bye);
    let both = |leg: &Leg| match (leg.caller.tag, leg.callee.tag) {
        (Some(caller), Some(callee)) if from == Some(caller) && to == Some(callee) => {
            Some((leg.id, Side::Caller))
        }
        (Some(caller), Some(callee)) if from == Some(callee) && to == Some(caller) => {
            Some((leg.id, Side::Callee))
        }
        _ => None,
    };
    // Of two tries under one number the branch tells (§17.1.3).
    let of_try = |leg: &Leg| {
        let invite = leg
            .invite
            .as_ref()
            .filter(|invite| from.is_some() && leg.caller.tag == from && invite.number == key.cseq.number)?;
        (invite.branch == message::branch(sent.message)).then_some((leg.id, Side::Caller))
    };
    let first = under.next().and_then(|leg| both(leg).or_else(|| side(leg)));
    if under.peek().is_none() {
        return first.or_else(|| legs.under(key.call_id).filter(|_| forgetful).find_map(untagged));
    }
    let exact = legs.under(key.call_id).find_map(both);
    let exact = exact.or_else(|| legs.under(key.call_id).find_map(of_try)).or(first);
    exact
        .or_else(|| under.find_map(side))
        .or_else(|| legs.under(key.call_id).filter(|_| forgetful).find_map(untagged))
}

/// Whether the callee of a caller without a tag is who says so in From.
fn is_callee(leg: &Leg, tag: Option<Tag>, uri: &[u8]) -> bool {
    match (tag, leg.callee.tag) {
        (None, None) => uri == leg.uri(Side::Callee) && uri != leg.uri(Side::Caller),
        (tag, known) => tag == known,
    }
}

/// Begins the leg of a message that no leg claims, if the message can begin one.
fn begin(
    legs: &mut Legs,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
    key: &DialogKey<'_>,
) -> Option<LegId> {
    let origin = origin_of(message, key.cseq.method, key.to_tag.is_some())?;
    legs.insert(&NewLeg {
        call_id: key.call_id,
        caller: (key.from.uri, key.from_tag),
        callee: (key.to.uri, key.to_tag),
        request: message.request_uri().unwrap_or_default(),
        origin,
        hosts: (wire.src.ip(), wire.dst.ip()),
        time: wire.time,
    })
}

/// How a leg comes to be known by a message that no leg claims, if it can.
fn origin_of(message: &Message<'_>, method: Method, in_dialog: bool) -> Option<Origin> {
    if !message.is_request() {
        return None;
    }
    match method {
        Method::Invite if !in_dialog => Some(Origin::Invite),
        Method::Refer if !in_dialog => Some(Origin::Refer),
        Method::Invite | Method::Refer | Method::Notify | Method::Bye if in_dialog => Some(Origin::Midcall),
        _ => None,
    }
}

/// Whether a message of this method can change anything here.
fn matters(method: Method, message: &Message<'_>) -> bool {
    match method {
        Method::Invite | Method::Ack | Method::Bye | Method::Cancel | Method::Refer | Method::Update => true,
        // Most NOTIFYs are of other packages; the answers to those find no transaction.
        Method::Notify => !message.is_request() || is_refer_event(message),
        _ => false,
    }
}

/// RFC 3515 §2.4.4; a NOTIFY that names no package is told by its body.
fn is_refer_event(message: &Message<'_>) -> bool {
    match message.header(Name::Event).and_then(sip::Event::parse) {
        Some(event) => event.is_refer(),
        None => message
            .header(Name::ContentType)
            .is_some_and(|kind| kind.len() >= 15 && kind[..15].eq_ignore_ascii_case(b"message/sipfrag")),
    }
}
