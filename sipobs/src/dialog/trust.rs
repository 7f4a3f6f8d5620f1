//! Who may speak in a leg.
//!
//! Whoever knows a Call-ID can send messages under it, with or without its tags. What counts comes from a host on the leg's
//! own path and has the dialog's tags, as far as they are known. A request that lacks one of the two counts once it is
//! answered by 2xx, for then the party itself took it for genuine: a call may move to another address, and old peers forget
//! tags. Everything else is shown, and changes nothing.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::DialogKey;
use super::find::{Fit, Found};
use super::key::branch;
use crate::leg::{HeldMessage, Invite, Leg, LegId, Legs, Origin};
use crate::record::Side;
use crate::sip::{CSeq, Message, Method, Name, NameAddr, Uri, Via};
use crate::stream::WireMessage;

/// How far a message is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Full,
    /// Once it is answered by 2xx.
    OnceAnswered,
    None,
}

/// How far a message is believed in its leg; `found` unless it begins it.
pub(super) fn of(
    legs: &Legs,
    id: LegId,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
    key: &DialogKey<'_>,
    found: Option<&Found>,
) -> Trust {
    let Some(leg) = legs.get(id) else { return Trust::None };
    let Some(found) = found else {
        return if leg.alleged { Trust::OnceAnswered } else { Trust::Full };
    };
    let (from, to) = (comes_from_path(legs, leg, wire), legs.goes_through(leg, wire.dst.ip()));
    if !message.is_request() {
        // A refusal to a stranger refuses nothing within the call.
        return if from && to && !leg.alleged { Trust::Full } else { Trust::None };
    }
    let fits = found.fit >= Fit::Open;
    match (from, to) {
        (true, true) if leg.alleged => Trust::OnceAnswered,
        (true, _) if fits => Trust::Full,
        (true, true) => Trust::OnceAnswered,
        (false, _) if fits && is_copy(leg, message, key.cseq, found.by) => Trust::Full,
        (false, true) if fits => Trust::OnceAnswered,
        _ => Trust::None,
    }
}

/// Whether a host on the leg's own path sent a message. That this very host did, nobody elsewhere can pretend: it may have
/// more addresses than the path names.
pub(super) fn comes_from_path(legs: &Legs, leg: &Leg, wire: &WireMessage<'_>) -> bool {
    wire.originated || legs.goes_through(leg, wire.src.ip())
}

/// Whether a request was seen before, at another hop: one of its Vias has the branch known.
pub(super) fn is_copy(leg: &Leg, message: &Message<'_>, cseq: CSeq, by: Side) -> bool {
    let invite = leg.invite.as_ref().filter(|_| by == Side::Caller && cseq.method == Method::Invite);
    let known = match invite.filter(|invite| invite.number == cseq.number) {
        Some(invite) => Some(invite.branch),
        None => leg.transactions.iter().find(|known| known.is(by, cseq)).map(|known| known.branch),
    };
    let vias = || message.values(Name::Via).filter_map(Via::parse).filter(|via| via.branch().is_some());
    known.is_some_and(|known| vias().any(|via| branch(Some(via)) == known))
}

/// Whether a silent leg is but a copy of the INVITE which its own sender, as the topmost Via names it, is seen to send only now:
/// somebody was faster with what he had overheard. A party of calls may be that sender as it is seen from outside a NAT.
pub(super) fn is_copied_ahead(
    legs: &Legs,
    leg: &Leg,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
    key: &DialogKey<'_>,
) -> bool {
    let own = || message.top_via().and_then(|via| address(via.host)) == Some(wire.src.ip());
    let same = |invite: &Invite| {
        (invite.number, invite.branch, invite.heard) == (key.cseq.number, key.branch, false)
    };
    message.is_request()
        && key.cseq.method == Method::Invite
        && leg.invite.as_ref().is_some_and(same)
        && !leg.two_hosts
        && leg.hosts.1 == wire.dst.ip()
        && leg.hosts.0 != wire.src.ip()
        && !legs.is_party(leg.hosts.0)
        && own()
}

