//! `sipobs pcap`: capture files in, verdicts out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sipobs::capture::file::{Fault, FileError, Progress, Reader};
use sipobs::discard::DiscardReason;
use sipobs::engine::{Counters, Engine};
use sipobs::export::{Jsonl, ReadFile, Sink, Summary, Terminal};
use sipobs::frame::Frame;
use sipobs::timestamp::Timestamp;

use super::spans::{Spans, WhenFull};
use super::{Colour, Exit, Failure, Settings, memory, say, written};

const AFTER: &str = "\
Several files are read as one capture, in the order given: name the pieces of
a rotated capture oldest first.

Examples:
  sipobs pcap call.pcap
  sipobs pcap --ladders --mask full call.pcap | less -R
  sipobs pcap --format jsonl call.pcap | jq 'select(.outcome == \"busy\")'
  sipobs pcap --otlp http://localhost:4317 call.pcap";

/// Explain the transfers in capture files
///
/// Rebuilds the SIP dialogs that the files show and judges every transfer in them. SIP is recognised on every
/// port. Needs no privilege.
#[derive(Debug, Args)]
#[command(after_help = format!("{AFTER}\n\n{}", super::EXIT_CODES))]
pub(super) struct Pcap {
    /// Capture files: pcap, pcapng or snoop, also packed by gzip, zstd or lz4; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Look for SIP on these ports only
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<u16>,
    /// Draw the ladders of successful transfers too
    #[arg(long)]
    ladders: bool,
    /// When to colour
    #[arg(long, value_enum, default_value_t)]
    color: Colour,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// For a person
    #[default]
    Text,
    /// One JSON object a line
    Jsonl,
}

/// Reads every file, however damaged some are, and prints what was found.
pub(super) fn pcap(args: &Pcap) -> Result<Exit, Failure> {
    let mut config = args.settings.resolve().map_err(Failure::usage)?;
    if !args.port.is_empty() {
        config.stream.ports = args.port.iter().copied().collect();
    }
    config.limits.memory = config.limits.memory.or_else(memory::for_files);
    let out = io::stdout().lock();
    let mut sink: Box<dyn Sink> = match args.format {
        Format::Text => Box::new(Terminal::new(io::BufWriter::new(out), args.color.look(), args.ladders)),
        Format::Jsonl => Box::new(Jsonl::new(out, config.jsonl.notices)),
    };

    let mut reading = Reading {
        engine: Engine::new(config.engine(), config.privacy().map_err(Failure::usage)?)
            .map_err(Failure::usage)?,
        spans: Spans::start(&config, WhenFull::Wait, || {}).map_err(Failure::usage)?,
        summary: Summary { min_call: config.absent.min_call, ..Summary::default() },
        progress: Show::new(),
        last: Timestamp::default(),
    };
    for file in &args.files {
        match reading.file(Reader::open(file), &mut *sink) {
            Ok(()) => {}
            Err(Stop::NoFile(error)) => return Err(Failure::usage(error)),
            Err(Stop::Output(error)) => return Ok(written(Err(error))),
        }
    }
    let exit = if reading.summary.all_read() { Exit::Done } else { Exit::Partial };
    let printed = reading.end(&mut *sink);
    let delivered = reading.spans.map(Spans::finish).is_none_or(|(_, lost)| lost == 0);
    match printed {
        Ok(()) if !delivered => Ok(Exit::Partial),
        Ok(()) => Ok(exit),
        Err(error) => Ok(written(Err(error))),
    }
}

/// The engine between the files and the sink.
struct Reading {
    engine: Engine,
    summary: Summary,
    spans: Option<Spans>,
    progress: Show,
    last: Timestamp,
}

/// Why no further file is read.
enum Stop {
    NoFile(FileError),
    Output(io::Error),
}

impl Reading {
    /// Reads one file, however damaged it is, and writes down what it held.
    fn file(&mut self, reader: Result<Reader, FileError>, sink: &mut dyn Sink) -> Result<(), Stop> {
        let mut reader = match reader {
            Ok(reader) => reader,
            // Nothing was read yet: a name mistyped is told at once. Later ones cost nothing that was good.
            Err(error) if matches!(error.fault, Fault::Open(_)) && self.summary.files.is_empty() => {
                return Err(Stop::NoFile(error));
            }
            Err(error) => {
                self.note(ReadFile { name: error.file.clone(), ..ReadFile::default() }, [error]);
                return Ok(());
            }
        };
        let before = self.engine.counters();
        let mut cut = CutFrames::default();
        let stopped = self.frames(&mut reader, &mut cut, sink).map_err(Stop::Output)?;
        self.engine.end_file();
        let after = self.engine.counters();

        let messages = after.messages - before.messages;
        let file = ReadFile { messages, unread: unread(&reader, &before, &after), ..held(&reader) };
        let cut_off = |counters: &Counters| (counters.stream.messages_cut, counters.stream.incomplete);
        let ((whole, parts), (whole_before, parts_before)) = (cut_off(&after), cut_off(&before));
        // Of a message within a TCP stream that lacks its end nothing is left.
        let lost = parts - parts_before;
        let cut = cut.fault(whole - whole_before + lost, messages + lost);
        let faults = opaque(&file).into_iter().chain(cut);
        let errors: Vec<_> = faults.map(|fault| FileError { file: file.name.clone(), fault }).collect();
        self.note(file, stopped.into_iter().chain(errors));
        Ok(())
    }

