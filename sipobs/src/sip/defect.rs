//! What is wrong with a message, by RFC 3261, as far as a passive observer may tell. RFC 4475 shows most of it.

use std::fmt;

use super::text::{Split, is_space, number};
use super::{Message, Name, NameAddr, Start, Via, Warning};

/// Declares [`Defect`] with its labels.
macro_rules! defects {
    ($($variant:ident $label:literal $doc:literal),+ $(,)?) => {
        /// One thing wrong with a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Defect {
            $(#[doc = $doc] $variant,)+
        }

        impl Defect {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// A short name for counters.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}

defects! {
    Version "version" "The version is not 2.0 (RFC 3261 §7.1).",
    StartLineSpace "start_line_space" "The start line has blanks beyond the single ones between its parts (§7.1).",
    RequestUri "request_uri" "The Request-URI has blanks, angle brackets or header fields (§7.1, §19.1.1).",
    Missing "missing" "No Via, From, To, Call-ID or CSeq (§8.1.1).",
    Repeated "repeated" "A header that must be single is repeated (§7.3.1).",
    CSeq "cseq" "The CSeq is damaged, or its number is not below 2³¹ (§8.1.1.5).",
    CSeqMethod "cseq_method" "The CSeq's method is not that of the request (§8.1.1.5).",
    Via "via" "A Via is damaged (§20.42).",
    Address "address" "A From, To, Contact, Refer-To or Referred-By is damaged (§20.10).",
    Scalar "scalar" "A number is out of its header's range.",
    Date "date" "The Date is not in GMT (§20.17).",
    ContentLength "content_length" "The Content-Length is no number, or several disagree (§20.14).",
    BodyShort "body_short" "The body is shorter than Content-Length says (§18.3).",
    Junk "junk" "Lines among the headers are none.",
    Unended "unended" "No empty line ends the headers.",
    Capped "capped" "There are more headers than are indexed.",
}

/// A set of [`Defect`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Defects(u32);

impl Defects {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it holds `defect`.
    pub fn contains(self, defect: Defect) -> bool {
        self.0 & (1 << defect as u32) != 0
    }

    /// Its defects, in order of declaration.
    pub fn iter(self) -> impl Iterator<Item = Defect> {
        Defect::ALL.iter().copied().filter(move |&defect| self.contains(defect))
    }

    fn set(&mut self, defect: Defect, present: bool) {
        self.0 |= u32::from(present) << defect as u32;
    }
}

impl fmt::Debug for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

pub(super) fn defects(message: &Message<'_>) -> Defects {
    let mut found = Defects::default();
    start_line(message, &mut found);
    for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
        found.set(Defect::Missing, message.header(name).is_none_or(<[u8]>::is_empty));
    }
    for name in [Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards, Name::ReferTo] {
        found.set(Defect::Repeated, message.headers(name).nth(1).is_some());
    }
    if message.header(Name::CSeq).is_some() {
        match message.cseq_parts() {
            Some((number, method)) => {
                found.set(Defect::CSeq, number >= 1 << 31);
                let wrong = matches!(message.start(), Start::Request { token, .. } if token != method);
                found.set(Defect::CSeqMethod, wrong);
            }
            None => found.set(Defect::CSeq, true),
        }
    }
    let mut vias = message.headers(Name::Via).flat_map(|line| Split::new(line, b','));
    found.set(Defect::Via, vias.any(|via| Via::parse(via).is_none()));
    for name in [Name::From, Name::To, Name::ReferTo, Name::ReferredBy] {
        found.set(Defect::Address, message.headers(name).any(|value| !is_sound(value)));
    }
    let mut contacts = message.headers(Name::Contact).flat_map(|line| Split::new(line, b','));
    found.set(Defect::Address, contacts.any(|contact| !is_sound(contact)));
    scalars(message, &mut found);
    let zone = message.header(Name::Date).map(|date| date.ends_with(b"GMT"));
    found.set(Defect::Date, zone == Some(false));
    let length = message.content_length();
    found.set(Defect::ContentLength, length.is_none() && message.header(Name::ContentLength).is_some());
    let there = message.after_headers().len();
    found.set(Defect::BodyShort, length.is_some_and(|length| length > there as u64));
    found.set(Defect::Junk, message.junk_lines() > 0);
    found.set(Defect::Unended, !message.headers_ended());
    found.set(Defect::Capped, message.headers_capped());
    found
}

fn start_line(message: &Message<'_>, found: &mut Defects) {
    let line = message.first_line();
    match message.start() {
        Start::Request { token, uri, .. } => {
            found.set(Defect::Version, !line.trim_ascii_end().ends_with(b"SIP/2.0"));
            found.set(Defect::StartLineSpace, line.len() != token.len() + uri.len() + " SIP/2.0 ".len());
            let odd = |&byte: &u8| is_space(byte) || byte == b'<' || byte == b'>';
            let fields = message.request_uri().and_then(super::Uri::parse);
            let fields = fields.is_some_and(|uri| !uri.headers().is_empty());
            found.set(Defect::RequestUri, fields || uri.iter().any(odd));
        }
        Start::Response { .. } => {
            found.set(Defect::Version, !line.starts_with(b"SIP/2.0"));
            // A blank belongs after the status, also without a phrase; many leave it out, so it may miss.
            found.set(Defect::StartLineSpace, line.get("SIP/2.0 ".len()).is_some_and(|&byte| is_space(byte)));
        }
    }
}

/// Whether an address keeps to the grammar, which [`NameAddr::parse`] does not insist on.
fn is_sound(value: &[u8]) -> bool {
    let Some(address) = NameAddr::parse(value) else { return false };
    let quoted = value.starts_with(b"\"");
    let bracketed = value.contains(&b'<') && value.contains(&b'>') && !value.starts_with(address.uri);
    let display = address.display.unwrap_or_default();
    let display = quoted || display.split(|&byte| is_space(byte)).all(is_word);
    let uri = match bracketed {
        // `NameAddr` has trimmed the URI: blanks beside the brackets are seen in the raw value.
        true => {
            let inner = [b"<", address.uri, b">"].concat();
            memchr::memmem::find(value, &inner).is_some()
        }
        // Outside brackets a '?' or ',' would be the header's (§20.10).
        false => !address.uri.iter().any(|byte| matches!(byte, b'?' | b',')),
    };
    let blanks = address.uri.iter().any(|&byte| is_space(byte));
    let params = address.params().text();
    let params = params.is_empty() || Split::new(params, b';').skip(1).all(|param| !param.is_empty());
    display && uri && !blanks && params
}

fn is_word(word: &[u8]) -> bool {
    word.is_empty() || super::text::is_token(word)
}

fn scalars(message: &Message<'_>, found: &mut Defects) {
    let first = |name| message.header(name).map(|value| super::text::word(value).0);
    let small =
        |name, most: u32| first(name).is_some_and(|value| number(value).is_none_or(|n: u32| n > most));
    found.set(Defect::Scalar, small(Name::MaxForwards, 255));
    found.set(Defect::Scalar, small(Name::Expires, u32::MAX));
    // Retry-After may go on with a comment or parameters (§20.33).
    let retry = first(Name::RetryAfter).map(|value| {
        let end = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
        number::<u32>(&value[..end]).is_none()
    });
    found.set(Defect::Scalar, retry == Some(true));
    found.set(Defect::Scalar, message.values(Name::Warning).any(|value| Warning::parse(value).is_none()));
}
