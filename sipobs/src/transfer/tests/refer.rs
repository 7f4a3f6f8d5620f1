//! The REFER machine.

use super::*;
use crate::record::{Evidence, Kind, Method, Outcome, Seen};

fn verdict(attempt: &Attempt) -> (Outcome, Evidence, Option<u16>) {
    (attempt.outcome, attempt.evidence, attempt.status)
}

#[test]
fn trunk_success() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").notify(2, ACTIVE, "100 Trying");
    world.at(11.0).notify(3, ENDED, "200 OK").at(12.0).bye(A, Side::Callee);
    let attempt = world.settled(13.0, 14.0);
    assert_eq!(verdict(&attempt), (Outcome::Succeeded, Evidence::Reported, Some(200)));
    assert_eq!((attempt.method, attempt.kind, attempt.refer_cseq), (Method::Refer, Kind::Blind, Some(2)));
    assert_eq!(attempt.call_id.as_deref(), Some("a@t"));
    assert_eq!(attempt.target.as_deref(), Some("sip:+15550100177@x.example"));
    assert_eq!(attempt.transferor.as_deref(), Some("sip:+15550100100@l.example"));
    assert_eq!(attempt.transferee.as_deref(), Some("sip:+15550100145@t.example"));
    assert_eq!(attempt.duration_ms, 9000);
    assert_eq!(attempt.visibility.call, Seen::Both);
}

/// Two taps, or two queues of a card, may turn them around.
#[test]
fn an_answer_captured_before_its_refer_is_that_refers() {
    let mut world = World::called();
    world
        .at(2.0)
        .referred(2, "202 Accepted")
        .refer(2, TARGET)
        .notify(2, ACTIVE, "100 Trying")
        .invite(C, 1, "");
    world.at(5.0).ring(C, 1, "486 Busy Here").ack(C, 1).notify(3, ENDED, "486 Busy Here");
    let attempt = world.finished();
    assert_eq!(verdict(&attempt), (Outcome::Busy, Evidence::Confirmed, Some(486)));
    assert_eq!(attempt.target_call_id.as_deref(), Some("c@t"));
    assert_eq!(attempt.target.as_deref(), Some("sip:+15550100177@x.example"));
}

#[test]
fn what_is_told_in_the_call_is_of_a_refer_that_lacks_its_tag() {
    let mut world = World::called();
    let line = format!("REFER {} SIP/2.0", A.caller.1);
    world.at(2.0).tell(A, Side::Callee, Side::Callee, &line, (2, "REFER"), false, TARGET, "");
    world.referred(2, "202 Accepted").notify(2, ACTIVE, "100 Trying");
    world.at(8.0).notify(3, ENDED, "486 Busy Here").at(20.0).bye(A, Side::Caller);
    assert_eq!(verdict(&world.only()), (Outcome::Busy, Evidence::Reported, Some(486)));
}

#[test]
fn progress_after_the_targets_failure_is_of_another_leg() {
    for (goes_on, outcome) in [(true, Outcome::Succeeded), (false, Outcome::Busy)] {
        let mut world = World::called();
        world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").invite(C, 1, "");
        world.at(5.0).ring(C, 1, "486 Busy Here").ack(C, 1);
        if goes_on {
            world.at(6.0).notify(2, ACTIVE, "180 Ringing");
        }
        world.at(40.0).notify(3, ENDED, "200 OK");
        assert_eq!(world.finished().outcome, outcome, "{goes_on}");
    }
}

#[test]
fn optimistic_only_without_progress_and_at_once() {
    for (frag, after, evidence) in [
        ("", 0.005, Evidence::ReportedOptimistic),
        ("", 0.6, Evidence::Reported),
        ("100 Trying", 0.005, Evidence::ReportedOptimistic),
        ("100 Trying", 0.6, Evidence::Reported),
        ("180 Ringing", 0.005, Evidence::Reported),
    ] {
        let mut world = World::called();
        world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted");
        if !frag.is_empty() {
            world.notify(2, ACTIVE, frag);
        }
        world.at(2.0 + after).notify(3, ENDED, "200 OK");
        assert_eq!(verdict(&world.finished()), (Outcome::Succeeded, evidence, Some(200)), "{frag} {after}");
    }
}

