//! Ctrl-C and SIGTERM: what was read until then is told. A second one ends at once.

use sipobs::capture::file::Stop;

/// The end that signals ask for from now on.
#[cfg(unix)]
pub(super) fn stop() -> anyhow::Result<Stop> {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use anyhow::Context as _;
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag;

    /// What a shell says of a command that a signal has ended, less the signal.
    const BY_SIGNAL: i32 = 128;

    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Asked before the first one sets what it looks at.
        flag::register_conditional_shutdown(signal, BY_SIGNAL + signal, Arc::clone(&asked))
            .and_then(|_| flag::register(signal, Arc::clone(&asked)))
            .context("cannot listen for signals")?;
    }
    Ok(Stop::once(asked))
}

#[cfg(not(unix))]
pub(super) fn stop() -> anyhow::Result<Stop> {
    Ok(Stop::never())
}
