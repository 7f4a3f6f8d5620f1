//! What a leg is worth where there is no room for all ([`crate::eviction`]).

use std::net::IpAddr;

use super::Leg;
use super::pairs::Pair;
use crate::eviction::Entry;

/// Whose share a leg counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// Its caller's: nobody else has said anything.
    Caller(IpAddr),
    /// That of the two hosts that hold it.
    Pair(Pair),
}

/// What a leg has come to, as far as its worth goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Nobody has answered its requests.
    Unanswered,
    /// Its INVITE failed, or was challenged.
    Failed,
    /// Under way.
    Early,
    /// Its caller acknowledges an answer that was not seen, or only one side speaks of it.
    OneSided,
    /// Up, between hosts of which no whole dialog was seen: all that is known of it can be sent by one forger. Or begun by
    /// this very host, and neither up nor failed.
    Unproven,
    /// It was up.
    Ended,
    /// Up.
    Confirmed,
    /// Up, with a transfer under way.
    Transferring,
}

/// Where a leg stands among those that may have to go.
pub(super) fn entry(leg: &Leg) -> Entry<Owner> {
    let class = class(leg);
    let owner = match class {
        Class::Transferring => None,
        Class::Unproven | Class::Ended | Class::Confirmed => Some(Owner::Pair(leg.pair())),
        Class::Unanswered | Class::Failed | Class::Early | Class::OneSided => {
            Some(Owner::Caller(leg.hosts.0))
        }
    };
    let bytes = leg.bytes().saturating_add(leg.charged as usize);
    Entry { class: class as u8, owner, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
}

/// What it has come to.
pub(super) fn class(leg: &Leg) -> Class {
    if leg.is_confirmed_by_both() {
        return match () {
            () if leg.call.transferring => Class::Transferring,
            () if !leg.in_proven_pair => Class::Unproven,
            () if leg.bye.is_set() => Class::Ended,
            () => Class::Confirmed,
        };
    }
    let heard = leg.callee.heard || leg.invite.as_ref().is_some_and(|invite| invite.heard);
    match () {
        // Nobody forges what this host itself began; it may be many all the same.
        () if leg.originated && leg.failure().is_none() => Class::Unproven,
        () if leg.is_confirmed() => Class::OneSided,
        () if !heard => Class::Unanswered,
        () if leg.failure().is_some() => Class::Failed,
        () => Class::Early,
    }
}
