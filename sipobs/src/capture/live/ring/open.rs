//! Which kind of rings there will be, and opening them: perf rings unless they are forbidden or not wanted.

use std::collections::BinaryHeap;
use std::fmt;
use std::io;

use super::plan::{Limits, MIN_BYTES, Plan, page_size};
use super::wait::Waiter;
use super::{OfCpu, Ring, Rings, human, perf, ringbuf};
use crate::capture::RingChoice;
use crate::capture::live::{Config, Error, probe};

/// The two kinds of rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingKind {
    /// Perf rings.
    Perf,
    /// BPF ring buffers.
    Ringbuf,
}

impl RingKind {
    /// A stable name for metrics, as `capture.ring` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Ringbuf => "ringbuf",
        }
    }
}

/// The rings that were opened.
#[derive(Clone, Debug)]
pub struct RingsInUse {
    /// What they are.
    pub kind: RingKind,
    /// Bytes of each: less than configured where the process may not have more. One of a CPU that came online later
    /// may have less.
    pub bytes: usize,
    /// How many there are, one for each CPU.
    pub cpus: usize,
    /// Bytes of memory that they take in all.
    pub memory: u64,
    /// Why they are of this kind and size, where they are not as they might be.
    pub why: Vec<String>,
}

impl fmt::Display for RingsInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, bytes, cpus, memory, why } = self;
        let (what, counted) = match kind {
            RingKind::Perf => ("perf rings", "outside any cgroup's limit"),
            RingKind::Ringbuf if probe::kernel_is_at_least(5, 11) => {
                ("BPF ring buffers", "which count as this cgroup's memory")
            }
            RingKind::Ringbuf => ("BPF ring buffers", "which count as locked memory"),
        };
        write!(
            f,
            "{what} of {}, one for each of {cpus} CPUs, {} in all, {counted}",
            human(*bytes as u64),
            human(*memory)
        )?;
        why.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}

impl Rings {
    /// Opens a ring for each of `cpus`, all of one kind and size.
    ///
    /// # Errors
    ///
    /// What stands in the way of the kind that is asked for, or of ring buffers where either would do.
    pub(in crate::capture::live) fn open(config: &Config, cpus: &[u32]) -> Result<Self, Error> {
        let limits = Limits::of_this_process(cpus.len());
        let wanted = config.ring_bytes as u64;
        let (opened, mut why) = match config.ring {
            RingChoice::Ringbuf => (ring_buffers(&limits, wanted, cpus)?, Vec::new()),
            RingChoice::Perf => {
                (perf_rings(&limits, wanted, cpus).map_err(|refusal| forbidden(&refusal))?, Vec::new())
            }
            RingChoice::Auto => match perf_rings(&limits, wanted, cpus) {
                Ok(opened) => (opened, Vec::new()),
                Err(refusal) => {
                    let why = format!("no perf rings: {}", reason(&refusal));
                    (ring_buffers(&limits, wanted, cpus)?, vec![why])
                }
            },
        };
        let Opened { kind, rings, bound } = opened;
        let bytes = rings.iter().map(|of_cpu| of_cpu.ring.bytes()).min().unwrap_or(0);
        why.extend(bound.map(|bound| format!("{} are configured: {bound}", human(wanted))));
        let waiter = Waiter::new().map_err(Error::Wait)?;
        for of_cpu in &rings {
            waiter.add(of_cpu.ring.fd()).map_err(Error::Wait)?;
        }
        let memory = memory(kind, &rings);
        let in_use = RingsInUse { kind, bytes, cpus: rings.len(), memory, why };
        Ok(Self { in_use, rings, waiter, next: BinaryHeap::new(), damaged: 0, lost: 0 })
    }
}

struct Opened {
    kind: RingKind,
    rings: Vec<OfCpu>,
    /// What kept them below what is wanted.
    bound: Option<String>,
}

/// Perf rings, of what size they may have.
fn perf_rings(limits: &Limits, wanted: u64, cpus: &[u32]) -> Result<Opened, perf::Refusal> {
    let open = |cpu, bytes| match perf::Ring::open(cpu, bytes, page_size()) {
        Ok(ring) => Ok(Some(Box::new(ring) as Box<dyn Ring>)),
        // Switched off meanwhile. If it comes back, it is seen to then.
        Err(perf::Refusal::Open(error)) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(refusal) => Err(refusal),
    };
    let is_size = |refusal: &perf::Refusal| match refusal {
        perf::Refusal::Locked => true,
        perf::Refusal::Open(_) => false,
        perf::Refusal::Other(error) => error.raw_os_error() == Some(libc::ENOMEM),
    };
    let shrunk =
        "others of this user have locked memory, too; CAP_IPC_LOCK or a higher RLIMIT_MEMLOCK allows more";
    let (rings, bound) = all(limits.perf_rings(wanted), cpus, open, is_size, shrunk)?;
    Ok(Opened { kind: RingKind::Perf, rings, bound })
}

