//! Files in, verdicts out: the engine between a capture and a sink.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use sipobs::capture::file::{Capture, End, Fault, FileError, Next, Progress};
use sipobs::discard::DiscardReason;
use sipobs::engine::{Counters, Engine, Tally};
use sipobs::export::{MOST_LADDERS, ReadFile, Shown, Sink, Summary};
use sipobs::frame::{Frame, Place};
use sipobs::record::{Attempt, Output};
use sipobs::timestamp::Timestamp;

use super::again;
use super::find::{Find, Unmasked, Whole};
use super::write::Wants;
use crate::cli::say;
use crate::cli::spans::Spans;

/// Attempts and calls of one call that is asked for, at most.
const MOST_ASKED: usize = 64;

/// Frames that tell when a capture begins.
const AROUND: usize = 3;
/// An output whose whole call is to be seen.
pub(super) struct Asked {
    /// Which of those shown it is, from 1.
    pub(super) output: u64,
    /// As it is shown, if it is an attempt.
    pub(super) attempt: Option<Box<Attempt>>,
    /// What it takes to see all of it.
    pub(super) whole: Whole,
}

/// Who hears of what is shown with what was known of it before it was masked, and how far reading has come.
pub(super) trait Listener {
    fn heard(&mut self, output: Output, unmasked: Unmasked);
    /// A call that was still up when the capture ended.
    fn open_call(&mut self, call: Output, unmasked: Unmasked);
    fn progress(&mut self, progress: Progress);
}

