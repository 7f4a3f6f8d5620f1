use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

mod links;
mod property;
use crate::frame::Direction;

const SIP: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: x\r\n\r\n";
const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const MTU: usize = 1480;

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 8).unwrap();
    [&src.to_be_bytes()[..], &dst.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
    let ports = [&5060_u16.to_be_bytes()[..], &40_000_u16.to_be_bytes()].concat();
    let numbers = [&7_u32.to_be_bytes()[..], &9_u32.to_be_bytes()].concat();
    // A header of 24 bytes: one option word.
    [&ports[..], &numbers, &[6 << 4, flags, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0], payload].concat()
}

fn v4_piece(id: u16, flags: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 20).unwrap().to_be_bytes();
    let (id, flags) = (id.to_be_bytes(), flags.to_be_bytes());
    let head = [0x45, 0, len[0], len[1], id[0], id[1], flags[0], flags[1], 64, protocol, 0, 0];
    [&head[..], &A.octets(), &B.octets(), payload].concat()
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4_piece(1, 0x4000, protocol, payload)
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let address = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).octets();
    [&[0x60, 0, 0, 0, len[0], len[1], next, 64][..], &address(1), &address(2), payload].concat()
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &kind.to_be_bytes(), payload].concat()
}

/// Gives frames to a stage, all at the given moment in milliseconds, and keeps what comes out.
struct Tap {
    packets: Packets,
    link: LinkType,
    direction: Direction,
    out: Vec<(SocketAddr, SocketAddr, Vec<u8>, bool)>,
    originated: Vec<bool>,
    loss: Vec<Loss>,
    frames: u64,
}

impl Tap {
    fn new(link: LinkType) -> Self {
        Self::with(link, Config::default())
    }

    fn with(link: LinkType, config: Config) -> Self {
        let packets = Packets::new(config);
        let (direction, out, originated) = (Direction::Unknown, Vec::new(), Vec::new());
        Self { packets, link, direction, out, originated, loss: Vec::new(), frames: 0 }
    }

    fn push(&mut self, ms: i64, bytes: &[u8]) {
        self.push_cut(ms, bytes, 0);
    }

    fn push_cut(&mut self, ms: i64, bytes: &[u8], cut: usize) {
        self.frames += 1;
        let frame = Frame {
            time: Timestamp::from_nanos(ms * 1_000_000),
            number: self.frames,
            interface: 0,
            direction: self.direction,
            link: self.link,
            wire_len: u32::try_from(bytes.len() + cut).unwrap(),
            bytes,
        };
        let (out, loss, originated) = (&mut self.out, &mut self.loss, &mut self.originated);
        let mut sink = |item: Item<'_>| match item {
            Item::Packet(p) => {
                originated.push(p.originated);
                let (payload, cut) = match p.transport {
                    Transport::Udp { payload, cut } | Transport::Exported { payload, cut } => (payload, cut),
                    Transport::Tcp { payload, cut, .. } => (payload, cut > 0),
                };
                out.push((p.src, p.dst, payload.to_vec(), cut));
            }
            Item::Loss(d) => loss.push(d),
        };
        self.packets.handle_timeout(frame.time, &mut sink);
        self.packets.push(&frame, &mut sink);
        self.check();
    }

    fn timeout(&mut self, ms: i64) {
        let loss = &mut self.loss;
        self.packets.handle_timeout(Timestamp::from_nanos(ms * 1_000_000), &mut |item| match item {
            Item::Loss(d) => loss.push(d),
            Item::Packet(p) => panic!("{p:?}"),
        });
        self.check();
    }

    fn unused(&self, reason: DiscardReason) -> u64 {
        self.packets.counters.unused.of(reason)
    }

    /// Every frame is accounted for, always.
    fn check(&self) {
        let c = &self.packets.counters;
        assert_eq!(
            c.frames,
            c.packets + c.fragments_joined + c.fragments_waiting + c.unused.total(),
            "{c:?}"
        );
    }
}

/// What one frame of this link type carries, if it carries anything.
fn payload_of(link: LinkType, frame: &[u8]) -> Option<Vec<u8>> {
    let mut tap = Tap::new(link);
    tap.push(0, frame);
    tap.out.pop().map(|(_, _, payload, cut)| {
        assert!(!cut);
        payload
    })
}

