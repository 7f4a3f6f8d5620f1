//! The interfaces of this network namespace, as rtnetlink(7) tells of them.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVrf, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};
use serde::Serialize;

use super::netlink::dump;
use super::{Error, drivers, routes};

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
    /// The driver of a card or a bond, as `ethtool -i` names it.
    pub driver: Option<String>,
    /// Whether a default route goes out of it, in any routing table that is looked up.
    pub default_route: bool,
    /// Whether a default route goes out of it, or of an interface that stands on it: a bond, a bridge, a VLAN.
    pub uplink: bool,
    /// The driver that would reset queues for a native XDP program here, or is not known not to: its own, or that of
    /// an interface to which the driver hands the program down.
    pub xdp_resets: Option<String>,
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
    ask().map_err(|source| Error::System { what: "listing interfaces", source })
}

fn ask() -> io::Result<Vec<Interface>> {
    let mut devices = Vec::new();
    dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            devices.extend(Device::of(&link));
        }
    })?;
    devices.sort_by_key(|device| device.interface.index);
    dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewAddress(address) = answer
            && let Some(device) = devices.iter_mut().find(|it| it.interface.index == address.header.index)
        {
            device.interface.addresses.extend(address.attributes.iter().filter_map(|it| match it {
                AddressAttribute::Address(it) | AddressAttribute::Local(it) => Some(*it),
                _ => None,
            }));
        }
    })?;
    let vrf_tables = devices.iter().filter_map(|device| device.vrf_table).collect();
    let with_route = routes::default_route_interfaces(&vrf_tables)?;
    let uplinks = uplinks(&devices, &with_route);
    // Each question waits for the lock of all of the kernel's network configuration: of pods there may be hundreds.
    for device in devices.iter_mut().filter(|it| it.interface.hardware || it.kind == Some(InfoKind::Bond)) {
        device.interface.driver = drivers::driver(&device.interface.name);
    }
    let resets: Vec<_> = devices.iter().map(|device| xdp_resets(device, &devices)).collect();
    let interfaces = devices.into_iter().zip(resets).map(|(device, xdp_resets)| Interface {
        default_route: with_route.contains(&device.interface.index),
        uplink: uplinks.contains(&device.interface.index),
        xdp_resets,
        ..device.interface
    });
    Ok(interfaces.collect())
}

/// An interface, and how it stands to others.
#[derive(Clone, Debug, Default)]
struct Device {
    interface: Interface,
    kind: Option<InfoKind>,
    /// The interface it was made on (VLAN, macvlan), if that is in this namespace.
    made_on: Option<u32>,
    /// The interface it is a port of (bond, bridge).
    port_of: Option<u32>,
    /// The routing table of a VRF device.
    vrf_table: Option<u32>,
}

/// The interfaces out of which a default route goes, and those that stand below them.
fn uplinks(devices: &[Device], with_route: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut uplinks = with_route.clone();
    let mut fresh: Vec<u32> = with_route.iter().copied().collect();
    while let Some(index) = fresh.pop() {
        let Some(upper) = devices.iter().find(|device| device.interface.index == index) else { continue };
        let below = devices.iter().filter(|lower| upper.stands_on(lower, devices));
        fresh.extend(below.map(|lower| lower.interface.index).filter(|index| uplinks.insert(*index)));
    }
    uplinks
}

/// The driver that would reset queues for a native XDP program on `device`, or is not known not to.
fn xdp_resets(device: &Device, devices: &[Device]) -> Option<String> {
    let driver = device.interface.driver.as_deref().unwrap_or("(unknown)");
    if device.interface.hardware && !drivers::takes_xdp_without_reset(driver) {
        return Some(driver.to_owned());
    }
    let mut ports = devices.iter().filter(|port| port.port_of == Some(device.interface.index));
    drivers::hands_xdp_down(driver).then(|| ports.find_map(|port| xdp_resets(port, devices)))?
}

impl Device {
    fn stands_on(&self, lower: &Self, devices: &[Self]) -> bool {
        self.made_on == Some(lower.interface.index)
            || lower.port_of == Some(self.interface.index)
            // All ports and bridges of Open vSwitch hang on one device; which bridge a port belongs to, it alone knows.
            || self.is_open_vswitch() && lower.port_of.is_some_and(|master| {
                devices.iter().any(|device| device.interface.index == master && device.is_open_vswitch())
            })
    }

