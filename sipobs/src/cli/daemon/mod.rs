//! The daemon: live capture before the engine, sinks behind it. Start and end, in order; what happens in
//! between is in [`capture_loop`].

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use sd_notify::NotifyState;
use sipobs::capture::live::Error;
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::hep::HepOut;
use sipobs::export::metrics::{Access, Metrics, serve};
use sipobs::export::page::{Page, PageSink};
use sipobs::export::{Brief, Jsonl, Look, Terminal};
use sipobs::journal::Journal;
use sipobs::privacy::Mask;
use tokio::runtime::{Builder, Runtime};

use super::run::{Format, Run};
use super::spans::{Left, Spans, WhenFull};
use super::{Exit, Failure, say, warn};
use capture_loop::{CaptureLoop, Ended};
use handover::Handover;
use health::CaptureHealth;
use queued_sink::QueuedSink;
use recorder::{Folder, Recorder};
use records::{Records, RotatedJsonl};
use reload::Files;
use signals::{Sighup, Signals};
use sources::{SourceError, Sources};
use state::State;

mod announce;
mod capture_loop;
mod counts;
mod handover;
mod health;
mod privilege;
mod queued_sink;
mod recorder;
mod records;
mod reload;
mod screen;
mod signals;
mod sources;
mod state;
mod syscalls;
mod transitions;
mod webhook;

/// How long an output, the list and the state may take at the end. The flush of the spans has a bound of its own.
const END: Duration = Duration::from_secs(5);
/// How much of that files of evidence may take.
const LAST_FILES: Duration = Duration::from_secs(4);
/// Of a file with spans. The longest queue that makes sense takes less.
const MOST_LEFT_SPANS: usize = 256 << 20;

/// Watches until a signal comes or capture fails.
pub(super) fn run(args: &Run) -> Result<Exit, Failure> {
    let files = Files::new(args.file());
    let config = &args.config().map_err(Failure::usage)?;
    privilege::drop_privileges(config.capture.ring);
    // Before the file system is closed: the collector's certificates may be anywhere, and so may a file for records.
    let records = Records::open(&config.jsonl).map_err(Failure::usage)?;
    let rotation = records.rotation();
    let evidence = Folder::open(&config.recorder).map_err(Failure::usage)?;
    let spans = Spans::start(config, WhenFull::Drop, privilege::restrict_exporter(config));
    let spans = spans.map_err(Failure::usage)?;
    let webhook = webhook::start(config, privilege::restrict_exporter(config)).map_err(Failure::usage)?;
    let node = config.otlp.host();
    let hep_out = HepOut::start(&config.hep_out, &config.hep, &node, privilege::restrict_exporter(config));
    let hep_out =
        hep_out.map_err(|error| anyhow!(error).context("cannot send HEP")).map_err(Failure::usage)?;
    let access = Access::read(&config.metrics).map_err(Failure::usage)?;
    // It tells of the process, from files that could not be opened later.
    let metrics = Arc::new(Metrics::new([]));
    privilege::restrict_filesystem(config, args.file());
    // Threads have what their parent has left: after that.
    let runtime = runtime().map_err(Failure::usage)?;
    let hangups = Sighup::hold(&runtime).map_err(Failure::usage)?;
    // What can be wrong with the configuration comes first, then what needs privilege.
    let privacy = config.privacy().map_err(Failure::usage)?;
    let mut engine = Engine::new(config.engine(), privacy).map_err(Failure::usage)?;
    let hep_out = hep_out.map(|(relay, handle)| {
        engine.relay_to(Box::new(relay));
        handle
    });
    let state = State::open(&config.state).map_err(Failure::usage)?;
    if let Some(ratio) = state.restored() {
        engine.restore_ratio(ratio);
    }
    metrics.trunks(engine.transfers().trunks());
    let mut screen = screen::Screen::of(args, &records).map_err(Failure::usage)?;
    let format = if screen.is_there() { Format::None } else { args.format() };
    let mut sinks = sinks(config, records, format, args.look()).map_err(Failure::usage)?;
    sinks.extend(screen.sink());
    sinks.extend(webhook.map(webhook::queued).transpose().map_err(Failure::usage)?);
    let page = config.page.enabled.then(|| {
        let folder = config.recorder.folder.clone();
        let masked = config.privacy.mask != Mask::Full;
        Page::new(
            recorder::run(),
            args.look(),
            masked,
            folder,
            config.page.trace_url.clone(),
            metrics.page_removed(),
        )
    });
    let fill = page.clone().map(|page| QueuedSink::start("page", Box::new(PageSink(page))));
    sinks.extend(fill.transpose().map_err(Failure::usage)?);
    let recorder = evidence.map(|folder| Recorder::start(folder, config, LAST_FILES)).transpose();
    let recorder = recorder.map_err(Failure::usage)?;

    let health = Arc::new(CaptureHealth::default());
    let server = runtime
        .block_on(serve(&config.metrics, access, Arc::clone(&metrics), Arc::clone(&health) as _, page))
        .map_err(Failure::usage)?;
    // From here on a signal ends the daemon in order; before, it just ends it: nothing is attached yet.
    let signals =
        Signals::listen(&runtime, hangups, args, files, config, rotation).map_err(Failure::usage)?;
    let sources = Sources::open(config).map_err(|error| match error {
        SourceError::Live(error) => cannot_capture(error, "cannot capture"),
        SourceError::Hep(error) => Failure::usage(error),
    })?;
    announce::start(config, &sources, &engine);
    if sources.hep().is_some() {
        health.listens();
    }

    let config = config.clone();
    let most = config.engine().transfer.limits.journal;
    let beside = config.state.path.as_deref().filter(|_| config.state.handover);
    let calls = beside.map(|path| Handover::beside(path, "calls", Journal::MARK, most));
    let left_spans = beside.map(|path| Handover::beside(path, "spans", Left::MARK, MOST_LEFT_SPANS));
    let mut capture_loop = CaptureLoop {
        config,
        sources,
        engine,
        spans,
        sinks,
        recorder,
        hep_out,
        metrics,
        health,
        state,
        calls,
        left_spans,
    };
    capture_loop.report_attach_events();
    // Every series is there in the first answer.
    capture_loop.publish();
    // Attached it is, and the rings hold what comes: nobody who hears of "ready" is told otherwise.
    capture_loop.health.captures(true);
    runtime.spawn(server);
    announce::ready(&capture_loop.config, &capture_loop.sources);
    service(&[NotifyState::Ready]);
    let shown = screen.show(&capture_loop.config);
    let (done, ended) = channel();
    let capture = thread::Builder::new()
        .name("capture".into())
        .spawn(move || {
            let _ = done.send(capture_loop.run(&signals));
        })
        .map_err(Failure::usage)?;
    // The thread's end is a value, or nothing if it panicked.
    let ended = ended.recv();
    let _ = capture.join();
    shown.end(END);
    end(ended.map_err(|_| anyhow!("the capture ended unexpectedly")))
}

