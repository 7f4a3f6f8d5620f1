//! Live capture: XDP (or tc) programs on the way in, tc programs on the way out, one ring for each CPU.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use sipobs::capture::live::{Config, Event, Live};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut live = Live::open(&Config { interfaces: vec!["eth0".into()], ..Config::default() })?;
//! for attachment in live.attachments() {
//!     eprintln!("{attachment}");
//! }
//! loop {
//!     // Blocks until there is something to read, and never longer than asked.
//!     let now = live.poll(Duration::from_millis(100), &mut |event| match event {
//!         Event::Frame(frame) => { /* engine.frame(&frame) */ }
//!         Event::Lost { time, frames } => { /* engine.note_loss(…) */ }
//!     })?;
//!     // No frame before `now` will follow: engine.handle_timeout(now).
//!     # break;
//! }
//! # Ok(()) }
//! ```
//!
//! Dropping [`Live`] detaches everything it attached, and nothing else.

// The system's interfaces are C's; each block says why it is sound.
#![allow(unsafe_code)]

mod account;
mod attach;
mod attachment;
mod clock;
mod descriptors;
mod drivers;
mod dry_run;
mod error;
mod interfaces;
mod kernel_log;
mod maps;
mod netlink;
mod nexthops;
mod probe;
mod ring;
mod routes;
mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aya::Ebpf;
pub use sipobs_common::{Counters, Failure, Hook, flags};

pub use self::account::Account;
use self::attach::{Attached, attach};
pub use self::attachment::{AttachEvent, Attachment, Coverage, How, Outlook};
pub use self::clock::Clock;
use self::clock::monotonic;
pub(super) use self::descriptors::dropped_by_socket;
pub use self::descriptors::raise_descriptor_limit;
pub use self::dry_run::{DryRun, Program, Ran};
pub use self::error::Error;
pub use self::interfaces::Interface;
use self::kernel_log::KernelLog;
pub use self::maps::unlimit_memlock;
pub use self::probe::{Capability, Feature, Probe, probe, rings_need_sys_admin};
use self::ring::{HOLD, Renewed, Rings};
pub use self::ring::{RingKind, RingsInUse};
use self::select::Selection;
pub use crate::capture::{Config, Mode, RingChoice};
use crate::frame::{Direction, Frame, LinkType};
use crate::timestamp::Timestamp;

/// Sets up maps, programs and rings as [`Live::open`] does, attaches nothing, and takes all down again. Gives which
/// rings there were.
///
/// # Errors
///
/// What would keep [`Live::open`] from capturing, but for the interfaces.
pub fn rehearse(config: &Config) -> Result<RingsInUse, Error> {
    let (mut ebpf, rings) = prepare(config)?;
    attach::load_all(&mut ebpf)?;
    Ok(rings.in_use().clone())
}

/// What would be tried on each interface that is meant, or on every one that is up where none is named.
/// Changes nothing.
///
/// # Errors
///
/// When a named interface is missing. An error in the list: every way is known to be barred there.
pub fn outlook(config: &Config) -> Result<Vec<Result<Outlook, Error>>, Error> {
    let interfaces = interfaces::list()?;
    let selection = Selection::new(config)?;
    if let Some(name) = selection.missing(&interfaces).next() {
        return Err(Error::no_interface(name, &interfaces));
    }
    let meant = match &config.interfaces[..] {
        [] => interfaces.iter().filter(|interface| interface.up && interface.readable).collect(),
        _ => selection.choose(&interfaces),
    };
    Ok(meant.into_iter().map(|interface| attach::outlook(interface, config.mode)).collect())
}

/// What [`Live::poll`] hands over.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// One frame, in time order over all CPUs.
    Frame(Frame<'a>),
    /// So many matched frames were lost at about this time on their way from the programs: most often because a ring
    /// was full.
    Lost {
        /// When the daemon came to know.
        time: Timestamp,
        /// How many.
        frames: u64,
    },
}

