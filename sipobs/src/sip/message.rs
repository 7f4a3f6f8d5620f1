//! One SIP message: its start line and an index over its headers (RFC 3261 §7).

use strum::VariantArray;

use super::defect::{Defects, defects};
use super::index::{Headers, line_end};
use super::text::{Split, is_token, number, trim, trim_end, word};
use super::{
    Event, HeaderName, HeaderNames, Join, Method, Name, NameAddr, ReasonHeader, Replaces, SubscriptionState,
    TargetDialog, Via, Warning,
};

/// Why bytes are not a SIP message. Never carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, VariantArray, thiserror::Error)]
pub enum ParseError {
    /// Nothing but line breaks: a keep-alive (RFC 5626 §3.5.1).
    #[error("empty")]
    Empty,
    /// The first line is neither a request line nor a status line.
    #[error("no SIP start line")]
    StartLine,
    /// The method of a request line is not a token.
    #[error("start line: the method is not a token")]
    Method,
    /// The status of a status line is not three digits from 100 to 699.
    #[error("start line: the status code is not from 100 to 699")]
    StatusCode,
}

impl ParseError {
    /// Every one of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// A short name for counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::StartLine => "start_line",
            Self::Method => "method",
            Self::StatusCode => "status_code",
        }
    }
}

/// A start line (RFC 3261 §7.1, §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// A request line.
    Request {
        /// The method.
        method: Method,
        /// The method as written.
        token: &'a [u8],
        /// The Request-URI, without white space around it.
        uri: &'a [u8],
    },
    /// A status line.
    Response {
        /// 100 to 699.
        status: u16,
        /// The reason phrase; may be empty, and is UTF-8 at best.
        reason: &'a [u8],
    },
}

/// A CSeq value (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CSeq {
    /// Its number.
    pub number: u32,
    /// Its method.
    pub method: Method,
}

