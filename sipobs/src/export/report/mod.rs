//! A report to hand on: what a capture holds, each transfer that failed with its cause and its ladder, in one page for a
//! browser or as a text for a ticket.
//!
//! It holds nothing that is not in the records, which are masked, and nothing of the day on which it was made: the same
//! capture gives the same bytes.

use std::collections::BTreeMap;
use std::io;

use super::style::grouped;
use super::words::{self, Tone};
use super::{Look, Sink, Summary, WholeCall, terminal};
use crate::record::{Alert, Attempt, Call, Output};
use crate::timestamp::Timestamp;

pub(super) mod chart;
pub(super) mod figures;
pub(super) mod html;
mod ladder;
mod markdown;
pub(super) mod safe;
#[cfg(test)]
mod tests;

use figures::Figures;

/// Ladders that are drawn. Behind them, transfers are told without theirs.
pub const MOST_LADDERS: usize = 200;
/// Transfers that failed, and calls that are flagged, which are told in full; the others are only counted.
const MOST_TOLD: usize = 10_000;
/// Transfers that did not fail, which are listed.
const MOST_LISTED: usize = 10_000;
/// Answered calls without any transfer that are told one by one; the others are only counted.
const MOST_FACTS: usize = 10;
/// A call's transfer is looked for among so many that were told last.
const LATELY: usize = 256;
/// Alerts that are told.
const MOST_ALERTS: usize = 100;

/// Gathers what is shown of a run, and tells it.
#[derive(Debug)]
pub struct Report {
    look: Look,
    masked: bool,
    /// Whatever became of it is told in full.
    all: bool,
    told: Vec<Told>,
    listed: Vec<Attempt>,
    alerts: Vec<Alert>,
    left_out: LeftOut,
    figures: Figures,
    /// Outputs so far.
    outputs: u64,
    facts: usize,
    summary: Summary,
    /// Where the evidence and the trace of what is told are.
    links: Links,
}

/// Where a daemon has more on what is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    /// Files of evidence are at `/evidence/NAME`.
    pub(super) has_evidence: bool,
    /// The address of a trace, `{trace_id}` in it.
    pub(super) trace_url: Option<String>,
}

/// What found no room.
#[derive(Debug, Default)]
struct LeftOut {
    told: u64,
    listed: u64,
    alerts: u64,
}

/// What is told in full.
#[derive(Debug)]
struct Told {
    /// Which of the outputs it is, from 1.
    output: u64,
    what: What,
    whole: Option<WholeCall>,
    /// What is to be said of its call besides.
    also: Option<String>,
}

#[derive(Debug)]
enum What {
    Attempt(Box<Attempt>),
    Call(Box<Call>),
}

impl Report {
    /// An empty report. `look` says how far the reader's clock is east of UTC; `masked`, whether numbers are.
    pub fn new(look: Look, masked: bool) -> Self {
        Self {
            look,
            masked,
            all: false,
            told: Vec::new(),
            listed: Vec::new(),
            alerts: Vec::new(),
            left_out: LeftOut::default(),
            figures: Figures::new(look),
            outputs: 0,
            facts: 0,
            summary: Summary::default(),
            links: Links::default(),
        }
    }

    /// Tells in full what worked, too: somebody asked for one call.
    #[must_use]
    pub fn all(mut self, all: bool) -> Self {
        self.all = all;
        self
    }

    /// Says where there is more.
    #[cfg(feature = "daemon")]
    pub(super) fn linked(mut self, links: Links) -> Self {
        self.links = links;
        self
    }

    /// Whether an output is told in full, so that its whole call is worth a look.
    pub fn is_told(output: &Output) -> bool {
        match output {
            Output::Transfer(attempt) => words::has_failed(attempt),
            // Of a call in which a transfer was tried, that is told.
            Output::Call(call) => call.transfers == 0 && (call.is_flagged() || is_bare(call)),
            Output::Notice(_) | Output::Alert(_) => false,
        }
    }

