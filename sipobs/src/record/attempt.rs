//! A transfer attempt, settled or under way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Evidence, Fault, Kind, LinkMethod, Method, Outcome, Parties, Seen, UnknownReason};
use crate::frame::Place;
use crate::sip::CSeq;
use crate::stream::TransportKind;
use crate::timestamp::Timestamp;

/// A transfer attempt, settled: it will not change any more.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Attempt {
    /// Call-ID of the dialog that was to be transferred; `None` when it can't be told.
    pub call_id: Option<String>,
    /// Short and stable: the same attempt has the same id in its notices, in this record and on its span, whatever else is
    /// in the capture.
    pub id: String,
    /// Its place among the attempts of this run, from 1, in the order in which they were settled; none live.
    pub seq: Option<u64>,
    /// How the transfer was tried.
    pub method: Method,
    /// Blind or attended.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Configured name of the peer whose call it is, or `other`.
    pub trunk: Arc<str>,
    /// Who asked for (REFER) or made (INVITE) the transfer: its URI.
    pub transferor: Option<String>,
    /// Who was to be transferred.
    pub transferee: Option<String>,
    /// Where to: Refer-To without Replaces, the second leg's request-URI, or the redirect's Contact.
    pub target: Option<String>,
    /// First message of the attempt. All times of a record are by the clock as it went then, even if that was set later.
    pub started: Timestamp,
    /// The message that decided it, or the timer that gave up on it.
    pub ended: Timestamp,
    /// `ended - started`.
    pub duration_ms: i64,
    /// What became of it.
    pub outcome: Outcome,
    /// What the outcome rests on.
    pub evidence: Evidence,
    /// Who would have to change something, as the likeliest cause has it.
    pub fault: Fault,
    /// Why the outcome is `unknown`, in one word.
    pub unknown_reason: Option<UnknownReason>,
    /// The same in a sentence.
    pub unknown_because: Option<String>,
    /// The deciding SIP status: of the target leg if seen, else the sipfrag, else the REFER's own answer.
    pub status: Option<u16>,
    /// Its reason phrase.
    pub reason: Option<String>,
    /// CSeq number of the REFER (of its last authenticated try).
    pub refer_cseq: Option<u32>,
    /// Call-ID of the leg to the target, where it was seen.
    pub target_call_id: Option<String>,
    /// Of a redirect: whether its Contact was called, under whichever Call-ID; `target_call_id` and the times are then that leg's.
    pub followed: Option<bool>,
    /// What became of that leg.
    pub followed_outcome: Option<Outcome>,
    /// How that leg was tied to this call.
    pub link: Option<Link>,
    /// From the last authenticated INVITE of the target leg to its first 18x, in milliseconds.
    pub ringing_ms: Option<i64>,
    /// From the last authenticated INVITE of the target leg to its final answer, in milliseconds.
    pub answer_ms: Option<i64>,
    /// Ids that a provider's support asks for, by header: the call's, and what other legs have beside them.
    pub provider_ids: BTreeMap<String, String>,
    /// Those of the leg to the target alone.
    pub target_provider_ids: BTreeMap<String, String>,
    /// The trace that its span is in, where spans are exported; and that of an application, where it joins one.
    pub trace_id: Option<String>,
    /// The file with its packets, in the folder `[recorder] folder`; not there where none is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_file: Option<String>,
    /// The trace that the wire named.
    pub wire_trace: Option<Box<WireTrace>>,
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
    pub parties: Parties,
    /// This very host began its call or the leg to its target ([`crate::packet::Packet::originated`]): never printed.
    #[serde(skip)]
    pub originated: bool,
}

impl Attempt {
    /// Whether neither its call nor the leg to its target was seen from both sides, and anybody could have forged them.
    pub fn is_one_sided(&self) -> bool {
        !self.originated
            && [self.visibility.call, self.visibility.target].iter().all(|seen| *seen != Seen::Both)
    }

    /// Bytes that it takes up in memory, near enough.
    #[cfg(feature = "daemon")]
    pub(crate) fn bytes(&self) -> usize {
        let texts = [
            &self.call_id,
            &self.transferor,
            &self.transferee,
            &self.target,
            &self.unknown_because,
            &self.reason,
            &self.target_call_id,
            &self.trace_id,
            &self.evidence_file,
        ];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let ids = self.provider_ids.iter().chain(&self.target_provider_ids);
        let ids: usize = ids.map(|(name, id)| name.len() + id.len() + 2 * size_of::<String>()).sum();
        let causes = self.diagnosis.iter();
        let causes: usize = causes
            .map(|one| {
                let said = one.code.len() + one.cause.len() + one.check.len() + one.because.len();
                size_of_val(one) + said + one.source.as_ref().map_or(0, String::len)
            })
            .sum();
        let lines: usize = self.messages.iter().map(|line| size_of_val(line) + line.line.len()).sum();
        let candidates = self.link.iter().flat_map(|link| &link.candidates);
        let candidates: usize = candidates.map(|id| size_of_val(id) + id.len()).sum();
        size_of_val(self) + self.id.len() + texts + ids + causes + lines + candidates
    }

    /// Says in which of these files each frame is, and which one there.
    pub fn name_files(&mut self, files: &[Arc<str>]) {
        for line in &mut self.messages {
            let place = Place::of(line.frame);
            line.file = files.get(place.file).cloned();
            line.frame = place.number;
        }
    }
}

/// The trace that a REFER or an INVITE named: an application's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WireTrace {
    /// The header that named it.
    pub header: &'static str,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// The span that the message was sent by: 16 hexadecimal digits.
    pub span_id: Option<String>,
    /// Whether its sender records it, as far as that says.
    pub sampled: bool,
    /// The attempt's span is part of that trace; else it is linked to it.
    pub joins: bool,
}

