//! Calls at an even pace, each up for the same time: how many are up at once is known beforehand, and so is what is
//! to be said of them: every transfer succeeds, and there is no other.
//!
//! Trunk, platform and the carrier of transfer targets are one host each. Messages are made at their moment, so that
//! what the generator holds depends on the calls that are up, some 30 bytes each, not on the length of the file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::plan::Micros;
use crate::wire::{Sip, Trace};

/// Settings of the shape.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Dense {
    /// Calls.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) calls: u64,
    /// Calls a second.
    #[arg(long, default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// Seconds from a call's INVITE to its BYE.
    #[arg(long, default_value_t = 60.0)]
    pub(crate) up: f64,
    /// Every so many-th call is transferred; 0: none.
    #[arg(long, default_value_t = 10)]
    pub(crate) every: u64,
    /// By what.
    #[arg(long, value_enum, default_value_t = Means::Refer)]
    pub(crate) by: Means,
    /// Numbers of the platform, which calls share by turns; 0: one for each call.
    #[arg(long, default_value_t = 0)]
    pub(crate) numbers: u64,
    /// RTP packets of a call each way, at even distances.
    #[arg(long, default_value_t = 0)]
    pub(crate) rtp: u32,
}

/// By what a call is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Means {
    /// A REFER: 202, NOTIFY of 100, NOTIFY of 200.
    Refer,
    /// A second leg that passes the caller's number on.
    Caller,
    /// A second leg with the platform's own number.
    Own,
}

impl Default for Dense {
    fn default() -> Self {
        Self { calls: 50_000, rate: 500.0, up: 60.0, every: 10, by: Means::Refer, numbers: 0, rtp: 0 }
    }
}

impl Dense {
    /// The transfers in it.
    pub(crate) const fn transfers(&self) -> u64 {
        if self.every == 0 { 0 } else { self.calls.div_ceil(self.every) }
    }

    /// Writes the capture.
    pub(crate) fn write(&self, capture: &Path) -> Result<()> {
        let file = File::create(capture).with_context(|| format!("can't write {}", capture.display()))?;
        self.write_to(BufWriter::with_capacity(1 << 20, file))?;
        Ok(())
    }

    fn write_to<W: Write>(&self, out: W) -> Result<W> {
        ensure!(self.rate > 0.0, "--rate must be more than 0");
        ensure!(self.up > TRANSFERRED, "--up must be more than {TRANSFERRED}: a transfer takes as long");
        let mut trace = Trace::new(out)?;
        let scripts = [Script::of(self, false), Script::of(self, true)];
        let script = |number| &scripts[usize::from(self.is_transferred(number))].0;
        let mut due: BinaryHeap<Reverse<(Micros, u64, usize)>> = BinaryHeap::new();
        let mut next = 0;
        loop {
            // No step of a call comes before its start.
            if next < self.calls && due.peek().is_none_or(|Reverse((time, ..))| *time >= self.start(next)) {
                due.push(Reverse((self.start(next), next, 0)));
                next += 1;
                continue;
            }
            let Some(Reverse((time, number, index))) = due.pop() else { break };
            let steps = script(number);
            Call::of(self, number).send(&mut trace, time, steps[index].what);
            trace.settle(time + 1)?;
            if let Some(step) = steps.get(index + 1) {
                due.push(Reverse((self.start(number) + step.after, number, index + 1)));
            }
        }
        Ok(trace.finish()?)
    }

    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn start(&self, number: u64) -> Micros {
        micros(number as f64 / self.rate)
    }

    const fn is_transferred(&self, number: u64) -> bool {
        self.every != 0 && number.is_multiple_of(self.every)
    }
}

/// The command's settings.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    shape: Dense,
    /// The capture to write.
    #[arg(short, long)]
    output: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    options.shape.write(&options.output)?;
    println!("{} of {} calls are transferred, and answered.", options.shape.transfers(), options.shape.calls);
    Ok(())
}

