//! The whole of one call: its files are read a second time, and of that call alone the messages are kept.

use std::io;

use sipobs::capture::file::{Capture, FileError, Next};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::{Sink, WholeCall};
use sipobs::follow::Follow;
use sipobs::record::{Attempt, LegRole, Parties};
use sipobs::timestamp::Timestamp;

use super::find::Whole;
use crate::cli::say;

/// Shows all messages of what was asked for; `read_again` opens the capture anew. `false` if not all of it could be read.
pub(super) fn show(
    config: &Config,
    asked: &[(Option<Box<Attempt>>, Whole)],
    read_again: impl Fn() -> Result<Capture, FileError>,
    sink: &mut dyn Sink,
) -> io::Result<bool> {
    if asked.is_empty() {
        return Ok(true);
    }
    // The first one's word on which leg is which counts.
    let legs = asked.iter().rev().flat_map(|(_, whole)| whole.legs.iter().cloned());
    let evidence = asked.iter().flat_map(|(_, whole)| whole.evidence.iter().copied());
    let mut followed = Some(Follow::new(legs, evidence));
    let (mut last, mut complete) = (None, true);
    while let Some(follow) = followed {
        let (read, all) = read(config, &read_again, follow)?;
        followed = read.again();
        (last, complete) = (Some(read), all);
    }
    if let Some(follow) = last {
        sink.whole_call(&masked(config, asked, follow)?)?;
    }
    Ok(complete)
}

fn read(
    config: &Config,
    read_again: impl Fn() -> Result<Capture, FileError>,
    follow: Follow,
) -> io::Result<(Follow, bool)> {
    let mut complete = true;
    let mut capture = read_again().map_err(io::Error::other)?;
    let privacy = config.privacy().map_err(io::Error::other)?;
    let mut engine = Engine::new(config.engine(), privacy).map_err(io::Error::other)?;
    engine.follow(follow);
    let mut last = Timestamp::default();
    while let Some(next) = capture.next() {
        match next {
            Next::Frame(frame) => {
                last = frame.time;
                engine.frame(&frame);
            }
            Next::End(end) => {
                if let Some(error) = &end.error {
                    complete = false;
                    say(&anyhow::anyhow!("{error}; the whole call lacks what stands behind that"));
                }
                if end.is_alone {
                    engine.end_file();
                }
            }
        }
        // Judged already.
        while engine.poll_output().is_some() {}
    }
    engine.finish(last);
    Ok((engine.take_followed().unwrap_or_default(), complete))
}

fn masked(config: &Config, asked: &[(Option<Box<Attempt>>, Whole)], follow: Follow) -> io::Result<WholeCall> {
    let privacy = config.privacy().map_err(io::Error::other)?;
    let asked_for = asked.iter().flat_map(|(_, whole)| whole.parties.iter());
    let parties: Parties = asked_for.chain(follow.parties().iter()).collect();
    let mut legs: Vec<(LegRole, String)> =
        follow.legs().map(|(id, leg)| (leg, privacy.call_id_of(id, &parties))).collect();
    legs.sort_unstable();
    let (mut lines, more) = follow.into_lines();
    privacy.lines(&mut lines, &parties);
    let mut whole = WholeCall { legs, lines, more, verdicts: Vec::new() };
    asked.iter().filter_map(|(attempt, _)| attempt.as_deref()).for_each(|attempt| whole.mark(attempt));
    Ok(whole)
}
