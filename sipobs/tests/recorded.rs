//! The recorded captures come out as their README says.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::path::{Path, PathBuf};

use sipobs::capture::file::Reader;
use sipobs::engine::{Config, Engine};
use sipobs::privacy::{Mask, Privacy};
use sipobs::record::{
    Attempt, Call, Evidence, Kind, LegRole, LinkMethod, Method, Outcome, Output, Quality, ReferAbsent, Seen,
    Side,
};
use sipobs::timestamp::Timestamp;

struct Said {
    attempts: Vec<Attempt>,
    calls: Vec<Call>,
    alerts: usize,
}

fn captures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(folder)
}

fn read(path: &Path) -> Said {
    let privacy = Privacy::new(Mask::Full, None).unwrap();
    let mut engine = Engine::new(Config::default(), privacy).unwrap();
    let mut reader = Reader::open(path).unwrap();
    let mut last = Timestamp::default();
    while let Some(frame) = reader.next().unwrap() {
        last = frame.time;
        engine.frame(&frame);
    }
    engine.finish(last);
    assert_eq!(engine.poll_timeout(), None, "{}: something was left", path.display());
    let mut said = Said { attempts: vec![], calls: vec![], alerts: 0 };
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Transfer(attempt) => said.attempts.push(*attempt),
            Output::Call(call) => said.calls.push(*call),
            Output::Alert(_) => said.alerts += 1,
            Output::Notice(_) => panic!("notices are off"),
        }
    }
    said
}

/// What a README says of one attempt.
struct Truth {
    method: Method,
    kind: Kind,
    outcome: Outcome,
    evidence: Evidence,
    status: Option<u16>,
    cseq: Option<u32>,
    call: &'static str,
    target: Option<&'static str>,
}

const REFER: Truth = Truth {
    method: Method::Refer,
    kind: Kind::Blind,
    outcome: Outcome::Succeeded,
    evidence: Evidence::Confirmed,
    status: Some(200),
    cseq: None,
    call: "",
    target: None,
};

const INVITE: Truth = Truth { method: Method::Invite, ..REFER };

fn check(folder: &str, file: &str, truths: &[Truth]) -> Said {
    let said = read(&captures(folder).join(file).with_extension("pcap"));
    assert_eq!(said.attempts.len(), truths.len(), "{file}: {:#?}", said.attempts);
    assert_eq!(said.alerts, 0, "{file}");
    for (attempt, truth) in said.attempts.iter().zip(truths) {
        assert_eq!(
            (attempt.method, attempt.kind, attempt.outcome, attempt.evidence, attempt.status),
            (truth.method, truth.kind, truth.outcome, truth.evidence, truth.status),
            "{file}"
        );
        assert_eq!(attempt.refer_cseq, truth.cseq, "{file}");
        assert!(attempt.call_id.as_ref().unwrap().starts_with(truth.call), "{file}: {:?}", attempt.call_id);
        assert_eq!(attempt.target_call_id.is_some(), truth.target.is_some(), "{file}");
        if let (Some(seen), Some(target)) = (&attempt.target_call_id, truth.target) {
            assert!(seen.starts_with(target), "{file}: {seen}");
        }
        assert_eq!(attempt.quality, Quality::default(), "{file}");
        assert_eq!(attempt.visibility.call, Seen::Both, "{file}");
        let unknown = attempt.outcome == Outcome::Unknown;
        assert_eq!(attempt.unknown_because.is_some(), unknown, "{file}");
        assert!(attempt.started <= attempt.ended, "{file}");
        assert!(!attempt.messages.is_empty(), "{file}");
        assert!(attempt.messages.is_sorted_by_key(|line| (line.time, line.frame)), "{file}");
    }
    said
}

/// Numbers of the frames in a ladder.
fn frames(attempt: &Attempt) -> Vec<u64> {
    attempt.messages.iter().map(|line| line.frame).collect()
}

