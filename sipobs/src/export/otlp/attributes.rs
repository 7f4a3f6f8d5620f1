//! A record → attributes.

use std::collections::BTreeMap;

use opentelemetry::{Array, KeyValue, StringValue, Value};
use serde::Serialize;

/// Every field of a record under `prefix`, so that the attributes are the output contract's to the letter.
/// Objects become dotted names; a list of objects becomes one list for each of their fields.
pub(super) fn attributes(prefix: &str, record: &impl Serialize, but: &[&str]) -> Vec<KeyValue> {
    let mut found = vec![];
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(record) {
        for (name, value) in fields {
            // `call_id` has its own, common name.
            if name != "call_id" && !but.contains(&name.as_str()) {
                flatten(format!("{prefix}.{name}"), value, &mut found);
            }
        }
    }
    found
}

fn flatten(name: String, value: serde_json::Value, found: &mut Vec<KeyValue>) {
    use serde_json::Value as Json;
    match value {
        Json::Null => {}
        Json::Bool(flag) => found.push(KeyValue::new(name, flag)),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => found.push(KeyValue::new(name, whole)),
            None => found.push(KeyValue::new(name, number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(text) => found.push(KeyValue::new(name, text)),
        Json::Object(fields) => {
            for (field, value) in fields {
                flatten(format!("{name}.{field}"), value, found);
            }
        }
        Json::Array(items) => {
            let mut lists: BTreeMap<String, Vec<StringValue>> = BTreeMap::new();
            for item in items {
                match item {
                    Json::Object(fields) => {
                        for (field, value) in fields {
                            lists.entry(format!("{name}.{field}")).or_default().push(text(value));
                        }
                    }
                    other => lists.entry(name.clone()).or_default().push(text(other)),
                }
            }
            found.extend(
                lists.into_iter().map(|(name, list)| KeyValue::new(name, Value::Array(Array::String(list)))),
            );
        }
    }
}

fn text(value: serde_json::Value) -> StringValue {
    match value {
        serde_json::Value::String(text) => text.into(),
        // In its place, so that the lists of one record belong together.
        serde_json::Value::Null => "".into(),
        other => other.to_string().into(),
    }
}
