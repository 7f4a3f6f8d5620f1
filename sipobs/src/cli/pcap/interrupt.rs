//! Ctrl-C and SIGTERM: what was read until then is told. A second one ends at once.

use sipobs::capture::file::Stop;

/// The end that signals ask for from now on.
#[cfg(unix)]
pub(super) fn stop() -> anyhow::Result<Stop> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use anyhow::Context as _;
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    use super::new_file;

    /// What a shell says of a command that a signal has ended, less the signal.
    const BY_SIGNAL: i32 = 128;

    let asked = Arc::new(AtomicBool::new(false));
    let stop = Stop::once(Arc::clone(&asked));
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    let listen = move || {
        for signal in signals.forever() {
            if asked.swap(true, Ordering::Relaxed) {
                new_file::discard_unfinished();
                std::process::exit(BY_SIGNAL + signal);
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen)
        .context("cannot listen for signals")?;
    Ok(stop)
}

#[cfg(not(unix))]
pub(super) fn stop() -> anyhow::Result<Stop> {
    Ok(Stop::never())
}
