//! What the table knows of a term: a status, a provider's number, a Q.850 cause, a word of the output.

use super::condition::{CONDITIONS, When};
use super::table::Checked;
use super::{Diagnoses, words};
use crate::record::{Fault, Outcome};
use crate::sip::Q850;

/// A term that somebody wants explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term<'a> {
    /// A SIP status.
    Status(u16),
    /// A Q.850 cause.
    Q850(u16),
    /// A provider's error number.
    Number(u32),
    /// A code of the table, a word of the output contract, a provider's code in a phrase.
    Word(&'a str),
}

/// A row of the table, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The cause in one word.
    pub code: String,
    /// What probably happened.
    pub cause: String,
    /// What to look at next.
    pub check: String,
    /// Whose fault it is.
    pub fault: Fault,
    /// Where the table has it from; a user's row need not say.
    pub source: Option<String>,
    /// Nobody has published it.
    pub heuristic: bool,
    /// The conditions, as written in the table.
    pub when: Vec<String>,
}

impl<'a> Term<'a> {
    /// Reads a term: `486`, `32205`, `Q.850 17`, `D42`, `refer_unanswered`. Numbers below 128 are Q.850 causes.
    pub fn parse(text: &'a str) -> Self {
        let text = text.trim();
        let cause = ["q.850", "q850", "cause"].into_iter().find_map(|name| {
            let rest = text.get(name.len()..).filter(|_| text[..name.len()].eq_ignore_ascii_case(name))?;
            rest.trim_start_matches([' ', ':', ';', '=']).trim_start_matches("cause=").parse().ok()
        });
        match (cause, text.parse::<u32>()) {
            (Some(cause), _) => Self::Q850(cause),
            (None, Ok(number @ 0..128)) => Self::Q850(u16::try_from(number).unwrap_or_default()),
            (None, Ok(number @ 100..700)) => Self::Status(u16::try_from(number).unwrap_or_default()),
            (None, Ok(number)) => Self::Number(number),
            (None, Err(_)) => Self::Word(text),
        }
    }

    /// What it means by itself, whatever the table says of it.
    pub fn meaning(self) -> Option<String> {
        match self {
            Self::Status(status @ ..200) => {
                Some(format!("SIP status {status} is provisional: it decides nothing."))
            }
            Self::Status(status) => Some(format!(
                "SIP status {status}. Of the target's leg, or in a NOTIFY, it means: {}. Of a REFER: {}.",
                Outcome::of_status(status),
                if status < 300 { "accepted".to_owned() } else { Outcome::of_refusal(status).to_string() },
            )),
            Self::Q850(cause) => {
                let q850 = Q850 { cause, location: None };
                let meaning = q850.meaning()?;
                let status =
                    q850.status().map(|status| format!("; a gateway makes SIP status {status} of it"));
                Some(format!("Q.850 cause {cause}: {meaning}{}.", status.unwrap_or_default()))
            }
            Self::Number(_) | Self::Word(_) => None,
        }
    }

    fn is_asked_by(self, when: &When) -> bool {
        match self {
            Self::Status(status) => when.asks_for_status(status),
            Self::Q850(cause) => when.asks_for_number(|name| name == "q850", cause.into()),
            Self::Number(number) => when.asks_for_number(|name| name != "q850", number),
            Self::Word(word) => {
                // A code stands at the end of a phrase, behind a space.
                let behind = format!(" {word}");
                when.asks_for_text(word) || when.asks_for_text(&behind)
            }
        }
    }
}

impl Diagnoses {
    /// The rows that a term is about, in the table's order: those of that code, else those that ask for it.
    pub fn about(&self, term: Term<'_>) -> Vec<Known> {
        let all =
            |about: &dyn Fn(&Checked) -> bool| self.rows.iter().filter(|row| about(row)).map(known).collect();
        let coded: Vec<Known> = match term {
            Term::Word(word) => all(&|checked| checked.row.code.eq_ignore_ascii_case(word)),
            _ => Vec::new(),
        };
        if coded.is_empty() { all(&|checked| term.is_asked_by(&checked.row.when)) } else { coded }
    }

    /// Every code, for a near match.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|checked| checked.row.code.as_str())
    }
}

/// What a row may ask for, and what its `because` may name: for whoever writes a table.
pub fn conditions() -> String {
    let mut text = "Conditions of a row's `when`:\n".to_owned();
    for condition in CONDITIONS {
        text += &format!("  {:20}  {}: {}\n", condition.name, condition.asks.form(), condition.about);
    }
    text += "\nNames for `because`:\n  ";
    text += &words::names().collect::<Vec<_>>().join(" ");
    text.push('\n');
    text
}

fn known(Checked { row, .. }: &Checked) -> Known {
    Known {
        code: row.code.clone(),
        cause: row.cause.clone(),
        check: row.check.clone(),
        fault: row.fault(),
        source: row.source.clone(),
        heuristic: row.heuristic,
        when: row.when.written().map(|(name, wanted)| format!("{name} = {wanted}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<String> {
        let known = Diagnoses::new(None).unwrap().about(Term::parse(text));
        known.into_iter().map(|known| known.code).collect()
    }

    #[test]
    fn terms_are_told_apart() {
        assert_eq!(Term::parse("486"), Term::Status(486));
        assert_eq!(Term::parse(" Q.850 17"), Term::Q850(17));
        assert_eq!(Term::parse("Q.850;cause=17"), Term::Q850(17));
        assert_eq!(Term::parse("17"), Term::Q850(17));
        assert_eq!(Term::parse("32205"), Term::Number(32_205));
        assert_eq!(Term::parse("D42"), Term::Word("D42"));
        assert_eq!(Term::parse("cause"), Term::Word("cause"));
        assert_eq!(Term::parse("ü"), Term::Word("ü"));
    }

    #[test]
    fn a_term_leads_to_its_rows() {
        for (term, code) in [
            ("32205", "geo_permission"),
            ("4190", "caller_id"),
            ("D42", "transfer_disabled"),
            ("d56", "channel_limit"),
            ("Q.850 2", "no_route"),
            ("429", "referred_by_wanted"),
            ("refer_unanswered", "refer_unanswered"),
            ("reported_optimistic", "optimistic_200"),
            ("Network Blocked", "analytics_block"),
        ] {
            assert_eq!(codes(term).first().map(String::as_str), Some(code), "{term}");
        }
        assert!(
            codes("486").contains(&"suspect_policy".to_owned()) && codes("486").contains(&"busy".to_owned())
        );
        assert_eq!(codes("D99"), [""; 0]);
        assert_eq!(codes("99999"), [""; 0]);
    }

    #[test]
    fn a_status_and_a_cause_mean_something_by_themselves() {
        let meaning = |text| Term::parse(text).meaning().unwrap();
        assert!(meaning("486").contains("busy") && meaning("405").contains("refer_refused"));
        assert_eq!(meaning("Q.850 17"), "Q.850 cause 17: user busy; a gateway makes SIP status 486 of it.");
        assert_eq!(Term::parse("Q.850 120").meaning(), None);
    }

    #[test]
    fn conditions_say_how_they_are_written() {
        let text = conditions();
        assert!(
            text.contains("status") && text.contains("[486, \"500-599\"]") && text.contains("retry_after")
        );
    }
}
