//! The ladder of one attempt: arrows between the parties' columns, times down the side.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::layout::{Layout, Party, Row};
use super::style::{BAD, BOLD, CONSULTATION, DIM, DOUBT, GOOD, Look, PLAIN, TARGET, shorten};
use crate::record::{LadderLine, LegRole};

/// Columns left of the first party: the time and the leg's letter.
const GUTTER: usize = 14;
/// Columns right of the last party.
const MARGIN: usize = 8;
/// Narrower than this between two parties, labels say nothing: a list serves better.
const NARROWEST: usize = 18;
/// Wider than this the eye loses the line.
const WIDEST: usize = 44;
/// Lines shown before the rest is only counted.
const MOST_LINES: usize = 60;

/// Draws `lines` for `look`.
pub(super) fn draw(look: Look, lines: &[LadderLine]) -> String {
    let layout = Layout::of(lines);
    let mut out = String::new();
    match Columns::of(look, &layout.parties) {
        Some(columns) => columns.draw(look, &layout, &mut out),
        None => layout.rows.iter().take(MOST_LINES).for_each(|row| item(look, row).end(look, &mut out)),
    }
    if lines.len() > MOST_LINES {
        look.paint(&mut out, DIM, &format!("  … and {} more\n", lines.len() - MOST_LINES));
    }
    out
}

/// Draws `lines`, each in a text of its own, behind the parties' heads; with their ports, and in at most `look.width` columns.
pub(super) fn draw_each(look: Look, lines: &[LadderLine]) -> (String, Vec<String>) {
    let layout = Layout::of(lines);
    let columns = Columns::of(look, &layout.parties);
    let mut heads = String::new();
    if let Some(columns) = &columns {
        let name = |party: Party, room: usize| shorten(&party.with_ports(lines), room.min(2 * MARGIN));
        columns.heads(name, &layout.parties).end(look, &mut heads);
    }
    let draw = |row: &Row<'_>| {
        let mut text = String::new();
        match &columns {
            Some(columns) => columns.arrow(row).end(look, &mut text),
            // A message in a line: too broad to draw.
            None => item(look, row).end(look, &mut text),
        }
        text
    };
    (heads, layout.rows.iter().map(draw).collect())
}

/// Where each party's line stands.
struct Columns {
    at: Vec<usize>,
    spacing: usize,
}

impl Columns {
    /// Nothing if the parties do not fit side by side.
    fn of(look: Look, parties: &[Party]) -> Option<Self> {
        let gaps = parties.len().checked_sub(1).filter(|&gaps| gaps > 0)?;
        let first = GUTTER + 4;
        let spacing = (look.width.saturating_sub(first + MARGIN) / gaps).min(WIDEST);
        (spacing >= NARROWEST)
            .then(|| Self { at: (0..=gaps).map(|n| first + n * spacing).collect(), spacing })
    }

    fn draw(&self, look: Look, layout: &Layout<'_>, out: &mut String) {
        self.heads(Party::name, &layout.parties).end(look, out);
        for row in layout.rows.iter().take(MOST_LINES) {
            if row.after_silence {
                let mut silence = Characters::default();
                for &at in &self.at {
                    silence.write(at, DIM, "┊");
                }
                silence.end(look, out);
            }
            self.arrow(row).end(look, out);
        }
    }

    fn heads(&self, name: impl Fn(Party, usize) -> String, parties: &[Party]) -> Characters {
        let mut heads = Characters::default();
        for (party, &at) in parties.iter().zip(&self.at) {
            let name = name(*party, self.spacing - 2);
            let start = (at + 1).saturating_sub(name.width().div_ceil(2)).max(1);
            heads.write(start, BOLD, &name);
        }
        heads
    }