/// One SIP message: an index over its bytes.
///
/// Values come raw: trimmed, but with the folds and escapes they have on the wire. Where a header that
/// must be single is repeated, the first one counts, and [`Message::defects`] tells.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    first_line: &'a [u8],
    start: Start<'a>,
    headers: Headers<'a>,
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    /// Indexes `bytes`, which hold one message; line breaks before it are skipped (RFC 3261 §7.5).
    ///
    /// Only the start line decides. A message with damaged headers is still a message; its
    /// [`Message::defects`] name what is wrong with it. Allocates only beyond 40 headers.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let lead = bytes.iter().take_while(|&&byte| matches!(byte, b'\r' | b'\n')).count();
        let bytes = &bytes[lead..];
        if bytes.is_empty() {
            return Err(ParseError::Empty);
        }
        let end = line_end(bytes, 0);
        let first_line = strip_line_break(&bytes[..end]);
        let start = Start::parse(first_line)?;
        let mut message = Self { bytes, first_line, start, headers: Headers::of(&bytes[end..]), rest: &[] };
        message.rest = message.headers.read();
        Ok(message)
    }

    /// Says where it ends, if other bytes followed it: so many from its start, headers and all.
    pub(crate) fn end_at(&mut self, end: usize) {
        let behind = self.bytes.len().saturating_sub(end).min(self.rest.len());
        self.bytes = &self.bytes[..self.bytes.len() - behind];
        self.rest = &self.rest[..self.rest.len() - behind];
    }

    /// The bytes it was made from, without line breaks before it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The start line, without its line break.
    pub fn first_line(&self) -> &'a [u8] {
        self.first_line
    }

    /// The start line, taken apart.
    pub fn start(&self) -> Start<'a> {
        self.start
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// The method of a request.
    pub fn method(&self) -> Option<Method> {
        match self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The Request-URI of a request.
    pub fn request_uri(&self) -> Option<&'a [u8]> {
        match self.start {
            Start::Request { uri, .. } => Some(uri),
            Start::Response { .. } => None,
        }
    }

    /// The status of a response.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(status),
        }
    }

    /// The reason phrase of a response.
    pub fn reason_phrase(&self) -> Option<&'a [u8]> {
        match self.start {
            Start::Request { .. } => None,
            Start::Response { reason, .. } => Some(reason),
        }
    }

    /// First value of a header; `None` if there is no such header.
    pub fn header(&self, name: Name) -> Option<&'a [u8]> {
        self.headers.named(name).next()
    }

    /// Value of every line of a header, in order.
    pub fn headers(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.headers.named(name)
    }

    /// Every value of a header that may hold a list: lines in order, each split at its commas, without the
    /// empty ones.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.headers(name).flat_map(|line| Split::new(line, b',')).filter(|value| !value.is_empty())
    }

    /// The first of [`Self::values`].
    fn first_value(&self, name: Name) -> Option<&'a [u8]> {
        self.headers(name).find_map(|line| Split::new(line, b',').find(|value| !value.is_empty()))
    }

    /// First value of the header spelt `name`, in any case. Finds known headers too, also compact ones.
    pub fn other(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.other(name)
    }

    /// First value of the header called `name`: what [`Self::other`] gives, without reading the name again.
    pub fn called(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.headers.called(name)
    }

    /// Every value of the headers called as one of `names`, with its place among these: one look at the message.
    pub fn among<'n>(&'n self, names: &'n HeaderNames) -> impl Iterator<Item = (usize, &'a [u8])> + 'n {
        self.headers.among(names)
    }

    /// Spellings of the headers that begin with `X-`, in any case: peers' own.
    pub fn extension_headers(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.headers.extensions()
    }

    /// Every header in order: its name, its spelling on the wire, its value.
    pub fn all_headers(&self) -> impl Iterator<Item = (Name, &'a [u8], &'a [u8])> + '_ {
        self.headers.all()
    }

    /// The Call-ID.
    pub fn call_id(&self) -> Option<&'a [u8]> {
        self.header(Name::CallId).filter(|id| !id.is_empty())
    }

    /// The CSeq; `None` if it is missing, or its number is not below 2³².
    ///
    /// RFC 3261 §8.1.1.5 wants it below 2³¹, but values beyond are in use.
    pub fn cseq(&self) -> Option<CSeq> {
        let (number, method) = self.cseq_parts()?;
        Some(CSeq { number, method: Method::of(method) })
    }

    /// The CSeq's number and its method as written.
    pub(super) fn cseq_parts(&self) -> Option<(u32, &'a [u8])> {
        let (digits, method) = word(self.header(Name::CSeq)?);
        is_token(method).then_some((number(digits)?, method))
    }

    /// The From.
    pub fn from(&self) -> Option<NameAddr<'a>> {
        NameAddr::parse(self.header(Name::From)?)
    }

    /// The To.
    pub fn to(&self) -> Option<NameAddr<'a>> {
        NameAddr::parse(self.header(Name::To)?)
    }

    /// The first Contact.
    pub fn contact(&self) -> Option<NameAddr<'a>> {
        NameAddr::parse(self.first_value(Name::Contact)?)
    }

    /// The Refer-To (RFC 3515 §2.1).
    pub fn refer_to(&self) -> Option<NameAddr<'a>> {
        NameAddr::parse(self.header(Name::ReferTo)?)
    }

    /// The Referred-By (RFC 3892).
    pub fn referred_by(&self) -> Option<NameAddr<'a>> {
        NameAddr::parse(self.header(Name::ReferredBy)?)
    }

    /// The Via of the sender of this hop.
    pub fn top_via(&self) -> Option<Via<'a>> {
        Via::parse(self.first_value(Name::Via)?)
    }

    /// The Via of the request's originator, as far as this hop knows.
    pub fn bottom_via(&self) -> Option<Via<'a>> {
        Via::parse(self.values(Name::Via).last()?)
    }

    /// The Replaces (RFC 3891).
    pub fn replaces(&self) -> Option<Replaces<'a>> {
        Replaces::parse(self.header(Name::Replaces)?)
    }

    /// The Join (RFC 3911).
    pub fn join(&self) -> Option<Join<'a>> {
        Join::parse(self.header(Name::Join)?)
    }

    /// The Target-Dialog (RFC 4538).
    pub fn target_dialog(&self) -> Option<TargetDialog<'a>> {
        TargetDialog::parse(self.header(Name::TargetDialog)?)
    }

    /// The Event (RFC 6665).
    pub fn event(&self) -> Option<Event<'a>> {
        Event::of(self)
    }

    /// The Subscription-State (RFC 6665).
    pub fn subscription_state(&self) -> Option<SubscriptionState<'a>> {
        SubscriptionState::parse(self.header(Name::SubscriptionState)?)
    }

    /// Every Reason (RFC 3326).
    pub fn reasons(&self) -> impl Iterator<Item = ReasonHeader<'a>> + '_ {
        self.values(Name::Reason).filter_map(ReasonHeader::parse)
    }

    /// Every Warning (RFC 3261 §20.43).
    pub fn warnings(&self) -> impl Iterator<Item = Warning<'a>> + '_ {
        self.values(Name::Warning).filter_map(Warning::parse)
    }

    /// The Content-Length; `None` if there is none, it is not a number, or several disagree.
    pub fn content_length(&self) -> Option<u64> {
        let mut lengths = self.headers(Name::ContentLength).map(number::<u64>);
        let first = lengths.next()??;
        lengths.all(|length| length == Some(first)).then_some(first)
    }

    /// The body: as long as Content-Length says, or all that is there (RFC 3261 §18.3).
    pub fn body(&self) -> &'a [u8] {
        let length = self.content_length().and_then(|length| usize::try_from(length).ok());
        length.and_then(|length| self.rest.get(..length)).unwrap_or(self.rest)
    }

    /// All that follows the empty line after the headers, whatever Content-Length says.
    pub fn after_headers(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether an empty line ended the headers. If not, the message was cut short.
    pub fn headers_ended(&self) -> bool {
        self.headers.ended
    }

    /// Lines among the headers that are none, and were skipped.
    pub fn junk_lines(&self) -> u16 {
        self.headers.junk
    }

    /// Whether it has more headers than are indexed: 1,024, or 64 KiB of them.
    pub fn headers_capped(&self) -> bool {
        self.headers.capped
    }

    /// What is wrong with it, by RFC 3261. Computed on demand.
    pub fn defects(&self) -> Defects {
        defects(self)
    }
}

