//! What is said of TOML that can't be used: where, and what is wrong, and of what stands there no more than a field's
//! name. It may be a secret in the wrong place, or another file than was meant.

use std::fmt::{self, Write as _};
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Table;
use toml::de::{DeTable, DeValue};

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TomlError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The field by its path, or empty.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for TomlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, field, message } = self;
        write!(f, "{line}:{column}: {}{message}", Field(field))
    }
}

/// A field with what stands between it and its complaint, or nothing.
struct Field<'a>(&'a str);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

/// `text` as a `T`.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let (line, column) = line_and_column(text, span.start);
        TomlError { line, column, field: field_at(text, &span), message: without_content(error.message()) }
    })
}

/// Line and column of the value of `field` in `text`, which is TOML: of as much of it as stands there.
pub(crate) fn place(text: &str, field: &str) -> (usize, usize) {
    let Ok(table) = DeTable::parse(text) else { return (1, 1) };
    let (mut at, mut value) = (0, &DeValue::Table(table.into_inner()));
    for part in field.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let inner = match value {
            DeValue::Table(table) => table.get(part),
            DeValue::Array(entries) => part.parse().ok().and_then(|place: usize| entries.get(place)),
            _ => None,
        };
        let Some(inner) = inner else { break };
        (at, value) = (inner.span().start, inner.get_ref());
    }
    line_and_column(text, at)
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or("").chars().count() + 1)
}

/// `table` as a `T`; else the field and what is wrong with it.
pub(crate) fn read_table<T: DeserializeOwned>(table: &Table) -> Result<T, String> {
    read(&table.to_string()).map_err(|error| format!("{}{}", Field(&error.field), error.message))
}

/// A complaint of serde's without the value that it is about.
pub(crate) fn without_content(message: &str) -> String {
    let from_last = |mark: &str| message.rfind(mark).map_or("", |at| &message[at..]);
    for about in ["invalid type: ", "invalid value: "] {
        if let Some(value) = message.strip_prefix(about) {
            let kind = value.split(['"', '`', ',']).next().unwrap_or("").trim_end();
            return format!("{about}{kind}{}", from_last(", expected "));
        }
    }
    if message.starts_with("unknown variant `") {
        return format!("unknown value{}", from_last(", expected "));
    }
    if let Some(name) = message.strip_prefix("unknown field `") {
        let expected = from_last("`, expected ");
        let name = name.strip_suffix(expected).filter(|name| is_name(name));
        let name = name.map_or(String::new(), |name| format!(" `{name}`"));
        return format!("unknown field{name}{}", expected.trim_start_matches('`'));
    }
    message.to_owned()
}

/// The field whose key or value is all that stands at `span`, by its path; empty where there is none, or where a quoted key
/// is on the way to it, which may be anything.
fn field_at(text: &str, span: &Range<usize>) -> String {
    let mut path = String::new();
    if let Ok(table) = DeTable::parse(text) {
        find(&DeValue::Table(table.into_inner()), span, &mut path);
    }
    let is_shown = path.len() <= 200
        && path.split(['.', '[', ']']).all(|part| part.is_empty() || is_name(part));
    if is_shown { path } else { String::new() }
}

/// Puts the way from `value` to what stands at `span` behind `path`, which stays as it is where there is nothing.
fn find(value: &DeValue<'_>, span: &Range<usize>, path: &mut String) -> bool {
    let before = path.len();
    let found = match value {
        DeValue::Table(table) => table.iter().any(|(key, value)| {
            path.truncate(before);
            if before > 0 {
                path.push('.');
            }
            path.push_str(key.get_ref());
            key.span() == *span || value.span() == *span || find(value.get_ref(), span, path)
        }),
        DeValue::Array(entries) => entries.iter().enumerate().any(|(place, entry)| {
            path.truncate(before);
            let _ = write!(path, "[{place}]");
            entry.span() == *span || find(entry.get_ref(), span, path)
        }),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => false,
    };
    if !found {
        path.truncate(before);
    }
    found
}

/// Whether it is what a field may be called.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read and thrown away")]
    struct Ours {
        number: Option<u16>,
        text: Option<String>,
        choice: Option<Choice>,
        table: Option<BTreeMap<String, u8>>,
        address: Option<SocketAddr>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        One,
        Two,
    }

    fn complaint(text: &str) -> String {
        read::<Ours>(text).unwrap_err().to_string()
    }

    #[test]
    fn complaints_say_where_and_what_but_not_which_value() {
        for (text, said) in [
            ("number = \"q5ecret\"", "1:10: number: invalid type: string, expected u16"),
            ("number = 70000", "1:10: number: invalid value: integer, expected u16"),
            ("text = 5553331234", "1:8: text: invalid type: integer, expected a string"),
            ("text = true", "1:8: text: invalid type: boolean, expected a string"),
            ("text = [\"q5ecret\"]", "1:8: text: invalid type: sequence, expected a string"),
            ("choice = \"q5`, expected ecret\"", "1:10: choice: unknown value, expected `one` or `two`"),
            ("table = \"a, expected b\"", "1:9: table: invalid type: string, expected a map"),
            ("\n[table]\nx = \"y\"", "3:5: table.x: invalid type: string, expected u8"),
            ("address = \"q5ecret\"", "1:11: address: invalid socket address syntax"),
        ] {
            assert_eq!(complaint(text), said, "{text}");
        }
        let unknown = complaint("colour = 1");
        assert!(
            unknown.starts_with("1:1: colour: unknown field `colour`, expected one of `number`, "),
            "{unknown}"
        );
        let unknown = complaint("\"root:$6$`, q\" = 1");
        assert!(unknown.starts_with("1:1: unknown field, expected one of `number`, "), "{unknown}");
        let foreign = complaint("root:$6$q5ecret:19000:0:99999:7:::\n");
        assert!(foreign.starts_with("1:35: key with no value") && !foreign.contains("q5"), "{foreign}");
    }

    proptest! {
        #[test]
        fn whatever_the_file_is(
            before in "[ -~\\n]{0,12}",
            name in prop::sample::select(vec!["number", "text", "choice", "table", "address", "table.x", "other"]),
            between in "[=:\\[{\" .,']{1,4}",
            after in "[ -~\\n]{0,12}",
        ) {
            let text = format!("{before}{name}{between}q5ecret{after}");
            if let Err(error) = read::<Ours>(&text) {
                // As a field's name it may be shown.
                let shown = error.to_string().replace("unknown field `q5ecret`", "").replace(&error.field, "");
                prop_assert!(!shown.contains("q5ecret"), "{text:?}: {error}");
            }
        }
    }
}
