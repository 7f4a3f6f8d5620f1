//! Outcomes told on dialogs of their own (RFC 7614): whoever sent the REFER asks for them at the URI that its 2xx names.

use std::collections::HashMap;
use std::net::IpAddr;

use super::notify::notified;
use crate::leg::AttemptId;
use crate::record::LegRole;
use crate::sip::{self, Message, Uri};
use crate::stream::WireMessage;
use crate::transfer::ladder::show;
use crate::transfer::stage::Stage;

/// Outcomes told on other dialogs that are waited for.
const MOST: usize = 1024;
/// Longest URI, Call-ID or tag that is kept for that, in bytes.
const LONGEST: usize = 512;
/// URIs of one user and host that differ in the rest.
const NEAR: usize = 8;

/// Where such outcomes are told.
#[derive(Debug, Default)]
pub(in crate::transfer) struct Elsewhere {
    /// The URIs to ask at, by user and host.
    places: HashMap<Vec<u8>, Vec<(Vec<u8>, AttemptId)>>,
    /// The dialogs that asked there, by Call-ID.
    told: HashMap<Vec<u8>, Told>,
    /// How many URIs and dialogs.
    known: usize,
}

/// Whose outcome a dialog tells.
#[derive(Debug)]
struct Told {
    attempt: AttemptId,
    asked: Asked,
}

/// The SUBSCRIBE that began it.
#[derive(Clone, Debug)]
struct Asked {
    hosts: (IpAddr, IpAddr),
    tag: Vec<u8>,
}

/// Outcomes told on another dialog (RFC 7614 §4): a SUBSCRIBE to the 2xx's Refer-Events-At, and the NOTIFYs
/// that answer it, under a Call-ID of their own. Whether the message was one.
pub(in crate::transfer) fn take(stage: &mut Stage, wire: &WireMessage<'_>, message: &Message<'_>) -> bool {
    if stage.elsewhere.is_empty() || !message.is_request() {
        return false;
    }
    let (Some(call_id), Some(cseq)) = (message.call_id(), message.cseq()) else { return false };
    match message.method() {
        Some(sip::Method::Subscribe) => {
            let uri = message.request_uri().unwrap_or_default();
            let told = stage.elsewhere.asked_at(uri);
            // Who has no part in the call does not ask for its outcome, and gets no dialog by that.
            if let Some(attempt) = told.filter(|id| takes_part(stage, *id, wire.src.ip())) {
                let tag = message.from().and_then(|from| from.tag()).unwrap_or_default().to_vec();
                let asked = Asked { hosts: (wire.src.ip(), wire.dst.ip()), tag };
                stage.elsewhere.expect(call_id, attempt, asked);
                note(stage, attempt, wire, message);
            }
            false
        }
        Some(sip::Method::Notify) => {
            let Some(Told { attempt: id, asked }) = stage.elsewhere.told.get(call_id) else { return false };
            let (id, asked) = (*id, asked.clone());
            note(stage, id, wire, message);
            let counts = is_answer_to(stage, id, &asked, wire, message);
            let most = stage.config.limits.ladder;
            let Some(attempt) = stage.attempts.get_mut(&id) else { return true };
            let line = show(wire, message, cseq, LegRole::Call);
            if !counts {
                attempt.ladder.push_doubted(line, most);
                return true;
            }
            attempt.ladder.push(line, most);
            if let Some(refer) = attempt.refer_mut() {
                refer.notified(wire.time, notified(wire, message));
            }
            stage.review(id);
            true
        }
        _ => false,
    }
}

/// Keeps a message with those of an attempt's dialog.
fn note(stage: &mut Stage, id: AttemptId, wire: &WireMessage<'_>, message: &Message<'_>) {
    if let Some(attempt) = stage.attempts.get(&id) {
        stage.legs.note(attempt.dialog, wire, message);
    }
}

/// Whether a host is on the path of an attempt's dialog.
fn takes_part(stage: &Stage, id: AttemptId, host: IpAddr) -> bool {
    let dialog = stage.attempts.get(&id).and_then(|attempt| stage.legs.get(attempt.dialog));
    dialog.is_some_and(|dialog| stage.legs.goes_through(dialog, host))
}

/// Whether a NOTIFY comes from whom a SUBSCRIBE went to, or by the call's own path, and is for who sent that.
fn is_answer_to(
    stage: &Stage,
    id: AttemptId,
    asked: &Asked,
    wire: &WireMessage<'_>,
    message: &Message<'_>,
) -> bool {
    let (src, dst) = (wire.src.ip(), wire.dst.ip());
    let by_path = || [src, dst].into_iter().all(|host| takes_part(stage, id, host));
    let to = message.to().and_then(|to| to.tag()).unwrap_or_default();
    to == asked.tag && ((dst, src) == asked.hosts || by_path())
}

impl Elsewhere {
    fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// An attempt's outcome is told to whoever asks there.
    pub(super) fn ask_at(&mut self, uri: &[u8], attempt: AttemptId) {
        if self.known >= MOST || uri.len() > LONGEST {
            return;
        }
        let near = self.places.entry(place(uri)).or_default();
        if near.len() < NEAR {
            near.push((uri.to_vec(), attempt));
            self.known += 1;
        }
    }

    /// The URIs to ask at for an attempt's outcome.
    pub(super) fn places_of(&self, id: AttemptId) -> Vec<Vec<u8>> {
        let mut of_it: Vec<Vec<u8>> = self
            .places
            .values()
            .flatten()
            .filter(|(_, attempt)| *attempt == id)
            .map(|(uri, _)| uri.clone())
            .collect();
        of_it.sort_unstable();
        of_it
    }

    /// The attempt whose outcome is told there. Who asks may write the URI in another way (RFC 3261 §19.1.4).
    fn asked_at(&self, uri: &[u8]) -> Option<AttemptId> {
        let near = self.places.get(&place(uri)).filter(|_| uri.len() <= LONGEST)?;
        let asked = Uri::parse(uri);
        let same =
            |known: &[u8]| Uri::parse(known).zip(asked).is_some_and(|(known, asked)| known.is_same(&asked));
        let exact = near.iter().find(|(known, _)| known == uri);
        exact.or_else(|| near.iter().find(|(known, _)| same(known))).map(|(_, attempt)| *attempt)
    }

    /// What is told under this Call-ID is that attempt's.
    fn expect(&mut self, call_id: &[u8], attempt: AttemptId, asked: Asked) {
        let short = call_id.len() <= LONGEST && asked.tag.len() <= LONGEST;
        if self.known < MOST && short && !self.told.contains_key(call_id) {
            self.known += 1;
            self.told.insert(call_id.to_vec(), Told { attempt, asked });
        }
    }

    /// An attempt is gone.
    pub(in crate::transfer) fn forget(&mut self, id: AttemptId) {
        if self.is_empty() {
            return;
        }
        self.places.retain(|_, near| {
            near.retain(|(_, attempt)| *attempt != id);
            !near.is_empty()
        });
        self.told.retain(|_, told| told.attempt != id);
        self.known = self.told.len() + self.places.values().map(Vec::len).sum::<usize>();
    }
}

/// What URIs that are the same have in common at least: their user and host.
fn place(uri: &[u8]) -> Vec<u8> {
    let Some(parsed) = Uri::parse(uri) else { return uri.to_vec() };
    let mut place = parsed.host.to_ascii_lowercase();
    place.push(b'@');
    place.extend_from_slice(&parsed.user_part().unwrap_or_default());
    place
}
