//! Small cases, one tie each. What many legs at once come to is in `calibration`.

use super::*;

const TRUNK: u8 = 1;
const PLATFORM: u8 = 2;
const TERMINATION: u8 = 3;
const GONE: Duration = Duration::from_secs(35);
const OWN: &str = "+15105550100";
const TARGET: &str = "+15105550177";

/// A linker with numbered legs; times in seconds.
struct Case {
    links: Links,
    next: u64,
}

impl Case {
    fn new() -> Self {
        Self { links: Links::new(LinkConfig::default(), GONE), next: 0 }
    }

    /// An answered call from the trunk.
    fn call(&mut self, at: f64, caller: &str) -> LegId {
        let call = self.start(at, TRUNK, PLATFORM, caller, OWN, |_| ());
        assert!(!self.links.could_be_second_leg(call));
        self.links.answered(call, moment(at + 0.1), None);
        call
    }

    /// A leg as LiveKit places it: the platform's number, and nothing else.
    fn leg(&mut self, at: f64) -> LegId {
        self.start(at, PLATFORM, TERMINATION, OWN, TARGET, |_| ())
    }

    fn start(
        &mut self,
        at: f64,
        from_host: u8,
        to_host: u8,
        from: &str,
        to: &str,
        more: impl Fn(&mut LegFacts),
    ) -> LegId {
        self.next += 1;
        let mut facts = LegFacts {
            id: LegId(self.next),
            call_id: format!("leg{}", self.next),
            invited: moment(at),
            caller_host: host(from_host),
            callee_host: host(to_host),
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            request: Some(to.to_owned()),
            asserted: Vec::new(),
            diverted: Vec::new(),
            referred_by: None,
            replaces: None,
            join: None,
            target_dialog: None,
            session_id: None,
            keys: Vec::new(),
            media: None,
        };
        more(&mut facts);
        self.links.started(facts);
        LegId(self.next)
    }

    /// The verdict as it stands, as method, call and confidence.
    fn linked(&mut self, leg: LegId, at: f64) -> Option<(&'static str, LegId, f64)> {
        match self.links.decide(leg, moment(at)) {
            Decision::Linked { call, link, .. } => Some((link.method, call, link.confidence)),
            _ => None,
        }
    }

    fn is_open(&mut self, leg: LegId, at: f64) -> bool {
        matches!(self.links.decide(leg, moment(at)), Decision::NotYet { .. })
    }
}

fn host(n: u8) -> IpAddr {
    IpAddr::from([10, 78, 0, n])
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
    case.links.answered(leg, moment(34.0), None);
    let decision = case.links.decide(leg, moment(214.0));
    let Decision::Ambiguous { link, .. } = decision else { panic!("{decision:?}") };
    assert_eq!((link.confidence, link.candidates.len()), (0.0, 8));
}

#[test]
fn the_only_call_owns_a_failed_leg_at_once() {
    let mut case = Case::new();
    let call = case.call(0.0, "+14155550138");
    let leg = case.leg(5.0);
    assert!(case.links.could_be_second_leg(leg) && case.is_open(leg, 5.2));
    case.links.failed(leg, moment(5.3), Some(486));
    let (method, found, confidence) = case.linked(leg, 5.3).unwrap();
    assert_eq!((method, found), ("host_number", call));
    assert!(confidence >= 0.9, "{confidence}");
}

#[test]
fn a_caller_may_give_up_at_a_round_moment() {
    let mut case = Case::new();
    let call = case.call(0.0, "+14155550138");
    let leg = case.leg(5.0);
    case.links.ended(call, moment(14.46), Side::Caller);
    // 10 s after the INVITE, as a ring timer would, and half a second after the caller's BYE.
    case.links.failed(leg, moment(15.0), Some(487));
    let (method, linked, confidence) = case.linked(leg, 22.1).unwrap();
    assert_eq!((method, linked), ("host_number", call));
    assert!(confidence >= 0.9, "{confidence}");
}

#[test]
fn of_two_calls_the_one_that_ends_with_the_leg_owns_it() {
    let mut case = Case::new();
    let (first, second) = (case.call(0.0, "+14155550138"), case.call(1.0, "+14155550139"));
    let leg = case.leg(10.0);
    case.links.answered(leg, moment(14.0), None);
    assert!(case.is_open(leg, 20.0));
    case.links.ended(second, moment(50.0), Side::Caller);
    case.links.ended(leg, moment(50.5), Side::Caller);
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
    case.links.failed(leg, moment(10.4), Some(486));
    assert!(case.is_open(leg, 11.0));
    let Decision::Ambiguous { link, .. } = case.links.decide(leg, moment(18.0)) else { panic!("a guess") };
    assert_eq!(link.method, "ambiguous");
    assert_eq!(link.candidates.len(), 2);
}

