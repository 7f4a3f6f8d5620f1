//! `name-addr` and `addr-spec` (RFC 3261 §20.10, §25.1): From, To, Contact, Refer-To and kin.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::Uri;
use super::text::{Params, line, quoted_len, trim, trim_start, unescape};

/// An address with the parameters of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name without its quotes, escapes still in it; `None` if there is none.
    pub display: Option<&'a [u8]>,
    /// The URI, without angle brackets; `*` in a Contact that removes all bindings.
    pub uri: &'a [u8],
    params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// One address. `None` if there is no URI in it, or a quote or angle bracket is not closed.
    ///
    /// Without angle brackets, parameters belong to the header, not to the URI (RFC 3261 §20.10).
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let value = trim(value);
        let (display, rest) = match value.first()? {
            b'"' => {
                let end = quoted_len(value)?;
                (Some(&value[1..end - 1]), trim_start(&value[end..]))
            }
            _ => (None, value),
        };
        // A ';' before any '<' ends a bare URI: what follows are parameters, whatever is in them.
        let open = memchr2(b'<', b';', rest).filter(|&at| rest[at] == b'<');
        let (display, uri, params) = match open {
            Some(open) => {
                let close = open + memchr(b'>', &rest[open..])?;
                let before = trim(&rest[..open]);
                let display = display.or((!before.is_empty()).then_some(before));
                (display, trim(&rest[open + 1..close]), &rest[close + 1..])
            }
            // A quoted display name needs brackets after it.
            None if display.is_some() => return None,
            None => {
                let end = memchr(b';', rest).unwrap_or(rest.len());
                (None, trim(&rest[..end]), &rest[end..])
            }
        };
        (!uri.is_empty()).then_some(Self { display, uri, params: Params::new(params) })
    }

    /// A parameter of the header, empty if it has no value.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.get(name)
    }

    /// All parameters of the header.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// The `tag` parameter; `None` if it is missing or empty.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param("tag").filter(|tag| !tag.is_empty())
    }

    /// The URI, taken apart.
    pub fn parsed_uri(&self) -> Option<Uri<'a>> {
        Uri::parse(self.uri)
    }

    /// The display name as text, unescaped and on one line.
    pub fn display_text(&self) -> Option<Cow<'a, str>> {
        self.display.map(|display| match unescape(display) {
            Cow::Borrowed(display) => line(display),
            Cow::Owned(display) => Cow::Owned(line(&display).into_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Option<(Option<&str>, &str, Option<&str>)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let address = NameAddr::parse(value.as_bytes())?;
        Some((address.display.map(text), text(address.uri), address.tag().map(text)))
    }

    #[test]
    fn forms() {
        assert_eq!(parse("sip:a@b;tag=1"), Some((None, "sip:a@b", Some("1"))));
        assert_eq!(parse("<sip:a@b;lr>;tag=1"), Some((None, "sip:a@b;lr", Some("1"))));
        assert_eq!(parse("tel:+15551234"), Some((None, "tel:+15551234", None)));
        assert_eq!(parse("A B<sip:a@b>"), Some((Some("A B"), "sip:a@b", None)));
        assert_eq!(
            parse("\"<sip:x@y>;tag=9 \\\"\" \r\n < sip:a@b > ; tag\t= 1"),
            Some((Some("<sip:x@y>;tag=9 \\\""), "sip:a@b", Some("1")))
        );
        assert_eq!(parse("*"), Some((None, "*", None)));
        assert_eq!(parse("sip:a@b;x=\"<\";tag=1"), Some((None, "sip:a@b", Some("1"))));
    }

    #[test]
    fn not_addresses() {
        for value in ["", " ", "\"a <sip:a@b>", "<sip:a@b", "<>", ";tag=1", "\"a\" sip:a@b"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }
}
