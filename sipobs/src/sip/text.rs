//! The lexical ground of every header: white space, quotes, comma lists, parameters, escapes (RFC 3261 §25.1).
//!
//! All of it works on raw values, in which a fold (a line break before white space) may still stand: folds
//! count as white space.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

use crate::work;

/// `bytes` as text: as UTF-8 where they are, and each byte that is not as a Latin-1 character.
pub fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    work::count(bytes.len());
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::with_capacity(bytes.len());
            for chunk in bytes.utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|&byte| char::from(byte)));
            }
            Cow::Owned(text)
        }
    }
}

/// `bytes` as text on one line: [`lossy`], with folds and other control characters turned into one space each,
/// and without characters that nobody sees.
pub fn line(bytes: &[u8]) -> Cow<'_, str> {
    // Most is visible ASCII, and need not be read as characters. All bytes are looked at, so that it can be many at once.
    if bytes.iter().fold(true, |visible, byte| visible & matches!(byte, b' '..=b'~')) {
        return lossy(bytes);
    }
    let text = lossy(bytes);
    if !text.contains(|c: char| c.is_control() || is_invisible(c)) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // A fold is any run of line breaks and blanks: it reads as a single blank (RFC 3261 §7.3.1).
            '\r' | '\n' | '\t' | ' ' => {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            // Line and paragraph separators.
            '\u{2028}' | '\u{2029}' => line.push(' '),
            c if c.is_control() => line.push(' '),
            c if is_invisible(c) => {}
            c => line.push(c),
        }
    }
    Cow::Owned(line)
}

/// Characters that have no look of their own but change how others read: the format characters of Unicode (Cf)
/// that join, hide, turn or tag, its fillers and variation selectors, and its line separators. With them a text shows
/// something else than it holds.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}' | '\u{1160}'
            | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e01ef}'
    )
}

/// The first `most` bytes, or up to three less, so that no UTF-8 character is cut in two.
fn head(bytes: &[u8], most: usize) -> &[u8] {
    let Some(next) = bytes.get(most) else { return bytes };
    let within = |byte: u8| byte & 0xc0 == 0x80;
    if !within(*next) {
        return &bytes[..most];
    }
    let first = bytes[..most].iter().rev().take(3).position(|&byte| !within(byte));
    match first.map(|back| most - 1 - back) {
        // In a text that is not UTF-8 it may be a whole character all the same.
        Some(at) if bytes[at] >= 0xc0 => &bytes[..at],
        _ => &bytes[..most],
    }
}

/// Text from the wire on one line, and with `…` behind it where it was longer than so many bytes.
pub(crate) fn brief(bytes: &[u8], most: usize) -> String {
    let head = head(bytes, most);
    let mut text = line(head).into_owned();
    if head.len() < bytes.len() {
        // Most are kept for as long as a call.
        text.reserve_exact('…'.len_utf8());
        text.push('…');
    }
    text
}

/// Replaces each `%HH` by its byte; an escape that is not one stays as it is.
pub fn percent_decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    work::count(bytes.len());
    let Some(first) = memchr(b'%', bytes) else { return Cow::Borrowed(bytes) };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let Some((&byte, tail)) = rest.split_first() {
        match tail {
            [high, low, after @ ..]
                if byte == b'%' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                decoded.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(decoded)
}

/// The content of a quoted string without its backslashes (RFC 3261 §25.1 quoted-pair).
pub fn unescape(quoted: &[u8]) -> Cow<'_, [u8]> {
    work::count(quoted.len());
    if memchr(b'\\', quoted).is_none() {
        return Cow::Borrowed(quoted);
    }
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            _ => plain.push(byte),
        }
    }
    Cow::Owned(plain)
}

/// Parameters after a value: `;name`, `;name=value`, `;name="value"`, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a [u8]);

