//! A clock that lies turns no verdict: in every recorded capture the time of any one frame is put elsewhere, and the
//! clock is set before any one frame. What is said stays the same, but for the times.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use common::{frames, recorded};
use sipobs::engine::{Config, Engine};
use sipobs::frame::Frame;
use sipobs::privacy::{Mask, Privacy};
use sipobs::record::{Method, Outcome, Output};
use sipobs::timestamp::Timestamp;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;

/// What is said of an attempt, without times.
type Said = (Option<String>, Method, Option<u32>, Outcome, Option<u16>);

#[test]
fn one_frame_whose_time_lies() {
    let lies: [fn(i64) -> i64; 9] = [
        |time| time + YEAR,
        |_| 0,
        |time| time + HOUR,
        |time| time - HOUR,
        |time| time + 600 * SECOND,
        |time| time - 600 * SECOND,
        |time| time + 40 * SECOND,
        |time| time - 40 * SECOND,
        |_| i64::MAX,
    ];
    every_place(|place| {
        // Three for each place, others for the next.
        let some = (0..3).map(move |n| lies[(place + n * 3) % lies.len()]);
        some.map(move |lie| move |number, time| if number == place { lie(time) } else { time })
    });
}

#[test]
fn a_clock_that_is_set() {
    every_place(|place| {
        let other = [YEAR, -YEAR, 2 * HOUR, -2 * HOUR][place % 4];
        let steps = [HOUR, -HOUR, other].into_iter();
        steps.map(move |step| move |number, time| if number < place { time } else { time + step })
    });
}

/// Reads every capture with each of the clocks that lie at `place`, for every place.
fn every_place<Clocks, Clock>(clocks: impl Fn(usize) -> Clocks)
where
    Clocks: Iterator<Item = Clock>,
    Clock: Fn(usize, i64) -> i64,
{
    let (mut wrong, mut places) = (Vec::new(), 0);
    for path in recorded() {
        let frames = frames(&path);
        let whole = said(&frames);
        for (place, clock) in
            (0..frames.len()).flat_map(|place| clocks(place).map(move |clock| (place, clock)))
        {
            let told = frames.iter().enumerate().map(|(number, frame)| {
                let time = Timestamp::from_nanos(clock(number, frame.time.as_nanos()));
                Frame { time, ..*frame }
            });
            let found = said(&told.collect::<Vec<_>>());
            if found.len() != whole.len()
                || !found.iter().zip(&whole).all(|(found, whole)| is_same(found, whole))
            {
                wrong.push(format!("{} at {}: {found:?}, not {whole:?}", path.display(), place + 1));
            }
            places += 1;
        }
    }
    assert!(places > 1000);
    assert!(wrong.is_empty(), "{} of {places}: {}", wrong.len(), wrong[..wrong.len().min(6)].join("\n"));
}

/// Whose a second leg is may be told by when it ends: this may be lost, what became of it is not.
fn is_same(found: &Said, whole: &Said) -> bool {
    found == whole
        || found.0.is_none() && (found.1, found.2, found.3, found.4) == (whole.1, whole.2, whole.3, whole.4)
}

fn said(frames: &[Frame<'_>]) -> Vec<Said> {
    let privacy = Privacy::new(Mask::Full, None).unwrap();
    let mut engine = Engine::new(Config::default(), privacy).unwrap();
    frames.iter().for_each(|frame| engine.frame(frame));
    engine.finish(frames.last().unwrap().time);
    let mut said = Vec::new();
    while let Some(output) = engine.poll_output() {
        if let Output::Transfer(attempt) = output {
            said.push((attempt.call_id, attempt.method, attempt.refer_cseq, attempt.outcome, attempt.status));
        }
    }
    said
}
