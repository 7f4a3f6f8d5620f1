use std::net::Ipv4Addr;

use super::*;

mod hep;
mod property;
mod wrapped;

/// Gives packets to the stage and keeps what comes out.
struct Ear {
    streams: Streams,
    ms: i64,
    frames: u64,
    out: Vec<Vec<u8>>,
    cut: Vec<bool>,
    originated: Vec<bool>,
    /// What is sent comes out of a socket of this host.
    originates: bool,
    last: Option<(u64, SocketAddr, i64)>,
    loss: Vec<Loss>,
}

/// Flags of a TCP segment.
#[derive(Clone, Copy, Default)]
struct Flags {
    ack: Option<u32>,
    syn: bool,
    fin: bool,
    rst: bool,
    cut: u32,
}

const SYN: Flags = Flags { syn: true, ack: None, fin: false, rst: false, cut: 0 };
const FIN: Flags = Flags { fin: true, syn: false, ack: None, rst: false, cut: 0 };
const RST: Flags = Flags { rst: true, syn: false, ack: None, fin: false, cut: 0 };
const DATA: Flags = Flags { syn: false, ack: None, fin: false, rst: false, cut: 0 };

fn end(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, host).into(), port)
}

impl Ear {
    fn new() -> Self {
        Self::with(Config { reads_hep: true, ..Config::default() })
    }

    fn with(config: Config) -> Self {
        Self {
            streams: Streams::new(config),
            ms: 0,
            frames: 0,
            out: Vec::new(),
            cut: Vec::new(),
            originated: Vec::new(),
            originates: false,
            last: None,
            loss: Vec::new(),
        }
    }

