//! What is kept of attempts under way, and of the legs that have to do with one.

use smallvec::SmallVec;

use super::absent::SecondLeg;
use super::facts::{Headers, Target};
use super::ladder::Ladder;
use super::method::Machine;
use crate::dialog::DialogEvent;
use crate::leg::{AttemptId, LegId, Speaker, Tag, When};
use crate::record::{AnsweredBy, Kind, LadderLine, Link, Method, Notice, Side};
use crate::sip::{CSeq, ReasonHeader, TraceContext};
use crate::timestamp::Timestamp;

/// Transactions of one attempt whose answers are shown.
const MOST_OWNED: usize = 64;

/// What the transfer stage keeps of a leg that has ended, or has to do with an attempt: ordinary calls that are up have
/// none of it.
#[derive(Debug, Default)]
pub(super) struct CallState {
    /// Attempts under way in it.
    pub(super) open: SmallVec<[AttemptId; 2]>,
    /// The attempt whose target leg it is.
    pub(super) serves: Option<AttemptId>,
    /// The transfer by REFER whose consultation it is, and so no second leg.
    pub(super) consults: Option<AttemptId>,
    /// The attempt that its REFER is a part of, under another Call-ID.
    pub(super) part_of: Option<PartOf>,
    /// The leg that follows its redirect, under another Call-ID.
    pub(super) followed_by: Option<LegId>,
    /// Set while it may turn out to be the leg of a transfer.
    pub(super) watched: Option<Watched>,
    /// Its second legs whose fate was told.
    pub(super) second_legs: Vec<SecondLeg>,
    /// Headers of its final answer that say why.
    pub(super) answer_headers: Headers,
    /// Who gave that answer.
    pub(super) answered_by: Option<AnsweredBy>,
    /// Reason values of the caller's CANCEL.
    pub(super) cancel_reasons: Vec<String>,
    /// Reason values of its BYE.
    pub(super) bye_reasons: Vec<String>,
    /// The latest hold and the latest resumption.
    pub(super) held: When,
    pub(super) resumed: When,
    pub(super) bye_line: Option<LadderLine>,
    /// Who says that it is a conference's focus (RFC 4579 §5.2).
    pub(super) focus: Option<Side>,
}

/// What a REFER under another Call-ID is of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartOf {
    pub(super) attempt: AttemptId,
    /// It is sent anew; else a B2BUA passes it on.
    pub(super) copy: bool,
}

/// A leg that some answered call could own, until it is decided.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) ladder: Ladder,
    pub(super) due: When,
    /// The linker knows what became of it.
    pub(super) told: bool,
    /// The dialog that its Replaces or Join names.
    pub(super) named: Option<Named>,
    /// More than its sender's word was known of it when it was looked at last.
    pub(super) vouched: bool,
}

/// A dialog that an INVITE takes over (Replaces, RFC 3891) or comes into (Join, RFC 3911).
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) call_id: Box<[u8]>,
    /// The tag of the INVITE's addressee in it.
    pub(super) to_tag: Option<Tag>,
    pub(super) join: bool,
}

/// An attempt under way.
#[derive(Debug)]
pub(super) struct PendingAttempt {
    pub(super) method: Method,
    pub(super) kind: Kind,
    pub(super) machine: Machine,
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
    pub(super) legs: SmallVec<[LegId; 2]>,
    /// Of a second leg that could be several calls': those calls, the likeliest first.
    pub(super) candidates: Vec<LegId>,
    pub(super) link: Option<Link>,
    pub(super) ladder: Ladder,
    /// The transactions in `dialog` or `call` that belong to it.
    pub(super) owned: Vec<Owned>,
    /// Headers that say why, of the REFER's answer or the final NOTIFY.
    pub(super) headers: Headers,
    /// The trace that its REFER names, and by which header.
    pub(super) trace: Option<Box<(u8, TraceContext)>>,
    /// How much was known to be lost when it began.
    pub(super) mark: u64,
    pub(super) due: When,
    /// The last notice of it.
    pub(super) noticed: Option<Box<Notice>>,
}

/// A transaction that belongs to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) leg: LegId,
    by: Side,
    cseq: CSeq,
    /// Whose it is; `None` where a tag was forgotten, and any may be there.
    speaker: Option<Speaker>,
    /// It is shown, and counts for little.
    pub(super) doubted: bool,
}