#[test]
fn one_call_never_gets_two_legs_at_once() {
    let mut case = Case::new();
    let call = case.call(0.0, "+14155550138");
    let show_caller =
        |at: f64, case: &mut Case| case.start(at, PLATFORM, TERMINATION, "+14155550138", TARGET, |_| ());
    let (first, second) = (show_caller(5.0, &mut case), show_caller(6.0, &mut case));
    case.links.answered(first, moment(8.0), None);
    assert_eq!(case.linked(first, 8.0).unwrap().1, call);
    case.links.failed(second, moment(9.0), Some(486));
    assert_eq!(case.linked(second, 17.0), None);
    // But one after the other.
    case.links.ended(first, moment(20.0), Side::Callee);
    let third = show_caller(22.0, &mut case);
    case.links.failed(third, moment(23.0), Some(486));
    assert_eq!(case.linked(third, 31.0).unwrap().1, call);
}

#[test]
fn outbound_calls_from_the_number_raise_doubt() {
    let mut case = Case::new();
    let call = case.call(0.0, "+14155550138");
    case.links.ended(call, moment(60.0), Side::Caller);
    case.links.forget(call);
    for n in 0..4 {
        let outbound = case.leg(100.0 + 20.0 * f64::from(n));
        assert!(!case.links.could_be_second_leg(outbound));
    }
    case.call(200.0, "+14155550139");
    let leg = case.leg(210.0);
    case.links.failed(leg, moment(211.0), Some(486));
    assert_eq!(case.linked(leg, 250.0), None);
}

#[test]
fn a_leg_placed_before_the_answer_is_a_forwarded_call() {
    let mut case = Case::new();
    let call = case.start(0.0, TRUNK, PLATFORM, "+14155550138", OWN, |_| ());
    let leg = case.leg(0.1);
    case.links.answered(leg, moment(2.0), None);
    case.links.answered(call, moment(2.1), None);
    assert!(!case.links.could_be_second_leg(leg));
    assert_eq!(case.links.decide(leg, moment(3.0)), Decision::No);
}

#[test]
fn other_hosts_and_other_numbers_are_other_calls() {
    let mut case = Case::new();
    case.call(0.0, "+14155550138");
    let elsewhere = case.start(5.0, 9, TERMINATION, OWN, TARGET, |_| ());
    let otherwise = case.start(5.0, PLATFORM, TERMINATION, "+15105550111", TARGET, |_| ());
    let inbound = case.start(5.0, TRUNK, PLATFORM, "+14155550138", OWN, |_| ());
    for leg in [elsewhere, otherwise, inbound] {
        assert!(!case.links.could_be_second_leg(leg));
    }
}

#[test]
fn the_callers_number_picks_the_call_but_anonymous_does_not() {
    let mut case = Case::new();
    case.call(0.0, "anonymous");
    let call = case.call(1.0, "+1 (415) 555-0138");
    case.call(2.0, "anonymous");
    let leg = case.start(10.0, PLATFORM, TERMINATION, "4155550138", TARGET, |_| ());
    case.links.failed(leg, moment(11.0), Some(486));
    let (method, found, confidence) = case.linked(leg, 11.0).unwrap();
    assert_eq!((method, found), ("caller", call));
    assert!(confidence > 0.95);
    let nobody = case.start(12.0, PLATFORM, TERMINATION, "anonymous", TARGET, |_| ());
    assert!(!case.links.could_be_second_leg(nobody));
}

#[test]
fn an_identifier_settles_it_from_any_host() {
    let uuid = "a".repeat(32);
    let value = move |remote: &str| format!("{uuid};remote={}", remote.repeat(32));
    let tie = |name: &str, facts: &mut LegFacts| match name {
        "replaces" => facts.replaces = Some("leg2".to_owned()),
        "join" => facts.join = Some("leg2".to_owned()),
        "target_dialog" => facts.target_dialog = Some("leg2".to_owned()),
        "session_id" => facts.session_id = Some(value("0")),
        _ => facts.keys.push((0, "leg2".to_owned())),
    };
    for name in ["replaces", "join", "target_dialog", "session_id", "header"] {
        let mut case = Case::new();
        case.call(0.0, "+14155550138");
        let call = case.call(1.0, "+14155550139");
        case.links.session_id(call, &value("b"));
        let leg = case.start(10.0, 9, TERMINATION, "+4930123456", TARGET, |facts| tie(name, facts));
        let (method, found, confidence) = case.linked(leg, 10.0).unwrap();
        assert_eq!((method, found), (name, call));
        assert!(confidence >= 0.98, "{name}");
    }
}

