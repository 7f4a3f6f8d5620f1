//! The report as a text for a ticket.

use std::fmt::Write as _;

use super::safe::safe;
use super::{MOST_LADDERS, Report, Told, What, of_call};
use crate::export::style::{Look, grouped};
use crate::export::terminal::{facts, in_which_call};
use crate::export::{ladder, words};
use crate::record::{Attempt, Call};

/// Columns of a ladder.
const WIDTH: usize = 100;
/// Causes, trunks and targets that are named.
const MOST_NAMES: usize = 12;

/// The text.
pub(super) fn text(report: &Report) -> String {
    let mut out = format!("# {}\n\n", plain(&report.headline()));
    if let Some(said) = report.surroundings() {
        let _ = writeln!(out, "{}\n", plain(&said));
    }
    summary(report, &mut out);
    if !report.told.is_empty() {
        out.push_str("## What failed, and why\n\n");
    }
    for (at, told) in report.told.iter().enumerate() {
        match &told.what {
            What::Attempt(attempt) => one(report, told, attempt, at < MOST_LADDERS, &mut out),
            What::Call(call) => flagged(report, told, call, &mut out),
        }
    }
    for said in report.bounds() {
        let _ = writeln!(out, "{}\n", plain(&said));
    }
    if !report.listed.is_empty() {
        out.push_str("## What worked\n\n");
        for attempt in &report.listed {
            let _ = writeln!(
                out,
                "- {}{} · {} · {}",
                number(attempt),
                plain(&words::headline(attempt)),
                plain(&report.look.moment(attempt.started)),
                code(&attempt.id)
            );
        }
        out.push('\n');
    }
    let masked = if report.masked { " Numbers and names are masked." } else { "" };
    let _ = writeln!(out, "By sipobs {}.{masked} A cause is a likely one.", plain(env!("CARGO_PKG_VERSION")));
    out
}

fn summary(report: &Report, out: &mut String) {
    for alert in &report.alerts {
        let _ = writeln!(out, "**{}**\n", plain(&alert.message));
    }
    for fault in report.faults() {
        let _ = writeln!(out, "{}\n", plain(&fault));
    }
    let figures = &report.figures;
    if let Some(shown) = &report.summary.shown {
        let all: u64 = report.summary.transfers.values().sum();
        let _ = writeln!(
            out,
            "Chosen: {} of {} transfers in the capture.\n",
            grouped(shown.transfers),
            grouped(all)
        );
    }
    table(
        out,
        &["File", "First packet", "Last packet", "Packets", "SIP messages", "Notes"],
        report.summary.files.iter().map(|file| {
            let moment = |time: Option<_>| time.map(|time| report.look.moment(time)).unwrap_or_default();
            let same = file.same_as.as_ref().map(|same| format!("the same as {same}, read once"));
            let overlap = file.overlaps.as_ref().zip(file.overlap_ms);
            let overlap = overlap.map(|(other, ms)| format!("overlaps {other} by {}", words::seconds(ms)));
            let notes: Vec<_> = file.error.iter().cloned().chain(same).chain(overlap).collect();
            vec![
                file.name.clone(),
                moment(file.first),
                moment(file.last),
                grouped(file.frames),
                grouped(file.messages),
                notes.join("; "),
            ]
        }),
    );
    table(
        out,
        &["Outcome", "Method", "Transfers"],
        figures.outcomes.iter().map(|((outcome, method), n)| {
            vec![words::outcome(*outcome).to_owned(), words::method(*method).to_owned(), grouped(*n)]
        }),
    );
    table(
        out,
        &["Times", "Likely cause", "Fault", "For example"],
        figures.causes().into_iter().take(MOST_NAMES).map(|(_, cause)| {
            let examples: Vec<_> = cause.examples.iter().map(|seq| format!("No. {seq}")).collect();
            let fault = cause.fault.as_str().replace('_', " ");
            vec![grouped(cause.count), cause.said.clone(), fault, examples.join(", ")]
        }),
    );
    for (what, names) in [("Trunk", figures.trunks()), ("Target", figures.targets())] {
        table(
            out,
            &[what, "Transfers", "Failed or in doubt"],
            names
                .into_iter()
                .take(MOST_NAMES)
                .map(|(name, share)| vec![name.to_owned(), grouped(share.all), grouped(share.failed)]),
        );
    }
}

fn table(out: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "| {} |\n|{}", heads.join(" | "), " --- |".repeat(heads.len()));
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| plain(cell)).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
}