/// Whoever sends the REFER was named by a provisional answer alone, through a proxy that leaves the path.
#[test]
fn a_refer_in_an_early_dialog_is_refused() {
    let direct = Leg { callee: (X, A.callee.1, A.callee.2), ..A };
    let mut world = World::new();
    world.invite(A, 1, "");
    world.response(
        A,
        Side::Caller,
        1,
        "INVITE",
        "183 Session Progress",
        "Contact: <sip:agent@10.0.0.3:5060>",
    );
    world.at(2.0).request(direct, Side::Callee, 2, "REFER", TARGET, "");
    world.response(direct, Side::Callee, 2, "REFER", "403 Forbidden", "");
    assert_eq!(world.only().outcome, Outcome::ReferRefused);
}

#[test]
fn refusals() {
    for (status, outcome) in [
        ("403 Forbidden", Outcome::ReferRefused),
        ("405 Method Not Allowed", Outcome::ReferRefused),
        ("420 Bad Extension", Outcome::ReferRefused),
        ("489 Bad Event", Outcome::ReferRefused),
        ("501 Not Implemented", Outcome::ReferRefused),
        ("603 Decline", Outcome::ReferRefused),
        ("400 Bad Request", Outcome::ReferRefused),
        ("481 Call/Transaction Does Not Exist", Outcome::DialogGone),
    ] {
        let mut world = World::called();
        world.at(2.0).refer(2, "Refer-To: tel:+15550100177").at(2.1).referred(2, status);
        let attempt = world.only();
        assert_eq!((attempt.outcome, attempt.evidence), (outcome, Evidence::Confirmed), "{status}");
        assert_eq!(attempt.status.map(|status| status.to_string()).as_deref(), status.get(..3));
        assert_eq!(attempt.target.as_deref(), Some("tel:+15550100177"));
    }
}

/// RFC 3261 §7.3.1: a fold is a blank. What nobody sees, and half a character, is not shown either.
#[test]
fn texts_from_the_wire_are_whole_and_on_one_line() {
    let mut world = World::called();
    let phrase = format!("For\u{200b}bid\u{202e}den: {}", "é".repeat(400));
    world.at(2.0).refer(2, "Refer-To: Bob\r\n <sip:+15550100177\r\n\t @h;x\r\n =y>");
    world.at(2.1).referred(2, &format!("403 {phrase}"));
    let attempt = world.only();
    assert_eq!(attempt.target.as_deref(), Some("sip:+15550100177 @h;x =y"));
    let reason = attempt.reason.as_deref().unwrap();
    assert!(
        reason.starts_with("Forbidden: éé") && reason.ends_with("é…") && !reason.contains('Ã'),
        "{reason}"
    );
    let because = &attempt.diagnosis[0].because;
    let lines = attempt.messages.iter().map(|line| &line.line).chain([because]);
    for text in lines.filter(|text| text.contains("For")) {
        assert!(text.contains("Forbidden: éé") && !text.contains('Ã'), "{text}");
    }
    let json = serde_json::to_string(&attempt).unwrap();
    assert!(
        !json.contains(['\u{200b}', '\u{202e}']) && !json.contains("\\r") && !json.contains("\\n"),
        "{json}"
    );
}

#[test]
fn a_challenge_with_and_without_retry() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "407 Proxy Authentication Required");
    let attempt = world.settled(34.0, 35.0);
    assert_eq!(verdict(&attempt), (Outcome::AuthFailed, Evidence::Confirmed, Some(407)));

    // The BYE leaves no dialog for a retry.
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "401 Unauthorized").at(4.0).bye(A, Side::Caller);
    assert_eq!(world.only().outcome, Outcome::AuthFailed);

    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "407 Proxy Authentication Required");
    world.at(2.1).refer(3, &format!("{TARGET}\r\nProxy-Authorization: Digest x")).referred(3, "202 Accepted");
    world.at(3.0).notify(2, "Event: refer;id=3\r\nSubscription-State: terminated", "200 OK");
    let attempt = world.finished();
    assert_eq!((attempt.outcome, attempt.refer_cseq), (Outcome::Succeeded, Some(3)));
    assert_eq!(attempt.messages.len(), 5);
}

#[test]
fn unanswered() {
    let mut world = World::called();
    let sends = [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5];
    for after in sends {
        world.at(2.0 + after).refer(2, TARGET);
    }
    world.at(35.0).bye(A, Side::Callee);
    let attempt = world.settled(36.0, 36.0);
    assert_eq!(verdict(&attempt), (Outcome::ReferUnanswered, Evidence::Inferred, None));
    assert_eq!(attempt.duration_ms, 32_000);
    let lines: Vec<_> =
        attempt.messages.iter().map(|line| (line.cseq.method.as_str(), line.copies)).collect();
    assert_eq!(lines, [("REFER", 11), ("BYE", 1), ("BYE", 1)], "copies are no messages of their own");

    // Over TCP there is one copy; a capture that ends too soon can't tell.
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).at(12.0);
    let attempt = world.finished();
    assert_eq!(attempt.outcome, Outcome::Unknown);
    assert!(attempt.unknown_because.unwrap().contains("capture ended"));
}

