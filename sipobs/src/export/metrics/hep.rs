//! What became of packets of HEP, in a scrape.

use std::fmt;

use super::snapshot::{Encoder, LabelPairs};
use crate::export::hep::HepOutCounts;

/// Packets of HEP: `packets = used + unused + waiting`.
#[derive(Clone, Debug, Default)]
pub struct HepCounts {
    /// Packets read, by transport.
    pub packets: Vec<(&'static str, u64)>,
    /// Those of them that gave a message.
    pub used: u64,
    /// Those that did not, by reason.
    pub unused: Vec<(&'static str, u64)>,
    /// Those that wait for the engine.
    pub waiting: u64,
    /// Datagrams that the kernel had no room for.
    pub lost_in_kernel: u64,
    /// TCP connections that are open.
    pub connections: u64,
    /// TCP connections that were closed from this side, by reason.
    pub closed: Vec<(&'static str, u64)>,
}

pub(super) fn encode(counts: &HepCounts, out: &mut Encoder<'_>) -> fmt::Result {
    out.counter(
        "hep_packets",
        "Packets of HEP that were read, by what they came by",
        by("transport", &counts.packets),
    )?;
    out.counter("hep_packets_used", "Packets of HEP that gave a message", [(vec![], counts.used)])?;
    out.counter(
        "hep_packets_unused",
        "Packets of HEP that led to no message, by the reason",
        by("reason", &counts.unused),
    )?;
    #[allow(clippy::cast_precision_loss, reason = "no more than there is room for")]
    let (waiting, connections) = (counts.waiting as f64, counts.connections as f64);
    out.gauge("hep_packets_waiting", "Packets of HEP that wait for the engine", [(vec![], waiting)])?;
    out.counter(
        "hep_datagrams_dropped",
        "Datagrams of HEP that the kernel dropped before they were read, as their socket had no room",
        [(vec![], counts.lost_in_kernel)],
    )?;
    out.gauge("hep_connections", "TCP connections of HEP that are open", [(vec![], connections)])?;
    out.counter(
        "hep_connections_closed",
        "TCP connections of HEP that were closed from this side, by the reason",
        by("reason", &counts.closed),
    )
}

/// What is sent on: `made = sent + dropped + waiting`.
pub(super) fn encode_out(counts: &HepOutCounts, out: &mut Encoder<'_>) -> fmt::Result {
    out.counter("hep_out_packets", "Packets of HEP made, one for each message", [(vec![], counts.made)])?;
    out.counter("hep_out_packets_sent", "Packets of HEP handed to the network", [(vec![], counts.sent)])?;
    out.counter(
        "hep_out_packets_dropped",
        "Packets of HEP that were not sent, by the reason",
        by("reason", &counts.dropped),
    )?;
    #[allow(clippy::cast_precision_loss, reason = "no more than there is room for")]
    let waiting = counts.waiting as f64;
    out.gauge("hep_out_packets_waiting", "Packets of HEP in the queue or being sent", [(vec![], waiting)])?;
    out.counter(
        "hep_out_failures",
        "Times that the receiver of HEP could not be reached, or refused",
        [(vec![], counts.failures)],
    )
}

fn by<'l>(
    label: &'static str,
    counts: &'l [(&'static str, u64)],
) -> impl Iterator<Item = (LabelPairs<'l>, u64)> {
    counts.iter().map(move |&(name, n)| (vec![(label, name)], n))
}
