//! Whatever is written: no number, name or credential leaves, and masking again changes nothing.

use proptest::prelude::*;

use super::*;

proptest! {
    /// A Call-ID that is not read closely has nothing in it that would be found then.
    #[test]
    fn a_partys_number_is_not_overlooked_in_a_call_id(
        number in "[0-9]{3,9}",
        split in 0_usize..9,
        key in "[0-9a-f%+@. -]{0,10}",
        between in prop::sample::select(vec!["", "-", "+", "%2D", ".. ", "\u{ff10}", "x", "\n"]),
    ) {
        let (head, tail) = number.split_at(split.min(number.len()));
        let known = Known::of(&parties(&[&number, "alice"]), &[]);
        for text in [format!("{key}{head}{between}{tail}{key}"), format!("{head}{key}{tail}"), format!("{key}{key}")] {
            for privacy in masks() {
                prop_assert_eq!(privacy.key(&text, &known), privacy.read_key(&text, &known), "{}", text);
            }
        }
    }

    /// Characters that begin nothing are passed as all others are.
    #[test]
    fn idle_characters_are_passed_one_by_one(text in r#"[ -~\t\n]{0,30}"#, end in 0_usize..30) {
        let mut idle = number::Cursor::start_of(&text);
        let (end, mut one_by_one) = (end.min(text.len()), idle);
        let passed = idle.take_idle(end);
        while one_by_one.at < passed.len() {
            one_by_one.take();
        }
        prop_assert_eq!(format!("{idle:?}"), format!("{one_by_one:?}"));
        let stopped = text[passed.len()..].chars().next();
        prop_assert!(passed.len() == end || stopped.is_some_and(|c| c.is_ascii_hexdigit() || "+:%".contains(c)));
    }

    #[test]
    fn no_number_or_name_leaves(number in "[1-9][0-9]{7,14}", user in "[a-z]{5,12}", at in 2_usize..6) {
        let dashed = format!("+{}-{}", &number[..at], &number[at..]);
        for privacy in masks() {
            for mut output in [
                attempt(&number, &user, &dashed),
                call(&format!("{number}@h"), &[&number]),
                Output::Notice(Box::new(Notice {
 id: "4fe1b20c9a37".into(),
                    call_id: Some(number.clone()),
                    method: Method::Refer,
                    time: Timestamp::default(),
                    outcome: Outcome::Busy,
evidence: Evidence::Reported, decided: true, status: Some(486), fault: Some(Fault::Nobody), cause: Some("busy".into()),
                    trace_id: None,
                    withdrawn: false,
            parties: [number.as_str()].into_iter().collect(),
                })),
            ] {
                privacy.output(&mut output);
                let json = serde_json::to_string(&output.line(None)).unwrap();
                for part in number.as_bytes().windows(7) {
                    let part = std::str::from_utf8(part).unwrap();
                    prop_assert!(!json.contains(part), "{} in {}", part, json);
                }
                // In a Call-ID a name stays.
                let but_call_ids = json.replace(&format!("-{user}@10.0.0.1"), "");
                prop_assert!(!but_call_ids.contains(&user), "{} in {}", user, json);
                let once = json;
                privacy.output(&mut output);
                prop_assert_eq!(serde_json::to_string(&output.line(None)).unwrap(), once);
            }
        }
    }

    /// However a number is written, and wherever: no seven of its digits can be read.
    #[test]
    fn no_written_number_leaves(
        number in "[2-9][0-9]{8,14}",
        pieces in prop::collection::vec((1_usize..6, 0..SEPARATORS.len()), 1..8),
        zero in prop::sample::select(vec!['0', '0', '\u{ff10}', '\u{660}', '%']),
        around in prop::sample::select(vec![
            ("No ", " here"), ("No +", ""), ("(", ")"), ("sip:h;x=", ";y"), ("<sip:", "@10.0.0.1:5060>"), ("tel:", ";x"),
            ("SIP/2.0 404 ", ""), ("REFER sip:a@b SIP/2.0 → 486 ", ""), ("10.77.0.11:5060 ", " 10.77.0.11"),
            ("2026-11-27 15:54:23 ", " 2026-11-27"), ("Nr:", "x"), ("\"", "\""), ("sip:1007 ", "@h"), ("Call 12 ", " 34"),
        ]),
    ) {
        let mut written = String::new();
        let mut digits = number.chars().map(|digit| match zero {
            '%' => format!("%3{digit}"),
            zero => char::from_u32(u32::from(zero) + digit.to_digit(10).unwrap()).unwrap().to_string(),
        });
        for (many, separator) in pieces {
            written.extend(digits.by_ref().take(many));
            written.push_str(SEPARATORS[separator]);
        }
        written.extend(digits);
        // Three dots make an address.
        prop_assume!(written.matches('.').count() < 3);
        let text = format!("{}{written}{}", around.0, around.1);
        for privacy in masks() {
            let once = privacy.text(&text);
            let read: String = plain_text(&once).chars().filter(|c| !normalize::is_separator(*c)).collect();
            for part in number.as_bytes().windows(7) {
                let part = std::str::from_utf8(part).unwrap();
                prop_assert!(!read.contains(part), "{} → {}", text, once);
            }
            prop_assert_eq!(&privacy.text(&once), &once, "{}", text);
            let known = Known::of(&[number.as_str()].into_iter().collect(), &[]);
            let key = privacy.key(&written, &known);
            prop_assert_eq!(&privacy.key(&key, &Known::default()), &key);
        }
    }

    /// In a Call-ID, a party's number goes whatever single separators are in it, and nothing else.
    #[test]
    fn no_party_leaves_in_a_call_id(
        number in "[2-9][0-9]{8,14}",
        separator in prop::sample::select(vec!["-", ".", "_", "%2D", "/", "\u{2011}"]),
        separated in prop::collection::vec(any::<bool>(), 14),
        random in "[a-f]{1,8}-[01]{1,6}",
    ) {
        let mut written = number[..1].to_owned();
        for (digit, separated) in number[1..].chars().zip(separated) {
            written.push_str(if separated { separator } else { "" });
            written.push(digit);
        }
        let known = Known::of(&[number.as_str()].into_iter().collect(), &[]);
        let privacy = Privacy::default();
        let tail = &number[number.len() - 4..];
        let call_id = format!("{random}x{written}@{random}");
        prop_assert_eq!(privacy.key(&call_id, &known), format!("{random}x***{tail}@{random}"));
        prop_assert_eq!(privacy.key(&written, &Known::default()), written.as_str());
    }

    /// Whatever stands around them, values of credentials go.
    #[test]
    fn no_credential_leaves(
        name in prop::sample::select(vec![
            "Authorization: ", "proxy-authorization:", "pw=", "Password = ", "x_secret=\"", "token:", "Bearer ", "Basic ",
            "Digest response=\"", "Digest username=\"x\", response=\"",
        ]),
        before in r#"([0-9a-z]{1,5}|[ .:;,<>"=@-]|sip:){0,6}"#,
        after in r#"[ ;&"]?([0-9a-z]{1,5}|[ .:;,<>"=@-]|sip:){0,6}"#,
    ) {
        let text = format!("{before} {name}hunTer2+{after}");
        for privacy in masks() {
            let once = privacy.text(&text);
            prop_assert!(!once.contains("Ter"), "{} → {}", text, once);
            prop_assert_eq!(&privacy.text(&once), &once, "{}", text);
        }
    }

    /// Whatever a text holds: masking it twice is masking it once, and no long number is left in it.
    #[test]
    fn any_text(text in prop::collection::vec(prop_oneof![
        4 => "[0-9]{1,9}",
        4 => r#"[+@:;?<>.*~ \-/()\[\]_%="'\\,&→\u{a0}\u{2011}\u{ff0b}\u{ad}\n]"#,
        2 => "[0-9]{1,3}[. -]",
        1 => "[a-zé]{1,4}",
        1 => "[\u{ff10}-\u{ff19}\u{660}-\u{669}]{1,5}",
        3 => prop::sample::select(TOKENS).prop_map(str::to_owned),
    ], 0..30).prop_map(|parts| parts.concat())) {
        let known = answered("404");
        for privacy in masks() {
            let once = privacy.text(&text);
            prop_assert_eq!(&privacy.text(&once), &once, "{:?}", text);
            let told = privacy.sentence(&text, &known);
            prop_assert_eq!(&privacy.sentence(&told, &known), &told, "{:?}", text);
            let plain = plain_text(&once);
            let longest = plain.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
            prop_assert!(longest < Some(7), "{:?} → {:?}", text, once);
            // Without anything to mask, nothing changes.
            let digits = plain_text(&text).chars().filter(char::is_ascii_digit).count();
            if digits < 5 && !once.contains(['*', '~']) {
                prop_assert_eq!(&once, &text);
            }
        }
    }
}

/// What may stand between a number's digits.
const SEPARATORS: [&str; 22] = [
    "", " ", "-", ".", "/", "_", ") ", " (", "[", "] ", " - ", "\u{a0}", "\u{2011}", "\u{2013}", "\u{2212}",
    "\u{2009}", "\u{202f}", "%20", "%2D", "%28", "%C2%A0", "\u{200b}",
];

/// What texts are read for.
const TOKENS: &[&str] = &[
    "sip:",
    "sips:",
    "tel:",
    "SIP/2.0 ",
    "404",
    " 404 ",
    "→ ",
    "10.0.0.1",
    "10-0-123-45",
    ":5060",
    "2001:db8::1",
    "12:34",
    "2026-11-27",
    "Warning: 399 ",
    "%20",
    "%2D",
    "%2B",
    "%35",
    "%C2%A0",
    "%E2%80%91",
    "pw=",
    "token:",
    "Bearer ",
    "Basic ",
    "Digest ",
    "response=\"",
    "Authorization:",
    "a.b",
];
