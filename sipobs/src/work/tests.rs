//! Inputs made to be slow, at four sizes. Where four times the input takes more than four times the steps, there is
//! a trap.

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};

use super::measure;
use crate::capture::file::Reader;
use crate::frame::{Direction, Frame, LinkType};
use crate::packet::{self, Packet, Packets, Transport};
use crate::sip::{Message, Name, NameAddr, Params, Sipfrag, Uri, Via, sdp};
use crate::stream::{self, Streams};
use crate::timestamp::Timestamp;

/// Holds `work` on an input of `n` units, which are so many bytes, to linear time: at most `rate` steps a byte, and
/// no more of them for a longer input.
fn linear(what: &str, rate: u64, work: impl Fn(usize) -> usize) {
    let mut least = f64::MAX;
    for n in [64, 256, 1_024, 4_096] {
        let mut bytes = 0;
        let steps = measure(|| bytes = work(n));
        assert!(steps > 0 && bytes > 0, "{what}: nothing was done");
        assert!(steps <= rate * bytes as u64, "{what}: {steps} steps for {bytes} bytes");
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = steps as f64 / bytes as f64;
        least = least.min(each);
        assert!(each <= 2.0 * least + 1.0, "{what}: {each} steps a byte at {n}, {least} before");
    }
}

/// Every value of a message, read.
fn read_all(bytes: &[u8]) -> usize {
    let message = Message::parse(bytes).unwrap();
    let _ = (message.defects(), message.cseq(), message.contact(), message.event(), message.replaces());
    let _ = (message.bottom_via(), message.reasons().count(), message.warnings().count());
    let _ =
        (message.content_length(), message.body_of("application/sdp"), message.body_of("message/sipfrag"));
    let _ = (sdp::Session::of(&message), Sipfrag::of(&message).is_ok());
    #[cfg(feature = "typed")]
    let _ = crate::sip::typed(&message);
    for name in [Name::Via, Name::Contact, Name::Route, Name::Require] {
        let _ = message.values(name).count();
    }
    bytes.len()
}

#[test]
fn headers_and_values() {
    let head = "NOTIFY sip:a@b SIP/2.0\r\nf: <sip:a@b>;tag=1\r\nt: <sip:b@c>\r\ni: x\r\nCSeq: 1 NOTIFY\r\n";
    for (line, unit, end) in [
        // Many headers, many values of one, many folds, much white space.
        ("", "v: SIP/2.0/UDP h;branch=x\r\n", ""),
        ("", "X: y\r\n", ""),
        ("", "no header at all\r\n", ""),
        ("v: SIP/2.0/UDP h", ",SIP/2.0/UDP h", ""),
        ("m: <sip:a@b>", ",<sip:a@b>", ""),
        ("m: ", ",", ""),
        ("Subject: a", "\r\n b", ""),
        ("Subject: a", " \t", "b"),
        ("", " :", ""),
        // Marks that open and never close, and that nest.
        ("m: ", "\"", ""),
        ("m: \"", "\\\"", ""),
        ("m: ", "<", ""),
        ("m: ", "(", ""),
        ("m: ", "()", ""),
        ("m: ", "<\"(", ","),
        ("m: ", "\",<,(,", ""),
        ("Warning: ", "399 h \"", ","),
        ("Reason: ", "Q.850;text=\"", ","),
        ("m: <sip:a@b>", ";a=\"", ""),
        // Bodies: parts, lines, fragments.
        ("c: multipart/mixed;boundary=b\r\n\r\n", "--b\r\n", ""),
        ("c: multipart/mixed;boundary=b\r\n\r\n", "--b", ""),
        ("c: multipart/mixed;boundary=b\r\n\r\n--b\r\n", "c: x/y\r\n", "\r\n--b--"),
        ("c: application/sdp\r\n\r\nv=0\r\n", "m=audio 1 RTP/AVP 0\r\n", ""),
        ("c: application/sdp\r\n\r\nv=0\r\n", "a=sendrecv\r\n", ""),
        ("c: message/sipfrag\r\n\r\nSIP/2.0 200 OK\r\n", "Reason: SIP;cause=200,\r\n ", ""),
    ] {
        linear(&format!("{line:?}, {unit:?}"), 120, |n| {
            read_all(format!("{head}{line}{}{end}\r\n\r\n", unit.repeat(n)).as_bytes())
        });
    }
}

