//! Texts from the wire as a report may show them.

use crate::sip::is_invisible;

/// The longest text that is shown whole, in characters.
const LONGEST: usize = 400;

/// `text` with a mark for each character that has no look of its own or changes how others read, and cut where it is long.
pub(in crate::export) fn safe(text: &str) -> String {
    let mut out: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

fn visible(c: char) -> char {
    if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_or_turns_is_shown_as_a_mark() {
        assert_eq!(safe("a\u{202e}b\u{200b}c\r\n\u{1b}"), "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(safe(&"é".repeat(LONGEST)), "é".repeat(LONGEST));
        assert_eq!(safe(&"é".repeat(LONGEST + 1)), format!("{}…", "é".repeat(LONGEST)));
    }
}
