//! The messages of a planned leg, shaped as Twilio's and LiveKit's are on the wire: their header order, tags,
//! phrases and habits. The second leg carries nothing of its call but, in From, a number.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::plan::{Dice, Fate, Leg, Micros, Role};
use crate::wire::{Sip, Trace};

const TRUNK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 78, 0, 1), 5060);
const PLATFORM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 78, 0, 2), 5060);
const TERMINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 78, 0, 3), 5060);

const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, NOTIFY, REFER, MESSAGE, OPTIONS, INFO, SUBSCRIBE";

/// Call-ID of a leg of the run with this seed.
pub(super) fn call_id(leg: &Leg, seed: u64) -> String {
    let mut dice = Dice(seed.rotate_left(32) ^ leg.number);
    match leg.role {
        Role::Inbound => format!("{:016x}{:016x}@0.0.0.0", dice.next(), dice.next()),
        Role::Second { .. } | Role::Unrelated => base62(&mut dice, 27),
    }
}

/// Writes all messages of a leg.
pub(super) fn write<W: Write>(trace: &mut Trace<W>, leg: &Leg, seed: u64) {
    let mut dice = Dice(!seed.rotate_left(32) ^ leg.number);
    let call_id = call_id(leg, seed);
    let (from, to, peer) = match leg.role {
        Role::Inbound => {
            let tag =
                format!("{:08}_{:08x}_{:08x}", dice.below(90_000_000), word(&mut dice), word(&mut dice));
            let from = format!("\"{0}\" <sip:{0}@demo.pstn.twilio.com>;tag={tag}", leg.from);
            (from, format!("<sip:{}@{}>", leg.to, "10.78.0.2;user=phone"), TRUNK)
        }
        Role::Second { .. } | Role::Unrelated => {
            let tag = base62(&mut dice, 12);
            let from = format!("\"{0}\" <sip:{0}@10.78.0.2;transport=udp>;tag=SCL_{tag}", leg.from);
            (from, format!("<sip:{}@10.78.0.3:5060;transport=udp>", leg.to), TERMINATION)
        }
    };
    let tag = match leg.role {
        Role::Inbound => format!("SCL_{}", base62(&mut dice, 12)),
        _ => format!("{:08}_{:08x}_{:08x}", dice.below(90_000_000), word(&mut dice), word(&mut dice)),
    };
    let sid = format!("CA{:08x}xxxxxxxxxxxxxxxxxxxxxxxx", word(&mut dice));
    let tagged = format!("{to};tag={tag}");
    let mut sender =
        Sender { trace, leg, call_id, from, to, tagged, sid, peer, dice, cseq: 1, branch: String::new() };
    sender.run();
}

struct Sender<'a, W: Write> {
    trace: &'a mut Trace<W>,
    leg: &'a Leg,
    call_id: String,
    from: String,
    to: String,
    /// To with the tag of who answers.
    tagged: String,
    sid: String,
    /// Who talks to the platform.
    peer: SocketAddrV4,
    dice: Dice,
    /// Of the INVITE.
    cseq: u32,
    branch: String,
}

