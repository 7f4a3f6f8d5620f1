//! The object, its maps, and what they are told and asked.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::maps::{Array, Map, PerCpuArray};
use aya::{Ebpf, EbpfLoader};
use sipobs_common::{Counters, Failure, Hook, PORT_WORDS, Settings, noise, port_bit, ring};

use super::ring::RingKind;
use super::{Config, Error, probe};

/// The programs as `build.rs` built them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sipobs.bpf.o"));

/// Lets this process lock as much memory as it may: perf rings count against RLIMIT_MEMLOCK, and before Linux 5.11
/// maps and programs do, of which its usual 64 KiB hold none of ours. For these, also beyond the hard limit: that
/// takes CAP_SYS_RESOURCE, which capture does not need otherwise. Called before it is given up.
pub fn unlimit_memlock() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointers are to whole `rlimit`s, read or written during the calls only.
    unsafe {
        if !probe::kernel_is_at_least(5, 11)
            && libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) == 0
        {
            return;
        }
        let mut limit = unlimited;
        if libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            // If it does not go, creating the maps fails and says so.
            let _ = libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit);
        }
    }
}

/// Creates the maps and tells the programs which rings they write to and what to look for. No program is in the
/// kernel yet.
pub(super) fn load(config: &Config, rings: RingKind) -> Result<Ebpf, Error> {
    let level = if config.kernel_log { log::Level::Warn as u8 } else { 0 };
    let (number, cpus) = match rings {
        RingKind::Perf => (ring::PERF, 1),
        RingKind::Ringbuf => (ring::RINGBUF, possible_cpus()?),
    };
    let mut ebpf = EbpfLoader::new()
        .override_global("AYA_LOG_LEVEL", &level, true)
        .override_global("RING", &number, true)
        .map_max_entries("RINGBUFS", cpus)
        .load(OBJECT)?;
    tell(&mut ebpf, &[], config)?;
    Ok(ebpf)
}

/// Tells the programs, which may be running, what to look for; they have looked for `old_ports` so far. A port that
/// stays is looked for all the time.
pub(super) fn tell(ebpf: &mut Ebpf, old_ports: &[u16], config: &Config) -> Result<(), Error> {
    let settings = settings_of(config)?;
    let (old, new) = (words(old_ports), words(&config.ports));
    let mut ports: Array<_, u64> = Array::try_from(map_mut(ebpf, "PORTS")?)?;
    for (index, (_, word)) in (0..).zip(old.iter().zip(new)).filter(|(_, (old, new))| *old != new) {
        ports.set(index, word, 0)?;
    }
    Array::try_from(map_mut(ebpf, "SETTINGS")?)?.set(0, settings, 0)?;
    Ok(())
}

/// The port table.
fn words(ports: &[u16]) -> Vec<u64> {
    let mut words = vec![0; PORT_WORDS as usize];
    for &port in ports {
        let (word, bit) = port_bit(port);
        words[word as usize] |= bit;
    }
    words
}

/// What [`tell`] tells beside the ports.
pub(super) fn settings_of(config: &Config) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for method in &config.drop_methods {
        settings.noise |= match method.as_str() {
            "OPTIONS" => noise::OPTIONS,
            "REGISTER" => noise::REGISTER,
            "PUBLISH" => noise::PUBLISH,
            other => {
                let reason = format!("{other:?} cannot be dropped; only OPTIONS, REGISTER and PUBLISH can");
                return Err(Error::Config { field: "drop_methods", reason });
            }
        };
    }
    for (slot, port) in settings.vxlan_ports.iter_mut().zip(&config.vxlan_ports) {
        *slot = *port;
    }
    Ok(settings)
}

/// Puts a CPU's ring into its slot. aya does so only for rings it opened itself, and those wake their reader
/// for every record.
pub(super) fn set_ring(ebpf: &mut Ebpf, kind: RingKind, cpu: u32, ring: BorrowedFd<'_>) -> Result<(), Error> {
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    /// The part of `union bpf_attr` (linux/bpf.h) this command reads.
    #[repr(C)]
    struct Update {
        map: u32,
        _padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }

    let name = match kind {
        RingKind::Perf => "FRAMES",
        RingKind::Ringbuf => "RINGBUFS",
    };
    let (Map::PerfEventArray(data) | Map::ArrayOfMaps(data)) = map_mut(ebpf, name)? else {
        return Err(Error::Maps(format!("{name} does not hold rings")));
    };
    let ring = ring.as_raw_fd();
    let update = Update {
        map: data.fd().as_fd().as_raw_fd().cast_unsigned(),
        _padding: 0,
        key: (&raw const cpu).addr() as u64,
        value: (&raw const ring).addr() as u64,
        flags: 0,
    };
    // SAFETY: key and value are a u32 and a descriptor, as either map wants, and live until the return.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, &raw const update, size_of::<Update>()) };
    if result < 0 {
        return Err(Error::Ring { cpu, source: io::Error::last_os_error() });
    }
    Ok(())
}

/// All hooks' counters, summed over CPUs.
pub(super) fn counters(ebpf: &Ebpf) -> Result<[(Hook, Counters); 3], Error> {
    let mut all = Hook::ALL.map(|hook| (hook, Counters::default()));
    for (hook, sum) in &mut all {
        for counters in counters_by_cpu(ebpf, *hook)? {
            sum.add(&counters);
        }
    }
    Ok(all)
}

/// One hook's counters, by CPU number.
pub(super) fn counters_by_cpu(ebpf: &Ebpf, hook: Hook) -> Result<Vec<Counters>, Error> {
    let map = ebpf.map("COUNTERS").ok_or_else(|| no_map("COUNTERS"))?;
    let counters: PerCpuArray<_, Counters> = PerCpuArray::try_from(map)?;
    Ok(counters.get(&(hook as u32), 0)?.to_vec())
}

/// One CPU's counters by hook.
pub(super) type OfCpu = [Counters; Hook::ALL.len()];

/// What the programs have counted, by CPU number.
pub(super) fn counters_of_cpus(ebpf: &Ebpf) -> Result<Vec<OfCpu>, Error> {
    let mut cpus: Vec<OfCpu> = Vec::new();
    for hook in Hook::ALL {
        let counters = counters_by_cpu(ebpf, hook)?;
        cpus.resize(cpus.len().max(counters.len()), OfCpu::default());
        for (cpu, counters) in cpus.iter_mut().zip(counters) {
            cpu[hook as usize] = counters;
        }
    }
    Ok(cpus)
}

/// Frames that could not be handed over, by CPU number, over all hooks.
pub(super) fn failed_by_cpu(ebpf: &Ebpf) -> Result<Vec<[u64; Failure::COUNT]>, Error> {
    Ok(counters_of_cpus(ebpf)?.iter().map(failed).collect())
}

/// A CPU's frames that could not be handed over, over all hooks.
pub(super) fn failed(hooks: &OfCpu) -> [u64; Failure::COUNT] {
    Failure::ALL.map(|failure| hooks.iter().map(|counters| counters.failed[failure as usize]).sum())
}

/// How many CPUs there may ever be: a map has a slot for each.
fn possible_cpus() -> Result<u32, Error> {
    let cpus = aya::util::nr_cpus().map_err(|(what, source)| Error::System { what, source })?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX))
}

fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map, Error> {
    ebpf.map_mut(name).ok_or_else(|| no_map(name))
}

fn no_map(name: &str) -> Error {
    Error::Maps(format!("the object holds no map {name}"))
}
