//! What is kept of calls and of attempts under way.

use super::absent::SecondLeg;
use super::diagnosis::Dialect;
use super::facts::Target;
use super::ladder::Ladder;
use super::losses::Mark;
use super::refer::Refer;
use super::trunk::TrunkId;
use super::{Kind, LadderLine, Link, Method, Outcome, Side};
use crate::dialog::{Answer, LegId};
use crate::sip::CSeq;
use crate::timestamp::Timestamp;

/// Transactions of one attempt whose answers are shown.
const OWNED: usize = 64;

/// An attempt, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AttemptId(pub(super) u64);

/// What the transfer stage keeps of a leg, beside its signalling.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) trunk: TrunkId,
    pub(super) dialects: Vec<Dialect>,
    /// Attempts under way in it.
    pub(super) open: Vec<AttemptId>,
    /// Attempts so far.
    pub(super) transfers: u32,
    /// A REFER (or its NOTIFY), an Also or a handing-over BYE was seen.
    pub(super) transferred: bool,
    pub(super) referred: bool,
    pub(super) second_legs: Vec<SecondLeg>,
    /// A second leg that is its own or another call's: nobody can tell.
    pub(super) perhaps_second_leg: bool,
    /// Set while it may turn out to be the leg of a transfer.
    pub(super) second: Option<Second>,
    /// The attempt whose target leg it is.
    pub(super) serves: Option<AttemptId>,
    /// The attended transfer whose consultation it is.
    pub(super) consults: Option<AttemptId>,
    /// It is, or was, the leg of an attempt: the question of a missing REFER is not about it.
    pub(super) is_leg: bool,
    /// Headers of its final answer that say why.
    pub(super) answer_headers: Vec<(&'static str, String)>,
    /// By which side's Allow, and whether that lacks REFER.
    pub(super) refer_not_allowed: [Option<bool>; 2],
    /// The latest hold and the latest resumption.
    pub(super) held: Option<Timestamp>,
    pub(super) resumed: Option<Timestamp>,
    pub(super) bye_line: Option<LadderLine>,
    pub(super) bye_cause: Option<u16>,
    pub(super) mark: Mark,
}

/// A leg that some answered call could own, until it is decided.
#[derive(Debug, Default)]
pub(super) struct Second {
    pub(super) ladder: Ladder,
    pub(super) due: Option<Timestamp>,
    /// The linker knows what became of it.
    pub(super) told: bool,
    /// The dialog that its Replaces or Join names.
    pub(super) named: Option<Named>,
}

/// A dialog that an INVITE takes over (Replaces, RFC 3891) or comes into (Join, RFC 3911).
#[derive(Debug)]
pub(super) struct Named {
    pub(super) call_id: String,
    /// The tag of the INVITE's addressee in it.
    pub(super) to_tag: Box<[u8]>,
    pub(super) join: bool,
}

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) method: Method,
    pub(super) kind: Kind,
    pub(super) what: What,
    /// The leg that was to be transferred, where it is known.
    pub(super) call: Option<LegId>,
    pub(super) call_id: Option<String>,
    /// The leg whose messages carry the attempt.
    pub(super) dialog: LegId,
    /// The transferor's side of the call.
    pub(super) by: Side,
    pub(super) transferor: Option<String>,
    pub(super) transferee: Option<String>,
    pub(super) target: Target,
    pub(super) started: Timestamp,
    /// Legs to the target, in the order they began.
    pub(super) legs: Vec<LegId>,
    /// Of a second leg that could be several calls': those calls, the likeliest first.
    pub(super) candidates: Vec<LegId>,
    pub(super) link: Option<Link>,
    pub(super) ladder: Ladder,
    /// The transactions in `dialog` or `call` that belong to it.
    pub(super) owned: Vec<(LegId, Side, CSeq)>,
    /// Headers that say why, of the REFER's answer or the final NOTIFY.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) mark: Mark,
    pub(super) due: Option<Timestamp>,
    /// What the last notice said.
    pub(super) noticed: Option<Outcome>,
}

/// The machine that judges an attempt.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most attempts are the large one")]
pub(super) enum What {
    Refer(Refer),
    /// A second-leg INVITE: `legs` has it.
    Second {
        replaces: bool,
    },
    /// A 3xx before the call was answered.
    Redirect {
        answer: Answer,
    },
    /// A BYE that hands the call over: Also, or the number in its Reason.
    Handover {
        bye: Timestamp,
        answer: Option<Answer>,
    },
}

impl Kept {
    /// Whether it was on hold at `time`, as far as the latest hold tells.
    pub(super) fn was_held(&self, time: Timestamp) -> bool {
        self.held.is_some_and(|held| {
            held <= time && self.resumed.is_none_or(|resumed| resumed < held || resumed > time)
        })
    }
}

impl Open {
    pub(super) fn owns(&self, leg: LegId, by: Side, cseq: CSeq) -> bool {
        self.owned.contains(&(leg, by, cseq))
    }

    pub(super) fn own(&mut self, leg: LegId, by: Side, cseq: CSeq) {
        if self.owned.len() < OWNED && !self.owns(leg, by, cseq) {
            self.owned.push((leg, by, cseq));
        }
    }

    /// The transferor's side of `leg`: in a dialog of its own the REFER's sender is the caller.
    pub(super) fn by_of(&self, leg: LegId) -> Side {
        if self.call == Some(leg) { self.by } else { Side::Caller }
    }

    pub(super) fn refer(&self) -> Option<&Refer> {
        match &self.what {
            What::Refer(refer) => Some(refer),
            _ => None,
        }
    }

    pub(super) fn refer_mut(&mut self) -> Option<&mut Refer> {
        match &mut self.what {
            What::Refer(refer) => Some(refer),
            _ => None,
        }
    }
}
