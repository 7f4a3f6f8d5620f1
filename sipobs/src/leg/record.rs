//! One leg: all that any stage knows of the dialogs under one Call-ID and one caller's tag.

use std::borrow::Cow;
use std::net::IpAddr;

use smallvec::SmallVec;

use super::texts::{Text, Texts};
use super::{Final, Invite, LegId, Rare, Tag, When};
use crate::record::{Dialect, Parties, Seen, Side};
use crate::sip::{self, CSeq, Method};
use crate::slab::Slot;
use crate::timestamp::Timestamp;
use crate::trunk::TrunkId;

/// Longer URIs are cut where they are shown: they only name parties.
const LONGEST_URI: usize = 512;
/// Hops of one leg that are told apart.
const PATHS: usize = 8;

/// One leg of signalling: the dialogs (early, forked, confirmed) that one INVITE makes, or the one that an
/// out-of-dialog REFER makes. Never tied to a connection: one dialog may use several.
///
/// An ordinary call needs nothing beyond this record and its texts. What only few legs have is in [`Rare`], what only
/// the legs of transfers have in tables of the stages that need it.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    /// Its first message.
    pub(crate) started: Timestamp,
    /// Its latest message that changed anything.
    pub(crate) seen: Timestamp,
    /// Its deadline in the queue of timers.
    pub(crate) due: When,
    pub(super) texts: Texts,
    /// Sender and receiver of its first message.
    pub(crate) hosts: (IpAddr, IpAddr),
    pub(crate) caller: End,
    pub(crate) callee: End,
    pub(crate) origin: Origin,
    /// The INVITE that makes it, unless it is older than the capture.
    pub(crate) invite: Option<Invite>,
    /// The first 2xx to its INVITE.
    pub(crate) answered: When,
    /// The BYE of the confirmed dialog.
    pub(crate) bye: When,
    /// Who sent it.
    pub(crate) bye_by: Side,
    /// Whoever got it answered that it ends nothing (481, 403). A request after that shows that it did not.
    pub(crate) bye_refused: bool,
    /// More than one host spoke in it: one alone may write both sides.
    pub(crate) two_hosts: bool,
    /// A request inside the dialog was answered by 2xx: both ends know it.
    pub(crate) proven: bool,
    /// So was one between the same hosts, in this leg or another.
    pub(super) in_proven_pair: bool,
    /// One side alone speaks of it, under a Call-ID whose dialog is another.
    pub(crate) alleged: bool,
    /// This very host sent the message that it began with: nobody has forged it.
    pub(crate) originated: bool,
    /// More hosts that take part, hashed: those that its messages went to or name.
    pub(super) path: Box<[u32]>,
    /// The latest transactions inside it, the initial INVITE's apart.
    pub(crate) transactions: SmallVec<[Transaction; 1]>,
    pub(crate) call: Call,
    pub(crate) ties: Ties,
    pub(super) rare: Option<Box<Rare>>,
    /// The next older leg under its Call-ID.
    pub(super) older: Option<Slot>,
    /// Its handle in the ledger of what legs take up.
    pub(super) ledger: Option<Slot>,
    /// Bytes that later stages hold for it.
    pub(super) charged: u32,
    /// All is told of it, and no message finds it any more.
    pub(crate) retired: bool,
}

/// How a leg came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// By its initial INVITE.
    Invite,
    /// By a request inside a dialog older than the capture: who called whom is not known.
    Midcall,
    /// By a REFER outside any dialog (RFC 5589 §6.1, RFC 4538).
    Refer,
}

/// One end of a leg.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Its tag; of a callee, that of the dialog which was confirmed.
    pub(crate) tag: Option<Tag>,
    /// Its tag is of LiveKit's form.
    pub(crate) livekit: bool,
    /// Whether any message of its own was seen.
    pub(crate) heard: bool,
    /// Whether it has said that the dialog is there, by a request of its own or a 2xx; a 481 says the opposite.
    pub(crate) agrees: bool,
    /// Whether it has put the call on hold.
    pub(crate) holds: bool,
    /// Whether the last Allow it sent lacked REFER, if it sent one.
    pub(crate) refuses_refer: Option<bool>,
}

/// A number for the top Via's branch: only equality within one leg is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Branch(pub(crate) u32);

