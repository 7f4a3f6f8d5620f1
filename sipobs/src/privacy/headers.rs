//! Masks the headers of a message.

use super::party_numbers::Known;
use super::{How, Privacy, secret};
use crate::follow::Header;
use crate::record::Parties;
use crate::sip::Name;

/// What stands in place of a person's name.
const SOMEBODY: &str = "\"***\"";

impl Privacy {
    /// Masks headers of a call of these parties. Those that may hold anything, peers' own and a subject, are taken out, unless
    /// nothing is masked; how many that were is the result.
    pub fn headers(&self, headers: &mut Vec<Header>, parties: &Parties) -> usize {
        let known = Known::of(parties, &[]);
        let before = headers.len();
        headers.retain(|header| {
            // Whoever may see numbers may see these, but no password.
            let is_of_anything = header.name == Name::Other && !matches!(self.how, How::Full);
            !is_of_anything && !secret::is_secret_of(&header.spelling, &header.value)
        });
        let left_out = before - headers.len();
        if matches!(self.how, How::Full) {
            return left_out;
        }
        headers.retain(|header| !matches!(header.name, Name::Subject | Name::CallInfo));
        for Header { name, value, .. } in headers.iter_mut() {
            *value = match name {
                Name::CallId | Name::SessionId => self.key(value, &known).into_owned(),
                // Times, counts and lists of words.
                Name::CSeq | Name::Date | Name::Timestamp | Name::RAck | Name::RSeq => continue,
                _ => self.sentence(&nameless(value), &known).into_owned(),
            };
        }
        before - headers.len()
    }
}

/// The value of a header without the names of those whose addresses stand in it (RFC 3261 §25.1, `display-name`).
fn nameless(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(open) = bracket(rest) {
        let start = entry(&rest[..open]);
        let (before, name) = rest[..open].split_at(start);
        out.push_str(before);
        let blank = name.len() - name.trim_start().len();
        out.push_str(&name[..blank]);
        if !name.trim().is_empty() {
            out.push_str(SOMEBODY);
            out.push(' ');
        }
        let close = rest[open..].find('>').map_or(rest.len(), |at| open + at + 1);
        out.push_str(&rest[open..close]);
        rest = &rest[close..];
    }
    // What was cut off within a name is one, too.
    match rest.find('"').filter(|_| rest.matches('"').count() % 2 == 1) {
        Some(at) => {
            out.push_str(&rest[..at]);
            out.push_str(SOMEBODY);
        }
        None => out.push_str(rest),
    }
    out
}

/// The next `<` that is not in quotes.
fn bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Where the last entry of a list begins: behind its last comma that is not in quotes.
fn entry(text: &str) -> usize {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => start = at + 1,
            _ => {}
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::Mask;

    fn masked(mask: Mask, name: Name, spelling: &str, value: &str) -> Option<String> {
        let privacy = Privacy::new(mask, None).unwrap();
        let mut headers = vec![Header { name, spelling: spelling.to_owned(), value: value.to_owned() }];
        let parties = ["+15105550138"].into_iter().collect();
        let left_out = privacy.headers(&mut headers, &parties);
        assert_eq!(left_out, 1 - headers.len());
        headers.pop().map(|header| header.value)
    }

    #[test]
    fn neither_names_nor_numbers_are_left() {
        for (name, value, wanted) in [
            (
                Name::From,
                "\"Alice, \\\" Smith\" <sip:+15105550138@a.example>;tag=x",
                "\"***\" <sip:***0138@a.example>;tag=x",
            ),
            (Name::To, "Bob B. <sip:bob@b.example>", "\"***\" <sip:b***@b.example>"),
            (Name::To, "<sip:+15105550138@b.example>", "<sip:***0138@b.example>"),
            (Name::To, "sip:+15105550138@b.example;tag=1", "sip:***0138@b.example;tag=1"),
            (
                Name::Diversion,
                "Ann <sip:ann@x.example>;reason=busy, \"Ben\" <tel:+15105550177>",
                "\"***\" <sip:a***@x.example>;reason=busy, \"***\" <tel:***0177>",
            ),
            (Name::From, "\"Alice <Smi", "\"***\""),
            (Name::CallId, "77-15105550138@h", "77-***0138@h"),
            (Name::CSeq, "1234567890 INVITE", "1234567890 INVITE"),
            (Name::Reason, "Q.850;cause=17;text=\"busy\"", "Q.850;cause=17;text=\"busy\""),
            (
                Name::Via,
                "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa",
                "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa",
            ),
        ] {
            assert_eq!(masked(Mask::Last4, name, name.as_str(), value).as_deref(), Some(wanted), "{value}");
        }
    }

    #[test]
    fn what_may_hold_anything_is_shown_only_where_nothing_is_masked() {
        assert_eq!(masked(Mask::Last4, Name::Other, "X-Customer", "Alice"), None);
        assert_eq!(masked(Mask::Last4, Name::Subject, "Subject", "Alice"), None);
        assert_eq!(masked(Mask::Full, Name::Other, "X-Customer", "Alice").as_deref(), Some("Alice"));
        assert_eq!(masked(Mask::Full, Name::Other, "X-Password", "hunter2"), None);
        for name in ["Authentication-Info", "Proxy-Authentication-Info", "X-Auth", "Cookie"] {
            assert_eq!(masked(Mask::Full, Name::Other, name, "nextnonce=\"deadbeef\""), None, "{name}");
        }
    }
}
