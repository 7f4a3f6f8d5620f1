//! REFERs, what they are answered, and the BYEs around them, brought to the machine of their attempt.

use super::dialogs::{differ, is_in_dialog, is_untagged, open_in_dialog, tags_by};
use super::elsewhere::Elsewhere;
use super::{Beside, Refer, Subscription, TURNED_AROUND, again, unseen};
use crate::leg::{AttemptId, Leg, LegId, Origin, cut};
use crate::link::ReferClues;
use crate::record::{Kind, LegRole, Method, Side};
use crate::sip::{self, Message, Name, NameAddr};
use crate::stream::{TransportKind, WireMessage};
use crate::transfer::facts::{self, Answer, Target};
use crate::transfer::ladder::show;
use crate::transfer::method::{Machine, consultation, second_leg, target_leg};
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
    let (other, consultation) = match target.attended {
        true => consultation::of_attended(stage, home, &target),
        false => consultation::of_semi_attended(stage, home, &target, wire.src.ip(), wire.time),
    };
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
    refer.tags = tags_by(stage, heard, by);
    refer.outside = event.outside;
    refer.referred_by = message.referred_by().is_some();
    refer.to_focus = stage.state(dialog).is_some_and(|state| state.focus == Some(by.other()));
    let outside = place.call.filter(|call| *call != dialog && !is_untagged(stage, dialog, *call));
    refer.beside = outside.and_then(|_| beside(heard));
    let mut attempt = PendingAttempt {
        kind: if target.attended || other.is_some() { Kind::Attended } else { Kind::Blind },
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
    let replaces = attempt.target.attended;
    let mut places = Vec::new();
    if let Some(told) = told {
        places = told.places;
        take_over(&mut attempt, *told.attempt, stage.config.limits.ladder);
    }
    let id = stage.begin(attempt);
    places.iter().for_each(|uri| stage.elsewhere.ask_at(uri, id));
    match other {
        Some(other) if replaces => {
            target_leg::attach_behind(stage, id, other);
            if let Some(other) = stage.state_or_new(other).filter(|_| other != home) {
                other.consults = Some(id);
            }
        }
        Some(other) => consultation::note_given_up(stage, id, home, other),
        None => {}
    }
    follow_older(stage, id);
    supersede_older(stage, id);
    again::drop_passed_on(stage, dialog);
    second_leg::events::on_late_refer(stage, home, wire.time);
}

/// An attempt by a REFER before that was captured itself.
struct Told {
    attempt: Box<PendingAttempt>,
    /// Where its outcome is told, if that is elsewhere.
    places: Vec<Vec<u8>>,
}

/// What was told of a REFER before it was captured itself: two taps, or two queues of a card, may turn it and what it was
/// answered, or the first NOTIFY, around. The attempt that this was taken for is the REFER's.
fn told_before(stage: &mut Stage, heard: Heard<'_>) -> Option<Told> {
    let Heard { event, wire, .. } = heard;
    let id = stage.open_in(event.leg).into_iter().find(|id| {
        stage.attempts.get(id).is_some_and(|attempt| {
            let just_now = wire.time.since(attempt.started) <= TURNED_AROUND;
            attempt.dialog == event.leg
                && attempt.by == event.by
                && is_in_dialog(stage, attempt, heard)
                && attempt.refer().is_some_and(|refer| refer.is_only_told(event.cseq.number, just_now))
        })
    })?;
    consultation::release(stage, id);
    let places = stage.elsewhere.places_of(id);
    Some(Told { attempt: stage.withdraw(id)?, places })
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

/// Whether a REFER is one that is known, with credentials now.
fn is_retry(stage: &mut Stage, heard: Heard<'_>) -> bool {
    let Heard { event, wire, message, .. } = heard;
    let refer_to = message.header(Name::ReferTo).unwrap_or_default();
    let credentials = crate::dialog::has_credentials(message);
    for id in stage.open_in(event.leg) {
        if !stage.attempts.get(&id).is_some_and(|attempt| is_in_dialog(stage, attempt, heard)) {
            continue;
        }
        let Some(attempt) = stage.attempts.get_mut(&id) else { continue };
        if attempt.dialog != event.leg || attempt.by_of(event.leg) != event.by {
            continue;
        }
        let Some(refer) = attempt.refer_mut() else { continue };
        // Its answer may have been captured before it, and shown that it was tried.
        let answered = refer.refer_to == refer_to && refer.numbers.last() == Some(&event.cseq.number);
        let retried = refer.is_retried_by(refer_to, credentials);
        if retried || answered {
            if retried {
                refer.retry(event.cseq.number, wire.time);
            }
            refer.credentials = credentials;
            attempt.own(Owned::of(event));
            return true;
        }
    }
    false
}

/// Those before a REFER in its dialog are known to have been gone on from.
fn follow_older(stage: &mut Stage, id: AttemptId) {
    let Some(dialog) = stage.attempts.get(&id).map(|newer| newer.dialog) else { return };
    for older in stage.open_in(dialog).into_iter().filter(|older| *older < id) {
        if let Some(refer) = stage.attempts.get_mut(&older).and_then(|attempt| attempt.refer_mut()) {
            refer.followed = true;
            stage.review(older);
        }
    }
}

/// Once a REFER is accepted it takes the place of those before it in its dialog that are under way. A stranger's takes
/// nobody's.
pub(super) fn supersede_older(stage: &mut Stage, id: AttemptId) {
    let Some(newer) = stage.attempts.get(&id) else { return };
    let Some(refer) = newer.refer().filter(|refer| !refer.outside && refer.accepted().is_some()) else {
        return;
    };
    let (dialog, by, tags, sent) = (newer.dialog, newer.by, refer.tags, newer.started);
    for older in stage.open_in(dialog).into_iter().filter(|older| *older < id) {
        let Some(attempt) = stage.attempts.get_mut(&older) else { continue };
        let same = attempt.dialog == dialog && attempt.by == by;
        if let Some(refer) = attempt.refer_mut().filter(|refer| same && !differ(refer.tags, tags)) {
            refer.supersede(sent);
            stage.review(older);
        }
    }
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
    if let Some(id) = unseen::infer_retry(stage, heard, event.by, event.cseq.number)
        .or_else(|| unseen::by_answer(stage, heard, status))
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
            supersede_older(stage, id);
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

/// A BYE ends the dialog of a REFER, or the call that it is about; that of a fork ends no other.
pub(in crate::transfer) fn on_bye(stage: &mut Stage, heard: Heard<'_>) {
    let Heard { event, wire, .. } = heard;
    let Some(leg) = stage.legs.get(event.leg) else { return };
    let (ends_leg, forked) = (leg.ended() == Some((wire.time, event.by)), leg.is_forked());
    for id in open_in_dialog(stage, heard) {
        let named = stage.attempts.get(&id).is_some_and(|attempt| is_in_dialog(stage, attempt, heard));
        let Some(attempt) = stage.attempts.get_mut(&id) else { continue };
        // Of a call that has not forked only the first BYE is an end.
        let counts = if forked { named && attempt.dialog == event.leg } else { ends_leg };
        if !counts {
            continue;
        }
        attempt.own(Owned::of(event));
        let transferor = event.by == attempt.by;
        if let Some(refer) = attempt.refer_mut() {
            refer.bye.get_or_insert((wire.time, transferor));
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
