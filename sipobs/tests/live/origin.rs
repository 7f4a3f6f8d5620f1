//! What a node sends itself is told from what it passes on: by the socket, not by the address.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use sipobs::capture::live::{Config, Event, Live};
use sipobs::engine::{self, Engine};
use sipobs::frame::Direction;
use sipobs::privacy::{Mask, Privacy};
use sipobs::record::{Attempt, Outcome, Output};

use crate::frames::{A, B, INVITE, IPV4, Part, UDP, checksum, ethernet, ipv4, udp};
use crate::tags::send;
use crate::{alone, may_run, settle};

/// A wire to the trunk's side, 10.0.0.1 in [`ipv4`], from the node, which is 10.0.0.2 there; and another on which the node
/// forwards. Nobody answers for any address.
const LINKS: &[&str] = &[
    "link set lo mtu 1500",
    "link add near address 02:00:00:00:00:02 type veth peer name far",
    "link add out type veth peer name away",
    "link set near up",
    "link set far up",
    "link set out up",
    "link set away up",
    "addr add 10.0.0.2/24 dev near",
    "addr add 10.0.1.2/24 dev out",
    "neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev near",
    "neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev near",
    "neigh add 10.0.1.9 lladdr 02:00:00:00:00:09 dev out",
];

fn open(interfaces: &[&str]) -> Live {
    let interfaces = interfaces.iter().map(|name| (*name).into()).collect();
    Live::open(&Config { interfaces, ring_bytes: 1 << 20, ..Config::default() }).unwrap()
}

#[test]
fn a_nodes_own_sockets_originate() {
    if !may_run("a_nodes_own_sockets_originate") {
        return;
    }
    alone(LINKS, || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let directions = |act: &mut dyn FnMut()| {
            let mut live = open(&["lo", "near", "out"]);
            act();
            let mut seen = Vec::new();
            settle(&mut live, &mut |event| {
                let Event::Frame(frame) = event else { panic!("lost: {event:?}") };
                seen.push(frame.direction);
            })
            .unwrap();
            seen.sort_by_key(|direction| *direction as u8);
            seen.dedup();
            seen
        };
        let long = [INVITE, &[b' '; 4000]].concat();
        let socket = |address: &str| UdpSocket::bind(address).unwrap();
        let whole = directions(&mut || {
            socket("10.0.0.2:5060").send_to(INVITE, "10.0.0.1:5060").unwrap();
        });
        assert_eq!(whole, [Direction::Originated]);
        let fragments = directions(&mut || {
            socket("10.0.0.2:5060").send_to(&long, "10.0.0.1:5060").unwrap();
        });
        assert_eq!(fragments, [Direction::Originated]);
        let tcp = directions(&mut || {
            let listener = TcpListener::bind("127.0.0.1:5060").unwrap();
            let mut client = TcpStream::connect("127.0.0.1:5060").unwrap();
            client.write_all(&long).unwrap();
            let mut all = vec![0; long.len()];
            listener.accept().unwrap().0.read_exact(&mut all).unwrap();
        });
        assert_eq!(tcp, [Direction::Ingress, Direction::Originated]);
        // The same address, by a process that writes whole frames, as one that relays for others does.
        let forged = frame(B, A, INVITE);
        assert_eq!(directions(&mut || send("near", &forged).unwrap()), [Direction::Egress]);
        // In by one interface, and out by the other.
        let passing = frame(A, Ipv4Addr::new(10, 0, 1, 9), INVITE);
        assert_eq!(
            directions(&mut || send("far", &passing).unwrap()),
            [Direction::Ingress, Direction::Egress]
        );
    });
}

/// The trunk's frames come in over the wire; what the node says, a socket of its own sends.
#[test]
fn seven_invites_of_this_node_to_nobody_are_tied_to_their_call() {
    if !may_run("seven_invites_of_this_node_to_nobody_are_tied_to_their_call") {
        return;
    }
    alone(LINKS, || {
        let mut live = open(&["near"]);
        let node = UdpSocket::bind("10.0.0.2:5060").unwrap();
        let comes_from = |host: Ipv4Addr, text: &str| send("far", &frame(host, B, text.as_bytes())).unwrap();
        let trunk = |text: &str| comes_from(A, text);
        let says = |text: &str, to: &str| assert_eq!(node.send_to(text.as_bytes(), to).unwrap(), text.len());
        trunk(&call("INVITE sip:+15105550100@10.0.0.2 SIP/2.0", 1, "INVITE", ""));
        says(&call("SIP/2.0 200 OK", 1, "INVITE", ";tag=a-to"), "10.0.0.1:5060");
        trunk(&call("ACK sip:+15105550100@10.0.0.2 SIP/2.0", 1, "ACK", ";tag=a-to"));
        for _ in 0..7 {
            // Copies that come at once would be the same packet at two taps.
            std::thread::sleep(Duration::from_millis(20));
            says(&second_leg("b", ""), "10.0.0.9:5060");
        }
        // A stranger names the call, once.
        comes_from(Ipv4Addr::new(10, 0, 0, 66), &second_leg("c", "X-Call-ID: a@ladder.example\r\n"));
        let attempts = judged(&mut live);
        let brief: Vec<_> = attempts
            .iter()
            .map(|attempt| (attempt.call_id.as_deref(), attempt.target_call_id.as_deref(), attempt.outcome))
            .collect();
        let own = (Some("a@ladder.example"), Some("b@ladder.example"), Outcome::NetworkFailure);
        assert_eq!(brief, [own]);
        assert!(attempts[0].originated, "by the node itself");
    });
}

/// A frame that holds a datagram.
fn frame(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(&[], UDP, Part::default(), &udp(5060, 5060, payload));
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(&[], IPV4, &packet)
}

/// A message of the call that the trunk makes.
fn call(line: &str, number: u32, method: &str, tag: &str) -> String {
    format!(
        "{line}\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa{method}\r\nCall-ID: a@ladder.example\r\nCSeq: {number} \
         {method}\r\nFrom: <sip:+15105550138@10.0.0.1>;tag=a-from\r\nTo: <sip:+15105550100@10.0.0.2>{tag}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn second_leg(name: &str, header: &str) -> String {
    format!(
        "INVITE sip:+15105550177@10.0.0.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK{name}\r\nCall-ID: \
         {name}@ladder.example\r\nCSeq: 1 INVITE\r\nFrom: <sip:+15105550100@10.0.0.2>;tag={name}-from\r\nTo: \
         <sip:+15105550177@10.0.0.9>\r\n{header}Content-Length: 0\r\n\r\n"
    )
}

/// What is said of all that was captured once every transaction has timed out.
fn judged(live: &mut Live) -> Vec<Attempt> {
    let privacy = Privacy::new(Mask::Full, None).unwrap();
    let mut engine = Engine::new(engine::Config::default(), privacy).unwrap();
    let mut last = None;
    settle(live, &mut |event| {
        let Event::Frame(frame) = event else { panic!("lost: {event:?}") };
        last = Some(frame.time);
        engine.frame(&frame);
    })
    .unwrap();
    engine.finish(last.unwrap() + Duration::from_secs(60));
    let outputs = std::iter::from_fn(|| engine.poll_output());
    outputs
        .filter_map(|output| match output {
            Output::Transfer(attempt) => Some(*attempt),
            Output::Call(_) | Output::Alert(_) | Output::Notice(_) => None,
        })
        .collect()
}
