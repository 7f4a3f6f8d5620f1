//! What names a call elsewhere: a provider's ids, which its support asks for, and an application's trace.
//!
//! They are looked for in messages that count, as everything is that a verdict rests on. A leg keeps them where its
//! messages have any, within bounds; others keep nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::method::Known;
use super::stage::{Heard, Stage};
use crate::dialog::DialogEventKind;
use crate::leg::{Leg, MOST_OF_EACH};
use crate::record::WireTrace;
use crate::sip::{self, HeaderName, HeaderNames, Message, Method, Name, TraceContext};

/// Headers that are looked for, at most.
const MOST_HEADERS: usize = 64;
/// Longer ids are cut.
const LONGEST_ID: usize = 128;
type ReadTrace = fn(&[u8]) -> Option<TraceContext>;
/// Headers that name a trace, and how each is read; the first that a message has counts.
const TRACES: [(&str, ReadTrace); 3] = [
    ("traceparent", TraceContext::of_traceparent),
    ("X-Traceparent", TraceContext::of_traceparent),
    ("X-Trace-ID", TraceContext::of_trace_id),
];
/// What LiveKit calls its id of a call, which it puts into its tag. No header has it.
const LIVEKIT: &str = "sip.callID";
/// Its place among the ids of a leg.
const LIVEKIT_PLACE: u8 = u8::MAX;

/// What names a call elsewhere; every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// Headers with a provider's ids, in any case.
    #[serde(deserialize_with = "crate::list::parted")]
    pub headers: Vec<HeaderName>,
    /// What becomes of a trace that the wire names.
    pub trace_context: TraceContextUse,
}

/// What becomes of a trace that the wire names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceContextUse {
    /// The attempt's span is part of it, below the span that is named.
    #[default]
    Parent,
    /// The attempt's span is linked to it, and stays in its call's own trace.
    Link,
    /// Nothing.
    Ignore,
}

/// Why such settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no token (RFC 3261 §25.1).
    #[error("identity.headers: entry {0} is no header's name")]
    Name(usize),
    /// Its value is no id, but a secret or somebody's number.
    #[error("identity.headers: {0} names parties or holds credentials, and is no id")]
    NoId(&'static str),
    /// There are too many.
    #[error("identity.headers: more than {MOST_HEADERS}")]
    TooMany,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        // Twilio; Telnyx; Amazon Connect; jambonz; Genesys; Cisco.
        let headers = [
            "X-Twilio-CallSid",
            "X-Twilio-AccountSid",
            "X-call_leg_id",
            "X-call_session_id",
            "X-Amzn-ConnectContactId",
            "X-Amzn-ConnectInitialContactId",
            "X-Call-Sid",
            "X-Account-Sid",
            "X-Jambonz-FS-UUID",
            "X-Genesys-CallUUID",
            "Cisco-Guid",
        ];
        Self { headers: headers.map(HeaderName::from).to_vec(), trace_context: TraceContextUse::default() }
    }
}

impl IdentityConfig {
    /// Looks for what makes no sense.
    ///
    /// # Errors
    ///
    /// With the header that is at fault.
    pub fn check(&self) -> Result<(), IdentityError> {
        if self.headers.len() > MOST_HEADERS {
            return Err(IdentityError::TooMany);
        }
        for (at, header) in self.headers.iter().enumerate() {
            if !sip::is_token(header.as_str().as_bytes()) {
                return Err(IdentityError::Name(at + 1));
            }
            if is_no_id(header.name()) {
                return Err(IdentityError::NoId(header.name().as_str()));
            }
        }
        Ok(())
    }
}

/// Headers that may not be asked for as ids: credentials, and who somebody is.
const fn is_no_id(name: Name) -> bool {
    let names_somebody = matches!(
        name,
        Name::From
            | Name::To
            | Name::Contact
            | Name::Diversion
            | Name::HistoryInfo
            | Name::PAssertedIdentity
            | Name::PPreferredIdentity
            | Name::RemotePartyId
            | Name::ReferTo
            | Name::ReferredBy
            | Name::Also
    );
    name.is_secret() || names_somebody
}

