//! Characters in their plainest form: what is written in many ways reads in one.

use crate::sip::is_invisible;

/// The first character of `text` and the bytes it takes there. Escapes are undone (RFC 3261 §25.1), the decimal
/// digits of every script are ASCII ones, and dashes, dots and blanks of every kind are `-`, `.` and a blank.
#[inline]
pub(super) fn plain(text: &str) -> Option<(char, usize)> {
    match *text.as_bytes().first()? {
        // Most are plain as they are.
        byte @ b' '..=b'~' if byte != b'%' => Some((char::from(byte), 1)),
        _ => unusual(text),
    }
}

fn unusual(text: &str) -> Option<(char, usize)> {
    let (c, len) = escaped(text.as_bytes()).or_else(|| text.chars().next().map(|c| (c, c.len_utf8())))?;
    Some((fold(c), len))
}

/// What may stand between the digits of a number for the eye only: those of RFC 3966 §5.1.1, and what people use.
pub(super) fn is_separator(c: char) -> bool {
    matches!(c, '-' | '.' | '(' | ')' | '[' | ']' | '/' | '_' | ' ')
}

fn fold(c: char) -> char {
    if c.is_ascii_graphic() {
        return c;
    }
    match c {
        // Full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => '-',
        '\u{b7}' | '\u{2022}' | '\u{2024}' | '\u{2027}' | '\u{2219}' | '\u{22c5}' => '.',
        '\u{2044}' | '\u{2215}' => '/',
        // Marks that combine with what goes before, a keycap among them.
        '\u{300}'..='\u{36f}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}' => ' ',
        c if c.is_whitespace() || c.is_control() || is_invisible(c) => ' ',
        c => digit(c),
    }
}

/// Zeroes of the decimal digits (Unicode Nd) beyond ASCII; nine digits follow each.
const ZEROES: [u32; 73] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0de6,
    0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0,
    0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30,
    0x10d40, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730,
    0x118e0, 0x11950, 0x11bf0, 0x11c50, 0x11d50, 0x11da0, 0x11f50, 0x16130, 0x16a60, 0x16ac0, 0x16b50,
    0x16d70, 0x1ccf0, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e5f1,
    0x1e950, 0x1fbf0,
];

fn digit(c: char) -> char {
    let code = u32::from(c);
    let zero = ZEROES[..ZEROES.partition_point(|zero| *zero <= code)].last();
    zero.and_then(|zero| char::from_digit(code - zero, 10)).unwrap_or(c)
}

/// A character written as `%HH`, or as several of them where it is longer in UTF-8.
fn escaped(text: &[u8]) -> Option<(char, usize)> {
    let first = escape(text)?;
    let len = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let mut bytes = [first, 0, 0, 0];
    for (at, byte) in bytes[..len].iter_mut().enumerate().skip(1) {
        *byte = text.get(3 * at..).and_then(escape).unwrap_or_default();
    }
    let whole = std::str::from_utf8(&bytes[..len]).ok().and_then(|text| text.chars().next());
    Some(whole.map_or((char::from(first), 3), |c| (c, 3 * len)))
}

fn escape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(hex(*high)? << 4 | hex(*low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_in_many_ways() {
        for (written, reads) in [
            ("5", '5'),
            ("%35", '5'),
            ("５", '5'),
            ("٥", '5'),
            ("۵", '5'),
            ("५", '5'),
            ("𝟝", '5'),
            ("%EF%BC%95", '5'),
            ("+", '+'),
            ("%2B", '+'),
            ("%2b", '+'),
            ("＋", '+'),
            ("-", '-'),
            ("%2D", '-'),
            ("\u{2011}", '-'),
            ("\u{2212}", '-'),
            ("%E2%80%93", '-'),
            ("－", '-'),
            (" ", ' '),
            ("%20", ' '),
            ("\u{a0}", ' '),
            ("%C2%A0", ' '),
            ("%A0", ' '),
            ("\u{202f}", ' '),
            ("\u{2007}", ' '),
            ("\u{200b}", ' '),
            ("\t", ' '),
            ("（", '('),
            ("%28", '('),
            ("é", 'é'),
            ("%C3%A9", 'é'),
            ("%", '%'),
        ] {
            assert_eq!(plain(&format!("{written}x")), Some((reads, written.len())), "{written:?}");
        }
        assert_eq!(plain("%e2%80"), Some(('â', 3)));
        assert_eq!(plain("%4"), Some(('%', 1)));
        assert_eq!(plain(""), None);
    }

    #[test]
    fn what_is_plain_as_it_is_reads_as_all_does() {
        for text in (0..=0x10_ffff).filter_map(char::from_u32).map(String::from) {
            assert_eq!(plain(&text), unusual(&text), "{text:?}");
        }
    }

    #[test]
    fn every_zero_is_followed_by_nine() {
        assert!(ZEROES.is_sorted());
        for zero in ZEROES.into_iter().filter(|zero| *zero != 0xff10) {
            for n in 0..10 {
                let c = char::from_u32(zero + n).unwrap();
                assert_eq!(plain(&c.to_string()).unwrap().0.to_digit(10), Some(n), "{c}");
            }
        }
        assert!(('\u{80}'..='\u{ffff}').filter(|c| fold(*c).is_ascii_digit()).all(char::is_numeric));
    }
}
