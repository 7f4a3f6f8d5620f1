//! The words of the output contract: each enum declares its names once, and every output, metric label, span
//! attribute and configuration key takes them from here.

use strum::{EnumString, IntoStaticStr, VariantArray};

/// Gives an enum its word, its list of words, and the same words in serde.
macro_rules! words {
    ($($word:ident),+ $(,)?) => {$(
        impl $word {
            /// Every variant, in the order of the contract.
            pub const ALL: &[Self] = Self::VARIANTS;

            /// Its word in every output.
            pub fn as_str(self) -> &'static str {
                self.into()
            }
        }

        impl std::fmt::Display for $word {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $word {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $word {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = std::borrow::Cow::<str>::deserialize(deserializer)?;
                word.parse().map_err(|_| {
                    let known: Vec<&str> = Self::ALL.iter().map(|known| known.as_str()).collect();
                    serde::de::Error::custom(format_args!(
                        "unknown word `{word}`, expected one of {}",
                        known.join(", ")
                    ))
                })
            }
        }
    )+};
}

words!(Method, Kind, Outcome, Evidence, Side, Seen, AlertKind, Dialect, Answered, ByeFrom);

/// How a transfer was tried.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Method {
    /// REFER (RFC 3515).
    Refer,
    /// A second-leg INVITE by a B2BUA, or an INVITE with Replaces or Join.
    Invite,
    /// 301, 302 and kin before the answer (RFC 3261 §21.3).
    Redirect,
    /// BYE with an Also header (legacy).
    Also,
    /// 202, a terminating NOTIFY, then BYE with the number in Reason.
    ReferBye,
}

/// Blind or attended (RFC 5589).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// No consultation was seen.
    Blind,
    /// A Replaces, or a hold, shows a consultation.
    Attended,
}

/// What became of an attempt.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the output contract's own")]
pub enum Outcome {
    Succeeded,
    Busy,
    NoAnswer,
    Declined,
    Forbidden,
    NotFound,
    Media,
    NetworkFailure,
    ReferRefused,
    ReferUnanswered,
    AuthFailed,
    DialogGone,
    Abandoned,
    Superseded,
    NotifyTimeout,
    Redirected,
    Unknown,
}

/// What an outcome rests on, strongest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Evidence {
    /// The target's own final answer was seen (and, for 200, its ACK), or the REFER's own refusal.
    Confirmed,
    /// A sipfrag said so.
    Reported,
    /// A 200 sipfrag within 500 ms of the 202 with no 1xx before it: perhaps sent before dialling.
    ReportedOptimistic,
    /// Drawn from timing, silence or other messages.
    Inferred,
}

/// The ends of a call.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Side {
    /// Who sent the first INVITE.
    Caller,
    /// Who answered it.
    Callee,
}

/// How much of one leg was seen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Seen {
    /// Nothing.
    #[default]
    None,
    /// One side's messages only.
    OneWay,
    /// Both sides' messages.
    Both,
}

/// The alerts of the output contract, each raised once an incident; an incident ends when REFERs return.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum AlertKind {
    /// So many answered calls in a row without a REFER are improbable on this trunk, going by its own
    /// baseline. `verdict` and `message` say whether INVITEs took the REFERs' place.
    ReferRatio,
    /// One call was transferred by a second-leg INVITE on a trunk whose baseline, or declared expectation,
    /// is REFER.
    MethodSwitched,
    /// A trunk declared `expect = "refer"` shows no transfer at all, and there is no baseline to compare
    /// with: sipobs began to watch after the REFERs had stopped.
    AttemptsVanished,
}

/// Platforms and providers that can be told by their ways.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs, reason = "each is the product of its name")]
pub enum Dialect {
    Asterisk,
    FreeSwitch,
    LiveKit,
    Telnyx,
    Twilio,
}

/// What carried the deciding status.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Answered {
    /// The target leg's own answer.
    Target,
    /// A NOTIFY's sipfrag.
    Sipfrag,
    /// The answer to the REFER.
    Refer,
}

/// Who ended the dialog that was to be transferred.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum ByeFrom {
    /// Who asked for the transfer.
    Transferor,
    /// Who was to be transferred.
    Transferee,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_same_in_every_form() {
        assert_eq!(Outcome::NoAnswer.as_str(), "no_answer");
        assert_eq!(serde_json::to_string(&Outcome::NoAnswer).unwrap(), "\"no_answer\"");
        assert_eq!("no_answer".parse(), Ok(Outcome::NoAnswer));
        assert_eq!(Dialect::LiveKit.as_str(), "livekit");
        assert_eq!(Outcome::ALL.len(), 17);
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        let error = serde_json::from_str::<Method>("\"transfer\"").unwrap_err().to_string();
        assert!(
            error.contains("`transfer`") && error.contains("refer, invite, redirect, also, refer_bye"),
            "{error}"
        );
    }
}
