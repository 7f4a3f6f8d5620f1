//! The command line: raw flags here, resolved configuration in `sipobs::config`.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use sipobs::config::{Config, Endpoint, Warning};
use sipobs::export::Look;
use sipobs::privacy::Mask;

mod check;
#[cfg(all(feature = "live", target_os = "linux"))]
mod daemon;
mod explain;
mod logging;
mod memory;
mod pages;
mod pcap;
mod run;
mod spans;
mod terms;
mod zone;

#[cfg(all(feature = "live", target_os = "linux"))]
use daemon::run as watch;
#[cfg(all(feature = "live", target_os = "linux"))]
use logging::note;
use logging::{say, warn};
#[cfg(not(all(feature = "live", target_os = "linux")))]
use run::refuse as watch;

/// How sipobs ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Read and understood.
    Done = 0,
    /// A file could not be read whole, an output not written, or a count not accounted for.
    Partial = 1,
    /// Bad arguments or configuration.
    Usage = 2,
    /// The kernel, a capability or an interface is missing for capture; or the daemon that was asked for.
    Capture = 3,
}

const EXIT_CODES: &str = "\
Exit status:
  0  read and understood; or, for run and for a pipe, ended by a signal and
     all handed over
  1  a file was not read to its end (Ctrl-C is one reason), or held frames
     that could not be read (what was read is still reported), or an output
     could not be written or delivered; or nothing has the number or id that
     was asked for; or, for check --live, the daemon cannot account for everything
  2  bad arguments or configuration
  3  this machine cannot capture: a capability, a kernel feature or an
     interface is missing; for check, also that no interface fits; or, for
     check --live, no daemon answers";

/// Whether this build captures live.
const LIVE: bool = cfg!(all(feature = "live", target_os = "linux"));

/// Examples of what this build can do.
fn examples() -> String {
    let view = cfg!(feature = "view");
    let examples = [
        (true, "sipobs call.pcap                         explain every transfer in a capture"),
        (true, "sipobs --number 5550100 *.pcap           those of one number, in all files as one capture"),
        (view, "sipobs view *.pcap                       the same as a list, to choose from"),
        (true, "sipobs pcap --format jsonl *.pcapng      the same, one JSON object a line"),
        (
            true,
            "tcpdump -w - port 5060 | sipobs pcap -   from a pipe; IP fragments take a longer filter (README)",
        ),
        (LIVE, "sudo sipobs run -i eth0                  watch an interface"),
        (true, "sipobs explain 486                       what a status, a cause or a word means"),
        (LIVE, "sipobs check -i eth0                     what would be tried here, and why not"),
        (LIVE, "sipobs check --live                      whether a running daemon lost anything"),
    ];
    let examples = examples.into_iter().filter(|(built_in, _)| *built_in);
    examples.fold("Examples:".to_owned(), |text, (_, example)| format!("{text}\n  {example}"))
}

const CONFIG_EXAMPLES: &str = "\
Examples:
  sipobs config --commented > sipobs.toml  all settings, explained: a file to begin with
  sipobs config                            the settings in effect
  sipobs config -c sipobs.toml             what that file comes to
  SIPOBS_CAPTURE__PORTS=5060,5080-5090 sipobs config";

/// What it was built of, where a release names it.
const COMMIT: &str = match option_env!("SIPOBS_COMMIT") {
    Some(commit) => commit,
    None => "unknown commit",
};

/// The version, the commit, and what was built in.
fn long_version() -> String {
    let features = [
        ("live", LIVE),
        ("mcp", cfg!(feature = "mcp")),
        ("otlp", cfg!(feature = "otlp")),
        ("typed", cfg!(feature = "typed")),
        ("view", cfg!(feature = "view")),
        ("webhook", cfg!(feature = "webhook")),
    ];
    let built_in: Vec<_> =
        features.into_iter().filter(|(_, built_in)| *built_in).map(|(name, _)| name).collect();
    let built_in = if built_in.is_empty() { "none".to_owned() } else { built_in.join(", ") };
    format!("{} ({COMMIT})\nfeatures: {built_in}", env!("CARGO_PKG_VERSION"))
}

