//! Many calls at once: each transfer among them is found and judged as if it were alone, or it is said what stood in
//! the way. Unoptimised code gets a tenth of the calls and of the memory, but where it is the number of calls that
//! matters; `cargo xtask test scale` runs all of them at full size, in release.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;
use std::vec;

use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::record::{Attempt, LinkMethod, Outcome, Output};
use sipobs::stream::{TransportKind, WireMessage};
use sipobs::timestamp::Timestamp;

use self::script::By::{Callee, Caller};
use self::script::{Leg, Party, party};

#[allow(dead_code, reason = "ordinary calls say more")]
#[path = "../ordinary/script.rs"]
mod script;

const TRUNK: &str = "192.0.2.1:5060";
const PLATFORM: &str = "192.0.2.2:5060";
const CARRIER: &str = "192.0.2.3:5060";

/// What an unoptimised test leaves out.
const PART: u64 = if cfg!(debug_assertions) { 10 } else { 1 };
const SECOND: u64 = 1_000_000;
/// Begun a second.
const RATE: u64 = 1_000 / PART;

/// The caller's number in From of the second leg tells whose it is, however many are up.
#[test]
fn second_legs_are_found_however_many_calls_are_up() {
    for calls in sizes([17_000, 18_000, 20_000, 30_000]).map(|calls| calls / PART) {
        let mut engine = engine(256 / PART);
        let attempts = play(&mut engine, with_second_legs(calls, calls, true));
        assert_eq!(attempts.len() as u64, calls);
        for attempt in attempts {
            let number = attempt.target_call_id.as_deref().unwrap().replace('b', "a");
            assert_eq!((attempt.call_id, attempt.outcome), (Some(number), Outcome::Succeeded));
        }
        assert!(engine.counters().lost().is_empty(), "{:?}", engine.counters().lost());
    }
}

/// The platform's own number says only that it is one of the calls to that number.
#[test]
fn second_legs_of_calls_that_share_their_numbers_are_attempts_however_many() {
    // The number of calls matters here, so that they are as many unoptimised, too.
    for calls in sizes([4_200, 4_096, 4_097, 8_000]) {
        let mut engine = engine(256);
        let attempts = play(&mut engine, with_second_legs(calls, 200, false));
        let mut of: BTreeMap<_, _> =
            attempts.iter().map(|attempt| (attempt.target_call_id.as_deref().unwrap(), attempt)).collect();
        assert_eq!((attempts.len(), of.len() as u64), (of.len(), calls));
        for call in 0..calls {
            let attempt = of.remove(&*call_id('b', call)).unwrap();
            assert_eq!(attempt.outcome, Outcome::Succeeded, "{attempt:?}");
            let link = attempt.link.as_ref().unwrap();
            assert_eq!(attempt.call_id.is_none(), link.method == LinkMethod::Ambiguous, "{attempt:?}");
        }
        assert!(engine.counters().lost().is_empty(), "{:?}", engine.counters().lost());
    }
}

/// Five hundred calls a second, each up for a minute, every tenth referred on.
#[test]
fn every_tenth_of_many_calls_is_referred_on_and_nothing_else_is_said() {
    let calls = 50_000 / PART;
    let mut engine = engine(256 / PART);
    let legs = (0..calls).map(|call| {
        let mut leg = inbound(call, call * SECOND * PART / 500, call);
        if call.is_multiple_of(10) {
            refer(leg.wait(9_000));
            told(leg.wait(4_000));
        }
        leg.at = call * SECOND * PART / 500 + 60 * SECOND;
        leg.bye(Caller);
        leg.messages
    });
    let attempts = play(&mut engine, legs);
    let succeeded = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Succeeded).count() as u64;
    assert_eq!((attempts.len() as u64, succeeded), (calls / 10, calls / 10));
    assert!(engine.counters().lost().is_empty(), "{:?}", engine.counters().lost());
}

/// All that there is room for is calls with a transfer under way: some of them have to go, and are told of.
#[test]
fn a_transfer_whose_call_there_is_no_room_for_is_one_attempt_with_its_true_reason() {
    let calls = 800;
    let mut engine = engine(3);
    let legs = (0..calls).map(|call| {
        let mut leg = inbound(call, call * 5_000, call);
        refer(leg.wait(2_000));
        told(leg.wait(12_000));
        leg.wait(1_000).bye(Caller);
        leg.messages
    });
    let attempts = play(&mut engine, legs);
    let mut of: BTreeMap<_, Vec<Attempt>> = BTreeMap::new();
    for attempt in attempts {
        of.entry(attempt.call_id.clone().unwrap()).or_default().push(attempt);
    }
    let mut evicted = 0;
    for call in 0..calls {
        let of = of.remove(&call_id('a', call)).unwrap_or_default();
        let [attempt] = &of[..] else { panic!("{} attempts: {of:?}", of.len()) };
        if attempt.outcome == Outcome::Succeeded {
            continue;
        }
        let reason = "its call was let go of for want of memory before the outcome was told";
        assert_eq!(attempt.outcome, Outcome::Unknown, "{attempt:?}");
        assert!(attempt.diagnosis.iter().any(|one| one.because.contains(reason)), "{attempt:?}");
        assert!(attempt.quality.evicted_calls > 0, "{attempt:?}");
        evicted += 1;
    }
    assert!(of.is_empty(), "{of:?}");
    assert!(evicted > 100, "{evicted} of {calls}");
    // Calls that were not yet referred went first; of a REFER in what was left of them all was heard.
    let lost = engine.counters().lost();
    assert!(lost.keys().eq(["evicted_calls"].iter()) && lost["evicted_calls"] >= evicted, "{lost:?}");
}

