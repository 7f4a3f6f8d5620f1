//! Whose ways a message shows: the products that name themselves, and LiveKit, which does not.

use std::sync::LazyLock;

use memchr::{memchr2_iter, memmem};

use crate::record::Dialect;
use crate::sip::{Message, Name, sdp};

/// LiveKit's line in its session descriptions, made ready to be searched for.
static SESSION_NAME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"s=LiveKit"));

/// Words in User-Agent or Server, in lower case, with the letters that each needs.
const NAMES: [(&str, u32, Dialect); 7] = [
    product("livekit", Dialect::LiveKit),
    product("twilio", Dialect::Twilio),
    product("telnyx", Dialect::Telnyx),
    product("freeswitch", Dialect::FreeSwitch),
    product("asterisk", Dialect::Asterisk),
    product("fritz!", Dialect::FritzBox),
    product("microsoft.pstnhub", Dialect::Teams),
];

const fn product(word: &'static str, dialect: Dialect) -> (&'static str, u32, Dialect) {
    let (mut needs, mut at) = (0, 0);
    while at < word.len() {
        let byte = word.as_bytes()[at];
        if byte.is_ascii_alphabetic() {
            needs |= bit(byte);
        }
        at += 1;
    }
    (word, needs, dialect)
}

/// A letter's own, in any case; other characters share those of letters.
const fn bit(byte: u8) -> u32 {
    1 << (byte & 0x1f)
}

/// The same of proxies.
const PROXIES: [&str; 4] = ["kamailio", "opensips", "openser", "sip express router"];

/// The product that a message with these tags in From and To shows.
pub(super) fn of(message: &Message<'_>, tags: [Option<&[u8]>; 2]) -> Option<Dialect> {
    let agent = message.header(Name::UserAgent).or_else(|| message.header(Name::Server)).unwrap_or_default();
    by_agent(agent).or_else(|| by_headers(message)).or_else(|| livekit(message, tags))
}

/// By the name that it gives itself.
fn by_agent(agent: &[u8]) -> Option<Dialect> {
    // Most agents lack a letter of each, and need not be searched.
    let has = agent.iter().fold(0, |has, &byte| has | bit(byte));
    let named = |(word, needs, _): &(&str, u32, Dialect)| needs & !has == 0 && contains(agent, word);
    NAMES.into_iter().find(named).map(|(.., dialect)| dialect)
}

/// Whether an answer is a proxy's own: by the name in its Server, or by the Warning that the family of SIP Express Router
/// adds to what it says itself.
pub(super) fn is_proxys_own(answer: &Message<'_>) -> bool {
    let server = answer.header(Name::Server).or_else(|| answer.header(Name::UserAgent));
    server.is_some_and(|server| PROXIES.iter().any(|word| contains(server, word)))
        || answer.header(Name::Warning).is_some_and(|warning| contains(warning, "noisy feedback tells"))
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
        !message.after_headers().is_empty()
            && SESSION_NAME.find(message.body()).is_some()
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
    use proptest::prelude::*;

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
        assert_eq!(dialect("User-Agent: AVM FRITZ!Box 7490\r\n"), Some(Dialect::FritzBox));
        assert_eq!(dialect("USER-AGENT: Microsoft.PSTNHub.SIPProxy v.1\r\n"), Some(Dialect::Teams));
        assert_eq!(dialect("To: <sip:a@h>;tag=SCL_WRFAVq3dnEMn\r\n"), Some(Dialect::LiveKit));
        let sdp = "Content-Type: application/sdp\r\n\r\nv=0\r\no=- 1 1 IN IP4 h\r\ns=LiveKit\r\n";
        assert_eq!(dialect(sdp), Some(Dialect::LiveKit));
        assert_eq!(dialect("User-Agent: baresip\r\nX: y\r\nTo: <sip:a@h>;tag=SCL_short\r\n"), None);
    }

    proptest! {
        #[test]
        fn a_product_is_found_wherever_its_name_is(
            before in "[a-zA-Z0-9 /@é]{0,12}",
            name in prop::sample::select(vec!["LiveKit", "twilio", "TELNYX", "FreeSWITCH", "Asterisk", "Asterix", ""]),
            after in "[a-z .]{0,12}",
        ) {
            let agent = format!("{before}{name}{after}");
            let lower = agent.to_ascii_lowercase();
            let expected = ["livekit", "twilio", "telnyx", "freeswitch", "asterisk"].into_iter().find(|name| lower.contains(name));
            let found = by_agent(agent.as_bytes()).map(|dialect| format!("{dialect:?}").to_ascii_lowercase());
            prop_assert_eq!(found.as_deref(), expected, "{}", agent);
        }
    }

    #[test]
    fn a_proxy_speaks_for_itself() {
        let own = |headers: &str| {
            let text = format!("SIP/2.0 404 Not Found\r\n{headers}\r\n");
            is_proxys_own(&Message::parse(text.as_bytes()).unwrap())
        };
        assert!(own("Server: kamailio (5.6.3 (x86_64/linux))\r\n"));
        assert!(own("Warning: 392 192.0.2.1:5060 \"Noisy feedback tells: pid=7\"\r\n"));
        assert!(!own("Server: Asterisk PBX 22\r\nWarning: 399 h \"no route\"\r\n") && !own(""));
    }
}