fn one(report: &Report, told: &Told, attempt: &Attempt, draws: bool, out: &mut String) {
    let _ = writeln!(out, "### {}{}\n", number(attempt), plain(&words::headline(attempt)));
    let _ = writeln!(out, "{} · {}\n", plain(&words::who(attempt)), code(&attempt.id));
    let _ = writeln!(out, "{}\n", plain(&facts(report.look, attempt)));
    for (at, candidate) in attempt.diagnosis.iter().enumerate() {
        let (word, said) = words::cause(at, &candidate.cause);
        let _ = writeln!(out, "- **{word}**: {}", plain(&said));
        for (word, text) in [("because", &candidate.because), ("check", &candidate.check)] {
            if !text.is_empty() {
                let _ = writeln!(out, "- {word}: {}", plain(text));
            }
        }
        let fault = candidate.fault.as_str().replace('_', " ");
        let source = candidate.source.as_deref().map(|source| format!(" · rule: {}", plain(source)));
        let _ = writeln!(out, "- fault: {}{}", plain(&fault), source.unwrap_or_default());
    }
    if let Some(spots) = words::blind_spots(attempt) {
        let _ = writeln!(out, "- unseen: {}", plain(&spots));
    }
    if let Some(also) = &told.also {
        let _ = writeln!(out, "- besides: {}", plain(also));
    }
    let _ = writeln!(out, "- {}", plain(&in_which_call(attempt)));
    for (header, id) in attempt.provider_ids.iter().chain(&attempt.target_provider_ids) {
        let _ = writeln!(out, "- for the provider: {}", code(&format!("{header}: {id}")));
    }
    out.push('\n');
    if draws {
        drawn(report.look, told, out);
    }
}

fn flagged(report: &Report, told: &Told, call: &Call, out: &mut String) {
    let _ = writeln!(out, "### {}\n", plain(&of_call(call)));
    let _ = writeln!(out, "{} · call {}\n", plain(&report.look.moment(call.started)), code(&call.call_id));
    drawn(report.look, told, out);
}

fn drawn(look: Look, told: &Told, out: &mut String) {
    let look = Look { width: WIDTH, colour: false, ..look };
    let ladder = match (&told.whole, &told.what) {
        (Some(whole), _) => whole.draw(look),
        (None, What::Attempt(attempt)) => ladder::draw(look, &attempt.messages),
        (None, What::Call(_)) => return,
    };
    if !ladder.trim().is_empty() {
        block(&ladder, out);
    }
}

/// A code block, with a fence that is longer than any in it.
fn block(text: &str, out: &mut String) {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let lines: Vec<String> = text.trim_end().lines().map(|line| safe(line).trim_end().to_owned()).collect();
    let _ = writeln!(out, "{fence}text\n{}\n{fence}\n", lines.join("\n"));
}

/// Code within a line: whatever is in it stays in it.
fn code(text: &str) -> String {
    let text = safe(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A bar ends a cell even here; and a blank at both ends goes away again.
    let text = text.replace('|', "¦");
    if text.starts_with('`') || text.ends_with('`') {
        format!("{fence} {text} {fence}")
    } else {
        format!("{fence}{text}{fence}")
    }
}

/// Not `#17`, which many trackers take for one of their own tickets.
fn number(attempt: &Attempt) -> String {
    attempt.seq.map(|seq| format!("No. {seq} · ")).unwrap_or_default()
}

/// Text in which nothing means anything to a reader of Markdown: neither marks, nor HTML, nor the name of somebody to be told.
fn plain(text: &str) -> String {
    let text = safe(text);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        let has_meaning = match c {
            '+' | '-' => before == ' ',
            // Links that need no brackets.
            ':' => letters.peek() == Some(&'/'),
            '.' => before.eq_ignore_ascii_case(&'w'),
            _ => "\\`*_{}[]<>()#!|~&$=".contains(c),
        };
        if has_meaning {
            out.push('\\');
        }
        out.push(c);
        if c == '@' && !before.is_ascii_alphanumeric() {
            // Nobody is called for.
            out.push(' ');
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        for (text, wanted) in [
            ("<script>alert(1)</script>", "\\<script\\>alert\\(1\\)\\</script\\>"),
            ("[x](javascript:1)", "\\[x\\]\\(javascript:1\\)"),
            ("a | b\n# c", "a \\| b\u{fffd}\\# c"),
            ("http://evil.example", "http\\://evil.example"),
            ("www.evil.example", "www\\.evil.example"),
            ("`x` @all", "\\`x\\` @ all"),
            ("a@b", "a@b"),
            ("- item", "\\- item"),
        ] {
            assert_eq!(plain(text), wanted);
        }
        assert_eq!(code("a``b"), "```a``b```");
        assert_eq!(code("`"), "`` ` ``");
        let mut out = String::new();
        block("a\n````\n# b", &mut out);
        assert_eq!(out, "`````text\na\n````\n# b\n`````\n\n");
    }
}
