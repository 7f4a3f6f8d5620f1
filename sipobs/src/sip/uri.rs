//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966) and the numbers in them.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr2};

use super::text::{Params, number, percent_decode, token_len, trim};

/// A URI's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `sip`
    Sip,
    /// `sips`
    Sips,
    /// `tel`
    Tel,
    /// Any other. The URI is opaque: all of it stands in `host`.
    Other,
}

/// A URI, taken apart. Escapes are kept: compare with [`percent_decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// Its scheme.
    pub scheme: Scheme,
    /// The user with its own parameters, without password; of a tel URI, the number.
    pub user: Option<&'a [u8]>,
    /// The host; an IPv6 address without its brackets; empty for tel.
    pub host: &'a [u8],
    /// The port.
    pub port: Option<u16>,
    /// The URI's parameters.
    pub params: Params<'a>,
    headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// One URI, bare or in angle brackets; `None` without a scheme, or where a SIP URI has no host or a
    /// damaged port.
    pub fn parse(uri: &'a [u8]) -> Option<Self> {
        let uri = trim(uri);
        let uri = uri.strip_prefix(b"<").and_then(|uri| uri.strip_suffix(b">")).map_or(uri, trim);
        let colon = memchr(b':', uri)?;
        let (scheme, rest) = (scheme(&uri[..colon])?, &uri[colon + 1..]);
        match scheme {
            Scheme::Sip | Scheme::Sips => Self::sip(scheme, rest),
            Scheme::Tel => Self::tel(rest),
            Scheme::Other => {
                let none = Params::default();
                Some(Self { scheme, user: None, host: rest, port: None, params: none, headers: b"" })
            }
        }
    }

    fn sip(scheme: Scheme, rest: &'a [u8]) -> Option<Self> {
        // No part of a user may hold a bare '@', but it may hold ';', '?' and '/' (RFC 3261 §25.1).
        let (user, rest) = match memchr(b'@', rest) {
            Some(at) => {
                let user = &rest[..at];
                let password = memchr(b':', user).unwrap_or(at);
                (Some(&user[..password]).filter(|user| !user.is_empty()), &rest[at + 1..])
            }
            None => (None, rest),
        };
        let (hostport, rest) = cut_keeping(rest, memchr2(b';', b'?', rest));
        let (params, headers) = cut(rest, memchr(b'?', rest));
        let (host, port) = host_port(hostport)?;
        Some(Self { scheme, user, host, port, params: Params::new(params), headers })
    }

    fn tel(rest: &'a [u8]) -> Option<Self> {
        // RFC 3966 knows no headers, but Refer-To: <tel:...?Replaces=...> is seen.
        let (rest, headers) = cut(rest, memchr(b'?', rest));
        let (number, params) = cut_keeping(rest, memchr(b';', rest));
        let user = Some(trim(number)).filter(|number| !number.is_empty())?;
        let params = Params::new(params);
        Some(Self { scheme: Scheme::Tel, user: Some(user), host: b"", port: None, params, headers })
    }

    /// The user without its own parameters (`+1555;phone-context=x`), unescaped.
    pub fn user_part(&self) -> Option<Cow<'a, [u8]>> {
        let user = self.user?;
        Some(percent_decode(&user[..memchr(b';', user).unwrap_or(user.len())]))
    }

    /// The telephone number in it, to compare with others; `None` if its user is no number.
    pub fn number(&self) -> Option<Number> {
        Number::parse(&self.user_part()?)
    }

    /// Whether both name the same place, as RFC 3261 §19.1.4 has it: parameters in any order, and those that only one has
    /// tell nothing, but for a few. Unlike there, so does a port that only one has: many write the default one out.
    pub fn is_same(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.user.map(percent_decode) == other.user.map(percent_decode)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port.zip(other.port).is_none_or(|(one, other)| one == other)
            && self.params.agree(other.params, &["user", "ttl", "method", "maddr"])
    }

    /// The URI's header fields as written: what follows its `?`.
    pub fn headers(&self) -> &'a [u8] {
        self.headers
    }

    /// The first of the URI's header fields called `name`, unescaped (RFC 3261 §19.1.1).
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.headers.split(|&byte| byte == b'&').find_map(|field| {
            let at = memchr(b'=', field)?;
            let named = percent_decode(&field[..at]).eq_ignore_ascii_case(name.as_bytes());
            named.then(|| percent_decode(&field[at + 1..]))
        })
    }
}

