use std::path::{Path, PathBuf};

use sipobs::capture::file::{Capture, Next};
use sipobs::config::RecorderConfig;
use sipobs::engine::Engine;
use sipobs::frame::{Direction, LinkType};
use sipobs::record::{Call, Parties, ReferAbsent, Seen};

use super::*;

/// Longer than any test here takes.
const LIMIT: Duration = Duration::from_secs(60);

fn config(folder: &Path, base: Config, redact: config::Redact) -> Config {
    let folder = Some(folder.to_owned());
    // What is asked for waits until the end of the capture.
    let recorder =
        RecorderConfig { folder, redact, after: Duration::from_secs(3600), ..RecorderConfig::default() };
    Config { recorder, ..base }
}

/// A call that lacks a REFER.
fn flagged(call_id: &str) -> Output {
    Output::Call(Box::new(Call {
        call_id: call_id.to_owned(),
        started: Timestamp::from_nanos(1_700_000_000_000_000_000),
        answered: None,
        ended: Timestamp::from_nanos(1_700_000_001_000_000_000),
        ended_by: None,
        status: None,
        trunk: "other".into(),
        transfers: 0,
        trace_id: None,
        evidence_file: None,
        refer_absent: ReferAbsent::MethodSwitched,
        in_transfer: false,
        seen: Seen::None,
        hosts: [[10, 78, 0, 1].into(), [10, 78, 0, 2].into()],
        parties: Parties::NONE,
    }))
}

fn request(call_id: &str) -> Order {
    Order::of(&flagged(call_id), Timestamp::default()).unwrap()
}

fn frame(number: u64) -> Frame<'static> {
    Frame {
        time: Timestamp::from_nanos(1_700_000_000_000_000_000),
        number,
        interface: 1,
        direction: Direction::Ingress,
        link: LinkType::Ethernet,
        wire_len: 4,
        bytes: b"some",
    }
}

fn golden_cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let all = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = all.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

/// Reads a capture as the capture thread reads the rings; gives what was written.
fn recorded(case: &Path, redact: config::Redact) -> RecorderCounts {
    let file = Some(case.join("config.toml")).filter(|file| file.exists());
    let (base, _) = Config::load(file.as_deref(), []).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("evidence"), base, redact);
    let folder = Folder::open(&config.recorder).unwrap().unwrap();
    let mut recorder = Recorder::start(folder, &config, LIMIT).unwrap();
    let mut engine = Engine::new(config.engine(), config.privacy().unwrap()).unwrap();
    let mut capture = Capture::open(&[case.join("input.pcap")], &Stop::never()).unwrap();
    let drain = |engine: &mut Engine, recorder: &mut Recorder, now| {
        while let Some((mut output, request)) =
            engine.poll_output_seen(|output| Order::of(output, Timestamp::default()))
        {
            let Some(request) = request else { continue };
            recorder.write(request, &mut output, Some(now));
            match output {
                Output::Transfer(attempt) => assert!(attempt.evidence_file.is_some()),
                Output::Call(call) => assert!(call.evidence_file.is_some()),
                Output::Alert(_) | Output::Notice(_) => panic!("no file is written of these"),
            }
        }
    };
    let mut last = Timestamp::default();
    while let Some(next) = capture.next() {
        let Next::Frame(frame) = next else { continue };
        last = frame.time;
        recorder.frame(&frame);
        engine.frame(&frame);
        drain(&mut engine, &mut recorder, last);
    }
    engine.finish(last);
    drain(&mut engine, &mut recorder, last);
    let counts = recorder.counts.clone();
    recorder.finish(LIMIT).unwrap();
    let counts = counts.all();
    let there = std::fs::read_dir(dir.path().join("evidence")).unwrap().count();
    assert_eq!(there as u64, counts.written, "{}", case.display());
    counts
}

