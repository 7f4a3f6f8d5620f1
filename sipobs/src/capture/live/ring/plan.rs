//! How large the rings may be on this machine, reckoned before any is opened: every CPU gets the same share.
//!
//! The kernel lets each user lock [`Limits::perf_mlock`] of perf rings for each CPU that is online, and each process
//! RLIMIT_MEMLOCK more (`perf_mmap` in kernel/events/core.c). Ring buffers are ordinary kernel memory since Linux
//! 5.11; before, they count as locked memory, and so do all maps and programs.

use std::fs;

use super::human;
use crate::capture::live::probe;

/// The least a ring may hold: two records of the greatest size.
pub(super) const MIN_BYTES: u64 = 128 << 10;

/// The most that ring buffers take in all: unlike perf rings they count against the limit of a container.
const MOST_RINGBUF_BYTES: u64 = 64 << 20;

/// What the maps and programs take of the locked memory before Linux 5.11, with room to spare.
const MAPS_AND_PROGRAMS: u64 = 3 << 20;

/// What bounds the memory of rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// CPUs that are to have a ring: those that are online, and those that are there and may be.
    pub(super) cpus: u64,
    /// Bytes of a page.
    pub(super) page: u64,
    /// RLIMIT_MEMLOCK in bytes; None if there is no limit.
    pub(super) memlock: Option<u64>,
    /// Bytes that this process has pinned already.
    pub(super) pinned: u64,
    /// Whether CAP_IPC_LOCK is there, with which perf rings have no limit.
    pub(super) ipc_lock: bool,
    /// `kernel.perf_event_mlock_kb`, in bytes.
    pub(super) perf_mlock: u64,
    /// `kernel.perf_event_paranoid`: -1 takes the limit off perf rings.
    pub(super) paranoid: i32,
    /// Whether maps and programs count as locked memory: before Linux 5.11.
    pub(super) maps_are_locked: bool,
}

/// A size for every CPU's ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Bytes, a power of two of pages.
    pub(super) bytes: u64,
    /// What keeps it below what is wanted, and what would allow more.
    pub(super) bound: Option<String>,
}

impl Limits {
    /// Those of this process, with rings for `online` CPUs.
    pub(super) fn of_this_process(online: usize) -> Self {
        let knob = |name: &str| {
            fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse::<i64>().ok()
        };
        let page = page_size() as u64;
        let perf_mlock_kb = knob("perf_event_mlock_kb").and_then(|kb| u64::try_from(kb).ok());
        Self {
            cpus: present_cpus().unwrap_or(0).max(online as u64).max(1),
            page,
            memlock: memlock(),
            pinned: pinned().unwrap_or(0),
            ipc_lock: probe::missing(&["CAP_IPC_LOCK"]).is_empty(),
            perf_mlock: perf_mlock_kb.unwrap_or(512 + page / 1024) << 10,
            paranoid: probe::perf_event_paranoid().unwrap_or(2),
            maps_are_locked: !probe::kernel_is_at_least(5, 11),
        }
    }

    /// For perf rings: a page more than the data is locked for each.
    pub(super) fn perf_rings(&self, wanted: u64) -> Plan {
        let wanted = self.rounded(wanted);
        let mut bytes = wanted;
        let mut bound = None;
        if let Some(limit) = self.memlock
            && !self.ipc_lock
            && self.paranoid >= 0
        {
            let allowed = self.perf_mlock.saturating_mul(self.cpus).saturating_add(limit);
            let share = self.share(allowed.saturating_sub(self.pinned), self.page);
            if share < bytes {
                bytes = share;
                bound = Some(format!(
                    "RLIMIT_MEMLOCK ({}) and kernel.perf_event_mlock_kb ({}) allow no more without CAP_IPC_LOCK",
                    human(limit),
                    self.perf_mlock >> 10,
                ));
            }
        }
        // The part of the rings that is the user's to lock counts together with the maps and programs, of which the
        // kernel asks that they fit the limit altogether.
        if let Some((limit, room)) = self.room_beside_maps()
            && self.perf_mlock.min(bytes + self.page) * self.cpus > room
        {
            bytes = self.share(room, self.page);
            bound = Some(beside_maps(limit));
        }
        Plan { bytes, bound }
    }

