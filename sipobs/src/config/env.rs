//! The environment over the file.

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, ConfigError, otlp};

/// `config`, which `file` gave, with `variables` over it.
///
/// Section and key stand apart by two underscores: one would make fields of what Kubernetes puts into the
/// environment of every pod beside a Service named `sipobs` (`SIPOBS_METRICS_PORT=tcp://…`).
pub(super) fn over(
    mut config: Config,
    mut file: Table,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut variables: Vec<_> = variables.into_iter().collect();
    // Ours win over the standard ones, those for traces over those for all signals, and
    // OTEL_SERVICE_NAME over the service.name in OTEL_RESOURCE_ATTRIBUTES.
    variables.sort_by_key(|(name, _)| {
        (name.starts_with("SIPOBS_"), name.contains("_TRACES_"), name == "OTEL_SERVICE_NAME", name.clone())
    });

    for (name, value) in variables {
        let fail = |message: String| ConfigError::Variable { name: name.clone(), message };
        if let Some(field) = name.strip_prefix("SIPOBS_") {
            let mut path: Vec<String> = field.split("__").map(str::to_ascii_lowercase).collect();
            let Some(key) = path.pop().filter(|_| !path.is_empty()) else { continue };
            let typed = value_of(&value);
            put(&mut file, &path, &key, typed.clone()).map_err(fail)?;
            // What looks like a number may be a name: a node's, for one.
            if Config::deserialize(file.clone()).is_err() {
                let mut as_text = file.clone();
                put(&mut as_text, &path, &key, Value::String(value.clone())).map_err(fail)?;
                if Config::deserialize(as_text.clone()).is_ok() {
                    file = as_text;
                }
            }
        } else if name.starts_with("OTEL_") {
            let table =
                section_of(&mut file, "otlp").ok_or_else(|| fail("`otlp` is not a section".into()))?;
            otlp::variable(table, &name, &value).map_err(fail)?;
        } else {
            continue;
        }
        // Read after each, so that the one at fault is the one named.
        config = Config::deserialize(file.clone()).map_err(|error| fail(super::discreet(error.message())))?;
    }
    Ok(config)
}

fn put(file: &mut Table, path: &[String], key: &str, value: Value) -> Result<(), String> {
    let mut table = file;
    for section in path {
        table = section_of(table, section).ok_or_else(|| format!("`{section}` is not a section of keys"))?;
    }
    table.insert(key.to_owned(), value);
    Ok(())
}

fn section_of<'a>(file: &'a mut Table, section: &str) -> Option<&'a mut Table> {
    file.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
}

/// What a variable says: a TOML value where it is one, else its text.
fn value_of(text: &str) -> Value {
    toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| (table.len() == 1).then(|| table.remove("v")).flatten())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}
