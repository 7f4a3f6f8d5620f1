//! Ten thousand ordinary calls hold no transfer: whatever is found in them is a false alarm.
//!
//! Calls to a voice-agent platform and through a PBX, from its phones and to them, with all that SIP does besides
//! transferring: refreshes, holds, forks, failures, challenges, pick-ups, other event packages, copies. Each
//! habit has its function in [`calls`]; the seed names the run.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use sipobs::engine::{Config, Engine};
use sipobs::privacy::{Mask, Privacy};
use sipobs::record::{Output, ReferAbsent};
use sipobs::stream::{TransportKind, WireMessage};
use sipobs::timestamp::Timestamp;

mod calls;
mod script;

use script::Dice;

const CALLS: u32 = 10_000;

#[test]
fn ten_thousand_ordinary_calls_raise_nothing() {
    let mut dice = Dice(7);
    let mut messages = Vec::new();
    let mut made = BTreeMap::new();
    let mut legs = 0;
    for number in 0..CALLS {
        // A call every three seconds: about forty are up at a time.
        let at = u64::from(number) * 3_000_000 + dice.below(1_000_000);
        let (kind, call) = calls::any(number, at, &mut dice);
        *made.entry(kind).or_insert(0) += 1;
        legs += call.legs;
        messages.extend(call.messages);
    }
    messages.sort_by_key(|message| message.at);

    let mut engine = Engine::new(Config::default(), Privacy::new(Mask::Full, None).unwrap()).unwrap();
    let start = Timestamp::from_nanos(1_767_603_600_000_000_000);
    let mut last = start;
    for (frame, message) in (1..).zip(&messages) {
        last = start + Duration::from_micros(message.at);
        engine.message(&WireMessage {
            time: last,
            frame,
            src: message.from,
            dst: message.to,
            transport: TransportKind::Udp,
            seq: None,
            bytes: message.text.as_bytes(),
            cut: false,
            originated: false,
        });
    }
    engine.finish(last + Duration::from_secs(300));

    let (mut false_alarms, mut told) = (Vec::new(), 0);
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Call(call) => {
                told += 1;
                if !matches!(call.refer_absent, ReferAbsent::No | ReferAbsent::Fact { .. }) {
                    false_alarms.push(format!("{call:?}"));
                }
            }
            other => false_alarms.push(format!("{other:?}")),
        }
    }
    assert!(made.len() > 20 && made.values().all(|count| *count > 50), "too little variety: {made:?}");
    assert!(false_alarms.is_empty(), "{} of {made:?}, the first: {}", false_alarms.len(), false_alarms[0]);
    assert_eq!(engine.transfers().counts().calls, legs, "every leg is a call, and nothing else is");
    assert_eq!(told, legs, "each is told of once it has ended");
    assert!(engine.counters().unparsed.is_empty(), "{:?}", engine.counters().unparsed);
}

/// A message on its way.
struct Message {
    /// Microseconds since the start.
    at: u64,
    from: SocketAddr,
    to: SocketAddr,
    text: String,
}
