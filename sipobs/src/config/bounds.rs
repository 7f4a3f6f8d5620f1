//! What a value may be where its type allows more: no endless number, no time of nothing that something waits for.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use toml::{Table, Value};

use super::Config;

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its field: `link.headers[0].weight`.
    pub(super) field: String,
    /// What is wrong with it; the value itself is not shown.
    pub(super) message: String,
}

/// What a number, a duration, a list or an address may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// More than nothing.
    Positive,
    /// Nothing, which means this, or more.
    OrZero(&'static str),
    /// Any number that is one.
    Finite,
    /// From 0 to 1.
    Share,
    /// A number of bytes, and no more than so many.
    Bytes(i64),
    /// Longer than nothing and shorter than so many seconds.
    Below(u64),
    /// Whole days, up to so many.
    Days(u64),
    /// So many entries at most.
    Entries(usize),
    /// Entries out of these.
    Among(&'static [&'static str]),
    /// An address with a port that is one.
    Port,
}

/// Of each field that its type doesn't hold to sense; an entry of a list of tables is meant where its name follows.
const BOUNDS: &[(&str, Bound)] = &[
    ("capture.ring_bytes", Bound::Bytes(1 << 30)),
    ("capture.vxlan_ports", Bound::Entries(2)),
    ("capture.drop_methods", Bound::Among(&["OPTIONS", "REGISTER", "PUBLISH"])),
    ("capture.linger", Bound::Positive),
    ("hep_out.id", Bound::OrZero("none in particular")),
    ("packet.fragment_timeout", Bound::Positive),
    ("packet.copy_window", Bound::OrZero("never")),
    ("stream.max_stream_bytes", Bound::Positive),
    ("stream.max_message_bytes", Bound::Positive),
    ("stream.gap_timeout", Bound::Positive),
    ("stream.idle_timeout", Bound::Positive),
    ("stream.handshake_timeout", Bound::Positive),
    ("timers.transaction", Bound::Positive),
    ("timers.after_bye", Bound::Positive),
    ("timers.notify", Bound::Positive),
    ("timers.target", Bound::Positive),
    ("timers.grace", Bound::Positive),
    ("timers.bridged", Bound::Positive),
    ("timers.abandoned", Bound::OrZero("only at the same moment")),
    ("timers.optimistic", Bound::OrZero("only at the same moment")),
    ("timers.ringing", Bound::Positive),
    ("timers.ended", Bound::Positive),
    ("timers.idle", Bound::Positive),
    ("limits.ladder", Bound::Positive),
    ("link.headers.weight", Bound::Positive),
    ("link.weights.refer_replaces", Bound::Positive),
    ("link.weights.replaces", Bound::Positive),
    ("link.weights.join", Bound::Positive),
    ("link.weights.target_dialog", Bound::Positive),
    ("link.weights.session_id", Bound::Positive),
    ("link.weights.referred_by", Bound::Positive),
    ("link.weights.refer_to", Bound::Positive),
    ("link.weights.caller", Bound::Positive),
    ("link.weights.diverted", Bound::Positive),
    ("link.weights.hold", Bound::Positive),
    ("link.weights.media_port", Bound::Positive),
    ("link.weights.media_host", Bound::Positive),
    ("link.weights.ended", Bound::Positive),
    ("link.weights.newborn", Bound::Positive),
    ("link.link_at", Bound::Share),
    ("link.unrelated_at", Bound::Share),
    ("link.unrelated", Bound::Share),
    ("link.unrelated_among", Bound::Share),
    ("link.after_end", Bound::OrZero("not at all")),
    ("link.settle", Bound::Below(8)),
    ("link.patience", Bound::Positive),
    ("link.max_candidates", Bound::Positive),
    ("absent.min_call", Bound::OrZero("all count")),
    ("absent.before_bye", Bound::OrZero("none before it")),
    ("absent.after_bye", Bound::OrZero("none after it")),
    ("absent.suspected_at", Bound::Finite),
    ("absent.refer_ratio", Bound::Share),
    ("absent.weights.failed_second_leg", Bound::Finite),
    ("absent.weights.hold_unresolved", Bound::Finite),
    ("absent.weights.refer_expected", Bound::Finite),
    ("absent.weights.trunk_refers", Bound::Finite),
    ("absent.weights.bye_from_agent", Bound::Finite),
    ("absent.weights.bye_reason", Bound::Finite),
    ("absent.weights.refer_not_allowed", Bound::Finite),
    ("ratio.window", Bound::Days(31)),
    ("ratio.min_dialogs", Bound::Positive),
    ("ratio.min_refers", Bound::Positive),
    ("ratio.min_call", Bound::OrZero("all count")),
    ("ratio.chance", Bound::Share),
    ("ratio.expected_within", Bound::OrZero("never")),
    ("otlp.timeout", Bound::Positive),
    ("otlp.queue", Bound::Positive),
    ("otlp.batch", Bound::Positive),
    ("otlp.flush", Bound::OrZero("not at all")),
    ("webhook.timeout", Bound::Positive),
    ("webhook.retry", Bound::OrZero("not at all")),
    ("metrics.listen", Bound::Port),
    ("recorder.history", Bound::Positive),
    ("recorder.after", Bound::OrZero("not at all")),
    ("recorder.most_age", Bound::Positive),
    ("state.every", Bound::Positive),
    ("reload.every", Bound::OrZero("never")),
    ("log.silence", Bound::OrZero("never")),
];

