//! `sipobs pcap`: capture files in, verdicts out.

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sipobs::capture::file::Capture;
use sipobs::engine::Engine;
use sipobs::export::{Jsonl, Sink, Terminal};

use self::find::Find;
use self::reading::Reading;
use super::spans::{Spans, WhenFull};
use super::{Colour, Exit, Failure, Settings, memory, say, written};

mod find;
mod interrupt;
mod reading;
mod whole;
mod write;

const AFTER: &str = "\
Several files are one capture, merged by time in whatever order they are
named: the pieces of a rotated one, or taps of one call. A packet that two
taps saw, and a file that is named twice, count once. Ctrl-C ends the reading
and tells what was read until then.

Everything is judged, whatever is asked for; options choose what is shown.
Each verdict has a number in this run (#17) and an id that is the same
whatever else is read with it.

Examples:
  sipobs call.pcap                            the same as: sipobs pcap call.pcap
  sipobs trunk.pcap0 trunk.pcap1 pbx.pcapng   pieces and taps of one network
  sipobs --failed --since 14:00 --until 14:30 *.pcap
  sipobs --number '+49 30 1234-567' *.pcap    or its last digits
  sipobs --outcome busy,no_answer --fault provider *.pcap
  sipobs --call '#17' *.pcap                  that verdict, and the whole call from
                                              INVITE to BYE, with all its legs
  sipobs --call '#17' -w case.pcapng --redact *.pcap
                                              its packets, to hand on; nobody is named
  tcpdump -w - port 5060 | sipobs -           until Ctrl-C
  sipobs pcap --ladders --mask full --color always call.pcap | less -R
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
    find: Find,
    #[command(flatten)]
    evidence: write::Evidence,
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
    let stop = interrupt::stop().map_err(Failure::usage)?;
    let mut capture = Capture::open(&args.files, &stop).map_err(Failure::usage)?;
    let is_whole = args.find.is_of_one() && capture.can_be_read_again();
    let target = args.evidence.begin(&args.files, &capture).map_err(Failure::usage)?;
    let names: Vec<String> = capture.names().collect();
    let mut find = args.find.clone();
    find.writes = target.is_some();
    // Printed to nowhere where packets go to standard output.
    let out: Box<dyn io::Write> = if args.evidence.takes_standard_output() {
        Box::new(io::sink())
    } else {
        Box::new(io::stdout().lock())
    };
    let mut sink: Box<dyn Sink> = match args.format {
        Format::Text => {
            let out = io::BufWriter::new(out);
            let ladders = args.ladders || args.find.is_of_one();
            let terminal = Terminal::new(out, args.color.look(), ladders).asked(args.find.is_asked());
            Box::new(terminal.whole(is_whole))
        }
        Format::Jsonl => Box::new(Jsonl::new(out, config.jsonl.notices)),
    };

    let engine = Engine::new(config.engine(), config.privacy().map_err(Failure::usage)?);
    let engine = engine.map_err(Failure::usage)?;
    let spans = Spans::start(&config, WhenFull::Wait, || {}).map_err(Failure::usage)?;
    let mut reading = Reading::new(engine, spans, &find, config.absent.min_call);
    let read = reading.read(&mut capture, &mut *sink);
    let mut exit = if reading.summary.all_read() { Exit::Done } else { Exit::Partial };
    let printed = read.and_then(|()| reading.settle(&mut *sink)).and_then(|()| {
        if is_whole && matches!(args.format, Format::Text) && !stop.is_asked() {
            let read_again = || Capture::open(&args.files, &stop);
            if !whole::show(&config, &reading.asked, read_again, &mut *sink)? {
                exit = Exit::Partial;
            }
        } else if is_whole && stop.is_asked() {
            say(&anyhow::anyhow!("interrupted: the whole call is not drawn"));
        }
        reading.end(&mut *sink)
    });
    let is_shown = reading.summary.shown.is_none_or(|shown| shown.transfers + shown.calls + shown.alerts > 0);
    if let Some(missing) = find.missing().filter(|_| !is_shown) {
        say(&anyhow::anyhow!("{missing}"));
        exit = Exit::Partial;
    }
    let all_written = match target {
        Some(target) if printed.is_ok() => {
            drop(sink);
            let wants = std::mem::take(&mut reading.wants);
            let read_again = || Capture::open(&args.files, &stop);
            args.evidence.write(target, &config, &wants, &names, &stop, read_again).unwrap_or_else(|error| {
                say(&error);
                false
            })
        }
        _ => true,
    };
    let delivered = reading.spans.map(Spans::finish).is_none_or(|(_, lost)| lost == 0);
    match printed {
        Ok(()) if !delivered || !all_written => Ok(Exit::Partial),
        Ok(()) => Ok(exit),
        Err(error) => Ok(written(Err(error))),
    }
}
