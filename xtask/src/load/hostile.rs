//! What an attacker, or a broken peer, sends: INVITEs from addresses that are not theirs, and messages that are
//! none.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::traffic::Dice;
use crate::wire::{From, Sip, Tcp, Trace};

const TRUNK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, 1), 5060);
const AGENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, 2), 5060);

const SDP: &str = "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
                   m=audio 30000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

/// An INVITE that nobody will answer, from anywhere, to anyone.
pub(super) fn invite<W: Write>(trace: &mut Trace<W>, time: u64, dice: &mut Dice) {
    let from = anywhere(dice);
    trace.udp(time, from, AGENT, &call(dice, from).bytes());
}

/// A whole call, as if both sides had set it up, and nobody hangs up: from anywhere.
pub(super) fn call_from_anywhere<W: Write>(trace: &mut Trace<W>, time: u64, dice: &mut Dice) {
    let from = anywhere(dice);
    set_up(trace, time, dice, from);
}

/// The same, always from one host.
pub(super) fn call_from_one_host<W: Write>(trace: &mut Trace<W>, time: u64, dice: &mut Dice) {
    set_up(trace, time, dice, SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 66), 5060));
}

/// The same in the name of the trunk that the genuine calls come from.
pub(super) fn call_from_the_trunk<W: Write>(trace: &mut Trace<W>, time: u64, dice: &mut Dice) {
    set_up(trace, time, dice, TRUNK);
}

/// A REFER or NOTIFY within a call that nobody has.
pub(super) fn referral<W: Write>(trace: &mut Trace<W>, time: u64, dice: &mut Dice) {
    let from = anywhere(dice);
    let message = if dice.below(2) == 0 { refer(dice, from) } else { notify(dice, from) };
    trace.udp(time, from, AGENT, &message.bytes());
}

/// A message with one thing wrong that no reader can mend. One in ten comes over TCP, on a connection of its own.
pub(super) fn malformed<W: Write>(trace: &mut Trace<W>, time: u64, dice: &mut Dice) {
    let from = anywhere(dice);
    let mut bytes = request(dice, from).bytes();
    let damage = dice.pick(DAMAGES);
    damage(&mut bytes, dice);
    if dice.below(10) == 0 {
        Tcp::open(trace, time, from, AGENT).send(trace, time + 300, From::Client, &bytes);
    } else {
        trace.udp(time, from, AGENT, &bytes);
    }
}

fn call(dice: &mut Dice, from: SocketAddrV4) -> Sip {
    headers(dice, from, "INVITE", "").header("Contact", format!("<sip:{from}>")).body("application/sdp", SDP)
}

/// INVITE, 200 and ACK.
fn set_up<W: Write>(trace: &mut Trace<W>, time: u64, dice: &mut Dice, from: SocketAddrV4) {
    let (caller, callee, own, id) =
        (dice.below(10_000_000_000), dice.below(10_000_000_000), dice.next(), dice.next());
    let headers = |message: Sip, method: &str, tagged: bool| {
        let tag = if tagged { format!(";tag={:016x}", !own) } else { String::new() };
        message
            .header("Via", format!("SIP/2.0/UDP {from};branch=z9hG4bK{method}{id:016x}"))
            .header("From", format!("<sip:+1{caller:010}@{from}>;tag={own:016x}"))
            .header("To", format!("<sip:+1{callee:010}@{AGENT}>{tag}"))
            .header("Call-ID", format!("{id:016x}@{}", from.ip()))
            .header("CSeq", format!("1 {method}"))
    };
    let uri = format!("sip:+1{callee:010}@{AGENT}");
    let invite = headers(Sip::request("INVITE", &uri), "INVITE", false).header("Max-Forwards", "70");
    let invite = invite.header("Contact", format!("<sip:{from}>")).body("application/sdp", SDP);
    let answer = headers(Sip::response(200, "OK"), "INVITE", true);
    let answer = answer.header("Contact", format!("<sip:{AGENT}>")).body("application/sdp", SDP);
    let ack = headers(Sip::request("ACK", &uri), "ACK", true).header("Max-Forwards", "70");
    trace.udp(time, from, AGENT, &invite.bytes());
    trace.udp(time + 50, AGENT, from, &answer.bytes());
    trace.udp(time + 100, from, AGENT, &ack.bytes());
}

/// Any of the requests that a transfer is made of.
fn request(dice: &mut Dice, from: SocketAddrV4) -> Sip {
    match dice.below(5) {
        0 => call(dice, from),
        1 => refer(dice, from),
        2 => notify(dice, from),
        3 => headers(dice, from, "BYE", ";tag=there"),
        _ => headers(dice, from, "CANCEL", ""),
    }
}

fn refer(dice: &mut Dice, from: SocketAddrV4) -> Sip {
    let target = format!("<sip:+{}@10.88.0.1>", dice.below(10_000_000_000));
    headers(dice, from, "REFER", ";tag=there").header("Refer-To", target)
}

