//! The rows of the machines, message by message.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Config, Transfers};
use crate::dialog::DialogKey;
use crate::record::{Attempt, Call, Output, Side};
use crate::sip::Message;
use crate::stream::{Loss, TransportKind, WireMessage};
use crate::timestamp::Timestamp;

mod dialogs;
mod handover;
mod invite;
mod originated;
mod property;
mod refer;

/// The trunk, the agent platform, and where the platform's second legs go.
const T: &str = "10.0.0.1:5060";
const L: &str = "10.0.0.2:5060";
const X: &str = "10.0.0.3:5060";

/// One leg and who talks in it.
#[derive(Clone, Copy)]
struct Leg {
    call_id: &'static str,
    caller: (&'static str, &'static str, &'static str),
    callee: (&'static str, &'static str, &'static str),
}

/// The caller's leg: trunk → platform.
const A: Leg = Leg {
    call_id: "a@t",
    caller: (T, "sip:+15550100145@t.example", "ta"),
    callee: (L, "sip:+15550100100@l.example", "la"),
};
/// Another caller's leg to the same number.
const A2: Leg = Leg {
    call_id: "a2@t",
    caller: (T, "sip:+15550100146@t.example", "t2"),
    callee: (L, "sip:+15550100100@l.example", "l2"),
};
/// The platform's leg to the target: it shows the called number and nothing else of A.
const B: Leg = Leg {
    call_id: "b@l",
    caller: (L, "sip:+15550100100@l.example", "lb"),
    callee: (X, "sip:+15550100177@x.example", "xb"),
};
/// The trunk's leg to the target of a REFER.
const C: Leg = Leg {
    call_id: "c@t",
    caller: (T, "sip:+15550100145@t.example", "tc"),
    callee: (X, "sip:+15550100177@x.example", "xc"),
};

const TARGET: &str = "Refer-To: <sip:+15550100177@x.example>";
const ACTIVE: &str = "Event: refer\r\nSubscription-State: active;expires=60";
const ENDED: &str = "Event: refer\r\nSubscription-State: terminated;reason=noresource";

/// A conversation, told to the stage as the engine would.
struct World {
    transfers: Transfers,
    start: Timestamp,
    now: Timestamp,
    frame: u64,
    /// What is told came out of a socket of this very host.
    originates: bool,
}

impl World {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let start = Timestamp::from_nanos(1_700_000_000_000_000_000);
        Self { transfers: Transfers::new(config).unwrap(), start, now: start, frame: 0, originates: false }
    }

    /// A world in which A is up since 0 s.
    fn called() -> Self {
        let mut world = Self::new();
        world.up(A);
        world
    }

    /// Goes on to `seconds` after the start, as if nothing came before.
    fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = self.start + Duration::from_secs_f64(seconds);
        self.transfers.handle_timeout(self.now);
        self
    }

    /// A request in `leg`, in its dialog but for the initial INVITE.
    fn request(
        &mut self,
        leg: Leg,
        by: Side,
        number: u32,
        method: &str,
        headers: &str,
        body: &str,
    ) -> &mut Self {
        let initial = by == Side::Caller && method == "INVITE" && !headers.contains("re-INVITE");
        let uri = ends(leg, by).1.1;
        self.tell(leg, by, by, &format!("{method} {uri} SIP/2.0"), (number, method), !initial, headers, body)
    }

    /// An answer to a request sent `by` that side.
    fn response(
        &mut self,
        leg: Leg,
        by: Side,
        number: u32,
        method: &str,
        status: &str,
        headers: &str,
    ) -> &mut Self {
        let line = format!("SIP/2.0 {status}");
        self.tell(leg, by, by.other(), &line, (number, method), !status.starts_with("100"), headers, "")
    }

    #[allow(clippy::too_many_arguments)]
    fn tell(
        &mut self,
        leg: Leg,
        by: Side,
        sender: Side,
        line: &str,
        (number, method): (u32, &str),
        to_tag: bool,
        headers: &str,
        body: &str,
    ) -> &mut Self {
        let (from, to) = ends(leg, by);
        let tag = if to_tag { format!(";tag={}", to.2) } else { String::new() };
        let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
        let text = format!(
            "{line}\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{by:?}{number}{method}\r\nCall-ID: {}\r\nCSeq: {number} \
             {method}\r\nFrom: <{}>;tag={}\r\nTo: <{}>{tag}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            from.0,
            leg.call_id,
            from.1,
            from.2,
            to.1,
            body.len(),
        );
        let (sender, receiver) = ends(leg, sender);
        self.wire(sender.0, receiver.0, &text)
    }

