//! Fragments of one datagram, cut anyhow: what comes out is the beginning of the datagram, or nothing.
//!
//! Input: IP version, records of where each fragment begins and ends, then the datagram's payload.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sipobs::frame::{Direction, Frame, LinkType};
use sipobs::packet::{Config, Item, Packets, Transport};
use sipobs::timestamp::Timestamp;
use sipobs_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let v6 = input.u8() & 1 == 1;
    let mut plan = Input(input.record());
    let payload = &input.0[..input.0.len().min(9_000)];
    let len = u16::try_from(payload.len() + 8).expect("it is short").to_be_bytes();
    let datagram = [&[0x13, 0xc4, 0x13, 0xc4, len[0], len[1], 0, 0], payload].concat();

    let config = Config { max_fragment_bytes: 16_000, ..Config::default() };
    let mut packets = Packets::new(config);
    let mut ms = 0_i64;
    while !plan.is_empty() {
        let (offset, size, flags) = (usize::from(plan.u16() % 1_200), usize::from(plan.u8()), plan.u8());
        // Half of them are taken to where the datagram has bytes, so that some join.
        let from = (offset * 8).min(datagram.len());
        let to = (from + size * 8).min(datagram.len());
        let more = if flags & 1 == 0 { to < datagram.len() } else { flags & 2 != 0 };
        let id = flags >> 6;
        ms += i64::from(flags & 0x3c) * 8;
        let bytes = fragment(v6, id, from / 8, more, &datagram[from..to]);
        packets.handle_timeout(Timestamp::from_nanos(ms * 1_000_000), &mut |_| {});
        let frame = Frame {
            time: Timestamp::from_nanos(ms * 1_000_000),
            number: 1,
            interface: 0,
            direction: Direction::Unknown,
            link: LinkType::Raw,
            wire_len: u32::try_from(bytes.len()).expect("it is short"),
            bytes: &bytes,
        };
        packets.push(&frame, &mut |item| {
            if let Item::Packet(packet) = item
                && let Transport::Udp { payload: whole, .. } = packet.transport
            {
                assert!(payload.starts_with(whole));
            }
        });
        check(&packets);
    }
    packets.finish(&mut |item| assert!(!matches!(item, Item::Packet(_))));
    check(&packets);
    assert_eq!(packets.counters().fragments_waiting, 0);
});

fn check(packets: &Packets) {
    let c = packets.counters();
    assert_eq!(c.frames, c.packets + c.fragments_joined + c.fragments_waiting + c.unused.total(), "{c:?}");
}

fn fragment(v6: bool, id: u8, offset: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
    let offset = u16::try_from(offset).expect("below 8,192");
    if v6 {
        let len = u16::try_from(bytes.len() + 8).expect("it is short").to_be_bytes();
        let at = (offset << 3 | u16::from(more)).to_be_bytes();
        let head = [0x60, 0, 0, 0, len[0], len[1], 44, 64];
        [&head[..], &[1; 32], &[17, 0, at[0], at[1], 0, 0, 0, id], bytes].concat()
    } else {
        let len = u16::try_from(bytes.len() + 20).expect("it is short").to_be_bytes();
        let at = (offset | if more { 0x2000 } else { 0 }).to_be_bytes();
        let head = [0x45, 0, len[0], len[1], 0, id, at[0], at[1], 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        [&head[..], bytes].concat()
    }
}
