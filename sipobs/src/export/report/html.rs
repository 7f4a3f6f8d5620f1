//! The report as one page. It loads nothing, and its policy lets it: styles and script are told by their hashes, so that
//! nothing from the wire could run even if it were not escaped.

use std::collections::BTreeSet;

use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::figures::Share;
use super::ladder::{self, Shown};
use super::safe::safe;
use super::{Report, Told, What, chart, of_call, tone_word};
use crate::export::style::grouped;
use crate::export::terminal::{counted, facts, in_which_call};
use crate::export::words::{self, Tone};
use crate::record::{Attempt, Call, Diagnosis, LegRole, Method, Outcome, ReferAbsent};

pub(in crate::export) const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Rows of the tables of causes, trunks and targets.
const MOST_NAMES: usize = 12;
/// Where there are no more that failed, their ladders are open.
const FEW: usize = 12;

/// The page.
pub(super) fn page(report: &Report) -> String {
    let bare = whole(report, &Shown::default()).into_string();
    let shown = Shown::choose(report, bare.len());
    whole(report, &shown).into_string()
}

fn whole(report: &Report, shown: &Shown) -> Markup {
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let headline = report.headline();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "sipobs " (env!("CARGO_PKG_VERSION")) };
                title { (headline) " · sipobs" }
                // So that no browser asks a server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#transfers" { "Skip to the transfers" }
                (head(report, &headline))
                main {
                    (notes(report))
                    (causes(report))
                    (chart::over_time(&report.figures.timeline, None))
                    // Whoever has few reads all of them; of many, first what they have in common.
                    @if report.told.len() > FEW { (counts(report)) }
                    (told(report, shown))
                    (listed(report))
                    @if report.told.len() <= FEW { (counts(report)) }
                    @if !report.summary.files.is_empty() { (files(report)) }
                }
                (foot(report, shown))
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

pub(in crate::export) fn hash(text: &str) -> String {
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes())))
}

fn head(report: &Report, headline: &str) -> Markup {
    let summary = &report.summary;
    let read = summary.files.iter().filter(|file| file.same_as.is_none()).count();
    html! {
        header {
            p.brand { "sipobs · call transfers" }
            h1 { (headline) }
            @if let Some(said) = report.likeliest() { p.lead { (safe(&said)) } }
            @if let Some(said) = report.surroundings() { p.lead { (safe(&said)) } }
            @if !summary.files.is_empty() { dl.figures {
                @if let Some((first, last)) = report.span() {
                    div { dt { "From" } dd { (report.look.moment(first)) } }
                    div { dt { "To" } dd { (report.look.moment(last)) } }
                }
                @for (what, n) in [
                    ("Files", read as u64),
                    ("Packets", summary.packets),
                    ("SIP messages", summary.messages),
                    ("Ended calls", summary.calls),
                    ("Transfers", report.figures.transfers),
                ] {
                    div { dt { (what) } dd { (grouped(n)) } }
                }
            } }
            nav aria-label="In this report" {
                ul {
                    li { a href="#transfers" { (report.heading()) } }
                    @if !report.listed.is_empty() { li { a href="#worked" { "What worked" } } }
                    @if report.figures.transfers > 0 { li { a href="#counts" { "Counts" } } }
                    @if !summary.files.is_empty() { li { a href="#files" { "Files" } } }
                }
            }
        }
    }
}

/// What a reader must know before the figures.
fn notes(report: &Report) -> Markup {
    let faults = report.faults();
    let summary = &report.summary;
    let attempts: u64 = summary.transfers.values().sum();
    html! {
        @if !faults.is_empty() || !report.alerts.is_empty() || summary.shown.is_some() {
            section aria-label="Notes" {
                @for alert in &report.alerts {
                    p.note.bad {
                        strong { (safe(&alert.message)) }
                        " " span.soft { (report.look.moment(alert.time)) " · trunk " (safe(&alert.trunk)) }
                    }
                }
                @for fault in &faults { p.note { (safe(fault)) } }
                @if let Some(shown) = &summary.shown {
                    p.note { "Chosen: " (grouped(shown.transfers)) " of " (counted(attempts, "transfer")) " in the capture." }
                }
            }
        }
    }
}

