//! What a daemon finds as it happens, for a browser: a list that grows, each verdict in full as [`super::report`] has it, and
//! how transfers were tried over time.
//!
//! It is bounded: the oldest go first, and are counted. It gets outputs as any sink does, behind a queue that drops what it
//! cannot take, and whoever reads it waits for nothing and holds nothing up.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;
use tokio::sync::watch;

use super::metrics::Removed;
use super::report::chart;
use super::report::figures::Timeline;
use super::report::html::{STYLE, hash};
use super::report::safe::safe;
use super::report::{self, Links};
use super::{Look, Report, Sink, Summary, words};
use crate::record::Output;

const SCRIPT: &str = include_str!("page.js");
/// Verdicts that are kept.
const MOST: usize = 10_000;
/// Bytes that they may take up in memory, near enough.
const MOST_BYTES: usize = 32 << 20;
/// Trunks with a picture of their own; those that come later are in that of all.
const MOST_TRUNKS: usize = 200;
/// Verdicts that one answer tells of.
const AT_ONCE: usize = 500;

/// The last verdicts.
#[derive(Debug)]
pub struct Page {
    /// Tells this run's numbers from those of another.
    run: u64,
    look: Look,
    masked: bool,
    links: Links,
    evidence: Option<PathBuf>,
    store: Mutex<Store>,
    newest: watch::Sender<u64>,
    /// Counts what made way.
    removed: Removed,
}

/// How the capture is.
#[derive(Clone, Debug)]
pub struct State {
    /// That it is as it should be, or why not.
    pub readiness: Result<String, String>,
    /// What is lost, in words; empty where that is nothing.
    pub lost: String,
}

#[derive(Debug)]
struct Store {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// How many made way.
    gone: u64,
    /// How transfers were tried of late: all of them, and each trunk's.
    all: Timeline,
    trunks: BTreeMap<Arc<str>, Timeline>,
}

#[derive(Debug)]
struct Kept {
    id: String,
    row: String,
    output: Arc<Output>,
    bytes: usize,
}

/// A line of the list.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    when: String,
    tone: &'static str,
    outcome: &'static str,
    fault: &'static str,
    trunk: String,
    said: String,
    who: String,
    calls: String,
}

impl Page {
    /// An empty one. `run` differs from that of any other run; `evidence` is the folder with files of evidence.
    pub fn new(
        run: u64,
        look: Look,
        masked: bool,
        evidence: Option<PathBuf>,
        trace_url: Option<String>,
        removed: Removed,
    ) -> Arc<Self> {
        let links = Links { has_evidence: evidence.is_some(), trace_url };
        let store = Mutex::new(Store {
            kept: VecDeque::new(),
            bytes: 0,
            gone: 0,
            all: Timeline::of_late(),
            trunks: BTreeMap::new(),
        });
        Arc::new(Self { run, look, masked, links, evidence, store, newest: watch::Sender::new(0), removed })
    }

    /// The folder with files of evidence.
    pub(super) fn evidence(&self) -> Option<&PathBuf> {
        self.evidence.as_ref()
    }

    /// Hears of each verdict that comes.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Whether somebody who has read up to `last`, an event's id, has more to read.
    pub(super) fn has_more(&self, last: Option<&str>) -> bool {
        let (after, is_of_another) = self.after(last);
        is_of_another || *self.newest.borrow() > after
    }

    fn after(&self, last: Option<&str>) -> (u64, bool) {
        let Some(last) = last else { return (0, false) };
        let number = |text: &str| text.parse::<u64>().ok();
        let parts = last.split_once('-').and_then(|(run, n)| Some((number(run)?, number(n)?)));
        match parts {
            Some((run, n)) if run == self.run => (n, false),
            _ => (0, true),
        }
    }

    /// Events after `last` (server-sent events, HTML Standard §9.2), of which one answer has a bounded number. Whoever has
    /// read another run, or anything else, is told to forget that.
    pub(super) fn events(&self, last: Option<&str>) -> String {
        let (after, is_of_another) = self.after(last);
        let mut text = String::from("retry: 300\n\n");
        if is_of_another {
            text.push_str("event: forget\ndata: {}\n\n");
        }
        let store = self.lock();
        let from = usize::try_from(after.saturating_sub(store.gone)).unwrap_or(usize::MAX);
        let first = store.gone + from as u64 + 1;
        for (n, kept) in (first..).zip(store.kept.iter().skip(from).take(AT_ONCE)) {
            let _ = write!(text, "id: {}-{n}\ndata: {}\n\n", self.run, kept.row);
        }
        text
    }

    /// One verdict in full, as a report of it alone.
    pub(super) fn one(&self, id: &str) -> Option<String> {
        let output = self.lock().kept.iter().rev().find(|kept| kept.id == id)?.output.clone();
        let mut report = Report::new(self.look, self.masked).all(true).linked(self.links.clone());
        // It only gathers.
        let _ = report.output(&output);
        Some(report.html())
    }

