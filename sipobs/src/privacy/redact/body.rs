//! Bodies: parts of several, SDP, parts of SIP messages; all others are blank.

use std::ops::Range;

use super::{Page, blank, lines};

impl Page<'_> {
    pub(super) fn body(&mut self, place: Range<usize>, kind: Option<&[u8]>, is_within: bool) {
        let begins = &self.bytes[place.clone()];
        match kind {
            Some(kind) if kind.starts_with(b"application/sdp") => self.sdp(place),
            Some(kind) if kind.starts_with(b"message/sip") && !is_within => self.message(place, true),
            Some(kind) if kind.starts_with(b"multipart/") => self.parts(place, is_within),
            None if begins.starts_with(b"v=") => self.sdp(place),
            None if !is_within => self.message(place, true),
            None => blank(&mut self.out[place]),
            Some(_) => blank(&mut self.out[place]),
        }
    }

    /// A body of several: each begins with two dashes, and headers of its own (RFC 2046 §5.1).
    pub(super) fn parts(&mut self, place: Range<usize>, is_within: bool) {
        let bytes = self.bytes;
        let mut starts: Vec<usize> = lines(bytes, place.clone())
            .filter(|line| bytes[line.clone()].starts_with(b"--"))
            .map(|line| line.start)
            .collect();
        blank(&mut self.out[place.start..starts.first().copied().unwrap_or(place.end)]);
        starts.push(place.end);
        for part in starts.windows(2) {
            let mut lines = lines(bytes, part[0]..part[1]);
            let boundary = lines.next().unwrap_or(part[0]..part[0]);
            self.scramble(boundary.clone());
            if part[1] == place.end && bytes[boundary.clone()].trim_ascii_end().ends_with(b"--") {
                blank(&mut self.out[boundary.end..part[1]]);
                continue;
            }
            let (mut kind, mut body) = (None, part[1]);
            for line in lines {
                let text = &bytes[line.clone()];
                if text.trim_ascii().is_empty() {
                    body = line.end;
                    break;
                }
                let key = text.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
                let value = line.start + key..line.end;
                match text[..key].to_ascii_lowercase().as_slice() {
                    b"content-type:" => {
                        kind = Some(text[key..].trim_ascii().to_ascii_lowercase());
                        self.media_type(value);
                    }
                    b"content-disposition:" => self.media_type(value),
                    b"content-transfer-encoding:" | b"content-length:" | b"content-id:" => self.text(value),
                    _ => self.scramble(value),
                }
            }
            // A part within a part has nothing in it that a verdict rests on.
            match kind.as_deref() {
                Some(kind) if kind.starts_with(b"multipart/") => blank(&mut self.out[body..part[1]]),
                Some(kind) => self.body(body..part[1], Some(kind), is_within),
                None => blank(&mut self.out[body..part[1]]),
            }
        }
    }

    /// RFC 8866.
    pub(super) fn sdp(&mut self, place: Range<usize>) {
        /// Those that name nobody.
        const OPEN: [&str; 14] = [
            "candidate",
            "connection",
            "extmap",
            "fmtp",
            "framerate",
            "group",
            "maxptime",
            "mid",
            "ptime",
            "rtcp",
            "rtcp-fb",
            "rtpmap",
            "setup",
            "silenceSupp",
        ];
        for line in lines(self.bytes, place) {
            let text = self.read(line.clone());
            let value = line.start + 2.min(text.len())..line.end;
            match text.as_bytes() {
                // Ports and formats in a row are no number.
                [b'v' | b't' | b'r' | b'z' | b'm', b'=', ..] => self.rest_of_origin(value),
                [b'b' | b'c', b'=', ..] => self.text(value),
                [b'o', b'=', ..] => {
                    let user = value.start + text[2..].find(' ').unwrap_or(0);
                    self.user(value.start..user);
                    // Numbers of the session, of which only a party's is nobody else's business.
                    self.rest_of_origin(user..value.end);
                }
                [b'a', b'=', ..] => match text[2..].split_once(':') {
                    Some((name, _)) if !OPEN.contains(&name) && !name.starts_with("T38") => {
                        self.text(value.start..value.start + name.len());
                        self.scramble(value.start + name.len() + 1..value.end);
                    }
                    _ => {
                        let end = text[2..].find(" ufrag ").map_or(value.end, |at| value.start + at);
                        self.text(value.start..end);
                        self.scramble(end..value.end);
                    }
                },
                [b's' | b'i' | b'u' | b'e' | b'p' | b'k', b'=', ..] => self.scramble(value),
                _ => blank(&mut self.out[line]),
            }
        }
    }

    pub(super) fn rest_of_origin(&mut self, place: Range<usize>) {
        let text = self.read(place.clone());
        self.numbers(&text, &place, &[], usize::MAX);
        self.names(&text, &place, &[]);
        self.addresses(&text, &place, &[]);
    }
}