/// Hands over the last outputs, to all sinks at once, and says what was left undone. Nothing is captured meanwhile: no
/// sink waits for another.
fn end(ended: anyhow::Result<Ended>) -> Result<Exit, Failure> {
    let Ended {
        failure,
        silence,
        last,
        spans,
        sinks,
        recorder,
        hep_out,
        state,
        left_spans,
        ratio,
        tally,
        started,
    } = ended.map_err(|error| Failure { exit: Exit::Partial, error })?;
    let last = &last[..];
    let (delivered, written) = thread::scope(|scope| {
        let mut writing: Vec<_> =
            sinks.into_iter().map(|sink| scope.spawn(move || sink.finish(last, END))).collect();
        writing.push(scope.spawn(move || state.finish(ratio, END)));
        writing.extend(recorder.map(|recorder| scope.spawn(move || recorder.finish(END))));
        if let Some(hep_out) = hep_out {
            scope.spawn(move || hep_out.finish(END));
        }
        let delivered = spans.map(|mut spans| {
            spans.end(silence);
            last.iter().for_each(|output| spans.output(output));
            match left_spans {
                Some(to) => spans.leave(|left| to.leave(move |file| left.write(file), END)),
                None => spans.finish(),
            }
        });
        (delivered, writing.into_iter().map(|sink| sink.join()).collect::<Vec<_>>())
    });
    let mut exit = if delivered.is_none_or(|(_, lost)| lost == 0) { Exit::Done } else { Exit::Partial };
    for finished in written {
        if let Err(error) = finished.unwrap_or_else(|_| Err(anyhow!("an output ended unexpectedly"))) {
            say(&error);
            exit = Exit::Partial;
        }
    }
    announce::end(&tally, now().saturating_duration_since(started), delivered);
    match failure {
        Some(error) => Err(cannot_capture(error, "capture stopped")),
        None => Ok(exit),
    }
}

/// How often a queue that is full is tried again.
const TICK: Duration = Duration::from_millis(2);

/// Queues `value` as soon as there is room; gives it back if that is not before `end`.
fn send_by<T>(queue: &SyncSender<T>, mut value: T, end: Instant) -> Result<(), TrySendError<T>> {
    loop {
        match queue.try_send(value) {
            Err(TrySendError::Full(back)) if now() < end => value = back,
            result => return result,
        }
        thread::sleep(TICK);
    }
}

#[allow(clippy::disallowed_methods, reason = "paces and bounds the daemon's own chores, judges nothing")]
fn now() -> Instant {
    Instant::now()
}

/// Tells the service manager, where there is one (sd_notify(3)).
fn service(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn(format_args!("the service manager could not be told: {error}"));
    }
}

fn sinks(config: &Config, records: Records, format: Format, look: Look) -> anyhow::Result<Vec<QueuedSink>> {
    let (notices, host) = (config.jsonl.notices, config.otlp.host());
    let stdout = || Box::new(Jsonl::new(std::io::stdout(), notices).of_host(&*host));
    let mut sinks = Vec::new();
    match format {
        Format::Jsonl => sinks.push(QueuedSink::start("print", stdout())?),
        // Two forms on one stream would be neither.
        _ if matches!(records, Records::Stdout) => {
            sinks.push(QueuedSink::start("print", stdout())?);
        }
        Format::Brief => {
            sinks.push(QueuedSink::start("print", Box::new(Brief::new(std::io::stdout())))?);
        }
        Format::Text => {
            let terminal = Terminal::new(std::io::stdout(), look, false);
            sinks.push(QueuedSink::start("print", Box::new(terminal))?);
        }
        Format::None => {}
    }
    if let Records::File(file, rotation) = records {
        let jsonl = RotatedJsonl::new(Jsonl::new(file, notices).of_host(&*host), rotation);
        sinks.push(QueuedSink::start("jsonl", Box::new(jsonl))?);
    }
    Ok(sinks)
}

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("server").enable_all();
    builder.build().context("cannot start the HTTP server")
}

fn cannot_capture(error: Error, what: &'static str) -> Failure {
    match error {
        // Names its field, as every error of the configuration does.
        Error::Config { .. } => Failure::usage(error),
        _ => Failure { exit: Exit::Capture, error: anyhow::Error::new(error).context(what) },
    }
}
