//! Calls and their records; copies, forks, bounds.

use super::*;
use crate::record::{Outcome, ReferAbsent};
use crate::transfer::{Limits, Rules};
use crate::trunk::TrunkConfig;

#[test]
fn a_call_is_told_once_it_is_over() {
    let mut world = World::called();
    world.at(30.0).bye(A, Side::Caller).at(60.0);
    assert!(world.said().1.is_empty());
    world.at(80.0);
    let (attempts, calls) = world.said();
    assert!(attempts.is_empty());
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].status, calls[0].ended_by), (Some(200), Some(Side::Caller)));
    assert_eq!(calls[0].ended.millis_since(calls[0].started), 30_000);
    assert_eq!(calls[0].refer_absent, ReferAbsent::Fact { invite_unknown: true });
    assert_eq!(world.transfers.poll_timeout(), None, "nothing is kept");
}

#[test]
fn a_failed_call_is_told_too() {
    let mut world = World::new();
    world.invite(A, 1, "").ring(A, 1, "486 Busy Here").ack(A, 1).at(60.0);
    let (_, calls) = world.said();
    assert_eq!((calls[0].status, calls[0].answered, calls[0].ended_by), (Some(486), None, None));
}

#[test]
fn through_a_proxy_every_message_shows_twice() {
    let mut world = World::new();
    let proxy = "10.0.0.9:5060";
    let headers = "Call-ID: p\r\nFrom: <sip:+15550100145@t>;tag=1\r\nTo: <sip:+15550100100@l>";
    let both = |world: &mut World, by: (&str, &str), line: &str, cseq: &str, tag: &str, more: &str| {
        for (hop, (from, to)) in [(by.0, proxy), (proxy, by.1)].into_iter().enumerate() {
            let text = format!(
                "{line}\r\nVia: SIP/2.0/UDP h{hop};branch=z9hG4bK{hop}{cseq}\r\nCSeq: {cseq}\r\n{headers}{tag}\r\n{more}\r\n"
            );
            world.wire(from, to, &text);
        }
    };
    both(&mut world, (T, L), "INVITE sip:l SIP/2.0", "1 INVITE", "", "");
    both(&mut world, (L, T), "SIP/2.0 200 OK", "1 INVITE", ";tag=2", "");
    both(&mut world, (T, L), "ACK sip:l SIP/2.0", "1 ACK", ";tag=2", "");
    world.at(2.0);
    both(&mut world, (T, L), "REFER sip:l SIP/2.0", "2 REFER", ";tag=2", &format!("{TARGET}\r\n"));
    both(&mut world, (L, T), "SIP/2.0 603 Decline", "2 REFER", ";tag=2", "");
    let attempt = world.only();
    assert_eq!((attempt.outcome, attempt.messages.len()), (Outcome::ReferRefused, 2));
    world.at(9.0);
    both(&mut world, (T, L), "BYE sip:l SIP/2.0", "3 BYE", ";tag=2", "");
    world.at(90.0);
    let (attempts, calls) = world.said();
    assert_eq!((attempts.len(), calls.len(), calls[0].transfers), (0, 1, 1));
}

#[test]
fn calls_stay_with_their_trunk_when_the_rules_change() {
    let rules = |names: &[&str]| {
        let trunk = |name: &&str| TrunkConfig {
            name: (*name).to_owned(),
            cidr: vec![if *name == "t" { "10.0.0.1" } else { "192.0.2.1" }.to_owned()],
            ..TrunkConfig::default()
        };
        Rules::new(&Config { trunk: names.iter().map(trunk).collect(), ..Config::default() }).unwrap()
    };
    for (names, told) in [(&["new", "newer", "t"][..], "t"), (&["new"], "other"), (&[], "other")] {
        let mut world = World::new();
        world.transfers.adopt(rules(&["old", "t"]));
        world.up(A).transfers.adopt(rules(names));
        world.at(30.0).bye(A, Side::Caller).at(90.0);
        assert_eq!(&*world.said().1[0].trunk, told, "{names:?}");
    }
    let mut world = World::called();
    world.transfers.adopt(rules(&["t"]));
    world.at(30.0).bye(A, Side::Caller).up(A2).at(40.0).bye(A2, Side::Caller).at(90.0);
    let trunks: Vec<_> = world.said().1.into_iter().map(|call| call.trunk).collect();
    assert_eq!(
        trunks.iter().map(|trunk| &**trunk).collect::<Vec<_>>(),
        ["other", "t"],
        "a new trunk is that of new calls"
    );
}

