//! Messages → transactions and dialogs (RFC 3261 §12, §17).
//!
//! `Dialogs` turns each message into at most one `Heard`: copies, whether retransmitted or shown again by
//! a proxy, give none, and neither do the many messages that change nothing (OPTIONS, INFO, PRACK, …), which
//! touch no table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

pub(crate) use self::place::Place;
pub use self::place::Unplaced;
use self::room::{Room, Standing};
use crate::sip::{self, CSeq, Message, Method, Name, NameAddr, Start};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

mod leg;
mod place;
mod room;
mod step;
mod transaction;

pub(crate) use leg::{Answer, End, Invite, Leg, LegId, Origin};
pub use leg::{Seen, Side};
pub(crate) use room::{Crowded, LEG};
pub(crate) use step::has_credentials;
pub(crate) use transaction::is_challenge;

/// Longer Call-IDs and tags are no peer's; shorter bounds would cost real ones.
const LONGEST_ID: usize = 1024;

/// Longer URIs are cut: they only name parties.
const LONGEST_URI: usize = 512;
/// Legs under one Call-ID: B2BUAs that keep it, and hostile ones.
const LEGS_PER_CALL_ID: usize = 8;

/// How long legs are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// Bytes that legs may take up, with what later stages hold for them.
    pub(crate) bytes: usize,
    /// After a BYE or a final failure.
    pub(crate) ended: Duration,
    /// Without an answer since the last message.
    pub(crate) early: Duration,
    /// Answered, since the last message.
    pub(crate) idle: Duration,
}

/// The stage: every leg, found by Call-ID and tags, never by connection.
#[derive(Debug)]
pub(crate) struct Dialogs {
    lifetimes: Lifetimes,
    legs: BTreeMap<LegId, Leg>,
    by_call_id: HashMap<Box<[u8]>, Vec<LegId>>,
    room: Room,
    /// One leg too many under its Call-ID.
    surplus: Option<LegId>,
    due: BTreeMap<LegId, Timestamp>,
    timers: BTreeSet<(Timestamp, LegId)>,
    next: u64,
}

/// What a message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) leg: LegId,
    /// Who sent the request that the message is, or answers.
    pub(crate) by: Side,
    pub(crate) event: Event,
}

/// What can happen to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The first INVITE of a leg.
    Invited,
    /// That INVITE between two other hosts.
    Relayed,
    /// The initial INVITE again under a new number: with credentials, to a redirect's Contact, ….
    Retried,
    /// An answer to the initial INVITE.
    InviteAnswer(u16),
    /// The first ACK to its final answer.
    Acknowledged,
    /// Any other request: CANCEL, or one inside the dialog.
    Request(CSeq),
    /// An answer to one of those.
    Response(CSeq, u16),
}

impl Dialogs {
    pub(crate) fn new(lifetimes: Lifetimes) -> Self {
        Self {
            lifetimes,
            legs: BTreeMap::new(),
            by_call_id: HashMap::new(),
            room: Room::new(lifetimes.bytes),
            surplus: None,
            due: BTreeMap::new(),
            timers: BTreeSet::new(),
            next: 0,
        }
    }

    /// Takes one message.
    pub(crate) fn message(
        &mut self,
        wire: &WireMessage<'_>,
        message: &Message<'_>,
        place: &Place<'_>,
    ) -> Option<Heard> {
        let &Place { cseq, call_id, ref from, ref to } = place;
        if !matters(cseq.method, message) {
            return None;
        }
        let to_tag = tag(to);
        let found = self.find(call_id, from, to_tag, cseq.method);
        let (id, by) = match found {
            Some(found) => found,
            None => {
                let origin = origin_of(message, cseq.method, to_tag.is_some())?;
                let id = self.insert(origin, wire, call_id, from, to);
                (id, Side::Caller)
            }
        };
        let leg = self.legs.get_mut(&id)?;
        let event = leg.take(wire, message, cseq, by, to_tag);
        if event.is_some() || found.is_none() {
            self.room.settle(leg);
        }
        if event.is_some() {
            leg.seen = wire.time;
            self.schedule(id);
        }
        Some(Heard { leg: id, by, event: event? })
    }