fn notify(dice: &mut Dice, from: SocketAddrV4) -> Sip {
    headers(dice, from, "NOTIFY", ";tag=there")
        .header("Event", "refer")
        .header("Subscription-State", "terminated;reason=noresource")
        .body("message/sipfrag;version=2.0", "SIP/2.0 486 Busy Here\r\n")
}

fn headers(dice: &mut Dice, from: SocketAddrV4, method: &str, to_tag: &str) -> Sip {
    let (caller, callee) = (dice.below(10_000_000_000), dice.below(10_000_000_000));
    Sip::request(method, &format!("sip:+1{callee:010}@{AGENT}"))
        .header("Via", format!("SIP/2.0/UDP {from};branch=z9hG4bK{:016x}", dice.next()))
        .header("From", format!("<sip:+1{caller:010}@{from}>;tag={:016x}", dice.next()))
        .header("To", format!("<sip:+1{callee:010}@{AGENT}>{to_tag}"))
        .header("Call-ID", format!("{:016x}@{}", dice.next(), from.ip()))
        .header("CSeq", format!("1 {method}"))
        .header("Max-Forwards", "70")
}

/// Any unicast address but loopback's and the lab's own.
fn anywhere(dice: &mut Dice) -> SocketAddrV4 {
    let [a, b, c, d] = u32::try_from(dice.below(1 << 32)).unwrap_or_default().to_be_bytes();
    let a = if matches!(a, 0 | 10 | 127 | 224..) { 11 + a % 100 } else { a };
    let port = 1024 + u16::try_from(dice.below(60_000)).unwrap_or_default();
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port)
}

type Damage = fn(&mut Vec<u8>, &mut Dice);

const DAMAGES: &[Damage] = &[
    // Cut within its header.
    |bytes, dice| bytes.truncate(at(dice, bytes.len().min(300)).max(20)),
    // One of the headers that every message has is missing, or has a name that says nothing.
    |bytes, _| replace(bytes, b"\r\nCall-ID:", b"\r\nC\0ll-ID:"),
    |bytes, _| replace(bytes, b"\r\nCSeq:", b"\r\nXSeq:"),
    |bytes, _| replace(bytes, b"\r\nFrom:", b"\r\n:rom:"),
    |bytes, _| replace(bytes, b"\r\nTo:", b"\r\nT(:"),
    // Numbers that are none, or too large.
    |bytes, _| replace(bytes, b"\r\nCSeq: 1 ", b"\r\nCSeq: 99999999999 "),
    |bytes, _| replace(bytes, b"\r\nCSeq: 1 ", b"\r\nCSeq: -1 "),
    // A length that the datagram, or the stream, does not hold.
    |bytes, _| replace(bytes, b"\r\nContent-Length: ", b"\r\nContent-Length: 4294967328"),
    |bytes, _| replace(bytes, b"\r\nContent-Length: ", b"\r\nContent-Length: -"),
    |bytes, _| replace(bytes, b"\r\nContent-Length: ", b"\r\nContent-Length: 9223372036854775807"),
    // Another protocol's version; no version.
    |bytes, _| replace(bytes, b" SIP/2.0\r\nVia", b" SIP/7.0\r\nVia"),
    |bytes, _| replace(bytes, b" SIP/2.0\r\nVia", b"\r\nVia"),
    // A header that does not end.
    |bytes, dice| {
        let filler = vec![b'a'; at(dice, 1000)];
        replace(bytes, b"\r\n\r\n", b"\r\nX: ");
        bytes.extend(filler);
    },
    // A start line, and behind it noise.
    |bytes, dice| {
        let behind = bytes.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        for byte in &mut bytes[behind..] {
            *byte = dice.next().to_le_bytes()[0];
        }
    },
    // Some bytes overwritten among the first headers.
    |bytes, dice| {
        for _ in 0..20 {
            let index = at(dice, bytes.len().min(200));
            bytes[index] = dice.next().to_le_bytes()[0];
        }
    },
];

fn at(dice: &mut Dice, end: usize) -> usize {
    usize::try_from(dice.below(end as u64)).unwrap_or_default()
}

/// Puts `new` in the place of the first `old`, if there is one.
fn replace(bytes: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    if let Some(start) = bytes.windows(old.len()).position(|window| window == old) {
        bytes.splice(start..start + old.len(), new.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frames;

    #[test]
    fn every_damage_changes_the_message() {
        let mut dice = Dice(1);
        for (index, damage) in DAMAGES.iter().enumerate() {
            let from = anywhere(&mut dice);
            let whole = call(&mut dice, from).bytes();
            let mut bytes = whole.clone();
            damage(&mut bytes, &mut dice);
            assert_ne!(bytes, whole, "damage {index}");
        }
    }

    #[test]
    fn a_flood_comes_from_everywhere() {
        let (mut trace, mut dice) = (Trace::new(Vec::new()).unwrap(), Dice(7));
        for time in 0..1000 {
            invite(&mut trace, time, &mut dice);
        }
        let file = trace.finish().unwrap();
        let sources: std::collections::BTreeSet<_> =
            frames(&file).map(|(_, frame)| frame[26..30].to_vec()).collect();
        assert!(sources.len() > 990);
        assert!(!sources.contains(&AGENT.ip().octets()[..]));
    }
}
