//! What sipobs says of itself, on standard error: standard output belongs to what was found. The daemon has a log; other
//! commands just say it.

use std::fmt::Arguments;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A complaint with its causes, on one line: something is not done that should be.
pub(super) fn say(error: &anyhow::Error) {
    if !log::error(format_args!("{error:#}")) {
        to_person(format!("sipobs: {error:#}"));
    }
}

/// Something that somebody should look at.
pub(super) fn warn(text: Arguments<'_>) {
    if !log::warn(text) {
        to_person(format!("sipobs: warning: {text}"));
    }
}

/// What is said while something else has the whole terminal: kept until that asks for it.
static KEPT: Mutex<Option<Vec<String>>> = Mutex::new(None);
/// So much of it is kept; the rest is only lost sight of.
const MOST_KEPT: usize = 1_000;

pub(super) fn to_person(text: String) {
    match &mut *kept() {
        Some(kept) if kept.len() < MOST_KEPT => kept.push(text),
        Some(_) => {}
        None => drop(writeln!(io::stderr(), "{text}")),
    }
}

fn kept() -> MutexGuard<'static, Option<Vec<String>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is said from now on, as something else has the terminal.
#[cfg(feature = "view")]
pub(super) fn keep() {
    kept().get_or_insert_default();
}

/// What was said since then, or since it was last asked for.
#[cfg(feature = "view")]
pub(super) fn take_kept() -> Vec<String> {
    kept().as_mut().map(std::mem::take).unwrap_or_default()
}

/// The terminal is free again: says what nobody has asked for.
#[cfg(feature = "view")]
pub(super) fn keep_no_more() {
    let kept = kept().take();
    kept.into_iter().flatten().for_each(to_person);
}

#[cfg(all(feature = "live", target_os = "linux"))]
pub(super) use log::{Started, note, start, started};

/// The daemon's log.
#[cfg(all(feature = "live", target_os = "linux"))]
mod log {
    use std::fmt::{self, Arguments};
    use std::io::{self, IsTerminal as _, Write};

