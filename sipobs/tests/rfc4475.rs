//! The torture test messages of RFC 4475: valid ones are indexed in full, of invalid ones the defect is named,
//! and none is taken for another message.

use std::path::PathBuf;

use sipobs::sip::Defect::{
    self, Address, BodyShort, CSeq, CSeqMethod, ContentLength, Date, Missing, Repeated, RequestUri, Scalar,
    StartLineSpace, Unended, Version,
};
use sipobs::sip::{
    Message, Method, Name, NameAddr, ParseError, Scheme, Sipfrag, Start, Uri, Via, percent_decode, sdp,
};

/// What the index must say about one message.
struct Case {
    file: &'static str,
    /// The method of a request, as written, or the status of a response.
    start: &'static str,
    call_id: &'static str,
    cseq: Option<(u32, Method)>,
    from_tag: &'static str,
    to_tag: &'static str,
    /// Host and branch of the topmost Via.
    via: (&'static str, &'static str),
    vias: usize,
    body: usize,
    defects: &'static [Defect],
}

/// Sections 3.1 to 3.4, in order; `bigcode` is no message, see below. An empty string: not there.
#[rustfmt::skip]
const CASES: &[Case] = &[
    // 3.1.1: valid.
    case("wsinv", "INVITE", "wsinv.ndaksdj@192.0.2.1", Some((9, Method::Invite)), ("98asjd8", "1918181833n"), ("192.0.2.2", "390skdjuw"), 3, 150, &[]),
    case("intmeth", "!interesting-Method0123456789_*+`.%indeed'~", "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{", Some((139_122_385, Method::Other)), ("_token~1'+`*%!-.", ""), ("host1.example.com", "z9hG4bK-.!%66*_+`'~"), 1, 0, &[]),
    case("esc01", "INVITE", "esc01.239409asdfakjkn23onasd0-3234", Some((234_234, Method::Invite)), ("938", ""), ("host5.example.net", "z9hG4bKkdjuw"), 1, 150, &[]),
    case("escnull", "REGISTER", "escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd", Some((14_398_234, Method::Register)), ("839923423", ""), ("host5.example.com", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("esc02", "RE%47IST%45R", "esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf", Some((29_344, Method::Other)), ("f232jadfj23", ""), ("host.example.com", "z9hG4bK209%fzsnel234"), 1, 0, &[]),
    case("lwsdisp", "OPTIONS", "lwsdisp.1234abcd@funky.example.com", Some((60, Method::Options)), ("323", ""), ("funky.example.com", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("dblreq", "REGISTER", "dblreq.0ha0isndaksdj99sdfafnl3lk233412", Some((8, Method::Register)), ("43251j3j324", ""), ("192.0.2.125", "z9hG4bKkdjuw23492"), 1, 0, &[]),
    case("semiuri", "OPTIONS", "semiuri.0ha0isndaksdj", Some((8, Method::Options)), ("33242", ""), ("192.0.2.1", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("transports", "OPTIONS", "transports.kijh4akdnaqjkwendsasfdj", Some((60, Method::Options)), ("323", ""), ("t1.example.com", "z9hG4bKkdjuw"), 5, 0, &[]),
    case("mpart01", "MESSAGE", "3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..", Some((1, Method::Message)), ("2fb0dcc9", ""), ("127.0.0.1", "z9hG4bK-d87543-4dade06d0bdb11ee-1--d87543-"), 1, 553, &[]),
    case("unreason", "200", "unreason.1234ksdfak3j2erwedfsASdf", Some((35, Method::Invite)), ("11141343", "2229"), ("192.0.2.198", "z9hG4bK1324923"), 1, 154, &[]),
    case("noreason", "100", "noreason.asndj203insdf99223ndf", Some((35, Method::Invite)), ("39ansfi3", "902jndnke3"), ("192.0.2.105", "z9hG4bK2398ndaoe"), 1, 0, &[]),
    // 3.1.2: invalid. As shipped, `baddn` lacks its last empty line.
    case("badinv01", "INVITE", "badinv01.0ha0isndaksdjasdf3234nas", Some((8, Method::Invite)), ("134161461246", ""), ("192.0.2.15", ""), 2, 152, &[Via_, Address]),
    case("clerr", "INVITE", "clerr.0ha0isndaksdjweiafasdk3", Some((8, Method::Invite)), ("93942939o2", ""), ("host5.example.com", "z9hG4bK-39234-23523"), 1, 154, &[BodyShort]),
    case("ncl", "INVITE", "ncl.0ha0isndaksdj2193423r542w35", Some((0, Method::Invite)), ("32394234", ""), ("192.0.2.53", "z9hG4bKkdjuw"), 1, 152, &[ContentLength]),
    case("scalar02", "REGISTER", "scalar02.23o0pd9vanlq3wnrlnewofjas9ui32", None, ("239232jh3", ""), ("host129.example.com", "z9hG4bK342sdfoi3"), 1, 0, &[CSeq, Scalar]),
    case("scalarlg", "503", "scalarlg.noase0of0234hn2qofoaf0232aewf2394r", None, ("2easdjfejw", ""), ("host129.example.com", "z9hG4bKzzxdiwo34sw"), 1, 0, &[CSeq, Scalar]),
    case("quotbal", "INVITE", "quotbal.aksdj", Some((8, Method::Invite)), ("93334", ""), ("192.0.2.59", "z9hG4bKkdjuw39234"), 1, 152, &[Address]),
    case("ltgtruri", "INVITE", "ltgtruri.1@192.0.2.5", Some((1, Method::Invite)), ("39291", ""), ("192.0.2.5", ""), 1, 159, &[RequestUri]),
    case("lwsruri", "INVITE", "lwsruri.asdfasdoeoi2323-asdfwrn23-asd834rk423", Some((2_130_706_432, Method::Invite)), ("231413434", "3xfe-9921883-z9f"), ("192.0.2.1", "z9hG4bKkdjuw2395"), 1, 159, &[RequestUri]),
    case("lwsstart", "INVITE", "lwsstart.dfknq234oi243099adsdfnawe3@example.com", Some((1_893_884, Method::Invite)), ("8814", ""), ("host1.example.com", "z9hG4bKkdjuw3923"), 1, 150, &[StartLineSpace]),
    case("trws", "OPTIONS", "trws.oicu34958239neffasdhr2345r", Some((238_923, Method::Options)), ("329429089", ""), ("host1.examle.com", "z9hG4bK299342093"), 1, 0, &[StartLineSpace]),
    case("escruri", "INVITE", "escruri.23940-asdfhj-aje3br-234q098w-fawerh2q-h4n5", Some((149_209_342, Method::Invite)), ("341518", ""), ("host-of-the-hour.example.com", "z9hG4bKkdjuw"), 1, 150, &[RequestUri]),
    case("baddate", "INVITE", "baddate.239423mnsadf3j23lj42--sedfnm234", Some((1_392_934, Method::Invite)), ("2234923", ""), ("host.example.com", "z9hG4bKkdjuw"), 1, 150, &[Date]),
    case("regbadct", "REGISTER", "regbadct.k345asrl3fdbv@10.0.0.1", Some((1, Method::Register)), ("998332", ""), ("135.180.130.133", "z9hG4bKkdjuw"), 1, 0, &[Address]),
    case("badaspec", "OPTIONS", "badaspec.sdf0234n2nds0a099u23h3hnnw009cdkne3", Some((3_923_239, Method::Options)), ("433423", ""), ("host4.example.com", "z9hG4bKkdju43234"), 1, 0, &[Address]),
    case("baddn", "OPTIONS", "baddn.31415@c.example.com", Some((3_923_239, Method::Options)), ("43", ""), ("c.example.com", "z9hG4bKkdjuw"), 1, 0, &[Address, Unended]),
    case("badvers", "OPTIONS", "badvers.31417@c.example.com", Some((1, Method::Options)), ("qweoiqpe", ""), ("c.example.com", "z9hG4bKkdjuw"), 1, 0, &[Version]),
    case("mismatch01", "OPTIONS", "mismatch01.dj0234sxdfl3", Some((8, Method::Invite)), ("34525", ""), ("host.example.com", "z9hG4bKkdjuw"), 1, 0, &[CSeqMethod]),
    case("mismatch02", "NEWMETHOD", "mismatch02.dj0234sxdfl3", Some((8, Method::Invite)), ("34525", ""), ("host.example.net", "z9hG4bKkdjuw"), 1, 138, &[CSeqMethod]),
    // 3.2: the transaction layer. A branch that is but the cookie is none.
    case("badbranch", "OPTIONS", "badbranch.sadonfo23i420jv0as0derf3j3n", Some((8, Method::Options)), ("33242", ""), ("192.0.2.1", ""), 1, 0, &[]),
    // 3.3: the application layer. Only three of them break the grammar of the message itself.
    case("insuf", "INVITE", "", Some((193_942, Method::Invite)), ("", ""), ("192.0.2.95", "z9hG4bKkdj.insuf"), 1, 152, &[Missing]),
    case("unkscm", "OPTIONS", "unkscm.nasdfasser0q239nwsdfasdkl34", Some((3_923_423, Method::Options)), ("384", ""), ("host9.example.com", "z9hG4bKkdjuw39234"), 1, 0, &[]),
    case("novelsc", "OPTIONS", "novelsc.asdfasser0q239nwsdfasdkl34", Some((3_923_423, Method::Options)), ("384", ""), ("host9.example.com", "z9hG4bKkdjuw39234"), 1, 0, &[]),
    case("unksm2", "REGISTER", "unksm2.daksdj@hyphenated-host.example.com", Some((234_902, Method::Register)), ("3234233", ""), ("192.0.2.21", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("bext01", "OPTIONS", "bext01.0ha0isndaksdj", Some((8, Method::Options)), ("242etr", ""), ("fold-and-staple.example.com", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("invut", "INVITE", "invut.0ha0isndaksdjadsfij34n23d", Some((235_448, Method::Invite)), ("8392034", ""), ("somehost.example.com", "z9hG4bKkdjuw"), 1, 40, &[]),
    case("regaut01", "REGISTER", "regaut01.0ha0isndaksdj", Some((9_338, Method::Register)), ("87321hj23128", ""), ("192.0.2.253", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("multi01", "INVITE", "multi01.98asdh@192.0.2.1", Some((5, Method::Invite)), ("3413415", ""), ("192.0.2.25", "z9hG4bKkdjuw"), 1, 154, &[Repeated]),
    case("mcl01", "OPTIONS", "mcl01.fhn2323orihawfdoa3o4r52o3irsdf", Some((15_932, Method::Options)), ("3923942", ""), ("host5.example.net", "z9hG4bK293423"), 1, 67, &[ContentLength]),
    case("bcast", "200", "bcast.0384840201234ksdfak3j2erwedfsASdf", Some((35, Method::Invite)), ("11141343", "2229"), ("192.0.2.198", "z9hG4bK1324923"), 2, 154, &[]),
    case("zeromf", "OPTIONS", "zeromf.jfasdlfnm2o2l43r5u0asdfas", Some((39_234_321, Method::Options)), ("3ghsd41", ""), ("host1.example.com", "z9hG4bKkdjuw2349i"), 1, 0, &[]),
    case("cparam01", "REGISTER", "cparam01.70710@saturn.example.com", Some((2, Method::Register)), ("DkfVgjkrtMwaerKKpe", ""), ("saturn.example.com", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("cparam02", "REGISTER", "cparam02.70710@saturn.example.com", Some((3, Method::Register)), ("838293", ""), ("saturn.example.com", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("regescrt", "REGISTER", "regescrt.k345asrl3fdbv@192.0.2.1", Some((14_398_234, Method::Register)), ("8", ""), ("host5.example.com", "z9hG4bKkdjuw"), 1, 0, &[]),
    case("sdp01", "INVITE", "sdp01.ndaksdj9342dasdd", Some((8, Method::Invite)), ("234", ""), ("192.0.2.15", "z9hG4bKkdjuw"), 1, 150, &[]),
    // 3.4: backward compatibility with RFC 2543.
    case("inv2543", "INVITE", "inv2543.1717@ift.client.example.com", Some((56, Method::Invite)), ("", ""), ("iftgw.example.com", ""), 1, 105, &[]),
];

#[test]
fn every_message_is_indexed_as_the_rfc_says() {
    for case in CASES {
        let (file, bytes) = (case.file, read(case.file));
        let message = Message::parse(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        let start = match message.start() {
            Start::Request { token, .. } => text(token).to_owned(),
            Start::Response { status, .. } => status.to_string(),
        };
        assert_eq!(start, case.start, "{file}");
        assert_eq!(text(message.call_id().unwrap_or_default()), case.call_id, "{file}");
        assert_eq!(message.cseq().map(|cseq| (cseq.number, cseq.method)), case.cseq, "{file}");
        assert_eq!(tag(message.from()), case.from_tag, "{file}");
        assert_eq!(tag(message.to()), case.to_tag, "{file}");
        let via = message.top_via().unwrap();
        assert_eq!((text(via.host), text(via.branch().unwrap_or_default())), case.via, "{file}");
        assert_eq!(message.values(Name::Via).count(), case.vias, "{file}");
        assert_eq!(message.body().len(), case.body, "{file}");
        assert_eq!(message.defects().iter().collect::<Vec<_>>(), case.defects, "{file}");
        assert_eq!(message.junk_lines(), 0, "{file}");
    }
}

#[test]
fn all_49_are_there() {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "dat"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut covered: Vec<_> = CASES.iter().map(|case| case.file).collect();
    covered.extend(["longreq", "bigcode"]);
    files.sort();
    covered.sort_unstable();
    assert_eq!(files, covered);
    assert_eq!(files.len(), 49);
}

/// 3.1.2.19: "An element receiving this response will simply discard it."
#[test]
fn bigcode_is_no_message() {
    assert_eq!(Message::parse(&read("bigcode")).err(), Some(ParseError::StatusCode));
}

/// No message, however it is cut short, makes the parser panic or take a key from elsewhere.
#[test]
fn cut_messages_keep_their_keys_or_lose_them() {
    for case in CASES {
        let bytes = read(case.file);
        for end in 0..bytes.len() {
            let Ok(message) = Message::parse(&bytes[..end]) else { continue };
            let call_id = text(message.call_id().unwrap_or_default());
            assert!(case.call_id.starts_with(call_id), "{} cut at {end}", case.file);
            let _ = (message.cseq(), message.from(), message.to(), message.contact(), message.bottom_via());
            let _ = (message.defects(), Sipfrag::of(&message).is_ok(), sdp::Session::of(&message));
        }
    }
}

#[test]
fn wsinv() {
    let bytes = read("wsinv");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(text(message.request_uri().unwrap()), "sip:vivekg@chair-dnrc.example.com;unknownparam");
    assert_eq!(text(message.to().unwrap().uri), "sip:vivekg@chair-dnrc.example.com");
    let from = message.from().unwrap();
    assert_eq!(from.display_text().unwrap(), "J Rosenberg \\\"");
    assert_eq!(text(from.uri), "sip:jdrosen@example.com");
    assert_eq!(message.content_length(), Some(150));
    assert_eq!(text(message.header(Name::MaxForwards).unwrap()), "0068");
    assert_eq!(message.header(Name::Subject), Some(&b""[..]));
    assert_eq!(
        message.other("newfangledheader"),
        Some(&b"newfangled value\r\n continued newfangled value"[..])
    );
    assert_eq!(text(message.other("UnknownHeaderWithUnusualValue").unwrap()), ";;,,;;,;");
    let vias: Vec<_> = message
        .values(Name::Via)
        .map(|via| Via::parse(via).unwrap())
        .map(|via| (text(via.transport), text(via.host), text(via.branch().unwrap())))
        .collect();
    assert_eq!(
        vias,
        [
            ("UDP", "192.0.2.2", "390skdjuw"),
            ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
            ("UDP", "192.168.255.111", "z9hG4bK30239"),
        ]
    );
    let contact = message.contact().unwrap();
    assert_eq!(contact.display_text().unwrap(), "Quoted string \"\"");
    assert_eq!(contact.param("newparam"), Some(&b"newvalue"[..]));
    assert_eq!(contact.param("secondparam"), Some(&b""[..]));
    assert_eq!(contact.param("q"), Some(&b"0.33"[..]));
    assert_eq!(sdp::Session::of(&message).unwrap().media(), Some("192.0.2.4:49217".parse().unwrap()));
}

#[test]
fn intmeth() {
    let bytes = read("intmeth");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.method(), Some(Method::Other));
    let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
    // What follows the ':' of a userinfo is the password.
    assert_eq!(text(uri.user.unwrap()), "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*");
    assert_eq!(text(uri.host), "example.com");
    let to = message.to().unwrap();
    assert_eq!(to.display, Some(&b"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f"[..]));
    assert_eq!(text(to.uri), "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com");
    let from = message.from().unwrap();
    assert_eq!(text(from.display.unwrap()), "token1~` token2'+_ token3*%!.-");
    assert_eq!(text(from.param("fromParam''~+*_!.-%").unwrap()), "работающий");
    assert_eq!(message.other("EXTENSIONHEADER-!.%*+_`'~").map(text), Some("\u{feff}大停電"));
}

#[test]
fn escapes_in_uris_stay_apart() {
    let bytes = read("esc01");
    let message = Message::parse(&bytes).unwrap();
    let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
    assert_eq!((text(uri.user.unwrap()), text(uri.host)), ("sips%3Auser%40example.com", "example.net"));
    assert_eq!(uri.user_part().as_deref(), Some(&b"sips:user@example.com"[..]));
    let user = |address: NameAddr<'_>| address.parsed_uri().unwrap().user_part().unwrap().into_owned();
    assert_eq!(user(message.to().unwrap()), b"user");
    assert_eq!(user(message.from().unwrap()), b"I have spaces");
    let contact = message.contact().unwrap().parsed_uri().unwrap();
    assert_eq!(contact.user_part().as_deref(), Some(&b"caller"[..]));
    let params: Vec<_> = contact.params.iter().map(|(n, v)| (percent_decode(n), percent_decode(v))).collect();
    assert_eq!(params, [(b"lr"[..].into(), b""[..].into()), (b"name"[..].into(), b"value%41"[..].into())]);

    let bytes = read("escnull");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(user(message.to().unwrap()), b"null-\0-null");
    let contacts: Vec<_> =
        message.values(Name::Contact).map(|contact| user(NameAddr::parse(contact).unwrap())).collect();
    assert_eq!(contacts, [b"\0".to_vec(), b"\0\0".to_vec()]);

    // An escape in a method or a header name stands for nothing but itself.
    let bytes = read("esc02");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.method(), Some(Method::Other));
    assert_eq!(message.values(Name::Contact).count(), 2);
    assert_eq!(message.other("C%6Fntact").map(text), Some("<sip:alias2@host2.example.com>"));
    assert_eq!(message.to().unwrap().display_text().unwrap(), "%Z%45");
}

#[test]
fn longreq() {
    let bytes = read("longreq");
    let message = Message::parse(&bytes).unwrap();
    assert!(message.defects().is_empty(), "{:?}", message.defects());
    assert_eq!(message.values(Name::Via).count(), 34);
    assert_eq!(text(message.top_via().unwrap().host), "sip33.example.com");
    let bottom = message.bottom_via().unwrap();
    assert_eq!((text(bottom.host), bottom.received()), ("host.example.com", Some(&b"192.0.2.5"[..])));
    assert_eq!(bottom.branch().unwrap().len(), 215);
    assert_eq!(message.cseq().unwrap().number, 3_882_340);
    assert_eq!(text(message.call_id().unwrap()), format!("longreq.one{}longcallid", "really".repeat(20)));
    let from = message.from().unwrap();
    assert_eq!(text(from.uri), format!("sip:{}@example.net", "amazinglylongcallername".repeat(5)));
    assert_eq!(text(from.tag().unwrap()), format!("12{}424", "982".repeat(50)));
    let to = message.to().unwrap();
    assert_eq!(
        text(to.display.unwrap()),
        format!("I have a user name of {} proportion", "extreme".repeat(10))
    );
    assert_eq!(to.tag(), None);
    assert_eq!(to.parsed_uri().unwrap().port, Some(6000));
    assert_eq!(message.all_headers().count(), 43);
    assert_eq!(message.body().len(), 150);
}

/// The octets after the body are no part of the message; in a datagram they are to be thrown away.
#[test]
fn dblreq() {
    let bytes = read("dblreq");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.content_length(), message.body()), (Some(0), &b""[..]));
    assert_eq!(message.headers(Name::CallId).count(), 1);
    // As a stream, they are the next message, after line breaks (RFC 3261 §7.5).
    let next = Message::parse(message.after_headers()).unwrap();
    assert_eq!(next.method(), Some(Method::Invite));
    assert_eq!(text(next.call_id().unwrap()), "dblreq.0ha0isnda977644900765@192.0.2.15");
}

#[test]
fn uris() {
    let bytes = read("semiuri");
    let message = Message::parse(&bytes).unwrap();
    let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
    assert_eq!((text(uri.user.unwrap()), uri.params.iter().count()), ("user;par=u%40example.net", 0));
    assert_eq!(message.other("accept").map(|accept| accept.split(|&byte| byte == b',').count()), Some(6));

    let scheme = |file| {
        let bytes = read(file);
        let message = Message::parse(&bytes).unwrap();
        let uri = Uri::parse(message.request_uri().unwrap()).unwrap();
        (uri.scheme, text(uri.host).to_owned())
    };
    assert_eq!(scheme("unkscm"), (Scheme::Other, "totallyopaquecontent".to_owned()));
    assert_eq!(scheme("novelsc"), (Scheme::Other, "//192.0.2.103:3002".to_owned()));
    assert_eq!(scheme("escruri"), (Scheme::Sip, "example.com".to_owned()));
    assert_eq!(scheme("ltgtruri"), (Scheme::Sip, "example.com".to_owned()));
    assert_eq!(scheme("lwsstart"), (Scheme::Sip, "example.com".to_owned()));

    let bytes = read("unksm2");
    let message = Message::parse(&bytes).unwrap();
    let schemes =
        [message.to(), message.from(), message.contact()].map(|it| it.unwrap().parsed_uri().unwrap().scheme);
    assert_eq!(schemes, [Scheme::Other; 3]);
    assert_eq!(text(message.from().unwrap().uri), "http://www.example.com");
}

/// 3.3.12 and 3.3.13: without angle brackets a parameter is the header's, within them it is the URI's.
#[test]
fn contact_parameters() {
    for (file, header, uri) in [("cparam01", true, false), ("cparam02", false, true)] {
        let bytes = read(file);
        let contact =
            Message::parse(&bytes).unwrap().contact().map(|it| (it, it.parsed_uri().unwrap())).unwrap();
        assert_eq!(contact.0.param("unknownparam").is_some(), header, "{file}");
        assert_eq!(contact.1.params.has("unknownparam"), uri, "{file}");
        assert_eq!(contact.1.number().unwrap().digits(), "19725552222", "{file}");
    }
    let bytes = read("regescrt");
    let message = Message::parse(&bytes).unwrap();
    let route = message.contact().unwrap().parsed_uri().unwrap().header("Route").map(|it| it.into_owned());
    assert_eq!(route.as_deref(), Some(&b"<sip:sip.example.com>"[..]));
}

#[test]
fn transports_and_hops() {
    let bytes = read("transports");
    let message = Message::parse(&bytes).unwrap();
    let transports: Vec<_> =
        message.values(Name::Via).map(|via| text(Via::parse(via).unwrap().transport)).collect();
    assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);

    let bytes = read("bcast");
    assert_eq!(text(Message::parse(&bytes).unwrap().bottom_via().unwrap().host), "255.255.255.255");
    let bytes = read("zeromf");
    assert_eq!(Message::parse(&bytes).unwrap().header(Name::MaxForwards), Some(&b"0"[..]));
    let bytes = read("bext01");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(
        message.values(Name::Require).map(text).collect::<Vec<_>>(),
        ["nothingSupportsThis", "nothingSupportsThisEither"]
    );
}

#[test]
fn reason_phrases() {
    let bytes = read("unreason");
    let phrase = Message::parse(&bytes).unwrap().reason_phrase();
    assert_eq!(phrase.map(text), Some("= 2**3 * 5**2 но сто девяносто девять - простое"));
    let bytes = read("noreason");
    assert_eq!(Message::parse(&bytes).unwrap().reason_phrase(), Some(&b""[..]));
}

#[test]
fn bodies() {
    let bytes = read("mpart01");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.body_of("text/plain"), Some(&b"Hello"[..]));
    assert_eq!(message.body_of("application/octet-stream").map(<[u8]>::len), Some(342));
    let bytes = read("invut");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.body_of("application/unknownformat").map(<[u8]>::len), Some(40));
    assert_eq!(sdp::Session::of(&message), None);
    // Between two lengths there is no telling: all that is there is the body.
    let bytes = read("mcl01");
    assert_eq!(Message::parse(&bytes).unwrap().content_length(), None);
}

/// Where a header is repeated, the first counts, so that one message gives one set of keys.
#[test]
fn multi01() {
    let bytes = read("multi01");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(text(message.to().unwrap().uri), "sip:user@example.com");
    assert_eq!(
        message.headers(Name::CallId).map(text).collect::<Vec<_>>(),
        ["multi01.98asdh@192.0.2.1", "multi01.98asdh@192.0.2.2"]
    );
}

#[allow(non_upper_case_globals, reason = "`Via` alone would be the header")]
const Via_: Defect = Defect::Via;

#[allow(clippy::too_many_arguments, reason = "one line a message reads as a table")]
const fn case(
    file: &'static str,
    start: &'static str,
    call_id: &'static str,
    cseq: Option<(u32, Method)>,
    (from_tag, to_tag): (&'static str, &'static str),
    via: (&'static str, &'static str),
    vias: usize,
    body: usize,
    defects: &'static [Defect],
) -> Case {
    Case { file, start, call_id, cseq, from_tag, to_tag, via, vias, body, defects }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rfc4475")
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(folder().join(file).with_extension("dat")).expect("a message of RFC 4475")
}

fn tag(address: Option<NameAddr<'_>>) -> &str {
    address.and_then(|address| address.tag()).map(text).unwrap_or_default()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}