impl Owned {
    pub(super) fn of(event: DialogEvent) -> Self {
        let DialogEvent { leg, by, cseq, speaker, .. } = event;
        Self { leg, by, cseq, speaker: Some(speaker), doubted: false }
    }

    /// The same in the leg whose tag it forgot.
    pub(super) fn untagged(event: DialogEvent, leg: LegId, by: Side) -> Self {
        Self { leg, by, speaker: None, ..Self::of(event) }
    }

    pub(super) fn doubted(event: DialogEvent) -> Self {
        Self { doubted: true, ..Self::of(event) }
    }
}

impl CallState {
    /// Whether it was on hold at `time`, as far as the latest hold tells.
    pub(super) fn was_held(&self, time: Timestamp) -> bool {
        self.held.get().is_some_and(|held| {
            held <= time && self.resumed.get().is_none_or(|resumed| resumed < held || resumed > time)
        })
    }

    /// The status that the caller's CANCEL gives as its reason (RFC 3326): that of another branch of the call.
    pub(super) fn cancel_cause(&self) -> Option<u16> {
        let reasons = self.cancel_reasons.iter().flat_map(|line| ReasonHeader::all(line.as_bytes()));
        let mut causes = reasons.filter_map(|reason| match (reason.sip(), reason.q850()) {
            // That it was cancelled is no reason.
            (Some(487), _) => None,
            (Some(status), _) => Some(status),
            // The causes of a branch that was taken, busy, or turned down (RFC 3398 §7.2.4.1): others are of the caller itself.
            (None, Some(26)) => Some(200),
            (None, Some(17)) => Some(486),
            (None, Some(21)) => Some(603),
            (None, _) => None,
        });
        causes.find(|status| *status >= 200)
    }

    /// Whether something still hangs on the leg.
    pub(super) fn is_needed(&self) -> bool {
        !self.open.is_empty() || self.serves.is_some() || self.watched.is_some()
    }

    /// Whether a transfer is under way in it, or by it.
    pub(super) fn is_transferring(&self) -> bool {
        !self.open.is_empty() || self.serves.is_some()
    }
}

impl Watched {
    pub(super) fn new(named: Option<Named>) -> Self {
        Self { ladder: Ladder::default(), due: When::NEVER, told: false, named, vouched: false }
    }
}

impl PendingAttempt {
    /// An attempt by `method` that is carried by the messages of `dialog`, with nothing known of it yet.
    pub(super) fn new(method: Method, machine: Machine, dialog: LegId, by: Side, started: Timestamp) -> Self {
        Self {
            method,
            kind: Kind::Blind,
            machine,
            call: None,
            call_id: None,
            dialog,
            by,
            transferor: None,
            transferee: None,
            target: Target::default(),
            started,
            legs: SmallVec::new(),
            candidates: Vec::new(),
            link: None,
            ladder: Ladder::default(),
            owned: Vec::new(),
            headers: Headers::default(),
            trace: None,
            mark: 0,
            due: When::NEVER,
            noticed: None,
        }
    }

    /// What it knows of an event's transaction, if that belongs to it.
    pub(super) fn owned(&self, event: DialogEvent) -> Option<Owned> {
        let DialogEvent { leg, by, cseq, speaker, .. } = event;
        let fits = |known: &Owned| {
            (known.leg, known.by, known.cseq) == (leg, by, cseq)
                && known.speaker.is_none_or(|its| its == speaker)
        };
        self.owned.iter().copied().find(fits)
    }

    pub(super) fn owns(&self, event: DialogEvent) -> bool {
        self.owned(event).is_some()
    }

    /// The transaction belongs to it.
    pub(super) fn own(&mut self, owned: Owned) {
        if self.owned.len() < MOST_OWNED && !self.owned.contains(&owned) {
            self.owned.push(owned);
        }
    }

    /// The transferor's side of `leg`: in a dialog of its own the REFER's sender is the caller.
    pub(super) fn by_of(&self, leg: LegId) -> Side {
        if self.call == Some(leg) { self.by } else { Side::Caller }
    }

    /// The call that it is about, if that is known, and the leg that carries it.
    pub(super) fn homes(&self) -> impl Iterator<Item = LegId> {
        self.call.into_iter().chain(Some(self.dialog).filter(|dialog| self.call != Some(*dialog)))
    }

    /// Every leg that takes part in it.
    pub(super) fn all_legs(&self) -> impl Iterator<Item = LegId> {
        self.homes().chain(self.legs.iter().copied())
    }
}
