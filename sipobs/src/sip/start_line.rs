//! What a SIP start line looks like (RFC 3261 §7.1, §7.2), to people who only want to know whether it is
//! one. Lenient: any version, any amount of space.

use memchr::{memchr, memmem, memrchr, memrchr2};

use super::Method;
use super::text::token_len;

/// Longer than any start line in use; a stream that goes on without a line end is not SIP.
pub(crate) const MAX_START_LINE: usize = 8_192;

/// Longer than any method name.
const MAX_METHOD: usize = 64;

/// Whether a datagram begins with a SIP start line, after any line ends (RFC 3261 §7.5).
pub(crate) fn begins_like_sip(payload: &[u8]) -> bool {
    let payload = &payload[leading_line_ends(payload)..];
    // Nearly all that is not SIP ends here.
    if !payload.first().is_some_and(u8::is_ascii_graphic) {
        return false;
    }
    let head = &payload[..payload.len().min(MAX_START_LINE)];
    memchr(b'\n', head).is_some_and(|end| is_start_line(&head[..end]))
}

/// How many CR and LF bytes `bytes` begin with.
pub(crate) fn leading_line_ends(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len())
}

/// Whether `line`, without its LF, is a request line or a status line.
pub(crate) fn is_start_line(line: &[u8]) -> bool {
    if !is_text(line) {
        return false;
    }
    let line = line.trim_ascii_end();
    if let Some(rest) = after_version(line) {
        // SIP-Version SP Status-Code
        let code = rest.trim_ascii_start();
        return code.len() < rest.len() && code.first().is_some_and(u8::is_ascii_digit);
    }
    // Method SP Request-URI SP SIP-Version
    let method = token_len(line);
    if method == 0 || method > MAX_METHOD || !matches!(line.get(method), Some(b' ' | b'\t')) {
        return false;
    }
    let Some(last) = memrchr2(b' ', b'\t', line) else { return false };
    // A header with space before its colon is not a request line: "Subject : about SIP/2.0".
    let uri = line[method..last].trim_ascii();
    !uri.is_empty() && uri[0] != b':' && after_version(&line[last + 1..]) == Some(&[])
}

/// Whether `line`, found in the midst of a stream, is a start line beyond doubt. Its first bytes may be
/// missing, so its method must be a known one; and a status line in a body without a line end may run into
/// the request behind it.
pub(crate) fn is_sure_start_line(line: &[u8]) -> bool {
    if !is_start_line(line) {
        return false;
    }
    match line.split_at_checked(4) {
        Some((version, rest)) if version.eq_ignore_ascii_case(b"SIP/") => {
            memmem::find(rest, b"SIP/").is_none()
        }
        _ => Method::of(&line[..token_len(line)]) != Method::Other,
    }
}

/// Where in a part of a stream the first start line begins, if a whole one is in it.
pub(crate) fn find_start_line(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(hit) = memmem::find(&bytes[from..], b"SIP/2.0") {
        let start = memrchr(b'\n', &bytes[from..from + hit]).map_or(from, |end| from + end + 1);
        let end = from + hit + memchr(b'\n', &bytes[from + hit..])?;
        if is_sure_start_line(&bytes[start..end]) {
            return Some(start);
        }
        from = end + 1;
    }
    None
}

/// Whether `line`, of which bytes from `checked` on are new, may yet become a start line.
pub(crate) fn may_become_start_line(line: &[u8], checked: usize) -> bool {
    if line.len() > MAX_START_LINE || !is_text(&line[checked..]) {
        return false;
    }
    if checked > MAX_METHOD {
        return true;
    }
    let method = token_len(line);
    match line.get(method) {
        None => method <= MAX_METHOD,
        Some(b' ' | b'\t') => method > 0 && method <= MAX_METHOD,
        Some(b'/') => line[..method].eq_ignore_ascii_case(b"SIP"),
        Some(_) => false,
    }
}

/// Whether `line` is short enough for a start line, and has no control characters that none has: asked of
/// part of a line and of all of it, so that it does not matter how a stream is cut.
fn is_text(line: &[u8]) -> bool {
    // All are looked at, whatever is found, so that it can be many at once.
    let is_control = |b: u8| (b < b' ') & (b != b'\t') & (b != b'\r');
    line.len() <= MAX_START_LINE && !line.iter().fold(false, |found, b| found | is_control(*b))
}