/// The headers that are looked for: those with ids, then those of traces.
#[derive(Debug)]
pub(super) struct Headers {
    names: HeaderNames,
    ids: usize,
}

impl Headers {
    pub(super) fn new(config: &IdentityConfig) -> Self {
        let ids = config.headers.iter().take(MOST_HEADERS).cloned();
        let traces = TRACES.iter().filter(|_| config.trace_context != TraceContextUse::Ignore);
        let names = ids.chain(traces.map(|(name, _)| HeaderName::from(*name))).collect();
        Self { names, ids: config.headers.len().min(MOST_HEADERS) }
    }

    /// Keeps what a message of a leg names.
    pub(super) fn learn(&self, leg: &mut Leg, heard: Heard<'_>) {
        for (place, value) in heard.message.among(&self.names).filter(|(place, _)| *place < self.ids) {
            if let Ok(place) = u8::try_from(place) {
                keep(leg, place, value);
            }
        }
        if heard.event.kind == DialogEventKind::Invited
            && let Some(trace) = self.trace(heard.message)
        {
            leg.rare_mut().identity_mut().trace = Some(trace);
        }
    }

    /// The trace that a message names.
    pub(super) fn trace(&self, message: &Message<'_>) -> Option<(u8, TraceContext)> {
        let mut found: [Option<&[u8]>; TRACES.len()] = [None; TRACES.len()];
        for (place, value) in message.among(&self.names) {
            let Some(trace) = place.checked_sub(self.ids).and_then(|place| found.get_mut(place)) else {
                continue;
            };
            // Of several none is the right one (W3C Trace Context, §3.2).
            *trace = Some(if trace.is_some() { b"" } else { value });
        }
        let mut found = (0..).zip(TRACES).zip(found);
        found.find_map(|((place, (_, read)), value)| Some((place, read(value?)?)))
    }
}

/// Keeps LiveKit's id of a call that has to do with a transfer.
pub(super) fn learn_livekit(stage: &mut Stage, heard: Heard<'_>) {
    let tags = [heard.key.from_tag, heard.key.to_tag].into_iter().flatten();
    let Some(tag) = tags.into_iter().find(|tag| crate::leg::is_livekit(tag)) else { return };
    let concerned = heard.event.cseq.method == Method::Refer || stage.state(heard.event.leg).is_some();
    if let Some(leg) = stage.legs.get_mut(heard.event.leg).filter(|_| concerned) {
        keep(leg, LIVEKIT_PLACE, tag);
    }
}

/// Keeps an id, the first under its name.
fn keep(leg: &mut Leg, place: u8, value: &[u8]) {
    let known = leg.rare().and_then(|rare| rare.identity.as_deref());
    let known = known.map_or(&[][..], |identity| &identity.ids);
    if known.len() >= MOST_OF_EACH || known.iter().any(|(known, _)| *known == place) {
        return;
    }
    let id = sip::brief(value, LONGEST_ID);
    if !id.trim().is_empty() {
        leg.rare_mut().identity_mut().ids.push((place, id.into()));
    }
}

/// A provider's ids of an attempt: those of its call, then what other legs have beside them.
pub(super) fn provider_ids(known: Known<'_>) -> BTreeMap<String, String> {
    let legs = known.attempt.all_legs().filter_map(|leg| known.stage.legs.get(leg));
    let mut ids = BTreeMap::new();
    for (name, id) in legs.flat_map(|leg| ids_of(known.stage, leg)) {
        ids.entry(name).or_insert(id);
    }
    ids
}