#[test]
fn pjsua_blind() {
    let truth = [Truth { cseq: Some(4579), call: "3350d4b2", target: Some("fb1c8d2b"), ..REFER }];
    let said = check("recorded", "pjsua_blind_ok", &truth);
    let frames = frames(&said.attempts[0]);
    for frame in [5, 7, 11, 12, 14] {
        assert!(frames.contains(&frame), "{frame} not in {frames:?}");
    }
    assert_eq!(said.attempts[0].visibility.target, Seen::Both);
    assert!(said.calls[0].transfers == 1 && said.calls[0].ended_by == Some(Side::Callee));
}

#[test]
fn linphone_blind() {
    let truth = [Truth { cseq: Some(111), call: "d6735932", target: Some("a333e37c"), ..REFER }];
    let said = check("recorded", "linphone_blind_ok", &truth);
    let notified: Vec<_> =
        said.attempts[0].messages.iter().filter(|line| line.line.contains(" → ")).collect();
    assert_eq!(notified.len(), 3, "{notified:#?}");
    assert!(notified[1].line.ends_with(" → 180 Ringing"), "{}", notified[1].line);
}

#[test]
fn over_tcp_in_small_segments() {
    let truth = [Truth { cseq: Some(32057), call: "20ed9f51", target: Some("9fec6f60"), ..REFER }];
    let said = check("recorded", "pjsua_blind_tcp_segmented", &truth);
    assert!(frames(&said.attempts[0]).contains(&44));
}

#[test]
fn through_a_b2bua() {
    let truth = [Truth { cseq: Some(32090), call: "e832141c", target: Some("6aab01e7"), ..REFER }];
    check("recorded", "asterisk22_b2bua_blind_ok", &truth);
}

#[test]
fn attended() {
    let truth = [Truth {
        kind: Kind::Attended,
        cseq: Some(21640),
        call: "efcc70b2",
        target: Some("d2f66cc7"),
        ..REFER
    }];
    let said = check("recorded", "pjsua_attended_ok", &truth);
    assert!(said.attempts[0].messages.iter().any(|line| line.leg == LegRole::Consultation));
    assert_eq!(said.attempts[0].link.as_ref().unwrap().method, LinkMethod::Replaces);
}

#[test]
fn busy() {
    let truth = [Truth {
        outcome: Outcome::Busy,
        status: Some(486),
        cseq: Some(3841),
        call: "c609c951",
        target: Some("60b2cde0"),
        ..REFER
    }];
    check("recorded", "pjsua_blind_busy486", &truth);
}

#[test]
fn refused() {
    let truth = [Truth {
        outcome: Outcome::ReferRefused,
        status: Some(603),
        cseq: Some(25133),
        call: "37417685",
        ..REFER
    }];
    check("recorded", "asterisk22_refer_declined603", &truth);
}

#[test]
fn redirected() {
    let truth = [Truth {
        method: Method::Redirect,
        outcome: Outcome::Redirected,
        status: Some(302),
        call: "9f8392ee",
        target: Some("9f8392ee"),
        ..REFER
    }];
    let said = check("recorded", "kamailio_302_redirect_followed", &truth);
    assert_eq!(said.attempts[0].target.as_deref(), Some("sip:c@10.77.0.13"));
}

