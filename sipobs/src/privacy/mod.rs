//! What may leave the engine: numbers and users masked, once, in every text of every output. Headers with
//! credentials, SDP keys and bodies never get as far as an output.
//!
//! - A number keeps its last digits: `***4567`. One no longer than what is kept, an extension say, stays
//!   whole.
//! - Any other user keeps its first letter, and the last digits if it ends in some: `a***`, `a***1007`.
//!   Users that name nobody (`anonymous`, …) stay.
//! - Passwords in URIs and the headers of a URI (RFC 3261 §19.1.1) go altogether; hosts and parameters stay,
//!   but for numbers of seven digits or more in them.
//! - Reason phrases and sentences: URIs and `user@host` as above, and whatever reads like a number of seven
//!   digits or more, or is the number of a party. Blanks, dashes, brackets, slashes and the like may stand
//!   between its digits, and it may be in any script or escaped (`%2B1%20555`, `５５５`). Addresses, ports, dates,
//!   times, versions and the status before a phrase are no numbers.
//! - Credentials that a text quotes (`Authorization:`, `password=`, `Bearer …`, `Digest …`) become `***`.
//! - A Call-ID stays whole, as it is the key to every other log, but for the digits in it that are the number
//!   of a party, single separators between them or not. Random digits are left alone; so are other users' names.
//!
//! What can't be told apart is masked, but for two: four numbers up to 255 with dots between them are an address,
//! and so they are with dashes in a host's name.
//!
//! With `hash` a number or user becomes `~` and twelve letters, the same ones wherever it appears under one
//! key: HMAC-SHA-256, cut to 48 bits. Letters only, so that no digits are mistaken for a number.

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use smallvec::SmallVec;

use crate::record::{Alert, Attempt, Call, LadderLine, Output, Parties, WireTrace};

mod body;
mod headers;
mod normalize;
mod number;
mod party_numbers;
pub mod redact;
mod scramble;
mod secret;
#[cfg(test)]
mod tests;
mod text;

use party_numbers::Known;

/// What stands in place of a secret.
const SECRET: &str = "***";

/// How numbers and users are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// The last four digits.
    #[default]
    Last4,
    /// The last three.
    Last3,
    /// A keyed hash: the same number gives the same letters under the same key.
    Hash,
    /// In full, unmasked.
    Full,
}

/// Why the privacy settings can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivacyError {
    /// A hash without a key can be undone by trying every number.
    #[error("privacy.key: mask = \"hash\" needs a secret of at least 16 bytes")]
    Key,
}

/// Masks outputs, once, on the way out of the engine.
#[derive(Clone, Default)]
pub struct Privacy {
    how: How,
}

#[derive(Clone)]
enum How {
    Last(usize),
    Hash(Box<Hmac<Sha256>>),
    Full,
}

impl Default for How {
    fn default() -> Self {
        Self::Last(4)
    }
}

impl fmt::Debug for Privacy {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.how {
            How::Last(_) => "Privacy(last)",
            How::Hash(_) => "Privacy(hash)",
            How::Full => "Privacy(full)",
        })
    }
}

impl Privacy {
    /// `key` is the secret of [`Mask::Hash`], and not looked at otherwise.
    pub fn new(mask: Mask, key: Option<&[u8]>) -> Result<Self, PrivacyError> {
        let how = match mask {
            Mask::Last4 => How::Last(4),
            Mask::Last3 => How::Last(3),
            Mask::Full => How::Full,
            Mask::Hash => {
                let key = key.filter(|key| key.len() >= 16).ok_or(PrivacyError::Key)?;
                How::Hash(Box::new(Hmac::new_from_slice(key).map_err(|_| PrivacyError::Key)?))
            }
        };
        Ok(Self { how })
    }