#[test]
fn every_link_layer() {
    let (four, six) = (v4(17, &udp(5060, 5060, SIP)), v6(17, &udp(5060, 5060, SIP)));
    for (link, head, ip) in [
        (LinkType::Raw, vec![], &four),
        (LinkType::Raw, vec![], &six),
        (LinkType::Null, vec![2, 0, 0, 0], &four),
        (LinkType::Null, vec![0, 0, 0, 30], &six),
        (LinkType::Loop, vec![0, 0, 0, 2], &four),
        (LinkType::Ethernet, ethernet(0x0800, b""), &four),
        (LinkType::Ethernet, ethernet(0x86dd, b""), &six),
        (LinkType::Ethernet, ethernet(300, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]), &four),
        (LinkType::Sll, [&[0; 14][..], &[0x08, 0]].concat(), &four),
        (LinkType::Sll2, [&[0x86, 0xdd][..], &[0; 18]].concat(), &six),
    ] {
        assert_eq!(payload_of(link, &[&head[..], ip].concat()).as_deref(), Some(SIP), "{link:?} {head:?}");
    }
}

#[test]
fn every_encapsulation() {
    let ip = v4(17, &udp(5060, 5060, SIP));
    let six = v6(17, &udp(5060, 5060, SIP));
    let frame = ethernet(0x0800, &ip);
    let gre = |head: &[u8], inner: &[u8]| ethernet(0x0800, &v4(47, &[head, inner].concat()));
    let in_udp = |port: u16, head: &[u8], inner: &[u8]| {
        ethernet(0x0800, &v4(17, &udp(50_000, port, &[head, inner].concat())))
    };
    for (what, bytes) in [
        ("802.1Q", ethernet(0x8100, &[&[0, 5, 8, 0][..], &ip].concat())),
        ("QinQ", ethernet(0x88a8, &[&[0, 5, 0x81, 0, 0, 6, 8, 0][..], &ip].concat())),
        ("QinQ, old", ethernet(0x9100, &[&[0, 5, 0x81, 0, 0, 6, 0x86, 0xdd][..], &six].concat())),
        ("PPPoE", ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 99, 0, 0x21][..], &ip].concat())),
        ("PPPoE, compressed", ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 99, 0x57][..], &six].concat())),
        ("MPLS", ethernet(0x8847, &[&[0, 1, 0, 64, 0, 2, 1, 64][..], &ip].concat())),
        ("MPLS pseudowire", ethernet(0x8847, &[&[0, 1, 1, 64, 0, 0, 0, 0][..], &frame].concat())),
        ("IP in IP", ethernet(0x0800, &v4(4, &ip))),
        ("6in4", ethernet(0x0800, &v4(41, &six))),
        ("4in6", ethernet(0x86dd, &v6(4, &ip))),
        ("GRE", gre(&[0, 0, 8, 0], &ip)),
        ("GRE, key and sequence", gre(&[0x30, 0, 0x86, 0xdd, 1, 2, 3, 4, 5, 6, 7, 8], &six)),
        ("GRE, Ethernet", gre(&[0, 0, 0x65, 0x58], &frame)),
        ("ERSPAN", gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9], &frame)),
        ("VXLAN", in_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &frame)),
        ("Geneve", in_udp(6081, &[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4], &frame)),
        ("GTP-U", in_udp(2152, &[0x30, 255, 0, 99, 0, 0, 0, 1], &ip)),
        ("GTP-U, sequence", in_udp(2152, &[0x32, 255, 0, 99, 0, 0, 0, 1, 0, 1, 0, 0], &ip)),
        (
            "GTP-U, extensions",
            in_udp(2152, &[0x34, 255, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 9, 9, 0x40, 1, 8, 8, 0], &six),
        ),
        (
            "hop-by-hop, routing",
            ethernet(
                0x86dd,
                &v6(
                    0,
                    &[&[43, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0][..], &udp(5060, 5060, SIP)]
                        .concat(),
                ),
            ),
        ),
        (
            "atomic fragment",
            ethernet(0x86dd, &v6(44, &[&[17, 0, 0, 0, 0, 0, 0, 5][..], &udp(5060, 5060, SIP)].concat())),
        ),
        (
            "authentication header",
            ethernet(
                0x0800,
                &v4(51, &[&[17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &udp(5060, 5060, SIP)].concat()),
            ),
        ),
    ] {
        assert_eq!(payload_of(LinkType::Ethernet, &bytes).as_deref(), Some(SIP), "{what}");
    }
}

