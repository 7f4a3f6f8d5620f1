//! Against real sockets on loopback.

use std::io::Read as _;
use std::net::TcpListener;

use super::*;
use crate::config::Secret;
use crate::hep::decode;
use crate::timestamp::Timestamp;

const SIP: &[u8] = b"BYE sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n";
const LIMIT: Duration = Duration::from_secs(10);

fn message(bytes: &[u8]) -> WireMessage<'_> {
    WireMessage {
        time: Timestamp::from_nanos(1_700_000_000_123_456_000),
        frame: 1,
        src: "192.0.2.1:5060".parse().unwrap(),
        dst: "192.0.2.2:5062".parse().unwrap(),
        transport: TransportKind::Tcp,
        seq: None,
        bytes,
        cut: false,
        originated: false,
    }
}

fn started(transport: &str, to: SocketAddr) -> (HepOut, HepOutHandle) {
    let to = Some(format!("{transport}://{to}").parse().unwrap());
    let config = HepOutConfig { to, key: Some(Secret::new("q5ecret")), id: 7 };
    HepOut::start(&config, &HepConfig::default(), "edge", || {}).unwrap().unwrap()
}

fn until(handle: &HepOutHandle, done: impl Fn(&HepOutCounts) -> bool) -> HepOutCounts {
    let start = now();
    loop {
        let counts = handle.counts();
        let dropped: u64 = counts.dropped.iter().map(|(_, n)| n).sum();
        assert_eq!(counts.made, counts.sent + dropped + counts.waiting);
        if done(&counts) {
            return counts;
        }
        assert!(start.elapsed() < LIMIT, "{counts:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_message_goes_out_whole_with_all_that_is_known_of_it() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut out, handle) = started("udp", receiver.local_addr().unwrap());
    assert!(!format!("{out:?}").contains("q5ecret"));
    out.message(&message(SIP));
    let mut buffer = [0; 2000];
    let length = receiver.recv(&mut buffer).unwrap();
    let packet = decode(&buffer[..length], 2000).unwrap();
    let sent = message(SIP);
    assert_eq!((packet.src, packet.dst, packet.time), (sent.src, sent.dst, Some(sent.time)));
    assert_eq!((packet.version, packet.kind, packet.protocol, &*packet.payload), (3, 1, 6, SIP));
    assert_eq!(
        (packet.key, packet.node, packet.capture_id),
        (Some(&b"q5ecret"[..]), Some(&b"edge"[..]), Some(7))
    );
    // What no datagram can carry, and what HEP can't.
    for length in [65_450, 65_600] {
        out.message(&message(&vec![b'a'; length]));
    }
    // What was not captured whole.
    out.message(&WireMessage { cut: true, ..message(SIP) });
    drop(out);
    handle.finish(LIMIT);
    let counts = handle.counts();
    assert_eq!((counts.made, counts.sent, counts.waiting), (4, 1, 0));
    assert_eq!(counts.dropped, [("queue_full", 0), ("cut", 1), ("too_large", 2), ("failed", 0)]);
}

#[test]
fn nobody_sends_to_itself_whatever_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hep: HepConfig = toml::from_str(&format!("listen = \"tcp://{address}\"")).unwrap();
    let to = Some(format!("tcp://localhost:{}", address.port()).parse().unwrap());
    let config = HepOutConfig { to, ..HepOutConfig::default() };
    assert_eq!(config.fault(&hep), None, "only a name");
    let (mut out, handle) = HepOut::start(&config, &hep, "edge", || {}).unwrap().unwrap();
    out.message(&message(SIP));
    until(&handle, |counts| counts.failures > 0);
    assert!(handle.failure().contains("would come back"), "{}", handle.failure());
    drop(out);
    handle.finish(LIMIT);
    assert_eq!((handle.counts().sent, handle.counts().dropped[3]), (0, ("failed", 1)));
}

#[test]
fn one_that_is_away_holds_up_nothing_and_gets_what_waits_once_it_is_back() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mut out, handle) = started("tcp", address);
    let (large, start) = (vec![b'a'; 60_000], now());
    let most = ROOM / 60_000 + 10;
    for _ in 0..most {
        out.message(&message(&large));
    }
    assert!(start.elapsed() < LIMIT, "it waits for nobody");
    let counts = until(&handle, |counts| counts.failures > 0);
    let dropped = counts.dropped[0].1;
    assert!(counts.sent == 0 && dropped >= 10 && dropped < most / 2, "{counts:?}");
    let listener = TcpListener::bind(address).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    drop(out);
    handle.finish(LIMIT);
    let counts = handle.counts();
    assert_eq!((counts.sent, counts.waiting), (most - dropped, 0));
    assert_eq!(handle.shared.bytes.load(Ordering::Acquire), 0);
    let all = reader.join().unwrap();
    let length = crate::hep::length(&all).unwrap().unwrap();
    assert_eq!(all.len() as u64, (most - dropped) * length as u64, "whole packets, one behind the other");
}

#[test]
fn one_that_closes_is_connected_to_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut out, handle) = started("tcp", listener.local_addr().unwrap());
    out.message(&message(SIP));
    let mut first = listener.accept().unwrap().0;
    first.read_exact(&mut [0; 6]).unwrap();
    drop(first);
    thread::sleep(Duration::from_millis(50));
    out.message(&message(SIP));
    let mut second = listener.accept().unwrap().0;
    let mut mark = [0; 4];
    second.read_exact(&mut mark).unwrap();
    assert_eq!(&mark, b"HEP3");
    until(&handle, |counts| counts.sent == 2);
}

#[test]
fn an_end_with_nobody_there_takes_no_longer_than_it_may() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mut out, handle) = started("tcp", address);
    out.message(&message(SIP));
    until(&handle, |counts| counts.failures > 0);
    drop(out);
    let start = now();
    handle.finish(LIMIT);
    assert!(start.elapsed() < LIMIT / 2);
    assert_eq!(handle.counts().dropped[3], ("failed", 1));
    assert!(handle.failure().contains("refused"), "{}", handle.failure());
}
