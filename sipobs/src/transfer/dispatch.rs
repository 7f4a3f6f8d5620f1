//! Every event of a leg, brought to the attempts it concerns. Nothing is judged here.

use smallvec::SmallVec;

use super::method::{consultation, handover, redirect, refer, second_leg};
use super::recent::Begun;
use super::stage::{Due, Heard, Stage};
use super::{dialect, facts, identity, ladder};
use crate::dialog::{DialogEventKind, is_challenge};
use crate::leg::{Leg, LegId, Origin};
use crate::record::LegRole;
use crate::sip::{Message, Method, Name, Q850};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;
use crate::trunk::{TrunkId, Trunks};

/// Takes an event. What is to be judged again because of it is in `stage.due` then.
pub(super) fn take(stage: &mut Stage, trunks: &Trunks, heard: Heard<'_>) {
    let Heard { event, wire, .. } = heard;
    let leg = event.leg;
    if event.begins {
        begin_leg(stage, trunks, heard);
    }
    learn(stage, heard);
    match event.kind {
        DialogEventKind::Invited => invited(stage, heard),
        DialogEventKind::Relayed => stage.links.reached(&mut stage.legs, leg, wire.dst.ip()),
        DialogEventKind::InviteAnswer(status) => invite_answer(stage, trunks, heard, status),
        DialogEventKind::Request => request(stage, heard),
        DialogEventKind::Response(status) => match event.cseq.method {
            Method::Refer => refer::events::on_answer(stage, heard, status),
            Method::Bye => handover::on_bye_answer(stage, heard, status),
            Method::Notify => refer::notify::on_notify_answer(stage, heard, status),
            _ => {}
        },
        DialogEventKind::Acknowledged => acknowledged(stage, leg, wire.time),
        DialogEventKind::Retried => {}
    }
    if stage.legs.get(leg).is_some_and(|leg| leg.is_confirmed_by_both()) {
        stage.links.confirmed(&mut stage.legs, leg);
    }
    stage.draw(heard);
    review_leg(stage, leg);
}

/// Takes a message that is about an attempt, and in no dialog of its call. Whether it was one.
pub(super) fn take_outside(stage: &mut Stage, wire: &WireMessage<'_>, message: &Message<'_>) -> bool {
    refer::elsewhere::take(stage, wire, message)
}

/// A request other than the initial INVITE.
fn request(stage: &mut Stage, heard: Heard<'_>) {
    forget_refused_bye(stage, heard.event.leg);
    match heard.event.cseq.method {
        Method::Refer => refer::events::on_refer(stage, heard),
        Method::Notify => refer::notify::on_notify(stage, heard),
        Method::Bye => bye(stage, heard),
        Method::Cancel => cancelled(stage, heard),
        Method::Invite | Method::Update => reinvited(stage, heard.event.leg, heard.wire.time),
        _ => {}
    }
}

/// A BYE that was refused, and after which the dialog went on, ended no attempt either.
fn forget_refused_bye(stage: &mut Stage, leg: LegId) {
    if stage.legs.get(leg).is_none_or(|leg| leg.bye.is_set()) {
        return;
    }
    refer::events::on_bye_refused(stage, leg);
}

/// A new INVITE: of a redirect that is followed, or perhaps of a transfer.
fn invited(stage: &mut Stage, heard: Heard<'_>) {
    stage.recent.add(Begun::of(heard.event.leg, heard.wire, heard.event.cseq));
    if !redirect::is_followed_by(stage, heard.event.leg) {
        second_leg::events::on_invite(stage, heard);
    }
}

/// A leg that was not known before.
fn begin_leg(stage: &mut Stage, trunks: &Trunks, heard: Heard<'_>) {
    let Heard { event, wire, message, .. } = heard;
    let mark = stage.legs.mark();
    let leftover = is_leftover(stage, event.leg);
    let Some(leg) = stage.legs.get_mut(event.leg) else { return };
    (leg.call.trunk, leg.call.mark) = (facts::trunk(trunks, wire, message), mark);
    leg.call.leftover = leftover && leg.midcall();
    let (origin, host) = (leg.origin, leg.hosts.0);
    if origin == Origin::Refer {
        return;
    }
    stage.calls += u64::from(!leg.call.leftover);
    if origin == Origin::Invite {
        stage.callers.called(host, wire.time);
        disown_forestalled(stage, event.leg);
    }
    stage.links.started(&mut stage.legs, event.leg, message);
}

