//! Outcomes that are told on a dialog of their own (RFC 7614 §4): a SUBSCRIBE to the Refer-Events-At of the REFER's 2xx,
//! and the NOTIFYs that answer it.

use std::collections::HashMap;
use std::net::IpAddr;

use super::events::notified;
use crate::leg::AttemptId;
use crate::record::LegRole;
use crate::sip::{self, Message};
use crate::stream::WireMessage;
use crate::transfer::ladder::show;
use crate::transfer::stage::Stage;

/// Outcomes told on other dialogs that are waited for.
const MOST: usize = 1024;

/// Where outcomes are told that are told on dialogs of their own (RFC 7614): the URI to ask at, then the Call-ID that
/// asked there.
#[derive(Debug, Default)]
pub(in crate::transfer) struct Elsewhere {
    attempts: HashMap<Vec<u8>, Told>,
}

/// What is told somewhere else.
#[derive(Debug)]
struct Told {
    attempt: AttemptId,
    /// Who asked, and whom; `None` for a URI.
    asked: Option<Asked>,
}

/// The SUBSCRIBE that began a dialog.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    hosts: (IpAddr, IpAddr),
    tag: Vec<u8>,
}

impl Elsewhere {
    /// What is told under this URI or Call-ID is that attempt's.
    pub(super) fn expect(&mut self, under: &[u8], attempt: AttemptId, asked: Option<Asked>) {
        if self.attempts.len() < MOST {
            self.attempts.entry(under.to_vec()).or_insert(Told { attempt, asked });
        }
    }

    /// An attempt is gone.
    pub(in crate::transfer) fn forget(&mut self, id: AttemptId) {
        self.attempts.retain(|_, told| told.attempt != id);
    }
}

/// Outcomes told on another dialog (RFC 7614 §4): a SUBSCRIBE to the 2xx's Refer-Events-At, and the NOTIFYs
/// that answer it, under a Call-ID of their own. Whether the message was one.
pub(in crate::transfer) fn take(stage: &mut Stage, wire: &WireMessage<'_>, message: &Message<'_>) -> bool {
    if stage.elsewhere.attempts.is_empty() || !message.is_request() {
        return false;
    }
    let (Some(call_id), Some(cseq)) = (message.call_id(), message.cseq()) else { return false };
    match message.method() {
        Some(sip::Method::Subscribe) => {
            let uri = message.request_uri().unwrap_or_default();
            let told = stage.elsewhere.attempts.get(uri).map(|told| told.attempt);
            // Who has no part in the call does not ask for its outcome, and gets no dialog by that.
            if let Some(attempt) = told.filter(|id| takes_part(stage, *id, wire.src.ip())) {
                let tag = message.from().and_then(|from| from.tag()).unwrap_or_default().to_vec();
                let asked = Asked { hosts: (wire.src.ip(), wire.dst.ip()), tag };
                stage.elsewhere.expect(call_id, attempt, Some(asked));
                note(stage, attempt, wire, message);
            }
            false
        }
        Some(sip::Method::Notify) => {
            let Some(Told { attempt: id, asked }) = stage.elsewhere.attempts.get(call_id) else {
                return false;
            };
            let (id, asked) = (*id, asked.clone());
            note(stage, id, wire, message);
            let counts = asked.is_none_or(|asked| is_answer_to(stage, id, &asked, wire, message));
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