/// A telephone number, to compare: its digits, `*` and `#`, without visual separators.
///
/// Two numbers are equal if their digits are: `+1 (555) 010-0100` is `15550100100`. Prefixes such as 00 or
/// 011 depend on where a call is placed and are left alone.
#[derive(Clone, Copy)]
pub struct Number {
    digits: [u8; Self::LONGEST],
    len: u8,
    global: bool,
}

impl Number {
    /// Longest number understood. E.164 has 15 digits; some dial a prefix or an extension along.
    const LONGEST: usize = 31;

    /// A number as a user writes it: an optional `+`, digits, visual separators (RFC 3966 §5.1.1).
    pub fn parse(user: &[u8]) -> Option<Self> {
        let user = trim(user);
        let (global, user) = match user.strip_prefix(b"+") {
            Some(rest) => (true, rest),
            None => (false, user),
        };
        let mut number = Self { digits: [0; Self::LONGEST], len: 0, global };
        for &byte in user {
            match byte {
                b'0'..=b'9' | b'*' | b'#' => {
                    *number.digits.get_mut(usize::from(number.len))? = byte;
                    number.len += 1;
                }
                b'-' | b'.' | b'(' | b')' | b' ' => {}
                _ => return None,
            }
        }
        number.digits().bytes().any(|byte| byte.is_ascii_digit()).then_some(number)
    }

    /// Its digits, `*` and `#`.
    pub fn digits(&self) -> &str {
        // Only ASCII is ever stored.
        std::str::from_utf8(&self.digits[..usize::from(self.len)]).unwrap_or_default()
    }

    /// Whether it was written with a `+`.
    pub fn is_global(&self) -> bool {
        self.global
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.digits() == other.digits()
    }
}

impl Eq for Number {}

/// Only its length: a number must not slip into a log.
impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Number({} digits)", self.len)
    }
}

fn scheme(scheme: &[u8]) -> Option<Scheme> {
    let [first, rest @ ..] = scheme else { return None };
    let valid = first.is_ascii_alphabetic()
        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let known = [("sip", Scheme::Sip), ("sips", Scheme::Sips), ("tel", Scheme::Tel)];
    let found = known.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name.as_bytes()));
    valid.then(|| found.map_or(Scheme::Other, |(_, scheme)| scheme))
}

/// `host [":" port]`, white space around each; IPv6 hosts lose their brackets.
pub(super) fn host_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    if let Some(plain) = plain_host_port(text) {
        return Some(plain);
    }
    let text = trim(text);
    let (host, rest) = match text.strip_prefix(b"[") {
        Some(inner) => {
            let end = memchr(b']', inner)?;
            (&inner[..end], trim(&inner[end + 1..]))
        }
        None => match memchr(b':', text) {
            // More than one colon: an IPv6 address whose brackets were forgotten.
            Some(at) if memchr(b':', &text[at + 1..]).is_some() => (text, &b""[..]),
            colon => cut_keeping(text, colon),
        },
    };
    let port = match rest {
        [] => None,
        [b':', port @ ..] => Some(number(trim(port))?),
        _ => return None,
    };
    let host = trim(host);
    (!host.is_empty() && memchr2(b'<', b'>', host).is_none()).then_some((host, port))
}

/// A name or IPv4 address, and perhaps a port behind it, with nothing around them: as nearly all are written.
fn plain_host_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, rest) = text.split_at(token_len(text));
    match rest {
        _ if host.is_empty() => None,
        [] => Some((host, None)),
        [b':', port @ ..] => Some((host, Some(number(port)?))),
        _ => None,
    }
}

/// What stands before and after the byte at `at`.
fn cut(text: &[u8], at: Option<usize>) -> (&[u8], &[u8]) {
    at.map_or((text, &[]), |at| (&text[..at], &text[at + 1..]))
}

