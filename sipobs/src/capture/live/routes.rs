//! Which interfaces a default route goes out of: of IPv4 and IPv6, in every routing table that a rule looks up, by
//! one nexthop or by several.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::dump;
use super::nexthops::{self, Nexthop};

/// Indices of the interfaces out of which a default route goes. `vrf_tables` are the tables of the VRF devices, which
/// one rule for all of them looks up.
pub(super) fn default_route_interfaces(vrf_tables: &BTreeSet<u32>) -> io::Result<BTreeSet<u32>> {
    let tables = tables(vrf_tables)?;
    let mut routes = Vec::new();
    dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewRoute(route) = answer
            && is_default(&route)
            && tables.contains(&(route.header.address_family.into(), table(&route)))
        {
            routes.push(route);
        }
    })?;
    let by_id =
        |route: &RouteMessage| route.attributes.iter().any(|it| matches!(it, RouteAttribute::NhId(_)));
    let nexthops = if routes.iter().any(by_id) { nexthops::list()? } else { BTreeMap::new() };
    let mut interfaces = BTreeSet::new();
    for route in &routes {
        add_interfaces(route, &nexthops, &mut interfaces);
    }
    Ok(interfaces)
}

/// Address family and number of a routing table.
type Table = (u8, u32);

/// The tables that rules look up for a default route; the main one also where the kernel has no rules.
fn tables(vrf_tables: &BTreeSet<u32>) -> io::Result<BTreeSet<Table>> {
    let families = [AddressFamily::Inet, AddressFamily::Inet6];
    let mut tables = BTreeSet::from(families.map(|it| (it.into(), u32::from(RouteHeader::RT_TABLE_MAIN))));
    let result = dump(RouteNetlinkMessage::GetRule(RuleMessage::default()), &mut |answer| {
        if let RouteNetlinkMessage::NewRule(rule) = answer {
            add_tables(&rule, vrf_tables, &mut tables);
        }
    });
    match result {
        Err(error) if error.raw_os_error() != Some(libc::EOPNOTSUPP) => Err(error),
        _ => Ok(tables),
    }
}

/// Adds the tables in which `rule` may find a default route.
fn add_tables(rule: &RuleMessage, vrf_tables: &BTreeSet<u32>, tables: &mut BTreeSet<Table>) {
    if rule.header.action != RuleAction::ToTable {
        return;
    }
    let family = rule.header.family.into();
    let mut table = u32::from(rule.header.table);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Table(it) => table = *it,
            RuleAttribute::L3MDev(true) => {
                return tables.extend(vrf_tables.iter().map(|table| (family, *table)));
            }
            // `suppress_prefixlength 0` takes every route but the default route; u32::MAX, no suppression, is what
            // the kernel sends for a rule without it.
            RuleAttribute::SuppressPrefixLen(length) if *length != u32::MAX => return,
            _ => {}
        }
    }
    tables.insert((family, table));
}

fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast
}

fn table(route: &RouteMessage) -> u32 {
    let numbered = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    numbered.unwrap_or_else(|| u32::from(route.header.table))
}

/// Adds the interfaces of one route: its own, those of its ways (ECMP), those of its nexthop object or group.
fn add_interfaces(route: &RouteMessage, nexthops: &BTreeMap<u32, Nexthop>, to: &mut BTreeSet<u32>) {
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => drop(to.insert(*index)),
            RouteAttribute::MultiPath(ways) => to.extend(ways.iter().map(|way| way.interface_index)),
            RouteAttribute::NhId(id) => {
                let members = nexthops.get(id).map_or(&[][..], |nexthop| &nexthop.members);
                let all = std::iter::once(id).chain(members);
                to.extend(all.filter_map(|id| nexthops.get(id)?.interface));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn rule(table: u32, more: Option<RuleAttribute>) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet6;
        rule.header.action = RuleAction::ToTable;
        rule.attributes.push(RuleAttribute::Table(table));
        rule.attributes.extend(more);
        rule
    }

    #[test]
    fn a_table_counts_if_a_rule_takes_its_default_route() {
        let vrf = BTreeSet::from([1001, 1002]);
        let tables = |rule: RuleMessage| {
            let mut tables = BTreeSet::new();
            add_tables(&rule, &vrf, &mut tables);
            assert!(tables.iter().all(|(family, _)| *family == u8::from(AddressFamily::Inet6)));
            tables.into_iter().map(|(_, table)| table).collect::<BTreeSet<u32>>()
        };
        assert_eq!(tables(rule(51820, None)), [51820].into());
        assert_eq!(tables(rule(254, Some(RuleAttribute::SuppressPrefixLen(u32::MAX)))), [254].into());
        assert_eq!(tables(rule(254, Some(RuleAttribute::SuppressPrefixLen(0)))), [].into());
        assert_eq!(tables(rule(0, Some(RuleAttribute::L3MDev(true)))), vrf);
        let mut unreachable = rule(7, None);
        unreachable.header.action = RuleAction::Unreachable;
        assert_eq!(tables(unreachable), [].into());
    }

    #[test]
    fn every_way_of_a_route_counts() {
        let nexthop = |interface, members: &[u32]| Nexthop { interface, members: members.to_vec() };
        let nexthops = BTreeMap::from([
            (1, nexthop(Some(11), &[])),
            (2, nexthop(Some(12), &[])),
            (3, nexthop(None, &[1, 2, 9])),
        ]);
        let interfaces = |attribute: RouteAttribute| {
            let mut route = RouteMessage::default();
            route.attributes.push(attribute);
            let mut interfaces = BTreeSet::new();
            add_interfaces(&route, &nexthops, &mut interfaces);
            interfaces
        };
        assert_eq!(interfaces(RouteAttribute::Oif(4)), [4].into());
        let ways = [5, 6].map(|index| {
            let mut way = RouteNextHop::default();
            way.interface_index = index;
            way
        });
        assert_eq!(interfaces(RouteAttribute::MultiPath(ways.to_vec())), [5, 6].into());
        assert_eq!(interfaces(RouteAttribute::NhId(2)), [12].into());
        assert_eq!(interfaces(RouteAttribute::NhId(3)), [11, 12].into(), "a group, one of its members gone");
        assert_eq!(interfaces(RouteAttribute::NhId(8)), [].into());
    }
}
