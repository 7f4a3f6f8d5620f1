//! One row of the table: its form in TOML, and how a table is read.

use serde::Deserialize;

use super::DiagnosisError;
use super::condition::When;
use super::words::Template;
use crate::record::Fault;
use crate::toml_error;

/// Most rows a user's table may have.
const MAX_ROWS: usize = 1000;

/// A row as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) code: String,
    pub(super) rank: u32,
    #[serde(default)]
    pub(super) fallback: bool,
    #[serde(default)]
    pub(super) aside: bool,
    #[serde(default)]
    pub(super) heuristic: bool,
    #[serde(default)]
    pub(super) fault: Option<Fault>,
    #[serde(default)]
    pub(super) source: Option<String>,
    pub(super) when: When,
    pub(super) cause: String,
    pub(super) check: String,
    pub(super) because: String,
}

/// A row that makes sense.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) row: Row,
    pub(super) because: Template,
    /// (embedded, rank): rows of one tier do not silence each other's fallbacks.
    pub(super) tier: (bool, u32),
}

/// Reads a table. Rows of sipobs's own say whose fault it is and where they have it from.
pub(super) fn read(text: &str, embedded: bool) -> Result<Vec<Checked>, DiagnosisError> {
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
        let code = table.get("code").and_then(toml::Value::as_str).filter(|code| is_code(code));
        let code = code.unwrap_or("no code").to_owned();
        let wrong = |problem| DiagnosisError::Row { row: position + 1, code: code.clone(), problem };
        let row: Row = toml_error::read_table(&table).map_err(wrong)?;
        if let Some((field, problem)) = row.problem(embedded) {
            return Err(wrong(format!("{field}: {problem}")));
        }
        let because =
            Template::parse(&row.because).map_err(|problem| wrong(format!("because: {problem}")))?;
        let tier = (embedded, row.rank);
        rows.push(Checked { row, because, tier });
    }
    Ok(rows)
}

impl Row {
    /// Whose fault it is; a user's row need not say.
    pub(super) fn fault(&self) -> Fault {
        self.fault.unwrap_or(Fault::Unknown)
    }

    /// What is wrong with the row, if anything: the field, and the problem.
    fn problem(&self, embedded: bool) -> Option<(&'static str, &'static str)> {
        if !is_code(&self.code) {
            return Some(("code", "must be 1 to 64 of a-z, 0-9 and _"));
        }
        if self.when.is_empty() {
            return Some(("when", "give at least one condition"));
        }
        if embedded && self.source.is_none() {
            return Some(("source", "must be there"));
        }
        if embedded && self.fault.is_none() {
            return Some(("fault", "must be there"));
        }
        let source = self.source.as_deref().unwrap_or("-");
        for (field, text) in
            [("cause", &*self.cause), ("check", &self.check), ("because", &self.because), ("source", source)]
        {
            if text.trim().is_empty() || text.len() > 1000 {
                return Some((field, "must have 1 to 1000 bytes"));
            }
        }
        None
    }
}

/// Whether it may be the code of a row.
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