/// Texts that may be empty.
const EMPTY: [&str; 2] = ["otlp.node", "otlp.resource"];

/// The bound of `field`, which names no places in lists.
pub(super) fn of(field: &str) -> Option<Bound> {
    BOUNDS.iter().find(|(name, _)| *name == field).map(|(_, bound)| *bound)
}

/// The first value of `config` that makes no sense.
pub(super) fn fault(config: &Config) -> Option<Fault> {
    let twice = (1..config.trunk.len()).find(|&at| config.trunk[..at].contains(&config.trunk[at]));
    let twice = twice.map(|at| Fault {
        field: format!("trunk[{at}]"),
        message: "the same as an entry before it".to_owned(),
    });
    twice.or_else(|| match Table::try_from(config) {
        Ok(table) => in_table("", "", &table),
        // What can't be looked at is not said to be well.
        Err(error) => Some(Fault { field: String::new(), message: error.to_string() }),
    })
}

/// The first fault in `table`, which `path` names with places in lists, and `field` without.
fn in_table(path: &str, field: &str, table: &Table) -> Option<Fault> {
    let join =
        |outer: &str, key: &str| if outer.is_empty() { key.to_owned() } else { format!("{outer}.{key}") };
    table.iter().find_map(|(key, value)| in_value(&join(path, key), &join(field, key), value))
}

fn in_value(path: &str, field: &str, value: &Value) -> Option<Fault> {
    let wrong = |message: String| Some(Fault { field: path.to_owned(), message });
    if let Some(bound) = of(field)
        && !bound.takes(value)
    {
        return wrong(format!("must be {bound}"));
    }
    match value {
        Value::Table(table) => in_table(path, field, table),
        Value::Array(entries) => entries.iter().enumerate().find_map(|(at, entry)| {
            in_value(&format!("{path}[{at}]"), field, entry).filter(|_| of(field).is_none())
        }),
        Value::String(text) if text.is_empty() && !EMPTY.iter().any(|it| field.starts_with(it)) => {
            wrong("is empty".to_owned())
        }
        _ => None,
    }
}

impl Bound {
    fn takes(self, value: &Value) -> bool {
        let number = number(value);
        let within = |least: f64, most: f64| number.is_some_and(|it| (least..=most).contains(&it));
        let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
        match self {
            Self::Positive => number.is_some_and(|it| it > 0.0 && it.is_finite()),
            Self::OrZero(_) => within(0.0, f64::MAX),
            Self::Finite => within(f64::MIN, f64::MAX),
            Self::Share => within(0.0, 1.0),
            Self::Bytes(most) => value.as_integer().is_some_and(|it| (1..=most).contains(&it)),
            Self::Below(seconds) => {
                duration(value).is_some_and(|it| !it.is_zero() && it < Duration::from_secs(seconds))
            }
            Self::Days(most) => duration(value).is_some_and(|it| {
                let (days, rest) = (it.as_secs() / DAY_S, it.as_secs() % DAY_S);
                (1..=most).contains(&days) && rest == 0 && it.subsec_nanos() == 0
            }),
            Self::Entries(most) => entries.len() <= most,
            Self::Among(known) => entries.iter().all(|it| it.as_str().is_some_and(|it| known.contains(&it))),
            Self::Port => {
                let address = value.as_str().and_then(|text| text.parse::<SocketAddr>().ok());
                address.is_some_and(|address| address.port() != 0)
            }
        }
    }
}

const DAY_S: u64 = 86_400;

/// As a number; a duration in seconds.
fn number(value: &Value) -> Option<f64> {
    match value {
        #[allow(clippy::cast_precision_loss, reason = "compared with small bounds")]
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        value => duration(value).map(|it| it.as_secs_f64()),
    }
}

fn duration(value: &Value) -> Option<Duration> {
    humantime::parse_duration(value.as_str()?).ok()
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Positive => f.write_str("more than 0"),
            Self::OrZero(_) => f.write_str("0 or more"),
            Self::Finite => f.write_str("a finite number"),
            Self::Share => f.write_str("from 0 to 1"),
            Self::Bytes(most) => write!(f, "from 1 to {most}"),
            Self::Below(seconds) => write!(f, "more than 0 and less than {seconds}s"),
            Self::Days(most) => write!(f, "whole days, from 1 to {most}"),
            Self::Entries(most) => write!(f, "at most {most} entries"),
            Self::Among(known) => write!(f, "any of {}", known.join(", ")),
            Self::Port => f.write_str("an address with a port from 1 to 65535"),
        }
    }
}
