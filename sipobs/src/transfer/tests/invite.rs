//! The second-leg machine.

use super::*;
use crate::record::{Evidence, Kind, LinkMethod, Method, Outcome, ReferAbsent};

fn checked(attempt: &Attempt, outcome: Outcome, status: Option<u16>) {
    assert_eq!((attempt.method, attempt.outcome, attempt.status), (Method::Invite, outcome, status));
    assert_eq!(attempt.call_id.as_deref(), Some("a@t"));
    assert_eq!(attempt.target_call_id.as_deref(), Some("b@l"));
}

fn challenged(world: &mut World) {
    world.at(2.0).invite(B, 1, "").ring(B, 1, "407 Proxy Authentication Required").ack(B, 1);
    world.at(2.1).invite(B, 2, "Proxy-Authorization: Digest x").ring(B, 2, "100 Trying");
}

#[test]
fn busy_at_once() {
    let mut world = World::called();
    challenged(&mut world);
    world.at(2.5).ring(B, 2, "486 Busy Here").ack(B, 2).at(60.0);
    let attempt = world.only();
    checked(&attempt, Outcome::Busy, Some(486));
    assert_eq!((attempt.evidence, attempt.kind), (Evidence::Confirmed, Kind::Blind));
    assert_eq!((attempt.ringing_ms, attempt.answer_ms), (None, Some(400)));
    assert_eq!(attempt.diagnosis[0].code, "suspect_policy");
    assert_eq!(attempt.transferee.as_deref(), Some("sip:+15550100145@t.example"));
}

#[test]
fn the_ring_timer_counts_from_the_first_invite() {
    let mut world = World::called();
    challenged(&mut world);
    world.at(3.0).ring(B, 2, "180 Ringing").at(32.0).request(B, Side::Caller, 2, "CANCEL", "", "");
    world.response(B, Side::Caller, 2, "CANCEL", "200 OK", "").ring(B, 2, "487 Request Terminated").ack(B, 2);
    world.at(90.0);
    let attempt = world.only();
    checked(&attempt, Outcome::NoAnswer, Some(487));
    assert_eq!(attempt.ringing_ms, Some(900));
    assert!(attempt.diagnosis[0].because.contains("30"), "{:?}", attempt.diagnosis[0]);
}

#[test]
fn the_caller_gave_up() {
    let mut world = World::called();
    challenged(&mut world);
    world.at(3.0).ring(B, 2, "180 Ringing").at(14.0).bye(A, Side::Caller);
    world
        .at(14.5)
        .request(B, Side::Caller, 2, "CANCEL", "", "")
        .ring(B, 2, "487 Request Terminated")
        .ack(B, 2);
    world.at(90.0);
    checked(&world.only(), Outcome::Abandoned, Some(487));
}

#[test]
fn nothing_heard() {
    let mut world = World::called();
    for after in [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5] {
        world.at(2.0 + after).invite(B, 1, "");
        if after == 7.5 {
            world.bye(A, Side::Caller);
        }
    }
    world.at(90.0);
    let attempt = world.only();
    assert_eq!(attempt.unknown_because, None);
    checked(&attempt, Outcome::NetworkFailure, None);
    assert_eq!(attempt.evidence, Evidence::Inferred);
}

#[test]
fn asked_for_credentials_again_and_again() {
    let mut world = World::called();
    world.at(2.0);
    for number in 1..=5 {
        world.invite(B, number, "Authorization: Digest x").ring(B, number, "401 Unauthorized").ack(B, number);
    }
    world.at(120.0);
    checked(&world.only(), Outcome::AuthFailed, Some(401));
}

#[test]
fn bridged() {
    let mut world = World::called();
    challenged(&mut world);
    world.at(3.0).ring(B, 2, "180 Ringing").at(6.0).ring(B, 2, "200 OK").ack(B, 2);
    world.at(40.0).bye(A, Side::Caller).at(40.5).bye(B, Side::Caller).at(200.0);
    let (attempts, calls) = world.said();
    assert_eq!(attempts.len(), 1);
    checked(&attempts[0], Outcome::Succeeded, Some(200));
    assert_eq!(attempts[0].evidence, Evidence::Confirmed);
    assert_eq!(calls[0].refer_absent, ReferAbsent::No);
}

