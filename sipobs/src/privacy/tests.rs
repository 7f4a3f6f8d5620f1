use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::sip::{CSeq, Method as SipMethod};
use crate::timestamp::Timestamp;
use crate::transfer::{
    AlertKind, Diagnosis, Evidence, Kind, LadderLine, Leg, Link, Method, Notice, Outcome, Quality,
    ReferAbsent, Seen, Visibility,
};

const KEY: &[u8] = b"correct horse battery staple";

fn masks() -> [Privacy; 3] {
    [Mask::Last4, Mask::Last3, Mask::Hash].map(|mask| Privacy::new(mask, Some(KEY)).unwrap())
}

fn last4(text: &str) -> String {
    Privacy::default().text(text)
}

#[test]
fn users_of_uris() {
    for (uri, masked) in [
        ("sip:+15551234567@10.77.0.11:5060;user=phone", "sip:***4567@10.77.0.11:5060;user=phone"),
        ("sips:%2B15551234567@h", "sips:***4567@h"),
        ("tel:+1-555-123-4567;phone-context=+15550000000", "tel:***4567;phone-context=***0000"),
        ("tel:15551234567", "tel:***4567"),
        ("sip:alice@example.com", "sip:a***@example.com"),
        ("sip:alice:secret@example.com", "sip:a***@example.com"),
        ("sip:bo@h", "sip:***@h"),
        ("sip:agent-1007@h", "sip:a***1007@h"),
        ("sip:1007@h", "sip:1007@h"),
        ("sip:10075@h", "sip:***0075@h"),
        ("sip:anonymous@anonymous.invalid", "sip:anonymous@anonymous.invalid"),
        ("sip:15551234567;phone-context=+1@h;transport=tcp", "sip:***4567@h;transport=tcp"),
        ("sip:h?Replaces=15551234567%40h", "sip:h?***"),
        ("sip:a@b@c", "sip:a***@c"),
        ("SIP:15551234567@H", "SIP:***4567@H"),
        ("<sip:15551234567@h>;tag=1", "<sip:***4567@h>;tag=1"),
        ("sip:10.77.0.11:5060", "sip:10.77.0.11:5060"),
        ("sip:15551234567", "sip:***4567"),
        ("sip:ip-10-0-123-45.ec2.internal", "sip:ip-10-0-123-45.ec2.internal"),
        ("sip:[2001:db8::1]:5060", "sip:[2001:db8::1]:5060"),
        ("im:alice@h", "im:a***@h"),
    ] {
        assert_eq!(last4(uri), masked);
    }
}

#[test]
fn start_lines_and_phrases() {
    for (line, masked) in [
        ("INVITE sip:+15551234567@h;user=phone SIP/2.0", "INVITE sip:***4567@h;user=phone SIP/2.0"),
        ("REFER sip:a@b SIP/2.0 → tel:+15551234567", "REFER sip:***@b SIP/2.0 → tel:***4567"),
        ("SIP/2.0 403 Caller +1 555 123 4567 not allowed", "SIP/2.0 403 Caller ***4567 not allowed"),
        ("SIP/2.0 404 (555) 123-4567 unknown", "SIP/2.0 404 (***4567 unknown"),
        (
            "NOTIFY sip:a@b SIP/2.0 → SIP/2.0 486 Busy Here",
            "NOTIFY sip:***@b SIP/2.0 → SIP/2.0 486 Busy Here",
        ),
        ("User alice@example.com not found", "User a***@example.com not found"),
        (
            "Twilio error 32205 after 30.0 s at 10.77.0.11:5060",
            "Twilio error 32205 after 30.0 s at 10.77.0.11:5060",
        ),
    ] {
        assert_eq!(last4(line), masked);
    }
}

#[test]
fn the_other_masks() {
    let line = "INVITE sip:+15551234567@h SIP/2.0";
    assert_eq!(Privacy::new(Mask::Last3, None).unwrap().text(line), "INVITE sip:***567@h SIP/2.0");
    assert_eq!(Privacy::new(Mask::Full, None).unwrap().text(line), line);
    let hash = Privacy::new(Mask::Hash, Some(KEY)).unwrap();
    let one = hash.text("sip:+15551234567@h");
    // The same number however it is written, another under another key.
    assert_eq!(
        hash.text("tel:+1-555-123-4567").strip_prefix("tel:"),
        one.strip_prefix("sip:").map(|s| &s[..13])
    );
    assert!(is_hashed(&one[4..17]), "{one}");
    let other = Privacy::new(Mask::Hash, Some(b"another key of 16")).unwrap();
    assert_ne!(other.text("sip:+15551234567@h"), one);
    assert_eq!(Privacy::new(Mask::Hash, None).unwrap_err(), PrivacyError::Key);
    assert_eq!(Privacy::new(Mask::Hash, Some(b"short")).unwrap_err(), PrivacyError::Key);
    assert!(!format!("{hash:?}").contains("horse"));
}

#[test]
fn a_call_id_is_whole_but_for_a_partys_number() {
    let mut call = call("1838239481-15551234567@10.0.0.1", &["+15551234567", "alice"]);
    Privacy::default().output(&mut call);
    let Output::Call(call) = call else { panic!("not a call") };
    assert_eq!(call.call_id, "1838239481-***4567@10.0.0.1");
    assert!(call.parties.is_empty());
}

