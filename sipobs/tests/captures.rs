//! Every recorded capture, through the reader, the packet stage and the stream stage, against the numbers
//! that tshark gives (`tshark -r FILE -Y 'sip && !icmp' -T fields -e sip.CSeq.method -E occurrence=a`).

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use sipobs::capture::file::Reader;
use sipobs::packet::{self, Packets};
use sipobs::sip::Message;
use sipobs::stream::{self, Streams};
use sipobs::timestamp::Timestamp;

/// File, frames, SIP messages.
const CAPTURES: &[(&str, u64, u64)] = &[
    ("livekit/invite_second_leg_403.pcap", 11, 11),
    ("livekit/invite_second_leg_486_fast.pcap", 15, 15),
    ("livekit/invite_second_leg_noanswer.pcap", 18, 18),
    ("livekit/invite_second_leg_ok.pcap", 18, 18),
    ("livekit/plain_bye_livekit.pcap", 7, 7),
    ("livekit/refer_202_silence_then_bye.pcap", 9, 9),
    ("livekit/refer_407.pcap", 9, 9),
    ("livekit/refer_busy.pcap", 13, 13),
    ("livekit/refer_busy_then_ok.pcap", 19, 19),
    ("livekit/refer_ok_progress_udp.pcap", 15, 15),
    ("livekit/refer_ok_tcp_two_conns.pcap", 36, 13),
    ("livekit/refer_ok_twilio.pcap", 11, 11),
    ("livekit/refer_unanswered.pcap", 18, 18),
    ("public/CESNET_ipfixprobe__sip-scan_icmp-quoted.pcap", 50, 40),
    ("public/NormB_sipnab__b2bua-asterisk.pcapng", 416, 60),
    ("public/NormB_sipnab__prack.pcap", 259, 9),
    ("public/NormB_sipnab__sip-488-codec-reject.pcapng", 13, 13),
    ("public/NormB_sipnab__sip-auth-failure403.pcapng", 8, 8),
    ("public/NormB_sipnab__sip-over-tcp.pcap", 84, 7),
    ("public/NormB_sipnab__sip-proxy_two-hops.pcap", 11, 11),
    ("public/OISF_suricata-verify__sip-body-large_tcp_null.pcap", 16, 2),
    ("public/nextcaller_sip-capture__sip-i_multipart.pcap", 3, 2),
    ("public/nextcaller_sip-capture__sip-tcp_sll_5calls.pcap", 30, 30),
    ("public/zeek_zeek__long-paths_19KB_rawip.pcap", 2, 2),
    ("recorded/asterisk22_b2bua_blind_ok.pcap", 27, 24),
    ("recorded/asterisk22_refer_declined603.pcap", 16, 14),
    ("recorded/kamailio_302_redirect_followed.pcap", 9, 9),
    ("recorded/linphone_blind_ok.pcap", 26, 26),
    ("recorded/pjsua_attended_ok.pcap", 39, 27),
    ("recorded/pjsua_blind_busy486.pcap", 16, 16),
    ("recorded/pjsua_blind_ok.pcap", 18, 18),
    ("recorded/pjsua_blind_tcp_segmented.pcap", 62, 18),
];

/// What the stages count for one file.
fn read(name: &str, stream: stream::Config) -> (packet::Counters, stream::Counters, Vec<Vec<u8>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name);
    let mut reader = Reader::open(path).unwrap();
    let mut packets = Packets::new(packet::Config::default());
    let mut streams = Streams::new(stream);
    let mut messages = Vec::new();
    let mut last = Timestamp::default();
    let mut take = |item: stream::Item<'_>| match item {
        stream::Item::Message(message, read) => {
            if let Some(read) = read {
                // What framing has read is what anybody would read of the message.
                let again = Message::parse(message.bytes).unwrap();
                assert_eq!((read.bytes(), read.body()), (again.bytes(), again.body()));
                assert!(read.all_headers().eq(again.all_headers()) && read.start() == again.start());
            }
            messages.push(message.bytes.to_vec());
        }
        stream::Item::Loss(loss) => panic!("{name}: {loss:?}"),
    };
    while let Some(frame) = reader.next().unwrap() {
        last = frame.time;
        streams.handle_timeout(frame.time, &mut take);
        packets.push(&frame, &mut |item| match item {
            packet::Item::Packet(packet) => streams.push(&packet, &mut take),
            packet::Item::Loss(loss) => panic!("{name}: {loss:?}"),
        });
    }
    packets.finish(&mut |item| panic!("{name}: {item:?}"));
    streams.finish(last, &mut take);
    (packets.counters().clone(), streams.counters().clone(), messages)
}

#[test]
fn every_capture_holds_the_messages_that_tshark_sees() {
    for &(name, frames, messages) in CAPTURES {
        let (packet, stream, given) = read(name, stream::Config::default());
        assert_eq!((packet.frames, stream.messages), (frames, messages), "{name}: {packet:#?} {stream:#?}");
        assert_eq!(given.len() as u64, messages, "{name}");

        let accounted = packet.packets + packet.fragments_joined + packet.fragments_waiting;
        assert_eq!(packet.frames, accounted + packet.unused.total(), "{name}: {packet:#?}");
        assert_eq!(packet.fragments_waiting, 0, "{name}");
        assert_eq!(stream.packets, packet.packets, "{name}");
        assert_eq!(
            stream.packets,
            stream.used + stream.held + stream.unfinished + stream.unused.total(),
            "{name}: {stream:#?}"
        );
        assert_eq!(stream.held, 0, "{name}");
        for stray in [stream.incomplete, stream.too_large, stream.resyncs, stream.messages_cut] {
            assert_eq!(stray, 0, "{name}: {stream:#?}");
        }
    }
}
