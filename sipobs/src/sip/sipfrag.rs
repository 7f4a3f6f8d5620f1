//! `message/sipfrag` bodies: how a transferee tells what became of a REFER (RFC 3420, RFC 3515 §2.4.5).

use super::index::{Headers, line_end};
use super::message::Start;
use super::text::{Split, trim};
use super::{Message, Name, ReasonHeader, Warning};

/// Why a body tells no status. Never carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum SipfragError {
    /// There is no sipfrag body.
    #[error("no message/sipfrag body")]
    Missing,
    /// It does not begin with a status line.
    #[error("sipfrag: no status line")]
    StatusLine,
}

/// A fragment of a response.
#[derive(Clone, Debug)]
pub struct Sipfrag<'a> {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: &'a [u8],
    headers: Headers<'a>,
}

impl<'a> Sipfrag<'a> {
    /// The sipfrag in a message's body, or in a part of it. A body without Content-Type is looked at too:
    /// nothing else goes in a NOTIFY of the refer package.
    pub fn of(message: &Message<'a>) -> Result<Self, SipfragError> {
        let body = match message.header(Name::ContentType) {
            Some(_) => message.body_of("message/sipfrag"),
            None => Some(message.body()),
        };
        Self::parse(body.filter(|body| !body.is_empty()).ok_or(SipfragError::Missing)?)
    }

    /// A sipfrag. Its last line break may be missing, and an HTTP status line is taken as well: RFC 3515
    /// §2.4.5 allows to refer to any scheme.
    pub fn parse(body: &'a [u8]) -> Result<Self, SipfragError> {
        let lead = body.iter().take_while(|&&byte| super::text::is_space(byte)).count();
        let body = &body[lead..];
        let end = line_end(body, 0);
        let first_line = trim(&body[..end]);
        let Some((status, reason)) = status_line(first_line) else {
            return Err(SipfragError::StatusLine);
        };
        let (headers, _) = Headers::index(&body[end..]);
        Ok(Self { status, reason, headers })
    }

    /// First value of a header in it.
    pub fn header(&self, name: Name) -> Option<&'a [u8]> {
        self.headers.named(name).next()
    }

    /// First value of the header spelt `name`, in any case.
    pub fn other(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.other(name)
    }

    /// Its Reason values.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonHeader<'a>> + '_ {
        self.values(Name::Reason).filter_map(ReasonHeader::parse)
    }

    /// Its Warning values.
    pub fn warnings(&self) -> impl Iterator<Item = Warning<'a>> + '_ {
        self.values(Name::Warning).filter_map(Warning::parse)
    }

    fn values(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.headers.named(name).flat_map(|line| Split::new(line, b','))
    }
}

fn status_line(line: &[u8]) -> Option<(u16, &[u8])> {
    match Start::parse(line) {
        Ok(Start::Response { status, reason }) => Some((status, reason)),
        Ok(Start::Request { .. }) => None,
        Err(_) => {
            let (version, rest) = super::text::word(line);
            let (digits, reason) = super::text::word(rest);
            let http = version.get(..5)?.eq_ignore_ascii_case(b"HTTP/");
            let status = super::text::number(digits).filter(|_| http && digits.len() == 3)?;
            (100..=699).contains(&status).then_some((status, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let cases: [(&str, u16, &str); 7] = [
            ("SIP/2.0 100 Trying\r\n", 100, "Trying"),
            ("SIP/2.0 200 OK", 200, "OK"),
            ("SIP/2.0 603\r\n\r\n", 603, ""),
            ("\r\n SIP/2.0 486 Busy Here \n", 486, "Busy Here"),
            ("sip/2.0  180  Ringing\n", 180, "Ringing"),
            ("HTTP/1.1 404 Not Found\r\n", 404, "Not Found"),
            ("SIP/2.0 503 Service Unavailable\r\nRetry-After: 5\r\n", 503, "Service Unavailable"),
        ];
        for (body, status, reason) in cases {
            let sipfrag = Sipfrag::parse(body.as_bytes()).unwrap();
            assert_eq!((sipfrag.status, sipfrag.reason), (status, reason.as_bytes()), "{body}");
        }
    }

    #[test]
    fn no_status() {
        for body in [
            "",
            "\r\n",
            "INVITE sip:a@b SIP/2.0\r\n",
            "200 OK",
            "SIP/2.0 OK",
            "SIP/2.0 99 x",
            "SIP/2.0 2000 x",
        ] {
            assert_eq!(Sipfrag::parse(body.as_bytes()).err(), Some(SipfragError::StatusLine), "{body}");
        }
    }

    #[test]
    fn headers() {
        let body = b"SIP/2.0 486 Busy Here\r\nReason: Q.850;cause=17, SIP;cause=486\r\nWarning: 399 h \"no, really\"\r\n\
                     X-Twilio-Error: 32205\r\n";
        let sipfrag = Sipfrag::parse(body).unwrap();
        assert_eq!(sipfrag.reasons().filter_map(|reason| reason.q850()).collect::<Vec<_>>(), [17]);
        assert_eq!(sipfrag.warnings().next().unwrap().text, b"no, really");
        assert_eq!(sipfrag.header(Name::XTwilioError), Some(&b"32205"[..]));
    }
}
