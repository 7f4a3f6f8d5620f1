//! One leg: all that is known of the dialogs under one Call-ID and one caller's tag.

use std::net::IpAddr;

use serde::Serialize;

use super::room::Standing;
use super::transaction::Transactions;
use crate::sip::{self, Uri};
use crate::timestamp::Timestamp;

/// Hops of one leg that are told apart.
const PATHS: usize = 8;

/// The ends of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who sent the first INVITE.
    Caller,
    /// Who answered it.
    Callee,
}

/// How much of one leg was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Nothing.
    #[default]
    None,
    /// One side's messages only.
    OneWay,
    /// Both sides' messages.
    Both,
}

/// One leg, by a number that is never used again; rising numbers are rising ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LegId(pub(crate) u64);

/// One leg of signalling: the dialogs (early, forked, confirmed) that one INVITE makes, or the one that an
/// out-of-dialog REFER makes. Never tied to a connection: one dialog may use several.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    /// The Call-ID's bytes, as the table knows it.
    pub(super) key: Box<[u8]>,
    pub(crate) call_id: String,
    /// Its first message.
    pub(crate) started: Timestamp,
    /// Its latest message.
    pub(crate) seen: Timestamp,
    pub(crate) origin: Origin,
    /// Sender and receiver of its first message.
    pub(crate) hosts: (IpAddr, IpAddr),
    pub(crate) caller: End,
    pub(crate) callee: End,
    /// The hosts its messages went between, in the order they showed.
    pub(crate) paths: Vec<(IpAddr, IpAddr)>,
    /// The INVITE that makes it, unless it is older than the capture.
    pub(crate) invite: Option<Invite>,
    /// The first 2xx to its INVITE.
    pub(crate) answered: Option<Timestamp>,
    /// The BYE of the confirmed dialog, and who sent it.
    pub(crate) bye: Option<(Timestamp, Side)>,
    pub(crate) transactions: Transactions,
    pub(super) standing: Standing,
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
#[derive(Debug)]
pub(crate) struct End {
    /// Its tag; of a callee, that of the dialog which was confirmed.
    pub(crate) tag: Option<Box<[u8]>>,
    /// Its URI in From or To.
    pub(crate) uri: String,
    /// Whether any message of its own was seen.
    pub(crate) heard: bool,
    /// Whether it has said that the dialog is there, by a request of its own or a 2xx; a 481 says the opposite.
    pub(super) agrees: bool,
    /// Whether it has put the call on hold.
    pub(crate) holds: bool,
}

/// The initial INVITE, with all its tries (RFC 3261 §13, §17.1.1).
#[derive(Debug)]
pub(crate) struct Invite {
    pub(crate) number: u32,
    pub(super) branch: u64,
    /// Its first copy: from here a caller's ring timer counts.
    pub(crate) first: Timestamp,
    /// The first copy of its latest try, with credentials if there was a challenge.
    pub(crate) tried: Timestamp,
    /// Where to, in the latest try.
    pub(crate) request_uri: String,
    /// Copies of the latest try on its first hop.
    pub(crate) copies: u32,
    /// Challenges so far.
    pub(crate) challenges: u32,
    /// The first answer of any kind to the latest try.
    pub(crate) heard: Option<Timestamp>,
    /// Provisional statuses of the latest try, each with its first time.
    pub(crate) provisional: Vec<(u16, Timestamp)>,
    pub(crate) answer: Option<Answer>,
    pub(crate) acknowledged: Option<Timestamp>,
    pub(crate) cancelled: Option<Timestamp>,
}

/// A final answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) time: Timestamp,
}

impl Leg {
    /// Whether the callee of a caller without a tag is who says so in From.
    pub(super) fn is_callee(&self, tag: Option<&[u8]>, uri: &[u8]) -> bool {
        match (tag, self.callee.tag.as_deref()) {
            (None, None) => uri == self.callee.uri.as_bytes() && uri != self.caller.uri.as_bytes(),
            (tag, known) => tag == known,
        }
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

    /// The final answer to its INVITE, if that is a failure that no further try has taken back.
    pub(crate) fn failure(&self) -> Option<&Answer> {
        self.invite.as_ref()?.answer.as_ref().filter(|answer| answer.status >= 300)
    }

    /// Whose messages were seen.
    pub(crate) fn visible(&self) -> Seen {
        match (self.caller.heard, self.callee.heard) {
            (true, true) => Seen::Both,
            (false, false) => Seen::None,
            _ => Seen::OneWay,
        }
    }

    /// Users of From, To and the request-URI.
    pub(crate) fn parties(&self) -> Vec<String> {
        let request = self.invite.as_ref().map(|invite| &invite.request_uri);
        let uris = [&self.caller.uri, &self.callee.uri].into_iter().chain(request);
        let user = |uri: &String| {
            let uri = Uri::parse(uri.as_bytes())?;
            Some(sip::lossy(&uri.user_part()?).into_owned())
        };
        let mut users: Vec<_> = uris.filter_map(user).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Whether it was up before the capture began.
    pub(crate) fn midcall(&self) -> bool {
        self.origin == Origin::Midcall
    }

    /// Whether it is up, as far as its messages tell.
    pub(super) fn is_confirmed(&self) -> bool {
        self.answered.is_some() || self.is_agreed()
    }

    /// Whether both sides say that it is up, which takes more than requests from forged addresses.
    pub(crate) fn is_confirmed_by_both(&self) -> bool {
        (self.answered.is_some() && self.visible() == Seen::Both) || self.is_agreed()
    }

    /// Whether both sides speak of a dialog older than the capture as of one that is there.
    fn is_agreed(&self) -> bool {
        self.midcall() && self.caller.agrees && self.callee.agrees
    }

    /// Notes the hosts a message went between; whether they are new.
    pub(super) fn travelled(&mut self, from: IpAddr, to: IpAddr) -> bool {
        let path = (from.min(to), from.max(to));
        let new = self.paths.len() < PATHS && !self.paths.contains(&path);
        if new {
            self.paths.push(path);
        }
        new
    }
}

impl Invite {
    /// The first 18x of the latest try: the target's phone rings, or its network says so.
    pub(crate) fn ringing(&self) -> Option<Timestamp> {
        self.provisional.iter().find(|(status, _)| *status > 100).map(|(_, time)| *time)
    }
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}
