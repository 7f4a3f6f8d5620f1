//! Any bytes in a TLS connection whose secrets are known, with gaps: every segment is accounted for.
//!
//! Input: which recorded session, then records: which side, how many bytes of its own stream go on, and what they are changed to.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sipobs::capture::file::Reader;
use sipobs::packet::{Packet, Packets, Transport};
use sipobs::stream::{Config, KeyLog, Streams};
use sipobs::timestamp::Timestamp;
use sipobs_fuzz::Input;

macro_rules! session {
    ($name:literal) => {
        (
            include_bytes!(concat!("../../tests/tls/sessions/", $name, ".pcap")),
            include_bytes!(concat!("../../tests/tls/sessions/", $name, ".keys")),
        )
    };
}

const SESSIONS: [(&[u8], &[u8]); 3] = {
    let (a, b, c) = (
        session!("openssl-12-aes-128"),
        session!("openssl-13-chacha20-poly1305"),
        session!("openssl-13-aes-256"),
    );
    [(a.0, a.1), (b.0, b.1), (c.0, c.1)]
};

/// What both sides send, the client first.
fn sent(capture: &'static [u8]) -> [Vec<u8>; 2] {
    let mut reader = Reader::from_read("session", None, capture).expect("it is a capture");
    let (mut packets, mut sent, mut client) = (Packets::default(), [Vec::new(), Vec::new()], None);
    while let Some(frame) = reader.next().expect("it is whole") {
        packets.push(&frame, &mut |item| {
            let sipobs::packet::Item::Packet(packet) = item else { return };
            if let Transport::Tcp { payload, .. } = packet.transport {
                let client = *client.get_or_insert(packet.src);
                sent[usize::from(packet.src != client)].extend_from_slice(payload);
            }
        });
    }
    sent
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (capture, secrets) = SESSIONS[usize::from(input.u8()) % SESSIONS.len()];
    let sent = sent(capture);
    let mut keys = KeyLog::default();
    keys.add(secrets).expect("it is a key log");
    let config = Config {
        max_bytes: 60_000,
        max_stream_bytes: 4_000,
        max_message_bytes: 3_000,
        keys: Arc::new(keys),
        awaits_keys: input.u8() & 1 == 0,
        ..Config::default()
    };
    let mut streams = Streams::new(config);
    let ends = [40_000, 5061].map(|port| SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), port));
    let (mut at, mut ms, mut frame) = ([0_usize; 2], 0_i64, 0);
    while !input.is_empty() {
        let (flags, len) = (input.u8(), usize::from(input.u16() % 3_000));
        let side = usize::from(flags & 1);
        let to = (at[side] + len).min(sent[side].len());
        let mut payload = sent[side][at[side]..to].to_vec();
        if flags & 0x30 == 0x30 {
            let change = input.record();
            payload.iter_mut().zip(change).for_each(|(byte, change)| *byte ^= change);
        }
        // One that is lost.
        let is_lost = flags & 0xc0 == 0xc0;
        let seq = u32::try_from(at[side]).expect("it is short");
        at[side] = to;
        ms += i64::from(flags & 0x0e) * 200;
        frame += 1;
        if is_lost {
            continue;
        }
        let ack = u32::try_from(at[1 - side]).ok();
        let transport =
            Transport::Tcp { seq, ack, syn: false, fin: false, rst: false, payload: &payload, cut: 0 };
        let time = Timestamp::from_nanos(ms * 1_000_000);
        streams.handle_timeout(time, &mut |_| {});
        streams.push(
            &Packet { time, frame, src: ends[side], dst: ends[1 - side], originated: false, transport },
            &mut |_| {},
        );
        let c = streams.counters();
        assert_eq!(c.packets, c.used + c.held + c.unfinished + c.unused.total(), "{c:?}");
        let t = &c.tls;
        assert!(t.no_key + t.cipher_suite + t.bytes_missing + t.record_damaged <= t.sessions, "{t:?}");
    }
    streams.finish(Timestamp::from_nanos(ms * 1_000_000), &mut |_| {});
    let c = streams.counters();
    assert_eq!((c.held, c.unfinished, c.connections), (0, 0, 0), "{c:?}");
});
