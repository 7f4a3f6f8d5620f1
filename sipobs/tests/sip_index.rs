//! The header index against a naive reading of RFC 3261 §7.3, on any bytes and on any way to write a message.

use proptest::prelude::*;
use sipobs::sip::{
    Event, Join, Message, Name, NameAddr, Number, ReasonHeader, Replaces, Sipfrag, Start, SubscriptionState,
    TargetDialog, Uri, Via, Warning, line, percent_decode, sdp, unescape,
};

/// One header of the naive reading: spelling and trimmed value.
type Header = (Vec<u8>, Vec<u8>);

/// Headers, junk lines and what follows, read line by line with everything copied.
fn naive(mut bytes: &[u8]) -> (Vec<Header>, u16, Vec<u8>) {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let (line, rest) = bytes.split_at(end);
        bytes = rest;
        if line == b"\n" || line == b"\r\n" || line == b"\r" {
            break;
        }
        match lines.last_mut() {
            Some(last) if line[0] == b' ' || line[0] == b'\t' => last.extend_from_slice(line),
            _ => lines.push(line.to_vec()),
        }
    }
    let (mut headers, mut junk) = (Vec::new(), 0);
    for line in lines {
        match line.iter().position(|&byte| byte == b':') {
            Some(colon) => {
                let mut name = line[..colon].to_vec();
                while name.last().is_some_and(|&byte| b" \t".contains(&byte)) {
                    name.pop();
                }
                let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte);
                match !name.is_empty() && name.iter().all(token) {
                    true => headers.push((name, strip(&line[colon + 1..]))),
                    false => junk += 1,
                }
            }
            None => junk += 1,
        }
    }
    (headers, junk, bytes.to_vec())
}

fn strip(value: &[u8]) -> Vec<u8> {
    let space = |byte: &&u8| b" \t\r\n".contains(byte);
    let lead = value.iter().take_while(space).count();
    let tail = value[lead..].iter().rev().take_while(space).count();
    value[lead..value.len() - tail].to_vec()
}