/// Whether a leg is what is left of a call that was let go of.
fn is_leftover(stage: &Stage, leg: LegId) -> bool {
    let holds = |leg: &Leg| stage.evicted.holds(stage.legs.hash(leg.call_id()));
    // There are none as a rule, and then nothing need be hashed.
    !stage.evicted.is_empty() && stage.legs.get(leg).is_some_and(holds)
}

/// A request inside a dialog that came before the INVITE under its Call-ID, and that nobody answered, belongs to no dialog.
/// Nor does a copy of that INVITE which came before it from a stranger.
fn disown_forestalled(stage: &mut Stage, id: LegId) {
    let Some(leg) = stage.legs.get(id) else { return };
    let invite = |leg: &Leg| leg.invite.as_ref().map(|invite| (invite.number, invite.branch));
    let copies = |other: &Leg| {
        let silent = other.invite.as_ref().is_some_and(|invite| !invite.heard) && !other.two_hosts;
        let stranger = !stage.legs.is_party(other.hosts.0);
        silent && stranger && other.id < id && other.hosts.1 == leg.hosts.1 && invite(other) == invite(leg)
    };
    let forestalls = |other: &&Leg| {
        let within = other.origin != Origin::Invite && !other.is_confirmed();
        !other.alleged && (within || copies(other))
    };
    let forged: SmallVec<[(LegId, bool); 2]> = stage
        .legs
        .under(leg.call_id())
        .filter(forestalls)
        .map(|leg| (leg.id, leg.origin == Origin::Invite))
        .collect();
    for (leg, counted) in forged {
        stage.calls = stage.calls.saturating_sub(u64::from(counted));
        stage.disown(leg);
    }
}

/// What any message may tell of its sender and of the session.
fn learn(stage: &mut Stage, heard: Heard<'_>) {
    let Heard { event, message, key, .. } = heard;
    let Some(leg) = stage.legs.get_mut(event.leg) else { return };
    let sender = if message.is_request() { event.by } else { event.by.other() };
    if let Some(dialect) = dialect::of(message, [key.from_tag, key.to_tag]) {
        leg.call.dialects.add(dialect);
    }
    if let Some(lacks) = facts::allow_lacks_refer(message) {
        leg.end_mut(sender).refuses_refer = Some(lacks);
    }
    stage.identity.learn(leg, heard);
    identity::learn_livekit(stage, heard);
    refer::events::note_focus(stage, heard, sender);
    if event.kind != DialogEventKind::Invited {
        stage.links.heard(&mut stage.legs, event.leg, message);
    }
}

fn invite_answer(stage: &mut Stage, trunks: &Trunks, heard: Heard<'_>, status: u16) {
    let Heard { event, wire, message, .. } = heard;
    let leg = event.leg;
    second_leg::events::note_vouched(stage, leg);
    if status >= 200 {
        note_answer(stage, heard);
        if !is_challenge(status) {
            second_leg::events::on_told(stage, leg);
        }
        if let Some(leg) = stage.legs.get_mut(leg).filter(|leg| leg.call.trunk == TrunkId::OTHER) {
            leg.call.trunk = facts::trunk(trunks, wire, message);
        }
    }
    match status {
        200..300 => {
            consultation::on_answered(stage, leg);
            caller_answered(stage, leg, wire.time);
            stage.links.answered(&mut stage.legs, leg, message);
        }
        300.. if !is_challenge(status) => {
            stage.links.failed(&mut stage.legs, &mut stage.timers, leg, wire.time, Some(status));
            match status {
                ..400 => redirect::on_redirect(stage, heard),
                487 => {}
                _ => consultation::on_failed(stage, leg),
            }
        }
        _ => {}
    }
}

