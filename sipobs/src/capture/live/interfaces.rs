//! The interfaces of this network namespace, as rtnetlink(7) tells of them.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use serde::Serialize;

use super::Error;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether a default route goes out of it.
    pub default_route: bool,
    /// Whether it is a veth whose other end is in another network namespace.
    pub pod: bool,
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

/// All interfaces, by index.
pub(super) fn list() -> Result<Vec<Interface>, Error> {
    let fail = |source| Error::System { what: "listing interfaces", source };
    let mut interfaces = Vec::new();
    dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            interfaces.extend(of(&link));
        }
    })
    .map_err(fail)?;
    interfaces.sort_by_key(|interface: &Interface| interface.index);
    let mut of_index = |index: u32, tell: &dyn Fn(&mut Interface)| {
        if let Some(interface) = interfaces.iter_mut().find(|interface| interface.index == index) {
            tell(interface);
        }
    };
    dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewAddress(address) = answer {
            for attribute in &address.attributes {
                if let AddressAttribute::Address(it) | AddressAttribute::Local(it) = attribute {
                    of_index(address.header.index, &|interface| interface.addresses.push(*it));
                }
            }
        }
    })
    .map_err(fail)?;
    dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()), &mut |answer| {
        let RouteNetlinkMessage::NewRoute(route) = answer else { return };
        let header = &route.header;
        if header.destination_prefix_length != 0
            || header.table != RouteHeader::RT_TABLE_MAIN
            || header.kind != RouteType::Unicast
        {
            return;
        }
        for attribute in &route.attributes {
            if let RouteAttribute::Oif(index) = attribute {
                of_index(*index, &|interface| interface.default_route = true);
            }
        }
    })
    .map_err(fail)?;
    Ok(interfaces)
}

/// Tells when something about interfaces, their addresses or routes has changed.
#[derive(Debug)]
pub(super) struct Changes(Socket);

impl Changes {
    pub(super) fn watch() -> Result<Self, Error> {
        // linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
        const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            Ok(Self(socket))
        };
        open().map_err(|source| Error::System { what: "listening for changes of interfaces", source })
    }

    /// Whether anything has changed since the last call.
    pub(super) fn any(&self) -> bool {
        let mut changed = false;
        loop {
            match self.0.recv_from_full() {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                // ENOBUFS: more than the socket could hold. Then something has.
                Err(_) => return true,
            }
        }
    }
}

/// What a link message says of its interface, if it names it.
fn of(link: &LinkMessage) -> Option<Interface> {
    let (mut name, mut mtu, mut xdp, mut veth, mut elsewhere) = (None, 0, None, false, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name = Some(it.clone()),
            LinkAttribute::Mtu(it) => mtu = *it,
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(facts) => {
                veth = facts.iter().any(|fact| matches!(fact, LinkInfo::Kind(InfoKind::Veth)));
            }
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
        addresses: Vec::new(),
        default_route: false,
        pod: veth && elsewhere,
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
    fn loopback_is_there() {
        let interfaces = list().unwrap();
        let lo = interfaces.iter().find(|interface| interface.name == "lo").unwrap();
        assert_eq!((lo.index, lo.link_layer, lo.readable, lo.pod), (1, 772, true, false));
        assert!(!lo.up || lo.addresses.iter().any(IpAddr::is_loopback), "{lo:?}");
    }
}
