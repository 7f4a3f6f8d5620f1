//! Whose leg a leg is: the linker is asked until it knows.

use smallvec::SmallVec;

use super::SecondLeg;
use crate::dialog::is_challenge;
use crate::leg::{AttemptId, Leg, LegId, Origin};
use crate::link::{Decision, Links};
use crate::record::{Kind, LegRole, Link, LinkMethod, Method, Side};
use crate::sip::{Join, Message, Name, Replaces};
use crate::timestamp::Timestamp;
use crate::transfer::facts::Target;
use crate::transfer::method::refer::unseen::Part;
use crate::transfer::method::{Machine, consultation, refer, target_leg};
use crate::transfer::stage::{Due, Heard, Stage};
use crate::transfer::state::{Named, PendingAttempt, Watched};

/// The least step of a clock, so that asking again makes progress.
const TICK: std::time::Duration = std::time::Duration::from_millis(1);

/// Watches a leg that has just begun, if it could belong to a transfer.
pub(in crate::transfer) fn on_invite(stage: &mut Stage, heard: Heard<'_>) {
    let leg = heard.event.leg;
    let named = named(stage, heard.message);
    if let Some(id) = stage.legs.get(leg).and_then(|leg| refer::unseen::named_by(stage, leg)) {
        if let Some(named) = named.filter(|named| !named.join && is_vouched(stage, leg)) {
            consultation::consulted_before(stage, leg, &named);
            if let Some(attempt) = stage.attempts.get_mut(&id) {
                attempt.kind = Kind::Attended;
            }
        }
        return target_leg::attach_referred(stage, id, leg);
    }
    let could_be = stage.legs.get(leg).is_some_and(Links::could_be_second_leg);
    if (named.is_some() || could_be)
        && let Some(state) = stage.state_or_new(leg)
    {
        state.watched = Some(Watched::new(named));
    }
    note_vouched(stage, leg);
}

/// Looks again at the legs that began just before a REFER in `call`: taps and queues may turn a REFER and the leg that it
/// asks for around.
pub(in crate::transfer) fn on_late_refer(stage: &mut Stage, call: LegId, now: Timestamp) {
    let just_now = |leg: &&Leg| leg.id != call && now.since(leg.started) <= refer::TURNED_AROUND;
    let free = |leg: &&Leg| {
        stage.state_of(leg).is_none_or(|state| {
            let serves = state.serves.and_then(|id| stage.attempts.get(&id));
            state.consults.is_none() && serves.is_none_or(|attempt| attempt.second_leg().is_some())
        })
    };
    let legs = stage.recent_legs().filter(just_now).filter(free);
    let legs: SmallVec<[LegId; 4]> = legs.map(|leg| leg.id).collect();
    for leg in legs {
        if stage.links.asked_for(&mut stage.legs, leg, call) {
            watch_again(stage, leg);
        }
    }
}

/// Watches a leg that has become a possible second leg, or was taken for another's.
fn watch_again(stage: &mut Stage, leg: LegId) {
    let taken_for = stage.state(leg).and_then(|state| state.serves);
    let taken_for = taken_for.and_then(|id| stage.withdraw(id));
    let ladder = taken_for.map_or_else(|| stage.begun_ladder(leg), |attempt| attempt.ladder);
    if let Some(state) = stage.state_or_new(leg).filter(|state| state.watched.is_none()) {
        state.watched = Some(Watched { ladder, ..Watched::new(None) });
    }
    note_vouched(stage, leg);
    stage.due.push_back(Due::Second(leg));
}

/// The dialog that an INVITE takes over or comes into. Directed pickup takes a call that only rings (RFC 3891 §1,
/// §7.1): no transfer.
fn named(stage: &Stage, message: &Message<'_>) -> Option<Named> {
    let replaced = message.header(Name::Replaces).and_then(Replaces::parse);
    let joined = message.header(Name::Join).and_then(Join::parse);
    let (call_id, to_tag, join) = match (replaced.filter(|named| !named.early_only), joined) {
        (Some(replaced), _) => (replaced.call_id, replaced.to_tag, false),
        (None, Some(joined)) => (joined.call_id, Some(joined.to_tag), true),
        (None, None) => return None,
    };
    let known = stage.legs.named(call_id, [None, None]).and_then(|leg| stage.legs.get(leg));
    let rings = known.is_some_and(|leg| leg.origin == Origin::Invite && !leg.answered.is_set());
    (!rings).then(|| Named {
        call_id: call_id.into(),
        to_tag: to_tag.and_then(|tag| stage.legs.tag(tag)),
        join,
    })
}