/// Explains every SIP call transfer on the wire.
///
/// sipobs rebuilds SIP dialogs from packets and judges each transfer in them: by REFER, by a second-leg
/// INVITE or by redirect. It says what came of it, on what evidence, and what to check.
#[derive(Debug, Parser)]
#[command(
    name = "sipobs",
    version,
    long_version = long_version(),
    max_term_width = 100,
    after_help = format!("{}\n\n{EXIT_CODES}", examples())
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // Their texts are their own: one here would hide them.
    Pcap(Box<pcap::Pcap>),
    #[cfg(feature = "view")]
    View(Box<pcap::View>),
    #[cfg(feature = "mcp")]
    Mcp(Box<pcap::Mcp>),
    // They say what they lack where they are asked for by name.
    #[command(hide = !LIVE)]
    Run(run::Run),
    #[command(hide = !LIVE)]
    Check(check::Check),
    Explain(explain::Explain),
    /// Print the configuration in effect, secrets hidden
    ///
    /// Every setting with its value: the defaults, the file over them, the environment over that, then flags.
    #[command(after_help = format!("{CONFIG_EXAMPLES}\n\n{EXIT_CODES}"))]
    Config(Printed),
    Completions(pages::Completions),
    // For those who make packages.
    #[command(hide = true)]
    Manual(pages::Manual),
}

#[derive(Debug, Args)]
struct Printed {
    #[command(flatten)]
    settings: Settings,
    /// Print every setting with its meaning and its default instead, whatever is in effect: a file to begin with
    #[arg(long)]
    commented: bool,
}

/// Where the configuration comes from; every command takes these.
#[derive(Clone, Debug, Args)]
struct Settings {
    /// Configuration file (TOML); any field can also be set as SIPOBS_SECTION__KEY
    #[arg(long, short = 'c', value_name = "FILE", env = "SIPOBS_CONFIG")]
    config: Option<PathBuf>,
    /// Show numbers and users so
    #[arg(long, value_name = "HOW", value_enum)]
    mask: Option<MaskFlag>,
    /// Send spans to this OpenTelemetry collector, such as http://localhost:4317
    #[arg(long, value_name = "URL", hide = cfg!(not(feature = "otlp")))]
    otlp: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MaskFlag {
    /// The last four digits (the default)
    Last4,
    /// The last three digits
    Last3,
    /// A keyed hash; the key is configuration: privacy.key
    Hash,
    /// In full
    Full,
}

impl Settings {
    /// File, environment, then these flags; looked through, and what its reader should know of it said.
    fn resolve(&self) -> anyhow::Result<Config> {
        let (config, warnings) = self.load()?;
        warnings.iter().for_each(|warning| warn(format_args!("{warning}")));
        config.check()?;
        Ok(config)
    }

    /// The same, and nothing said yet.
    fn load(&self) -> anyhow::Result<(Config, Vec<Warning>)> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let (mut config, warnings) = Config::load(self.config.as_deref(), variables)?;
        if let Some(mask) = self.mask {
            config.privacy.mask = match mask {
                MaskFlag::Last4 => Mask::Last4,
                MaskFlag::Last3 => Mask::Last3,
                MaskFlag::Hash => Mask::Hash,
                MaskFlag::Full => Mask::Full,
            };
        }
        if let Some(url) = &self.otlp {
            config.otlp.endpoint = Some(Endpoint::new(url));
            config.otlp.traces_endpoint = None;
            config.otlp.disabled = false;
        }
        Ok((config, warnings))
    }
}

