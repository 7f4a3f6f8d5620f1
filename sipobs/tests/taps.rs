//! The recorded captures, seen otherwise: at two taps at once, and inside tunnels. The verdicts are the same.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sipobs::capture::file::Reader;
use sipobs::engine::{Config, Engine};
use sipobs::frame::{Direction, Frame, LinkType};
use sipobs::privacy::{Mask, Privacy};
use sipobs::timestamp::Timestamp;

const CAPTURES: &[&str] = &[
    "livekit/refer_ok_twilio.pcap",
    "livekit/refer_ok_tcp_two_conns.pcap",
    "livekit/refer_unanswered.pcap",
    "livekit/refer_busy_then_ok.pcap",
    "livekit/invite_second_leg_486_fast.pcap",
    "recorded/pjsua_attended_ok.pcap",
    "recorded/pjsua_blind_tcp_segmented.pcap",
    "recorded/asterisk22_b2bua_blind_ok.pcap",
];

/// One frame, and where it was seen.
#[derive(Clone)]
struct Seen {
    time: Timestamp,
    interface: u32,
    link: LinkType,
    bytes: Vec<u8>,
}

/// The IP packets of a capture.
fn packets(name: &str) -> Vec<(Timestamp, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name);
    let mut reader = Reader::open(path).unwrap();
    let mut packets = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        let head = match frame.link {
            LinkType::Raw => 0,
            LinkType::Ethernet => 14,
            LinkType::Sll => 16,
            LinkType::Sll2 => 20,
            LinkType::Null | LinkType::Loop => 4,
            other => panic!("{name}: {other}"),
        };
        packets.push((frame.time, frame.bytes[head..].to_vec()));
    }
    packets
}

/// What is said of these frames, but for frame numbers; and how many of them were copies.
fn said(frames: &[Seen]) -> (Vec<Value>, u64) {
    let mut engine = Engine::new(Config::default(), Privacy::new(Mask::Full, None).unwrap()).unwrap();
    for (number, seen) in frames.iter().enumerate() {
        engine.frame(&Frame {
            time: seen.time,
            number: number as u64 + 1,
            interface: seen.interface,
            direction: Direction::Unknown,
            link: seen.link,
            wire_len: u32::try_from(seen.bytes.len()).unwrap(),
            bytes: &seen.bytes,
        });
    }
    engine.finish(frames.last().unwrap().time);
    let mut said = Vec::new();
    while let Some(output) = engine.poll_output() {
        let mut value = serde_json::to_value(output.line(None)).unwrap();
        for line in value.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
            line.as_object_mut().unwrap().remove("frame");
        }
        said.push(value);
    }
    assert!(!said.is_empty());
    (said, engine.counters().balance().copies)
}

fn raw(packets: &[(Timestamp, Vec<u8>)]) -> Vec<Seen> {
    let seen = |(time, bytes): &(Timestamp, Vec<u8>)| Seen {
        time: *time,
        interface: 0,
        link: LinkType::Raw,
        bytes: bytes.clone(),
    };
    packets.iter().map(seen).collect()
}

fn ethernet(kinds: &[u8], ip: &[u8]) -> Vec<u8> {
    let kind: &[u8] = if ip[0] >> 4 == 4 { &[0x08, 0x00] } else { &[0x86, 0xdd] };
    [&[2; 12][..], kinds, kind, ip].concat()
}

/// An IPv4 packet of this protocol around `payload`.
fn outer(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 20).unwrap().to_be_bytes();
    let head = [0x45, 0, len[0], len[1], 0, 1, 0x40, 0, 64, protocol, 0, 0, 198, 51, 100, 1, 198, 51, 100, 2];
    [&head[..], payload].concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let (port, len) = (port.to_be_bytes(), u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
    [&[0xc0, 0x00, port[0], port[1], len[0], len[1], 0, 0][..], payload].concat()
}