impl<'a> Params<'a> {
    /// The parameters in `text`, which is empty or begins before its first semicolon.
    pub fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The raw text.
    pub fn text(self) -> &'a [u8] {
        self.0
    }

    /// The value of the first parameter called `name` (in any case); empty for one without a value. A quoted
    /// value comes without its quotes, with its escapes.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.get_plain_first(name).or_else(|| self.get_any(name))
    }

    /// Whether each parameter that both have has the same value in both, in any case, and those called as `telling` are in
    /// both or in neither.
    pub(super) fn agree(self, other: Self, telling: &[&str]) -> bool {
        let name = |param: &'a [u8]| {
            let end = memchr(b'=', param).unwrap_or(param.len());
            std::str::from_utf8(trim(&param[..end])).ok()
        };
        let agrees = |name: &str| match (self.get(name), other.get(name)) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (None, None) => true,
            _ => !telling.contains(&name),
        };
        telling.iter().all(|name| agrees(name)) && self.each().filter_map(name).all(agrees)
    }

    /// If the first parameter is called so and its value is a token or empty: mostly it is the one that is asked
    /// for (`;tag=`, `;branch=`), and need not be looked through for marks.
    fn get_plain_first(self, name: &str) -> Option<&'a [u8]> {
        let (key, rest) = self.0.strip_prefix(b";").unwrap_or(self.0).split_at_checked(name.len())?;
        let value = rest.strip_prefix(b"=").filter(|_| key.eq_ignore_ascii_case(name.as_bytes()))?;
        let (token, rest) = value.split_at(token_len(value));
        matches!(rest, [] | [b';', ..]).then_some(token)
    }

    fn get_any(self, name: &str) -> Option<&'a [u8]> {
        self.each().find_map(|param| {
            let (key, rest) = param.split_at_checked(name.len())?;
            if !key.eq_ignore_ascii_case(name.as_bytes()) {
                return None;
            }
            match trim_start(rest) {
                [] => Some(&[][..]),
                [b'=', value @ ..] => Some(unquote(trim_start(value))),
                _ => None,
            }
        })
    }

    fn each(self) -> impl Iterator<Item = &'a [u8]> {
        Split::new(self.0.strip_prefix(b";").unwrap_or(self.0), b';').filter(|param| !param.is_empty())
    }

    /// Whether a parameter is called `name`.
    pub fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All parameters, names as written; the value is empty where there is none.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.each().map(|param| {
            // A name has no quotes, so the first '=' is the separator.
            match memchr(b'=', param) {
                Some(at) => (trim_end(&param[..at]), unquote(trim(&param[at + 1..]))),
                None => (param, &param[param.len()..]),
            }
        })
    }
}

/// Splits a value at a separator outside quotes, angle brackets and comments, and trims the pieces.
///
/// Linear: an opening mark without its closing one is an ordinary byte, and once one kind of mark was found
/// unclosed it is not looked for again.
#[derive(Clone, Debug)]
pub(super) struct Split<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
    unclosed: Unclosed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Unclosed {
    quote: bool,
    angle: bool,
    comment: bool,
}

impl<'a> Split<'a> {
    pub(super) fn new(value: &'a [u8], separator: u8) -> Self {
        Self { rest: Some(value), separator, unclosed: Unclosed::default() }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let end = memchr(self.separator, rest).unwrap_or(rest.len());
        // Most pieces have no marks.
        let mut at = memchr3(b'"', b'<', b'(', &rest[..end]).unwrap_or(end);
        work::count(2 * end);
        while let Some(&byte) = rest.get(at) {
            let skip = match byte {
                _ if byte == self.separator => {
                    self.rest = Some(&rest[at + 1..]);
                    return Some(trim(&rest[..at]));
                }
                b'"' if !self.unclosed.quote => {
                    let end = quoted_len(&rest[at..]);
                    work::count(end.unwrap_or(rest.len() - at));
                    self.unclosed.quote = end.is_none();
                    end
                }
                b'<' if !self.unclosed.angle => {
                    let end = memchr(b'>', &rest[at..]).map(|end| end + 1);
                    work::count(end.unwrap_or(rest.len() - at));
                    self.unclosed.angle = end.is_none();
                    end
                }
                b'(' if !self.unclosed.comment => {
                    let end = comment_len(&rest[at..]);
                    work::count(end.unwrap_or(rest.len() - at));
                    self.unclosed.comment = end.is_none();
                    end
                }
                _ => None,
            };
            at += skip.unwrap_or(1);
            work::count(1);
        }
        self.rest = None;
        Some(trim(rest))
    }
}