    /// What of the page changes beside its list, which its script puts in place of what was: how the capture is, and how
    /// transfers were tried over time, those of one trunk or all.
    pub(super) fn now(&self, state: &State, trunk: Option<&str>) -> Markup {
        let (over_time, kept, gone) = {
            let store = self.lock();
            let of = trunk.and_then(|trunk| store.trunks.get_key_value(trunk));
            let (timeline, whose) = of.map_or((&store.all, None), |(whose, of)| (of, Some(&**whose)));
            (chart::over_time(timeline, whose), store.kept.len(), store.gone)
        };
        html! {
            div #state role="status" {
                @match &state.readiness {
                    Ok(said) => p { "Capture: " span.good { (safe(said)) } },
                    Err(said) => p.note.bad { "Capture: " (safe(said)) },
                }
                @if !state.lost.is_empty() { p.note { "Lost: " (safe(&state.lost)) } }
            }
            p.soft #kept {
                "Kept: " (kept) @if gone > 0 { "; " (gone) " older ones made way" } ". "
                a href="/metrics" { "Counters" } " · " a href="/readyz" { "Readiness" }
            }
            div #over { (over_time) }
        }
    }

    /// The page itself.
    pub(super) fn html(&self, state: &State) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width,initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { "sipobs · call transfers" }
                    link rel="icon" href="data:,";
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#transfers" { "Skip to the transfers" }
                    header {
                        p.brand { "sipobs · call transfers" }
                        h1 { "As they happen" }
                    }
                    main {
                        (self.now(state, None))
                        section aria-labelledby="transfers" {
                            h2 #transfers tabindex="-1" { "Transfers, and calls that lack one" }
                            form role="search" aria-label="Transfers" {
                                label { "Number, name, Call-ID" input name="text" type="search" autocomplete="off" spellcheck="false"; }
                                @for what in ["outcome", "fault", "trunk"] {
                                    label { (what) select name=(what) { option value="" { "all" } } }
                                }
                                output role="status" {}
                            }
                            div.t tabindex="0" role="region" aria-label="Table: transfers" { table {
                                thead { tr {
                                    th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Who" } th scope="col" { "Trunk" }
                                } }
                                tbody #rows {}
                            } }
                            p { button #more type="button" hidden { "Show more" } }
                            noscript { p.note { "The list needs this page's script." } }
                        }
                    }
                    footer { p {
                        "By sipobs " (env!("CARGO_PKG_VERSION")) ". "
                        @if self.masked { "Numbers and names are masked. " }
                        "Each line leads to the whole verdict."
                    } }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        }
        .into_string()
    }

    /// What a browser may do with the page.
    pub(super) fn policy() -> String {
        format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        )
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, output: &Output) {
        let mut store = self.lock();
        let Store { kept, bytes, gone, all, trunks } = &mut *store;
        all.count(self.look, output);
        if let Some(trunk) = trunk(output)
            && (trunks.len() < MOST_TRUNKS || trunks.contains_key(trunk))
        {
            let timeline = trunks.entry(Arc::clone(trunk)).or_insert_with(Timeline::of_late);
            timeline.count(self.look, output);
        }
        let Some((id, row, size)) = self.row(output) else { return };
        let size = size + row.len();
        kept.push_back(Kept { id, row, output: Arc::new(output.clone()), bytes: size });
        *bytes += size;
        while (kept.len() > MOST || *bytes > MOST_BYTES)
            && let Some(oldest) = kept.pop_front()
        {
            let removed = if kept.len() >= MOST { &self.removed.by_count } else { &self.removed.by_bytes };
            removed.inc();
            *bytes -= oldest.bytes;
            *gone += 1;
        }
        let newest = *gone + kept.len() as u64;
        drop(store);
        self.newest.send_replace(newest);
    }

    /// The id of what is worth a line, the line, and how much its record takes up.
    fn row(&self, output: &Output) -> Option<(String, String, usize)> {
        let (id, size, row) = match output {
            Output::Transfer(attempt) => {
                let ids = [&attempt.call_id, &attempt.target_call_id];
                let row = Row {
                    id: &attempt.id,
                    when: self.look.moment(attempt.started),
                    tone: report::tone_word(words::tone(attempt)),
                    outcome: attempt.outcome.as_str(),
                    fault: attempt.fault.as_str(),
                    trunk: safe(&attempt.trunk),
                    said: safe(&words::headline(attempt)),
                    who: safe(&words::who(attempt)),
                    calls: ids.into_iter().flatten().map(|id| safe(id)).collect::<Vec<_>>().join(" "),
                };
                (attempt.id.clone(), attempt.bytes(), serde_json::to_string(&row))
            }
            Output::Call(call) if call.is_flagged() => {
                let id = call_id(call.evidence_file.as_deref()).unwrap_or_else(|| call.id());
                let row = Row {
                    id: &id,
                    when: self.look.moment(call.started),
                    tone: "doubt",
                    outcome: "call",
                    fault: "",
                    trunk: safe(&call.trunk),
                    said: safe(&report::of_call(call)),
                    who: String::new(),
                    calls: safe(&call.call_id),
                };
                let row = serde_json::to_string(&row);
                (id, size_of_val(&**call) + call.call_id.len(), row)
            }
            Output::Call(_) | Output::Notice(_) | Output::Alert(_) => return None,
        };
        Some((id, row.ok()?, size))
    }
}

