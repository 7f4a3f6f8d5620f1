//! The words of the output contract: each enum declares its names once, and every output, metric label, span
//! attribute and configuration key takes them from here.

use strum::{EnumMessage, EnumString, IntoStaticStr, VariantArray};

/// Declares enums whose variants are words: each with its list of words, their meanings, and the same words in serde.
macro_rules! words {
    ($($(#[$meta:meta])* pub enum $word:ident in $case:literal { $($variants:tt)+ })+) => {$(
        $(#[$meta])*
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            EnumMessage,
            EnumString,
            IntoStaticStr,
            VariantArray,
        )]
        #[strum(serialize_all = $case)]
        pub enum $word { $($variants)+ }

        impl $word {
            /// Every variant, in the order of the contract.
            pub const ALL: &[Self] = Self::VARIANTS;

            /// Its word in every output.
            pub fn as_str(self) -> &'static str {
                self.into()
            }

            /// Every word, in the order of the contract.
            pub fn words() -> Vec<&'static str> {
                Self::ALL.iter().map(|word| word.as_str()).collect()
            }

            /// What it means, for a person.
            pub fn meaning(self) -> &'static str {
                self.get_documentation().unwrap_or_default()
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

        #[cfg(test)]
        impl schemars::JsonSchema for $word {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($word).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words = Self::ALL.iter().map(|word| {
                    serde_json::json!({ "const": word.as_str(), "description": word.meaning() })
                });
                schemars::json_schema!({ "oneOf": words.collect::<Vec<_>>() })
            }
        }

        impl<'de> serde::Deserialize<'de> for $word {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = std::borrow::Cow::<str>::deserialize(deserializer)?;
                word.parse().map_err(|_| {
                    let known = Self::words().join(", ");
                    serde::de::Error::custom(format_args!("unknown word `{word}`, expected one of {known}"))
                })
            }
        }
    )+};
}

