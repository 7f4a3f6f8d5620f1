//! Messages that came by HEP.

use std::borrow::Cow;

use super::*;

fn by_hep(sip: &[u8], kind: u8) -> Vec<u8> {
    let packet = crate::hep::Packet {
        version: 3,
        src: end(1, 5060),
        dst: end(2, 5060),
        protocol: 17,
        time: None,
        kind,
        capture_id: None,
        node: None,
        key: None,
        correlation_id: None,
        vlan: None,
        payload: Cow::Borrowed(sip),
    };
    crate::hep::encode(&packet).unwrap()
}

impl Ear {
    fn hep(&mut self, sip: &[u8], kind: u8) {
        self.packet(end(8, 40_000), end(9, 9060), Transport::Udp { payload: &by_hep(sip, kind), cut: false });
    }
}

#[test]
fn a_message_by_hep_is_between_those_whose_it_is() {
    let (mut ear, sip) = (Ear::new(), message(0, 0));
    ear.hep(&sip, 1);
    assert_eq!(ear.out, [sip]);
    assert_eq!(ear.last.unwrap().1, end(1, 5060), "and not its agent");
}

/// Live, whoever can send a datagram past an interface would get around the key otherwise.
#[test]
fn hep_in_frames_is_not_believed_unless_files_are_read() {
    let (mut ear, sip) = (Ear::with(Config::default()), message(0, 0));
    ear.hep(&sip, 1);
    assert!(ear.out.is_empty());
    assert_eq!(ear.unused(DiscardReason::NotSip), 1);
}

#[test]
fn one_seen_both_ways_counts_once_and_each_retransmission_too() {
    let (mut ear, first, second) = (Ear::new(), message(0, 0), message(1, 0));
    // Whichever comes first, and however often.
    ear.hep(&first, 1);
    ear.udp(&first, false);
    ear.udp(&second, false);
    ear.hep(&second, 1);
    assert_eq!((ear.out.len(), ear.unused(DiscardReason::OtherTap)), (2, 2));
    ear.wait(500);
    ear.udp(&second, false);
    ear.hep(&second, 1);
    assert_eq!((ear.out.len(), ear.unused(DiscardReason::OtherTap)), (3, 3));
    // Retransmissions that HEP alone tells of.
    ear.hep(&second, 1);
    ear.hep(&second, 1);
    assert_eq!((ear.out.len(), ear.unused(DiscardReason::OtherTap)), (5, 3));
    // Long after.
    ear.wait(10_000);
    ear.udp(&second, false);
    assert_eq!((ear.out.len(), ear.unused(DiscardReason::OtherTap)), (6, 3));
}

/// As it comes to a listener, and not in a frame.
#[test]
fn one_that_was_unpacked_elsewhere_counts_once_and_by_its_own_ports() {
    let sip = message(0, 0);
    let streams =
        |ports: &[u16]| Streams::new(Config { ports: ports.iter().copied().collect(), ..Config::default() });
    let give = |streams: &mut Streams, bytes: &[u8]| {
        let (time, src, dst) = (Timestamp::from_nanos(1), end(1, 5060), end(2, 5062));
        let message = ByHep { time, frame: 7, src, dst, transport: TransportKind::Udp, bytes };
        let mut given = 0;
        let result = streams.by_hep(&message, &mut |_| given += 1);
        assert_eq!(result.is_ok(), given == 1);
        result
    };
    let in_the_clear = Packet {
        time: Timestamp::from_nanos(2),
        frame: 8,
        src: end(1, 5060),
        dst: end(2, 5062),
        originated: false,
        transport: Transport::Udp { payload: &sip, cut: false },
    };
    let mut all = streams(&[]);
    assert_eq!(give(&mut all, &sip), Ok(()));
    all.push(&in_the_clear, &mut |_| panic!("it has come by HEP"));
    all.push(&in_the_clear, &mut |_| {});
    assert_eq!(give(&mut all, &sip), Err(DiscardReason::OtherTap));
    assert_eq!(give(&mut all, b"not SIP"), Err(DiscardReason::NotSip));
    assert_eq!(give(&mut all, b"\r\n"), Err(DiscardReason::NoPayload));
    // Packets are none of its own.
    let counters = all.counters();
    assert_eq!((counters.packets, counters.used, counters.unused.total(), counters.messages), (2, 1, 1, 2));
    assert_eq!(give(&mut streams(&[5080]), &sip), Err(DiscardReason::OtherPort));
    assert_eq!(give(&mut streams(&[5062]), &sip), Ok(()));
}

#[test]
fn one_that_came_over_tcp_counts_once() {
    let (mut ear, sip) = (Ear::new(), message(0, 0));
    ear.hep(b"OPTIONS sip:a SIP/2.0\r\n\r\n", 1);
    ear.open();
    ear.tcp(seq(1), &sip, DATA);
    let of_udp = by_hep(&sip, 1);
    let of_tcp =
        crate::hep::Packet { src: end(1, 40_000), protocol: 6, ..crate::hep::decode(&of_udp, 1000).unwrap() };
    let payload = crate::hep::encode(&of_tcp).unwrap();
    ear.packet(end(8, 40_000), end(9, 9060), Transport::Udp { payload: &payload, cut: false });
    assert_eq!((ear.out.len(), ear.unused(DiscardReason::OtherTap)), (2, 1));
}

#[test]
fn hep_that_is_no_sip_or_damaged_is_counted_by_reason() {
    let (mut ear, sip) = (Ear::new(), message(0, 0));
    ear.hep(b"\x80\xc8", 5);
    let whole = by_hep(&sip, 1);
    let udp = |ear: &mut Ear, payload: &[u8], cut| {
        ear.packet(end(8, 40_000), end(9, 9060), Transport::Udp { payload, cut });
    };
    udp(&mut ear, &whole[..40], false);
    udp(&mut ear, &whole[..40], true);
    udp(&mut ear, b"HEP3\0\x06", false);
    udp(&mut ear, b"HEP3\0\x0c\0\0\0\x03\0\x06", false);
    for reason in [
        DiscardReason::HepOther,
        DiscardReason::HepLength,
        DiscardReason::HepCut,
        DiscardReason::HepMissing,
        DiscardReason::HepChunk,
    ] {
        assert_eq!(ear.unused(reason), 1, "{reason:?}");
    }
    assert!(ear.out.is_empty());
}
