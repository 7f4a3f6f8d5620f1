//! `sipobs pcap`: capture files in, verdicts out.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sipobs::capture::file::{Fault, Progress, Reader};
use sipobs::engine::Engine;
use sipobs::export::{Jsonl, Sink, Summary, Terminal};
use sipobs::timestamp::Timestamp;

use super::spans::{Spans, WhenFull};
use super::{Colour, Exit, Failure, Settings, say, written};

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
    /// Capture files: pcap or pcapng, also gzipped; `-` is standard input
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
    let out = io::stdout().lock();
    let mut sink: Box<dyn Sink> = match args.format {
        Format::Text => Box::new(Terminal::new(io::BufWriter::new(out), args.color.look(), args.ladders)),
        Format::Jsonl => Box::new(Jsonl::new(out, config.jsonl.notices)),
    };

    let mut reading = Reading {
        engine: Engine::new(config.engine(), config.privacy().map_err(Failure::usage)?)
            .map_err(Failure::usage)?,
        spans: Spans::start(&config, WhenFull::Wait, || {}).map_err(Failure::usage)?,
        summary: Summary::default(),
        progress: Show::new(),
        last: Timestamp::default(),
    };
    let mut exit = Exit::Done;
    for file in &args.files {
        let mut reader = match Reader::open(file) {
            Ok(reader) => reader,
            // Nothing was read yet: a name mistyped is told at once. Later ones cost nothing that was good.
            Err(error) if matches!(error.fault, Fault::Open(_)) && reading.summary.packets == 0 => {
                return Err(Failure::usage(error));
            }
            Err(error) => {
                say(&error.into());
                exit = Exit::Partial;
                continue;
            }
        };
        match reading.read(&mut reader, &mut *sink) {
            Ok(()) => {}
            Err(Stop::File(error)) => {
                say(&error);
                exit = Exit::Partial;
            }
            Err(Stop::Output(error)) => return Ok(written(Err(error))),
        }
    }
    let printed = reading.end(&mut *sink);
    let delivered = reading.spans.is_none_or(Spans::finish);
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

/// Why reading stopped.
enum Stop {
    File(anyhow::Error),
    Output(io::Error),
}

impl Reading {
    fn read(&mut self, reader: &mut Reader, sink: &mut dyn Sink) -> Result<(), Stop> {
        let result = loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    self.summary.packets += 1;
                    self.last = frame.time;
                    self.engine.frame(&frame);
                    if let Err(error) = self.drain(sink) {
                        break Err(Stop::Output(error));
                    }
                    if self.summary.packets.is_multiple_of(8192) {
                        self.progress.at(reader.progress());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(Stop::File(error.into())),
            }
        };
        self.progress.clear();
        result
    }

    fn drain(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        while let Some(output) = self.engine.poll_output() {
            self.summary.count(&output);
            if let Some(spans) = &mut self.spans {
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
        self.summary.not_understood = counters.not_understood();
        self.summary.lost = counters.lost();
        sink.summary(&self.summary)?;
        sink.flush()
    }
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
