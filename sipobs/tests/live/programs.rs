//! Every branch of the parser, by the kernel's test run of the real object.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use sipobs::capture::live::{Config, Counters, DryRun, Program, Ran, RingChoice, flags};

use crate::frames::{
    ACK, FIN, INVITE, IPV4, IPV6, Part, RST, SYN, TCP, UDP, ethernet, ipv4, ipv6, ipv6_fragment, plain, tcp,
    udp, vxlan,
};
use crate::may_run;

/// The programs that read Ethernet; all must agree.
const PROGRAMS: [Program; 4] = [Program::Xdp, Program::XdpLinear, Program::TcIngress, Program::TcEgress];

/// What should become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Delivered with these marks.
    Match(u32),
    Other,
    Malformed,
    KeepAlive,
    Noise,
}
use Expect::{KeepAlive, Malformed, Match, Noise, Other};

/// All programs, with each kind of rings.
struct Programs([(RingChoice, DryRun); 2]);

impl Programs {
    fn new(config: &Config) -> Self {
        Self([RingChoice::Perf, RingChoice::Ringbuf].map(|ring| {
            let config = Config { ring, ring_bytes: config.ring_bytes.min(1 << 20), ..config.clone() };
            (ring, DryRun::new(&config).unwrap())
        }))
    }
}

/// One set for all tests: the verifier takes seconds for it.
fn programs() -> MutexGuard<'static, Programs> {
    static PROGRAMS: LazyLock<Mutex<Programs>> =
        LazyLock::new(|| Mutex::new(Programs::new(&Config::default())));
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the frame through `program` with each kind of rings and checks counters, verdict and bytes.
fn expect(programs: &mut Programs, program: Program, what: &str, frame: &[u8], expected: Expect) {
    for (ring, run) in &mut programs.0 {
        let ran = run.run(program, frame, 1);
        let ran = ran.unwrap_or_else(|error| panic!("{program:?}, {ring:?}, {what}: {error}"));
        check(&ran, program, &format!("{program:?}, {ring:?}, {what}"), frame, expected);
    }
}

fn check(ran: &Ran, program: Program, name: &str, frame: &[u8], expected: Expect) {
    let name = format!("{name}: {:?}", ran.counted);
    assert_eq!(ran.returned, passes(program), "{name}: the packet must pass");
    assert_eq!((ran.counted.seen, ran.counted.residual()), (1, 0), "{name}");
    assert_eq!(ran.counted.matched, ran.counted.delivered, "{name}: the ring is not full");
    assert_eq!(verdict(ran), expected, "{name}");
    if let Match(_) = expected {
        let (marks, wire_len, bytes) = &ran.delivered[0];
        let sent = matches!(program, Program::TcEgress | Program::TcEgressRaw);
        assert!(sent || marks & flags::ORIGINATED == 0, "{name}: what comes in was sent by others");
        assert_eq!((*wire_len as usize, &bytes[..]), (frame.len(), frame), "{name}: the very frame");
    }
}

fn passes(program: Program) -> i32 {
    const XDP_PASS: i32 = 2;
    const TC_ACT_UNSPEC: i32 = -1;
    match program {
        Program::Xdp | Program::XdpLinear => XDP_PASS,
        Program::TcIngress | Program::TcEgress | Program::TcEgressRaw => TC_ACT_UNSPEC,
    }
}

fn verdict(ran: &Ran) -> Expect {
    match ran.counted {
        // Such a run lends every frame a socket, of a family that depends on the kernel.
        Counters { delivered: 1, .. } => Match(ran.delivered[0].0 & !flags::ORIGINATED),
        Counters { other: 1, .. } => Other,
        Counters { malformed: 1, .. } => Malformed,
        Counters { keep_alive: 1, .. } => KeepAlive,
        Counters { noise: 1, .. } => Noise,
        counted => panic!("no verdict in {counted:?}"),
    }
}

fn expect_all(what: &str, frame: &[u8], expected: Expect) {
    let mut run = programs();
    for program in PROGRAMS {
        // The verifier has no patience for tunnels in the program that reads in place.
        let blind =
            program == Program::XdpLinear && matches!(expected, Match(marks) if marks & flags::VXLAN != 0);
        expect(&mut run, program, what, frame, if blind { Other } else { expected });
    }
}

