//! How transfers were tried over time, as a picture: stacked bars, and the same figures in a table.

use std::fmt::Write as _;

use maud::{Markup, html};
use strum::VariantArray as _;

use super::figures::{Bar, Timeline, Way};
use super::safe::safe;
use crate::export::style::grouped;
use crate::export::words::Tone;
use crate::timestamp::Timestamp;

/// The picture's sides, and the margins of its plot, in its own units.
const WIDTH: i64 = 720;
const HEIGHT: i64 = 190;
const LEFT: i64 = 44;
const RIGHT: i64 = 8;
const TOP: i64 = 10;
const BOTTOM: i64 = 26;
/// The broadest bar.
const BROADEST: i64 = 40;
/// Times that are written below the bars, at most.
const MOST_LABELS: i64 = 6;
const DAY: i64 = 86_400;

/// The picture, its key and its table, of `whose` transfers where they are not all; nothing where nothing was tried.
pub(in crate::export) fn over_time(timeline: &Timeline, whose: Option<&str>) -> Markup {
    let bars: Vec<(i64, Bar)> = timeline.bars().collect();
    let Some((&(first, _), &(last, _))) = bars.first().zip(bars.last()) else { return html! {} };
    let step = timeline.seconds();
    let there: Vec<Way> = Way::VARIANTS
        .iter()
        .copied()
        .filter(|way| bars.iter().any(|(_, bar)| bar.ways[*way as usize] > 0))
        .collect();
    let every = long(step);
    html! {
        section aria-labelledby="time" {
            h2 #time { "How it was tried, over time" @if let Some(whose) = whose { " · " (safe(whose)) } }
            figure {
                (picture(&bars, first, last, step))
                figcaption {
                    ul.key {
                        @for way in &there {
                            li { svg viewBox="0 0 10 10" aria-hidden="true" { rect class={ "w" (*way as usize) } width="10" height="10" {} } (way.word()) }
                        }
                    }
                    "A bar stands for " (every) ". “none”: answered calls that ended without any transfer."
                }
            }
            details {
                summary { "The same figures in a table" }
                div.t tabindex="0" role="region" aria-label="Table: transfers over time" { table {
                    caption { "Transfers by method and outcome, for each " (every) " in which there were any" }
                    thead { tr {
                        th scope="col" { "From" }
                        @for way in &there { th.n scope="col" { (way.word()) } }
                        @for tone in Tone::VARIANTS.iter().copied() { th.n scope="col" { (said(tone)) } }
                    } }
                    tbody {
                        @for (at, bar) in &bars {
                            tr {
                                th scope="row" { (when(*at, step, true)) }
                                @for way in &there { td.n { (grouped(bar.ways[*way as usize])) } }
                                @for tone in Tone::VARIANTS.iter().copied() { td.n { (grouped(bar.tones[tone as usize])) } }
                            }
                        }
                    }
                } }
            }
        }
    }
}

const fn said(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "worked",
        Tone::Bad => "failed",
        Tone::Doubt => "not known",
        Tone::Neutral => "went on",
    }
}

