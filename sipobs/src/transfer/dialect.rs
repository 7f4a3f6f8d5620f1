//! Whose ways a message shows: the products that name themselves, and LiveKit, which does not.

use memchr::{memchr2_iter, memmem};

use crate::record::Dialect;
use crate::sip::{Message, Name, sdp};

/// The product that a message with these tags in From and To shows.
pub(super) fn of(message: &Message<'_>, tags: [Option<&[u8]>; 2]) -> Option<Dialect> {
    let agent = message.header(Name::UserAgent).or_else(|| message.header(Name::Server));
    let named = |word: &str| agent.is_some_and(|agent| contains(agent, word));
    match () {
        () if named("livekit") => Some(Dialect::LiveKit),
        () if named("twilio") => Some(Dialect::Twilio),
        () if named("telnyx") => Some(Dialect::Telnyx),
        () if named("freeswitch") => Some(Dialect::FreeSwitch),
        () if named("asterisk") => Some(Dialect::Asterisk),
        () => by_headers(message).or_else(|| livekit(message, tags)),
    }
}

/// By headers of its own.
fn by_headers(message: &Message<'_>) -> Option<Dialect> {
    let prefixes =
        [("X-Twilio-", Dialect::Twilio), ("X-Telnyx-", Dialect::Telnyx), ("X-FS-", Dialect::FreeSwitch)];
    let begins = |name: &[u8], prefix: &str| {
        name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    message.extension_headers().find_map(|name| {
        prefixes.iter().find(|(prefix, _)| begins(name, prefix)).map(|(_, dialect)| *dialect)
    })
}

/// LiveKit names itself only in some BYEs. Its tags have a form of their own, and so has its SDP.
fn livekit(message: &Message<'_>, tags: [Option<&[u8]>; 2]) -> Option<Dialect> {
    let named = || {
        // Most bodies are no such, and need not be read for it.
        memmem::find(message.body(), b"s=LiveKit").is_some()
            && sdp::Session::of(message).is_some_and(|session| session.name == b"LiveKit")
    };
    (tags.into_iter().flatten().any(crate::leg::is_livekit) || named()).then_some(Dialect::LiveKit)
}

/// Whether `text` contains `word`, which is in lower case, in any case.
fn contains(text: &[u8], word: &str) -> bool {
    let word = word.as_bytes();
    let Some(&first) = word.first() else { return true };
    memchr2_iter(first, first.to_ascii_uppercase(), text)
        .any(|at| text.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(headers: &str) -> Option<Dialect> {
        let text = format!("BYE sip:a@h SIP/2.0\r\n{headers}\r\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        of(&message, [None, message.to().and_then(|to| to.tag())])
    }

    #[test]
    fn each_by_its_ways() {
        assert_eq!(dialect("Server: Asterisk PBX 22\r\n"), Some(Dialect::Asterisk));
        assert_eq!(dialect("User-Agent: FreeSWITCH-mod_sofia/1.10\r\n"), Some(Dialect::FreeSwitch));
        assert_eq!(dialect("x-twilio-callsid: CA0\r\n"), Some(Dialect::Twilio));
        assert_eq!(dialect("X-FS-Support: update_display\r\n"), Some(Dialect::FreeSwitch));
        assert_eq!(dialect("X-Telnyx-Session-ID: 7\r\n"), Some(Dialect::Telnyx));
        assert_eq!(dialect("User-Agent: LiveKit\r\n"), Some(Dialect::LiveKit));
        assert_eq!(dialect("To: <sip:a@h>;tag=SCL_WRFAVq3dnEMn\r\n"), Some(Dialect::LiveKit));
        let sdp = "Content-Type: application/sdp\r\n\r\nv=0\r\no=- 1 1 IN IP4 h\r\ns=LiveKit\r\n";
        assert_eq!(dialect(sdp), Some(Dialect::LiveKit));
        assert_eq!(dialect("User-Agent: baresip\r\nX: y\r\nTo: <sip:a@h>;tag=SCL_short\r\n"), None);
    }
}
