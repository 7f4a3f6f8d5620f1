//! One test a row of the domain's table: evidence in, the candidates' codes out.

use super::*;
use crate::record::{Answered, ByeFrom, Dialect, Evidence, Method, ReplacesFit, UnknownReason};

fn codes(facts: &Facts<'_>) -> Vec<String> {
    Diagnoses::new(None).unwrap().of(facts).diagnosis.into_iter().map(|diagnosis| diagnosis.code).collect()
}

fn first(facts: &Facts<'_>) -> String {
    codes(facts).into_iter().next().unwrap_or_default()
}

fn invite(outcome: Outcome, status: u16, reason: &str) -> Facts<'_> {
    Facts {
        status: Some(status),
        reason: Some(reason),
        answer_ms: Some(400),
        ..Facts::new(Method::Invite, outcome)
    }
}

/// A REFER whose own answer decided.
fn refer(outcome: Outcome, status: u16, reason: &str) -> Facts<'_> {
    Facts { method: Method::Refer, answer: Answered::Refer, ..invite(outcome, status, reason) }
}

#[test]
fn provider_numbers_are_decisive_and_come_first() {
    for (numbers, status, outcome, code) in [
        (&[32205, 13227, 21215][..], 486, Outcome::Busy, "geo_permission"),
        (&[32201], 403, Outcome::Forbidden, "ip_acl"),
        (&[32202], 403, Outcome::Forbidden, "bad_credentials"),
        (&[32204], 403, Outcome::Forbidden, "caller_id"),
        (&[32206], 403, Outcome::Forbidden, "invalid_from"),
        (&[32100], 403, Outcome::Forbidden, "trial_account"),
        (&[32200, 10001], 603, Outcome::Declined, "account_blocked"),
        (&[32203, 32224], 603, Outcome::Declined, "fraud_block"),
        (&[32001, 32012], 503, Outcome::NetworkFailure, "rate_cap"),
        (&[32209, 32208, 32207], 488, Outcome::Media, "secure_media"),
        (&[32218], 403, Outcome::ReferRefused, "transfer_disabled"),
        (&[13802], 403, Outcome::ReferRefused, "no_refer_url"),
        (&[13801], 403, Outcome::ReferRefused, "refer_on_non_sip"),
        (&[32016], 487, Outcome::NoAnswer, "carrier_timeout"),
        (&[32999], 500, Outcome::NetworkFailure, "provider_error"),
    ] {
        for number in numbers {
            let value = number.to_string();
            let headers = [("x-twilio-error", value.as_str())];
            let facts = Facts { headers: &headers, ..invite(outcome, status, "") };
            assert_eq!(first(&facts), code, "{number}");
            let found = Diagnoses::new(None).unwrap().of(&facts).diagnosis;
            assert!(found[0].because.contains(&value), "{}", found[0].because);
        }
    }
}

#[test]
fn a_provider_number_beats_timing_and_silences_fallbacks() {
    let headers = [("X-Twilio-Error", "32205 Geo Permission configuration is not permitting call")];
    let fast_busy = Facts { headers: &headers, ..invite(Outcome::Busy, 486, "Busy Here") };
    assert_eq!(codes(&fast_busy)[..2], ["geo_permission", "suspect_policy"]);
    let headers = [("X-Twilio-Error", "32201")];
    let forbidden = Facts { headers: &headers, ..invite(Outcome::Forbidden, 403, "Forbidden") };
    assert_eq!(codes(&forbidden), ["ip_acl"]);
}

#[test]
fn a_provider_number_counts_in_the_phrase_too() {
    assert_eq!(first(&invite(Outcome::Forbidden, 403, "Forbidden (32202)")), "bad_credentials");
    // Not every five digits are one.
    assert_eq!(first(&invite(Outcome::Forbidden, 403, "No 99202 here")), "forbidden");
}

#[test]
fn forbidden_by_phrase_and_bare() {
    assert_eq!(first(&invite(Outcome::Forbidden, 403, "Caller ID is unauthorized")), "caller_id");
    let bare = invite(Outcome::Forbidden, 403, "Forbidden");
    assert_eq!(codes(&bare), ["forbidden"]);
    let cause = &Diagnoses::new(None).unwrap().of(&bare).diagnosis[0].cause;
    for candidate in ["credentials", "IP ACL", "geo permission", "caller ID", "balance"] {
        assert!(cause.contains(candidate), "{cause}");
    }
}

