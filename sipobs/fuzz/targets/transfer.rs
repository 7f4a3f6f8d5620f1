//! Sequences of messages, through dialogs and transfers: nothing panics, what is kept is bounded, and the same
//! sequence says the same twice.
//!
//! Input: records of sender and receiver, a pause, and the message.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use sipobs::stream::{TransportKind, WireMessage};
use sipobs::timestamp::Timestamp;
use sipobs_fuzz::{Input, check_books, small_engine};

fuzz_target!(|data: &[u8]| {
    let once = outputs(data);
    assert_eq!(outputs(data), once, "the output depends on hash order");
});

fn outputs(data: &[u8]) -> Vec<String> {
    let mut input = Input(data);
    let mut engine = small_engine();
    let (mut ms, mut frame) = (0_i64, 0);
    let mut outputs = Vec::new();
    while !input.is_empty() {
        let ends = input.u8();
        // A pause of up to 16 s, or of up to an hour.
        let pause = i64::from(input.u8());
        ms += if ends & 0x80 == 0 { pause * pause / 4 } else { pause * 14_000 };
        let end = |host: u8| SocketAddr::new(Ipv4Addr::new(10, 0, 0, host & 7).into(), 5060);
        frame += 1;
        engine.message(&WireMessage {
            time: Timestamp::from_nanos(ms * 1_000_000),
            frame,
            src: end(ends),
            dst: end(ends >> 3),
            transport: if ends & 0x40 == 0 { TransportKind::Udp } else { TransportKind::Tcp },
            seq: None,
            bytes: input.record(),
            cut: false,
            originated: false,
        });
        while let Some(output) = engine.poll_output() {
            outputs.push(format!("{output:?}"));
        }
    }
    engine.finish(Timestamp::from_nanos(ms * 1_000_000));
    check_books(&engine);
    while let Some(output) = engine.poll_output() {
        outputs.push(format!("{output:?}"));
    }
    assert_eq!(engine.poll_timeout(), None, "something was left");
    outputs
}