impl<W: Write> Sender<'_, W> {
    fn run(&mut self) {
        let mut start = self.leg.invited;
        self.invite(start, false);
        if self.leg.challenged {
            self.answer(start + 1400, 407, "Proxy Authentication required", true);
            self.ack(start + 1600, false);
            start += 2000;
            self.cseq = 2;
            self.invite(start, true);
        }
        if let Some(ringing) = self.leg.ringing {
            self.answer(ringing, 180, "Ringing", true);
        }
        match self.leg.fate {
            Fate::Answered { at, ended, by_caller } => {
                self.answer(at, 200, "OK", true);
                self.ack(at + 200, true);
                self.bye(ended, by_caller);
            }
            Fate::Refused { at, status } => {
                let reason = if status == 403 { "Forbidden" } else { "Busy Here" };
                self.answer(at, status, reason, true);
                self.ack(at + 150, false);
            }
            Fate::Cancelled { at } => {
                let cancel = self.request("CANCEL", &self.target(), &self.to.clone(), self.cseq);
                self.send(at, true, &cancel);
                let mut ok = self.response(200, "OK", &self.to.clone(), "CANCEL");
                if self.leg.role != Role::Inbound {
                    ok = self.twilio(ok);
                }
                self.send(at + 300, false, &ok);
                self.answer(at + 1500, 487, "Request Terminated", true);
                self.ack(at + 1700, false);
            }
        }
    }

    fn invite(&mut self, time: Micros, authorized: bool) {
        self.branch = base62(&mut self.dice, 16);
        let (to, uri) = (self.to.clone(), self.target());
        let invite = match self.leg.role {
            Role::Inbound => Sip::request("INVITE", &uri)
                .header("Record-Route", "<sip:10.78.0.1:5060;lr>")
                .header("From", &self.from)
                .header("To", &to)
                .header("CSeq", "1 INVITE")
                .header("Max-Forwards", "132")
                .header("P-Asserted-Identity", format!("<sip:{}@206.147.76.45:5060>", self.leg.from))
                .header(
                    "Diversion",
                    format!("<sip:{}@public-vip.us1.twilio.com>;reason=unconditional", self.leg.to),
                )
                .header("Call-ID", &self.call_id)
                .header("Via", self.via())
                .header("Contact", format!("<sip:{}@172.25.12.7:5060;transport=udp>", self.leg.from))
                .header("Allow", "INVITE,ACK,CANCEL,BYE,REFER,NOTIFY,OPTIONS")
                .header("User-Agent", "Twilio Gateway")
                .header("X-Twilio-AccountSid", "ACxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")
                .header("X-Twilio-CallSid", &self.sid)
                .body("application/sdp", self.sdp(true)),
            _ => {
                let authorization = authorized.then(|| {
                    format!(
                        "Digest username=\"lkuser\", realm=\"sip.twilio.com\", nonce=\"{:032x}\", uri=\"{uri}\", \
                         response=\"{:032x}\"",
                        self.leg.number, !self.leg.number
                    )
                });
                Sip::request("INVITE", &uri)
                    .header("Via", self.via())
                    .header("CSeq", format!("{} INVITE", self.cseq))
                    .header("Call-ID", &self.call_id)
                    .length_here()
                    .header("To", &to)
                    .header("From", &self.from)
                    .header("Contact", "<sip:10.78.0.2:5060;transport=udp>")
                    .body("application/sdp", self.sdp(true))
                    .header("Allow", ALLOW)
                    .maybe("Proxy-Authorization", authorization)
                    .header("Max-Forwards", "70")
            }
        };
        self.send(time, true, &invite);
        let (phrase, tagged) = match self.leg.role {
            Role::Inbound => ("Processing", true),
            _ => ("Giving a try", false),
        };
        self.answer(time + 300, 100, phrase, tagged);
    }

    /// An answer to the INVITE.
    fn answer(&mut self, time: Micros, status: u16, reason: &str, tagged: bool) {
        let to = if tagged { self.tagged.clone() } else { self.to.clone() };
        let answer = self.response(status, reason, &to, "INVITE");
        let answer = match (self.leg.role, status) {
            (Role::Inbound, 200) => answer
                .length_here()
                .header("Contact", "<sip:10.78.0.2:5060;transport=udp>")
                .body("application/sdp", self.sdp(false)),
            (Role::Inbound, _) => answer.header("Content-Length", "0").header("Allow", ALLOW),
            (_, 200) => self
                .twilio(answer.header("Contact", "<sip:10.78.0.3:5060;transport=udp>"))
                .body("application/sdp", self.sdp(false)),
            (_, 407) => {
                let challenge = format!(
                    "Digest realm=\"sip.twilio.com\",qop=\"auth\",nonce=\"{:032x}\"",
                    self.leg.number
                );
                self.twilio(answer.header("Proxy-Authenticate", challenge))
            }
            (_, 403) => {
                let error = "32201 Authentication failure - source IP Address not in ACL";
                self.twilio(answer.header("X-Twilio-Error", error))
            }
            _ => self.twilio(answer),
        };
        self.send(time, false, &answer);
    }

    fn ack(&mut self, time: Micros, accepted: bool) {
        if accepted {
            self.branch = base62(&mut self.dice, 16);
        }
        let uri = match (self.leg.role, accepted) {
            (Role::Inbound, true) => "sip:10.78.0.2:5060;transport=udp".to_owned(),
            (_, true) => "sip:10.78.0.3:5060;transport=udp".to_owned(),
            (_, false) => self.target(),
        };
        let ack = self.request("ACK", &uri, &self.tagged.clone(), self.cseq);
        self.send(time, true, &ack);
    }

    fn bye(&mut self, time: Micros, by_caller: bool) {
        self.branch = base62(&mut self.dice, 16);
        let (from, to) = (self.from.clone(), self.tagged.clone());
        let (from, to) = if by_caller { (from, to) } else { (to, from) };
        let cseq = if by_caller { self.cseq + 1 } else { 2 };
        // Who sends it: the platform or its peer.
        let by_platform = by_caller != (self.leg.role == Role::Inbound);
        let uri = match (self.leg.role, by_platform) {
            (Role::Inbound, true) => format!("sip:{}@172.25.12.7:5060;transport=udp", self.leg.from),
            (_, true) => "sip:10.78.0.3:5060;transport=udp".to_owned(),
            (_, false) => "sip:10.78.0.2:5060;transport=udp".to_owned(),
        };
        let bye = Sip::request("BYE", &uri)
            .maybe("Route", (by_platform && self.peer == TRUNK).then_some("<sip:10.78.0.1:5060;lr>"))
            .header("Via", self.via_of(by_platform))
            .header("Max-Forwards", "70")
            .header("From", &from)
            .header("To", &to)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{cseq} BYE"))
            .maybe("User-Agent", (by_platform && self.peer != TRUNK).then_some("LiveKit"))
            .maybe("Reason", (!by_platform).then_some("Q.850;cause=16;text=\"Normal call clearing\""));
        let ok = Sip::response(200, "OK")
            .header("Via", self.via_of(by_platform))
            .header("From", &from)
            .header("To", &to)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{cseq} BYE"));
        self.send(time, by_caller, &bye);
        self.send(time + 250, !by_caller, &ok);
    }

    /// A request of the leg's caller.
    fn request(&self, method: &str, uri: &str, to: &str, cseq: u32) -> Sip {
        Sip::request(method, uri)
            .header("Via", self.via())
            .header("Max-Forwards", "70")
            .header("From", &self.from)
            .header("To", to)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{cseq} {method}"))
    }

    fn response(&self, status: u16, reason: &str, to: &str, method: &str) -> Sip {
        Sip::response(status, reason)
            .header("Via", self.via())
            .header("From", &self.from)
            .header("To", to)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{} {method}", self.cseq))
    }

    fn twilio(&self, message: Sip) -> Sip {
        message.header("Server", "Twilio").header("X-Twilio-CallSid", &self.sid)
    }

    /// Request-URI towards the callee.
    fn target(&self) -> String {
        let host = if self.leg.role == Role::Inbound { PLATFORM } else { TERMINATION };
        format!("sip:{}@{host};transport=udp", self.leg.to)
    }

    fn via(&self) -> String {
        self.via_of(self.leg.role != Role::Inbound)
    }

    fn via_of(&self, platform: bool) -> String {
        match platform {
            true => format!("SIP/2.0/UDP {PLATFORM};branch=z9hG4bK.{};alias", self.branch),
            false => format!("SIP/2.0/UDP {};rport;branch=z9hG4bK-{}", self.peer, self.branch),
        }
    }

    fn sdp(&self, offer: bool) -> String {
        let by_platform = offer != (self.leg.role == Role::Inbound);
        let (host, name) =
            if by_platform { (PLATFORM, "LiveKit") } else { (self.peer, "Twilio Media Gateway") };
        let port = 10_000 + (self.leg.number * 2) % 50_000;
        let (ip, id) = (host.ip(), self.leg.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1);
        format!(
            "v=0\r\no=- {id} {id} IN IP4 {ip}\r\ns={name}\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n\
             a=sendrecv\r\n"
        )
    }

    fn send(&mut self, time: Micros, by_caller: bool, message: &Sip) {
        let (caller, callee) =
            if self.leg.role == Role::Inbound { (self.peer, PLATFORM) } else { (PLATFORM, self.peer) };
        let (from, to) = if by_caller { (caller, callee) } else { (callee, caller) };
        self.trace.udp(time, from, to, &message.bytes());
    }
}

fn word(dice: &mut Dice) -> u64 {
    dice.next() >> 32
}

fn base62(dice: &mut Dice, length: usize) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..length).map(|_| char::from(*dice.pick(LETTERS))).collect()
}
