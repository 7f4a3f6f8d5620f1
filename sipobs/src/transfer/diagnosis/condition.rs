//! The conditions of a row. A new one is an entry of [`CONDITIONS`]: its name, what it is about, and what the facts say.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::facts::{Facts, number};
use crate::pattern::glob;
use crate::record::{
    Answered, AnsweredBy, ByeFrom, Dialect, Evidence, Method, Outcome, ReplacesFit, Side, UnknownReason,
};
use crate::sip::ReasonHeader;

use Asks::{Every, Flag, Header, Millis, Number, Reason, Status, Text, Word};

/// Every condition that a row may have.
#[rustfmt::skip]
pub(super) static CONDITIONS: &[Condition] = &[
    // How it was tried, and what came of it.
    Condition { name: "method", about: "how it was tried", asks: Word(Method::words, |f| one(f.method.as_str())) },
    Condition { name: "outcome", about: "what became of it", asks: Word(Outcome::words, |f| one(f.outcome.as_str())) },
    Condition { name: "evidence", about: "what that rests on", asks: Word(Evidence::words, |f| one(f.evidence.as_str())) },
    Condition { name: "unknown_reason", about: "why the outcome is unknown", asks: Word(UnknownReason::words, |f| f.unknown_reason.map(UnknownReason::as_str).into_iter().collect()) },
    Condition { name: "decided_ms", about: "from the attempt's first message to what decided it", asks: Millis(|f| f.decided_ms) },
    // The answer that decided.
    Condition { name: "status", about: "the deciding status", asks: Status(|f| f.status) },
    Condition { name: "phrase", about: "its reason phrase", asks: Text(|f| f.reason.into_iter().collect()) },
    Condition { name: "answer", about: "what carried it: the target's leg, a sipfrag, or the answer to the REFER", asks: Word(Answered::words, |f| f.status.map(|_| f.answer.as_str()).into_iter().collect()) },
    Condition { name: "answered_by", about: "who gave it", asks: Word(AnsweredBy::words, |f| f.answered_by.map(AnsweredBy::as_str).into_iter().collect()) },
    Condition { name: "answer_ms", about: "from the last authenticated INVITE (or the REFER) to it", asks: Millis(|f| f.answer_ms) },
    Condition { name: "header", about: "a header of the message that carried it", asks: Header },
    Condition { name: "twilio", about: "Twilio's error number, in X-Twilio-Error, Warning or phrase", asks: Number(|f| f.twilio()) },
    Condition { name: "reason", about: "a Reason of the message that carried it (RFC 3326)", asks: Reason(|f| f.values("Reason").collect()) },
    Condition { name: "q850", about: "its Q.850 cause", asks: Number(|f| f.q850().map(|q850| q850.cause.into())) },
    Condition { name: "location", about: "where that was said (RFC 8606)", asks: Text(|f| f.q850().and_then(|q850| q850.location).into_iter().collect()) },
    Condition { name: "heard", about: "anything at all came back, challenges apart", asks: Flag(|f| f.heard) },
    Condition { name: "challenges", about: "401 and 407 received", asks: Millis(|f| Some(f.challenges.into())) },
    Condition { name: "copies", about: "how often the unanswered request was sent", asks: Millis(|f| Some(f.copies.into())) },
    // The leg to the target.
    Condition { name: "target_scheme", about: "the scheme of the target's URI", asks: Text(|f| f.target_scheme().into_iter().collect()) },
    Condition { name: "target_host", about: "the host of the target's URI", asks: Text(|f| f.target_host().into_iter().collect()) },
    Condition { name: "target_is_address", about: "that host is an address", asks: Flag(|f| f.target_is_address()) },
    Condition { name: "tel", about: "the target is a tel: URI", asks: Flag(|f| f.target_scheme().is_some_and(|scheme| scheme.eq_ignore_ascii_case("tel"))) },
    Condition { name: "target_seen", about: "the leg to the target was seen", asks: Flag(|f| f.target_seen) },
    Condition { name: "ringing", about: "it rang", asks: Flag(|f| f.ringing_ms.is_some()) },
    Condition { name: "ringing_ms", about: "from the last authenticated INVITE to 18x", asks: Millis(|f| f.ringing_ms) },
    Condition { name: "cancel_ms", about: "from the first INVITE to the caller's own CANCEL", asks: Millis(|f| f.cancel_ms) },
    Condition { name: "cancel_every", about: "that is a round time", asks: Every(|f| f.cancel_ms) },
    Condition { name: "cancel_reason", about: "a Reason of that CANCEL", asks: Reason(|f| f.cancel_reasons.iter().map(String::as_str).collect()) },
    Condition { name: "tried_before", about: "its Call-ID had been used for an INVITE that failed", asks: Flag(|f| f.tried_before) },
    Condition { name: "ambiguous", about: "several calls could have asked for it, or none", asks: Flag(|f| f.ambiguous) },
    Condition { name: "taken_elsewhere", about: "another leg of the call was taken in its place, by whatever tells so", asks: Flag(|f| f.taken_elsewhere) },
    Condition { name: "answered_beside", about: "another leg of the call was answered just before its CANCEL", asks: Flag(|f| f.answered_beside) },
    Condition { name: "target_unacknowledged", about: "its 2xx was sent over and over, and never acknowledged", asks: Flag(|f| f.target_unacknowledged) },
    Condition { name: "redirects_back", about: "the redirect leads back to where the call had been sent before", asks: Flag(|f| f.redirects_back) },
    Condition { name: "answered_ms", about: "how long the target's leg was up, from its answer to its BYE", asks: Millis(|f| f.answered_ms) },
    Condition { name: "answered_every", about: "that is a round time", asks: Every(|f| f.answered_ms) },
    Condition { name: "target_bye", about: "who ended it: caller is our side, callee the target", asks: Word(Side::words, |f| f.target_bye.map(Side::as_str).into_iter().collect()) },
    Condition { name: "target_bye_reason", about: "a Reason of that BYE", asks: Reason(|f| f.target_bye_reasons.iter().map(String::as_str).collect()) },
    // The REFER and its NOTIFYs.
    Condition { name: "accepted", about: "the REFER got a 2xx", asks: Flag(|f| f.accepted) },
    Condition { name: "accepted_ms", about: "from the REFER to that", asks: Millis(|f| f.accepted_ms) },
    Condition { name: "sipfrag", about: "the last status that a NOTIFY told", asks: Status(|f| f.sipfrag) },
    Condition { name: "hearsay", about: "an outcome was told by somebody who has no part in the call, as far as can be seen", asks: Flag(|f| f.hearsay) },
    Condition { name: "notify_answer", about: "the highest status that a NOTIFY was answered with", asks: Status(|f| f.notify_answer) },
    Condition { name: "no_subscription", about: "no NOTIFY was to be sent (RFC 4488)", asks: Flag(|f| f.no_subscription) },
    Condition { name: "went_elsewhere", about: "the REFER went to a host that the call's INVITE was not seen at", asks: Flag(|f| f.went_elsewhere) },
    Condition { name: "referred_by", about: "the REFER has a Referred-By", asks: Flag(|f| f.referred_by) },
    Condition { name: "names_no_call", about: "there is no Replaces in it", asks: Flag(|f| f.replaces.is_none()) },
    Condition { name: "replaces", about: "how its Replaces fits the calls that were seen", asks: Word(ReplacesFit::words, |f| f.replaces.map(ReplacesFit::as_str).into_iter().collect()) },
    Condition { name: "refer_not_allowed", about: "the peer's Allow lacks REFER", asks: Flag(|f| f.refer_not_allowed) },
    // The call that was to be transferred.
    Condition { name: "before_answer", about: "the attempt began before the call was answered", asks: Flag(|f| f.before_answer) },
    Condition { name: "call_unacknowledged", about: "the 2xx to the call's INVITE was never acknowledged", asks: Flag(|f| f.call_unacknowledged) },
    Condition { name: "ended", about: "the call was ended by a BYE", asks: Flag(|f| f.bye.is_some()) },
    Condition { name: "bye", about: "who sent that", asks: Word(ByeFrom::words, |f| f.bye.map(ByeFrom::as_str).into_iter().collect()) },
    Condition { name: "bye_reason", about: "a Reason of that BYE", asks: Reason(|f| f.bye_reasons.iter().map(String::as_str).collect()) },
    Condition { name: "bye_after_notify_ms", about: "from the NOTIFY that told the outcome to that BYE, or until the verdict where none came", asks: Millis(|f| f.bye_after_notify_ms) },
    // Whose ways they are.
    Condition { name: "switched_from", about: "the trunk's usual method, where this one differs", asks: Word(Method::words, |f| f.switched_from.map(Method::as_str).into_iter().collect()) },
    Condition { name: "dialect", about: "products that the messages show", asks: Word(Dialect::words, |f| f.dialects.iter().map(|dialect| dialect.as_str()).collect()) },
];

