//! What is left of a message, and what is not.

use super::*;

/// What is written of a message with these headers and this body, in a call of 5105550138 and Wolfgang Vogt.
fn written(addresses: bool, headers: &str, body: &str) -> String {
    let mut people = People::default();
    people.users.insert("+15105550138".to_owned());
    people.names.insert("Wolfgang Vogt".to_owned());
    let message = format!(
        "INVITE sip:+15105550138@b.example SIP/2.0\r\nCall-ID: abcd@10.88.0.1\r\nCSeq: 71 INVITE\r\n\
         {headers}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let out = Redactor::new(&people, addresses).message(message.as_bytes());
    assert_eq!(out.len(), message.len());
    String::from_utf8(out).unwrap()
}

/// Whether a word is left of four redactions: a short one may be there by chance in one of them.
fn is_there(headers: &str, body: &str, word: &str) -> bool {
    (0..4).all(|_| written(false, headers, body).contains(word))
}

#[test]
fn nothing_that_names_or_lets_in_is_left_in_headers() {
    for (header, words) in [
        ("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "QWxhZGRpbjpvcGVuIHNlc2FtZQ"),
        ("Authorization: QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "QWxhZGRpbjpvcGVuIHNlc2FtZQ"),
        ("Authorization: Bearer eyJh.eyJz.sigSIG==", "eyJh eyJz sigSIG"),
        ("Authorization: Digest\tusername=\"heinrich\",nonce=\"nnnn77\"", "heinrich nnnn77"),
        (
            "Proxy-Authorization: Digest\r\n\tusername=\"heinrich\",\r\n response=\"cafebabe\"",
            "heinrich cafebabe",
        ),
        ("WWW-Authenticate: Digest realm=\"x\", nonce=\"wwwNonce\", odd=\"oddOne\"", "wwwNonce oddOne"),
        ("Authentication-Info: nextnonce=\"deadbeef\", rspauth=\"cafebabe\"", "deadbeef cafebabe"),
        ("Proxy-Authentication-Info: rspauth = \"cafebabe\"", "cafebabe"),
        ("s: Kuendigung Zimmermann", "Kuendigung Zimmermann"),
        ("Reply-To: Gottfried Keller <sip:gkeller@x.example>", "Gottfried Keller gkeller"),
        ("X-R: \"Gott\\\" fried\" <sip:9876@x>, Else Lasker <sip:1@x>", "Gott fried 9876 Else Lasker"),
        ("From: \"Gottfried Kel", "Gottfried"),
        ("Diversion: <sip:1@x>;cn=\"Cname Taucher\";reason=unconditional", "Cname Taucher"),
        (
            "X-R: <sip:1@x?Referred-By=%22Hilde%20Bingen%22%20%3Csip%3Ahbin%40x%3E&Subject=Sache%20Orion>",
            "Hilde Bingen hbin Sache Orion",
        ),
        ("X-R: <sip:1@x?User-to-User=4a6f686e20536d697468%3Bencoding%3Dhex>", "4a6f686e20536d697468"),
        ("Content-Disposition: session;filename=\"Ottokar 5105550199.pdf\"", "Ottokar 5105550199"),
        ("Content-Type: application/x;name=\"Brunhilde\"", "Brunhilde"),
        ("Event: refer;id=15105550199", "15105550199"),
        ("Subscription-State: active;contact=\"5105550188\"", "5105550188"),
        ("Require: x-5105550166", "5105550166"),
        ("Allow: X5105550138", "5105550138"),
        ("Date: Wolfgang 5105550138", "Wolfgang 5105550138"),
        ("Max-Forwards: 5105550138", "5105550138"),
        ("Min-SE: 5105550138", "5105550138"),
        ("RAck: 5105550140 1 X", "5105550140"),
        ("Refer-Sub: Wolfgang", "Wolfgang"),
        ("X-5105550155: y", "5105550155"),
    ] {
        for word in words.split(' ') {
            assert!(!is_there(header, "", word), "{header}: {word}: {}", written(false, header, ""));
        }
    }
}

#[test]
fn what_a_verdict_rests_on_stays() {
    for header in [
        "Event: refer;id=93809823",
        "RAck: 776656 314159 INVITE",
        "RSeq: 776656789",
        "Subscription-State: terminated;reason=noresource",
        "Content-Type: message/sipfrag;version=2.0",
        "Max-Forwards: 70",
        "Date: Sat, 13 Nov 2010 23:29:00 GMT",
        "Authorization: Digest algorithm=MD5",
        "Reason: Q.850;cause=17;text=\"busy\"",
    ] {
        assert!(written(true, header, "").contains(header), "{}", written(true, header, ""));
    }
}

#[test]
fn bodies_of_several_parts_are_told_apart_still() {
    let headers = "Content-Type: multipart/mixed;boundary=\"unique-Leonore-5105550138\"";
    let body = "preamble Oskar\r\n--unique-Leonore-5105550138\r\nContent-Type: application/sdp; name=\"Brunhilde\"\r\n\
         Content-Description: for Siegmund\r\n\r\nv=0\r\nb=X-5105550137:1\r\nm=audio 4000 RTP/AVP 0 8 101 18\r\n\
         --unique-Leonore-5105550138--\r\nepilogue Ottilie\r\n";
    for word in "Oskar Leonore 5105550138 Brunhilde Siegmund 5105550137 Ottilie".split(' ') {
        assert!(!is_there(headers, body, word), "{word}: {}", written(false, headers, body));
    }
    let out = written(false, headers, body);
    let boundary = out.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(out.matches(&format!("\r\n--{boundary}")).count(), 2, "{out}");
    assert!(out.contains("m=audio 4000 RTP/AVP 0 8 101 18"), "{out}");
}

#[test]
fn an_address_is_the_same_one_however_it_is_escaped() {
    let out = written(
        true,
        "Refer-To: <sip:1@x?Replaces=abcd%4010.88.0.1%3Bto-tag%3D10.88.0.2>\r\n\
         X-10.88.0.3: x\r\nX-A: [2001:db8::78] %5B2001%3Adb8%3A%3A78%5D =%3D10.88.0.1 a10.88.0.1 2001:db8::10.88.0.1 10.88%2E0.1",
        "",
    );
    let call_id = out.split("Call-ID: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(out.contains(&format!("Replaces={}%3B", call_id.replace('@', "%40"))), "{out}");
    let address = call_id.split('@').nth(1).unwrap();
    assert_eq!(out.matches(address).count(), 5, "{out}");
    assert!(!out.contains("10.88"), "{out}");
    let v6 = out.split('[').nth(1).unwrap().split(']').next().unwrap();
    assert!(v6 != "2001:db8::78" && out.contains(&format!("%5B{}%5D", v6.replace(':', "%3A"))), "{out}");
}

#[test]
fn a_call_id_is_the_same_one_however_it_is_named() {
    for id in
        ["a<b>c@h", "a\"b@h", "(ab)c?de=f@10.1.2.3", "password=abcd@h", "pin:12345@h", "12345678", "nonce=a"]
    {
        let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let headers = format!(
            "X-Call-ID: {id}\r\nReplaces: {id};to-tag=a\r\nRefer-To: <sip:1@x?a=b&Replaces={escaped}%3Bto-tag%3Da>"
        );
        let out = written(true, &headers, "");
        let line = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let id = line("X-Call-ID: ");
        assert_eq!(line("Replaces: "), format!("{id};to-tag=a"));
        let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert!(out.contains(&format!("Replaces={escaped}%3B")), "{out}");
    }
}

#[test]
fn of_sdp_only_what_everybody_has_stays() {
    let body = "v=0\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\na=X-nick:Leopold\r\n\
                a=candidate:1 1 udp 2130706431 192.168.77.1 5000 typ host ufrag CANDUF\r\n\
                a=path:msrp://ulrike:pw@10.1.1.1:7394/sesSECRET;tcp\r\n";
    let headers = "Content-Type: application/sdp";
    for word in ["Leopold", "CANDUF", "ulrike", "sesSECRET"] {
        assert!(!is_there(headers, body, word), "{word}");
    }
    let out = written(false, headers, body);
    assert!(out.contains("a=rtpmap:101 telephone-event/8000\r\na=sendonly\r\na=X-nick:"), "{out}");
}

#[test]
fn a_number_is_the_same_one_whatever_follows_behind_a_blank() {
    let out = written(false, "X-N: z9hG4bK5105550138 510\tx 5105550138\t5105550177 y", "");
    let number = &out[out.find("sip:+").unwrap() + 6..][..10];
    assert_eq!(out.matches(number).count(), 3, "{out}");
}