#[test]
fn when_a_trunk_was_last_seen_follows_its_calls_and_its_name() {
    let rules = |name: &str| {
        let trunk =
            TrunkConfig { name: name.into(), cidr: vec!["0.0.0.0/0".into()], ..TrunkConfig::default() };
        Rules::new(&Config { trunk: vec![trunk], ..Config::default() }).unwrap()
    };
    let seen = |world: &World| {
        let millis = |time: Option<Timestamp>| time.map(|time| time.millis_since(world.start));
        let seen = world.transfers.last_seen();
        seen.map(|(trunk, seen)| (trunk.to_owned(), millis(seen.message), millis(seen.refer)))
            .collect::<Vec<_>>()
    };
    let line = |trunk: &str, message, refer| (trunk.to_owned(), message, refer);
    let mut world = World::new();
    world.transfers.adopt(rules("t"));
    assert_eq!(seen(&world), [line("other", None, None), line("t", None, None)]);
    world.up(A).at(20.0).refer(2, TARGET).referred(2, "202 Accepted").at(30.0).bye(A, Side::Caller);
    assert_eq!(seen(&world), [line("other", None, None), line("t", Some(30_000), Some(20_000))]);
    world.transfers.adopt(rules("renamed"));
    assert_eq!(seen(&world), [line("other", Some(30_000), Some(20_000)), line("renamed", None, None)]);
}

#[test]
fn forged_callers_do_not_hide_that_second_legs_are_seen() {
    let mut world = World::new();
    // The platform calls, so a second leg of its would be seen.
    world.up(B).at(1.0).bye(B, Side::Caller);
    for forged in 0..5000_u32 {
        let host = std::net::Ipv4Addr::from_bits(0x0b00_0000 + forged);
        let text = format!(
            "INVITE sip:x@l SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{forged}\r\nCall-ID: f{forged}\r\nCSeq: 1 \
             INVITE\r\nFrom: <sip:f@f>;tag=1\r\nTo: <sip:x@l>\r\n\r\n"
        );
        world.wire(&format!("{host}:5060"), L, &text);
    }
    world.at(2.0).up(A).at(60.0).bye(A, Side::Caller).at(150.0);
    let calls = world.said().1;
    let call = calls.iter().find(|call| call.call_id == A.call_id).unwrap();
    assert_eq!(call.refer_absent, ReferAbsent::Fact { invite_unknown: false });
    assert_eq!(world.transfers.callers_evicted(), 5000 + 2 - 4096);
}

#[test]
fn the_fork_that_lost_ends_nothing() {
    let mut world = World::new();
    let other = Leg { callee: (X, A.callee.1, "other"), ..A };
    world.invite(A, 1, "").ring(other, 1, "180 Ringing").ring(A, 1, "200 OK").ack(A, 1);
    world.ring(other, 1, "200 OK").request(other, Side::Caller, 2, "BYE", "", "");
    world.at(20.0).refer(2, TARGET).referred(2, "603 Decline");
    assert_eq!(world.only().outcome, Outcome::ReferRefused);
    world.at(30.0).request(A, Side::Caller, 3, "BYE", "", "").at(90.0);
    assert_eq!(world.said().1[0].ended.millis_since(world.start), 30_000);
}

/// Room for some thirty legs without an answer.
fn narrow() -> World {
    let limits = Limits { bytes: 24 << 10, ..Limits::default() };
    World::with(Config { limits, ..Config::default() })
}

