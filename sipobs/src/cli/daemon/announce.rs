//! The log's lines about the whole run: what it begins with, that it is ready, what it came to.

use std::collections::BTreeSet;
use std::time::Duration;

use sipobs::capture::live::Live;
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::record::Outcome;

use super::sources::Sources;
use crate::cli::logging::{Started, started};
use crate::cli::{COMMIT, note, warn};

/// Interfaces and trunks that are named at most: a node may have thousands.
const NAMED: usize = 8;

/// What it is, what it watches, and where what it finds goes.
pub(super) fn start(config: &Config, sources: &Sources, engine: &Engine) {
    let live = sources.live();
    let attached = live
        .into_iter()
        .flat_map(Live::attachments)
        .map(|attachment| format!("{}: {}", attachment.interface, attachment.how));
    let collector = config.otlp.traces_url().map_or_else(|| "none".to_owned(), |url| url.to_string());
    let ports = config.capture.ports.iter().filter(|_| live.is_some()).map(u16::to_string);
    let hep = config.hep.listen.iter().map(ToString::to_string);
    let trunks = engine.transfers().trunks().filter(|name| *name != "other").map(str::to_owned);
    started(&Started {
        commit: COMMIT,
        interfaces: &listed(attached),
        ports: &listed(ports),
        ring: &live.map_or_else(|| "none".into(), |live| live.rings().to_string()),
        hep: &listed(hep),
        collector: &collector,
        metrics: &config.metrics.listen.to_string(),
        trunks: &listed(trunks),
    });
    if config.hep.is_open_to_others() {
        warn(format_args!(
            "hep.listen: whoever can reach it can tell of calls that never were: give hep.key, or let only agents reach it"
        ));
    }
}

/// It captures, or waits for an interface to come.
pub(super) fn ready(config: &Config, sources: &Sources) {
    let hep = listed(config.hep.listen.iter().map(ToString::to_string));
    let and_hep = if config.hep.listen.is_empty() { String::new() } else { format!(", HEP on {hep}") };
    let Some(live) = sources.live() else { return note(format_args!("ready: HEP on {hep}")) };
    let watched: BTreeSet<_> = live.attachments().map(|attachment| &attachment.interface).collect();
    match watched.len() {
        0 => {
            note(format_args!(
                "nothing to watch here: no interface fits capture.interfaces; waiting for one{and_hep}"
            ));
        }
        1 => note(format_args!("ready: watching 1 interface{and_hep}")),
        many => note(format_args!("ready: watching {many} interfaces{and_hep}")),
    }
}

/// What a run came to.
pub(super) struct Tally {
    pub(super) frames: u64,
    pub(super) messages: u64,
    pub(super) lost: u64,
    pub(super) transfers: Vec<(Outcome, u64)>,
}

/// What it came to, after `lasted`; with the spans that were delivered and lost, where there are any.
pub(super) fn end(tally: &Tally, lasted: Duration, spans: Option<(u64, u64)>) {
    let Tally { frames, messages, lost, transfers } = tally;
    let count: u64 = transfers.iter().map(|(_, count)| count).sum();
    let by_outcome: Vec<String> =
        transfers.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let by_outcome = if count == 0 { String::new() } else { format!(" ({})", by_outcome.join(", ")) };
    let spans = spans
        .map_or_else(String::new, |(delivered, lost)| format!(", {delivered} spans delivered, {lost} lost"));
    let lasted = humantime::format_duration(Duration::from_secs(lasted.as_secs()));
    note(format_args!(
        "ended after {lasted}: {frames} frames, {lost} lost, {messages} SIP messages, {count} transfers{by_outcome}{spans}"
    ));
}

/// Some of `all`, and how many more there are; `none` where there are none.
fn listed(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    match (&all[..], more) {
        ([], _) => "none".into(),
        (some, 0) => some.join(", "),
        (some, more) => format!("{} and {more} more", some.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_the_rest_counted() {
        let many = |count: usize| listed((0..count).map(|number| format!("veth{number}")));
        assert_eq!(many(0), "none");
        assert_eq!(many(2), "veth0, veth1");
        assert!(many(1000).ends_with("veth7 and 992 more"), "{}", many(1000));
    }
}
