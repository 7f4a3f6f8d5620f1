//! The opening handshake: an HTTP request and its answer (RFC 6455 §4, RFC 7118 §4).

/// Longer heads are not read.
pub(super) const LONGEST: usize = 16 << 10;
/// Header lines that are looked at.
const MOST_LINES: usize = 128;

/// What the head of one side says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The subprotocol `sip` is asked for, or granted.
    pub(super) is_sip: bool,
    pub(super) upgrades: bool,
    /// `permessage-deflate` (RFC 7692).
    pub(super) deflate: Option<Deflate>,
    /// Another extension.
    pub(super) other_extension: bool,
}

/// What was agreed on compression: whose window begins anew with each message, the client's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deflate {
    pub(super) no_takeover: [bool; 2],
}

/// Where the head ends that these bytes begin with, once it does.
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The status of an answer.
pub(super) fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

/// Reads the headers of a head.
pub(super) fn read(head: &[u8]) -> Head {
    let mut found = Head::default();
    for line in head.split(|byte| *byte == b'\n').skip(1).take(MOST_LINES) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line[..colon].trim_ascii(), &line[colon + 1..]);
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("Upgrade") {
            found.upgrades |= has(value, b"websocket");
        } else if is("Sec-WebSocket-Protocol") {
            found.is_sip |= has(value, b"sip");
        } else if is("Sec-WebSocket-Extensions") {
            value.split(|byte| *byte == b',').for_each(|offer| found.extension(offer));
        }
    }
    found
}

impl Head {
    fn extension(&mut self, offer: &[u8]) {
        let mut words = offer.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        match words.next() {
            Some(name) if name.eq_ignore_ascii_case(b"permessage-deflate") => {
                let mut deflate = Deflate::default();
                for word in words {
                    deflate.no_takeover[0] |= word.eq_ignore_ascii_case(b"client_no_context_takeover");
                    deflate.no_takeover[1] |= word.eq_ignore_ascii_case(b"server_no_context_takeover");
                }
                self.deflate.get_or_insert(deflate);
            }
            Some([]) | None => {}
            Some(_) => self.other_extension = true,
        }
    }
}

fn has(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = read(
            b"GET /ws HTTP/1.1\r\nupgrade: WebSocket\r\nSec-WebSocket-Protocol: xmpp, SIP\r\n\
              Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_max_window_bits=10, x\r\n\r\n",
        );
        let deflate = Some(Deflate { no_takeover: [true, false] });
        assert_eq!(head, Head { is_sip: true, upgrades: true, deflate, other_extension: true });
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: sip\r\n\r\n"), Head::default());
        assert_eq!(status(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Some(101));
        assert_eq!(status(b"HTTP/1.1 \xff\xff\xff"), None);
    }
}
