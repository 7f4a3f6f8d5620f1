//! A ladder in a page: as [`super::super::layout`] has it, a row for each message, its headers on demand.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use maud::{Markup, html};

use super::safe::safe;
use super::{MOST_LADDERS, Report, Told, What};
use crate::export::layout::{Layout, Row};
use crate::export::style::Look;
use crate::export::{whole_call, words};
use crate::follow::Header;
use crate::record::{LadderLine, LegRole};

/// Rows of one ladder.
const MOST_ROWS: usize = 100;
/// Columns that fit side by side; of more, the ends of each message are named by numbers alone.
const MOST_COLUMNS: usize = 8;
/// What a transfer may take of a page, on average, in bytes: headers fill what is left of that.
const BYTES_EACH: usize = 2_950;
/// What pages may take anyhow, as so many transfers.
const FEWEST: usize = 100;
/// What a row's headers take beside their text, in bytes.
const FRAME: usize = 64;

/// The messages whose headers are in the page: which transfer, which row.
#[derive(Debug, Default)]
pub(super) struct Shown {
    rows: BTreeSet<(usize, usize)>,
    /// Some found no room.
    pub(super) is_partial: bool,
}

impl Shown {
    /// Those of the messages that decided go first; then all others, in order. `bytes` is how long the page is without any.
    pub(super) fn choose(report: &Report, bytes: usize) -> Self {
        let most = BYTES_EACH * report.told.len().clamp(FEWEST, MOST_LADDERS);
        let mut room = most.saturating_sub(bytes);
        let mut shown = Self::default();
        for deciding_first in [true, false] {
            for (at, told) in report.told.iter().enumerate() {
                let Some(whole) = &told.whole else { continue };
                for (row, headers) in whole.headers.iter().enumerate().take(MOST_ROWS) {
                    let decides = whole.verdicts.iter().any(|(decided, _)| *decided == row);
                    if headers.is_empty() || decides != deciding_first {
                        continue;
                    }
                    let takes = html! { (text_of(headers)) }.0.len() + FRAME;
                    match room.checked_sub(takes) {
                        Some(rest) => {
                            room = rest;
                            shown.rows.insert((at, row));
                        }
                        None => shown.is_partial = true,
                    }
                }
            }
        }
        shown
    }
}

/// What is drawn for the `at`-th that is told.
pub(super) fn draw(look: Look, at: usize, told: &Told, shown: &Shown, is_open: bool) -> Markup {
    let own = Vec::new();
    let (lines, more, verdicts) = match (&told.whole, &told.what) {
        (Some(whole), _) => (&whole.lines, whole.more, whole.verdicts.clone()),
        (None, What::Attempt(attempt)) => {
            let lines = &attempt.messages;
            (lines, 0, whole_call::verdict(attempt, lines).into_iter().collect())
        }
        (None, What::Call(_)) => (&own, 0, Vec::new()),
    };
    let Some((first, last)) = lines.first().zip(lines.last()) else { return html! {} };
    let what = if told.whole.is_some() { "The whole call" } else { "The transfer" };
    let messages = lines.len() + usize::try_from(more).unwrap_or_default();
    let drawn = &lines[..lines.len().min(MOST_ROWS)];
    let layout = Layout::of(drawn);
    let headers = |row: usize| -> Option<&[Header]> {
        let headers = told.whole.as_ref()?.headers.get(row)?;
        shown.rows.contains(&(at, row)).then_some(headers)
    };
    let columns = if layout.parties.len() <= MOST_COLUMNS { layout.parties.len() } else { 0 };
    html! {
        details.w open[is_open] {
            summary {
                (what) ": " (messages) " message" (if messages == 1 { "" } else { "s" }) ", "
                (words::seconds(last.time.millis_since(first.time))) " from " (look.moment(first.time))
            }
            div class={ "l n" (columns) } {
                div.h {
                    @for (n, party) in layout.parties.iter().enumerate() {
                        b { i { (n + 1) } " " (party.with_ports(drawn)) }
                    }
                }
                ol {
                    @for (n, row) in layout.rows.iter().enumerate() {
                        @let verdict = verdicts.iter().find(|(decides, _)| *decides == n);
                        @let class = class_of(row, verdict.is_some());
                        @match (headers(n), verdict) {
                            // Most are such.
                            (None, None) => li class={ "r" (class) } { (message(look, row)) },
                            (headers, verdict) => li class=[Some(class.trim()).filter(|class| !class.is_empty())] {
                                @match headers {
                                    Some(headers) => details {
                                        summary.r { (message(look, row)) }
                                        pre { (text_of(headers)) }
                                    },
                                    None => div.r { (message(look, row)) },
                                }
                                @if let Some((_, what)) = verdict { strong { "⟵ " (safe(what)) } }
                            },
                        }
                    }
                }
                @if messages > drawn.len() {
                    p.more { "… and " (messages - drawn.len()) " more" }
                }
            }
        }
    }
}

const fn class_of(row: &Row<'_>, decides: bool) -> &'static str {
    match (decides, row.after_silence) {
        (true, true) => " v s",
        (true, false) => " v",
        (false, true) => " s",
        (false, false) => "",
    }
}

fn message(look: Look, row: &Row<'_>) -> Markup {
    let moment = look.moment(row.line.time);
    let (left, right) = (row.from.min(row.to) + 1, row.from.max(row.to) + 1);
    let back = if row.to < row.from { " k" } else { "" };
    let leg = row.line.leg.letter();
    html! {
        time { (moment.get(11..23).unwrap_or_default()) }
        i { (since(row.line)) }
        b { (leg) }
        u { (row.from + 1) "→" (row.to + 1) }
        span class={ "m c" (left) (right) (line_class(row.line.leg)) (back) (tone(row.status)) } { (safe(&row.label)) }
    }
}

const fn line_class(leg: LegRole) -> &'static str {
    match leg {
        LegRole::Call => "",
        LegRole::Target => " b",
        LegRole::Consultation => " c",
    }
}

fn since(line: &LadderLine) -> String {
    let ms = line.t_ms.unsigned_abs();
    format!("{}{}.{:03}", if line.t_ms < 0 { '-' } else { '+' }, ms / 1000, ms % 1000)
}

const fn tone(status: Option<u16>) -> &'static str {
    match status {
        Some(200..300) => " good",
        // A challenge or a redirect is not yet a failure.
        Some(300..=399 | 401 | 407) => " doubt",
        Some(400..) => " bad",
        Some(..200) | None => "",
    }
}

fn text_of(headers: &[Header]) -> String {
    let mut text = String::new();
    for header in headers {
        let _ = writeln!(text, "{}: {}", safe(&header.spelling), safe(&header.value));
    }
    text.truncate(text.trim_end().len());
    text
}