    fn work(&mut self, work: impl FnOnce(&mut Streams, &mut dyn FnMut(Item<'_>))) {
        let Self { streams, out, cut, originated, last, loss, .. } = self;
        work(streams, &mut |item| match item {
            Item::Message(m, _) => {
                out.push(m.bytes.to_vec());
                cut.push(m.cut);
                originated.push(m.originated);
                *last = Some((m.frame, m.src, m.time.as_nanos() / 1_000_000));
            }
            Item::Loss(d) => loss.push(d),
        });
        let c = &self.streams.counters;
        assert_eq!(c.packets, c.used + c.held + c.unfinished + c.unused.total(), "{c:?}");
        assert_eq!(c.messages, self.out.len() as u64);
    }

    fn packet(&mut self, src: SocketAddr, dst: SocketAddr, transport: Transport<'_>) {
        self.frames += 1;
        let time = Timestamp::from_nanos(self.ms * 1_000_000);
        let (frame, originated) = (self.frames, self.originates);
        self.work(|streams, sink| {
            streams.handle_timeout(time, sink);
            streams.push(&Packet { time, frame, src, dst, originated, transport }, sink);
        });
    }

    /// What comes of what is done so, and what does not.
    fn originating(&mut self, originates: bool) -> &mut Self {
        self.originates = originates;
        self
    }

    fn udp(&mut self, payload: &[u8], cut: bool) {
        self.packet(end(1, 5060), end(2, 5060), Transport::Udp { payload, cut });
    }

    /// A segment from host 1 to host 2.
    fn tcp(&mut self, seq: u32, payload: &[u8], flags: Flags) {
        self.segment(end(1, 40_000), end(2, 5060), seq, payload, flags);
    }

    /// A segment the other way.
    fn back(&mut self, seq: u32, payload: &[u8], flags: Flags) {
        self.segment(end(2, 5060), end(1, 40_000), seq, payload, flags);
    }

    fn segment(&mut self, src: SocketAddr, dst: SocketAddr, seq: u32, payload: &[u8], flags: Flags) {
        let Flags { ack, syn, fin, rst, cut } = flags;
        self.packet(src, dst, Transport::Tcp { seq, ack, syn, fin, rst, payload, cut });
    }

    /// Both SYNs.
    fn open(&mut self) {
        self.tcp(START, b"", SYN);
        self.back(99, b"", Flags { ack: Some(seq(1)), ..SYN });
    }

    fn wait(&mut self, ms: i64) {
        self.ms += ms;
        let now = Timestamp::from_nanos(self.ms * 1_000_000);
        self.work(|streams, sink| streams.handle_timeout(now, sink));
    }

    fn finish(&mut self) {
        let now = Timestamp::from_nanos(self.ms * 1_000_000);
        self.work(|streams, sink| streams.finish(now, sink));
        assert_eq!(self.streams.counters.connections, 0);
        assert_eq!((self.streams.counters.held, self.streams.counters.unfinished), (0, 0));
        assert_eq!(self.streams.poll_timeout(), None);
        assert_eq!(self.streams.tcp.bytes(), 0);
    }

    fn unused(&self, reason: DiscardReason) -> u64 {
        self.streams.counters.unused.of(reason)
    }
}

/// What message bodies are made of: it looks like a start line, but is none.
const FRAGMENT: &[u8] = b"SIP/2.0 180 Ringing\r\n\r\n";

fn message(n: usize, body: usize) -> Vec<u8> {
    let head = match n % 3 {
        0 => format!("INFO sip:a@b SIP/2.0\r\nCSeq: {n} INFO\r\nContent-Length: {body}\r\n\r\n"),
        1 => format!("SIP/2.0 200 OK\r\nl:\r\n {body}\r\nCSeq: {n} INFO\r\nSubject: a\r\n b\r\n\r\n"),
        _ => format!("NOTIFY sip:b SIP/2.0\nCSEQ : {n} NOTIFY\nCONTENT-LENGTH : {body}\n\n"),
    };
    [head.into_bytes(), FRAGMENT.iter().copied().cycle().take(body).collect()].concat()
}

fn seq(at: usize) -> u32 {
    u32::try_from(at).unwrap().wrapping_add(START)
}

/// A few bytes before the sequence numbers wrap.
const START: u32 = u32::MAX - 20;

#[test]
fn datagrams_end_where_content_length_says() {
    let whole = message(0, 9);
    for (payload, expected, cut) in [
        (whole.clone(), &whole[..], false),
        ([b"\r\n\r\n", &whole[..]].concat(), &whole[..], false),
        ([&whole[..], b"and more"].concat(), &whole[..], false),
        (whole[..whole.len() - 3].to_vec(), &whole[..whole.len() - 3], false),
        (whole[..whole.len() - 3].to_vec(), &whole[..whole.len() - 3], true),
        (whole[..30].to_vec(), &whole[..30], true),
    ] {
        let mut ear = Ear::new();
        ear.udp(&payload, cut);
        assert_eq!((&ear.out[0][..], ear.cut[0]), (expected, cut));
    }
    for lie in ["-1", "2147483648", "4294967328", "9223372036854775807", "99999999999999999999", "x"] {
        let payload = format!("BYE sip:a SIP/2.0\r\nContent-Length: {lie}\r\n\r\nbody");
        let mut ear = Ear::new();
        ear.udp(payload.as_bytes(), false);
        assert_eq!(ear.out, [payload.as_bytes()], "{lie}");
    }
}

#[test]
fn what_is_not_sip_is_counted() {
    let mut ear = Ear::new();
    for (payload, reason) in [
        (&b"\r\n\r\n"[..], DiscardReason::NoPayload),
        (b"", DiscardReason::NoPayload),
        (b"\0\0\0\0", DiscardReason::NoPayload),
        (b"\x80\x08SIP/2.0\r\n", DiscardReason::NotSip),
        (b"GET / HTTP/1.1\r\n\r\n", DiscardReason::NotSip),
    ] {
        let before = ear.unused(reason);
        ear.udp(payload, false);
        assert_eq!(ear.unused(reason), before + 1, "{payload:?}");
    }
    let mut narrow = Ear::with(Config { ports: [5070].into(), ..Config::default() });
    narrow.udp(&message(0, 0), false);
    narrow.packet(end(1, 9), end(2, 5070), Transport::Udp { payload: &message(0, 0), cut: false });
    assert_eq!((narrow.out.len(), narrow.unused(DiscardReason::OtherPort)), (1, 1));
}

#[test]
fn a_message_carries_its_last_frame_and_its_sender() {
    let whole = message(0, 400);
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &whole[..100], DATA);
    ear.ms = 7;
    ear.tcp(seq(101), &whole[100..], DATA);
    assert_eq!(ear.out, [whole]);
    assert_eq!(ear.last, Some((3, end(1, 40_000), 7)));
}

#[test]
fn keep_alives_between_messages_are_skipped() {
    let stream = [b"\r\n\r\n", &message(0, 5)[..], b"\r\n", &message(1, 0), b"\r\n\r\n"].concat();
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &stream, DATA);
    ear.finish();
    assert_eq!(ear.out, [message(0, 5), message(1, 0)]);
    assert_eq!((ear.streams.counters.resyncs, ear.streams.counters.incomplete), (0, 0));
}

