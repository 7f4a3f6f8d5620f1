//! Where a message ends: the only question about headers that framing has to ask (RFC 3261 §18.3, §20.14).

use memchr::memchr;

use crate::sip::{Message, Name};

/// What the Content-Length headers of one message say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none.
    Absent,
    /// So many bytes.
    Bytes(u64),
    /// Not a number, too large a number, or two that differ.
    Bad,
}

/// Takes the header lines of one message, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LengthScan {
    /// The header that is being read, if it is a Content-Length: folded lines may follow.
    current: Option<Number>,
    /// What the ones before it said.
    earlier: Option<Number>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Empty,
    Digits(u64),
    /// Digits, then space.
    Ended(u64),
    Bad,
}

impl Length {
    /// Where the headers of a message end in the bytes that it was read from, and what they say of its body: what
    /// [`headers`] gives, by the index that was made.
    pub(super) fn of(message: &Message<'_>, bytes: &[u8]) -> (Option<usize>, Self) {
        let head = bytes.len() - message.after_headers().len();
        // A CR alone ends the bytes, not the headers.
        let ended = message.headers_ended() && bytes[..head].ends_with(b"\n");
        let length = match (message.header(Name::ContentLength), message.content_length()) {
            (None, _) => Self::Absent,
            (Some(_), Some(body)) => Self::Bytes(body),
            (Some(_), None) => Self::Bad,
        };
        (ended.then_some(head), length)
    }
}

impl LengthScan {
    /// Takes the next line, without its LF.
    pub(super) fn line(&mut self, line: &[u8]) {
        match line {
            // A folded line goes on with the header before it (RFC 3261 §7.3.1).
            [b' ' | b'\t', ..] => {
                if let Some(number) = &mut self.current {
                    *number = number.then(line);
                }
            }
            _ => {
                self.settle();
                if may_be_one(line) {
                    self.current = value(line).map(|value| Number::Empty.then(value));
                }
            }
        }
    }

    /// What they said, after the last of them.
    pub(super) fn length(mut self) -> Length {
        self.settle();
        match self.earlier {
            None => Length::Absent,
            Some(Number::Digits(n) | Number::Ended(n)) => Length::Bytes(n),
            Some(Number::Empty | Number::Bad) => Length::Bad,
        }
    }

    /// The current header has come to its end.
    fn settle(&mut self) {
        let Some(current) = self.current.take() else { return };
        let current = match current {
            Number::Ended(n) => Number::Digits(n),
            other => other,
        };
        self.earlier = match self.earlier {
            None => Some(current),
            Some(earlier) if earlier == current => Some(current),
            Some(_) => Some(Number::Bad),
        };
    }
}

impl Number {
    fn then(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |number, byte| match (number, byte) {
            (Self::Digits(n), b' ' | b'\t' | b'\r') => Self::Ended(n),
            (same, b' ' | b'\t' | b'\r') => same,
            (Self::Empty, b'0'..=b'9') => Self::Digits(u64::from(byte - b'0')),
            (Self::Digits(n), b'0'..=b'9') => n
                .checked_mul(10)
                .and_then(|n| n.checked_add(u64::from(byte - b'0')))
                .map_or(Self::Bad, Self::Digits),
            _ => Self::Bad,
        })
    }
}

/// Whether a line may be a Content-Length header, by two letters: hardly any other is taken for one.
fn may_be_one(line: &[u8]) -> bool {
    matches!(line, [b'l' | b'L', ..] | [b'c' | b'C', _, _, _, _, _, _, _, b'l' | b'L', ..])
}

/// The value of a Content-Length header line, in full or as `l`, in any case, with space before the colon.
fn value(line: &[u8]) -> Option<&[u8]> {
    let name: &[u8] = if matches!(line, [b'l' | b'L', ..]) { b"l" } else { b"content-length" };
    let (spelling, rest) = line.split_at_checked(name.len())?;
    if !spelling.eq_ignore_ascii_case(name) {
        return None;
    }
    // HCOLON (RFC 3261 §25.1): spaces and tabs, and no stray CR, as the header index has it.
    let colon = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    rest[colon..].strip_prefix(b":")
}

