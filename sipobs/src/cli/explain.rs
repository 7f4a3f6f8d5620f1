//! `sipobs explain`: what the diagnosis table and the output contract know of a term.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::Args;
use sipobs::export::clean;
use sipobs::record::{FIELDS, glossary};
use sipobs::transfer::diagnosis::{Diagnoses, Known, Term, conditions};

use super::terms::TERMS;
use super::{Exit, Failure, Settings, written};

/// So much of a term is repeated where nothing is known of it.
const LONGEST: usize = 80;
/// Near matches that are offered.
const NEAR: usize = 5;
/// How near a match must be, from 0 to 1.
const NEAR_ENOUGH: f64 = 0.6;

const EXAMPLES: &str = "\
Examples:
  sipobs explain 486                    a SIP status; or as it is written: SIP 486, 486 Busy Here
  sipobs explain Replaces               a header or a term of transfers
  sipobs explain Q.850 17               a cause in a Reason header
  sipobs explain 32205                  a provider's error number
  sipobs explain D42                    a provider's code in a phrase
  sipobs explain refer_unanswered       a word of the output: an outcome, a cause, a field
  sipobs explain conditions             what a row of a table of your own may ask for";

/// Say what a status, a cause, an error number or a word of the output means, and where that is from
///
/// Looks it up in the table of likely causes, with the rows of [diagnosis] path before it. Ends with 2 where nothing
/// is known of it.
#[derive(Clone, Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct Explain {
    /// What to explain
    #[arg(value_name = "TERM", required = true)]
    term: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn explain(command: &Explain) -> Result<Exit, Failure> {
    let config = command.settings.resolve().map_err(Failure::usage)?;
    let table = Diagnoses::new(config.engine().transfer.diagnosis.as_deref()).map_err(Failure::usage)?;
    let term = command.term.join(" ");
    let text = match term.as_str() {
        "conditions" => conditions(),
        term => spellings(term)
            .iter()
            .map(|term| known(&table, term))
            .find(|known| !known.is_empty())
            .unwrap_or_default(),
    };
    if text.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!("{}", unknown(&table, &term))));
    }
    Ok(written(io::stdout().write_all(text.as_bytes())))
}

/// A term as it was given, then as the table has it: people copy what they see, with the word before a status and the
/// phrase behind it.
fn spellings(text: &str) -> Vec<String> {
    let mut spellings = vec![text.trim().to_owned()];
    let lower = text.trim().to_ascii_lowercase();
    let words: Vec<&str> =
        lower.split([' ', '\t', ';', ':', '=', ',', '"']).filter(|word| !word.is_empty()).collect();
    let number = words.iter().find(|word| word.parse::<u32>().is_ok());
    if let Some(number) = number {
        let is_q850 = words.iter().any(|word| matches!(*word, "q.850" | "q850" | "cause"));
        spellings.push(if is_q850 { format!("q.850 {number}") } else { (*number).to_owned() });
    }
    spellings
}

/// All that is known of a term; empty where nothing is.
fn known(table: &Diagnoses, text: &str) -> String {
    let term = Term::parse(text);
    let mut said = String::new();
    for (field, word, meaning) in
        glossary().into_iter().filter(|(_, word, _)| word.eq_ignore_ascii_case(text))
    {
        let _ = writeln!(said, "{word} ({field}): {}", one_line(meaning));
    }
    for (field, meaning) in FIELDS.iter().filter(|(field, _)| field.eq_ignore_ascii_case(text)) {
        let _ = writeln!(said, "{field} (field): {meaning}");
        let words: Vec<_> =
            glossary().into_iter().filter(|(of, ..)| of == field).map(|(_, word, _)| word).collect();
        if !words.is_empty() {
            let _ = writeln!(said, "  One of {}.", words.join(", "));
        }
    }
    for (name, place, meaning) in TERMS.iter().filter(|(name, ..)| name.eq_ignore_ascii_case(text)) {
        let _ = writeln!(said, "{name} ({place}): {meaning}");
    }
    if let Some(meaning) = term.meaning() {
        let _ = writeln!(said, "{meaning}");
    }
    for row in table.about(term) {
        if !said.is_empty() {
            said.push('\n');
        }
        write_row(&mut said, &row);
    }
    said
}

