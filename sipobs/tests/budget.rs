//! Floods of INVITEs and REFERs from forged addresses, and from a single one, with a thousand genuine calls in
//! between: every one of those is judged right, and memory stays within the one figure of the configuration. What an
//! ordinary call takes.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::iter::Peekable;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::frame::{Direction, Frame, LinkType};
use sipobs::record::{Attempt, Outcome, Output};
use sipobs::stream::{TransportKind, WireMessage};
use sipobs::timestamp::Timestamp;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: u64 = 1_000;
/// Unoptimised code would need minutes for the longer one.
const FLOOD: u64 = if cfg!(debug_assertions) { 10_000 } else { 300_000 };
const SECONDS: u64 = 120;
const MEMORY: usize = 3 << 20;

/// What tables take up while there is next to nothing in them, and what the test itself keeps.
const FIXED: usize = 1 << 20;

/// Trunk and agent.
const T: [u8; 4] = [192, 0, 2, 1];
const L: [u8; 4] = [192, 0, 2, 2];

/// What the flood looks like.
#[derive(Clone, Copy, Debug)]
struct Flood {
    /// From ever new addresses, or from one.
    forged: bool,
    /// Whether somebody answers it, with a 404.
    answered: bool,
    /// How long its URIs, tags and Call-IDs are.
    long: usize,
    /// INVITEs, or REFERs in dialogs that nobody saw: each is an attempt.
    refers: bool,
}

const INVITES: Flood = Flood { forged: true, answered: false, long: 0, refers: false };

/// One test at a time: they share the allocator.
static ALONE: Mutex<()> = Mutex::new(());

/// Half-open connections, half messages and half datagrams: what they may take up is their table's share.
#[test]
fn half_of_anything_stays_within_its_share() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let config: Config = toml::from_str(&format!("[limits]\nmemory = {MEMORY}")).unwrap();
    let message = b"INVITE sip:x@l.example SIP/2.0\r\nVia: SIP/2.0/TCP x.example;branch=z9hG4bKx\r\nSubject: half of it\r\n";
    let half = |n: u64, syn: bool, payload: &[u8]| {
        let port = u16::try_from(n % 50_000).unwrap().to_be_bytes();
        let flags = if syn { 0x02 } else { 0x18 };
        let head = [
            port[0],
            port[1],
            0x13,
            0xc4,
            0,
            0,
            0,
            u8::from(!syn),
            0,
            0,
            0,
            0,
            0x50,
            flags,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        ip(forged(n / 4), 6, 0, &[&head[..], payload].concat())
    };
    type Make = Box<dyn Fn(u64) -> Vec<u8>>;
    let floods: [(&str, usize, Make); 4] = [
        ("SYNs", MEMORY / 32 * 3, Box::new(move |n| half(n, true, b""))),
        (
            "half messages",
            MEMORY / 32 * 3,
            Box::new(move |n| half(n / 2, n.is_multiple_of(2), if n % 2 == 0 { b"" } else { message })),
        ),
        (
            "segments beyond a gap",
            MEMORY / 32 * 3,
            Box::new(move |n| {
                let mut frame = half(n / 4, n.is_multiple_of(4), if n % 4 == 0 { b"" } else { message });
                frame[26] = u8::try_from(n % 4).unwrap() * 8;
                frame
            }),
        ),
        (
            "fragments",
            MEMORY / 32,
            Box::new(|n| ip(forged(n / 8), 17, 0x2000 | u16::try_from(n % 8 * 8).unwrap(), &[b'x'; 64])),
        ),
    ];
    for (what, share, frame) in floods {
        let mut engine = Engine::new(config.engine(), config.privacy().unwrap()).unwrap();
        let before = in_use();
        let mut peak = 0;
        for n in 0..30_000 {
            let bytes = frame(n);
            engine.frame(&Frame {
                time: Timestamp::from_nanos(i64::try_from(n).unwrap() * 50_000),
                number: n + 1,
                interface: 0,
                direction: Direction::Unknown,
                link: LinkType::Raw,
                wire_len: u32::try_from(bytes.len()).unwrap(),
                bytes: &bytes,
            });
            drop(bytes);
            peak = peak.max(in_use().saturating_sub(before));
        }
        let balance = engine.counters().balance();
        eprintln!("{what}: {peak} bytes of {share}, {balance:?}");
        assert_eq!(balance.residual(), 0, "{what}: {balance:?}");
        assert!(
            balance.capped > 1_000 || engine.counters().stream.connections_evicted > 1_000,
            "{what}: {balance:?}"
        );
        assert!(peak <= share + share / 10, "{what}: {peak} bytes of {share}");
    }
}