/// Reads a capture.
pub(super) struct Reading<'a> {
    engine: Engine,
    find: &'a Find,
    pub(super) spans: Option<Spans>,
    pub(super) summary: Summary,
    progress: Show,
    /// Hears of what is shown, in place of the sink.
    listener: Option<&'a mut dyn Listener>,
    /// The files' names by their index.
    names: Vec<Arc<str>>,
    ends: Vec<End>,
    /// By the files' index.
    cut: Vec<CutFrames>,
    /// What one call was asked for by, or what a report tells in full.
    pub(super) asked: Vec<Asked>,
    /// What is to be written.
    pub(super) wants: Wants,
    /// Outputs that were shown.
    shown: u64,
    /// Attempts so far.
    attempts: u64,
    /// The times of the first frames, the earliest first.
    first: Vec<Timestamp>,
    last: Timestamp,
    /// Until when was captured, where a file says so.
    until: Option<Timestamp>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(engine: Engine, spans: Option<Spans>, find: &'a Find, min_call: Duration) -> Self {
        let shown = find.is_asked().then(Shown::default);
        Self {
            engine,
            find,
            spans,
            summary: Summary { min_call, shown, ..Summary::default() },
            progress: Show::new(),
            listener: None,
            names: Vec::new(),
            ends: Vec::new(),
            cut: Vec::new(),
            asked: Vec::new(),
            wants: Wants::default(),
            shown: 0,
            attempts: 0,
            first: Vec::new(),
            last: Timestamp::default(),
            until: None,
        }
    }

    /// Reads a capture to its end for a listener alone.
    #[cfg(any(feature = "mcp", feature = "view"))]
    pub(super) fn listen(&mut self, capture: &mut Capture, listener: &'a mut dyn Listener) -> io::Result<()> {
        self.listener = Some(listener);
        let mut nowhere = sipobs::export::Jsonl::new(io::sink(), false);
        self.read(capture, &mut nowhere)?;
        self.settle(&mut nowhere)?;
        self.end(&mut nowhere)
    }

    /// Reads all of a capture, however damaged some files are, and writes down what each held.
    pub(super) fn read(&mut self, capture: &mut Capture, sink: &mut dyn Sink) -> io::Result<()> {
        self.names = capture.names().map(Arc::from).collect();
        self.engine.expect_files(self.names.len());
        self.cut.resize_with(self.names.len(), CutFrames::default);
        let result = self.frames(capture, sink);
        self.progress.clear();
        // Frames may wait for those behind them; nothing comes behind these.
        self.engine.end_file();
        self.summary.files = self.files(capture);
        result
    }

    fn frames(&mut self, capture: &mut Capture, sink: &mut dyn Sink) -> io::Result<()> {
        while let Some(next) = capture.next() {
            let end = match next {
                Next::Frame(frame) => {
                    self.summary.packets += 1;
                    self.begin(frame.time);
                    self.last = frame.time;
                    if frame.wire_len as usize > frame.bytes.len() {
                        self.cut_frame(&frame);
                    } else {
                        self.engine.frame(&frame);
                    }
                    None
                }
                Next::Secrets(keys) => {
                    self.engine.add_keys(&keys);
                    None
                }
                Next::End(end) => Some(end),
            };
            if end.as_ref().is_some_and(|end| end.is_alone) {
                self.engine.end_file();
            }
            self.drain(sink)?;
            if let Some(end) = end {
                self.ended(*end);
            }
            if self.summary.packets.is_multiple_of(8192) {
                self.progress.at(capture.progress());
                if let Some(listener) = &mut self.listener {
                    listener.progress(capture.progress());
                }
            }
        }
        Ok(())
    }

    /// Takes a frame that the capture cut off, and notes whether it holds a message.
    fn cut_frame(&mut self, frame: &Frame<'_>) {
        let file = Place::of(frame.number).file;
        let before = self.engine.tally_of(file).messages_cut;
        self.engine.frame(frame);
        let holds_message = self.engine.tally_of(file).messages_cut > before;
        if let Some(cut) = self.cut.get_mut(file) {
            cut.note(frame, holds_message);
        }
    }

    fn begin(&mut self, time: Timestamp) {
        if self.first.len() < AROUND {
            let at = self.first.partition_point(|known| *known <= time);
            self.first.insert(at, time);
        }
    }

    /// When the capture begins: by the middle one of its first frames, as one of them may lie.
    fn start(&self) -> Timestamp {
        self.first.get(self.first.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    /// Says at once what ended a file too early.
    fn ended(&mut self, end: End) {
        if let Some(error) = &end.error {
            self.progress.clear();
            say_of(error);
        }
        self.until = self.until.max(end.contents.until);
        self.ends.push(end);
    }

    /// What each file held, in the order of the command line; and says which of it stays closed.
    fn files(&mut self, capture: &Capture) -> Vec<ReadFile> {
        let mut files: Vec<(usize, ReadFile)> = Vec::new();
        for end in self.ends.drain(..) {
            let tally = self.engine.tally_of(end.file);
            let mut file = held(&end, tally);
            let cut = self.cut.get(end.file).and_then(|cut| cut.fault(tally));
            let found = opaque(&file).into_iter().chain(cut).chain(bad_secrets(&end));
            let found: Vec<_> = found.map(|fault| FileError { file: file.name.clone(), fault }).collect();
            found.iter().for_each(say_of);
            let faults: Vec<_> =
                end.error.iter().chain(&found).map(|error| error.fault.to_string()).collect();
            file.error = Some(faults.join("; ")).filter(|_| !faults.is_empty());
            files.push((end.named, file));
        }
        let left: Vec<_> = capture.left().collect();
        if !left.is_empty() {
            say(&anyhow::anyhow!("{} more files were not read: interrupted", left.len()));
        }
        let unread =
            |name| ReadFile { name, error: Some(Fault::Interrupted.to_string()), ..ReadFile::default() };
        files.extend(left.into_iter().map(|(named, name)| (named, unread(name))));
        for (named, name, same) in capture.repeated() {
            let file = ReadFile { name: name.clone(), same_as: Some(same.clone()), ..ReadFile::default() };
            files.push((*named, file));
        }
        for overlap in capture.overlaps() {
            if let Some((_, file)) = files.iter_mut().find(|(_, file)| file.name == overlap.second) {
                file.overlap_ms = i64::try_from(overlap.by.as_millis()).ok();
                file.overlaps = Some(overlap.first);
            }
        }
        files.sort_by_key(|(named, _)| *named);
        files.into_iter().map(|(_, file)| file).collect()
    }

    fn drain(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        while let Some((mut output, unmasked)) = self.engine.poll_output_seen(|output| self.find.look(output))
        {
            self.summary.count(&output);
            if self.find.writes {
                self.wants.note(&output);
            }
            if let Output::Transfer(attempt) = &mut output {
                self.attempts += 1;
                attempt.seq = Some(self.attempts);
                attempt.name_files(&self.names);
            }
            if let Some(spans) = &mut self.spans {
                spans.name(&mut output);
                spans.output(&output);
            }
            if self.find.shows(&output, &unmasked, self.start()) {
                if let Some(shown) = &mut self.summary.shown {
                    shown.count(&output);
                }
                if let Some(listener) = &mut self.listener {
                    listener.heard(output, unmasked);
                    continue;
                }
                sink.output(&output)?;
                let seq = Some(self.attempts).filter(|_| matches!(output, Output::Transfer(_)));
                self.shown += 1;
                self.want(output, unmasked, seq);
            }
        }
        Ok(())
    }

    /// What is shown is to be written, and seen as a whole, where that is asked for.
    fn want(&mut self, output: Output, unmasked: Unmasked, seq: Option<u64>) {
        if let Some(wanted) = unmasked.wanted {
            self.wants.add(wanted, &output, seq);
        }
        let most = if self.find.for_report { MOST_LADDERS } else { MOST_ASKED };
        if let Some(whole) = unmasked.whole.filter(|_| self.asked.len() < most) {
            let attempt = match output {
                Output::Transfer(attempt) => Some(attempt),
                Output::Notice(_) | Output::Call(_) | Output::Alert(_) => None,
            };
            self.asked.push(Asked { output: self.shown, attempt, whole });
        }
    }

    /// The capture is over: settles what is open.
    pub(super) fn settle(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        again::finish(&mut self.engine, self.last, self.until);
        self.drain(sink)?;
        for (output, unmasked) in self.engine.take_open_seen(|output| self.find.look(output)) {
            self.summary.open_calls += 1;
            if self.find.shows(&output, &unmasked, self.start())
                && let Output::Call(call) = &output
            {
                if let Some(shown) = &mut self.summary.shown {
                    shown.open_calls += 1;
                }
                if let Some(listener) = &mut self.listener {
                    listener.open_call(output, unmasked);
                    continue;
                }
                sink.open_call(call)?;
                // Where it was asked for it is shown and written as others are; a report tells of ended calls alone.
                if !self.find.for_report && self.find.is_asked() {
                    self.want(output, unmasked, None);
                }
            }
        }
        Ok(())
    }

    /// Tells what it came to.
    pub(super) fn end(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let counters = self.engine.counters();
        self.summary.messages = counters.messages;
        self.summary.not_understood = not_understood(&counters, &self.summary.files);
        self.summary.lost = counters.lost();
        self.summary.surroundings = self.engine.surroundings();
        self.summary.tls = self.engine.tls();
        self.summary.websocket =
            Some(counters.stream.websocket.clone()).filter(|websocket| websocket.connections > 0);
        self.summary.evicted_since = counters.calls_evicted.since;
        sink.summary(&self.summary)?;
        sink.flush()
    }
}

/// The frames of a file that the capture cut off.
#[derive(Debug, Default)]
struct CutFrames {
    longest: usize,
    /// The first of them, and the first that was seen to hold a message.
    first: Option<u64>,
    first_message: Option<u64>,
}

impl CutFrames {
    fn note(&mut self, frame: &Frame<'_>, holds_message: bool) {
        let number = Place::of(frame.number).number;
        self.longest = self.longest.max(frame.bytes.len());
        self.first = self.first.or(Some(number));
        self.first_message = self.first_message.or(Some(number).filter(|_| holds_message));
    }

    fn fault(&self, tally: Tally) -> Option<Fault> {
        let (messages, of) = (tally.messages_cut + tally.incomplete, tally.messages + tally.incomplete);
        let first = self.first_message.or(self.first).filter(|_| messages > 0)?;
        Some(Fault::Cut { messages, of, longest: self.longest, first })
    }
}

fn say_of(error: &FileError) {
    say(&anyhow::anyhow!("{error}"));
}

/// What a file held: as its reader saw it, and as the engine did.
fn held(end: &End, tally: Tally) -> ReadFile {
    let contents = &end.contents;
    ReadFile {
        name: end.name.clone(),
        first: contents.first,
        last: contents.last,
        frames: contents.frames,
        messages: tally.messages,
        link_types: contents.link_types.iter().map(|(link, frames)| (link.to_string(), *frames)).collect(),
        unread: unread(end, tally),
        secrets: contents.secrets.by_kind().collect(),
        ..ReadFile::default()
    }
}

/// A file's frames that stay closed; those of link types that the file itself names are told apart.
fn unread(end: &End, tally: Tally) -> BTreeMap<String, u64> {
    let reasons = Tally::OPAQUE.into_iter().zip(tally.opaque);
    let mut unread: BTreeMap<_, _> =
        reasons.map(|(reason, frames)| (reason.as_str().to_owned(), frames)).collect();
    for (link, frames) in end.contents.unread() {
        unread
            .entry(DiscardReason::LinkType.as_str().to_owned())
            .and_modify(|others| *others = others.saturating_sub(frames));
        unread.insert(link.to_string(), frames);
    }
    unread.retain(|_, frames| *frames > 0);
    unread
}

/// What a file calls a key log, and is none.
fn bad_secrets(end: &End) -> Option<Fault> {
    let secrets = &end.contents.secrets;
    secrets.first_bad.map(|offset| Fault::Secrets { lines: secrets.bad_lines, offset })
}

fn opaque(file: &ReadFile) -> Option<Fault> {
    let frames = file.unread.values().sum();
    let what: Vec<_> =
        file.unread.iter().map(|(why, frames)| format!("{frames} {}", why.replace('_', " "))).collect();
    (frames > 0).then(|| Fault::Unread { frames, of: file.frames, what: what.join(", ") })
}

/// What the engine counted, with link types told apart.
fn not_understood(counters: &Counters, files: &[ReadFile]) -> BTreeMap<Cow<'static, str>, u64> {
    let mut reasons: BTreeMap<Cow<'static, str>, _> =
        counters.not_understood().into_iter().map(|(reason, count)| (reason.into(), count)).collect();
    for reason in Tally::OPAQUE {
        reasons.remove(reason.as_str());
    }
    for (why, frames) in files.iter().flat_map(|file| &file.unread) {
        *reasons.entry(why.clone().into()).or_default() += frames;
    }
    reasons
}

/// How far reading has come, on standard error, for files that take long and only for a person.
struct Show {
    wanted: bool,
    shown: bool,
}

/// Files below this are read before anyone could look.
const LONG_FILE: u64 = 64 << 20;

impl Show {
    fn new() -> Self {
        Self { wanted: io::stderr().is_terminal() && !io::stdout().is_terminal(), shown: false }
    }

    fn at(&mut self, progress: Progress) {
        let Some(total) = progress.total.filter(|&total| self.wanted && total >= LONG_FILE) else { return };
        self.shown = true;
        let _ = write!(io::stderr(), "\r{:3} % of {} MB", progress.read * 100 / total, total >> 20);
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