    /// Gives every frame to the engine; what ended it before the end of the file.
    fn frames(
        &mut self,
        reader: &mut Reader,
        cut: &mut CutFrames,
        sink: &mut dyn Sink,
    ) -> io::Result<Option<FileError>> {
        let result = loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    self.summary.packets += 1;
                    self.last = frame.time;
                    let before = self.engine.messages_cut();
                    self.engine.frame(&frame);
                    cut.note(&frame, self.engine.messages_cut() > before);
                    if let Err(error) = self.drain(sink) {
                        break Err(error);
                    }
                    if self.summary.packets.is_multiple_of(8192) {
                        self.progress.at(reader.progress());
                    }
                }
                Ok(None) => break Ok(None),
                Err(error) => break Ok(Some(error)),
            }
        };
        self.progress.clear();
        result
    }

    /// Says what is wrong with a file, and keeps it for the summary.
    fn note(&mut self, mut file: ReadFile, errors: impl IntoIterator<Item = FileError>) {
        for error in errors {
            let fault = error.fault.to_string();
            file.error = Some(file.error.map_or_else(|| fault.clone(), |first| format!("{first}; {fault}")));
            say(&error.into());
        }
        self.summary.files.push(file);
    }

    fn drain(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        while let Some(mut output) = self.engine.poll_output() {
            self.summary.count(&output);
            if let Some(spans) = &mut self.spans {
                spans.name(&mut output);
                spans.output(&output);
            }
            sink.output(&output)?;
        }
        Ok(())
    }

    fn end(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        self.engine.finish(self.last);
        self.drain(sink)?;
        let counters = self.engine.counters();
        self.summary.messages = counters.messages;
        self.summary.not_understood = not_understood(&counters, &self.summary.files);
        self.summary.lost = counters.lost();
        self.summary.evicted_since = counters.calls_evicted.since;
        sink.summary(&self.summary)?;
        sink.flush()
    }
}

/// The frames of a file that the capture cut off.
#[derive(Default)]
struct CutFrames {
    longest: usize,
    /// The first of them, and the first that was seen to hold a message.
    first: Option<u64>,
    first_message: Option<u64>,
}

impl CutFrames {
    fn note(&mut self, frame: &Frame<'_>, holds_message: bool) {
        if frame.wire_len as usize > frame.bytes.len() {
            self.longest = self.longest.max(frame.bytes.len());
            self.first = self.first.or(Some(frame.number));
            self.first_message = self.first_message.or(holds_message.then_some(frame.number));
        }
    }

    fn fault(&self, messages: u64, of: u64) -> Option<Fault> {
        let first = self.first_message.or(self.first).filter(|_| messages > 0)?;
        Some(Fault::Cut { messages, of, longest: self.longest, first })
    }
}

/// What a file held, as its reader saw it.
fn held(reader: &Reader) -> ReadFile {
    let contents = reader.contents();
    ReadFile {
        name: reader.name().to_owned(),
        first: contents.first,
        last: contents.last,
        frames: contents.frames,
        link_types: contents.link_types.iter().map(|(link, frames)| (link.to_string(), *frames)).collect(),
        ..ReadFile::default()
    }
}

/// Why a frame stays closed that another program, or one with keys, may open.
const OPAQUE: [DiscardReason; 3] =
    [DiscardReason::LinkType, DiscardReason::Encrypted, DiscardReason::WifiParts];

/// A file's frames that stay closed; those of link types that the file itself names are told apart.
fn unread(reader: &Reader, before: &Counters, after: &Counters) -> BTreeMap<String, u64> {
    let count = |reason| after.packet.unused.of(reason) - before.packet.unused.of(reason);
    let mut unread: BTreeMap<_, _> =
        OPAQUE.into_iter().map(|reason| (reason.as_str().to_owned(), count(reason))).collect();
    for (link, frames) in reader.contents().unread() {
        unread.entry(DiscardReason::LinkType.as_str().to_owned()).and_modify(|others| *others -= frames);
        unread.insert(link.to_string(), frames);
    }
    unread.retain(|_, frames| *frames > 0);
    unread
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
    for reason in OPAQUE {
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