fn ip(from: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 20).unwrap().to_be_bytes();
    let fragment = fragment.to_be_bytes();
    let head = [0x45, 0, len[0], len[1], 0, 9, fragment[0], fragment[1], 64, protocol, 0, 0];
    [&head[..], &from, &L, payload].concat()
}

#[test]
fn a_flood_leaves_genuine_calls_alone_and_memory_within_its_budget() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for flood in [
        INVITES,
        Flood { forged: false, ..INVITES },
        Flood { answered: true, ..INVITES },
        Flood { long: 900, ..INVITES },
        Flood { refers: true, ..INVITES },
    ] {
        run(flood);
    }
}

fn run(flood: Flood) {
    // Calls are soon forgotten, so that there is scarcely room for a few seconds of the flood.
    let text = format!("[limits]\nmemory = {MEMORY}\n[timers]\nended = \"36s\"");
    let config: Config = toml::from_str(&text).unwrap();
    let mut engine = Engine::new(config.engine(), config.privacy().unwrap()).unwrap();
    let before = in_use();
    let mut peak = 0;
    let mut told: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
    let mut frame = 0;
    let script = script();
    let mut genuine = genuine(&script, CALLS, SECONDS);
    let mut text = String::new();
    let each = SECONDS * 1_000_000 / FLOOD;
    for n in 0..FLOOD + 20_000_000 / each {
        let now = n * each;
        while let Some((at, call, line)) = genuine.next_if(|(at, ..)| *at <= now) {
            let (_, from_trunk, message) = &script[line];
            text.clear();
            text.push_str(&message(call));
            let ends = if *from_trunk { (T, L) } else { (L, T) };
            give(&mut engine, &mut frame, at, ends, &text, &mut told);
        }
        if n < FLOOD {
            let host = if flood.forged { forged(n) } else { [198, 51, 100, 1] };
            junk(&mut text, n, flood);
            give(&mut engine, &mut frame, now, (host, L), &text, &mut told);
            if flood.answered {
                let answer = text.replacen("INVITE sip:x@l.example SIP/2.0", "SIP/2.0 404 Not Found", 1);
                give(&mut engine, &mut frame, now, (L, host), &answer, &mut told);
            }
        }
        peak = peak.max(in_use() - before);
    }
    let counts = engine.transfers().counts().clone();
    engine.finish(Timestamp::from_nanos(200_000_000_000));
    drain(&mut engine, &mut told);

    eprintln!("{flood:?}: {peak} bytes of {} for calls, {counts:?}", MEMORY / 32 * 27);
    assert!(peak <= MEMORY / 32 * 28 + FIXED, "{flood:?}: {peak} bytes for {} evicted", counts.evicted.sum());
    assert!(counts.evicted.sum() > FLOOD / 2, "{flood:?}: the room was never scarce: {counts:?}");
    assert_eq!(counts.evicted.host_share > 0, !flood.forged, "{flood:?}: {counts:?}");
    for call in 0..CALLS {
        let outcome = told.remove(&format!("call-{call}@t.example"));
        assert_eq!(outcome, Some(vec![expected(call)]), "{flood:?}: call {call}");
    }
    assert!(told.is_empty(), "{flood:?}: {told:?}");
}

/// Every genuine message at its moment: when, of which call, which line of the script.
fn genuine(script: &[Line], calls: u64, seconds: u64) -> Peekable<impl Iterator<Item = (u64, u64, usize)>> {
    let mut all = BTreeSet::new();
    for (call, start) in (0..calls).map(|call| (call, call * seconds * 1_000_000 / calls)) {
        for (line, (after, ..)) in script.iter().enumerate() {
            all.insert((start + after * 1_000, call, line));
        }
    }
    all.into_iter().peekable()
}

/// Who seems to set up a forger's calls.
#[derive(Clone, Copy, Debug)]
enum Name {
    Anybody,
    OneHost,
    TheTrunk,
}