    /// Masks every text of `output`. Doing it again changes nothing.
    pub fn output(&self, output: &mut Output) {
        if matches!(self.how, How::Full) {
            return;
        }
        match output {
            Output::Notice(notice) => {
                let known = Known::of(&notice.parties, &[]);
                self.call_id(&mut notice.call_id, &known);
                // A trace is found by all of its digits or not at all.
                notice.trace_id.take_if(|trace| self.key(trace, &known) != **trace);
                notice.parties.clear();
            }
            Output::Transfer(attempt) => self.attempt(attempt),
            Output::Call(call) => self.call(call),
            Output::Alert(alert) => self.alert(alert),
        }
    }

    /// Masks the lines of a ladder in a call of these parties.
    pub fn lines(&self, lines: &mut [LadderLine], parties: &Parties) {
        if matches!(self.how, How::Full) {
            return;
        }
        self.ladder(lines, &Known::of(parties, &[]));
    }

    /// Masks a Call-ID of these parties.
    pub fn call_id_of(&self, call_id: &str, parties: &Parties) -> String {
        match self.how {
            How::Full => call_id.to_owned(),
            _ => self.key(call_id, &Known::of(parties, &[])).into_owned(),
        }
    }

    /// Masks what reads like a URI, user or number in `text`: for messages outside the outputs.
    pub fn text(&self, text: &str) -> String {
        match self.how {
            How::Full => text.to_owned(),
            _ => self.sentence(text, &Known::default()).into_owned(),
        }
    }

    /// Masks a user, a number or a name.
    pub fn party(&self, user: &str) -> String {
        match self.how {
            How::Full => user.to_owned(),
            _ => self.user(user),
        }
    }

    fn attempt(&self, attempt: &mut Attempt) {
        let uris = [&attempt.transferor, &attempt.transferee, &attempt.target];
        let uris: Vec<&str> = uris.into_iter().filter_map(Option::as_deref).collect();
        let mut known = Known::of(&attempt.parties, &uris);
        for uri in
            [&mut attempt.transferor, &mut attempt.transferee, &mut attempt.target].into_iter().flatten()
        {
            replace(uri, |uri| self.address(uri, &known));
        }
        if let Some(reason) = &mut attempt.reason {
            replace(reason, |text| self.sentence(text, &known));
        }
        // In a sentence of ours the status goes before its phrase.
        known.status = attempt.status.map(|status| status.to_string());
        if let Some(because) = &mut attempt.unknown_because {
            replace(because, |text| self.sentence(text, &known));
        }
        for diagnosis in &mut attempt.diagnosis {
            for text in [&mut diagnosis.cause, &mut diagnosis.check, &mut diagnosis.because] {
                replace(text, |text| self.sentence(text, &known));
            }
        }
        self.ladder(&mut attempt.messages, &known);
        self.call_id(&mut attempt.call_id, &known);
        self.call_id(&mut attempt.target_call_id, &known);
        for candidate in attempt.link.iter_mut().flat_map(|link| &mut link.candidates) {
            replace(candidate, |text| self.key(text, &known));
        }
        for (header, id) in attempt.provider_ids.iter_mut().chain(&mut attempt.target_provider_ids) {
            match secret::is_secret_of(header, id) {
                true => *id = SECRET.to_owned(),
                false => replace(id, |id| self.id(id, &known)),
            }
        }
        // A trace is found by all of its digits or not at all.
        let names_somebody = |trace: &WireTrace| self.key(&trace.trace_id, &known) != trace.trace_id;
        if attempt.wire_trace.as_deref().is_some_and(names_somebody) {
            (attempt.wire_trace, attempt.trace_id) = (None, None);
        }
        attempt.parties.clear();
    }

    /// The first lines of messages. An INVITE's, its copies' and its ACK's requests are alike, and need masking once.
    fn ladder(&self, lines: &mut [LadderLine], known: &Known) {
        let mut told: SmallVec<[(String, String); 8]> = SmallVec::new();
        for line in lines.iter_mut().map(|line| &mut line.line) {
            if let Some((_, shown)) = told.iter().find(|(text, _)| text == line) {
                line.clone_from(shown);
                continue;
            }
            let Cow::Owned(shown) = self.sentence(line, known) else { continue };
            let text = std::mem::replace(line, shown.clone());
            if told.len() < told.inline_size() {
                told.push((text, shown));
            }
        }
    }

