//! What messages say of targets, peers and reasons, taken out for the tables that see no messages.

use std::net::IpAddr;

use std::borrow::Cow;

use smallvec::SmallVec;

use super::dialect;
use crate::leg::{Party, cut};
use crate::record::AnsweredBy;
use crate::sip::{self, Message, Name, ReasonHeader, Replaces, Scheme, TargetDialog, Uri};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;
use crate::trunk::{TrunkFacts, TrunkId, Trunks};

/// Values of one header that are looked at.
const VALUES: usize = 8;
/// Headers that say why a request failed.
const TELLING: [Name; 8] = [
    Name::XTwilioError,
    Name::Reason,
    Name::Warning,
    Name::RetryAfter,
    Name::Unsupported,
    Name::CallInfo,
    Name::Server,
    Name::UserAgent,
];
/// The same, of providers that few see.
const TELLING_OTHERS: [&str; 2] = ["X-ZT-Hangup-Code", "X-Reason"];
/// Targets of one REFER to several that are named.
const TARGETS: usize = 8;

/// Headers that say why: name and value.
pub(super) type Headers = Vec<(&'static str, String)>;

/// What a Refer-To asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// The URI without its headers.
    pub(super) uri: Option<String>,
    /// Its user, or its host where it has none.
    pub(super) user: Option<String>,
    /// Call-ID of the dialog that its Replaces names (RFC 3891): the consultation, or what the peer takes for it.
    pub(super) replaces: Option<Box<[u8]>>,
    /// It has a Replaces, whatever that is worth.
    pub(super) attended: bool,
    /// That lacks a tag, so that it matches no dialog (RFC 3891 §3).
    pub(super) untagged: bool,
    /// It is no transfer: what is asked for is no call.
    pub(super) no_call: bool,
}

/// A final answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) time: Timestamp,
}

impl Target {
    /// The target of a REFER.
    pub(super) fn of(message: &Message<'_>) -> Self {
        let Some(refer_to) = message.refer_to() else { return Self::default() };
        if let Some(uris) = listed(message, refer_to.uri) {
            return Self { uri: Some(uris), no_call: !has_target_list(message), ..Self::default() };
        }
        let uri = Uri::parse(refer_to.uri);
        let replaces = uri.as_ref().and_then(|uri| uri.header("Replaces")).map(unescaped_twice);
        let named = replaces.as_deref().and_then(Replaces::parse);
        let bare = refer_to.uri.split(|byte| *byte == b'?').next().unwrap_or_default();
        Self {
            uri: Some(cut(bare)),
            user: user(refer_to.uri),
            attended: replaces.is_some(),
            no_call: asks_for_no_call(refer_to.uri) || is_remote_control(message),
            untagged: named.is_some_and(|named| named.to_tag.is_none() || named.from_tag.is_none()),
            replaces: named.map(|named| named.call_id.into()),
        }
    }

    /// The target that is a bare URI.
    pub(super) fn of_uri(uri: &[u8]) -> Self {
        Self { uri: Some(cut(uri)), user: user(uri), ..Self::default() }
    }
}

impl Answer {
    /// The final answer that a message is.
    pub(super) fn of(wire: &WireMessage<'_>, message: &Message<'_>, status: u16) -> Self {
        Self { status, reason: message.reason_phrase().map(cut).unwrap_or_default(), time: wire.time }
    }
}

/// Some peers escape a Replaces that is escaped already.
fn unescaped_twice(value: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let twice = memchr::memchr(b';', &value).is_none() && memchr::memmem::find(&value, b"%3").is_some();
    if twice { Cow::Owned(sip::percent_decode(&value).into_owned()) } else { value }
}

/// Whether a Refer-To asks for something else than a call: by another method (RFC 3515 §2.1, RFC 4579 §5.11), or under a
/// scheme that calls nobody, such as a page's or a service's name.
fn asks_for_no_call(refer_to: &[u8]) -> bool {
    let Some(uri) = Uri::parse(refer_to) else { return false };
    let method = uri.params.get("method");
    calls_nobody(uri, refer_to) || method.is_some_and(|method| !method.eq_ignore_ascii_case(b"INVITE"))
}