/// One condition.
pub(super) struct Condition {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// What it is about, for whoever writes a table.
    pub(super) about: &'static str,
    /// How what is wanted is written, and what the facts say.
    pub(super) asks: Asks,
}

/// What was seen: none, one, or several.
type Seen<'a> = SmallVec<[&'a str; 4]>;

/// How what is wanted is written, and what the facts say.
#[derive(Clone, Copy)]
pub(super) enum Asks {
    /// `["refer", "invite"]`: one of these words of the output contract.
    Word(fn() -> Vec<&'static str>, for<'a> fn(&Facts<'a>) -> SmallVec<[&'static str; 4]>),
    /// `["*busy*"]`: `*` any text, `?` one character, case ignored.
    Text(for<'a> fn(&Facts<'a>) -> Seen<'a>),
    /// `[486, "500-599"]`.
    Status(fn(&Facts<'_>) -> Option<u16>),
    /// `[32205]`.
    Number(fn(&Facts<'_>) -> Option<u32>),
    /// `{ min = 1, max = 5 }`: at least `min`, less than `max`.
    Millis(fn(&Facts<'_>) -> Option<i64>),
    /// `{ ms = 5000, within = 250 }`: a multiple of `ms`, give or take `within`.
    Every(fn(&Facts<'_>) -> Option<i64>),
    /// `true` or `false`.
    Flag(fn(&Facts<'_>) -> bool),
    /// `{ name = "Server", number = [..], value = ["pattern"] }`; the name alone: it is there.
    Header,
    /// `{ protocol = "SIP", cause = [200], text = ["pattern"] }`.
    Reason(for<'a, 'f> fn(&'f Facts<'a>) -> Seen<'f>),
}

/// Conditions, all of which must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct When(Vec<Wants>);

/// A condition with what is wanted of it.
#[derive(Clone, Debug)]
struct Wants {
    of: &'static Condition,
    wanted: Wanted,
}

/// What is wanted, as written in the table.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Wanted {
    Words(Vec<String>),
    Patterns(Vec<String>),
    Statuses(Vec<StatusRange>),
    Numbers(Vec<u32>),
    Range(Range),
    Every(RoundTime),
    Flag(bool),
    Header(HeaderWanted),
    Reason(ReasonWanted),
}

/// `486` or `"500-599"`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "StatusText", into = "String")]
pub(super) struct StatusRange {
    from: u16,
    to: u16,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a status such as 486, or a range such as \"500-599\"")]
enum StatusText {
    One(u16),
    Range(String),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderWanted {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonWanted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<Vec<u16>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Vec<String>>,
}

/// At least `min`, less than `max`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "RangeText")]
pub(super) struct Range {
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeText {
    min: Option<i64>,
    max: Option<i64>,
}

/// A multiple of `ms`, give or take `within`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "RoundTimeText")]
pub(super) struct RoundTime {
    ms: i64,
    within: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoundTimeText {
    ms: i64,
    within: i64,
}

impl Asks {
    /// How what is wanted is written.
    pub(super) const fn form(self) -> &'static str {
        match self {
            Word(..) => "[\"word\"]",
            Text(_) => "[\"*pattern*\"]",
            Status(_) => "[486, \"500-599\"]",
            Number(_) => "[32205]",
            Millis(_) => "{ min = 1, max = 5 }, max excluded",
            Every(_) => "{ ms = 5000, within = 250 }",
            Flag(_) => "true or false",
            Header => {
                "{ name = \"Server\", number = [1], value = [\"pattern\"] }, the name alone: it is there"
            }
            Reason(_) => "{ protocol = \"SIP\", cause = [200], text = [\"pattern\"] }",
        }
    }

    /// Whether the facts have the answer at hand, to compare with a number or a flag.
    const fn is_quick(self) -> bool {
        matches!(self, Status(_) | Millis(_) | Every(_) | Flag(_))
    }
}

impl When {
    /// Whether `facts` meet every condition. Most rows fail at one that takes no more than a comparison.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        let meets = |quick| {
            let mut wanted = self.0.iter().filter(move |wants| wants.of.asks.is_quick() == quick);
            wanted.all(|wants| wants.wanted.holds(&wants.of.asks, facts))
        };
        meets(true) && meets(false)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each condition as written: its name, and what is wanted.
    pub(super) fn written(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().map(|wants| (wants.of.name, wants.wanted.to_string()))
    }

    /// Whether `status` is one that is asked for.
    pub(super) fn asks_for_status(&self, status: u16) -> bool {
        self.any(|name| name == "status", |wanted| {
            matches!(wanted, Wanted::Statuses(ranges) if ranges.iter().any(|range| range.is_narrow() && range.contains(status)))
        })
    }

    /// Whether `number` is one that a condition asks for whose name is `of`.
    pub(super) fn asks_for_number(&self, of: impl Fn(&str) -> bool, number: u32) -> bool {
        self.any(of, |wanted| match wanted {
            Wanted::Numbers(numbers) | Wanted::Header(HeaderWanted { number: Some(numbers), .. }) => {
                numbers.contains(&number)
            }
            _ => false,
        })
    }

    /// Whether a condition asks for `word`, or for a text that `word` fits.
    pub(super) fn asks_for_text(&self, word: &str) -> bool {
        self.any(
            |_| true,
            |wanted| match wanted {
                Wanted::Words(words) => words.iter().any(|known| known == word),
                Wanted::Patterns(patterns) => patterns.iter().any(|pattern| glob(pattern, word.as_bytes())),
                _ => false,
            },
        )
    }

    fn any(&self, of: impl Fn(&str) -> bool, wanted: impl Fn(&Wanted) -> bool) -> bool {
        self.0.iter().any(|wants| of(wants.of.name) && wanted(&wants.wanted))
    }
}

impl Wanted {
    fn holds(&self, asks: &Asks, facts: &Facts<'_>) -> bool {
        match (self, asks) {
            (Self::Words(words), Word(_, seen)) => {
                seen(facts).iter().any(|seen| words.iter().any(|word| word == seen))
            }
            (Self::Patterns(patterns), Text(seen)) => {
                seen(facts).iter().any(|seen| fits(patterns, seen.as_bytes()))
            }
            (Self::Statuses(ranges), Status(seen)) => {
                seen(facts).is_some_and(|seen| ranges.iter().any(|range| range.contains(seen)))
            }
            (Self::Numbers(numbers), Number(seen)) => seen(facts).is_some_and(|seen| numbers.contains(&seen)),
            (Self::Range(range), Millis(seen)) => seen(facts).is_some_and(|seen| range.contains(seen)),
            (Self::Every(round), Every(seen)) => seen(facts).is_some_and(|seen| round.meets(seen)),
            (Self::Flag(wanted), Flag(seen)) => seen(facts) == *wanted,
            (Self::Header(header), Header) => facts.values(&header.name).any(|value| header.holds(value)),
            (Self::Reason(reason), Reason(seen)) => {
                let seen = seen(facts);
                let mut values = seen.iter().flat_map(|line| ReasonHeader::all(line.as_bytes()));
                values.any(|value| reason.holds(&value))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Wanted {
    /// As TOML has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = toml::Value::try_from(self).map_err(|_| fmt::Error)?;
        write!(f, "{value}")
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Conditions;
        impl<'de> Visitor<'de> for Conditions {
            type Value = When;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of conditions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<When, A::Error> {
                let mut when = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let of = CONDITIONS.iter().find(|known| known.name == name).ok_or_else(|| {
                        let known: Vec<_> = CONDITIONS.iter().map(|c| format!("`{}`", c.name)).collect();
                        A::Error::custom(format_args!(
                            "unknown field `{name}`, expected one of {}",
                            known.join(", ")
                        ))
                    })?;
                    when.push(Wants { of, wanted: map.next_value_seed(of.asks)? });
                }
                Ok(When(when))
            }
        }
        deserializer.deserialize_map(Conditions)
    }
}

impl<'de> DeserializeSeed<'de> for Asks {
    type Value = Wanted;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Wanted, D::Error> {
        Ok(match self {
            Word(known, _) => {
                let (words, known) = (Vec::<String>::deserialize(deserializer)?, known());
                if !words.iter().all(|word| known.contains(&word.as_str())) {
                    let known = known.join(", ");
                    return Err(D::Error::custom(format_args!("unknown word, expected one of {known}")));
                }
                Wanted::Words(words)
            }
            Text(_) => Wanted::Patterns(Vec::deserialize(deserializer)?),
            Status(_) => Wanted::Statuses(Vec::deserialize(deserializer)?),
            Number(_) => Wanted::Numbers(Vec::deserialize(deserializer)?),
            Millis(_) => Wanted::Range(Range::deserialize(deserializer)?),
            Every(_) => Wanted::Every(RoundTime::deserialize(deserializer)?),
            Flag(_) => Wanted::Flag(bool::deserialize(deserializer)?),
            Header => Wanted::Header(HeaderWanted::deserialize(deserializer)?),
            Reason(_) => Wanted::Reason(ReasonWanted::deserialize(deserializer)?),
        })
    }
}

impl HeaderWanted {
    fn holds(&self, value: &str) -> bool {
        self.number.as_ref().is_none_or(|any| number(value).is_some_and(|seen| any.contains(&seen)))
            && self.value.as_ref().is_none_or(|any| fits(any, value.as_bytes()))
    }
}

impl ReasonWanted {
    fn holds(&self, seen: &ReasonHeader<'_>) -> bool {
        self.protocol.as_ref().is_none_or(|wanted| seen.protocol.eq_ignore_ascii_case(wanted.as_bytes()))
            && self.cause.as_ref().is_none_or(|any| seen.cause.is_some_and(|cause| any.contains(&cause)))
            && self.text.as_ref().is_none_or(|any| seen.text.is_some_and(|text| fits(any, text)))
    }
}

impl StatusRange {
    fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }

    /// Less than a class: about these statuses rather than about any.
    const fn is_narrow(self) -> bool {
        self.to - self.from < 99
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

impl From<StatusRange> for String {
    fn from(StatusRange { from, to }: StatusRange) -> Self {
        if from == to { from.to_string() } else { format!("{from}-{to}") }
    }
}

impl Range {
    fn contains(self, seen: i64) -> bool {
        self.min.is_none_or(|min| seen >= min) && self.max.is_none_or(|max| seen < max)
    }
}

impl TryFrom<RangeText> for Range {
    type Error = &'static str;

    fn try_from(RangeText { min, max }: RangeText) -> Result<Self, Self::Error> {
        match (min, max) {
            (None, None) => Err("give min, max or both"),
            (Some(least), Some(most)) if least >= most => Err("min must be less than max"),
            _ => Ok(Self { min, max }),
        }
    }
}

impl RoundTime {
    fn meets(self, ms: i64) -> bool {
        let over = ms.rem_euclid(self.ms);
        ms >= 0 && over.min(self.ms - over) <= self.within
    }
}

impl TryFrom<RoundTimeText> for RoundTime {
    type Error = &'static str;

    fn try_from(RoundTimeText { ms, within }: RoundTimeText) -> Result<Self, Self::Error> {
        if ms <= 0 || within < 0 || within > ms / 2 {
            return Err("ms must be positive, and within at most half of it");
        }
        Ok(Self { ms, within })
    }
}

fn fits(patterns: &[String], text: &[u8]) -> bool {
    patterns.iter().any(|pattern| glob(pattern, text))
}

fn one(word: &'static str) -> SmallVec<[&'static str; 4]> {
    SmallVec::from_iter([word])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_says_what_it_is_about() {
        let mut names: Vec<_> = CONDITIONS.iter().map(|condition| condition.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CONDITIONS.len());
        assert!(CONDITIONS.iter().all(|condition| condition.about.len() > 5));
    }

    #[test]
    fn what_is_written_reads_back() {
        for (text, written) in [
            ("status = [486, \"500-599\"]", "[\"486\", \"500-599\"]"),
            ("answer_ms = { max = 1000 }", "{ max = 1000 }"),
            ("reason = { protocol = \"SIP\", cause = [200] }", "{ cause = [200], protocol = \"SIP\" }"),
            ("heard = false", "false"),
        ] {
            let when: When = toml::from_str(text).unwrap();
            assert_eq!(when.written().next().unwrap().1, written);
        }
    }
}