/// The sizes of a test; unoptimised, the first alone.
fn sizes<const N: usize>(all: [u64; N]) -> impl Iterator<Item = u64> {
    all.into_iter().take(if PART == 1 { N } else { 1 })
}

/// Calls to so many numbers that are all up before the first of them gets its second leg, and until the last has.
fn with_second_legs(calls: u64, numbers: u64, passed_on: bool) -> impl Iterator<Item = Vec<Message>> {
    let all_up = calls * SECOND / RATE + 5 * SECOND;
    let inbound = move |call| {
        let mut leg = inbound(call, call * SECOND / RATE, call % numbers);
        leg.at = all_up * 2 + 20 * SECOND + call * SECOND / RATE;
        leg.bye(Caller);
        leg.messages
    };
    let second = move |call| {
        let shown = if passed_on { caller(call) } else { called(call % numbers) };
        let target = party(CARRIER, format!("+1800{call:07}"));
        let at = all_up + call * SECOND / RATE;
        let mut leg = Leg::new(&format!("b{call}"), at, Party { user: shown, ..party(PLATFORM, "") }, target);
        leg.ring("").pick_up(4_000);
        leg.at = all_up * 2 + 20 * SECOND + call * SECOND / RATE + SECOND / 2;
        leg.bye(Caller);
        leg.messages
    };
    (0..calls).map(inbound).chain((0..calls).map(second))
}

/// A call from outside to one of the platform's numbers, picked up.
fn inbound(call: u64, at: u64, number: u64) -> Leg {
    let mut leg =
        Leg::new(&format!("a{call}"), at, party(TRUNK, caller(call)), party(PLATFORM, called(number)));
    leg.ring("").pick_up(1_000);
    leg
}

fn refer(leg: &mut Leg) {
    leg.request(Callee, "REFER", "Refer-To: <sip:+18005550100@192.0.2.3>", "");
    leg.wait(20).answer(Callee, "202 Accepted", "REFER", "");
    notify(leg, "active;expires=60", "100 Trying");
}

fn told(leg: &mut Leg) {
    notify(leg, "terminated;reason=noresource", "200 OK");
}

fn notify(leg: &mut Leg, state: &str, status: &str) {
    let headers =
        format!("Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag;version=2.0");
    leg.wait(20).exchange(Caller, "NOTIFY", &headers, &format!("SIP/2.0 {status}\r\n"));
}

fn caller(call: u64) -> String {
    format!("+1415{call:07}")
}

fn called(number: u64) -> String {
    format!("+1510{number:07}")
}

fn call_id(leg: char, call: u64) -> String {
    format!("{leg}{call}@ordinary.example")
}

fn engine(mebibytes: u64) -> Engine {
    let config: Config = toml::from_str(&format!("[limits]\nmemory = \"{mebibytes} MiB\"")).unwrap();
    Engine::new(config.engine(), config.privacy().unwrap()).unwrap()
}

/// A message on its way.
struct Message {
    /// Microseconds since the start.
    at: u64,
    from: SocketAddr,
    to: SocketAddr,
    text: String,
}

/// Lets the engine hear legs, given in the order in which they begin, to their end. Gives the attempts.
fn play(engine: &mut Engine, legs: impl Iterator<Item = Vec<Message>>) -> Vec<Attempt> {
    let mut legs = legs.map(Vec::into_iter).peekable();
    let mut under_way = BinaryHeap::new();
    let (mut attempts, mut frame, mut now) = (Vec::new(), 0, Timestamp::from_nanos(0));
    loop {
        let next = legs.peek().map(|leg| leg.as_slice()[0].at);
        if let Some(next) = next
            && under_way.peek().is_none_or(|Reverse(leg): &Reverse<UnderWay>| leg.at() >= next)
        {
            let leg = legs.next().unwrap();
            under_way.push(Reverse(UnderWay { begun: frame, leg }));
            continue;
        }
        let Some(Reverse(mut first)) = under_way.pop() else { break };
        let message = first.leg.next().unwrap();
        if !first.leg.as_slice().is_empty() {
            under_way.push(Reverse(first));
        }
        frame += 1;
        now = Timestamp::from_nanos(0) + Duration::from_micros(message.at);
        engine.message(&WireMessage {
            time: now,
            frame,
            src: message.from,
            dst: message.to,
            transport: TransportKind::Udp,
            seq: None,
            bytes: message.text.as_bytes(),
            cut: false,
            originated: false,
        });
        drain(engine, &mut attempts);
    }
    engine.finish(now + Duration::from_secs(300));
    drain(engine, &mut attempts);
    attempts
}

fn drain(engine: &mut Engine, attempts: &mut Vec<Attempt>) {
    while let Some(output) = engine.poll_output() {
        if let Output::Transfer(attempt) = output {
            attempts.push(*attempt);
        }
    }
}

/// What a leg has not yet said, in order of its next message.
struct UnderWay {
    /// How many messages there were when it began.
    begun: u64,
    leg: vec::IntoIter<Message>,
}

impl UnderWay {
    fn at(&self) -> u64 {
        self.leg.as_slice()[0].at
    }
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at(), self.begun).cmp(&(other.at(), other.begun))
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for UnderWay {}
