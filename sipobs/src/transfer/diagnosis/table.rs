//! One row of the table: its form in TOML, and whether an attempt's facts meet its conditions.

use serde::Deserialize;

use super::Facts;
use crate::pattern::glob;
use crate::record::{Answered, ByeFrom, Dialect, Evidence, Method, Outcome};

/// A row as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) code: String,
    pub(super) rank: u32,
    #[serde(default)]
    pub(super) fallback: bool,
    #[serde(default)]
    pub(super) aside: bool,
    pub(super) when: When,
    pub(super) cause: String,
    pub(super) check: String,
    pub(super) because: String,
}

/// The conditions of a row: all that are given must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct When {
    method: Option<Vec<Method>>,
    outcome: Option<Vec<Outcome>>,
    evidence: Option<Vec<Evidence>>,
    answer: Option<Vec<Answered>>,
    status: Option<Vec<StatusRange>>,
    sipfrag: Option<Vec<StatusRange>>,
    phrase: Option<Vec<String>>,
    unknown_because: Option<Vec<String>>,
    twilio: Option<Vec<u32>>,
    header: Option<HeaderWhen>,
    q850: Option<Vec<u16>>,
    location: Option<Vec<String>>,
    answer_ms: Option<Range>,
    ringing_ms: Option<Range>,
    cancel_ms: Option<Range>,
    cancel_every: Option<Every>,
    accepted_ms: Option<Range>,
    copies: Option<Range>,
    challenges: Option<Range>,
    ringing: Option<bool>,
    heard: Option<bool>,
    accepted: Option<bool>,
    tel: Option<bool>,
    no_subscription: Option<bool>,
    refer_not_allowed: Option<bool>,
    ended: Option<bool>,
    bye: Option<Vec<ByeFrom>>,
    switched_from: Option<Vec<Method>>,
    dialect: Option<Vec<Dialect>>,
}

/// `486` or `"500-599"`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "StatusText")]
struct StatusRange {
    from: u16,
    to: u16,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a status such as 486, or a range such as \"500-599\"")]
enum StatusText {
    One(u16),
    Range(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderWhen {
    name: String,
    #[serde(default)]
    number: Option<Vec<u32>>,
    #[serde(default)]
    value: Option<Vec<String>>,
}

/// At least `min`, less than `max`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    #[serde(default)]
    min: Option<i64>,
    #[serde(default)]
    max: Option<i64>,
}

/// A multiple of `ms`, give or take `within`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Every {
    ms: i64,
    within: i64,
}

impl When {
    /// Whether `facts` meet every condition.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        let q850 = facts.q850();
        one_of(self.method.as_deref(), Some(&facts.method))
            && one_of(self.outcome.as_deref(), Some(&facts.outcome))
            && one_of(self.evidence.as_deref(), Some(&facts.evidence))
            && one_of(self.bye.as_deref(), facts.bye.as_ref())
            && one_of(self.switched_from.as_deref(), facts.switched_from.as_ref())
            && one_of(self.twilio.as_deref(), facts.twilio().as_ref())
            && one_of(self.q850.as_deref(), q850.map(|q850| q850.cause).as_ref())
            && self.answer.as_deref().is_none_or(|any| facts.status.is_some() && any.contains(&facts.answer))
            && any(self.status.as_deref(), facts.status, |range, status| range.contains(status))
            && any(self.sipfrag.as_deref(), facts.sipfrag, |range, status| range.contains(status))
            && any(self.phrase.as_deref(), facts.reason, |pattern, text| glob(pattern, text.as_bytes()))
            && any(self.unknown_because.as_deref(), facts.unknown_because, |pattern, text| {
                glob(pattern, text.as_bytes())
            })
            && any(self.location.as_deref(), q850.and_then(|q850| q850.location), |a, b| a == b)
            && self.header.as_ref().is_none_or(|header| header.holds(facts))
            && within(self.answer_ms, facts.answer_ms)
            && within(self.ringing_ms, facts.ringing_ms)
            && within(self.cancel_ms, facts.cancel_ms)
            && within(self.accepted_ms, facts.accepted_ms)
            && within(self.copies, Some(i64::from(facts.copies)))
            && within(self.challenges, Some(i64::from(facts.challenges)))
            && self.cancel_every.is_none_or(|every| facts.cancel_ms.is_some_and(|ms| every.meets(ms)))
            && is(self.ringing, facts.ringing_ms.is_some())
            && is(self.heard, facts.heard)
            && is(self.accepted, facts.accepted)
            && is(self.tel, facts.tel)
            && is(self.no_subscription, facts.no_subscription)
            && is(self.refer_not_allowed, facts.refer_not_allowed)
            && is(self.ended, facts.bye.is_some())
            && self.dialect.as_deref().is_none_or(|any| any.iter().any(|d| facts.dialects.contains(d)))
    }
}