#[test]
fn bye_before_any_answer_is_abandoned() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).at(3.0).bye(A, Side::Caller);
    assert_eq!(world.settled(38.0, 38.1).outcome, Outcome::Abandoned);
}

#[test]
fn silence_after_the_202() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted");
    let attempt = world.settled(182.0, 182.1);
    assert_eq!(verdict(&attempt), (Outcome::NotifyTimeout, Evidence::Inferred, Some(202)));

    // With an expiry, that counts, and who is a little late.
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").notify(2, ACTIVE, "100 Trying");
    let attempt = world.settled(97.0, 97.1);
    assert_eq!((attempt.outcome, attempt.duration_ms), (Outcome::NotifyTimeout, 60_000));
}

#[test]
fn a_late_notify_counts() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").at(43.0).notify(2, ENDED, "200 OK");
    world.at(44.0).bye(A, Side::Callee);
    let attempt = world.settled(45.0, 46.0);
    assert_eq!(verdict(&attempt), (Outcome::Succeeded, Evidence::Reported, Some(200)));
}

#[test]
fn a_success_after_which_nobody_hangs_up_is_waited_for_and_said() {
    let no_bye = |attempt: &Attempt| attempt.diagnosis.iter().any(|it| it.code == "no_bye_after_notify");
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").at(9.0).notify(2, ENDED, "200 OK");
    let attempt = world.settled(44.0, 44.1);
    assert!(attempt.outcome == Outcome::Succeeded && no_bye(&attempt));

    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").at(9.0).notify(2, ENDED, "200 OK");
    world.at(19.0).bye(A, Side::Callee);
    assert!(!no_bye(&world.only()), "it is settled by the BYE");
}

#[test]
fn notify_races_with_bye() {
    // 19 µs apart, 280 ms late and drawing 481, 1 s, 32 s: all on record.
    for after in [0.000_019, 0.28, 1.0, 32.0] {
        let mut world = World::called();
        world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").notify(2, ACTIVE, "100 Trying");
        world.at(4.0).bye(A, Side::Callee).at(4.0 + after).notify(3, ENDED, "200 OK");
        world.response(A, Side::Caller, 3, "NOTIFY", "481 Call/Transaction Does Not Exist", "");
        assert_eq!(world.finished().outcome, Outcome::Succeeded, "{after}");
    }
}

#[test]
fn bye_without_an_outcome() {
    for (by, word) in [(Side::Callee, "transferor"), (Side::Caller, "transferee")] {
        let mut world = World::called();
        world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").notify(2, ACTIVE, "180 Ringing");
        world.at(4.0).bye(A, by);
        let attempt = world.settled(39.0, 39.1);
        assert_eq!((attempt.outcome, attempt.status), (Outcome::Unknown, Some(202)));
        assert!(attempt.unknown_because.unwrap().contains(word));
    }
}

#[test]
fn notify_before_the_202() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).notify(2, ACTIVE, "100 Trying").at(2.1).referred(2, "202 Accepted");
    world.at(5.0).notify(3, ENDED, "486 Busy Here");
    assert_eq!(verdict(&world.finished()), (Outcome::Busy, Evidence::Reported, Some(486)));
}

#[test]
fn no_verdict_is_no_guess() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").notify(2, ENDED, "100 Trying");
    let attempt = world.settled(37.0, 37.1);
    assert_eq!(attempt.outcome, Outcome::Unknown);
    assert!(attempt.unknown_because.unwrap().contains("noresource"));

    let mut world = World::called();
    world.at(2.0).refer(2, &format!("{TARGET}\r\nRefer-Sub: false"));
    world.response(A, Side::Callee, 2, "REFER", "202 Accepted", "Refer-Sub: false");
    let attempt = world.settled(12.0, 12.1);
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Unknown, Some(202)));

    // Asked for, not granted: NOTIFYs will come.
    let mut world = World::called();
    world.at(2.0).refer(2, &format!("{TARGET}\r\nRefer-Sub: false")).referred(2, "202 Accepted");
    world.at(20.0).notify(2, ENDED, "200 OK");
    assert_eq!(world.finished().outcome, Outcome::Succeeded);
}

