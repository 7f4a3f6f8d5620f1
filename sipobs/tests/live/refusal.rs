//! A kernel that lacks something, as a thread may come to see it: its system calls are put before a judge, who
//! answers some of them as such a kernel would and lets the kernel itself answer the rest (seccomp's user
//! notification, Linux 5.5). Whoever calls can't tell the difference.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::mpsc;
use std::thread;

/// A system call that a kernel may lack, in part or altogether.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    /// `perf_event_open`.
    PerfEventOpen,
    /// `bpf`, with its command and the first words of what comes with that (`union bpf_attr` in linux/bpf.h).
    Bpf(u64, [u32; 12]),
}

impl Call {
    /// BPF_PROG_LOAD of a program that takes frames in several buffers (BPF_F_XDP_HAS_FRAGS).
    pub(crate) const fn loads_frags(&self) -> bool {
        const PROG_LOAD: u64 = 5;
        matches!(self, Self::Bpf(PROG_LOAD, attr) if attr[11] & 1 << 5 != 0)
    }

    /// BPF_LINK_CREATE of this type (enum bpf_attach_type).
    const fn links(&self, first: u32, last: u32) -> bool {
        const LINK_CREATE: u64 = 28;
        matches!(self, Self::Bpf(LINK_CREATE, attr) if first <= attr[2] && attr[2] <= last)
    }

    /// BPF_LINK_CREATE of an XDP program.
    pub(crate) const fn links_xdp(&self) -> bool {
        self.links(37, 37)
    }

    /// BPF_LINK_CREATE of a tcx program, ingress or egress.
    pub(crate) const fn links_tcx(&self) -> bool {
        self.links(46, 47)
    }
}

/// Does `work` in a thread of its own whose calls go before `judge`: an error number, or None to let it pass. Gives
/// what came of it and how many calls were refused.
pub(crate) fn under<T: Send>(
    judge: impl Fn(Call) -> Option<i32> + Send,
    work: impl FnOnce() -> T + Send,
) -> (T, usize) {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let judging = scope.spawn(move || match receiver.recv() {
            Ok(listener) => judge_all(&listener, judge),
            Err(_) => 0,
        });
        let working = scope.spawn(move || {
            sender.send(listen().unwrap()).unwrap();
            work()
        });
        let done = working.join();
        // The last thread under the filter is gone, and with it the judge's work.
        let refused = judging.join();
        (done.unwrap(), refused.unwrap())
    })
}

/// Puts this thread's `bpf` and `perf_event_open` before whoever reads what is returned.
fn listen() -> io::Result<OwnedFd> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let number = |call: libc::c_long| u32::try_from(call).unwrap();
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(EQUAL, 2, 0, number(libc::SYS_bpf)),
        step(EQUAL, 1, 0, number(libc::SYS_perf_event_open)),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
    ];
    let program = libc::sock_fprog { len: 5, filter: filter.as_mut_ptr() };
    // SAFETY: the program is whole and lives until the return; the kernel copies it.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel has just opened for us.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(listener).unwrap()) })
}

/// Answers until there is nobody left to ask.
fn judge_all(listener: &OwnedFd, judge: impl Fn(Call) -> Option<i32>) -> usize {
    let fd = listener.as_raw_fd();
    let mut refused = 0;
    loop {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, written to during the call.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
        if poll.revents & libc::POLLIN == 0 {
            return refused;
        }
        // SAFETY: all zeros is what the kernel wants of it.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is whole and written to during the call.
        if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) } < 0 {
            continue;
        }
        let error = judge(call(&asked.data));
        let go_on = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap();
        refused += usize::from(error.is_some());
        let answer = libc::seccomp_notif_resp {
            id: asked.id,
            val: 0,
            error: -error.unwrap_or(0),
            flags: if error.is_none() { go_on } else { 0 },
        };
        // SAFETY: the structure is whole.
        unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    }
}

fn call(data: &libc::seccomp_data) -> Call {
    if libc::c_long::from(data.nr) == libc::SYS_perf_event_open {
        return Call::PerfEventOpen;
    }
    let mut words = [0_u32; 12];
    let bytes = size_of_val(&words).min(usize::try_from(data.args[2]).unwrap());
    // SAFETY: the caller is a thread of this process that waits in the call for our answer; it has said that so many
    // bytes are there.
    unsafe {
        std::ptr::copy_nonoverlapping(
            std::ptr::with_exposed_provenance::<u8>(usize::try_from(data.args[1]).unwrap()),
            words.as_mut_ptr().cast::<u8>(),
            bytes,
        );
    }
    Call::Bpf(data.args[0], words)
}