const TRUNK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 79, 0, 1), 5060);
const PLATFORM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 79, 0, 2), 5060);
const CARRIER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 79, 0, 3), 5060);

/// The platform's network, and how the Call-IDs of its calls from the trunk end.
pub(crate) const AGENT: &str = "10.79.0.2/32";
/// See [`AGENT`].
pub(crate) const MARK: &str = "@10.79.0.1";

/// When a call is answered, when its transfer begins, and when that is over, in seconds from its INVITE.
const ANSWERED: f64 = 1.0;
const TRANSFER: f64 = 10.0;
const TRANSFERRED: f64 = 14.1;

/// What happens in a call, in order of time.
struct Script(Vec<Step>);

struct Step {
    /// Since the call's start.
    after: Micros,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// A request with this method and CSeq.
    Ask(Way, &'static str, u32),
    /// This answer to one.
    Answer(Way, u16, &'static str, u32),
    /// RTP from the first to the second.
    Rtp(SocketAddrV4, SocketAddrV4),
}

/// Which leg, and who asks.
#[derive(Clone, Copy)]
enum Way {
    /// The trunk asks the platform.
    Inbound,
    /// The platform asks the trunk, in the same leg.
    Back,
    /// The platform asks the carrier.
    Second,
}

impl Script {
    fn of(dense: &Dense, transferred: bool) -> Self {
        let mut script = Self(Vec::new());
        script.set_up(Way::Inbound, [0.0, 0.005, 0.3, ANSWERED]);
        if transferred {
            match dense.by {
                Means::Refer => script.refer(),
                Means::Caller | Means::Own => {
                    script
                        .set_up(Way::Second, [TRANSFER, TRANSFER + 0.01, TRANSFER + 0.6, TRANSFERRED - 0.1]);
                    script.hang_up(Way::Second, dense.up + 0.5);
                }
            }
        }
        script.hang_up(Way::Inbound, dense.up);
        let talk = dense.up - ANSWERED;
        for packet in 0..dense.rtp {
            let after = ANSWERED + talk * (f64::from(packet) + 0.5) / f64::from(dense.rtp);
            script.at(after, What::Rtp(TRUNK, PLATFORM));
            script.at(after + 0.005, What::Rtp(PLATFORM, TRUNK));
        }
        script.0.sort_by_key(|step| step.after);
        script
    }

    /// INVITE, 100, 180 and 200 at these seconds, and ACK.
    fn set_up(&mut self, way: Way, [invite, trying, ringing, answered]: [f64; 4]) {
        self.at(invite, What::Ask(way, "INVITE", 1));
        self.at(trying, What::Answer(way, 100, "INVITE", 1));
        self.at(ringing, What::Answer(way, 180, "INVITE", 1));
        self.at(answered, What::Answer(way, 200, "INVITE", 1));
        self.at(answered + 0.03, What::Ask(way, "ACK", 1));
    }

    fn refer(&mut self) {
        self.at(TRANSFER, What::Ask(Way::Back, "REFER", 2));
        self.at(TRANSFER + 0.02, What::Answer(Way::Back, 202, "REFER", 2));
        for (at, cseq) in [(TRANSFER + 0.04, TRYING), (TRANSFERRED - 0.1, DONE)] {
            self.at(at, What::Ask(Way::Inbound, "NOTIFY", cseq));
            self.at(at + 0.01, What::Answer(Way::Inbound, 200, "NOTIFY", cseq));
        }
    }

    fn hang_up(&mut self, way: Way, at: f64) {
        self.at(at, What::Ask(way, "BYE", 9));
        self.at(at + 0.02, What::Answer(way, 200, "BYE", 9));
    }

    fn at(&mut self, seconds: f64, what: What) {
        self.0.push(Step { after: micros(seconds), what });
    }
}

/// CSeqs of the NOTIFY of 100 and of that of 200.
const TRYING: u32 = 2;
const DONE: u32 = 3;

struct Call {
    number: u64,
    caller: String,
    called: String,
    target: String,
    /// The number that a second leg shows.
    shown: String,
}

impl Call {
    fn of(dense: &Dense, number: u64) -> Self {
        let caller = format!("+1415{number:07}");
        let called = format!("+1510{:07}", if dense.numbers == 0 { number } else { number % dense.numbers });
        let shown = match dense.by {
            Means::Caller => caller.clone(),
            Means::Refer | Means::Own => called.clone(),
        };
        Self { number, caller, called, target: format!("+1800{number:07}"), shown }
    }

    fn send<W: Write>(&self, trace: &mut Trace<W>, time: Micros, what: What) {
        match what {
            What::Ask(way, method, cseq) => self.leg_of(way).ask(trace, time, method, cseq),
            What::Answer(way, status, method, cseq) => {
                self.leg_of(way).answer(trace, time, status, method, cseq);
            }
            What::Rtp(from, to) => self.rtp(trace, time, from, to),
        }
    }

    fn leg_of(&self, way: Way) -> Leg<'_> {
        let (inbound, second) = ((TRUNK, &*self.caller), (PLATFORM, &*self.shown));
        match way {
            Way::Inbound => self.leg('a', inbound, (PLATFORM, &self.called)),
            Way::Back => self.leg('a', inbound, (PLATFORM, &self.called)).back(),
            Way::Second => self.leg('b', second, (CARRIER, &self.target)),
        }
    }

    fn leg<'a>(
        &'a self,
        letter: char,
        (caller, from): (SocketAddrV4, &str),
        (callee, to): (SocketAddrV4, &str),
    ) -> Leg<'a> {
        let Self { number, .. } = self;
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Leg {
            call: self,
            call_id: format!("{letter}{number:08x}{spread:016x}@{}", caller.ip()),
            ends: [
                End {
                    at: caller,
                    uri: format!("sip:{from}@{}", caller.ip()),
                    tag: format!("f{letter}{number:08x}"),
                },
                End {
                    at: callee,
                    uri: format!("sip:{to}@{}", callee.ip()),
                    tag: format!("t{letter}{number:08x}"),
                },
            ],
        }
    }

    /// 20 ms of silence.
    fn rtp<W: Write>(&self, trace: &mut Trace<W>, time: Micros, from: SocketAddrV4, to: SocketAddrV4) {
        let port = self.port();
        // RFC 3550 §5.1: sequence number, timestamp (8 kHz), and who sends.
        let mut packet = vec![0x80, 0];
        packet.extend(&(time / 20_000).to_be_bytes()[6..]);
        packet.extend(&(time / 125).to_be_bytes()[4..]);
        packet.extend(&self.number.to_be_bytes()[4..]);
        packet.resize(172, 0xff);
        trace.udp(time, SocketAddrV4::new(*from.ip(), port), SocketAddrV4::new(*to.ip(), port), &packet);
    }

    fn port(&self) -> u16 {
        10_000 + u16::try_from(self.number % 20_000).unwrap_or_default() * 2
    }
}