#[test]
fn other_protocols_leave_no_trace() {
    for first in
        [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\x16\x03\x01\x02", b"SSH-2.0-x\r\n", b"220 mail\r\n"]
    {
        let mut ear = Ear::new();
        ear.open();
        ear.tcp(seq(1), first, DATA);
        assert_eq!(ear.streams.counters.connections, 0, "{first:?}");
        ear.tcp(seq(first.len() + 1), b"more of it", DATA);
        ear.back(100, &[0; 1_400], DATA);
        assert_eq!((ear.streams.counters.connections, ear.unused(DiscardReason::NotSip)), (0, 3));
        assert_eq!(ear.loss, []);
    }
}

#[test]
fn a_proxy_protocol_line_comes_first() {
    let first = [b"PROXY TCP4 10.0.0.9 10.0.0.2 1 2\r\n", &message(0, 3)[..]].concat();
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &first, DATA);
    ear.tcp(seq(1 + first.len()), &message(1, 3), DATA);
    assert_eq!(ear.out, [message(0, 3), message(1, 3)]);
}

#[test]
fn a_capture_that_begins_midway_syncs_at_a_start_line() {
    let tail = b"a=sendrecv\r\nVia: SIP/2.0/TCP x\r\nSIP/2.0 486 Busy Here\r\nREFER sip:x SIP/2.0\r\n\r\n";
    let mut ear = Ear::new();
    ear.tcp(seq(0), b"nothing here", DATA);
    ear.tcp(seq(12), &[&tail[..], &message(0, 3), &message(1, 3)[..20]].concat(), DATA);
    ear.tcp(seq(12 + tail.len() + message(0, 3).len() + 20), &message(1, 3)[20..], DATA);
    // The other side, too, may be in the middle of something.
    ear.back(1, &[b"v=0\r\n", &message(2, 0)[..]].concat(), DATA);
    assert_eq!(ear.out, [message(0, 3), message(1, 3), message(2, 0)]);
    assert_eq!(ear.loss, []);
}

#[test]
fn a_gap_costs_the_messages_in_it_and_no_more() {
    let (a, b, c, d) = (message(0, 50), message(1, 50), message(0, 2 * FRAGMENT.len()), message(2, 9));
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &a, DATA);
    let mut at = 1 + a.len();
    ear.tcp(seq(at), &b[..30], DATA);
    // The rest of b is lost, and the first bytes of c.
    at += b.len();
    ear.ms = 10;
    ear.tcp(seq(at + 10), &c[10..], DATA);
    at += c.len();
    ear.tcp(seq(at), &d, DATA);
    assert_eq!((ear.out.len(), ear.loss.len()), (1, 0), "it may still come");
    ear.wait(2_999);
    assert_eq!(ear.loss.len(), 0);
    ear.wait(1);
    assert_eq!(ear.out, [a, d]);
    assert_eq!(ear.loss, [Loss::TcpGap { src: end(1, 0).ip(), dst: end(2, 0).ip() }]);
    assert_eq!(ear.streams.counters.incomplete, 1);
    assert_eq!(ear.last.map(|(frame, _, ms)| (frame, ms)), Some((5, 10)), "when it was captured");
}

