//! What the transfer stage says: the records of the output contract, one struct a line.
//!
//! Field and value names are the contract's; they are also span attributes and metric labels. Records hold
//! numbers and users as seen on the wire until [`crate::privacy`] masks them, once, on the way out of the
//! engine.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize, Serializer};

pub use crate::dialog::{Seen, Side};
use crate::sip::CSeq;
use crate::timestamp::Timestamp;

/// Anything the engine tells the outside.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
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

impl Attempt {
    /// Whether neither its call nor the leg to its target was seen from both sides.
    pub fn is_one_sided(&self) -> bool {
        [self.visibility.call, self.visibility.target].iter().all(|seen| *seen != Seen::Both)
    }
}

/// A transfer attempt, settled: it will not change any more.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// Call-ID of the dialog that was to be transferred; `None` when it can't be told.
    pub call_id: Option<String>,
    /// How the transfer was tried.
    pub method: Method,
    /// Blind or attended.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Configured name of the peer whose call it is, or `other`.
    pub trunk: String,
    /// Who asked for (REFER) or made (INVITE) the transfer: its URI.
    pub transferor: Option<String>,
    /// Who was to be transferred.
    pub transferee: Option<String>,
    /// Where to: Refer-To without Replaces, the second leg's request-URI, or the redirect's Contact.
    pub target: Option<String>,
    /// First message of the attempt.
    pub started: Timestamp,
    /// The message that decided it, or the timer that gave up on it.
    pub ended: Timestamp,
    /// `ended - started`.
    pub duration_ms: i64,
    /// What became of it.
    pub outcome: Outcome,
    /// What the outcome rests on.
    pub evidence: Evidence,
    /// Why the outcome is `unknown`, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_because: Option<String>,
    /// The deciding SIP status: of the target leg if seen, else the sipfrag, else the REFER's own answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Its reason phrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// CSeq number of the REFER (of its last authenticated try).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refer_cseq: Option<u32>,
    /// Call-ID of the leg to the target, where it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_call_id: Option<String>,
    /// How that leg was tied to this call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// From the last authenticated INVITE of the target leg to its first 18x, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ringing_ms: Option<i64>,
    /// From the last authenticated INVITE of the target leg to its final answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<i64>,
    /// Candidate causes, likeliest first.
    pub diagnosis: Vec<Diagnosis>,
    /// Which legs and directions this capture could see.
    pub visibility: Visibility,
    /// What is known to be missing from the evidence; all zero on a clean capture.
    pub quality: Quality,
    /// The ladder: only what belongs to the attempt.
    pub messages: Vec<LadderLine>,
    /// Users of the calls' From, To and request-URIs: never printed. They tell [`crate::privacy`] which digits in
    /// a Call-ID are somebody's number.
    #[serde(skip)]
    pub parties: Vec<String>,
}

/// How a transfer was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// REFER (RFC 3515).
    Refer,
    /// A second-leg INVITE by a B2BUA, or an INVITE with Replaces or Join.
    Invite,
    /// 301, 302 and kin before answer (RFC 3261 §21.3).
    Redirect,
    /// BYE with an Also header (legacy).
    Also,
    /// 202, a terminating NOTIFY, then BYE with the number in Reason.
    ReferBye,
}

/// Blind or attended (RFC 5589).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No consultation was seen.
    Blind,
    /// A Replaces, or a hold, shows a consultation.
    Attended,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the output contract's own")]
pub enum Outcome {
    Succeeded,
    Busy,
    NoAnswer,
    Declined,
    Forbidden,
    NotFound,
    Media,
    NetworkFailure,
    ReferRefused,
    ReferUnanswered,
    AuthFailed,
    DialogGone,
    Abandoned,
    Superseded,
    NotifyTimeout,
    Redirected,
    Unknown,
}

/// What an outcome rests on, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The target's own final answer was seen (and, for 200, its ACK), or the REFER's own refusal.
    Confirmed,
    /// A sipfrag said so.
    Reported,
    /// A 200 sipfrag within 500 ms of the 202 with no 1xx before it: perhaps sent before dialling.
    ReportedOptimistic,
    /// Drawn from timing, silence or other messages.
    Inferred,
}

/// How a target leg was tied to its call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// The evidence that tied it: `replaces`, `session_id`, `host_number`, `ambiguous`, …
    pub method: &'static str,
    /// 0 to 1, calibrated: of links given at p, at least p are right.
    pub confidence: f64,
    /// Call-IDs it could belong to, when `method` is `ambiguous`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}

/// One candidate cause: a word for machines, three short sentences for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The cause in one word that does not change with the wording: `suspect_policy`, `geo_permission`, …
    pub code: String,
    /// What probably happened.
    pub cause: String,
    /// What to look at next.
    pub check: String,
    /// The evidence.
    pub because: String,
}

/// Which legs and directions the capture could see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Visibility {
    /// Requests and answers of the transferred call: `both`, `one_way` or `none`.
    pub call: Seen,
    /// Of the leg to the target.
    pub target: Seen,
}

