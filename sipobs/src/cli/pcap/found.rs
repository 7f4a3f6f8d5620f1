//! What reading has found, for whoever chooses from it: each output with what it takes to open and to save it, and how it is
//! looked for.

use std::io;

use sipobs::export::{Entry, Look, Sink, clean, deciding};
use sipobs::privacy::{Privacy, dialled};
use sipobs::record::{Attempt, Output, Parties};

use super::find::{Number, Unmasked, Whole, call_ids, is_called};
use super::reading::Asked;
use super::write::{Wanted, Wants};

/// Digits by which a number is looked for: of fewer there are too many.
const FEWEST_DIGITS: usize = 3;

/// An attempt, a call or an alert.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entry: Entry,
    /// `#17`; empty where it is no attempt.
    pub(super) name: String,
    /// As it is shown; of an attempt's messages only those that decided it, unless there are no others to be had.
    pub(super) output: Output,
    /// A call that was still up when the capture ended.
    pub(super) is_open: bool,
    whole: Option<Whole>,
    wanted: Option<Wanted>,
    /// Everyone who takes part, as on the wire: to be found by, never shown.
    users: Parties,
    /// What is shown of it and what it is called, in small letters.
    text: String,
}

impl Found {
    /// `keeps_messages` where the capture can't be read again.
    pub(super) fn new(
        look: Look,
        privacy: &Privacy,
        mut output: Output,
        unmasked: Unmasked,
        keeps_messages: bool,
    ) -> Option<Self> {
        let mut entry = Entry::of(look, &output)?;
        let Unmasked { whole, wanted, users, .. } = unmasked;
        if let Output::Call(_) = output {
            entry.who = between(privacy, &users);
        }
        let name = match &output {
            Output::Transfer(attempt) => attempt.seq.map(|seq| format!("#{seq}")).unwrap_or_default(),
            Output::Notice(_) | Output::Call(_) | Output::Alert(_) => String::new(),
        };
        if let Output::Transfer(attempt) = &mut output
            && !keeps_messages
        {
            keep_deciding(attempt);
        }
        let text = text(&name, &entry, &output);
        Some(Self { entry, name, output, is_open: false, whole, wanted, users, text })
    }

    /// The same of a call that was still up when the capture ended.
    pub(super) fn open_call(look: Look, privacy: &Privacy, call: Output, unmasked: Unmasked) -> Option<Self> {
        let mut found = Self::new(look, privacy, call, unmasked, false)?;
        found.is_open = true;
        found.entry.outcome = "still up at the end".to_owned();
        found.text = text(&found.name, &found.entry, &found.output);
        Some(found)
    }

    /// Has it told.
    #[cfg(feature = "mcp")]
    pub(super) fn tell(&self, sink: &mut dyn Sink) -> io::Result<()> {
        tell(&self.output, self.is_open, sink)
    }

    /// What a daemon has found, which is masked by now: there is nothing more to it.
    #[cfg(all(feature = "live", feature = "view", target_os = "linux"))]
    pub(super) fn live(look: Look, output: &Output) -> Option<Self> {
        /// Of an attempt's id: in a daemon, attempts have no numbers.
        const SHORT: usize = 6;
        let entry = Entry::of(look, output)?;
        let name = match output {
            Output::Transfer(attempt) => attempt.id.get(..SHORT).unwrap_or_default().to_owned(),
            Output::Notice(_) | Output::Call(_) | Output::Alert(_) => String::new(),
        };
        let text = text(&name, &entry, output);
        let (whole, wanted, users) = (None, None, Parties::NONE);
        Some(Self { entry, name, output: output.clone(), is_open: false, whole, wanted, users, text })
    }

    /// What it takes to see all of it; nothing where there is nothing more to see.
    pub(super) fn asked(&self) -> Option<Asked> {
        let attempt = match &self.output {
            Output::Transfer(attempt) => Some(attempt.clone()),
            Output::Notice(_) | Output::Call(_) | Output::Alert(_) => None,
        };
        self.whole.clone().map(|whole| Asked { output: 0, attempt, whole })
    }

    /// Adds its packets to what is to be written.
    pub(super) fn add_to(&self, wants: &mut Wants) {
        let seq = match &self.output {
            Output::Transfer(attempt) => attempt.seq,
            Output::Notice(_) | Output::Call(_) | Output::Alert(_) => None,
        };
        if let Some(wanted) = self.wanted.clone() {
            wants.add(wanted, &self.output, seq);
        }
    }

    /// Whether this is its number, its id or a Call-ID of it, as it is printed or as on the wire.
    #[cfg(feature = "mcp")]
    pub(super) fn is_called(&self, name: &str) -> bool {
        let mut legs = self.whole.iter().flat_map(|whole| &whole.legs);
        let is_its_id = matches!(&self.output, Output::Call(call) if call.id() == name);
        is_its_id || is_called(&self.output, name) || legs.any(|(id, _)| id == name)
    }