#[test]
fn a_gap_within_a_body_spares_the_headers_and_what_follows() {
    let (a, b) = (message(0, 500), message(1, 5));
    let head = a.len() - 500;
    for (from, to) in [(head + 10, head + 400), (head + 10, a.len())] {
        let mut ear = Ear::new();
        ear.tcp(START, b"", SYN);
        ear.tcp(seq(1), &a[..from], DATA);
        ear.tcp(seq(1 + to), &[&a[to..], &b].concat(), DATA);
        ear.finish();
        assert_eq!(ear.out, [a[..from].to_vec(), b.clone()]);
        assert_eq!(ear.cut, [true, false]);
        assert_eq!(ear.loss.len(), 1);
        assert_eq!(ear.streams.counters.tcp_bytes_missing, (to - from) as u64);
        assert_eq!(ear.streams.counters.resyncs, 0);
    }
}

#[test]
fn what_the_other_end_acknowledges_will_not_be_sent_again() {
    let (a, b) = (message(0, 0), message(0, 7));
    let mut ear = Ear::new();
    ear.open();
    ear.tcp(seq(1), &a, DATA);
    // b is not captured, but its receiver has it.
    let acked = Flags { ack: Some(seq(1 + a.len() + b.len())), ..DATA };
    ear.back(100, b"", acked);
    ear.wait(49);
    assert_eq!(ear.loss, []);
    ear.wait(1);
    assert_eq!(ear.loss.len(), 1);
    ear.tcp(seq(1 + a.len() + b.len()), &a, DATA);
    assert_eq!(ear.out, [a.clone(), a.clone()]);

    // The number of a FIN that was not captured is no gap.
    let mut ear = Ear::new();
    ear.open();
    ear.tcp(seq(1), &a, DATA);
    ear.back(100, b"", Flags { ack: Some(seq(2 + a.len())), ..DATA });
    ear.wait(10_000);
    ear.finish();
    assert_eq!(ear.loss, []);
}

#[test]
fn messages_exported_together_are_told_apart() {
    let (a, b) = (message(0, 300), message(1, 0));
    let mut ear = Ear::new();
    let payload = &[&a[..], &b].concat()[..];
    ear.packet(end(1, 5060), end(2, 5060), Transport::Exported { payload, cut: false });
    assert_eq!(ear.out, [a.clone(), b]);
    assert_eq!((ear.streams.counters.used, ear.streams.counters.datagram_tails), (1, 0));

    // The capture cut the second; the first is whole.
    let payload = &[&a[..], &a[..40]].concat()[..];
    ear.packet(end(1, 5060), end(2, 5060), Transport::Exported { payload, cut: true });
    assert_eq!((&ear.out[2..], &ear.cut[2..]), (&[a.clone(), a[..40].to_vec()][..], &[false, true][..]));
    ear.packet(end(1, 5060), end(2, 5060), Transport::Exported { payload: b"HELLO", cut: false });
    assert_eq!(ear.unused(DiscardReason::NotSip), 1);
}

#[test]
fn segments_that_the_capture_cut_are_gaps() {
    let (a, b) = (message(0, 300), message(1, 0));
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &a[..100], Flags { cut: u32::try_from(a.len() - 100).unwrap(), ..DATA });
    assert_eq!((&ear.out[0][..], ear.cut[0]), (&a[..100], true));
    ear.tcp(seq(1 + a.len()), &b, DATA);
    assert_eq!(ear.out[1], b);
    assert_eq!(ear.loss.len(), 1);
}

