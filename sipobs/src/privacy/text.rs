//! Masks URIs, users, numbers and credentials in texts. Linear in their length.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr_iter;

use super::normalize::{is_separator, plain};
use super::number::{Cursor, Digits, NUMBER, Number};
use super::party_numbers::{Known, SHORTEST};
use super::secret::{DIGEST, names_secret, secrets};
use super::{Privacy, is_hashed};
use crate::work;

/// Separators that may stand between two digits of one number: `(0) - ` is four.
pub(super) const GAP: usize = 4;

/// In a Call-ID random digits stand beside a party's; what is one number there is written closely.
const GAP_IN_KEY: usize = 1;

/// The most digits of a number that are shown.
const MOST_SHOWN: usize = 4;

/// How often a text is read again. Twice is more than is ever needed but by texts made to need it.
const ROUNDS: usize = 8;

/// A stretch of a text that something else is shown for.
#[derive(Debug)]
pub(super) struct Hidden {
    pub(super) bytes: Range<usize>,
    pub(super) shown: String,
    /// It is a number, and may be part of a longer one.
    pub(super) number: bool,
}

/// What is shown for the headers of a URI.
pub(super) const HEADERS: &str = "?***";

impl Privacy {
    /// A URI, or a bare user or number.
    pub(super) fn address<'a>(&self, text: &'a str, known: &Known) -> Cow<'a, str> {
        if find_scheme(text).is_none() && !text.contains([':', '@', ' ']) {
            return self.user(text).into();
        }
        self.sentence(text, known)
    }

    /// Free text, start lines among it.
    pub(super) fn sentence<'a>(&self, text: &'a str, known: &Known) -> Cow<'a, str> {
        if holds_nothing(text, known) {
            return text.into();
        }
        let mut masked = self.masked(text, known);
        if masked == text {
            return text.into();
        }
        // A number that is masked may bring together what stood apart (`tel:555 1234567`), and be read as
        // another user then.
        for _ in 0..ROUNDS {
            let again = self.masked(&masked, known);
            if again == masked {
                break;
            }
            masked = again;
        }
        masked.into()
    }

    fn masked(&self, text: &str, known: &Known) -> String {
        let hidden = self.hidden(text);
        let mut out = String::with_capacity(text.len());
        let mut place = Cursor::start_of(text);
        let mut next = 0;
        while place.at < text.len() {
            while hidden.get(next).is_some_and(|hidden| hidden.bytes.start < place.at) {
                next += 1;
            }
            let ahead = hidden.get(next).map_or(text.len(), |hidden| hidden.bytes.start);
            out.push_str(place.take_idle(ahead));
            let here = hidden.get(next).filter(|hidden| hidden.bytes.start == place.at);
            let number = match here {
                Some(hidden) if !hidden.number => None,
                _ => place.number(GAP, known, |gap| {
                    let ahead = hidden[next..].iter().skip_while(|hidden| hidden.bytes.start < gap.start);
                    ahead.take_while(|hidden| hidden.bytes.start < gap.end).any(|hidden| !hidden.number)
                }),
            };
            match (number, here) {
                (Some(number), Some(hidden))
                    if hidden.shown.starts_with("***.") && number.end.at <= hidden.bytes.end =>
                {
                    out.push_str(&hidden.shown);
                    place.jump_to(hidden.bytes.end);
                }
                (Some(number), _) if number.digits.len() >= NUMBER => {
                    out.push_str(&self.number(&number.digits));
                    // The parameters of a user go with it.
                    let users = hidden[next..].iter().map(|hidden| &hidden.bytes);
                    let users = users.take_while(|user| user.start < number.end.at);
                    place.jump_to(users.map(|user| user.end).fold(number.end.at, usize::max));
                }
                (_, Some(hidden)) => {
                    out.push_str(&hidden.shown);
                    place.jump_to(hidden.bytes.end);
                }
                (Some(mut number), None) => {
                    // A user further on is masked as one.
                    let end = hidden.get(next).map_or(text.len(), |hidden| hidden.bytes.start);
                    number.groups.retain(|group| group.bytes.end <= end);
                    self.parties_in(&number, known, &mut place, &mut out);
                }
                (None, None) => {
                    let fixed = place.fixed(known, 0);
                    out.push_str(if fixed > 0 { place.take_to(place.at + fixed) } else { place.take() });
                }
            }
        }
        out
    }

    /// A Call-ID: only digits that are a party's number.
    pub(super) fn key<'a>(&self, text: &'a str, known: &Known) -> Cow<'a, str> {
        if known.may_be_in(text) { self.read_key(text, known).into() } else { text.into() }
    }

    /// As [`Self::key`], without a look whether there is such a number.
    pub(super) fn read_key(&self, text: &str, known: &Known) -> String {
        let mut out = String::with_capacity(text.len());
        let mut place = Cursor::start_of(text);
        while place.at < text.len() {
            let begins = plain(place.rest()).is_some_and(|(c, _)| c.is_ascii_digit());
            match place.number(GAP_IN_KEY, known, |_| false).filter(|_| begins) {
                Some(number) => self.parties_in(&number, known, &mut place, &mut out),
                None => {
                    let fixed = place.fixed(known, 0);
                    out.push_str(if fixed > 0 { place.take_to(place.at + fixed) } else { place.take() });
                }
            }
        }
        out
    }

    /// Masks the parties' numbers in `number`, to the end of its last group, and nothing else.
    fn parties_in<'a>(&self, number: &Number<'a>, known: &Known, place: &mut Cursor<'a>, out: &mut String) {
        let groups = &number.groups;
        for found in known.within(number) {
            if let Some([first, .., last] | [first @ last]) = groups.get(found) {
                out.push_str(place.take_to(first.bytes.start));
                out.push_str(&self.number(&number.digits[first.digits.start..last.digits.end]));
                place.jump_to(last.bytes.end);
            }
        }
        out.push_str(match groups.last() {
            Some(last) => place.take_to(last.bytes.end),
            None => place.take(),
        });
    }

    /// What is hidden in `text` whatever digits stand around it: users, and credentials. In order, none within
    /// another.
    pub(super) fn hidden(&self, text: &str) -> Vec<Hidden> {
        let mut all = self.users(text);
        let secret = |bytes| Hidden { bytes, shown: "***".to_owned(), number: false };
        all.extend(secrets(text).into_iter().map(secret));
        all.sort_by_key(|hidden| (hidden.bytes.start, std::cmp::Reverse(hidden.bytes.end)));
        all.dedup_by(|next, last| {
            let overlaps = next.bytes.start < last.bytes.end;
            if overlaps && next.bytes.end > last.bytes.end {
                last.bytes.end = next.bytes.end;
                last.number = false;
            }
            overlaps
        });
        all
    }

    /// The users of URIs and of `user@host`, and the headers of URIs.
    fn users(&self, text: &str) -> Vec<Hidden> {
        let mut found = Vec::new();
        let ends = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"');
        let mut at = 0;
        // What follows the scheme of a URI that has no user yet. A fold within a URI is a blank in it.
        let mut userless: Option<(&str, usize)> = None;
        for word in text.split(ends) {
            work::count(word.len());
            let mut hide = |user: &str, whole: &str, from: usize| {
                if !whole.is_empty() {
                    let bytes = from..from + whole.len();
                    found.push(Hidden { bytes, shown: self.user(user), number: number_of(whole).is_some() });
                }
            };
            if let Some((user, from)) = userless.filter(|_| word.starts_with('@')) {
                hide(user, user, from);
            }
            if !word.is_empty() {
                userless = None;
            }
            if let Some((scheme, from)) = find_scheme(word) {
                let rest = &word[from..];
                let parts = Parts::of(rest);
                match scheme {
                    // RFC 3966: the number, then parameters.
                    Scheme::Tel => {
                        let number = rest.split(';').next().unwrap_or_default();
                        hide(number, number, at + from);
                    }
                    Scheme::Sip => {
                        let host = rest.len() - parts.host_len;
                        if let Some(number) = parts.scheme_within() {
                            // A URI in place of a user is somebody's fault.
                            let from = at + from + (rest.len() - parts.host_len - 1 - number.len());
                            hide(number, number, from);
                        } else if parts.has_user {
                            hide(parts.user, &rest[..host - 1], at + from);
                        } else if rest.ends_with('…') {
                            // It was cut, perhaps before its at sign.
                            hide(parts.user.split(':').next().unwrap_or_default(), rest, at + from);
                        } else if !parts.user.is_empty() {
                            userless = Some((parts.user, at + from));
                        }
                        if let Some(headers) = parts.headers {
                            let bytes = at + from + host + headers..at + word.len();
                            found.push(Hidden { bytes, shown: HEADERS.to_owned(), number: false });
                        }
                    }
                }
            } else if let Some((start, login)) = login(word) {
                hide(login.split(':').next().unwrap_or_default(), login, at + start);
            } else if let Some((before, _)) = word.rsplit_once('@') {
                let from = before.rfind(['(', '\'', '=', ':', ',']).map_or(0, |at| at + 1);
                hide(&before[from..], &before[from..], at + from);
            }
            at += word.len();
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
        found
    }

    /// The user of a URI. Its own parameters (`;phone-context=…`) go with it.
    pub(super) fn user(&self, user: &str) -> String {
        let user = user.split(';').next().unwrap_or_default();
        match number_of(user) {
            Some(digits) => {
                // With its separators where nothing is masked.
                let masked = self.number(&digits);
                match masked == *digits {
                    true => user.to_owned(),
                    false if user.contains('.') => dotted(user, masked),
                    false => masked,
                }
            }
            None if user.is_empty() || is_dotted(user) => user.to_owned(),
            None => self.name(user),
        }
    }
}