#[test]
fn a_refer_asks_for_the_leg_that_calls_its_target() {
    let mut case = Case::new();
    let refer = |cseq, target: &str| ReferFacts {
        cseq,
        target: Some(target.to_owned()),
        replaces: None,
        referred_by: None,
    };
    let (other, call) = (case.call(0.0, "+14155550138"), case.call(1.0, "+14155550139"));
    case.links.refer_sent(other, moment(9.0), refer(2, "+15105550166"));
    case.links.refer_sent(call, moment(9.5), refer(2, TARGET));
    case.links.refer_sent(call, moment(9.8), refer(3, TARGET));
    // The trunk that got the REFER dials; the call may be gone by then.
    case.links.ended(call, moment(10.0), Side::Callee);
    let leg = case.start(10.5, TRUNK, 7, "+14155550139", TARGET, |_| ());
    let decision = case.links.decide(leg, moment(10.5));
    let Decision::Linked { call: found, refer: Some(3), link } = decision else { panic!("{decision:?}") };
    assert_eq!((found, link.method), (call, "refer_to"));
    let late = case.start(25.0, TRUNK, 7, "+14155550139", TARGET, |_| ());
    assert!(!case.links.could_be_second_leg(late));
}

#[test]
fn the_replaces_of_a_refer_points_to_the_refers_own_call() {
    // b consults c, then refers c to a, to replace a's call with b: the REFER is in the consultation.
    let mut case = Case::new();
    let first = case.call(0.0, "a");
    let consultation = case.call(5.0, "c");
    let replaces = Some("leg1".to_owned());
    let refer = ReferFacts { cseq: 7, target: Some("a".to_owned()), replaces, referred_by: None };
    case.links.refer_sent(consultation, moment(10.0), refer);
    let leg = case.start(10.1, 5, 6, "c", "a", |facts| facts.replaces = Some("leg1".to_owned()));
    let decision = case.links.decide(leg, moment(10.1));
    let Decision::Linked { call, refer: Some(7), link } = decision else { panic!("{decision:?}") };
    assert_eq!((call, link.method), (consultation, "replaces"));
    assert_ne!(call, first);
}

#[test]
fn consultations_raise_no_doubt_about_second_legs() {
    let mut case = Case::new();
    for round in 0..30 {
        let at = 60.0 * f64::from(round);
        let call = case.call(at, "+14155550138");
        let consultation = case.leg(at + 6.0);
        case.links.answered(consultation, moment(at + 6.1), None);
        let replaces = Some(format!("leg{}", consultation.0));
        let refer = ReferFacts {
            cseq: 1,
            target: Some(TARGET.to_owned()),
            replaces: replaces.clone(),
            referred_by: None,
        };
        case.links.refer_sent(call, moment(at + 12.0), refer);
        let handed = case.start(at + 12.01, TRUNK, TERMINATION, "+14155550138", TARGET, |facts| {
            facts.replaces.clone_from(&replaces);
        });
        case.links.answered(handed, moment(at + 12.02), None);
        assert_eq!(case.linked(handed, at + 12.02).map(|(_, linked, _)| linked), Some(call));
        case.links.ended(consultation, moment(at + 12.03), Side::Callee);
        case.links.ended(call, moment(at + 12.5), Side::Callee);
        let _ = case.links.decide(consultation, moment(at + 20.0));
        case.links.ended(handed, moment(at + 40.0), Side::Callee);
    }
    let call = case.call(3000.0, "+14155550199");
    let leg = case.leg(3005.0);
    case.links.failed(leg, moment(3005.3), Some(486));
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
        case.links.failed(leg, moment(start + 2.0), Some(486));
        case.links.decide(leg, moment(start + 10.0));
        case.links.ended(call, moment(start + 10.0), Side::Caller);
        case.links.forget(leg);
        case.links.forget(call);
    }
    case.leg(10_000.0);
    assert_eq!(case.links.legs.len(), 1);
    assert_eq!((case.links.timers.len(), case.links.over.len(), case.links.pending), (0, 0, 0));
}

#[test]
fn a_flood_of_invites_does_not_push_out_answered_calls() {
    let mut case = Case::new();
    case.links.config.max_legs = 100;
    let call = case.call(0.0, "+14155550138");
    for n in 0..1000 {
        case.start(1.0 + f64::from(n) * 0.001, 66, PLATFORM, "+1", OWN, |_| ());
    }
    assert_eq!(case.links.counts().evicted, 901);
    let leg = case.leg(5.0);
    case.links.failed(leg, moment(5.3), Some(486));
    assert_eq!(case.linked(leg, 5.3).unwrap().1, call);
}

#[test]
fn a_flood_of_one_sided_dialogs_does_not_push_out_answered_calls() {
    let mut case = Case::new();
    case.links.config.max_legs = 100;
    let call = case.call(0.0, "+14155550138");
    for n in 0..1000 {
        let now = 1.0 + f64::from(n) * 0.001;
        let forged = case.start(now, 66, PLATFORM, "+1", OWN, |_| ());
        case.links.up(forged, moment(now), None);
        case.links.ended(forged, moment(now), Side::Caller);
        if n % 2 == 0 {
            case.links.forget(forged);
            assert!(!case.links.legs.contains_key(&forged), "nobody confirmed it, so nobody needs it");
        }
    }
    assert_eq!(case.links.counts().evicted, 401);
    let leg = case.leg(5.0);
    case.links.failed(leg, moment(5.3), Some(486));
    assert_eq!(case.linked(leg, 5.3).unwrap().1, call);
}
