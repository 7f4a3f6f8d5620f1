//! `-w`: the packets of the calls that are shown, in a file to hand on.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufWriter, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use sipobs::capture::file::{Capture, FileError, Next, Stop, Writer};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::evidence::{Around, Collect, Notes, Selection, Wide};
use sipobs::export::deciding;
use sipobs::frame::{Frame, Place};
use sipobs::privacy::redact::Redactor;
use sipobs::record::{LegRole, Output, ReferAbsent};
use sipobs::timestamp::Timestamp;

use super::again::{self, Frames};
use super::new_file::NewFile;
use crate::cli::warn;

/// What to hand on.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to hand on")]
pub(super) struct Evidence {
    /// Write the packets of what is shown, or of every call with a transfer or a flag, to a pcapng file: all legs, each
    /// packet with a comment that says what it is for the verdict; `-` is standard output
    #[arg(long, short = 'w', value_name = "FILE")]
    write: Option<PathBuf>,
    /// Rewrite numbers, names and credentials in it (with `=addresses` IP addresses too), in place: every length and every
    /// verdict stays, and what one run replaces by the same was the same
    #[arg(long, value_name = "WHAT", requires = "write", num_args = 0..=1, require_equals = true, default_missing_value = "parties")]
    redact: Option<Redact>,
}

/// What is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Redact {
    /// Numbers, names and credentials
    Parties,
    /// And IP addresses
    Addresses,
}

/// Readings it takes at most to find all legs: each may lead to others.
const MOST_READINGS: usize = 5;

/// Whose packets an output asks for.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Wanted {
    legs: Vec<(String, LegRole)>,
    evidence: Vec<(u64, LegRole)>,
    decided: Option<u64>,
    /// What must be the same when it is read again.
    verdict: u64,
}

/// All that is wanted.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Wants {
    selection: Selection,
    /// Verdicts of what is wanted, and of every attempt.
    verdicts: Vec<u64>,
    all: BTreeSet<u64>,
    /// The capture goes on: there may be attempts that are not known yet.
    goes_on: bool,
}