#[test]
fn busy_at_once_is_suspect() {
    let fast = invite(Outcome::Busy, 486, "Busy Here");
    assert_eq!(codes(&fast), ["suspect_policy", "busy"]);
    let found = Diagnoses::new(None).unwrap().of(&fast).diagnosis;
    assert_eq!(found[0].because, "486 Busy Here came 0.4 s after the last INVITE, with no ringing.");
    assert!(found[0].cause.starts_with("Likely"));
    assert_eq!(first(&Facts { answer_ms: Some(999), ..fast.clone() }), "suspect_policy");
    for between in [1000, 2999] {
        let facts = Facts { answer_ms: Some(between), ..fast.clone() };
        assert_eq!(codes(&facts), ["busy", "possible_policy"], "{between}");
    }
    assert_eq!(codes(&Facts { answer_ms: Some(3000), ..fast.clone() }), ["busy"]);
}

#[test]
fn busy_after_ringing_or_as_reported_is_busy() {
    let rang =
        Facts { ringing_ms: Some(6000), answer_ms: Some(14_000), ..invite(Outcome::Busy, 486, "Busy") };
    assert_eq!(codes(&rang), ["busy"]);
    let found = Diagnoses::new(None).unwrap().of(&rang).diagnosis;
    assert!(found[0].cause.contains("really busy"));
    assert!(found[0].because.contains("8.0 s of ringing"), "{}", found[0].because);
    let told = Facts {
        method: Method::Refer,
        answer: Answered::Sipfrag,
        answer_ms: None,
        ..invite(Outcome::Busy, 486, "Busy Here")
    };
    assert_eq!(codes(&told), ["busy"]);
    assert!(Diagnoses::new(None).unwrap().of(&told).diagnosis[0].because.contains("NOTIFY"));
}

#[test]
fn livekit_phrases() {
    assert_eq!(first(&invite(Outcome::Busy, 486, "Rejected")), "local_rejection");
    let no_rule = invite(Outcome::NotFound, 404, "Does not match any Trunks or Dispatch Rules");
    assert_eq!(first(&no_rule), "livekit_no_rule");
}

#[test]
fn telnyx_codes() {
    assert_eq!(
        first(&invite(Outcome::Forbidden, 403, "Caller Origination Number is Invalid D35")),
        "caller_id"
    );
    assert_eq!(first(&invite(Outcome::Forbidden, 403, "Forbidden D19")), "account_blocked");
    for number in [10, 27, 28, 34] {
        let phrase = format!("Forbidden D{number}");
        assert_eq!(first(&invite(Outcome::Forbidden, 403, &phrase)), "provider_forbidden", "{phrase}");
    }
    // The code is the whole word: D5 is not D35, and D99 is none.
    assert_eq!(first(&invite(Outcome::Busy, 486, "User Busy D5")), "channel_limit");
    assert_eq!(first(&invite(Outcome::Forbidden, 403, "Forbidden D99")), "forbidden");
}

#[test]
fn status_of_the_target() {
    let unheard = Facts { heard: false, ..invite(Outcome::NoAnswer, 408, "Request Timeout") };
    assert_eq!(first(&unheard), "unreachable");
    let silent = Facts { heard: false, copies: 7, ..Facts::new(Method::Invite, Outcome::NetworkFailure) };
    assert_eq!(first(&silent), "unreachable");
    assert!(Diagnoses::new(None).unwrap().of(&silent).diagnosis[0].because.contains("7 times"));
    for (status, outcome, code) in [
        (408, Outcome::NoAnswer, "no_answer"),
        (480, Outcome::NoAnswer, "unavailable"),
        (404, Outcome::NotFound, "bad_number"),
        (484, Outcome::NotFound, "bad_number"),
        (488, Outcome::Media, "no_codec"),
        (606, Outcome::Media, "no_codec"),
        (500, Outcome::NetworkFailure, "peer_error"),
        (599, Outcome::NetworkFailure, "network_failure"),
        (603, Outcome::Declined, "declined"),
        (607, Outcome::Declined, "unwanted"),
        (608, Outcome::Declined, "analytics_block"),
        (407, Outcome::AuthFailed, "bad_credentials"),
    ] {
        assert_eq!(codes(&invite(outcome, status, "")), [code], "{status}");
    }
    let headers = [("Retry-After", "120")];
    let busy_server = Facts { headers: &headers, ..invite(Outcome::NetworkFailure, 503, "") };
    assert_eq!(codes(&busy_server), ["overload"]);
    assert!(Diagnoses::new(None).unwrap().of(&busy_server).diagnosis[0].because.contains("120"));
}

