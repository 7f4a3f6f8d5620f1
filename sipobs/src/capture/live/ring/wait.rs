//! Waiting for rings that have much to read.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Sleeps until a ring's program wakes it. Edge-triggered: what makes it return is a wake-up, not that a ring holds
/// something, which under load one of them always does. A ring that is closed is forgotten.
#[derive(Debug)]
pub(super) struct Waiter(OwnedFd);

impl Waiter {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the result is a new descriptor or -1.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just opened, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn add(&self, ring: BorrowedFd<'_>) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: 0 };
        // SAFETY: both descriptors are open, and the event is read during the call.
        checked(unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, ring.as_raw_fd(), &raw mut event)
        })?;
        Ok(())
    }

    /// Returns at a wake-up, or after `timeout`, or at a signal.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        const MOST: usize = 64;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let millis = i32::try_from(timeout.as_millis().max(1)).unwrap_or(i32::MAX);
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a small constant")]
        let most = MOST as i32;
        // SAFETY: there is room for as many events as is said.
        match checked(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), most, millis) }) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