#[test]
fn vxlan_is_looked_into_on_its_ports_alone() {
    let inner = ethernet(0x0800, &v4(17, &udp(5060, 5060, SIP)));
    let on = |port| v4(17, &udp(50_000, port, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat()));
    let mut tap = Tap::with(LinkType::Raw, Config { vxlan_ports: vec![4790, 6081], ..Config::default() });
    for (ms, port) in (0..).step_by(1_000).zip([4790, 6081, 4789]) {
        tap.push(ms, &on(port));
    }
    tap.packets.set_vxlan_ports(&[4789]);
    for (ms, port) in (3_000..).step_by(1_000).zip([4790, 4789]) {
        tap.push(ms, &on(port));
    }
    let to: Vec<u16> = tap.out.iter().map(|(_, dst, ..)| dst.port()).collect();
    assert_eq!(to, [5060, 5060, 4789, 4790, 5060]);
}

#[test]
fn sip_on_a_tunnels_port_is_sip() {
    for port in [4789, 8472, 6081, 2152] {
        let frame = v4(17, &udp(5060, port, SIP));
        assert_eq!(payload_of(LinkType::Raw, &frame).as_deref(), Some(SIP), "{port}");
    }
}

#[test]
fn what_icmp_quotes_is_not_a_packet() {
    let quoted = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &v4(17, &udp(5060, 5060, SIP))].concat();
    let mut tap = Tap::new(LinkType::Raw);
    tap.push(0, &v4(1, &quoted));
    assert!(tap.out.is_empty());
    assert_eq!(tap.unused(DiscardReason::OtherProtocol), 1);
}

#[test]
fn lengths_rule() {
    let mut tap = Tap::new(LinkType::Raw);
    // Ethernet pads short frames; a large packet on its way to the card has no length yet.
    let mut padded = v4(17, &udp(1, 2, b"s"));
    padded.extend([0; 20]);
    tap.push(0, &padded);
    let mut offload = v4(6, &tcp(0x18, SIP));
    offload[2..4].fill(0);
    tap.push(0, &offload);
    assert_eq!(tap.out[0].2, b"s");
    assert_eq!(tap.out[1].2, SIP);

    // What the capture cut off is known to be missing; what a header merely claims is a lie.
    let whole = v4(17, &udp(1, 2, SIP));
    tap.push_cut(0, &whole[..whole.len() - 4], 4);
    assert_eq!((&tap.out[2].2[..], tap.out[2].3), (&SIP[..SIP.len() - 4], true));
    let mut lie = whole;
    lie[24..26].copy_from_slice(&900_u16.to_be_bytes());
    tap.push(0, &lie);
    assert_eq!((tap.out.len(), tap.unused(DiscardReason::UdpHeader)), (3, 1));
}

#[test]
fn headers_that_cannot_be() {
    let whole = ethernet(0x0800, &v4(6, &tcp(2, b"")));
    for (len, missing, reason) in [
        (10, 0, DiscardReason::LinkHeader),
        (10, 60, DiscardReason::CutShort),
        (20, 0, DiscardReason::IpHeader),
        (20, 60, DiscardReason::CutShort),
        (40, 30, DiscardReason::CutShort),
    ] {
        let mut tap = Tap::new(LinkType::Ethernet);
        tap.push_cut(0, &whole[..len], missing);
        assert_eq!(tap.unused(reason), 1, "{len}: {:?}", tap.packets.counters);
    }
    for (at, value, reason) in [
        (14, 0x43, DiscardReason::IpHeader),
        (14, 0x75, DiscardReason::IpHeader),
        (17, 19, DiscardReason::IpHeader),
        (46, 0x40, DiscardReason::TcpHeader),
        (46, 0xf0, DiscardReason::TcpHeader),
        (12, 0x99, DiscardReason::NotIp),
        (23, 132, DiscardReason::OtherProtocol),
    ] {
        let mut bytes = whole.clone();
        bytes[at] = value;
        let mut tap = Tap::new(LinkType::Ethernet);
        tap.push(0, &bytes);
        assert_eq!(tap.unused(reason), 1, "{at}: {:?}", tap.packets.counters);
    }
}

