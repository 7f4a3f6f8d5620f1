//! `sipobs pcap`: capture files in, verdicts out.

use std::io;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use sipobs::capture::file::Capture;
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::{Jsonl, Look, Report, Sink, Terminal};
use sipobs::follow::Keep;
use sipobs::privacy::Mask;

use self::find::Find;
use self::keys::Keys;
use self::reading::Reading;
use self::report::{Destination, Reports};
use self::sinks::Sinks;
use super::spans::{Spans, WhenFull};
use super::{Colour, Exit, Failure, Settings, memory, say, written, zone};
#[cfg(feature = "mcp")]
pub(super) use mcp::{Mcp, mcp};
#[cfg(all(feature = "live", feature = "view", target_os = "linux"))]
pub(super) use view::{List, Shown, can_be_shown, list};
#[cfg(feature = "view")]
pub(super) use view::{View, view};

pub(super) mod again;
mod find;
#[cfg(any(feature = "mcp", feature = "view"))]
mod found;
mod interrupt;
mod keys;
#[cfg(feature = "mcp")]
mod mcp;
mod new_file;
mod reading;
mod report;
mod sinks;
#[cfg(feature = "view")]
mod view;
mod whole;
pub(super) mod write;

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
                                              INVITE to BYE, with all its legs;
                                              -v with headers, -vv with bodies
  sipobs --call '#17' -w case.pcapng --redact *.pcap
                                              its packets, to hand on; nobody is named
  sipobs --keylog keys.txt tls.pcap           SIP in TLS, where its secrets were logged
  sipobs --html report.html *.pcap            a page to hand on; --md for a ticket
  tcpdump -w - port 5060 | sipobs -           until Ctrl-C
  sipobs pcap --ladders --mask full --color always call.pcap | less -R
  sipobs pcap --format jsonl call.pcap | jq 'select(.outcome == \"busy\")'";

const SPANS_EXAMPLE: &str = match cfg!(feature = "otlp") {
    true => "\n  sipobs pcap --otlp http://localhost:4317 call.pcap",
    false => "",
};

/// Explain the transfers in capture files
///
/// Rebuilds the SIP dialogs that the files show and judges every transfer in them. SIP is recognised on every
/// port. Needs no privilege.
#[derive(Debug, Args)]
#[command(after_help = format!("{AFTER}{SPANS_EXAMPLE}\n\n{}", super::EXIT_CODES))]
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
    /// With --call: the headers of each message, as rsip reads them, and what its SDP offers; -vv: the message, its body too
    #[arg(long, short, action = ArgAction::Count, requires = "call")]
    verbose: u8,
    /// When to colour
    #[arg(long, value_enum, default_value_t)]
    color: Colour,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    find: Find,
    #[command(flatten)]
    evidence: write::Evidence,
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
    let config = configuration(&args.settings, &args.port, &args.keys)?;
    let stop = interrupt::stop().map_err(Failure::usage)?;
    let mut capture = Capture::open(&args.files, &stop).map_err(Failure::usage)?;
    // Made now: what can't be written is told before anything is read.
    let packets = args.evidence.begin(&args.files, &capture).map_err(Failure::usage)?;
    let reports = args.reports.open(&args.files).map_err(Failure::usage)?;
    let prints = args.prints(&reports).map_err(Failure::usage)?;
    let mut find = args.find.clone();
    (find.writes, find.for_report) = (packets.is_some(), !reports.is_empty());
    let names: Vec<String> = capture.names().collect();
    let may_read_again = capture.can_be_read_again();
    let mut sinks = args.sinks(&config, &find, prints, may_read_again);

    let engine = Engine::new(config.engine(), config.privacy().map_err(Failure::usage)?);
    let engine = engine.map_err(Failure::usage)?;
    let spans = Spans::start(&config, WhenFull::Wait, || {}).map_err(Failure::usage)?;
    let mut reading = Reading::new(engine, spans, &find, config.absent.min_call);
    let read = reading.read(&mut capture, &mut sinks);
    let read_again = || Capture::open(&args.files, &stop);
    let told = read.and_then(|()| reading.settle(&mut sinks)).and_then(|()| {
        let all = if !may_read_again {
            true
        } else if stop.is_asked() {
            if find.is_of_one() {
                say(&anyhow::anyhow!("interrupted: the whole call is not drawn"));
            }
            true
        } else {
            sinks.add_whole_calls(&config, find.is_of_one(), &reading.asked, read_again)?
        };
        reading.end(&mut sinks).map(|()| all)
    });
    let mut all = reading.summary.all_read();
    if let Some(missing) = find.missing().filter(|_| reading.summary.shows_nothing()) {
        say(&anyhow::anyhow!("{missing}"));
        all = false;
    }
    if told.is_ok() {
        let wants = std::mem::take(&mut reading.wants);
        let written = packets.map(|to| args.evidence.write(to, &config, &wants, &names, &stop, read_again));
        let reported = sinks.report.map(|report| report::write(&report, reports).map(|()| true));
        for written in [written, reported].into_iter().flatten() {
            all &= written.unwrap_or_else(|error| {
                say(&error);
                false
            });
        }
    }
    all &= reading.spans.map(Spans::finish).is_none_or(|(_, lost)| lost == 0);
    match told {
        Ok(all_again) => Ok(if all && all_again { Exit::Done } else { Exit::Partial }),
        Err(error) => Ok(written(Err(error))),
    }
}

