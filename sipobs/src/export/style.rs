//! How text is laid out and coloured for a person.

use std::borrow::Cow;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::timestamp::Timestamp;

/// What the view may use.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// ANSI colours.
    pub colour: bool,
    /// Seconds that the reader's clock is east of UTC at a time.
    pub offset: fn(Timestamp) -> i32,
}

impl Default for Look {
    fn default() -> Self {
        Self { width: 80, colour: false, offset: |_| 0 }
    }
}

pub(super) const PLAIN: Style = Style::new();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GOOD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
pub(super) const BAD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
pub(super) const DOUBT: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
pub(super) const TARGET: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));
pub(super) const CONSULTATION: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Magenta)));

impl Look {
    /// A time as a person reads it, to the millisecond, with its offset from UTC.
    pub(super) fn moment(self, time: Timestamp) -> String {
        let offset = (self.offset)(time);
        let local = time.ahead_by(i64::from(offset) * 1_000_000_000).to_string();
        let (date, time) = local.split_once('T').unwrap_or((&local, ""));
        let zone = match (offset, offset.unsigned_abs() / 60) {
            (0, _) => "Z".to_owned(),
            (..0, minutes) => format!("-{:02}:{:02}", minutes / 60, minutes % 60),
            (_, minutes) => format!("+{:02}:{:02}", minutes / 60, minutes % 60),
        };
        format!("{date} {}{zone}", time.get(..12).unwrap_or(time))
    }

    /// Appends `text` in `style`.
    pub(super) fn paint(self, to: &mut String, style: Style, text: &str) {
        let _ = if self.colour && style != PLAIN && !text.is_empty() {
            write!(to, "{style}{text}{style:#}")
        } else {
            to.write_str(text)
        };
    }

    /// Appends `text` wrapped to the width, its first line behind what already stands there (`indent`
    /// columns), the others indented as far.
    pub(super) fn paragraph(self, to: &mut String, style: Style, indent: usize, text: &str) {
        let room = self.width.saturating_sub(indent).max(20);
        for (at, line) in wrap(text, room).iter().enumerate() {
            if at > 0 {
                to.extend(std::iter::repeat_n(' ', indent));
            }
            self.paint(to, style, line);
            to.push('\n');
        }
    }
}

/// Breaks `text` at spaces into lines of at most `width` columns; a longer word gets a line of its own.
fn wrap(text: &str, width: usize) -> Vec<Cow<'_, str>> {
    let options = textwrap::Options::new(width)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::wrap(text, options)
}

/// Text from the wire, made safe to show: whoever sent it must not drive the reader's terminal.
pub fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// `text` in at most `room` columns.
pub(super) fn shorten(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used < room
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

/// `n` with its thousands set apart.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_carries_its_offset() {
        let time = Timestamp::from_nanos(1_700_000_000_123_456_000);
        for (offset, wanted) in [
            ((|_| 0) as fn(Timestamp) -> i32, "2023-11-14 22:13:20.123Z"),
            (|_| 3600, "2023-11-14 23:13:20.123+01:00"),
            (|_| -12_600, "2023-11-14 18:43:20.123-03:30"),
        ] {
            assert_eq!(Look { offset, ..Look::default() }.moment(time), wanted);
        }
    }

    #[test]
    fn wraps_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a-word-longer-than-that x", 5), ["a-word-longer-than-that", "x"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn the_wire_does_not_drive_the_terminal() {
        assert_eq!(clean("486 \u{1b}[2JBusy\u{202e}\r\n"), "486 \u{fffd}[2JBusy\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn groups_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn colour_only_where_wanted() {
        let mut text = String::new();
        Look::default().paint(&mut text, BAD, "no");
        assert_eq!(text, "no");
        Look { colour: true, ..Look::default() }.paint(&mut text, BAD, "yes");
        assert_eq!(text, "no\u{1b}[31myes\u{1b}[0m");
    }
}