#[test]
fn counts_in_alerts_are_no_numbers() {
    let message = "Trunk t: 31 of 12345678 calls".to_owned();
    let mut output = Output::Alert(Box::new(Alert {
        alert: AlertKind::ReferRatio,
        time: Timestamp::default(),
        trunk: "t".into(),
        numbers: BTreeMap::new(),
        message: message.clone(),
        verdict: None,
        call_id: None,
        parties: vec![],
    }));
    Privacy::default().output(&mut output);
    let Output::Alert(alert) = output else { panic!("not an alert") };
    assert_eq!(alert.message, message);
}

fn call(call_id: &str, parties: &[&str]) -> Output {
    Output::Call(Box::new(Call {
        call_id: call_id.into(),
        started: Timestamp::default(),
        answered: None,
        ended: Timestamp::default(),
        ended_by: None,
        status: None,
        trunk: "other".into(),
        transfers: 0,
        refer_absent: ReferAbsent::No,
        seen: Seen::Both,
        parties: parties.iter().map(|party| (*party).to_owned()).collect(),
    }))
}

/// An attempt with `number` and `user` in every text that may hold one.
fn attempt(number: &str, user: &str, dashed: &str) -> Output {
    let line = |line: String| LadderLine {
        t_ms: 0,
        from: ([10, 0, 0, 1], 5060).into(),
        to: ([10, 0, 0, 2], 5060).into(),
        line,
        frame: 1,
        copies: 1,
        time: Timestamp::default(),
        leg: Leg::Call,
        cseq: CSeq { number: 1, method: SipMethod::Invite },
    };
    Output::Transfer(Box::new(Attempt {
        call_id: Some(format!("{number}-{user}@10.0.0.1")),
        method: Method::Refer,
        kind: Kind::Blind,
        trunk: "other".into(),
        transferor: Some(format!("sip:{user}@example.com;transport=tcp")),
        transferee: Some(format!("sip:+{number};npdi@example.com?x={number}")),
        target: Some(format!("tel:{dashed}")),
        started: Timestamp::default(),
        ended: Timestamp::default(),
        duration_ms: 0,
        outcome: Outcome::Unknown,
        evidence: Evidence::Inferred,
        unknown_because: Some(format!("{number} left")),
        status: Some(404),
        reason: Some(format!("No such number +{number}, or {dashed} ({user}@example.com)")),
        refer_cseq: None,
        target_call_id: Some(format!("x{number}x")),
        link: Some(Link { method: "ambiguous", confidence: 0.5, candidates: vec![format!("{number}@h")] }),
        ringing_ms: None,
        answer_ms: None,
        diagnosis: vec![Diagnosis {
            code: "unknown".into(),
            cause: format!("to sip:{user}@h"),
            check: format!("<sip:{number}@h>"),
            because: format!("The answer was 404 {number}."),
        }],
        visibility: Visibility::default(),
        quality: Quality::default(),
        messages: vec![
            line(format!("INVITE sip:{number}@h;user=phone SIP/2.0")),
            line(format!("REFER sip:{user}:{number}@h SIP/2.0 → <tel:{dashed}>")),
            line(format!("SIP/2.0 404 {number}")),
        ],
        parties: vec![number.to_owned(), user.to_owned()],
    }))
}

proptest! {
    #[test]
    fn no_number_or_name_leaves(number in "[1-9][0-9]{7,14}", user in "[a-z]{5,12}", at in 2_usize..6) {
        let dashed = format!("+{}-{}", &number[..at], &number[at..]);
        for privacy in masks() {
            for mut output in [
                attempt(&number, &user, &dashed),
                call(&format!("{number}@h"), &[&number]),
                Output::Notice(Box::new(Notice {
                    call_id: Some(number.clone()),
                    method: Method::Refer,
                    time: Timestamp::default(),
                    outcome: Outcome::Busy,
                    parties: vec![number.clone()],
                })),
            ] {
                privacy.output(&mut output);
                let json = serde_json::to_string(&output).unwrap();
                for part in number.as_bytes().windows(7) {
                    let part = std::str::from_utf8(part).unwrap();
                    prop_assert!(!json.contains(part), "{} in {}", part, json);
                }
                // In a Call-ID a name stays.
                let but_call_ids = json.replace(&format!("-{user}@10.0.0.1"), "");
                prop_assert!(!but_call_ids.contains(&user), "{} in {}", user, json);
                let once = json;
                privacy.output(&mut output);
                prop_assert_eq!(serde_json::to_string(&output).unwrap(), once);
            }
        }
    }

    /// Whatever a text holds: masking it twice is masking it once, and no long number is left in it.
    #[test]
    fn any_text(text in r"([0-9]{1,9}|[+@:;?<>.*~ -]|sips?:|tel:|[a-zé]{1,4}){0,30}") {
        for privacy in masks() {
            let once = privacy.text(&text);
            prop_assert_eq!(&privacy.text(&once), &once, "{}", text);
            let longest = once.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
            prop_assert!(longest < Some(7), "{} → {}", text, once);
        }
    }
}
