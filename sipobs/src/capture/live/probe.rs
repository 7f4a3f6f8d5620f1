//! What this machine and this process can do, for `sipobs check` and for errors that name what is missing.

use std::fmt;

use aya::util::KernelVersion;
use serde::Serialize;

use super::Error;
use super::interfaces::{self, Interface};

/// The capabilities live capture uses, with their numbers (`linux/capability.h`) and what for.
const CAPABILITIES: [(&str, u32, &str); 5] = [
    ("CAP_BPF", 39, "load programs, create maps"),
    ("CAP_NET_ADMIN", 12, "attach programs to interfaces"),
    ("CAP_PERFMON", 38, "open perf rings, and programs without Spectre hardening"),
    ("CAP_IPC_LOCK", 14, "perf rings beyond the limit on locked memory"),
    ("CAP_SYS_ADMIN", 21, "stands in for CAP_BPF and CAP_PERFMON on any kernel"),
];

/// What [`probe`] found.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// The kernel's release, as `uname -r` says.
    pub kernel: String,
    /// Features by name, whether they are there, and why that matters.
    pub features: Vec<Feature>,
    /// The capabilities that matter, and whether they are effective.
    pub capabilities: Vec<Capability>,
    /// `kernel.perf_event_paranoid`: above 0, perf rings need CAP_PERFMON, above 2 CAP_SYS_ADMIN. None where it cannot
    /// be read.
    pub perf_event_paranoid: Option<i32>,
    /// CPUs online: each gets a ring.
    pub cpus: usize,
    /// The interfaces of this network namespace.
    pub interfaces: Vec<Interface>,
}

/// A feature of the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// Whether this kernel has it.
    pub present: bool,
    /// What sipobs does with it, or without.
    pub use_for: &'static str,
}

/// A capability of this process.
#[derive(Clone, Debug, Serialize)]
pub struct Capability {
    /// Its name.
    pub name: &'static str,
    /// Whether it is in the effective set.
    pub effective: bool,
    /// What it is needed for.
    pub use_for: &'static str,
}

/// Looks at the machine. Changes nothing and needs no privilege.
pub fn probe() -> Result<Probe, Error> {
    let effective = effective_capabilities();
    let least = kernel_is_at_least;
    Ok(Probe {
        kernel: read_trimmed("/proc/sys/kernel/osrelease").unwrap_or_default(),
        features: vec![
            Feature {
                name: "bpf_link for XDP (5.9)",
                present: least(5, 9),
                use_for: "programs that vanish with the daemon",
            },
            Feature {
                name: "maps not locked (5.11)",
                present: least(5, 11),
                use_for: "without it, no limit on locked memory (LimitMEMLOCK), or CAP_SYS_RESOURCE",
            },
            Feature {
                name: "XDP multi-buffer (5.18)",
                present: least(5, 18),
                use_for: "frames beyond a page; without it XDP needs a small MTU, and does not see into tunnels",
            },
            Feature {
                name: "tcx (6.6)",
                present: least(6, 6),
                use_for: "a place before every other tc program; without it, clsact",
            },
            Feature {
                name: "BTF",
                present: std::path::Path::new("/sys/kernel/btf/vmlinux").exists(),
                use_for: "names in bpftool; not required",
            },
        ],
        capabilities: CAPABILITIES
            .iter()
            .map(|&(name, bit, use_for)| Capability { name, effective: effective >> bit & 1 != 0, use_for })
            .collect(),
        perf_event_paranoid: perf_event_paranoid(),
        cpus: aya::util::online_cpus().map_or(0, |cpus| cpus.len()),
        interfaces: interfaces::list()?,
    })
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {}, {} CPUs online", self.kernel, self.cpus)?;
        for feature in &self.features {
            writeln!(f, "  {:<3} {:<24} {}", yes(feature.present), feature.name, feature.use_for)?;
        }
        writeln!(f, "capabilities")?;
        for capability in &self.capabilities {
            writeln!(f, "  {:<3} {:<24} {}", yes(capability.effective), capability.name, capability.use_for)?;
        }
        if let Some(level) = self.perf_event_paranoid.filter(|level| *level > UPSTREAM_PARANOID) {
            writeln!(
                f,
                "  kernel.perf_event_paranoid is {level}: perf rings need CAP_SYS_ADMIN, or it lowered to 2; BPF ring \
                 buffers do not"
            )?;
        }
        writeln!(f, "interfaces")?;
        for interface in &self.interfaces {
            writeln!(
                f,
                "  {:<16} {}, mtu {}{}{}",
                interface.name,
                if interface.up { "up" } else { "down" },
                interface.mtu,
                if interface.hardware { "" } else { ", virtual: tc costs it less than XDP" },
                if interface.readable { "" } else { ", a link layer sipobs does not read" },
            )?;
        }
        Ok(())
    }
}

const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// Whether the running kernel is this one or newer. One that hides its version counts as old: the ways of
/// old kernels work on new ones.
pub(super) fn kernel_is_at_least(major: u8, minor: u8) -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(major, minor, 0))
}

/// Those of `wanted` that this process lacks.
pub(super) fn missing(wanted: &[&'static str]) -> Vec<&'static str> {
    let effective = effective_capabilities();
    let has =
        |name: &str| CAPABILITIES.iter().any(|(known, bit, _)| *known == name && effective >> bit & 1 != 0);
    // CAP_SYS_ADMIN stands in for the two that were split from it.
    let admin = has("CAP_SYS_ADMIN");
    let stood_in = |name: &str| admin && matches!(name, "CAP_BPF" | "CAP_PERFMON");
    wanted.iter().copied().filter(|name| !(has(name) || stood_in(name))).collect()
}

/// The highest level of `kernel.perf_event_paranoid` that Linux itself knows.
const UPSTREAM_PARANOID: i32 = 2;

/// Whether only CAP_SYS_ADMIN opens perf rings here. Debian's and Ubuntu's kernels have a level above Linux's own, and
/// start with it, at which they do not look at CAP_PERFMON.
pub fn rings_need_sys_admin() -> bool {
    perf_event_paranoid().is_some_and(|level| level > UPSTREAM_PARANOID)
}

pub(super) fn perf_event_paranoid() -> Option<i32> {
    read_trimmed("/proc/sys/kernel/perf_event_paranoid")?.parse().ok()
}

/// By a system call: /proc may be out of reach by now.
fn effective_capabilities() -> u64 {
    let effective = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
    effective.iter().fold(0, |bits, capability| bits | capability.bitmask())
}

fn read_trimmed(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_sees_this_machine() {
        let probe = probe().unwrap();
        assert!(probe.cpus > 0 && probe.interfaces.iter().any(|interface| interface.name == "lo"));
        assert!(probe.to_string().contains("CAP_NET_ADMIN"));
    }
}