#[test]
fn nesting_is_bounded() {
    let mut bytes = v4(17, &udp(1, 2, SIP));
    for _ in 0..100 {
        bytes = v4(4, &bytes);
    }
    let mut tap = Tap::new(LinkType::Raw);
    tap.push(0, &bytes);
    assert_eq!(tap.unused(DiscardReason::TooDeep), 1);
}

/// `datagram` as IPv4 fragments of at most `size` bytes.
fn fragments(id: u16, datagram: &[u8], size: usize) -> Vec<Vec<u8>> {
    let pieces = datagram.chunks(size).enumerate().map(|(n, piece)| {
        let more = (n + 1) * size < datagram.len();
        let offset = u16::try_from(n * size / 8).unwrap();
        v4_piece(id, offset | if more { 0x2000 } else { 0 }, 17, piece)
    });
    pieces.collect()
}

fn long_sip() -> Vec<u8> {
    [SIP, &b"0123456789".repeat(400)[..]].concat()
}

#[test]
fn fragments_join_in_any_order() {
    let datagram = udp(5060, 5060, &long_sip());
    let pieces = fragments(7, &datagram, MTU);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut tap = Tap::new(LinkType::Raw);
        order.iter().for_each(|n| tap.push(0, &pieces[*n]));
        assert_eq!(tap.out.len(), 1, "{order:?}");
        assert_eq!(tap.out[0].2, long_sip());
        assert_eq!(tap.packets.counters.fragments_joined, 2);
        assert_eq!(tap.packets.poll_timeout(), None);
    }
}

#[test]
fn fragments_of_ipv6_join_behind_other_headers() {
    let datagram = udp(5060, 5060, &long_sip());
    let piece = |n: usize, bytes: &[u8], more: bool| {
        let offset = u16::try_from(n * MTU).unwrap() | u16::from(more);
        let head = [&[17, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 9]].concat();
        v6(60, &[&[44, 0, 0, 0, 0, 0, 0, 0][..], &head, bytes].concat())
    };
    let mut tap = Tap::new(LinkType::Raw);
    for (n, bytes) in datagram.chunks(MTU).enumerate().collect::<Vec<_>>().into_iter().rev() {
        tap.push(0, &piece(n, bytes, (n + 1) * MTU < datagram.len()));
    }
    assert_eq!(tap.out[0].2, long_sip());
}

#[test]
fn a_tunnel_in_fragments_is_looked_into() {
    let inner = ethernet(0x0800, &v4(17, &udp(5060, 5060, &long_sip())));
    let outer = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat());
    let mut tap = Tap::new(LinkType::Raw);
    fragments(3, &outer, MTU).iter().for_each(|piece| tap.push(0, piece));
    assert_eq!(tap.out[0].2, long_sip());
}

#[test]
fn overlapping_fragments_discard_the_datagram() {
    let datagram = udp(5060, 5060, &long_sip());
    let pieces = fragments(7, &datagram, MTU);
    let overlap = v4_piece(7, 0x2000 | 100, 17, &[0; 800]);
    let mut tap = Tap::new(LinkType::Raw);
    tap.push(0, &pieces[0]);
    tap.push(0, &overlap);
    tap.push(0, &pieces[1]);
    tap.push(0, &pieces[2]);
    tap.timeout(60_000);
    assert!(tap.out.is_empty());
    assert_eq!(tap.unused(DiscardReason::FragmentOverlap), 4);
    assert!(tap.loss.is_empty(), "its receiver discards it too");

    // Two ends are as bad.
    let mut tap = Tap::new(LinkType::Raw);
    tap.push(0, &v4_piece(7, 10, 17, &[0; 100]));
    tap.push(0, &v4_piece(7, 100, 17, &[0; 100]));
    assert_eq!(tap.unused(DiscardReason::FragmentOverlap), 2);
}

