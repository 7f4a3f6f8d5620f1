//! The daemon: live capture before the engine, sinks behind it. Start and end, in order; what happens in
//! between is in [`watch`].

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use sd_notify::NotifyState;
use sipobs::capture::live::{Error, Live};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::metrics::{Metrics, serve};
use sipobs::export::{Jsonl, Look, Terminal};
use tokio::runtime::{Builder, Runtime};

use super::run::{Format, Run};
use super::spans::{Spans, WhenFull};
use super::{Exit, Failure, note, say};
use orders::{Hangups, Orders};
use outlet::Outlet;
use state::State;
use vitals::Vitals;
use watch::{Ended, Watch};

mod orders;
mod outlet;
mod privilege;
mod state;
mod vitals;
mod watch;

/// How long an output and the state may take at the end. The flush of the spans has a bound of its own.
const END: Duration = Duration::from_secs(5);

/// Watches until a signal comes or capture fails.
pub(super) fn run(args: &Run) -> Result<Exit, Failure> {
    let config = &args.config().map_err(Failure::usage)?;
    privilege::shed(config, args.file());
    // Threads have what their parent has left: after that.
    let runtime = runtime().map_err(Failure::usage)?;
    let hangups = Hangups::hold(&runtime).map_err(Failure::usage)?;
    // What can be wrong with the configuration comes first, then what needs privilege.
    let privacy = config.privacy().map_err(Failure::usage)?;
    let mut engine = Engine::new(config.engine(), privacy).map_err(Failure::usage)?;
    let state = State::open(&config.state).map_err(Failure::usage)?;
    if let Some(ratio) = state.restored() {
        engine.restore_ratio(ratio);
    }
    let spans = Spans::start(config, WhenFull::Drop).map_err(Failure::usage)?;
    let metrics = Arc::new(Metrics::new(engine.transfers().trunks()));
    let outlets = outlets(config, args.format(), args.look()).map_err(Failure::usage)?;

    let vitals = Arc::new(Vitals::default());
    let server = runtime
        .block_on(serve(config.metrics.listen, Arc::clone(&metrics), Arc::clone(&vitals) as _))
        .map_err(Failure::usage)?;
    // From here on a signal ends the daemon in order; before, it just ends it: nothing is attached yet.
    let orders = Orders::listen(&runtime, hangups, args).map_err(Failure::usage)?;
    let live = Live::open(&config.capture).map_err(|error| cannot_capture(error, "cannot capture"))?;
    note(format_args!("{}", live.rings()));

    let config = config.clone();
    let mut watch = Watch { config, live, engine, spans, outlets, metrics, vitals, state };
    watch.tell_news();
    // Every series is there in the first answer.
    watch.publish();
    runtime.spawn(server);
    if watch.live.attachments().next().is_none() {
        note(format_args!("no interface fits capture.interfaces yet; waiting for one"));
    }
    service(&[NotifyState::Ready]);
    let (done, ended) = channel();
    let capture = thread::Builder::new()
        .name("capture".into())
        .spawn(move || {
            let _ = done.send(watch.run(&orders));
        })
        .map_err(Failure::usage)?;
    // The thread's end is a value, or nothing if it panicked.
    let ended = ended.recv();
    service(&[NotifyState::Stopping]);
    let _ = capture.join();
    end(ended.map_err(|_| anyhow!("the capture ended unexpectedly")))
}

/// Waits for the sinks and says what was left undone.
fn end(ended: anyhow::Result<Ended>) -> Result<Exit, Failure> {
    let Ended { failure, last, spans, outlets, state, ratio } =
        ended.map_err(|error| Failure { exit: Exit::Partial, error })?;
    let mut exit = Exit::Done;
    // Outlets go on writing meanwhile.
    if let Some(mut spans) = spans {
        spans.end();
        last.iter().for_each(|output| spans.output(output));
        if !spans.finish() {
            exit = Exit::Partial;
        }
    }
    let written = outlets.into_iter().map(|outlet| outlet.finish(&last, END));
    for finished in written.chain(std::iter::once_with(|| state.finish(ratio, END))) {
        if let Err(error) = finished {
            say(&error);
            exit = Exit::Partial;
        }
    }
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
        note(format_args!("the service manager could not be told: {error}"));
    }
}

fn outlets(config: &Config, format: Format, look: Look) -> anyhow::Result<Vec<Outlet>> {
    let mut outlets = Vec::new();
    let notices = config.jsonl.notices;
    let on_stdout = config.jsonl.path.as_deref().is_some_and(|path| path.as_os_str() == "-");
    match format {
        Format::Jsonl => outlets.push(Outlet::start("print", stdout_jsonl(notices))?),
        // Two forms on one stream would be neither.
        _ if on_stdout => outlets.push(Outlet::start("print", stdout_jsonl(notices))?),
        Format::Text => {
            let terminal = Terminal::new(std::io::stdout(), look, false);
            outlets.push(Outlet::start("print", Box::new(terminal))?);
        }
        Format::None => {}
    }
    if let Some(path) = config.jsonl.path.as_deref().filter(|_| !on_stdout) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("jsonl.path: cannot open {}", path.display()))?;
        outlets.push(Outlet::start("jsonl", Box::new(Jsonl::new(file, notices)))?);
    }
    Ok(outlets)
}

fn stdout_jsonl(notices: bool) -> Box<Jsonl<std::io::Stdout>> {
    Box::new(Jsonl::new(std::io::stdout(), notices))
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
