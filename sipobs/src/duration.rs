//! Durations in the configuration, as people write them: `35s`, `1h 30m`, `500ms`, `7days`. For `#[serde(with)]`.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::ser::Serializer;

/// The longest one: whatever is longer was a slip, and times are reckoned with it.
const MOST: Duration = Duration::from_secs(366 * 86_400);

pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*value))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text)
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, up to a year, such as \"35s\" or \"500ms\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        humantime::parse_duration(text)
            .ok()
            .filter(|value| *value <= MOST)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One {
        #[serde(with = "super")]
        it: Duration,
    }

    #[test]
    fn as_people_write_them() {
        for (text, millis) in
            [("35s", 35_000), ("500ms", 500), ("1h 30m", 5_400_000), ("7days", 604_800_000), ("0s", 0)]
        {
            let one: One = toml::from_str(&format!("it = \"{text}\"")).unwrap();
            assert_eq!(one.it, Duration::from_millis(millis));
            assert_eq!(toml::from_str::<One>(&toml::to_string(&one).unwrap()).unwrap(), one);
        }
    }

    #[test]
    fn a_number_alone_says_no_unit() {
        for text in ["35", "\"35\"", "\"-1s\"", "\"400days\"", "\"\"", "1.5", "true"] {
            let error = toml::from_str::<One>(&format!("it = {text}")).unwrap_err();
            assert!(error.message().contains("expected a duration with its unit"), "{text}: {error}");
        }
    }
}