#[test]
fn a_stream_that_is_not_sip_loses_nothing() {
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(500), b"some bytes", DATA);
    ear.wait(10_000);
    assert_eq!((ear.loss.len(), ear.streams.counters.connections), (0, 0));
    assert_eq!(ear.unused(DiscardReason::NotSip), 1);
}

#[test]
fn of_bytes_that_come_twice_the_first_win() {
    let whole = message(0, 30);
    let forged = vec![b'#'; whole.len()];
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &whole[..20], DATA);
    ear.tcp(seq(31), &whole[30..50], DATA);
    ear.tcp(seq(11), &[&whole[10..30], &forged[30..50]].concat(), DATA);
    ear.tcp(seq(1), &[&forged[..50], &whole[50..]].concat(), DATA);
    ear.tcp(seq(1), &forged, DATA);
    assert_eq!(ear.out, [whole]);
    assert_eq!(ear.unused(DiscardReason::TcpRepeated), 1);
}

#[test]
fn content_length_lies_cost_one_body() {
    for lie in
        ["-1", "2147483648", "4294967328", "9223372036854775807", "99999999999999999999", "1\r\nl: 2", ""]
    {
        let bad = format!("BYE sip:a SIP/2.0\r\nContent-Length: {lie}\r\n\r\n");
        let body = b"v=0\r\nSIP/2.0 200 OK\r\n\r\n";
        let mut ear = Ear::new();
        ear.tcp(START, b"", SYN);
        ear.tcp(seq(1), &[bad.as_bytes(), body, &message(0, 5), &message(1, 5)].concat(), DATA);
        assert_eq!(ear.out, [bad.into_bytes(), message(0, 5), message(1, 5)], "{lie}");
        assert_eq!(ear.streams.counters.bad_length + ear.streams.counters.too_large, 1);
        assert_eq!(ear.loss, []);
    }
}

#[test]
fn endless_headers_and_lines_are_capped() {
    let config = Config { max_message_bytes: 10_000, ..Config::default() };
    for filler in [&b"X: y\r\n"[..], b"X", b" folded\n"] {
        let mut ear = Ear::with(config.clone());
        ear.tcp(START, b"", SYN);
        let mut at = 1;
        let mut send = |ear: &mut Ear, bytes: &[u8]| {
            ear.tcp(seq(at), bytes, DATA);
            at += bytes.len();
        };
        send(&mut ear, b"BYE sip:a SIP/2.0\r\n");
        for _ in 0..30 {
            send(&mut ear, &filler.repeat(1_200 / filler.len()));
            assert!(ear.streams.tcp.bytes() < 60_000);
        }
        send(&mut ear, b"\r\n\r\n");
        send(&mut ear, &message(0, 4));
        assert_eq!((&ear.out[..], ear.streams.counters.too_large), (&[message(0, 4)][..], 1), "{filler:?}");
    }
    // A start line that never ends.
    let mut ear = Ear::with(config);
    ear.tcp(START, b"", SYN);
    for n in 0..20 {
        ear.tcp(seq(1 + n * 1_000), &[b'A'; 1_000], DATA);
    }
    assert_eq!(ear.streams.counters.connections, 0);
}

#[test]
fn fin_ends_a_stream_and_what_is_sent_again_is_not_new() {
    let whole = message(0, 40);
    let mut ear = Ear::new();
    ear.open();
    ear.tcp(seq(1), &whole, FIN);
    ear.back(100, b"", FIN);
    ear.tcp(seq(1), &whole, FIN);
    assert_eq!(ear.out, [&whole[..]]);
    assert_eq!(ear.streams.counters.connections, 1);
    ear.wait(5_000);
    assert_eq!(ear.streams.counters.connections, 0);

    // A new connection between the same ports, after FIN, after RST, or out of the blue.
    for before in [FIN, RST, DATA] {
        let mut ear = Ear::new();
        ear.tcp(START, b"", SYN);
        ear.tcp(seq(1), &whole, before);
        ear.tcp(77, b"", SYN);
        ear.tcp(77, b"", SYN);
        ear.tcp(78, &whole, DATA);
        assert_eq!(ear.out, [&whole[..], &whole]);
        assert_eq!(ear.loss, []);
    }
}

