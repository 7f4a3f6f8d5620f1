//! `--html` and `--md`: what reports tell of whole calls, where they go, and that they get there whole or not at all.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use sipobs::capture::file::{Capture, FileError};
use sipobs::config::Config;
use sipobs::export::{Report, WholeCall};
use sipobs::follow::{Follow, FollowedMessage, Found, Keep};
use sipobs::privacy::Privacy;
use sipobs::record::{LegRole, Parties};

use super::new_file::NewFile;
use super::reading::Asked;
use super::whole::{self, Followed};

/// The reports that are asked for.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Reports to hand on (instead of the text, unless --format is given)")]
pub(super) struct Reports {
    /// One page for a browser with all that is shown, which loads nothing from anywhere; `-` is standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The same as a text for tickets (Markdown); `-` is standard output
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
}

/// Reads the capture again, by `read_again`, for all messages of what a report tells in full. `false` if not all of it could
/// be read.
pub(super) fn add_whole_calls(
    report: &mut Report,
    config: &Config,
    asked: &[Asked],
    read_again: impl Fn() -> Result<Capture, FileError>,
) -> io::Result<bool> {
    if asked.is_empty() {
        return Ok(true);
    }
    let legs = asked.iter().flat_map(|asked| asked.whole.legs.iter().cloned());
    let evidence = asked.iter().flat_map(|asked| asked.whole.evidence.iter().copied());
    let first = Follow::new(legs, evidence).keeping(Keep::Headers);
    let Followed { follow, found, faults } = whole::follow(config, read_again, first)?;
    faults.iter().for_each(|fault| whole::say_of(fault));
    let privacy = config.privacy().map_err(io::Error::other)?;
    for asked in asked {
        report.whole(asked.output, whole_call(asked, &follow, &found, &privacy));
    }
    Ok(faults.is_empty())
}

/// All messages of one of them, masked.
fn whole_call(asked: &Asked, follow: &Follow, found: &[(String, Found)], privacy: &Privacy) -> WholeCall {
    let evidence = |frame| asked.whole.evidence.iter().any(|(known, _)| *known == frame);
    let found = found.iter().filter(|(_, found)| evidence(found.frame)).map(|(id, found)| (id, found.role));
    let named = asked.whole.legs.iter().map(|(id, role)| (id, *role));
    let mut legs: Vec<(&String, LegRole)> = Vec::new();
    // The call's own word on which leg is which counts, and of one that has two roles, that of the call.
    for (id, role) in named.chain(found) {
        match legs.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = role.min(*known),
            None => legs.push((id, role)),
        }
    }
    let mut parties: Parties = asked.whole.parties.iter().collect();
    let mut messages: Vec<(FollowedMessage, LegRole)> = Vec::new();
    for (leg, role) in legs.iter().filter_map(|(id, role)| Some((follow.leg(id)?, *role))) {
        leg.parties.iter().for_each(|user| parties.add(user));
        messages.extend(leg.messages.iter().map(|message| (message.clone(), role)));
    }
    messages.sort_by_key(|(message, _)| message.place());
    let start = messages.first().map(|(first, _)| first.line.time).unwrap_or_default();
    let mut whole = WholeCall::default();
    for (mut message, role) in messages {
        message.line.leg = role;
        message.line.t_ms = message.line.time.millis_since(start);
        whole.lines.push(message.line);
        whole.headers_left_out += privacy.headers(&mut message.headers, &parties);
        whole.headers.push(message.headers);
    }
    privacy.lines(&mut whole.lines, &parties);
    let mask = |(id, role): (&String, LegRole)| (role, privacy.call_id_of(id, &parties));
    whole.legs = legs.into_iter().map(mask).collect();
    whole.legs.sort_unstable();
    whole
}

/// Writes a report to where it was asked for, and says so.
pub(super) fn write(report: &Report, destinations: Vec<Destination>) -> anyhow::Result<()> {
    for destination in destinations {
        let text = match destination.form {
            Form::Html => report.html(),
            Form::Markdown => report.markdown(),
        };
        let place = destination.file.as_ref().map(|file| file.path().display().to_string());
        match destination.write(&text) {
            Ok(Some(path)) => {
                let (transfers, failed) = report.transfers();
                let message =
                    format!("{}: {transfers} transfers, {failed} of them failed or in doubt", path.display());
                let _ = writeln!(io::stderr(), "{message}");
            }
            Ok(None) => {}
            // Whoever reads it has seen enough.
            Err(error) if place.is_none() && error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => {
                let place = place.unwrap_or_else(|| "standard output".to_owned());
                return Err(anyhow::Error::new(error).context(format!("cannot write the report to {place}")));
            }
        }
    }
    Ok(())
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Html,
    Markdown,
}

/// Where a report goes. What is not finished leaves nothing behind.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) form: Form,
    /// None for standard output.
    file: Option<NewFile>,
}

impl Reports {
    /// Makes the files, so that one that can't be written is told before anything is read.
    ///
    /// # Errors
    ///
    /// When one can't be made or is a capture that is to be read.
    pub(super) fn open(&self, captures: &[PathBuf]) -> anyhow::Result<Vec<Destination>> {
        let asked = [("--html", &self.html, Form::Html), ("--md", &self.md, Form::Markdown)];
        let mut all: Vec<Destination> = Vec::new();
        for (option, path, form) in asked {
            let Some(path) = path else { continue };
            let file = match path.as_os_str() == "-" {
                true => None,
                false => Some(NewFile::make(option, path, captures)?),
            };
            all.push(Destination { form, file });
        }
        Ok(all)
    }
}

impl Destination {
    /// Whether it is standard output.
    pub(super) fn is_standard_output(&self) -> bool {
        self.file.is_none()
    }

    /// Writes a report, and gives its file the name that was asked for.
    pub(super) fn write(self, text: &str) -> io::Result<Option<PathBuf>> {
        let Some(mut new) = self.file else {
            let mut out = io::stdout().lock();
            return out.write_all(text.as_bytes()).and_then(|()| out.flush()).map(|()| None);
        };
        new.file().write_all(text.as_bytes())?;
        let path = new.path().to_owned();
        new.finish().map(|()| Some(path))
    }
}
