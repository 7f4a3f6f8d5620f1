//! What the kernel programs count. For every hook, exactly:
//!
//! ```text
//! seen    = other + malformed + keep_alive + noise + matched
//! matched = delivered + failed.sum()
//! ```

/// A place in the kernel where a program looks at frames; the index of its counters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// XDP: received frames, before the kernel's stack.
    Xdp = 0,
    /// tc ingress: received frames, behind generic receive offload.
    TcIngress = 1,
    /// tc egress: frames about to be sent, before segmentation offload.
    TcEgress = 2,
}

impl Hook {
    /// Every hook, in the order of its number.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::TcIngress, Self::TcEgress];

    /// A stable name for metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcIngress => "tc_ingress",
            Self::TcEgress => "tc_egress",
        }
    }

    /// The hook with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Xdp),
            1 => Some(Self::TcIngress),
            2 => Some(Self::TcEgress),
            _ => None,
        }
    }
}

/// Why a matched frame did not reach the ring: the errno of `bpf_perf_event_output` by class.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// ENOSPC: the ring was full; the daemon did not keep up.
    Full = 0,
    /// ENOENT or E2BIG of the index: this CPU has no ring.
    NoRing = 1,
    /// EOPNOTSUPP: this CPU's ring is switched off (it was offline) and must be opened anew.
    RingOff = 2,
    /// EBUSY: too many outputs nested on one CPU.
    Busy = 3,
    /// EFAULT: the frame changed under the program, or is shorter than it says.
    Fault = 4,
    /// Any other errno.
    Other = 5,
}

impl Failure {
    /// How many classes there are.
    pub const COUNT: usize = 6;

    /// Every class, in the order of its number.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Full, Self::NoRing, Self::RingOff, Self::Busy, Self::Fault, Self::Other];

    /// The class of a negative return value.
    pub const fn of(result: i64) -> Self {
        match -result {
            28 => Self::Full,
            2 | 7 => Self::NoRing,
            95 => Self::RingOff,
            16 => Self::Busy,
            14 => Self::Fault,
            _ => Self::Other,
        }
    }

    /// A stable name for metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "ring_full",
            Self::NoRing => "no_ring",
            Self::RingOff => "ring_off",
            Self::Busy => "busy",
            Self::Fault => "fault",
            Self::Other => "other",
        }
    }
}

/// The counters of one hook on one CPU, in frames.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The program ran.
    pub seen: u64,
    /// Not SIP by protocol or port.
    pub other: u64,
    /// Ends before its headers do, or has more of them than the program walks. Not delivered.
    pub malformed: u64,
    /// On a SIP port, but a keep-alive or a bare TCP acknowledgement: nothing a dialog needs.
    pub keep_alive: u64,
    /// SIP requests of a method the configuration filters out.
    pub noise: u64,
    /// SIP as far as the program can tell.
    pub matched: u64,
    /// Written to the ring.
    pub delivered: u64,
    /// Of those, cut at [`crate::MAX_CAPTURE`].
    pub truncated: u64,
    /// Matched but not written, by [`Failure`].
    pub failed: [u64; Failure::COUNT],
}

impl Counters {
    /// Frames that matched and are lost.
    pub fn lost(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Frames the program let go because they are none of ours, by reason: a stable name each.
    pub const fn passed(&self) -> [(&'static str, u64); 4] {
        // All are named, so that none that is new is forgotten.
        let Self {
            seen: _,
            other,
            malformed,
            keep_alive,
            noise,
            matched: _,
            delivered: _,
            truncated: _,
            failed: _,
        } = *self;
        [("other", other), ("malformed", malformed), ("keep_alive", keep_alive), ("noise", noise)]
    }

    /// All of those.
    pub fn not_matched(&self) -> u64 {
        self.passed().iter().map(|(_, count)| count).sum()
    }

    /// What the two equations above leave over: 0 unless frames were being counted during the reading.
    pub fn residual(&self) -> i64 {
        let left = self.seen.wrapping_sub(self.not_matched()).wrapping_sub(self.delivered);
        left.wrapping_sub(self.lost()).cast_signed()
    }

    /// What was counted after `earlier` was read.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut failed = self.failed;
        for (mine, theirs) in failed.iter_mut().zip(earlier.failed) {
            *mine = mine.wrapping_sub(theirs);
        }
        Self {
            seen: self.seen.wrapping_sub(earlier.seen),
            other: self.other.wrapping_sub(earlier.other),
            malformed: self.malformed.wrapping_sub(earlier.malformed),
            keep_alive: self.keep_alive.wrapping_sub(earlier.keep_alive),
            noise: self.noise.wrapping_sub(earlier.noise),
            matched: self.matched.wrapping_sub(earlier.matched),
            delivered: self.delivered.wrapping_sub(earlier.delivered),
            truncated: self.truncated.wrapping_sub(earlier.truncated),
            failed,
        }
    }

    /// Adds another CPU's or hook's.
    pub fn add(&mut self, other: &Self) {
        let Self { seen, other: unread, malformed, keep_alive, noise, matched, delivered, truncated, failed } =
            other;
        self.seen += seen;
        self.other += unread;
        self.malformed += malformed;
        self.keep_alive += keep_alive;
        self.noise += noise;
        self.matched += matched;
        self.delivered += delivered;
        self.truncated += truncated;
        for (mine, theirs) in self.failed.iter_mut().zip(failed) {
            *mine += theirs;
        }
    }
}

// SAFETY: `#[repr(C)]`, only `u64`s: no padding, and any bit pattern is a value.
#[cfg(all(feature = "user", target_os = "linux"))]
#[allow(unsafe_code, reason = "the marker trait asks for it; the type is plain integers")]
unsafe impl aya::Pod for Counters {}