/// Whether a URI's scheme is none to call somebody by. What has a dot in it, or but a port behind it, is a host without any.
fn calls_nobody(uri: Uri<'_>, refer_to: &[u8]) -> bool {
    let scheme = refer_to.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_start();
    let scheme = scheme.strip_prefix(b"<").unwrap_or(scheme);
    let calls = [&b"h323"[..], b"callto"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let is_host = scheme.contains(&b'.') || uri.host.iter().all(u8::is_ascii_digit);
    uri.scheme == Scheme::Other && !calls && !is_host
}

/// Whether a REFER asks its receiver for a feature: Cisco's phones put a call on hold or into a conference by it, and their
/// server answers by REFERs of the same kind.
fn is_remote_control(message: &Message<'_>) -> bool {
    ["request", "response"]
        .iter()
        .any(|what| message.body_of(&format!("application/x-cisco-remotecc-{what}+xml")).is_some())
}

/// Whether what a REFER's body holds are targets (RFC 5368 §5): other bodies that a Refer-To may name ask for no call.
fn has_target_list(message: &Message<'_>) -> bool {
    message.values(Name::Require).any(|option| option.eq_ignore_ascii_case(b"multiple-refer"))
        || message.body_of("application/resource-lists+xml").is_some()
        || memchr::memmem::find(message.body(), b"<resource-lists").is_some()
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

/// The dialog that a REFER outside any names (RFC 4538).
pub(super) fn target_dialog<'a>(message: &Message<'a>) -> Option<TargetDialog<'a>> {
    TargetDialog::parse(message.header(Name::TargetDialog)?)
}

/// The trunk that a message shows.
pub(super) fn trunk(trunks: &Trunks, wire: &WireMessage<'_>, message: &Message<'_>) -> TrunkId {
    if trunks.is_empty() {
        return TrunkId::OTHER;
    }
    let peers: [IpAddr; 2] = [wire.src.ip(), wire.dst.ip()];
    let uris = [
        message.request_uri(),
        message.from().map(|party| party.uri),
        message.to().map(|party| party.uri),
        message.contact().map(|party| party.uri),
    ];
    let mut hosts: SmallVec<[&[u8]; 6]> =
        uris.into_iter().flatten().filter_map(|uri| Some(Uri::parse(uri)?.host)).collect();
    hosts.extend([message.top_via(), message.bottom_via()].into_iter().flatten().map(|via| via.host));
    trunks.of(&TrunkFacts {
        peers: &peers,
        hosts: &hosts,
        user_agent: message.header(Name::UserAgent).or_else(|| message.header(Name::Server)),
        header: &|name| message.other(name),
    })
}

/// Headers that say why, of the message with the deciding status. Never credentials.
pub(super) fn telling(message: &Message<'_>) -> Headers {
    let known = TELLING
        .into_iter()
        .flat_map(|name| message.headers(name).take(VALUES).map(move |value| (name.as_str(), cut(value))));
    let others = TELLING_OTHERS.into_iter().filter_map(|name| Some((name, cut(message.other(name)?))));
    known.chain(others).collect()
}

/// Who gave the answer to a request that `asked` had sent. `reached` are hosts that the request was seen to go on to.
pub(super) fn answered_by(
    wire: &WireMessage<'_>,
    answer: &Message<'_>,
    asked: IpAddr,
    reached: &[IpAddr],
) -> AnsweredBy {
    let host = wire.src.ip();
    if host == asked {
        AnsweredBy::Sender
    } else if dialect::is_proxys_own(answer) || !reached.is_empty() && !reached.contains(&host) {
        AnsweredBy::Hop
    } else {
        AnsweredBy::Peer
    }
}

