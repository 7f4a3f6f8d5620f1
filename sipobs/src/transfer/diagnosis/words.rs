//! The evidence in words: fills `{names}` of a `because`, and leaves out `[parts]` whose names were not seen.

use super::Facts;
use crate::record::{Answered, Method};

/// A `because`, checked.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Name(Name),
    Optional(Vec<Piece>),
}

#[derive(Clone, Copy, Debug)]
enum Name {
    Answer,
    Status,
    Reason,
    After,
    Asked,
    Ringing,
    Cancel,
    CancelReason,
    Up,
    TargetByeReason,
    ByeReason,
    Decided,
    ByeAfterNotify,
    NotifyAnswer,
    Header(&'static str),
    TargetHost,
    Accepted,
    Twilio,
    Q850,
    Location,
    Warning,
    Sipfrag,
    NoVerdict,
    Copies,
    Challenges,
    Method,
    Usual,
    UnknownBecause,
}

const NAMES: &[(&str, Name)] = &[
    ("answer", Name::Answer),
    ("status", Name::Status),
    ("reason", Name::Reason),
    ("after", Name::After),
    ("asked", Name::Asked),
    ("ringing", Name::Ringing),
    ("cancel", Name::Cancel),
    ("cancel_reason", Name::CancelReason),
    ("up", Name::Up),
    ("target_bye_reason", Name::TargetByeReason),
    ("bye_reason", Name::ByeReason),
    ("decided", Name::Decided),
    ("bye_after_notify", Name::ByeAfterNotify),
    ("notify_answer", Name::NotifyAnswer),
    ("target_host", Name::TargetHost),
    ("server", Name::Header("Server")),
    ("unsupported", Name::Header("Unsupported")),
    ("plivo", Name::Header("X-ZT-Hangup-Code")),
    ("accepted", Name::Accepted),
    ("twilio", Name::Twilio),
    ("q850", Name::Q850),
    ("location", Name::Location),
    ("retry_after", Name::Header("Retry-After")),
    ("reason_line", Name::Header("Reason")),
    ("warning", Name::Warning),
    ("sipfrag", Name::Sipfrag),
    ("no_verdict", Name::NoVerdict),
    ("copies", Name::Copies),
    ("challenges", Name::Challenges),
    ("method", Name::Method),
    ("usual", Name::Usual),
    ("unknown_because", Name::UnknownBecause),
];

/// Every name that a `because` may have in braces.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// Longest piece of wire text in a sentence, in characters.
const MAX_WIRE_TEXT: usize = 120;

impl Template {
    /// Reads `text`; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '[', ']', '}']) {
            push_text(&mut pieces, &rest[..at]);
            let opened = &rest[at + 1..];
            rest = match rest.as_bytes()[at] {
                b'{' => {
                    let (name, after) = take_name(opened)?;
                    pieces.push(Piece::Name(name));
                    after
                }
                b'[' => {
                    let (inner, after) =
                        opened.split_once(']').ok_or_else(|| "a [ is not closed".to_owned())?;
                    pieces.push(Piece::Optional(parse_part(inner)?));
                    after
                }
                _ => return Err("a ] or } was not opened".to_owned()),
            };
        }
        push_text(&mut pieces, rest);
        Ok(Self(pieces))
    }

    /// The sentence for `facts`. A name outside brackets that was not seen reads "(not seen)".
    pub(super) fn fill(&self, facts: &Facts<'_>) -> String {
        let mut sentence = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => sentence.push_str(text),
                Piece::Name(name) => {
                    sentence.push_str(&name.value(facts).unwrap_or_else(|| "(not seen)".to_owned()));
                }
                Piece::Optional(part) => {
                    if let Some(part) = fill_part(part, facts) {
                        sentence.push_str(&part);
                    }
                }
            }
        }
        sentence
    }
}

fn parse_part(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, opened)) = rest.split_once('{') {
        push_text(&mut pieces, before);
        let (name, after) = take_name(opened)?;
        pieces.push(Piece::Name(name));
        rest = after;
    }
    if rest.contains(['[', '}']) {
        return Err("brackets do not nest, and a } needs its {".to_owned());
    }
    push_text(&mut pieces, rest);
    Ok(pieces)
}

fn fill_part(pieces: &[Piece], facts: &Facts<'_>) -> Option<String> {
    let mut part = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => part.push_str(text),
            Piece::Name(name) => part.push_str(&name.value(facts)?),
            Piece::Optional(_) => {}
        }
    }
    Some(part)
}