#[test]
fn a_packet_at_two_taps_counts_once() {
    type Copy = fn(&[u8]) -> (LinkType, Vec<u8>);
    let copies: [(&str, Copy); 5] = [
        ("the other end of a veth, or any device twice", |ip| (LinkType::Raw, ip.to_vec())),
        ("a tagged port", |ip| (LinkType::Ethernet, ethernet(&[0x81, 0x00, 0x00, 0x05], ip))),
        ("a bond's member", |ip| (LinkType::Ethernet, ethernet(&[], ip))),
        ("cooked", |ip| (LinkType::Sll2, [&[0x08, 0x00][..], &[0; 18], ip].concat())),
        ("behind a router", |ip| {
            let mut ip = ip.to_vec();
            (ip[8], ip[10]) = (ip[8] - 1, ip[10] ^ 1);
            (LinkType::Raw, ip)
        }),
    ];
    for name in CAPTURES {
        let packets = packets(name);
        let (once, of_old) = said(&raw(&packets));
        for (what, copy) in copies {
            for delay in [0, 80, 4_000] {
                let mut frames = raw(&packets);
                frames.extend(packets.iter().map(|(time, ip)| {
                    let (link, bytes) = copy(ip);
                    Seen { time: *time + Duration::from_micros(delay), interface: 1, link, bytes }
                }));
                frames.sort_by_key(|seen| seen.time);
                let (twice, copies) = said(&frames);
                assert_eq!(twice, once, "{name}: {what}, {delay} µs");
                // TCP segments without payload are counted as such.
                assert!(copies - of_old > packets.len() as u64 / 3, "{name}: {what}: {copies} copies");
            }
        }
    }
}

#[test]
fn a_retransmission_is_no_copy() {
    // Eleven REFERs over 31.5 s; their stack gives each another identification. Here they have the same.
    let mut packets = packets("livekit/refer_unanswered.pcap");
    let (before, _) = said(&raw(&packets));
    packets.iter_mut().for_each(|(_, ip)| ip[4..6].fill(0));
    let (after, copies) = said(&raw(&packets));
    assert_eq!((after, copies), (before.clone(), 0));
    let ladder =
        before.iter().find(|value| value["kind"] == "transfer").unwrap()["messages"].as_array().unwrap();
    assert!(!ladder.is_empty());
}

#[test]
fn what_a_tunnel_carries_is_judged_alike() {
    type Wrap = fn(&[u8]) -> Vec<u8>;
    let tunnels: [(&str, Wrap); 9] = [
        ("802.1Q", |ip| ethernet(&[0x81, 0x00, 0, 5], ip)),
        ("QinQ", |ip| ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6], ip)),
        ("PPPoE", |ip| {
            let len = u16::try_from(ip.len() + 2).unwrap().to_be_bytes();
            [&[2; 12][..], &[0x88, 0x64, 0x11, 0, 0, 7, len[0], len[1], 0x00, 0x21], ip].concat()
        }),
        ("IP in IP", |ip| ethernet(&[], &outer(4, ip))),
        ("GRE", |ip| ethernet(&[], &outer(47, &[&[0x20, 0, 0x08, 0x00, 0, 0, 0, 9][..], ip].concat()))),
        ("GRE, Ethernet", |ip| {
            ethernet(&[], &outer(47, &[&[0, 0, 0x65, 0x58][..], &ethernet(&[], ip)].concat()))
        }),
        ("VXLAN", |ip| {
            ethernet(
                &[],
                &outer(17, &udp(4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &ethernet(&[], ip)].concat())),
            )
        }),
        ("GTP-U", |ip| {
            ethernet(
                &[],
                &outer(17, &udp(2152, &[&[0x32, 255, 0, 99, 0, 0, 0, 1, 0, 1, 0, 0][..], ip].concat())),
            )
        }),
        ("VXLAN in QinQ, IP in IP within", |ip| {
            let inner = ethernet(&[0x81, 0x00, 0, 9], &outer(4, ip));
            let vxlan = outer(17, &udp(8472, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat()));
            ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6], &vxlan)
        }),
    ];
    for name in CAPTURES {
        let packets = packets(name);
        let (plain, _) = said(&raw(&packets));
        for (what, wrap) in tunnels {
            let frames: Vec<_> = packets
                .iter()
                .map(|(time, ip)| Seen {
                    time: *time,
                    interface: 0,
                    link: LinkType::Ethernet,
                    bytes: wrap(ip),
                })
                .collect();
            assert_eq!(said(&frames).0, plain, "{name} in {what}");
        }
    }
}

#[test]
fn what_icmp_quotes_is_not_said() {
    let packets = packets("livekit/refer_ok_twilio.pcap");
    let (plain, _) = said(&raw(&packets));
    let mut frames = raw(&packets);
    // Each packet is also quoted whole by somebody who could not take it.
    frames.extend(packets.iter().map(|(time, ip)| Seen {
        time: *time + Duration::from_millis(20),
        interface: 0,
        link: LinkType::Raw,
        bytes: outer(1, &[&[3, 3, 0, 0, 0, 0, 0, 0][..], ip].concat()),
    }));
    frames.sort_by_key(|seen| seen.time);
    assert_eq!(said(&frames).0, plain);
}
