//! Finds credentials in texts: whoever answers may quote what it was sent. Linear in the texts' length.

use std::ops::Range;

use crate::work;

/// What a name that ends so is given is secret.
const NAMES: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "_pin",
    "-pin",
];

/// A header with this in its name proves who somebody is, or asks for it.
const HEADERS: [&str; 6] = ["auth", "cookie", "credential", "jwt", "session-key", "sessionkey"];

/// Names that are too short to be the end of another.
const SHORT_NAMES: [&str; 4] = ["pw", "pwd", "pass", "pin"];

/// Names that a secret may follow without a sign between.
const WORDS: [&str; 7] = ["password", "passwd", "passphrase", "passcode", "pw", "pwd", "pass"];

/// What follows those where they are spoken of.
const SPOKEN: [&str; 38] = [
    "a",
    "again",
    "and",
    "are",
    "as",
    "at",
    "by",
    "check",
    "does",
    "expired",
    "failed",
    "failure",
    "for",
    "from",
    "has",
    "incorrect",
    "in",
    "invalid",
    "is",
    "it",
    "mismatch",
    "missing",
    "must",
    "needed",
    "not",
    "of",
    "on",
    "or",
    "over",
    "please",
    "required",
    "the",
    "through",
    "thru",
    "to",
    "too",
    "was",
    "wrong",
];

/// Hexadecimal digits that are no word and no number: a digest's response, unquoted.
pub(super) const DIGEST: usize = 16;

/// What may follow `Basic` or `Bearer` where they are no schemes, "Bearer capability not authorized" for one.
const ORDINARY: [&str; 24] = [
    "access",
    "account",
    "and",
    "auth",
    "authentication",
    "authorization",
    "call",
    "calls",
    "capabilities",
    "capability",
    "channel",
    "credentials",
    "is",
    "missing",
    "not",
    "or",
    "plan",
    "rate",
    "required",
    "scheme",
    "service",
    "services",
    "token",
    "was",
];

/// Where the values of credentials stand in `text`, in order.
pub(super) fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(before) = text.as_bytes()[at..].iter().position(|&byte| is_name_byte(byte)) {
        let from = at + before;
        let name = name(&text[from..]);
        work::count(from + name.len() - at);
        at = from + name.len();
        if !may_be_secret(name) {
            continue;
        }
        if let Some(value) = value_of(name, text, at).filter(|value| !value.is_empty()) {
            work::count(value.end - at);
            at = value.end;
            found.push(value);
        }
    }
    found
}

/// Whether a name ends as one of those does that [`value_of`] looks for: most words don't, and need not be compared with each.
fn may_be_secret(name: &str) -> bool {
    let [.., before, last] = *name.as_bytes() else { return false };
    matches!(
        [before.to_ascii_lowercase(), last.to_ascii_lowercase()],
        [b'r' | b'w', b'd'] // password, passwd, pwd
            | [b's' | b'd' | b'c', b'e'] // passphrase, response, passcode, nonce
            | [b'e' | b's', b't'] // secret, digest
            | [b'e' | b'i' | b'o', b'n'] // token, pin, authorization
            | [b'e', b'y'] // api key
            | [b'p', b'w']
            | [b's', b's'] // pass
            | [b'i', b'c'] // basic
            | [b'e', b'r'] // bearer
    )
}

/// Whether `text` names something whose credentials may follow it without a sign between.
pub(super) fn names_secret(text: &str) -> bool {
    text.split(|c| !is_name_char(c)).any(|name| {
        let mut known = ["digest", "basic", "bearer", "pin"].into_iter().chain(WORDS);
        known.any(|known| name.eq_ignore_ascii_case(known))
    })
}

/// Whether all of a header's value is secret, by the header's name.
pub(super) fn is_secret_of(header: &str, value: &str) -> bool {
    let named = header.to_ascii_lowercase();
    if HEADERS.into_iter().any(|known| named.contains(known)) {
        return true;
    }
    let secrets = secrets(&format!("{header}={value}"));
    secrets.first().is_some_and(|secret| secret.start <= header.len() + 1)
}