/// What is said of a call, in a number: whoever the parties are.
fn verdict(output: &Output) -> u64 {
    let text = match output {
        Output::Transfer(attempt) => format!(
            "{} {} {} {} {:?} {:?} {:?} {:?} {}",
            attempt.started.as_nanos(),
            attempt.ended.as_nanos(),
            attempt.outcome,
            attempt.evidence,
            attempt.method,
            attempt.kind,
            attempt.status,
            attempt.diagnosis.iter().map(|cause| &cause.code).collect::<Vec<_>>(),
            attempt.messages.iter().map(|line| u64::from(line.copies)).sum::<u64>(),
        ),
        Output::Call(call) => {
            let word = std::mem::discriminant(&call.refer_absent);
            format!("{} {} {word:?}", call.started.as_nanos(), call.ended.as_nanos())
        }
        Output::Alert(_) | Output::Notice(_) => String::new(),
    };
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Wanted {
    /// What an output is about; nothing if it is worth writing only where it was asked for, and was not.
    pub(in crate::cli) fn of(output: &Output, is_asked: bool) -> Option<Self> {
        match output {
            Output::Transfer(attempt) => {
                let target = attempt.target_call_id.iter().map(|id| (id.clone(), LegRole::Target));
                let call = attempt.call_id.iter().map(|id| (id.clone(), LegRole::Call));
                // Calls that fit as well: without them there is no doubt whose leg it is.
                let others = attempt.link.iter().flat_map(|link| &link.candidates);
                let others = others.map(|id| (id.clone(), LegRole::Call));
                Some(Self {
                    legs: target.chain(call).chain(others).collect(),
                    evidence: attempt.messages.iter().map(|line| (line.frame, line.leg)).collect(),
                    decided: deciding(attempt).map(|line| line.frame),
                    verdict: verdict(output),
                })
            }
            Output::Call(call) => {
                let is_flagged = !matches!(call.refer_absent, ReferAbsent::No);
                (is_asked || is_flagged).then(|| Self::of_leg(&call.call_id, output))
            }
            Output::Alert(alert) => alert.call_id.as_deref().map(|id| Self::of_leg(id, output)),
            Output::Notice(_) => None,
        }
    }

    /// Leaves out what frames of these numbers say.
    #[cfg(all(feature = "live", target_os = "linux"))]
    pub(in crate::cli) fn forget(&mut self, frames: &BTreeSet<u64>) {
        self.evidence.retain(|(frame, _)| !frames.contains(frame));
        self.decided = self.decided.filter(|frame| !frames.contains(frame));
    }

    fn of_leg(call_id: &str, output: &Output) -> Self {
        let legs = vec![(call_id.to_owned(), LegRole::Call)];
        Self { legs, evidence: Vec::new(), decided: None, verdict: verdict(output) }
    }
}

impl Wants {
    /// Takes note of an attempt that may not be wanted.
    pub(super) fn note(&mut self, output: &Output) {
        self.all.insert(verdict(output));
    }

    /// All that is wanted of a capture that goes on, with the name of its verdict: what else becomes of it is not held against what is written.
    #[cfg(all(feature = "live", target_os = "linux"))]
    pub(in crate::cli) fn one(wanted: Wanted, name: &str) -> Self {
        let mut wants = Self { goes_on: true, ..Self::default() };
        wants.verdicts.push(wanted.verdict);
        wants.select(wanted, Some(name.to_owned()));
        wants
    }

    /// Adds to what is wanted, by the number of its verdict.
    pub(super) fn add(&mut self, wanted: Wanted, output: &Output, seq: Option<u64>) {
        if !matches!(output, Output::Alert(_)) {
            self.verdicts.push(wanted.verdict);
        }
        self.select(wanted, seq.map(|seq| format!("#{seq}")));
    }

    /// Wants the legs of what was wanted of the same call before, too.
    #[cfg(all(feature = "live", target_os = "linux"))]
    pub(in crate::cli) fn join(&mut self, before: &Selection) {
        self.selection.join(before);
    }

    /// The calls that are wanted.
    #[cfg(all(feature = "live", target_os = "linux"))]
    pub(in crate::cli) fn selection(&self) -> &Selection {
        &self.selection
    }

    fn select(&mut self, wanted: Wanted, name: Option<String>) {
        let selection = &mut self.selection;
        for (id, leg) in &wanted.legs {
            selection.add_leg(id, *leg);
        }
        for (frame, leg) in wanted.evidence {
            selection.add_evidence(frame, leg);
        }
        if let Some((frame, name)) = wanted.decided.zip(name) {
            selection.add_verdict(frame, name);
        }
    }
}

impl Evidence {
    /// To this file.
    #[cfg(any(feature = "mcp", feature = "view"))]
    pub(super) fn to(path: PathBuf, redact: Option<Redact>) -> Self {
        Self { write: Some(path), redact }
    }

    /// Whether it is to go where verdicts are printed else.
    pub(super) fn takes_standard_output(&self) -> bool {
        self.write.as_deref().is_some_and(is_standard)
    }

    /// Makes the file, under another name until all of it is there; before anything is read, as that may take long.
    ///
    /// # Errors
    ///
    /// When it is one of the files that are read, or can't be made, or these can't be read again.
    pub(super) fn begin(&self, files: &[PathBuf], capture: &Capture) -> anyhow::Result<Option<Target>> {
        let Some(path) = &self.write else { return Ok(None) };
        if !capture.can_be_read_again() {
            bail!("-w reads the capture twice, and a pipe can be read only once: save it to a file first");
        }
        let is_standard = is_standard(path);
        let aside = is_standard.then(|| std::env::temp_dir().join("sipobs.pcapng"));
        let file = NewFile::make("-w", aside.as_ref().unwrap_or(path), files)?;
        Ok(Some(Target { file, is_standard }))
    }

    /// Writes the packets of what is wanted in `files`. `false` if not all of them were.
    ///
    /// # Errors
    ///
    /// When the files can't be read again, or the file can't be made or written.
    #[cfg(any(feature = "mcp", feature = "view"))]
    pub(super) fn save(
        &self,
        files: &[PathBuf],
        config: &Config,
        wants: &Wants,
        names: &[String],
        stop: &Stop,
    ) -> anyhow::Result<bool> {
        let open = || Capture::open(files, stop);
        let target = self.begin(files, &open()?)?.context("there is nowhere to write to")?;
        self.write(target, config, wants, names, stop, open)
    }

    /// Writes the packets of what is wanted; `read_again` opens the capture anew. `false` if not all of them were.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub(super) fn write(
        &self,
        mut target: Target,
        config: &Config,
        wants: &Wants,
        names: &[String],
        stop: &Stop,
        read_again: impl Fn() -> Result<Capture, FileError>,
    ) -> anyhow::Result<bool> {
        if wants.selection.is_empty() {
            warn(format_args!(
                "-w: nothing was written: no call is among what was asked for, or had a transfer or a flag"
            ));
            return Ok(false);
        }
        let about = About { comment: String::new(), until: None };
        let job = Packets { config, wants, redact: self.redact, names, stop };
        let place = target.file.place().to_owned();
        let path = target.file.path().display().to_string();
        let cannot = || format!("cannot write {path}");
        let written = job.write(target.file.file(), &place, |_| read_again(), |_| about.clone());
        let Some(written) = written.with_context(cannot)? else {
            warn(format_args!("interrupted: -w wrote no file"));
            return Ok(false);
        };
        target.done()?;
        let Written { left_out, others, sealed, sessions, .. } = written;
        if sessions > 0 {
            warn(format_args!(
                "-w: the file holds the secrets of {sessions} TLS sessions: whoever has it can read all that was said in them, \
                 passwords and other calls too"
            ));
        }
        if sealed > 0 && self.redact.is_some() {
            warn(format_args!(
                "-w: {sealed} messages came over TLS or WebSocket, and their packets were left out: they can't be written over; tshark \
                 exports what they say for that (docs/tls.md)"
            ));
        } else if sealed > 0 {
            warn(format_args!(
                "-w: {sealed} messages came over TLS or WebSocket, and there was no room for all that their connections carried before them"
            ));
        }
        if left_out > 0 {
            warn(format_args!(
                "-w: {left_out} packets were left out; with fewer calls asked for, all may find room"
            ));
        }
        if others > 0 {
            warn(format_args!(
                "-w: read by itself, the file gives {others} other verdicts than the capture: these rest on more than the calls in it"
            ));
        }
        Ok(left_out == 0 && others == 0 && sealed == 0)
    }
}