#[test]
fn a_new_connection_is_told_by_its_numbers_too() {
    let whole = message(0, 40);
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &whole, DATA);
    ear.tcp(1 << 30, &whole, DATA);
    assert_eq!(ear.out, [&whole[..], &whole]);
    ear.tcp(1 << 29, b"stray", DATA);
    assert_eq!(ear.unused(DiscardReason::TcpDistance), 1);
}

#[test]
fn rst_gives_up_on_what_is_missing() {
    let (a, b) = (message(0, 4), message(1, 4));
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &a, DATA);
    ear.tcp(seq(500), &b, DATA);
    ear.back(9, b"", RST);
    assert_eq!(ear.out, [a, b]);
    assert_eq!(ear.loss.len(), 1);
}

#[test]
fn a_rst_far_from_the_streams_numbers_is_not_of_its_ends() {
    let (a, b) = (message(0, 4), message(1, 40));
    let mut ear = Ear::new();
    ear.open();
    ear.tcp(seq(1), &a, DATA);
    let (front, back) = b.split_at(30);
    ear.tcp(seq(1 + a.len()), front, DATA);
    ear.tcp(seq(1 << 20), b"", RST);
    ear.back(1 << 30, b"", RST);
    ear.tcp(seq(1 + a.len() + front.len()), back, DATA);
    assert_eq!(ear.out, [a.clone(), b.clone()]);
    ear.back(100, b"", RST);
    ear.wait(5_000);
    assert_eq!(ear.streams.counters.connections, 0, "their own ends the connection");
}

#[test]
fn an_acknowledgement_of_what_nobody_sent_is_not_believed() {
    let (a, b) = (message(0, 4), message(1, 40));
    let mut ear = Ear::new();
    ear.open();
    ear.tcp(seq(1), &a, DATA);
    for n in 1..256 {
        let forged = seq(1 + a.len() + (n << 16));
        ear.back(100, b"", Flags { ack: Some(forged), ..DATA });
        ear.back(100 + (1 << 20), b"", Flags { ack: Some(seq(1 + a.len() + 9)), ..DATA });
        ear.wait(100);
    }
    ear.tcp(seq(1 + a.len()), &b, DATA);
    assert_eq!(ear.out, [a, b]);
    assert_eq!(ear.loss.len(), 0);
}

#[test]
fn quiet_connections_are_forgotten() {
    let mut ear = Ear::new();
    ear.tcp(START, b"", SYN);
    ear.wait(59_999);
    assert_eq!(ear.streams.counters.connections, 1);
    ear.wait(1);
    assert_eq!(ear.streams.counters.connections, 0);

    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &message(0, 0), DATA);
    ear.wait(800_000);
    ear.tcp(seq(1 + message(0, 0).len()), &message(0, 0), DATA);
    ear.wait(899_000);
    assert_eq!((ear.out.len(), ear.streams.counters.connections), (2, 1));
    ear.wait(1_000);
    assert_eq!(ear.streams.counters.connections, 0);
    ear.finish();
}

#[test]
fn one_stream_holds_no_more_than_its_share() {
    let mut ear = Ear::with(Config { max_stream_bytes: 20_000, ..Config::default() });
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &message(0, 0), DATA);
    for n in 1..100 {
        ear.tcp(seq(n * 2_000), &[b'x'; 1_000], DATA);
        assert!(ear.streams.tcp.bytes() < 25_000);
    }
    assert!(ear.streams.counters.tcp_gaps > 60);
    ear.finish();
}