    /// For BPF ring buffers: three pages more than the data.
    pub(super) fn ring_buffers(&self, wanted: u64) -> Plan {
        let wanted = self.rounded(wanted);
        let mut plan = Plan { bytes: wanted, bound: None };
        let share = self.share(MOST_RINGBUF_BYTES, 0);
        if share < plan.bytes {
            let bound = format!("ring buffers take no more than {} in all", human(MOST_RINGBUF_BYTES));
            plan = Plan { bytes: share, bound: Some(bound) };
        }
        if let Some((limit, room)) = self.room_beside_maps()
            && (plan.bytes + 3 * self.page) * self.cpus > room
        {
            plan = Plan { bytes: self.share(room, 3 * self.page), bound: Some(beside_maps(limit)) };
        }
        plan
    }

    /// What is asked for, as a ring can be.
    fn rounded(&self, wanted: u64) -> u64 {
        wanted.max(MIN_BYTES).max(self.page).next_power_of_two()
    }

    /// The largest size for each CPU that fits `allowed` altogether, with `beside` in each beside its data. Not below
    /// the least: that is tried whatever the reckoning says.
    fn share(&self, allowed: u64, beside: u64) -> u64 {
        let each = (allowed / self.cpus).saturating_sub(beside).max(1);
        (1 << each.ilog2()).max(self.rounded(0))
    }

    /// The limit on locked memory, where maps and programs count as that, and what they leave of it.
    fn room_beside_maps(&self) -> Option<(u64, u64)> {
        let limit = self.memlock.filter(|_| self.maps_are_locked)?;
        Some((limit, limit.saturating_sub(MAPS_AND_PROGRAMS)))
    }
}

/// Bytes of a page.
pub(super) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn beside_maps(limit: u64) -> String {
    format!("RLIMIT_MEMLOCK ({}) must hold maps and programs too before Linux 5.11: raise it", human(limit))
}

/// RLIMIT_MEMLOCK; None if there is no limit.
fn memlock() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a whole `rlimit`, written during the call.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0;
    #[allow(clippy::useless_conversion, reason = "the type is narrower on some targets")]
    (read && limit.rlim_cur != libc::RLIM_INFINITY).then(|| u64::from(limit.rlim_cur))
}

/// Bytes that this process has pinned, as perf rings beyond the user's allowance are.
fn pinned() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPin:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// CPUs that are there, also those that are switched off: one that is switched on later needs its share.
fn present_cpus() -> Option<u64> {
    count_cpus(fs::read_to_string("/sys/devices/system/cpu/present").ok()?.trim())
}

