//! An alert: something a person should hear of.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{AlertKind, Parties, RatioVerdict};
use crate::timestamp::Timestamp;

/// Something a person should hear of.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alert {
    /// Which alert.
    pub alert: AlertKind,
    /// When it was raised.
    pub time: Timestamp,
    /// The trunk it concerns.
    pub trunk: Arc<str>,
    /// The numbers behind it, by name.
    pub numbers: BTreeMap<&'static str, f64>,
    /// One sentence for a person.
    pub message: String,
    /// For [`AlertKind::ReferRatio`]: what took the REFERs' place.
    pub verdict: Option<RatioVerdict>,
    /// The call that raised it, where there is one.
    pub call_id: Option<String>,
    /// The trace that its span is in, where spans are exported.
    pub trace_id: Option<String>,
    /// Users of the From, To and request-URI: never printed. They tell [`crate::privacy`] which digits in
    /// a Call-ID are somebody's number.
    #[serde(skip)]
    pub parties: Parties,
}
