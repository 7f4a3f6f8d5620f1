//! What stands before every frame in a ring.

use crate::Hook;

/// Written by the kernel program; the frame's own bytes follow it, `captured_len` of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// `CLOCK_MONOTONIC` in nanoseconds when the program saw the frame.
    pub time: u64,
    /// The interface it crossed.
    pub ifindex: u32,
    /// Which program saw it: a [`Hook`] as its number.
    pub hook: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Length of the frame at the hook, in bytes. On a hook behind segmentation offload this is the length
    /// of the large segment the kernel carries, not of what the card puts on the wire.
    pub wire_len: u32,
    /// How many bytes of it follow; less than `wire_len` only beyond [`crate::MAX_CAPTURE`].
    pub captured_len: u32,
    /// The VLAN tag the card or the kernel had taken out of the frame, when [`flags::VLAN`] is set.
    pub vlan_tci: u32,
}

impl FrameHeader {
    /// Its size in the ring, in bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// The program that saw the frame, unless the number is none of ours.
    pub const fn hook(&self) -> Option<Hook> {
        Hook::from_number(self.hook)
    }
}

/// The bits of [`FrameHeader::flags`].
pub mod flags {
    /// The frame begins with its IP header: the interface has no link layer.
    pub const RAW_IP: u32 = 1 << 0;
    /// The frame was longer than [`crate::MAX_CAPTURE`].
    pub const TRUNCATED: u32 = 1 << 1;
    /// [`super::FrameHeader::vlan_tci`] holds a tag that is not in the bytes.
    pub const VLAN: u32 = 1 << 2;
    /// A later fragment whose first fragment no program has seen yet: it may be another protocol's.
    pub const FIRST_UNSEEN: u32 = 1 << 3;
    /// Matched inside a VXLAN tunnel; the bytes are the outer frame.
    pub const VXLAN: u32 = 1 << 4;
    /// Sent by an IP socket of this machine, and not passed on for others.
    pub const ORIGINATED: u32 = 1 << 5;
}

const _: () = assert!(FrameHeader::SIZE == 32);