/// A transaction inside a leg, as far as its copies must be told from new messages (RFC 3261 §17).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    /// Number and method of its CSeq.
    number: u32,
    method: Method,
    pub(crate) branch: Branch,
    pub(crate) copies: u16,
    /// The highest status of its answers; 0 before the first.
    pub(crate) status: u16,
    pub(crate) speaker: Speaker,
    by: Side,
}

/// Who sends a request in a leg: by the tags of its From and To, and by whether it comes from outside the leg's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speaker(u16);

/// What is kept of the call that a leg is, whatever becomes of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) trunk: TrunkId,
    pub(crate) dialects: Dialects,
    /// Attempts so far.
    pub(crate) transfers: u16,
    /// A REFER (or its NOTIFY), an Also or a handing-over BYE was seen.
    pub(crate) transferred: bool,
    /// A REFER was seen, or its NOTIFY.
    pub(crate) referred: bool,
    /// A REFER in it asked for something else than a call.
    pub(crate) asked: bool,
    /// A second leg that is its own or another call's: nobody can tell.
    pub(crate) perhaps_second_leg: bool,
    /// It is, or was, the leg of an attempt: the question of a missing REFER is not about it.
    pub(crate) is_leg: bool,
    /// A transfer is under way in it, or by it.
    pub(crate) transferring: bool,
    /// What is left of a call that was evicted: it begins nothing of its own.
    pub(crate) leftover: bool,
    /// The Q.850 cause in the BYE's Reason (RFC 3326).
    pub(crate) bye_cause: Option<u16>,
    /// How much was known to be lost when it began.
    pub(crate) mark: u64,
    /// Where the transfer stage keeps what it knows of the legs of transfers.
    pub(crate) state: Option<Slot>,
}

/// What ties a leg to others, as far as every leg has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ties {
    /// The first of its places in the index of legs.
    pub(crate) places: Option<Slot>,
    /// Its candidates, if it may be a second leg.
    pub(crate) second: Option<Slot>,
    /// Where its offer and its answer want the media.
    pub(crate) media: [Option<Media>; 2],
    /// When its INVITE failed for good, by a final answer or without any.
    pub(crate) failed: When,
    /// The status of that answer; 0 for none.
    pub(crate) failed_status: u16,
    /// It may be looked for, and may look for others: it is, or may be, a call.
    pub(crate) known: bool,
    /// It goes to a recorder.
    pub(crate) recording: bool,
    /// Its From and its request-URI say all that there is to say of its parties.
    pub(crate) plain: bool,
    /// It can be found by its numbers, or has been: both sides of it were heard.
    pub(crate) numbered: bool,
}

/// A place for media, to compare with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Media {
    /// Its address, hashed.
    pub(crate) host: u32,
    /// Address and port, hashed.
    pub(crate) port: std::num::NonZeroU32,
}

/// Platforms told apart in one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dialects(u8);

impl Leg {
    /// The Call-ID, as on the wire.
    pub(crate) fn call_id(&self) -> &[u8] {
        self.texts.get(Text::CallId)
    }