/// Finds packets in a capture and writes them.
pub(in crate::cli) struct Packets<'a> {
    pub(in crate::cli) config: &'a Config,
    pub(in crate::cli) wants: &'a Wants,
    pub(in crate::cli) redact: Option<Redact>,
    /// What the files of the capture are called; empty where it is none of files.
    pub(in crate::cli) names: &'a [String],
    pub(in crate::cli) stop: &'a Stop,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct Written {
    /// Packets for which there was no room.
    pub(in crate::cli) left_out: u64,
    /// Messages that came over TLS or WebSocket, whose packets are not written.
    pub(in crate::cli) sealed: u64,
    /// TLS sessions whose secrets are written.
    pub(in crate::cli) sessions: usize,
    /// Verdicts that are others where the file is read by itself.
    pub(in crate::cli) others: usize,
    /// Calls of which it lacks the INVITE that began them.
    #[cfg_attr(
        not(all(feature = "live", target_os = "linux")),
        allow(dead_code, reason = "the daemon asks for it")
    )]
    pub(in crate::cli) without_beginning: usize,
}

/// What a file says of itself.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct About {
    /// On all of it.
    pub(in crate::cli) comment: String,
    /// Until when was captured.
    pub(in crate::cli) until: Option<Timestamp>,
}

