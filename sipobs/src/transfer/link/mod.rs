//! Which call a second leg belongs to.

use std::net::{IpAddr, SocketAddr};

use super::attempt::{Link, Side};
use crate::timestamp::Timestamp;

mod config;
mod facts;

pub use config::{LinkConfig, LinkHeader};
pub(crate) use facts::{LegFacts, LegId, ReferFacts};

/// All legs that could be tied to one another, and what has become of them.
///
/// Every leg is announced by [`Self::started`], once. Only legs that [`Self::could_be_second_leg`] names
/// need [`Self::decide`]; ask again no later than it says. Events of unknown legs are ignored.
#[derive(Debug)]
pub(crate) struct Links {}

/// To which call a leg belongs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// More evidence can come until then: ask again at that time, or whenever something happened.
    NotYet {
        /// When to ask at the latest.
        until: Timestamp,
    },
    /// To none: an ordinary call.
    No,
    /// To this call.
    Linked {
        /// The call.
        call: LegId,
        /// The REFER in it that asked for this leg, by its CSeq number.
        refer: Option<u32>,
        /// By what evidence, and how sure.
        link: Link,
    },
    /// It is a second leg, but of which call can't be told; the candidates are in the link.
    Ambiguous {
        /// `method` is `ambiguous`.
        link: Link,
    },
}

impl Links {
    pub(crate) fn new(_config: LinkConfig) -> Self {
        Self {}
    }

    /// The first INVITE of a leg.
    pub(crate) fn started(&mut self, _leg: LegFacts) {}

    /// Another host that takes part as callee: the next hop of a proxied INVITE.
    pub(crate) fn reached(&mut self, _id: LegId, _host: IpAddr) {}

    /// A Session-ID seen in a later message of the leg.
    pub(crate) fn session_id(&mut self, _id: LegId, _value: &str) {}

    /// One of the configured headers in a later message of the leg (index into the list, value).
    pub(crate) fn key(&mut self, _id: LegId, _header: usize, _value: &str) {}

    /// The 2xx to its INVITE; `media` is where its SDP wants the media.
    pub(crate) fn answered(&mut self, _id: LegId, _now: Timestamp, _media: Option<SocketAddr>) {}

    /// The final failure of its INVITE, after any authentication; `None` when it timed out.
    pub(crate) fn failed(&mut self, _id: LegId, _now: Timestamp, _status: Option<u16>) {}

    /// BYE of an answered leg, by `side`.
    pub(crate) fn ended(&mut self, _id: LegId, _now: Timestamp, _side: Side) {}

    /// A re-INVITE put the call on hold.
    pub(crate) fn held(&mut self, _id: LegId, _now: Timestamp) {}

    /// A REFER was sent in the call.
    pub(crate) fn refer_sent(&mut self, _id: LegId, _now: Timestamp, _refer: ReferFacts) {}

    /// The owner is done with this leg. Its facts are kept for as long as another leg's verdict needs them.
    pub(crate) fn forget(&mut self, _id: LegId) {}

    /// Whether some answered call could own this leg. Settled when the leg starts; cheap.
    pub(crate) fn could_be_second_leg(&self, _id: LegId) -> bool {
        false
    }

    /// To which call the leg belongs, by all that is known at `now`.
    pub(crate) fn decide(&mut self, _id: LegId, _now: Timestamp) -> Decision {
        Decision::No
    }
}
