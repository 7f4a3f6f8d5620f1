//! Via (RFC 3261 §20.42, RFC 3581).

use memchr::memchr;

use super::text::{Params, number, trim, unquote, word};
use super::uri::host_port;

/// One Via value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// The transport as written, such as `UDP`.
    pub transport: &'a [u8],
    /// The host the sender gives; an IPv6 address without its brackets.
    pub host: &'a [u8],
    /// The port the sender gives.
    pub port: Option<u16>,
    params: Params<'a>,
}

impl<'a> Via<'a> {
    /// One value; white space may stand around every part.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (transport, rest) = word(after_version(value)?);
        let semicolon = memchr(b';', rest).unwrap_or(rest.len());
        let (host, port) = host_port(&rest[..semicolon])?;
        Some(Self { transport, host, port, params: Params::new(&rest[semicolon..]) })
    }

    /// The transaction's branch; `None` if it is missing or empty, or is nothing but the cookie of
    /// RFC 3261 §8.1.1.7: that one tells no transaction from another (RFC 4475 §3.2.1).
    pub fn branch(&self) -> Option<&'a [u8]> {
        let branch = self.params.get("branch")?;
        (!branch.is_empty() && !branch.eq_ignore_ascii_case(b"z9hG4bK")).then_some(branch)
    }

    /// The address the receiver saw, without the brackets some put around IPv6.
    pub fn received(&self) -> Option<&'a [u8]> {
        let received = unquote(self.params.get("received")?);
        let inner = received.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]"));
        Some(inner.unwrap_or(received)).filter(|received| !received.is_empty())
    }

    /// The port the receiver saw (RFC 3581); `None` also where it is only asked for.
    pub fn rport(&self) -> Option<u16> {
        number(self.params.get("rport")?)
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.params
    }
}

/// What follows `SIP/2.0/`: the transport (sent-protocol is name "/" version "/" transport).
fn after_version(value: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = value.strip_prefix(b"SIP/2.0/") {
        return Some(rest);
    }
    let name = memchr(b'/', value)?;
    let version = name + 1 + memchr(b'/', &value[name + 1..])?;
    trim(&value[..name]).eq_ignore_ascii_case(b"SIP").then(|| &value[version + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_spaced() {
        let via =
            Via::parse(b"SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bK1;received=[2001:db8::1];rport=99")
                .unwrap();
        assert_eq!((via.transport, via.host, via.port), (&b"UDP"[..], &b"2001:db8::9"[..], Some(5070)));
        assert_eq!(via.branch(), Some(&b"z9hG4bK1"[..]));
        assert_eq!(via.received(), Some(&b"2001:db8::1"[..]));
        assert_eq!(via.rport(), Some(99));

        let via =
            Via::parse(b"SIP  / 2.0\r\n  / TCP     spindle.example.com : 5060  ;\r\n branch  =   z9 ;rport")
                .unwrap();
        assert_eq!(
            (via.transport, via.host, via.port),
            (&b"TCP"[..], &b"spindle.example.com"[..], Some(5060))
        );
        assert_eq!((via.branch(), via.rport(), via.received()), (Some(&b"z9"[..]), None, None));
    }

    #[test]
    fn damaged() {
        for value in ["", "SIP/2.0", "SIP/2.0/UDP", "SIP/2.0/UDP ;;", "HTTP/1.1/TCP h", "SIP/2.0/UDP h:x"] {
            assert_eq!(Via::parse(value.as_bytes()), None, "{value}");
        }
    }
}
