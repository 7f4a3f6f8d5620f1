//! What signals ask for. SIGTERM: the end, as a successor may come. SIGINT: the end, as a person wants it. SIGHUP: the
//! configuration is read anew, and records that were rotated go on in a file of their own ([`reload`]).

use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use anyhow::Context as _;
use sipobs::config::Config;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::records::Rotation;
use super::reload::{self, Files, Reload};
use crate::cli::run::Run;

/// What the capture thread is to do.
pub(super) enum Request {
    Stop(Stop),
    Reload(Box<Reload>),
}

/// How to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// What is open is left to a successor, where there is a state.
    Leave,
    /// What is open is settled.
    Settle,
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
    /// Listens for signals from here on, and for `hangups`; `args` say where the configuration is, of which `config` was
    /// read from `files`. `rotation` leads to the file of records.
    pub(super) fn listen(
        runtime: &Runtime,
        hangups: Sighup,
        args: &Run,
        files: Files,
        config: &Config,
        rotation: Option<Rotation>,
    ) -> anyhow::Result<Self> {
        let mut interrupt = listen(runtime, SignalKind::interrupt())?;
        let mut terminate = listen(runtime, SignalKind::terminate())?;
        let (requests, receiver) = channel();
        let reload = reload::start(args.clone(), files, config, rotation, requests.clone())?;
        let Sighup { signal: mut hangups, at_start } = hangups;
        runtime.spawn(async move {
            loop {
                let stop = tokio::select! {
                    _ = interrupt.recv() => Some(Stop::Settle),
                    _ = terminate.recv() => Some(Stop::Leave),
                    // A terminal that was closed under us says so by the same signal.
                    _ = hangups.recv() => {
                        let closed = at_start.iter().zip(terminals()).any(|(was, is)| *was && !is);
                        closed.then_some(Stop::Settle)
                    }
                };
                let heard = match stop {
                    Some(stop) => requests.send(Request::Stop(stop)).is_ok(),
                    None => reload.send(()).is_ok(),
                };
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
            Err(TryRecvError::Disconnected) => Some(Request::Stop(Stop::Settle)),
        }
    }
}

/// Which of standard input, output and error are a terminal: others may be redirected.
fn terminals() -> [bool; 3] {
    [stdin().is_terminal(), stdout().is_terminal(), stderr().is_terminal()]
}
