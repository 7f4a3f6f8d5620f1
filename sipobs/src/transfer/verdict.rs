//! What a verdict is, and which outcome a final status means.

use crate::record::{Answered, Evidence, Outcome, UnknownReason};
use crate::timestamp::Timestamp;

/// What would be said of an attempt if nothing more came.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) evidence: Evidence,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
    /// What carried the status.
    pub(super) answered: Answered,
    /// Why the outcome is unknown.
    pub(super) because: Option<Unknown>,
    /// The message that decided it; `None` when a timer did.
    pub(super) decided: Option<Timestamp>,
    /// It rests on messages that did not come: worthless where some are known to be missing.
    pub(super) silence: bool,
    /// The capture may end before they would have come: then the verdict does not hold.
    pub(super) early: bool,
}

/// Why an outcome is not known.
#[derive(Clone, Debug)]
pub(super) struct Unknown {
    pub(super) reason: UnknownReason,
    /// What a message said of it.
    pub(super) said: Option<String>,
}

/// A verdict, and when it stands if nothing else comes before.
#[derive(Clone, Debug)]
pub(super) struct Provisional {
    pub(super) at: Timestamp,
    pub(super) verdict: Verdict,
}

impl Verdict {
    /// By a message that was seen at `time`.
    pub(super) fn seen(outcome: Outcome, evidence: Evidence, time: Timestamp) -> Self {
        Self {
            outcome,
            evidence,
            status: None,
            reason: None,
            answered: Answered::Target,
            because: None,
            decided: Some(time),
            silence: false,
            early: false,
        }
    }

    /// By messages that did not come.
    pub(super) fn silence(outcome: Outcome) -> Self {
        Self {
            silence: true,
            early: true,
            decided: None,
            ..Self::seen(outcome, Evidence::Inferred, Timestamp::default())
        }
    }

    /// Not known, and why.
    pub(super) fn unknown(because: impl Into<Unknown>) -> Self {
        Self { because: Some(because.into()), ..Self::silence(Outcome::Unknown) }
    }

    pub(super) fn status(self, status: u16, reason: &str, answered: Answered) -> Self {
        let reason = (!reason.is_empty()).then(|| reason.to_owned());
        Self { status: Some(status), reason, answered, ..self }
    }
}

impl Unknown {
    /// The sentence for a person.
    pub(super) fn sentence(&self) -> String {
        let meaning = self.reason.meaning().trim_end_matches('.');
        let sentence =
            meaning.get(..1).unwrap_or_default().to_lowercase() + meaning.get(1..).unwrap_or_default();
        match &self.said {
            Some(said) => format!("{sentence} ({said})"),
            None => sentence,
        }
    }
}

impl From<UnknownReason> for Unknown {
    fn from(reason: UnknownReason) -> Self {
        Self { reason, said: None }
    }
}

impl Outcome {
    /// The outcome that a final status of the target means, told by its leg or by a sipfrag.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            ..200 => Self::Unknown,
            200..=299 => Self::Succeeded,
            300..=399 => Self::Redirected,
            486 | 600 => Self::Busy,
            408 | 480 | 487 => Self::NoAnswer,
            603 | 607 | 608 => Self::Declined,
            403 => Self::Forbidden,
            401 | 407 => Self::AuthFailed,
            404 | 410 | 416 | 484 | 485 | 604 => Self::NotFound,
            415 | 488 | 606 => Self::Media,
            600.. => Self::Declined,
            // 5xx, and what is left of 4xx: the request itself failed on its way.
            _ => Self::NetworkFailure,
        }
    }

    /// The outcome that a refusal of the REFER itself means.
    pub(super) fn of_refusal(status: u16) -> Self {
        match status {
            401 | 407 => Self::AuthFailed,
            481 => Self::DialogGone,
            // A proxy's word for "no answer" (RFC 3261 §16.8).
            408 => Self::ReferUnanswered,
            _ => Self::ReferRefused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_specification() {
        for (statuses, outcome) in [
            (&[200, 202][..], Outcome::Succeeded),
            (&[486, 600], Outcome::Busy),
            (&[408, 480, 487], Outcome::NoAnswer),
            (&[603, 607, 608], Outcome::Declined),
            (&[403], Outcome::Forbidden),
            (&[401, 407], Outcome::AuthFailed),
            (&[404, 410, 484, 604], Outcome::NotFound),
            (&[488, 606], Outcome::Media),
            (&[500, 502, 503, 504, 580], Outcome::NetworkFailure),
        ] {
            for status in statuses {
                assert_eq!(Outcome::of_status(*status), outcome, "{status}");
            }
        }
        assert_eq!(Outcome::of_refusal(481), Outcome::DialogGone);
        assert_eq!(Outcome::of_refusal(501), Outcome::ReferRefused);
    }
}