/// No text is broader, however broad the terminal: the eye loses the line.
const WIDEST: usize = 160;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Colour {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

impl Colour {
    /// The look of standard output.
    fn look(self) -> Look {
        let terminal = io::stdout().is_terminal();
        let colour = match self {
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            Self::Always => true,
            Self::Never => false,
        };
        let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse::<usize>().ok());
        let shown =
            || terminal_size::terminal_size().filter(|_| terminal).map(|(width, _)| usize::from(width.0));
        let width = named.filter(|width| *width > 0).or_else(shown).unwrap_or(80);
        Look { width: width.clamp(60, WIDEST), colour, offset: zone::offset }
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let exit = match Cli::parse_from(with_command(std::env::args_os().collect())).command {
        Command::Pcap(command) => pcap::pcap(&command),
        #[cfg(feature = "mcp")]
        Command::Mcp(command) => pcap::mcp(&command),
        #[cfg(feature = "view")]
        Command::View(command) => pcap::view(&command),
        Command::Run(command) => watch(&command),
        Command::Check(command) => check::check(&command),
        Command::Explain(command) => explain::explain(&command),
        Command::Config(command) => config(&command),
        Command::Completions(command) => Ok(pages::completions(&command)),
        Command::Manual(command) => pages::manual(&command),
    };
    ExitCode::from(exit.unwrap_or_else(|failure| {
        say(&failure.error);
        failure.exit
    }) as u8)
}

/// `sipobs FILE…` is `sipobs pcap FILE…`: where no command is named, and what stands in its place is a file.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    let is_command =
        |arg: &OsString| arg == "help" || cli.get_subcommands().any(|known| arg == known.get_name());
    let is_file = |arg: &OsString| arg == "-" || Path::new(arg).exists();
    // A name with a dot or a slash is that of a file which is not there: to say so is better than to know no such command.
    let is_name = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.contains(['.', '/']));
    let first = args.get(1);
    let stands_for_file = match first {
        Some(first) if first == "-" || !first.as_encoded_bytes().starts_with(b"-") => {
            !is_command(first) && (is_file(first) || is_name(first))
        }
        // Options of `pcap` may go before its files.
        Some(_) => !args.iter().any(is_command) && args.iter().skip(1).any(is_file),
        None => false,
    };
    if stands_for_file {
        args.insert(1, "pcap".into());
    }
    args
}

/// Why a command ended early, and how it exits.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }
}

fn config(command: &Printed) -> Result<Exit, Failure> {
    if command.commented {
        return Ok(written(io::stdout().write_all(Config::COMMENTED.as_bytes())));
    }
    let settings = &command.settings;
    let config = settings.resolve().map_err(Failure::usage)?;
    let text = config.to_toml().map_err(Failure::usage)?;
    Ok(written(io::stdout().write_all(text.as_bytes())))
}

/// What a write came to. A reader that has seen enough (`| head`) is no failure.
fn written(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            say(&anyhow::Error::new(error).context("cannot write"));
            Exit::Partial
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_offers_what_is_built_in_and_nothing_else() {
        let help = Cli::command().render_long_help().to_string();
        for (text, built_in) in [
            ("sipobs run", LIVE),
            ("check", LIVE),
            ("sipobs view", cfg!(feature = "view")),
            ("explain", true),
        ] {
            assert_eq!(help.contains(text), built_in, "{text}\n{help}");
        }
        let pcap = Cli::command().find_subcommand_mut("pcap").map(|pcap| pcap.render_long_help().to_string());
        assert_eq!(pcap.map(|help| help.contains("--otlp")), Some(cfg!(feature = "otlp")));
    }

    #[test]
    fn a_file_needs_no_command() {
        let args = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        for text in ["sipobs Cargo.toml", "sipobs -", "sipobs --ladders Cargo.toml", "sipobs gone.pcap src/"]
        {
            assert_eq!(with_command(args(text))[1], "pcap", "{text}");
        }
        for text in ["sipobs", "sipobs --help", "sipobs run -i eth0", "sipobs pcap Cargo.toml", "sipobs rnu"]
        {
            assert_eq!(with_command(args(text)), args(text));
        }
        assert_eq!(with_command(args("sipobs explain Cargo.toml"))[1], "explain");
    }
}
