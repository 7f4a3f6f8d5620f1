//! The NSS key log format: the secrets of TLS sessions, as TLS programs write them down where `SSLKEYLOGFILE` or a setting
//! says so (draft-ietf-tls-keylogfile).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use strum::VariantArray;

/// What names a session: the random bytes of its ClientHello.
pub(crate) type Random = [u8; 32];

/// Sessions whose secrets are kept, at most.
const MOST: usize = 1 << 20;

/// Which secret of a session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub(super) enum Label {
    /// The master secret, up to TLS 1.2.
    Master,
    /// Of the handshake's records (TLS 1.3), by the client.
    ClientHandshake,
    /// The same, by the server.
    ServerHandshake,
    /// Of what the client says once that is done.
    ClientTraffic,
    /// The same, by the server.
    ServerTraffic,
}

impl Label {
    fn parse(text: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|label| label.as_str() == text)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "CLIENT_RANDOM",
            Self::ClientHandshake => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            Self::ServerHandshake => "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            Self::ClientTraffic => "CLIENT_TRAFFIC_SECRET_0",
            Self::ServerTraffic => "SERVER_TRAFFIC_SECRET_0",
        }
    }
}

/// Secrets of TLS sessions. They open all that was said in these: nothing of them is ever shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyLog {
    secrets: BTreeMap<(Random, Label), Box<[u8]>>,
}

/// Only how many: a secret must not slip into a log.
impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyLog({})", self.secrets.len())
    }
}

impl KeyLog {
    /// Whether it holds no secret.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Takes the secrets of a key log. Comments and secrets of other kinds are passed over, and so is a last line that is
    /// not written to its end yet.
    ///
    /// # Errors
    ///
    /// The number of a line, from 1, that is none of a key log.
    pub fn add(&mut self, text: &[u8]) -> Result<(), usize> {
        let mut lines = text.split(|byte| *byte == b'\n').enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let may_be_cut = index > 0 && lines.peek().is_none();
            if !self.add_line(line) && !may_be_cut {
                return Err(index + 1);
            }
        }
        Ok(())
    }

    /// Takes a line as [`Self::add`] does. `false` if it is none of a key log.
    pub(crate) fn add_line(&mut self, line: &[u8]) -> bool {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return true;
        }
        let Some(entry) = parse(line) else { return false };
        if let Some((key, secret)) = entry.filter(|_| self.secrets.len() < MOST) {
            self.secrets.insert(key, secret);
        }
        true
    }

    /// Takes over the secrets of another one.
    pub fn join(&mut self, other: &Self) {
        for (key, secret) in &other.secrets {
            if self.secrets.len() >= MOST {
                return;
            }
            self.secrets.entry(*key).or_insert_with(|| secret.clone());
        }
    }

    /// The secrets of these sessions, and of no others.
    pub(crate) fn of(&self, sessions: &BTreeSet<Random>) -> Self {
        let of =
            |random: &Random| self.secrets.range((*random, Label::Master)..=(*random, Label::ServerTraffic));
        Self { secrets: sessions.iter().flat_map(of).map(|(key, secret)| (*key, secret.clone())).collect() }
    }

    /// How many sessions it has secrets of.
    pub fn sessions(&self) -> usize {
        self.secrets.keys().map(|(random, _)| random).collect::<BTreeSet<_>>().len()
    }

    /// The key log, with a line for each secret: whoever has it can read all that was said in these sessions.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for ((random, label), secret) in &self.secrets {
            text.push_str(label.as_str());
            for bytes in [&random[..], secret] {
                text.push(' ');
                bytes.iter().for_each(|byte| {
                    let _ = write!(text, "{byte:02x}");
                });
            }
            text.push('\n');
        }
        text
    }

    pub(super) fn get(&self, random: &Random, label: Label) -> Option<&[u8]> {
        self.secrets.get(&(*random, label)).map(AsRef::as_ref)
    }
}

type Entry = ((Random, Label), Box<[u8]>);

/// A line's secret, if it is of a kind that is used; `None` where it is no line of a key log.
fn parse(line: &[u8]) -> Option<Option<Entry>> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (label, random, secret) = (words.next()?, words.next()?, words.next()?);
    let is_label =
        label.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_label || words.next().is_some() {
        return None;
    }
    let Some(kind) = Label::parse(label) else { return Some(None) };
    let random = Random::try_from(&*hex(random)?).ok()?;
    let secret = hex(secret).filter(|secret| matches!(secret.len(), 32 | 48))?;
    Some(Some(((random, kind), secret)))
}

fn hex(text: &str) -> Option<Box<[u8]>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = text.as_bytes();
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_log_is_read() {
        let random = "0a".repeat(32);
        let text = format!(
            "# SSL/TLS secrets\r\nCLIENT_RANDOM {random} {}\r\nEXPORTER_SECRET {random} {}\nCLIENT_TRAFFIC_SECR",
            "Bb".repeat(48),
            "cc".repeat(32)
        );
        let mut keys = KeyLog::default();
        assert_eq!(keys.add(text.as_bytes()), Ok(()));
        assert_eq!(keys.get(&[10; 32], Label::Master), Some(&[0xbb; 48][..]));
        assert_eq!(keys.get(&[10; 32], Label::ClientTraffic), None);
        assert_eq!(format!("{keys:?}"), "KeyLog(1)");
    }

    #[test]
    fn what_is_written_is_read_and_of_those_sessions_alone() {
        let line = |byte: &str| format!("CLIENT_RANDOM {} {}\n", byte.repeat(32), "0c".repeat(48));
        let mut all = KeyLog::default();
        all.add((line("01") + &line("02") + &line("ff")).as_bytes()).unwrap();
        let some = all.of(&BTreeSet::from([[2; 32], [3; 32]]));
        assert_eq!((some.sessions(), some.text()), (1, line("02")));
        let mut again = KeyLog::default();
        assert_eq!(again.add(all.text().as_bytes()), Ok(()));
        assert_eq!((again.sessions(), again), (3, all));
    }

    #[test]
    fn what_is_no_key_log_is_refused_by_its_line() {
        let mut keys = KeyLog::default();
        assert_eq!(keys.add(b"-----BEGIN PRIVATE KEY-----\nabc\n"), Err(1));
        assert_eq!(keys.add(b"# one\nCLIENT_RANDOM 00 11\n# three\n"), Err(2));
        assert!(keys.is_empty());
    }
}
