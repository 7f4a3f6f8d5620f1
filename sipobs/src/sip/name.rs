//! Header names: case-insensitive, some with a compact form (RFC 3261 §7.3.1, §7.3.3).

use serde::{Deserialize, Serialize};

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
    /// Whether its value proves who somebody is: it is neither kept nor shown.
    pub(crate) const fn is_secret(self) -> bool {
        matches!(
            self,
            Self::Authorization
                | Self::ProxyAuthorization
                | Self::WwwAuthenticate
                | Self::ProxyAuthenticate
                | Self::Identity
        )
    }

    /// Those that may be spelt with `X-` before them.
    pub(super) const PERHAPS_EXTENSIONS: [Self; 6] = [
        Self::XCallId,
        Self::XCid,
        Self::XTwilioAccountSid,
        Self::XTwilioCallSid,
        Self::XTwilioError,
        Self::Other,
    ];

    /// How many there are.
    pub(super) const COUNT: usize = Self::Other as usize + 1;

    /// The name spelt `token`, in any case or compact.
    pub fn of(token: &[u8]) -> Self {
        find(digest(token), |known| known.text.as_bytes().eq_ignore_ascii_case(token))
    }

    /// The name that `line` begins with and the length of its spelling, if a colon follows at once, and it can be read
    /// without a look at each of its letters: as nearly all can.
    pub(super) fn leading(line: &[u8]) -> Option<(Self, usize)> {
        let head = u128::from_le_bytes(*line.first_chunk()?);
        let colons = head ^ each(b':');
        // The lowest bit that is left is in the first byte that is zero.
        let colon = colons.wrapping_sub(each(0x01)) & !colons & each(0x80);
        let len = colon.trailing_zeros() as usize / 8;
        let name = find(digest(line.get(..len)?), |known| head & known.kept == known.head);
        (name != Self::Other).then_some((name, len))
    }
}

/// A header's name that is told at run time, as it is spelt: read once, to be looked up in
/// many messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct HeaderName {
    pub(super) text: String,
    pub(super) name: Name,
    pub(super) digest: u8,
}

impl From<String> for HeaderName {
    fn from(text: String) -> Self {
        let (name, digest) = (Name::of(text.as_bytes()), digest(text.as_bytes()));
        Self { text, name, digest }
    }
}

impl HeaderName {
    /// As it is spelt where it was told.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The known name that it is a spelling of; else [`Name::Other`].
    pub const fn name(&self) -> Name {
        self.name
    }
}

impl From<&str> for HeaderName {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> Self {
        name.text
    }
}

/// Several such names, to be looked for all at once.
#[derive(Clone, Debug, Default)]
pub struct HeaderNames {
    pub(super) names: Vec<HeaderName>,
    /// Those that are known ones, with their places.
    pub(super) known: Vec<(usize, Name)>,
    /// Which digests names have that are not known ones: a bit for each.
    digests: [u64; 4],
}

impl HeaderNames {
    /// Whether a name that is not a known one may be among them.
    pub(super) const fn may_hold(&self, digest: u8) -> bool {
        self.digests[digest as usize / 64] & 1 << (digest % 64) != 0
    }
}

impl FromIterator<HeaderName> for HeaderNames {
    fn from_iter<T: IntoIterator<Item = HeaderName>>(names: T) -> Self {
        let mut all = Self { names: names.into_iter().collect(), ..Self::default() };
        for (at, name) in all.names.iter().enumerate() {
            match name.name {
                Name::Other => all.digests[usize::from(name.digest / 64)] |= 1 << (name.digest % 64),
                known => all.known.push((at, known)),
            }
        }
        all
    }
}

/// A byte that tells a spelling from most others: by its length, first, middle and last letter, whatever their case.
pub(super) const fn digest(token: &[u8]) -> u8 {
    let len = token.len();
    if len == 0 {
        return 0;
    }
    let [short, ..] = len.to_le_bytes();
    let (first, middle, last) = (token[0] | 0x20, token[len / 2] | 0x20, token[len - 1] | 0x20);
    // Factors for which no two known spellings share a byte.
    let sum = short.wrapping_mul(113).wrapping_add(first.wrapping_mul(251));
    sum.wrapping_add(middle.wrapping_mul(187)).wrapping_add(last.wrapping_mul(8))
}