/// Each golden case, masked and not by turns.
#[test]
fn every_file_gives_the_verdict_that_was_said() {
    let mut written = 0;
    let mut wrong = Vec::new();
    for (number, case) in golden_cases().iter().enumerate() {
        let redact = if number % 2 == 0 { config::Redact::Parties } else { config::Redact::Nothing };
        let counts = recorded(case, redact);
        written += counts.written;
        if counts.differing > 0 || counts.frames_dropped > 0 {
            wrong.push(format!("{}: {counts:?}", case.display()));
        }
    }
    assert!(written > 200, "{written}");
    assert!(wrong.is_empty(), "{} of {written} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nothing_waits_for_a_recorder_that_is_behind() {
    let (queue, items) = sync_channel(2);
    let (_done, over) = sync_channel(1);
    let since = Timestamp::default();
    let mut recorder = Recorder { since, batch: Batch::default(), queue, counts: Counts::new(), over };
    let mut sent = 0;
    while recorder.counts().frames_dropped == 0 {
        recorder.frame(&frame(sent));
        sent += 1;
    }
    let mut output = flagged("a");
    recorder.write(request("a"), &mut output, None);
    let Output::Call(call) = &output else { panic!("a call") };
    assert_eq!(call.evidence_file, None, "no file is named that nobody writes");
    let counts = recorder.counts();
    assert_eq!(counts.files_dropped[Dropped::QueueFull as usize], ("queue_full", 1));
    let queued: u64 =
        items.try_iter().map(|item| if let Item::Frames(it) = item { it.len() as u64 } else { 0 }).sum();
    assert_eq!(queued + counts.frames_dropped, sent);
}

#[test]
fn calls_that_anybody_can_forge_make_way_and_there_is_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), Config::default(), config::Redact::Parties);
    let folder = Folder::open(&config.recorder).unwrap().unwrap();
    let mut keeper = Keeper::new(folder, config, Counts::new());
    let dropped = |keeper: &Keeper| keeper.counts.lock().files_dropped[Dropped::Crowded as usize].1;
    for _ in 0..CROWDED + 10 {
        keeper.take(Item::File(Box::new(request("a"))));
    }
    assert_eq!((keeper.waiting.len(), dropped(&keeper)), (CROWDED, 10));
    for _ in 0..CROWDED + 10 {
        keeper.take(Item::File(Box::new(Order { is_one_sided: false, ..request("b") })));
    }
    assert_eq!((keeper.waiting.len(), dropped(&keeper)), (MOST_WAITING, 20));
}

#[test]
fn only_what_failed_or_is_flagged_is_written() {
    let Output::Call(call) = flagged("a") else { panic!("a call") };
    for (refer_absent, wanted) in [
        (ReferAbsent::No, false),
        (ReferAbsent::Fact { invite_unknown: false }, false),
        (ReferAbsent::Suspected { score: 3.0, signals: Vec::new() }, true),
        (ReferAbsent::MethodSwitched, true),
    ] {
        let call = Output::Call(Box::new(Call { refer_absent, ..(*call).clone() }));
        assert_eq!(Order::of(&call, Timestamp::default()).is_some(), wanted, "{call:?}");
    }
    let ids: Vec<String> = ["a", "a", "b"].map(|call_id| request(call_id).id).into();
    assert!(ids[0] == ids[1] && ids[0] != ids[2], "{ids:?}");
    assert!(ids.iter().all(|id| folder::name(id).is_some()), "{ids:?}");
}

#[test]
fn a_file_says_what_is_missing() {
    let since = Some(Timestamp::from_nanos(1_700_000_000_000_000_000));
    let whole = comment("49c6b89c630d0b84", since, &Written::default(), 0);
    assert_eq!(
        whole,
        "The packets of 49c6b89c630d0b84, of the frames that are kept, since 2023-11-14T22:13:20.000000Z."
    );
    let cut = comment("x", since, &Written { without_beginning: 1, sealed: 2, ..Written::default() }, 7);
    for part in
        ["Missing: the INVITE that began 1 of its calls", "2 messages that came over WebSocket", " 7 frames"]
    {
        assert!(cut.contains(part), "{part}: {cut}");
    }
}