/// How many CPUs are in a list such as `0-3,8`.
fn count_cpus(list: &str) -> Option<u64> {
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
            Some(last.checked_sub(first)? + 1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    /// A usual machine and an ordinary container: 8 MiB, no CAP_IPC_LOCK.
    const USUAL: Limits = Limits {
        cpus: 2,
        page: 4 * KIB,
        memlock: Some(8 * MIB),
        pinned: 0,
        ipc_lock: false,
        perf_mlock: 516 * KIB,
        paranoid: 2,
        maps_are_locked: false,
    };

    /// What the kernel's `perf_mmap` would say of so many rings.
    fn fits(limits: &Limits, bytes: u64) -> bool {
        let locked = (bytes + limits.page) * limits.cpus;
        let beyond = locked.saturating_sub(limits.perf_mlock * limits.cpus);
        limits.memlock.is_none_or(|limit| limits.pinned + beyond <= limit)
    }

    #[test]
    fn every_cpu_gets_the_same_and_it_fits() {
        for (cpus, expected) in
            [(1, 4 * MIB), (2, 4 * MIB), (4, 2 * MIB), (8, MIB), (16, MIB), (32, 512 * KIB)]
        {
            let limits = Limits { cpus, ..USUAL };
            let plan = limits.perf_rings(4 * MIB);
            assert_eq!(plan.bytes, expected, "{cpus} CPUs");
            assert!(fits(&limits, plan.bytes) && (expected == 4 * MIB || !fits(&limits, 2 * plan.bytes)));
            assert_eq!(plan.bound.is_some(), expected < 4 * MIB, "{plan:?}");
        }
        let said = Limits { cpus: 4, ..USUAL }.perf_rings(4 * MIB).bound.unwrap();
        assert_eq!(
            said,
            "RLIMIT_MEMLOCK (8 MiB) and kernel.perf_event_mlock_kb (516) allow no more without CAP_IPC_LOCK"
        );
    }

    #[test]
    fn half_a_mebibyte_fits_always() {
        for cpus in [1, 2, 3, 4, 7, 8, 64, 1024] {
            for memlock in [0, 64 * KIB, 8 * MIB] {
                let limits = Limits { cpus, memlock: Some(memlock), ..USUAL };
                let plan = limits.perf_rings(4 * MIB);
                assert!(plan.bytes >= 512 * KIB && fits(&limits, plan.bytes), "{cpus}, {memlock}: {plan:?}");
            }
        }
        // Unless the administrator has taken the allowance away; then the least is tried.
        let limits = Limits { perf_mlock: 0, memlock: Some(0), ..USUAL };
        assert_eq!(limits.perf_rings(4 * MIB).bytes, MIN_BYTES);
        // What is pinned already counts.
        let limits = Limits { pinned: 8 * MIB, ..USUAL };
        assert_eq!(limits.perf_rings(4 * MIB).bytes, 512 * KIB);
    }

    #[test]
    fn without_a_limit_it_is_what_is_wanted() {
        for limits in [
            Limits { ipc_lock: true, ..USUAL },
            Limits { memlock: None, ..USUAL },
            Limits { paranoid: -1, ..USUAL },
        ] {
            let limits = Limits { cpus: 256, ..limits };
            assert_eq!(limits.perf_rings(3 * MIB), Plan { bytes: 4 * MIB, bound: None });
        }
        assert_eq!(USUAL.perf_rings(0).bytes, MIN_BYTES);
        assert_eq!(Limits { page: 64 * KIB, ..USUAL }.perf_rings(1).bytes, MIN_BYTES);
    }

    /// Before Linux 5.11: what the user may lock without a limit counts against it as soon as a map is made.
    #[test]
    fn maps_and_programs_have_room_beside_the_rings() {
        let old = Limits { maps_are_locked: true, ..USUAL };
        for (cpus, ipc_lock, expected) in
            [(2, false, 4 * MIB), (4, false, 2 * MIB), (8, true, 4 * MIB), (16, true, 256 * KIB)]
        {
            let limits = Limits { cpus, ipc_lock, ..old };
            let plan = limits.perf_rings(4 * MIB);
            assert_eq!(plan.bytes, expected, "{cpus} CPUs");
            let counted = limits.perf_mlock.min(plan.bytes + limits.page) * cpus;
            assert!(counted + MAPS_AND_PROGRAMS <= 8 * MIB, "{cpus} CPUs: {counted}");
        }
        let plan = Limits { cpus: 4, ..old }.ring_buffers(4 * MIB);
        assert_eq!(plan.bytes, MIB);
        assert!(plan.bound.unwrap().contains("RLIMIT_MEMLOCK (8 MiB) must hold maps"));
        assert_eq!(Limits { memlock: None, ..old }.ring_buffers(4 * MIB).bytes, 4 * MIB);
    }

    #[test]
    fn ring_buffers_have_a_limit_of_their_own() {
        for (cpus, expected) in [(2, 4 * MIB), (16, 4 * MIB), (17, 2 * MIB), (64, MIB), (4096, MIN_BYTES)] {
            let plan = Limits { cpus, memlock: Some(0), ..USUAL }.ring_buffers(4 * MIB);
            assert_eq!((plan.bytes, plan.bound.is_some()), (expected, expected < 4 * MIB), "{cpus} CPUs");
        }
    }

    #[test]
    fn cpus_are_counted() {
        for (list, count) in
            [("0", Some(1)), ("0-3", Some(4)), ("0-1,8,10-11", Some(5)), ("", None), ("3-1", None)]
        {
            assert_eq!(count_cpus(list), count, "{list:?}");
        }
        let limits = Limits::of_this_process(1);
        assert!(limits.cpus >= 1 && limits.page >= 4096 && limits.perf_mlock > 0, "{limits:?}");
    }
}