/// Whether a leg that a message begins is but one side's word: there is, or was, another dialog under its Call-ID, or it is
/// about the call of others.
pub(super) fn is_alleged(
    legs: &Legs,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
    key: &DialogKey<'_>,
    origin: Origin,
) -> bool {
    // What one side alone says of a dialog makes none.
    let is_known = |leg: &&Leg| {
        let counts = leg.origin == Origin::Invite || leg.is_confirmed();
        counts && !leg.alleged && !is_copied_ahead(legs, leg, wire, message, key)
    };
    let others = || legs.under(key.call_id).filter(is_known);
    if origin == Origin::Invite {
        let strange = |leg: &Leg| !comes_from_path(legs, leg, wire);
        return others().next().is_some() && others().all(strange);
    }
    let named = message.target_dialog().and_then(|named| {
        let id = legs.named(named.call_id, [named.local_tag, named.remote_tag])?;
        legs.get(id)
    });
    let outside = named.is_some_and(|named| !comes_from_path(legs, named, wire));
    outside || others().next().is_some() || legs.is_gone(key.call_id)
}

/// Keeps a request until it is answered.
pub(super) fn hold(legs: &mut Legs, id: LegId, wire: &WireMessage<'_>, key: &DialogKey<'_>) {
    let Some(leg) = legs.get_mut(id).filter(|_| HeldMessage::may_be(wire)) else { return };
    let held = HeldMessage::of(wire, key.cseq, key.branch, Vec::with_capacity(wire.bytes.len()));
    leg.rare_mut().doubted = Some(Box::new(held));
    legs.settle(id);
}

/// The request that a message vouches for, taken from its leg. Any other final answer to it shows that nothing came of it.
pub(super) fn vouched_for(
    legs: &mut Legs,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
    key: &DialogKey<'_>,
) -> Option<Box<HeldMessage>> {
    let status = message.status().filter(|status| *status > 100)?;
    let answers = |doubted: &HeldMessage| doubted.pairs_with(wire, key.cseq, key.branch);
    let holds = |leg: &&Leg| leg.rare().and_then(|rare| rare.doubted.as_deref()).is_some_and(answers);
    let leg = legs.under(key.call_id).find(holds)?;
    let id = leg.id;
    // A call of its own may fail. And where no other dialog is known, a refusal shows that there is this one.
    let alone = || legs.under(key.call_id).all(|leg| leg.alleged) && !legs.is_gone(key.call_id);
    let may_fail = leg.alleged && (leg.origin == Origin::Invite || alone());
    let vouches = match status {
        200..300 => true,
        481 | 482 => false,
        _ => may_fail,
    };
    if status < 200 && !vouches {
        return None;
    }
    let doubted = legs.get_mut(id)?.rare_mut().doubted.take();
    legs.settle(id);
    doubted.filter(|_| vouches)
}

/// The leg beside which a doubted message is shown.
pub(super) fn shown_in(legs: &Legs, id: LegId) -> LegId {
    let alleged = legs.get(id).filter(|leg| leg.alleged);
    let known = alleged.and_then(|leg| legs.under(leg.call_id()).find(|leg| !leg.alleged));
    known.map_or(id, |leg| leg.id)
}

/// Whether a message may name hosts of its leg's path that were not named before: an ACK, BYE or CANCEL goes the way that
/// the messages before it have named, and answers to it name nobody.
pub(super) fn names_path(method: Method, status: Option<u16>) -> bool {
    match status {
        None => !matches!(method, Method::Ack | Method::Bye | Method::Cancel),
        Some(status) => {
            !matches!(method, Method::Bye | Method::Cancel | Method::Notify) && (101..300).contains(&status)
        }
    }
}

/// Notes the hosts that a message of a leg names as its path (RFC 3261 §8.1.1.8, §16.6, §18.2.1).
pub(super) fn learn_path(legs: &mut Legs, id: LegId, message: &Message<'_>) {
    let mut hosts: SmallVec<[IpAddr; 8]> = SmallVec::new();
    for name in [Name::Contact, Name::RecordRoute, Name::Route] {
        for route in message.values(name) {
            let uri = NameAddr::parse(route).and_then(|route| Uri::parse(route.uri));
            hosts.extend(uri.and_then(|uri| address(uri.host)));
        }
    }
    // An answer repeats those of its request.
    if message.is_request() {
        for via in message.values(Name::Via).filter_map(Via::parse) {
            let given = [Some(via.host), via.received()];
            hosts.extend(given.into_iter().flatten().filter_map(address));
        }
    }
    legs.extend_path(id, hosts);
}

/// The address that a host is given by.
fn address(host: &[u8]) -> Option<IpAddr> {
    let host = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    std::str::from_utf8(host).ok()?.parse().ok()
}
