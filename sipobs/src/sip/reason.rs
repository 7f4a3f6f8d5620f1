//! Reason (RFC 3326, RFC 8606) and Warning (RFC 3261 §20.43) values.

use memchr::memchr;

use super::text::{Params, Split, number, trim, unquote, word};

/// A Reason value: why a request or response was sent. A header may hold several, one a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonHeader<'a> {
    /// The protocol as written, such as `SIP` or `Q.850`.
    pub protocol: &'a [u8],
    /// The cause: a status for SIP, a cause value for Q.850.
    pub cause: Option<u16>,
    /// The text, without its quotes, with its escapes.
    pub text: Option<&'a [u8]>,
    /// Who gave the cause (RFC 8606): `U` user, `LN`, `TN`, `RLN`, `INTL`, `BI` networks.
    pub location: Option<&'a [u8]>,
}

impl<'a> ReasonHeader<'a> {
    /// Every value of a header's line.
    pub fn all(line: &'a [u8]) -> impl Iterator<Item = Self> {
        Split::new(line, b',').filter_map(Self::parse)
    }

    /// One value; `None` without a protocol.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let semicolon = memchr(b';', value).unwrap_or(value.len());
        let protocol = trim(&value[..semicolon]);
        let params = Params::new(&value[semicolon..]);
        let some = |name| params.get(name).filter(|value| !value.is_empty());
        (!protocol.is_empty()).then(|| Self {
            protocol,
            // Some write it in quotes, which `Params` takes away.
            cause: some("cause").and_then(number),
            text: some("text"),
            location: some("location"),
        })
    }

    /// The Q.850 cause, if that is its protocol.
    pub fn q850(&self) -> Option<u16> {
        self.cause.filter(|_| self.protocol.eq_ignore_ascii_case(b"Q.850"))
    }

    /// The SIP status, if that is its protocol.
    pub fn sip(&self) -> Option<u16> {
        self.cause.filter(|_| self.protocol.eq_ignore_ascii_case(b"SIP"))
    }
}

/// A Warning value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning<'a> {
    /// Three digits.
    pub code: u16,
    /// Who warns: a host or a pseudonym.
    pub agent: &'a [u8],
    /// The text, without its quotes, with its escapes.
    pub text: &'a [u8],
}

impl<'a> Warning<'a> {
    /// One value; `None` if its code is not three digits.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (code, rest) = word(value);
        let (agent, text) = word(rest);
        let code = number(code).filter(|_| code.len() == 3)?;
        Some(Self { code, agent, text: unquote(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        let reason = ReasonHeader::parse(b"Q.850 ;cause=17 ;text=\"User, busy\";location=U").unwrap();
        assert_eq!((reason.q850(), reason.sip()), (Some(17), None));
        assert_eq!((reason.text, reason.location), (Some(&b"User, busy"[..]), Some(&b"U"[..])));
        let reason = ReasonHeader::parse(b"sip;cause=\"200\"").unwrap();
        assert_eq!((reason.q850(), reason.sip()), (None, Some(200)));
        assert_eq!(ReasonHeader::parse(b"SIP;cause=70000").unwrap().cause, None);
        assert_eq!(ReasonHeader::parse(b";cause=1"), None);
    }

    #[test]
    fn warnings() {
        let warning = Warning::parse(b"399 edge.example.com \"Caller ID is \\\"off\\\"\"").unwrap();
        assert_eq!((warning.code, warning.agent), (399, &b"edge.example.com"[..]));
        assert_eq!(warning.text, b"Caller ID is \\\"off\\\"");
        assert_eq!(Warning::parse(b"1812 overture \"In Progress\""), None);
        assert_eq!(Warning::parse(b"399").unwrap().text, b"");
    }
}
