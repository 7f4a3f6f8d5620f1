//! What leaves the engine: the records of the output contract, one struct a line, and the words in them.
//!
//! Field and value names are the contract's; they are also span attributes and metric labels. Records hold
//! numbers and users as seen on the wire until [`crate::privacy`] masks them, once, on the way out of the
//! engine.

use sha2::{Digest as _, Sha256};

use crate::timestamp::Timestamp;

mod alert;
mod attempt;
mod call;
mod glossary;
mod line;
mod open_call;
mod parties;
mod vocabulary;

pub use alert::Alert;
pub use attempt::{Attempt, Diagnosis, LadderLine, LegRole, Link, Notice, Quality, Visibility, WireTrace};
pub use call::{Call, ReferAbsent, Signal};
pub use glossary::{FIELDS, words as glossary};
pub use line::{Line, OutputLine, SCHEMA};
pub use open_call::OpenCall;
pub use parties::Parties;
pub use vocabulary::{
    AbsentSignal, AlertKind, Answered, AnsweredBy, ByeFrom, Dialect, Evidence, Fault, Kind, LinkMethod,
    Method, Outcome, RatioVerdict, ReplacesFit, Seen, Side, UnknownReason,
};

/// An id of what is told apart by `parts`: of some thousand a second for a day no two are alike.
pub(crate) fn id_of(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Anything the engine tells the outside.
#[derive(Clone, Debug)]
pub enum Output {
    /// An attempt is under way; its verdict is not final yet. Never printed unless asked for.
    Notice(Box<Notice>),
    /// A settled attempt. Given once.
    Transfer(Box<Attempt>),
    /// An ended call.
    Call(Box<Call>),
    /// Something a person should hear of.
    Alert(Box<Alert>),
}

impl Output {
    /// The first time in it.
    pub(crate) fn began(&self) -> Timestamp {
        match self {
            Self::Notice(notice) => notice.time,
            Self::Transfer(attempt) => attempt.started,
            Self::Call(call) => call.started,
            Self::Alert(alert) => alert.time,
        }
    }

    /// Changes every time in it.
    pub(crate) fn change_times(&mut self, change: impl Fn(Timestamp) -> Timestamp) {
        let change = |time: &mut Timestamp| *time = change(*time);
        match self {
            Self::Notice(notice) => change(&mut notice.time),
            Self::Transfer(attempt) => {
                change(&mut attempt.started);
                change(&mut attempt.ended);
                attempt.messages.iter_mut().for_each(|line| change(&mut line.time));
            }
            Self::Call(call) => {
                change(&mut call.started);
                call.answered.iter_mut().for_each(change);
                change(&mut call.ended);
            }
            Self::Alert(alert) => change(&mut alert.time),
        }
    }

    /// Whether it rests on one side's word alone, which anybody can send in anybody's name: where not all of them
    /// find room, these make way.
    pub fn is_one_sided(&self) -> bool {
        match self {
            // A first word, which a last one will follow.
            Self::Notice(_) => true,
            Self::Transfer(attempt) => attempt.is_one_sided(),
            Self::Call(call) => call.seen != Seen::Both,
            Self::Alert(_) => false,
        }
    }
}