#[test]
fn a_cancel_at_a_round_time_is_a_timer() {
    let cancelled = |ms| Facts {
        cancel_ms: Some(ms),
        ringing_ms: Some(500),
        answer_ms: Some(ms),
        ..invite(Outcome::NoAnswer, 487, "Request Terminated")
    };
    for ms in [29_500, 30_000, 30_500, 8_000, 19_800, 45_240, 60_000, 7_950] {
        assert_eq!(codes(&cancelled(ms)), ["ring_timer"], "{ms}");
    }
    for ms in [12_345, 29_499, 30_501, 2_000, 7_900] {
        assert_eq!(codes(&cancelled(ms)), ["gave_up"], "{ms}");
    }
    let found = Diagnoses::new(None).unwrap().of(&cancelled(30_012)).diagnosis;
    assert!(found[0].because.contains("30.0 s") && found[0].cause.contains("30 s"));
    assert!(Diagnoses::new(None).unwrap().of(&cancelled(12_345)).diagnosis[0].because.contains("12.3 s"));
}

#[test]
fn a_bye_before_the_verdict_names_every_reading() {
    let gone = Facts { accepted: true, sipfrag: Some(180), ..refer(Outcome::Unknown, 202, "Accepted") };
    let by_transferee = Facts {
        bye: Some(ByeFrom::Transferee),
        unknown_reason: Some(UnknownReason::TransfereeLeftRinging),
        ..gone.clone()
    };
    assert_eq!(codes(&by_transferee), ["caller_gave_up", "trunk_drops_leg"]);
    assert!(Diagnoses::new(None).unwrap().of(&by_transferee).diagnosis[0].because.contains("180"));
    let by_transferor = Facts {
        bye: Some(ByeFrom::Transferor),
        unknown_reason: Some(UnknownReason::TransferorLeft),
        ..gone.clone()
    };
    assert_eq!(codes(&by_transferor), ["transferor_left"]);
    // Who left says nothing where the verdict was lost with a part of the capture.
    let damaged = Facts { unknown_reason: Some(UnknownReason::MessagesMissing), ..by_transferor };
    assert_eq!(codes(&damaged), ["capture_incomplete"]);
    let twilio = Facts { dialects: &[Dialect::Twilio], ..by_transferee.clone() };
    assert_eq!(codes(&twilio), ["trunk_drops_leg", "caller_gave_up"]);
    let livekit = Facts { dialects: &[Dialect::LiveKit], ..by_transferee };
    let found = Diagnoses::new(None).unwrap().of(&livekit).diagnosis;
    assert!(found.iter().any(|d| d.cause == "Also: the platform may report success all the same."));
    let unsubscribed = Facts { no_subscription: true, bye: Some(ByeFrom::Transferor), ..gone };
    assert_eq!(codes(&unsubscribed), ["no_subscription"]);
}

#[test]
fn refers_that_went_nowhere() {
    let unanswered = Facts { copies: 11, ..Facts::new(Method::Refer, Outcome::ReferUnanswered) };
    assert_eq!(codes(&unanswered), ["refer_unanswered"]);
    assert!(Diagnoses::new(None).unwrap().of(&unanswered).diagnosis[0].because.contains("11 times"));
    let silent = Facts { accepted: true, ..refer(Outcome::NotifyTimeout, 202, "Accepted") };
    assert_eq!(codes(&silent), ["notify_timeout"]);
    let challenged = refer(Outcome::AuthFailed, 407, "Proxy Authentication Required");
    assert_eq!(codes(&challenged), ["bad_credentials"]);
    let livekit = Facts { dialects: &[Dialect::LiveKit], ..challenged };
    assert_eq!(codes(&livekit), ["refer_unchallenged"]);
    assert_eq!(codes(&refer(Outcome::DialogGone, 481, "")), ["dialog_gone"]);
    let no_call = Facts { answer: Answered::Target, ..refer(Outcome::DialogGone, 481, "") };
    assert_eq!(codes(&no_call), ["target_call_gone"]);
    let replaces = Facts { replaces: Some(ReplacesFit::Matched), ..no_call };
    assert_eq!(codes(&replaces), ["replaces_stale"]);
    assert_eq!(codes(&Facts::new(Method::Refer, Outcome::Superseded)), ["superseded"]);
}

