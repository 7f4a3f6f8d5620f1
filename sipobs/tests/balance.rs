//! Every frame that the engine takes is accounted for, at any moment and whatever it is: the residual of
//! `Counters::balance` is 0.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use sipobs::capture::file::Reader;
use sipobs::engine::{Balance, Config, Engine};
use sipobs::frame::{Direction, Frame, LinkType};
use sipobs::privacy::{Mask, Privacy};
use sipobs::timestamp::Timestamp;

/// A frame of a capture, kept.
#[derive(Clone, Debug)]
struct Kept {
    time: Timestamp,
    link: LinkType,
    wire_len: u32,
    bytes: Vec<u8>,
}

fn engine(config: Config) -> Engine {
    Engine::new(config, Privacy::new(Mask::Full, None).unwrap()).unwrap()
}

/// Gives a frame, and holds what came of all frames to residual 0.
fn give(engine: &mut Engine, number: u64, kept: &Kept) -> Balance {
    engine.frame(&Frame {
        time: kept.time,
        number,
        interface: 0,
        direction: Direction::Unknown,
        link: kept.link,
        wire_len: kept.wire_len,
        bytes: &kept.bytes,
    });
    let balance = balanced(engine);
    assert_eq!(balance.delivered, number);
    balance
}

fn balanced(engine: &Engine) -> Balance {
    let counters = engine.counters();
    let balance = counters.balance();
    assert_eq!((balance.residual(), balance.residual_messages()), (0, 0), "{balance:?} {counters:#?}");
    balance
}

/// Every capture below `folder`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "pcap" || kind == "pcapng") {
            found.push(path);
        }
    }
    found.sort();
}

fn captures(folder: &str) -> Vec<(PathBuf, Vec<Kept>)> {
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder), &mut paths);
    let read = |path: PathBuf| {
        let mut reader = Reader::open(&path).unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().unwrap() {
            let Frame { time, link, wire_len, .. } = frame;
            frames.push(Kept { time, link, wire_len, bytes: frame.bytes.to_vec() });
        }
        (path, frames)
    };
    paths.into_iter().map(read).collect()
}

static RECORDED: LazyLock<Vec<Kept>> =
    LazyLock::new(|| captures("captures").into_iter().flat_map(|(_, frames)| frames).collect());

#[test]
fn every_capture_leaves_no_residue() {
    let mut read = 0;
    for (path, frames) in [captures("captures"), captures("golden")].concat() {
        let mut engine = engine(Config::default());
        for (number, frame) in frames.iter().enumerate() {
            give(&mut engine, number as u64 + 1, frame);
        }
        engine.finish(frames.last().map_or_else(Timestamp::default, |frame| frame.time));
        let balance = balanced(&engine);
        // Some golden cases have lost frames on purpose; nothing breaks the rules or comes near a limit.
        let unused = (balance.buffered, balance.malformed, balance.capped);
        assert_eq!(unused, (0, 0, 0), "{}: {balance:?} {:#?}", path.display(), engine.counters());
        assert!(balance.parsed + balance.joined > 0, "{}: {balance:?}", path.display());
        read += 1;
    }
    assert!(read > 80, "only {read} captures found");
}

/// What is done to a frame of a capture before it is given.
#[derive(Clone, Debug)]
enum Harm {
    None,
    Twice,
    /// Some of its end was not captured.
    CutShort(prop::sample::Index),
    /// Its end is not there, and nobody knows.
    Shorter(prop::sample::Index),
    Byte(prop::sample::Index, u8),
    /// Its IP header says that it is a fragment.
    Fragment(u16),
    Noise(Vec<u8>),
    Drop,
}

fn harm() -> impl Strategy<Value = Harm> {
    use prop::sample::Index;
    prop_oneof![
        4 => Just(Harm::None),
        1 => Just(Harm::Twice),
        1 => any::<Index>().prop_map(Harm::CutShort),
        1 => any::<Index>().prop_map(Harm::Shorter),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Harm::Byte(at, value)),
        1 => any::<u16>().prop_map(|flags| Harm::Fragment(flags & 0x200f)),
        1 => prop::collection::vec(any::<u8>(), 0..120).prop_map(Harm::Noise),
        1 => Just(Harm::Drop),
    ]
}

fn harmed(kept: &Kept, harm: &Harm) -> Vec<Kept> {
    let mut one = kept.clone();
    match harm {
        Harm::None => {}
        Harm::Twice => return vec![one.clone(), one],
        Harm::CutShort(at) => one.bytes.truncate(at.index(kept.bytes.len() + 1)),
        Harm::Shorter(at) => {
            one.bytes.truncate(at.index(kept.bytes.len() + 1));
            one.wire_len = u32::try_from(one.bytes.len()).unwrap();
        }
        Harm::Byte(at, value) => {
            let at = at.index(one.bytes.len());
            one.bytes[at] = *value;
        }
        Harm::Fragment(flags) => {
            if let Some(field) = one.bytes.get_mut(20..22) {
                field.copy_from_slice(&flags.to_be_bytes());
            }
        }
        Harm::Noise(bytes) => one.bytes.clone_from(bytes),
        Harm::Drop => return Vec::new(),
    }
    vec![one]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Frames of any captures, damaged, repeated, lost, and mixed, under limits that bite.
    #[test]
    fn hostile_frames_leave_no_residue(
        runs in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..60), 1..6),
        harms in prop::collection::vec(harm(), 300),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
        pace in 0_i64..2_000,
        small in any::<bool>(),
    ) {
        let mut frames: Vec<Kept> = Vec::new();
        for (start, len) in runs {
            let start = start.index(RECORDED.len());
            frames.extend_from_slice(&RECORDED[start..(start + len).min(RECORDED.len())]);
        }
        let mut frames: Vec<Kept> = frames.iter().zip(&harms).flat_map(|(kept, harm)| harmed(kept, harm)).collect();
        if frames.is_empty() {
            return Ok(());
        }
        for (a, b) in swaps {
            let (a, b) = (a.index(frames.len()), b.index(frames.len()));
            frames.swap(a, b);
        }
        let mut config = Config::default();
        if small {
            config.packet.max_fragment_bytes = 4_000;
            config.stream.max_bytes = 8_000;
            config.stream.max_stream_bytes = 2_000;
            config.stream.max_message_bytes = 1_200;
        }
        let mut engine = engine(config);
        let mut last = Timestamp::default();
        for (number, frame) in frames.iter_mut().enumerate() {
            frame.time = Timestamp::from_nanos(1_700_000_000_000_000_000 + number as i64 * pace * 1_000_000);
            last = frame.time;
            give(&mut engine, number as u64 + 1, frame);
        }
        engine.finish(last);
        prop_assert_eq!(balanced(&engine).buffered, 0);
    }
}
