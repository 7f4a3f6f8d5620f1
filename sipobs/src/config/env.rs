//! The environment over the file.

use toml::{Table, Value};

use super::renamed::with_new_name;
use super::{Config, ConfigError, Warning, bounds, keys, otlp};
use crate::toml_error;

/// `config`, which `file` gave, with `variables` over it.
///
/// Section and key stand apart by two underscores: one would make fields of what Kubernetes puts into the
/// environment of every pod beside a Service named `sipobs` (`SIPOBS_METRICS_PORT=tcp://…`). What looks like ours and is
/// none is given as a warning, so that a variable of a later version stops nothing.
pub(super) fn over(
    mut config: Config,
    mut file: Table,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let mut unknown = Vec::new();
    let mut variables: Vec<_> = variables.into_iter().collect();
    // Ours win over the standard ones, those for traces over those for all signals, and
    // OTEL_SERVICE_NAME over the service.name in OTEL_RESOURCE_ATTRIBUTES.
    variables.sort_by_key(|(name, _)| {
        (name.starts_with("SIPOBS_"), name.contains("_TRACES_"), name == "OTEL_SERVICE_NAME", name.clone())
    });

    for (name, value) in variables {
        let readings = if let Some(field) = name.strip_prefix("SIPOBS_") {
            let path: Vec<String> = field.split("__").map(str::to_ascii_lowercase).collect();
            if !keys::is_known(&path) {
                if path.len() > 1 || !keys::is_none_of_ours(&name, &value) {
                    let near = keys::nearest(&name);
                    unknown.push(Warning::Unknown { name, near });
                }
                continue;
            }
            // A key of digits looks like a number.
            [value_of(&value), Value::String(value)].map(|value| set(file.clone(), &path, value)).to_vec()
        } else if name.starts_with("OTEL_") {
            if otlp::is_no_boolean(&name, &value) {
                unknown.push(Warning::NoBoolean { name: name.clone() });
            }
            vec![standard(file.clone(), &name, &value)]
        } else {
            continue;
        };
        // Read after each, so that the one at fault is the one named.
        (config, file) = first_that_fits(readings)
            .map_err(|message| ConfigError::Variable { name: name.clone(), message })?;
    }
    Ok((config, unknown))
}

/// The first of `readings` that is a configuration, else what is wrong with the first.
fn first_that_fits(readings: Vec<Result<Table, String>>) -> Result<(Config, Table), String> {
    let mut results = readings.into_iter().map(|file| {
        let file = file?;
        // As a text, as the file is read: a second way to read a configuration costs 300 kB of program.
        let config: Config =
            toml_error::read(&file.to_string()).map_err(|error| with_new_name(error.message))?;
        match bounds::fault(&config) {
            Some(fault) => Err(fault.message),
            None => Ok((config, file)),
        }
    });
    let first = results.next().unwrap_or_else(|| Err(String::new()));
    first.or_else(|error| results.find_map(Result::ok).ok_or(error))
}

fn set(mut file: Table, path: &[String], value: Value) -> Result<Table, String> {
    let Some((key, sections)) = path.split_last() else { return Ok(file) };
    let mut table = &mut file;
    for section in sections {
        table = section_of(table, section).ok_or_else(|| format!("`{section}` is not a section of keys"))?;
    }
    table.insert(key.clone(), value);
    Ok(file)
}

fn standard(mut file: Table, name: &str, value: &str) -> Result<Table, String> {
    let table = section_of(&mut file, "otlp").ok_or("`otlp` is not a section")?;
    otlp::variable(table, name, value)?;
    Ok(file)
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
