//! Records made by hand, for the sinks' tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::record::{
    Alert, AlertKind, Attempt, Call, Diagnosis, Evidence, Fault, Kind, LadderLine, LegRole, Link, LinkMethod,
    Method, Notice, Outcome, Output, Parties, Quality, RatioVerdict, ReferAbsent, Seen, Side, Visibility,
};
use crate::sip::{self, CSeq};
use crate::timestamp::Timestamp;

const START: Timestamp = Timestamp::from_nanos(1_790_000_000_123_456_000);
const AGENT: &str = "10.78.0.2:5060";
const TRUNK: &str = "10.78.0.1:5060";
const CARRIER: &str = "10.78.0.3:5060";

fn line(t_ms: i64, from: &str, to: &str, leg: LegRole, cseq: (u32, sip::Method), text: &str) -> LadderLine {
    LadderLine {
        transport: crate::stream::TransportKind::Udp,
        t_ms,
        from: from.parse::<SocketAddr>().unwrap(),
        to: to.parse::<SocketAddr>().unwrap(),
        line: text.to_owned(),
        frame: 5,
        file: None,
        copies: 1,
        doubted: false,
        time: START + Duration::from_millis(t_ms.unsigned_abs()),
        leg,
        cseq: CSeq { number: cseq.0, method: cseq.1 },
    }
}

/// A REFER whose target is busy, as reported by NOTIFY.
pub(super) fn busy() -> Attempt {
    let (refer, first, second) =
        ((2, sip::Method::Refer), (1, sip::Method::Notify), (2, sip::Method::Notify));
    Attempt {
        id: "4fe1b20c9a37".into(),
        seq: None,
        call_id: Some("3c26700fdb2e8a1f@10.78.0.1".into()),
        method: Method::Refer,
        kind: Kind::Blind,
        trunk: "twilio".into(),
        transferor: Some("sip:agent@10.78.0.2".into()),
        transferee: Some("sip:+1******4567@10.78.0.1".into()),
        target: Some("tel:+1******8901".into()),
        started: START,
        ended: START + Duration::from_millis(912),
        duration_ms: 912,
        outcome: Outcome::Busy,
        evidence: Evidence::Reported,
        fault: Fault::Target,
        unknown_reason: None,
        unknown_because: None,
        status: Some(486),
        reason: Some("Busy Here".into()),
        refer_cseq: Some(2),
        target_call_id: None,
        followed: None,
        followed_outcome: None,
        link: None,
        ringing_ms: None,
        answer_ms: None,
        provider_ids: BTreeMap::new(),
        target_provider_ids: BTreeMap::new(),
        trace_id: None,
        wire_trace: None,
        evidence_file: None,
        diagnosis: vec![Diagnosis {
            code: "busy".into(),
            cause: "The number called is busy, or its owner rejected the call by hand.".into(),
            check: "The target's own records. Nothing on the path refused the transfer itself.".into(),
            because: "The NOTIFY says 486 Busy Here, 0.9 s after the REFER was accepted.".into(),
            fault: Fault::Target,
            source: Some("RFC 3261 §21.4.24".into()),
            heuristic: false,
        }],
        visibility: Visibility { call: Seen::Both, target: Seen::None },
        quality: Quality::default(),
        messages: vec![
            line(0, AGENT, TRUNK, LegRole::Call, refer, "REFER sip:+1******4567@10.78.0.1 SIP/2.0"),
            line(1, TRUNK, AGENT, LegRole::Call, refer, "SIP/2.0 202 Accepted"),
            line(
                2,
                TRUNK,
                AGENT,
                LegRole::Call,
                first,
                "NOTIFY sip:agent@10.78.0.2 SIP/2.0 → SIP/2.0 100 Trying",
            ),
            line(3, AGENT, TRUNK, LegRole::Call, first, "SIP/2.0 200 success"),
            line(
                910,
                TRUNK,
                AGENT,
                LegRole::Call,
                second,
                "NOTIFY sip:agent@10.78.0.2 SIP/2.0 → SIP/2.0 486 Busy Here",
            ),
            line(912, AGENT, TRUNK, LegRole::Call, second, "SIP/2.0 200 success"),
        ],
        parties: Parties::default(),
        originated: false,
    }
}