/// What the final answer to an INVITE tells, if an attempt may need it.
fn note_answer(stage: &mut Stage, heard: Heard<'_>) {
    let Heard { event, wire, message, .. } = heard;
    let Some(leg) = stage.legs.get(event.leg) else { return };
    let by = facts::answered_by(wire, message, leg.hosts.0, leg.went_on_to());
    if let Some(state) = stage.state_mut(event.leg).filter(|state| state.is_needed()) {
        state.answer_headers = facts::telling(message);
        state.answered_by = Some(by);
    }
}

/// A CANCEL may say why (RFC 3326).
fn cancelled(stage: &mut Stage, heard: Heard<'_>) {
    if let Some(state) = stage.state_mut(heard.event.leg).filter(|state| state.is_needed()) {
        state.cancel_reasons = facts::reasons(heard.message);
    }
}

/// Whoever acknowledges a 2xx that was not seen has got one all the same.
fn acknowledged(stage: &mut Stage, leg: LegId, now: Timestamp) {
    if stage.legs.get(leg).is_some_and(|leg| leg.answered.get() == Some(now)) {
        second_leg::events::on_told(stage, leg);
        caller_answered(stage, leg, now);
        stage.links.up(&mut stage.legs, leg);
    }
}

fn caller_answered(stage: &mut Stage, leg: LegId, now: Timestamp) {
    if let Some(leg) = stage.legs.get(leg).filter(|leg| leg.origin == Origin::Invite) {
        stage.callers.answered(leg.hosts.0, now);
    }
}

fn reinvited(stage: &mut Stage, leg: LegId, now: Timestamp) {
    let Some(known) = stage.legs.get(leg) else { return };
    let holds = known.caller.holds || known.callee.holds;
    let held = stage.state(leg).is_some_and(|state| state.held.is_set() && !state.resumed.is_set());
    if holds == held {
        return;
    }
    let Some(state) = stage.state_or_new(leg) else { return };
    if holds {
        (state.held, state.resumed) = (now.into(), crate::leg::When::NEVER);
        stage.links.held(&mut stage.legs, leg, now);
    } else {
        state.resumed = now.into();
    }
}

fn bye(stage: &mut Stage, heard: Heard<'_>) {
    let Heard { event, wire, message, .. } = heard;
    refer::events::on_bye(stage, heard);
    let Some(leg) = stage.legs.get_mut(event.leg) else { return };
    if leg.ended() != Some((wire.time, event.by)) {
        return;
    }
    stage.ended.add(event.leg);
    refer::unseen::on_end(stage, event.leg);
    let Some(leg) = stage.legs.get_mut(event.leg) else { return };
    leg.call.bye_cause = message.headers(Name::Reason).find_map(Q850::parse).map(|q850| q850.cause);
    let was_up = leg.answered.is_set() || leg.midcall();
    if was_up {
        stage.links.ended(&mut stage.legs, &mut stage.timers, event.leg);
        second_leg::events::hurry(stage, event.leg, wire.time + stage.config.timers.after_bye);
    } else {
        stage.links.failed(&mut stage.legs, &mut stage.timers, event.leg, wire.time, None);
    }
    let line = ladder::show(wire, message, event.cseq, LegRole::Call);
    if let Some(state) = stage.state_or_new(event.leg) {
        state.bye_line = Some(line);
        if state.is_needed() {
            state.bye_reasons = facts::reasons(message);
        }
    }
    handover::on_bye(stage, heard);
}

/// Whatever hangs on this leg is to be judged again.
fn review_leg(stage: &mut Stage, leg: LegId) {
    let Some(state) = stage.state(leg) else { return };
    let watched = state.watched.is_some().then_some(Due::Second(leg));
    let attempts = state.open.iter().copied().chain(state.serves).map(Due::Attempt);
    let due: SmallVec<[Due; 4]> = watched.into_iter().chain(attempts).collect();
    stage.due.extend(due);
}