    /// An id: as a Call-ID, unless it is of digits alone, reads like an address or holds credentials.
    fn id<'a>(&self, id: &'a str, known: &Known) -> Cow<'a, str> {
        let opaque = id.contains(|c: char| c.is_ascii_alphabetic()) && !id.contains(['@', ':', '+', '%']);
        if opaque && secret::secrets(id).is_empty() { self.key(id, known) } else { self.sentence(id, known) }
    }

    fn call(&self, call: &mut Call) {
        let known = Known::of(&call.parties, &[]);
        replace(&mut call.call_id, |text| self.key(text, &known));
        call.parties.clear();
    }

    fn alert(&self, alert: &mut Alert) {
        // Its sentence is our own, of counts and the trunk's configured name; a count is no number to mask.
        let known = Known::of(&alert.parties, &[]);
        replace(&mut alert.message, |text| self.key(text, &known));
        self.call_id(&mut alert.call_id, &known);
        alert.parties.clear();
    }

    fn call_id(&self, call_id: &mut Option<String>, known: &Known) {
        if let Some(call_id) = call_id {
            replace(call_id, |text| self.key(text, known));
        }
    }

    /// A number, given its digits.
    fn number(&self, digits: &str) -> String {
        match &self.how {
            How::Last(keep) if digits.len() > *keep => format!("***{}", &digits[digits.len() - keep..]),
            How::Hash(hmac) => hashed(hmac, digits),
            _ => digits.to_owned(),
        }
    }

    /// A user that is not a number.
    fn name(&self, name: &str) -> String {
        const NOBODY: [&str; 5] = ["anonymous", "private", "restricted", "unavailable", "unknown"];
        if NOBODY.iter().any(|nobody| nobody.eq_ignore_ascii_case(name)) {
            return name.to_owned();
        }
        match &self.how {
            How::Last(keep) => {
                // Of one or two letters, the first is too much.
                let head = name.chars().next().filter(|c| c.is_alphabetic() && name.chars().nth(2).is_some());
                let digits = name.bytes().rev().take(*keep).take_while(u8::is_ascii_digit).count();
                let head = head.map(String::from).unwrap_or_default();
                format!("{head}***{}", &name[name.len() - digits..])
            }
            How::Hash(_) if is_hashed(name) => name.to_owned(),
            How::Hash(hmac) => hashed(hmac, name),
            How::Full => name.to_owned(),
        }
    }
}

/// The digits of a user that is a number, however it is written; `None` where it is none.
pub fn dialled(user: &str) -> Option<String> {
    let mut rest = user.split(';').next().unwrap_or(user);
    let mut digits = String::new();
    while let Some((c, len)) = normalize::plain(rest) {
        rest = &rest[len..];
        match c {
            '0'..='9' => digits.push(c),
            '+' if digits.is_empty() => {}
            c if normalize::is_separator(c) => {}
            _ => return None,
        }
    }
    Some(digits).filter(|digits| !digits.is_empty())
}

/// Puts what `masked` makes of it in place of `text`, if that is something else.
fn replace(text: &mut String, masked: impl FnOnce(&str) -> Cow<'_, str>) {
    let masked = match masked(text) {
        Cow::Borrowed(_) => return,
        Cow::Owned(masked) => masked,
    };
    *text = masked;
}

fn hashed(hmac: &Hmac<Sha256>, text: &str) -> String {
    let mut hmac = hmac.clone();
    hmac.update(text.as_bytes());
    let sum = hmac.finalize().into_bytes();
    let mut letters = String::from("~");
    for byte in sum.iter().take(6) {
        letters.push(char::from(b'a' + (byte >> 4)));
        letters.push(char::from(b'a' + (byte & 15)));
    }
    letters
}

/// What [`hashed`] gives: not hashed again.
fn is_hashed(user: &str) -> bool {
    user.len() == 13 && user.strip_prefix('~').is_some_and(|l| l.bytes().all(|b| b.is_ascii_lowercase()))
}
