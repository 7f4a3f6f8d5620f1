//! rsip's typed view of a message, for where ownership and types are worth more than speed: debug views, and a
//! second opinion in tests. Keys and verdicts never come from here.
//!
//! rsip 0.4 knows no folds, compact names, or bytes that are not UTF-8, reads one Via a line, and some of its
//! typed lists need quadratic time. So it gets a normalised message of bounded length without long routes, and
//! what it makes of it counts only if both agree on what names the dialog.

use std::fmt::Write as _;

use rsip::headers::{ToTypedHeader as _, UntypedHeader as _};
use rsip::message::HeadersExt as _;

use super::text::{Split, is_token, line, lossy};
use super::{Message, Name, NameAddr, Start};

/// Longest message viewed, body included, in bytes.
const MAX_BYTES: usize = 8 << 10;

/// Most headers viewed.
const MAX_HEADERS: usize = 64;

/// Longest value of a Route or Record-Route line viewed, in bytes: the time rsip needs for a list grows with
/// the square of its length.
const MAX_ROUTE: usize = 256;

/// The message as rsip sees it; `None` if it is too long or too odd for rsip, or if rsip sees another Call-ID,
/// CSeq or tag in it than the index does.
pub fn typed(message: &Message<'_>) -> Option<rsip::SipMessage> {
    if message.bytes().len() > MAX_BYTES || message.all_headers().nth(MAX_HEADERS).is_some() {
        return None;
    }
    let mut routes = message.headers(Name::Route).chain(message.headers(Name::RecordRoute));
    if routes.any(|route| route.len() > MAX_ROUTE) {
        return None;
    }
    let typed = rsip::SipMessage::try_from(normalised(message)?).ok()?;
    agrees(message, &typed)?.then_some(typed)
}

/// The message as RFC 3261 has it written: long names, a value a line, no folds, UTF-8.
fn normalised(message: &Message<'_>) -> Option<Vec<u8>> {
    let mut text = String::with_capacity(message.bytes().len() + 256);
    match message.start() {
        Start::Request { token, uri, .. } => write!(text, "{} {} SIP/2.0\r\n", lossy(token), line(uri)),
        Start::Response { status, reason } => write!(text, "SIP/2.0 {status} {}\r\n", line(reason)),
    }
    .ok()?;
    for (name, spelling, value) in message.all_headers() {
        match name {
            // Written anew below, for the body that the index sees.
            Name::ContentLength => {}
            Name::Via => {
                for via in Split::new(value, b',').filter(|via| !via.is_empty()) {
                    write!(text, "Via: {}\r\n", line(via)).ok()?;
                }
            }
            Name::From | Name::To => {
                let address = address(&NameAddr::parse(value)?);
                write!(text, "{}: {address}\r\n", name.as_str()).ok()?;
            }
            Name::Other => write!(text, "{}: {}\r\n", lossy(spelling), line(value)).ok()?,
            known => write!(text, "{}: {}\r\n", known.as_str(), line(value)).ok()?,
        }
    }
    let body = message.body();
    write!(text, "Content-Length: {}\r\n\r\n", body.len()).ok()?;
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    Some(bytes)
}

/// An address without blanks between its parts, which rsip does not read.
fn address(address: &NameAddr<'_>) -> String {
    let display = address.display.map(|display| format!("\"{}\" ", line(display))).unwrap_or_default();
    let mut text = format!("{display}<{}>", line(address.uri));
    for (name, value) in address.params().iter() {
        text.push(';');
        text.push_str(&lossy(name));
        match value {
            [] => {}
            token if is_token(token) => text.extend(["=", &lossy(token)]),
            quoted => text.extend(["=\"", &line(quoted), "\""]),
        }
    }
    text
}