impl Packets<'_> {
    /// Writes them to `file`, which lies at `place`; `read_again` opens the capture anew, or so much of it as a selection
    /// asks for. `None` if it was interrupted.
    ///
    /// What is written is read again. Where a verdict is another then, as it rests on other calls too, those are written
    /// with it: first calls of the same two parties, then those of any.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub(in crate::cli) fn write<F: Frames>(
        &self,
        file: &mut File,
        place: &Path,
        read_again: impl Fn(&Selection) -> Result<F, FileError>,
        about: impl Fn(&Written) -> About,
    ) -> anyhow::Result<Option<Written>> {
        let mut selection = self.wants.selection.clone();
        let mut result = Written::default();
        for wide in [Some(Wide::Pairs), Some(Wide::Parties), None] {
            let Collected { redactor, notes, selection: found, around, without_beginning } =
                self.collect(selection, &read_again)?;
            (result.without_beginning, result.sealed) = (without_beginning, notes.sealed());
            file.set_len(0)?;
            file.rewind()?;
            let mut writer = Writer::about(BufWriter::new(&*file), &about(&result).comment)?;
            writer.secrets(notes.keys())?;
            result.sessions = notes.keys().sessions();
            let capture = read_again(&found)?;
            let (written, end) = self.packets(&mut writer, capture, &notes, redactor.as_ref())?;
            if let Some(until) = about(&result).until.or(end) {
                writer.until(until)?;
            }
            writer.finish()?;
            if self.stop.is_asked() {
                return Ok(None);
            }
            result.left_out = notes.left_out() + (notes.len() as u64).saturating_sub(written);
            result.others = self.other_verdicts(place)?;
            selection = found;
            match wide.filter(|_| result.others > 0) {
                Some(wide) => selection.widen(wide, around),
                None => break,
            }
        }
        Ok(Some(result))
    }

    /// Finds the packets, and what is to be written over in them.
    fn collect<F: Frames>(
        &self,
        mut selection: Selection,
        read_again: &impl Fn(&Selection) -> Result<F, FileError>,
    ) -> anyhow::Result<Collected> {
        for _ in 0..MOST_READINGS {
            let collected = self.read(selection, None, read_again)?;
            if let Some(more) = collected.again() {
                selection = more;
                continue;
            }
            let without_beginning = collected.without_beginning();
            let (selection, people, around, mut notes) = collected.into_parts();
            let redactor = self.redact.map(|redact| Redactor::new(&people, redact == Redact::Addresses));
            if let Some(redactor) = &redactor {
                notes = self.read(selection.clone(), Some(redactor.clone()), read_again)?.into_parts().3;
            }
            return Ok(Collected { redactor, notes, selection, around, without_beginning });
        }
        bail!("more and more calls belong to each other; ask for fewer")
    }

    fn read<F: Frames>(
        &self,
        selection: Selection,
        redactor: Option<Redactor>,
        read_again: &impl Fn(&Selection) -> Result<F, FileError>,
    ) -> anyhow::Result<Collect> {
        let capture = read_again(&selection)?;
        let settings = self.config.engine();
        let collect = Collect::new(&settings.packet, settings.stream.clone(), selection, redactor);
        let mut engine = Engine::new(settings, self.config.privacy()?)?;
        engine.collect(collect);
        // What could not be read was said the first time.
        again::run(capture, &mut engine, again::unheard, |_| {});
        engine.take_collected().ok_or_else(|| anyhow!("nothing was collected"))
    }

    /// Writes what the notes say, and tells how many packets that were, and until when the capture went on after the last of
    /// them: a verdict may rest on what did not come until then.
    fn packets(
        &self,
        writer: &mut Writer<impl Write>,
        mut capture: impl Frames,
        notes: &Notes,
        redactor: Option<&Redactor>,
    ) -> io::Result<(u64, Option<Timestamp>)> {
        let vxlan_ports = self.config.engine().packet.vxlan_ports;
        let (mut written, mut last, mut end) = (0, None, None);
        while let Some(next) = capture.next() {
            let frame = match next {
                Next::Frame(frame) => frame,
                Next::Secrets(_) => continue,
                Next::End(file) => {
                    end = end.max(file.contents.until);
                    continue;
                }
            };
            end = end.max(Some(frame.time));
            let Some(new) = notes.rewrite(&frame, &vxlan_ports, redactor) else { continue };
            // A file may be called by somebody's number.
            let name = self.names.get(Place::of(frame.number).file).filter(|_| redactor.is_none());
            let bytes = new.bytes.as_deref().unwrap_or(frame.bytes);
            let frame = Frame { link: new.link, wire_len: new.wire_len, bytes, ..frame };
            writer.frame(&frame, &new.says, name.map(String::as_str).unwrap_or_default())?;
            written += 1;
            last = last.max(Some(frame.time));
            if self.stop.is_asked() {
                break;
            }
        }
        let longest = last.map(|last| last + again::LONGEST_SILENCE);
        Ok((written, end.min(longest).filter(|end| Some(*end) > last)))
    }

    /// How many of the verdicts are others where the file at `place` is read by itself.
    fn other_verdicts(&self, place: &Path) -> anyhow::Result<usize> {
        let capture = Capture::open(&[place], self.stop)?;
        // By the secrets in it alone.
        let mut settings = self.config.engine();
        settings.stream.keys = Arc::default();
        let mut engine = Engine::new(settings, self.config.privacy()?)?;
        let mut found: Vec<(u64, bool)> = Vec::new();
        let drain = |engine: &mut Engine| {
            let look = |output: &Output| (verdict(output), matches!(output, Output::Transfer(_)));
            while let Some((_, verdict)) = engine.poll_output_seen(look) {
                found.push(verdict);
            }
        };
        again::run(capture, &mut engine, drain, |_| {});
        let Wants { verdicts, all, goes_on, .. } = self.wants;
        let is_new = |(verdict, is_attempt): &&(u64, bool)| *is_attempt && !all.contains(verdict);
        let new = if *goes_on { 0 } else { found.iter().filter(is_new).count() };
        let found: BTreeSet<u64> = found.into_iter().map(|(verdict, _)| verdict).collect();
        let gone = verdicts.iter().filter(|wanted| !found.contains(wanted)).count();
        Ok(new.max(gone))
    }
}

/// What was found.
struct Collected {
    redactor: Option<Redactor>,
    notes: Notes,
    selection: Selection,
    around: Around,
    without_beginning: usize,
}

/// Where packets go: to a file, and from there to standard output if that is wanted.
pub(super) struct Target {
    file: NewFile,
    is_standard: bool,
}

impl Target {
    fn done(self) -> anyhow::Result<()> {
        let Self { file: new, is_standard } = self;
        if is_standard {
            let mut file = File::open(new.place())?;
            let mut out = io::stdout().lock();
            io::copy(&mut file, &mut out)
                .and_then(|_| out.flush())
                .context("cannot write to standard output")?;
            return Ok(());
        }
        let to = new.path().display().to_string();
        new.finish().with_context(|| format!("cannot write {to}"))
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}
