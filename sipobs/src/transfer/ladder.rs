//! The ladder of an attempt: the messages that belong to it, a bounded number of them.

use crate::record::{LadderLine, LegRole};
use crate::sip::{CSeq, Message, Method, Name, Sipfrag, brief};
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

/// Longer start lines are cut.
const LONGEST_LINE: usize = 256;

/// Doubted lines of one ladder: strangers don't crowd out a call's own.
const MOST_DOUBTED: usize = 8;

/// Lines in the order they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Ladder(Vec<LadderLine>);

impl Ladder {
    /// Adds a line; the first `most` are kept, for a story is told by its beginning, and the verdict tells
    /// its end.
    pub(super) fn push(&mut self, line: LadderLine, most: usize) {
        let has_room = self.0.len() < most;
        match self.0.iter_mut().find(|known| known.frame == line.frame && known.line == line.line) {
            Some(known) => known.doubted &= line.doubted,
            None if has_room => self.0.push(line),
            None => {}
        }
    }

    /// Adds a line that nothing vouches for.
    pub(super) fn push_doubted(&mut self, line: LadderLine, most: usize) {
        if self.0.iter().filter(|line| line.doubted).count() < MOST_DOUBTED {
            self.push(LadderLine { doubted: true, ..line }, most);
        }
    }

    /// Bytes it takes up.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|line| size_of::<LadderLine>() + line.line.len()).sum()
    }

    pub(super) fn extend(&mut self, other: Self, most: usize) {
        for line in other.0 {
            self.push(line, most);
        }
    }

    /// Says that a request was sent `copies` times.
    pub(super) fn repeated(&mut self, leg: LegRole, cseq: CSeq, copies: u32) {
        let request = |line: &&mut LadderLine| line.leg == leg && line.cseq == cseq && !line.is_answer();
        if let Some(line) = self.0.iter_mut().find(request) {
            line.copies = copies;
        }
    }

    /// With every line told as one of this leg.
    pub(super) fn into_leg(mut self, leg: LegRole) -> Self {
        for line in &mut self.0 {
            line.leg = leg;
        }
        self
    }

    /// In order of time, with times relative to `started`.
    pub(super) fn finish(mut self, started: Timestamp) -> Vec<LadderLine> {
        for line in &mut self.0 {
            line.t_ms = line.time.millis_since(started);
        }
        self.0.sort_by_key(|line| (line.time, line.frame));
        self.0
    }
}

/// The line that shows a message.
pub(crate) fn show(wire: &WireMessage<'_>, message: &Message<'_>, cseq: CSeq, leg: LegRole) -> LadderLine {
    let mut text = brief(message.first_line(), LONGEST_LINE);
    if cseq.method == Method::Notify && message.is_request() {
        if let Ok(frag) = Sipfrag::of(message) {
            text.push_str(" → ");
            text.push_str(&status_line(frag.status, frag.reason));
        } else if let Some(state) = message.header(Name::SubscriptionState) {
            text.push_str(" → ");
            text.push_str(&brief(state, LONGEST_LINE));
        }
    }
    LadderLine {
        transport: wire.transport,
        t_ms: 0,
        from: wire.src,
        to: wire.dst,
        line: text,
        frame: wire.frame,
        file: None,
        copies: 1,
        doubted: false,
        time: wire.time,
        leg,
        cseq,
    }
}

/// The start line of an INVITE, as [`show`] has it.
pub(super) fn invite(uri: &[u8]) -> String {
    brief(&[b"INVITE ", uri, b" SIP/2.0"].concat(), LONGEST_LINE)
}

fn status_line(status: u16, reason: &[u8]) -> String {
    let reason = brief(reason, LONGEST_LINE);
    if reason.is_empty() { status.to_string() } else { format!("{status} {reason}") }
}
