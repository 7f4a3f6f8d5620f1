//! What messages say of parties, dialogs and peers, taken out for the tables that see no messages.

use std::net::{IpAddr, SocketAddr};

use super::diagnosis::Dialect;
use super::link::{LegFacts, LegId, LinkConfig, ReferFacts};
use super::trunk::{TrunkFacts, TrunkId, Trunks};
use crate::dialog::cut;
use crate::sip::{self, Join, Message, Name, NameAddr, Replaces, TargetDialog, Uri, sdp};
use crate::stream::WireMessage;

/// Values of one header that are looked at.
const VALUES: usize = 8;
/// Headers that say why a request failed.
const TELLING: [Name; 4] = [Name::XTwilioError, Name::Reason, Name::Warning, Name::RetryAfter];
/// Targets of one REFER to several that are named.
const TARGETS: usize = 8;

/// What a Refer-To asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// The URI without its headers.
    pub(super) uri: Option<String>,
    /// Its user, or its host where it has none.
    pub(super) user: Option<String>,
    /// The dialog that its Replaces names (RFC 3891): the consultation.
    pub(super) replaces: Option<String>,
    pub(super) tel: bool,
}

impl Target {
    /// The target of a REFER.
    pub(super) fn of(message: &Message<'_>) -> Self {
        let Some(refer_to) = message.refer_to() else { return Self::default() };
        if let Some(uris) = listed(message, refer_to.uri) {
            return Self { uri: Some(uris), ..Self::default() };
        }
        let uri = Uri::parse(refer_to.uri);
        let replaces = uri.as_ref().and_then(|uri| uri.header("Replaces"));
        let bare = refer_to.uri.split(|byte| *byte == b'?').next().unwrap_or_default();
        Self {
            uri: Some(cut(bare)),
            user: user(refer_to.uri),
            replaces: replaces.and_then(|value| Replaces::parse(&value).map(|named| cut(named.call_id))),
            tel: bare.len() > 4 && bare[..4].eq_ignore_ascii_case(b"tel:"),
        }
    }
}

/// The targets of a REFER whose Refer-To names a resource list in its body (RFC 5368 §5).
fn listed(message: &Message<'_>, refer_to: &[u8]) -> Option<String> {
    if refer_to.len() < 4 || !refer_to[..4].eq_ignore_ascii_case(b"cid:") {
        return None;
    }
    let body = message.body();
    let mut uris = Vec::new();
    let mut at = 0;
    while let Some(found) = memchr::memmem::find(&body[at..], b"uri=\"") {
        let start = at + found + 5;
        let Some(length) = memchr::memchr(b'"', &body[start..]) else { break };
        uris.push(cut(&body[start..start + length]));
        at = start + length;
        if uris.len() == TARGETS {
            break;
        }
    }
    Some(if uris.is_empty() { cut(refer_to) } else { uris.join(", ") })
}

/// The user of a URI, or its host where it has none.
pub(super) fn user(uri: &[u8]) -> Option<String> {
    let uri = Uri::parse(uri)?;
    Some(match uri.user_part() {
        Some(user) => cut(&user),
        None => cut(uri.host),
    })
}

/// What the linker wants to know of the first INVITE of a leg (or of the first message of an older one).
pub(super) fn leg(id: LegId, wire: &WireMessage<'_>, message: &Message<'_>, config: &LinkConfig) -> LegFacts {
    let users = |name| {
        let values = message.values(name).take(VALUES);
        values.filter_map(|value| user(NameAddr::parse(value)?.uri)).collect::<Vec<_>>()
    };
    // A recorder gets a call's media, not the call (RFC 7866): nothing but its Call-ID is told of it.
    let recording = message.values(Name::Require).any(|option| option.eq_ignore_ascii_case(b"siprec"));
    let users = |name| if recording { Vec::new() } else { users(name) };
    let mut asserted = users(Name::PAssertedIdentity);
    asserted.extend(users(Name::PPreferredIdentity));
    asserted.extend(users(Name::RemotePartyId));
    let mut diverted = users(Name::Diversion);
    diverted.extend(users(Name::HistoryInfo));
    LegFacts {
        id,
        call_id: message.call_id().map(cut).unwrap_or_default(),
        invited: wire.time,
        caller_host: wire.src.ip(),
        callee_host: wire.dst.ip(),
        from: message.from().filter(|_| !recording).and_then(|from| user(from.uri)),
        to: message.to().and_then(|to| user(to.uri)),
        request: message.request_uri().and_then(user),
        asserted,
        diverted,
        referred_by: message.referred_by().and_then(|by| user(by.uri)),
        replaces: message.header(Name::Replaces).and_then(Replaces::parse).map(|named| cut(named.call_id)),
        join: message.header(Name::Join).and_then(Join::parse).map(|named| cut(named.call_id)),
        target_dialog: target_dialog(message).map(|dialog| cut(dialog.call_id)),
        session_id: message.header(Name::SessionId).map(cut),
        keys: keys(message, config),
        media: media(message),
    }
}

/// Those of the configured headers that a message has.
pub(super) fn keys(message: &Message<'_>, config: &LinkConfig) -> Vec<(usize, String)> {
    let value = |header: &super::LinkHeader| {
        let value = message.other(&header.name)?;
        match &header.param {
            Some(param) => sip::Params::new(value).get(param).map(cut),
            None => Some(cut(value)),
        }
    };
    let headers = config.headers.iter().enumerate();
    headers.filter_map(|(index, header)| Some((index, value(header)?))).collect()
}