    use rustix::fs::fstat;
    use sipobs::config::{LogConfig, LogFormat, LogLevel};
    use sipobs::export::clean;
    use tracing::dispatcher::has_been_set;
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::fmt::format::Writer;
    use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
    use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, layer};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry::LookupSpan;
    use tracing_subscriber::util::SubscriberInitExt as _;

    /// From here on, what is said goes into the log.
    pub(crate) fn start(config: &LogConfig) {
        let line = Line { journal: is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) };
        // Only the first one in a process counts.
        let _ = match config.format {
            LogFormat::Text => text(config.level, line, || Stderr).try_init(),
            LogFormat::Json => json(config.level, || Stderr).try_init(),
        };
    }

    /// Standard error, unless something else has the terminal that it is: then it is kept for that.
    struct Stderr;

    impl Write for Stderr {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.write_all(line).map(|()| line.len())
        }

        fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
            if io::stderr().is_terminal() && super::kept().is_some() {
                super::to_person(String::from_utf8_lossy(line).trim_end().to_owned());
                return Ok(());
            }
            io::stderr().write_all(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What happens.
    pub(crate) fn note(text: Arguments<'_>) {
        tracing::info!("{}", one_line(text));
    }

    /// Whether there is a log, and so this is in it.
    pub(crate) fn warn(text: Arguments<'_>) -> bool {
        tracing::warn!("{}", one_line(text));
        has_been_set()
    }

    /// The same.
    pub(crate) fn error(text: Arguments<'_>) -> bool {
        tracing::error!("{}", one_line(text));
        has_been_set()
    }

    /// What an error quotes of a file or of a kernel must not begin a line of its own.
    fn one_line(text: Arguments<'_>) -> String {
        clean(&text.to_string())
    }

    /// What a daemon begins with.
    pub(crate) struct Started<'a> {
        pub(crate) commit: &'a str,
        pub(crate) interfaces: &'a str,
        pub(crate) ports: &'a str,
        pub(crate) ring: &'a str,
        pub(crate) hep: &'a str,
        pub(crate) collector: &'a str,
        pub(crate) metrics: &'a str,
        pub(crate) trunks: &'a str,
    }

    /// The line of the start, with a field for each of these.
    pub(crate) fn started(with: &Started<'_>) {
        let Started { commit, interfaces, ports, ring, hep, collector, metrics, trunks } = with;
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(version, commit, interfaces, ports, ring, hep, collector, metrics, trunks, "started");
    }

    fn text<W>(level: LogLevel, line: Line, out: W) -> impl Subscriber
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        tracing_subscriber::registry().with(only(level)).with(layer().event_format(line).with_writer(out))
    }

    fn json<W>(level: LogLevel, out: W) -> impl Subscriber
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let lines = layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        tracing_subscriber::registry().with(only(level)).with(lines.with_target(false).with_writer(out))
    }

    /// Nothing of libraries: what they say may quote the wire, or a header.
    fn only(level: LogLevel) -> Targets {
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
        };
        Targets::new().with_target(env!("CARGO_CRATE_NAME"), level)
    }

    /// Whether standard error is the stream that systemd names: device and inode (systemd.exec(5)).
    fn is_journal(stream: Option<&str>) -> bool {
        let Ok(stat) = fstat(io::stderr()) else { return false };
        stream.is_some_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    }

    /// A line for a person. The journal has time and name by itself, and takes the priority from in front of the line
    /// (sd-daemon(3)).
    struct Line {
        journal: bool,
    }

    impl<S, N> FormatEvent<S, N> for Line
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
    {
        fn format_event(
            &self,
            context: &FmtContext<'_, S, N>,
            mut out: Writer<'_>,
            event: &Event<'_>,
        ) -> fmt::Result {
            let level = *event.metadata().level();
            if self.journal {
                write!(out, "<{}>", priority(level))?;
            } else {
                SystemTime.format_time(&mut out)?;
                write!(out, " {level:<5} ")?;
            }
            context.field_format().format_fields(out.by_ref(), event)?;
            writeln!(out)
        }
    }

    /// As in syslog(3).
    fn priority(level: Level) -> u8 {
        match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::{Arc, Mutex};

        use super::*;

        #[derive(Clone, Default)]
        struct Out(Arc<Mutex<Vec<u8>>>);

        impl Write for Out {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Out {
            fn of<S: Subscriber + Send + Sync>(
                make: impl FnOnce(Box<dyn Fn() -> Self + Send + Sync>) -> S,
            ) -> String {
                let out = Self::default();
                let writer = out.clone();
                let subscriber = make(Box::new(move || writer.clone()));
                tracing::subscriber::with_default(subscriber, || {
                    note(format_args!("eth0: attached\n<0>forged"));
                    warn(format_args!("3 frames lost"));
                    error(format_args!("cannot write"));
                    tracing::error!(target: "hyper", "a library's");
                    let with = Started {
                        commit: "abc",
                        interfaces: "eth0",
                        ports: "5060",
                        ring: "perf",
                        hep: "none",
                        collector: "none",
                        metrics: "127.0.0.1:9464",
                        trunks: "none",
                    };
                    started(&with);
                });
                let bytes = out.0.lock().unwrap();
                String::from_utf8(bytes.clone()).unwrap()
            }
        }

        #[test]
        fn the_journal_gets_priorities_and_nobody_can_forge_one() {
            let said = Out::of(|out| text(LogLevel::Info, Line { journal: true }, out));
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines.len(), 4, "{said}");
            assert!(lines[0].starts_with("<6>eth0: attached") && lines[0].contains("forged"), "{said}");
            assert_eq!(lines[1..3], ["<4>3 frames lost", "<3>cannot write"]);
            assert!(
                lines[3].starts_with("<6>started version=") && lines[3].contains("interfaces=\"eth0\""),
                "{said}"
            );
        }

        #[test]
        fn elsewhere_a_person_gets_time_and_level() {
            let said = Out::of(|out| text(LogLevel::Warn, Line { journal: false }, out));
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines.len(), 2, "{said}");
            let (time, rest) = lines[0].split_once(' ').unwrap();
            assert!(time.starts_with("20") && time.ends_with('Z'), "{said}");
            assert_eq!(rest, "WARN  3 frames lost");
        }

        #[test]
        fn a_program_gets_an_object_a_line() {
            let said = Out::of(|out| json(LogLevel::Info, out));
            let lines: Vec<serde_json::Value> =
                said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines.len(), 4, "{said}");
            assert_eq!((&lines[1]["level"], &lines[1]["message"]), (&"WARN".into(), &"3 frames lost".into()));
            assert_eq!((&lines[3]["message"], &lines[3]["ports"]), (&"started".into(), &"5060".into()));
        }

        #[test]
        fn the_journal_is_known_by_its_stream() {
            let stat = fstat(io::stderr()).unwrap();
            assert!(is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
            assert!(!is_journal(Some("1:2")) && !is_journal(None) && !is_journal(Some("")));
        }
    }
}

/// Without a daemon there is no log.
#[cfg(not(all(feature = "live", target_os = "linux")))]
mod log {
    use std::fmt::Arguments;

    pub(super) fn warn(_: Arguments<'_>) -> bool {
        false
    }

    pub(super) fn error(_: Arguments<'_>) -> bool {
        false
    }
}