fn write_row(said: &mut String, row: &Known) {
    let guess = if row.heuristic { "; a rule of thumb" } else { "" };
    let source = row.source.as_deref().unwrap_or("your own table");
    let _ = writeln!(said, "{} (fault: {}{guess})", row.code, row.fault);
    let _ = writeln!(said, "  {}", row.cause);
    let _ = writeln!(said, "  Check:  {}", row.check);
    let _ = writeln!(said, "  When:   {}", row.when.join("\n          "));
    let _ = writeln!(said, "  Source: {source}");
}

fn unknown(table: &Diagnoses, text: &str) -> String {
    let mut words: Vec<&str> = table.codes().chain(FIELDS.iter().map(|(field, _)| *field)).collect();
    let glossary = glossary();
    words.extend(glossary.iter().map(|(_, word, _)| *word));
    words.extend(TERMS.iter().map(|(name, ..)| *name));
    words.sort_unstable();
    words.dedup();
    let lower = text.to_ascii_lowercase();
    let mut near: Vec<(f64, &str)> = words
        .iter()
        .map(|word| (strsim::normalized_damerau_levenshtein(&word.to_ascii_lowercase(), &lower), *word))
        .collect();
    near.retain(|(likeness, _)| *likeness >= NEAR_ENOUGH);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<_> = near.into_iter().take(NEAR).map(|(_, word)| word).collect();
    let hint = if near.is_empty() {
        "a SIP status, Q.850 cause, provider's error number, header, or a word of the output is wanted"
            .to_owned()
    } else {
        format!("near to it: {}", near.join(", "))
    };
    let text: String = clean(text).chars().take(LONGEST).collect();
    format!("nothing is known of `{text}`; {hint}")
}

/// Documentation comments are wrapped.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Diagnoses {
        Diagnoses::new(None).unwrap()
    }

    #[test]
    fn what_is_known_is_said_with_its_source() {
        for (term, wanted) in [
            ("486", "suspect_policy"),
            ("D42", "support.telnyx.com"),
            ("32205", "twilio.com/docs/api/errors/32205"),
            ("Q.850 17", "user busy"),
            ("refer_unanswered", "64·T1"),
            ("reported_optimistic", "optimistic_200"),
            ("fault", "nobody, caller, target"),
            ("livekit", "LiveKit"),
        ] {
            let said = known(&table(), term);
            assert!(said.contains(wanted), "{term}: {said}");
        }
    }

    #[test]
    fn what_people_copy_is_understood() {
        let table = table();
        let said = |text: &str| {
            spellings(text)
                .iter()
                .map(|term| known(&table, term))
                .find(|said| !said.is_empty())
                .unwrap_or_default()
        };
        let (status, cause) = (known(&table, "486"), known(&table, "q.850 17"));
        for text in ["486", "SIP 486", "486 Busy Here", "SIP/2.0 486 Busy Here", "status=486"] {
            assert_eq!(said(text), status, "{text}");
        }
        for text in ["Q.850 cause 17", "q.850;cause=17", "cause 17", "Q.850;cause=17;text=\"user busy\""] {
            assert_eq!(said(text), cause, "{text}");
        }
        for text in ["Replaces", "refer-to", "NOTIFY", "sipfrag", "Diversion"] {
            assert!(said(text).contains("RFC "), "{text}");
        }
    }

    #[test]
    fn no_control_of_an_argument_reaches_the_terminal() {
        let said = unknown(&table(), &format!("\u{1b}[31mred\u{9b}\u{202e}{}", "x".repeat(1_000)));
        assert!(said.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{said:?}");
        assert!(said.len() < 400);
    }

    #[test]
    fn what_is_not_known_is_answered_with_what_is_near() {
        assert_eq!(known(&table(), "refer_unansweerd"), "");
        assert!(unknown(&table(), "refer_unansweerd").contains("refer_unanswered"));
        assert!(unknown(&table(), "99999").contains("is wanted"));
    }
}