    fn is_open_vswitch(&self) -> bool {
        matches!(&self.kind, Some(InfoKind::Other(kind)) if kind == "openvswitch")
    }

    /// What a link message says, if it names its interface.
    fn of(link: &LinkMessage) -> Option<Self> {
        let mut device = Self::default();
        let (mut parent, mut elsewhere) = (false, false);
        let interface = &mut device.interface;
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(it) => interface.name.clone_from(it),
                LinkAttribute::Mtu(it) => interface.mtu = *it,
                LinkAttribute::Link(it) => device.made_on = Some(*it),
                LinkAttribute::Controller(it) => device.port_of = Some(*it),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::ParentDevName(_) => parent = true,
                LinkAttribute::LinkInfo(facts) => {
                    for fact in facts {
                        match fact {
                            LinkInfo::Kind(it) => device.kind = Some(it.clone()),
                            LinkInfo::Data(InfoData::Vrf(facts)) => device.vrf_table = table_of(facts),
                            _ => {}
                        }
                    }
                }
                LinkAttribute::Xdp(facts) => {
                    interface.xdp = facts.iter().find_map(|fact| match fact {
                        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        // Of a pair, it is the other end.
        if elsewhere || matches!(device.kind, Some(InfoKind::Veth | InfoKind::Netkit)) {
            device.made_on = None;
        }
        interface.index = link.header.index;
        interface.link_layer = u16::from(link.header.link_layer_type);
        interface.readable = link_of(interface.link_layer).is_some();
        interface.up = link.header.flags.contains(LinkFlags::Up);
        // Before Linux 5.14 the message does not tell of the device behind it.
        interface.hardware =
            parent || Path::new("/sys/class/net").join(&interface.name).join("device").exists();
        interface.pod = elsewhere && device.kind == Some(InfoKind::Veth);
        (!device.interface.name.is_empty()).then_some(device)
    }
}

fn table_of(vrf: &[InfoVrf]) -> Option<u32> {
    vrf.iter().find_map(|fact| match fact {
        InfoVrf::TableId(table) => Some(*table),
        _ => None,
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

    fn device(index: u32, driver: Option<&str>) -> Device {
        let (driver, hardware) = (driver.map(Into::into), driver.is_some_and(|it| it != "bonding"));
        Device {
            interface: Interface { index, driver, hardware, ..Interface::default() },
            ..Device::default()
        }
    }

    #[test]
    fn a_program_that_is_handed_down_resets_what_is_below() {
        let port = |index, driver, master| Device { port_of: Some(master), ..device(index, Some(driver)) };
        let resets = |devices: &[Device]| xdp_resets(&devices[0], devices);
        assert_eq!(resets(&[device(1, Some("ixgbe"))]).as_deref(), Some("ixgbe"));
        assert_eq!(resets(&[device(1, Some("a new one"))]).as_deref(), Some("a new one"));
        assert_eq!(resets(&[device(1, Some("virtio_net"))]), None);
        assert_eq!(resets(&[device(1, None)]), None, "no hardware");
        assert_eq!(resets(&[device(1, Some("hv_netvsc"))]), None);
        let azure = [device(1, Some("hv_netvsc")), port(2, "mlx5_core", 1)];
        assert_eq!(resets(&azure).as_deref(), Some("mlx5_core"));
        let bond =
            [device(1, Some("bonding")), port(2, "virtio_net", 1), port(3, "ice", 1), port(4, "ena", 9)];
        assert_eq!(resets(&bond).as_deref(), Some("ice"));
        assert_eq!(
            resets(&[device(1, Some("virtio_net")), port(2, "ice", 1)]),
            None,
            "it hands nothing down"
        );
    }

    #[test]
    fn open_vswitch_keeps_its_ways_to_itself() {
        let kind = Some(InfoKind::Other("openvswitch".into()));
        let bridge = Device { kind: kind.clone(), ..device(1, None) };
        let all = Device { kind, ..device(2, None) };
        let port = |master| Device { port_of: Some(master), ..device(3, Some("ice")) };
        assert_eq!(uplinks(&[bridge.clone(), all.clone(), port(2)], &[1].into()), [1, 3].into());
        assert_eq!(uplinks(&[bridge, all, port(7)], &[1].into()), [1].into());
    }
}