/// A second leg that a trunk on another host refuses at once.
pub(super) fn second_leg() -> Attempt {
    let (first, second) = ((1, sip::Method::Invite), (2, sip::Method::Invite));
    let dial = "INVITE sip:+1******8901@example.pstn.twilio.com;transport=udp SIP/2.0";
    Attempt {
        method: Method::Invite,
        ended: START + Duration::from_millis(2_540),
        duration_ms: 2_540,
        outcome: Outcome::Busy,
        evidence: Evidence::Confirmed,
        fault: Fault::Provider,
        target: Some("sip:+1******8901@example.pstn.twilio.com".into()),
        refer_cseq: None,
        target_call_id: Some("SCL_bUrmWbSFVLn3".into()),
        followed: None,
        followed_outcome: None,
        link: Some(Link { method: LinkMethod::HostNumber, confidence: 0.91, candidates: vec![] }),
        answer_ms: Some(402),
        provider_ids: BTreeMap::new(),
        target_provider_ids: BTreeMap::new(),
        trace_id: None,
        wire_trace: None,
        diagnosis: vec![
            Diagnosis {
                code: "suspect_policy".into(),
                cause:
                    "The trunk refused by policy: geographic permission or throttling. The line is probably \
                        not busy."
                        .into(),
                check: "The provider's log for this call, and its Voice Geo Permissions.".into(),
                because: "486 came 0.4 s after the last INVITE, and nothing rang.".into(),
                fault: Fault::Provider,
                source: None,
                heuristic: false,
            },
            Diagnosis {
                code: "busy".into(),
                cause: "The number called is really busy.".into(),
                check: "Call it by hand.".into(),
                because: "486 Busy Here.".into(),
                fault: Fault::Target,
                source: None,
                heuristic: false,
            },
        ],
        visibility: Visibility { call: Seen::Both, target: Seen::Both },
        quality: Quality { ring_lost: 3, midcall: true, ..Quality::default() },
        messages: vec![
            line(0, AGENT, CARRIER, LegRole::Target, first, dial),
            line(20, CARRIER, AGENT, LegRole::Target, first, "SIP/2.0 407 Proxy Authentication Required"),
            line(21, AGENT, CARRIER, LegRole::Target, (1, sip::Method::Ack), "ACK sip:x@y SIP/2.0"),
            line(30, AGENT, CARRIER, LegRole::Target, second, dial),
            line(80, CARRIER, AGENT, LegRole::Target, second, "SIP/2.0 100 Trying"),
            line(432, CARRIER, AGENT, LegRole::Target, second, "SIP/2.0 486 Busy Here"),
            line(
                2_540,
                TRUNK,
                AGENT,
                LegRole::Call,
                (3, sip::Method::Bye),
                "BYE sip:agent@10.78.0.2 SIP/2.0",
            ),
        ],
        ..busy()
    }
}

/// A REFER that worked.
pub(super) fn succeeded() -> Attempt {
    Attempt {
        outcome: Outcome::Succeeded,
        fault: Fault::Nobody,
        status: Some(200),
        reason: Some("OK".into()),
        answer_ms: Some(2_913),
        provider_ids: BTreeMap::new(),
        target_provider_ids: BTreeMap::new(),
        trace_id: None,
        wire_trace: None,
        diagnosis: vec![],
        ..busy()
    }
}

/// An early notice.
pub(super) fn notice() -> Output {
    Output::Notice(Box::new(Notice {
        id: "4fe1b20c9a37".into(),
        call_id: busy().call_id,
        method: Method::Refer,
        time: START,
        outcome: Outcome::Busy,
        evidence: Evidence::Reported,
        decided: true,
        status: Some(486),
        fault: Some(Fault::Nobody),
        cause: Some("busy".into()),
        trace_id: None,
        withdrawn: false,
        parties: Parties::default(),
    }))
}

/// An ended call in which no transfer was tried.
pub(super) fn call() -> Output {
    Output::Call(Box::new(Call {
        call_id: "3c26700fdb2e8a1f@10.78.0.1".into(),
        started: START,
        answered: Some(START + Duration::from_secs(2)),
        ended: START + Duration::from_secs(43),
        ended_by: Some(Side::Caller),
        status: Some(200),
        trunk: "twilio".into(),
        transfers: 0,
        trace_id: None,
        evidence_file: None,
        refer_absent: ReferAbsent::Fact { invite_unknown: false },
        in_transfer: false,
        seen: Seen::Both,
        hosts: [[10, 78, 0, 1].into(), [10, 78, 0, 2].into()],
        parties: Parties::default(),
    }))
}

/// The alert that matters.
pub(super) fn alert() -> Output {
    Output::Alert(Box::new(Alert {
        alert: AlertKind::ReferRatio,
        time: START,
        trunk: "twilio".into(),
        numbers: BTreeMap::from([("baseline", 0.2), ("calls", 31.0)]),
        message:
            "31 answered calls in a row ended without a REFER on trunk twilio, where one call in 5 used to \
                  be transferred."
                .into(),
        verdict: Some(RatioVerdict::AttemptsVanished),
        trace_id: None,
        call_id: None,
        parties: Parties::default(),
    }))
}
