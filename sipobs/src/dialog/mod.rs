//! Messages → transactions and dialogs (RFC 3261 §12, §17).
//!
//! `take` turns each message into at most one `DialogEvent`: copies, whether retransmitted or shown again by
//! a proxy, give none, and neither do the many messages that change nothing (OPTIONS, PRACK, most INFOs, …), which
//! touch no table.

use crate::leg::{HeldMessage, LegId, Legs, NewLeg, Origin, Speaker};
use crate::record::Side;
use crate::sip::{CSeq, Message, Method, Name};
use crate::stream::WireMessage;

mod find;
mod key;
mod message;
mod transaction;
mod trust;

pub(crate) use key::DialogKey;
pub use key::NoDialogKey;
pub(crate) use message::has_credentials;
use transaction::Exchange;
pub(crate) use transaction::{captured, copies, is_challenge};
use trust::Trust;

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
    /// A host sent it that is not on the leg's path, and who was asked agreed to it.
    pub(crate) outside: bool,
    /// Who sent that request.
    pub(crate) speaker: Speaker,
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

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Nothing new, or nothing that matters here.
    Nothing,
    /// It is an event.
    Event(DialogEvent),
    /// Nothing vouches for it: it changes nothing in this leg, and is only shown beside what another, or the same, is
    /// about.
    Doubted { leg: LegId, beside: LegId },
    /// It vouches for a request before it, which is to be taken first.
    Vouches(Box<HeldMessage>),
}

/// Takes one message: finds its leg, or begins one, and says what is new. `vouched`: whoever was asked has agreed to it.
pub(crate) fn take(
    legs: &mut Legs,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
    key: &DialogKey<'_>,
    vouched: bool,
) -> Taken {
    let cseq = key.cseq;
    if !matters(cseq.method, message) || is_idle_info(legs, message, key) {
        return Taken::Nothing;
    }
    if let Some(doubted) = trust::vouched_for(legs, wire, message, key) {
        return Taken::Vouches(doubted);
    }
    let to_tag = key.to_tag.and_then(|tag| legs.tag(tag));
    let found = find::find(legs, wire, message, key, to_tag);
    let (id, by) = match &found {
        Some(found) => (found.leg, found.by),
        None => match begin(legs, wire, message, key) {
            Some(id) => (id, Side::Caller),
            None => return Taken::Nothing,
        },
    };
    // A vouched one was noted when it came.
    if !vouched {
        legs.note(id, wire, message);
    }
    let trust = if vouched { Trust::Full } else { trust::of(legs, id, wire, message, key, found.as_ref()) };
    match trust {
        Trust::Full => {}
        Trust::OnceAnswered => {
            trust::hold(legs, id, wire, key);
            return Taken::Doubted { leg: id, beside: trust::shown_in(legs, id) };
        }
        Trust::None => return Taken::Doubted { leg: id, beside: id },
    }
    let outside = vouched && legs.get(id).is_some_and(|leg| !trust::comes_from_path(legs, leg, wire));
    // A call moves by what names a Contact for it, and not by news.
    let may_move = !(outside && cseq.method == Method::Notify);
    if message.is_request() && may_move {
        legs.extend_path(id, [wire.src.ip(), wire.dst.ip()]);
    }
    let new_path = legs.travelled(id, wire.src.ip(), wire.dst.ip());
    let Some(leg) = legs.get_mut(id) else { return Taken::Nothing };
    let begins = found.is_none() || leg.alleged;
    leg.alleged = false;
    // Who says that there is no such dialog does not speak in it.
    leg.two_hosts |= wire.src.ip() != leg.hosts.0 && message.status() != Some(481);
    let from_tag = key.from_tag.and_then(|tag| legs.tag(tag));
    let speaker = Speaker::of([from_tag, to_tag], outside);
    let callee_tag = if by == Side::Caller { to_tag } else { from_tag };
    let Some(leg) = legs.get_mut(id) else { return Taken::Nothing };
    let in_fork = callee_tag.is_some_and(|tag| leg.is_forked_to(tag));
    let exchange = Exchange { by, cseq, branch: key.branch, speaker, in_fork };
    let to_tag = message::ToTag { tag: to_tag, livekit: key.to_tag.is_some_and(crate::leg::is_livekit) };
    let taken = leg.take(wire, message, key, exchange, to_tag, new_path);
    let Some((kind, speaker)) = taken else { return Taken::Nothing };
    leg.seen = wire.time;
    if begins || may_move && trust::names_path(cseq.method, message.status()) {
        trust::learn_path(legs, id, message);
    }
    Taken::Event(DialogEvent { leg: id, by, cseq, kind, begins, outside, speaker })
}

