use std::collections::BTreeMap;

use super::*;
use crate::record::{
    AlertKind, Diagnosis, Evidence, Fault, Kind, LadderLine, LegRole, Link, LinkMethod, Method, Notice,
    Outcome, Parties, Quality, ReferAbsent, Seen, UnknownReason, Visibility,
};
use crate::sip::{CSeq, Method as SipMethod};
use crate::timestamp::Timestamp;
use crate::work::measure;

mod property;

const KEY: &[u8] = b"correct horse battery staple";

fn masks() -> [Privacy; 3] {
    [Mask::Last4, Mask::Last3, Mask::Hash].map(|mask| Privacy::new(mask, Some(KEY)).unwrap())
}

fn parties(users: &[&str]) -> Parties {
    users.iter().copied().collect()
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
        // A scheme too many, none at all, and a dot, which some dial: what is wrong is seen.
        ("sip:tel:+15551234567@h", "sip:tel:***4567@h"),
        ("sip:tel:+15551234567", "sip:tel:***4567"),
        ("sip:sip:15551234567@h", "sip:sip:***4567@h"),
        ("sip:tel:secret@h", "sip:t***@h"),
        ("+15551234567", "***4567"),
        ("sip:+1555.123.4567@h", "sip:***.***.***4567@h"),
        ("tel:1555123456.7", "tel:***.***7"),
        ("sip:***.secret@h", "sip:***@h"),
        ("https://bob:hunter2@pbx.example/x", "https://b***@pbx.example/x"),
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
        // Cut before the at sign that may have been there.
        ("sip:zebedee:hunter2…", "sip:z***"),
        ("REFER sip:zebedee…", "REFER sip:z***"),
        ("sip:1555123…", "sip:***"),
        // A fold, which is a blank by now.
        ("sip:alice @h", "sip:a*** @h"),
        ("<sip:15551234567  @h;x=y>", "<sip:***4567  @h;x=y>"),
        ("sip:h1 alice@h2", "sip:h1 a***@h2"),
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

/// `text` with the numbers of one party in it, as the outputs' sentences are masked.
fn sentence(text: &str, party: &str) -> String {
    Privacy::default().sentence(text, &Known::of(&parties(&[party]), &[])).into_owned()
}

fn answered(status: &str) -> Known {
    let mut known = Known::default();
    known.status = Some(status.to_owned());
    known
}

#[test]
fn numbers_however_they_are_written() {
    for number in [
        "5551234567",
        "555 123 4567",
        "555 1234567",
        "555-123-4567",
        "555.123.4567",
        "555/123/4567",
        "555_123_4567",
        "555 / 123 - 4567",
        "555+123+4567",
        "[555] 123-4567",
        "555\u{a0}123\u{a0}4567",
        "555\u{2007}123\u{2009}4567",
        "555\u{202f}123\u{3000}4567",
        "555\u{2010}123\u{2011}4567",
        "555\u{2012}123\u{2013}4567",
        "555\u{2014}123\u{2015}4567",
        "555\u{2212}123\u{2212}4567",
        "555\u{b7}123\u{2022}4567",
        "555\u{200b}123\u{ad}4567",
        "555%20123%204567",
        "555%2D123%2d4567",
        "%28555%29%20123%2D4567",
        "555%C2%A0123%E2%80%914567",
        "%35%35%35%31%32%33%34%35%36%37",
        "５５５１２３４５６７",
        "（５５５）１２３－４５６７",
        "٥٥٥ ١٢٣ ٤٥٦٧",
        "۵۵۵۱۲۳۴۵۶۷",
        "५५५१२३४५६७",
        "5 5 5 1 2 3 4 5 6 7",
    ] {
        for plus in ["", "+1", "+1 ", "%2B1", "＋1-", "001 "] {
            let masked = last4(&format!("No {plus}{number}, sorry"));
            assert!(
                masked.starts_with("No ") && masked.ends_with("***4567, sorry"),
                "{plus}{number}: {masked}"
            );
            assert_eq!(
                plain_text(&masked).chars().filter(char::is_ascii_digit).count(),
                4,
                "{plus}{number}: {masked}"
            );
            let uri = last4(&format!("<sip:{plus}{number}@h;user=phone>"));
            assert!(uri.ends_with("***4567@h;user=phone>"), "{plus}{number}: {uri}");
        }
        for (before, after) in
            [("sip:h;x=", ";y=1"), ("Nr.", "!"), ("No:", ""), ("#", "#"), ("x", "x"), ("'", "'")]
        {
            let masked = last4(&format!("{before}{number}{after}"));
            assert!(masked.starts_with(before) && masked.ends_with(&format!("***4567{after}")), "{masked}");
        }
    }
    for (line, masked) in [
        ("SIP/2.0 404 555 123 4567 unknown", "SIP/2.0 404 ***4567 unknown"),
        ("NOTIFY sip:a@b SIP/2.0 → 404 555 123 4567", "NOTIFY sip:***@b SIP/2.0 → 404 ***4567"),
        ("Warning: 399 555 123 4567", "Warning: 399 ***4567"),
        ("gw.example.com:0055512345", "gw.example.com:***2345"),
        ("sip:555 123 4567@h", "sip:***4567@h"),
        ("tel:55512 34567", "tel:***4567"),
        ("555 12345@h", "***2345@h"),
        ("5551234 7x9@h", "***1234 ***9@h"),
        ("tel:555 1234567;phone-context=+1", "tel:***4567;phone-context=+1"),
        ("sip:0049%20(0)30%2F123456@h", "sip:***3456@h"),
    ] {
        assert_eq!(last4(line), masked);
    }
    // A party's number of less than seven digits, and an extension, which stays.
    assert_eq!(sentence("No 100 75, no 10075, no 1 10075", "10075"), "No ***0075, no ***0075, no 1 ***0075");
    assert_eq!(sentence("No 1007 at 10.77.0.11", "1007"), "No 1007 at 10.77.0.11");
    // The user of one hash is the user of all.
    let hash = Privacy::new(Mask::Hash, Some(KEY)).unwrap();
    let one = hash.text("5551234567");
    for other in ["555 123 4567", "555%2D123%2D4567", "٥٥٥ ١٢٣ ٤٥٦٧", "555\u{2011}123\u{2011}4567"]
    {
        assert_eq!(hash.text(other), one);
        assert_eq!(hash.text(&format!("<sip:{other}@h>")), format!("<sip:{one}@h>"));
    }
}

#[test]
fn digits_that_are_no_number() {
    for text in [
        "at 10.77.0.11:5060 486 Busy Here",
        "399 10.77.0.11 404 12",
        "from 10.77.0.11, 10.77.0.12 and 172.16.254.1.",
        "at [2001:db8::1]:5060 486 Busy",
        "at 2001:db8:1234:5678::1 486 456, fd88::10 486 456.",
        "at fe80::1234:5678 1234",
        "via gw.example.com:5060 404 Not Found",
        "sip:***4567@gw.example.com:5060 404",
        "after 30.0 s, 29.96 s, 0.4 s and 12 ms",
        "2026-11-27 15:54:23.123456 486 Busy",
        "2026-11-27T15:54:23Z 1234, 2026-11-27T15:54:23.123+01:00 1234",
        "2026-11-27T15:54:23.123456789Z 1234",
        "at 15:54 4567, 15:54:23 4567",
        "SIP/2.0 486 Busy Here",
        "SIP/2.0 403 32205 refused",
        "NOTIFY sip:1007@h SIP/2.0 → 486 4567 busy",
        "Twilio error 32205 with 403 Forbidden.",
        "Warning: 399 32205 \"10.77.0.11\"",
        "sip:ip-10-0-123-45.ec2.internal:5060;lr",
        "sip:10-0-123-45.default.pod.cluster.local",
        "ec2-54-123-45-167.compute-1.amazonaws.com",
        "Q.850 cause 17 (user busy), said by the user; 486 Busy Here (told by NOTIFY).",
        "RFC 8688, RFC 3261 and RFC 5853",
        "sent 11 times in 32 s",
    ] {
        for privacy in masks() {
            if !text.contains("***") && !text.contains("1007@") {
                assert_eq!(privacy.text(text), text);
            }
        }
        assert_eq!(last4(text), text);
    }
    // The host of a URI without a user is nobody's number.
    let known = Known::of(&parties(&[]), &["sip:10.77.0.11;transport=udp", "sip:10.77.0.11:5060"]);
    let text = "BYE sip:10.77.0.11;transport=udp SIP/2.0";
    assert_eq!(Privacy::default().sentence(text, &known), text);
    // A status stands before its phrase, and a phrase may begin with a number.
    let known = answered("404");
    let masked = |text| Privacy::default().sentence(text, &known);
    assert_eq!(masked("The answer was 404 555 123 4567."), "The answer was 404 ***4567.");
    assert_eq!(masked("404 5551234 came 0.4 s after"), "404 ***1234 came 0.4 s after");
    assert_eq!(masked("No 404-555-1234"), "No ***1234");
    assert_eq!(masked("No 555 404 1234"), "No ***1234");
}

/// Every sentence of the diagnosis table, as it is and with evidence in it.
#[test]
fn our_own_sentences_stay() {
    let table: toml::Table = include_str!("../transfer/diagnosis/diagnosis.toml").parse().unwrap();
    let rows = table["row"].as_array().unwrap();
    assert!(rows.len() > 50);
    let evidence = [
        ("{answer}", "486 Busy Here"),
        ("{status}", "486"),
        ("{reason}", "Busy Here 12"),
        ("{after}", "419.5 s"),
        ("{asked}", "the last INVITE"),
        ("{ringing}", "28.5 s of ringing"),
        ("{cancel}", "30.0 s"),
        ("{accepted}", "12 ms"),
        ("{twilio}", "32205"),
        ("{q850}", "17 (user busy)"),
        ("{location}", "the user"),
        ("{retry_after}", "3600 (12 calls)"),
        ("{warning}", "Warning: 399 10.77.0.11:5060 \"32205\""),
        ("{sipfrag}", "486"),
        ("{copies}", "11 times"),
        ("{challenges}", "2 challenges"),
    ];
    for row in rows {
        for name in ["cause", "check", "because"] {
            let text = row[name].as_str().unwrap();
            let filled =
                evidence.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
            let filled = filled.replace(['[', ']'], "");
            for privacy in masks() {
                assert_eq!(privacy.text(text), text);
                assert_eq!(privacy.text(&filled), filled);
            }
        }
    }
}

#[test]
fn credentials_go() {
    for (text, masked) in [
        ("Authorization: Digest username=\"al\", response=\"6629fae4\"", "Authorization: ***"),
        ("Bad proxy-authorization : Basic YWw6cHc=", "Bad proxy-authorization : ***"),
        ("login pw=hunter2 failed", "login pw=*** failed"),
        ("PASSWORD=hunter2", "PASSWORD=***"),
        ("passwd = hunter2;x", "passwd = ***;x"),
        ("sip_password: hunter2", "sip_password: ***"),
        ("secret=\"hunter 2\" wrong", "secret=\"***\" wrong"),
        ("secret=\"a\\\"b\" wrong", "secret=\"***\" wrong"),
        ("secret='hunter 2' wrong", "secret='***' wrong"),
        ("secret=\"hunter 2", "secret=\"***"),
        ("text=\"token=\\\"a b\\\" wrong\"", "text=\"token=\\\"***\\\" wrong\""),
        ("{\"password\":\"hunter2\"}", "{\"password\":\"***\"}"),
        ("access_token=abc&x=1", "access_token=***&x=1"),
        ("password%3Dhunter2 wrong", "password%3D*** wrong"),
        ("sip:h;token=abc;transport=tcp", "sip:h;token=***;transport=tcp"),
        ("pw=a@b", "pw=***"),
        ("sip:alice:pw=hunter2@h", "sip:a***"),
        ("Bearer eyJhbGciOi.eyJzdWIi.c2ln expired", "Bearer *** expired"),
        ("bearer hunter, bad", "bearer ***, bad"),
        ("basic YWw6cHc=!", "basic ***!"),
        (
            "Digest username=\"al\", realm=r,nonce = \"n\" , response=\"66\", uri=\"sip:a@h\" failed",
            "Digest *** failed",
        ),
        ("Digest username=\"al\", response=\"66", "Digest ***"),
        ("Digest failed, response=\"6629fae4\"", "Digest failed, response=\"***\""),
        ("invalid pass secretpw for al", "invalid pass *** for al"),
        ("password hunter2 wrong", "password *** wrong"),
        ("pin=1234", "pin=***"),
        ("403 Wrong PIN 4321", "403 Wrong PIN ***"),
        ("Wrong PIN 1234, conf_pin: 77", "Wrong PIN ***, conf_pin: ***"),
        ("bad nonce=abc/12==, opaque=77", "bad nonce=***, opaque=77"),
        ("cnonce: xyz", "cnonce: ***"),
        ("response=6629fae49393a05397450978507c4ef1 wrong", "response=*** wrong"),
        // No credentials.
        ("pass through, bypass failed", "pass through, bypass failed"),
        ("password is wrong; password required", "password is wrong; password required"),
        ("spin=3, the pin expired, stale nonce", "spin=3, the pin expired, stale nonce"),
        ("Bearer capability not authorized", "Bearer capability not authorized"),
        ("Basic call, basic authentication failed", "Basic call, basic authentication failed"),
        ("Digest authentication failed", "Digest authentication failed"),
        ("Proxy Authorization Required; token missing", "Proxy Authorization Required; token missing"),
        ("password=", "password="),
        ("No response=404", "No response=404"),
    ] {
        for privacy in masks() {
            // Users are told apart by their masks.
            if !text.contains("alice") {
                assert_eq!(privacy.text(text), masked);
            }
        }
        assert_eq!(last4(text), masked);
        assert_eq!(Privacy::new(Mask::Full, None).unwrap().text(text), text);
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
fn a_partys_number_in_pieces_in_a_call_id() {
    for (call_id, masked) in [
        ("1-555-123-4567@h", "***4567@h"),
        ("x1.555.123.4567x@h", "x***4567x@h"),
        ("1_555_123_4567@h", "***4567@h"),
        ("%2B15551234567@h", "%2B***4567@h"),
        ("%2B1%20555%2D123%2D4567@h", "%2B***4567@h"),
        ("１５５５１２３４５６７@h", "***4567@h"),
        ("183823-1-555-123-4567-99@h", "183823-***4567-99@h"),
        ("15551234567-15551234567@h", "***4567-***4567@h"),
        ("100-75@h", "***0075@h"),
        // Random digits, others' numbers, hosts, more than one separator.
        ("18382-39481-1555@10.77.0.11", "18382-39481-1555@10.77.0.11"),
        ("1-555-987-6543@h", "1-555-987-6543@h"),
        ("550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000"),
        ("1--555--123--4567@h", "1--555--123--4567@h"),
        ("a@1.0.0.75", "a@1.0.0.75"),
        ("1838239481@ip-1-0-0-75:5060", "1838239481@ip-1-0-0-75:5060"),
    ] {
        let known = Known::of(&parties(&["+15551234567", "10075", "alice"]), &[]);
        assert_eq!(Privacy::default().key(call_id, &known), masked);
    }
}

/// Four times the text takes four times the steps.
#[test]
fn masking_is_linear() {
    let known = Known::of(&parties(&["15551234567", "11111"]), &[]);
    for unit in [
        "1",
        "1 ",
        "1-",
        "12345-",
        "1.",
        "10.0.0.1 ",
        "10-0-0-1.",
        "2001:",
        "::1 ",
        "a",
        "+",
        "+1",
        "%",
        "%35",
        "%2D",
        "\u{a0}",
        "\u{661}",
        "@",
        "a@",
        "1@ ",
        "1@",
        "sip:",
        "sip:1@h ",
        "tel:1 ",
        "tel:1 1@",
        ":",
        ";",
        "?",
        "\"",
        "'",
        "\\",
        "\\\"",
        "=",
        " ",
        "***1 ",
        "pw",
        "pw=",
        "pw=a ",
        "pw=\"",
        "pw \"",
        "token='",
        "Bearer ",
        "Basic a ",
        "Digest ",
        "Digest a=",
        "a=\"b\", ",
        "Digest a=\"",
        "response=\"",
        "authorization ",
        "SIP/2.0 ",
        "→ 404 ",
        "Warning: 399 ",
        "12:34:56 ",
        "2026-11-27 ",
    ] {
        let each = [1_000, 4_000].map(|n| {
            let text = unit.repeat(n);
            let steps = measure(|| {
                Privacy::default().sentence(&text, &known);
                Privacy::default().key(&text, &known);
            });
            steps / text.len() as u64
        });
        assert!((1..=300).contains(&each[0]), "{unit:?}: {each:?} steps a byte");
        assert!(each[1] <= each[0] + 1, "{unit:?}: {each:?} steps a byte");
    }
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
        trace_id: None,
        call_id: None,
        parties: Parties::default(),
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
        trace_id: None,
        evidence_file: None,
        refer_absent: ReferAbsent::No,
        in_transfer: false,
        seen: Seen::Both,
        hosts: [[10, 78, 0, 1].into(), [10, 78, 0, 2].into()],
        parties: self::parties(parties),
    }))
}

