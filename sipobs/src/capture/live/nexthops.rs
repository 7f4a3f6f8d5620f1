//! Nexthop objects (Linux 5.3, `linux/nexthop.h`). Routes name them by their ids; where
//! `net.ipv4.nexthop_compat_mode` is off, by nothing else.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
};

use super::netlink::dump;

/// One nexthop, or a group of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nexthop {
    /// The interface that it goes out of.
    pub(super) interface: Option<u32>,
    /// Ids of a group's members.
    pub(super) members: Vec<u32>,
}

/// All of them, by id.
pub(super) fn list() -> io::Result<BTreeMap<u32, Nexthop>> {
    let mut nexthops = BTreeMap::new();
    let result = dump(Message::default(), &mut |Message { id, nexthop }| drop(nexthops.insert(id, nexthop)));
    match result {
        // A kernel without them.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(nexthops),
        result => result.map(|()| nexthops),
    }
}

/// The question for all (RTM_GETNEXTHOP), and each answer (RTM_NEWNEXTHOP).
#[derive(Debug, Default)]
struct Message {
    id: u32,
    nexthop: Nexthop,
}

/// `struct nhmsg`: family, scope, protocol, flags.
const HEADER: usize = 8;

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        const RTM_GETNEXTHOP: u16 = 106;
        RTM_GETNEXTHOP
    }

    fn buffer_len(&self) -> usize {
        HEADER
    }

    fn serialize(&self, buffer: &mut [u8]) {
        // Of any family and protocol.
        buffer.fill(0);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(_header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        const NHA_ID: u16 = 1;
        const NHA_GROUP: u16 = 2;
        const NHA_OIF: u16 = 5;
        let attributes =
            payload.get(HEADER..).ok_or_else(|| DecodeError::from("a nexthop without a header"))?;
        let mut message = Self::default();
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                NHA_ID => message.id = number(value),
                NHA_OIF => message.nexthop.interface = Some(number(value)),
                // `struct nexthop_grp`: id, weight.
                NHA_GROUP => message.nexthop.members = value.chunks_exact(8).map(number).collect(),
                _ => {}
            }
        }
        Ok(message)
    }
}

/// The 32 bits that `bytes` begin with, in this machine's order; 0 where there are fewer.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}