/// A number's dots stay where they were: some dial them. `masked` shows the digits of its last part only.
fn dotted(user: &str, masked: String) -> String {
    let dots = user.matches('.').count();
    let last = user.rsplit('.').next().unwrap_or_default().bytes().filter(u8::is_ascii_digit).count();
    match masked.strip_prefix("***") {
        Some(shown) => format!("{}***{}", "***.".repeat(dots), &shown[shown.len().saturating_sub(last)..]),
        None => masked,
    }
}

/// Whether this is what [`dotted`] gave.
fn is_dotted(user: &str) -> bool {
    let last = user.trim_start_matches("***.");
    let shown = last.strip_prefix("***").filter(|_| last.len() < user.len());
    shown.is_some_and(|shown| shown.len() <= MOST_SHOWN && shown.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Name and password before the host of a URL, and where they begin.
fn login(word: &str) -> Option<(usize, &str)> {
    let from = word.find("://")? + 3;
    let (login, _) = word[from..].rsplit_once('@')?;
    (!login.contains('/')).then_some((from, login))
}

/// Whether there is nothing to hide in `text`, as far as a look at each of its bytes tells: in most of our own sentences, and
/// in most answers' first lines.
fn holds_nothing(text: &str, known: &Known) -> bool {
    work::count(text.len());
    let (mut digits, mut hex, mut signs) = (0, 0, false);
    for byte in text.bytes() {
        if !byte.is_ascii() || matches!(byte, b'%' | b'@') {
            return false;
        }
        signs |= matches!(byte, b':' | b'=');
        digits += usize::from(byte.is_ascii_digit());
        hex = if byte.is_ascii_hexdigit() { hex + 1 } else { 0 };
        if digits >= NUMBER || hex >= DIGEST {
            return false;
        }
    }
    let names_nobody = !signs || find_scheme(text).is_none() && secrets(text).is_empty();
    names_nobody && (digits < SHORTEST || !known.may_be_in(text)) && !names_secret(text)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Sip,
    Tel,
}

/// The first `sip:`, `sips:` or `tel:` in `word` that no letter or digit goes before, and where what follows
/// it begins.
pub(super) fn find_scheme(word: &str) -> Option<(Scheme, usize)> {
    memchr_iter(b':', word.as_bytes()).find_map(|colon| {
        let before = &word.as_bytes()[..colon];
        [("sips", Scheme::Sip), ("sip", Scheme::Sip), ("tel", Scheme::Tel)].into_iter().find_map(
            |(name, scheme)| {
                let from = before.len().checked_sub(name.len())?;
                let bounded = from == 0 || !before[from - 1].is_ascii_alphanumeric();
                (bounded && before[from..].eq_ignore_ascii_case(name.as_bytes()))
                    .then_some((scheme, colon + 1))
            },
        )
    })
}

/// What follows `sip:`, taken apart: `user:password@host;parameters?headers`.
pub(super) struct Parts<'a> {
    pub(super) user: &'a str,
    /// All that goes before the at sign.
    login: &'a str,
    has_user: bool,
    /// Of the host with all that follows it.
    host_len: usize,
    /// Where the headers begin in that.
    headers: Option<usize>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(rest: &'a str) -> Self {
        // A user may hold a question mark: whatever goes before the last at sign is better taken for a user
        // than shown.
        let (user, has_user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (user, true, host),
            None => (rest.split([';', '?']).next().unwrap_or_default(), false, rest),
        };
        let login = user;
        let user = if has_user { user.split(':').next().unwrap_or_default() } else { user };
        Self { user, login, has_user, host_len: host.len(), headers: host.find('?') }
    }

    /// The number behind a second scheme, in `tel:+15551234567@host`.
    fn scheme_within(&self) -> Option<&'a str> {
        let names = ["tel", "sip", "sips"].into_iter().any(|scheme| self.user.eq_ignore_ascii_case(scheme));
        let number =
            self.login.split_once(':').map(|(_, number)| number).filter(|_| names && self.has_user)?;
        let is_masked = number.starts_with("***") || is_hashed(number);
        let is_number = number_of(number).is_some_and(|digits| digits.len() >= NUMBER);
        (is_number || is_masked).then_some(number)
    }
}

/// The digits of a user that is a number: its `+` and visual separators (RFC 3966 §5.1.1) aside.
pub(super) fn number_of(user: &str) -> Option<Digits> {
    let mut rest = user;
    let mut digits = Digits::default();
    let mut first = true;
    while let Some((c, len)) = plain(rest).filter(|_| !rest.starts_with(';')) {
        match c {
            '0'..='9' => digits.push(c),
            '+' if first => {}
            c if is_separator(c) => {}
            _ => return None,
        }
        (first, rest) = (false, &rest[len..]);
    }
    (!digits.is_empty()).then_some(digits)
}
