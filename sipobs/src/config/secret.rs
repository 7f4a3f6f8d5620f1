//! Values that no message shows.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use crate::toml_error::is_name;

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What is shown in its place, and so is none.
const HIDDEN: &str = "(hidden)";

impl Secret {
    /// Keeps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn of(value: Value) -> Result<Self, &'static str> {
        match value {
            Value::String(value) if value == HIDDEN => {
                Err("`(hidden)` is what `sipobs config` shows in place of a secret")
            }
            Value::String(value) => Ok(Self(value)),
            _ => Err("a secret is a text, in quotes"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// Whatever stands there is taken first and looked at then: serde's own complaint of a wrong type quotes it.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Value::deserialize(deserializer)?).map_err(Error::custom)
    }
}

/// Secrets by name. Names are shown.
pub(super) fn by_name<'de, D>(deserializer: D) -> Result<BTreeMap<String, Secret>, D::Error>
where
    D: Deserializer<'de>,
{
    let Value::Table(entries) = Value::deserialize(deserializer)? else {
        return Err(Error::custom("a table of names and secrets: { Authorization = \"…\" }"));
    };
    let secret = |(name, value): (String, Value)| match Secret::of(value) {
        Ok(secret) => Ok((name, secret)),
        Err(wrong) if is_name(&name) => Err(Error::custom(format_args!("`{name}`: {wrong}"))),
        Err(wrong) => Err(Error::custom(wrong)),
    };
    entries.into_iter().map(secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Section {
        key: Option<Secret>,
        #[serde(default, deserialize_with = "by_name")]
        headers: BTreeMap<String, Secret>,
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let section: Section = toml::from_str("key = \"q5ecret\"\nheaders = { a = \"q5ecret\" }").unwrap();
        assert_eq!(section.headers["a"].expose(), "q5ecret");
        let shown = format!("{section:?} {section:#?} {}", toml::to_string(&section).unwrap());
        assert!(!shown.contains("q5ecret") && shown.matches(HIDDEN).count() == 6, "{shown}");
    }

    #[test]
    fn no_complaint_shows_what_stands_in_a_secrets_place() {
        let values =
            ["555333", "5.55333", "[\"555333\"]", "{ name = 555333 }", "true", "1979-05-27", "\"(hidden)\""];
        for value in values {
            for text in
                [format!("key = {value}"), format!("[headers]\nname = {value}"), format!("headers = {value}")]
            {
                match toml::from_str::<Section>(&text) {
                    Ok(section) => assert!(section.headers.is_empty(), "{text}"),
                    Err(error) => {
                        let message = error.message();
                        assert!(
                            !message.contains("555333") && !message.contains("true"),
                            "{text}: {message}"
                        );
                    }
                }
            }
        }
    }
}