const WHOLE: Part = Part { id: 0, offset: 0, more: false };

fn v4(payload: &[u8]) -> Vec<u8> {
    ipv4(&[], UDP, WHOLE, payload)
}

#[test]
fn link_layers() {
    if !may_run("link_layers") {
        return;
    }
    let packet = v4(&udp(5060, 5060, INVITE));
    let mut run = programs();
    let mut all = |what: &str, frame: &[u8], expected| {
        for program in PROGRAMS {
            expect(&mut run, program, what, frame, expected);
        }
    };
    all("Ethernet", &ethernet(&[], IPV4, &packet), Match(0));
    all("VLAN 0x9100", &ethernet(&[(0x9100, 7)], IPV4, &packet), Match(0));
    all("ARP", &ethernet(&[], 0x0806, &[0; 46]), Other);
    all("LLC", &ethernet(&[], 38, &[0x42; 46]), Other);
    all(
        "IPv6 in an IPv4 ethertype",
        &ethernet(&[], IPV4, &ipv6(&[], UDP, &udp(5060, 5060, INVITE))),
        Malformed,
    );
}

/// The kernel's socket buffer takes an outer tag out of the bytes before tc sees it, so these go to XDP only,
/// and to tc as frames are sent; tc ingress has its turn in `tags`.
#[test]
fn vlan_tags() {
    if !may_run("vlan_tags") {
        return;
    }
    let packet = v4(&udp(5060, 5060, INVITE));
    let mut run = programs();
    for program in [Program::Xdp, Program::XdpLinear, Program::TcEgress] {
        let mut one = |what: &str, tags: &[(u16, u16)], expected| {
            expect(&mut run, program, what, &ethernet(tags, IPV4, &packet), expected);
        };
        one("802.1Q", &[(0x8100, 42)], Match(0));
        one("QinQ", &[(0x88a8, 42), (0x8100, 7)], Match(0));
        one("three tags", &[(0x88a8, 1), (0x8100, 2), (0x8100, 3)], Malformed);
    }
    expect(&mut run, Program::Xdp, "a tag and no more", &ethernet(&[(0x8100, 42)], 0, &[])[..16], Malformed);
}

#[test]
fn ipv4_headers() {
    if !may_run("ipv4_headers") {
        return;
    }
    let datagram = udp(5060, 5060, INVITE);
    expect_all("options", &ethernet(&[], IPV4, &ipv4(&[1; 40], UDP, WHOLE, &datagram)), Match(0));
    expect_all("ICMP that quotes SIP", &ethernet(&[], IPV4, &ipv4(&[], 1, WHOLE, &v4(&datagram))), Other);
    let mut short = v4(&datagram);
    short[0] = 0x44;
    expect_all("header length 16", &ethernet(&[], IPV4, &short), Malformed);
    let mut total = v4(&datagram);
    total[2..4].copy_from_slice(&10_u16.to_be_bytes());
    expect_all("total length 10", &ethernet(&[], IPV4, &total), Malformed);
    let mut unknown = v4(&datagram);
    unknown[2..4].fill(0);
    expect_all("total length 0, as offload leaves it", &ethernet(&[], IPV4, &unknown), Match(0));
}

#[test]
fn ipv6_headers() {
    if !may_run("ipv6_headers") {
        return;
    }
    let datagram = udp(5060, 5060, INVITE);
    let v6 = |headers: &[(u8, Vec<u8>)]| ethernet(&[], IPV6, &ipv6(headers, UDP, &datagram));
    let eight = |number: u8| (number, vec![0_u8; 8]);
    let long = (60, [vec![0, 31], vec![0; 254]].concat());
    let authentication = (51, [vec![0, 4], vec![0; 22]].concat());
    expect_all("plain", &v6(&[]), Match(0));
    expect_all("hop-by-hop, routing, options", &v6(&[eight(0), eight(43), eight(60)]), Match(0));
    expect_all("256 bytes of options", &v6(&[long]), Match(0));
    expect_all("authentication", &v6(&[authentication]), Match(0));
    expect_all("eight headers", &v6(&vec![eight(60); 8]), Match(0));
    expect_all("nine headers", &v6(&vec![eight(60); 9]), Malformed);
    expect_all("no next header", &ethernet(&[], IPV6, &ipv6(&[], 59, &datagram)), Other);
    expect_all("ESP", &ethernet(&[], IPV6, &ipv6(&[], 50, &datagram)), Other);
    expect_all("atomic fragment", &v6(&[ipv6_fragment(Part { id: 9, offset: 0, more: false })]), Match(0));
}