/// A provider's ids of the leg to the target.
pub(super) fn target_provider_ids(known: Known<'_>) -> BTreeMap<String, String> {
    let target = known.attempt.machine.as_method().fate(known);
    let target = target.filter(|leg| Some(leg.id) != known.attempt.call);
    target.into_iter().flat_map(|leg| ids_of(known.stage, leg)).collect()
}

fn ids_of<'a>(stage: &'a Stage, leg: &'a Leg) -> impl Iterator<Item = (String, String)> + 'a {
    let identity = leg.rare().and_then(|rare| rare.identity.as_deref());
    identity.into_iter().flat_map(|identity| &identity.ids).filter_map(|(place, id)| {
        let name = match *place {
            LIVEKIT_PLACE => LIVEKIT,
            place => stage.config.identity.headers.get(usize::from(place))?.as_str(),
        };
        Some((name.to_owned(), String::from(&**id)))
    })
}

/// The trace that an attempt is of: named by what asks for it, by the leg that carries it, by its call, or by another leg.
pub(super) fn trace(known: Known<'_>) -> Option<WireTrace> {
    let attempt = known.attempt;
    let legs = [attempt.dialog].into_iter().chain(attempt.all_legs());
    let of_leg = |leg| known.stage.legs.get(leg)?.rare()?.identity.as_deref()?.trace;
    let (place, context) = attempt.trace.as_deref().copied().or_else(|| legs.into_iter().find_map(of_leg))?;
    // Nothing is recorded of a trace that is not sampled, so that nobody would find a part of it.
    let joins = known.stage.config.identity.trace_context == TraceContextUse::Parent && context.sampled;
    Some(WireTrace {
        header: TRACES[usize::from(place)].0,
        trace_id: format!("{:032x}", context.trace_id),
        span_id: context.span_id.map(|id| format!("{id:016x}")),
        sampled: context.sampled,
        joins,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(headers: &[&str]) -> IdentityConfig {
        let headers = headers.iter().map(|name| HeaderName::from(*name)).collect();
        IdentityConfig { headers, ..IdentityConfig::default() }
    }

    fn trace(headers: &str) -> Option<&'static str> {
        let bytes = format!("INVITE sip:a@b SIP/2.0\r\n{headers}\r\n\r\n");
        let message = Message::parse(bytes.as_bytes()).unwrap();
        let found = Headers::new(&IdentityConfig::default()).trace(&message);
        found.map(|(place, _)| TRACES[usize::from(place)].0)
    }

    #[test]
    fn what_is_no_id_is_refused() {
        assert_eq!(IdentityConfig::default().check(), Ok(()));
        assert_eq!(config(&["X-Mine", "My-Id"]).check(), Ok(()));
        assert_eq!(config(&["X-Mine", "a b"]).check(), Err(IdentityError::Name(2)));
        assert_eq!(config(&[""]).check(), Err(IdentityError::Name(1)));
        for name in ["authorization", "Proxy-Authorization", "f", "P-Asserted-Identity", "Refer-To"] {
            assert!(matches!(config(&[name]).check(), Err(IdentityError::NoId(_))), "{name}");
        }
        assert_eq!(config(&["X-A"; MOST_HEADERS + 1]).check(), Err(IdentityError::TooMany));
    }

    #[test]
    fn the_best_header_that_can_be_read_names_the_trace() {
        const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        const ID: &str = "0af7651916cd43dd8448eb211c80319c";
        for (headers, expected) in [
            (format!("X-Trace-ID: {ID}\r\nTraceParent: {PARENT}"), Some("traceparent")),
            (format!("X-Trace-Id: {ID}\r\nx-traceparent: {PARENT}"), Some("X-Traceparent")),
            (format!("X-Trace-Id: {ID}\r\ntraceparent: {PARENT}x"), Some("X-Trace-ID")),
            (format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}"), None),
            ("X-Trace-ID: 17".to_owned(), None),
            ("Subject: none".to_owned(), None),
        ] {
            assert_eq!(trace(&headers), expected, "{headers}");
        }
    }
}
