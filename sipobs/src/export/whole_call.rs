//! One call from its first INVITE to its last BYE, with every leg, for a person.

use super::ladder;
use super::style::{BOLD, DIM, Look, PLAIN, clean};
use crate::follow::{Body, Header};
use crate::record::{Attempt, LadderLine, LegRole};

/// Columns that the time of day takes, with what is behind it.
const TIME: usize = 13;
/// Columns before what is told of a message.
const MARGIN: usize = 6;
/// Where there are fewer columns, times since the first message must do.
const BROAD: usize = 80;

/// All messages of a call and its legs, masked.
#[derive(Clone, Debug, Default)]
pub struct WholeCall {
    /// The Call-IDs, and which legs they are.
    pub legs: Vec<(LegRole, String)>,
    /// The messages in the order of time; their frames are [`crate::frame::Place`]s.
    pub lines: Vec<LadderLine>,
    /// Messages that found no room.
    pub more: u64,
    /// The headers of each line's message, where they were asked for.
    pub headers: Vec<Vec<Header>>,
    /// What each line's message carries behind them, where that was asked for.
    pub bodies: Vec<Option<Body>>,
    /// How many headers were left out of these, as they may hold anything.
    pub headers_left_out: usize,
    /// Lines with a message that is a verdict, and what is said beside each.
    pub verdicts: Vec<(usize, String)>,
}

/// A whole call, drawn.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// Which legs it has, and when it began.
    pub head: String,
    /// Over the columns, who stands there; empty where the messages are only listed.
    pub parties: String,
    /// Each message, of one line or more.
    pub rows: Vec<String>,
    /// What is behind the last.
    pub tail: String,
}

/// The message that decided an attempt: its last one with the status that it was decided by, else its last one before its
/// end.
pub fn deciding(attempt: &Attempt) -> Option<&LadderLine> {
    let own = |line: &&LadderLine| line.time <= attempt.ended && !line.doubted;
    let status = attempt.status.map(|status| status.to_string());
    let tells = |line: &&LadderLine| {
        status.as_ref().is_some_and(|status| line.line.split(' ').any(|word| word == status))
    };
    let before = || attempt.messages.iter().filter(own);
    before().rev().find(tells).or_else(|| before().next_back())
}

/// The line of `lines` that decided an attempt, and what is said beside it.
pub(super) fn verdict(attempt: &Attempt, lines: &[LadderLine]) -> Option<(usize, String)> {
    let deciding = deciding(attempt)?;
    let is_it = |line: &LadderLine| line.time == deciding.time && line.line == deciding.line;
    let seq = attempt.seq.map(|seq| format!(" on #{seq}")).unwrap_or_default();
    let what = format!("this is the verdict{seq}: {}", super::words::outcome(attempt.outcome));
    Some((lines.iter().position(is_it)?, what))
}

impl WholeCall {
    /// Marks the message that the verdict on an attempt is.
    pub fn mark(&mut self, attempt: &Attempt) {
        self.verdicts.extend(verdict(attempt, &self.lines));
    }

    /// One message, the `at`-th: when it went from where to where, and its headers.
    pub fn message(&self, look: Look, at: usize) -> String {
        let mut out = String::new();
        let Some(line) = self.lines.get(at) else { return out };
        look.paragraph(&mut out, BOLD, 0, &clean(&line.line));
        let copies = if line.copies > 1 { format!(" · sent {} times", line.copies) } else { String::new() };
        let (from, to, leg) = (line.from, line.to, line.leg.letter());
        let facts = format!("{} · {from} → {to} · leg ({leg}){copies}", look.moment(line.time));
        look.paragraph(&mut out, DIM, 0, &facts);
        out.push('\n');
        out.push_str(&self.told_of(look, at, 0));
        if self.headers_left_out > 0 {
            let said = "Headers that may hold anything are left out: --mask full shows them.";
            out.push('\n');
            look.paragraph(&mut out, DIM, 0, said);
        }
        out
    }

    /// The headers of the `at`-th message and what it carries, each in a line or more that begin at the column `indent`;
    /// nothing where neither was asked for.
    fn told_of(&self, look: Look, at: usize, indent: usize) -> String {
        let mut out = String::new();
        for Header { spelling, value, .. } in self.headers.get(at).into_iter().flatten() {
            out.extend(std::iter::repeat_n(' ', indent));
            look.paint(&mut out, DIM, &format!("{}: ", clean(spelling)));
            look.paragraph(&mut out, PLAIN, indent + spelling.len() + 2, &clean(value));
        }
        let Some(body) = self.bodies.get(at).and_then(Option::as_ref) else { return out };
        let margin = " ".repeat(indent);
        let kind = if body.kind.is_empty() { "of no kind" } else { &body.kind };
        let mut told = vec![(BOLD, format!("Body: {}, {} bytes", kind, body.bytes))];
        told.extend(body.streams.iter().map(|stream| (PLAIN, format!("  {stream}"))));
        told.extend(body.lines.iter().map(|line| (DIM, format!("  {line}"))));
        told.extend(body.is_partial.then(|| (DIM, "  …".to_owned())));
        for (style, line) in told {
            out.push_str(&margin);
            look.paint(&mut out, style, &clean(&line));
            out.push('\n');
        }
        out
    }

    pub(super) fn draw(&self, look: Look) -> String {
        let Drawn { head, parties, rows, tail } = self.drawn(look);
        let tell = |(at, row)| format!("{row}{}", self.told_of(look, at, MARGIN));
        let rows = rows.into_iter().enumerate().map(tell);
        [head, parties].into_iter().chain(rows).chain([tail]).collect()
    }

    /// Draws it, message by message.
    pub fn drawn(&self, look: Look) -> Drawn {
        let mut drawn = Drawn::default();
        let Some(first) = self.lines.first() else { return drawn };
        let out = &mut drawn.head;
        look.paint(out, BOLD, "The whole call");
        look.paint(out, DIM, &format!(", from {}", look.moment(first.time)));
        out.push('\n');
        for (leg, call_id) in &self.legs {
            out.push_str("  ");
            look.paragraph(out, DIM, 2, &format!("({}) {}", leg.letter(), clean(call_id)));
        }
        out.push('\n');
        let time = if look.width < BROAD { 0 } else { TIME };
        let narrower = Look { width: look.width - time, ..look };
        let (heads, rows) = ladder::draw_each(narrower, &self.lines);
        let margin = " ".repeat(time);
        if !heads.is_empty() {
            drawn.parties = format!("{margin}{heads}");
        }
        for (at, (line, row)) in self.lines.iter().zip(rows).enumerate() {
            let mut out = String::new();
            let moment = look.moment(line.time);
            if time > 0 {
                look.paint(&mut out, DIM, moment.get(11..23).unwrap_or_default());
                out.push(' ');
            }
            out.push_str(&row);
            for (_, what) in self.verdicts.iter().filter(|(deciding, _)| *deciding == at) {
                out.push_str(&format!("{margin}              "));
                look.paint(&mut out, BOLD, &format!("⟵ {what}"));
                out.push('\n');
            }
            drawn.rows.push(out);
        }
        if self.more > 0 {
            look.paint(&mut drawn.tail, DIM, &format!("  … and {} more\n", self.more));
        }
        drawn.tail.push('\n');
        drawn
    }
}
