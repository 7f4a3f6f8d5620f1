//! The ladder of one attempt: arrows between the parties' columns, times down the side.

use std::net::{IpAddr, SocketAddr};

use anstyle::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::style::{BAD, BOLD, CONSULTATION, DIM, DOUBT, GOOD, Look, PLAIN, TARGET, shorten};
use super::words::start_line;
use crate::record::{LadderLine, LegRole};
use crate::stream::TransportKind;

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
/// A silence at least this long is drawn.
const SILENCE_MS: i64 = 1_000;

/// Draws `lines` for `look`.
pub(super) fn draw(look: Look, lines: &[LadderLine]) -> String {
    let parties = parties(lines);
    let mut out = String::new();
    match Columns::of(look, &parties) {
        Some(columns) => columns.draw(look, &parties, lines, &mut out),
        None => list(look, lines, &mut out),
    }
    if lines.len() > MOST_LINES {
        look.paint(&mut out, DIM, &format!("  … and {} more\n", lines.len() - MOST_LINES));
    }
    out
}

/// Draws `lines`, each in a text of its own, behind the parties' heads; with their ports, and in at most `look.width` columns.
pub(super) fn draw_each(look: Look, lines: &[LadderLine]) -> (String, Vec<String>) {
    let parties = parties(lines);
    let columns = Columns::of(look, &parties);
    let mut heads = String::new();
    if let Some(columns) = &columns {
        columns
            .heads(|party, room| shorten(&party.with_ports(lines), room.min(2 * MARGIN)), &parties)
            .end(look, &mut heads);
    }
    let row = |line: &LadderLine| {
        let mut text = String::new();
        match &columns {
            Some(columns) => columns.arrow(&parties, line).end(look, &mut text),
            None => item(look, line).end(look, &mut text),
        }
        text
    };
    (heads, lines.iter().map(row).collect())
}

/// Who takes part, in order of appearance. A party is a host, since a dialog may use many ports of one; where a host talks
/// to itself (loopback), or several legs have ports of their own at one host (behind a NAT), a party is a socket.
fn parties(lines: &[LadderLine]) -> Vec<Party> {
    let mut parties: Vec<Party> = vec![];
    for line in lines {
        for end in [line.from, line.to] {
            let party = if is_shared(end.ip(), lines) { Party::Socket(end) } else { Party::Host(end.ip()) };
            if !parties.contains(&party) {
                parties.push(party);
            }
        }
    }
    parties
}

/// Whether a host is several parties: it talks to itself; or it has a port of its own in each leg, and the same host at
/// the other end of all. What is in the middle of two hosts is one party at whatever port.
fn is_shared(host: IpAddr, lines: &[LadderLine]) -> bool {
    let ends = |line: &LadderLine| [(line.leg, line.from, line.to), (line.leg, line.to, line.from)];
    let here = || lines.iter().flat_map(ends).filter(|(_, end, _)| end.ip() == host);
    if here().any(|(.., other)| other.ip() == host) {
        return true;
    }
    let one_peer = only(here().map(|(.., other)| other.ip())).is_some();
    let is_udp = lines.iter().all(|line| line.transport == TransportKind::Udp);
    // Some send each message from another port.
    let port = |leg| only(here().filter(move |(of, ..)| *of == leg).map(|(_, end, _)| end.port()));
    let mut ports = [LegRole::Call, LegRole::Target, LegRole::Consultation].into_iter().filter_map(port);
    let first = ports.next();
    is_udp && one_peer && ports.any(|port| Some(port) != first)
}

/// What all of them are, if that is one.
fn only<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|next| next == first).then_some(first)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Host(IpAddr),
    Socket(SocketAddr),
}

impl Party {
    fn is(self, end: SocketAddr) -> bool {
        match self {
            Self::Host(ip) => ip == end.ip(),
            Self::Socket(socket) => socket == end,
        }
    }

    /// Its address with the ports that it uses, where they are few.
    fn with_ports(self, lines: &[LadderLine]) -> String {
        const FEW: usize = 2;
        let Self::Host(ip) = self else { return self.name(usize::MAX) };
        let ends = lines.iter().flat_map(|line| [line.from, line.to]).filter(|end| end.ip() == ip);
        let ports: std::collections::BTreeSet<u16> = ends.map(|end| end.port()).collect();
        let listed: Vec<_> = ports.iter().take(FEW).map(u16::to_string).collect();
        let more = if ports.len() > FEW { ",…" } else { "" };
        match ip {
            IpAddr::V4(_) => format!("{ip}:{}{more}", listed.join(",")),
            IpAddr::V6(_) => format!("[{ip}]:{}{more}", listed.join(",")),
        }
    }

    fn name(self, room: usize) -> String {
        match self {
            Self::Host(ip) => shorten(&ip.to_string(), room),
            Self::Socket(socket) => shorten(&socket.to_string(), room),
        }
    }
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