/// The value that `name`, which ends at `at`, is given.
fn value_of(name: &str, text: &str, at: usize) -> Option<Range<usize>> {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let ends_in = |known: &str| {
        let from = name.len().checked_sub(known.len());
        from.is_some_and(|from| name[from..].eq_ignore_ascii_case(known))
    };
    if ends_in("authorization") {
        // A header's value goes to the end of its line, which is the text's.
        return Some(given(text, at)?..text.len());
    }
    let follows = || Some(skip_blanks(text, at)).filter(|next| *next > at);
    if NAMES.into_iter().any(ends_in) || SHORT_NAMES.into_iter().any(is) {
        return match given(text, at) {
            Some(from) => Some(value(text, from)),
            None if WORDS.into_iter().any(is) => spoken(text, follows()?),
            None if is("pin") => Some(follows()?..follows()? + leading_digits(&text[follows()?..])),
            None => None,
        };
    }
    if ends_in("nonce") {
        let value = value(text, given(text, at)?);
        let end = text[value.clone()].find(',').map_or(value.end, |comma| value.start + comma);
        return Some(value.start..end);
    }
    if is("response") {
        // RFC 7616 §3.4; "response" alone is an ordinary word.
        let from = at + usize::from(text[at..].starts_with('='));
        let digits = text[from..].bytes().take_while(u8::is_ascii_hexdigit).count();
        let bare = from > at && digits >= DIGEST;
        return (bare || text[at..].starts_with("=\"")).then(|| match bare {
            true => from..from + digits,
            false => value(text, from),
        });
    }
    if is("digest") {
        let next = follows()?;
        return Some(next..parameters(text, next));
    }
    if is("basic") || is("bearer") {
        let next = follows()?;
        let end =
            text[next..].find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\'' | ',' | ';'));
        let end = end.map_or(text.len(), |end| next + end);
        let word = text[next..end].trim_end_matches(['.', ':', '!', '?', ')']);
        let ordinary = ORDINARY.iter().any(|ordinary| ordinary.eq_ignore_ascii_case(word));
        return Some(next..next + if ordinary { 0 } else { word.len() });
    }
    None
}

/// The word at `from`, unless a name before it is only spoken of.
fn spoken(text: &str, from: usize) -> Option<Range<usize>> {
    let value = value(text, from);
    let word = text[value.clone()].trim_matches(|c: char| !c.is_alphanumeric());
    let ordinary = SPOKEN.iter().any(|spoken| spoken.eq_ignore_ascii_case(word));
    (!ordinary && !word.is_empty()).then_some(value)
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Where the value begins after `=` or `:`, if one of them follows, for a quoted name after its closing quote.
fn given(text: &str, at: usize) -> Option<usize> {
    let at = skip_blanks(text, at);
    let rest = text[at..].trim_start_matches(['\\', '"', '\'']);
    let rest = rest.trim_start_matches(' ');
    let sign = ["=", ":", "%3D", "%3d", "%3A", "%3a"].into_iter().find(|sign| rest.starts_with(sign))?;
    Some(skip_blanks(text, text.len() - rest.len() + sign.len()))
}

/// The value that begins at `from`: what is in quotes, to the end if they are not closed, or one word.
fn value(text: &str, from: usize) -> Range<usize> {
    let rest = &text[from..];
    // A quote that is escaped itself stands in a text that is quoted.
    for quote in ["\\\"", "\"", "'"] {
        if let Some(inner) = rest.strip_prefix(quote) {
            let from = from + quote.len();
            return from..from + closing(inner, quote).unwrap_or(inner.len());
        }
    }
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '&' | ';' | '<' | '>' | '"'));
    from..end.map_or(text.len(), |end| from + end)
}

/// Where `quote` ends what it began.
fn closing(inner: &str, quote: &str) -> Option<usize> {
    if quote != "\"" {
        return inner.find(quote);
    }
    let mut escaped = false;
    inner.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Where the parameters end that begin at `at`: `name=value`, with commas or blanks between them.
fn parameters(text: &str, mut at: usize) -> usize {
    let mut end = at;
    loop {
        let name = name(&text[at..]).len();
        let equals = skip_blanks(text, at + name);
        if name == 0 || !text[equals..].starts_with('=') {
            return end;
        }
        let from = skip_blanks(text, equals + 1);
        end = if text[from..].starts_with('"') {
            let value = value(text, from);
            (value.end + 1).min(text.len())
        } else {
            let value = &text[from..];
            from + value.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(value.len())
        };
        work::count(end - at);
        at = skip_blanks(text, end);
        if text[at..].starts_with(',') {
            at = skip_blanks(text, at + 1);
        }
    }
}

fn is_name_char(c: char) -> bool {
    u8::try_from(c).is_ok_and(is_name_byte)
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// What `text` begins with of a name.
fn name(text: &str) -> &str {
    &text[..text.bytes().take_while(|&byte| is_name_byte(byte)).count()]
}

fn skip_blanks(text: &str, at: usize) -> usize {
    let blanks = text[at..].len() - text[at..].trim_start().len();
    work::count(blanks);
    at + blanks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_that_is_looked_for_is_passed_over() {
        let others = ["authorization", "nonce", "response", "digest", "basic", "bearer"];
        for name in NAMES.into_iter().chain(SHORT_NAMES).chain(WORDS).chain(others) {
            assert!(may_be_secret(name) && may_be_secret(&name.to_ascii_uppercase()), "{name}");
        }
    }
}