    fn arrow(&self, row: &Row<'_>) -> Characters {
        let mut out = gutter(row.line);
        for &at in &self.at {
            out.write(at, DIM, "│");
        }
        let (Some(&from), Some(&to)) = (self.at.get(row.from), self.at.get(row.to)) else { return out };
        let (left, right) = (from.min(to), from.max(to));
        if right - left < 4 {
            out.write(right + 2, PLAIN, &row.label);
            return out;
        }
        let shaft = leg_style(row.line.leg);
        out.write(left + 1, shaft, &"─".repeat(right - left - 1));
        if to > from {
            out.write(right - 1, shaft, "▶");
        } else {
            out.write(left + 1, shaft, "◀");
        }
        let label = shorten(&row.label, right - left - 8);
        out.write(left + 3, PLAIN, " ");
        out.write(left + 4, status_style(row.status), &label);
        out.write(left + 4 + label.width(), PLAIN, " ");
        out
    }
}

fn item(look: Look, row: &Row<'_>) -> Characters {
    let mut out = gutter(row.line);
    let ends = format!("{} → {}", row.line.from, row.line.to);
    out.write(GUTTER, leg_style(row.line.leg), &ends);
    let at = GUTTER + ends.width() + 2;
    out.write(at, status_style(row.status), &shorten(&row.label, look.width.saturating_sub(at).max(8)));
    out
}

fn gutter(line: &LadderLine) -> Characters {
    let mut out = Characters::default();
    let sign = if line.t_ms < 0 { '-' } else { '+' };
    let ms = line.t_ms.unsigned_abs();
    out.write(0, DIM, &format!("{:>10}", format!("{sign}{}.{:03}", ms / 1000, ms % 1000)));
    out.write(12, leg_style(line.leg), line.leg.letter());
    out
}

fn leg_style(leg: LegRole) -> Style {
    match leg {
        LegRole::Call => DIM,
        LegRole::Target => TARGET,
        LegRole::Consultation => CONSULTATION,
    }
}

fn status_style(status: Option<u16>) -> Style {
    match status {
        None => BOLD,
        Some(..200) => PLAIN,
        Some(200..300) => GOOD,
        // A challenge or a redirect is not yet a failure.
        Some(300..=399 | 401 | 407) => DOUBT,
        Some(_) => BAD,
    }
}

/// A line of characters, each with its style.
#[derive(Default)]
struct Characters(Vec<Cell>);

/// One column: a character with what combines with it, or nothing behind a character that takes two columns.
#[derive(Clone, Debug)]
struct Cell {
    text: String,
    style: Style,
}

impl Characters {
    fn write(&mut self, mut at: usize, style: Style, text: &str) {
        for c in text.chars() {
            let width = c.width().unwrap_or(0);
            if self.0.len() < at + width {
                self.0.resize(at + width, Cell { text: ' '.into(), style: PLAIN });
            }
            match &mut self.0[..at + width] {
                [.., last] if width == 0 => last.text.push(c),
                cells => {
                    for cell in cells.iter_mut().skip(at) {
                        *cell = Cell { text: String::new(), style };
                    }
                    if let Some(first) = cells.get_mut(at) {
                        first.text.push(c);
                    }
                }
            }
            at += width;
        }
    }

    fn end(self, look: Look, out: &mut String) {
        for run in self.0.chunk_by(|a, b| a.style == b.style) {
            let text: String = run.iter().map(|cell| cell.text.as_str()).collect();
            look.paint(out, run[0].style, &text);
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples;

    #[test]
    fn no_line_is_broader_than_the_terminal() {
        for attempt in [samples::busy(), samples::second_leg()] {
            for width in [60, 80, 120, 200] {
                let text = draw(Look { width, ..Look::default() }, &attempt.messages);
                let broadest = text.lines().map(|l| l.width()).max().unwrap();
                assert!(broadest <= width, "{broadest} > {width}:\n{text}");
            }
        }
    }

    #[test]
    fn answers_tell_what_they_answer_and_requests_how_often_they_were_sent() {
        let mut lines = samples::busy().messages;
        lines[0].copies = 11;
        let text = draw(Look::default(), &lines);
        assert!(text.contains(" REFER ×11 ─"), "{text}");
        assert!(text.contains(" 200 success (NOTIFY) ─"), "{text}");
    }

    #[test]
    fn too_narrow_a_terminal_gets_a_list() {
        let text = draw(Look { width: 30, ..Look::default() }, &samples::busy().messages);
        assert!(text.contains("10.78.0.2:5060 → 10.78.0.1:5060  REFER"), "{text}");
    }
}
