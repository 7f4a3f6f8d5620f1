//! What this very host sends, and what others could have sent in its name.

use super::*;
use crate::record::{Method, Outcome};

/// Another address of the platform's, or somebody else.
const L2: &str = "10.0.0.9:5060";

impl World {
    /// From now on what is told came out of a socket of this very host, or not.
    fn originating(&mut self, originates: bool) -> &mut Self {
        self.originates = originates;
        self
    }
}

/// An INVITE that names A, from a host that is no party of any call.
fn names_a(world: &mut World) -> &mut World {
    world.wire(
        L2,
        X,
        "INVITE sip:+15550100177@x.example SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKn\r\nCall-ID: n@l\r\n\
         CSeq: 1 INVITE\r\nFrom: <sip:+15550100100@l.example>;tag=n\r\nTo: <sip:+15550100177@x.example>\r\n\
         X-Call-ID: a@t\r\n\r\n",
    )
}

#[test]
fn an_invite_that_nobody_answers_is_believed_of_this_host() {
    let mut world = World::called();
    names_a(world.at(2.0).originating(true)).at(90.0);
    let attempt = world.only();
    assert_eq!((attempt.method, attempt.outcome), (Method::Invite, Outcome::NetworkFailure));
    assert_eq!(attempt.call_id.as_deref(), Some("a@t"));
    assert!(attempt.originated && !attempt.is_one_sided());

    // Of anybody else it is not, before somebody answers, …
    let mut world = World::called();
    names_a(world.at(2.0)).at(90.0).nothing();
    // … and neither is it lost where the capture ends.
    let mut world = World::called();
    names_a(world.at(2.0)).at(3.0).nothing();
}

#[test]
fn an_invite_of_somebody_unknown_is_believed_once_it_is_answered() {
    let answer = "SIP/2.0 100 Trying\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKn\r\nCall-ID: n@l\r\nCSeq: 1 INVITE\r\n\
                  From: <sip:+15550100100@l.example>;tag=n\r\nTo: <sip:+15550100177@x.example>\r\n\r\n";
    let mut world = World::called();
    names_a(world.at(2.0)).at(4.0).wire(X, L2, answer).finished();
    // And one of a party of other calls, also where it is not this call's.
    let mut world = World::called();
    let other = Leg { caller: (L2, "sip:c@c.example", "c"), call_id: "c@c", ..B };
    names_a(world.at(1.0).up(other).at(2.0)).at(90.0);
    assert_eq!(world.only().outcome, Outcome::NetworkFailure);
    // And one that comes as often as it would.
    let mut world = World::called();
    for after in [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5] {
        names_a(world.at(2.0 + after));
    }
    world.at(90.0);
    assert_eq!(world.only().outcome, Outcome::NetworkFailure);
}

#[test]
fn this_host_speaks_in_its_calls_from_whatever_address() {
    let bye = "BYE sip:+15550100145@t.example SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKb\r\nCall-ID: a@t\r\n\
               CSeq: 7 BYE\r\nFrom: <sip:+15550100100@l.example>;tag=la\r\nTo: <sip:+15550100145@t.example>;tag=ta\r\n\r\n";
    for (originates, ended) in [(true, Some(30_000)), (false, None)] {
        let mut world = World::called();
        world.at(30.0).originating(originates).wire(L2, "10.0.0.7:5060", bye).at(90.0);
        let calls = world.said().1;
        assert_eq!(calls.first().map(|call| call.ended.millis_since(world.start)), ended, "{originates}");
    }
}

#[test]
fn what_this_host_alone_says_of_a_call_older_than_the_capture_is_no_hearsay() {
    for (originates, outcome) in [(true, Outcome::Busy), (false, Outcome::Unknown)] {
        let mut world = World::new();
        world.originating(originates).at(5.0).notify(7, ENDED, "486 Busy Here").at(90.0);
        assert_eq!(world.only().outcome, outcome, "{originates}");
    }
}

#[test]
fn a_flood_does_not_push_out_what_this_host_begins() {
    for (originates, evicted) in [(true, 0), (false, 1)] {
        let limits = super::super::Limits { bytes: 24 << 10, ..Default::default() };
        let mut world = World::with(Config { limits, ..Config::default() });
        world.originating(originates).invite(B, 1, "").originating(false);
        for n in 0..100 {
            let text = format!(
                "INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK{n}\r\nCall-ID: {n}\r\nCSeq: 1 \
                 INVITE\r\nFrom: <sip:f>;tag={n}\r\nTo: <sip:x>\r\n\r\n"
            );
            world.wire(L, X, &text);
        }
        world.ring(B, 1, "486 Busy Here").ack(B, 1).at(90.0);
        let seen = world.said().1.iter().filter(|call| call.call_id == B.call_id).count();
        assert_eq!(seen, 1 - evicted, "{originates}");
    }
}