/// BPF ring buffers, likewise.
fn ring_buffers(limits: &Limits, wanted: u64, cpus: &[u32]) -> Result<Opened, Error> {
    let open =
        |_, bytes| ringbuf::Ring::open(bytes, page_size()).map(|ring| Some(Box::new(ring) as Box<dyn Ring>));
    let is_size = |error: &io::Error| {
        error.raw_os_error() == Some(libc::ENOMEM)
            || limits.maps_are_locked && error.raw_os_error() == Some(libc::EPERM)
    };
    let shrunk = match limits.maps_are_locked {
        true => "others of this user have locked memory, too; a higher RLIMIT_MEMLOCK allows more",
        false => "a higher memory limit allows more",
    };
    let (rings, bound) = all(limits.ring_buffers(wanted), cpus, open, is_size, shrunk)
        .map_err(|error| no_ring_buffer(&error))?;
    Ok(Opened { kind: RingKind::Ringbuf, rings, bound })
}

/// A ring for each of `cpus`, as large as planned. If that is too much after all, all of them are made smaller: others
/// of the same user or in the same container may have used up what the plan reckoned with. Gives what bounds them,
/// `shrunk` in that case.
fn all<E>(
    plan: Plan,
    cpus: &[u32],
    open: impl Fn(u32, usize) -> Result<Option<Box<dyn Ring>>, E>,
    is_size: impl Fn(&E) -> bool,
    shrunk: &str,
) -> Result<(Vec<OfCpu>, Option<String>), E> {
    let Plan { mut bytes, mut bound } = plan;
    loop {
        // What is kept in memory fits a usize.
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        let rings = cpus.iter().filter_map(|&cpu| match open(cpu, size) {
            Ok(ring) => Some(Ok(OfCpu { cpu, ring: ring?, retired: false })),
            Err(error) => Some(Err(error)),
        });
        match rings.collect() {
            Ok(rings) => return Ok((rings, bound)),
            Err(error) if is_size(&error) && bytes / 2 >= MIN_BYTES => bytes /= 2,
            Err(error) => return Err(error),
        }
        bound = Some(shrunk.to_owned());
    }
}

/// A ring for a CPU that has come online.
pub(super) struct Added {
    pub(super) ring: Box<dyn Ring>,
    /// What is to be said of it.
    pub(super) note: Option<String>,
}

/// Opens a ring for a CPU that has come online, unless it has one that works. A perf ring is off once its CPU was
/// offline, and stays so.
pub(super) fn renew(rings: &mut Rings, cpu: u32) -> Result<Option<Added>, Error> {
    let planned = rings.in_use.bytes;
    let older = rings.rings.iter().any(|of_cpu| of_cpu.cpu == cpu);
    if rings.in_use.kind == RingKind::Ringbuf {
        if older {
            return Ok(None);
        }
        let ring = ringbuf::Ring::open(planned, page_size()).map_err(|error| Error::maps(&error))?;
        return Ok(Some(Added { ring: Box::new(ring), note: None }));
    }
    for of_cpu in rings.rings.iter_mut().filter(|of_cpu| of_cpu.cpu == cpu) {
        of_cpu.retired = true;
    }
    let mut bytes = planned;
    loop {
        match perf::Ring::open(cpu, bytes, page_size()) {
            Ok(ring) => {
                let note = (bytes < planned).then(|| {
                    format!(
                        "CPU {cpu} has come online: its ring has {}, the others {}, as no more memory may be locked",
                        human(bytes as u64),
                        human(planned as u64)
                    )
                });
                return Ok(Some(Added { ring: Box::new(ring), note }));
            }
            // Its older ring is still there, and goes once it is read: there is room then.
            Err(perf::Refusal::Locked) if !older && bytes as u64 / 2 >= MIN_BYTES => bytes /= 2,
            Err(refusal) => return Err(forbidden(&refusal)),
        }
    }
}

/// Why no perf rings can be had.
fn reason(refusal: &perf::Refusal) -> String {
    match refusal {
        perf::Refusal::Locked => {
            "not permitted: no memory may be locked (CAP_IPC_LOCK, or a higher RLIMIT_MEMLOCK)".to_owned()
        }
        perf::Refusal::Open(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            match probe::perf_event_paranoid() {
                Some(level) if probe::rings_need_sys_admin() && lacks("CAP_SYS_ADMIN") => {
                    format!("not permitted: kernel.perf_event_paranoid is {level}, and CAP_SYS_ADMIN missing")
                }
                _ if lacks("CAP_PERFMON") => "not permitted: missing CAP_PERFMON".to_owned(),
                _ => {
                    "not permitted: a seccomp profile or a security module forbids perf_event_open".to_owned()
                }
            }
        }
        perf::Refusal::Open(error) | perf::Refusal::Other(error) => error.to_string(),
    }
}

fn lacks(capability: &'static str) -> bool {
    !probe::missing(&[capability]).is_empty()
}

fn forbidden(refusal: &perf::Refusal) -> Error {
    Error::PerfRings(reason(refusal))
}

fn no_ring_buffer(error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => Error::Maps(format!(
            "no memory for BPF ring buffers, not even of {} a CPU: raise the container's or the unit's memory limit",
            human(MIN_BYTES)
        )),
        _ => Error::maps(error),
    }
}

/// Bytes that these rings take, with the pages for positions.
pub(super) fn memory(kind: RingKind, rings: &[OfCpu]) -> u64 {
    let pages = match kind {
        RingKind::Perf => 1,
        RingKind::Ringbuf => 3,
    };
    rings.iter().map(|of_cpu| (of_cpu.ring.bytes() + pages * page_size()) as u64).sum()
}