/// Length of the quoted string that `bytes` begin with, quotes included; `None` if it is not closed.
pub(super) fn quoted_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let found = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes[found] {
            b'"' => return Some(found + 1),
            _ => at = found + 2,
        }
    }
}

/// Length of the comment that `bytes` begin with, brackets included; comments nest (RFC 3261 §25.1).
fn comment_len(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (1_usize, 1);
    loop {
        let found = at + memchr3(b'(', b')', b'\\', bytes.get(at..)?)?;
        at = found + 1;
        match bytes[found] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Without the quotes around it, if it is a whole quoted string.
pub(super) fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// Without linear white space at either end (RFC 3261 §25.1 LWS), folds included.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

pub(super) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
        work::count(1);
    }
    bytes
}

pub(super) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
        work::count(1);
    }
    bytes
}

pub(super) fn is_space(byte: u8) -> bool {
    // Nearly all bytes end here.
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// RFC 3261 §25.1 token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    work::count(bytes.len());
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN[usize::from(byte)])
}

/// Length of the token that `bytes` begin with.
pub(super) fn token_len(bytes: &[u8]) -> usize {
    let is = |byte: u8| TOKEN[usize::from(byte)];
    // Eight at once, as most are long.
    let whole =
        bytes.chunks_exact(8).take_while(|bytes| bytes.iter().fold(true, |all, &byte| all & is(byte)));
    let from = 8 * whole.count();
    let len = from + bytes[from..].iter().take_while(|&&byte| is(byte)).count();
    work::count(len);
    len
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "below 256")]
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        byte += 1;
    }
    table
};

/// Splits at the first white space; the second part is trimmed and may be empty.
pub(super) fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let bytes = trim_start(bytes);
    let end = bytes.iter().position(|&byte| is_space(byte)).unwrap_or(bytes.len());
    work::count(end);
    (&bytes[..end], trim(&bytes[end..]))
}

