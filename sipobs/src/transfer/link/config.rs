//! The linker's settings: which headers tie legs, what each tie weighs, how long to wait.

use serde::{Deserialize, Serialize};

/// Settings of leg linking; every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// Headers whose equal value ties two legs, with what a match weighs.
    pub headers: Vec<LinkHeader>,
    /// Least confidence of a link; below it the answer is `ambiguous`.
    pub link_at: f64,
}

/// A header that the legs of one session share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkHeader {
    /// Header name; case does not matter.
    pub name: String,
    /// Only this parameter of the value (`icid-value` of `P-Charging-Vector`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// How much more often a true pair matches than a chance one.
    #[serde(default = "strong")]
    pub weight: f64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let header = |name: &str, param: Option<&str>| LinkHeader {
            name: name.to_owned(),
            param: param.map(str::to_owned),
            weight: strong(),
        };
        Self {
            headers: vec![
                header("X-CID", None),
                header("X-Call-ID", None),
                header("X-FS-Refer-From", None),
                header("X-FS-Refer-For", None),
                header("X-call_session_id", None),
                header("P-Charging-Vector", Some("icid-value")),
            ],
            link_at: 0.8,
        }
    }
}

fn strong() -> f64 {
    1e5
}