/// A forger who writes both sides of whole calls, and never ends one: such a call looks like any other. Those with a
/// transfer under way outlive it, and where one does not, its verdict says why.
#[test]
fn calls_set_up_by_a_forger_leave_transfers_under_way_alone() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const FORGED: u64 = if cfg!(debug_assertions) { 10_000 } else { 400_000 };
    const GENUINE: u64 = 200;
    for name in [Name::Anybody, Name::OneHost, Name::TheTrunk] {
        // Room for some ten seconds of it: a genuine call is seven seconds old when it is referred on.
        let memory = (64 << 20) * FORGED / 400_000;
        let mut engine = engine(&format!("[limits]\nmemory = {memory}"));
        let (before, mut peak) = (in_use(), 0);
        let script = script();
        let mut genuine = genuine(&script, GENUINE, 60);
        let (mut frame, mut attempts) = (0, Vec::new());
        for n in 0..=FORGED {
            let now = n * 60_000_000 / FORGED;
            let last = n == FORGED;
            while let Some((at, call, line)) = genuine.next_if(|(at, ..)| *at <= now || last) {
                let (_, from_trunk, message) = &script[line];
                let ends = if *from_trunk { (T, L) } else { (L, T) };
                say(&mut engine, &mut frame, at, ends, &message(call));
            }
            let host = match name {
                Name::Anybody => forged(n),
                Name::OneHost => [198, 51, 100, 1],
                Name::TheTrunk => T,
            };
            let [invite, answer, ack] = set_up(n);
            say(&mut engine, &mut frame, now, (host, L), &invite);
            say(&mut engine, &mut frame, now, (L, host), &answer);
            say(&mut engine, &mut frame, now, (host, L), &ack);
            peak = peak.max(in_use() - before);
            attempts.extend(transfers(&mut engine));
        }
        engine.finish(Timestamp::from_nanos(200_000_000_000));
        attempts.extend(transfers(&mut engine));

        let evicted = engine.transfers().counts().evicted;
        assert!(evicted.answered > FORGED / 2, "{name:?}: the room was never scarce: {evicted:?}");
        assert_eq!(engine.counters().lost().get("evicted_calls"), Some(&evicted.answered), "{name:?}");
        let limit = usize::try_from(memory).unwrap() / 32 * 28 + FIXED;
        assert!(peak <= limit, "{name:?}: {peak} bytes of {limit}");
        let mut of: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for attempt in attempts {
            of.entry(attempt.call_id.clone().unwrap_or_default()).or_default().push(attempt);
        }
        let mut right = 0;
        for call in 0..GENUINE {
            let of = of.remove(&format!("call-{call}@t.example")).unwrap_or_default();
            if of.iter().map(|attempt| attempt.outcome).eq([expected(call)]) {
                right += 1;
            } else {
                assert!(of.iter().all(|attempt| attempt.quality.evicted_calls > 0), "{name:?}: {of:?}");
            }
        }
        eprintln!("{name:?}: {right} of {GENUINE} right, {peak} bytes of {limit}, {evicted:?}");
        assert!(right >= GENUINE / 40 * 39, "{name:?}: {right} of {GENUINE} right");
        assert!(of.is_empty(), "{name:?}: attempts that nobody made: {of:?}");
    }
}

/// INVITE, 200 and ACK of a call that nobody has.
fn set_up(n: u64) -> [String; 3] {
    let sdp = "v=0\r\no=- 1 1 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\n";
    let message = |start: &str, method: &str, tag: &str, body: &str| {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{start}\r\nVia: SIP/2.0/UDP x.example;branch=z9hG4bK{method}{n}\r\nFrom: <sip:+1999{n:07}@x.example>;tag=\
             x{n}\r\nTo: <sip:+1510{:07}@l.example>{tag}\r\nCall-ID: forged-{n}@x.example\r\nCSeq: 1 {method}\r\nContact: \
             <sip:x.example>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            n % 1_000,
            body.len()
        )
    };
    let tag = format!(";tag=y{n}");
    [
        message("INVITE sip:x@l.example SIP/2.0", "INVITE", "", sdp),
        message("SIP/2.0 200 OK", "INVITE", &tag, sdp),
        message("ACK sip:x@l.example SIP/2.0", "ACK", &tag, ""),
    ]
}

/// A million calls up at once fit into 900 MiB, tables and all.
#[test]
fn a_million_calls_are_up_at_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const UP: u64 = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    set_up_all(UP, (900 << 20) * UP / 1_000_000);
}

