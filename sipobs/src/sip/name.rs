//! Header names: case-insensitive, some with a compact form (RFC 3261 §7.3.1, §7.3.3).

/// Declares [`Name`], its canonical spelling, and the compact forms.
macro_rules! names {
    ($($variant:ident $text:literal $(or $compact:literal)?),+ $(,)?) => {
        /// A header name sipobs knows. Every other header is found by its spelling, see
        /// [`Message::other`](super::Message::other).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Name {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
            /// A name that is not in this list.
            Other,
        }

        impl Name {
            /// Its canonical spelling; `Other` for [`Name::Other`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other => "Other",
                }
            }
        }

        /// Every spelling, compact forms included.
        const SPELLINGS: &[(&str, Name)] = &[$(($text, Name::$variant), $(($compact, Name::$variant),)?)+];
    };
}

names! {
    Allow "Allow",
    AllowEvents "Allow-Events" or "u",
    Also "Also",
    Authorization "Authorization",
    CallId "Call-ID" or "i",
    CallInfo "Call-Info",
    Contact "Contact" or "m",
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding" or "e",
    ContentLength "Content-Length" or "l",
    ContentType "Content-Type" or "c",
    CSeq "CSeq",
    Date "Date",
    Diversion "Diversion",
    Event "Event" or "o",
    Expires "Expires",
    From "From" or "f",
    HistoryInfo "History-Info",
    Identity "Identity" or "y",
    Join "Join",
    MaxForwards "Max-Forwards",
    MinExpires "Min-Expires",
    MinSe "Min-SE",
    PAssertedIdentity "P-Asserted-Identity",
    PChargingVector "P-Charging-Vector",
    PPreferredIdentity "P-Preferred-Identity",
    Privacy "Privacy",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthorization "Proxy-Authorization",
    RAck "RAck",
    Reason "Reason",
    RecordRoute "Record-Route",
    ReferEventsAt "Refer-Events-At",
    ReferSub "Refer-Sub",
    ReferTo "Refer-To" or "r",
    ReferredBy "Referred-By" or "b",
    RemotePartyId "Remote-Party-ID",
    Replaces "Replaces",
    Require "Require",
    RetryAfter "Retry-After",
    Route "Route",
    RSeq "RSeq",
    Server "Server",
    SessionExpires "Session-Expires" or "x",
    SessionId "Session-ID",
    Subject "Subject" or "s",
    SubscriptionState "Subscription-State",
    Supported "Supported" or "k",
    TargetDialog "Target-Dialog",
    Timestamp "Timestamp",
    To "To" or "t",
    Unsupported "Unsupported",
    UserAgent "User-Agent",
    Via "Via" or "v",
    Warning "Warning",
    WwwAuthenticate "WWW-Authenticate",
    XCallId "X-Call-ID",
    XCid "X-CID",
    XTwilioAccountSid "X-Twilio-AccountSid",
    XTwilioCallSid "X-Twilio-CallSid",
    XTwilioError "X-Twilio-Error",
}

impl Name {
    /// The name spelt `token`, in any case or compact.
    pub fn of(token: &[u8]) -> Self {
        let Some(mut slot) = slot(token) else { return Self::Other };
        // The table is never full, so an empty slot ends the search.
        while let Some((text, name)) = TABLE[slot] {
            if text.as_bytes().eq_ignore_ascii_case(token) {
                return name;
            }
            slot = (slot + 1) % SLOTS;
        }
        Self::Other
    }
}

const SLOTS: usize = 512;

/// Spellings by [`slot`], filled at compile time, with linear probing.
static TABLE: [Option<(&str, Name)>; SLOTS] = {
    let mut table = [None; SLOTS];
    let mut i = 0;
    while i < SPELLINGS.len() {
        if let Some(mut slot) = slot(SPELLINGS[i].0.as_bytes()) {
            while table[slot].is_some() {
                slot = (slot + 1) % SLOTS;
            }
            table[slot] = Some(SPELLINGS[i]);
        }
        i += 1;
    }
    table
};

/// Where a spelling is looked up first: by its length, first, middle and last letter, whatever their case.
/// Names longer than any known one have no slot.
const fn slot(token: &[u8]) -> Option<usize> {
    const LONGEST: usize = 24;
    if token.is_empty() || token.len() > LONGEST {
        return None;
    }
    let first = (token[0] | 0x20) as usize;
    let middle = (token[token.len() / 2] | 0x20) as usize;
    let last = (token[token.len() - 1] | 0x20) as usize;
    Some((token.len() * 67 + first * 5 + middle * 31 + last * 17) % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found_in_any_case() {
        for &(text, name) in SPELLINGS {
            assert_eq!(Name::of(text.as_bytes()), name, "{text}");
            assert_eq!(Name::of(text.to_ascii_uppercase().as_bytes()), name, "{text}");
            assert_eq!(Name::of(text.to_ascii_lowercase().as_bytes()), name, "{text}");
        }
    }

    #[test]
    fn neighbours_are_not_taken_for_known_names() {
        for token in ["", "q", "Vi", "Viaa", "Call_ID", "Call-I\u{e9}", "Refer-Too", "C%6Fntact"] {
            assert_eq!(Name::of(token.as_bytes()), Name::Other, "{token}");
        }
    }
}