/// Takes a leg at its word once more than that is known of it, as when somebody answers.
pub(in crate::transfer) fn note_vouched(stage: &mut Stage, leg: LegId) {
    let is_vouched = is_vouched(stage, leg);
    let Some(watched) = stage.watched_mut(leg).filter(|watched| !watched.vouched && is_vouched) else {
        return;
    };
    watched.vouched = true;
    if let Some(named) = watched.named.clone() {
        consultation::consulted_before(stage, leg, &named);
    }
}

/// The linker hears of a leg's fate: it was answered, or has failed.
pub(in crate::transfer) fn on_told(stage: &mut Stage, leg: LegId) {
    if let Some(watched) = stage.watched_mut(leg) {
        watched.told = true;
    }
    // Where nobody will tell of a REFER, this leg may.
    for id in refer::halves::untold(stage, leg) {
        stage.review(id);
    }
}

/// The legs that may belong to a call get their verdicts until `at`: it has ended.
pub(in crate::transfer) fn hurry(stage: &mut Stage, call: LegId, at: Timestamp) {
    for leg in stage.links.waiting_for(&stage.legs, call) {
        let due = stage.watched_mut(leg).and_then(|watched| watched.due.get());
        if due.is_some_and(|due| due > at) {
            stage.set_second_deadline(leg, at);
        }
    }
}

/// Asks again whose leg it is.
pub(in crate::transfer) fn review(stage: &mut Stage, leg: LegId, now: Timestamp) {
    let Some(told) = stage.watched_mut(leg).map(|watched| watched.told) else { return };
    // Of a leg that failed in silence the linker hears only from here.
    let failure = silent_failure(stage, leg).filter(|_| !told);
    let due = |failure: &SilentFailure| {
        failure.known <= now || failure.at <= now && stage.links.is_left_over(&stage.legs, leg, now)
    };
    if let Some(failure) = failure.filter(due) {
        tell_silent_failure(stage, leg, failure);
    }
    let known = failure.map(|failure| failure.known);
    // It is looked at again when somebody answers.
    if let Some(known) = known.filter(|known| *known > now && !is_vouched(stage, leg)) {
        return stage.set_second_deadline(leg, known);
    }
    match stage.links.decide(&mut stage.legs, leg, now) {
        Decision::NotYet { until } => {
            let until = known.filter(|known| *known > now).map_or(until, |known| known.min(until));
            stage.set_second_deadline(leg, until.max(now + TICK));
        }
        decision => decided(stage, leg, decision),
    }
}

/// Asks for the last word.
pub(in crate::transfer) fn force(stage: &mut Stage, leg: LegId, now: Timestamp) {
    let Some(told) = stage.watched_mut(leg).map(|watched| watched.told) else { return };
    // A challenge that nobody took up until now will not be taken up in what was captured.
    if let Some(failure) = silent_failure(stage, leg).filter(|failure| !told && failure.at <= now) {
        tell_silent_failure(stage, leg, failure);
    }
    let decision = stage.links.conclude(&mut stage.legs, leg, now);
    decided(stage, leg, decision);
}

/// The failure of a leg that no final answer tells.
#[derive(Clone, Copy)]
struct SilentFailure {
    at: Timestamp,
    /// When that is sure.
    known: Timestamp,
    status: Option<u16>,
}

/// How a leg fails without a final answer that says so: nothing answers its INVITE (timer B), or nobody retries it after its
/// challenge.
fn silent_failure(stage: &Stage, leg: LegId) -> Option<SilentFailure> {
    let invite = stage.legs.get(leg)?.invite.as_ref()?;
    let transaction = stage.config.timers.transaction;
    match invite.answer() {
        Some(answer) if is_challenge(answer.status) => Some(SilentFailure {
            at: answer.time,
            known: answer.time + transaction,
            status: Some(answer.status),
        }),
        None if !invite.heard => {
            let at = invite.tried + transaction;
            Some(SilentFailure { at, known: at, status: None })
        }
        _ => None,
    }
}