#[test]
fn ports() {
    if !may_run("ports") {
        return;
    }
    for (source, destination, expected) in [
        (5060, 40_000, Match(0)),
        (40_000, 5060, Match(0)),
        (5061, 5059, Other),
        (40_000, 443, Other),
        (0, 65_535, Other),
    ] {
        let what = format!("{source} to {destination}");
        let frame = ethernet(&[], IPV4, &v4(&udp(source, destination, INVITE)));
        expect_all(&what, &frame, expected);
        let frame = ethernet(&[], IPV4, &ipv4(&[], TCP, WHOLE, &tcp(source, destination, ACK, INVITE)));
        expect_all(&what, &frame, expected);
    }
    let config = Config { ports: vec![1, 63, 64, 65_535], ..Config::default() };
    let mut run = Programs::new(&config);
    for (port, expected) in
        [(1, Match(0)), (63, Match(0)), (64, Match(0)), (65_535, Match(0)), (5060, Other), (62, Other)]
    {
        let frame = ethernet(&[], IPV4, &v4(&udp(40_000, port, INVITE)));
        expect(&mut run, Program::Xdp, &format!("port {port}"), &frame, expected);
    }
}

#[test]
fn keep_alives() {
    if !may_run("keep_alives") {
        return;
    }
    expect_all("CRLF CRLF", &plain(b"\r\n\r\n"), KeepAlive);
    expect_all("one NUL", &plain(b"\0"), KeepAlive);
    expect_all("nothing", &plain(b""), KeepAlive);
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    expect_all("STUN", &plain(&stun), KeepAlive);
    expect_all("a short message", &plain(b"ACK x"), Match(0));
    expect_all("CRLF before a message", &plain(&[b"\r\n\r\n", INVITE].concat()), Match(0));
    let segment =
        |bits, payload: &[u8]| ethernet(&[], IPV4, &ipv4(&[], TCP, WHOLE, &tcp(5060, 40_000, bits, payload)));
    let padded = |bits| [segment(bits, b""), vec![0; 6]].concat();
    expect_all("bare acknowledgement", &padded(ACK), KeepAlive);
    for bits in [SYN, SYN | ACK, FIN | ACK, RST] {
        expect_all("opens or ends a stream", &padded(bits), Match(0));
    }
    expect_all("one byte of a stream", &segment(ACK, b"I"), Match(0));
    expect_all("CRLF in a stream", &segment(ACK, b"\r\n"), Match(0));
    let v6 = ethernet(&[], IPV6, &ipv6(&[], TCP, &tcp(5060, 40_000, ACK, b"")));
    expect_all("bare acknowledgement over IPv6", &v6, KeepAlive);
}

#[test]
fn methods_are_dropped_only_when_asked_for() {
    if !may_run("methods_are_dropped_only_when_asked_for") {
        return;
    }
    let options = plain(b"OPTIONS sip:a SIP/2.0\r\n\r\n");
    let register = plain(b"REGISTER sip:a SIP/2.0\r\n\r\n");
    expect_all("OPTIONS", &options, Match(0));
    let config = Config { drop_methods: vec!["OPTIONS".into(), "PUBLISH".into()], ..Config::default() };
    let mut run = Programs::new(&config);
    for program in PROGRAMS {
        expect(&mut run, program, "OPTIONS", &options, Noise);
        expect(&mut run, program, "PUBLISH", &plain(b"PUBLISH sip:a SIP/2.0\r\n\r\n"), Noise);
        expect(&mut run, program, "REGISTER", &register, Match(0));
        expect(&mut run, program, "an answer", &plain(b"SIP/2.0 200 OK\r\n\r\n"), Match(0));
    }
}