    /// The Call-ID as outputs show it: on one line.
    pub(crate) fn call_id_text(&self) -> Cow<'_, str> {
        sip::line(self.call_id())
    }

    /// The URI of an end, as on the wire.
    pub(crate) fn uri(&self, side: Side) -> &[u8] {
        self.texts.get(match side {
            Side::Caller => Text::Caller,
            Side::Callee => Text::Callee,
        })
    }

    /// The URI of an end as outputs show it: on one line and of bounded length.
    pub(crate) fn uri_text(&self, side: Side) -> String {
        cut(self.uri(side))
    }

    /// The request-URI of the first INVITE; empty for a leg that began otherwise.
    pub(crate) fn first_request(&self) -> &[u8] {
        self.texts.get(Text::Request)
    }

    /// Where to, in the latest try of its INVITE.
    pub(crate) fn request(&self) -> &[u8] {
        self.rare().and_then(|rare| rare.request.as_deref()).unwrap_or(self.first_request())
    }

    /// Its INVITE is tried again, there.
    pub(crate) fn requests(&mut self, uri: &[u8]) {
        if super::brief(uri) != self.request() {
            self.rare_mut().request = Some(super::brief(uri).into());
        }
    }

    /// The phrase of the final answer to its INVITE, as outputs show it.
    pub(crate) fn phrase(&self) -> Cow<'_, str> {
        if let Some(phrase) = self.rare().and_then(|rare| rare.phrase.as_deref()) {
            return Cow::Borrowed(phrase);
        }
        let status = self.invite.as_ref().and_then(Invite::answer).map(|answer| answer.status);
        Cow::Borrowed(status.and_then(sip::standard_phrase).unwrap_or_default())
    }

    /// Keeps the phrase of the final answer to its INVITE.
    pub(crate) fn set_phrase(&mut self, status: u16, phrase: &[u8]) {
        let standard = sip::standard_phrase(status).is_some_and(|standard| standard.as_bytes() == phrase);
        if !standard {
            self.rare_mut().phrase = Some(cut(phrase).into());
        } else if let Some(rare) = &mut self.rare {
            rare.phrase = None;
        }
    }

    /// Whether more than one callee answered its INVITE.
    pub(crate) fn is_forked(&self) -> bool {
        self.rare.as_deref().is_some_and(|rare| !rare.forks.is_empty())
    }

    /// Whether the tag is a callee's that answered after the first.
    pub(crate) fn is_forked_to(&self, tag: Tag) -> bool {
        self.rare.as_deref().is_some_and(|rare| rare.forks.contains(&tag))
    }

    pub(crate) fn end(&self, side: Side) -> &End {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    /// What few legs have, if this one has it.
    pub(crate) fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    /// The same, to add to.
    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The final answer to its INVITE, if that is a failure that no further try has taken back.
    pub(crate) fn failure(&self) -> Option<Final> {
        self.invite.as_ref()?.answer().filter(|answer| answer.status >= 300)
    }

    /// The BYE of the confirmed dialog, and who sent it.
    pub(crate) fn ended(&self) -> Option<(Timestamp, Side)> {
        Some((self.bye.get()?, self.bye_by))
    }

    /// Whose messages were seen.
    pub(crate) fn visible(&self) -> Seen {
        match (self.caller.heard, self.callee.heard) {
            (true, true) => Seen::Both,
            (false, false) => Seen::None,
            (true, false) | (false, true) => Seen::OneWay,
        }
    }

    /// Adds the users of From, To and the request-URI.
    pub(crate) fn add_parties(&self, parties: &mut Parties) {
        let (from, to, request) = (self.uri(Side::Caller), self.uri(Side::Callee), self.request());
        // Mostly the request is for whom To names.
        let uris = [from, to].into_iter().chain(Some(request).filter(|request| *request != to));
        uris.for_each(|uri| parties.add_user_of(uri));
    }

    /// Whether a CANCEL then looks like a ring timer's, not a caller's: those run for full five seconds (30 s, mostly)
    /// from the first INVITE.
    pub(crate) fn is_ring_timer(&self, cancelled: Timestamp) -> bool {
        let ran = cancelled.since(self.started).as_millis();
        ran >= 4900 && !(100..4900).contains(&(ran % 5000))
    }

    /// Whether a CANCEL then comes a whole number of seconds, and not just a few, after the first INVITE.
    pub(crate) fn is_cancelled_on_the_second(&self, cancelled: Timestamp) -> bool {
        let ran = cancelled.since(self.started).as_millis();
        ran >= 4900 && !(100..900).contains(&(ran % 1000))
    }

    /// Whether it was up before the capture began.
    pub(crate) fn midcall(&self) -> bool {
        self.origin == Origin::Midcall
    }

    /// Whether it is up, as far as its messages tell.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.answered.is_set() || self.is_agreed()
    }

    /// Whether both sides say that it is up, which takes more than requests from forged addresses.
    pub(crate) fn is_confirmed_by_both(&self) -> bool {
        (self.answered.is_set() && self.visible() == Seen::Both) || self.is_agreed()
    }

    /// Whether both sides speak of a dialog older than the capture as of one that is there.
    fn is_agreed(&self) -> bool {
        self.midcall() && self.caller.agrees && self.callee.agrees
    }

    /// The hosts that its first message went between, in order.
    pub(super) fn pair(&self) -> (IpAddr, IpAddr) {
        in_order(self.hosts.0, self.hosts.1)
    }

    /// The hosts its messages went between, each pair in order, in the order they showed.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        let more = self.rare().map_or(&[][..], |rare| &rare.paths);
        std::iter::once(self.pair()).chain(more.iter().copied())
    }

    /// The callee, and the hosts that its INVITE went through.
    pub(crate) fn callee_hosts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let more = self.rare().map_or(&[][..], |rare| &rare.reached);
        std::iter::once(self.hosts.1).chain(more.iter().copied())
    }

    /// Hosts that its INVITE was seen to go on to.
    pub(crate) fn went_on_to(&self) -> &[IpAddr] {
        self.rare().map_or(&[], |rare| &rare.reached)
    }

    /// Another host that takes part as callee: the next hop of a proxied INVITE. Whether it is new.
    pub(crate) fn reached(&mut self, host: IpAddr) -> bool {
        let new = self.callee_hosts().count() < super::MOST_OF_EACH
            && self.callee_hosts().all(|known| known != host);
        if new {
            self.rare_mut().reached.push(host);
        }
        new
    }

    /// Whether its messages went between more than two hosts.
    pub(crate) fn is_relayed(&self) -> bool {
        self.rare().is_some_and(|rare| !rare.paths.is_empty())
    }

    /// Notes the hosts a message went between; whether they are new.
    pub(super) fn travelled(&mut self, from: IpAddr, to: IpAddr) -> bool {
        if (from, to) == self.hosts || (to, from) == self.hosts {
            return false;
        }
        let path = in_order(from, to);
        let known = self.rare().map_or(&[][..], |rare| &rare.paths);
        if known.len() + 1 >= PATHS || known.contains(&path) {
            return false;
        }
        self.rare_mut().paths.push(path);
        true
    }

    /// Bytes that it takes up, about, with what the tables around it need for it.
    pub(super) fn bytes(&self) -> usize {
        let transactions = if self.transactions.spilled() {
            self.transactions.capacity() * size_of::<Transaction>()
        } else {
            0
        };
        super::OVERHEAD
            + size_of::<Self>()
            + self.texts.bytes()
            + size_of_val(&*self.path)
            + transactions
            + self.rare().map_or(0, Rare::bytes)
    }
}

