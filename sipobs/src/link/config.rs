//! The linker's settings: which headers tie legs, what each tie weighs, how long to wait.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sip::HeaderName;

/// Settings of leg linking; every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// Headers whose equal value ties two legs.
    pub headers: Vec<LinkHeader>,
    /// What each tie weighs.
    pub weights: LinkWeights,
    /// Callers that name nobody, so that two legs which share one have nothing in common.
    #[serde(deserialize_with = "crate::list::parted")]
    pub nobody: Vec<String>,
    /// Least confidence of a link, 0 to 1; below it the answer is `ambiguous`.
    pub link_at: f64,
    /// A leg that is unrelated to any call with at least this probability is no second leg.
    pub unrelated_at: f64,
    /// Share of unrelated legs among those that show a platform's own number while one call to it is up, before
    /// any were seen.
    pub unrelated: f64,
    /// The same while several are up.
    pub unrelated_among: f64,
    /// How long after its end a call can still get a second leg.
    #[serde(with = "crate::duration")]
    pub after_end: Duration,
    /// How long after a leg's end the other's end is waited for. Less than 8 s.
    #[serde(with = "crate::duration")]
    pub settle: Duration,
    /// A leg that is up gets its verdict after this time, if neither leg has ended by then.
    #[serde(with = "crate::duration")]
    pub patience: Duration,
    /// Most calls weighed for one second leg: the latest.
    pub max_candidates: usize,
}

/// A header that the legs of one session share: by the same value in both, or the Call-ID of the other in one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkHeader {
    /// Header name; case does not matter.
    pub name: HeaderName,
    /// Only this parameter of the value (`icid-value` of `P-Charging-Vector`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// What a match weighs, as those of `[link.weights]`.
    #[serde(default = "header_weight")]
    pub weight: f64,
}

/// How many times likelier each tie is between a second leg and its own call than between a second leg and any
/// other call that fits by host and number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkWeights {
    /// Replaces equal to the one in a REFER's Refer-To.
    pub refer_replaces: f64,
    /// Replaces that names the call (RFC 3891).
    pub replaces: f64,
    /// Join that names the call (RFC 3911).
    pub join: f64,
    /// Target-Dialog that names the call (RFC 4538).
    pub target_dialog: f64,
    /// A UUID shared in Session-ID (RFC 7989).
    pub session_id: f64,
    /// Referred-By and request-URI as in a REFER of the last 30 s.
    pub referred_by: f64,
    /// Request-URI as in the Refer-To of the last 10 s.
    pub refer_to: f64,
    /// From or P-Asserted-Identity is the call's caller.
    pub caller: f64,
    /// Diversion or History-Info is the call's number.
    pub diverted: f64,
    /// The call was put on hold within the last minute.
    pub hold: f64,
    /// The offer's media address and port are the call's.
    pub media_port: f64,
    /// The offer's media address is the call's.
    pub media_host: f64,
    /// The call had ended before the leg began.
    pub ended: f64,
    /// The call was less than a second old.
    pub newborn: f64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let header = |name: &str, param: Option<&str>| LinkHeader {
            name: name.into(),
            param: param.map(str::to_owned),
            weight: header_weight(),
        };
        // The numbers spell the words on a telephone's keypad, as carriers send them.
        let nobody = [
            "anonymous",
            "restricted",
            "blocked",
            "unknown",
            "unavailable",
            "private",
            "266696687",
            "7378742833",
            "2562533",
            "8656696",
            "86282452253",
        ];
        Self {
            headers: vec![
                header("X-CID", None),
                header("X-Call-ID", None),
                header("X-FS-Refer-From", None),
                header("X-FS-Refer-For", None),
                header("X-call_session_id", None),
                header("P-Charging-Vector", Some("icid-value")),
            ],
            weights: LinkWeights::default(),
            nobody: nobody.map(str::to_owned).to_vec(),
            link_at: 0.6,
            unrelated_at: 0.8,
            unrelated: 0.015,
            unrelated_among: 0.1,
            after_end: Duration::from_secs(5),
            settle: Duration::from_secs(7),
            patience: Duration::from_secs(180),
            max_candidates: 256,
        }
    }
}

impl Default for LinkWeights {
    fn default() -> Self {
        Self {
            refer_replaces: 1e7,
            replaces: 1e6,
            join: 1e6,
            target_dialog: 1e6,
            session_id: 1e5,
            referred_by: 1e4,
            refer_to: 3e3,
            caller: 50.0,
            diverted: 20.0,
            hold: 5.0,
            media_port: 100.0,
            media_host: 1.5,
            ended: 0.05,
            newborn: 0.2,
        }
    }
}

fn header_weight() -> f64 {
    1e5
}
