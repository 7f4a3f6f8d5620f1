//! Draws the list and the pages over it: only what is on the screen.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::page::{Content, Ladder};
use super::rows::Row;
use super::{App, Input, look_of};
use crate::cli::pcap::write::Redact;

/// Where there are fewer columns, the likeliest cause and the trunk have no room.
const BROAD: u16 = 110;
/// Where there are fewer, nor has the day, nor whose fault it is.
const MEDIUM: u16 = 80;

/// A column of the list.
struct Column {
    head: &'static str,
    width: u16,
    text: fn(&Row) -> &str,
}

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let buffer = frame.buffer_mut();
    // The title, and below the body what is said and the keys.
    let Some(body) = area.height.checked_sub(3).filter(|body| *body > 0) else {
        buffer.set_stringn(0, 0, "sipobs: more lines are needed", area.width.into(), Style::new());
        return;
    };
    let look = look_of(app.look, area.width);
    bar(buffer, area, 0, &title(app));
    let body = Rect::new(0, 1, area.width, body);
    if app.pages.is_empty() {
        list(buffer, body, app);
    } else {
        app.height = body.height.into();
        if let Some(page) = app.pages.last_mut() {
            page.lay_out(look);
            for ((line, is_chosen), y) in page.window(body.height.into()).into_iter().zip(body.y..) {
                buffer.set_line(body.x, y, line, body.width);
                if is_chosen {
                    buffer.set_style(Rect::new(body.x, y, body.width, 1), Style::new().reversed());
                }
            }
        }
    }
    let at = area.height - 2;
    let (text, style) = below(app);
    buffer.set_stringn(0, at, text, area.width.into(), style);
    bar(buffer, area, at + 1, keys(app));
}

fn bar(buffer: &mut Buffer, area: Rect, y: u16, text: &str) {
    buffer.set_stringn(0, y, text, area.width.into(), Style::new());
    buffer.set_style(Rect::new(0, y, area.width, 1), Style::new().reversed());
}

fn title(app: &App) -> String {
    let name = app.feed.name();
    let page = app.pages.last().map(|page| format!(" · {}", page.title())).unwrap_or_default();
    let ((shown, all), at) = (app.rows.counts(), app.rows.place());
    let more = match app.rows.more() {
        0 => String::new(),
        more if app.feed.is_live() => format!(", {more} older ones made way"),
        more => format!(", {more} more found no room"),
    };
    format!(" sipobs · {name}{page} · {at} of {shown} shown, {all} in all{more}{}", reading(app))
}

/// How far reading has come.
fn reading(app: &App) -> String {
    if app.feed.is_live() {
        return String::new();
    }
    match (&app.read, app.progress) {
        (Some(read), _) if read.is_complete => String::new(),
        (Some(_), _) => " · not all was read (m)".to_owned(),
        (None, Some(progress)) => match progress.total.filter(|total| *total > 0) {
            Some(total) => format!(" · reading, {} %", (progress.read * 100 / total).min(100)),
            None => format!(" · reading, {} MB", progress.read >> 20),
        },
        (None, None) => " · reading".to_owned(),
    }
}

const fn column(head: &'static str, width: u16, text: fn(&Row) -> &str) -> Column {
    Column { head, width, text }
}

fn columns(width: u16) -> Vec<Column> {
    let number = column("", 7, |row| row.found.name.as_str());
    let outcome = column("Outcome", 22, |row| row.found.entry.outcome.as_str());
    let fault = column("Fault", 10, |row| row.found.entry.fault);
    let (time, fixed) = match width {
        ..MEDIUM => (column("Time", 9, |row| row.found.entry.time.get(6..14).unwrap_or_default()), 40),
        MEDIUM..BROAD => (column("Time", 13, |row| row.found.entry.time.get(6..).unwrap_or_default()), 54),
        BROAD.. => (column("Time", 19, |row| row.found.entry.time.as_str()), 73),
    };
    let rest = width.saturating_sub(fixed).max(8);
    let who = |width| column("Who → whom", width, |row| row.found.entry.who.as_str());
    match width {
        ..MEDIUM => vec![number, time, outcome, who(rest)],
        MEDIUM..BROAD => vec![number, time, outcome, who(rest), fault],
        BROAD.. => {
            let trunk = column("Trunk", 13, |row| row.found.entry.trunk.as_str());
            let cause = column("Likely cause", rest - rest * 3 / 5, |row| row.found.entry.cause.as_str());
            vec![number, time, outcome, who(rest * 3 / 5), fault, trunk, cause]
        }
    }
}

