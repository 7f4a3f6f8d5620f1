//! What the kernel programs cost for one frame, by the kernel's own test run: warm caches, so live costs more.
#![allow(clippy::unwrap_used, reason = "a measurement that fails has failed")]

use sipobs::capture::live::{Config, DryRun, Program, Ran, RingChoice};

/// Frames in a row; so many of the largest kind fit a ring.
const RUNS: u32 = 2000;
const ROUNDS: usize = 15;

fn main() {
    let programs = [RingChoice::Perf, RingChoice::Ringbuf].map(|ring| {
        let drop_methods = vec!["OPTIONS".to_owned()];
        DryRun::new(&Config { ring, ring_bytes: 8 << 20, drop_methods, ..Config::default() })
    });
    let [Ok(mut perf), Ok(mut ringbuf)] = programs else {
        let errors: Vec<String> =
            programs.into_iter().filter_map(Result::err).map(|it| it.to_string()).collect();
        eprintln!("cannot measure: {}", errors.join("; "));
        std::process::exit(3);
    };
    println!("{:34} {:>6} {:>10} {:>10}", "ns a frame", "XDP", "tc ingress", "tc egress");
    let invite = message("INVITE sip:bob@example.com SIP/2.0\r\n");
    let kinds: [(&str, Vec<u8>, bool); 6] = [
        ("ARP", ethernet(0x0806, &[0; 46]), false),
        ("RTP (UDP, other ports)", ethernet(0x0800, &ipv4(17, &udp(40_000, &[0x80; 172]))), false),
        ("TCP, port 443", ethernet(0x0800, &ipv4(6, &tcp(443, &[0; 512]))), false),
        (
            "OPTIONS, dropped by method",
            ethernet(0x0800, &ipv4(17, &udp(5060, &message("OPTIONS sip:a SIP/2.0\r\n")))),
            false,
        ),
        ("INVITE to the perf ring, UDP", ethernet(0x0800, &ipv4(17, &udp(5060, &invite))), true),
        ("INVITE to the perf ring, TCP", ethernet(0x0800, &ipv4(6, &tcp(5060, &invite))), true),
    ];
    for (name, frame, delivered) in kinds {
        row(&mut perf, name, &frame, delivered);
        if delivered {
            row(&mut ringbuf, &name.replace("perf ring", "BPF ring buffer"), &frame, delivered);
        }
    }
}

fn row(programs: &mut DryRun, name: &str, frame: &[u8], delivered: bool) {
    let cost = [Program::Xdp, Program::TcIngress, Program::TcEgress]
        .map(|program| measure(programs, program, frame, delivered));
    println!("{name:34} {:6} {:10} {:10}", cost[0], cost[1], cost[2]);
}

/// The median of several rounds, each of which must have handed over all frames or none.
fn measure(programs: &mut DryRun, program: Program, frame: &[u8], delivered: bool) -> u128 {
    let mut rounds: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let Ran { time, counted, .. } = programs.run(program, frame, RUNS).unwrap();
            let expected = if delivered { u64::from(RUNS) } else { 0 };
            assert_eq!((counted.seen, counted.delivered), (u64::from(RUNS), expected), "{program:?}");
            time.as_nanos()
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

fn message(start: &str) -> Vec<u8> {
    let mut text = start.to_owned();
    text.push_str(
        "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.org>;tag=1928301774\r\nTo: <sip:bob@example.com>\r\n\
         Call-ID: a84b4c76e66710@192.0.2.1\r\nCSeq: 314159 INVITE\r\nContact: <sip:alice@192.0.2.1>\r\n\
         Content-Type: application/sdp\r\nContent-Length: 142\r\n\r\n",
    );
    text.push_str(&"v=0 o=- 0 0 IN IP4 192.0.2.1\r\n".repeat(6)[..142]);
    text.into_bytes()
}

fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ethertype.to_be_bytes(), packet].concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let header = [0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    [&header[..], payload].concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let header = [50_000, port, length, 0].map(u16::to_be_bytes).concat();
    [&header[..], payload].concat()
}

fn tcp(port: u16, payload: &[u8]) -> Vec<u8> {
    let ports = [50_000, port].map(u16::to_be_bytes).concat();
    [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 255, 255, 0, 0, 0, 0], payload].concat()
}