/// How a target leg was tied to its call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Link {
    /// The evidence that tied it.
    pub method: LinkMethod,
    /// 0 to 1, calibrated: of links given at p, at least p are right.
    pub confidence: f64,
    /// Call-IDs it could belong to, when `method` is `ambiguous`.
    pub candidates: Vec<String>,
}

/// One candidate cause: a word for machines, three short sentences for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Diagnosis {
    /// The cause in one word that does not change with the wording: `suspect_policy`, `geo_permission`, …
    pub code: String,
    /// What probably happened.
    pub cause: String,
    /// What to look at next.
    pub check: String,
    /// The evidence.
    pub because: String,
    /// Who would have to change something.
    pub fault: Fault,
    /// Where the table has it from: a section of an RFC, a provider's page, a public thread. A user's table need not
    /// say.
    pub source: Option<String>,
    /// Nobody has published it: a rule of thumb, and never the first where anything else can be said.
    pub heuristic: bool,
}

/// Which legs and directions the capture could see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Visibility {
    /// Requests and answers of the transferred call: `both`, `one_way` or `none`.
    pub call: Seen,
    /// Of the leg to the target.
    pub target: Seen,
}

/// What is known to be missing from the evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Quality {
    /// Frames lost in the kernel's ring during the attempt.
    pub ring_lost: u64,
    /// Gaps in the TCP streams that carried it.
    pub tcp_gaps: u64,
    /// Datagrams between its hosts that missed fragments.
    pub missing_fragments: u64,
    /// Calls between its hosts that were let go of for want of memory meanwhile.
    pub evicted_calls: u64,
    /// Times that the capture's clock was set meanwhile, or the time of a frame lied. No outcome rests on such a time.
    pub clock_steps: u64,
    /// Times that sipobs was restarted meanwhile: what passed then was not seen.
    pub restarts: u64,
    /// Its REFER was not seen: `started` is the first message that told of it, and how long it took is not known.
    #[serde(serialize_with = "as_number")]
    #[cfg_attr(test, schemars(with = "u8"))]
    pub refer_unseen: bool,
    /// The call was up before the capture began: its INVITE was not seen.
    #[serde(serialize_with = "as_number")]
    #[cfg_attr(test, schemars(with = "u8"))]
    pub midcall: bool,
    /// An outcome was told by somebody outside: from a host that is not on the call's path, or under a tag that the dialog
    /// does not have. It counts only where nobody in the dialog tells of the transfer, another host's under the dialog's tags where nobody there tells anything after it.
    #[serde(serialize_with = "as_number")]
    #[cfg_attr(test, schemars(with = "u8"))]
    pub hearsay: bool,
}

/// One message of the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LadderLine {
    /// Milliseconds since `started`.
    pub t_ms: i64,
    /// Sender, `address:port`.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Start line; for a NOTIFY with its sipfrag's status line behind an arrow.
    pub line: String,
    /// Number of the frame that completed it, in its file.
    pub frame: u64,
    /// That file, as it was named; none live.
    pub file: Option<Arc<str>>,
    /// How many times it was sent, this one included; retransmissions have no lines of their own.
    pub copies: u32,
    /// Nothing vouches for it: it comes from a host outside the call, or lacks its tags. No verdict rests on it.
    pub doubted: bool,
    /// When it was captured.
    #[serde(skip)]
    pub time: Timestamp,
    /// Which leg it belongs to.
    #[serde(skip)]
    pub leg: LegRole,
    /// What it came over, where its packets do not hold it as it is: `tls`, `ws` or `wss`.
    #[serde(skip_serializing_if = "TransportKind::is_plain")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub transport: TransportKind,
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
pub enum LegRole {
    /// The dialog that was to be transferred.
    Call,
    /// The leg to the target.
    Target,
    /// The consultation of an attended transfer.
    Consultation,
}

/// An attempt under way: what is known so far.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Notice {
    /// The attempt's, as in its final record.
    pub id: String,
    /// Call-ID of the call.
    pub call_id: Option<String>,
    /// How the transfer is being tried.
    pub method: Method,
    /// When this became known.
    pub time: Timestamp,
    /// What the verdict would be if nothing more came.
    pub outcome: Outcome,
    /// What that rests on.
    pub evidence: Evidence,
    /// A message has decided it; else it is what silence would lead to.
    pub decided: bool,
    /// The deciding status.
    pub status: Option<u16>,
    /// Whose fault it is, and the likeliest cause in one word, where a message has decided it.
    pub fault: Option<Fault>,
    /// See `fault`.
    pub cause: Option<String>,
    /// The trace that the attempt's span will be in, where spans are exported.
    pub trace_id: Option<String>,
    /// It was none: a consultation, or nothing at all. Takes back what was said, and no record follows.
    pub withdrawn: bool,
    /// Users of the From, To and request-URI: never printed. They tell [`crate::privacy`] which digits in
    /// a Call-ID are somebody's number.
    #[serde(skip)]
    pub parties: Parties,
}

impl Notice {
    /// The one that takes this one back: the attempt turned out to be none. Its time is still to come.
    pub(crate) fn taken_back(self) -> Self {
        Self {
            evidence: Evidence::Inferred,
            decided: true,
            status: None,
            fault: None,
            cause: None,
            trace_id: None,
            withdrawn: true,
            ..self
        }
    }

    /// Whether it says more than what silence would lead to, as every attempt's first notice does.
    pub const fn is_of_news(&self) -> bool {
        let is_silence =
            matches!(self.outcome, Outcome::Unknown | Outcome::NotifyTimeout | Outcome::ReferUnanswered);
        self.decided || !is_silence
    }
}

fn as_number<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(u8::from(*flag))
}