    pub(crate) fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.get(&id)
    }

    /// The leg that holds the dialog named by Call-ID and tags, as Replaces and Target-Dialog name it; the
    /// newest when tags don't tell.
    pub(crate) fn named(&self, call_id: &[u8], tags: [Option<&[u8]>; 2]) -> Option<LegId> {
        let ids = self.by_call_id.get(call_id)?;
        let fits = |id: &&LegId| {
            self.legs.get(*id).is_some_and(|leg| {
                let known = leg.caller.tag.as_deref();
                known.is_none() || tags.contains(&known) || tags == [None, None]
            })
        };
        ids.iter().rev().find(fits).or(ids.last()).copied()
    }

    /// The leg to drop, settled as it stands, before the next message, and why.
    pub(crate) fn crowded(&self) -> Option<(Crowded, LegId)> {
        if let Some(id) = self.surplus.filter(|id| self.legs.contains_key(id)) {
            return Some((Crowded::CallId, id));
        }
        let (why, first) = self.room.crowded()?;
        Some((why, first.or(self.legs.keys().next().copied())?))
    }

    /// Notes how many bytes are held for a leg elsewhere.
    pub(crate) fn charge(&mut self, id: LegId, bytes: usize) {
        if let Some(leg) = self.legs.get_mut(&id) {
            self.room.charge(leg, bytes);
        }
    }

    /// The oldest leg of all that are known.
    pub(crate) fn first(&self) -> Option<LegId> {
        self.legs.keys().next().copied()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// The next leg that nothing more is expected of at `now`. Ask until `None`; each is to be removed or
    /// kept.
    pub(crate) fn over(&mut self, now: Timestamp) -> Option<LegId> {
        while let Some(&(time, id)) = self.timers.first().filter(|(time, _)| *time <= now) {
            let wanted = self.legs.get(&id).map_or(time, |leg| self.lifetimes.of(leg));
            if wanted <= now {
                return Some(id);
            }
            self.set_timer(id, wanted);
        }
        None
    }

    /// Keeps a leg that is over until then.
    pub(crate) fn keep(&mut self, id: LegId, until: Timestamp) {
        self.set_timer(id, until);
    }

    /// Forgets a leg.
    pub(crate) fn remove(&mut self, id: LegId) -> Option<Leg> {
        let leg = self.legs.remove(&id)?;
        self.room.leave(&leg);
        if let Some(time) = self.due.remove(&id) {
            self.timers.remove(&(time, id));
        }
        if let Some(ids) = self.by_call_id.get_mut(&leg.key) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.by_call_id.remove(&leg.key);
            }
        }
        Some(leg)
    }

    /// The leg of a message and the side that sent its request: the newest whose caller's tag is in From
    /// (the caller's request) or To (the callee's). Missing tags (RFC 2543) fit any; then From tells the side.
    fn find(
        &self,
        call_id: &[u8],
        sender: &NameAddr<'_>,
        to: Option<&[u8]>,
        method: Method,
    ) -> Option<(LegId, Side)> {
        let from = tag(sender);
        let ids = self.by_call_id.get(call_id)?;
        let legs = || ids.iter().rev().filter_map(|id| self.legs.get(id));
        let side = |leg: &Leg| {
            // A new INVITE after the BYE is a new call, however lazy its Call-ID.
            if method == Method::Invite && to.is_none() && leg.bye.is_some() {
                return None;
            }
            match leg.caller.tag.as_deref() {
                Some(tag) if from == Some(tag) => Some((leg.id, Side::Caller)),
                Some(tag) if to == Some(tag) => Some((leg.id, Side::Callee)),
                Some(_) if from.is_some() => None,
                None if leg.is_callee(from, sender.uri) => Some((leg.id, Side::Callee)),
                _ => Some((leg.id, Side::Caller)),
            }
        };
        // Some callees forget the To tag in what they send within a dialog.
        let untagged = |leg: &Leg| {
            let known = leg.callee.tag.as_deref();
            (known.is_none() || known == from).then_some((leg.id, Side::Callee))
        };
        let forgetful = to.is_none() && matches!(method, Method::Notify | Method::Bye);
        legs().find_map(side).or_else(|| legs().filter(|_| forgetful).find_map(untagged))
    }

    fn insert(
        &mut self,
        origin: Origin,
        wire: &WireMessage<'_>,
        call_id: &[u8],
        from: &NameAddr<'_>,
        to: &NameAddr<'_>,
    ) -> LegId {
        let id = LegId(self.next);
        self.next += 1;
        let ids = self.by_call_id.entry(call_id.into()).or_default();
        if ids.len() >= LEGS_PER_CALL_ID {
            let confirmed = |id: &LegId| self.legs.get(id).is_some_and(Leg::is_confirmed_by_both);
            // Not the oldest: whoever knows a call's Call-ID may follow it with others.
            self.surplus = ids.iter().rev().find(|id| !confirmed(id)).or(ids.first()).copied();
        }
        ids.push(id);
        let end = |party: &NameAddr<'_>| End {
            tag: tag(party).map(Box::from),
            uri: cut(party.uri),
            heard: false,
            agrees: false,
            holds: false,
        };
        self.legs.insert(
            id,
            Leg {
                id,
                key: call_id.into(),
                call_id: sip::line(call_id).into_owned(),
                started: wire.time,
                seen: wire.time,
                origin,
                hosts: (wire.src.ip(), wire.dst.ip()),
                caller: end(from),
                callee: end(to),
                paths: Vec::new(),
                invite: None,
                answered: None,
                bye: None,
                transactions: transaction::Transactions::default(),
                standing: Standing::default(),
            },
        );
        id
    }

    /// Moves the leg's timer forward where it must be; back it goes by itself, when it fires.
    fn schedule(&mut self, id: LegId) {
        let Some(wanted) = self.legs.get(&id).map(|leg| self.lifetimes.of(leg)) else { return };
        if self.due.get(&id).is_none_or(|due| wanted < *due) {
            self.set_timer(id, wanted);
        }
    }

    fn set_timer(&mut self, id: LegId, at: Timestamp) {
        if let Some(old) = self.due.insert(id, at) {
            self.timers.remove(&(old, id));
        }
        self.timers.insert((at, id));
    }
}