#[test]
fn the_outcome_told_elsewhere() {
    let mut world = World::called();
    world.at(2.0).refer(2, &format!("{TARGET}\r\nRequire: explicitsub"));
    world.response(A, Side::Callee, 2, "REFER", "200 OK", "Refer-Events-At: <sip:e1@t.example>");
    world.at(3.0).wire(
        L,
        T,
        "SUBSCRIBE sip:e1@t.example SIP/2.0\r\nVia: SIP/2.0/UDP l;branch=z9hG4bKs\r\nCall-ID: s@l\r\nCSeq: 1 \
         SUBSCRIBE\r\nFrom: <sip:l>;tag=s\r\nTo: <sip:e1@t.example>\r\nEvent: refer\r\n\r\n",
    );
    world.at(6.0).wire(
        T,
        L,
        "NOTIFY sip:l SIP/2.0\r\nVia: SIP/2.0/UDP t;branch=z9hG4bKn\r\nCall-ID: s@l\r\nCSeq: 1 NOTIFY\r\nFrom: \
         <sip:e1@t.example>;tag=t\r\nTo: <sip:l>;tag=s\r\nEvent: refer\r\nSubscription-State: \
         terminated\r\nContent-Type: message/sipfrag\r\nContent-Length: 20\r\n\r\nSIP/2.0 603 Decline\r\n",
    );
    assert_eq!(verdict(&world.finished()), (Outcome::Declined, Evidence::Reported, Some(603)));
}

#[test]
fn two_in_a_row_and_two_at_once() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").at(3.0).notify(2, ENDED, "486 Busy Here");
    world.at(3.5).refer(3, TARGET).referred(3, "202 Accepted").at(4.0);
    let second = "Event: refer;id=3\r\nSubscription-State: terminated";
    world.notify(3, second, "200 OK");
    world.transfers.finish(world.now);
    let (attempts, _) = world.said();
    let outcomes: Vec<_> = attempts.iter().map(|attempt| (attempt.refer_cseq, attempt.outcome)).collect();
    assert_eq!(outcomes, [(Some(2), Outcome::Busy), (Some(3), Outcome::Succeeded)]);

    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").at(2.5).refer(3, TARGET);
    assert!(world.said().0.is_empty(), "nobody has taken the newer one yet");
    world.referred(3, "202 Accepted").at(3.0);
    let attempt = world.only();
    assert_eq!((attempt.refer_cseq, attempt.outcome), (Some(2), Outcome::Superseded));
    world.notify(2, "Event: refer;id=2\r\nSubscription-State: terminated", "404 Not Found");
    world.notify(3, second, "200 OK");
    assert_eq!(verdict(&world.finished()), (Outcome::Succeeded, Evidence::Reported, Some(200)));
}

#[test]
fn the_target_leg_overrides_the_sipfrag() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").at(2.005).notify(2, ENDED, "200 OK");
    world.at(2.01).invite(C, 1, "").at(2.5).ring(C, 1, "486 Busy Here").ack(C, 1);
    let attempt = world.settled(4.5, 20.0);
    assert_eq!(verdict(&attempt), (Outcome::Busy, Evidence::Confirmed, Some(486)));
    assert_eq!(attempt.target_call_id.as_deref(), Some("c@t"));
    assert_eq!(attempt.answer_ms, Some(490));
}

#[test]
fn the_target_leg_tells_where_no_notify_does() {
    let mut world = World::called();
    world.at(2.0).refer(2, &format!("{TARGET}\r\nRefer-Sub: false"));
    world.response(A, Side::Callee, 2, "REFER", "202 Accepted", "Refer-Sub: false");
    world.at(2.1).invite(C, 1, "").at(3.0).ring(C, 1, "180 Ringing").at(33.0).ring(C, 1, "200 OK").ack(C, 1);
    let attempt = world.settled(35.0, 36.0);
    assert_eq!(verdict(&attempt), (Outcome::Succeeded, Evidence::Confirmed, Some(200)));
    assert_eq!((attempt.ringing_ms, attempt.answer_ms), (Some(900), Some(30_900)));
}