    /// Takes the whole call of an output, the `output`-th that was shown, from 1.
    pub fn whole(&mut self, output: u64, mut whole: WholeCall) {
        let Ok(at) = self.told.binary_search_by_key(&output, |told| told.output) else { return };
        let Some(told) = self.told.get_mut(at).filter(|_| !whole.lines.is_empty()) else { return };
        if let What::Attempt(attempt) = &told.what {
            whole.mark(attempt);
        }
        told.whole = Some(whole);
    }

    /// The page.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// The text, in Markdown (CommonMark, with the tables of GitHub's).
    pub fn markdown(&self) -> String {
        markdown::text(self)
    }

    /// How many transfers it tells of, and how many of them failed or are in doubt.
    pub fn transfers(&self) -> (u64, u64) {
        (self.figures.transfers, self.figures.failed())
    }

    fn tell(&mut self, what: What) {
        if self.told.len() < MOST_TOLD {
            self.told.push(Told { output: self.outputs, what, whole: None, also: None });
        } else {
            self.left_out.told += 1;
        }
    }

    fn call(&mut self, call: &Call) {
        let is_flagged = call.is_flagged();
        if is_flagged && self.fold(call) {
            return;
        }
        self.facts += usize::from(!is_flagged);
        if is_flagged || self.facts <= MOST_FACTS {
            self.tell(What::Call(Box::new(call.clone())));
        }
    }

    /// Says of a transfer in this call, if one was told lately, what there is to be said of the call.
    fn fold(&mut self, call: &Call) -> bool {
        let is_its = |told: &&mut Told| match &told.what {
            What::Attempt(attempt) => attempt.call_id.as_ref() == Some(&call.call_id),
            What::Call(_) => false,
        };
        let found = self.told.iter_mut().rev().take(LATELY).find(is_its);
        let is_there = found.is_some();
        found.into_iter().for_each(|told| told.also = Some(terminal::call_in_a_sentence(call)));
        is_there
    }

    fn attempt(&mut self, attempt: &Attempt) {
        if self.all || words::has_failed(attempt) {
            let mut attempt = attempt.clone();
            if self.told.len() >= MOST_LADDERS {
                attempt.messages = Vec::new();
            }
            self.tell(What::Attempt(Box::new(attempt)));
        } else if self.listed.len() < MOST_LISTED {
            // Only a line of it is shown.
            self.listed.push(Attempt { messages: Vec::new(), diagnosis: Vec::new(), ..attempt.clone() });
        } else {
            self.left_out.listed += 1;
        }
    }
}

impl Sink for Report {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        self.outputs += 1;
        self.figures.count(output);
        match output {
            Output::Notice(_) => {}
            Output::Transfer(attempt) => self.attempt(attempt),
            Output::Call(call) if call.is_flagged() || is_bare(call) => self.call(call),
            Output::Call(_) => {}
            Output::Alert(alert) if self.alerts.len() < MOST_ALERTS => self.alerts.push((**alert).clone()),
            Output::Alert(_) => self.left_out.alerts += 1,
        }
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.summary = summary.clone();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Report {
    /// The whole of it in one sentence.
    fn headline(&self) -> String {
        let (transfers, failed) = self.transfers();
        let doubtful = self.figures.by_tone(Tone::Doubt);
        let all_read = self.summary.all_read();
        match (transfers, failed) {
            (0, _) if self.summary.shown.is_some() => "No transfer fits what was asked for.".to_owned(),
            (0, _) if all_read => "No transfer was seen in this capture.".to_owned(),
            (0, _) => "Whether there was a transfer cannot be told: not all of the capture could be read."
                .to_owned(),
            (1, 0) => "The only transfer worked.".to_owned(),
            (_, 0) => format!("None of {} transfers failed.", grouped(transfers)),
            (1, 1) if doubtful == 1 => "What became of the only transfer is not known.".to_owned(),
            (1, 1) => "The only transfer failed.".to_owned(),
            (_, _) if failed == transfers && doubtful == 0 => {
                format!("All {} transfers failed.", grouped(transfers))
            }
            _ => {
                let bad = grouped(failed - doubtful);
                let of = grouped(transfers);
                let doubt = match doubtful {
                    0 => String::new(),
                    n => format!("; what became of {} is not known", grouped(n)),
                };
                format!("{bad} of {of} transfers failed{doubt}.")
            }
        }
    }

    /// What is said above those that are told.
    const fn heading(&self) -> &'static str {
        if self.all { "What was asked for" } else { "What failed, and why" }
    }

