//! What the linker is told of a leg: facts of its messages, no messages.

use std::net::{IpAddr, SocketAddr};

pub(crate) use crate::dialog::LegId;
use crate::timestamp::Timestamp;

/// What the first INVITE of a leg says. A "user" is the user part of a URI (the number of a `tel:` URI), or
/// its host where it has no user; as on the wire, escapes decoded.
#[derive(Clone, Debug)]
pub(crate) struct LegFacts {
    /// The number its owner knows it by.
    pub(crate) id: LegId,
    /// Its Call-ID.
    pub(crate) call_id: String,
    /// When its first INVITE was captured (or, of a leg older than the capture, its first message).
    pub(crate) invited: Timestamp,
    /// Who sent the first INVITE.
    pub(crate) caller_host: IpAddr,
    /// Who it was sent to.
    pub(crate) callee_host: IpAddr,
    /// User of From.
    pub(crate) from: Option<String>,
    /// User of To.
    pub(crate) to: Option<String>,
    /// User of the request-URI.
    pub(crate) request: Option<String>,
    /// Users of P-Asserted-Identity, P-Preferred-Identity, Remote-Party-ID.
    pub(crate) asserted: Vec<String>,
    /// Users of Diversion and History-Info, in order.
    pub(crate) diverted: Vec<String>,
    /// User of Referred-By.
    pub(crate) referred_by: Option<String>,
    /// Call-ID that Replaces names (RFC 3891).
    pub(crate) replaces: Option<String>,
    /// Call-ID that Join names (RFC 3911).
    pub(crate) join: Option<String>,
    /// Call-ID that Target-Dialog names (RFC 4538).
    pub(crate) target_dialog: Option<String>,
    /// Session-ID (RFC 7989), the whole value.
    pub(crate) session_id: Option<String>,
    /// Those of the configured headers ([`super::LinkConfig::headers`]) it has: index into that list, value.
    pub(crate) keys: Vec<(usize, String)>,
    /// Where its SDP offer wants the media.
    pub(crate) media: Option<SocketAddr>,
}

/// A REFER sent in a call.
#[derive(Clone, Debug)]
pub(crate) struct ReferFacts {
    /// Its CSeq number: names it among the REFERs of one call.
    pub(crate) cseq: u32,
    /// User of Refer-To (its host where it has none).
    pub(crate) target: Option<String>,
    /// Call-ID that a Replaces in Refer-To names.
    pub(crate) replaces: Option<String>,
    /// User of Referred-By, or of From where it has none.
    pub(crate) referred_by: Option<String>,
}
