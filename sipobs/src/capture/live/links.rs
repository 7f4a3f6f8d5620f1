//! The interfaces of this network namespace, as rtnetlink(7) tells of them.

use std::io;
use std::path::Path;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use serde::Serialize;

use super::Error;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// ARPHRD type.
    pub link_layer: u16,
    /// Whether sipobs reads frames of this link layer.
    pub readable: bool,
    /// IFF_UP.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Whether a device stands behind it, rather than the kernel alone (veth, bridge, VLAN, tunnel).
    pub hardware: bool,
    /// The id of an XDP program that is attached to it.
    pub xdp: Option<u32>,
}

/// How frames of an interface begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    Raw,
}

/// By ARPHRD type (`linux/if_arp.h`).
pub(super) const fn link_of(arphrd: u16) -> Option<Link> {
    match arphrd {
        // ETHER, LOOPBACK
        1 | 772 => Some(Link::Ethernet),
        // PPP, RAWIP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE
        512 | 519 | 768 | 769 | 776 | 778 | 823 | 0xfffe => Some(Link::Raw),
        _ => None,
    }
}

/// The interface of this name.
pub(super) fn interface(name: &str) -> Result<Interface, Error> {
    let found = interfaces()?.into_iter().find(|interface| interface.name == name);
    found.ok_or_else(|| Error::NoInterface(name.to_owned()))
}

/// All interfaces, by index.
pub(super) fn interfaces() -> Result<Vec<Interface>, Error> {
    let fail = |source| Error::System { what: "listing interfaces", source };
    let mut interfaces = Vec::new();
    dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            interfaces.extend(of(&link));
        }
    })
    .map_err(fail)?;
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// What a link message says of its interface, if it names it.
fn of(link: &LinkMessage) -> Option<Interface> {
    let (mut name, mut mtu, mut xdp) = (None, 0, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name = Some(it.clone()),
            LinkAttribute::Mtu(it) => mtu = *it,
            LinkAttribute::Xdp(facts) => {
                xdp = facts.iter().find_map(|fact| match fact {
                    LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let name = name?;
    let link_layer = u16::from(link.header.link_layer_type);
    Some(Interface {
        index: link.header.index,
        link_layer,
        readable: link_of(link_layer).is_some(),
        up: link.header.flags.contains(LinkFlags::Up),
        mtu,
        hardware: Path::new("/sys/class/net").join(&name).join("device").exists(),
        xdp,
        name,
    })
}

/// Asks for all there is of a kind and gives each answer to `take`.
fn dump(question: RouteNetlinkMessage, take: &mut dyn FnMut(RouteNetlinkMessage)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (answers, _) = socket.recv_from_full()?;
        for answer in messages(&answers) {
            match answer?.payload {
                NetlinkPayload::InnerMessage(message) => take(message),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

/// The messages in one datagram of the kernel's.
fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> + use<'_> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
            Ok(message) => message,
            Err(error) => {
                bytes = &[];
                return Some(Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())));
            }
        };
        // Messages begin at multiples of four bytes (NLMSG_ALIGN).
        let length = (message.header.length as usize).next_multiple_of(4);
        bytes = bytes.get(length.max(4)..).unwrap_or_default();
        Some(Ok(message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_and_a_name_that_is_none_is_not() {
        let lo = interface("lo").unwrap();
        assert_eq!((lo.index, lo.link_layer, lo.readable), (1, 772, true));
        for name in ["", "no-such-interface-of-this-name", "nosuch0"] {
            assert!(matches!(interface(name), Err(Error::NoInterface(_))), "{name}");
        }
    }
}