/// So many ordinary calls up at once, none let go of, within so many bytes.
fn set_up_all(up: u64, limit: u64) -> (Engine, Messages) {
    let mut engine = engine(&format!("[privacy]\nmask = \"full\"\n[limits]\nmemory = {limit}"));
    let before = in_use();
    let mut messages = Messages::default();
    for call in 0..up {
        messages.set_up(&mut engine, call, call * 100);
    }
    assert!(engine.poll_output().is_none());
    let taken = in_use() - before;
    let fullness = engine.transfers().fullness();
    let [bytes, accounted] = [taken as u64 / up, fullness.bytes / up];
    eprintln!("{bytes} bytes a call that is up, {accounted} of them accounted for, with {up} calls up");
    assert_eq!(fullness.legs, up, "{fullness:?}, {bytes}");
    assert!(engine.counters().lost().is_empty(), "{:?}", engine.counters().lost());
    assert!(taken as u64 <= limit, "{taken} bytes of {limit}");
    assert!(bytes <= 900, "{bytes}");
    assert!(bytes.abs_diff(accounted) <= bytes / 8, "{bytes} taken, {accounted} accounted for");
    (engine, messages)
}

/// What an ordinary call takes: how much memory while it is up, and how many allocations from its INVITE to its end.
#[test]
fn an_ordinary_call_takes_little() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const UP: u64 = if cfg!(debug_assertions) { 20_000 } else { 300_000 };
    let (mut engine, mut messages) = set_up_all(UP, 256 << 20);

    // Tables that have grown once need not grow again.
    for call in 0..UP / 2 {
        messages.hang_up(&mut engine, call, UP * 100 + call * 100);
        while engine.poll_output().is_some() {}
    }
    let long_after = Timestamp::from_nanos(i64::try_from(UP * 200).unwrap() * 1_000 + 60_000_000_000);
    engine.handle_timeout(long_after);
    while engine.poll_output().is_some() {}
    let start = long_after.as_nanos().cast_unsigned() / 1_000;
    let allocations = || ALLOCATOR.stats().allocations;
    let at = allocations();
    for call in 0..1_000 {
        messages.set_up(&mut engine, UP + call, start + call * 100);
    }
    let set_up = allocations() - at;
    for call in 0..1_000 {
        messages.hang_up(&mut engine, UP + call, start + 100_000 + call * 100);
    }
    let hung_up = allocations() - at - set_up;
    engine.handle_timeout(Timestamp::from_nanos(long_after.as_nanos() + 60_000_000_000));
    let mut told = 0;
    while engine.poll_output().is_some() {
        told += 1;
    }
    let ended = allocations() - at - set_up - hung_up;
    assert_eq!(told, 1_000);
    let all = set_up + hung_up + ended;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let [a_call, a_message] = [1_000.0, 7_000.0].map(|count| all as f64 / count);
    eprintln!(
        "{a_call:.2} allocations a call, {a_message:.2} a message: of 1,000 calls {set_up} to be set up, {hung_up} at the \
         BYE, {ended} to be told of"
    );
    assert!(all <= 12_000);

    // Copies change nothing, and so do the methods that are no call's: neither allocates.
    let at = allocations();
    for _ in 0..100 {
        messages.copies(&mut engine, UP / 2 + 7, start + 200_000);
    }
    let copies = allocations() - at;
    assert_eq!(copies, 0, "a message that changes nothing allocates nothing");
}

/// The messages of ordinary calls, as a provider sends them. One buffer for all: what is counted is the engine's.
#[derive(Default)]
struct Messages {
    text: String,
    frame: u64,
}

impl Messages {
    fn set_up(&mut self, engine: &mut Engine, call: u64, now: u64) {
        let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 10000 RTP/AVP 0\r\n";
        self.send(engine, now, true, call, "INVITE", 1, false, sdp);
        self.send(engine, now + 10, false, call, "SIP/2.0 100 Trying", 1, false, "");
        self.send(engine, now + 20, false, call, "SIP/2.0 180 Ringing", 1, true, "");
        self.send(engine, now + 30, false, call, "SIP/2.0 200 OK", 1, true, sdp);
        self.send(engine, now + 40, true, call, "ACK", 1, true, "");
    }

    fn hang_up(&mut self, engine: &mut Engine, call: u64, now: u64) {
        self.send(engine, now, true, call, "BYE", 2, true, "");
        self.send(engine, now + 10, false, call, "SIP/2.0 200 OK", 2, true, "");
    }

