//! System calls that the daemon never makes, refused for good by a seccomp filter: what would let a stranger within it
//! run another program, reach into other processes, or change the machine.
//!
//! It names what is refused, and not what is allowed: what a C library, a TLS library and BPF ask of a kernel differs
//! from version to version, and a call refused at the wrong time would cost the capture. Everything else that the daemon
//! could still ask for is bounded by its capabilities and by Landlock.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Calls that are refused, whatever their arguments.
const REFUSED: &[c_long] = &[
    // Another program.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Another process's memory and descriptors.
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // Another root, other mounts, other namespaces, and files around all of them.
    libc::SYS_chroot,
    libc::SYS_fanotify_init,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // Another user.
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // The kernel and the machine.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    // Ways around the filter and favourites of exploits.
    libc::SYS_io_uring_setup,
    libc::SYS_personality,
    libc::SYS_userfaultfd,
];

/// Sockets are for the collector, the server, HEP, the kernel's interfaces and the service manager.
const FAMILIES: [libc::c_int; 4] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_UNIX];

/// On x86-64 a second set of numbers leads to the same calls, and a few have numbers of their own there (x32 ABI):
/// execve, execveat, ptrace, process_vm_readv, process_vm_writev, kexec_load.
#[cfg(target_arch = "x86_64")]
const X32: (c_long, &[c_long]) = (0x4000_0000, &[520, 545, 521, 539, 540, 528]);
#[cfg(not(target_arch = "x86_64"))]
const X32: (c_long, &[c_long]) = (0, &[]);

/// Refuses them, with EPERM, to this thread and those that it starts. Also sets no_new_privs.
pub(super) fn forbid() -> Result<(), seccompiler::Error> {
    apply_filter(&filter()?)
}

fn filter() -> Result<BpfProgram, seccompiler::Error> {
    let (bit, others) = X32;
    let both = |number: c_long| [number, number | bit];
    let always = REFUSED.iter().copied().flat_map(both).chain(others.iter().map(|number| number | bit));
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = always.map(|number| (number, Vec::new())).collect();
    for number in both(libc::SYS_socket) {
        rules.insert(number, vec![other_family()?]);
    }
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?)
}

/// The first argument is none of [`FAMILIES`].
fn other_family() -> Result<SeccompRule, seccompiler::BackendError> {
    let is_not = |family: libc::c_int| {
        let family = u64::from(family.cast_unsigned());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    };
    SeccompRule::new(FAMILIES.into_iter().map(is_not).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;
    use std::thread;

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    /// In a thread of its own, as there is no way back.
    #[test]
    fn no_other_program_is_run_and_no_other_socket_made() {
        Command::new("true").status().unwrap();
        let refused = thread::spawn(|| {
            forbid().unwrap();
            let ran = Command::new("true").status().map_err(|error| error.kind());
            assert_eq!(ran.err(), Some(ErrorKind::PermissionDenied));
            assert_eq!(rustix::process::chroot("/"), Err(Errno::PERM));
            for family in [AddressFamily::PACKET, AddressFamily::VSOCK] {
                let made = socket(family, SocketType::DGRAM, None);
                assert_eq!(made.err(), Some(Errno::PERM), "{family:?}");
            }
            TcpListener::bind("127.0.0.1:0").unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap();
            UnixDatagram::unbound().unwrap();
            socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
            // Threads that it starts are under it, too.
            thread::spawn(|| Command::new("true").status().is_err()).join().unwrap()
        });
        assert!(refused.join().unwrap());
        Command::new("true").status().unwrap();
    }
}
