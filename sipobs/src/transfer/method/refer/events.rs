//! REFER and its NOTIFYs, brought to the machine of their attempt.

use super::elsewhere::Elsewhere;
use super::{Beside, Notified, Refer, Subscription, Teller, again, unseen};
use crate::dialog::DialogEvent;
use crate::leg::{AttemptId, Leg, LegId, Origin, cut};
use crate::link::ReferClues;
use crate::record::{Kind, LegRole, Method, Side};
use crate::sip::{self, Message, Name, NameAddr, Sipfrag, SubscriptionState};
use crate::stream::{TransportKind, WireMessage};
use crate::timestamp::Timestamp;
use crate::transfer::facts::{self, Answer, Target};
use crate::transfer::ladder::show;
use crate::transfer::method::{Machine, consultation, target_leg};
use crate::transfer::stage::{Heard, Stage};
use crate::transfer::state::{Owned, PendingAttempt};

/// Notes who says in its Contact that it is a conference's focus (RFC 4579 §5.2).
pub(in crate::transfer) fn note_focus(stage: &mut Stage, heard: Heard<'_>, sender: Side) {
    if !matches!(heard.event.cseq.method, sip::Method::Invite | sip::Method::Update)
        || heard.message.status().is_some_and(|status| status < 200)
    {
        return;
    }
    let mut contacts = heard.message.values(Name::Contact).filter_map(NameAddr::parse).peekable();
    if contacts.peek().is_none() {
        return;
    }
    if contacts.any(|contact| contact.param("isfocus").is_some()) {
        if let Some(state) = stage.state_or_new(heard.event.leg) {
            state.focus = Some(sender);
        }
    } else if let Some(state) = stage.state_mut(heard.event.leg).filter(|state| state.focus == Some(sender)) {
        state.focus = None;
    }
}

/// A REFER, or its retry with credentials.
pub(in crate::transfer) fn on_refer(stage: &mut Stage, heard: Heard<'_>) {
    let Heard { event, wire, message, .. } = heard;
    let (dialog, by, number) = (event.leg, event.by, event.cseq.number);
    let told = told_before(stage, heard);
    let target = Target::of(message);
    if target.no_call {
        return note_other_refer(stage, dialog);
    }
    if is_retry(stage, heard) {
        return;
    }
    let place = place(stage, heard, &target);
    let call = place.as_ref().and_then(|place| place.call);
    if again::is_known(stage, heard, &target, call) {
        return;
    }
    let Some(place) = place else { return };
    let home = place.call.unwrap_or(dialog);
    let (other, consultation) = consultation::of_attended(stage, home, &target);
    let clues = ReferClues {
        cseq: number,
        target: target.user.as_deref().map(str::as_bytes),
        replaces: target.replaces.as_deref(),
        referred_by: message.referred_by().or_else(|| message.from()).map(|by| by.uri),
        sender: wire.src.ip(),
    };
    stage.links.refer_sent(&mut stage.legs, home, wire.time, &clues);
    stage.note_referred(home);
    stage.note_referred(dialog);
    let mut refer = Refer::new(number, message.header(Name::ReferTo).unwrap_or_default(), wire.time);
    refer.wants_no_subscription =
        message.values(Name::Require).any(|option| option.eq_ignore_ascii_case(b"nosub"));
    refer.credentials = crate::dialog::has_credentials(message);
    (refer.sender, refer.sent_to) = (Some(wire.src.ip()), Some(wire.dst));
    refer.peer = heard.key.to_tag.and_then(|tag| stage.legs.tag(tag));
    refer.referred_by = message.referred_by().is_some();
    refer.to_focus = stage.state(dialog).is_some_and(|state| state.focus == Some(by.other()));
    let outside = place.call.filter(|call| *call != dialog && !is_untagged(stage, dialog, *call));
    refer.beside = outside.and_then(|_| beside(heard));
    let mut attempt = PendingAttempt {
        kind: if target.attended { Kind::Attended } else { Kind::Blind },
        call: place.call,
        call_id: Some(place.call_id),
        transferor: message.from().map(|from| cut(from.uri)),
        transferee: message.to().map(|to| cut(to.uri)),
        target,
        ladder: consultation,
        trace: stage.identity.trace(message).map(Box::new),
        ..PendingAttempt::new(Method::Refer, Machine::Refer(Box::new(refer)), dialog, place.by, wire.time)
    };
    attempt.own(Owned::of(event));
    if let Some(call) = place.call.filter(|call| is_untagged(stage, dialog, *call)) {
        attempt.own(Owned::untagged(event, call, place.by));
    }
    if let Some(told) = told {
        take_over(&mut attempt, *told, stage.config.limits.ladder);
    }
    let id = stage.begin(attempt);
    if let Some(other) = other {
        target_leg::attach_behind(stage, id, other);
    }
    if let Some(other) = other.filter(|other| *other != home)
        && let Some(other) = stage.state_or_new(other)
    {
        other.consults = Some(id);
    }
    again::drop_passed_on(stage, dialog);
}

