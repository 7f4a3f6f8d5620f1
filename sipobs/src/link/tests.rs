//! Small cases, one tie each. What many legs at once come to is in `calibration`.

use std::time::Duration;

use super::harness::{Ends, Harness};
use super::*;
use crate::record::{LinkMethod, Side};

const TRUNK: u8 = 1;
const PLATFORM: u8 = 2;
const TERMINATION: u8 = 3;
const OWN: &str = "+15105550100";
const TARGET: &str = "+15105550177";

/// A linker with numbered legs; times in seconds.
struct Case {
    harness: Harness,
    next: u64,
}

impl Case {
    fn new() -> Self {
        Self { harness: Harness::new(LinkConfig::default()), next: 0 }
    }

    /// An answered call from the trunk.
    fn call(&mut self, at: f64, caller: &str) -> LegId {
        let call = self.start(at, TRUNK, PLATFORM, caller, OWN, "");
        assert!(!self.harness.could_be_second_leg(call));
        self.answered(call, at + 0.1);
        call
    }

    /// A leg as LiveKit places it: the platform's number, and nothing else.
    fn leg(&mut self, at: f64) -> LegId {
        self.start(at, PLATFORM, TERMINATION, OWN, TARGET, "")
    }

    fn start(&mut self, at: f64, from_host: u8, to_host: u8, from: &str, to: &str, headers: &str) -> LegId {
        self.next += 1;
        let ends = Ends { hosts: (from_host, to_host), from: from.to_owned(), to: to.to_owned() };
        self.harness.invite(moment(at), &format!("leg{}", self.next), &ends, headers)
    }

    fn answered(&mut self, leg: LegId, at: f64) {
        self.harness.answered(leg, moment(at));
    }

    fn failed(&mut self, leg: LegId, at: f64, status: u16) {
        self.harness.failed(leg, moment(at), Some(status));
    }

    fn ended(&mut self, leg: LegId, at: f64, side: Side) {
        self.harness.ended(leg, moment(at), side);
    }

    fn decide(&mut self, leg: LegId, at: f64) -> Decision {
        self.harness.decide(leg, moment(at))
    }

    /// The verdict as it stands, as method, call and confidence.
    fn linked(&mut self, leg: LegId, at: f64) -> Option<(&'static str, LegId, f64)> {
        match self.decide(leg, at) {
            Decision::Linked { call, link, .. } => Some((link.method.as_str(), call, link.confidence)),
            Decision::NotYet { .. } | Decision::No | Decision::Ambiguous { .. } => None,
        }
    }

    fn is_open(&mut self, leg: LegId, at: f64) -> bool {
        matches!(self.decide(leg, at), Decision::NotYet { .. })
    }
}

fn moment(seconds: f64) -> Timestamp {
    Timestamp::default() + Duration::from_secs_f64(1000.0 + seconds)
}

#[test]
fn among_hundreds_of_calls_a_leg_is_still_a_second_leg() {
    let mut case = Case::new();
    for n in 0..400 {
        case.call(f64::from(n) * 0.01, &format!("+1555020{n:04}"));
    }
    let leg = case.leg(30.0);
    case.answered(leg, 34.0);
    let decision = case.decide(leg, 214.0);
    let Decision::Ambiguous { link, .. } = decision else { panic!("{decision:?}") };
    assert_eq!((link.confidence, link.candidates.len()), (0.0, 8));
}

#[test]
fn the_only_call_owns_a_failed_leg_at_once() {
    let mut case = Case::new();
    let call = case.call(0.0, "+14155550138");
    let leg = case.leg(5.0);
    assert!(case.harness.could_be_second_leg(leg) && case.is_open(leg, 5.2));
    case.failed(leg, 5.3, 486);
    let (method, found, confidence) = case.linked(leg, 5.3).unwrap();
    assert_eq!((method, found), ("host_number", call));
    assert!(confidence >= 0.9, "{confidence}");
}

#[test]
fn a_caller_may_give_up_at_a_round_moment() {
    let mut case = Case::new();
    let call = case.call(0.0, "+14155550138");
    let leg = case.leg(5.0);
    case.ended(call, 14.46, Side::Caller);
    // 10 s after the INVITE, as a ring timer would, and half a second after the caller's BYE.
    case.failed(leg, 15.0, 487);
    let (method, linked, confidence) = case.linked(leg, 22.1).unwrap();
    assert_eq!((method, linked), ("host_number", call));
    assert!(confidence >= 0.9, "{confidence}");
}

#[test]
fn of_two_calls_the_one_that_ends_with_the_leg_owns_it() {
    let mut case = Case::new();
    let (first, second) = (case.call(0.0, "+14155550138"), case.call(1.0, "+14155550139"));
    let leg = case.leg(10.0);
    case.answered(leg, 14.0);
    assert!(case.is_open(leg, 20.0));
    case.ended(second, 50.0, Side::Caller);
    case.ended(leg, 50.5, Side::Caller);
    assert!(case.is_open(leg, 51.0));
    let (method, found, confidence) = case.linked(leg, 58.0).unwrap();
    assert_eq!((method, found), ("host_number_time", second));
    assert!(confidence >= 0.6, "{confidence}");
    assert_ne!(found, first);
}

