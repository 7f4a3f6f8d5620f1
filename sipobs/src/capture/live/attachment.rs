//! How programs are, would be, and were attached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sipobs_common::Hook;

use super::Interface;

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
    /// The hook that the program is at.
    pub const fn hook(self) -> Hook {
        match self {
            Self::NativeXdp | Self::GenericXdp => Hook::Xdp,
            Self::TcxIngress | Self::ClsactIngress => Hook::TcIngress,
            Self::TcxEgress | Self::ClsactEgress => Hook::TcEgress,
        }
    }

    /// A stable name for metrics and JSON.
    pub const fn as_str(self) -> &'static str {
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

/// What would be tried on an interface, first things first, each with what is known to stand in its way.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The interface.
    pub interface: Interface,
    /// For received frames.
    pub ingress: Vec<(How, Option<String>)>,
    /// For sent frames.
    pub egress: Vec<(How, Option<String>)>,
}

/// What is watched of all that is meant, by names of interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Both directions are.
    pub watched: BTreeSet<String>,
    /// They fit a pattern or are wanted by name, and no program could be attached, for this reason.
    pub refused: BTreeMap<String, String>,
    /// They are wanted by name, and are not there, or no program could be attached.
    pub missing: BTreeSet<String>,
}

/// What happened to an interface that is meant, or to a ring.
#[derive(Clone, Debug)]
pub enum AttachEvent {
    /// A program is attached.
    Attached(Attachment),
    /// The interface is gone, or not meant any more; a program is not attached any more.
    Detached(Attachment),
    /// No program could be attached.
    Refused {
        /// The interface.
        interface: String,
        /// Why.
        reason: String,
    },
    /// CPUs or interfaces could not be looked at.
    Failed {
        /// Why.
        reason: String,
    },
    /// A CPU has come online whose ring is not as the others are: what there is to say of it.
    Ring(String),
}

impl fmt::Display for AttachEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached(attachment) => attachment.fmt(f),
            Self::Detached(attachment) => {
                write!(f, "{}: {} detached", attachment.interface, attachment.how)
            }
            Self::Refused { reason, .. } => f.write_str(reason),
            Self::Failed { reason } => write!(f, "{reason}: the capture goes on, and it is tried again"),
            Self::Ring(note) => f.write_str(note),
        }
    }
}
