//! One frame less never turns a verdict round: of every recorded capture, each frame is left out once, and each
//! beginning is read by itself. What is then missing may make an outcome unknown, or known by less; it never makes
//! a success of a failure, or a failure of a success.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};

use sipobs::capture::Frame;
use sipobs::capture::file::Reader;
use sipobs::engine::{Config, Engine};
use sipobs::privacy::{Mask, Privacy};
use sipobs::transfer::{Attempt, Outcome, Output};

#[test]
fn without_any_one_frame() {
    for (path, frames) in captures() {
        let whole = attempts(frames.iter());
        for lost in 0..frames.len() {
            let rest = frames.iter().enumerate().filter(|(number, _)| *number != lost);
            compare(&whole, &attempts(rest.map(|(_, frame)| frame)), &path, lost);
        }
    }
}

#[test]
fn cut_off_anywhere() {
    for (path, frames) in captures() {
        let whole = attempts(frames.iter());
        for until in 1..frames.len() {
            compare(&whole, &attempts(frames[..until].iter()), &path, until);
        }
    }
}

/// Whether an attempt worked, failed at its target, or neither can be said.
fn verdict(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Succeeded => Some(true),
        Outcome::Busy
        | Outcome::NoAnswer
        | Outcome::Declined
        | Outcome::Forbidden
        | Outcome::NotFound
        | Outcome::Media
        | Outcome::NetworkFailure
        | Outcome::AuthFailed => Some(false),
        _ => None,
    }
}

fn compare(whole: &[Attempt], rest: &[Attempt], path: &Path, at: usize) {
    for attempt in rest {
        let same = whole.iter().find(|known| {
            (&known.call_id, known.method, known.refer_cseq)
                == (&attempt.call_id, attempt.method, attempt.refer_cseq)
        });
        if let Some((known, found)) =
            same.and_then(|same| Some((verdict(same.outcome)?, verdict(attempt.outcome)?)))
        {
            assert_eq!(known, found, "{} at frame {}: {attempt:#?}", path.display(), at + 1);
        }
    }
}

fn captures() -> Vec<(PathBuf, Vec<Frame<'static>>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let mut files: Vec<PathBuf> = ["recorded", "livekit"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "pcap"))
        .collect();
    files.sort();
    assert!(files.len() > 20, "{files:?}");
    files.into_iter().map(|path| (path.clone(), frames(&path))).collect()
}

fn frames(path: &Path) -> Vec<Frame<'static>> {
    let mut reader = Reader::open(path).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        let bytes: &'static [u8] = Vec::leak(frame.bytes.to_vec());
        frames.push(Frame { bytes, ..frame });
    }
    frames
}

fn attempts<'a>(frames: impl Iterator<Item = &'a Frame<'static>>) -> Vec<Attempt> {
    let privacy = Privacy::new(Mask::Full, None).unwrap();
    let mut engine = Engine::new(Config::default(), privacy).unwrap();
    let mut last = None;
    for frame in frames {
        engine.frame(frame);
        last = Some(frame.time);
    }
    engine.finish(last.unwrap());
    let mut attempts = Vec::new();
    while let Some(output) = engine.poll_output() {
        if let Output::Transfer(attempt) = output {
            attempts.push(*attempt);
        }
    }
    attempts
}