#[test]
fn fragments() {
    if !may_run("fragments") {
        return;
    }
    for v6 in [false, true] {
        let packet = |protocol: u8, part: Part, payload: &[u8]| {
            if v6 {
                ethernet(&[], IPV6, &ipv6(&[ipv6_fragment(part)], protocol, payload))
            } else {
                ethernet(&[], IPV4, &ipv4(&[], protocol, part, payload))
            }
        };
        let first = |id| Part { id, offset: 0, more: true };
        let later = |id| Part { id, offset: 64, more: false };
        let mut run = programs();
        for (program, id) in PROGRAMS.into_iter().zip([100, 200, 300, 400]) {
            let mut one =
                |what: &str, frame: &[u8], expected| expect(&mut run, program, what, frame, expected);
            let sip = &udp(5060, 5060, &[b'x'; 56]);
            one("first", &packet(UDP, first(id), sip), Match(0));
            one("its later", &packet(UDP, later(id), &[b'y'; 40]), Match(0));
            one("first of DNS", &packet(UDP, first(id + 1), &udp(53, 4000, &[b'x'; 56])), Other);
            one("its later", &packet(UDP, later(id + 1), &[b'y'; 40]), Other);
            one("later before first", &packet(UDP, later(id + 2), &[b'y'; 40]), Match(flags::FIRST_UNSEEN));
            one("then its first", &packet(UDP, first(id + 2), sip), Match(0));
            one("of neither UDP nor TCP", &packet(47, later(id + 3), &[b'y'; 40]), Other);
            one("eight bytes of TCP", &packet(TCP, first(id + 4), &tcp(5060, 9, ACK, b"")[..8]), Match(0));
        }
    }
}

#[test]
fn tunnels() {
    if !may_run("tunnels") {
        return;
    }
    let inner = plain(INVITE);
    let outer = |port, payload: &[u8]| ethernet(&[], IPV4, &v4(&udp(50_000, port, payload)));
    expect_all("VXLAN", &outer(4789, &vxlan(&inner)), Match(flags::VXLAN));
    expect_all("VXLAN, old port", &outer(8472, &vxlan(&inner)), Match(flags::VXLAN));
    expect_all(
        "VXLAN, inner VLAN, IPv6 and TCP",
        &{
            let packet = ipv6(&[], TCP, &tcp(40_000, 5060, ACK, INVITE));
            outer(4789, &vxlan(&ethernet(&[(0x8100, 5)], IPV6, &packet)))
        },
        Match(flags::VXLAN),
    );
    expect_all(
        "VXLAN with DNS",
        &outer(4789, &vxlan(&ethernet(&[], IPV4, &v4(&udp(53, 53, INVITE))))),
        Other,
    );
    expect_all("VXLAN in VXLAN", &outer(4789, &vxlan(&outer(4789, &vxlan(&inner)))), Other);
    expect_all("no VXLAN header", &outer(4789, &[0; 60]), Other);
    let config = Config { vxlan_ports: vec![], ..Config::default() };
    let mut run = Programs::new(&config);
    expect(&mut run, Program::Xdp, "VXLAN switched off", &outer(4789, &vxlan(&inner)), Other);
}

/// Every length of every kind of frame: whatever is cut, the sum is right and the packet passes.
#[test]
fn truncated() {
    if !may_run("truncated") {
        return;
    }
    let frames = [
        ethernet(&[(0x88a8, 1), (0x8100, 2)], IPV4, &ipv4(&[1; 8], UDP, WHOLE, &udp(5060, 5060, INVITE))),
        ethernet(&[], IPV6, &ipv6(&[(0, vec![0; 8])], TCP, &tcp(5060, 5060, ACK, INVITE))),
        ethernet(&[], IPV4, &v4(&udp(50_000, 4789, &vxlan(&plain(INVITE))))),
    ];
    let mut run = programs();
    for frame in &frames {
        for len in 14..frame.len() {
            let all = PROGRAMS.into_iter().flat_map(|program| [(program, 0), (program, 1)]);
            for (program, ring) in all {
                let (ring, run) = &mut run.0[ring];
                let ran = run.run(program, &frame[..len], 1);
                let Ok(ran) = ran else {
                    // tc's test run refuses an IP packet shorter than its header by itself.
                    assert!(matches!(program, Program::TcIngress | Program::TcEgress) && len < 14 + 40);
                    continue;
                };
                assert_eq!(ran.returned, passes(program), "{program:?}, {ring:?}, {len} bytes");
                let counted = (ran.counted.seen, ran.counted.residual());
                assert_eq!(counted, (1, 0), "{program:?}, {ring:?}, {len} bytes");
            }
        }
    }
}

