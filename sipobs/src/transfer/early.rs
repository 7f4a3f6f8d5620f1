//! Answers that were captured before the requests that begin their legs: two taps, or two queues of a card, turn them around.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::method::refer::TURNED_AROUND;
use crate::dialog::DialogKey;
use crate::journal::Kept;
use crate::leg::Branch;
use crate::sip::{CSeq, Message};
use crate::stream::{TransportKind, WireMessage};
use crate::timestamp::Timestamp;

/// Answers that are kept. Their room is used again, so that a capture of one direction costs nothing.
const MOST: usize = 32;
/// Longer ones are not.
const LONGEST: usize = 4096;

/// The latest final answers under Call-IDs that were not known.
#[derive(Debug, Default)]
pub(super) struct EarlyAnswers(VecDeque<EarlyAnswer>);

/// A final answer whose request was not seen yet.
#[derive(Debug)]
pub(super) struct EarlyAnswer {
    time: Timestamp,
    frame: u64,
    src: SocketAddr,
    dst: SocketAddr,
    transport: TransportKind,
    originated: bool,
    /// The Call-ID, hashed.
    call_id: u64,
    cseq: CSeq,
    branch: Branch,
    bytes: Vec<u8>,
}

impl EarlyAnswers {
    /// Keeps one for as long as its request may follow.
    pub(super) fn keep(&mut self, wire: &WireMessage<'_>, key: &DialogKey<'_>, call_id: u64) {
        if wire.bytes.len() > LONGEST {
            return;
        }
        let mut bytes = match self.0.len() {
            MOST => self.0.pop_front().map(|oldest| oldest.bytes).unwrap_or_default(),
            _ => Vec::new(),
        };
        bytes.clear();
        bytes.extend_from_slice(wire.bytes);
        let WireMessage { time, frame, src, dst, transport, originated, .. } = *wire;
        let DialogKey { cseq, branch, .. } = *key;
        self.0.push_back(EarlyAnswer {
            time,
            frame,
            src,
            dst,
            transport,
            originated,
            call_id,
            cseq,
            branch,
            bytes,
        });
    }

    /// The answer to a request that was captured just after it, with nothing of it kept any more.
    pub(super) fn take(
        &mut self,
        request: &WireMessage<'_>,
        key: &DialogKey<'_>,
        call_id: u64,
    ) -> Option<EarlyAnswer> {
        let place = self.0.iter().position(|answer| {
            (answer.call_id, answer.cseq, answer.branch) == (call_id, key.cseq, key.branch)
                && (answer.src, answer.dst) == (request.dst, request.src)
                && request.time.since(answer.time) <= TURNED_AROUND
        })?;
        self.0.remove(place)
    }

    /// Those whose request may follow after `now`, for a successor.
    pub(super) fn waiting(&self, now: Timestamp) -> impl Iterator<Item = Kept<'static>> {
        let waits = move |answer: &&EarlyAnswer| now.since(answer.time) <= TURNED_AROUND;
        self.0.iter().filter(waits).filter_map(|answer| {
            let message = Message::parse(&answer.bytes).ok()?;
            Some(Kept::new(&answer.at(answer.time), message.essence()))
        })
    }
}

impl EarlyAnswer {
    /// The message, as if it had come then.
    pub(super) fn at(&self, time: Timestamp) -> WireMessage<'_> {
        let Self { frame, src, dst, transport, originated, ref bytes, .. } = *self;
        WireMessage { time, frame, src, dst, transport, seq: None, bytes, cut: false, originated }
    }
}