words! {
    /// How a transfer was tried.
    pub enum Method in "snake_case" {
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
    pub enum Kind in "snake_case" {
        /// No consultation was seen.
        Blind,
        /// A Replaces, a hold, or a leg to the target that was given up for the REFER shows a consultation.
        Attended,
    }

    /// What became of an attempt.
    pub enum Outcome in "snake_case" {
        /// The target answered (2xx), or was reported to have answered.
        Succeeded,
        /// The target, or whoever spoke for it, said busy (486, 600).
        Busy,
        /// Nobody answered in time (408, 480, 487), or our side gave up while it rang (CANCEL).
        NoAnswer,
        /// The call was declined: by the target, a screen or an analytics engine (603, 607, 608).
        Declined,
        /// Somebody on the way forbade the call (403).
        Forbidden,
        /// There is no such number, or no route to it (404, 410, 484, 604 and kin).
        NotFound,
        /// The two ends share no media: codecs, encryption, format (415, 488, 606).
        Media,
        /// The call could not be placed: a server or the network failed, or nothing answered at all.
        NetworkFailure,
        /// The REFER itself was refused: nobody tried to call the target.
        ReferRefused,
        /// Nobody answered the REFER: no answer in 64·T1 (32 s), none to its copies before a BYE, or a proxy's 408.
        ReferUnanswered,
        /// Credentials were asked for (401, 407), and none that served were sent.
        AuthFailed,
        /// 481: to the REFER, whose call is gone; or to the INVITE whose Replaces matched nothing.
        DialogGone,
        /// Somebody hung up before it was decided.
        Abandoned,
        /// A newer REFER in the same call took its place.
        Superseded,
        /// The REFER was accepted (2xx), and no NOTIFY ever told how it ended.
        NotifyTimeout,
        /// The call was sent elsewhere before it was answered (3xx); `target_call_id` names the leg that followed, if one did.
        Redirected,
        /// What was captured does not tell; `unknown_because` says why.
        Unknown,
    }

    /// What an outcome rests on, strongest first.
    pub enum Evidence in "snake_case" {
        /// The target's own final answer was seen (and, for 200, its ACK), or the REFER's own refusal.
        Confirmed,
        /// A sipfrag said so.
        Reported,
        /// A 200 sipfrag soon after the REFER's 2xx (`timers.optimistic`) with no ringing before it, or before anything else of a transfer was seen: perhaps sent before dialling.
        ReportedOptimistic,
        /// Drawn from timing, silence or other messages.
        Inferred,
    }

    /// Why an outcome is unknown.
    pub enum UnknownReason in "snake_case" {
        /// Messages are missing from the capture, and the outcome may be among them.
        MessagesMissing,
        /// A message was cut off when it was captured (snap length), and the outcome may be in what is missing of it.
        MessageCut,
        /// The capture ended before the outcome was told.
        CaptureEnded,
        /// Its call was let go of for want of memory before the outcome was told.
        CallEvicted,
        /// Only one direction of the call was captured.
        OneDirection,
        /// One host alone speaks of this call, which nobody was seen to begin.
        OneHostAlone,
        /// The transferor left before the outcome was told.
        TransferorLeft,
        /// The transferee left before the outcome was told: the caller gave up, or the trunk dropped the leg after it.
        TransfereeLeft,
        /// The transferee left while the target rang: the caller gave up, or the trunk dropped the leg after the transfer.
        TransfereeLeftRinging,
        /// The subscription ended before any final status was told.
        SubscriptionEnded,
        /// The REFER went without a subscription: no NOTIFY tells the outcome.
        NoSubscription,
        /// The outcome is told on another dialog (Refer-Events-At).
        ToldElsewhere,
        /// The call was handed over in a BYE: nothing tells the outcome.
        HandedOver,
        /// The target leg never got a final answer.
        NoFinalAnswer,
        /// The target's answer was repeated and never acknowledged.
        Unacknowledged,
        /// The leg to the target was lost sight of.
        LegLost,
    }

    /// Who would have to change something so that it does not happen again.
    pub enum Fault in "snake_case" {
        /// Nobody: it worked, or it went as calls go (busy, no answer).
        Nobody,
        /// The caller: gave up, or was who was to be transferred and left.
        Caller,
        /// The target: its phone, its owner's choice, its PBX.
        Target,
        /// The provider: its settings for this account, its limits, its rules.
        Provider,
        /// The platform that asked for the transfer or placed the call: its software or how it is set up.
        Platform,
        /// The network between: firewalls, NAT, proxies, carriers on the way.
        Network,
        /// What was seen does not tell.
        Unknown,
    }

    /// The ends of a call.
    pub enum Side in "snake_case" {
        /// Who sent the first INVITE.
        Caller,
        /// Who answered it.
        Callee,
    }

    /// How much of one leg was seen.
    #[derive(Default)]
    pub enum Seen in "snake_case" {
        /// Nothing.
        #[default]
        None,
        /// One side's messages only.
        OneWay,
        /// Both sides' messages.
        Both,
    }

    /// The alerts of the output contract, each raised once an incident; an incident ends when REFERs return.
    pub enum AlertKind in "snake_case" {
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
    pub enum Dialect in "lowercase" {
        /// Asterisk, and what is built on it.
        Asterisk,
        /// FRITZ!Box, the home router by AVM.
        FritzBox,
        /// FreeSWITCH, and what is built on it.
        FreeSwitch,
        /// LiveKit SIP, which voice agents sit behind.
        LiveKit,
        /// Microsoft Teams, Direct Routing.
        Teams,
        /// Telnyx.
        Telnyx,
        /// Twilio.
        Twilio,
    }

    /// What carried the deciding status.
    pub enum Answered in "snake_case" {
        /// The target leg's own answer.
        Target,
        /// A NOTIFY's sipfrag.
        Sipfrag,
        /// The answer to the REFER.
        Refer,
    }

    /// Who gave the answer that decided.
    pub enum AnsweredBy in "snake_case" {
        /// The host that had sent the request: it came back to its sender.
        Sender,
        /// A proxy on the way.
        Hop,
        /// The other end, as far as can be seen.
        Peer,
    }

    /// How the Replaces of a REFER (RFC 3891) fits the calls that were seen.
    pub enum ReplacesFit in "snake_case" {
        /// It names another call that was seen.
        Matched,
        /// It names no call that was seen.
        Unmatched,
        /// It names the very call that the REFER is sent in.
        OwnDialog,
        /// It names another call, and lacks a tag that it should have.
        NoTags,
    }

    /// The evidence that ties a target leg to its call, weakest first.
    pub enum LinkMethod in "snake_case" {
        /// Several calls fit about as well: it is tied to none.
        Ambiguous,
        /// Host and number: one call alone fits.
        HostNumber,
        /// The same, where several calls fit, and the times tell.
        HostNumberTime,
        /// The number that it was diverted from (RFC 5806, RFC 7044).
        Diverted,
        /// The caller's number is passed on.
        Caller,
        /// The number in Refer-To.
        ReferTo,
        /// Referred-By (RFC 3892).
        ReferredBy,
        /// A header that the configuration names.
        Header,
        /// Session-ID (RFC 7989).
        SessionId,
        /// Target-Dialog (RFC 4538).
        TargetDialog,
        /// Join (RFC 3911).
        Join,
        /// Replaces (RFC 3891).
        Replaces,
    }

    /// What became of the REFERs that a trunk used to see.
    pub enum RatioVerdict in "snake_case" {
        /// Second-leg INVITEs took their place.
        MethodSwitched,
        /// Nothing did.
        AttemptsVanished,
    }

    /// A sign that a REFER was wanted in a call that had none.
    pub enum AbsentSignal in "snake_case" {
        /// A second leg failed.
        FailedSecondLeg,
        /// The call was on hold when it ended.
        HoldUnresolved,
        /// The configuration expects REFER of its trunk or number.
        ReferExpected,
        /// Its trunk is used to REFERs.
        TrunkRefers,
        /// The agent's side ended the call.
        ByeFromAgent,
        /// The BYE's Reason is not the normal one.
        ByeReason,
        /// The trunk's Allow lacks REFER.
        ReferNotAllowed,
    }

    /// Who ended the dialog that was to be transferred.
    pub enum ByeFrom in "snake_case" {
        /// Who asked for the transfer.
        Transferor,
        /// Who was to be transferred.
        Transferee,
    }
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

impl Outcome {
    /// Whether somebody was to be reached, and was not.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Succeeded | Self::Superseded | Self::Redirected | Self::Unknown => false,
            Self::Busy
            | Self::NoAnswer
            | Self::Declined
            | Self::Forbidden
            | Self::NotFound
            | Self::Media
            | Self::NetworkFailure
            | Self::ReferRefused
            | Self::ReferUnanswered
            | Self::AuthFailed
            | Self::DialogGone
            | Self::Abandoned
            | Self::NotifyTimeout => true,
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
        assert_eq!(Outcome::words()[0], "succeeded");
    }

    #[test]
    fn every_word_has_a_meaning() {
        let meanings = Outcome::ALL.iter().map(|word| word.meaning());
        let meanings = meanings.chain(Fault::ALL.iter().map(|word| word.meaning()));
        let mut meanings = meanings.chain(Evidence::ALL.iter().map(|word| word.meaning()));
        assert!(meanings.all(|meaning| meaning.len() > 10));
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