/// What was told of a REFER before it was captured itself: two taps, or two queues of a card, may turn it and its answer
/// around. The attempt that this was taken for is the REFER's.
fn told_before(stage: &mut Stage, heard: Heard<'_>) -> Option<Box<PendingAttempt>> {
    let Heard { event, .. } = heard;
    let id = stage.open_in(event.leg).into_iter().find(|id| {
        stage.attempts.get(id).is_some_and(|attempt| {
            attempt.dialog == event.leg
                && attempt.by == event.by
                && attempt.refer().is_some_and(|refer| refer.is_only_answered(event.cseq.number))
        })
    })?;
    stage.withdraw(id)
}

fn take_over(attempt: &mut PendingAttempt, told: PendingAttempt, most: usize) {
    attempt.ladder.extend(told.ladder, most);
    attempt.headers = told.headers;
    told.owned.into_iter().for_each(|owned| attempt.own(owned));
    if let (Machine::Refer(before), Some(refer)) = (told.machine, attempt.refer_mut()) {
        refer.told(*before);
    }
}

/// A REFER that transfers nobody: its NOTIFYs tell of no transfer either.
fn note_other_refer(stage: &mut Stage, dialog: LegId) {
    if let Some(leg) = stage.legs.get_mut(dialog) {
        leg.call.asked = true;
    }
}

/// Whether a REFER is one that is known, with credentials now. Else it supersedes those under way.
fn is_retry(stage: &mut Stage, heard: Heard<'_>) -> bool {
    let Heard { event, wire, message, .. } = heard;
    let refer_to = message.header(Name::ReferTo).unwrap_or_default();
    let credentials = crate::dialog::has_credentials(message);
    for id in stage.open_in(event.leg) {
        let Some(attempt) = stage.attempts.get_mut(&id) else { continue };
        if attempt.dialog != event.leg || attempt.by_of(event.leg) != event.by {
            continue;
        }
        let Some(refer) = attempt.refer_mut() else { continue };
        if refer.is_retried_by(refer_to, credentials) {
            refer.retry(event.cseq.number, wire.time);
            refer.credentials = credentials;
            attempt.own(Owned::of(event));
            return true;
        }
        refer.supersede(wire.time);
        stage.review(id);
    }
    false
}

/// The call that a REFER is about.
struct Place {
    call: Option<LegId>,
    call_id: String,
    /// Which end of it the sender is.
    by: Side,
}