pub(super) fn refer(number: u32, target: &Target, message: &Message<'_>) -> ReferFacts {
    let by = message.referred_by().or_else(|| message.from());
    ReferFacts {
        cseq: number,
        target: target.user.clone(),
        replaces: target.replaces.clone(),
        referred_by: by.and_then(|by| user(by.uri)),
    }
}

/// The dialog that a REFER outside any names (RFC 4538).
pub(super) fn target_dialog<'a>(message: &Message<'a>) -> Option<TargetDialog<'a>> {
    TargetDialog::parse(message.header(Name::TargetDialog)?)
}

/// Where the message's SDP wants the media.
pub(super) fn media(message: &Message<'_>) -> Option<SocketAddr> {
    let audio = sdp::Session::of(message)?.audio?;
    Some(SocketAddr::new(audio.address?, audio.port))
}

/// The trunk that a message shows.
pub(super) fn trunk(trunks: &Trunks, wire: &WireMessage<'_>, message: &Message<'_>) -> TrunkId {
    let peers: [IpAddr; 2] = [wire.src.ip(), wire.dst.ip()];
    let uris = [
        message.request_uri(),
        message.from().map(|party| party.uri),
        message.to().map(|party| party.uri),
        message.contact().map(|party| party.uri),
    ];
    let mut hosts: Vec<&[u8]> =
        uris.into_iter().flatten().filter_map(|uri| Some(Uri::parse(uri)?.host)).collect();
    hosts.extend([message.top_via(), message.bottom_via()].into_iter().flatten().map(|via| via.host));
    trunks.of(&TrunkFacts {
        peers: &peers,
        hosts: &hosts,
        user_agent: message.header(Name::UserAgent).or_else(|| message.header(Name::Server)),
        header: &|name| message.other(name),
    })
}

/// Whose ways a message shows.
pub(super) fn dialect(message: &Message<'_>) -> Option<Dialect> {
    let agent = message.header(Name::UserAgent).or_else(|| message.header(Name::Server)).unwrap_or_default();
    let named = |name: &[u8]| agent.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name));
    let tagged = |party: Option<NameAddr<'_>>| {
        party.and_then(|party| party.tag()).is_some_and(|tag| tag.len() == 16 && tag.starts_with(b"SCL_"))
    };
    let twilio = [Name::XTwilioError, Name::XTwilioCallSid, Name::XTwilioAccountSid];
    if named(b"livekit") {
        Some(Dialect::LiveKit)
    } else if named(b"twilio") || twilio.into_iter().any(|name| message.header(name).is_some()) {
        Some(Dialect::Twilio)
    } else if named(b"asterisk") {
        Some(Dialect::Asterisk)
    } else if named(b"freeswitch") {
        Some(Dialect::FreeSwitch)
    } else if named(b"telnyx") {
        Some(Dialect::Telnyx)
    } else if tagged(message.from()) || tagged(message.to()) {
        Some(Dialect::LiveKit)
    } else {
        None
    }
}

/// LiveKit's end of a leg, told by its tag.
pub(super) fn is_livekit(tag: Option<&[u8]>) -> bool {
    tag.is_some_and(|tag| tag.len() == 16 && tag.starts_with(b"SCL_"))
}

/// Headers that say why, of the message with the deciding status. Never credentials.
pub(super) fn telling(message: &Message<'_>) -> Vec<(&'static str, String)> {
    TELLING
        .into_iter()
        .flat_map(|name| message.headers(name).take(VALUES).map(move |value| (name.as_str(), cut(value))))
        .collect()
}

/// The same headers, the first line of each.
pub(super) fn telling_of<'a>(header: impl Fn(Name) -> Option<&'a [u8]>) -> Vec<(&'static str, String)> {
    TELLING.into_iter().filter_map(|name| Some((name.as_str(), cut(header(name)?)))).collect()
}

/// Whether the Allow of a message lacks REFER; `None` when it has no Allow.
pub(super) fn allow_lacks_refer(message: &Message<'_>) -> Option<bool> {
    let mut allowed = message.values(Name::Allow).peekable();
    allowed.peek()?;
    Some(!allowed.any(|method| method.eq_ignore_ascii_case(b"REFER")))
}

/// The number a BYE's Reason hands over (REFER-to-BYE, seen on Oracle SBCs): a URI in it, or the number that
/// is `wanted`.
pub(super) fn handed_over(message: &Message<'_>, wanted: Option<&str>) -> Option<String> {
    message.headers(Name::Reason).take(VALUES).find_map(|value| {
        let number = wanted.and_then(|user| sip::Number::parse(user.as_bytes()));
        if let Some(number) = number.filter(|number| number.digits().len() >= 5) {
            let digits = number.digits().as_bytes();
            if memchr::memmem::find(value, digits).is_some() {
                return Some(number.digits().to_owned());
            }
        }
        let at = [&b"tel:"[..], b"sip:", b"sips:"].into_iter().find_map(|scheme| {
            value.windows(scheme.len()).position(|part| part.eq_ignore_ascii_case(scheme))
        })?;
        let uri = value[at..].split(|byte| b"\"<> ;,".contains(byte)).next()?;
        user(uri).map(|_| cut(uri))
    })
}