fn take_name(opened: &str) -> Result<(Name, &str), String> {
    let (word, after) = opened.split_once('}').ok_or_else(|| "a { is not closed".to_owned())?;
    let (_, name) =
        NAMES.iter().find(|(known, _)| *known == word).ok_or_else(|| format!("unknown name {{{word}}}"))?;
    Ok((*name, after))
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

impl Name {
    fn value(self, facts: &Facts<'_>) -> Option<String> {
        match self {
            Self::Answer => {
                let status = facts.status?;
                let phrase = facts.reason.filter(|phrase| !phrase.is_empty());
                let source = if facts.answer == Answered::Sipfrag { " (told by NOTIFY)" } else { "" };
                Some(match phrase {
                    Some(phrase) => format!("{status} {}{source}", short(phrase)),
                    None => format!("{status}{source}"),
                })
            }
            Self::Status => facts.status.map(|status| status.to_string()),
            Self::Reason => facts.reason.map(short),
            Self::After => facts.answer_ms.map(seconds),
            Self::Asked => Some(match facts.answer {
                Answered::Target => "the last INVITE".to_owned(),
                Answered::Sipfrag | Answered::Refer => "the REFER".to_owned(),
            }),
            Self::Ringing => {
                let from = facts.ringing_ms?;
                Some(match facts.answer_ms {
                    Some(until) if until > from => format!("{} of ringing", seconds(until - from)),
                    _ => "ringing".to_owned(),
                })
            }
            Self::Cancel => facts.cancel_ms.map(seconds),
            Self::CancelReason => reason(facts.cancel_reasons),
            Self::Up => facts.answered_ms.map(seconds),
            Self::TargetByeReason => reason(facts.target_bye_reasons),
            Self::ByeReason => reason(facts.bye_reasons),
            Self::Decided => facts.decided_ms.map(seconds),
            Self::ByeAfterNotify => facts.bye_after_notify_ms.map(seconds),
            Self::NotifyAnswer => facts.notify_answer.map(|status| status.to_string()),
            Self::Header(name) => facts.values(name).next().map(short),
            Self::TargetHost => facts.target_host().map(short),
            Self::Accepted => facts.accepted_ms.map(seconds),
            Self::Twilio => facts.twilio().map(|number| number.to_string()),
            Self::Q850 => facts.q850().map(|q850| match q850.meaning() {
                Some(meaning) => format!("{} ({meaning})", q850.cause),
                None => q850.cause.to_string(),
            }),
            Self::Location => facts.q850()?.said_by().map(str::to_owned),
            Self::Warning => facts.values("Warning").next().map(|w| format!("Warning: {}", short(w))),
            Self::Sipfrag => facts.sipfrag.map(|status| status.to_string()),
            Self::NoVerdict => Some(match facts.hearsay {
                true => "no final NOTIFY within its own dialog".to_owned(),
                false => "no final NOTIFY".to_owned(),
            }),
            Self::Copies => Some(match facts.copies {
                0 | 1 => "once".to_owned(),
                copies => format!("{copies} times"),
            }),
            Self::Challenges => match facts.challenges {
                0 => None,
                1 => Some("1 challenge".to_owned()),
                many => Some(format!("{many} challenges")),
            },
            Self::Method => Some(method(facts.method).to_owned()),
            Self::Usual => facts.switched_from.map(|usual| method(usual).to_owned()),
            Self::UnknownBecause => facts.unknown_because.map(short),
        }
    }
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Refer => "REFER",
        Method::Invite => "a second-leg INVITE",
        Method::Redirect => "a redirect",
        Method::Also => "BYE with Also",
        Method::ReferBye => "REFER-to-BYE",
    }
}

/// The first of these Reason lines.
fn reason(lines: &[String]) -> Option<String> {
    lines.first().map(|line| short(line))
}

/// `0.4 s`; two digits below a tenth of a second, milliseconds below a hundredth.
fn seconds(ms: i64) -> String {
    match ms {
        ..0 => "less than 0 s".to_owned(),
        0 => "less than 1 ms".to_owned(),
        1..10 => format!("{ms} ms"),
        10..100 => format!("0.{:02} s", (ms + 5) / 10),
        // Not rounded up: 29.96 s must not read as a round 30.0.
        _ => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}

/// Wire text fit for a sentence: on one line, and not endless.
fn short(text: &str) -> String {
    let mut short: String =
        text.chars().take(MAX_WIRE_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_WIRE_TEXT).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;

    #[test]
    fn optional_parts_go_with_what_they_name() {
        let template = Template::parse("{answer}[ after {after}][, {q850}].").unwrap();
        let mut facts = Facts::new(Method::Invite, Outcome::Busy);
        assert_eq!(template.fill(&facts), "(not seen).");
        facts.status = Some(486);
        facts.reason = Some("Busy\r\nHere");
        facts.answer_ms = Some(419);
        assert_eq!(template.fill(&facts), "486 Busy  Here after 0.4 s.");
        let headers = [("Reason", "Q.850;cause=17")];
        facts.headers = &headers;
        assert_eq!(template.fill(&facts), "486 Busy  Here after 0.4 s, 17 (user busy).");
    }

    #[test]
    fn templates_are_checked() {
        for bad in ["{nope}", "{answer", "[x", "x]", "}", "[{answer]", "[a[b]]"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_told_with_sense() {
        for (ms, words) in [
            (0, "less than 1 ms"),
            (7, "7 ms"),
            (67, "0.07 s"),
            (99, "0.10 s"),
            (406, "0.4 s"),
            (29_960, "29.9 s"),
            (30_010, "30.0 s"),
        ] {
            assert_eq!(seconds(ms), words);
        }
    }
}
