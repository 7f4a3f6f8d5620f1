//! As much of a message as sipobs reads, as a message again: to be kept.
//!
//! Left out is what is nobody's business once the message was read (credentials, the keys of the media) and what
//! takes room and tells nothing: codecs, bodies of other kinds. Whatever reads the one or the other finds the same.

use super::{Message, Method, Name, sdp};

impl Message<'_> {
    /// The message without what sipobs has no use for. What was left out of it is not in what is left out of that: the
    /// essence of an essence is itself.
    pub(crate) fn essence(&self) -> Vec<u8> {
        let mut essence = Vec::with_capacity(self.bytes().len().min(1024));
        add_line(&mut essence, &[self.first_line()]);
        let body = Body::of(self);
        for (name, spelling, value) in self.all_headers() {
            match name {
                // The body is all that follows.
                Name::ContentLength => {}
                Name::ContentType if matches!(body, Body::Sdp(_)) => {
                    add_line(&mut essence, &[spelling, b": ", SDP.as_bytes()]);
                }
                // That there are some is all that counts.
                name if name.is_secret() => add_line(&mut essence, &[spelling, b": "]),
                _ => add_line(&mut essence, &[spelling, b": ", value]),
            }
        }
        if self.headers_ended() {
            add_line(&mut essence, &[]);
            match body {
                Body::Sdp(sdp) => sdp::essence(sdp, &mut essence),
                Body::Whole(body) => essence.extend_from_slice(body),
                Body::None => {}
            }
        }
        essence.shrink_to_fit();
        essence
    }
}

const SDP: &str = "application/sdp";

/// What of a body is read.
enum Body<'a> {
    Sdp(&'a [u8]),
    /// Where a REFER goes to, or what came of it.
    Whole(&'a [u8]),
    None,
}

impl<'a> Body<'a> {
    fn of(message: &Message<'a>) -> Self {
        if message.after_headers().is_empty() {
            return Self::None;
        }
        if let Some(sdp) = message.body_of(SDP) {
            return Self::Sdp(sdp);
        }
        match message.cseq().map(|cseq| cseq.method) {
            Some(Method::Refer | Method::Notify) => Self::Whole(message.body()),
            _ => Self::None,
        }
    }
}

fn add_line(to: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| to.extend_from_slice(part));
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Sipfrag;

    fn essence(text: &str) -> String {
        let once = Message::parse(text.as_bytes()).unwrap().essence();
        assert_eq!(Message::parse(&once).unwrap().essence(), once);
        String::from_utf8(once).unwrap()
    }

    #[test]
    fn no_credentials_keys_or_codecs() {
        let text = "INVITE sip:b@h SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9\r\nCSeq: 2 INVITE\r\n\
                    Proxy-Authorization: Digest username=\"alice\",\r\n response=\"5eb63bbbe01e\"\r\n\
                    Authorization: secret\r\nIdentity: eyJhbGciOi.x;info=<h>\r\nX-Own: 1\r\n\
                    c: multipart/mixed;boundary=b\r\nl: 400\r\n\r\n--b\r\nContent-Type: application/sdp\r\n\r\n\
                    v=0\r\no=- 1 2 IN IP4 h\r\ns=LiveKit\r\nt=0 0\r\nk=clear:sesame\r\nm=audio 5 RTP/SAVP 0\r\n\
                    c=IN IP4 192.0.2.1\r\na=rtpmap:0 PCMU/8000\r\na=crypto:1 AES inline:sesame\r\na=sendonly\r\n\
                    a=ice-pwd:sesame\r\nm=video 7 RTP/SAVP 31\r\na=inactive\r\n--b--\r\n";
        assert_eq!(
            essence(text),
            "INVITE sip:b@h SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9\r\nCSeq: 2 INVITE\r\nProxy-Authorization: \r\n\
             Authorization: \r\nIdentity: \r\nX-Own: 1\r\nc: application/sdp\r\n\r\n\
             v=0\r\no=- 1 2 IN IP4 h\r\ns=LiveKit\r\nm=audio 5 RTP/SAVP 0\r\nc=IN IP4 192.0.2.1\r\na=sendonly\r\n\
             m=video 7 RTP/SAVP 31\r\na=inactive\r\n"
        );
        let whole = Message::parse(text.as_bytes()).unwrap();
        let kept = essence(text);
        let kept = Message::parse(kept.as_bytes()).unwrap();
        assert_eq!(sdp::Session::of(&whole), sdp::Session::of(&kept));
    }

    #[test]
    fn what_is_told_is_kept() {
        let text = "NOTIFY sip:a@h SIP/2.0\r\nCSeq: 3 NOTIFY\r\nEvent: refer\r\nContent-Type: message/sipfrag\r\n\
                    Content-Length: 18\r\n\r\nSIP/2.0 486 Busy\r\nand what follows it";
        let kept = essence(text);
        let kept = Message::parse(kept.as_bytes()).unwrap();
        assert_eq!(Sipfrag::of(&kept).unwrap().status, 486);
        assert!(!kept.body().ends_with(b"it"));
        assert!(
            essence("BYE sip:a@h SIP/2.0\r\nCSeq: 3 BYE\r\nContent-Type: a/b\r\n\r\nx")
                .ends_with("a/b\r\n\r\n")
        );
    }

    #[test]
    fn what_was_cut_stays_cut() {
        assert_eq!(essence("BYE sip:a@h SIP/2.0\r\nTo: <sip:b"), "BYE sip:a@h SIP/2.0\r\nTo: <sip:b\r\n");
    }
}