fn causes(report: &Report) -> Markup {
    let causes = report.figures.causes();
    html! {
        @if !causes.is_empty() {
            section aria-labelledby="causes" {
                h2 #causes { "Likely causes" }
                div.t tabindex="0" role="region" aria-label="Table: Likely causes" { table {
                    thead { tr {
                        th.n scope="col" { "Times" } th scope="col" { "Cause" } th scope="col" { "Fault" }
                        th scope="col" { "For example" }
                    } }
                    tbody {
                        @for (_, cause) in causes.iter().take(MOST_NAMES) {
                            tr {
                                td.n { (grouped(cause.count)) }
                                td { (safe(&cause.said)) }
                                td { (fault_words(cause.fault.as_str())) }
                                td { @for seq in &cause.examples { a href={ "#n" (seq) } { "#" (seq) } " " } }
                            }
                        }
                    }
                } }
                @if causes.len() > MOST_NAMES {
                    p.soft { "and " (causes.len() - MOST_NAMES) " rarer ones" }
                }
            }
        }
    }
}

fn fault_words(fault: &str) -> String {
    fault.replace('_', " ")
}

fn counts(report: &Report) -> Markup {
    let figures = &report.figures;
    let methods: Vec<Method> = Method::ALL
        .iter()
        .copied()
        .filter(|method| figures.outcomes.keys().any(|(_, seen)| seen == method))
        .collect();
    let mut outcomes: Vec<Outcome> = figures.outcomes.keys().map(|(outcome, _)| *outcome).collect();
    outcomes.dedup();
    let cell = |outcome, method| figures.outcomes.get(&(outcome, method)).copied().unwrap_or_default();
    html! {
        @if figures.transfers > 0 {
            section aria-labelledby="counts" {
                h2 #counts { "Counts" }
                div.t tabindex="0" role="region" aria-label="Table: Outcomes by method" { table {
                    caption { "Outcomes by method" }
                    thead { tr {
                        th scope="col" { "Outcome" }
                        @for method in &methods { th.n scope="col" { (words::method(*method)) } }
                        th.n scope="col" { "all" }
                    } }
                    tbody {
                        @for outcome in &outcomes {
                            tr {
                                th scope="row" class=(tone_word(words::tone_of(*outcome))) { (words::outcome(*outcome)) }
                                @for method in &methods {
                                    td.n { @match cell(*outcome, *method) { 0 => "·", n => (grouped(n)) } }
                                }
                                td.n { (grouped(methods.iter().map(|method| cell(*outcome, *method)).sum())) }
                            }
                        }
                    }
                } }
                div.two {
                    @if !figures.faults.is_empty() {
                        div.t tabindex="0" role="region" aria-label="Table: Whose fault it was" { table {
                            caption { "Whose fault it was, of those that failed" }
                            thead { tr { th scope="col" { "Fault" } th.n scope="col" { "Times" } } }
                            tbody {
                                @for (fault, n) in &figures.faults {
                                    tr { th scope="row" { (fault_words(fault)) } td.n { (grouped(*n)) } }
                                }
                            }
                        } }
                    }
                    (shares("By trunk", "Trunk", &figures.trunks()))
                    (shares("By target", "Target", &figures.targets()))
                }
            }
        }
    }
}

fn shares(caption: &str, what: &str, names: &[(&str, Share)]) -> Markup {
    html! {
        div.t tabindex="0" role="region" aria-label=(caption) { table {
            caption { (caption) }
            thead { tr {
                th scope="col" { (what) } th.n scope="col" { "Transfers" } th.n scope="col" { "Failed or in doubt" }
            } }
            tbody {
                @for (name, share) in names.iter().take(MOST_NAMES) {
                    tr { th scope="row" { (safe(name)) } td.n { (grouped(share.all)) } td.n { (grouped(share.failed)) } }
                }
            }
        }
        @if names.len() > MOST_NAMES { p.soft { "and " (grouped((names.len() - MOST_NAMES) as u64)) " more" } }
        }
    }
}

fn told(report: &Report, shown: &Shown) -> Markup {
    let is_open = report.told.len() <= FEW;
    html! {
        section aria-labelledby="transfers" {
            h2 #transfers tabindex="-1" { (report.heading()) }
            (filter(report))
            @if report.told.is_empty() { p { "Nothing." } }
            @for (at, told) in report.told.iter().enumerate() {
                @match &told.what {
                    What::Attempt(attempt) => (one(report, at, told, attempt, shown, is_open)),
                    What::Call(call) => (flagged(report, at, told, call, shown, is_open)),
                }
            }
            @for said in report.bounds() { p.soft { (said) } }
        }
    }
}