/// The call that a REFER is about: that of its dialog, or the one that it names. Outside a dialog only a REFER that
/// names one transfers a call; others just ask for one.
fn place(stage: &Stage, heard: Heard<'_>, target: &Target) -> Option<Place> {
    let Heard { event, wire, message, .. } = heard;
    let leg = stage.legs.get(event.leg)?;
    let (call, call_id) = match (leg.origin, facts::target_dialog(message)) {
        (Origin::Midcall, _)
            if event.begins
                && let Some(call) = call_of(stage, heard) =>
        {
            (Some(call.id), call.call_id_text().into_owned())
        }
        (Origin::Invite | Origin::Midcall, _) => (Some(leg.id), leg.call_id_text().into_owned()),
        (Origin::Refer, Some(named)) => {
            let tags = [named.local_tag, named.remote_tag];
            (stage.legs.named(named.call_id, tags), cut(named.call_id))
        }
        (Origin::Refer, None) if let Some(call) = call_of(stage, heard) => {
            (Some(call.id), call.call_id_text().into_owned())
        }
        (Origin::Refer, None) => {
            target.attended.then_some(())?;
            (None, leg.call_id_text().into_owned())
        }
    };
    // Which end of a named call: by its URI, else by its host.
    let from = message.from().map(|from| from.uri);
    let by = match call.filter(|call| *call != leg.id).and_then(|call| stage.legs.get(call)) {
        Some(named) if from == Some(named.uri(Side::Caller)) => Side::Caller,
        Some(named) if from == Some(named.uri(Side::Callee)) => Side::Callee,
        Some(named) if named.hosts.0 == wire.src.ip() => Side::Caller,
        Some(_) => Side::Callee,
        None => event.by,
    };
    Some(Place { call, call_id, by })
}

/// What ties a REFER to a call that it is not in, if it does not name it.
fn beside(heard: Heard<'_>) -> Option<Beside> {
    let named = facts::target_dialog(heard.message).is_some();
    let tagged = if heard.key.to_tag.is_some() { Beside::Tags } else { Beside::Parties };
    (!named).then_some(tagged)
}

/// The call that goes on between sender and receiver of a REFER outside it.
fn call_of<'s>(stage: &'s Stage, heard: Heard<'_>) -> Option<&'s Leg> {
    let (from, to) = (heard.message.from()?.uri, heard.message.to()?.uri);
    let hosts = (heard.wire.src.ip(), heard.wire.dst.ip());
    let tags = [heard.key.from_tag, heard.key.to_tag];
    stage.links.call_between(&stage.legs, hosts, [from, to], tags)
}

/// An answer to a REFER.
pub(in crate::transfer) fn on_answer(stage: &mut Stage, heard: Heard<'_>, status: u16) {
    let Heard { event, wire, message, .. } = heard;
    if let Some(id) = again::copy_of(stage, event.leg) {
        return answer_copy(stage, id, heard, status);
    }
    if stage.open_in(event.leg).is_empty()
        && let Some(id) = unseen::by_answer(stage, heard, status)
        && let Some(attempt) = stage.attempts.get_mut(&id)
    {
        attempt.own(Owned::of(event));
    }
    for id in stage.open_in(event.leg) {
        let Some(attempt) = stage.attempts.get_mut(&id) else { continue };
        if !attempt.owns(event) {
            continue;
        }
        if status >= 300 {
            attempt.headers = facts::telling(message);
        }
        let Some(refer) = attempt.refer_mut() else { continue };
        if refer.numbers.last() != Some(&event.cseq.number) {
            continue;
        }
        let astray = is_astray(refer, wire);
        // Of two answers the first counts, if it is from where the REFER went.
        if refer.answer.is_some() && (astray || !refer.astray) {
            continue;
        }
        refer.astray = astray;
        refer.answered(Answer::of(wire, message, status));
        refer.answered_by = refer.sender.map(|asked| facts::answered_by(wire, message, asked, &[]));
        if (200..300).contains(&status) {
            subscribe(refer, id, message, &mut stage.elsewhere);
        }
    }
    again::drop_passed_on(stage, event.leg);
}

/// Whether an answer is from the host that was asked, but from another port. Over TCP nobody else speaks for it.
fn is_astray(refer: &Refer, wire: &WireMessage<'_>) -> bool {
    wire.transport == TransportKind::Udp
        && refer.sent_to.is_some_and(|asked| asked.ip() == wire.src.ip() && asked.port() != wire.src.port())
}

/// An answer to a REFER that was sent again under another Call-ID.
fn answer_copy(stage: &mut Stage, id: AttemptId, heard: Heard<'_>, status: u16) {
    let Some(attempt) = stage.attempts.get_mut(&id) else { return };
    attempt
        .ladder
        .push(show(heard.wire, heard.message, heard.event.cseq, LegRole::Call), stage.config.limits.ladder);
    if let Some(refer) = attempt.refer_mut() {
        refer.answered(Answer::of(heard.wire, heard.message, status));
    }
    stage.review(id);
}