#[test]
fn the_caller_hangs_up_in_the_midst() {
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").at(2.1).invite(C, 1, "").ring(
        C,
        1,
        "180 Ringing",
    );
    world.at(3.0).notify(2, ACTIVE, "180 Ringing").at(8.0).bye(A, Side::Caller);
    world
        .at(8.1)
        .request(C, Side::Caller, 1, "CANCEL", "", "")
        .ring(C, 1, "487 Request Terminated")
        .ack(C, 1);
    world.at(60.0);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Abandoned, Evidence::Confirmed, Some(487)));
}

#[test]
fn outside_the_dialog() {
    let refer = |headers: &str| {
        format!(
            "REFER sip:t SIP/2.0\r\nVia: SIP/2.0/UDP l;branch=z9hG4bKo\r\nCall-ID: o@l\r\nCSeq: 7 REFER\r\nFrom: \
             <sip:+15550100100@l.example>;tag=o\r\nTo: <sip:+15550100145@t.example>\r\n{TARGET}\r\n{headers}\r\n\r\n"
        )
    };
    let accepted = "SIP/2.0 202 Accepted\r\nVia: SIP/2.0/UDP l;branch=z9hG4bKo\r\nCall-ID: o@l\r\nCSeq: 7 \
                    REFER\r\nFrom: <sip:+15550100100@l.example>;tag=o\r\nTo: \
                    <sip:+15550100145@t.example>;tag=p\r\n\r\n";
    let notify = "NOTIFY sip:l SIP/2.0\r\nVia: SIP/2.0/UDP t;branch=z9hG4bKq\r\nCall-ID: o@l\r\nCSeq: 1 \
                  NOTIFY\r\nFrom: <sip:+15550100145@t.example>;tag=p\r\nTo: \
                  <sip:+15550100100@l.example>;tag=o\r\nEvent: refer\r\nSubscription-State: \
                  terminated\r\nContent-Type: message/sipfrag\r\nContent-Length: 16\r\n\r\nSIP/2.0 200 OK\r\n";
    let mut world = World::called();
    world.at(2.0).wire(L, T, &refer("Target-Dialog: a@t;local-tag=la;remote-tag=ta"));
    world.wire(T, L, accepted).at(4.0).wire(T, L, notify);
    let attempt = world.settled(39.0, 39.1);
    assert_eq!(verdict(&attempt), (Outcome::Succeeded, Evidence::Reported, Some(200)));
    assert_eq!((attempt.call_id.as_deref(), attempt.refer_cseq), (Some("a@t"), Some(7)));
    world.at(50.0).bye(A, Side::Caller).at(120.0);
    let (_, calls) = world.said();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].transfers, &calls[0].refer_absent), (1, &crate::record::ReferAbsent::No));

    // A REFER that names no dialog just asks for a call.
    let mut world = World::called();
    world
        .at(2.0)
        .wire(L, T, &refer("Subject: dial"))
        .wire(T, L, accepted)
        .at(4.0)
        .wire(T, L, notify)
        .nothing();
}

#[test]
fn several_targets() {
    let mut world = World::called();
    let list =
        "<resource-lists><list><entry uri=\"sip:x@a\"/><entry uri=\"sip:y@b\"/></list></resource-lists>";
    world.at(2.0).request(A, Side::Callee, 2, "REFER", "Refer-To: <cid:1@l>\r\nRefer-Sub: false", list);
    world.response(A, Side::Callee, 2, "REFER", "202 Accepted", "Refer-Sub: false");
    let attempt = world.finished();
    assert_eq!((attempt.outcome, attempt.target.as_deref()), (Outcome::Unknown, Some("sip:x@a, sip:y@b")));
}

#[test]
fn known_from_the_midst_of_a_call() {
    let mut world = World::new();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").at(3.0).notify(2, ENDED, "200 OK");
    world.at(3.5).bye(A, Side::Callee);
    let attempt = world.settled(5.0, 6.0);
    assert_eq!(attempt.outcome, Outcome::Succeeded);
    assert!(attempt.quality.midcall);

    // By its NOTIFY alone, if whoever got that knows of it.
    for (answered, outcome) in [(true, Outcome::Busy), (false, Outcome::Unknown)] {
        let mut world = World::new();
        world.at(3.0).notify(2, "Event: refer;id=2\r\nSubscription-State: terminated", "486 Busy Here");
        if answered {
            world.response(A, Side::Caller, 2, "NOTIFY", "200 OK", "");
        }
        let attempt = world.finished();
        assert_eq!((attempt.outcome, attempt.refer_cseq), (outcome, Some(2)));
        assert_eq!(attempt.transferor.as_deref(), Some("sip:+15550100100@l.example"));
    }
}

