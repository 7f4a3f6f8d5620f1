//! Facts from a session description (RFC 8866, RFC 3264): who offers, where audio goes, hold.
//!
//! Facts only: keys and bodies never leave this module.

use std::net::{IpAddr, SocketAddr};

use memchr::memchr;

use super::Message;
use super::text::{number, trim, word};

/// Lines looked at: more than any real description has.
const MAX_LINES: usize = 2000;

/// Which way media goes, as its sender offers or answers (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// Only from the sender: hold, with music.
    SendOnly,
    /// Only to the sender: the answer to a hold.
    RecvOnly,
    /// Neither way: hold.
    Inactive,
}

/// A session's first audio stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audio {
    /// Where its sender wants to receive it; `None` for a host name or a damaged address.
    pub address: Option<IpAddr>,
    /// The port; 0 for a refused stream.
    pub port: u16,
    /// Its direction.
    pub direction: Direction,
}

/// What a session description says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session<'a> {
    /// The `o=` line: user, session id, version, address.
    pub origin: &'a [u8],
    /// The `s=` line, such as `LiveKit`.
    pub name: &'a [u8],
    /// The first audio stream.
    pub audio: Option<Audio>,
}

impl<'a> Session<'a> {
    /// The session description in a message's body, or in a part of it.
    pub fn of(message: &Message<'a>) -> Option<Self> {
        Self::parse(message.body_of("application/sdp")?)
    }

    /// A session description; `None` if it does not begin with `v=`.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut lines = lines(body).map(trim).take(MAX_LINES);
        let first = lines.find(|line| !line.is_empty())?;
        first.strip_prefix(b"v=")?;
        let mut session = Self::default();
        // Of the session, until a media section gives its own (RFC 8866 §5.7, RFC 4566 §6).
        let mut common = Audio { address: None, port: 0, direction: Direction::default() };
        let mut section = Section::Session;
        for line in lines {
            let [kind, b'=', value @ ..] = line else { continue };
            match (kind, section) {
                (b'o', Section::Session) => session.origin = value,
                (b's', Section::Session) => session.name = value,
                (b'm', _) => {
                    let audio = value.get(..6).is_some_and(|media| media.eq_ignore_ascii_case(b"audio "));
                    section = match session.audio {
                        None if audio => {
                            session.audio = Some(Audio { port: media_port(value), ..common });
                            Section::Audio
                        }
                        None => Section::Other,
                        // Nothing that follows is looked at.
                        Some(_) => break,
                    };
                }
                (b'c' | b'a', Section::Session) => common.set(*kind, value),
                (b'c' | b'a', Section::Audio) => {
                    if let Some(audio) = &mut session.audio {
                        audio.set(*kind, value);
                    }
                }
                _ => {}
            }
        }
        Some(session)
    }

    /// Where its sender takes audio; `None` without a usable address, and for a refused stream.
    pub fn media(&self) -> Option<SocketAddr> {
        let audio = self.audio.filter(|audio| audio.port != 0)?;
        let address = audio.address.filter(|address| !address.is_unspecified())?;
        Some(SocketAddr::new(address, audio.port))
    }

    /// Whether its sender holds the call: it takes no audio (RFC 3264 §8.4), or by the old way of
    /// `c=0.0.0.0`. A refused stream is no hold.
    pub fn is_hold(&self) -> bool {
        self.audio.is_some_and(|audio| {
            let nowhere = audio.address.is_some_and(|address| address.is_unspecified());
            let one_way = matches!(audio.direction, Direction::SendOnly | Direction::Inactive);
            audio.port != 0 && (one_way || nowhere)
        })
    }

    /// The session id of `o=`: with user and address, it names the session.
    pub fn session_id(&self) -> &'a [u8] {
        let (_, rest) = word(self.origin);
        word(rest).0
    }

    /// The version of `o=`: grows with each new offer.
    pub fn version(&self) -> Option<u64> {
        let (_, rest) = word(self.origin);
        let (_, rest) = word(rest);
        number(word(rest).0)
    }
}

impl Audio {
    fn set(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (b'c', _) => self.address = connection(value),
            (_, b"sendrecv") => self.direction = Direction::SendRecv,
            (_, b"sendonly") => self.direction = Direction::SendOnly,
            (_, b"recvonly") => self.direction = Direction::RecvOnly,
            (_, b"inactive") => self.direction = Direction::Inactive,
            _ => {}
        }
    }
}

