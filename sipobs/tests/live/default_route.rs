//! Which interfaces a default route goes out of, as the kernel's own tools set them up.

use std::collections::BTreeSet;
use std::time::Duration;

use sipobs::capture::live::{AttachEvent, Config, Interface, Live, outlook, probe};

use super::{alone, ip, may_run};

/// Two ways out, `way1` and `way2`, with a network each.
const TWO_WAYS: [&str; 10] = [
    "link add way1 type veth peer name far1",
    "link add way2 type veth peer name far2",
    "link set far1 up",
    "link set far2 up",
    "address add 10.0.1.1/24 dev way1",
    "address add 10.0.2.1/24 dev way2",
    "link set way1 up",
    "link set way2 up",
    "address add fd00:1::1/64 dev way1 nodad",
    "address add fd00:2::1/64 dev way2 nodad",
];

/// A nexthop object each, and a group of the two.
const NEXTHOPS: [&str; 3] = [
    "nexthop add id 1 via 10.0.1.2 dev way1",
    "nexthop add id 2 via 10.0.2.2 dev way2",
    "nexthop add id 10 group 1/2",
];

/// Names of the interfaces, in a namespace with two ways out and with `commands` carried out, that are `so`.
fn named(commands: &[&str], so: fn(&Interface) -> bool) -> BTreeSet<String> {
    alone(&[&TWO_WAYS, commands].concat(), || {
        let interfaces = probe().unwrap().interfaces;
        interfaces.into_iter().filter(so).map(|interface| interface.name).collect()
    })
}

fn with_default_route(commands: &[&str]) -> BTreeSet<String> {
    named(commands, |interface| interface.default_route)
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(Into::into).into()
}

#[test]
fn every_kind_of_default_route_is_found() {
    if !may_run("every_kind_of_default_route_is_found") {
        return;
    }
    assert_eq!(with_default_route(&[]), set([]));
    assert_eq!(with_default_route(&["route add default via 10.0.1.2 dev way1"]), set(["way1"]));
    let ecmp = "route add default nexthop via 10.0.1.2 dev way1 nexthop via 10.0.2.2 dev way2";
    assert_eq!(with_default_route(&[ecmp]), set(["way1", "way2"]));
    assert_eq!(with_default_route(&["-6 route add default via fd00:2::2 dev way2"]), set(["way2"]));
    let ecmp = "-6 route add default nexthop via fd00:1::2 dev way1 nexthop via fd00:2::2 dev way2";
    assert_eq!(with_default_route(&[ecmp]), set(["way1", "way2"]));
    assert_eq!(with_default_route(&["route add 10.9.0.0/16 via 10.0.1.2 dev way1"]), set([]), "not for all");
    assert_eq!(with_default_route(&["route add unreachable default"]), set([]));
}

#[test]
fn a_table_counts_once_a_rule_looks_it_up() {
    if !may_run("a_table_counts_once_a_rule_looks_it_up") {
        return;
    }
    let route = "route add default via 10.0.2.2 dev way2 table 1100";
    assert_eq!(with_default_route(&[route]), set([]), "nobody looks there");
    assert_eq!(with_default_route(&[route, "rule add from 10.0.2.1 lookup 1100"]), set(["way2"]));
    assert_eq!(
        with_default_route(&[route, "-6 rule add from fd00:2::1 lookup 1100"]),
        set([]),
        "only IPv6 does"
    );
    let but = "rule add from 10.0.2.1 lookup 1100 suppress_prefixlength 0";
    assert_eq!(with_default_route(&[route, but]), set([]), "it takes all but that");
}

#[test]
fn nexthop_objects_and_groups_are_resolved() {
    if !may_run("nexthop_objects_and_groups_are_resolved") {
        return;
    }
    let with = |route: &'static str| [&NEXTHOPS[..], &[route]].concat();
    assert_eq!(with_default_route(&with("route add default nhid 2")), set(["way2"]));
    assert_eq!(with_default_route(&with("route add default nhid 10")), set(["way1", "way2"]));
    // The kernel then tells of the ids alone.
    alone(&[&TWO_WAYS, &NEXTHOPS[..]].concat(), || {
        std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0").unwrap();
        ip("route add default nhid 10");
        let interfaces = probe().unwrap().interfaces;
        let found = interfaces.into_iter().filter(|it| it.default_route).map(|it| it.name);
        assert_eq!(found.collect::<BTreeSet<_>>(), set(["way1", "way2"]));
    });
}

#[test]
fn what_stands_below_a_default_route_is_on_the_way_out_too() {
    if !may_run("what_stands_below_a_default_route_is_on_the_way_out_too") {
        return;
    }
    let bridge = [
        "link add br0 type bridge",
        "link set way1 master br0",
        "link set br0 up",
        "address add 10.0.3.1/24 dev br0",
        "link add v0 link br0 type macvlan",
        "link set v0 up",
        "address add 10.0.4.1/24 dev v0",
        "route add default via 10.0.4.2 dev v0",
    ];
    assert_eq!(named(&bridge, |interface| interface.uplink), set(["v0", "br0", "way1"]));
    assert_eq!(with_default_route(&bridge), set(["v0"]));
}

#[test]
fn a_route_that_changes_is_followed() {
    if !may_run("a_route_that_changes_is_followed") {
        return;
    }
    let config = Config { interfaces: vec!["default-route".into()], ..Config::default() };
    alone(&TWO_WAYS, || {
        assert!(outlook(&config).unwrap().is_empty());
        let mut live = Live::open(&config).unwrap();
        assert_eq!(live.attachments().count(), 0);
        let mut watched = |command: &str, wanted: BTreeSet<String>| {
            for words in command.split("; ") {
                ip(words);
            }
            let mut found = BTreeSet::new();
            // Seconds, where it takes a quarter of one.
            for _ in 0..200 {
                live.poll(Duration::from_millis(50), &mut |_| {}).unwrap();
                found = live.coverage().watched;
                if found == wanted {
                    return live.attach_events();
                }
            }
            panic!("{command}: {found:?}, not {wanted:?}");
        };
        watched("route add default via 10.0.1.2 dev way1", set(["way1"]));
        let events = watched("route replace default via 10.0.2.2 dev way2", set(["way2"]));
        assert!(
            events.iter().any(|event| matches!(event, AttachEvent::Detached(it) if it.interface == "way1"))
        );
        watched("route delete default", set([]));
        watched("nexthop add id 1 via 10.0.1.2 dev way1; route add default nhid 1", set(["way1"]));
        watched("nexthop replace id 1 via 10.0.2.2 dev way2", set(["way2"]));
        watched("nexthop delete id 1", set([]));
        watched(
            "route add default via 10.0.1.2 dev way1 table 1100; rule add from 10.0.1.1 lookup 1100",
            set(["way1"]),
        );
        watched("rule delete from 10.0.1.1 lookup 1100", set([]));
    });
}