/// How often CPUs and interfaces are looked at for changes. What comes is not seen before.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// A running capture.
#[derive(Debug)]
pub struct Live {
    config: Config,
    selection: Selection,
    changes: netlink::Changes,
    /// There was one that has not been seen to.
    changed: bool,
    /// What went wrong beside the capture, and when that was last told.
    failures: u64,
    complained: Option<Instant>,
    /// Dropped before the rings: nothing writes to them any more then.
    attached: Vec<Attached>,
    /// Interfaces that are meant and could not be attached to, by index, and why: not to complain of each twice.
    refused: BTreeMap<u32, (String, String)>,
    events: Vec<AttachEvent>,
    ebpf: Ebpf,
    rings: Rings,
    /// CPUs that have a ring.
    cpus: Vec<u32>,
    /// CPUs that are online and have none, and at how many looks it has failed.
    ringless: BTreeMap<u32, u32>,
    /// Frames that could not be handed over, by CPU number, as of the last look.
    failed: Vec<[u64; Failure::COUNT]>,
    /// Those of them that [`Event::Lost`] has told of.
    lost: u64,
    clock: Clock,
    /// Frames handed over.
    frames: u64,
    /// The same by the index of the interface, and the hook.
    frames_by: BTreeMap<(u32, Hook), u64>,
    /// Time of the last frame handed over: the next one's is not before it.
    last: Timestamp,
    looked_around: Instant,
    kernel_log: Option<KernelLog>,
}

impl Live {
    /// Loads the programs, opens the rings and attaches, in that order: the first frame seen has a ring.
    pub fn open(config: &Config) -> Result<Self, Error> {
        check(config)?;
        let (mut ebpf, rings) = prepare(config)?;
        let cpus = rings.fds().map(|(cpu, _)| cpu).collect();
        let kernel_log = if config.kernel_log { Some(KernelLog::of(&mut ebpf)?) } else { None };
        let selection = Selection::new(config)?;
        // Watched before it is looked at: nothing goes by between.
        let changes = netlink::Changes::watch()?;
        let mut live = Self {
            config: config.clone(),
            selection,
            changes,
            changed: false,
            failures: 0,
            complained: None,
            attached: Vec::new(),
            refused: BTreeMap::new(),
            events: Vec::new(),
            ebpf,
            rings,
            cpus,
            ringless: BTreeMap::new(),
            failed: Vec::new(),
            lost: 0,
            clock: Clock::new(),
            frames: 0,
            frames_by: BTreeMap::new(),
            last: Timestamp::from_nanos(i64::MIN),
            looked_around: now(),
            kernel_log,
        };
        let interfaces = interfaces::list()?;
        if let Some(name) = live.selection.missing(&interfaces).next() {
            return Err(Error::no_interface(name, &interfaces));
        }
        for interface in live.selection.choose(&interfaces) {
            if let Err(error) = live.attach(interface)
                && live.selection.names(interface)
            {
                return Err(error);
            }
        }
        Ok(live)
    }

    /// Waits for frames, at most about `timeout`, and gives each to `take` in time order. Frames younger
    /// than a millisecond stay for the next call: an older one may still be on its way into another CPU's
    /// ring.
    ///
    /// Returns the moment up to which everything has been given: pass it to `Engine::handle_timeout`, never
    /// a clock's.
    pub fn poll(&mut self, timeout: Duration, take: &mut dyn FnMut(Event<'_>)) -> Result<Timestamp, Error> {
        let start = now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            let wait = left.min(self.config.linger);
            if let Err(error) = self.rings.wait(wait) {
                self.tolerate(&Error::Wait(error));
                // The rings are read all the same.
                std::thread::sleep(wait);
            }
            if self.looked_around.elapsed() >= LOOK_AROUND {
                self.look_around();
            }
            let moment = monotonic();
            self.clock.follow(moment);
            let (time, given) = self.drain(moment.saturating_sub(hold_nanos()), take);
            self.tell_losses(time, take);
            if given || start.elapsed() >= timeout {
                return Ok(time);
            }
        }
    }

