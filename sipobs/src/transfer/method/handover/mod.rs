//! Calls handed over in a BYE: one with Also (legacy), and one with the number in its Reason (REFER-to-BYE, seen on
//! Oracle SBCs).

use super::{Known, Machine, Method};
use crate::leg::{LegId, Party};
use crate::record::{Answered, LegRole, Method as Word, Side, UnknownReason};
use crate::sip::{Name, NameAddr};
use crate::timestamp::Timestamp;
use crate::transfer::facts::{self, Answer, Target};
use crate::transfer::ladder::show;
use crate::transfer::stage::{Heard, Stage};
use crate::transfer::state::{Owned, PendingAttempt};
use crate::transfer::verdict::{Provisional, Verdict};

/// A BYE that hands a call over, and its answer.
#[derive(Debug)]
pub(in crate::transfer) struct Handover {
    bye: Timestamp,
    answer: Option<Answer>,
}

/// A BYE that says where the call goes on, if it does.
pub(in crate::transfer) fn on_bye(stage: &mut Stage, heard: Heard<'_>) {
    let message = heard.message;
    if let Some(also) = message.header(Name::Also).and_then(NameAddr::parse) {
        return begin(stage, heard, Word::Also, also.uri);
    }
    let open = stage.open_in(heard.event.leg);
    let target = facts::handed_over(message).filter(|target| !is_party(stage, heard.event.leg, target));
    for id in &open {
        let Some(attempt) = stage.attempts.get_mut(id).filter(|attempt| attempt.method == Word::Refer) else {
            continue;
        };
        // The REFER's own number comes back in the BYE: it was turned into this BYE.
        let ended = attempt.refer().is_some_and(|refer| refer.terminated.is_some() || refer.result.is_some());
        let hands_over = || {
            let wanted = attempt.target.user.as_deref();
            wanted.is_some_and(|wanted| facts::hands_over(message, wanted)) || target.is_some()
        };
        if ended && hands_over() {
            attempt.method = Word::ReferBye;
            return;
        }
    }
    if let Some(target) = target.filter(|_| open.is_empty()) {
        begin(stage, heard, Word::ReferBye, target);
    }
}

/// Whether a URI is that of a party of the call: nobody is handed over to whom he talks to.
fn is_party(stage: &Stage, leg: LegId, uri: &[u8]) -> bool {
    let named = Party::of_uri(uri);
    let Some((leg, named)) = stage.legs.get(leg).zip(named) else { return false };
    [Side::Caller, Side::Callee]
        .into_iter()
        .any(|side| Party::of_uri(leg.uri(side)).is_some_and(|party| party.same(&named)))
}

/// The answer to a BYE.
pub(in crate::transfer) fn on_bye_answer(stage: &mut Stage, heard: Heard<'_>, status: u16) {
    let answer = Answer::of(heard.wire, heard.message, status);
    for id in stage.open_in(heard.event.leg) {
        let attempt = stage.attempts.get_mut(&id);
        if let Some(Machine::Handover(handover)) = attempt.map(|attempt| &mut attempt.machine) {
            handover.answer.get_or_insert_with(|| answer.clone());
        }
    }
}

fn begin(stage: &mut Stage, heard: Heard<'_>, method: Word, target: &[u8]) {
    let Heard { event, wire, message, .. } = heard;
    let Some(leg) = stage.legs.get(event.leg) else { return };
    let machine = Machine::Handover(Handover { bye: wire.time, answer: None });
    let mut attempt = PendingAttempt {
        call: Some(leg.id),
        call_id: Some(leg.call_id_text().into_owned()),
        transferor: Some(leg.uri_text(event.by)),
        transferee: Some(leg.uri_text(event.by.other())),
        target: Target::of_uri(target),
        headers: facts::telling(message),
        ..PendingAttempt::new(method, machine, leg.id, event.by, wire.time)
    };
    attempt.ladder.push(show(wire, message, event.cseq, LegRole::Call), stage.config.limits.ladder);
    attempt.own(Owned::of(event));
    stage.note_transferred(event.leg);
    stage.begin(attempt);
}

impl Method for Handover {
    /// Nothing tells its outcome but the target's own leg.
    fn evaluate(&self, known: Known<'_>, _now: Timestamp) -> Provisional {
        let target = known.target_provisional();
        if let Some(target) = target.filter(|target| target.verdict.decided.is_some()) {
            return target;
        }
        let verdict =
            Verdict { decided: Some(self.bye), early: false, ..Verdict::unknown(UnknownReason::HandedOver) };
        let verdict = match &self.answer {
            Some(answer) => verdict.status(answer.status, &answer.reason, Answered::Refer),
            None => verdict,
        };
        Provisional { at: self.bye + known.timers().after_bye, verdict }
    }
}