#[test]
fn single_values() {
    for unit in [
        "<", "\"", ";", ";a", ";a=\"", "@", ":", "?a=", "&", "%", "%41", "[", "]", " ", "\\", "/", "(", ",",
        "\r\n ",
    ] {
        linear(unit, 60, |n| {
            let text = format!("sip:a@b{}", unit.repeat(n));
            let bytes = text.as_bytes();
            let _ = NameAddr::parse(bytes).map(|it| (it.tag(), it.display_text(), it.parsed_uri()));
            let _ = Uri::parse(bytes).map(|it| (it.user_part(), it.number(), it.header("Replaces")));
            let _ = Via::parse(&[b"SIP/2.0/UDP h", bytes].concat()).map(|it| (it.branch(), it.received()));
            let _ = (Params::new(bytes).get("x"), crate::sip::line(bytes), Sipfrag::parse(bytes).is_ok());
            let _ = crate::sip::lossy(bytes);
            bytes.len()
        });
    }
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn fragment(id: u16, unit: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len() + 20).unwrap().to_be_bytes();
    let at = (u16::try_from(unit).unwrap() | if more { 0x2000 } else { 0 }).to_be_bytes();
    let id = id.to_be_bytes();
    let head = [0x45, 0, len[0], len[1], id[0], id[1], at[0], at[1], 64, 17, 0, 0];
    [&head[..], &A, &B, bytes].concat()
}

#[test]
fn fragments() {
    type Order = fn(usize) -> Vec<usize>;
    let orders: [(&str, Order); 5] = [
        ("forwards", |n| (0..n).collect()),
        ("backwards", |n| (0..n).rev().collect()),
        ("every other", |n| (0..n).step_by(2).chain((1..n).step_by(2)).collect()),
        ("the first last", |n| (1..n).chain([0]).collect()),
        ("each twice", |n| (0..n).flat_map(|at| [at, at]).collect()),
    ];
    for (what, order) in orders {
        linear(what, 20, |n| {
            let mut packets = Packets::new(packet::Config {
                copy_window: std::time::Duration::ZERO,
                ..packet::Config::default()
            });
            let mut bytes = 0;
            for (number, at) in order(n).into_iter().enumerate() {
                let piece = fragment(7, at, at + 1 < n, &[b'x'; 8]);
                bytes += piece.len();
                push(&mut packets, number, &piece);
            }
            bytes
        });
    }
    linear("overlaps", 20, |n| {
        let mut packets = Packets::new(packet::Config::default());
        for number in 0..n {
            push(&mut packets, number, &fragment(7, number % 64, true, &[b'x'; 512]));
        }
        n * 532
    });
}

#[test]
fn headers_of_capturing_machines() {
    for (link, start, unit) in [
        (LinkType::UpperPdu, &b""[..], &[0, 30, 0, 0][..]),
        (LinkType::UpperPdu, b"", &[0, 12, 0, 4, b's', b'i', b'p', 0]),
        (LinkType::Nflog, &[2, 0, 0, 0], &[4, 0, 1, 0]),
        (LinkType::Nflog, &[2, 0, 0, 0], &[0, 4, 0, 1]),
        (LinkType::Erf, &[0x82; 16], &[0x80; 8]),
    ] {
        linear(&format!("{link}"), 3, |n| {
            let bytes = [start, &unit.repeat(n)].concat();
            frame(&mut Packets::new(packet::Config::default()), 0, link, &bytes);
            bytes.len()
        });
    }
}

fn push(packets: &mut Packets, number: usize, bytes: &[u8]) {
    frame(packets, number, LinkType::Raw, bytes);
}

fn frame(packets: &mut Packets, number: usize, link: LinkType, bytes: &[u8]) {
    let frame = Frame {
        time: Timestamp::from_nanos(0),
        number: number as u64 + 1,
        interface: 0,
        direction: Direction::Unknown,
        link,
        wire_len: u32::try_from(bytes.len()).unwrap(),
        bytes,
    };
    packets.push(&frame, &mut |_| {});
}