#[test]
fn a_flood_does_not_push_out_conversations() {
    let whole = message(0, 40);
    let mut ear = Ear::with(Config { max_bytes: 100_000, ..Config::default() });
    ear.open();
    ear.tcp(seq(1), &whole[..30], DATA);
    for n in 0..2_000_u16 {
        let (src, dst) = (end(3, n), end(2, 5060));
        ear.segment(src, dst, 0, b"", SYN);
        if n % 2 == 0 {
            ear.segment(src, dst, 1, &whole[..60], DATA);
        }
        assert!(ear.streams.tcp.bytes() <= 100_000);
    }
    ear.tcp(seq(31), &whole[30..], DATA);
    assert_eq!(ear.out, [whole]);
    assert!(ear.streams.counters.connections_evicted > 1_800);
    ear.finish();
}

#[test]
fn a_flood_of_messages_that_nobody_answers_leaves_the_others_alone() {
    let whole = message(0, 40);
    let mut ear = Ear::with(Config { max_bytes: 100_000, ..Config::default() });
    // Half a start line, and a connection in which both sides have spoken.
    ear.open();
    ear.tcp(seq(1), &whole[..5], DATA);
    let other = (end(4, 40_000), end(2, 5060));
    ear.segment(other.0, other.1, 0, &whole, DATA);
    ear.segment(other.1, other.0, 0, &whole[..60], DATA);
    for n in 0..2_000_u16 {
        let (src, dst) = (end(100 + u8::try_from(n / 50).unwrap(), n), end(2, 5060));
        ear.segment(src, dst, 0, b"", SYN);
        ear.segment(dst, src, 0, b"", Flags { ack: Some(1), ..SYN });
        ear.segment(src, dst, 1, &whole, DATA);
    }
    assert!(ear.streams.counters.connections_evicted > 1_800);
    ear.tcp(seq(6), &whole[5..], DATA);
    ear.segment(other.1, other.0, 60, &whole[60..], DATA);
    assert_eq!(ear.out.len(), 2_003);
    ear.finish();
}

#[test]
fn one_host_floods_only_itself() {
    let whole = message(0, 40);
    let mut ear = Ear::with(Config { max_bytes: 100_000, ..Config::default() });
    // Half a message from a host that nobody is heard to answer, which goes before any other.
    ear.tcp(START, b"", SYN);
    ear.tcp(seq(1), &whole[..30], DATA);
    for n in 0..2_000_u16 {
        ear.segment(end(3, n), end(2, 5060), 0, b"", SYN);
    }
    let counters = &ear.streams.counters;
    assert!(counters.connections_evicted > 1_900);
    assert_eq!(counters.connections_evicted, counters.connections_evicted_for_share);
    ear.tcp(seq(31), &whole[30..], DATA);
    assert_eq!(ear.out, [whole]);
    ear.finish();
}

#[test]
fn of_conversations_the_one_goes_that_was_quiet_longest() {
    let whole = message(0, 40);
    let mut ear = Ear::with(Config { max_bytes: 100_000, ..Config::default() });
    let both = |ear: &mut Ear, n: u16| {
        ear.segment(end(4, n), end(2, 5060), 0, &whole, DATA);
        ear.segment(end(2, 5060), end(4, n), 0, &whole, DATA);
    };
    let (first, mut at) = (end(4, 0), u32::try_from(whole.len()).unwrap());
    both(&mut ear, 0);
    ear.segment(first, end(2, 5060), at, &whole[..30], DATA);
    at += 30;
    // The oldest of all, it always has half a message under way.
    let piece = [&whole[30..], &whole[..30]].concat();
    for n in 1..500 {
        ear.wait(10);
        both(&mut ear, n);
        ear.segment(first, end(2, 5060), at, &piece, DATA);
        at += u32::try_from(piece.len()).unwrap();
    }
    assert!(ear.streams.counters.connections_evicted > 400);
    assert_eq!(ear.out.len(), 2 * 500 + 499, "none of its messages is lost");
    ear.finish();
}

