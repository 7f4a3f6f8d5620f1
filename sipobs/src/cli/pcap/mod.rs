//! `sipobs pcap`: capture files in, verdicts out.

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sipobs::capture::file::Capture;
use sipobs::engine::Engine;
use sipobs::export::{Jsonl, Look, Report, Sink, Terminal};
use sipobs::privacy::Mask;

use self::find::Find;
use self::reading::Reading;
use self::report::{Destination, Reports, Sinks};
use super::spans::{Spans, WhenFull};
use super::{Colour, Exit, Failure, Settings, memory, say, written, zone};

mod find;
mod interrupt;
mod reading;
mod report;
mod whole;

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
  sipobs --html report.html *.pcap            a page to hand on; --md for a ticket
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
    /// How to print [default: text]
    #[arg(long, value_enum)]
    format: Option<Format>,
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
    reports: Reports,
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
    let destinations = args.reports.open(&args.files).map_err(Failure::usage)?;
    let on_stdout = destinations.iter().any(Destination::is_standard_output);
    if on_stdout && args.format.is_some() {
        return Err(Failure::usage(anyhow::anyhow!(
            "a report and --format can't both go to standard output"
        )));
    }
    let find = args.find.for_report(!destinations.is_empty());
    let read_twice = capture.can_be_read_again();
    let is_whole = find.is_of_one() && read_twice;
    let format = args.format.unwrap_or_default();
    let is_printed = args.format.is_some() || destinations.is_empty();
    let out = io::stdout();
    let printed: Option<Box<dyn Sink>> = match format {
        _ if !is_printed => None,
        Format::Text => {
            let out = io::BufWriter::new(out);
            let ladders = args.ladders || find.is_of_one();
            let terminal = Terminal::new(out, args.color.look(), ladders).asked(find.is_asked());
            Some(Box::new(terminal.whole(is_whole)))
        }
        Format::Jsonl => Some(Box::new(Jsonl::new(out.lock(), config.jsonl.notices))),
    };
    let masked = config.privacy.mask != Mask::Full;
    let look = Look { offset: zone::offset, ..Look::default() };
    let report = find.for_report.then(|| Report::new(look, masked).all(find.is_of_one()));
    let mut sinks = Sinks { printed, report };

    let engine = Engine::new(config.engine(), config.privacy().map_err(Failure::usage)?);
    let engine = engine.map_err(Failure::usage)?;
    let spans = Spans::start(&config, WhenFull::Wait, || {}).map_err(Failure::usage)?;
    let mut reading = Reading::new(engine, spans, &find, config.absent.min_call);
    let read = reading.read(&mut capture, &mut sinks);
    let exit = if reading.summary.all_read() { Exit::Done } else { Exit::Partial };
    let printed = read.and_then(|()| reading.settle(&mut sinks)).and_then(|()| {
        let read_again = || Capture::open(&args.files, &stop);
        if is_whole && is_printed && matches!(format, Format::Text) && !stop.is_asked() {
            whole::show(&config, &reading.asked, read_again, &mut sinks)?;
        } else if is_whole && stop.is_asked() {
            say(&anyhow::anyhow!("interrupted: the whole call is not drawn"));
        }
        if let Some(report) = sinks.report.as_mut().filter(|_| read_twice && !stop.is_asked()) {
            report::add_whole_calls(report, &config, &reading.asked, read_again)?;
        }
        reading.end(&mut sinks)
    });
    let delivered = reading.spans.map(Spans::finish).is_none_or(|(_, lost)| lost == 0);
    if let (Ok(()), Some(report)) = (&printed, &sinks.report) {
        let written = report::write(report, destinations);
        if let Err(error) = written {
            say(&error);
            return Ok(Exit::Partial);
        }
    }
    match printed {
        Ok(()) if !delivered => Ok(Exit::Partial),
        Ok(()) => Ok(exit),
        Err(error) => Ok(written(Err(error))),
    }
}