impl Transaction {
    /// The first copy of a request.
    pub(crate) const fn new(by: Side, cseq: CSeq, branch: Branch, speaker: Speaker) -> Self {
        let CSeq { number, method } = cseq;
        Self { number, method, branch, copies: 1, status: 0, speaker, by }
    }

    /// Its number, if it is a request of this side by that method.
    pub(crate) fn number_of(&self, by: Side, method: Method) -> Option<u32> {
        (self.by == by && self.method == method).then_some(self.number)
    }

    /// Whether it is that of a request with this CSeq, sent by that side.
    pub(crate) fn is(&self, by: Side, cseq: CSeq) -> bool {
        self.by == by && self.number == cseq.number && self.method == cseq.method
    }
}

impl Speaker {
    #[cfg(test)]
    pub(crate) const NOBODY: Self = Self(0);

    /// Few of one leg's dialogs are alike in so few bits, and their numbers would have to be, too.
    #[allow(clippy::cast_possible_truncation, reason = "a part of a hash")]
    pub(crate) fn of([from, to]: [Option<Tag>; 2], outside: bool) -> Self {
        let [from, to] = [from, to].map(|tag| tag.map_or(0, Tag::hash));
        let tags = from ^ to.rotate_left(32);
        Self((tags as u16) << 1 | u16::from(outside))
    }
}

impl End {
    /// An end of which no message was seen yet.
    pub(crate) const fn new(tag: Option<Tag>, livekit: bool) -> Self {
        Self { tag, livekit, heard: false, agrees: false, holds: false, refuses_refer: None }
    }
}

impl Default for Ties {
    fn default() -> Self {
        Self {
            places: None,
            second: None,
            media: [None; 2],
            failed: When::NEVER,
            failed_status: 0,
            known: false,
            recording: false,
            plain: false,
            numbered: false,
        }
    }
}

/// A bit for each.
const _: () = assert!(Dialect::ALL.len() <= u8::BITS as usize);

impl Dialects {
    /// Adds one.
    pub(crate) fn add(&mut self, dialect: Dialect) {
        self.0 |= 1 << dialect as u8;
    }

    /// Those of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each that there is, in the order of their names.
    pub(crate) fn iter(self) -> impl Iterator<Item = Dialect> {
        Dialect::ALL.iter().copied().filter(move |dialect| self.0 & (1 << *dialect as u8) != 0)
    }
}

/// Text of a URI or phrase from the wire, on one line and of bounded length.
pub(crate) fn cut(bytes: &[u8]) -> String {
    sip::brief(bytes, LONGEST_URI)
}

pub(super) fn in_order(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    if a <= b { (a, b) } else { (b, a) }
}
