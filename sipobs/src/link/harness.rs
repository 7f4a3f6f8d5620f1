//! Legs for the linker's tests, made of messages as the stages would see them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Decision, LinkConfig, Links, ReferClues};
use crate::dialog::{self, DialogKey};
use crate::leg::{LegId, Legs};
use crate::record::Side;
use crate::sip::Message;
use crate::stream::{TransportKind, WireMessage};
use crate::timers::{Deadline, Timers};
use crate::timestamp::Timestamp;

/// Who a leg goes between.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) hosts: (u8, u8),
    pub(super) from: String,
    pub(super) to: String,
}

/// A linker with its legs, and what its stage does for it.
pub(super) struct Harness {
    pub(super) legs: Legs,
    pub(super) links: Links,
    pub(super) timers: Timers,
    known: BTreeMap<LegId, (String, Ends)>,
}

impl Harness {
    pub(super) fn new(config: LinkConfig) -> Self {
        Self {
            legs: Legs::new(256 << 20, 0),
            links: Links::new(config, Duration::from_secs(35)),
            timers: Timers::default(),
            known: BTreeMap::new(),
        }
    }

    /// A leg begins.
    pub(super) fn invite(&mut self, now: Timestamp, call_id: &str, ends: &Ends, headers: &str) -> LegId {
        self.pass(now);
        let id = self.send(now, call_id, ends, Side::Caller, "INVITE", 1, headers, true);
        let id = id.expect("a leg");
        self.known.insert(id, (call_id.to_owned(), ends.clone()));
        id
    }

    /// The 2xx to its INVITE.
    pub(super) fn answered(&mut self, id: LegId, now: Timestamp) {
        self.pass(now);
        let (call_id, ends) = self.known[&id].clone();
        self.send(now, &call_id, &ends, Side::Callee, "SIP/2.0 200 OK", 1, "", false);
    }

    /// The final failure of its INVITE; `None` when it timed out.
    pub(super) fn failed(&mut self, id: LegId, now: Timestamp, status: Option<u16>) {
        self.pass(now);
        self.links.failed(&mut self.legs, &mut self.timers, id, now, status);
    }

    /// BYE.
    pub(super) fn ended(&mut self, id: LegId, now: Timestamp, side: Side) {
        self.pass(now);
        let (call_id, ends) = self.known[&id].clone();
        self.send(now, &call_id, &ends, side, "BYE", 9, "", false);
    }

    /// A REFER in a call.
    pub(super) fn refer(
        &mut self,
        id: LegId,
        now: Timestamp,
        cseq: u32,
        target: &str,
        replaces: Option<&str>,
    ) {
        self.pass(now);
        let replaces = replaces.map(str::as_bytes);
        let Some(sender) = self.legs.get(id).map(|leg| leg.hosts.1) else { return };
        let clues = ReferClues { cseq, target: Some(target.as_bytes()), replaces, referred_by: None, sender };
        self.links.refer_sent(&mut self.legs, id, now, &clues);
    }

    pub(super) fn decide(&mut self, id: LegId, now: Timestamp) -> Decision {
        self.pass(now);
        self.links.decide(&mut self.legs, id, now)
    }

    pub(super) fn could_be_second_leg(&self, id: LegId) -> bool {
        Links::could_be_second_leg(self.legs.get(id).expect("it is known"))
    }

    /// Its stage is done with a leg.
    pub(super) fn forget(&mut self, id: LegId) {
        self.links.release(&self.legs, id);
        self.legs.retire(id);
        self.drop_if_unneeded(id);
        while let Some(id) = self.links.unneeded() {
            self.drop_if_unneeded(id);
        }
    }

    fn drop_if_unneeded(&mut self, id: LegId) {
        if !self.links.is_needed(id) && self.legs.get(id).is_some_and(|leg| leg.retired) {
            self.links.forget(&mut self.legs, &mut self.timers, id);
            self.legs.remove(id);
        }
    }

    fn pass(&mut self, now: Timestamp) {
        while let Some((time, deadline)) = self.timers.pop(now) {
            match deadline {
                Deadline::Learn(id) => self.links.learn_from(&mut self.legs, id, time),
                Deadline::Leave(id) => self.links.leave(&mut self.legs, id, time),
                Deadline::Attempt(_) | Deadline::Second(_) | Deadline::Leg(_) => {}
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a message")]
    fn send(
        &mut self,
        now: Timestamp,
        call_id: &str,
        ends: &Ends,
        by: Side,
        start: &str,
        cseq: u32,
        headers: &str,
        begins: bool,
    ) -> Option<LegId> {
        let uri = |user: &str| format!("sip:{}@h", user.replace(' ', "%20"));
        let is_answer = start.starts_with("SIP/2.0");
        let first = if is_answer { start.to_owned() } else { format!("{start} {} SIP/2.0", uri(&ends.to)) };
        // Answers have From and To of their requests.
        let mut parties = [(uri(&ends.from), "f", true), (uri(&ends.to), "t", !begins)];
        if by == Side::Callee && !is_answer {
            parties.reverse();
        }
        let [from, to] =
            parties.map(
                |(uri, tag, tagged)| {
                    if tagged { format!("<{uri}>;tag={tag}{call_id}") } else { format!("<{uri}>") }
                },
            );
        let method = if is_answer { "INVITE" } else { start };
        let text = format!(
            "{first}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{call_id}{cseq}\r\nFrom: {from}\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{headers}\r\n"
        );
        let message = Message::parse(text.as_bytes()).expect("a message");
        let host = |n: u8| SocketAddr::new(IpAddr::from([10, 78, 0, n]), 5060);
        let (mut src, mut dst) = (host(ends.hosts.0), host(ends.hosts.1));
        if by == Side::Callee {
            (src, dst) = (dst, src);
        }
        let transport = TransportKind::Udp;
        let (bytes, cut, originated) = (text.as_bytes(), false, false);
        let wire =
            WireMessage { time: now, frame: 1, src, dst, transport, seq: None, bytes, cut, originated };
        let key = DialogKey::of(&message).expect("a dialog");
        let dialog::Taken::Event(event) = dialog::take(&mut self.legs, &wire, &message, &key, false) else {
            return None;
        };
        let id = event.leg;
        match start {
            _ if event.begins => self.links.started(&mut self.legs, id, &message),
            _ if is_answer => self.links.answered(&mut self.legs, id, &message),
            "BYE" => self.links.ended(&mut self.legs, &mut self.timers, id),
            _ => self.links.heard(&mut self.legs, id, &message),
        }
        if self.legs.get(id).is_some_and(|leg| leg.is_confirmed_by_both()) {
            self.links.confirmed(&mut self.legs, id);
        }
        Some(id)
    }

    /// A message of a leg that says more than it is.
    pub(super) fn says(&mut self, id: LegId, now: Timestamp, headers: &str) {
        let (call_id, ends) = self.known[&id].clone();
        self.send(now, &call_id, &ends, Side::Caller, "UPDATE", 3, headers, false);
    }
}