/// Adds to `to` the lines of a description that are read, without all others: their order tells what they are about.
pub(super) fn essence(body: &[u8], to: &mut Vec<u8>) {
    for line in lines(body).map(trim).take(MAX_LINES).filter(|line| is_read(line)) {
        to.extend_from_slice(line);
        to.extend_from_slice(b"\r\n");
    }
}

/// Whether a line is looked at. Of the streams behind the first with audio nothing is; yet which that is, the lines before
/// it tell.
fn is_read(line: &[u8]) -> bool {
    match line {
        [b'v' | b'o' | b's' | b'c' | b'm', b'=', ..] => true,
        [b'a', b'=', value @ ..] => {
            matches!(value, b"sendrecv" | b"sendonly" | b"recvonly" | b"inactive")
        }
        _ => false,
    }
}

/// The lines of a description, without their LF.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = memchr(b'\n', text);
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

#[derive(Clone, Copy)]
enum Section {
    Session,
    /// The first audio stream.
    Audio,
    /// Another stream.
    Other,
}

/// `IN IP4 192.0.2.1/127`, without the TTL of a multicast address.
pub(super) fn connection(value: &[u8]) -> Option<IpAddr> {
    let (_, rest) = word(value);
    let (_, address) = word(rest);
    let address = address.split(|&byte| byte == b'/').next()?;
    std::str::from_utf8(address).ok()?.parse().ok()
}

/// The port in `audio 49170/2 RTP/AVP 0`; 0 if it is damaged.
fn media_port(value: &[u8]) -> u16 {
    let (_, rest) = word(value);
    let (port, _) = word(rest);
    port.split(|&byte| byte == b'/').next().and_then(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(body: &str) -> Session<'_> {
        Session::parse(body.as_bytes()).unwrap()
    }

    const OFFER: &str = "v=0\r\no=- 29739 7272939 IN IP4 192.0.2.5\r\ns=LiveKit\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n\
                         m=video 3227 RTP/AVP 31\r\na=inactive\r\nm=audio 49217 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

    #[test]
    fn facts() {
        let offer = session(OFFER);
        assert_eq!(
            (offer.session_id(), offer.version(), offer.name),
            (&b"29739"[..], Some(7_272_939), &b"LiveKit"[..])
        );
        let audio = offer.audio.unwrap();
        assert_eq!((audio.address, audio.port), (Some("192.0.2.5".parse().unwrap()), 49217));
        assert_eq!(audio.direction, Direction::SendRecv);
        assert!(!offer.is_hold());
        assert_eq!(offer.media(), Some("192.0.2.5:49217".parse().unwrap()));
    }

    #[test]
    fn hold() {
        for (line, hold) in [
            ("a=sendonly", true),
            ("a=inactive", true),
            ("a=recvonly", false),
            ("c=IN IP4 0.0.0.0", true),
            ("c=IN IP6 ::", true),
            ("m=audio 5 RTP/AVP 0\r\na=sendonly", false),
        ] {
            assert_eq!(session(&format!("{OFFER}{line}\r\n")).is_hold(), hold, "{line}");
        }
        assert!(session("v=0\nc=IN IP4 1.2.3.4\na=sendonly\nm=audio 5 RTP/AVP 0").is_hold());
        assert!(!session("v=0\na=sendonly\nm=audio 5 RTP/AVP 0\na=sendrecv").is_hold());
        assert!(!session("v=0\na=sendonly\nm=audio 0 RTP/AVP 0").is_hold());
        assert!(!session("v=0\na=sendonly").is_hold());
    }

    #[test]
    fn addresses() {
        let v6 = session("v=0\nm=AUDIO 5/2 RTP/AVP 0\nc=IN IP6 2001:db8::1").audio.unwrap();
        assert_eq!((v6.address, v6.port), (Some("2001:db8::1".parse().unwrap()), 5));
        let named = session("v=0\nc=IN IP4 media.example.com\nm=audio x RTP/AVP 0").audio.unwrap();
        assert_eq!((named.address, named.port), (None, 0));
        assert_eq!(
            session("v=0\nc=IN IP4 224.2.36.42/127\nm=audio 5 RTP/AVP 0").audio.unwrap().address,
            Some("224.2.36.42".parse().unwrap())
        );
    }

    #[test]
    fn not_sdp() {
        for body in ["", "\r\n", "{}", "o=- 1 1 IN IP4 h\r\nv=0"] {
            assert_eq!(Session::parse(body.as_bytes()), None, "{body}");
        }
    }
}
