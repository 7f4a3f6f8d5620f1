//! One frame less never turns a verdict round: of every recorded capture, each frame is left out once, and each
//! beginning is read by itself. What is then missing may make an outcome unknown, or known by less; it never makes
//! a success of a failure, or a failure of a success. And an attempt stays an attempt, as long as the messages that
//! made it one are there.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::path::Path;

use common::{frames, recorded};
use sipobs::engine::{Config, Engine};
use sipobs::frame::Frame;
use sipobs::privacy::{Mask, Privacy};
use sipobs::record::{Attempt, Method, Outcome, Output};

#[test]
fn without_any_one_frame() {
    let (mut hidden, mut told_otherwise) = (0, 0);
    for path in recorded() {
        let frames = frames(&path);
        let whole = attempts(frames.iter());
        for lost in 0..frames.len() {
            let rest = frames.iter().enumerate().filter(|(number, _)| *number != lost);
            let rest = attempts(rest.map(|(_, frame)| frame));
            compare(&whole, &rest, &path, lost);
            for attempt in whole.iter().filter(|attempt| !rest.iter().any(|other| is_same(attempt, other))) {
                let name = path.display();
                assert!(
                    makers(attempt, &frames).contains(&lost),
                    "{name} without frame {}: no {attempt:#?}",
                    lost + 1
                );
                hidden += 1;
                // By its NOTIFY: the REFER's number, which its answer has, is not in it.
                let unnumbered = |other: &Attempt| {
                    (&other.call_id, other.method, other.refer_cseq)
                        == (&attempt.call_id, attempt.method, None)
                };
                told_otherwise += usize::from(rest.iter().any(unnumbered));
            }
        }
    }
    // What captures are there decides how many; that it is no more than these few is worth a look when they change.
    assert_eq!((hidden, told_otherwise), (8, 0));
}

#[test]
fn cut_off_anywhere() {
    for path in recorded() {
        let frames = frames(&path);
        let whole = attempts(frames.iter());
        for until in 1..frames.len() {
            let rest = attempts(frames[..until].iter());
            compare(&whole, &rest, &path, until);
            for attempt in whole.iter().filter(|attempt| !rest.iter().any(|other| is_same(attempt, other))) {
                let made = makers(attempt, &frames).into_iter().all(|maker| maker < until);
                assert!(!made, "{} cut after frame {until}: no {attempt:#?}", path.display());
            }
        }
    }
}

/// The frames, by index, that hold the messages which make this attempt one: its REFER, the INVITE of its second leg,
/// or the redirect; and, for those two, the first message of its call.
fn makers(attempt: &Attempt, frames: &[Frame<'_>]) -> Vec<usize> {
    let (starts, with_call): (&[&str], _) = match attempt.method {
        Method::Refer => (&["REFER "], false),
        Method::Invite => (&["INVITE "], true),
        Method::Redirect => (&["INVITE ", "SIP/2.0 30"], true),
        Method::Also | Method::ReferBye => (&["BYE "], true),
    };
    let holds = |index: usize, text: &str| {
        let text = text.as_bytes();
        frames[index].bytes.windows(text.len()).any(|bytes| bytes == text)
    };
    let mut makers = Vec::new();
    for line in attempt.messages.iter().filter(|line| starts.iter().any(|start| line.line.starts_with(start)))
    {
        let last = frames.iter().position(|frame| frame.number == line.frame).unwrap();
        // Over TCP it may begin in an earlier one.
        let first = (0..=last).rev().find(|index| holds(*index, &line.line)).unwrap();
        makers.extend(first..=last);
    }
    if with_call && let Some(call_id) = &attempt.call_id {
        makers.extend((0..frames.len()).find(|index| holds(*index, call_id)));
    }
    assert!(!makers.is_empty(), "{attempt:#?}");
    makers
}

fn is_same(one: &Attempt, other: &Attempt) -> bool {
    (&one.call_id, one.method, one.refer_cseq) == (&other.call_id, other.method, other.refer_cseq)
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
        let same = whole.iter().find(|known| is_same(known, attempt));
        if let Some((known, found)) =
            same.and_then(|same| Some((verdict(same.outcome)?, verdict(attempt.outcome)?)))
        {
            assert_eq!(known, found, "{} at frame {}: {attempt:#?}", path.display(), at + 1);
        }
    }
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
