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
    let new = old.and_then(|old| RENAMED.iter().find(|(was, _)| *was == old));
    match new {
        Some((old, new)) => format!("`{old}` is now `{new}`, with its unit: {new} = \"5s\""),
        None => message,
    }
}
