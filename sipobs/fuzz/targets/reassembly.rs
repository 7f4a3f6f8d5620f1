//! Segments of the two streams of a connection, in any order, with any flags: every message given is part of
//! its stream.
//!
//! Input: a record of segments, a record that one side sends, and the rest, which the other sends.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use sipobs::packet::{Packet, Transport};
use sipobs::stream::{Config, Item, Streams};
use sipobs::timestamp::Timestamp;
use sipobs_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut plan = Input(input.record());
    let first = input.record();
    let sent = [first, input.0];
    let ends = [
        SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 40_000),
        SocketAddr::new(Ipv4Addr::new(10, 0, 0, 2).into(), 5060),
    ];

    let config =
        Config { max_bytes: 20_000, max_stream_bytes: 4_000, max_message_bytes: 3_000, ..Config::default() };
    let mut streams = Streams::new(config);
    let start = u32::from(plan.u8()) << 24 | 0x00ff_fff0;
    let (mut ms, mut frame, mut at) = (0_i64, 0, [0_usize; 2]);
    while !plan.is_empty() {
        let (flags, len, more) = (plan.u8(), usize::from(plan.u8()), plan.u8());
        let side = usize::from(flags & 1);
        let stream = sent[side];
        // Mostly on from where it was, else anywhere.
        let from = if flags & 2 == 0 { at[side] } else { usize::from(plan.u16()) }.min(stream.len());
        let to = (from + len * (1 + usize::from(flags >> 6) * 8)).min(stream.len());
        at[side] = to;
        let seq = |at: usize| start.wrapping_add(1).wrapping_add(u32::try_from(at).expect("it is short"));
        let syn = more & 0x1f == 1;
        let transport = Transport::Tcp {
            seq: if syn { start } else { seq(from) },
            ack: (more & 0xe0 == 0x20).then(|| seq(at[1 - side])),
            syn,
            fin: more & 0x3f == 2,
            rst: more & 0x7f == 3,
            payload: if syn { b"" } else { &stream[from..to] },
            cut: if more & 0x3f == 4 { u32::from(more) } else { 0 },
        };
        ms += i64::from(flags & 0x3c) * 20;
        frame += 1;
        let time = Timestamp::from_nanos(ms * 1_000_000);
        let mut sink = |item: Item<'_>| check_item(&item, ends, sent);
        streams.handle_timeout(time, &mut sink);
        streams.push(
            &Packet { time, frame, src: ends[side], dst: ends[1 - side], originated: false, transport },
            &mut sink,
        );
        check_books(&streams);
    }
    streams.finish(Timestamp::from_nanos(ms * 1_000_000), &mut |item| check_item(&item, ends, sent));
    check_books(&streams);
    let c = streams.counters();
    assert_eq!((c.held, c.unfinished, c.connections), (0, 0, 0), "{c:?}");
});

fn check_item(item: &Item<'_>, ends: [SocketAddr; 2], sent: [&[u8]; 2]) {
    if let Item::Message(message, _) = item
        && message.transport.is_plain()
    {
        let stream = sent[usize::from(message.src == ends[1])];
        let whole = stream.windows(message.bytes.len().max(1)).any(|window| window == message.bytes);
        assert!(whole, "a message that was never sent");
    }
}

fn check_books(streams: &Streams) {
    let c = streams.counters();
    assert_eq!(c.packets, c.used + c.held + c.unfinished + c.unused.total(), "{c:?}");
}
