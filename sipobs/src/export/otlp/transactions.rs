//! The ladder of an attempt → transactions, each a span, and the event of each message.

use opentelemetry::KeyValue;
use opentelemetry::trace::Event;

use super::spans::moment;
use crate::export::words;
use crate::record::{LadderLine, LegRole};
use crate::sip::Method;

/// A transaction as the ladder shows it (RFC 3261 §17). ACK and CANCEL go with their INVITE.
pub(super) struct Transaction<'a> {
    pub(super) leg: LegRole,
    pub(super) method: Method,
    pub(super) number: u32,
    /// Its request was seen.
    pub(super) opened: bool,
    pub(super) client: std::net::IpAddr,
    pub(super) lines: Vec<&'a LadderLine>,
}

pub(super) fn transactions(lines: &[LadderLine]) -> Vec<Transaction<'_>> {
    let mut found: Vec<Transaction<'_>> = vec![];
    for line in lines {
        let method = match line.cseq.method {
            Method::Ack | Method::Cancel => Method::Invite,
            method => method,
        };
        let request = !line.line.starts_with("SIP/2.0 ");
        // Each side of a dialog counts its own CSeq, so the number alone does not tell.
        let client = if request { line.from.ip() } else { line.to.ip() };
        let same = |t: &&mut Transaction<'_>| {
            t.leg == line.leg && t.method == method && t.number == line.cseq.number && t.client == client
        };
        match found.iter_mut().rev().find(same) {
            Some(transaction) => transaction.lines.push(line),
            None => found.push(Transaction {
                leg: line.leg,
                method,
                number: line.cseq.number,
                opened: request,
                client,
                lines: vec![line],
            }),
        }
    }
    found
}

/// The event of one message, and its status and reason if it is an answer.
pub(super) fn event(line: &LadderLine) -> (Event, Option<(u16, &str)>) {
    let mut attributes = vec![
        KeyValue::new("sip.start_line", line.line.clone()),
        KeyValue::new("sip.transfer.frame", i64::try_from(line.frame).unwrap_or(i64::MAX)),
        KeyValue::new("network.local.address", line.from.ip().to_string()),
        KeyValue::new("network.local.port", i64::from(line.from.port())),
        KeyValue::new("network.peer.address", line.to.ip().to_string()),
        KeyValue::new("network.peer.port", i64::from(line.to.port())),
    ];
    let answer = line.line.strip_prefix("SIP/2.0 ").and_then(|rest| {
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        Some((code.parse::<u16>().ok()?, reason))
    });
    let label = match answer {
        Some((code, reason)) => {
            attributes.push(KeyValue::new("sip.response.status_code", i64::from(code)));
            attributes.push(KeyValue::new("sip.response.reason", reason.to_owned()));
            format!("{code} {reason}").trim_end().to_owned()
        }
        None => {
            let method = line.line.split(' ').next().unwrap_or("");
            attributes.push(KeyValue::new("sip.request.method", method.to_owned()));
            words::start_line(&line.line).0.split(' ').next().unwrap_or("").trim_end_matches(':').to_owned()
        }
    };
    (Event::new(label, moment(line.time), attributes, 0), answer)
}
