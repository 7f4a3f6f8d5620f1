//! Finds URIs, users and numbers in texts. Linear in their length.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::Privacy;

/// So many digits in a row are taken for somebody's number, whoever's.
const NUMBER: usize = 7;

/// Digits of a party that are looked at; E.164 has 15 at most.
const MAX_DIGITS: usize = 32;

/// The numbers of the parties to an output.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whole numbers of five digits and more; shorter ones are extensions, and stay.
    numbers: BTreeSet<String>,
    /// Every seven digits in a row of any of them.
    parts: BTreeSet<String>,
}

impl Known {
    /// The numbers among `users` and in `uris`.
    pub(super) fn of(users: &[String], uris: &[&str]) -> Self {
        let mut known = Self::default();
        for text in users.iter().map(String::as_str).chain(uris.iter().copied()) {
            let user = match find_scheme(text) {
                Some((_, user)) => Parts::of(&text[user..]).user,
                None => text.rsplit_once('@').map_or(text, |(user, _)| user),
            };
            if let Some(mut digits) = number_of(user) {
                digits.truncate(MAX_DIGITS);
                known.parts.extend((NUMBER..=digits.len()).map(|end| digits[end - NUMBER..end].to_owned()));
                if digits.len() > 4 {
                    known.numbers.insert(digits);
                }
            }
        }
        known
    }

    fn has(&self, digits: &str) -> bool {
        self.numbers.contains(digits)
            || (NUMBER..=digits.len()).any(|end| self.parts.contains(&digits[end - NUMBER..end]))
    }
}

impl Privacy {
    /// A URI, or a bare user or number.
    pub(super) fn address(&self, text: &str, known: &Known) -> String {
        if find_scheme(text).is_none() && !text.contains([':', '@', ' ']) {
            return self.user(text);
        }
        self.sentence(text, known)
    }

    /// Free text, start lines among it.
    pub(super) fn sentence(&self, text: &str, known: &Known) -> String {
        self.numbers(&self.users(text), known)
    }

    /// A Call-ID: only digits that are a party's number.
    pub(super) fn key(&self, text: &str, known: &Known) -> String {
        let mut out = String::with_capacity(text.len());
        for (part, digits) in runs(text) {
            if digits && known.has(part) { out.push_str(&self.number(part)) } else { out.push_str(part) }
        }
        out
    }

    /// Masks the users of URIs and of `user@host`.
    fn users(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let ends = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"');
        for token in text.split_inclusive(ends) {
            let (word, end) = match token.chars().next_back().filter(|c| ends(*c)) {
                Some(end) => (&token[..token.len() - end.len_utf8()], Some(end)),
                None => (token, None),
            };
            if let Some((scheme, rest)) = find_scheme(word) {
                out.push_str(&word[..rest]);
                self.uri(scheme, &word[rest..], &mut out);
            } else if let Some((before, host)) = word.rsplit_once('@') {
                let from = before.rfind(['(', '\'', '=', ':', ',']).map_or(0, |at| at + 1);
                out.push_str(&before[..from]);
                out.push_str(&self.user(&before[from..]));
                out.push('@');
                out.push_str(host);
            } else {
                out.push_str(word);
            }
            out.extend(end);
        }
        out
    }

    /// Masks what follows the scheme of a URI.
    fn uri(&self, scheme: Scheme, rest: &str, out: &mut String) {
        let parts = Parts::of(rest);
        if scheme == Scheme::Tel {
            // RFC 3966: the number, then parameters.
            let (number, parameters) = rest.find(';').map_or((rest, ""), |at| rest.split_at(at));
            out.push_str(&self.user(number));
            out.push_str(parameters);
            return;
        }
        if parts.has_user {
            out.push_str(&self.user(parts.user));
            out.push('@');
        }
        out.push_str(parts.host);
        if parts.has_headers {
            out.push_str("?***");
        }
    }