#[test]
fn large_frames() {
    if !may_run("large_frames") {
        return;
    }
    let mut run = programs();
    for (len, programs) in [
        (3_000, &PROGRAMS[..]),
        (9_000, &[Program::Xdp, Program::TcIngress, Program::TcEgress][..]),
        (CAP - 74, &[Program::Xdp]),
        (CAP, &[Program::Xdp]),
        (65_000, &[Program::Xdp]),
    ] {
        let frame = ethernet(&[], IPV4, &ipv4(&[], TCP, WHOLE, &tcp(40_000, 5060, ACK, &vec![b'x'; len])));
        for &program in programs {
            for (ring, run) in &mut run.0 {
                one_large_frame(run, program, &frame, &format!("{program:?}, {ring:?}, {len} bytes"));
            }
        }
    }
}

const CAP: usize = 60 * 1024;

fn one_large_frame(run: &mut DryRun, program: Program, frame: &[u8], what: &str) {
    let ran = match run.run(program, frame, 1) {
        Ok(ran) => ran,
        // Test runs of socket buffers hold no more than a page.
        Err(_) if program != Program::Xdp && frame.len() > 3_100 => return,
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!((ran.counted.delivered, ran.counted.residual()), (1, 0), "{what}");
    let (marks, wire_len, bytes) = &ran.delivered[0];
    let cut = frame.len() > CAP;
    assert_eq!(*wire_len as usize, frame.len());
    assert_eq!(bytes[..], frame[..frame.len().min(CAP)], "{what}");
    assert_eq!((marks & flags::TRUNCATED != 0, ran.counted.truncated), (cut, u64::from(cut)), "{what}");
}

/// Records of ring buffers have room by classes: each frame comes whole, on both sides of every border.
#[test]
fn every_length_comes_whole() {
    if !may_run("every_length_comes_whole") {
        return;
    }
    const HEADERS: usize = 14 + 20 + 8;
    let mut run = programs();
    let short = 43..2_100;
    let long = [4_095, 4_096, 4_097, 4_098, 16_383, 16_384, 16_385, 16_386, CAP - 1, CAP];
    for len in short.chain(long) {
        let payload: Vec<u8> = (0x40..=0xfb).cycle().take(len - HEADERS).collect();
        let frame = plain(&payload);
        let fits_a_page = len < 3_500;
        for program in PROGRAMS.into_iter().filter(|program| *program == Program::Xdp || fits_a_page) {
            // A short one is a keep-alive.
            if len > HEADERS + 20 {
                expect(&mut run, program, &format!("{len} bytes"), &frame, Match(0));
            }
        }
    }
}

#[test]
fn packets_without_a_link_layer() {
    if !may_run("packets_without_a_link_layer") {
        return;
    }
    let mut run = programs();
    let mut one =
        |what: &str, packet: &[u8], expected| expect(&mut run, Program::TcEgressRaw, what, packet, expected);
    one("IPv4", &v4(&udp(5060, 5060, INVITE)), Match(flags::RAW_IP));
    one("IPv6", &ipv6(&[], UDP, &udp(5060, 5060, INVITE)), Match(flags::RAW_IP));
    one("DNS", &v4(&udp(53, 53, INVITE)), Other);
    one("neither", &[0x10; 60], Other);
}

/// A ring that nobody reads: what does not fit is counted as lost, to the frame.
#[test]
fn a_full_ring_is_counted() {
    if !may_run("a_full_ring_is_counted") {
        return;
    }
    let mut run = Programs::new(&Config { ring_bytes: 128 << 10, ..Config::default() });
    let frame = plain(&[b'x'; 1000]);
    for (program, ring) in PROGRAMS.into_iter().flat_map(|program| [(program, 0), (program, 1)]) {
        let (ring, run) = &mut run.0[ring];
        let ran = run.run(program, &frame, 1000).unwrap();
        let (what, counted) = (format!("{program:?}, {ring:?}"), ran.counted);
        assert_eq!((counted.seen, counted.matched, counted.residual()), (1000, 1000, 0), "{what}");
        assert!(counted.failed[0] > 800, "{what}: {counted:?}");
        assert_eq!(counted.lost(), counted.failed[0], "{what}: for want of room and nothing else");
        assert_eq!(counted.delivered, ran.delivered.len() as u64, "{what}");
    }
}
