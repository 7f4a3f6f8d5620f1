//! A restart loses no call: of every capture known, the messages before a cut are given to one engine, and those behind it
//! to another that takes up the first one's journal. Both together say, field by field, what a single engine says that
//! nobody fed for a moment there, and nothing twice.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{frames, recorded};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sha2::{Digest as _, Sha256};
use sipobs::config::Config;
use sipobs::engine::{self, Engine};
use sipobs::frame::Frame;
use sipobs::journal::Journal;
use sipobs::packet::{self, Packets};
use sipobs::privacy::{Mask, Privacy};
use sipobs::record::{Method, Output};
use sipobs::stream::{self, Loss, Streams, TransportKind, WireMessage};
use sipobs::timestamp::Timestamp;

/// Messages that are heard over and over for the cuts of one capture: unoptimised code gets fewer cuts.
const MOST_HEARD: usize = if cfg!(debug_assertions) { 100 } else { 400 };

#[test]
fn one_restart_anywhere() {
    let (mut wrong, mut cuts) = (Vec::new(), 0);
    for_each_capture(|name, config, heard| {
        for cut in (1..heard.len()).step_by(step(heard.len())) {
            cuts += 1;
            compare(name, config, heard, &[cut], &mut wrong);
        }
    });
    assert!(wrong.is_empty(), "{} of {cuts} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cuts > 1000, "only {cuts} cuts");
}

#[test]
fn two_restarts_anywhere() {
    let mut wrong = Vec::new();
    for_each_capture(|name, config, heard| {
        let step = 3 * step(heard.len());
        for first in (1..heard.len()).step_by(step) {
            for second in (first..heard.len()).step_by(2 * step) {
                compare(name, config, heard, &[first, second], &mut wrong);
            }
        }
    });
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whatever the successor thinks of it, and however soon: what was said is not said again, and what was not is.
#[test]
fn a_successor_of_other_rules_says_nothing_twice_and_leaves_nothing_out() {
    for_each_capture(|name, config, heard| {
        let mut other = config.clone();
        other.transfer.timers.ended = Duration::from_secs(1);
        other.transfer.timers.grace = Duration::from_millis(100);
        other.transfer.timers.target = Duration::from_secs(1);
        let whole = outputs(config, heard, &[], false);
        for cut in (1..heard.len()).step_by(heard.len().div_ceil(3)) {
            let mut said = Vec::new();
            let mut engine = start(config);
            hear(&mut engine, &heard[..cut], &mut said);
            let mut engine = replace(&mut engine, &other, heard[cut - 1].time(), &mut said);
            hear(&mut engine, &heard[cut..], &mut said);
            engine.finish(heard[heard.len() - 1].time());
            said.extend(std::iter::from_fn(|| engine.poll_output()));
            let refers = |outputs: &[Output]| {
                let mut refers: Vec<String> = outputs.iter().filter_map(refer).collect();
                refers.sort();
                refers
            };
            assert_eq!(refers(&said), refers(&whole), "{name} at {cut}");
            let mut calls: Vec<_> = said.iter().filter_map(call).collect();
            calls.sort();
            let told = calls.len();
            calls.dedup();
            assert_eq!(told, calls.len(), "{name} at {cut}: {calls:?}");
        }
    });
}

fn refer(output: &Output) -> Option<String> {
    match output {
        Output::Transfer(attempt) if attempt.method == Method::Refer => Some(attempt.id.clone()),
        _ => None,
    }
}

fn call(output: &Output) -> Option<(String, Timestamp)> {
    match output {
        Output::Call(call) => Some((call.call_id.clone(), call.started)),
        _ => None,
    }
}

/// Nobody but sipobs should write there; whoever does shall not bring it down.
#[test]
fn a_journal_that_somebody_else_wrote_does_no_harm() {
    let case = golden().into_iter().find(|case| case.ends_with("13d_long_consultation")).unwrap();
    let mut config = engine::Config::default();
    config.transfer.limits.journal = 8 << 20;
    let heard = messages(&config, &frames(&case.join("input.pcap")));
    let mut engine = start(&config);
    hear(&mut engine, &heard[..heard.len() * 2 / 3], &mut Vec::new());
    let mut whole = Vec::new();
    engine.take_journal(heard[heard.len() * 2 / 3].time()).write(&mut whole).unwrap();
    let head = Journal::MARK.len() + 1;
    let content = &whole[head..whole.len() - 32];
    assert!(content.len() > 5000);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() });
    let read = std::cell::Cell::new(0);
    runner
        .run(&(changes, any::<prop::sample::Index>(), any::<bool>()), |(changes, end, cut)| {
            let mut bytes = whole[..head].to_vec();
            bytes.extend_from_slice(&content[..if cut { end.index(content.len()) } else { content.len() }]);
            for (at, with) in changes {
                if let Some(byte) = bytes[head..].get_mut(at.index(content.len())) {
                    *byte = with;
                }
            }
            let sum = Sha256::digest(&bytes);
            bytes.extend_from_slice(&sum);
            if let Ok(journal) = Journal::read(&bytes) {
                read.set(read.get() + 1);
                let mut engine = start(&config);
                engine.resume(&journal);
                hear(&mut engine, &heard[heard.len() * 2 / 3..], &mut Vec::new());
                engine.finish(heard[heard.len() - 1].time());
                start(&config).settle(&journal);
            }
            Ok(())
        })
        .unwrap();
    assert!(read.get() > 100, "only {} could be read", read.get());
}

/// From one cut to the next, in a capture of so many messages.
fn step(messages: usize) -> usize {
    messages.div_ceil((MOST_HEARD / messages.max(1)).max(2))
}

