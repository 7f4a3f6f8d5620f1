//! What packets meet on their way: a largest size, and what is put around them.

use std::ops::Range;

use super::{UDP, ethernet_ip};

/// How packets cross the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Bytes of IP in one frame; larger datagrams are fragmented, larger TCP writes segmented.
    pub(crate) mtu: usize,
    /// The fragments of a datagram overtake each other: the last comes first.
    pub(crate) reversed: bool,
    /// Outermost first.
    pub(crate) around: Vec<Around>,
}

impl Default for Path {
    fn default() -> Self {
        Self { mtu: 1500, reversed: false, around: Vec::new() }
    }
}

/// What can be around an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Around {
    /// A VLAN tag: its EtherType and the VLAN's number.
    Tag(u16, u16),
    /// RFC 7348, of this network.
    Vxlan(u32),
}

impl Around {
    /// IEEE 802.1Q.
    pub(crate) const CUSTOMER: u16 = 0x8100;
    /// IEEE 802.1ad.
    pub(crate) const PROVIDER: u16 = 0x88a8;
}

/// Where a frame's IP payload lies in the datagram.
pub(super) struct Piece {
    pub(super) bytes: Range<usize>,
    more: bool,
}

impl Piece {
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.start == 0 && !self.more
    }

    /// RFC 791 §3.1: flags and offset.
    pub(super) fn word(&self) -> u16 {
        (self.offset() / 8) | if self.more { 0x2000 } else { 0 }
    }

    /// RFC 8200 §4.5: offset and flags.
    pub(super) fn ipv6_word(&self) -> u16 {
        self.offset() | u16::from(self.more)
    }

    fn offset(&self) -> u16 {
        u16::try_from(self.bytes.start).expect("a datagram is at most 64 KiB")
    }
}

impl Path {
    /// How a datagram of `length` bytes is cut.
    pub(super) fn pieces(&self, ipv6: bool, length: usize) -> Vec<Piece> {
        let header = if ipv6 { 40 } else { 20 };
        if length + header <= self.mtu {
            return vec![Piece { bytes: 0..length, more: false }];
        }
        let header = if ipv6 { header + 8 } else { header };
        let room = (self.mtu - header) / 8 * 8;
        (0..length)
            .step_by(room)
            .map(|start| Piece { bytes: start..length.min(start + room), more: start + room < length })
            .collect()
    }

    /// An Ethernet frame with what is around it.
    pub(super) fn wrap(&self, mut frame: Vec<u8>) -> Vec<u8> {
        for around in self.around.iter().rev() {
            match *around {
                Around::Tag(kind, number) => {
                    let tag = [kind.to_be_bytes(), number.to_be_bytes()].concat();
                    frame.splice(12..12, tag);
                }
                Around::Vxlan(network) => frame = vxlan(network, &frame),
            }
        }
        frame
    }
}

/// Between tunnel ends that stand beside the hosts, under their Ethernet addresses.
fn vxlan(network: u32, inner: &[u8]) -> Vec<u8> {
    let end = |mac: &[u8]| std::net::SocketAddr::from(([192, 0, 2, mac[5]], 4789));
    let length = u16::try_from(inner.len() + 16).expect("a frame fits a datagram");
    let mut datagram = Vec::with_capacity(inner.len() + 16);
    // RFC 7348 §5: a source port for spreading load, no checksum, the I flag.
    datagram.extend(50_123_u16.to_be_bytes());
    datagram.extend(4789_u16.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0, 0x08, 0, 0, 0]);
    datagram.extend((network << 8).to_be_bytes());
    datagram.extend(inner);
    let mut frame = ethernet_ip(end(&inner[6..12]), end(&inner[..6]), UDP, 0, 0x4000, &datagram);
    frame[..12].copy_from_slice(&inner[..12]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_tunnels_stand_outermost_first() {
        let around =
            vec![Around::Tag(Around::PROVIDER, 7), Around::Vxlan(42), Around::Tag(Around::CUSTOMER, 5)];
        let path = Path { around, ..Path::default() };
        let inner = [[1; 6].as_slice(), &[2; 6], &[0x08, 0x00, 0x45]].concat();
        let frame = path.wrap(inner.clone());
        assert_eq!(frame[..18], [[1; 6].as_slice(), &[2; 6], &[0x88, 0xa8, 0, 7, 0x08, 0x00]].concat());
        assert_eq!(frame[18 + 9], UDP);
        assert_eq!(frame[46..54], [0x08, 0, 0, 0, 0, 0, 42, 0]);
        assert_eq!(frame[54..66], inner[..12]);
        assert_eq!(frame[66..], [0x81, 0x00, 0, 5, 0x08, 0x00, 0x45]);
    }

    #[test]
    fn pieces_lie_end_to_end() {
        for ipv6 in [false, true] {
            let path = Path { mtu: 601, ..Path::default() };
            let pieces = path.pieces(ipv6, 1400);
            assert_eq!(pieces.len(), 3);
            let mut at = 0;
            for piece in &pieces {
                assert_eq!((piece.bytes.start, piece.bytes.start % 8), (at, 0));
                at = piece.bytes.end;
                assert_eq!(piece.more, at < 1400);
            }
            assert_eq!(at, 1400);
            assert!(path.pieces(ipv6, 601 - 40)[0].is_whole());
        }
    }
}