/// What is known to be missing from the evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quality {
    /// Frames lost in the kernel's ring during the attempt.
    pub ring_lost: u64,
    /// Gaps in the TCP streams that carried it.
    pub tcp_gaps: u64,
    /// Datagrams between its hosts that missed fragments.
    pub missing_fragments: u64,
    /// The call was up before the capture began: its INVITE was not seen.
    #[serde(serialize_with = "as_number")]
    pub midcall: bool,
}

/// One message of the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LadderLine {
    /// Milliseconds since `started`.
    pub t_ms: i64,
    /// Sender, `address:port`.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Start line; for a NOTIFY with its sipfrag's status line behind an arrow.
    pub line: String,
    /// Number of the frame that completed it.
    pub frame: u64,
    /// How many times it was sent, this one included; retransmissions have no lines of their own.
    #[serde(skip_serializing_if = "is_one")]
    pub copies: u32,
    /// When it was captured.
    #[serde(skip)]
    pub time: Timestamp,
    /// Which leg it belongs to.
    #[serde(skip)]
    pub leg: Leg,
    /// Its CSeq: with `leg`, the transaction it belongs to.
    #[serde(skip)]
    pub cseq: CSeq,
}

impl LadderLine {
    /// Whether it is a response.
    pub fn is_answer(&self) -> bool {
        self.line.starts_with("SIP/2.0 ")
    }
}

/// The legs a ladder can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// The dialog that was to be transferred.
    Call,
    /// The leg to the target.
    Target,
    /// The consultation of an attended transfer.
    Consultation,
}

/// An attempt under way: what is known so far.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// Call-ID of the call.
    pub call_id: Option<String>,
    /// How the transfer is being tried.
    pub method: Method,
    /// When this became known.
    pub time: Timestamp,
    /// What the verdict would be if nothing more came.
    pub outcome: Outcome,
    /// Users of the From, To and request-URI: never printed. They tell [`crate::privacy`] which digits in
    /// a Call-ID are somebody's number.
    #[serde(skip)]
    pub parties: Vec<String>,
}

/// An ended call.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Its Call-ID.
    pub call_id: String,
    /// First INVITE, or the first message seen of it.
    pub started: Timestamp,
    /// The 2xx to its INVITE.
    pub answered: Option<Timestamp>,
    /// BYE, or the final failure.
    pub ended: Timestamp,
    /// Who sent the BYE (or CANCEL); `None` when a failure answer ended it.
    pub ended_by: Option<Side>,
    /// Final status of its INVITE.
    pub status: Option<u16>,
    /// Configured name of the peer, or `other`.
    pub trunk: String,
    /// How many transfer attempts it held.
    pub transfers: u32,
    /// Whether a REFER might have been expected and did not come.
    #[serde(flatten)]
    pub refer_absent: ReferAbsent,
    /// Whose messages were seen.
    #[serde(skip)]
    pub seen: Seen,
    /// Users of the From, To and request-URI: never printed. They tell [`crate::privacy`] which digits in
    /// a Call-ID are somebody's number.
    #[serde(skip)]
    pub parties: Vec<String>,
}

/// The REFER-absent BYE, in levels. Only a fact; alerts are [`Alert`]s.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "refer_absent", rename_all = "snake_case")]
pub enum ReferAbsent {
    /// There was a transfer attempt, or the call is not one that the question fits.
    No,
    /// An answered call of 10 s or more that ended in BYE without any sign of a transfer.
    Fact {
        /// A second leg could not have been seen from here.
        invite_unknown: bool,
    },
    /// Signals add up.
    Suspected {
        /// Their sum; 3 or more.
        score: f64,
        /// Each with its weight.
        signals: Vec<Signal>,
    },
    /// A second-leg INVITE on a trunk that used, or is expected, to be transferred by REFER.
    MethodSwitched,
}

/// One signal of a suspected missing REFER.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Signal {
    /// What was seen.
    pub name: &'static str,
    /// What it adds.
    pub weight: f64,
}

/// Something a person should hear of.
#[derive(Clone, Debug, Serialize)]
pub struct Alert {
    /// Which alert.
    pub alert: AlertKind,
    /// When it was raised.
    pub time: Timestamp,
    /// The trunk it concerns.
    pub trunk: String,
    /// The numbers behind it, by name.
    pub numbers: BTreeMap<&'static str, f64>,
    /// One sentence for a person.
    pub message: String,
    /// For [`AlertKind::ReferRatio`]: `method_switched` when second-leg INVITEs rose meanwhile, else
    /// `attempts_vanished`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    /// The call that raised it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Users of the From, To and request-URI: never printed. They tell [`crate::privacy`] which digits in
    /// a Call-ID are somebody's number.
    #[serde(skip)]
    pub parties: Vec<String>,
}

/// The alerts of the output contract, each raised once an incident; an incident ends when REFERs return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// So many answered calls in a row without a REFER are improbable on this trunk, going by its own
    /// baseline. `verdict` and `message` say whether INVITEs took the REFERs' place.
    ReferRatio,
    /// One call was transferred by a second-leg INVITE on a trunk whose baseline, or declared expectation,
    /// is REFER.
    MethodSwitched,
    /// A trunk declared `expect = "refer"` shows no transfer at all, and there is no baseline to compare
    /// with: sipobs began to watch after the REFERs had stopped.
    AttemptsVanished,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_one(copies: &u32) -> bool {
    *copies == 1
}

fn as_number<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}