fn list(buffer: &mut Buffer, area: Rect, app: &mut App) {
    let columns = columns(area.width);
    let mut x = area.x + 2;
    for column in &columns {
        let room = usize::from(column.width.saturating_sub(1).min(area.right().saturating_sub(x)));
        buffer.set_stringn(x.min(area.right()), area.y, column.head, room, Style::new().bold());
        x = x.saturating_add(column.width).min(area.right());
    }
    let height = usize::from(area.height - 1);
    app.height = height;
    let colour = app.look.colour;
    if app.rows.counts().0 == 0 {
        let said = match (app.read.is_some(), app.rows.counts().1) {
            (false, 0) if app.feed.is_live() => "Watching. A transfer is listed as soon as it is judged.",
            (false, _) if app.feed.is_live() => "Nothing fits. Esc shows all.",
            (false, _) => "Reading …",
            (true, 0) => "No transfer and no call was seen: t says what was there.",
            (true, _) if app.filter.is_empty() => "No transfer was seen. Calls without one: a.",
            (true, _) => "Nothing fits. Esc shows all, and a looks among all calls.",
        };
        if height > 0 {
            buffer.set_stringn(
                area.x + 2,
                area.y + 1,
                said,
                usize::from(area.width.saturating_sub(2)),
                Style::new(),
            );
        }
        return;
    }
    for ((row, is_chosen), y) in app.rows.window(height).zip(area.y + 1..) {
        let style = if colour { Style::from(row.found.entry.style) } else { Style::new() };
        let sign = if row.is_marked { "+" } else { row.found.entry.sign };
        buffer.set_stringn(area.x, y, sign, usize::from(area.width.min(1)), style);
        let mut x = area.x + 2;
        for column in &columns {
            if x >= area.right() {
                break;
            }
            let room = usize::from(column.width.saturating_sub(1).min(area.right() - x));
            let is_judged = matches!(column.head, "Outcome");
            let style = if is_judged { style } else { Style::new() };
            buffer.set_stringn(x, y, (column.text)(row), room, style);
            x = x.saturating_add(column.width);
        }
        if is_chosen {
            buffer.set_style(Rect::new(area.x, y, area.width, 1), Style::new().reversed());
        }
    }
}

/// What is typed, else what was said last, else what is looked for.
fn below(app: &App) -> (String, Style) {
    let plain = Style::new();
    match &app.input {
        Some(Input::Filter) => (format!("Show: {}▏", app.filter), plain.bold()),
        // Whether it may be written over is to be seen.
        Some(Input::Save { is_sure: true, .. }) if app.is_news => last_said(app),
        Some(Input::Save { path, redact, .. }) => {
            let how = match redact {
                None => "as captured",
                Some(Redact::Parties) => "numbers, names and credentials rewritten",
                Some(Redact::Addresses) => "addresses rewritten, too",
            };
            (format!("Save to: {}▏ ({how}; Tab changes that)", sipobs::export::clean(path)), plain.bold())
        }
        None if app.is_news => last_said(app),
        None if app.feed.saves() => ("The packets are being written …".to_owned(), plain),
        None if awaits_ladder(app) => {
            ("The files are read again for the whole call; Esc ends that".to_owned(), plain)
        }
        None if app.pages.is_empty() && !app.filter.is_empty() => {
            (format!("Shown is what fits: {}", app.filter), plain)
        }
        None => (String::new(), plain),
    }
}

fn last_said(app: &App) -> (String, Style) {
    let more = app.said.len().saturating_sub(1);
    let more = if more > 0 { format!("  (m: {more} more)") } else { String::new() };
    (format!("{}{more}", app.said.last().map(String::as_str).unwrap_or_default()), Style::new().bold())
}

fn awaits_ladder(app: &App) -> bool {
    app.pages.last().is_some_and(|page| matches!(page.content, Content::Output(_, Ladder::Awaited)))
}

fn keys(app: &App) -> &'static str {
    match (&app.input, app.pages.last().map(|page| &page.content)) {
        (Some(Input::Filter), _) => " Enter keep  Esc show all",
        (Some(Input::Save { .. }), _) => " Enter save  Tab redact  Esc leave",
        (None, Some(Content::Output(..))) if app.feed.is_live() => {
            " s F2 packets  / F7 filter  ? F1 help  q Esc back"
        }
        (None, Some(Content::Output(..))) => " Enter message  s F2 save  / F7 filter  ? F1 help  q Esc back",
        (None, Some(Content::Message(..))) => " ← → other messages  q Esc back",
        (None, Some(Content::Totals(_) | Content::Text(_))) => " q Esc back",
        (None, None) if app.feed.is_live() => {
            " Enter call  / F7 filter  s F2 packets  m log  ? F1 help  q end the daemon"
        }
        (None, None) => {
            " Enter call  / F7 filter  a all calls  Space mark  s F2 save  t totals  ? F1 help  q quit"
        }
    }
}