    fn copies(&mut self, engine: &mut Engine, call: u64, now: u64) {
        self.send(engine, now, true, call, "INVITE", 1, false, "");
        self.send(engine, now, false, call, "SIP/2.0 180 Ringing", 1, true, "");
        self.send(engine, now, false, call, "SIP/2.0 200 OK", 1, true, "");
        self.send(engine, now, true, call, "ACK", 1, true, "");
        self.send(engine, now, true, call, "OPTIONS", 7, true, "");
        self.send(engine, now, true, call, "INFO", 8, true, "");
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a message")]
    fn send(
        &mut self,
        engine: &mut Engine,
        micros: u64,
        from_trunk: bool,
        call: u64,
        start: &str,
        cseq: u64,
        tagged: bool,
        body: &str,
    ) {
        let Self { text, frame } = self;
        text.clear();
        let answer = start.starts_with("SIP/2.0");
        let method = match (answer, cseq) {
            (false, _) => start,
            (true, 1) => "INVITE",
            (true, _) => "BYE",
        };
        if answer {
            write!(text, "{start}\r\n").unwrap();
        } else {
            let host = "sip.agent.example:5060;transport=udp";
            write!(text, "{start} sip:+1510{call:07}@{host} SIP/2.0\r\n").unwrap();
        }
        let tag = if tagged { ";tag=SCL_" } else { "" };
        write!(
            text,
            "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{method}{call:016x}\r\nMax-Forwards: 70\r\n\
             From: <sip:+1415{call:07}@trunk.pstn.example>;tag={call:016x}\r\n\
             To: <sip:+1510{call:07}@sip.agent.example>{tag}"
        )
        .unwrap();
        if tagged {
            write!(text, "{call:012x}").unwrap();
        }
        write!(
            text,
            "\r\nCall-ID: {call:032x}@192.0.2.1\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:192.0.2.1:5060>\r\nUser-Agent: Trunk 1.0\r\n\
             Allow: INVITE, ACK, CANCEL, BYE, REFER, NOTIFY\r\n"
        )
        .unwrap();
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        write!(text, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let ends = if from_trunk { (T, L) } else { (L, T) };
        say(engine, frame, micros, ends, text);
    }
}

fn engine(config: &str) -> Engine {
    let config: Config = toml::from_str(config).unwrap();
    Engine::new(config.engine(), config.privacy().unwrap()).unwrap()
}

fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn give(
    engine: &mut Engine,
    frame: &mut u64,
    micros: u64,
    ends: ([u8; 4], [u8; 4]),
    text: &str,
    told: &mut BTreeMap<String, Vec<Outcome>>,
) {
    say(engine, frame, micros, ends, text);
    drain(engine, told);
}

fn say(engine: &mut Engine, frame: &mut u64, micros: u64, (from, to): ([u8; 4], [u8; 4]), text: &str) {
    *frame += 1;
    let end = |host: [u8; 4]| SocketAddr::new(Ipv4Addr::from(host).into(), 5060);
    engine.message(&WireMessage {
        time: Timestamp::from_nanos(i64::try_from(micros).unwrap() * 1_000),
        frame: *frame,
        src: end(from),
        dst: end(to),
        transport: TransportKind::Udp,
        seq: None,
        bytes: text.as_bytes(),
        cut: false,
        originated: false,
    });
}

fn drain(engine: &mut Engine, told: &mut BTreeMap<String, Vec<Outcome>>) {
    // What is said of REFERs that the flood is made of is nobody's.
    for attempt in transfers(engine).into_iter().filter(|attempt| !attempt.is_one_sided()) {
        told.entry(attempt.call_id.unwrap_or_default()).or_default().push(attempt.outcome);
    }
}

/// The attempts that have been settled.
fn transfers(engine: &mut Engine) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    while let Some(output) = engine.poll_output() {
        if let Output::Transfer(attempt) = output {
            // What the test keeps is no part of what it measures.
            attempts.push(Attempt { messages: Vec::new(), ..*attempt });
        }
    }
    attempts
}

fn expected(call: u64) -> Outcome {
    match call % 3 {
        0 => Outcome::Succeeded,
        1 => Outcome::Busy,
        _ => Outcome::Declined,
    }
}

type Line = (u64, bool, Box<dyn Fn(u64) -> String>);

/// A call from the trunk that the agent refers on: milliseconds from its start, who sends, and the message.
fn script() -> Vec<Line> {
    fn request(from_trunk: bool, cseq: u32, method: &str, more: &str, call: u64) -> String {
        let (from, to) = if from_trunk { ("t", "l") } else { ("l", "t") };
        let to_tag = if method == "INVITE" { String::new() } else { format!(";tag={to}{call}") };
        format!(
            "{method} sip:{to}@{to}.example SIP/2.0\r\nVia: SIP/2.0/UDP {from}.example;branch=z9hG4bK{method}{cseq}{call}\r\n\
             From: <sip:{from}{call}@{from}.example>;tag={from}{call}\r\nTo: <sip:{to}{call}@{to}.example>{to_tag}\r\n\
             Call-ID: call-{call}@t.example\r\nCSeq: {cseq} {method}\r\nContact: <sip:{from}@{from}.example>\r\n{more}\r\n"
        )
    }
    fn response(from_trunk: bool, cseq: u32, method: &str, status: &str, call: u64) -> String {
        let asked = request(!from_trunk, cseq, method, "", call);
        let to = if from_trunk { "t" } else { "l" };
        let (_, headers) = asked.split_once("\r\n").unwrap();
        let headers =
            headers.replace(".example>\r\nCall-ID", &format!(".example>;tag={to}{call}\r\nCall-ID"));
        format!("SIP/2.0 {status}\r\n{headers}")
    }
    let notify = |status: &'static str, state: &'static str| {
        move |call: u64| {
            let body = format!("SIP/2.0 {status}\r\n");
            let more = format!(
                "Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\nContent-Length: {}\r\n",
                body.len()
            );
            let cseq = if state.starts_with("active") { 2 } else { 3 };
            request(true, cseq, "NOTIFY", &more, call) + &body
        }
    };
    let last = |call: u64| match call % 3 {
        0 => "200 OK",
        1 => "486 Busy Here",
        _ => "603 Decline",
    };
    vec![
        (0, true, Box::new(|call| request(true, 1, "INVITE", "", call)) as Box<dyn Fn(u64) -> String>),
        (20, false, Box::new(|call| response(false, 1, "INVITE", "100 Trying", call))),
        (90, false, Box::new(|call| response(false, 1, "INVITE", "180 Ringing", call))),
        (2_000, false, Box::new(|call| response(false, 1, "INVITE", "200 OK", call))),
        (2_010, true, Box::new(|call| request(true, 1, "ACK", "", call))),
        (
            9_000,
            false,
            Box::new(|call| request(false, 1, "REFER", "Refer-To: <sip:target@x.example>\r\n", call)),
        ),
        (9_010, true, Box::new(|call| response(true, 1, "REFER", "202 Accepted", call))),
        (9_020, true, Box::new(notify("100 Trying", "active;expires=60"))),
        (9_030, false, Box::new(|call| response(false, 2, "NOTIFY", "200 OK", call))),
        (11_500, true, Box::new(move |call| notify(last(call), "terminated;reason=noresource")(call))),
        (11_510, false, Box::new(|call| response(false, 3, "NOTIFY", "200 OK", call))),
        (12_000, true, Box::new(|call| request(true, 4, "BYE", "", call))),
        (12_010, false, Box::new(|call| response(false, 4, "BYE", "200 OK", call))),
    ]
}

/// A source address that hardly any other message of the flood has.
fn forged(n: u64) -> [u8; 4] {
    let [a, b, c, d] = u32::try_from(n).unwrap().wrapping_mul(0x9e37_79b1).to_be_bytes();
    [10 + (a >> 5), b, c, d]
}

fn junk(text: &mut String, n: u64, flood: Flood) {
    text.clear();
    let pad = "p".repeat(flood.long);
    let (method, tag, more) = if flood.refers {
        ("REFER", ";tag=there", "Refer-To: <sip:target@x.example>\r\n")
    } else {
        ("INVITE", "", "")
    };
    write!(
        text,
        "{method} sip:x@l.example SIP/2.0\r\nVia: SIP/2.0/UDP x.example;branch=z9hG4bKjunk{n}\r\nFrom: \
         <sip:{n}{pad}@x.example>;tag={n}{pad}\r\nTo: <sip:x{pad}@l.example>{tag}\r\nCall-ID: {n}{pad}@x.example\r\n\
         CSeq: 1 {method}\r\n{more}\r\n"
    )
    .unwrap();
}