fn tell_silent_failure(stage: &mut Stage, leg: LegId, failure: SilentFailure) {
    stage.links.failed(&mut stage.legs, &mut stage.timers, leg, failure.at, failure.status);
    if let Some(watched) = stage.watched_mut(leg) {
        watched.told = true;
    }
}

fn decided(stage: &mut Stage, leg: LegId, decision: Decision) {
    let Some(watched) = stage.unwatch(leg) else { return };
    let consults = stage.state(leg).is_some_and(|state| state.consults.is_some());
    match decision {
        // A REFER tells of it.
        Decision::Linked { refer: None, .. } | Decision::Ambiguous { .. }
            if consults && watched.named.is_none() =>
        {
            if let Some(leg) = stage.legs.get_mut(leg) {
                leg.call.is_leg = true;
            }
        }
        Decision::Linked { call, refer: Some(number), link } => {
            if let Some(id) = refer_attempt(stage, call, number)
                && !comes_after_success(stage, id, leg, &link)
            {
                target_leg::attach(stage, id, leg, link, watched.ladder);
            }
        }
        Decision::Linked { link, .. } if let Some(id) = unseen_refer(stage, leg, &watched) => {
            if let Some(attempt) = stage.attempts.get_mut(&id) {
                attempt.kind = Kind::Attended;
            }
            target_leg::attach(stage, id, leg, link, watched.ladder);
        }
        Decision::Linked { call, link, .. }
            if watched.named.is_none()
                && let Some((id, part)) = refer::unseen::of_call(stage, call, leg) =>
        {
            match part {
                Part::Target => target_leg::attach(stage, id, leg, link, watched.ladder),
                Part::Consultation => {
                    if let Some(attempt) = stage.attempts.get_mut(&id) {
                        attempt.kind = Kind::Attended;
                    }
                    target_leg::attach_behind(stage, id, leg);
                }
            }
        }
        Decision::Linked { call, link, .. }
            if watched.named.is_none()
                && let Some(id) = refer::halves::asked_beside(stage, call, leg) =>
        {
            target_leg::attach(stage, id, leg, link, watched.ladder);
        }
        Decision::Linked { call, refer: None, link } => begin(stage, leg, Some(call), Some(link), watched),
        // Nothing of its own: an attempt by REFER, whichever, tells of it.
        Decision::Ambiguous { referred: true, .. } => {
            if let Some(leg) = stage.legs.get_mut(leg) {
                leg.call.is_leg = true;
            }
        }
        Decision::Ambiguous { link, .. }
            if watched.named.is_none()
                && let Some((id, link)) = refer::halves::asked_beside_all(stage, &link.candidates, leg) =>
        {
            target_leg::attach(stage, id, leg, link, watched.ladder);
        }
        Decision::Ambiguous { link, .. } => begin(stage, leg, None, Some(link), watched),
        Decision::No if watched.named.is_some() && is_vouched(stage, leg) => {
            begin(stage, leg, None, None, watched);
        }
        Decision::No | Decision::NotYet { .. } => {}
    }
}

fn is_vouched(stage: &Stage, leg: LegId) -> bool {
    stage.legs.get(leg).is_some_and(|leg| stage.legs.vouches_for(leg))
}

/// The attempt under way for the REFER with this number in that call.
fn refer_attempt(stage: &Stage, call: LegId, number: u32) -> Option<AttemptId> {
    stage.open_in(call).into_iter().rev().find(|id| {
        let refer = stage.attempts.get(id).and_then(|attempt| attempt.refer());
        refer.is_some_and(|refer| refer.numbers.contains(&number))
    })
}

/// Whether a leg began only after the success of its REFER was told, and not for the mere attempt: nobody asked for another.
/// A leg that names the REFER's sender, or the dialog that its target takes over, is the one that was asked for.
fn comes_after_success(stage: &Stage, id: AttemptId, leg: LegId, link: &Link) -> bool {
    let (Some(attempt), Some(leg)) = (stage.attempts.get(&id), stage.legs.get(leg)) else { return false };
    let named = link.method == LinkMethod::Replaces || refer::unseen::is_for_transferor(stage, attempt, leg);
    !named && attempt.refer().is_some_and(|refer| refer.is_success_before(leg.started, &stage.config.timers))
}