/// Where the headers of the message that `bytes` begin with end, behind the empty line (`None` if they
/// don't), and what they say of its body, whatever its start line says.
pub(super) fn headers(bytes: &[u8]) -> (Option<usize>, Length) {
    let mut scan = LengthScan::default();
    let mut start = 0;
    while let Some(end) = memchr(b'\n', &bytes[start..]) {
        let line = &bytes[start..start + end];
        if matches!(line, [] | [b'\r']) {
            return (Some(start + end + 1), scan.length());
        }
        // Most lines say nothing of it.
        if start > 0 && (scan.current.is_some() || may_be_one(line)) {
            scan.line(line);
        }
        start += end + 1;
    }
    (None, scan.length())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn length(headers: &str) -> Length {
        let mut scan = LengthScan::default();
        headers.split('\n').for_each(|line| scan.line(line.as_bytes()));
        scan.length()
    }

    /// What the header index says, by which datagrams are framed.
    fn indexed(headers: &str) -> Length {
        let text = format!("SIP/2.0 200 OK\r\n{headers}\r\n\r\n");
        let (head, length) = Length::of(&Message::parse(text.as_bytes()).unwrap(), text.as_bytes());
        assert_eq!(head, Some(text.len()));
        length
    }

    proptest! {
        #[test]
        fn the_index_and_the_scan_agree(
            lines in vec(prop_oneof![
                Just("l"), Just("L "), Just("Content-Length"), Just("content-length\t"), Just(":"), Just(" "), Just("\t"),
                Just("5"), Just("05"), Just("7 "), Just("x"), Just("\r\n"), Just("\n"), Just("\r"), Just("To: a"), Just(","),
            ], 0..24),
        ) {
            let text = ["SIP/2.0 200 OK\r\n", &lines.concat()].concat();
            let message = Message::parse(text.as_bytes()).unwrap();
            // Where headers do not end, nobody asks what they say.
            let ended = |(head, length): (Option<usize>, Length)| head.map(|head| (head, length));
            let [index, scan] = [Length::of(&message, text.as_bytes()), headers(text.as_bytes())].map(ended);
            prop_assert_eq!(index, scan, "{:?}", text);
        }
    }

    #[test]
    fn every_way_to_write_it() {
        for headers in [
            "Content-Length: 12\r",
            "content-LENGTH:12",
            "l:12",
            "L \t:  12 \t\r",
            "Content-Length:\r\n 12\r",
            "Content-Length:\r\n \r\n\t12 \r\nTo: x\r",
            "To: l: 7\r\nLocation: x\r\nContent-Type: y\r\nl: 12\r\nVia: z",
            "l: 12\r\nContent-Length: 0012 \r",
        ] {
            assert_eq!(length(headers), Length::Bytes(12), "{headers:?}");
            assert_eq!(indexed(headers), Length::Bytes(12), "{headers:?}");
        }
    }

    #[test]
    fn every_way_to_lie() {
        for headers in [
            "l:",
            "l: -1",
            "l: +1",
            "l: 1 2",
            "l: 1\r\n 2",
            "l: 0x10",
            "l: 99999999999999999999",
            "l: 1\r\nl: 2\r\nl: 1",
            "l: 5, 5",
        ] {
            assert_eq!(length(headers), Length::Bad, "{headers:?}");
            assert_eq!(indexed(headers), Length::Bad, "{headers:?}");
        }
        assert_eq!(length("l: 4294967328"), Length::Bytes((1 << 32) + 32));
        assert_eq!(length("l: 9223372036854775807"), Length::Bytes(i64::MAX as u64));
        assert_eq!(length("To: a\r\n l: 5"), Length::Absent, "a folded line is no header");
    }

    #[test]
    fn headers_end_at_the_empty_line() {
        assert_eq!(headers(b"SIP/2.0 200 OK\r\nl: 3\r\n\r\nabc"), (Some(24), Length::Bytes(3)));
        assert_eq!(headers(b"SIP/2.0 200 OK\nl: 3\n\nabc"), (Some(21), Length::Bytes(3)));
        assert_eq!(headers(b"SIP/2.0 200 OK\r\nl: 3\r\n"), (None, Length::Bytes(3)));
        assert_eq!(headers(b"SIP/2.0 200 OK\r\n\r\n"), (Some(18), Length::Absent));
    }

    #[test]
    fn a_name_is_known_by_all_of_its_letters() {
        /// The value, found the slow way.
        fn slowly(line: &[u8]) -> Option<&[u8]> {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let spaces = line[..colon].iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let name = &line[..colon - spaces];
            let known = [&b"content-length"[..], b"l"].iter().any(|known| name.eq_ignore_ascii_case(known));
            known.then(|| &line[colon + 1..])
        }
        for line in ["Content-Length: 5", "CONTENT-LENGTH\t:5", "l:5", "L :5", "Call-ID: l", "l", "", "c"] {
            for (at, byte) in (0..=line.len()).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
                let mut changed = line.as_bytes().to_vec();
                changed.splice(at..line.len().min(at + 1), [byte]);
                let found = Some(&changed[..]).filter(|line| may_be_one(line)).and_then(value);
                assert_eq!(found, slowly(&changed), "{changed:?}");
            }
        }
    }
}
