//! Keys that had other names once: who still uses one is told the new one.

/// The old name, and what stands in its place.
const RENAMED: &[(&str, &str)] = &[
    ("after_bye_s", "after_bye"),
    ("after_end_seconds", "after_end"),
    ("before_bye_s", "before_bye"),
    ("copy_window_ms", "copy_window"),
    ("every_s", "every"),
    ("flush_ms", "flush"),
    ("fragment_timeout_ms", "fragment_timeout"),
    ("gap_timeout_ms", "gap_timeout"),
    ("handshake_timeout_s", "handshake_timeout"),
    ("idle_timeout_s", "idle_timeout"),
    ("linger_ms", "linger"),
    ("min_call_s", "min_call"),
    ("patience_seconds", "patience"),
    ("settle_seconds", "settle"),
    ("timeout_ms", "timeout"),
    ("window_days", "window"),
];

/// `message`, with what to write where it is about a key's old name.
pub(super) fn with_new_name(message: String) -> String {
    let old = message.strip_prefix("unknown field `").and_then(|rest| Some(rest.split_once('`')?.0));
    match old.and_then(|old| Some((old, new_name(old)?))) {
        Some((old, new)) => format!("`{old}` is now `{new}`, with its unit: {new} = \"5s\""),
        None => message,
    }
}

/// What stands in the place of the key `old`.
pub(super) fn new_name(old: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(was, _)| *was == old).map(|(_, new)| *new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn an_old_name_is_answered_with_the_new_one() {
        for (section, old, new) in [("otlp", "flush_ms", "flush"), ("absent", "min_call_s", "min_call")] {
            let error = toml::from_str::<Config>(&format!("[{section}]\n{old} = 5\n")).unwrap_err();
            let said = with_new_name(error.message().to_owned());
            assert_eq!(said, format!("`{old}` is now `{new}`, with its unit: {new} = \"5s\""));
        }
    }

    #[test]
    fn what_never_was_a_name_stays_what_it_is() {
        let said = "unknown field `flush_s`, expected one of `flush`, `timeout`";
        assert_eq!(with_new_name(said.to_owned()), said);
    }

    #[test]
    fn no_old_name_is_still_a_name() {
        for (old, new) in RENAMED {
            assert!(!RENAMED.iter().any(|(was, _)| was == new), "{old} leads to another old name");
        }
    }
}
