//! A call that nobody has seen the end of.

use std::sync::Arc;

use serde::Serialize;

use super::Call;
use crate::timestamp::Timestamp;

/// A call that was still up, or was still being set up, when the capture ended. Given only where files are read: a daemon goes on
/// with it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OpenCall {
    /// Its Call-ID.
    pub call_id: String,
    /// First INVITE, or the first message seen of it.
    pub started: Timestamp,
    /// The 2xx to its INVITE; none where it was still being set up, or was up before the capture began.
    pub answered: Option<Timestamp>,
    /// The end of the capture: it lasted until then at least, unless its end was not captured.
    pub until: Timestamp,
    /// Final status of its INVITE.
    pub status: Option<u16>,
    /// Configured name of the peer, or `other`.
    pub trunk: Arc<str>,
    /// How many transfer attempts it held.
    pub transfers: u32,
}

impl From<&Call> for OpenCall {
    /// Of what its record would be if it ended with the capture.
    fn from(call: &Call) -> Self {
        Self {
            call_id: call.call_id.clone(),
            started: call.started,
            answered: call.answered,
            until: call.ended,
            status: call.status,
            trunk: call.trunk.clone(),
            transfers: call.transfers,
        }
    }
}
