//! Masks what a message carries behind its headers.

use super::party_numbers::Known;
use super::{How, Privacy, SECRET, secret};
use crate::follow::Body;
use crate::record::Parties;

/// What stands in place of a line's value that may name somebody.
const SOMEBODY: &str = "***";

/// Attributes of a session description with keys or passwords in them (RFC 4568, RFC 8839, RFC 3830).
const KEYS: [&str; 4] = ["crypto", "ice-pwd", "key-mgmt", "zrtp-hash"];

/// Attributes that name nobody.
const OPEN: [&str; 16] = [
    "candidate",
    "fmtp",
    "group",
    "inactive",
    "maxptime",
    "mid",
    "ptime",
    "recvonly",
    "rtcp",
    "rtcp-fb",
    "rtcp-mux",
    "rtpmap",
    "sendonly",
    "sendrecv",
    "setup",
    "silenceSupp",
];

impl Privacy {
    /// Masks the body of a message in a call of these parties. Of what is neither a session description nor a part of a
    /// message nothing is left, unless nothing is masked; and of keys and passwords nothing is anyhow.
    pub fn body(&self, body: &mut Body, parties: &Parties) {
        let known = Known::of(parties, &[]);
        let is_full = matches!(self.how, How::Full);
        for stream in body.streams.iter_mut().filter(|_| !is_full) {
            *stream = self.key(stream, &known).into_owned();
        }
        if is_full {
            body.lines.iter_mut().for_each(|line| *line = without_secrets(line));
        } else if body.is_description() {
            body.lines.iter_mut().for_each(|line| *line = self.description(line, &known));
        } else if body.is_fragment() {
            // The first line tells; what headers may follow is not known.
            body.is_partial |= body.lines.len() > 1;
            body.lines.truncate(1);
            body.lines.iter_mut().for_each(|line| *line = self.sentence(line, &known).into_owned());
        } else {
            body.is_partial |= !body.lines.is_empty();
            body.lines.clear();
        }
    }

    /// A line of a session description (RFC 8866).
    fn description(&self, line: &str, known: &Known) -> String {
        let line = without_secrets(line);
        let value = line.get(2..).unwrap_or_default();
        match line.as_bytes() {
            // An address of another network is a telephone number (RFC 2848 §3.4.1).
            [b'c', b'=', ..] if !value.starts_with("IN ") => format!("c={SOMEBODY}"),
            // Ports and formats in a row are no number.
            [b'v' | b't' | b'r' | b'z' | b'm' | b'b' | b'c', b'=', ..] => self.key(&line, known).into_owned(),
            [b'o', b'=', ..] => {
                let (user, rest) = value.split_once(' ').unwrap_or((value, ""));
                let user = if user == "-" { user.to_owned() } else { self.user(user) };
                format!("o={user} {}", self.key(rest, known))
            }
            [b'a', b'=', ..] if OPEN.contains(&attribute(value)) => self.key(&line, known).into_owned(),
            [b'a', b'=', ..] if value.contains(':') => format!("a={}:{SOMEBODY}", attribute(value)),
            [b'a', b'=', ..] => self.sentence(&line, known).into_owned(),
            [kind, b'=', ..] => format!("{}={SOMEBODY}", char::from(*kind)),
            _ => String::new(),
        }
    }
}

/// What an attribute is called.
fn attribute(value: &str) -> &str {
    value.split(':').next().unwrap_or(value)
}

/// A line of a body without keys and passwords, whoever looks.
fn without_secrets(line: &str) -> String {
    if line.starts_with("k=") {
        return format!("k={SECRET}");
    }
    let name = line.strip_prefix("a=").map(attribute).unwrap_or_default();
    if KEYS.iter().any(|key| name.eq_ignore_ascii_case(key)) {
        return format!("a={name}:{SECRET}");
    }
    let mut line = line.to_owned();
    for secret in secret::secrets(&line).into_iter().rev() {
        line.replace_range(secret, SECRET);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::Mask;

    fn masked(mask: Mask, kind: &str, lines: &[&str]) -> Body {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut body = Body { kind: kind.to_owned(), lines, ..Body::default() };
        Privacy::new(mask, None).unwrap().body(&mut body, &["+15105550138"].into_iter().collect());
        body
    }

    #[test]
    fn a_description_names_nobody() {
        let lines = [
            "v=0",
            "o=alice 2890844526 2890842807 IN IP4 10.47.16.5",
            "s=Alice's talk with +15105550138",
            "e=alice@example.com",
            "c=IN IP4 10.47.16.5",
            "c=TN RFC2543 5105550138",
            "t=0 0",
            "k=clear:hunter2",
            "m=audio 49170 RTP/AVP 0 8 101",
            "a=rtpmap:101 telephone-event/8000",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0",
            "a=ice-pwd:hunter2hunter2",
            "a=label:Alice",
            "a=sendrecv",
        ];
        let body = masked(Mask::Last4, "application/sdp", &lines);
        assert_eq!(
            body.lines,
            [
                "v=0",
                "o=a*** 2890844526 2890842807 IN IP4 10.47.16.5",
                "s=***",
                "e=***",
                "c=IN IP4 10.47.16.5",
                "c=***",
                "t=0 0",
                "k=***",
                "m=audio 49170 RTP/AVP 0 8 101",
                "a=rtpmap:101 telephone-event/8000",
                "a=crypto:***",
                "a=ice-pwd:***",
                "a=label:***",
                "a=sendrecv",
            ]
        );
        let full = masked(Mask::Full, "application/sdp", &lines);
        assert_eq!(full.lines[2], lines[2]);
        assert_eq!(
            [&full.lines[7], &full.lines[10], &full.lines[11]],
            ["k=***", "a=crypto:***", "a=ice-pwd:***"]
        );
    }

    #[test]
    fn of_other_bodies_nothing_is_left_unless_all_is_shown() {
        let body =
            masked(Mask::Last4, "message/sipfrag;version=2.0", &["SIP/2.0 486 +15105550138 busy", "X: y"]);
        assert_eq!((&*body.lines, body.is_partial), (&["SIP/2.0 486 ***0138 busy".to_owned()][..], true));
        let body = masked(Mask::Last4, "text/plain", &["Alice"]);
        assert!(body.lines.is_empty() && body.is_partial);
        let body = masked(Mask::Full, "text/plain", &["Alice", "password=hunter2"]);
        assert_eq!(body.lines, ["Alice", "password=***"]);
    }
}