#[test]
fn a_repeated_fragment_changes_nothing() {
    let datagram = udp(5060, 5060, &long_sip());
    let pieces = fragments(7, &datagram, MTU);
    let forged = v4_piece(7, 0x2000, 17, &[0; MTU]);
    let mut tap = Tap::new(LinkType::Raw);
    for (ms, piece) in
        [(0, &pieces[0]), (100, &pieces[0]), (100, &forged), (100, &pieces[1]), (100, &pieces[2])]
    {
        tap.push(ms, piece);
    }
    assert_eq!(tap.out[0].2, long_sip(), "the first wins");
    assert_eq!(tap.unused(DiscardReason::FragmentRepeated), 2);
}

#[test]
fn what_this_host_originated_came_out_of_its_socket_in_all_pieces_and_in_no_tunnel() {
    use Direction::{Egress, Ingress, Originated, Unknown};
    let datagram = udp(5060, 5060, &long_sip());
    let tunnel =
        udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &ethernet(0x0800, &v4(17, &datagram))].concat());
    let [whole, in_ip, in_vxlan] = [v4(17, &datagram), v4(4, &v4(17, &datagram)), v4(17, &tunnel)];
    for (direction, frame, expected) in [
        (Originated, &whole, true),
        (Egress, &whole, false),
        (Ingress, &whole, false),
        (Unknown, &whole, false),
        // A process that makes tunnels wraps up what others send.
        (Originated, &in_ip, false),
        (Originated, &in_vxlan, false),
    ] {
        let mut tap = Tap { direction, ..Tap::new(LinkType::Raw) };
        tap.push(0, frame);
        assert_eq!((&tap.out[0].2, &tap.originated), (&long_sip(), &vec![expected]), "{direction:?}");
    }
    let pieces = fragments(7, &datagram, MTU);
    for others in [None, Some(0), Some(1), Some(2)] {
        let mut tap = Tap::new(LinkType::Raw);
        for (number, piece) in pieces.iter().enumerate() {
            tap.direction = if others == Some(number) { Egress } else { Originated };
            tap.push(0, piece);
        }
        assert_eq!(tap.originated, [others.is_none()], "{others:?}");
    }
}

#[test]
fn a_missing_fragment_is_damage_where_it_may_have_been_sip() {
    let sip = fragments(1, &udp(5060, 5060, &long_sip()), MTU);
    let media = fragments(2, &udp(5004, 5004, &[0x80; 4_000]), MTU);
    let tcp = v4_piece(3, 0x2000, 6, &[0; 800]);
    for (pieces, expected) in
        [(&sip[..2], true), (&sip[1..], true), (&media[..2], false), (&[tcp][..], false), (&sip[..], false)]
    {
        let mut tap = Tap::new(LinkType::Raw);
        pieces.iter().for_each(|piece| tap.push(0, piece));
        let due = tap.packets.poll_timeout();
        tap.timeout(4_999);
        assert!(tap.loss.is_empty());
        tap.timeout(5_000);
        let loss = Loss::MissingFragment { src: A.into(), dst: B.into() };
        assert_eq!(tap.loss, if expected { vec![loss] } else { vec![] });
        assert_eq!(due.is_some(), pieces.len() < 3);
        assert_eq!(tap.packets.poll_timeout(), None);
        assert_eq!(tap.packets.fragments.sizes(), (0, 0, 0));
    }
}

#[test]
fn fragments_that_cannot_be() {
    let mut tap = Tap::new(LinkType::Raw);
    tap.push(0, &v4_piece(1, 0x2000, 17, &[0; 7]));
    tap.push(0, &v4_piece(1, 0x2000, 17, &[]));
    tap.push(0, &v4_piece(1, 0x1fff, 17, &[0; 8]));
    assert_eq!(tap.unused(DiscardReason::FragmentShape), 3);
    tap.push_cut(0, &v4_piece(1, 0x2000, 17, &[0; 800])[..400], 420);
    assert_eq!(tap.unused(DiscardReason::CutShort), 1);
}

#[test]
fn fragments_are_bounded_and_shared_among_senders() {
    let config = Config { max_fragment_bytes: 40_000, ..Config::default() };
    let mut tap = Tap::with(LinkType::Raw, config);
    // One sender fills its share only.
    for id in 0..1_000 {
        tap.push(0, &v4_piece(id, 0x2000, 17, &[0; 80]));
    }
    assert!(tap.packets.fragments.sizes().2 <= 10_000);
    let refused = tap.unused(DiscardReason::FragmentEvicted);
    assert!((960..1_000).contains(&refused), "{refused}");
    // Many senders push out the oldest.
    for host in 0..250_u8 {
        let mut piece = v4_piece(1, 0x2000, 17, &[0; 800]);
        piece[15] = host;
        tap.push(0, &piece);
    }
    assert!(tap.packets.fragments.sizes().2 <= 40_000);
    tap.timeout(60_000);
    assert_eq!((tap.packets.fragments.sizes(), tap.packets.counters.fragments_waiting), ((0, 0, 0), 0));
}