/// Reason values of a CANCEL or BYE (RFC 3326).
pub(super) fn reasons(message: &Message<'_>) -> Vec<String> {
    message.headers(Name::Reason).take(VALUES).map(cut).collect()
}

/// The same headers, the first line of each.
pub(super) fn telling_of<'a>(header: impl Fn(Name) -> Option<&'a [u8]>) -> Headers {
    TELLING.into_iter().filter_map(|name| Some((name.as_str(), cut(header(name)?)))).collect()
}

/// Whether the Allow of a message lacks REFER; `None` when it has no Allow.
pub(super) fn allow_lacks_refer(message: &Message<'_>) -> Option<bool> {
    let mut lines = message.headers(Name::Allow).filter(|line| !line.is_empty()).peekable();
    lines.peek()?;
    // No other method's name has this one in it.
    let named = |line: &[u8]| {
        let ends =
            |at: usize| line.get(at..at + 5).is_some_and(|method| method.eq_ignore_ascii_case(b"REFER"));
        memchr::memchr2_iter(b'R', b'r', line).any(ends)
    };
    Some(!lines.any(named))
}

/// Whether a BYE's Reason hands the call over to whom a REFER asked for (REFER-to-BYE, seen on Oracle SBCs): all that it
/// says is that number, or a URI with it.
pub(super) fn hands_over(message: &Message<'_>, wanted: &str) -> bool {
    let number = sip::Number::parse(wanted.as_bytes()).filter(|number| number.digits().len() >= 5);
    let wanted = number.and_then(|_| Party::new(wanted.as_bytes()));
    let names = |text: &[u8]| {
        let uri = Uri::parse(text).filter(|uri| uri.scheme != Scheme::Other);
        let party = if uri.is_some() { Party::of_uri(text) } else { Party::new(text) };
        wanted.as_ref().zip(party).is_some_and(|(wanted, party)| party.same(wanted))
    };
    reasons_of(message).filter_map(|reason| whole_text(&reason)).any(names)
}

/// The URI that a BYE's Reason hands the call over to: all that SIP has to say there. One within a sentence tells who hung
/// up, or why.
pub(super) fn handed_over<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let sip = reasons_of(message).filter(|reason| reason.protocol.eq_ignore_ascii_case(b"SIP"));
    sip.filter_map(|reason| whole_text(&reason)).find(|uri| {
        let calls = Uri::parse(uri).is_some_and(|uri| uri.scheme != Scheme::Other);
        calls && user(uri).is_some()
    })
}

fn reasons_of<'a>(message: &Message<'a>) -> impl Iterator<Item = ReasonHeader<'a>> {
    message.headers(Name::Reason).take(VALUES).flat_map(ReasonHeader::all)
}

/// The one word or URI that a Reason's text is. Beside a failure's cause it says whose that was.
fn whole_text<'a>(reason: &ReasonHeader<'a>) -> Option<&'a [u8]> {
    let fails = reason.sip().is_some_and(|status| !(200..400).contains(&status))
        || reason.q850().is_some_and(|cause| !matches!(cause, 16 | 31));
    let text = reason.text.filter(|_| !fails)?.trim_ascii();
    let text = match text.split_first_chunk::<8>() {
        Some((word, rest)) if word.eq_ignore_ascii_case(b"Contact:") => rest.trim_ascii(),
        _ => text,
    };
    let word = text.strip_prefix(b"<").and_then(|word| word.strip_suffix(b">")).unwrap_or(text);
    (!word.iter().any(|byte| b"\"<> ,".contains(byte))).then_some(word)
}

/// Headers that say why: those within the sipfrag of a NOTIFY, then the NOTIFY's own.
pub(super) fn told(message: &Message<'_>) -> Headers {
    let frag = sip::Sipfrag::of(message);
    let mut headers = frag.map(|frag| telling_of(|name| frag.header(name))).unwrap_or_default();
    headers.extend(telling(message));
    headers
}
