//! Frames of any bytes and link type, through the whole engine: link layers, encapsulations, IP, UDP and TCP.
//!
//! Input: the link type, then records of a pause (ms), bytes cut off, and the frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sipobs::frame::{Direction, Frame, LinkType};
use sipobs::timestamp::Timestamp;
use sipobs_fuzz::{Input, check_books, small_engine};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let link = LinkType::READ[usize::from(input.u8()) % LinkType::READ.len()];
    let mut engine = small_engine();
    let (mut ms, mut number) = (0, 0);
    while !input.is_empty() {
        ms += i64::from(input.u8());
        let cut = u32::from(input.u8());
        let bytes = input.record();
        number += 1;
        engine.frame(&Frame {
            time: Timestamp::from_nanos(ms * 1_000_000),
            number,
            interface: 0,
            direction: Direction::Unknown,
            link,
            wire_len: u32::try_from(bytes.len()).expect("a record is short") + cut,
            bytes,
        });
        check_books(&engine);
    }
    engine.finish(Timestamp::from_nanos(ms * 1_000_000));
    check_books(&engine);
    assert_eq!(engine.counters().balance().buffered, 0);
    while engine.poll_output().is_some() {}
});