/// An attempt with `number` and `user` in every text that may hold one.
fn attempt(number: &str, user: &str, dashed: &str) -> Output {
    let line = |line: String| LadderLine {
        transport: crate::stream::TransportKind::Udp,
        t_ms: 0,
        from: ([10, 0, 0, 1], 5060).into(),
        to: ([10, 0, 0, 2], 5060).into(),
        line,
        frame: 1,
        file: None,
        copies: 1,
        doubted: false,
        time: Timestamp::default(),
        leg: LegRole::Call,
        cseq: CSeq { number: 1, method: SipMethod::Invite },
    };
    Output::Transfer(Box::new(Attempt {
        id: String::new(),
        seq: None,
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
        fault: Fault::Unknown,
        unknown_reason: Some(UnknownReason::TransfereeLeft),
        unknown_because: Some(format!("{number} left")),
        status: Some(404),
        reason: Some(format!("No such number +{number}, or {dashed} ({user}@example.com)")),
        refer_cseq: None,
        target_call_id: Some(format!("x{number}x")),
        followed: None,
        followed_outcome: None,
        link: Some(Link {
            method: LinkMethod::Ambiguous,
            confidence: 0.5,
            candidates: vec![format!("{number}@h")],
        }),
        ringing_ms: None,
        answer_ms: None,
        provider_ids: BTreeMap::new(),
        target_provider_ids: BTreeMap::new(),
        trace_id: None,
        wire_trace: None,
        evidence_file: None,
        diagnosis: vec![Diagnosis {
            code: "unknown".into(),
            cause: format!("to sip:{user}@h"),
            check: format!("<sip:{number}@h>"),
            because: format!("The answer was 404 {number}."),
            fault: Fault::Unknown,
            source: None,
            heuristic: false,
        }],
        visibility: Visibility::default(),
        quality: Quality::default(),
        messages: vec![
            line(format!("INVITE sip:{number}@h;user=phone SIP/2.0")),
            line(format!("REFER sip:{user}:{number}@h SIP/2.0 → <tel:{dashed}>")),
            line(format!("SIP/2.0 404 {number}")),
        ],
        parties: parties(&[number, user]),
        originated: false,
    }))
}