/// Whether both see the same Call-ID, CSeq and tags; `None` if rsip can't read one of them.
fn agrees(message: &Message<'_>, typed: &rsip::SipMessage) -> Option<bool> {
    let cseq = typed.cseq_header().ok()?.typed().ok()?;
    let (number, method) = message.cseq_parts()?;
    let from = typed.from_header().ok()?.typed().ok()?;
    let to = typed.to_header().ok()?.typed().ok()?;
    let same = |tag: Option<&rsip::common::uri::param::Tag>, ours: Option<&[u8]>| {
        tag.map(rsip::common::uri::param::Tag::value).unwrap_or_default() == lossy(ours.unwrap_or_default())
    };
    Some(
        lossy(message.call_id()?) == typed.call_id_header().ok()?.value()
            && cseq.seq == number
            && lossy(method) == cseq.method.to_string()
            && same(from.tag(), message.from()?.tag())
            && same(to.tag(), message.to()?.tag()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &[u8] = b"INVITE sip:b@h SIP/2.0\r\nv: SIP/2.0/UDP a.example.com;branch=z9hG4bK1 ,\r\n SIP/2.0/TCP \
        b.example.com;branch=z9hG4bK2\r\nf: \"A\" <sip:a@h>\r\n ;tag=1\r\nt: <sip:b@h>\r\ni: x@h\r\nCSEQ:  7\r\n INVITE\r\n\
        User-Agent: na\xefve\r\nl: 2\r\n\r\nhi and more";

    #[test]
    fn normalised_enough_for_rsip() {
        let message = Message::parse(ODD).unwrap();
        let typed = typed(&message).unwrap();
        assert!(typed.is_request());
        assert_eq!(typed.call_id_header().unwrap().value(), "x@h");
        assert_eq!(typed.from_header().unwrap().typed().unwrap().uri.to_string(), "sip:a@h");
        assert_eq!(typed.user_agent_header().unwrap().value(), "na\u{ef}ve");
        let vias =
            rsip::message::HasHeaders::headers(&typed).iter().filter(|it| matches!(it, rsip::Header::Via(_)));
        assert_eq!(vias.count(), 2);
        assert_eq!(rsip::message::HasHeaders::headers(&typed).iter().count(), 8);
    }

    #[test]
    fn refuses_what_costs_too_much() {
        let with = |extra: &str| {
            let head =
                "INVITE sip:b@h SIP/2.0\r\nf: <sip:a@h>;tag=1\r\nt: <sip:b@h>\r\ni: x\r\nCSeq: 7 INVITE\r\n";
            let bytes = format!("{head}{extra}\r\n");
            typed(&Message::parse(bytes.as_bytes()).unwrap()).is_some()
        };
        assert!(with("Route: <sip:p@h;lr>\r\n"));
        assert!(!with(&format!("Route: {}\r\n", "<sip:p@h;lr>, ".repeat(50))));
        assert!(!with(&"X: y\r\n".repeat(MAX_HEADERS)));
        assert!(!with(&format!("X: {}\r\n", "y".repeat(MAX_BYTES))));
    }

    #[test]
    fn refuses_where_the_two_differ() {
        // A dialog named by something rsip can't read at all.
        for from in ["tel:+1555;tag=1", "\"A <sip:a@h>;tag=1"] {
            let bytes = format!(
                "INVITE sip:b@h SIP/2.0\r\nf: {from}\r\nt: <sip:b@h>\r\ni: x\r\nCSeq: 7 INVITE\r\n\r\n"
            );
            let message = Message::parse(bytes.as_bytes()).unwrap();
            let view = typed(&message);
            assert!(view.is_none_or(|view| agrees(&message, &view) == Some(true)), "{from}");
        }
        let damaged = b"INVITE sip:b@h SIP/2.0\r\nf: <sip:a@h>;tag=1\r\nt: <sip:b@h>\r\ni: x\r\nCSeq: 99999999999 INVITE\r\n\r\n";
        assert!(typed(&Message::parse(damaged).unwrap()).is_none());
    }
}
