//! One stream, whole and in pieces: the messages are the same.
//!
//! Input: a record of the pieces' lengths, then the stream.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use sipobs::packet::{Packet, Transport};
use sipobs::stream::{Config, Item, Streams};
use sipobs::timestamp::Timestamp;
use sipobs_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let lengths = input.record();
    // So that it is known to be SIP: what else it may be is judged by its first segment.
    let stream = [b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n", input.0].concat();
    let whole = messages(&[&stream]);
    let mut pieces = Vec::new();
    let mut rest = &stream[..];
    for len in lengths.iter().cycle().take(if lengths.is_empty() { 0 } else { stream.len() }) {
        let (piece, after) = rest.split_at((usize::from(*len) + 1).min(rest.len()));
        pieces.push(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    pieces.push(rest);
    assert_eq!(messages(&pieces), whole);
});

fn messages(pieces: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
    let mut given = Vec::new();
    let mut sink = |item: Item<'_>| {
        if let Item::Message(message, _) = item {
            given.push((message.bytes.to_vec(), message.cut));
        }
    };
    let mut streams = Streams::new(Config { max_message_bytes: 2_000, ..Config::default() });
    let src = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 40_000);
    let dst = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 2).into(), 5060);
    let mut seq = u32::MAX - 100;
    let time = Timestamp::default();
    let mut push = |payload: &[u8], syn: bool, seq: u32| {
        let transport = Transport::Tcp { seq, ack: None, syn, fin: false, rst: false, payload, cut: 0 };
        streams.push(&Packet { time, frame: 1, src, dst, originated: false, transport }, &mut sink);
    };
    push(b"", true, seq);
    seq = seq.wrapping_add(1);
    for piece in pieces {
        push(piece, false, seq);
        seq = seq.wrapping_add(u32::try_from(piece.len()).expect("it is short"));
    }
    streams.finish(time, &mut sink);
    given
}
