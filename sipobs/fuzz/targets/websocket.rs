//! A WebSocket for SIP, in pieces and whole: the same messages, none beyond the limit, and every segment accounted for.
//!
//! Input: a byte whose lowest bit asks for compression, a record of lengths to cut by, and what the server sends behind its answer.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use sipobs::packet::{Packet, Transport};
use sipobs::stream::{Config, Item, Streams};
use sipobs::timestamp::Timestamp;
use sipobs_fuzz::Input;

const MOST: usize = 3_000;

fn messages(deflate: bool, sent: &[u8], cuts: &[u8]) -> Vec<Vec<u8>> {
    let extension = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let request =
        format!("GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n{extension}\r\n");
    let answer = format!("HTTP/1.1 101 OK\r\nSec-WebSocket-Protocol: sip\r\n{extension}\r\n");
    let mut streams = Streams::new(Config { max_message_bytes: MOST, ..Config::default() });
    let ends = [40_000, 8080].map(|port| SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), port));
    let (mut at, mut found, mut frame) = ([0_u32; 2], Vec::new(), 0);
    let mut push = |side: usize, payload: &[u8]| {
        frame += 1;
        let seq = at[side];
        at[side] = seq.wrapping_add(u32::try_from(payload.len()).expect("it is short"));
        let transport =
            Transport::Tcp { seq, ack: None, syn: false, fin: false, rst: false, payload, cut: 0 };
        let time = Timestamp::from_nanos(0);
        let packet =
            Packet { time, frame, src: ends[side], dst: ends[1 - side], originated: false, transport };
        streams.push(&packet, &mut |item| {
            if let Item::Message(message, _) = item {
                assert!(message.bytes.len() <= MOST, "{}", message.bytes.len());
                found.push(message.bytes.to_vec());
            }
        });
        let c = streams.counters();
        assert_eq!(c.packets, c.used + c.held + c.unfinished + c.unused.total(), "{c:?}");
    };
    push(0, request.as_bytes());
    push(1, answer.as_bytes());
    let mut rest = sent;
    for cut in cuts {
        let (now, behind) = rest.split_at(usize::from(*cut).min(rest.len()));
        push(1, now);
        rest = behind;
    }
    push(1, rest);
    streams.finish(Timestamp::from_nanos(0), &mut |_| {});
    assert_eq!((streams.counters().unfinished, streams.counters().connections), (0, 0));
    found
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let deflate = input.u8() & 1 == 1;
    let cuts = input.record();
    // One that breaks the rules before it has said anything is let go, and may begin anew with whatever comes.
    let first = b"\x81\x2dOPTIONS sip:a@example SIP/2.0\r\nCall-ID: 1\r\n\r\n";
    let sent = [&first[..], input.0].concat();
    let cuts = [&[first.len() as u8][..], cuts].concat();
    assert_eq!(messages(deflate, &sent, &cuts), messages(deflate, &sent, &cuts[..1]));
});
