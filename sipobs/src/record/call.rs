//! An ended call, and whether a REFER is missing in it.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use strum::{IntoStaticStr, VariantNames};

use super::{AbsentSignal, Parties, Seen, Side, id_of};
use crate::timestamp::Timestamp;

/// An ended call.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Call {
    /// Its Call-ID.
    pub call_id: String,
    /// First INVITE, or the first message seen of it.
    pub started: Timestamp,
    /// The 2xx to its INVITE.
    pub answered: Option<Timestamp>,
    /// BYE, or the final failure.
    pub ended: Timestamp,
    /// Who sent the BYE (or CANCEL); `None` when a failure answer ended it.
    pub ended_by: Option<Side>,
    /// Final status of its INVITE.
    pub status: Option<u16>,
    /// Configured name of the peer, or `other`.
    pub trunk: Arc<str>,
    /// How many transfer attempts it held.
    pub transfers: u32,
    /// The trace that its span is in, where it has one.
    pub trace_id: Option<String>,
    /// The file with its packets, in the folder `[recorder] folder`; not there where none is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_file: Option<String>,
    /// Whether a REFER might have been expected and did not come.
    #[serde(flatten)]
    pub refer_absent: ReferAbsent,
    /// A transfer concerns it: it was to be transferred, or is a leg of one.
    #[serde(skip)]
    pub in_transfer: bool,
    /// Whose messages were seen.
    #[serde(skip)]
    pub seen: Seen,
    /// Who sent its first message, and who it was sent to.
    #[serde(skip)]
    pub hosts: [IpAddr; 2],
    /// Users of the From, To and request-URI: never printed. They tell [`crate::privacy`] which digits in
    /// a Call-ID are somebody's number.
    #[serde(skip)]
    pub parties: Parties,
}

impl Call {
    /// A name for it, made as an attempt's is: of its Call-ID and its beginning.
    #[must_use]
    pub fn id(&self) -> String {
        id_of(&[self.call_id.as_bytes(), &[0], b"call", &self.started.as_nanos().to_be_bytes()])
    }

    /// Whether a REFER seems to be missing in it, by more than the plain fact.
    #[must_use]
    pub const fn is_flagged(&self) -> bool {
        match self.refer_absent {
            ReferAbsent::Suspected { .. } | ReferAbsent::MethodSwitched => true,
            ReferAbsent::No | ReferAbsent::Fact { .. } => false,
        }
    }
}

/// The REFER-absent BYE, in levels. Only a fact; alerts are [`super::Alert`]s.
#[derive(Clone, Debug, PartialEq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum ReferAbsent {
    /// There was a transfer attempt, or the call is not one that the question fits.
    No,
    /// An answered call, as long as `absent.min_call` says, that ended in BYE without any sign of a transfer.
    Fact {
        /// A second leg could not have been seen from here.
        invite_unknown: bool,
    },
    /// Signals add up.
    Suspected {
        /// Their sum; 3 or more.
        score: f64,
        /// Each with its weight.
        signals: Vec<Signal>,
    },
    /// A second-leg INVITE on a trunk that used, or is expected, to be transferred by REFER.
    MethodSwitched,
}

/// The fields of [`ReferAbsent`]: always all of them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ReferAbsentFields<'a> {
    /// The level.
    #[cfg_attr(test, schemars(schema_with = "levels"))]
    refer_absent: &'static str,
    /// Of `fact`: a second leg could not have been seen from here.
    invite_unknown: Option<bool>,
    /// Of `suspected`: the signals' sum; 3 or more.
    score: Option<f64>,
    /// Of `suspected`: each with its weight.
    signals: Option<&'a [Signal]>,
}

impl Serialize for ReferAbsent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (invite_unknown, score, signals) = match self {
            Self::No | Self::MethodSwitched => (None, None, None),
            Self::Fact { invite_unknown } => (Some(*invite_unknown), None, None),
            Self::Suspected { score, signals } => (None, Some(*score), Some(&signals[..])),
        };
        ReferAbsentFields { refer_absent: self.into(), invite_unknown, score, signals }.serialize(serializer)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for ReferAbsent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReferAbsent".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ReferAbsentFields::json_schema(generator)
    }
}

#[cfg(test)]
fn levels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "enum": ReferAbsent::VARIANTS })
}

/// One signal of a suspected missing REFER.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Signal {
    /// What was seen.
    pub name: AbsentSignal,
    /// What it adds.
    pub weight: f64,
}
