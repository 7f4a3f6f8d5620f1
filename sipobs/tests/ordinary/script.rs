//! One leg's messages, written in order.

use std::net::SocketAddr;

use super::Message;

/// A small generator of pseudo-random numbers (splitmix64), so that every run sees the same calls.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A host and the user there.
#[derive(Clone, Debug)]
pub(super) struct Party {
    pub(super) host: SocketAddr,
    pub(super) user: String,
}

pub(super) fn party(host: &str, user: impl Into<String>) -> Party {
    Party { host: host.parse().unwrap(), user: user.into() }
}

impl Party {
    fn uri(&self) -> String {
        format!("sip:{}@{}", self.user, self.host.ip())
    }
}

/// Who sends: the leg's caller or its callee.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Caller,
    Callee,
}
use By::{Callee, Caller};

/// One leg under way; every method says the next message, [`Leg::wait`] lets time pass.
pub(super) struct Leg {
    pub(super) at: u64,
    pub(super) caller: Party,
    pub(super) callee: Party,
    pub(super) call_id: String,
    /// The request-URI, To and From where they are not the parties' own.
    pub(super) target: String,
    pub(super) to_tag: String,
    from_tag: String,
    cseq: [u32; 2],
    branches: u32,
    confirmed: bool,
    pub(super) messages: Vec<Message>,
}

pub(super) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
                                m=audio 20000 RTP/AVP 0\r\na=sendrecv\r\n";
pub(super) const HOLD: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
                               m=audio 20000 RTP/AVP 0\r\na=sendonly\r\n";

impl Leg {
    pub(super) fn new(name: &str, at: u64, caller: Party, callee: Party) -> Self {
        Self {
            at,
            target: callee.uri(),
            caller,
            callee,
            call_id: format!("{name}@ordinary.example"),
            from_tag: format!("f{name}"),
            to_tag: format!("t{name}"),
            cseq: [0; 2],
            branches: 0,
            confirmed: false,
            messages: Vec::new(),
        }
    }

    pub(super) fn wait(&mut self, millis: u64) -> &mut Self {
        self.at += millis * 1000;
        self
    }

    /// A new request.
    pub(super) fn request(&mut self, by: By, method: &str, headers: &str, body: &str) -> &mut Self {
        self.cseq[by as usize] += 1;
        self.branches += 1;
        self.say(by, method, self.cseq[by as usize], headers, body)
    }

    fn say(&mut self, by: By, method: &str, number: u32, headers: &str, body: &str) -> &mut Self {
        let tagged =
            self.confirmed && method != "CANCEL" || method == "ACK" || method == "PRACK" || by == Callee;
        let (from, to) = self.ends(by, tagged);
        let uri = if by == Caller { self.target.clone() } else { self.caller.uri() };
        let line = format!("{method} {uri} SIP/2.0");
        self.tell(by, by, &line, &from, &to, number, method, headers, body)
    }

    /// An answer to the latest request of that side.
    pub(super) fn answer(&mut self, to: By, status: &str, method: &str, body: &str) -> &mut Self {
        self.answer_with(to, status, method, "", body)
    }

    pub(super) fn answer_with(
        &mut self,
        to: By,
        status: &str,
        method: &str,
        headers: &str,
        body: &str,
    ) -> &mut Self {
        self.confirmed |= method == "INVITE" && status.starts_with('2');
        let sender = if to == Caller { Callee } else { Caller };
        let (from, callee) = self.ends(to, !status.starts_with("100"));
        let number = self.cseq[to as usize];
        let line = format!("SIP/2.0 {status}");
        self.tell(to, sender, &line, &from, &callee, number, method, headers, body)
    }

    /// An in-dialog request and its 200.
    pub(super) fn exchange(&mut self, by: By, method: &str, headers: &str, body: &str) -> &mut Self {
        self.request(by, method, headers, body).wait(30).answer(by, "200 OK", method, "").wait(30)
    }

    /// ACK to the latest INVITE of that side.
    pub(super) fn ack(&mut self, by: By) -> &mut Self {
        self.branches += 1;
        let number = self.cseq[by as usize];
        self.wait(20).say(by, "ACK", number, "", "")
    }

    pub(super) fn cancel(&mut self) -> &mut Self {
        self.say(Caller, "CANCEL", self.cseq[0], "", "").wait(20).answer(Caller, "200 OK", "CANCEL", "")
    }

    /// INVITE, 100, 180 after a moment.
    pub(super) fn ring(&mut self, headers: &str) -> &mut Self {
        self.request(Caller, "INVITE", headers, OFFER).wait(10).answer(Caller, "100 Trying", "INVITE", "");
        self.wait(700).answer(Caller, "180 Ringing", "INVITE", "")
    }

    /// Answered after that long.
    pub(super) fn pick_up(&mut self, millis: u64) -> &mut Self {
        self.wait(millis).answer(Caller, "200 OK", "INVITE", OFFER).ack(Caller)
    }

    pub(super) fn fail(&mut self, status: &str) -> &mut Self {
        self.answer(Caller, status, "INVITE", "").ack(Caller)
    }

    pub(super) fn bye(&mut self, by: By) -> &mut Self {
        self.request(by, "BYE", "", "").wait(15).answer(by, "200 OK", "BYE", "")
    }

    /// A re-INVITE with this body, answered and acknowledged.
    pub(super) fn reinvite(&mut self, by: By, body: &str) -> &mut Self {
        self.request(by, "INVITE", "Session-Expires: 1800", body)
            .wait(25)
            .answer(by, "200 OK", "INVITE", OFFER)
            .ack(by)
    }

    /// The latest message once more, from and to the same hosts.
    pub(super) fn again(&mut self) -> &mut Self {
        let last = self.messages.last().unwrap();
        let copy = Message { at: self.at, from: last.from, to: last.to, text: last.text.clone() };
        self.messages.push(copy);
        self
    }

    fn ends(&self, by: By, tagged: bool) -> (String, String) {
        let caller = format!("<{}>;tag={}", self.caller.uri(), self.from_tag);
        let tag = if tagged { format!(";tag={}", self.to_tag) } else { String::new() };
        let callee = format!("<{}>{tag}", self.callee.uri());
        if by == Caller { (caller, callee) } else { (callee, caller) }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a message")]
    fn tell(
        &mut self,
        by: By,
        sender: By,
        line: &str,
        from: &str,
        to: &str,
        number: u32,
        method: &str,
        headers: &str,
        body: &str,
    ) -> &mut Self {
        let requester = if by == Caller { self.caller.host } else { self.callee.host };
        let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
        let kind = if body.starts_with("v=0") { "Content-Type: application/sdp\r\n" } else { "" };
        let text = format!(
            "{line}\r\nVia: SIP/2.0/UDP {requester};branch=z9hG4bK{}.{}\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: \
             {}\r\nCSeq: {number} {method}\r\nMax-Forwards: 70\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}",
            self.branches,
            self.call_id,
            self.call_id,
            body.len(),
        );
        let (src, dst) = if sender == Caller {
            (self.caller.host, self.callee.host)
        } else {
            (self.callee.host, self.caller.host)
        };
        self.messages.push(Message { at: self.at, from: src, to: dst, text });
        self
    }
}