#[test]
fn of_two_calls_that_go_on_neither_is_named() {
    let mut case = Case::new();
    case.call(0.0, "+14155550138");
    case.call(1.0, "+14155550139");
    let leg = case.leg(10.0);
    case.failed(leg, 10.4, 486);
    assert!(case.is_open(leg, 11.0));
    let Decision::Ambiguous { link, .. } = case.decide(leg, 18.0) else { panic!("a guess") };
    assert_eq!(link.method, LinkMethod::Ambiguous);
    assert_eq!(link.candidates.len(), 2);
}

#[test]
fn one_call_never_gets_two_legs_at_once() {
    let mut case = Case::new();
    let call = case.call(0.0, "+14155550138");
    let show_caller =
        |at: f64, case: &mut Case| case.start(at, PLATFORM, TERMINATION, "+14155550138", TARGET, "");
    let (first, second) = (show_caller(5.0, &mut case), show_caller(6.0, &mut case));
    case.answered(first, 8.0);
    assert_eq!(case.linked(first, 8.0).unwrap().1, call);
    case.failed(second, 9.0, 486);
    assert_eq!(case.linked(second, 17.0), None);
    // But one after the other.
    case.ended(first, 20.0, Side::Callee);
    let third = show_caller(22.0, &mut case);
    case.failed(third, 23.0, 486);
    assert_eq!(case.linked(third, 31.0).unwrap().1, call);
}

#[test]
fn outbound_calls_from_the_number_raise_doubt() {
    let mut case = Case::new();
    let call = case.call(0.0, "+14155550138");
    case.ended(call, 60.0, Side::Caller);
    case.harness.forget(call);
    for n in 0..4 {
        let outbound = case.leg(100.0 + 20.0 * f64::from(n));
        assert!(!case.harness.could_be_second_leg(outbound));
    }
    case.call(200.0, "+14155550139");
    let leg = case.leg(210.0);
    case.failed(leg, 211.0, 486);
    assert_eq!(case.linked(leg, 250.0), None);
}

#[test]
fn a_leg_placed_before_the_answer_is_a_forwarded_call() {
    let mut case = Case::new();
    let call = case.start(0.0, TRUNK, PLATFORM, "+14155550138", OWN, "");
    let leg = case.leg(0.1);
    case.answered(leg, 2.0);
    case.answered(call, 2.1);
    assert!(!case.harness.could_be_second_leg(leg));
    assert_eq!(case.decide(leg, 3.0), Decision::No);
}

#[test]
fn other_hosts_and_other_numbers_are_other_calls() {
    let mut case = Case::new();
    case.call(0.0, "+14155550138");
    let elsewhere = case.start(5.0, 9, TERMINATION, OWN, TARGET, "");
    let otherwise = case.start(5.0, PLATFORM, TERMINATION, "+15105550111", TARGET, "");
    let inbound = case.start(5.0, TRUNK, PLATFORM, "+14155550138", OWN, "");
    for leg in [elsewhere, otherwise, inbound] {
        assert!(!case.harness.could_be_second_leg(leg));
    }
}

#[test]
fn the_callers_number_picks_the_call_but_anonymous_does_not() {
    let mut case = Case::new();
    case.call(0.0, "anonymous");
    let call = case.call(1.0, "+1 (415) 555-0138");
    case.call(2.0, "anonymous");
    let leg = case.start(10.0, PLATFORM, TERMINATION, "4155550138", TARGET, "");
    case.failed(leg, 11.0, 486);
    let (method, found, confidence) = case.linked(leg, 11.0).unwrap();
    assert_eq!((method, found), ("caller", call));
    assert!(confidence > 0.95);
    let nobody = case.start(12.0, PLATFORM, TERMINATION, "anonymous", TARGET, "");
    assert!(!case.harness.could_be_second_leg(nobody));
}

#[test]
fn an_identifier_settles_it_from_any_host() {
    let uuid = "a".repeat(32);
    let session = |remote: &str| format!("Session-ID: {uuid};remote={}\r\n", remote.repeat(32));
    let named = "leg2;to-tag=tleg2;from-tag=fleg2";
    for (name, header) in [
        ("replaces", format!("Replaces: {named}\r\n")),
        ("join", format!("Join: {named}\r\n")),
        ("target_dialog", "Target-Dialog: leg2;local-tag=1;remote-tag=2\r\n".to_owned()),
        ("session_id", session("0")),
        ("header", "X-CID: leg2\r\n".to_owned()),
    ] {
        let mut case = Case::new();
        case.call(0.0, "+14155550138");
        let call = case.call(1.0, "+14155550139");
        case.harness.says(call, moment(2.0), &session("b"));
        let leg = case.start(10.0, 9, TERMINATION, "+4930123456", TARGET, &header);
        // Before that it is the word of a host of which nothing is known.
        case.answered(leg, 10.0);
        let (method, found, confidence) = case.linked(leg, 10.0).unwrap();
        assert_eq!((method, found), (name, call));
        assert!(confidence >= 0.98, "{name}");
    }
}