#[test]
fn livekit_refers() {
    let refer = |call, cseq| Truth { call, cseq: Some(cseq), evidence: Evidence::Reported, ..REFER };
    let optimistic = Evidence::ReportedOptimistic;
    check("livekit", "refer_ok_twilio", &[Truth { evidence: optimistic, ..refer("b2e645e6", 2) }]);
    check("livekit", "refer_ok_progress_udp", &[refer("025db3a2", 2)]);
    check("livekit", "refer_ok_tcp_two_conns", &[refer("148945a1", 2)]);
    let busy = Truth { outcome: Outcome::Busy, status: Some(486), ..refer("2b521ce3", 2) };
    check("livekit", "refer_busy", &[busy]);
    let busy = Truth { outcome: Outcome::Busy, status: Some(486), ..refer("039bc0e7", 2) };
    let said = check("livekit", "refer_busy_then_ok", &[busy, refer("039bc0e7", 3)]);
    assert_eq!(said.calls[0].transfers, 2);
    let auth = Truth {
        outcome: Outcome::AuthFailed,
        status: Some(407),
        evidence: Evidence::Confirmed,
        ..refer("7caf32ce", 2)
    };
    check("livekit", "refer_407", &[auth]);
    let silence = Truth {
        outcome: Outcome::Unknown,
        status: Some(202),
        evidence: Evidence::Inferred,
        ..refer("56bf4a07", 2)
    };
    check("livekit", "refer_202_silence_then_bye", &[silence]);
    let unanswered = Truth {
        outcome: Outcome::ReferUnanswered,
        status: None,
        evidence: Evidence::Inferred,
        ..refer("82c38207", 2)
    };
    check("livekit", "refer_unanswered", &[unanswered]);
}

#[test]
fn livekit_second_legs() {
    let truth = Truth {
        outcome: Outcome::Busy,
        status: Some(486),
        call: "139b1a42",
        target: Some("2FhOdcNvuYaLrJWWkMgDHylLvUC"),
        ..INVITE
    };
    let said = check("livekit", "invite_second_leg_486_fast", &[truth]);
    assert_eq!(said.attempts[0].diagnosis[0].code, "suspect_policy");

    let truth = Truth {
        outcome: Outcome::NoAnswer,
        status: Some(487),
        call: "28477901",
        target: Some("kfOukaMepwRcTecnqeXzeUA2pJZD"),
        ..INVITE
    };
    let said = check("livekit", "invite_second_leg_noanswer", &[truth]);
    assert_eq!(said.attempts[0].diagnosis[0].code, "ring_timer");

    let truth = Truth {
        outcome: Outcome::Forbidden,
        status: Some(403),
        call: "36632062",
        target: Some("uU8BQz4j6UaBCRdHCVZCCYJ6bPH"),
        ..INVITE
    };
    let said = check("livekit", "invite_second_leg_403", &[truth]);
    assert_eq!(said.attempts[0].diagnosis[0].code, "ip_acl");

    let truth = Truth { call: "0bedc61d", target: Some("3ve6LanRJ4KuQ3ZwWln3FoDnOgO"), ..INVITE };
    let said = check("livekit", "invite_second_leg_ok", &[truth]);
    assert_eq!(said.attempts[0].answer_ms, Some(2907));
    assert_eq!(said.attempts[0].ringing_ms, Some(403));
}

#[test]
fn an_ordinary_hang_up() {
    let said = check("livekit", "plain_bye_livekit", &[]);
    assert_eq!(said.calls.len(), 1);
    assert_eq!(said.calls[0].ended_by, Some(Side::Callee));
    // It lasted 6 s.
    assert_eq!(said.calls[0].refer_absent, ReferAbsent::No);
}

#[test]
fn nothing_public_is_a_transfer() {
    let mut files: Vec<_> = std::fs::read_dir(captures("public"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "pcap" || kind == "pcapng"))
        .collect();
    files.sort();
    assert!(files.len() >= 11, "{files:?}");
    let mut calls = 0;
    for file in files {
        let said = read(&file);
        assert!(said.attempts.is_empty(), "{}: {:#?}", file.display(), said.attempts);
        assert_eq!(said.alerts, 0, "{}", file.display());
        calls += said.calls.len();
    }
    // Five over TCP, one as two Call-IDs, a 488, the scanner's 401, PRACK, TCP, the proxy's two hops.
    assert_eq!(calls, 12);
}

#[test]
fn every_run_says_the_same() {
    let path = captures("recorded").join("pjsua_attended_ok.pcap");
    let text = |said: Said| format!("{:?}{:?}", said.attempts, said.calls);
    assert_eq!(text(read(&path)), text(read(&path)));
}
