//! The streams of a session description (RFC 8866), each in a line, for a person who looks at one message.

use super::sdp::{Direction, connection, lines};
use super::text::{trim, word};
use super::{brief, is_token};

/// Streams that are told; more than any phone offers.
const MOST_STREAMS: usize = 8;
/// Formats of one that are told.
const MOST_FORMATS: usize = 16;
/// Lines that are looked at.
const MOST_LINES: usize = 2_000;
/// The longest word of it that is shown.
const LONGEST: usize = 40;

/// The formats that have a number of their own (RFC 3551 §6).
const STATIC: [(&str, &str); 6] =
    [("0", "PCMU"), ("3", "GSM"), ("4", "G723"), ("8", "PCMA"), ("9", "G722"), ("18", "G729")];

/// A stream as far as it was read.
struct Stream<'a> {
    media: &'a [u8],
    port: &'a [u8],
    transport: &'a [u8],
    formats: &'a [u8],
    /// What a format's number stands for, in the order of the lines.
    names: Vec<(&'a [u8], &'a [u8])>,
    common: Common<'a>,
}

/// What a session says of all its streams, until one says it of itself.
#[derive(Clone, Copy, Default)]
struct Common<'a> {
    connection: &'a [u8],
    direction: Direction,
}

/// Each stream of a description: what, where it is wanted, in which formats, and which way. No keys, and nobody's name.
pub fn streams(description: &[u8]) -> Vec<String> {
    let mut session = Common::default();
    let mut streams: Vec<Stream<'_>> = Vec::new();
    for line in lines(description).map(trim).take(MOST_LINES) {
        let [kind, b'=', value @ ..] = line else { continue };
        match kind {
            b'm' if streams.len() == MOST_STREAMS => break,
            b'm' => streams.push(Stream::of(value, session)),
            b'c' | b'a' => {
                let common = streams.last_mut().map_or(&mut session, |stream| &mut stream.common);
                common.set(*kind, value);
                if let (Some(stream), Some(name)) = (streams.last_mut(), value.strip_prefix(b"rtpmap:")) {
                    stream.names.extend(Some(word(name)).filter(|_| stream.names.len() < MOST_FORMATS));
                }
            }
            _ => {}
        }
    }
    streams.iter().map(Stream::told).collect()
}

impl<'a> Stream<'a> {
    fn of(value: &'a [u8], common: Common<'a>) -> Self {
        let (media, rest) = word(value);
        let (port, rest) = word(rest);
        let (transport, formats) = word(rest);
        Self { media, port, transport, formats, names: Vec::new(), common }
    }

    fn told(&self) -> String {
        let formats: Vec<_> = self
            .formats
            .split(|&byte| byte == b' ')
            .filter(|format| !format.is_empty())
            .take(MOST_FORMATS)
            .map(|format| self.name(format))
            .collect();
        let media = token(self.media);
        if self.port == b"0" {
            return format!("{media}: refused");
        }
        let address =
            connection(self.common.connection).map_or_else(|| "?".to_owned(), |address| address.to_string());
        let port = token(self.port);
        let way = match self.common.direction {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        };
        format!("{media} to {address} port {port}, {}, {way}: {}", token(self.transport), formats.join(", "))
    }

    /// A format by its name, without its parameters.
    fn name(&self, format: &[u8]) -> String {
        let named = self.names.iter().find(|(number, _)| *number == format).map(|(_, name)| *name);
        if let Some(name) = named {
            return token(name.split(|&byte| byte == b' ').next().unwrap_or(name));
        }
        let known = STATIC.iter().find(|(number, _)| number.as_bytes() == format);
        known.map_or_else(|| token(format), |(_, name)| (*name).to_owned())
    }
}

impl<'a> Common<'a> {
    fn set(&mut self, kind: u8, value: &'a [u8]) {
        match (kind, value) {
            (b'c', _) => self.connection = value,
            (_, b"sendrecv") => self.direction = Direction::SendRecv,
            (_, b"sendonly") => self.direction = Direction::SendOnly,
            (_, b"recvonly") => self.direction = Direction::RecvOnly,
            (_, b"inactive") => self.direction = Direction::Inactive,
            _ => {}
        }
    }
}

/// A word of it; one that is none is not shown.
fn token(bytes: &[u8]) -> String {
    match bytes.split(|&byte| byte == b'/').all(is_token) {
        true => brief(bytes, LONGEST),
        false => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_is_a_line() {
        let offer = "v=0\r\no=alice 1 2 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\na=sendonly\r\nt=0 0\r\n\
            m=audio 49170 RTP/AVP 0 8 101 96\r\na=rtpmap:101 telephone-event/8000\r\na=rtpmap:96 opus/48000/2\r\n\
            a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\n\
            m=video 0 RTP/AVP 31\r\nm=audio 5 RTP/SAVP \x1b[2J 9\r\nc=IN IP6 2001:db8::1\r\na=inactive\r\n";
        assert_eq!(
            streams(offer.as_bytes()),
            [
                "audio to 192.0.2.5 port 49170, RTP/AVP, sendonly: PCMU, PCMA, telephone-event/8000, opus/48000/2",
                "video: refused",
                "audio to 2001:db8::1 port 5, RTP/SAVP, inactive: ?, G722",
            ]
        );
        assert!(streams(b"").is_empty());
        let many = "m=audio 1 RTP/AVP 0\r\n".repeat(100);
        assert_eq!(streams(many.as_bytes()).len(), MOST_STREAMS);
        assert_eq!(streams(b"m=\r\nc=\r\na=rtpmap:\r\n"), ["? to ? port ?, ?, sendrecv: "]);
    }
}
