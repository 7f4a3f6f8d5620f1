//! File descriptors: each attached program holds some, and nothing else that grows. So that files can still be read,
//! interfaces be listed, spans be delivered and questions be answered, programs leave a number of them alone.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Left for everything that is not an attached program.
const RESERVED: u64 = 128;

/// Lets this process open as many files as it may. The usual soft limit, 1024, is for programs that use select(2).
pub fn raise_descriptor_limit() {
    let mut limit = limit();
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a whole `rlimit`, read during the call only. If it does not go, there are just fewer.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// Fails when another program would take of what is reserved.
pub(super) fn check_room() -> io::Result<()> {
    let limit = limit().rlim_cur;
    // The lowest that is free is given out: those above the reserve's beginning are taken last.
    let next = File::open("/dev/null")?.as_raw_fd();
    if u64::try_from(next).is_ok_and(|next| next + RESERVED < limit) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "this process may have {limit} files open (RLIMIT_NOFILE, LimitNOFILE=), of which it keeps {RESERVED} for other \
         things: raise it"
    )))
}

/// Datagrams that the kernel has dropped as this socket had no room for them; 0 where it does not tell (`SO_MEMINFO`, Linux 4.12).
pub(in crate::capture) fn dropped_by_socket(socket: BorrowedFd<'_>) -> u64 {
    // include/uapi/linux/sock_diag.h: SK_MEMINFO_DROPS of SK_MEMINFO_VARS.
    const DROPS: usize = 8;
    const VARS: usize = 9;
    let mut values = [0_u32; VARS];
    let Ok(mut length) = libc::socklen_t::try_from(size_of_val(&values)) else { return 0 };
    // SAFETY: no more than `length` bytes are written to `values`, which is so long, during the call only.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { values[DROPS].into() } else { 0 }
}

fn limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a whole `rlimit`, written during the call only.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        limit.rlim_cur = libc::RLIM_INFINITY;
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_here() {
        raise_descriptor_limit();
        let limit = limit();
        assert_eq!(limit.rlim_cur, limit.rlim_max);
        assert_eq!(check_room().is_ok(), limit.rlim_cur > 2 * RESERVED);
    }
}