#[test]
fn answered_to_nobody() {
    let mut world = World::called();
    challenged(&mut world);
    world.at(5.9).bye(A, Side::Caller).at(6.0).ring(B, 2, "200 OK").ack(B, 2).bye(B, Side::Caller).at(120.0);
    checked(&world.only(), Outcome::Abandoned, Some(200));
}

#[test]
fn warm() {
    let mut world = World::called();
    let hold = "v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n\
                a=sendonly\r\n";
    let sdp = "Content-Type: application/sdp";
    world.at(1.0).request(A, Side::Callee, 5, "INVITE", sdp, hold);
    world.response(A, Side::Callee, 5, "INVITE", "200 OK", "").request(A, Side::Callee, 5, "ACK", "", "");
    challenged(&mut world);
    world.at(6.0).ring(B, 2, "200 OK").ack(B, 2);
    world.at(30.0).request(A, Side::Callee, 6, "INVITE", sdp, &hold.replace("sendonly", "sendrecv"));
    world.at(90.0).bye(A, Side::Caller).at(90.4).bye(B, Side::Caller).at(200.0);
    let attempt = world.only();
    checked(&attempt, Outcome::Succeeded, Some(200));
    assert_eq!(attempt.kind, Kind::Attended);
}

#[test]
fn at_the_target() {
    for (status, outcome) in [("200 OK", Outcome::Succeeded), ("481 No Such Dialog", Outcome::DialogGone)] {
        let mut world = World::called();
        world.at(2.0).invite(C, 1, "Replaces: a@t;to-tag=la;from-tag=ta").ring(C, 1, status).ack(C, 1);
        if outcome == Outcome::Succeeded {
            world.bye(A, Side::Callee);
        }
        world.at(90.0);
        let attempt = world.only();
        assert_eq!(
            (attempt.method, attempt.kind, attempt.outcome),
            (Method::Invite, Kind::Attended, outcome)
        );
        assert_eq!(attempt.call_id.as_deref(), Some("a@t"));
    }
    // Picking up a call that only rings is no transfer.
    let mut world = World::called();
    world.at(2.0).invite(C, 1, "Replaces: r@t;to-tag=1;from-tag=2;early-only").ring(C, 1, "200 OK").ack(C, 1);
    world.at(90.0).nothing();
}

#[test]
fn the_consultation_before_a_refer_is_no_second_leg() {
    let mut world = World::called();
    let hold =
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    world.at(1.0).request(A, Side::Callee, 5, "INVITE", "Content-Type: application/sdp", hold);
    challenged(&mut world);
    world.at(6.0).ring(B, 2, "200 OK").ack(B, 2);
    let refer_to = "Refer-To: <sip:+15550100177@x.example?Replaces=b%40l%3Bto-tag%3Dxb%3Bfrom-tag%3Dlb>";
    world.at(30.0).refer(6, refer_to).referred(6, "202 Accepted").notify(2, ACTIVE, "100 Trying");
    world.at(30.1).invite(C, 1, "Replaces: b@l;to-tag=xb;from-tag=lb").ring(C, 1, "200 OK").ack(C, 1);
    world.at(30.2).bye(B, Side::Callee).notify(3, ENDED, "200 OK").bye(A, Side::Callee).at(200.0);
    let attempt = world.only();
    assert_eq!(
        (attempt.method, attempt.kind, attempt.outcome),
        (Method::Refer, Kind::Attended, Outcome::Succeeded)
    );
    assert_eq!((attempt.evidence, attempt.target_call_id.as_deref()), (Evidence::Confirmed, Some("c@t")));
    assert!(attempt.messages.iter().any(|line| line.leg == crate::record::LegRole::Consultation));
}

#[test]
fn a_missing_final_answer_may_be_ours() {
    let mut world = World::called();
    world.at(2.0).invite(B, 1, "").lose(Loss::RingLost(1)).at(120.0);
    let attempt = world.only();
    assert_eq!(attempt.outcome, Outcome::Unknown);
    assert!(attempt.unknown_because.unwrap().contains("missing"));
}

