//! Evidence → likely causes and what to check. The table is data: `diagnosis.toml`, and the user's own file
//! of the same form before it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::record::{Diagnosis, Fault, Outcome};

mod condition;
mod explain;
mod facts;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use explain::{Known, Term, conditions};
pub use facts::Facts;
use table::Checked;

const EMBEDDED: &str = include_str!("diagnosis.toml");

/// Read once, however many engines there are.
static EMBEDDED_ROWS: LazyLock<Result<Vec<Checked>, DiagnosisError>> =
    LazyLock::new(|| table::read(EMBEDDED, true));

/// Most candidates given for one attempt.
const MAX_CANDIDATES: usize = 6;

/// The table.
#[derive(Clone, Debug)]
pub struct Diagnoses {
    /// Likeliest first: the user's rows by rank, then the embedded ones by rank.
    rows: Vec<Checked>,
}

/// What the table says of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Every likely cause, likeliest first; empty for a success that raises no question.
    pub diagnosis: Vec<Diagnosis>,
    /// Whose fault it is, as the likeliest cause has it.
    pub fault: Fault,
}

impl Diagnoses {
    /// The embedded table, with the rows of `user_table` (TOML of the same form) before it.
    pub fn new(user_table: Option<&str>) -> Result<Self, DiagnosisError> {
        let mut rows = Vec::new();
        if let Some(text) = user_table {
            rows.extend(table::read(text, false)?);
        }
        rows.extend(EMBEDDED_ROWS.clone()?);
        rows.sort_by_key(|row| row.tier);
        Ok(Self { rows })
    }

    /// What the table says of these facts.
    pub fn of(&self, facts: &Facts<'_>) -> Found {
        let mut found = self.candidates(facts);
        // What rests on no published word never comes first where anything else can be said.
        found.sort_by_key(|candidate| candidate.row.heuristic);
        let mut codes = BTreeSet::new();
        found.retain(|candidate| codes.insert(candidate.row.code.as_str()));
        found.truncate(MAX_CANDIDATES);
        let cause = found.iter().find(|candidate| !candidate.row.aside);
        let fault = cause.map_or_else(|| without_cause(facts.outcome), |candidate| candidate.row.fault());
        Found { diagnosis: found.into_iter().map(|candidate| candidate.say(facts)).collect(), fault }
    }

    /// Every row that holds, in order.
    fn candidates(&self, facts: &Facts<'_>) -> Vec<&Checked> {
        let mut found = Vec::new();
        // The tier of the first row that told a cause: from there on, fallbacks of later tiers are silent.
        let mut answered_at = None;
        for checked in &self.rows {
            let Checked { row, tier, .. } = checked;
            let silent = row.fallback && answered_at.is_some_and(|answered| answered < *tier);
            if silent || !row.when.holds(facts) {
                continue;
            }
            if !row.aside && !row.heuristic {
                answered_at = answered_at.or(Some(*tier));
            }
            found.push(checked);
        }
        found
    }
}

impl Checked {
    fn say(&self, facts: &Facts<'_>) -> Diagnosis {
        let Self { row, because, .. } = self;
        Diagnosis {
            code: row.code.clone(),
            cause: row.cause.clone(),
            check: row.check.clone(),
            because: because.fill(facts),
            fault: row.fault(),
            source: row.source.clone(),
            heuristic: row.heuristic,
        }
    }
}

/// Whose fault it is where no row tells a cause.
fn without_cause(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Succeeded
        | Outcome::Redirected
        | Outcome::Superseded
        | Outcome::Busy
        | Outcome::NoAnswer => Fault::Nobody,
        Outcome::Declined => Fault::Target,
        Outcome::Abandoned => Fault::Caller,
        Outcome::Forbidden
        | Outcome::NotFound
        | Outcome::Media
        | Outcome::NetworkFailure
        | Outcome::ReferRefused
        | Outcome::ReferUnanswered
        | Outcome::AuthFailed
        | Outcome::DialogGone
        | Outcome::NotifyTimeout
        | Outcome::Unknown => Fault::Unknown,
    }
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