/// Begins the leg of a message that no leg claims, if the message can begin one.
fn begin(
    legs: &mut Legs,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
    key: &DialogKey<'_>,
) -> Option<LegId> {
    let origin = origin_of(message, key.cseq.method, key.to_tag.is_some())?;
    let alleged = trust::is_alleged(legs, wire, message, key, origin);
    legs.insert(&NewLeg {
        call_id: key.call_id,
        caller: (key.from.uri, key.from_tag),
        callee: (key.to.uri, key.to_tag),
        request: message.request_uri().unwrap_or_default(),
        origin,
        hosts: (wire.src.ip(), wire.dst.ip()),
        time: wire.time,
        alleged,
        originated: wire.originated,
    })
}

/// Whether a message is the final answer to a request that could begin a leg, and that was not seen: it may have been captured
/// before that. What one side alone says of a dialog under its Call-ID hinders nobody.
pub(crate) fn may_be_early(legs: &Legs, message: &Message<'_>, key: &DialogKey<'_>) -> bool {
    matches!(key.cseq.method, Method::Invite | Method::Refer)
        && message.status().is_some_and(|status| status >= 200)
        && legs.under(key.call_id).all(|leg| leg.origin != Origin::Invite && !leg.is_confirmed())
        && !legs.is_gone(key.call_id)
}

/// Whether a message is of an INFO that tells nothing new: of a dialog older than the capture it may be the first thing that
/// shows it. Calls have many of them.
fn is_idle_info(legs: &Legs, message: &Message<'_>, key: &DialogKey<'_>) -> bool {
    if key.cseq.method != Method::Info {
        return false;
    }
    let mut known = legs.under(key.call_id).peekable();
    let news = match known.peek() {
        None => message.is_request(),
        Some(_) => known.any(|leg| leg.midcall() && !leg.is_confirmed()),
    };
    !news
}

/// How a leg comes to be known by a message that no leg claims, if it can.
fn origin_of(message: &Message<'_>, method: Method, in_dialog: bool) -> Option<Origin> {
    if !message.is_request() {
        return None;
    }
    match method {
        Method::Invite if !in_dialog => Some(Origin::Invite),
        Method::Refer if !in_dialog => Some(Origin::Refer),
        Method::Invite | Method::Update | Method::Info | Method::Refer | Method::Notify | Method::Bye
            if in_dialog =>
        {
            Some(Origin::Midcall)
        }
        _ => None,
    }
}

/// Whether a message of this method can change anything here.
fn matters(method: Method, message: &Message<'_>) -> bool {
    match method {
        Method::Invite
        | Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Refer
        | Method::Update
        | Method::Info => true,
        // Most NOTIFYs are of other packages; the answers to those find no transaction.
        Method::Notify => !message.is_request() || is_refer_event(message),
        _ => false,
    }
}

/// RFC 3515 §2.4.4; a NOTIFY that names no package is told by its body.
fn is_refer_event(message: &Message<'_>) -> bool {
    match message.event() {
        Some(event) => event.is_refer(),
        None => message
            .header(Name::ContentType)
            .is_some_and(|kind| kind.len() >= 15 && kind[..15].eq_ignore_ascii_case(b"message/sipfrag")),
    }
}
