//! IEEE 802.11 data frames (IEEE Std 802.11-2020 §9.3.2).

use super::{At, link};
use crate::discard::DiscardReason;

/// Passes the MAC header of a data frame that is in the clear and carries one packet.
pub(super) fn data(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    let head = Head::read(&at).ok_or(DiscardReason::LinkHeader)?;
    if !head.data {
        return Err(DiscardReason::NotIp);
    }
    if head.fragment {
        return Err(DiscardReason::WifiParts);
    }
    // Some cards align what follows the header. Some decrypt a frame and leave the bit that says it is encrypted.
    for len in [head.len, head.len.next_multiple_of(4)] {
        let body = at.inside(len, at.layer).ok_or(DiscardReason::LinkHeader)?;
        if body.bytes.starts_with(&[0xaa, 0xaa, 0x03]) {
            return link::llc(body, 0);
        }
    }
    let body = at.inside(head.len, at.layer).ok_or(DiscardReason::LinkHeader)?;
    match (head.protected, head.aggregate) {
        (true, _) => Err(DiscardReason::Encrypted),
        (false, true) => only(body),
        (false, false) => link::llc(body, 0),
    }
}

/// What the frame control, sequence control and QoS control fields say (§9.2.4).
struct Head {
    data: bool,
    fragment: bool,
    protected: bool,
    aggregate: bool,
    len: usize,
}

impl Head {
    fn read(at: &At<'_>) -> Option<Self> {
        let [kind, flags] = *at.bytes.first_chunk()?;
        // Of the subtype's bits one says that there is no data, one that there is a QoS control field.
        let data = kind & 0x4c == 0x08;
        let qos = data && kind & 0x80 != 0;
        let (four_addresses, high_throughput) = (flags & 0x03 == 0x03, flags & 0x80 != 0);
        let mut len = if four_addresses { 30 } else { 24 };
        let aggregate = qos && at.bytes.get(len)? & 0x80 != 0;
        if qos {
            len += if high_throughput { 6 } else { 2 };
        }
        let fragment = data && (flags & 0x04 != 0 || at.bytes.get(22)? & 0x0f != 0);
        Some(Self { data, fragment, protected: flags & 0x40 != 0, aggregate, len })
    }
}

/// The one frame in an A-MSDU (§9.3.2.2): addresses and a length, then the frame. What is left behind it may be padding
/// and a check sequence, but no other frame.
fn only(at: At<'_>) -> Result<At<'_>, DiscardReason> {
    const HEADER: usize = 14;
    let len = usize::from(at.u16(12).ok_or(DiscardReason::LinkHeader)?);
    let carried = at.bytes.len().saturating_add(at.missing);
    if carried >= HEADER + len + HEADER {
        return Err(DiscardReason::WifiParts);
    }
    let frame = at.inside(HEADER, at.layer).ok_or(DiscardReason::LinkHeader)?;
    link::llc(frame.limit(len), 0)
}