    /// Detaches every program, then hands over what is left in the rings. After it [`Self::poll`] gives
    /// nothing more; the counters stay readable.
    pub fn finish(&mut self, take: &mut dyn FnMut(Event<'_>)) -> Result<Timestamp, Error> {
        self.attached.clear();
        // A program that was running when its link went may still write: the kernel frees it only after
        // every CPU has passed through a quiescent state, which takes milliseconds.
        std::thread::sleep(Duration::from_millis(20));
        self.failed = maps::failed_by_cpu(&self.ebpf)?;
        let (time, _) = self.drain(u64::MAX, take);
        self.tell_losses(time, take);
        Ok(time)
    }

    /// Goes by `config` from now on, as far as that goes while programs run: interfaces, exclude, ports,
    /// `vxlan_ports`, `drop_methods`, `linger`. What stays attached is not touched, and no frame of it missed.
    ///
    /// # Errors
    ///
    /// When [`Self::open`] would not take it, or an interface newly named is missing; then nothing has changed. An
    /// interface that can't be attached to is told by [`Self::attach_events`].
    pub fn reconfigure(&mut self, config: &Config) -> Result<(), Error> {
        check(config)?;
        maps::settings_of(config)?;
        let selection = Selection::new(config)?;
        // One that was there when it was first named may be gone meanwhile.
        let is_new = |name: &&str| self.config.interfaces.iter().all(|it| it != name);
        // Before anything changes: it may fail.
        let interfaces = interfaces::list()?;
        if let Some(name) = selection.missing(&interfaces).find(is_new) {
            return Err(Error::no_interface(name, &interfaces));
        }
        maps::tell(&mut self.ebpf, &self.config.ports, config)?;
        let Config { mode, ring, ring_bytes, kernel_log, .. } = self.config;
        self.config = Config { mode, ring, ring_bytes, kernel_log, ..config.clone() };
        self.selection = selection;
        self.refused.clear();
        self.follow(&interfaces);
        Ok(())
    }

    /// Prints what the kernel programs have logged, where the configuration asks for it.
    pub fn log(&mut self) {
        if let Some(log) = &mut self.kernel_log {
            log.print();
        }
    }

    /// What the programs have counted since [`Self::open`], summed over CPUs, for each hook.
    pub fn counters(&self) -> Result<[(Hook, Counters); 3], Error> {
        maps::counters(&self.ebpf)
    }

    /// The same for each CPU.
    pub fn counters_by_cpu(&self, hook: Hook) -> Result<Vec<Counters>, Error> {
        maps::counters_by_cpu(&self.ebpf, hook)
    }

    /// All of it at one moment, with what lies in the rings: it adds up to the frame, also under traffic.
    pub fn account(&self) -> Result<Account, Error> {
        account::take(&self.ebpf, &self.rings, self.frames)
    }

    /// Frames handed over by [`Self::poll`] and [`Self::finish`]: `delivered` of all hooks once everything
    /// is drained, less [`Self::damaged`].
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Records in the rings that could not be read: always 0 unless kernel and daemon disagree.
    pub const fn damaged(&self) -> u64 {
        self.rings.damaged()
    }

    /// What is attached, and how.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attached.iter().map(|attached| &attached.attachment)
    }

    /// Frames read from the rings that this program wrote there.
    pub fn frames_by(&self, program: &Attachment) -> u64 {
        self.frames_by.get(&(program.ifindex, program.how.hook())).copied().unwrap_or_default()
    }

    /// What is watched of all that is meant.
    pub fn coverage(&self) -> Coverage {
        let watched: BTreeSet<_> = self.attachments().map(|it| it.interface.clone()).collect();
        let missing =
            self.selection.wanted().filter(|name| !watched.contains(*name)).map(Into::into).collect();
        Coverage { refused: self.refused.values().cloned().collect(), watched, missing }
    }

    /// What was attached, detached or refused since the last call.
    pub fn attach_events(&mut self) -> Vec<AttachEvent> {
        std::mem::take(&mut self.events)
    }

    /// What went wrong so far beside the capture: looks at CPUs and interfaces, for the most part. Each is tried again.
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// Which rings frames come through.
    pub const fn rings(&self) -> &RingsInUse {
        self.rings.in_use()
    }

    /// How far the wall clock is ahead of frame times, in nanoseconds: more than a second means that it was
    /// stepped. Frame times do not follow a step by themselves, as timers would fire at once or hang.
    pub fn clock_error(&self) -> i64 {
        self.clock.error()
    }

    /// The time that a frame would have which came now.
    pub fn time(&self) -> Timestamp {
        self.clock.wall(monotonic())
    }

    /// Follows a step of the wall clock. Call it while the engine has nothing open.
    pub fn adopt_wall_clock(&mut self) {
        self.clock.adopt();
        self.last = Timestamp::from_nanos(i64::MIN);
    }