/// How the outcome is to be told, as a 2xx says.
fn subscribe(refer: &mut Refer, id: AttemptId, message: &Message<'_>, elsewhere: &mut Elsewhere) {
    let refused = |value: &[u8]| {
        value
            .split(|byte| *byte == b';')
            .next()
            .is_some_and(|v| v.trim_ascii().eq_ignore_ascii_case(b"false"))
    };
    if let Some(at) = message.values(Name::ReferEventsAt).next() {
        refer.subscription = Subscription::Elsewhere;
        let uri = NameAddr::parse(at).map_or(at, |address| address.uri);
        elsewhere.ask_at(uri, id);
    } else if message.header(Name::ReferSub).is_some_and(refused) || refer.wants_no_subscription {
        refer.subscription = Subscription::None;
    }
}

/// A NOTIFY of the refer package, in the dialog of its REFER.
pub(in crate::transfer) fn on_notify(stage: &mut Stage, heard: Heard<'_>) {
    let Heard { event, wire, message, .. } = heard;
    let number = message.header(Name::Event).and_then(sip::Event::parse).and_then(|event| event.refer_cseq());
    let known = subscribed(stage, event.leg, event.by, number).or_else(|| again::told_of(stage, heard));
    let id = match known {
        // What only a stranger tells of begins no attempt.
        None if is_strange(stage, heard, None) => return,
        None => unseen::by_notify(stage, heard, number),
        known => known,
    };
    let Some(id) = id else { return };
    find_leg(stage, id);
    let teller = teller(stage, heard, id);
    let Some(attempt) = stage.attempts.get_mut(&id) else { return };
    attempt.own(match teller {
        Teller::Stranger => Owned::doubted(event),
        Teller::Dialog | Teller::PassedOn => Owned::of(event),
    });
    let notified = notified(wire, message);
    let is_final = notified.status.as_ref().is_some_and(|(status, _)| *status >= 200);
    let Some(refer) = attempt.refer_mut() else { return };
    refer.numbered |= number.is_some();
    if teller != Teller::Dialog {
        refer.heard_elsewhere(wire.time, notified, teller, facts::told(message));
        return stage.review(id);
    }
    let first = refer.result.is_none();
    refer.notified(wire.time, notified);
    if is_final && first {
        attempt.headers = facts::told(message);
    }
    stage.review(id);
}

/// Who tells of an attempt.
fn teller(stage: &Stage, heard: Heard<'_>, id: AttemptId) -> Teller {
    let leg = heard.event.leg;
    if is_strange(stage, heard, stage.attempts.get(&id).map(|attempt| &**attempt)) {
        return Teller::Stranger;
    }
    // What is told of a REFER that was passed on is of that: its own dialog tells what became of it (RFC 3515 §2.4.4).
    let passed_on = stage.state(leg).and_then(|state| state.part_of).is_some_and(|part| !part.copy);
    if passed_on { Teller::PassedOn } else { Teller::Dialog }
}

/// Whether a NOTIFY is from a host that is not on the call's path, or under a tag that its sender does not have in the
/// dialog of the REFER, or in that of the leg.
fn is_strange(stage: &Stage, heard: Heard<'_>, attempt: Option<&PendingAttempt>) -> bool {
    let Heard { event, key, .. } = heard;
    let known = match attempt {
        Some(attempt) if attempt.dialog != event.leg => None,
        Some(attempt) => attempt.refer().and_then(|refer| refer.peer),
        None => stage.legs.get(event.leg).and_then(|leg| leg.end(event.by).tag),
    };
    event.outside
        || known.is_some_and(|known| key.from_tag.and_then(|tag| stage.legs.tag(tag)) != Some(known))
}

/// Of a REFER that was not captured the target's leg may have begun before anything told of it.
fn find_leg(stage: &mut Stage, id: AttemptId) {
    if let Some(leg) = unseen::leg_of(stage, id) {
        target_leg::attach_referred(stage, id, leg);
    }
}