fn picture(bars: &[(i64, Bar)], first: i64, last: i64, step: i64) -> Markup {
    let slots = (last - first) / step + 1;
    let (plot, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let sum = |bar: &Bar| bar.ways.iter().sum::<u64>();
    let most = round(bars.iter().map(|(_, bar)| sum(bar)).max().unwrap_or(1));
    let center = |at: i64| LEFT + (2 * ((at - first) / step) + 1) * plot / (2 * slots);
    let broad = (plot * 4 / (5 * slots)).clamp(2, BROADEST);
    let y = |n: u64| {
        TOP + height
            - i64::try_from(u128::from(n) * height.unsigned_abs() as u128 / u128::from(most)).unwrap_or(0)
    };
    let grid: Vec<u64> = if most.is_multiple_of(2) { vec![0, most / 2, most] } else { vec![0, most] };
    let mut rows: Vec<(usize, String)> =
        Way::VARIANTS.iter().copied().map(|way| (way as usize, String::new())).collect();
    for (at, bar) in bars {
        let mut below = 0;
        for (way, path) in &mut rows {
            let n = bar.ways[*way];
            if n > 0 {
                let (bottom, top) = (y(below), y(below + n));
                // However few, they are seen.
                let top = top.min(bottom - 1);
                let _ = write!(path, "M{} {bottom}V{top}h{broad}V{bottom}z", center(*at) - broad / 2);
                below += n;
            }
        }
    }
    let labels = slots.min(MOST_LABELS);
    let marked =
        (0..labels).map(|n| first + if labels > 1 { n * (slots - 1) / (labels - 1) * step } else { 0 });
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-labelledby="chart-title chart-words" {
            title #chart-title { "Transfers over time, by method" }
            desc #chart-words { (in_words(bars, step)) }
            @for n in &grid {
                path.grid d={ "M" (LEFT) " " (y(*n)) "H" (WIDTH - RIGHT) } {}
                text x=(LEFT - 6) y=(y(*n) + 4) text-anchor="end" { (grouped(*n)) }
            }
            @for (way, path) in rows.iter().filter(|(_, path)| !path.is_empty()) {
                path class={ "w" (way) } d=(path) {}
            }
            @for at in marked {
                text x=(center(at)) y=(HEIGHT - 8) text-anchor="middle" { (when(at, step, false)) }
            }
        }
    }
}

fn in_words(bars: &[(i64, Bar)], step: i64) -> String {
    let ways = |bar: &Bar| {
        let there = Way::VARIANTS.iter().copied().filter(|way| bar.ways[*way as usize] > 0);
        there.map(|way| format!("{} {}", bar.ways[way as usize], way.word())).collect::<Vec<_>>().join(", ")
    };
    match (bars.first(), bars.last()) {
        (Some((from, first)), Some((to, last))) if from != to => format!(
            "From {}: {}. To {}: {}. The table behind has all figures.",
            when(*from, step, true),
            ways(first),
            when(*to, step, true),
            ways(last)
        ),
        (Some((at, bar)), _) => format!("{}: {}.", when(*at, step, true), ways(bar)),
        (None, _) => String::new(),
    }
}

/// The next number that reads well, at least 2.
fn round(most: u64) -> u64 {
    let mut ten = 1;
    while ten < u64::MAX / 1_000 && ten * 100 < most {
        ten *= 10;
    }
    [2, 4, 6, 8, 10, 12, 16, 20, 30, 40, 60, 80, 100]
        .into_iter()
        .map(|n| n * ten)
        .find(|n| *n >= most)
        .unwrap_or(most)
}

/// A second of the reader's clock.
fn when(second: i64, step: i64, whole: bool) -> String {
    let text = Timestamp::from_nanos(second.saturating_mul(1_000_000_000)).to_string();
    let (day, time) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    match (whole, step < DAY) {
        (true, true) => format!("{day} {time}"),
        (true, false) => day.to_owned(),
        (false, true) if step >= 3_600 => format!("{} {time}", day.get(5..).unwrap_or_default()),
        (false, true) => time.to_owned(),
        (false, false) => day.to_owned(),
    }
}

fn long(step: i64) -> String {
    let (n, what) = match step {
        DAY.. => (step / DAY, "day"),
        3_600.. => (step / 3_600, "hour"),
        _ => (step / 60, "minute"),
    };
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_reads_well() {
        for (most, wanted) in
            [(0, 2), (1, 2), (3, 4), (7, 8), (11, 12), (45, 60), (100, 100), (101, 120), (950, 1000)]
        {
            assert_eq!(round(most), wanted, "{most}");
        }
    }

    #[test]
    fn times_are_as_fine_as_the_bars() {
        assert_eq!(when(1_790_000_000, 60, false), "14:13");
        assert_eq!(when(1_790_000_000, 3_600, false), "09-21 14:13");
        assert_eq!(when(1_790_000_000, DAY, true), "2026-09-21");
        assert_eq!([60, 300, 3_600, 7 * DAY].map(long), ["1 minute", "5 minutes", "1 hour", "7 days"]);
    }
}