#[test]
fn a_flood_of_invites_does_not_push_out_answered_calls() {
    let mut world = narrow();
    world.up(A);
    for n in 0..100 {
        let text = format!(
            "INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK{n}\r\nCall-ID: {n}\r\nCSeq: 1 \
             INVITE\r\nFrom: <sip:f>;tag={n}\r\nTo: <sip:x>\r\n\r\n"
        );
        world.wire(X, L, &text);
    }
    let counts = world.transfers.counts();
    assert!(
        counts.evicted.host_share > 70 && counts.evicted.sum() == counts.evicted.host_share,
        "{counts:?}"
    );
    world.at(2.0).refer(2, TARGET).referred(2, "403 Forbidden");
    assert_eq!(world.only().outcome, Outcome::ReferRefused);
}

#[test]
fn who_says_that_there_is_no_such_dialog_does_not_confirm_it() {
    let mut world = narrow();
    world.up(A);
    for n in 0..100 {
        let call_id: &'static str = Box::leak(format!("{n}@nobody").into_boxed_str());
        let leg = Leg { call_id, ..A };
        let method = ["INVITE", "BYE", "REFER", "NOTIFY"][n % 4];
        world.request(leg, Side::Caller, 7, method, "Event: refer", "");
        world.response(leg, Side::Caller, 7, method, "481 Call/Transaction Does Not Exist", "");
    }
    assert!(world.transfers.counts().evicted.sum() > 60);
    world.at(2.0).refer(2, TARGET).referred(2, "403 Forbidden");
    let refused = world.said().0.into_iter().filter(|it| it.call_id.as_deref() == Some(A.call_id));
    assert_eq!(refused.map(|it| it.outcome).collect::<Vec<_>>(), [Outcome::ReferRefused]);
}

#[test]
fn calls_that_are_up_leave_room_for_new_ones() {
    let mut world = narrow();
    for n in 0..200 {
        let call_id: &'static str = Box::leak(format!("{n}@up").into_boxed_str());
        world.up(Leg { call_id, ..A });
    }
    assert!(world.transfers.counts().evicted.sum() > 150);
    world.up(A).at(2.0).refer(2, TARGET).referred(2, "403 Forbidden");
    assert_eq!(world.only().outcome, Outcome::ReferRefused);
}

#[test]
fn what_says_nothing_of_calls_touches_no_table() {
    let mut world = World::new();
    for method in ["REGISTER", "OPTIONS", "SUBSCRIBE", "PUBLISH", "MESSAGE", "NOTIFY"] {
        world.request(A, Side::Caller, 1, method, "Event: presence", "");
        world.response(A, Side::Caller, 1, method, "200 OK", "");
    }
    assert_eq!(world.transfers.counts().calls, 0);
    assert_eq!(world.transfers.poll_timeout(), None);
}

#[test]
fn an_info_tells_of_a_call_once() {
    let mut world = World::new();
    world.request(A, Side::Caller, 1, "INFO", "Content-Type: text/plain", "5");
    world.response(A, Side::Caller, 1, "INFO", "200 OK", "");
    assert_eq!(world.transfers.counts().calls, 1);
    let due = world.transfers.poll_timeout();
    for number in 2..9 {
        world.at(f64::from(number)).request(A, Side::Caller, number, "INFO", "Content-Type: text/plain", "5");
        world.response(A, Side::Caller, number, "INFO", "200 OK", "");
    }
    assert_eq!((world.transfers.counts().calls, world.transfers.poll_timeout()), (1, due));
}

#[test]
fn one_call_id_many_tags_is_bounded() {
    let mut world = World::new();
    for n in 0..100 {
        let text = format!(
            "INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK{n}\r\nCall-ID: same\r\nCSeq: 1 \
             INVITE\r\nFrom: <sip:f>;tag={n}\r\nTo: <sip:x>\r\n\r\n"
        );
        world.at(f64::from(n) / 100.0).wire(X, L, &text);
    }
    assert_eq!(world.transfers.fullness().legs, 9);
    assert_eq!(world.transfers.counts().evicted.call_id, 91);
}