    /// The user of a URI. Its own parameters (`;phone-context=…`) go with it.
    fn user(&self, user: &str) -> String {
        let user = user.split(';').next().unwrap_or_default();
        match number_of(user) {
            Some(digits) => self.number_in(user, &digits),
            None if user.is_empty() => String::new(),
            None => self.name(user),
        }
    }

    /// A number as it stands in `text`, with its `+` and separators where nothing is masked.
    fn number_in(&self, text: &str, digits: &str) -> String {
        let masked = self.number(digits);
        if masked == digits { text.to_owned() } else { masked }
    }

    /// Masks what reads like a number, and the parties' own numbers.
    fn numbers(&self, text: &str, known: &Known) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = None;
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit() || c == '+') {
            let (skipped, number) = rest.split_at(at);
            out.push_str(skipped);
            before = skipped.chars().next_back().or(before);
            let len = number_len(number, before);
            let (number, after) = number.split_at(len);
            let digits: String = number.chars().filter(char::is_ascii_digit).collect();
            let is_number = (digits.len() >= NUMBER && !is_address(number)) || known.has(&digits);
            if is_number {
                out.push_str(&self.number(&digits));
            } else {
                out.push_str(number);
            }
            before = number.chars().next_back();
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Sip,
    Tel,
}

/// The first `sip:`, `sips:` or `tel:` in `word` that no letter or digit goes before, and where what follows
/// it begins.
fn find_scheme(word: &str) -> Option<(Scheme, usize)> {
    word.match_indices(':').find_map(|(colon, _)| {
        let before = word.as_bytes().get(..colon)?;
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
struct Parts<'a> {
    user: &'a str,
    has_user: bool,
    /// With parameters.
    host: &'a str,
    has_headers: bool,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        // A user may hold a question mark: whatever goes before the last at sign is better taken for a user
        // than shown.
        let (user, has_user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (user, true, host),
            None => (rest.split([';', '?']).next().unwrap_or_default(), false, rest),
        };
        let (host, has_headers) = host.split_once('?').map_or((host, false), |(host, _)| (host, true));
        let user = if has_user { user.split(':').next().unwrap_or_default() } else { user };
        Self { user, has_user, host, has_headers }
    }
}

/// The digits of a user that is a number: `+`, `%2B` and visual separators (RFC 3966 §5.1.1) aside.
fn number_of(user: &str) -> Option<String> {
    let user = user.split(';').next()?;
    let digits =
        user.strip_prefix('+').or_else(|| user.strip_prefix("%2B")).or_else(|| user.strip_prefix("%2b"));
    let mut number = String::new();
    for c in digits.unwrap_or(user).chars() {
        match c {
            '0'..='9' => number.push(c),
            '-' | '.' | '(' | ')' | ' ' => {}
            _ => return None,
        }
    }
    (!number.is_empty()).then_some(number)
}

/// How much of `text`, which begins with a digit or `+`, is one number. Separators count only where a word
/// begins (a host such as `ip-10-0-123-45` is none), and spaces only after `+`.
fn number_len(text: &str, before: Option<char>) -> usize {
    let starts =
        before.is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '\'' | '"' | '<' | '=' | ':' | ','));
    let plus = text.starts_with('+');
    let separator = |at: usize, b: u8| match b {
        b'-' | b'.' | b'(' | b')' => starts || plus,
        b' ' => plus || (starts && text.as_bytes()[..at].ends_with(b")")),
        _ => false,
    };
    let mut len = usize::from(plus);
    let mut separators = 0;
    for (at, byte) in text.bytes().enumerate().skip(len) {
        if byte.is_ascii_digit() {
            (len, separators) = (at + 1, 0);
        } else if separator(at, byte) && separators < 2 {
            separators += 1;
        } else {
            break;
        }
    }
    len
}

/// `10.77.0.11`: digits and dots, but nobody's number.
fn is_address(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok()
}

/// `text` as runs of digits (true) and of everything else.
fn runs(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let digits = rest.chars().next()?.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        Some((run, digits))
    })
}