/// Shown by the script, as it does nothing without.
fn filter(report: &Report) -> Markup {
    let mut outcomes: Vec<&str> =
        report.figures.outcomes.keys().map(|(outcome, _)| outcome.as_str()).collect();
    outcomes.dedup();
    let has_calls = report.told.iter().any(|told| matches!(told.what, What::Call(_)));
    html! {
        form role="search" aria-label="Transfers" hidden {
            label { "Number, name, Call-ID or #" input type="search" autocomplete="off" spellcheck="false"; }
            label {
                "Outcome"
                select {
                    option value="" { "all" }
                    @for outcome in outcomes { option value=(outcome) { (outcome.replace('_', " ")) } }
                    @if has_calls { option value="call" { "call without a transfer" } }
                }
            }
            output role="status" {}
        }
    }
}

fn one(report: &Report, at: usize, told: &Told, attempt: &Attempt, shown: &Shown, is_open: bool) -> Markup {
    let tone = words::tone(attempt);
    let anchor = attempt.seq.map(|seq| format!("n{seq}"));
    html! {
        article id=[anchor.as_deref()] class=(tone_word(tone)) data-o=(attempt.outcome.as_str()) {
            h3 { (safe(&words::headline(attempt))) }
            p.who {
                @if let Some(seq) = attempt.seq { a href={ "#n" (seq) } { "#" (seq) } " · " }
                (safe(&words::who(attempt))) " · " code { (safe(&attempt.id)) }
            }
            p.f { (safe(&facts(report.look, attempt))) }
            dl.d {
                @for (n, candidate) in attempt.diagnosis.iter().enumerate() { (cause(n, candidate)) }
                @if let Some(spots) = words::blind_spots(attempt) { dt { "unseen" } dd { (safe(&spots)) } }
                @if let Some(also) = &told.also { dt { "besides" } dd { (safe(also)) } }
            }
            p.ids { (safe(&in_which_call(attempt))) (consultation(told)) }
            (ids(attempt))
            (elsewhere(report, attempt.evidence_file.as_deref(), attempt.trace_id.as_deref()))
            (ladder::draw(report.look, at, told, shown, is_open))
        }
    }
}

fn cause(n: usize, candidate: &Diagnosis) -> Markup {
    let (word, said) = words::cause(n, &candidate.cause);
    let from = match (&candidate.source, candidate.heuristic) {
        (Some(source), false) => safe(source),
        (Some(source), true) => format!("{}, a rule of thumb", safe(source)),
        (None, true) => "a rule of thumb".to_owned(),
        (None, false) => "a table of your own".to_owned(),
    };
    html! {
        dt { (word) } dd.first[n == 0] { (safe(&said)) }
        @if !candidate.because.is_empty() { dt { "because" } dd { (safe(&candidate.because)) } }
        @if !candidate.check.is_empty() { dt { "check" } dd { (safe(&candidate.check)) } }
        dt { "fault" } dd.from { (fault_words(candidate.fault.as_str())) " · rule: " (from) }
    }
}

fn consultation(told: &Told) -> Markup {
    let legs = told.whole.iter().flat_map(|whole| &whole.legs);
    html! {
        @for (_, call_id) in legs.filter(|(leg, _)| *leg == LegRole::Consultation) { ", consultation (c) " (safe(call_id)) }
    }
}

/// What a provider's support asks for.
fn ids(attempt: &Attempt) -> Markup {
    let all = attempt.provider_ids.iter().chain(&attempt.target_provider_ids);
    let all: BTreeSet<_> = all.map(|(header, id)| format!("{}: {}", safe(header), safe(id))).collect();
    let all: Vec<_> = all.into_iter().collect();
    html! { @if !all.is_empty() { p.ids { "for the provider: " (all.join(" · ")) } } }
}

/// Links to the packets and to the trace, where there are such.
fn elsewhere(report: &Report, file: Option<&str>, trace: Option<&str>) -> Markup {
    let file = file.filter(|_| report.links.has_evidence);
    let is_id = |id: &&str| id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let url = |id| Some(report.links.trace_url.as_ref()?.replace("{trace_id}", id));
    let trace = trace.filter(is_id).and_then(url);
    html! {
        @if file.is_some() || trace.is_some() {
            p.ids {
                @if let Some(file) = file { a href={ "/evidence/" (file) } download=(file) { "Packets" } " " }
                @if let Some(url) = trace { a href=(url) rel="noreferrer" { "Trace" } }
            }
        }
    }
}