/// Sends parts of a stream, each from one offset to another, and gives how many bytes that were, headers included.
fn send(stream: &[u8], parts: impl Iterator<Item = (usize, usize)>) -> usize {
    let mut streams = Streams::new(stream::Config::default());
    let (src, dst) =
        (SocketAddr::from((Ipv4Addr::from(A), 5060)), SocketAddr::from((Ipv4Addr::from(B), 5060)));
    let mut bytes = 0;
    let mut push = |seq: usize, syn, payload: &[u8]| {
        let seq = u32::try_from(seq).unwrap();
        let transport = Transport::Tcp { seq, ack: None, syn, fin: false, rst: false, payload, cut: 0 };
        bytes += payload.len() + 40;
        streams.push(
            &Packet { time: Timestamp::default(), frame: 1, src, dst, originated: false, transport },
            &mut |_| {},
        );
    };
    push(0, true, b"");
    for (from, to) in parts {
        push(1 + from, false, &stream[from..to.min(stream.len())]);
    }
    streams.finish(Timestamp::default(), &mut |_| {});
    bytes
}

#[test]
fn segments() {
    let body = |n: usize| {
        let message = b"INFO sip:a SIP/2.0\r\nl: 40\r\n\r\n0123456789012345678901234567890123456789";
        message.iter().copied().cycle().take(n * 16).collect::<Vec<_>>()
    };
    linear("one byte each", 20, |n| send(&body(n), (0..n * 16).map(|at| (at, at + 1))));
    linear("one byte each, backwards", 20, |n| send(&body(n), (0..n * 16).rev().map(|at| (at, at + 1))));
    linear("every other byte, then all", 20, |n| {
        let len = n * 16;
        let holes = (1..len).step_by(2).map(|at| (at, at + 1));
        send(&body(n), holes.chain((0..len).step_by(1_000).map(|at| (at, at + 1_000))))
    });
    linear("wider and wider over what is held", 80, |n| {
        let len = n * 16;
        let holes = (1..len).step_by(2).map(|at| (at, at + 1));
        send(&body(n), holes.chain((0..n).map(|at| (at + 1, at + 1_000))))
    });
    linear("always from the start", 20, |n| send(&body(n), (0..n).map(|at| (0, at + 1))));
}

#[test]
fn streams_that_are_hard_to_frame() {
    for (start, unit) in [
        ("", "BYE sip:a SIP/2.0\r\n"),
        ("", "BYE sip:a SIP/2.0\r\nnot a header\r\n"),
        ("", "SIP/2.0 200 OK\r\n\r\n"),
        ("", "\r\n"),
        ("BYE sip:a SIP/2.0\r\n", "a: b\r\n"),
        ("BYE sip:a SIP/2.0\r\n", "a"),
        ("BYE sip:a SIP/2.0\r\nl: 99999999\r\n\r\n", "BYE sip:a SIP/2.0\r\nl: 99999999\r\n"),
        ("BYE sip:a SIP/2.0\r\nl: 0\r\n\r\n", "SIP/2.0 SIP/2.0 "),
        ("BYE sip:a SIP/2.0\r\nl: 0\r\n\r\n", "BYE sip:a SIP/2.0 x\r"),
        ("BYE sip:a SIP/2.0\r\nl: 0\r\n\r\n", "A sip:a SIP/2.0\n"),
    ] {
        for size in [1, 7, 1_400] {
            linear(&format!("{start:?}, {unit:?} in {size}"), 20, |n| {
                let stream = [start.as_bytes(), unit.repeat(n).as_bytes()].concat();
                send(&stream, (0..stream.len()).step_by(size).map(|at| (at, at + size)))
            });
        }
    }
}

#[test]
fn files() {
    let block = |kind: u32, body: &[u8]| {
        let len = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &len].concat()
    };
    let section =
        block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    let interface = block(1, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let frame = block(6, &[&[0; 12][..], &[4, 0, 0, 0, 4, 0, 0, 0], b"abcd"].concat());
    let many_options =
        block(6, &[&[0; 12][..], &[4, 0, 0, 0, 4, 0, 0, 0], b"abcd", &[1, 0, 0, 0].repeat(500)].concat());
    for (what, unit) in [
        ("sections", section.clone()),
        ("interfaces", interface.clone()),
        ("frames", frame),
        ("options", many_options),
        ("unknown blocks", block(77, &[])),
    ] {
        linear(what, 3, |n| {
            let file = [&section[..], &interface, &unit.repeat(n)].concat();
            let len = file.len();
            let mut reader = Reader::from_read("-", None, Cursor::new(file)).unwrap();
            while reader.next().unwrap().is_some() {}
            len
        });
    }
}
