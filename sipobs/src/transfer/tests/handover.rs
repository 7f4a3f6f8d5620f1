//! Redirects, and BYEs that hand a call over.

use super::*;
use crate::record::{Evidence, Method, Outcome, ReferAbsent};

#[test]
fn redirected_and_not_followed() {
    let mut world = World::new();
    world.invite(A, 1, "").at(0.2);
    world.response(
        A,
        Side::Caller,
        1,
        "INVITE",
        "302 Moved Temporarily",
        "Contact: <sip:+15550100177@x.example>",
    );
    world.ack(A, 1);
    let attempt = world.settled(10.2, 10.3);
    assert_eq!((attempt.method, attempt.outcome), (Method::Redirect, Outcome::Redirected));
    assert_eq!((attempt.evidence, attempt.status), (Evidence::Confirmed, Some(302)));
    assert_eq!(attempt.target.as_deref(), Some("sip:+15550100177@x.example"));
    assert_eq!(attempt.target_call_id, None);
    assert_eq!(attempt.transferor.as_deref(), Some("sip:+15550100100@l.example"));
}

#[test]
fn also() {
    let mut world = World::called();
    world.at(20.0).request(A, Side::Callee, 2, "BYE", "Also: <sip:+15550100177@x.example>", "");
    world.response(A, Side::Callee, 2, "BYE", "200 OK", "").at(200.0);
    let (attempts, calls) = world.said();
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].method, attempts[0].outcome), (Method::Also, Outcome::Unknown));
    assert_eq!(attempts[0].target.as_deref(), Some("sip:+15550100177@x.example"));
    assert_eq!((calls[0].transfers, &calls[0].refer_absent), (1, &ReferAbsent::No));
}

#[test]
fn refer_to_bye() {
    let mut world = World::called();
    world.at(20.0).refer(2, TARGET).referred(2, "202 Accepted").notify(2, ENDED, "");
    world.at(20.1).request(A, Side::Caller, 2, "BYE", "Reason: SIP;cause=302;text=\"+15550100177\"", "");
    world.at(200.0);
    let (attempts, calls) = world.said();
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].method, attempts[0].refer_cseq), (Method::ReferBye, Some(2)));
    assert_eq!(calls[0].refer_absent, ReferAbsent::No);

    // On the other side of the SBC there is the BYE alone.
    let mut world = World::called();
    world.at(20.0).request(A, Side::Caller, 2, "BYE", "Reason: SIP;text=\"tel:+15550100177\"", "").at(200.0);
    let attempt = world.only();
    assert_eq!((attempt.method, attempt.target.as_deref()), (Method::ReferBye, Some("tel:+15550100177")));
    assert_eq!(attempt.outcome, Outcome::Unknown);
}

#[test]
fn ordinary_reasons_hand_nothing_over() {
    for reason in [
        "Q.850;cause=16;text=\"Terminated\"",
        "SIP;cause=200;text=\"Call completed elsewhere\"",
        "X;15550100177",
    ] {
        let mut world = World::called();
        world.at(20.0).request(A, Side::Caller, 2, "BYE", &format!("Reason: {reason}"), "").at(200.0);
        let (attempts, calls) = world.said();
        assert!(attempts.is_empty(), "{reason}: {attempts:#?}");
        assert!(matches!(calls[0].refer_absent, ReferAbsent::Fact { .. }));
    }
}
