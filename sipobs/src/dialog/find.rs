//! Which of the legs under its Call-ID a message belongs to, and who sent its request.

use super::{DialogKey, trust};
use crate::leg::{Leg, LegId, Legs, Origin, Tag};
use crate::record::Side;
use crate::sip::{Message, Method};
use crate::stream::WireMessage;

/// The leg of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) leg: LegId,
    /// Who sent the request that the message is, or answers.
    pub(super) by: Side,
    pub(super) fit: Fit,
}

/// How well a message's tags fit those of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// One is missing, or is another dialog's.
    Half,
    /// One fits, and the other is not known yet.
    Open,
    /// Both fit.
    Both,
}

/// Finds it: where several could be meant, the one that goes through the message's hosts, then the one whose tags fit best,
/// then the newest. Of two tries under one number the branch tells (§17.1.3).
pub(super) fn find(
    legs: &Legs,
    wire: &WireMessage<'_>,
    sip: &Message<'_>,
    key: &DialogKey<'_>,
    to: Option<Tag>,
) -> Option<Found> {
    let mut under = legs.under(key.call_id).peekable();
    under.peek()?;
    let tags = Tags { from: key.from_tag.and_then(|tag| legs.tag(tag)), to };
    let fitting = under.filter_map(|leg| {
        let (by, fit) = fit(leg, key, tags)?;
        (!begins_another(legs, leg, wire, sip, key, tags)).then_some((leg, Found { leg: leg.id, by, fit }))
    });
    let rank = |(leg, Found { fit, .. }): &(&Leg, Found)| {
        let hosts = [wire.src, wire.dst].iter().filter(|host| legs.goes_through(leg, host.ip())).count();
        (!leg.alleged, hosts, *fit == Fit::Both, is_of_try(leg, key, tags), *fit)
    };
    // As a rule there is one, and nothing is ranked.
    let best = fitting.reduce(|best, next| if rank(&best) < rank(&next) { next } else { best });
    best.map(|(_, found)| found)
}

#[derive(Clone, Copy)]
struct Tags {
    from: Option<Tag>,
    to: Option<Tag>,
}

/// Whether an INVITE that is in no dialog is not this leg's.
fn begins_another(
    legs: &Legs,
    leg: &Leg,
    wire: &WireMessage<'_>,
    sip: &Message<'_>,
    key: &DialogKey<'_>,
    tags: Tags,
) -> bool {
    if key.cseq.method != Method::Invite || tags.to.is_some() || !sip.is_request() {
        return false;
    }
    // After the BYE it is a new call that reuses the Call-ID; and a request inside a dialog that came before the INVITE is
    // not of the INVITE's.
    if leg.bye.is_set()
        || leg.origin != Origin::Invite
        || begins_anew(leg, wire, key)
        || trust::is_copied_ahead(legs, leg, wire, sip, key)
    {
        return true;
    }
    // Whoever came first with an INVITE that nobody answers does not keep others from theirs.
    let heard = leg.callee.heard || leg.invite.as_ref().is_some_and(|invite| invite.heard);
    let src = wire.src.ip();
    let relayed = || {
        let same = leg.invite.as_ref().is_some_and(|invite| invite.number == key.cseq.number);
        same && leg.caller.tag == tags.from && legs.goes_through(leg, src)
    };
    !heard && leg.hosts.0 != src && !relayed() && !trust::is_copy(leg, sip, key.cseq, Side::Caller)
}

/// An INVITE after the leg's own was cancelled and has got its final answer: another call, whatever it is named.
fn begins_anew(leg: &Leg, wire: &WireMessage<'_>, key: &DialogKey<'_>) -> bool {
    let Some(invite) = &leg.invite else { return false };
    let over = invite.cancelled.is_set() && invite.answer().is_some_and(|answer| answer.status >= 300);
    over && wire.src.ip() == leg.hosts.0 && key.branch != invite.branch
}

/// Whether a message is of the latest try of a leg's INVITE.
fn is_of_try(leg: &Leg, key: &DialogKey<'_>, tags: Tags) -> bool {
    let invite = leg.invite.as_ref().filter(|invite| invite.number == key.cseq.number);
    tags.from.is_some()
        && leg.caller.tag == tags.from
        && invite.is_some_and(|invite| invite.branch == key.branch)
}

/// Which side of a leg sent a message's request, if its tags allow that one did. Missing tags (RFC 2543) may be anybody's;
/// then From tells the side.
fn fit(leg: &Leg, key: &DialogKey<'_>, tags: Tags) -> Option<(Side, Fit)> {
    let Tags { from, to } = tags;
    // Some callees forget the To tag in what they send within a dialog.
    let forgetful = to.is_none()
        && matches!(key.cseq.method, Method::Notify | Method::Bye)
        && (leg.callee.tag.is_none() || leg.callee.tag == from);
    match leg.caller.tag {
        Some(tag) if from == Some(tag) => Some((Side::Caller, of_callee(leg, key, to))),
        Some(tag) if to == Some(tag) => Some((Side::Callee, of_callee(leg, key, from))),
        Some(_) if forgetful => Some((Side::Callee, Fit::Half)),
        // Some notify under a tag of their own, as a fork would (RFC 6665 §4.4.1).
        Some(_) if key.cseq.method == Method::Notify && to.is_some() && to == leg.callee.tag => {
            Some((Side::Caller, Fit::Half))
        }
        Some(_) if from.is_some() => None,
        Some(_) => Some((Side::Caller, Fit::Half)),
        None if is_callee(leg, from, key.from.uri) => Some((Side::Callee, Fit::Open)),
        None => Some((Side::Caller, of_callee(leg, key, to))),
    }
}

/// How well the callee's tag in a message fits.
fn of_callee(leg: &Leg, key: &DialogKey<'_>, tag: Option<Tag>) -> Fit {
    let initial = leg.invite.as_ref().is_some_and(|invite| invite.number == key.cseq.number);
    match (leg.callee.tag, tag) {
        (Some(known), Some(tag)) if known == tag || leg.is_forked_to(tag) => Fit::Both,
        // The tries and branches of the first INVITE have tags of their own, or none.
        (None, _) => Fit::Open,
        _ if initial && matches!(key.cseq.method, Method::Invite | Method::Ack | Method::Cancel) => Fit::Open,
        _ if key.cseq.method == Method::Invite && tag.is_none() => Fit::Open,
        _ => Fit::Half,
    }
}

/// Whether the callee of a caller without a tag is who says so in From.
fn is_callee(leg: &Leg, tag: Option<Tag>, uri: &[u8]) -> bool {
    match (tag, leg.callee.tag) {
        (None, None) => uri == leg.uri(Side::Callee) && uri != leg.uri(Side::Caller),
        (tag, known) => tag == known,
    }
}