#[test]
fn a_copy_at_another_tap_is_hidden_and_a_retransmission_is_not() {
    let mut tap = Tap::new(LinkType::Raw);
    let first = v4_piece(77, 0x4000, 17, &udp(5060, 5060, SIP));
    // A router counts down, a card fills in checksums, a switch marks traffic.
    let mut routed = first.clone();
    (routed[1], routed[8], routed[10], routed[26]) = (0xb8, 63, 0x12, 0x34);
    tap.push(0, &first);
    tap.push(3, &routed);
    tap.push(9, &ethernet(0, &first)[14..]);
    assert_eq!((tap.out.len(), tap.unused(DiscardReason::OtherTap)), (1, 2));

    let again = v4_piece(78, 0x4000, 17, &udp(5060, 5060, SIP));
    tap.push(9, &again);
    assert_eq!(tap.out.len(), 2, "another identification: sent again");
    tap.push(500, &first);
    assert_eq!(tap.out.len(), 3, "too late for a copy");
    let other = v4_piece(77, 0x4000, 17, &udp(5061, 5060, SIP));
    tap.push(500, &other);
    assert_eq!(tap.out.len(), 4, "another port");
}

#[test]
fn without_identification_a_rare_twin_was_sent_twice() {
    let numbered = |n: u16| v4_piece(n, 0x4000, 17, &udp(5060, 5060, SIP));
    let bye = v4_piece(0, 0x4000, 17, &udp(5060, 5060, SIP));
    let mut tap = Tap::new(LinkType::Raw);
    for n in 1..6 {
        tap.push(i64::from(n) * 100, &numbered(n));
    }
    tap.push(600, &bye);
    tap.push(600, &bye);
    assert_eq!((tap.out.len(), tap.unused(DiscardReason::OtherTap)), (7, 0), "sent twice");
    // Behind a router it is a copy, whatever came before.
    let mut routed = bye.clone();
    routed[8] = 63;
    tap.push(601, &routed);
    assert_eq!(tap.unused(DiscardReason::OtherTap), 1);

    let mut doubled = Tap::new(LinkType::Raw);
    for at in 1..6 {
        doubled.push(at * 100, &bye);
        doubled.push(at * 100, &bye);
    }
    assert_eq!((doubled.out.len(), doubled.unused(DiscardReason::OtherTap)), (5, 5), "two taps");
}

#[test]
fn copies_are_also_found_in_tunnels_and_fragments_and_can_be_kept() {
    let inner = v4(17, &udp(5060, 5060, SIP));
    let mut tap = Tap::new(LinkType::Raw);
    tap.push(0, &inner);
    tap.push(1, &v4(4, &inner));
    assert_eq!(tap.out.len(), 1, "before the tunnel and in it");

    let mut tap = Tap::new(LinkType::Raw);
    for piece in fragments(7, &udp(5060, 5060, &long_sip()), MTU) {
        tap.push(0, &piece);
        tap.push(0, &piece);
    }
    assert_eq!((tap.out.len(), tap.unused(DiscardReason::OtherTap)), (1, 3));

    let mut tap = Tap::with(LinkType::Raw, Config { copy_window: Duration::ZERO, ..Config::default() });
    tap.push(0, &inner);
    tap.push(0, &inner);
    assert_eq!(tap.out.len(), 2);
}

#[test]
fn what_is_remembered_of_copies_is_bounded() {
    let mut tap = Tap::new(LinkType::Raw);
    for n in 0..40_000_u32 {
        let payload = format!("{n} {}", String::from_utf8_lossy(SIP));
        tap.push(0, &v4(17, &udp(5060, 5060, format!("A{payload}").as_bytes())));
    }
    assert_eq!(tap.out.len(), 40_000);
    assert!(tap.packets.duplicates.len() <= 16_384);
}