/// The name of the spelling of this digest for which `same` holds.
fn find(digest: u8, same: impl Fn(&Known) -> bool) -> Name {
    let mut slot = digest;
    // Never full, so a free slot ends the search.
    while SLOTS[usize::from(slot)] != FREE {
        let known = &KNOWN[usize::from(SLOTS[usize::from(slot)])];
        if same(known) {
            return known.name;
        }
        slot = slot.wrapping_add(1);
    }
    Name::Other
}

/// A known spelling.
#[derive(Clone, Copy)]
struct Known {
    text: &'static str,
    name: Name,
    /// It and a colon in upper case, as the first of 16 bytes; all ones if it is longer.
    head: u128,
    /// What of a line's first 16 bytes has to be that, whatever their case; nothing if it is longer.
    kept: u128,
}

/// Every known spelling.
static KNOWN: [Known; SPELLINGS.len()] = {
    let mut all = [Known { text: "", name: Name::Other, head: 0, kept: 0 }; SPELLINGS.len()];
    let mut i = 0;
    while i < all.len() {
        let (text, name) = SPELLINGS[i];
        all[i] = Known { text, name, head: u128::MAX, kept: 0 };
        if text.len() < 16 {
            let (mut head, mut kept, mut at) = ([0; 16], [0; 16], 0);
            while at < text.len() {
                head[at] = text.as_bytes()[at].to_ascii_uppercase();
                kept[at] = if head[at].is_ascii_uppercase() { !0x20 } else { !0 };
                at += 1;
            }
            (head[at], kept[at]) = (b':', !0);
            (all[i].head, all[i].kept) = (u128::from_le_bytes(head), u128::from_le_bytes(kept));
        }
        i += 1;
    }
    all
};

const FREE: u8 = u8::MAX;

/// Where in [`KNOWN`] the spelling of a digest is, or after it those that would have the same slot.
static SLOTS: [u8; 256] = {
    assert!(SPELLINGS.len() < FREE as usize);
    let mut slots = [FREE; 256];
    let mut i = 0_u8;
    while (i as usize) < SPELLINGS.len() {
        let mut slot = digest(SPELLINGS[i as usize].0.as_bytes());
        while slots[slot as usize] != FREE {
            slot = slot.wrapping_add(1);
        }
        slots[slot as usize] = i;
        i += 1;
    }
    slots
};

/// Sixteen times this byte.
const fn each(byte: u8) -> u128 {
    u128::from_le_bytes([byte; 16])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a header line is called, found the slow way.
    fn called(line: &[u8]) -> Option<(Name, usize)> {
        let len = line.iter().position(|&byte| byte == b':')?;
        let same = |spelling: &&(&str, Name)| spelling.0.as_bytes().eq_ignore_ascii_case(&line[..len]);
        SPELLINGS.iter().find(same).map(|&(_, name)| (name, len))
    }

    fn check(name: &[u8]) {
        let line = [name, b": with a long value"].concat();
        let slow = called(&line);
        assert_eq!(Name::leading(&line), slow.filter(|&(_, len)| len < 16), "{line:?}");
        let slow = called(&[name, b":"].concat()).filter(|&(_, len)| len == name.len());
        assert_eq!(Name::of(name), slow.map_or(Name::Other, |(name, _)| name), "{name:?}");
    }

    #[test]
    fn every_spelling_is_found_in_any_case() {
        for &(text, name) in SPELLINGS {
            for text in [text.to_owned(), text.to_ascii_uppercase(), text.to_ascii_lowercase()] {
                assert_eq!(Name::of(text.as_bytes()), name, "{text}");
                check(text.as_bytes());
            }
        }
    }

    #[test]
    fn neighbours_are_not_taken_for_known_names() {
        for name in ["", "q", "Vi", "Viaa", "Call_ID", "Call-I\u{e9}", "Refer-Too", "C%6Fntact", "To ", " To"]
        {
            assert_eq!(Name::of(name.as_bytes()), Name::Other, "{name}");
            check(name.as_bytes());
        }
        for &(text, _) in SPELLINGS {
            for (at, byte) in (0..text.len()).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
                let mut name = text.as_bytes().to_vec();
                name[at] = byte;
                check(&name);
            }
        }
    }

    #[test]
    fn the_extensions_are_listed() {
        for (text, name) in SPELLINGS {
            assert_eq!(Name::PERHAPS_EXTENSIONS.contains(name), text.starts_with("X-"), "{text}");
        }
    }

    #[test]
    fn no_two_spellings_share_a_digest() {
        let digests: std::collections::BTreeSet<u8> =
            SPELLINGS.iter().map(|(text, _)| digest(text.as_bytes())).collect();
        assert_eq!(digests.len(), SPELLINGS.len());
    }
}
