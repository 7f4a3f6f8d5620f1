//! The guests: what machine each is, and what is done on it.

use std::fmt;

/// A guest.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) cpus: u32,
    /// All of them are watched at once.
    pub(super) ways: &'static [Way],
    /// What `sipobs check` is asked before, one after another.
    pub(super) settings: &'static [Setting],
    /// Whether the last CPU comes online only when all is captured already, and the packets are sent there.
    pub(super) late_cpu: bool,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} CPUs", self.cpus)
    }
}

pub(super) const MACHINES: [Machine; 4] = [
    Machine { cpus: 2, ways: &AS_ROOT, settings: &[], late_cpu: false },
    Machine { cpus: 2, ways: &AS_CONTAINER, settings: &SETTINGS, late_cpu: true },
    Machine { cpus: 4, ways: &AS_CONTAINER, settings: &SETTINGS, late_cpu: true },
    Machine { cpus: 8, ways: &AS_CONTAINER, settings: &SETTINGS, late_cpu: true },
];

/// A way to watch an interface.
#[derive(Debug)]
pub(super) struct Way {
    /// A word for it.
    pub(super) name: &'static str,
    /// The driver of its interface.
    pub(super) driver: &'static str,
    /// What `sipobs run --mode` is told.
    pub(super) mode: &'static str,
    /// The interface that is watched, and the one at the other end of its wire.
    pub(super) ends: [&'static str; 2],
    pub(super) rights: Rights,
    /// `kernel.perf_event_paranoid` when it starts.
    pub(super) paranoid: u32,
}

/// What a process may do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rights {
    /// Everything.
    Root,
    /// CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and 8 MiB of locked memory. What a user may lock is shared by all of
    /// its processes: each has a user id of its own, so that it is as if alone.
    Three(u32),
}

const AS_ROOT: [Way; 4] = [
    root("veth", "veth", "auto", ["veth0", "veth1"]),
    root("virtio", "virtio_net", "auto", ["eth0", "eth1"]),
    root("veth-tc", "veth", "tc", ["veth2", "veth3"]),
    root("veth-generic", "veth", "generic", ["veth4", "veth5"]),
];

const AS_CONTAINER: [Way; 4] = [
    container("virtio-2", "virtio_net", ["eth0", "eth1"], 0, 2),
    container("virtio-3", "virtio_net", ["eth2", "eth3"], 1001, 3),
    container("veth-2", "veth", ["veth0", "veth1"], 1002, 2),
    container("veth-4", "veth", ["veth2", "veth3"], 1003, 4),
];

/// Debian's kernels start with this level.
const DEBIANS_PARANOID: u32 = 3;

const fn root(name: &'static str, driver: &'static str, mode: &'static str, ends: [&'static str; 2]) -> Way {
    Way { name, driver, mode, ends, rights: Rights::Root, paranoid: DEBIANS_PARANOID }
}

const fn container(
    name: &'static str,
    driver: &'static str,
    ends: [&'static str; 2],
    user: u32,
    paranoid: u32,
) -> Way {
    Way { name, driver, mode: "auto", ends, rights: Rights::Three(user), paranoid }
}

impl Way {
    /// As the guest reads it.
    pub(super) fn line(&self) -> String {
        let user = match self.rights {
            Rights::Root => "all".to_owned(),
            Rights::Three(user) => user.to_string(),
        };
        format!("{} {} {} {} {user}", self.name, self.mode, self.ends.join(" "), self.paranoid)
    }

    /// The kind of rings that it must have: above 2, Debian's kernels open perf rings with CAP_SYS_ADMIN only.
    pub(super) const fn ring(&self) -> &'static str {
        match self.rights {
            Rights::Three(_) if self.paranoid > 2 => "ringbuf",
            Rights::Root | Rights::Three(_) => "perf",
        }
    }
}

/// What a process with the three capabilities and user id 0 is allowed beside them.
#[derive(Debug)]
pub(super) struct Setting {
    /// RLIMIT_MEMLOCK in KiB.
    pub(super) memlock: u32,
    /// Whether it has CAP_IPC_LOCK, too.
    pub(super) ipc_lock: bool,
    /// `kernel.perf_event_paranoid`.
    pub(super) paranoid: u32,
}

pub(super) const SETTINGS: [Setting; 7] = [
    Setting { memlock: 8192, ipc_lock: false, paranoid: 2 },
    Setting { memlock: 8192, ipc_lock: false, paranoid: 3 },
    Setting { memlock: 8192, ipc_lock: false, paranoid: 4 },
    Setting { memlock: 8192, ipc_lock: true, paranoid: 2 },
    Setting { memlock: 64, ipc_lock: false, paranoid: 2 },
    Setting { memlock: 64, ipc_lock: false, paranoid: 3 },
    Setting { memlock: 64, ipc_lock: true, paranoid: 2 },
];

impl Setting {
    /// As the guest reads it and says it again.
    pub(super) fn line(&self) -> String {
        let also = if self.ipc_lock { ",+ipc_lock" } else { "-" };
        format!("{} {also} {}", self.memlock, self.paranoid)
    }

    /// Whether capture must be possible: before Linux 5.11 maps are locked memory, and 64 KiB hold none of ours.
    pub(super) const fn is_enough(&self, maps_are_locked: bool) -> bool {
        !maps_are_locked || self.memlock > 64
    }

    /// The kind of rings that must come of it.
    pub(super) const fn ring(&self) -> &'static str {
        if self.paranoid > 2 { "ringbuf" } else { "perf" }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.memlock {
            kib if kib >= 1024 => write!(f, "{} MiB", kib / 1024)?,
            kib => write!(f, "{kib} KiB")?,
        }
        if self.ipc_lock {
            f.write_str(" IPC_LOCK")?;
        }
        write!(f, ", {}", self.paranoid)
    }
}
