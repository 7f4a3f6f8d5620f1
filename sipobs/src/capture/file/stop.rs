//! An end that somebody asks for while a capture is read, by Ctrl-C for one.
//!
//! A regular file is left where it is. Who writes to a pipe was mostly asked, too, as Ctrl-C asks a whole pipeline, and
//! still writes what it had kept back: that is read, for a moment.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::{io, time::Duration};

/// How long a pipe is read on.
#[cfg(unix)]
const GRACE: Duration = Duration::from_secs(1);
/// How long it is waited for bytes at a time.
#[cfg(unix)]
const AT_A_TIME: Duration = Duration::from_millis(100);

/// Tells readers that the end was asked for.
#[derive(Clone, Debug, Default)]
pub struct Stop(Option<Arc<AtomicBool>>);

impl Stop {
    /// Reads to the end of everything.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Ends once `asked` is true.
    pub const fn once(asked: Arc<AtomicBool>) -> Self {
        Self(Some(asked))
    }

    /// Asks for the end, in place of a signal. Nothing where nobody can ask.
    pub fn ask(&self) {
        if let Some(asked) = &self.0 {
            asked.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the end was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| asked.load(Ordering::Relaxed))
    }

    /// A pipe, read until then.
    #[cfg(unix)]
    pub(super) fn until<S: Read + std::os::fd::AsFd>(&self, source: S) -> impl Read + use<S> {
        Until { source, stop: self.clone(), deadline: None }
    }

    /// A pipe, read to its end.
    #[cfg(not(unix))]
    pub(super) fn until<S: Read>(&self, source: S) -> impl Read + use<S> {
        source
    }
}

#[cfg(unix)]
struct Until<S> {
    source: S,
    stop: Stop,
    deadline: Option<std::time::Instant>,
}

#[cfg(unix)]
impl<S: Read + std::os::fd::AsFd> Read for Until<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::io::Errno;

        if self.stop.0.is_none() {
            return self.source.read(into);
        }
        loop {
            if self.is_over() {
                return Ok(0);
            }
            // Looks up now and then: a signal that comes just before the wait would not end it.
            let wait = Timespec::try_from(AT_A_TIME).ok();
            match poll(&mut [PollFd::new(&self.source, PollFlags::IN)], wait.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.source.read(into),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(unix)]
impl<S> Until<S> {
    #[allow(clippy::disallowed_methods, reason = "bounds a wait, judges nothing")]
    fn is_over(&mut self) -> bool {
        if !self.stop.is_asked() {
            return false;
        }
        let now = std::time::Instant::now();
        now >= *self.deadline.get_or_insert(now + GRACE)
    }
}