    fn draw(&self, look: Look, parties: &[Party], lines: &[LadderLine], out: &mut String) {
        self.heads(Party::name, parties).end(look, out);

        let mut before = None;
        for line in lines.iter().take(MOST_LINES) {
            if before.is_some_and(|before| line.t_ms - before >= SILENCE_MS) {
                let mut silence = Row::default();
                for &at in &self.at {
                    silence.write(at, DIM, "┊");
                }
                silence.end(look, out);
            }
            before = Some(line.t_ms);
            self.arrow(parties, line).end(look, out);
        }
    }

    fn heads(&self, name: impl Fn(Party, usize) -> String, parties: &[Party]) -> Row {
        let mut heads = Row::default();
        for (party, &at) in parties.iter().zip(&self.at) {
            let name = name(*party, self.spacing - 2);
            let start = (at + 1).saturating_sub(name.width().div_ceil(2)).max(1);
            heads.write(start, BOLD, &name);
        }
        heads
    }

    fn arrow(&self, parties: &[Party], line: &LadderLine) -> Row {
        let mut row = gutter(line);
        for &at in &self.at {
            row.write(at, DIM, "│");
        }
        let column = |end| parties.iter().position(|p| p.is(end)).and_then(|n| self.at.get(n)).copied();
        let (Some(from), Some(to)) = (column(line.from), column(line.to)) else { return row };
        let (left, right) = (from.min(to), from.max(to));
        if right - left < 4 {
            row.write(right + 2, PLAIN, &label(line).0);
            return row;
        }
        let shaft = leg_style(line.leg);
        row.write(left + 1, shaft, &"─".repeat(right - left - 1));
        if to > from {
            row.write(right - 1, shaft, "▶");
        } else {
            row.write(left + 1, shaft, "◀");
        }
        let (label, status) = label(line);
        let label = shorten(&label, right - left - 8);
        row.write(left + 3, PLAIN, " ");
        row.write(left + 4, status_style(status), &label);
        row.write(left + 4 + label.width(), PLAIN, " ");
        row
    }
}

/// One line a message, for ladders too broad to draw.
fn list(look: Look, lines: &[LadderLine], out: &mut String) {
    for line in lines.iter().take(MOST_LINES) {
        item(look, line).end(look, out);
    }
}

fn item(look: Look, line: &LadderLine) -> Row {
    let mut row = gutter(line);
    let ends = format!("{} → {}", line.from, line.to);
    row.write(GUTTER, leg_style(line.leg), &ends);
    let (label, status) = label(line);
    let at = GUTTER + ends.width() + 2;
    row.write(at, status_style(status), &shorten(&label, look.width.saturating_sub(at).max(8)));
    row
}

/// A line in few words, and the status it tells. A 2xx says what it answers, since they look alike and several
/// requests may be under way; a request, how often it was sent.
fn label(line: &LadderLine) -> (String, Option<u16>) {
    let (label, status) = start_line(&line.line);
    let label = match status {
        Some(200..300) if line.is_answer() => {
            format!("{label} ({})", line.cseq.method.as_str())
        }
        _ if line.copies > 1 => format!("{label} ×{}", line.copies),
        _ => label,
    };
    (label, status)
}

fn gutter(line: &LadderLine) -> Row {
    let mut row = Row::default();
    let sign = if line.t_ms < 0 { '-' } else { '+' };
    let ms = line.t_ms.unsigned_abs();
    row.write(0, DIM, &format!("{:>10}", format!("{sign}{}.{:03}", ms / 1000, ms % 1000)));
    let letter = match line.leg {
        LegRole::Call => "a",
        LegRole::Target => "b",
        LegRole::Consultation => "c",
    };
    row.write(12, leg_style(line.leg), letter);
    row
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
struct Row(Vec<Cell>);

/// One column: a character with what combines with it, or nothing behind a character that takes two columns.
#[derive(Clone, Debug)]
struct Cell {
    text: String,
    style: Style,
}

impl Row {
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
    fn a_host_that_talks_to_itself_is_two_parties() {
        let mut lines = samples::busy().messages;
        assert_eq!(parties(&lines).len(), 2);
        for line in &mut lines {
            line.from.set_ip(IpAddr::from([127, 0, 0, 1]));
            line.to.set_ip(IpAddr::from([127, 0, 0, 1]));
            line.to.set_port(5062);
        }
        assert_eq!(parties(&lines).len(), 2);
    }

    #[test]
    fn parties_behind_one_address_have_columns_of_their_own() {
        let mut lines = samples::second_leg().messages;
        let nat = IpAddr::from([192, 0, 2, 1]);
        let pbx = lines.iter().find(|line| line.leg == LegRole::Target).unwrap().from.ip();
        for line in &mut lines {
            let port = if line.leg == LegRole::Target { 40_002 } else { 40_001 };
            for end in [&mut line.from, &mut line.to].into_iter().filter(|end| end.ip() != pbx) {
                *end = (nat, port).into();
            }
        }
        assert_eq!(parties(&lines).len(), 3);
        // What is between two hosts is one, at whatever port.
        for line in lines.iter_mut().filter(|line| line.leg == LegRole::Target) {
            for end in [&mut line.from, &mut line.to] {
                if end.ip() == nat { end.set_ip([192, 0, 2, 2].into()) } else { end.set_port(5080) }
            }
        }
        assert_eq!(parties(&lines).len(), 3);
    }

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
