//! Evidence → likely causes and what to check. The table is data: `diagnosis.toml`, and the user's own file
//! of the same form before it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::record::{Answered, ByeFrom, Diagnosis, Dialect, Evidence, Method, Outcome};
use crate::sip::Q850;
use crate::toml_error;

mod table;
#[cfg(test)]
mod tests;
mod words;

const EMBEDDED: &str = include_str!("diagnosis.toml");

/// Read once, however many engines there are.
static EMBEDDED_ROWS: LazyLock<Result<Vec<Checked>, DiagnosisError>> = LazyLock::new(|| read(EMBEDDED, true));

/// Most candidates given for one attempt.
const MAX_CANDIDATES: usize = 6;

/// Most rows a user's table may have.
const MAX_ROWS: usize = 1000;

/// The table.
#[derive(Clone, Debug)]
pub struct Diagnoses {
    /// Likeliest first: the user's rows by rank, then the embedded ones by rank.
    rows: Vec<Checked>,
}

#[derive(Clone, Debug)]
struct Checked {
    row: table::Row,
    because: words::Template,
    /// (embedded, rank): rows of one tier do not silence each other's fallbacks.
    tier: (bool, u32),
}

impl Diagnoses {
    /// The embedded table, with the rows of `user_table` (TOML of the same form) before it.
    pub fn new(user_table: Option<&str>) -> Result<Self, DiagnosisError> {
        let mut rows = Vec::new();
        if let Some(text) = user_table {
            rows.extend(read(text, false)?);
        }
        rows.extend(EMBEDDED_ROWS.clone()?);
        rows.sort_by_key(|row| row.tier);
        Ok(Self { rows })
    }

    /// Every likely cause, likeliest first; empty for a success that raises no question.
    pub fn of(&self, facts: &Facts<'_>) -> Vec<Diagnosis> {
        let mut found = Vec::new();
        let mut codes = BTreeSet::new();
        // The tier of the first row that told a cause: from there on, fallbacks of later tiers are silent.
        let mut answered_at = None;
        for Checked { row, because, tier } in &self.rows {
            let silent = row.fallback && answered_at.is_some_and(|answered| answered < *tier);
            if silent || !row.when.holds(facts) || !codes.insert(row.code.as_str()) {
                continue;
            }
            if !row.aside {
                answered_at = answered_at.or(Some(*tier));
            }
            found.push(Diagnosis {
                code: row.code.clone(),
                cause: row.cause.clone(),
                check: row.check.clone(),
                because: because.fill(facts),
            });
            if found.len() == MAX_CANDIDATES {
                break;
            }
        }
        found
    }
}

fn read(text: &str, embedded: bool) -> Result<Vec<Checked>, DiagnosisError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        row: Vec<toml::Table>,
    }
    let file: File = toml_error::read(text).map_err(|error| DiagnosisError::Form(error.to_string()))?;
    if file.row.len() > MAX_ROWS {
        return Err(DiagnosisError::Form(format!("more than {MAX_ROWS} rows")));
    }
    let mut rows = Vec::new();
    for (position, table) in file.row.into_iter().enumerate() {
        let code = table.get("code").and_then(toml::Value::as_str).filter(|code| table::is_code(code));
        let code = code.unwrap_or("no code").to_owned();
        let wrong = |problem| DiagnosisError::Row { row: position + 1, code: code.clone(), problem };
        let no_condition =
            table.get("when").and_then(toml::Value::as_table).is_some_and(toml::Table::is_empty);
        let row: table::Row = toml_error::read_table(table).map_err(wrong)?;
        if no_condition {
            return Err(wrong("when: give at least one condition".to_owned()));
        }
        if let Some((field, problem)) = row.problem() {
            return Err(wrong(format!("{field}: {problem}")));
        }
        let because =
            words::Template::parse(&row.because).map_err(|problem| wrong(format!("because: {problem}")))?;
        let tier = (embedded, row.rank);
        rows.push(Checked { row, because, tier });
    }
    Ok(rows)
}

/// Why a diagnosis table can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiagnosisError {
    /// Not TOML, or not a list of `[[row]]`: line, column, and what is wrong.
    #[error("diagnosis table: {0}")]
    Form(String),
    /// A row that makes no sense.
    #[error("diagnosis table: row {row} ({code}): {problem}")]
    Row {
        /// Position in the file, from 1.
        row: usize,
        /// Its code, if it may be one.
        code: String,
        /// The field, and what is wrong with it.
        problem: String,
    },
}

/// What an attempt shows, as far as its causes go.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// How the transfer was tried.
    pub method: Method,
    /// What became of it.
    pub outcome: Outcome,
    /// What that rests on.
    pub evidence: Evidence,
    /// The deciding status.
    pub status: Option<u16>,
    /// Its phrase.
    pub reason: Option<&'a str>,
    /// What carried the deciding status.
    pub answer: Answered,
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
    /// From the REFER to its 2xx.
    pub accepted_ms: Option<i64>,
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

impl<'a> Facts<'a> {
    /// An attempt that shows nothing yet.
    pub fn new(method: Method, outcome: Outcome) -> Self {
        Self {
            method,
            outcome,
            evidence: Evidence::Confirmed,
            status: None,
            reason: None,
            answer: Answered::Target,
            headers: &[],
            heard: true,
            ringing_ms: None,
            answer_ms: None,
            cancel_ms: None,
            accepted_ms: None,
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

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// Twilio's error number: from its header; without that, a number in its range in Warning or phrase.
    fn twilio(&self) -> Option<u32> {
        let in_range = |text: &str| {
            text.split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|word| word.len() == 5)
                .filter_map(|word| word.parse().ok())
                .find(|number| matches!(number, 10_000..33_000))
        };
        self.values("X-Twilio-Error")
            .find_map(number)
            .or_else(|| self.values("Warning").find_map(in_range))
            .or_else(|| self.reason.and_then(in_range))
    }

    fn q850(&self) -> Option<Q850> {
        self.values("Reason").map(str::as_bytes).find_map(Q850::parse)
    }
}

/// The first number in a header's value.
fn number(value: &str) -> Option<u32> {
    value.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}