/// What stands before the byte at `at`, and the rest from there.
fn cut_keeping(text: &[u8], at: Option<usize>) -> (&[u8], &[u8]) {
    at.map_or((text, &[]), |at| text.split_at(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn sip_uris() {
        let parsed = uri("sips:alice:secret@[2001:db8::1]:5061;transport=tls?Subject=a&Priority=b");
        assert_eq!(parsed.scheme, Scheme::Sips);
        assert_eq!(parsed.user, Some(&b"alice"[..]));
        assert_eq!(parsed.host, b"2001:db8::1");
        assert_eq!(parsed.port, Some(5061));
        assert_eq!(parsed.params.get("transport"), Some(&b"tls"[..]));
        assert_eq!(parsed.header("priority").as_deref(), Some(&b"b"[..]));

        let semicolon = uri("sip:user;par=u%40example.net@example.com");
        assert_eq!(semicolon.user, Some(&b"user;par=u%40example.net"[..]));
        assert_eq!(semicolon.user_part().as_deref(), Some(&b"user"[..]));
        assert_eq!(semicolon.host, b"example.com");

        let host_only = uri("<SIP:example.com;lr>");
        assert_eq!((host_only.user, host_only.host, host_only.port), (None, &b"example.com"[..], None));
    }

    #[test]
    fn embedded_replaces() {
        let parsed = uri("sip:c@h;x=y?Require=a&Replaces=1%40h%3Bto-tag%3D2%3Bfrom-tag%3D3");
        assert_eq!(parsed.header("Replaces").as_deref(), Some(&b"1@h;to-tag=2;from-tag=3"[..]));
        assert_eq!(parsed.header("Join"), None);
        // Seen: the '@' of the Call-ID is not escaped.
        let sloppy = uri("sip:c@h?Replaces=1@2.3.4.5%3Bto-tag%3D2%3Bfrom-tag%3D3");
        assert_eq!(sloppy.user, Some(&b"c"[..]));
        assert_eq!(sloppy.header("Replaces").as_deref(), Some(&b"1@2.3.4.5;to-tag=2;from-tag=3"[..]));
    }

    #[test]
    fn tel_uris() {
        let parsed = uri("tel:+1-555-010-0100;phone-context=example.com");
        assert_eq!(parsed.user, Some(&b"+1-555-010-0100"[..]));
        assert_eq!(parsed.params.get("phone-context"), Some(&b"example.com"[..]));
        assert_eq!(parsed.number(), Number::parse(b"15550100100"));
        assert!(parsed.number().unwrap().is_global());
    }

    /// The examples of RFC 3261 §19.1.4, and ports.
    #[test]
    fn the_same_place() {
        for (one, other, same) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp", true),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5", true),
            ("sip:a@h;gr=x;transport=udp", "sip:a@h;transport=udp;gr=x", true),
            ("sip:a@h:5060", "sip:a@h", true),
            ("sip:a@h:5060", "sip:a@h:5070", false),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false),
            ("SIP:ALICE@AtLanTa.CoM", "sip:alice@AtLanTa.CoM", false),
            ("sip:a@h;method=BYE", "sip:a@h", false),
            ("sips:a@h", "sip:a@h", false),
            ("sip:a@h", "sip:a@g", false),
        ] {
            assert_eq!(uri(one).is_same(&uri(other)), same, "{one} {other}");
            assert_eq!(uri(other).is_same(&uri(one)), same, "{other} {one}");
        }
    }

    #[test]
    fn numbers_compare_by_digits() {
        let same = ["sip:+15550100100@h", "sip:15550100100;isub=1@h;user=phone", "sip:%2B1(555)010.0100@h"];
        for text in same {
            assert_eq!(uri(text).number().unwrap().digits(), "15550100100", "{text}");
        }
        for text in ["sip:alice@h", "sip:h", "sip:a1@h", "sip:+@h", "sip:12345678901234567890123456789012@h"]
        {
            assert_eq!(uri(text).number(), None, "{text}");
        }
        assert_ne!(Number::parse(b"0015550100100"), Number::parse(b"15550100100"));
    }

    #[test]
    fn damaged() {
        for text in
            ["", "sip", "sip:", "sip:@", "sip:a@", "sip:a@h:99999", "sip:a@h:x", "sip:[::1", ":a@b", "tel:"]
        {
            assert_eq!(Uri::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        /// Headers begin at the first `?`, parameters at the first `;` before that.
        #[test]
        fn what_follows_the_host_is_cut_in_order(rest in "[h;?=&:1]{0,16}") {
            let (before, headers) = rest.split_once('?').unwrap_or((&rest, ""));
            let (hostport, params) = before.split_at(before.find(';').unwrap_or(before.len()));
            let expected = host_port(hostport.as_bytes()).map(|host| (host, Params::new(params.as_bytes()), headers.as_bytes()));
            let text = format!("sip:a@{rest}");
            let uri = Uri::parse(text.as_bytes());
            prop_assert_eq!(uri.map(|uri| ((uri.host, uri.port), uri.params, uri.headers())), expected, "{}", text);
        }
    }
}