/// Bytes that are often SIP: pieces that matter, in any order, and any bytes between.
fn nearly_sip() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        "\r\n\r\n",
        " ",
        "\t",
        "\r\n ",
        ":",
        " : ",
        ";",
        ",",
        "\"",
        "\\",
        "<",
        ">",
        "(",
        ")",
        "@",
        "?",
        "=",
        "%",
        "%41",
        "tag=",
        "branch=",
        "i",
        "v",
        "f",
        "t",
        "m",
        "l",
        "CSeq",
        "Via",
        "SIP/2.0/UDP ",
        "sip:a@b",
        "[::1]:5060",
        "4294967296",
        "7 INVITE",
        "boundary=b",
        "--b",
        "--",
        "SIP/2.0 200 OK",
        "v=0\r\n",
        "m=audio 5 RTP/AVP 0",
        "c=IN IP4 0.0.0.0",
        "c: multipart/mixed;",
        "c: application/sdp",
        "Route: ",
        "\0",
        "é",
    ])
    .prop_map(|piece| piece.as_bytes().to_vec());
    let any = prop::collection::vec(any::<u8>(), 0..4);
    prop::collection::vec(prop_oneof![8 => pieces, 1 => any], 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_index_reads_as_the_naive_reading(tail in nearly_sip()) {
        let bytes = [b"OPTIONS sip:a@b SIP/2.0\r\n", &tail[..]].concat();
        let message = Message::parse(&bytes).unwrap();
        let (headers, junk, rest) = naive(&tail);
        let indexed: Vec<Header> =
            message.all_headers().map(|(_, spelling, value)| (spelling.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(&indexed, &headers);
        prop_assert_eq!(message.junk_lines(), junk);
        prop_assert_eq!(message.after_headers(), &rest[..]);
        for (name, spelling, _) in message.all_headers() {
            prop_assert_eq!(name, Name::of(spelling));
            let first = headers.iter().find(|(other, _)| match name {
                Name::Other => other.eq_ignore_ascii_case(spelling),
                known => Name::of(other) == known,
            });
            prop_assert_eq!(message.other(std::str::from_utf8(spelling).unwrap()), first.map(|(_, value)| &value[..]));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in nearly_sip()) {
        touch(&bytes);
        touch(&[b"SIP/2.0 200 OK\r\n", &bytes[..]].concat());
        touch(&[b"NOTIFY sip:a@b SIP/2.0\r\nFrom: ", &bytes[..]].concat());
    }

    /// Folds, case, compact names, blanks and line ends are ways to write the same message.
    #[test]
    fn every_way_to_write_a_message_reads_alike(
        names in prop::collection::vec(0..3_usize, 8),
        upper in any::<u64>(),
        blanks in prop::collection::vec(prop::sample::select(vec!["", " ", "\t ", "\r\n ", " \r\n\t", "\n "]), 24),
        crlf in any::<bool>(),
        lead in 0..3_usize,
    ) {
        let plain = write(&[0; 8], 0, &[""; 24], true, 0);
        let odd = write(&names, upper, &blanks, crlf, lead);
        let (plain, odd) = (Message::parse(&plain).unwrap(), Message::parse(&odd).unwrap());
        prop_assert_eq!(keys(&plain), keys(&odd));
    }
}

/// Everything that tells messages and dialogs apart.
fn keys<'a>(message: &Message<'a>) -> impl PartialEq + std::fmt::Debug + use<'a> {
    let vias: Vec<_> = message
        .values(Name::Via)
        .map(|via| Via::parse(via).map(|via| (via.transport, via.host, via.port, via.branch(), via.rport())))
        .collect();
    let addresses = [message.from(), message.to(), message.refer_to()]
        .map(|it| it.map(|it| (it.display_text(), it.uri, it.tag(), it.params().iter().collect::<Vec<_>>())));
    let subscription = (message.event(), message.subscription_state());
    (message.start(), message.call_id(), message.cseq(), vias, addresses, subscription, message.body())
}

/// One message, with the name spellings, upper-case letters, blanks and line ends asked for.
fn write(names: &[usize], upper: u64, blanks: &[&str], crlf: bool, lead: usize) -> Vec<u8> {
    let mut blanks = blanks.iter().cycle();
    let mut blank = || blanks.next().copied().unwrap_or_default();
    let end = if crlf { "\r\n" } else { "\n" };
    let mut text = format!("{}NOTIFY sip:b@h SIP/2.0{end}", end.repeat(lead));
    let headers: [([&str; 2], &[&str]); 8] = [
        (
            ["Via", "v"],
            &[
                "SIP",
                "/",
                "2.0",
                "/",
                "UDP [::1]",
                ";",
                "branch",
                "=",
                "z9hG4bKx",
                ";",
                "rport",
                "=",
                "9",
                ",",
                "SIP/2.0/TCP h",
            ],
        ),
        (["From", "f"], &["\"A, \\\" <b>\"", "<sip:a@h;x=y>", ";", "tag", "=", "1"]),
        (["To", "t"], &["sip:b@h", ";", "tag", "=", "2", ";", "lr"]),
        (["Call-ID", "i"], &["abc@h"]),
        (["CSeq", "CSeq"], &["4294967295 NOTIFY"]),
        (["Refer-To", "r"], &["<sip:c@h?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>"]),
        (["Event", "o"], &["refer", ";", "id", "=", "7"]),
        (["Subscription-State", "Subscription-State"], &["terminated", ";", "reason", "=", "noresource"]),
    ];
    for (((spellings, parts), form), bit) in headers.into_iter().zip(names).zip(0..) {
        let spelling = spellings[form % 2];
        let flips = upper.rotate_left(bit * 8);
        let spelling: String = spelling
            .char_indices()
            .map(|(at, c)| if flips >> at & 1 == 1 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        text.push_str(&spelling);
        // No fold between a name and its colon: the colon would begin a line.
        text.push_str(if form % 3 == 2 { " \t:" } else { ":" });
        for part in parts {
            text.push_str(blank());
            text.push_str(part);
        }
        text.push_str(blank());
        text.push_str(end);
    }
    text.push_str(end);
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(b"SIP/2.0 200 OK\r\n");
    bytes
}

/// Reads everything there is to read.
fn touch(bytes: &[u8]) {
    let _ = (
        NameAddr::parse(bytes).map(|it| (it.tag(), it.display_text())),
        Via::parse(bytes).map(|it| it.received()),
    );
    let _ = Uri::parse(bytes)
        .map(|it| (it.number(), it.user_part(), it.header("Replaces"), it.params.iter().count()));
    let _ = (Replaces::parse(bytes), Join::parse(bytes), TargetDialog::parse(bytes), Event::parse(bytes));
    let _ = (
        SubscriptionState::parse(bytes),
        ReasonHeader::parse(bytes),
        Warning::parse(bytes),
        Number::parse(bytes),
    );
    let _ = (
        Sipfrag::parse(bytes).map(|it| it.reasons().count()),
        sdp::Session::parse(bytes).map(|it| it.is_hold()),
    );
    let _ = (line(bytes), percent_decode(bytes), unescape(bytes), Start::parse(bytes));
    let Ok(message) = Message::parse(bytes) else { return };
    let _ = (
        keys(&message),
        message.defects(),
        message.content_length(),
        message.contact(),
        message.bottom_via(),
    );
    let _ = (message.reasons().count(), message.warnings().count(), message.body_of("application/sdp"));
    let _ = (Sipfrag::of(&message).is_ok(), sdp::Session::of(&message));
    #[cfg(feature = "typed")]
    let _ = sipobs::sip::typed(&message);
    for (name, _, _) in message.all_headers() {
        let _ = message.values(name).count();
    }
}

/// More headers, lists and body parts than anyone needs are read up to the limits, and no slower for it:
/// were one of these quadratic, this test would take minutes.
#[test]
fn long_inputs_stay_bounded() {
    let many =
        [b"OPTIONS sip:a@b SIP/2.0\r\n".to_vec(), b"v: SIP/2.0/UDP h\r\n".repeat(3000), b"\r\n".to_vec()]
            .concat();
    let message = Message::parse(&many).unwrap();
    assert!(message.headers_capped());
    assert_eq!(message.headers(Name::Via).count(), 1024);
    let wide =
        [b"OPTIONS sip:a@b SIP/2.0\r\nm: ".to_vec(), b"x".repeat(70_000), b"\r\ni: 1\r\n\r\n".to_vec()]
            .concat();
    let message = Message::parse(&wide).unwrap();
    assert!(message.headers_capped() && message.headers_ended());
    assert_eq!(message.contact(), None);
    for piece in [
        "\"", "<", "(", "()", "(\\", ",", ";", "\\\"", "%", "--b\r\n", "\r\n ", "a:b\n", "&", "=", "/", "[",
        "<\"(",
    ] {
        let value = piece.repeat((1 << 16) / piece.len());
        touch(value.as_bytes());
        for head in ["f: ", "v: ", "m: ", "Warning: ", "Reason: ", "c: multipart/x;boundary=b\r\n\r\n"] {
            touch(format!("OPTIONS sip:a@b SIP/2.0\r\n{head}{value}").as_bytes());
            let short = &value[..value.floor_char_boundary(20_000)];
            touch(format!("OPTIONS sip:a@b SIP/2.0\r\n{head}{short}\r\n\r\n").as_bytes());
        }
    }
}