fn trunk(output: &Output) -> Option<&Arc<str>> {
    match output {
        Output::Transfer(attempt) => Some(&attempt.trunk),
        Output::Call(call) => Some(&call.trunk),
        Output::Notice(_) | Output::Alert(_) => None,
    }
}

/// A call is named after its Call-ID before that is masked, as its file is.
fn call_id(file: Option<&str>) -> Option<String> {
    Some(file?.split_once('.')?.0.to_owned())
}

/// What fills a page.
#[derive(Debug)]
pub struct PageSink(pub Arc<Page>);

impl Sink for PageSink {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        self.0.take(output);
        Ok(())
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples;

    fn filled(count: usize) -> Arc<Page> {
        let page = Page::new(7, Look::default(), true, Some("/nowhere".into()), None, Removed::default());
        for n in 0..count {
            let attempt = crate::record::Attempt { id: format!("{n:016x}"), ..samples::busy() };
            page.take(&Output::Transfer(Box::new(attempt)));
        }
        page
    }

    #[test]
    fn the_oldest_make_way_and_are_counted() {
        let page = filled(MOST + 10);
        assert!(page.one(&format!("{:016x}", 9)).is_none() && page.one(&format!("{:016x}", 10)).is_some());
        let store = page.lock();
        assert_eq!((store.kept.len(), store.gone), (MOST, 10));
        assert_eq!(store.bytes, store.kept.iter().map(|kept| kept.bytes).sum::<usize>());
        assert!(store.bytes <= MOST_BYTES);
        assert_eq!((page.removed.by_count.get(), page.removed.by_bytes.get()), (10, 0));
    }

    #[test]
    fn large_ones_make_way_for_their_size() {
        let page = Page::new(7, Look::default(), true, None, None, Removed::default());
        for n in 0..100 {
            let reason = Some("x".repeat(1 << 20));
            let attempt = crate::record::Attempt { id: format!("{n:016x}"), reason, ..samples::busy() };
            page.take(&Output::Transfer(Box::new(attempt)));
        }
        let store = page.lock();
        assert!(store.bytes <= MOST_BYTES && store.kept.len() > 20, "{} kept", store.kept.len());
        assert_eq!(page.removed.by_bytes.get(), store.gone);
    }

    #[test]
    fn each_trunk_has_its_picture() {
        let page = Page::new(7, Look::default(), true, None, None, Removed::default());
        for (trunk, method) in [("one", crate::record::Method::Refer), ("two", crate::record::Method::Invite)]
        {
            let attempt = crate::record::Attempt { trunk: trunk.into(), method, ..samples::busy() };
            page.take(&Output::Transfer(Box::new(attempt)));
        }
        let state = State { readiness: Err("<gone>".to_owned()), lost: "spans: 3".to_owned() };
        let now = |trunk| page.now(&state, trunk).into_string();
        let (all, one, other) = (now(None), now(Some("one")), now(Some("nobody's")));
        assert!(all.contains("1 REFER, 1 second leg") && other == all, "{all}");
        assert!(
            one.contains("over time · one") && one.contains("1 REFER.") && !one.contains("second leg"),
            "{one}"
        );
        assert!(all.contains("&lt;gone&gt;") && all.contains("Lost: spans: 3"), "{all}");
        assert!(page.html(&state).contains(&all));
    }

    #[test]
    fn whoever_reads_goes_on_where_it_was() {
        let page = filled(AT_ONCE + 2);
        let first = page.events(None);
        assert_eq!(first.matches("data: ").count(), AT_ONCE);
        let last = format!("7-{AT_ONCE}");
        assert!(first.contains(&format!("id: {last}\n")) && page.has_more(Some(&last)));
        let rest = page.events(Some(&last));
        assert_eq!(rest.matches("data: ").count(), 2);
        assert!(!page.has_more(Some("7-502")) && !rest.contains("forget"));
        let other = page.events(Some("6-502"));
        assert!(page.has_more(Some("6-502")) && other.contains("event: forget\n"));
    }

    #[test]
    fn names_are_text() {
        let page = Page::new(7, Look::default(), true, None, None, Removed::default());
        let hostile = "\"><img/src=x/onerror=hacked=1>\r\n\r\nevent: forget\u{202e}";
        let attempt = crate::record::Attempt { target: Some(hostile.to_owned()), ..samples::busy() };
        let id = attempt.id.clone();
        page.take(&Output::Transfer(Box::new(attempt)));
        let events = page.events(None);
        assert_eq!(events.lines().filter(|line| line.starts_with("event:")).count(), 0, "{events}");
        assert!(!page.one(&id).unwrap().contains("<img"));
    }
}