impl<'a> Start<'a> {
    /// Takes a start line apart. White space beyond the single blanks of the grammar is tolerated, and any
    /// version: [`Message::defects`] names both.
    pub fn parse(line: &'a [u8]) -> Result<Self, ParseError> {
        if let Some(after) = after_version(line) {
            let (status, reason) = word(after);
            return match status {
                [b'1'..=b'6', _, _] => number(status)
                    .map(|status| Self::Response { status, reason })
                    .ok_or(ParseError::StatusCode),
                _ => Err(ParseError::StatusCode),
            };
        }
        let line = trim_end(line);
        let version = line.iter().rposition(|&byte| byte == b' ' || byte == b'\t').map(|at| at + 1);
        let version = version.ok_or(ParseError::StartLine)?;
        if after_version(&line[version..]) != Some(b"") {
            return Err(ParseError::StartLine);
        }
        let (token, uri) = word(&line[..version]);
        if uri.is_empty() {
            return Err(ParseError::StartLine);
        }
        if !is_token(token) || !line.starts_with(token) {
            return Err(ParseError::Method);
        }
        Ok(Self::Request { method: Method::of(token), token, uri: trim(uri) })
    }
}

/// What follows `SIP/digits.digits` in any case (RFC 3261 §7.1), up to which nothing but blanks may stand.
fn after_version(text: &[u8]) -> Option<&[u8]> {
    let (protocol, rest) = text.split_at_checked(4)?;
    if !protocol.eq_ignore_ascii_case(b"SIP/") {
        return None;
    }
    let major = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let minor = rest[major..].strip_prefix(b".")?;
    let after = minor.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ends = matches!(minor.get(after), None | Some(b' ' | b'\t'));
    (major > 0 && after > 0 && ends).then(|| &minor[after..])
}

fn strip_line_break(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
