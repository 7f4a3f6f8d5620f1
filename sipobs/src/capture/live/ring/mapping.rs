//! A part of a ring's file in memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is not bound to the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset` on, shared with the kernel.
    pub(super) fn new(fd: BorrowedFd<'_>, offset: usize, len: usize, protection: i32) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset) };
        match NonNull::new(start.cast::<u8>()) {
            Some(begin) if start != libc::MAP_FAILED => Ok(Self { start: begin, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length and is not used after.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.len);
        }
    }
}
