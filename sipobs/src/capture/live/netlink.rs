//! Questions to rtnetlink(7), and news from it.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::Error;

/// Asks for all there is of a kind and gives each answer to `take`.
pub(super) fn dump<M>(question: M, take: &mut dyn FnMut(M)) -> io::Result<()>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
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

/// Tells when something about interfaces, their addresses or default routes has changed.
#[derive(Debug)]
pub(super) struct Changes(Socket);

impl Changes {
    pub(super) fn watch() -> Result<Self, Error> {
        // linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, NEXTHOP
        const GROUPS: [u32; 8] = [1, 5, 7, 8, 9, 11, 19, 32];
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
                Ok((news, _)) => changed = changed || messages(&news).any(|message| matters(message.ok())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                // ENOBUFS: more than the socket could hold. Then something has.
                Err(_) => return true,
            }
        }
    }
}

/// Whether `message` may change which interfaces are meant. Other routes than default routes come and go by the
/// thousand where routers talk to one another, and listing all of them each time would keep the capture busy.
fn matters(message: Option<NetlinkMessage<RouteNetlinkMessage>>) -> bool {
    match message.map(|message| message.payload) {
        Some(NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        )) => route.header.destination_prefix_length == 0,
        // What cannot be read may be anything, a nexthop for one.
        _ => true,
    }
}

/// The messages in one datagram of the kernel's.
fn messages<M: NetlinkDeserializable>(
    mut bytes: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<M>>> + use<'_, M> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = match NetlinkMessage::<M>::deserialize(bytes) {
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