/// `text` with every character in its plain form.
fn plain_text(text: &str) -> String {
    let mut rest = text;
    std::iter::from_fn(|| {
        let (c, len) = normalize::plain(rest)?;
        rest = &rest[len..];
        Some(c)
    })
    .collect()
}

#[test]
fn credentials_in_a_providers_id_are_masked() {
    let mut output = attempt("15550100", "alice", "555-0100");
    let Output::Transfer(attempt) = &mut output else { panic!("{output:?}") };
    for (header, id) in [
        ("X-Call-Sid", "password=hunter22"),
        ("X-Mine", "Bearer hunter22hunter22"),
        ("X-Account-Sid", "api_key=hunter22"),
        ("X-Api-Key", "hunter22"),
        ("X-Good", "CA0123456789abcdef"),
    ] {
        attempt.provider_ids.insert(header.to_owned(), id.to_owned());
        attempt.target_provider_ids.insert(header.to_owned(), id.to_owned());
    }
    Privacy::default().output(&mut output);
    let Output::Transfer(attempt) = &output else { panic!("{output:?}") };
    for ids in [&attempt.provider_ids, &attempt.target_provider_ids] {
        assert!(ids.values().all(|id| !id.contains("hunter")), "{ids:?}");
        assert_eq!(ids["X-Good"], "CA0123456789abcdef");
    }
}