impl Row {
    /// What is wrong with the row, if anything: the field, and the problem.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !is_code(&self.code) {
            return Some(("code", "must be 1 to 64 of a-z, 0-9 and _"));
        }
        for (field, text) in [("cause", &self.cause), ("check", &self.check), ("because", &self.because)] {
            if text.trim().is_empty() || text.len() > 1000 {
                return Some((field, "must have 1 to 1000 bytes"));
            }
        }
        let ranges = [
            ("when.answer_ms", self.when.answer_ms),
            ("when.ringing_ms", self.when.ringing_ms),
            ("when.cancel_ms", self.when.cancel_ms),
            ("when.accepted_ms", self.when.accepted_ms),
            ("when.copies", self.when.copies),
            ("when.challenges", self.when.challenges),
        ];
        for (field, range) in ranges {
            match range {
                Some(Range { min: None, max: None }) => return Some((field, "give min, max or both")),
                Some(Range { min: Some(min), max: Some(max) }) if min >= max => {
                    return Some((field, "min must be less than max"));
                }
                _ => {}
            }
        }
        match self.when.cancel_every {
            Some(Every { ms, within }) if ms <= 0 || within < 0 || within > ms / 2 => {
                Some(("when.cancel_every", "ms must be positive, and within at most half of it"))
            }
            _ => None,
        }
    }
}

/// Whether it may be the code of a row.
pub(super) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl HeaderWhen {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        facts.values(&self.name).any(|value| {
            let number = super::number(value);
            one_of(self.number.as_deref(), number.as_ref())
                && any(self.value.as_deref(), Some(value), |pattern, text| glob(pattern, text.as_bytes()))
        })
    }
}

impl StatusRange {
    fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

impl TryFrom<StatusText> for StatusRange {
    type Error = &'static str;

    fn try_from(text: StatusText) -> Result<Self, Self::Error> {
        let range = match text {
            StatusText::One(status) => Some((status, status)),
            StatusText::Range(range) => {
                range.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)))
            }
        };
        match range {
            Some((from, to)) if (100..=699).contains(&from) && from <= to && to <= 699 => {
                Ok(Self { from, to })
            }
            _ => Err("not a status from 100 to 699, or a range such as \"500-599\""),
        }
    }
}

impl Every {
    fn meets(self, ms: i64) -> bool {
        let over = ms.rem_euclid(self.ms);
        ms >= 0 && over.min(self.ms - over) <= self.within
    }
}

fn one_of<T: PartialEq>(wanted: Option<&[T]>, seen: Option<&T>) -> bool {
    wanted.is_none_or(|wanted| seen.is_some_and(|seen| wanted.contains(seen)))
}

fn any<W, S: Copy>(wanted: Option<&[W]>, seen: Option<S>, meets: impl Fn(&W, S) -> bool) -> bool
where
    W: Clone,
{
    wanted.is_none_or(|wanted| seen.is_some_and(|seen| wanted.iter().any(|w| meets(w, seen))))
}

fn within(wanted: Option<Range>, seen: Option<i64>) -> bool {
    wanted.is_none_or(|range| {
        seen.is_some_and(|seen| {
            range.min.is_none_or(|min| seen >= min) && range.max.is_none_or(|max| seen < max)
        })
    })
}

fn is(wanted: Option<bool>, seen: bool) -> bool {
    wanted.is_none_or(|wanted| wanted == seen)
}
