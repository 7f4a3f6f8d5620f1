//! `-w`: the packets of the calls that are shown, in a file to hand on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use sipobs::capture::file::{Capture, FileError, Next, Stop, Writer};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::evidence::{Collect, Notes, People, Selection};
use sipobs::export::deciding;
use sipobs::frame::{Frame, Place};
use sipobs::privacy::redact::Redactor;
use sipobs::record::{LegRole, Output, ReferAbsent};
use sipobs::timestamp::Timestamp;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Redact {
    /// Numbers, names and credentials
    Parties,
    /// And IP addresses
    Addresses,
}

/// Readings it takes at most to find all legs: each may lead to others.
const MOST_READINGS: usize = 5;

/// Whose packets an output asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    legs: Vec<(String, LegRole)>,
    evidence: Vec<(u64, LegRole)>,
    decided: Option<u64>,
}

impl Wanted {
    /// What an output is about; nothing if it is worth writing only where it was asked for, and was not.
    pub(super) fn of(output: &Output, is_asked: bool) -> Option<Self> {
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
                })
            }
            Output::Call(call) => {
                let is_flagged = !matches!(call.refer_absent, ReferAbsent::No);
                (is_asked || is_flagged).then(|| Self::of_leg(&call.call_id))
            }
            Output::Alert(alert) => alert.call_id.as_deref().map(Self::of_leg),
            Output::Notice(_) => None,
        }
    }

    fn of_leg(call_id: &str) -> Self {
        Self { legs: vec![(call_id.to_owned(), LegRole::Call)], evidence: Vec::new(), decided: None }
    }

    /// Adds it to what is wanted, by the number of its verdict.
    pub(super) fn select(self, selection: &mut Selection, seq: Option<u64>) {
        for (id, leg) in &self.legs {
            selection.add_leg(id, *leg);
        }
        for (frame, leg) in self.evidence {
            selection.add_evidence(frame, leg);
        }
        if let Some((frame, seq)) = self.decided.zip(seq) {
            selection.add_verdict(frame, seq);
        }
    }
}

impl Evidence {
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
        if is_standard(path) {
            return Ok(Some(Target::Standard));
        }
        if files.iter().any(|file| is_same(file, path)) {
            bail!("-w {}: that is one of the files to read; name another", path.display());
        }
        Partial::make(path).map(|partial| Some(Target::File(partial)))
    }

    /// Writes the packets of `selection`; `read_again` opens the capture anew. `false` if not all of them were.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub(super) fn write(
        &self,
        target: Target,
        config: &Config,
        selection: Selection,
        names: &[String],
        stop: &Stop,
        read_again: impl Fn() -> Result<Capture, FileError>,
    ) -> anyhow::Result<bool> {
        if selection.is_empty() {
            warn(format_args!(
                "-w: nothing was written: no call is among what was asked for, or had a transfer or a flag"
            ));
            return Ok(false);
        }
        let (redactor, notes) = self.collect(config, selection, &read_again)?;
        let written = match target {
            Target::Standard => {
                let out = BufWriter::new(io::stdout().lock());
                packets(out, config, &notes, redactor.as_ref(), names, stop, read_again)?.0
            }
            Target::File(partial) => {
                let to = partial.path.clone();
                let result = packets(
                    BufWriter::new(&partial.file),
                    config,
                    &notes,
                    redactor.as_ref(),
                    names,
                    stop,
                    read_again,
                );
                let (written, _) = result.with_context(|| format!("cannot write {}", to.display()))?;
                if !stop.is_asked() {
                    partial.done().with_context(|| format!("cannot write {}", to.display()))?;
                }
                written
            }
        };
        if stop.is_asked() {
            warn(format_args!("interrupted: -w wrote no file"));
            return Ok(false);
        }
        let left_out = notes.left_out() + (notes.len() as u64).saturating_sub(written);
        if left_out > 0 {
            warn(format_args!(
                "-w: {left_out} packets were left out; with fewer calls asked for, all may find room"
            ));
        }
        Ok(left_out == 0)
    }

    /// Finds the packets, and what is to be written over in them.
    fn collect(
        &self,
        config: &Config,
        mut selection: Selection,
        read_again: &impl Fn() -> Result<Capture, FileError>,
    ) -> anyhow::Result<(Option<Redactor>, Notes)> {
        for _ in 0..MOST_READINGS {
            let collected = read(config, selection, None, read_again)?;
            if let Some(more) = collected.again() {
                selection = more;
                continue;
            }
            let (found, people, notes) = collected.into_parts();
            let Some(redactor) = self.redactor(&people) else { return Ok((None, notes)) };
            let (_, _, notes) = read(config, found, Some(redactor.clone()), read_again)?.into_parts();
            return Ok((Some(redactor), notes));
        }
        bail!("-w: more and more calls belong to each other; ask for fewer")
    }

    fn redactor(&self, people: &People) -> Option<Redactor> {
        self.redact.map(|redact| Redactor::new(people, redact == Redact::Addresses))
    }
}