/// The settings in effect where files are read.
fn configuration(settings: &Settings, ports: &[u16], keys: &Keys) -> Result<Config, Failure> {
    let mut config = settings.resolve().map_err(Failure::usage)?;
    if !ports.is_empty() {
        config.stream.ports = ports.iter().copied().collect();
    }
    config.stream.keys = keys.read().map_err(Failure::usage)?;
    config.stream.awaits_keys = true;
    config.stream.reads_hep = true;
    config.limits.memory = config.limits.memory.or_else(memory::for_files);
    Ok(config)
}

impl Pcap {
    /// Whether verdicts are printed: not where something else goes to standard output, or a report is wanted instead.
    ///
    /// # Errors
    ///
    /// When two go there.
    fn prints(&self, reports: &[Destination]) -> anyhow::Result<bool> {
        let there = [
            (self.evidence.takes_standard_output(), "-w -"),
            (reports.iter().any(Destination::is_standard_output), "a report"),
            (reports.iter().filter(|report| report.is_standard_output()).count() > 1, "another"),
            (self.format.is_some(), "what --format is of"),
        ];
        let mut there = there.into_iter().filter_map(|(is_there, what)| is_there.then_some(what));
        if let (Some(one), Some(other)) = (there.next(), there.next()) {
            anyhow::bail!("{one} and {other} can't both go to standard output");
        }
        if self.verbose > 0 && matches!(self.format, Some(Format::Jsonl)) {
            anyhow::bail!(
                "-v tells more of what is drawn, and JSON lines draw nothing: leave one of them out"
            );
        }
        Ok(self.format.is_some() || (reports.is_empty() && !self.evidence.takes_standard_output()))
    }

    /// How much of each message of a whole call is told.
    fn keep(&self) -> Keep {
        match self.verbose {
            0 => Keep::Line,
            1 => Keep::Typed,
            2.. => Keep::Whole,
        }
    }

    fn sinks(&self, config: &Config, find: &Find, prints: bool, may_read_again: bool) -> Sinks {
        let printed = prints.then(|| -> Box<dyn Sink> {
            match self.format.unwrap_or_default() {
                Format::Text => {
                    let ladders = self.ladders || find.is_of_one();
                    let out = io::BufWriter::new(io::stdout());
                    let terminal = Terminal::new(out, self.color.look(), ladders).asked(find.is_asked());
                    Box::new(terminal.whole(find.is_of_one() && may_read_again))
                }
                Format::Jsonl => Box::new(Jsonl::new(io::stdout().lock(), config.jsonl.notices)),
            }
        });
        let masked = config.privacy.mask != Mask::Full;
        let look = || Look { offset: zone::offset, ..Look::default() };
        let report = find.for_report.then(|| Report::new(look(), masked).all(find.is_of_one()));
        let draws = prints && matches!(self.format.unwrap_or_default(), Format::Text);
        Sinks { printed, keep: self.keep(), draws, report }
    }
}