/// One leg, as who asks sees it.
struct Leg<'a> {
    call: &'a Call,
    call_id: String,
    /// Who asks, and who answers.
    ends: [End; 2],
}

#[derive(Clone)]
struct End {
    at: SocketAddrV4,
    uri: String,
    tag: String,
}

impl Leg<'_> {
    /// The same leg, with requests the other way.
    fn back(mut self) -> Self {
        self.ends.reverse();
        self
    }

    fn ask<W: Write>(&self, trace: &mut Trace<W>, time: Micros, method: &str, cseq: u32) {
        let [own, other] = &self.ends;
        let uri = if method == "INVITE" { other.uri.clone() } else { format!("sip:{}", other.at) };
        let request = self
            .headers(
                Sip::request(method, &uri).header("Max-Forwards", "70"),
                method,
                cseq,
                method != "INVITE",
            )
            .header("Contact", format!("<sip:{}>", own.at))
            .header("User-Agent", "Generator 1.0")
            .header("Allow", "INVITE, ACK, CANCEL, BYE, REFER, NOTIFY, OPTIONS");
        let request = match method {
            "INVITE" => request.body("application/sdp", self.sdp(own)),
            "REFER" => request.header("Refer-To", format!("<sip:{}@{}>", self.call.target, CARRIER.ip())),
            "NOTIFY" => {
                let (state, status) = match cseq {
                    TRYING => ("active;expires=60", "100 Trying"),
                    _ => ("terminated;reason=noresource", "200 OK"),
                };
                request
                    .header("Event", "refer")
                    .header("Subscription-State", state)
                    .body("message/sipfrag", format!("SIP/2.0 {status}\r\n"))
            }
            _ => request,
        };
        trace.udp(time, own.at, other.at, &request.bytes());
    }

    fn answer<W: Write>(&self, trace: &mut Trace<W>, time: Micros, status: u16, method: &str, cseq: u32) {
        let [asked, own] = &self.ends;
        let phrase = match status {
            100 => "Trying",
            180 => "Ringing",
            202 => "Accepted",
            _ => "OK",
        };
        let answer = self
            .headers(Sip::response(status, phrase), method, cseq, status != 100)
            .header("Contact", format!("<sip:{}>", own.at))
            .header("Server", "Generator 1.0");
        let answer = match (method, status) {
            ("INVITE", 200) => answer.body("application/sdp", self.sdp(own)),
            _ => answer,
        };
        trace.udp(time, own.at, asked.at, &answer.bytes());
    }

    /// What a request and its answers have in common.
    fn headers(&self, message: Sip, method: &str, cseq: u32, tagged: bool) -> Sip {
        let [own, other] = &self.ends;
        let tag = if tagged { format!(";tag={}", other.tag) } else { String::new() };
        message
            .header("Via", format!("SIP/2.0/UDP {};branch=z9hG4bK{}{method}{cseq};rport", own.at, own.tag))
            .header("From", format!("<{}>;tag={}", own.uri, own.tag))
            .header("To", format!("<{}>{tag}", other.uri))
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{cseq} {method}"))
    }

    fn sdp(&self, own: &End) -> String {
        let (ip, port, name, id) = (own.at.ip(), self.call.port(), &own.tag, self.call.number + 1);
        format!(
            "v=0\r\no={name} {id} {id} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
        )
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a capture")]
fn micros(seconds: f64) -> Micros {
    (seconds * 1e6) as Micros
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frames;

    /// The first lines of the SIP messages in a capture, and how many frames are none.
    fn read(dense: &Dense) -> (Vec<String>, usize) {
        let file = dense.write_to(Vec::new()).unwrap();
        let (mut lines, mut others, mut last) = (Vec::new(), 0, 0);
        for (time, frame) in frames(&file) {
            assert!(time >= last, "time goes back");
            last = time;
            match frame[42..]
                .split(|byte| *byte == b'\r')
                .next()
                .and_then(|line| std::str::from_utf8(line).ok())
            {
                Some(line) if line.contains("SIP/2.0") => lines.push(line.to_owned()),
                _ => others += 1,
            }
        }
        (lines, others)
    }

    #[test]
    fn every_so_many_th_call_is_transferred() {
        let shape = Dense { calls: 21, rate: 5.0, up: 20.0, ..Dense::default() };
        let count =
            |lines: &[String], start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
        let (lines, others) = read(&shape);
        assert_eq!(others, 0);
        assert_eq!([count(&lines, "INVITE "), count(&lines, "REFER "), count(&lines, "BYE ")], [21, 3, 21]);
        let (lines, _) = read(&Dense { by: Means::Own, ..shape.clone() });
        assert_eq!([count(&lines, "INVITE "), count(&lines, "REFER "), count(&lines, "BYE ")], [24, 0, 24]);
        let (_, others) = read(&Dense { rtp: 7, ..shape });
        assert_eq!(others, 21 * 7 * 2);
    }
}
