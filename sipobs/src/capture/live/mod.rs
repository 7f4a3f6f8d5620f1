//! Live capture: XDP (or tc) programs on the way in, tc programs on the way out, one perf ring for each CPU.
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
//!         Event::Lost { time, frames } => { /* engine.damage(time, …) */ }
//!     })?;
//!     // No frame before `now` will follow: engine.handle_timeout(now).
//!     # break;
//! }
//! # Ok(()) }
//! ```
//!
//! Dropping [`Live`] detaches everything it attached, and nothing else.

use std::fmt;
use std::time::Duration;

pub use sipobs_common::{Counters, Failure, Hook};

use crate::capture::Frame;
use crate::timestamp::Timestamp;

/// What to capture, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces by name. One that does not exist is an error.
    pub interfaces: Vec<String>,
    /// Ports that carry SIP, as source or destination, UDP or TCP.
    pub ports: Vec<u16>,
    /// How to see received frames.
    pub mode: Mode,
    /// Bytes of each CPU's ring; rounded up to a power of two of pages.
    pub ring_bytes: usize,
    /// UDP ports of VXLAN tunnels to look into (at most two).
    pub vxlan_ports: Vec<u16>,
    /// Requests not to deliver over UDP: any of `OPTIONS`, `REGISTER`, `PUBLISH`. Empty unless configured.
    pub drop_methods: Vec<String>,
    /// How long a lone message may wait in its ring.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            ports: vec![sipobs_common::SIP_PORT],
            mode: Mode::Auto,
            ring_bytes: 4 << 20,
            vxlan_ports: vec![sipobs_common::VXLAN_PORT, sipobs_common::VXLAN_PORT_LINUX],
            drop_methods: Vec::new(),
            linger: Duration::from_millis(20),
        }
    }
}

/// How to see received frames. Sent frames are always seen by tc egress: XDP does not see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Native XDP; where the driver or another program stands in the way, generic XDP; else tc ingress.
    #[default]
    Auto,
    /// Native XDP or an error.
    Xdp,
    /// Generic XDP or an error.
    Generic,
    /// tc ingress or an error. Costs a virtual interface (veth and kin) less than XDP does.
    Tc,
}

/// One program on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface's name when it was attached.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// How the program is attached.
    pub how: How,
    /// Why not a way that was tried before, in plain words.
    pub refused: Vec<String>,
}

impl fmt::Display for Attachment {
    /// `eth0: generic XDP (native XDP: the driver has none)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.interface, self.how)?;
        if !self.refused.is_empty() {
            write!(f, " ({})", self.refused.join("; "))?;
        }
        Ok(())
    }
}

/// The ways a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// XDP in the driver.
    NativeXdp,
    /// XDP in the kernel's stack.
    GenericXdp,
    /// tcx, ingress, before every other program (Linux 6.6 and later).
    TcxIngress,
    /// A filter on the clsact qdisc, ingress.
    ClsactIngress,
    /// tcx, egress, before every other program (Linux 6.6 and later).
    TcxEgress,
    /// A filter on the clsact qdisc, egress.
    ClsactEgress,
}

impl How {
    /// A stable name for metrics and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NativeXdp => "xdp_native",
            Self::GenericXdp => "xdp_generic",
            Self::TcxIngress => "tcx_ingress",
            Self::ClsactIngress => "clsact_ingress",
            Self::TcxEgress => "tcx_egress",
            Self::ClsactEgress => "clsact_egress",
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NativeXdp => "native XDP",
            Self::GenericXdp => "generic XDP",
            Self::TcxIngress => "tcx ingress",
            Self::ClsactIngress => "clsact ingress",
            Self::TcxEgress => "tcx egress",
            Self::ClsactEgress => "clsact egress",
        })
    }
}

/// What [`Live::poll`] hands over.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// One frame, in time order over all CPUs.
    Frame(Frame<'a>),
    /// So many matched frames were lost at about this time because a ring was full.
    Lost {
        /// When the daemon came to know.
        time: Timestamp,
        /// How many.
        frames: u64,
    },
}

/// Why capture could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No interface of this name.
    #[error("interface {0}: no such interface")]
    NoInterface(String),
    /// The configuration asks for something that cannot be.
    #[error("{field}: {reason}")]
    Config {
        /// The field of [`Config`].
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// This build carries no programs.
    #[error("not yet built")]
    NotBuilt,
}

/// A running capture.
#[derive(Debug)]
pub struct Live(());

impl Live {
    /// Loads the programs, opens the rings and attaches, in that order: the first frame seen has a ring.
    pub fn open(_config: &Config) -> Result<Self, Error> {
        Err(Error::NotBuilt)
    }

    /// Waits for frames, at most `timeout`, and gives each to `take` in time order; frames younger than a
    /// millisecond stay for the next call, as an older one may still be on its way in another CPU's ring.
    ///
    /// Returns the moment up to which everything has been given: pass it to `Engine::handle_timeout`, never
    /// a clock's.
    pub fn poll(&mut self, _timeout: Duration, _take: &mut dyn FnMut(Event<'_>)) -> Result<Timestamp, Error> {
        Err(Error::NotBuilt)
    }

    /// Detaches every program, then hands over what is left in the rings. After it [`Self::poll`] gives
    /// nothing more; the counters stay readable.
    pub fn finish(&mut self, _take: &mut dyn FnMut(Event<'_>)) -> Result<Timestamp, Error> {
        Err(Error::NotBuilt)
    }

    /// What the programs have counted since [`Self::open`], summed over CPUs, for each hook.
    pub fn counters(&self) -> Result<[(Hook, Counters); 3], Error> {
        Err(Error::NotBuilt)
    }

    /// What is attached, and how.
    pub fn attachments(&self) -> &[Attachment] {
        &[]
    }

    /// How far the wall clock has gone from the clock of the frames, in nanoseconds: more than a second
    /// means that the wall clock was stepped. Frame times do not follow a step by themselves, as timers
    /// would fire at once or hang.
    pub fn clock_error(&self) -> i64 {
        0
    }

    /// Follows a step of the wall clock. Call it while the engine has nothing open.
    pub fn adopt_wall_clock(&mut self) {}
}