    /// Any message.
    fn wire(&mut self, from: &str, to: &str, text: &str) -> &mut Self {
        self.frame += 1;
        let wire = WireMessage {
            time: self.now,
            frame: self.frame,
            src: from.parse::<SocketAddr>().unwrap(),
            dst: to.parse().unwrap(),
            transport: TransportKind::Udp,
            seq: None,
            bytes: text.as_bytes(),
            cut: false,
            originated: self.originates,
        };
        let message = Message::parse(wire.bytes).unwrap();
        self.transfers.message(&wire, &message, &DialogKey::of(&message).unwrap());
        self
    }

    fn invite(&mut self, leg: Leg, number: u32, headers: &str) -> &mut Self {
        self.request(leg, Side::Caller, number, "INVITE", headers, "")
    }

    fn ring(&mut self, leg: Leg, number: u32, status: &str) -> &mut Self {
        self.response(leg, Side::Caller, number, "INVITE", status, "")
    }

    fn ack(&mut self, leg: Leg, number: u32) -> &mut Self {
        self.request(leg, Side::Caller, number, "ACK", "", "")
    }

    fn up(&mut self, leg: Leg) -> &mut Self {
        self.invite(leg, 1, "").ring(leg, 1, "200 OK").ack(leg, 1)
    }

    fn refer(&mut self, number: u32, headers: &str) -> &mut Self {
        self.request(A, Side::Callee, number, "REFER", headers, "")
    }

    fn referred(&mut self, number: u32, status: &str) -> &mut Self {
        self.response(A, Side::Callee, number, "REFER", status, "")
    }

    fn notify(&mut self, number: u32, headers: &str, frag: &str) -> &mut Self {
        let body = if frag.is_empty() { String::new() } else { format!("SIP/2.0 {frag}\r\n") };
        let headers = format!("{headers}\r\nContent-Type: message/sipfrag");
        self.request(A, Side::Caller, number, "NOTIFY", &headers, &body)
    }

    fn bye(&mut self, leg: Leg, by: Side) -> &mut Self {
        self.request(leg, by, 900, "BYE", "", "").response(leg, by, 900, "BYE", "200 OK", "")
    }

    fn lose(&mut self, loss: Loss) -> &mut Self {
        self.transfers.note_loss(loss);
        self
    }

    /// What has been said since the last time.
    fn said(&mut self) -> (Vec<Attempt>, Vec<Call>) {
        let (mut attempts, mut calls) = (Vec::new(), Vec::new());
        while let Some(output) = self.transfers.poll_output() {
            match output {
                Output::Transfer(attempt) => attempts.push(*attempt),
                Output::Call(call) => calls.push(*call),
                Output::Alert(alert) => panic!("{alert:?}"),
                Output::Notice(_) => {}
            }
        }
        (attempts, calls)
    }

    /// The one attempt settled by `seconds`, and not before `earliest`.
    fn settled(&mut self, earliest: f64, seconds: f64) -> Attempt {
        self.at(earliest - 0.01);
        let (early, _) = self.said();
        assert!(early.is_empty(), "settled before {earliest} s: {early:#?}");
        self.at(seconds);
        self.only()
    }

    /// The one attempt, with the capture's end now.
    fn finished(&mut self) -> Attempt {
        self.transfers.finish(self.now);
        self.only()
    }

    fn only(&mut self) -> Attempt {
        let (mut attempts, _) = self.said();
        let brief: Vec<_> =
            attempts.iter().map(|a| (a.method, a.outcome, &a.call_id, &a.target_call_id, &a.link)).collect();
        assert_eq!(attempts.len(), 1, "{brief:?}");
        attempts.remove(0)
    }

    fn nothing(&mut self) {
        self.transfers.finish(self.now);
        let (attempts, _) = self.said();
        assert!(attempts.is_empty(), "{attempts:#?}");
    }
}

type End = (&'static str, &'static str, &'static str);

/// The sender's end of a leg, and the other.
fn ends(leg: Leg, by: Side) -> (End, End) {
    match by {
        Side::Caller => (leg.caller, leg.callee),
        Side::Callee => (leg.callee, leg.caller),
    }
}
