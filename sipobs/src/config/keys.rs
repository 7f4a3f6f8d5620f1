//! The names of all settings, so that one that was meant can be told.

use super::renamed;

/// Every section, and its keys.
pub(super) const KEYS: &[(&str, &[&str])] = &[
    (
        "capture",
        &[
            "interfaces",
            "exclude",
            "ports",
            "mode",
            "ring",
            "ring_bytes",
            "vxlan_ports",
            "drop_methods",
            "linger",
            "kernel_log",
        ],
    ),
    ("hep", &["listen", "key"]),
    ("hep_out", &["to", "key", "id"]),
    ("packet", &["fragment_timeout", "copy_window"]),
    (
        "stream",
        &[
            "ports",
            "max_stream_bytes",
            "max_message_bytes",
            "gap_timeout",
            "idle_timeout",
            "handshake_timeout",
        ],
    ),
    ("privacy", &["mask", "key"]),
    (
        "timers",
        &[
            "transaction",
            "after_bye",
            "notify",
            "target",
            "grace",
            "bridged",
            "abandoned",
            "optimistic",
            "ringing",
            "ended",
            "idle",
        ],
    ),
    ("limits", &["memory", "ladder"]),
    (
        "link",
        &[
            "headers",
            "weights",
            "nobody",
            "link_at",
            "unrelated_at",
            "unrelated",
            "unrelated_among",
            "after_end",
            "settle",
            "patience",
            "max_candidates",
        ],
    ),
    ("absent", &["min_call", "before_bye", "after_bye", "suspected_at", "refer_ratio", "weights"]),
    ("ratio", &["window", "min_dialogs", "min_refers", "min_call", "chance", "expected_within"]),
    ("identity", &["headers", "trace_context"]),
    ("jsonl", &["path", "notices"]),
    (
        "otlp",
        &[
            "disabled",
            "endpoint",
            "traces_endpoint",
            "protocol",
            "compression",
            "calls",
            "timeout",
            "queue",
            "batch",
            "flush",
            "certificate",
            "client_certificate",
            "client_key",
            "service_name",
            "node",
            "headers",
            "resource",
        ],
    ),
    ("webhook", &["url", "secret", "secret_file", "timeout", "retry", "certificate"]),
    (
        "metrics",
        &["listen", "hosts", "token", "token_file", "certificate", "key", "client_authority", "insecure"],
    ),
    ("page", &["enabled", "trace_url"]),
    ("recorder", &["folder", "memory", "history", "after", "redact", "most_bytes", "most_age"]),
    ("state", &["path", "every", "handover"]),
    ("diagnosis", &["path"]),
    ("reload", &["every"]),
    ("log", &["format", "level", "silence"]),
];

/// Variables that are no settings, and yet read: the file, and the interface in the unit that is shipped.
const OTHERS: [&str; 2] = ["SIPOBS_CONFIG", "SIPOBS_INTERFACE"];

/// How much a name must be like another to be taken for it, from 0 to 1.
const NEAR_ENOUGH: f64 = 0.75;

/// Whether there is such a setting, or a table below which it stands: `path` is its section, its key, and what else.
pub(super) fn is_known(path: &[String]) -> bool {
    let [section, key, ..] = path else { return false };
    KEYS.iter().any(|(name, keys)| name == section && keys.contains(&&**key))
}

/// Whether the variable `name`, which has no `__`, is none of ours, or is read elsewhere: by the project's own tests, too.
pub(super) fn is_none_of_ours(name: &str, value: &str) -> bool {
    OTHERS.contains(&name) || name.starts_with("SIPOBS_TEST_") || is_of_a_service(name, value)
}

/// Kubernetes sets these in every pod beside a Service whose name begins with `sipobs`.
fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let number = name.split('_').rev().find(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    let is_of_a_port = ["TCP", "UDP", "SCTP"]
        .iter()
        .any(|protocol| number.is_some_and(|number| name.contains(&format!("_PORT_{number}_{protocol}"))));
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && is_url
        || is_of_a_port
}

/// The variable that was probably meant by `name`.
pub(super) fn nearest(name: &str) -> Option<String> {
    let all = KEYS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| variable(section, key)));
    let all = all.chain(OTHERS.map(Into::into));
    if let Some((section, old)) = name.trim_start_matches("SIPOBS_").split_once("__")
        && let Some(new) = renamed::new_name(&old.to_ascii_lowercase())
    {
        return Some(variable(section, new));
    }
    let likeness = |it: &String| strsim::normalized_damerau_levenshtein(it, name);
    all.map(|it| (likeness(&it), it))
        .filter(|(likeness, _)| *likeness >= NEAR_ENOUGH)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, it)| it)
}

fn variable(section: &str, key: &str) -> String {
    format!("SIPOBS_{section}__{key}").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// The fields that `text`, which names one that is not there, could have named.
    fn fields(text: &str) -> Vec<String> {
        let error = toml::from_str::<Config>(text).unwrap_err();
        let (_, expected) = error.message().split_once("expected ").unwrap();
        expected.split('`').skip(1).step_by(2).map(Into::into).collect()
    }

    #[test]
    fn every_setting_has_its_name_here() {
        let sections: Vec<String> = fields("zz = 1").into_iter().filter(|name| name != "trunk").collect();
        assert_eq!(sections, KEYS.iter().map(|(section, _)| *section).collect::<Vec<_>>());
        for (section, keys) in KEYS {
            let mut taken = fields(&format!("[{section}]\nzz = 1"));
            // Serde names the one field of a structure otherwise.
            taken.retain(|name| name != "zz");
            assert_eq!(taken, *keys, "{section}");
        }
    }

    #[test]
    fn what_was_meant_is_told() {
        for (name, meant) in [
            ("SIPOBS_CAPTURE_PORTS", Some("SIPOBS_CAPTURE__PORTS")),
            ("SIPOBS_CAPTUR__PORT", Some("SIPOBS_CAPTURE__PORTS")),
            ("SIPOBS_OTLP__ENPOINT", Some("SIPOBS_OTLP__ENDPOINT")),
            ("SIPOBS_OTLP__FLUSH_MS", Some("SIPOBS_OTLP__FLUSH")),
            ("SIPOBS_CONFIGURATION", None),
            ("SIPOBS_CONFG", Some("SIPOBS_CONFIG")),
            ("SIPOBS_COLOUR", None),
        ] {
            assert_eq!(nearest(name).as_deref(), meant, "{name}");
        }
    }

    #[test]
    fn services_of_kubernetes_are_told_from_slips() {
        for (name, value) in [
            ("SIPOBS_SERVICE_HOST", "10.0.0.1"),
            ("SIPOBS_METRICS_SERVICE_PORT_HTTP", "9464"),
            ("SIPOBS_PORT", "tcp://10.0.0.1:9464"),
            ("SIPOBS_METRICS_PORT", "tcp://10.0.0.1:9464"),
            ("SIPOBS_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
            ("SIPOBS_PORT_9464_TCP_ADDR", "10.0.0.1"),
            ("SIPOBS_PORT_5060_UDP_PROTO", "udp"),
            ("SIPOBS_INTERFACE", "eth0"),
        ] {
            assert!(is_none_of_ours(name, value), "{name}");
        }
        for (name, value) in
            [("SIPOBS_CAPTURE_PORT", "5060"), ("SIPOBS_PORTS", "5060"), ("SIPOBS_MASK", "full")]
        {
            assert!(!is_none_of_ours(name, value), "{name}");
        }
    }
}
