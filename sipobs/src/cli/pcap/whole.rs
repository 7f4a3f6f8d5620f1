//! The whole of one call: its files are read a second time, and of that call alone the messages are kept.

use std::io;

use sipobs::capture::file::{Capture, FileError};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::{Sink, WholeCall};
use sipobs::follow::{Follow, Found};
use sipobs::record::{LegRole, Parties};

use super::again;
use super::reading::Asked;
use crate::cli::say;

/// Shows all messages of what was asked for; `read_again` opens the capture anew. `false` if not all of it could be read.
pub(super) fn show(
    config: &Config,
    asked: &[Asked],
    read_again: impl Fn() -> Result<Capture, FileError>,
    sink: &mut dyn Sink,
) -> io::Result<bool> {
    if asked.is_empty() {
        return Ok(true);
    }
    // The first one's word on which leg is which counts.
    let legs = asked.iter().rev().flat_map(|asked| asked.whole.legs.iter().cloned());
    let evidence = asked.iter().flat_map(|asked| asked.whole.evidence.iter().copied());
    let Followed { follow, complete, .. } = follow(config, &read_again, Follow::new(legs, evidence))?;
    sink.whole_call(&masked(config, asked, follow)?)?;
    Ok(complete)
}

/// What was found in readings of a capture.
pub(super) struct Followed {
    pub(super) follow: Follow,
    /// Legs that were found on the way.
    pub(super) found: Vec<(String, Found)>,
    /// All of it could be read, the last time.
    pub(super) complete: bool,
}

/// Reads the capture until no more legs are found.
pub(super) fn follow(
    config: &Config,
    read_again: impl Fn() -> Result<Capture, FileError>,
    first: Follow,
) -> io::Result<Followed> {
    let mut found = Vec::new();
    let (mut follow, mut complete) = read(config, &read_again, first)?;
    while let Some(again) = follow.again() {
        found.extend(follow.found().map(|(id, found)| (id.to_owned(), found)));
        (follow, complete) = read(config, &read_again, again)?;
    }
    Ok(Followed { follow, found, complete })
}

fn read(
    config: &Config,
    read_again: impl Fn() -> Result<Capture, FileError>,
    follow: Follow,
) -> io::Result<(Follow, bool)> {
    let mut complete = true;
    let capture = read_again().map_err(io::Error::other)?;
    let privacy = config.privacy().map_err(io::Error::other)?;
    let mut engine = Engine::new(config.engine(), privacy).map_err(io::Error::other)?;
    engine.follow(follow);
    again::run(capture, &mut engine, again::unheard, |end| {
        if let Some(error) = &end.error {
            complete = false;
            say(&anyhow::anyhow!("{error}; the whole call lacks what stands behind that"));
        }
    });
    Ok((engine.take_followed().unwrap_or_default(), complete))
}

fn masked(config: &Config, asked: &[Asked], follow: Follow) -> io::Result<WholeCall> {
    let privacy = config.privacy().map_err(io::Error::other)?;
    let asked_for = asked.iter().flat_map(|asked| asked.whole.parties.iter());
    let parties: Parties = asked_for.chain(follow.parties().iter()).collect();
    let mut legs: Vec<(LegRole, String)> =
        follow.legs().map(|(id, leg)| (leg, privacy.call_id_of(id, &parties))).collect();
    legs.sort_unstable();
    let (mut lines, more) = follow.into_lines();
    privacy.lines(&mut lines, &parties);
    let mut whole = WholeCall { legs, lines, more, ..WholeCall::default() };
    asked.iter().filter_map(|asked| asked.attempt.as_deref()).for_each(|attempt| whole.mark(attempt));
    Ok(whole)
}