    /// A name for the file of its packets, with somebody named in it or nobody.
    pub(super) fn file_name(&self, is_redacted: bool) -> String {
        let id = match &self.output {
            Output::Transfer(attempt) => attempt.id.clone(),
            Output::Call(call) => call.id(),
            Output::Notice(_) | Output::Alert(_) => "alert".to_owned(),
        };
        format!("sipobs-{id}{}.pcapng", if is_redacted { "-redacted" } else { "" })
    }
}

/// Has an output told, or a call that was still up.
pub(super) fn tell(output: &Output, is_open: bool, sink: &mut dyn Sink) -> io::Result<()> {
    match output {
        Output::Call(call) if is_open => sink.open_call(call),
        _ => sink.output(output),
    }
}

/// Of a call's messages only those that are marked in its ladder.
fn keep_deciding(attempt: &mut Attempt) {
    let deciding = deciding(attempt).cloned();
    attempt.messages = deciding.into_iter().collect();
}

/// Who calls whom, as both are shown.
fn between(privacy: &Privacy, users: &Parties) -> String {
    let mut users = users.iter().map(|user| clean(&privacy.party(user)));
    let somebody = || "somebody".to_owned();
    let (from, to) = (users.next().unwrap_or_else(somebody), users.next().unwrap_or_else(somebody));
    format!("{from} → {to}")
}

fn text(name: &str, entry: &Entry, output: &Output) -> String {
    let mut words = vec![name, &entry.who, &entry.outcome, entry.fault, &entry.trunk, &entry.cause];
    if let Output::Transfer(attempt) = output {
        words.extend([&*attempt.id, attempt.outcome.as_str(), attempt.method.as_str()]);
        words.extend(attempt.diagnosis.iter().map(|cause| &*cause.code));
    }
    words.extend(call_ids(output));
    words.join("\n").to_lowercase()
}

/// What somebody looks for: all words must fit, or all of it is a number.
#[derive(Debug, Default)]
pub(super) struct Filter {
    number: Option<Number>,
    words: Vec<Word>,
}

#[derive(Debug)]
struct Word {
    exact: String,
    small: String,
    number: Option<Number>,
}

impl Filter {
    pub(super) fn new(text: &str) -> Self {
        let word =
            |word: &str| Word { exact: word.to_owned(), small: word.to_lowercase(), number: number(word) };
        Self { number: number(text), words: text.split_whitespace().map(word).collect() }
    }

    pub(super) fn fits(&self, found: &Found) -> bool {
        let is_number = |number: &Option<Number>| {
            number.as_ref().is_some_and(|number| found.users.iter().any(|user| number.is(user)))
        };
        let is_leg = |word: &Word| {
            found.whole.iter().flat_map(|whole| &whole.legs).any(|(id, _)| id.contains(&word.exact))
        };
        is_number(&self.number)
            || self
                .words
                .iter()
                .all(|word| found.text.contains(&word.small) || is_number(&word.number) || is_leg(word))
    }
}

fn number(text: &str) -> Option<Number> {
    let is_long = text.bytes().filter(u8::is_ascii_digit).count() >= FEWEST_DIGITS;
    text.parse().ok().filter(|_| is_long && dialled(text.trim_start_matches('*')).is_some())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The `at`-th of many.
    pub(in crate::cli::pcap) fn sample(at: usize) -> Found {
        let alert = sipobs::record::Alert {
            alert: sipobs::record::AlertKind::ReferRatio,
            time: sipobs::timestamp::Timestamp::default(),
            trunk: "other".into(),
            numbers: Default::default(),
            message: String::new(),
            verdict: None,
            call_id: None,
            trace_id: None,
            parties: Parties::NONE,
        };
        Found {
            entry: Entry { is_of_note: at.is_multiple_of(2), ..Entry::default() },
            name: format!("#{at}"),
            output: Output::Alert(Box::new(alert)),
            is_open: false,
            whole: None,
            wanted: None,
            users: [format!("+4930{at:07}").as_str()].into_iter().collect(),
            text: format!("row {at} busy"),
        }
    }

    #[test]
    fn all_words_must_fit_or_all_of_it_is_a_number() {
        let found = sample(42);
        for text in ["", "row", "ROW 42", "busy row", "+4930 0000042", "0000042", "030 0000042", "***0042"] {
            assert!(Filter::new(text).fits(&found), "{text}");
        }
        for text in ["row gone", "43", "0000043", "0042 gone"] {
            assert!(!Filter::new(text).fits(&found), "{text}");
        }
    }
}
