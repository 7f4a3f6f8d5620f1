//! What signals ask for. SIGINT and SIGTERM: the end. SIGHUP: the configuration is read anew, beside the capture
//! thread, checked whole, and handed to it.

use std::io::{ErrorKind, IsTerminal as _, stderr, stdin, stdout};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;

use anyhow::{Context as _, anyhow};
use sd_notify::NotifyState;
use sipobs::capture::live::Error;
use sipobs::config::{Change, Config, ConfigError};
use sipobs::transfer::Rules;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::service;
use crate::cli::note;
use crate::cli::run::Run;

/// What the capture thread is to do.
pub(super) enum Request {
    Stop,
    Reload(Box<Reload>),
}

/// A configuration that makes sense.
pub(super) struct Reload {
    pub(super) config: Config,
    pub(super) rules: Rules,
    /// Wants to know what came of it.
    pub(super) done: SyncSender<Result<Change, Error>>,
}

/// What signals have asked for, in their order.
pub(super) struct Signals(Receiver<Request>);

/// SIGHUPs from the start on.
pub(super) struct Sighup {
    signal: Signal,
    /// Which streams were a terminal.
    at_start: [bool; 3],
}

impl Sighup {
    /// None ends the process from here on. What they ask for waits for [`Signals::listen`].
    pub(super) fn hold(runtime: &Runtime) -> anyhow::Result<Self> {
        Ok(Self { signal: listen(runtime, SignalKind::hangup())?, at_start: terminals() })
    }
}

fn listen(runtime: &Runtime, kind: SignalKind) -> anyhow::Result<Signal> {
    let _entered = runtime.enter();
    signal(kind).context("cannot listen for signals")
}

impl Signals {
    /// Listens for signals from here on, and for `hangups`; `args` say where the configuration is.
    pub(super) fn listen(runtime: &Runtime, hangups: Sighup, args: &Run) -> anyhow::Result<Self> {
        let mut interrupt = listen(runtime, SignalKind::interrupt())?;
        let mut terminate = listen(runtime, SignalKind::terminate())?;
        let (requests, receiver) = channel();
        let reload = reloader(args.clone(), requests.clone())?;
        let Sighup { signal: mut hangups, at_start } = hangups;
        runtime.spawn(async move {
            loop {
                let stop = tokio::select! {
                    _ = interrupt.recv() => true,
                    _ = terminate.recv() => true,
                    // A terminal that was closed under us says so by the same signal.
                    _ = hangups.recv() => at_start.iter().zip(terminals()).any(|(was, is)| *was && !is),
                };
                let heard = if stop { requests.send(Request::Stop).is_ok() } else { reload.send(()).is_ok() };
                if !heard {
                    return;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// The next one, if there is one.
    pub(super) fn next(&self) -> Option<Request> {
        match self.0.try_recv() {
            Ok(request) => Some(request),
            Err(TryRecvError::Empty) => None,
            // The senders live in the runtime: gone means that the end has begun.
            Err(TryRecvError::Disconnected) => Some(Request::Stop),
        }
    }
}

/// Which of standard input, output and error are a terminal: others may be redirected.
fn terminals() -> [bool; 3] {
    [stdin().is_terminal(), stdout().is_terminal(), stderr().is_terminal()]
}

/// Reads the configuration anew whenever it is told to, in a thread of its own: files may be slow.
fn reloader(args: Run, requests: Sender<Request>) -> anyhow::Result<Sender<()>> {
    let (sender, wanted) = channel();
    let reload = move || {
        for () in &wanted {
            // Those that came meanwhile want no more than this.
            while wanted.try_recv().is_ok() {}
            let now = NotifyState::monotonic_usec_now();
            service(&[Some(NotifyState::Reloading), now.ok()].into_iter().flatten().collect::<Vec<_>>());
            match reload(&args, &requests) {
                Ok(Some(change)) => note(format_args!("{}", told(&change))),
                Ok(None) => return,
                Err(error) => {
                    note(format_args!(
                        "the configuration was not reloaded, and all goes on as before: {error:#}"
                    ));
                }
            }
            service(&[NotifyState::Ready]);
        }
    };
    thread::Builder::new().name("reload".into()).spawn(reload).context("cannot listen for SIGHUP")?;
    Ok(sender)
}

/// What has changed; nothing is told once the end has begun.
fn reload(args: &Run, requests: &Sender<Request>) -> anyhow::Result<Option<Change>> {
    // A pipe has given what it had at the start; opening it again waits for a writer, perhaps for ever.
    if let Some(path) = args.file()
        && std::fs::metadata(path).is_ok_and(|file| !file.is_file())
    {
        anyhow::bail!("{}: no regular file: it can't be read again", path.display());
    }
    let config = args.config().map_err(fenced)?;
    let rules = Rules::new(&config.engine().transfer)?;
    let (done, result) = sync_channel(1);
    let request = Request::Reload(Box::new(Reload { config, rules, done }));
    match requests.send(request).ok().and_then(|()| result.recv().ok()) {
        Some(change) => Ok(Some(change?)),
        None => Ok(None),
    }
}

/// Says why a file that could be read at the start may be out of reach now.
fn fenced(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(ConfigError::Read { error: cause, .. }) if cause.kind() == ErrorKind::PermissionDenied => {
            anyhow!("{error}: the right to read it was given up at the start, and a restart is needed")
        }
        _ => error,
    }
}

fn told(change: &Change) -> String {
    let Change { adopted, restart } = change;
    let adopted = match &adopted[..] {
        [] => "nothing".to_owned(),
        some => some.join(", "),
    };
    match &restart[..] {
        [] => format!("configuration reloaded: {adopted} changed"),
        some => {
            format!("configuration reloaded: {adopted} changed; only a restart changes {}", some.join(", "))
        }
    }
}