    /// The likeliest cause of most, where some share one.
    fn likeliest(&self) -> Option<String> {
        let failed = self.figures.failed();
        let (_, cause) = self.figures.causes().into_iter().next()?;
        match (cause.count, failed) {
            (_, 1) => Some(format!("Likely: {}", cause.said)),
            (1, _) => None,
            (n, _) => Some(format!("Most often, in {} of {}: {}", grouped(n), grouped(failed), cause.said)),
        }
    }

    /// What there was besides, where there is not much to tell.
    fn surroundings(&self) -> Option<String> {
        let is_empty = self.figures.transfers == 0 && self.summary.all_read() && self.summary.shown.is_none();
        is_empty.then(|| terminal::what_was_there(&self.summary))
    }

    /// From the first frame to the last.
    fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let files = &self.summary.files;
        let first = files.iter().filter_map(|file| file.first).min()?;
        Some((first, files.iter().filter_map(|file| file.last).max()?))
    }

    /// What could not be read, and what is known to be missing.
    fn faults(&self) -> Vec<String> {
        let files = self.summary.files.iter();
        let mut faults: Vec<String> = files
            .filter_map(|file| Some(format!("Not all of {} was read: {}.", file.name, file.error.as_ref()?)))
            .collect();
        let counts: [(&str, BTreeMap<&str, u64>); 2] = [
            ("Not understood", self.summary.not_understood.iter().map(|(name, n)| (&**name, *n)).collect()),
            ("Lost", self.summary.lost.iter().map(|(name, n)| (*name, *n)).collect()),
        ];
        for (what, counts) in counts {
            let named = counts.iter().filter(|(_, n)| **n > 0);
            let named: Vec<_> =
                named.map(|(name, n)| format!("{} {}", grouped(*n), name.replace('_', " "))).collect();
            if !named.is_empty() {
                faults.push(format!("{what}: {}.", named.join(", ")));
            }
        }
        if let Some(since) = self.summary.evicted_since {
            faults.push(format!(
                "From {} on there was not room for every call: transfers may be missing, or told without their \
                 calls. More memory helps: [limits] memory.",
                self.look.moment(since)
            ));
        }
        faults
    }

    /// What is not in it, and how to see that.
    fn bounds(&self) -> Vec<String> {
        let mut said = Vec::new();
        let more = |n: u64| grouped(n);
        if self.told.len() > MOST_LADDERS {
            said.push(format!(
                "Ladders are drawn for the first {MOST_LADDERS}; the others are told without theirs. \
                 `sipobs --call '#N' FILE… --html …` draws one."
            ));
        }
        if self.left_out.told > 0 {
            said.push(format!(
                "{} more that failed or are in doubt are counted, and not told one by one: --since and --until, \
                 --trunk or --fault choose some.",
                more(self.left_out.told)
            ));
        }
        if self.facts > MOST_FACTS {
            said.push(format!(
                "{} more answered calls without any transfer are counted, and not told one by one.",
                more((self.facts - MOST_FACTS) as u64)
            ));
        }
        if self.left_out.listed > 0 {
            said.push(format!(
                "{} more that worked are counted, and not listed.",
                more(self.left_out.listed)
            ));
        }
        if self.left_out.alerts > 0 {
            said.push(format!("{} more alerts are left out.", more(self.left_out.alerts)));
        }
        said
    }
}

/// Whether a call was answered and ended without any transfer.
const fn is_bare(call: &Call) -> bool {
    call.answered.is_some() && call.transfers == 0 && !call.in_transfer
}

/// A call that is told, in a sentence.
pub(super) fn of_call(call: &Call) -> String {
    let said = terminal::call_in_a_sentence(call);
    match said.strip_prefix("A call ") {
        Some(rest) => format!("No transfer in a call {rest}"),
        None => said,
    }
}

/// A verdict's tone as a word.
pub(super) const fn tone_word(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Doubt => "doubt",
        Tone::Neutral => "neutral",
    }
}