#[test]
fn a_flood_of_few_fat_connections_pushes_out_itself() {
    let whole = message(0, 40);
    let mut ear = Ear::with(Config { max_bytes: 100_000, ..Config::default() });
    // What one direction of many calls looks like.
    for n in 0..20_u8 {
        ear.segment(end(10 + n, 40_000), end(2, 5060), 0, &[&whole[..], &whole[..30]].concat(), DATA);
    }
    for n in 0..100_u8 {
        let src = end(100 + n, 40_000);
        ear.segment(src, end(2, 5060), 0, b"", SYN);
        ear.segment(src, end(2, 5060), 20_000, &[b'x'; 8_000], DATA);
    }
    for n in 0..20_u8 {
        let at = u32::try_from(whole.len()).unwrap() + 30;
        ear.segment(end(10 + n, 40_000), end(2, 5060), at, &whole[30..], DATA);
    }
    assert!(ear.streams.counters.connections_evicted > 80);
    assert_eq!(ear.out.len(), 40);
    ear.finish();
}

#[test]
fn messages_behind_a_damaged_one_are_read_too() {
    let mut ear = Ear::new();
    let damaged = b"SIP/2.0 799 x\r\nContent-Length: 4\r\n\r\nabcd".to_vec();
    let payload = [&damaged[..], &message(0, 5)].concat();
    ear.packet(end(1, 5060), end(2, 5060), Transport::Exported { payload: &payload, cut: false });
    assert_eq!(ear.out, [damaged, message(0, 5)]);
}

#[test]
fn one_byte_segments_cost_no_more_than_large_ones() {
    let whole = [message(0, 30_000), message(1, 100), b"X: y\r\n".repeat(5_000)].concat();
    let looked_at = |size: usize| {
        let mut ear = Ear::new();
        ear.tcp(START, b"", SYN);
        for (n, piece) in whole.chunks(size).enumerate() {
            ear.tcp(seq(1 + n * size), piece, DATA);
        }
        assert_eq!(ear.out.len(), 2);
        ear.streams.tcp.looked_at()
    };
    let (large, small) = (looked_at(1_400), looked_at(1));
    assert!(small <= 2 * whole.len() && large <= 2 * whole.len(), "{small} {large} {}", whole.len());
}

#[test]
fn what_this_host_originated_came_out_of_its_socket_in_all_pieces() {
    let (a, b) = (message(0, 300), message(1, 300));
    let mut ear = Ear::new();
    ear.originating(true).udp(&a, false);
    ear.originating(false).udp(&a, false);
    assert_eq!(ear.originated, [true, false]);
    // A message in three segments, one of which is somebody else's; then two in one, and one that is cut by a gap.
    for (others, expected) in [(None, true), (Some(0), false), (Some(1), false), (Some(2), false)] {
        let mut ear = Ear::new();
        ear.open();
        for (part, bytes) in [&a[..10], &a[10..200], &a[200..]].into_iter().enumerate() {
            let at = [0, 10, 200][part];
            ear.originating(others != Some(part)).tcp(seq(1 + at), bytes, DATA);
        }
        assert_eq!((&ear.out, &ear.originated), (&vec![a.clone()], &vec![expected]), "{others:?}");
        let both = [&b[..], &a[..]].concat();
        ear.originating(true).tcp(seq(1 + a.len()), &both, DATA);
        assert_eq!(ear.originated[1..], [true, true], "what came before is done with");
    }
    // Out of order, and the first bytes are sent once more by somebody else: the first win.
    for (originates, expected) in [([true, true, false], true), ([true, false, true], false)] {
        let mut ear = Ear::new();
        ear.open();
        for (originates, (from, to)) in originates.into_iter().zip([(100, a.len()), (0, 100), (0, 100)]) {
            ear.originating(originates).tcp(seq(1 + from), &a[from..to], DATA);
        }
        assert_eq!(ear.originated, [expected]);
    }
}
