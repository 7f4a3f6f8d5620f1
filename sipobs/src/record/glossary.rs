//! What the names and words of the output contract mean, for a person who meets one.

use super::{
    AbsentSignal, AlertKind, Answered, AnsweredBy, ByeFrom, Dialect, Evidence, Fault, Kind, LinkMethod,
    Method, Outcome, RatioVerdict, ReplacesFit, Seen, Side, UnknownReason,
};

/// Fields of the records, and what they say. `docs/output.md` has them in their place.
pub const FIELDS: &[(&str, &str)] = &[
    ("kind", "what the line is: transfer, notice, call, alert or summary"),
    ("schema", "a number that grows when the meaning of a field changes"),
    ("host", "where it was captured; null where a file was read"),
    ("id", "the attempt's name: the same in its notices, its final record and on its span"),
    ("seq", "the attempt's place among those of this run, `#17` in the text; null live"),
    ("frame", "of a message: the number of the frame that completed it, in its file"),
    ("file", "of a message: the file with its frame, as it was named; null live"),
    ("transport", "of a message: what it came over, where its packets do not hold it as it is; only there"),
    ("decided", "of a notice: a message has decided it; else it is what silence would lead to"),
    ("call_id", "Call-ID of the dialog that was to be transferred; null where it can't be told"),
    ("method", "how the transfer was tried"),
    ("type", "blind or attended"),
    ("trunk", "the peer's name in the configuration, or other"),
    ("transferor", "who asked for the transfer, or made it"),
    ("transferee", "who was to be transferred"),
    ("target", "where to: Refer-To, the second leg's Request-URI, or the redirect's Contact"),
    ("started", "the attempt's first message"),
    ("ended", "the message that decided it, or the timer that gave up on it"),
    ("duration_ms", "from `started` to `ended`"),
    ("outcome", "what became of it"),
    ("evidence", "what the outcome rests on"),
    ("fault", "who would have to change something: that of the likeliest cause"),
    ("unknown_reason", "why the outcome is unknown, in one word"),
    ("unknown_because", "the same in a sentence"),
    (
        "status",
        "the SIP status that decided: of the target's leg if seen, else the sipfrag, else the REFER's answer",
    ),
    ("reason", "its reason phrase"),
    ("refer_cseq", "CSeq number of the REFER, of its last authenticated try"),
    ("target_call_id", "Call-ID of the leg to the target"),
    (
        "followed",
        "of a redirect: whether its Contact was called, under whichever Call-ID; then `target_call_id` and the times are that leg's",
    ),
    ("followed_outcome", "what became of that leg"),
    (
        "link",
        "how the target's leg was tied to the call: the evidence, and how sure that is (0 to 1, calibrated)",
    ),
    ("candidates", "Call-IDs that an ambiguous leg could belong to"),
    ("ringing_ms", "from the last authenticated INVITE of the target's leg to its first 18x"),
    ("answer_ms", "from the last authenticated INVITE of the target's leg to its final answer"),
    (
        "provider_ids",
        "ids that a provider's support asks for, by header: the call's, and what other legs have beside them",
    ),
    ("target_provider_ids", "those of the leg to the target alone"),
    (
        "trace_id",
        "the trace that the span is in, where spans are exported, or that of an application which it joins",
    ),
    (
        "evidence_file",
        "the file with the packets of an attempt or a call, in the recorder's folder; only where one is written",
    ),
    (
        "wire_trace",
        "the trace that a header named: header, trace_id, span_id, and whether the span joins it or is linked",
    ),
    ("diagnosis", "causes, likeliest first: code, cause, check, because, fault, source"),
    ("visibility", "which legs and directions the capture could see"),
    (
        "quality",
        "what is known to be missing from the evidence, or wrong with it; all zero on a clean capture",
    ),
    ("messages", "the ladder: the messages of the attempt"),
    ("refer_absent", "of an ended call: whether a transfer that should have been is not there"),
];

/// The levels of `refer_absent`, and what they say.
const LEVELS: &[(&str, &str, &str)] = &[
    ("refer_absent", "no", "There was a transfer attempt, or the call is not one that the question fits."),
    (
        "refer_absent",
        "fact",
        "An answered call that ended in BYE without any sign of a transfer: no more than that.",
    ),
    (
        "refer_absent",
        "suspected",
        "The same, and signals say that a transfer was wanted: their weights sum to 3 or more.",
    ),
    (
        "refer_absent",
        "method_switched",
        "A second-leg INVITE on a trunk that used, or is expected, to be transferred by REFER.",
    ),
];

/// Every word of the contract: the field or table it belongs to, the word, what it means.
pub fn words() -> Vec<(&'static str, &'static str, &'static str)> {
    macro_rules! all {
        ($($field:literal: $word:ident),+ $(,)?) => {
            [
                $($word::ALL.iter().map(|word| ($field, word.as_str(), word.meaning())).collect::<Vec<_>>(),)+
                LEVELS.to_vec(),
            ]
            .concat()
        };
    }
    all!(
        "outcome": Outcome,
        "evidence": Evidence,
        "unknown_reason": UnknownReason,
        "fault": Fault,
        "method": Method,
        "type": Kind,
        "visibility": Seen,
        "ended_by": Side,
        "link": LinkMethod,
        "signals": AbsentSignal,
        "alert": AlertKind,
        "verdict": RatioVerdict,
        "dialect": Dialect,
        "answer": Answered,
        "answered_by": AnsweredBy,
        "bye": ByeFrom,
        "replaces": ReplacesFit,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_an_absent_refer_is_told() {
        use strum::VariantNames as _;
        let told: Vec<&str> = LEVELS.iter().map(|(_, level, _)| *level).collect();
        assert_eq!(told, crate::record::ReferAbsent::VARIANTS);
    }

    #[test]
    fn every_word_has_a_meaning() {
        for (field, word, meaning) in words() {
            assert!(meaning.len() > 5, "{field} {word}");
        }
    }

    /// But for those that only conditions of causes ask for, which their table explains.
    #[test]
    fn every_word_of_a_record_is_in_the_documentation() {
        let text = include_str!("../../../docs/output.md");
        let conditions = ["dialect", "answer", "answered_by", "bye", "replaces"];
        for (field, word, _) in words().into_iter().filter(|(field, ..)| !conditions.contains(field)) {
            assert!(text.contains(&format!("`{word}`")), "docs/output.md lacks `{word}` ({field})");
        }
        for (field, _) in FIELDS {
            assert!(text.contains(field), "docs/output.md lacks {field}");
        }
    }
}