#[test]
fn one_call_id_many_alleged_dialogs_is_bounded() {
    let mut world = World::new();
    world.up(A);
    for n in 0..100 {
        let text = format!(
            "REFER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK{n}\r\nCall-ID: {}\r\nCSeq: 1 \
             REFER\r\nFrom: <sip:f>;tag={n}\r\nTo: <sip:x>;tag=there\r\n{TARGET}\r\n\r\n",
            A.call_id
        );
        // Times that jump back fire no timer.
        world.at(f64::from(200 - n)).wire(X, L, &text);
    }
    assert_eq!(world.transfers.fullness().legs, 9);
    assert_eq!(world.transfers.fullness().attempts, 0);
    // The call that was answered is none of those that had to go.
    world.at(300.0).refer(2, TARGET).referred(2, "403 Forbidden");
    let refused = world.said().0.iter().filter(|attempt| attempt.outcome == Outcome::ReferRefused).count();
    assert_eq!(refused, 1);
}

#[test]
fn ordinary_hang_ups() {
    let mut world = World::new();
    for n in 0..2000_u32 {
        let call_id: &'static str = Box::leak(format!("{n}@t").into_boxed_str());
        let leg = Leg { call_id, ..A };
        let at = f64::from(n) * 20.0;
        world.at(at).up(leg).at(at + 15.0);
        let by = if n % 3 == 0 { Side::Callee } else { Side::Caller };
        world.bye(leg, by);
    }
    world.at(100_000.0);
    let (attempts, calls) = world.said();
    assert_eq!((attempts.len(), calls.len()), (0, 2000));
    assert_eq!(world.transfers.poll_timeout(), None);
}

#[test]
fn without_tags_from_tells_who_speaks() {
    // RFC 2543 §6.21: tags were optional. The callee's side may have one all the same.
    for callee in ["", ";tag=2"] {
        let mut world = World::new();
        let (t, l) = ("<sip:+15550100145@t>".to_owned(), format!("<sip:+15550100100@l>{callee}"));
        let say = |world: &mut World,
                   ends: (&str, &str),
                   parties: (&str, &str),
                   line: &str,
                   cseq: &str,
                   more: &str| {
            let (from, to) = parties;
            let head = format!(
                "{line}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{cseq}\r\nCSeq: {cseq}\r\nCall-ID: o\r\n"
            );
            world.wire(ends.0, ends.1, &format!("{head}From: {from}\r\nTo: {to}\r\n{more}\r\n"));
        };
        say(&mut world, (T, L), (&t, "<sip:+15550100100@l>"), "INVITE sip:l SIP/2.0", "1 INVITE", "");
        say(&mut world, (L, T), (&t, &l), "SIP/2.0 200 OK", "1 INVITE", "");
        say(&mut world, (T, L), (&t, &l), "ACK sip:l SIP/2.0", "1 ACK", "");
        world.at(2.0);
        say(&mut world, (L, T), (&l, &t), "REFER sip:t SIP/2.0", "2 REFER", &format!("{TARGET}\r\n"));
        say(&mut world, (T, L), (&l, &t), "SIP/2.0 202 Accepted", "2 REFER", "");
        world.at(3.0);
        let frag = format!("{ENDED}\r\nContent-Type: message/sipfrag\r\n\r\nSIP/2.0 486 Busy Here\r\n");
        let head =
            "NOTIFY sip:l SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKn\r\nCSeq: 2 NOTIFY\r\nCall-ID: o\r\n";
        world.wire(T, L, &format!("{head}From: {t}\r\nTo: {l}\r\n{frag}"));
        say(&mut world, (T, L), (&t, &l), "BYE sip:l SIP/2.0", "3 BYE", "");
        world.at(60.0);
        let attempt = world.only();
        assert_eq!((attempt.outcome, attempt.status), (Outcome::Busy, Some(486)), "{callee}");
        assert_eq!(attempt.transferor.as_deref(), Some("sip:+15550100100@l"));
        assert_eq!(world.transfers.fullness().attempts, 0);
    }
}
