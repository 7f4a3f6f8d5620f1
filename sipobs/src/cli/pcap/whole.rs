//! The whole of one call: its files are read a second time, and of that call alone the messages are kept.

use std::io;

use sipobs::capture::file::{Capture, FileError};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::{Sink, WholeCall};
use sipobs::follow::{Follow, Found, Keep};
use sipobs::record::{LegRole, Parties};

use super::again;
use super::reading::Asked;
use crate::cli::say;

/// Shows all messages of what was asked for; `read_again` opens the capture anew. `false` if not all of it could be read.
pub(super) fn show(
    config: &Config,
    asked: &[Asked],
    keep: Keep,
    read_again: impl Fn() -> Result<Capture, FileError>,
    sink: &mut dyn Sink,
) -> io::Result<bool> {
    if asked.is_empty() {
        return Ok(true);
    }
    let (whole, faults) = of(config, asked, keep, read_again)?;
    faults.iter().for_each(|fault| say_of(fault));
    sink.whole_call(&whole)?;
    Ok(faults.is_empty())
}

/// All messages of what was asked for, masked, and what of the capture could not be read.
pub(super) fn of(
    config: &Config,
    asked: &[Asked],
    keep: Keep,
    read_again: impl Fn() -> Result<Capture, FileError>,
) -> io::Result<(WholeCall, Vec<String>)> {
    // The first one's word on which leg is which counts.
    let legs = asked.iter().rev().flat_map(|asked| asked.whole.legs.iter().cloned());
    let evidence = asked.iter().flat_map(|asked| asked.whole.evidence.iter().copied());
    let first = Follow::new(legs, evidence).keeping(keep);
    let Followed { follow, faults, .. } = follow(config, &read_again, first)?;
    Ok((masked(config, asked, follow)?, faults))
}

/// What was found in readings of a capture.
pub(super) struct Followed {
    pub(super) follow: Follow,
    /// Legs that were found on the way.
    pub(super) found: Vec<(String, Found)>,
    /// What of it could not be read, the last time.
    pub(super) faults: Vec<String>,
}

/// Says what a whole call may lack.
pub(super) fn say_of(fault: &str) {
    say(&anyhow::anyhow!("{fault}; the whole call lacks what stands behind that"));
}

/// Reads the capture until no more legs are found.
pub(super) fn follow(
    config: &Config,
    read_again: impl Fn() -> Result<Capture, FileError>,
    first: Follow,
) -> io::Result<Followed> {
    let mut found = Vec::new();
    let (mut follow, mut faults) = read(config, &read_again, first)?;
    while let Some(again) = follow.again() {
        found.extend(follow.found().map(|(id, found)| (id.to_owned(), found)));
        (follow, faults) = read(config, &read_again, again)?;
    }
    Ok(Followed { follow, found, faults })
}

fn read(
    config: &Config,
    read_again: impl Fn() -> Result<Capture, FileError>,
    follow: Follow,
) -> io::Result<(Follow, Vec<String>)> {
    let mut faults = Vec::new();
    let capture = read_again().map_err(io::Error::other)?;
    let privacy = config.privacy().map_err(io::Error::other)?;
    let mut engine = Engine::new(config.engine(), privacy).map_err(io::Error::other)?;
    engine.follow(follow);
    again::run(capture, &mut engine, again::unheard, |end| {
        faults.extend(end.error.as_ref().map(FileError::to_string));
    });
    Ok((engine.take_followed().unwrap_or_default(), faults))
}

fn masked(config: &Config, asked: &[Asked], follow: Follow) -> io::Result<WholeCall> {
    let privacy = config.privacy().map_err(io::Error::other)?;
    let asked_for = asked.iter().flat_map(|asked| asked.whole.parties.iter());
    let parties: Parties = asked_for.chain(follow.parties().iter()).collect();
    let mut legs: Vec<(LegRole, String)> =
        follow.legs().map(|(id, leg)| (leg, privacy.call_id_of(id, &parties))).collect();
    legs.sort_unstable();
    let (messages, more) = follow.into_messages();
    let mut whole = WholeCall { legs, more, ..WholeCall::default() };
    for mut message in messages {
        whole.lines.push(message.line);
        whole.headers_left_out += privacy.headers(&mut message.headers, &parties);
        whole.headers.push(message.headers);
        message.body.iter_mut().for_each(|body| privacy.body(body, &parties));
        whole.bodies.push(message.body);
    }
    privacy.lines(&mut whole.lines, &parties);
    asked.iter().filter_map(|asked| asked.attempt.as_deref()).for_each(|attempt| whole.mark(attempt));
    Ok(whole)
}