#[test]
fn damaged_evidence_is_no_evidence() {
    let gap = Loss::TcpGap { src: "10.0.0.1".parse().unwrap(), dst: "10.0.0.2".parse().unwrap() };
    let elsewhere = Loss::TcpGap { src: "10.0.0.8".parse().unwrap(), dst: "10.0.0.9".parse().unwrap() };
    for (loss, outcome) in [
        (gap, Outcome::Unknown),
        (Loss::RingLost(3), Outcome::Unknown),
        (elsewhere, Outcome::ReferUnanswered),
    ] {
        let mut world = World::called();
        world.at(2.0).refer(2, TARGET).at(3.0).lose(loss);
        assert_eq!(world.settled(36.0, 36.1).outcome, outcome, "{loss:?}");
    }
    // Nor is the BYE of a transferor whose answer may be among what is missing.
    for (loss, outcome) in [
        (Some(gap), Outcome::Unknown),
        (Some(Loss::RingLost(1)), Outcome::Unknown),
        (None, Outcome::Abandoned),
    ] {
        let mut world = World::called();
        world.at(2.0).refer(2, TARGET).at(2.5);
        loss.into_iter().for_each(|loss| {
            world.lose(loss);
        });
        world.at(3.0).bye(A, Side::Callee);
        let attempt = world.settled(38.0, 38.0);
        assert_eq!(attempt.outcome, outcome, "{loss:?}");
        assert_eq!(attempt.unknown_because.is_some(), outcome == Outcome::Unknown);
    }
    // A final answer that was seen stands.
    let mut world = World::called();
    world.at(2.0).refer(2, TARGET).referred(2, "202 Accepted").lose(gap).at(3.0).notify(2, ENDED, "200 OK");
    let attempt = world.finished();
    assert_eq!((attempt.outcome, attempt.quality.tcp_gaps), (Outcome::Succeeded, 1));
}

#[test]
fn one_direction_only() {
    let mut world = World::new();
    world.at(2.0).refer(2, TARGET);
    let attempt = world.settled(36.0, 36.1);
    assert_eq!((attempt.outcome, attempt.visibility.call), (Outcome::Unknown, Seen::OneWay));
}

#[test]
fn early_notices_on_request() {
    let mut world = World::with(Config { notices: true, ..Config::default() });
    world.up(A).at(2.0).refer(2, TARGET).referred(2, "202 Accepted").notify(2, ENDED, "486 Busy Here");
    world.at(60.0);
    let (mut outcomes, mut ids) = (Vec::new(), Vec::new());
    while let Some(output) = world.transfers.poll_output() {
        match output {
            Output::Notice(notice) => {
                // What is decided has its cause, and is told with the message that decided it.
                assert_eq!(notice.decided, notice.outcome == Outcome::Busy);
                assert_eq!(notice.cause.as_deref(), notice.decided.then_some("busy"));
                outcomes.push(notice.outcome);
                ids.push(notice.id);
            }
            Output::Transfer(attempt) => ids.push(attempt.id),
            Output::Call(_) | Output::Alert(_) => {}
        }
    }
    assert_eq!(outcomes, [Outcome::ReferUnanswered, Outcome::NotifyTimeout, Outcome::Busy]);
    assert!(ids.len() == 4 && ids.iter().all(|id| id.len() == 16 && *id == ids[0]), "{ids:?}");
}

#[test]
fn a_success_is_all_that_was_seen_and_may_be_mere_optimism() {
    let mut world = World::new();
    world.at(2.0).notify(2, ENDED, "200 OK").response(A, Side::Caller, 2, "NOTIFY", "200 OK", "").at(60.0);
    assert_eq!(verdict(&world.only()), (Outcome::Succeeded, Evidence::ReportedOptimistic, Some(200)));
}

#[test]
fn a_success_after_ringing_whose_refer_was_not_seen_is_no_optimism() {
    let mut world = World::new();
    world.at(2.0).notify(2, ACTIVE, "180 Ringing").response(A, Side::Caller, 2, "NOTIFY", "200 OK", "");
    world.at(2.2).notify(3, ENDED, "200 OK").response(A, Side::Caller, 3, "NOTIFY", "200 OK", "").at(60.0);
    let attempt = world.only();
    assert_eq!(verdict(&attempt), (Outcome::Succeeded, Evidence::Reported, Some(200)));
    assert!(attempt.diagnosis.iter().all(|diagnosis| diagnosis.code != "optimistic_200"));
}
