//! What the daemon tells the programs, and the keys of the maps they keep themselves.

/// Words of the port table: one bit for every port, so that any number of them costs the same two look-ups.
pub const PORT_WORDS: u32 = 65_536 / 64;

/// The word of the port table and the bit in it that stand for `port`.
pub const fn port_bit(port: u16) -> (u32, u64) {
    ((port >> 6) as u32, 1 << (port & 63))
}

/// Settings that may change while the programs run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Methods not to deliver when a UDP datagram begins with them; see [`noise`]. Their answers still
    /// come: telling whose they are takes a look at CSeq.
    pub noise: u32,
    /// UDP destination ports of VXLAN tunnels to look into; 0 for none.
    pub vxlan_ports: [u16; 2],
}

/// The bits of [`Settings::noise`].
pub mod noise {
    /// OPTIONS (RFC 3261, section 11).
    pub const OPTIONS: u32 = 1 << 0;
    /// REGISTER (RFC 3261, section 10).
    pub const REGISTER: u32 = 1 << 1;
    /// PUBLISH (RFC 3903).
    pub const PUBLISH: u32 = 1 << 2;
}

/// One fragmented datagram (RFC 791, section 3.2; RFC 8200, section 4.5). IPv4 addresses stand in the last
/// four bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentKey {
    /// Source address.
    pub source: [u32; 4],
    /// Destination address.
    pub destination: [u32; 4],
    /// The identification field as it stands in the packet.
    pub id: u32,
    /// The protocol: UDP or TCP.
    pub protocol: u32,
}

// SAFETY: `#[repr(C)]` with no padding (4 + 2 × 2 bytes), and any bit pattern is a value.
#[cfg(all(feature = "user", target_os = "linux"))]
#[allow(unsafe_code, reason = "the marker trait asks for it; the type is plain integers")]
unsafe impl aya::Pod for Settings {}