/// A decimal number without sign; `None` if there is none, something else stands there, or it overflows.
pub(super) fn number<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    T::try_from(value).ok()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(value: &str) -> Vec<&str> {
        Split::new(value.as_bytes(), b',').map(|piece| std::str::from_utf8(piece).unwrap()).collect()
    }

    #[test]
    fn commas_inside_marks_do_not_split() {
        assert_eq!(
            split(r#""a, \", b" <sip:x,y@h>, c (d, (e, f)), g"#),
            [r#""a, \", b" <sip:x,y@h>"#, "c (d, (e, f))", "g"]
        );
    }

    #[test]
    fn unclosed_marks_are_ordinary() {
        assert_eq!(split(r#"a "b, c"#), [r#"a "b"#, "c"]);
        assert_eq!(split("a <b, c"), ["a <b", "c"]);
        assert_eq!(split("a (b, (c)"), ["a (b", "(c)"]);
        assert_eq!(split(",,"), ["", "", ""]);
    }

    #[test]
    fn parameters() {
        let params = Params::new(b"; Tag = a1 ;\r\n lr; q=\"x;\\\"y\";;tag=2");
        assert_eq!(params.get("tag"), Some(&b"a1"[..]));
        assert_eq!(params.get("LR"), Some(&b""[..]));
        assert_eq!(params.get("q"), Some(&b"x;\\\"y"[..]));
        assert_eq!(params.get("r"), None);
        assert_eq!(params.iter().count(), 4);
    }

    #[test]
    fn escapes() {
        assert_eq!(&*percent_decode(b"a%2Bb%00%zz%4"), b"a+b\0%zz%4");
        assert_eq!(&*unescape(br#"a\"b\\"#), br#"a"b\"#);
        assert_eq!(lossy(b"na\xefve"), "na\u{ef}ve");
        assert_eq!(lossy(b"\xc2\xa0\xff\xe2\x80\x91"), "\u{a0}\u{ff}\u{2011}");
        assert_eq!(line(b"a\r\n  b\0c"), "a b c");
    }

    #[test]
    fn nothing_invisible_is_in_a_line() {
        let text = "a\u{ad}b\u{200b}c\u{200f}\u{202e}\u{2060}\u{2066}d\u{feff}\u{e0041}";
        assert_eq!(line(text.as_bytes()), "abcd");
        assert_eq!(line("a\u{2028}b\u{2029}c\u{85}d\u{9b}e".as_bytes()), "a b c d e");
        // The C1 controls as Latin-1 has them.
        assert_eq!(line(b"a\x9b31mb"), "a 31mb");
        let every = (0..=0x10_ffff).filter_map(char::from_u32).collect::<String>();
        assert!(!line(every.as_bytes()).contains(|c: char| c.is_control() || is_invisible(c)));
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for text in ["aé", "a–b", "a😀b", "é😀–a"] {
            for most in 0..=text.len() + 1 {
                let head = std::str::from_utf8(head(text.as_bytes(), most)).unwrap();
                let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
                let longest = ends.filter(|end| *end <= most).max();
                assert_eq!(head.len(), longest.unwrap_or(0), "{text} at {most}");
            }
        }
        assert_eq!(head(b"\x80\x80\x80\x80\x80", 4), b"\x80\x80\x80\x80");
        assert_eq!(head(b"ab\xe9\xe9", 3), b"ab\xe9");
        assert_eq!(head(b"a\xbf", 1), b"a");
    }

    #[test]
    fn numbers() {
        assert_eq!(number::<u32>(b"4294967295"), Some(u32::MAX));
        assert_eq!(number::<u32>(b"4294967296"), None);
        assert_eq!(number::<u64>(b"36893488147419103232"), None);
        assert_eq!(number::<u32>(b"0009"), Some(9));
        assert_eq!(number::<u32>(b"-1"), None);
        assert_eq!(number::<u32>(b""), None);
    }

    proptest! {
        #[test]
        fn a_parameter_is_the_first_so_called(params in r#"[;= \t"<>(),\\taTAgGxé-]{0,24}"#) {
            for text in [params.clone(), format!(";tag={params}"), format!("TAG{params}")] {
                let params = Params::new(text.as_bytes());
                let first = params.iter().find(|(key, _)| key.eq_ignore_ascii_case(b"tag"));
                prop_assert_eq!(params.get("tag"), first.map(|(_, value)| value), "{:?}", text);
            }
        }

        #[test]
        fn pieces_are_those_of_a_reading_byte_by_byte(value in r#"[;, \t"<>()\\ab]{0,24}"#) {
            let pieces: Vec<&[u8]> = Split::new(value.as_bytes(), b';').collect();
            prop_assert_eq!(pieces, byte_by_byte(value.as_bytes()), "{:?}", value);
        }

        #[test]
        fn a_line_reads_as_its_characters(bytes in prop::collection::vec(prop_oneof![8 => b' '..=b'~', 1 => any::<u8>()], 0..70)) {
            let text = lossy(&bytes);
            let seen = text.chars().filter(|c| !is_invisible(*c));
            let blank: String = seen.map(|c| if c.is_control() { ' ' } else { c }).collect();
            let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&line(&bytes)), words(&blank));
        }
    }

    /// What [`Split`] gives at `;`.
    fn byte_by_byte(value: &[u8]) -> Vec<&[u8]> {
        let (mut pieces, mut start, mut at) = (Vec::new(), 0, 0);
        // The marks that were found unclosed.
        let mut unclosed = Vec::new();
        while let Some(&byte) = value.get(at) {
            let rest = &value[at..];
            let closed = match byte {
                _ if unclosed.contains(&byte) => None,
                b'"' => quoted_len(rest),
                b'<' => rest.iter().position(|&byte| byte == b'>').map(|end| end + 1),
                b'(' => comment_len(rest),
                _ => None,
            };
            if closed.is_none() {
                unclosed.extend(Some(byte).filter(|byte| b"\"<(".contains(byte)));
            }
            if byte == b';' {
                pieces.push(trim(&value[start..at]));
                start = at + 1;
            }
            at += closed.unwrap_or(1);
        }
        pieces.push(trim(&value[start..]));
        pieces
    }
}