#[test]
fn a_refer_asks_for_the_leg_that_calls_its_target() {
    let mut case = Case::new();
    let (other, call) = (case.call(0.0, "+14155550138"), case.call(1.0, "+14155550139"));
    case.harness.refer(other, moment(9.0), 2, "+15105550166", None);
    case.harness.refer(call, moment(9.5), 2, TARGET, None);
    case.harness.refer(call, moment(9.8), 3, TARGET, None);
    // The trunk that got the REFER dials; the call may be gone by then.
    case.ended(call, 10.0, Side::Callee);
    let leg = case.start(10.5, TRUNK, 7, "+14155550139", TARGET, "");
    let decision = case.decide(leg, 10.5);
    let Decision::Linked { call: found, refer: Some(3), link } = decision else { panic!("{decision:?}") };
    assert_eq!((found, link.method), (call, LinkMethod::ReferTo));
    let late = case.start(25.0, TRUNK, 7, "+14155550139", TARGET, "");
    assert!(!case.harness.could_be_second_leg(late));
}

#[test]
fn the_replaces_of_a_refer_points_to_the_refers_own_call() {
    // b consults c, then refers c to a, to replace a's call with b: the REFER is in the consultation.
    let mut case = Case::new();
    let first = case.call(0.0, "a");
    let consultation = case.call(5.0, "c");
    case.harness.refer(consultation, moment(10.0), 7, "a", Some("leg1"));
    let replaces = "Replaces: leg1;to-tag=1;from-tag=2\r\n";
    let leg = case.start(10.1, 5, 6, "c", "a", replaces);
    case.answered(leg, 10.1);
    let decision = case.decide(leg, 10.1);
    let Decision::Linked { call, refer: Some(7), link } = decision else { panic!("{decision:?}") };
    assert_eq!((call, link.method), (consultation, LinkMethod::Replaces));
    assert_ne!(call, first);
}

#[test]
fn consultations_raise_no_doubt_about_second_legs() {
    let mut case = Case::new();
    for round in 0..30 {
        let at = 60.0 * f64::from(round);
        let call = case.call(at, "+14155550138");
        let consultation = case.leg(at + 6.0);
        case.answered(consultation, at + 6.1);
        let named = format!("leg{}", case.next);
        case.harness.refer(call, moment(at + 12.0), 1, TARGET, Some(&named));
        let replaces = format!("Replaces: {named};to-tag=1;from-tag=2\r\n");
        let handed = case.start(at + 12.01, TRUNK, TERMINATION, "+14155550138", TARGET, &replaces);
        case.answered(handed, at + 12.02);
        assert_eq!(case.linked(handed, at + 12.02).map(|(_, linked, _)| linked), Some(call));
        case.ended(consultation, at + 12.03, Side::Callee);
        case.ended(call, at + 12.5, Side::Callee);
        let _ = case.decide(consultation, at + 20.0);
        case.ended(handed, at + 40.0, Side::Callee);
    }
    let call = case.call(3000.0, "+14155550199");
    let leg = case.leg(3005.0);
    case.failed(leg, 3005.3, 486);
    let (method, linked, confidence) = case.linked(leg, 3005.3).unwrap();
    assert_eq!((method, linked), ("host_number", call));
    assert!(confidence > 0.9, "{confidence}");
}

#[test]
fn forgotten_legs_leave_nothing_behind() {
    let mut case = Case::new();
    for round in 0..50 {
        let start = f64::from(round) * 20.0;
        let call = case.call(start, "+14155550138");
        let leg = case.leg(start + 1.0);
        case.failed(leg, start + 2.0, 486);
        case.decide(leg, start + 10.0);
        case.ended(call, start + 10.0, Side::Caller);
        case.harness.forget(leg);
        case.harness.forget(call);
    }
    case.leg(10_000.0);
    let Harness { legs, links, .. } = &case.harness;
    assert_eq!((legs.len(), links.seconds.len(), links.over.len(), links.pins.len()), (1, 0, 0, 0));
}

#[test]
fn calls_that_share_a_number_each_keep_their_second_legs() {
    let mut case = Case::new();
    let calls: Vec<_> =
        (0..5_000).map(|n| case.call(f64::from(n) * 0.001, &format!("+1415{n:07}"))).collect();
    let legs: Vec<_> = (0..5_000).map(|n| case.leg(10.0 + f64::from(n) * 0.001)).collect();
    for leg in &legs {
        case.failed(*leg, 20.0, 486);
    }
    let told = legs.iter().filter(|leg| !matches!(case.decide(**leg, 30.0), Decision::No)).count();
    assert_eq!((calls.len(), told), (5_000, 5_000));
}