fn flagged(report: &Report, at: usize, told: &Told, call: &Call, shown: &Shown, is_open: bool) -> Markup {
    let tone = match call.refer_absent {
        ReferAbsent::Suspected { .. } | ReferAbsent::MethodSwitched => Tone::Doubt,
        ReferAbsent::No | ReferAbsent::Fact { .. } => Tone::Neutral,
    };
    let who = told.whole.as_ref().and_then(words::ends_of);
    html! {
        article class=(tone_word(tone)) data-o="call" {
            h3 { (safe(&of_call(call))) "." }
            p.who {
                @if let Some(who) = who { (safe(&who)) " · " }
                "trunk " (safe(&call.trunk))
            }
            p.f { (report.look.moment(call.started)) " to " (report.look.moment(call.ended)) }
            p.ids { "call (a) " (safe(&call.call_id)) }
            (elsewhere(report, call.evidence_file.as_deref(), call.trace_id.as_deref()))
            (ladder::draw(report.look, at, told, shown, is_open))
        }
    }
}

fn listed(report: &Report) -> Markup {
    html! {
        @if !report.listed.is_empty() {
            section aria-labelledby="worked" {
                h2 #worked { "What worked" }
                div.t tabindex="0" role="region" aria-label="Table: What worked" { table {
                    thead { tr {
                        th scope="col" { "#" } th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Who" }
                        th scope="col" { "Id" }
                    } }
                    tbody {
                        @for attempt in &report.listed {
                            @let anchor = attempt.seq.map(|seq| format!("n{seq}"));
                            tr id=[anchor.as_deref()] data-o=(attempt.outcome.as_str()) {
                                td { @if let Some(seq) = attempt.seq { "#" (seq) } }
                                td { (report.look.moment(attempt.started)) }
                                th scope="row" { (safe(&words::headline(attempt))) }
                                td { (safe(&words::who(attempt))) }
                                td { code { (safe(&attempt.id)) } }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn files(report: &Report) -> Markup {
    let moment = |time: Option<_>| time.map(|time| report.look.moment(time)).unwrap_or_default();
    html! {
        section aria-labelledby="files" {
            h2 #files { "Files" }
            div.t tabindex="0" role="region" aria-label="Table: Files" { table {
                thead { tr {
                    th scope="col" { "File" } th scope="col" { "First packet" } th scope="col" { "Last packet" }
                    th.n scope="col" { "Packets" } th.n scope="col" { "SIP messages" } th scope="col" { "Notes" }
                } }
                tbody {
                    @for file in &report.summary.files {
                        tr {
                            th scope="row" { (safe(&file.name)) }
                            td { (moment(file.first)) }
                            td { (moment(file.last)) }
                            td.n { (grouped(file.frames)) }
                            td.n { (grouped(file.messages)) }
                            td {
                                @if let Some(error) = &file.error { span.bad { (safe(error)) } " " }
                                @if let Some(same) = &file.same_as { "the same as " (safe(same)) ", read once" }
                                @if let (Some(other), Some(ms)) = (&file.overlaps, file.overlap_ms) {
                                    "overlaps " (safe(other)) " by " (words::seconds(ms))
                                }
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn foot(report: &Report, shown: &Shown) -> Markup {
    html! {
        footer {
            p {
                "By sipobs " (env!("CARGO_PKG_VERSION")) ". A cause is a likely one: it comes from a rule, which is named, and "
                "its evidence, which is shown. "
                @if report.masked { "Numbers and names are masked: --mask full shows them. " }
                "Credentials and bodies are never shown. Times carry their offset from UTC."
            }
            @if shown.is_partial {
                p {
                    "Headers are in this page for the messages that decided, and others as far as there was room: "
                    "--call '#N' with --html gives a page with all of one call."
                }
            }
            @if report.told.iter().any(|told| told.whole.as_ref().is_some_and(|whole| whole.headers_left_out > 0)) {
                p { "Headers that may hold anything, such as peers' own, are left out where numbers are masked." }
            }
        }
    }
}