impl Lifetimes {
    /// When nothing more is expected of a leg.
    fn of(&self, leg: &Leg) -> Timestamp {
        if let Some((bye, _)) = leg.bye {
            return bye + self.ended;
        }
        if let Some(failure) = leg.failure() {
            return failure.time + self.ended;
        }
        leg.seen + if leg.is_confirmed() { self.idle } else { self.early }
    }
}

/// Whether a message of this method can change anything here.
fn matters(method: Method, message: &Message<'_>) -> bool {
    match method {
        Method::Invite | Method::Ack | Method::Bye | Method::Cancel | Method::Refer | Method::Update => true,
        // Most NOTIFYs are of other packages; the answers to those find no transaction.
        Method::Notify => !message.is_request() || is_refer_event(message),
        _ => false,
    }
}

/// RFC 3515 §2.4.4; a NOTIFY that names no package is told by its body.
fn is_refer_event(message: &Message<'_>) -> bool {
    match message.header(Name::Event).and_then(sip::Event::parse) {
        Some(event) => event.is_refer(),
        None => message
            .header(Name::ContentType)
            .is_some_and(|kind| kind.len() >= 15 && kind[..15].eq_ignore_ascii_case(b"message/sipfrag")),
    }
}

/// How a leg comes to be known by a message that no leg claims, if it can.
fn origin_of(message: &Message<'_>, method: Method, in_dialog: bool) -> Option<Origin> {
    if !message.is_request() {
        return None;
    }
    match method {
        Method::Invite if !in_dialog => Some(Origin::Invite),
        Method::Refer if !in_dialog => Some(Origin::Refer),
        Method::Invite | Method::Refer | Method::Notify | Method::Bye if in_dialog => Some(Origin::Midcall),
        _ => None,
    }
}

fn tag<'a>(party: &NameAddr<'a>) -> Option<&'a [u8]> {
    party.tag().filter(|tag| !tag.is_empty() && tag.len() <= LONGEST_ID)
}

/// Text of a URI or phrase from the wire, on one line and of bounded length.
pub(crate) fn cut(bytes: &[u8]) -> String {
    sip::brief(bytes, LONGEST_URI)
}

/// The phrase of a status line.
fn reason(message: &Message<'_>) -> String {
    match message.start() {
        Start::Response { reason, .. } => cut(reason),
        Start::Request { .. } => String::new(),
    }
}