/// What an engine hears.
enum Heard {
    Message {
        time: Timestamp,
        frame: u64,
        hosts: (SocketAddr, SocketAddr),
        transport: TransportKind,
        bytes: Vec<u8>,
        cut: bool,
    },
    Loss(Timestamp, Loss),
}

impl Heard {
    fn time(&self) -> Timestamp {
        match self {
            Self::Message { time, .. } | Self::Loss(time, _) => *time,
        }
    }
}

fn for_each_capture(mut each: impl FnMut(&str, &engine::Config, &[Heard])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let golden = golden().into_iter().map(|case| {
        let config = Some(case.join("config.toml")).filter(|path| path.exists());
        (case.join("input.pcap"), config)
    });
    for (path, config) in recorded().into_iter().map(|path| (path, None)).chain(golden) {
        let (config, _) = Config::load(config.as_deref(), []).unwrap();
        let mut config = config.engine();
        config.transfer.notices = true;
        config.transfer.limits.journal = 8 << 20;
        // Messages as they are heard have their true times: the stage that sees to that comes before.
        if path.ends_with("66d_one_frame_a_year_ahead/input.pcap") {
            continue;
        }
        let heard = messages(&config, &frames(&path));
        each(&path.strip_prefix(&root).unwrap().display().to_string(), &config, &heard);
    }
}

/// The messages of a capture, and what is known to be missing of them.
fn messages(config: &engine::Config, frames: &[Frame<'_>]) -> Vec<Heard> {
    let mut packets = Packets::new(config.packet.clone());
    let mut streams = Streams::new(config.stream.clone());
    let mut heard = Vec::new();
    let mut last = Timestamp::default();
    for frame in frames {
        last = last.max(frame.time);
        streams.handle_timeout(last, &mut |item| note(&mut heard, last, &item));
        packets.push(frame, &mut |item| match item {
            packet::Item::Packet(packet) => streams.push(&packet, &mut |item| note(&mut heard, last, &item)),
            packet::Item::Loss(loss) => heard.push(Heard::Loss(last, loss)),
        });
    }
    streams.finish(last, &mut |item| note(&mut heard, last, &item));
    heard
}

fn note(heard: &mut Vec<Heard>, now: Timestamp, item: &stream::Item<'_>) {
    heard.push(match item {
        stream::Item::Message(wire, _) => Heard::Message {
            time: now.max(wire.time),
            frame: wire.frame,
            hosts: (wire.src, wire.dst),
            transport: wire.transport,
            bytes: wire.bytes.to_vec(),
            cut: wire.cut,
        },
        stream::Item::Loss(loss) => Heard::Loss(now, *loss),
    });
}

/// Holds the outputs of engines that take over from each other at `cuts` against those of a single one.
fn compare(name: &str, config: &engine::Config, heard: &[Heard], cuts: &[usize], wrong: &mut Vec<String>) {
    let whole = outputs(config, heard, cuts, false);
    let parts = outputs(config, heard, cuts, true);
    if format!("{whole:?}") != format!("{parts:?}") {
        let differs =
            whole.iter().zip(&parts).position(|(whole, part)| format!("{whole:?}") != format!("{part:?}"));
        let at = differs.unwrap_or(whole.len().min(parts.len()));
        let text = |outputs: &[Output]| outputs.get(at).map_or(String::new(), |output| format!("{output:?}"));
        let (whole, parts) = (text(&whole), text(&parts));
        wrong.push(format!("{name} at {cuts:?}: output {at}:\n    {whole}\n    {parts}"));
    }
}

fn outputs(config: &engine::Config, heard: &[Heard], cuts: &[usize], restarts: bool) -> Vec<Output> {
    let mut engine = start(config);
    let mut said = Vec::new();
    let mut last = Timestamp::default();
    for (number, item) in heard.iter().enumerate() {
        for _ in cuts.iter().filter(|cut| **cut == number) {
            if restarts {
                engine = replace(&mut engine, config, last, &mut said);
            } else {
                engine.handle_timeout(last);
                engine.note_loss(Loss::Restart);
            }
        }
        last = last.max(item.time());
        hear(&mut engine, std::slice::from_ref(item), &mut said);
    }
    engine.finish(last);
    said.extend(std::iter::from_fn(|| engine.poll_output()));
    said
}

fn hear(engine: &mut Engine, heard: &[Heard], said: &mut Vec<Output>) {
    for item in heard {
        match item {
            Heard::Message { time, frame, hosts: (src, dst), transport, bytes, cut } => {
                engine.message(&WireMessage {
                    time: *time,
                    frame: *frame,
                    src: *src,
                    dst: *dst,
                    transport: *transport,
                    seq: None,
                    bytes,
                    cut: *cut,
                    originated: false,
                });
            }
            Heard::Loss(_, loss) => engine.note_loss(*loss),
        }
        said.extend(std::iter::from_fn(|| engine.poll_output()));
    }
}

/// Another engine in the place of this one.
fn replace(engine: &mut Engine, config: &engine::Config, now: Timestamp, said: &mut Vec<Output>) -> Engine {
    let journal = engine.take_journal(now);
    said.extend(std::iter::from_fn(|| engine.poll_output()));
    let mut bytes = Vec::new();
    journal.write(&mut bytes).unwrap();
    let mut successor = start(config);
    successor.restore_ratio(engine.transfers().ratio_state());
    successor.resume(&Journal::read(&bytes).unwrap());
    successor
}

fn start(config: &engine::Config) -> Engine {
    Engine::new(config.clone(), Privacy::new(Mask::Full, None).unwrap()).unwrap()
}

/// The folders of the golden cases, in the order of their names.
fn golden() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(cases.len() >= 175, "only {} cases found", cases.len());
    cases
}