fn read(
    config: &Config,
    selection: Selection,
    redactor: Option<Redactor>,
    read_again: &impl Fn() -> Result<Capture, FileError>,
) -> anyhow::Result<Collect> {
    let mut capture = read_again()?;
    let settings = config.engine();
    let collect = Collect::new(&settings.packet, settings.stream.clone(), selection, redactor);
    let mut engine = Engine::new(settings, config.privacy()?)?;
    engine.collect(collect);
    let mut last = Timestamp::default();
    while let Some(next) = capture.next() {
        match next {
            Next::Frame(frame) => {
                last = frame.time;
                engine.frame(&frame);
            }
            // Said already.
            Next::End(end) if end.is_alone => engine.end_file(),
            Next::End(_) => {}
        }
        while engine.poll_output().is_some() {}
    }
    engine.finish(last);
    engine.take_collected().ok_or_else(|| anyhow!("nothing was collected"))
}

/// Writes what the notes say, and tells how many packets that were.
fn packets<W: Write>(
    out: W,
    config: &Config,
    notes: &Notes,
    redactor: Option<&Redactor>,
    names: &[String],
    stop: &Stop,
    read_again: impl Fn() -> Result<Capture, FileError>,
) -> anyhow::Result<(u64, W)> {
    let vxlan_ports = config.engine().packet.vxlan_ports;
    let mut capture = read_again()?;
    let mut writer = Writer::new(out)?;
    let mut written = 0;
    while let Some(next) = capture.next() {
        let Next::Frame(frame) = next else { continue };
        let Some(new) = notes.rewrite(&frame, &vxlan_ports, redactor) else { continue };
        let name = names.get(Place::of(frame.number).file).map(String::as_str).unwrap_or_default();
        let source = if redactor.is_some() { "" } else { name };
        let bytes = new.bytes.as_deref().unwrap_or(frame.bytes);
        let new_frame = Frame { link: new.link, wire_len: new.wire_len, bytes, ..frame };
        writer.frame(&new_frame, &new.says, source)?;
        written += 1;
        if stop.is_asked() {
            break;
        }
    }
    Ok((written, writer.finish()?))
}

/// Where packets go.
pub(super) enum Target {
    Standard,
    File(Partial),
}

/// A file that has its name only once all of it is there.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    now: Option<PathBuf>,
}

impl Partial {
    fn make(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        // Where a link leads to, so that it stays a link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(anyhow!("it is there, and no regular file").context(cannot()));
        }
        let name = path.file_name().ok_or_else(|| anyhow!("that is no file's name").context(cannot()))?;
        let now = path.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        let file = options().open(&now).with_context(cannot)?;
        Ok(Self { file, path, now: Some(now) })
    }

    fn done(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(now) = &self.now {
            std::fs::rename(now, &self.path)?;
        }
        self.now = None;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(now) = &self.now {
            let _ = std::fs::remove_file(now);
        }
    }
}

/// For its owner alone: what somebody said is in it.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether two paths lead to one file, by whatever link.
fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
        identity(one).is_some() && identity(one) == identity(other)
    }
    #[cfg(not(unix))]
    {
        one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
    }
}