/// A weak tie, two calls up: whose leg it is shows late, or never.
fn between_two() -> World {
    let mut world = World::called();
    world.at(0.5).up(A2);
    world.at(20.0).invite(B, 1, "").ring(B, 1, "180 Ringing");
    world
}

#[test]
fn a_leg_that_rings_on_is_told_35_s_after_its_call() {
    let mut world = World::called();
    world.at(20.0).invite(B, 1, "").ring(B, 1, "180 Ringing");
    world.at(25.0).bye(A, Side::Caller);
    // Nobody answers, nobody cancels.
    let attempt = world.settled(60.0, 60.0);
    assert_eq!(attempt.outcome, Outcome::Unknown);
}

#[test]
fn a_leg_that_stays_up_is_told_35_s_after_its_call() {
    let mut world = World::called();
    world.at(20.0).invite(B, 1, "").at(24.0).ring(B, 1, "200 OK").ack(B, 1);
    world.at(25.0).bye(A, Side::Callee);
    let attempt = world.settled(60.0, 60.0);
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Succeeded, Some(200)));
}

#[test]
fn a_leg_that_is_up_with_its_call_is_told_after_180_s() {
    let mut world = between_two();
    world.at(24.0).ring(B, 1, "200 OK").ack(B, 1);
    let attempt = world.settled(204.0, 204.0);
    assert_eq!(attempt.link.unwrap().method, LinkMethod::Ambiguous);
}

#[test]
fn a_call_that_goes_on_does_not_hold_the_verdict_on_another() {
    let mut world = World::called();
    world.at(0.5).up(A2);
    world.at(20.0).invite(B, 1, "P-Asserted-Identity: <sip:+15550100145@t.example>");
    // Answered, and the call is handed over at once.
    world.at(24.0).ring(B, 1, "200 OK").ack(B, 1).at(24.5).bye(A, Side::Callee);
    let attempt = world.settled(59.5, 59.5);
    assert_eq!((attempt.call_id.as_deref(), attempt.outcome), (Some("a@t"), Outcome::Succeeded));
}

/// Nobody put the call on hold; a REFER tells what the leg was, or its end that there was none.
#[test]
fn a_leg_may_be_named_as_a_consultation_as_long_as_both_go_on() {
    for named in [true, false] {
        let mut world = World::called();
        world.at(2.0).invite(B, 1, "").at(6.0).ring(B, 1, "200 OK").ack(B, 1).at(600.0);
        assert!(world.said().0.is_empty(), "it may yet have been a consultation");
        if named {
            let to = "Refer-To: <sip:+15550100177@x.example?Replaces=b%40l%3Bto-tag%3Dxb%3Bfrom-tag%3Dlb>";
            world.refer(2, to).referred(2, "603 Decline").bye(A, Side::Caller);
            let attempt = world.finished();
            assert_eq!((attempt.method, attempt.outcome), (Method::Refer, Outcome::ReferRefused));
        } else {
            world.bye(A, Side::Caller);
            let attempt = world.only();
            assert_eq!((attempt.method, attempt.outcome), (Method::Invite, Outcome::Succeeded));
            assert_eq!(attempt.duration_ms, 4000);
        }
    }
}

#[test]
fn a_hold_is_waited_for_and_no_longer() {
    let hold = |direction: &str| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP \
             0\r\na={direction}\r\n"
        )
    };
    let sdp = "Content-Type: application/sdp";
    for resumed in [true, false] {
        let mut world = World::called();
        world.at(1.0).request(A, Side::Callee, 5, "INVITE", sdp, &hold("sendonly"));
        world.response(A, Side::Callee, 5, "INVITE", "200 OK", "").request(A, Side::Callee, 5, "ACK", "", "");
        world.at(2.0).invite(B, 1, "").at(6.0).ring(B, 1, "200 OK").ack(B, 1).at(600.0);
        assert!(world.said().0.is_empty(), "so far somebody was consulted, no more");
        if resumed {
            world.request(A, Side::Callee, 6, "INVITE", sdp, &hold("sendrecv")).at(601.0);
            assert_eq!(world.only().outcome, Outcome::Succeeded);
        } else {
            let attempt = world.finished();
            assert_eq!(attempt.outcome, Outcome::Unknown, "the capture ended on hold");
        }
    }
}
