//! What an attempt shows, as far as its causes go.

use std::net::IpAddr;

use crate::record::{
    Answered, AnsweredBy, ByeFrom, Dialect, Evidence, Method, Outcome, ReplacesFit, Side, UnknownReason,
};
use crate::sip::{Q850, Uri};

/// What an attempt shows, as far as its causes go. Times are in milliseconds; what was not seen is `None`.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// How the transfer was tried.
    pub method: Method,
    /// What became of it.
    pub outcome: Outcome,
    /// What that rests on.
    pub evidence: Evidence,
    /// The deciding status.
    pub status: Option<u16>,
    /// Its phrase.
    pub reason: Option<&'a str>,
    /// What carried the deciding status.
    pub answer: Answered,
    /// Who gave it, where it was an answer and no sipfrag.
    pub answered_by: Option<AnsweredBy>,
    /// Headers (or those of a sipfrag) of the message with the deciding status, every line: those that tell why.
    /// Never credentials.
    pub headers: &'a [(&'a str, &'a str)],
    /// Reason values of the caller's CANCEL.
    pub cancel_reasons: &'a [String],
    /// Reason values of the BYE that ended the call.
    pub bye_reasons: &'a [String],
    /// Reason values of the BYE that ended the target's leg.
    pub target_bye_reasons: &'a [String],
    /// Anything at all came back, 100 included, challenges not.
    pub heard: bool,
    /// From the last authenticated INVITE to 18x.
    pub ringing_ms: Option<i64>,
    /// From the last authenticated INVITE (or the REFER) to the final answer.
    pub answer_ms: Option<i64>,
    /// From the *first* INVITE to the caller's own CANCEL.
    pub cancel_ms: Option<i64>,
    /// From the REFER to its 2xx.
    pub accepted_ms: Option<i64>,
    /// From the attempt's first message to what decided it.
    pub decided_ms: Option<i64>,
    /// How long the target's leg was up: from its answer to its BYE.
    pub answered_ms: Option<i64>,
    /// Who ended it.
    pub target_bye: Option<Side>,
    /// From the NOTIFY that told the outcome to the call's BYE, or until now.
    pub bye_after_notify_ms: Option<i64>,
    /// The highest status that a NOTIFY of the attempt was answered with.
    pub notify_answer: Option<u16>,
    /// Challenges (401, 407) received.
    pub challenges: u32,
    /// How often the unanswered request was sent, retransmissions included.
    pub copies: u32,
    /// Where to: Refer-To, the second leg's request-URI, or the redirect's Contact.
    pub target: Option<&'a str>,
    /// How the Replaces of the REFER fits what was seen.
    pub replaces: Option<ReplacesFit>,
    /// The REFER has a Referred-By.
    pub referred_by: bool,
    /// The attempt began before the call was answered.
    pub before_answer: bool,
    /// The 2xx to the call's INVITE was not acknowledged.
    pub call_unacknowledged: bool,
    /// The 2xx to the target leg's INVITE was sent over and over, and never acknowledged.
    pub target_unacknowledged: bool,
    /// The redirect leads back to where the call had been sent before.
    pub redirects_back: bool,
    /// The REFER was sent to a host that is neither end of the call's INVITE, as far as was seen.
    pub went_elsewhere: bool,
    /// The leg to the target was seen.
    pub target_seen: bool,
    /// Its Call-ID had been used for an INVITE that failed.
    pub tried_before: bool,
    /// Nobody can tell which call the leg belongs to, if it does to one.
    pub ambiguous: bool,
    /// Another leg of the same call was answered just before this one was cancelled.
    pub answered_beside: bool,
    /// That, or its CANCEL says so.
    pub taken_elsewhere: bool,
    /// The REFER got a 2xx.
    pub accepted: bool,
    /// The last sipfrag's status.
    pub sipfrag: Option<u16>,
    /// An outcome was told by somebody who has no part in the call, as far as can be seen.
    pub hearsay: bool,
    /// The 2xx refused or went without a subscription (RFC 4488): no NOTIFY will come.
    pub no_subscription: bool,
    /// Who sent the BYE that ended the dialog, if one did.
    pub bye: Option<ByeFrom>,
    /// The peer's Allow was seen and lacks REFER.
    pub refer_not_allowed: bool,
    /// The trunk's usual or declared method, where it differs from `method`.
    pub switched_from: Option<Method>,
    /// Whose ways the messages show.
    pub dialects: &'a [Dialect],
    /// Why the outcome is unknown.
    pub unknown_reason: Option<UnknownReason>,
    /// The same in a sentence.
    pub unknown_because: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// An attempt that shows nothing yet.
    pub fn new(method: Method, outcome: Outcome) -> Self {
        Self {
            method,
            outcome,
            evidence: Evidence::Confirmed,
            status: None,
            reason: None,
            answer: Answered::Target,
            answered_by: None,
            headers: &[],
            cancel_reasons: &[],
            bye_reasons: &[],
            target_bye_reasons: &[],
            heard: true,
            ringing_ms: None,
            answer_ms: None,
            cancel_ms: None,
            accepted_ms: None,
            decided_ms: None,
            answered_ms: None,
            target_bye: None,
            bye_after_notify_ms: None,
            notify_answer: None,
            challenges: 0,
            copies: 1,
            target: None,
            replaces: None,
            referred_by: false,
            before_answer: false,
            call_unacknowledged: false,
            target_unacknowledged: false,
            redirects_back: false,
            went_elsewhere: false,
            target_seen: false,
            tried_before: false,
            ambiguous: false,
            answered_beside: false,
            taken_elsewhere: false,
            accepted: false,
            sipfrag: None,
            hearsay: false,
            no_subscription: false,
            bye: None,
            refer_not_allowed: false,
            switched_from: None,
            dialects: &[],
            unknown_reason: None,
            unknown_because: None,
        }
    }

    /// Every line of a header.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// Twilio's error number: from its header; without that, a number in its range in Warning or phrase.
    pub(super) fn twilio(&self) -> Option<u32> {
        let in_range = |text: &str| {
            text.split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|word| word.len() == 5)
                .filter_map(|word| word.parse().ok())
                .find(|number| matches!(number, 10_000..33_000))
        };
        self.values("X-Twilio-Error")
            .find_map(number)
            .or_else(|| self.values("Warning").find_map(in_range))
            .or_else(|| self.reason.and_then(in_range))
    }

    /// The Q.850 cause of the message with the deciding status.
    pub(super) fn q850(&self) -> Option<Q850> {
        self.values("Reason").map(str::as_bytes).find_map(Q850::parse)
    }

    /// The scheme of the target's URI.
    pub(super) fn target_scheme(&self) -> Option<&'a str> {
        Some(self.target?.split_once(':')?.0)
    }

    /// The host of the target's URI; a `tel:` URI has none.
    pub(super) fn target_host(&self) -> Option<&'a str> {
        let uri = Uri::parse(self.target?.as_bytes())?;
        std::str::from_utf8(uri.host).ok().filter(|host| !host.is_empty())
    }

    /// Whether the host of the target's URI is an address and not a name.
    pub(super) fn target_is_address(&self) -> bool {
        self.target_host().is_some_and(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok())
    }
}

/// The first number in a header's value.
pub(super) fn number(value: &str) -> Option<u32> {
    value.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}
