//! Answers that were captured before the requests that begin their legs: two taps, or two queues of a card, turn them around.

use std::collections::VecDeque;

use super::method::refer::TURNED_AROUND;
use crate::dialog::DialogKey;
use crate::journal::Kept;
use crate::leg::HeldMessage;
use crate::sip::Message;
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

/// Answers that are kept. Their room is used again, so that a capture of one direction costs nothing.
const MOST: usize = 32;
/// The latest final answers under Call-IDs that were not known.
#[derive(Debug, Default)]
pub(super) struct EarlyAnswers(VecDeque<EarlyAnswer>);

/// A final answer whose request was not seen yet.
#[derive(Debug)]
struct EarlyAnswer {
    /// Its Call-ID, hashed.
    call_id: u64,
    held: HeldMessage,
}

impl EarlyAnswers {
    /// Keeps one for as long as its request may follow.
    pub(super) fn keep(&mut self, wire: &WireMessage<'_>, key: &DialogKey<'_>, call_id: u64) {
        if !HeldMessage::may_be(wire) {
            return;
        }
        let oldest = if self.0.len() == MOST { self.0.pop_front() } else { None };
        let room = oldest.map(|oldest| oldest.held.into_room()).unwrap_or_default();
        self.0.push_back(EarlyAnswer { call_id, held: HeldMessage::of(wire, key.cseq, key.branch, room) });
    }

    /// The answer to a request that was captured just after it, with nothing of it kept any more.
    pub(super) fn take(
        &mut self,
        request: &WireMessage<'_>,
        key: &DialogKey<'_>,
        call_id: u64,
    ) -> Option<HeldMessage> {
        let place = self.0.iter().position(|answer| {
            answer.call_id == call_id
                && answer.held.pairs_with(request, key.cseq, key.branch)
                && request.time.since(answer.held.time) <= TURNED_AROUND
        })?;
        self.0.remove(place).map(|answer| answer.held)
    }

    /// Those whose request may follow after `now`, for a successor.
    pub(super) fn waiting(&self, now: Timestamp) -> impl Iterator<Item = Kept<'static>> {
        let held = self.0.iter().map(|answer| &answer.held);
        held.filter(move |held| now.since(held.time) <= TURNED_AROUND).filter_map(|held| {
            let wire = held.at(held.time);
            let message = Message::parse(wire.bytes).ok()?;
            Some(Kept::new(&wire, message.essence()))
        })
    }
}