/// Whether `line` begins with a header name and a colon (RFC 3261 §7.3.1, with space before the colon).
pub(crate) fn is_header_like(line: &[u8]) -> bool {
    let name = token_len(line);
    name > 0 && line[name..].trim_ascii_start().first() == Some(&b':')
}

/// What follows "SIP/2.0", in any case and with any digits.
fn after_version(bytes: &[u8]) -> Option<&[u8]> {
    let digits = bytes.split_at_checked(4).filter(|(name, _)| name.eq_ignore_ascii_case(b"SIP/"))?.1;
    let digits = after_digits(digits)?.strip_prefix(b".")?;
    after_digits(digits)
}

fn after_digits(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    (rest > 0).then(|| &bytes[rest..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_lines_are_recognised() {
        for line in [
            "INVITE sip:a@b SIP/2.0\r",
            "INVITE  sip:user@example.com  SIP/2.0\r",
            "OPTIONS sip:a@b sip/7.0",
            "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure) SIP/2.0\r",
            "INVITE sip:user@example.com; lr SIP/2.0\r",
            "OPTIONS <sip:a b@c> SIP/2.0  \r",
            "REFER tel:+49 SIP/2.0",
            "SIP/2.0 200 OK\r",
            "SIP/2.0  4294967301 better not break the receiver",
            "SIP/2.0 100",
        ] {
            assert!(is_start_line(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "",
            "GET / HTTP/1.1\r",
            "OPTIONS rtsp://a RTSP/1.0",
            "Via: SIP/2.0/UDP a",
            "Subject: about SIP/2.0",
            "Subject : about SIP/2.0",
            "INVITE SIP/2.0",
            " INVITE sip:a SIP/2.0",
            "SIP/2.0",
            "SIP/2.0/UDP 10.0.0.1",
            "SIP/2.0 OK",
            "INVITE sip:a SIP/2.0/UDP",
            "SIP/2.0 200 \0",
        ] {
            assert!(!is_start_line(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn every_prefix_of_a_start_line_may_become_one() {
        for line in ["INVITE sip:a@b SIP/2.0\r", "SIP/2.0 200 OK\r", "sip/2.0 200\r"] {
            for end in 1..=line.len() {
                assert!(may_become_start_line(&line.as_bytes()[..end], end - 1), "{}", &line[..end]);
            }
        }
        for start in ["\x16\x03\x01", "SSH/", "{\"a\"", "IN\0", ": a", "a\x01b"] {
            assert!(!may_become_start_line(start.as_bytes(), 0), "{start:?}");
        }
        assert!(!may_become_start_line(&[b'a'; 65], 0));
    }

    #[test]
    fn in_doubt_a_line_is_no_start_line() {
        for line in ["NFO sip:a@b SIP/2.0\r", "SIP/2.0 200 OKBYE sip:a SIP/2.0\r", "SIP/2.0\r"] {
            assert!(!is_sure_start_line(line.as_bytes()), "{line}");
        }
        for line in ["INFO sip:a@b SIP/2.0\r", "SIP/2.0 200 OK\r", "sip/2.0 200\r"] {
            assert!(is_sure_start_line(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn start_lines_are_found_in_the_middle() {
        let bytes = b"Via: SIP/2.0/TCP a SIP/2.0\r\n\r\nBYE sip:a SIP/2.0\r\nVia: b\r\n";
        assert_eq!(find_start_line(bytes), Some(30));
        assert_eq!(find_start_line(&bytes[..40]), None);
        assert_eq!(find_start_line(b"SIP/2.0 200 OK\n"), Some(0));
    }

    #[test]
    fn datagrams_are_recognised_behind_line_ends() {
        assert!(begins_like_sip(b"\r\n\r\nSIP/2.0 200 OK\r\n"));
        assert!(!begins_like_sip(b"\r\n\r\n"));
        assert!(!begins_like_sip(b"\x80\x00 SIP/2.0\r\n"));
        assert!(!begins_like_sip(b"INVITE sip:a SIP/2.0"), "a line has an end");
    }

    #[test]
    fn a_control_character_anywhere_is_none_of_a_start_line() {
        for (at, byte) in (0..40).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
            let mut line = [b'x'; 40];
            line[at] = byte;
            assert_eq!(is_text(&line), byte >= b' ' || byte == b'\t' || byte == b'\r', "{byte} at {at}");
        }
    }
}
