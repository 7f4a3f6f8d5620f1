//! An output as a line of a list, for a person who looks for one.

use anstyle::Style;

use super::style::{BAD, DOUBT, Look, PLAIN, clean};
use super::terminal::sign;
use super::words;
use crate::record::{Alert, Attempt, Call, Output, ReferAbsent};

/// What a list shows of an output: text that is safe to show, and masked as the output is.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// How its outcome strikes the reader.
    pub style: Style,
    /// The same as a sign.
    pub sign: &'static str,
    /// When it began: day and time, without the year.
    pub time: String,
    /// Who was to be handed to whom; of a call, nothing, as its record names nobody.
    pub who: String,
    /// What became of it.
    pub outcome: String,
    /// Who would have to change something; empty where nobody asks.
    pub fault: &'static str,
    /// The peer's name in the configuration, or `other`.
    pub trunk: String,
    /// The likeliest cause, or the sentence that an alert says.
    pub cause: String,
    /// It says more than that a call was made: a transfer, a flag, an alert.
    pub is_of_note: bool,
}

impl Entry {
    /// None of an early word.
    pub fn of(look: Look, output: &Output) -> Option<Self> {
        let entry = match output {
            Output::Notice(_) => return None,
            Output::Transfer(attempt) => of_attempt(attempt),
            Output::Call(call) => of_call(call),
            Output::Alert(alert) => of_alert(alert),
        };
        let time = look.moment(output.began()).get(5..23).unwrap_or_default().to_owned();
        Some(Self { time, ..entry })
    }
}

fn of_attempt(attempt: &Attempt) -> Entry {
    let (sign, style) = sign(attempt);
    let status = attempt.status.map(|status| format!(" ({status})")).unwrap_or_default();
    let first = attempt.diagnosis.first().filter(|_| words::has_failed(attempt));
    Entry {
        style,
        sign,
        who: words::who(attempt),
        outcome: format!("{}{status}", words::outcome(attempt.outcome)),
        fault: attempt.fault.as_str(),
        trunk: clean(&attempt.trunk),
        cause: first.map(|first| clean(&words::cause(0, &first.cause).1)).unwrap_or_default(),
        is_of_note: true,
        ..Entry::default()
    }
}

fn of_call(call: &Call) -> Entry {
    let (sign, style, outcome) = match (&call.refer_absent, call.answered, call.status) {
        (ReferAbsent::Fact { .. }, ..) => ("·", PLAIN, "no transfer".to_owned()),
        (ReferAbsent::Suspected { .. }, ..) => ("!", DOUBT, "no REFER was sent".to_owned()),
        (ReferAbsent::MethodSwitched, ..) => ("!", DOUBT, "method switched".to_owned()),
        (ReferAbsent::No, Some(_), _) => ("·", PLAIN, "call ended".to_owned()),
        (ReferAbsent::No, None, Some(status)) => ("·", PLAIN, format!("not answered ({status})")),
        (ReferAbsent::No, None, None) => ("·", PLAIN, "not answered".to_owned()),
    };
    Entry {
        style,
        sign,
        outcome,
        trunk: clean(&call.trunk),
        is_of_note: !matches!(call.refer_absent, ReferAbsent::No),
        ..Entry::default()
    }
}

fn of_alert(alert: &Alert) -> Entry {
    Entry {
        style: BAD.bold(),
        sign: "‼",
        outcome: alert.alert.as_str().replace('_', " "),
        trunk: clean(&alert.trunk),
        cause: clean(&alert.message),
        is_of_note: true,
        ..Entry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples;

    fn entry(output: &Output) -> Entry {
        Entry::of(Look::default(), output).unwrap()
    }

    #[test]
    fn an_attempt_says_who_what_and_why() {
        let entry = entry(&Output::Transfer(Box::new(samples::busy())));
        assert_eq!((entry.sign, &*entry.outcome, entry.style), ("✗", "busy (486)", BAD));
        assert!(entry.who.contains(" → "), "{entry:?}");
        assert!(!entry.cause.is_empty() && entry.is_of_note, "{entry:?}");
        assert_eq!(entry.time.len(), "11-14 22:13:20.123".len());
    }

    #[test]
    fn an_early_word_is_no_entry() {
        assert!(Entry::of(Look::default(), &samples::notice()).is_none());
        assert!(entry(&samples::alert()).is_of_note);
        assert_eq!(entry(&samples::call()).outcome, "no transfer");
    }

    #[test]
    fn the_wire_does_not_drive_the_list() {
        let mut attempt = samples::busy();
        attempt.target = Some("sip:a\u{1b}[2J\u{202e}b@h".to_owned());
        attempt.trunk = "x\u{9b}31m".into();
        let entry = entry(&Output::Transfer(Box::new(attempt)));
        for text in [entry.who, entry.trunk] {
            assert!(
                text.contains('\u{fffd}') && !text.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
                "{text:?}"
            );
        }
    }
}
