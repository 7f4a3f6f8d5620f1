//! Bodies and the parts of multipart bodies (RFC 2046 §5.1).

use memchr::memmem;

use super::index::Headers;
use super::text::{Params, trim, unquote};
use super::{Message, Name};

/// Parts of a multipart body looked at.
const MAX_PARTS: usize = 32;

impl<'a> Message<'a> {
    /// The body, or the first part of a multipart body, of the media type `wanted`, such as
    /// `application/sdp`. Nested multiparts are not opened.
    pub fn body_of(&self, wanted: &str) -> Option<&'a [u8]> {
        let body = self.body();
        let (media_type, params) = split(self.header(Name::ContentType)?);
        if media_type.eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(body).filter(|body| !body.is_empty());
        }
        let multipart = media_type.get(..10)?.eq_ignore_ascii_case(b"multipart/");
        let boundary = params.get("boundary").filter(|boundary| multipart && !boundary.is_empty())?;
        parts(body, unquote(boundary)).find_map(|part| {
            let (headers, content) = Headers::index(part);
            let (media_type, _) = split(headers.named(Name::ContentType).next()?);
            media_type.eq_ignore_ascii_case(wanted.as_bytes()).then_some(content)
        })
    }
}

/// Media type and parameters of a Content-Type value.
fn split(value: &[u8]) -> (&[u8], Params<'_>) {
    let semicolon = memchr::memchr(b';', value).unwrap_or(value.len());
    (trim(&value[..semicolon]), Params::new(&value[semicolon..]))
}

/// What stands between one delimiter line and the next; a last delimiter may be missing.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let delimiter = [b"--", boundary].concat();
    // A delimiter begins a line, and nothing but white space or "--" follows it on that line.
    let starts: Vec<_> = memmem::find_iter(body, &delimiter)
        .filter(|&at| at == 0 || body[at - 1] == b'\n')
        .filter(|&at| {
            let after = &body[at + delimiter.len()..];
            matches!(after.first(), None | Some(b'-' | b'\r' | b'\n' | b' ' | b'\t'))
        })
        .take(MAX_PARTS + 1)
        .collect();
    let skip = delimiter.len();
    let mut starts = starts.into_iter().peekable();
    std::iter::from_fn(move || {
        let start = starts.next()? + skip;
        let end = starts.peek().copied().unwrap_or(body.len());
        let part = body.get(start..end)?;
        // The close-delimiter ends in "--"; what follows it is no part.
        if part.starts_with(b"--") {
            return None;
        }
        let line = super::index::line_end(part, 0);
        let part = &part[line..];
        // The line break before a delimiter belongs to the delimiter.
        let part = part.strip_suffix(b"\n").unwrap_or(part);
        Some(part.strip_suffix(b"\r").unwrap_or(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(content_type: &str, body: &str) -> Vec<u8> {
        format!("NOTIFY sip:a@b SIP/2.0\r\nc: {content_type}\r\n\r\n{body}").into_bytes()
    }

    fn body_of(bytes: &[u8]) -> Option<&str> {
        let body = Message::parse(bytes).unwrap().body_of("message/sipfrag")?;
        Some(std::str::from_utf8(body).unwrap())
    }

    #[test]
    fn single() {
        assert_eq!(body_of(&message("Message/Sipfrag ;version=2.0", "x")), Some("x"));
        assert_eq!(body_of(&message("text/plain", "x")), None);
        assert_eq!(body_of(&message("message/sipfrag", "")), None);
    }

    #[test]
    fn multipart() {
        let body = "preamble\r\n--b\r\nContent-Type: text/plain\r\n\r\nno\r\n--bb\r\n--b \r\nc: message/sipfrag;x=y\r\n\r\n\
                    SIP/2.0 200 OK\r\n\r\n--b--\r\n";
        for content_type in ["multipart/mixed;boundary=b", "MULTIPART/related; boundary=\"b\""] {
            assert_eq!(body_of(&message(content_type, body)), Some("SIP/2.0 200 OK\r\n"));
        }
        assert_eq!(body_of(&message("multipart/mixed", body)), None);
        assert_eq!(body_of(&message("multipart/mixed;boundary=\"\"", body)), None);
        let unclosed = "--b\nc: message/sipfrag\n\nSIP/2.0 486 Busy";
        assert_eq!(body_of(&message("multipart/mixed;boundary=b", unclosed)), Some("SIP/2.0 486 Busy"));
        assert_eq!(body_of(&message("multipart/mixed;boundary=b", "--b")), None);
    }
}
