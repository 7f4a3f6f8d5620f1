//! Evidence → likely causes and what to check. The table is data: `diagnosis.toml`, and the user's own file
//! of the same form before it.

use super::{Diagnosis, Method, Outcome};

/// What an attempt shows, as far as its causes go.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// How the transfer was tried.
    pub method: Method,
    /// What became of it.
    pub outcome: Outcome,
    /// The deciding status.
    pub status: Option<u16>,
    /// Its phrase.
    pub reason: Option<&'a str>,
    /// What carried the deciding status.
    pub answer: Answer,
    /// Headers (or those of a sipfrag) of the message with the deciding status, every line: at least
    /// X-Twilio-Error, Reason, Warning, Retry-After. Never credentials.
    pub headers: &'a [(&'a str, &'a str)],
    /// Anything at all came back, 100 included, challenges not.
    pub heard: bool,
    /// From the last authenticated INVITE to 18x.
    pub ringing_ms: Option<i64>,
    /// From the last authenticated INVITE (or the REFER) to the final answer.
    pub answer_ms: Option<i64>,
    /// From the *first* INVITE to the caller's own CANCEL.
    pub cancel_ms: Option<i64>,
    /// Challenges (401, 407) received.
    pub challenges: u32,
    /// How often the unanswered request was sent, retransmissions included.
    pub copies: u32,
    /// The Refer-To is a `tel:` URI.
    pub tel: bool,
    /// The REFER got a 2xx.
    pub accepted: bool,
    /// The last sipfrag's status.
    pub sipfrag: Option<u16>,
    /// The 2xx refused or went without a subscription (RFC 4488): no NOTIFY will come.
    pub no_subscription: bool,
    /// Who sent the BYE that ended the dialog, if one did.
    pub bye: Option<ByeFrom>,
    /// The peer's Allow was seen and lacks REFER.
    pub refer_not_allowed: bool,
    /// The trunk's usual or declared method, where it differs from `method`.
    pub switched_from: Option<Method>,
    /// Whose ways the messages show.
    pub dialects: &'a [Dialect],
    /// Why the outcome is unknown.
    pub unknown_because: Option<&'a str>,
}

impl Facts<'_> {
    /// An attempt that shows nothing yet.
    pub fn new(method: Method, outcome: Outcome) -> Self {
        Self {
            method,
            outcome,
            status: None,
            reason: None,
            answer: Answer::Target,
            headers: &[],
            heard: true,
            ringing_ms: None,
            answer_ms: None,
            cancel_ms: None,
            challenges: 0,
            copies: 1,
            tel: false,
            accepted: false,
            sipfrag: None,
            no_subscription: false,
            bye: None,
            refer_not_allowed: false,
            switched_from: None,
            dialects: &[],
            unknown_because: None,
        }
    }
}

/// What carried the deciding status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The target leg's own answer.
    Target,
    /// A NOTIFY's sipfrag.
    Sipfrag,
    /// The answer to the REFER.
    Refer,
}

/// Who ended the dialog that was to be transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByeFrom {
    /// Who asked for the transfer.
    Transferor,
    /// Who was to be transferred.
    Transferee,
}

/// Platforms and providers that can be told by their ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the product of its name")]
pub enum Dialect {
    Asterisk,
    FreeSwitch,
    LiveKit,
    Telnyx,
    Twilio,
}

/// Why a diagnosis table can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiagnosisError {
    /// Not TOML of the table's form.
    #[error("diagnosis table: {0}")]
    Form(String),
    /// A row that makes no sense.
    #[error("diagnosis table: row {row} ({code}): {field}: {problem}")]
    Row {
        /// Position in the file, from 1.
        row: usize,
        /// Its code.
        code: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// The table.
#[derive(Clone, Debug)]
pub struct Diagnoses {}

impl Diagnoses {
    /// The embedded table, with the rows of `user_table` (TOML of the same form) before it.
    pub fn new(_user_table: Option<&str>) -> Result<Self, DiagnosisError> {
        Ok(Self {})
    }

    /// Every likely cause, likeliest first; empty for a success that raises no question.
    pub fn of(&self, _facts: &Facts<'_>) -> Vec<Diagnosis> {
        Vec::new()
    }
}
