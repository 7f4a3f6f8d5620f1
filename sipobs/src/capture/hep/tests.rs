//! Real sockets on loopback.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};

use super::*;
use crate::hep::encode;

const SIP: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n";
const MOST: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(10);

fn packet<'a>(payload: &'a [u8], key: Option<&'a [u8]>) -> Packet<'a> {
    Packet {
        version: 3,
        src: "192.0.2.1:5060".parse().unwrap(),
        dst: "192.0.2.2:5062".parse().unwrap(),
        protocol: 17,
        time: None,
        kind: Packet::SIP,
        capture_id: Some(2001),
        node: None,
        key,
        correlation_id: None,
        vlan: None,
        payload: payload.into(),
    }
}

fn whole(payload: &[u8], key: Option<&[u8]>) -> Vec<u8> {
    encode(&packet(payload, key)).unwrap()
}

/// Listens on ports that are free, by UDP and by TCP.
fn listening(key: Option<&str>) -> (Hep, SocketAddr, SocketAddr) {
    let any = "127.0.0.1:0".parse().unwrap();
    let sockets =
        [HepTransport::Udp, HepTransport::Tcp].map(|transport| Socket::bind(transport, any).unwrap());
    let [Socket::Udp(udp), Socket::Tcp(tcp)] = &sockets else { panic!("in this order") };
    let (udp, tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    (Hep::start(sockets.into(), key.map(Secret::new), MOST).unwrap(), udp, tcp)
}

fn sender() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// Takes all messages, as the engine would, until so many packets are accounted for.
fn until(hep: &mut Hep, packets: u64) -> Vec<Received> {
    let (mut taken, start) = (Vec::new(), now());
    loop {
        hep.wait(Duration::from_millis(10));
        while let Some(message) = hep.take(now()) {
            taken.push(message);
        }
        let counts = hep.counts();
        let settled = counts.used + counts.unused.total() + counts.waiting;
        assert_eq!(counts.received.iter().sum::<u64>(), settled, "{counts:?}");
        if settled >= packets || start.elapsed() > PATIENCE {
            assert_eq!(settled, packets, "{counts:?}");
            // One may have come since.
            taken.extend(std::iter::from_fn(|| hep.take(now())));
            return taken;
        }
    }
}

fn until_closed(hep: &Hep, why: Closed) {
    let start = now();
    while hep.counts().closed[why as usize] == 0 {
        assert!(start.elapsed() < PATIENCE + sockets::FIRST, "{:?}", hep.counts());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn messages_come_by_datagrams_and_by_streams_however_these_are_cut() {
    let (mut hep, udp, tcp) = listening(None);
    sender().send_to(&whole(SIP, None), udp).unwrap();
    assert_eq!(until(&mut hep, 1)[0].bytes, SIP);
    let mut stream = TcpStream::connect(tcp).unwrap();
    stream.set_nodelay(true).unwrap();
    let large = [SIP, &[b'x'; 1900]].concat();
    let both = [whole(SIP, None), whole(&large, None), whole(SIP, None)].concat();
    for part in both.chunks(701) {
        stream.write_all(part).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    let taken = until(&mut hep, 4);
    assert_eq!(
        taken.iter().map(|it| it.bytes.len()).collect::<Vec<_>>(),
        [SIP.len(), large.len(), SIP.len()]
    );
    assert!(taken.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert_eq!((taken[0].src.port(), taken[0].dst.port()), (5060, 5062));
    for message in taken {
        hep.done(message, Ok(()));
    }
    let counts = hep.counts();
    assert_eq!((counts.received, counts.used, counts.connections), ([1, 3], 3, 1));
    // One that ends in the middle of a packet is told.
    stream.write_all(&whole(SIP, None)[..20]).unwrap();
    drop(stream);
    until(&mut hep, 5);
    let start = now();
    while hep.counts().connections > 0 && start.elapsed() < PATIENCE {}
    assert_eq!((hep.counts().unused.of(DiscardReason::HepCut), hep.counts().connections), (1, 0));
}

#[test]
fn what_can_not_be_used_is_counted_by_reason_and_ends_nothing() {
    let (mut hep, udp, _) = listening(None);
    let sender = sender();
    let of_rtcp = encode(&Packet { kind: 5, ..packet(b"\x81\xc9", None) }).unwrap();
    let mut cut = whole(SIP, None);
    cut.truncate(cut.len() - 9);
    let hostile: [&[u8]; 10] = [
        b"",
        b"HEP3",
        b"\x02\x10",
        SIP,
        &cut,
        b"HEP3\0\x0c\0\0\0\x03\0\x06",
        &of_rtcp,
        &whole(&[b'a'; MOST + 1], None),
        &whole(b"\r\n\r\n", None),
        &whole(b"no SIP", None),
    ];
    for bytes in hostile {
        sender.send_to(bytes, udp).unwrap();
    }
    sender.send_to(&whole(SIP, None), udp).unwrap();
    assert_eq!(until(&mut hep, 11).len(), 1);
    let counts = hep.counts();
    let by_reason: Vec<_> = counts.unused.iter().filter(|(_, n)| *n > 0).collect();
    use DiscardReason::{HepChunk, HepLength, HepOther, HepTooLarge, NoPayload, NotSip};
    for one in [(HepLength, 5), (HepChunk, 1), (HepTooLarge, 1), (HepOther, 1), (NoPayload, 1), (NotSip, 1)] {
        assert!(by_reason.contains(&one), "{one:?}: {by_reason:?}");
    }
}

#[test]
fn without_the_key_nothing_is_let_in() {
    let (mut hep, udp, tcp) = listening(Some("q5ecret"));
    let sender = sender();
    for key in [None, Some(&b""[..]), Some(b"q5ecre"), Some(b"q5ecret "), Some(b"Q5ecret"), Some(b"q5ecret")]
    {
        sender.send_to(&whole(SIP, key), udp).unwrap();
    }
    // Of version 2, which has none.
    sender.send_to(include_bytes!("../../hep/kamailio/v2.bin"), udp).unwrap();
    let mut stream = TcpStream::connect(tcp).unwrap();
    stream.write_all(&whole(SIP, Some(b"q5ecret"))).unwrap();
    assert_eq!(until(&mut hep, 8).len(), 2);
    assert_eq!(hep.counts().unused.of(DiscardReason::HepKey), 6);
    assert!(!format!("{hep:?}").contains("q5ecret"));
}

#[test]
fn what_there_is_no_room_for_is_dropped_and_counted() {
    let (mut hep, udp, tcp) = listening(None);
    let all = Arc::clone(&hep.shared.room).try_acquire_many_owned(u32::try_from(ROOM).unwrap()).unwrap();
    sender().send_to(&whole(SIP, None), udp).unwrap();
    assert_eq!(until(&mut hep, 1).len(), 0);
    assert_eq!((hep.counts().unused.of(DiscardReason::HepQueueFull), hep.counts().lost()), (1, 1));
    // A stream waits.
    let mut stream = TcpStream::connect(tcp).unwrap();
    stream.write_all(&whole(SIP, None)).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(hep.take(now()).is_none());
    drop(all);
    assert_eq!(until(&mut hep, 2).len(), 1);
}

#[test]
fn room_is_given_back_and_what_came_before_the_end_is_heard() {
    let (mut hep, udp, _) = listening(None);
    let sender = sender();
    for _ in 0..5 {
        sender.send_to(&whole(SIP, None), udp).unwrap();
    }
    hep.stop();
    for message in until(&mut hep, 5) {
        hep.done(message, Err(DiscardReason::OtherTap));
    }
    let counts = hep.counts();
    assert_eq!((counts.waiting, counts.unused.of(DiscardReason::OtherTap)), (0, 5));
    assert_eq!(hep.shared.room.available_permits(), ROOM);
    // Nothing comes any more, and nobody spins.
    let start = now();
    hep.wait(Duration::from_millis(30));
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn many_small_messages_take_the_room_that_they_take_up() {
    let packet = packet(SIP, None);
    assert!(size(&packet) as usize >= SIP.len() + size_of::<Received>());
}

#[test]
fn one_that_always_sends_nothing_of_use_is_closed_too() {
    let (hep, _, tcp) = listening(Some("q5ecret"));
    let mut stream = TcpStream::connect(tcp).unwrap();
    let many = whole(SIP, None).repeat(400);
    let flood = thread::spawn(move || while stream.write_all(&many).is_ok() {});
    until_closed(&hep, Closed::Silent);
    flood.join().unwrap();
}

#[test]
fn a_message_of_later_waits() {
    let (mut hep, udp, _) = listening(None);
    let before = now();
    sender().send_to(&whole(SIP, None), udp).unwrap();
    hep.wait(PATIENCE);
    assert!(hep.take(before).is_none());
    assert!(hep.take(now()).is_some());
}

#[test]
fn connections_that_are_none_of_ours_are_closed() {
    let (hep, _, tcp) = listening(None);
    let mut stranger = TcpStream::connect(tcp).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    until_closed(&hep, Closed::NoHep);
    assert!(matches!(stranger.read(&mut [0; 1]), Ok(0) | Err(_)));
    // More than there may be: those that are there stay.
    let many: Vec<_> = (0..=sockets::MOST_CONNECTIONS).map(|_| TcpStream::connect(tcp).unwrap()).collect();
    until_closed(&hep, Closed::Limit);
    until_closed(&hep, Closed::Silent);
    drop(many);
}