/// The attempt by a REFER that was not seen, to which an INVITE with Replaces belongs.
fn unseen_refer(stage: &Stage, leg: LegId, watched: &Watched) -> Option<AttemptId> {
    watched.named.as_ref().filter(|named| !named.join)?;
    refer::unseen::of_maker(stage, stage.legs.get(leg)?)
}

/// A second leg is an attempt of its own.
fn begin(stage: &mut Stage, leg: LegId, call: Option<LegId>, link: Option<Link>, watched: Watched) {
    let Watched { named, ladder, .. } = watched;
    let Some(own) = stage.legs.get(leg).filter(|leg| leg.invite.is_some()) else { return };
    let call = call.filter(|call| stage.legs.get(*call).is_some());
    let call_leg = call.and_then(|call| stage.legs.get(call));
    let call_state = call_leg.and_then(|call| stage.state_of(call));
    let held = call_state.is_some_and(|call| call.was_held(own.started));
    let mut ladder = ladder.into_leg(LegRole::Target);
    if let Some(line) = call_state.and_then(|call| call.bye_line.clone()) {
        ladder.push(line, stage.config.limits.ladder);
    }
    let names = link.as_ref().map_or(&[][..], |link| &link.candidates);
    let candidates: Vec<LegId> =
        names.iter().filter_map(|call_id| stage.legs.named(call_id.as_bytes(), [None, None])).collect();
    let replaced = named.as_ref().filter(|_| names.is_empty());
    let replaced = replaced.map(|named| crate::leg::cut(&named.call_id));
    let (by, transferor, transferee) = parties(own, call_leg, named.as_ref());
    let replaces = named.is_some();
    let machine = Machine::SecondLeg(SecondLeg { replaces });
    let mark = own.call.mark;
    let attempt = PendingAttempt {
        kind: if replaces || held { Kind::Attended } else { Kind::Blind },
        call,
        call_id: call_leg.map(|call| call.call_id_text().into_owned()).or(replaced),
        transferor: Some(transferor),
        transferee,
        target: Target::of_uri(own.request()),
        legs: [leg].into_iter().collect(),
        candidates: candidates.clone(),
        link,
        ladder,
        ..PendingAttempt::new(Method::Invite, machine, leg, by, own.started)
    };
    if let Some(call) = call.filter(|_| replaces) {
        stage.note_transferred(call);
    }
    let id = stage.begin(attempt);
    if let Some(attempt) = stage.attempts.get_mut(&id) {
        // Its leg is the older evidence.
        attempt.mark = mark;
    }
    stage.serve(leg, id);
    if let Some(next) = stage.state(leg).and_then(|state| state.followed_by) {
        target_leg::follow(stage, id, next);
    }
    for candidate in candidates {
        if let Some(candidate) = stage.legs.get_mut(candidate) {
            candidate.call.perhaps_second_leg = true;
        }
    }
    stage.review(id);
}

/// Whose second leg it is: the transferor's side of the call, the transferor, and the transferee where known.
fn parties(leg: &Leg, call: Option<&Leg>, named: Option<&Named>) -> (Side, String, Option<String>) {
    let maker = leg.uri_text(Side::Caller);
    let Some(call) = call else { return (Side::Callee, maker, None) };
    let Some(named) = named else {
        // The transferee is the end of the call that the second leg's maker does not host.
        let by = if call.hosts.0 == leg.hosts.0 { Side::Caller } else { Side::Callee };
        return (by, call.uri_text(by), Some(call.uri_text(by.other())));
    };
    let has_tag = |side: &Side| named.to_tag.is_some() && call.end(*side).tag == named.to_tag;
    let by_tag = [Side::Caller, Side::Callee].into_iter().find(has_tag);
    let by_host = if call.hosts.0 == leg.hosts.1 { Side::Caller } else { Side::Callee };
    let addressee = by_tag.unwrap_or(by_host);
    let other = call.uri_text(addressee.other());
    if named.join {
        return (addressee, maker, Some(other));
    }
    // Who is replaced in the addressee's call had asked the maker to do so.
    (addressee.other(), other, Some(maker))
}