#[test]
fn refers_that_were_refused() {
    let tel = Facts { target: Some("tel:+15551"), ..refer(Outcome::ReferRefused, 400, "Bad Request") };
    assert_eq!(codes(&tel), ["tel_refused"]);
    assert_eq!(codes(&refer(Outcome::ReferRefused, 400, "Bad Request")), ["bad_request"]);
    assert_eq!(codes(&refer(Outcome::ReferRefused, 480, "")), ["refer_refused"]);
    assert_eq!(codes(&refer(Outcome::ReferRefused, 603, "Declined")), ["transfer_disabled"]);
    assert_eq!(codes(&refer(Outcome::ReferRefused, 403, "Forbidden")), ["transfer_disabled"]);
    for status in [405, 420, 489, 501] {
        assert_eq!(codes(&refer(Outcome::ReferRefused, status, "")), ["refer_unsupported"], "{status}");
    }
    let not_allowed = Facts { refer_not_allowed: true, ..refer(Outcome::ReferRefused, 405, "") };
    assert_eq!(codes(&not_allowed), ["refer_not_allowed", "refer_unsupported"]);
}

#[test]
fn a_switched_method_is_told_beside_the_cause() {
    let switched =
        Facts { switched_from: Some(Method::Refer), ..invite(Outcome::Forbidden, 403, "Forbidden") };
    assert_eq!(codes(&switched), ["method_switched", "forbidden"]);
    let answered = Facts { switched_from: Some(Method::Refer), ..invite(Outcome::Succeeded, 200, "OK") };
    assert_eq!(codes(&answered), ["method_switched"]);
}

#[test]
fn a_plain_success_raises_no_question() {
    assert!(codes(&invite(Outcome::Succeeded, 200, "OK")).is_empty());
    let told = Facts { accepted: true, accepted_ms: Some(3), ..refer(Outcome::Succeeded, 200, "OK") };
    assert!(codes(&told).is_empty());
    let optimistic = Facts { evidence: Evidence::ReportedOptimistic, ..told.clone() };
    assert_eq!(codes(&optimistic), ["optimistic_200"]);
    // A 202 within a millisecond: the API may say "failed" while the transfer goes on.
    let livekit = Facts { dialects: &[Dialect::LiveKit], accepted_ms: Some(0), ..told };
    assert_eq!(codes(&livekit), ["platform_claim"]);
}

#[test]
fn q850_speaks_for_phone_or_network() {
    let with = |reason: &str, status| {
        let headers = [("Reason", reason)];
        codes(&Facts { headers: &headers, ..invite(Outcome::Busy, status, "") })
    };
    assert_eq!(with("Q.850;cause=17;location=U", 486)[0], "busy");
    for location in ["LN", "TN", "INTL", "BI"] {
        let reason = format!("Q.850;cause=17;location={location}");
        assert_eq!(with(&reason, 486)[0], "network_busy", "{location}");
    }
    // Without a location the timing is as good as ever.
    assert_eq!(with("Q.850;cause=17", 486)[0], "suspect_policy");
    for (cause, code) in
        [(1, "bad_number"), (18, "unavailable"), (21, "rejected"), (28, "bad_number"), (34, "congestion")]
    {
        assert_eq!(with(&format!("SIP;cause=500, Q.850;cause={cause}"), 500)[0], code, "{cause}");
    }
}

#[test]
fn what_cannot_be_told_says_why() {
    let unknown = Facts {
        unknown_because: Some("frames were lost while it ran"),
        ..Facts::new(Method::Invite, Outcome::Unknown)
    };
    let found = Diagnoses::new(None).unwrap().of(&unknown).diagnosis;
    assert_eq!(found[0].code, "unknown");
    assert!(found[0].because.contains("frames were lost"));
}