    /// Gives what is older than `until`. Returns the wall time of that, and whether there was anything.
    fn drain(&mut self, until: u64, take: &mut dyn FnMut(Event<'_>)) -> (Timestamp, bool) {
        let Self { rings, clock, frames, frames_by, last, .. } = self;
        let horizon = clock.wall(until.min(monotonic()));
        let mut given = false;
        rings.drain(until, &mut |header, bytes| {
            given = true;
            // Late by more than the hold: never seen, but time must not run back.
            *last = clock.wall(header.time).max(*last);
            *frames += 1;
            if let Some(hook) = header.hook() {
                *frames_by.entry((header.ifindex, hook)).or_default() += 1;
            }
            take(Event::Frame(Frame {
                time: *last,
                number: *frames,
                interface: header.ifindex,
                direction: match header.hook() {
                    Some(Hook::Xdp | Hook::TcIngress) => Direction::Ingress,
                    Some(Hook::TcEgress) if header.flags & flags::ORIGINATED != 0 => Direction::Originated,
                    Some(Hook::TcEgress) => Direction::Egress,
                    None => Direction::Unknown,
                },
                link: match header.flags & flags::RAW_IP {
                    0 => LinkType::Ethernet,
                    _ => LinkType::Raw,
                },
                wire_len: header.wire_len,
                bytes,
            }));
        });
        *last = horizon.max(*last);
        (*last, given)
    }

    /// Tells of what the last look has found to be lost, by the programs' own counters: not all rings tell.
    fn tell_losses(&mut self, time: Timestamp, take: &mut dyn FnMut(Event<'_>)) {
        let lost: u64 = self.failed.iter().flatten().sum();
        if lost > self.lost {
            take(Event::Lost { time, frames: lost - self.lost });
            self.lost = lost;
        }
    }

    /// Follows interfaces as they come and go, and sees to the rings of CPUs that have come online.
    ///
    /// What fails is told in the events, and tried again at the next look: the capture goes on without it.
    fn look_around(&mut self) {
        self.looked_around = now();
        for error in [self.look_at_interfaces(), self.look_at_cpus()].into_iter().filter_map(Result::err) {
            self.tolerate(&error);
        }
    }

    /// Counts what went wrong beside the capture, and tells of it once a minute.
    fn tolerate(&mut self, error: &Error) {
        self.failures += 1;
        if self.complained.is_none_or(|last| last.elapsed() >= Duration::from_secs(60)) {
            self.complained = Some(now());
            self.events.push(AttachEvent::Failed { reason: error.to_string() });
        }
    }

    fn look_at_interfaces(&mut self) -> Result<(), Error> {
        // Remembered until it is seen to: it is told once.
        self.changed |= self.changes.any();
        if self.changed {
            self.follow(&interfaces::list()?);
            self.changed = false;
        }
        Ok(())
    }

    fn look_at_cpus(&mut self) -> Result<(), Error> {
        let cpus = online_cpus()?;
        let failed = maps::failed_by_cpu(&self.ebpf)?;
        let kind = self.rings.in_use().kind;
        self.ringless.retain(|cpu, _| cpus.contains(cpu));
        let mut with_ring = Vec::with_capacity(cpus.len());
        for cpu in cpus {
            // One that was away only between two looks is told by what its programs could not write.
            let off = without_ring(&failed, cpu) > without_ring(&self.failed, cpu);
            if off || !self.cpus.contains(&cpu) {
                match self.rings.renew(cpu) {
                    Ok(None) => {}
                    Ok(Some(Renewed { fd, note })) => {
                        maps::set_ring(&mut self.ebpf, kind, cpu, fd)?;
                        self.events.extend(note.map(AttachEvent::Ring));
                    }
                    // Tried anew at the next look, and what is lost meanwhile is counted.
                    Err(error) => {
                        let news = self.no_ring(cpu, &error);
                        self.events.extend(news);
                        continue;
                    }
                }
            }
            self.ringless.remove(&cpu);
            with_ring.push(cpu);
        }
        self.cpus = with_ring;
        self.failed = failed;
        Ok(())
    }
}

/// Frames of `cpu` that found no ring, or one that is off.
fn without_ring(failed: &[[u64; Failure::COUNT]], cpu: u32) -> u64 {
    let of_cpu = failed.get(cpu as usize);
    of_cpu.map_or(0, |by| by[Failure::NoRing as usize] + by[Failure::RingOff as usize])
}

impl Live {
    /// Attaches to what has come to be meant of `interfaces`, all there are, and lets go of what is gone.
    fn follow(&mut self, interfaces: &[Interface]) {
        let meant = self.selection.choose(interfaces);
        let is_meant = |attachment: &Attachment| {
            meant.iter().any(|it| it.index == attachment.ifindex && it.name == attachment.interface)
        };
        let (stay, gone): (Vec<_>, Vec<_>) =
            self.attached.drain(..).partition(|attached| is_meant(&attached.attachment));
        self.attached = stay;
        self.events.extend(gone.into_iter().map(|attached| AttachEvent::Detached(attached.attachment)));
        self.refused.retain(|index, _| meant.iter().any(|interface| interface.index == *index));
        self.frames_by.retain(|(index, _), _| meant.iter().any(|interface| interface.index == *index));
        for interface in meant {
            let is_attached = |attached: &Attached| attached.attachment.ifindex == interface.index;
            if !self.refused.contains_key(&interface.index) && !self.attached.iter().any(is_attached) {
                // Told as an event; the others go on.
                let _ = self.attach(interface);
            }
        }
    }

    /// What to say of a CPU that gets no ring: the first time may be the moment at which it goes again, or at which its
    /// older ring still takes the memory.
    fn no_ring(&mut self, cpu: u32, error: &Error) -> Option<AttachEvent> {
        let failed = self.ringless.entry(cpu).or_default();
        *failed = failed.saturating_add(1);
        (*failed == 2).then(|| AttachEvent::Ring(format!("CPU {cpu} is online and has no ring: {error}")))
    }

    fn attach(&mut self, interface: &Interface) -> Result<(), Error> {
        let room = descriptors::check_room();
        let room = room.map_err(|source| Error::System { what: "attaching programs", source });
        match room.and_then(|()| attach(&mut self.ebpf, interface, self.config.mode)) {
            Ok(attached) => {
                self.events.extend(attached.iter().map(|it| AttachEvent::Attached(it.attachment.clone())));
                self.attached.extend(attached);
                Ok(())
            }
            Err(error) => {
                let (name, reason) = (interface.name.clone(), error.to_string());
                self.refused.insert(interface.index, (name.clone(), reason.clone()));
                self.events.push(AttachEvent::Refused { interface: name, reason });
                Err(error)
            }
        }
    }
}

fn check(config: &Config) -> Result<(), Error> {
    let wrong = |field, reason: &str| Err(Error::Config { field, reason: reason.to_owned() });
    if config.interfaces.is_empty() {
        return wrong("interfaces", "none given");
    }
    if config.ports.is_empty() || config.ports.contains(&0) {
        return wrong("ports", "at least one, each from 1 to 65535");
    }
    if config.vxlan_ports.len() > 2 {
        return wrong("vxlan_ports", "at most two");
    }
    if config.ring_bytes > 1 << 30 {
        return wrong("ring_bytes", "at most 1 GiB for each CPU");
    }
    for (index, name) in config.interfaces.iter().enumerate() {
        if config.interfaces[..index].contains(name) {
            return wrong("interfaces", &format!("{name} is given twice"));
        }
    }
    Ok(())
}

/// Rings and maps. The programs are loaded as they are attached: which ones depends on the interfaces.
fn prepare(config: &Config) -> Result<(Ebpf, Rings), Error> {
    unlimit_memlock();
    let rings = Rings::open(config, &online_cpus()?)?;
    let kind = rings.in_use().kind;
    let mut ebpf = maps::load(config, kind)?;
    for (cpu, ring) in rings.fds() {
        maps::set_ring(&mut ebpf, kind, cpu, ring)?;
    }
    Ok((ebpf, rings))
}

fn online_cpus() -> Result<Vec<u32>, Error> {
    aya::util::online_cpus().map_err(|(what, source)| Error::System { what, source })
}

fn hold_nanos() -> u64 {
    u64::try_from(HOLD.as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::disallowed_methods, reason = "for waiting, not for judging")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