/// An answer to a NOTIFY: one that refuses it shows that the transferor has dropped the subscription.
pub(in crate::transfer) fn on_notify_answer(stage: &mut Stage, heard: Heard<'_>, status: u16) {
    let event = heard.event;
    for id in stage.open_in(event.leg) {
        let attempt = stage.attempts.get_mut(&id).filter(|attempt| attempt.owns(event));
        if let Some(refer) = attempt.and_then(|attempt| attempt.refer_mut()) {
            refer.notify_answer = refer.notify_answer.max(Some(status));
        }
    }
}

/// The attempt whose subscription a NOTIFY belongs to: by its Event id (RFC 3515 §2.4.6); without one the
/// oldest that still waits, as only later REFERs must give ids.
fn subscribed(stage: &Stage, dialog: LegId, by: Side, number: Option<u32>) -> Option<AttemptId> {
    let open = stage.open_in(dialog);
    let refers = || {
        open.iter().filter_map(|id| {
            let attempt = stage.attempts.get(id)?;
            let refer =
                attempt.refer().filter(|_| is_home(stage, attempt, dialog) && attempt.by_of(dialog) != by)?;
            Some((*id, refer))
        })
    };
    if let Some(number) = number
        && let Some((id, _)) = refers().find(|(_, refer)| refer.numbers.contains(&number))
    {
        return Some(id);
    }
    // A number that names no REFER is a peer's mistake, as long as there is only one it can mean.
    let transfers = stage.legs.get(dialog).map_or(0, |leg| leg.call.transfers);
    if number.is_some() && (refers().count() != 1 || transfers > 1) {
        return None;
    }
    // Nor is one without a number about a REFER whose NOTIFYs carry one: it is about the REFER before that.
    let fits = |(_, refer): &(AttemptId, &Refer)| transfers <= 1 || !refer.numbered;
    let waiting = refers().find(|(_, refer)| !refer.is_told() && refer.superseded.is_none());
    waiting.or(refers().next_back()).filter(fits).map(|(id, _)| id)
}

/// A BYE ends the dialog of a REFER, or the call that it is about.
pub(in crate::transfer) fn on_bye(stage: &mut Stage, event: DialogEvent, now: Timestamp) {
    for id in stage.open_in(event.leg) {
        let Some(attempt) = stage.attempts.get_mut(&id) else { continue };
        let transferor = event.by == attempt.by;
        if let Some(refer) = attempt.refer_mut() {
            refer.bye.get_or_insert((now, transferor));
        }
    }
}

/// The dialog goes on after a BYE that was refused.
pub(in crate::transfer) fn on_bye_refused(stage: &mut Stage, leg: LegId) {
    for id in stage.open_in(leg) {
        if let Some(refer) = stage.attempts.get_mut(&id).and_then(|attempt| attempt.refer_mut()) {
            refer.bye = None;
        }
    }
}

/// Whether the messages of a dialog may be about a REFER: it is in that, or under its Call-ID without its tag.
fn is_home(stage: &Stage, attempt: &PendingAttempt, dialog: LegId) -> bool {
    attempt.dialog == dialog || attempt.call == Some(dialog) && is_untagged(stage, attempt.dialog, dialog)
}

/// Whether a leg is what a message under a call's Call-ID was taken for as it lacked a tag.
fn is_untagged(stage: &Stage, leg: LegId, call: LegId) -> bool {
    let call_id = |id| stage.legs.get(id).map(Leg::call_id);
    leg != call && call_id(leg) == call_id(call)
}

pub(super) fn notified(wire: &WireMessage<'_>, message: &Message<'_>) -> Notified {
    let state = message.header(Name::SubscriptionState).and_then(SubscriptionState::parse);
    Notified {
        status: Sipfrag::of(message).ok().map(|frag| (frag.status, cut(frag.reason))),
        terminated: state
            .as_ref()
            .filter(|state| state.state == sip::Subscription::Terminated)
            .map(|state| state.reason.map(cut).unwrap_or_default()),
        expires: state
            .and_then(|state| state.expires)
            .map(|seconds| wire.time + std::time::Duration::from_secs(u64::from(seconds))),
    }
}