/// Whatever was seen, a failed attempt is never left without a word.
#[test]
fn every_failure_has_a_diagnosis() {
    for method in [Method::Refer, Method::Invite, Method::Also, Method::ReferBye] {
        for outcome in [
            Outcome::Busy,
            Outcome::NoAnswer,
            Outcome::Declined,
            Outcome::Forbidden,
            Outcome::NotFound,
            Outcome::Media,
            Outcome::NetworkFailure,
            Outcome::ReferRefused,
            Outcome::ReferUnanswered,
            Outcome::AuthFailed,
            Outcome::DialogGone,
            Outcome::Abandoned,
            Outcome::Superseded,
            Outcome::NotifyTimeout,
            Outcome::Unknown,
        ] {
            if method != Method::Refer && matches!(outcome, Outcome::ReferRefused | Outcome::ReferUnanswered)
            {
                continue;
            }
            let mut facts = Facts::new(method, outcome);
            assert!(!codes(&facts).is_empty(), "{method:?} {outcome:?}");
            facts.status = Some(399);
            facts.answer = Answered::Refer;
            assert!(!codes(&facts).is_empty(), "{method:?} {outcome:?} with a status");
        }
    }
}

#[test]
fn the_users_rows_go_first_and_take_the_place_of_ours() {
    let table = r#"
        [[row]]
        code = "suspect_policy"
        rank = 900
        when = { status = ["480-489"], phrase = ["busy*"] }
        cause = "Ours."
        check = "Ask {nobody}."
        because = "{status} {reason} by {method}"
    "#;
    let found = Diagnoses::new(Some(table)).unwrap().of(&invite(Outcome::Busy, 486, "Busy Here")).diagnosis;
    assert_eq!(
        (found[0].cause.as_str(), found[0].because.as_str()),
        ("Ours.", "486 Busy Here by a second-leg INVITE")
    );
    assert_eq!(found.iter().filter(|d| d.code == "suspect_policy").count(), 1);
}

#[test]
fn errors_name_row_and_field() {
    let good =
        "code = \"a\"\nrank = 1\nwhen = { status = [486] }\ncause = \"c\"\ncheck = \"c\"\nbecause = \"b\"";
    let error = |from: &str, to: &str| {
        assert!(from.is_empty() || good.contains(from));
        let table = format!("[[row]]\n{good}\n[[row]]\n{}", good.replace(from, to));
        Diagnoses::new(Some(&table)).unwrap_err().to_string()
    };
    for (from, to, wanted) in [
        ("code = \"a\"", "code = \"A b\"", "code"),
        ("status = [486]", "status = [99]", "status"),
        ("status = [486]", "status = [\"600-500\"]", "status"),
        ("status = [486]", "stat = [486]", "stat"),
        ("status = [486]", "method = [\"bye\"]", "bye"),
        ("status = [486]", "answer_ms = { min = 5, max = 5 }", "when.answer_ms"),
        ("status = [486]", "cancel_every = { ms = 0, within = 0 }", "when.cancel_every"),
        ("status = [486]", "", "when"),
        ("because = \"b\"", "because = \"{x}\"", "because"),
        ("cause = \"c\"", "cause = \" \"", "cause"),
        ("rank = 1\n", "", "rank"),
        ("rank = 1", "rank = \"1\"", "rank"),
    ] {
        let message = error(from, to);
        assert!(
            message.starts_with("diagnosis table: row 2 (") && message.contains(wanted),
            "{to}: {message}"
        );
    }
    assert!(Diagnoses::new(Some("[[rows]]")).unwrap_err().to_string().contains("rows"));
    assert!(Diagnoses::new(Some("= 5")).is_err());
}

/// Another file than was meant, perhaps.
#[test]
fn errors_quote_nothing_of_the_file() {
    for text in [
        "root:$6$q5ecret:19000:0:99999:7:::\n",
        "token = \"q5ecret\"\n",
        "\"root:q5ecret\" = 1\n",
        "[[row]]\ncode = \"the q5ecret\"\n",
        "[[row]]\ncode = \"c\"\nrank = \"q5ecret\"\n",
        "row = \"q5ecret\"\n",
        "row = [\"q5ecret\"]\n",
    ] {
        let error = Diagnoses::new(Some(text)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("q5ecret"), "{text:?}: {error:?}");
    }
}
