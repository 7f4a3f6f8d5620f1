//! One direction of a TCP connection, in order → SIP messages (RFC 3261 §7.5, §18.3).
//!
//! ```text
//! Between ─ start line ─▶ Headers ─ empty line ─▶ Body ─ Content-Length ─▶ Between
//!    │                       │ too long, or not headers        │ bytes missing
//!    └─ not a start line ─▶ Lost ─ next start line ─▶ Headers  └▶ Skip ─ end of the body ─▶ Between
//! ```
//!
//! No byte is looked at twice, however the stream is cut into segments: what has been searched for a line
//! end is remembered. While nothing is left over, messages are given straight from the segment.

use bytes::{Buf, BytesMut};
use memchr::memchr;

use super::Counters;
use super::length::{Length, LengthScan};
use crate::discard::DiscardReason;
use crate::sip::start_line::{
    MAX_START_LINE, is_header_like, is_start_line, is_sure_start_line, leading_line_ends,
    may_become_start_line,
};
use crate::work;

/// The framing of one direction.
#[derive(Debug)]
pub(super) struct Framer {
    state: State,
    /// What came of the unfinished message, or of the line that may start one.
    buffer: BytesMut,
    /// How much of `buffer` has been searched for a line end, from its current line on.
    searched: usize,
    /// A SIP start line has been seen.
    proven: bool,
    /// Segments of which no byte is in a message yet, but some are in `buffer`.
    waiting: u64,
    /// What became of the segment at hand, so far.
    fate: Fate,
    /// Bytes searched for line ends, to show that the work is linear.
    #[cfg(test)]
    pub(super) looked_at: usize,
}

/// Where in the stream it is. Positions count from the start of the message.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Between messages. Line ends are keep-alives (RFC 5626 §3.5.1).
    Between,
    /// In the headers.
    Headers {
        /// Where the current line begins.
        line: usize,
        length: LengthScan,
        /// Where the headers begin, if the start line was found by searching: it may be something else.
        found: Option<usize>,
    },
    /// In the body of a message that ends there.
    Body { end: usize },
    /// In a body that is not wanted any more, with so many bytes to go.
    Skip { left: u64 },
    /// Anywhere: the next start line is searched for.
    Lost {
        /// Not at the beginning of a line.
        mid_line: bool,
    },
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing yet; or there was nothing in it but line ends.
    Open,
    /// Bytes of it went into a message.
    Used,
    /// Bytes of it were thrown away.
    Discarded(DiscardReason),
}

/// What one look at the unread bytes came to.
enum Step {
    /// So many are done with; look again.
    Used(usize),
    /// More are needed.
    Wait,
    /// The stream never was SIP.
    Foreign,
}

/// Takes one message, whether its body is cut, and how many bytes came behind it so far.
pub(super) type Sink<'s> = &'s mut dyn FnMut(&[u8], bool, usize);

impl Framer {
    /// At the beginning of a stream.
    pub(super) fn at_start() -> Self {
        Self {
            state: State::Between,
            buffer: BytesMut::new(),
            searched: 0,
            proven: false,
            waiting: 0,
            fate: Fate::Open,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// Somewhere in a stream.
    pub(super) fn midway() -> Self {
        Self { state: State::Lost { mid_line: false }, ..Self::at_start() }
    }

    /// Whether it has seen a SIP start line.
    pub(super) fn proven(&self) -> bool {
        self.proven
    }

    /// SIP has come, without it.
    pub(super) fn prove(&mut self) {
        self.proven = true;
    }

    /// Whether the rest of a SIP message is to come.
    pub(super) fn is_mid_message(&self) -> bool {
        self.proven && self.waiting > 0
    }

    /// Whether nothing waits for more.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes it takes up.
    pub(super) fn cost(&self) -> usize {
        self.buffer.capacity()
    }

    /// Searches for the next start line from here on.
    pub(super) fn resync(&mut self, counters: &mut Counters) {
        self.forget(DiscardReason::TcpSkipped, counters);
        self.enter(State::Lost { mid_line: false });
    }

    /// Throws away what is not finished.
    pub(super) fn forget(&mut self, reason: DiscardReason, counters: &mut Counters) {
        self.buffer = BytesMut::new();
        self.drop_waiting(reason, counters);
    }

    /// Takes the next bytes, and counts what became of the `segments` that they came in.
    /// False if they show that the stream never was SIP: then nothing is counted.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        segments: u64,
        max: usize,
        counters: &mut Counters,
        sink: Sink<'_>,
    ) -> bool {
        self.fate = Fate::Open;
        if !self.take(bytes, max, counters, sink) {
            return false;
        }
        match self.fate {
            Fate::Used => counters.used += segments,
            _ if !self.buffer.is_empty() => {
                self.waiting += segments;
                counters.unfinished += segments;
            }
            Fate::Discarded(reason) => counters.unused.add(reason, segments),
            Fate::Open => counters.unused.add(DiscardReason::NoPayload, segments),
        }
        true
    }

    fn take(&mut self, bytes: &[u8], max: usize, counters: &mut Counters, sink: Sink<'_>) -> bool {
        if self.buffer.is_empty() {
            return match self.run(bytes, max, counters, sink) {
                Some(used) => {
                    self.buffer.extend_from_slice(&bytes[used..]);
                    work::count(bytes.len() - used);
                    true
                }
                None => false,
            };
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        work::count(bytes.len());
        let Some(used) = self.run(&buffer, max, counters, sink) else { return false };
        buffer.advance(used);
        // What is left is no more than came last: copying it keeps the cost linear, and the room honest.
        work::count(if used > 0 { buffer.len() } else { 0 });
        self.buffer = if used > 0 { BytesMut::from(&buffer[..]) } else { buffer };
        true
    }

    /// `missing` bytes will never come. A message whose headers are whole is given without its body.
    pub(super) fn gap(&mut self, missing: u64, counters: &mut Counters, sink: Sink<'_>) {
        let next = match self.state {
            State::Body { end } => {
                sink(&self.buffer, true, 0);
                self.given(counters);
                State::Skip { left: (end - self.buffer.len()) as u64 }
            }
            state => {
                counters.incomplete += u64::from(!self.buffer.is_empty() && self.proven);
                state
            }
        };
        self.forget(DiscardReason::TcpUnfinished, counters);
        match next {
            State::Skip { left } if missing < left => self.enter(State::Skip { left: left - missing }),
            State::Skip { left } if missing == left => self.enter(State::Between),
            // It may well be that a message begins behind the gap; but what looks like one there may also
            // be part of a body.
            _ => self.enter(State::Lost { mid_line: false }),
        }
    }

    /// No more bytes will come.
    pub(super) fn finish(&mut self, counters: &mut Counters, sink: Sink<'_>) {
        if self.proven && !self.buffer.is_empty() {
            counters.incomplete += 1;
            if matches!(self.state, State::Body { .. }) {
                sink(&self.buffer, true, 0);
                self.given(counters);
            }
        }
        let reason = if self.proven { DiscardReason::TcpUnfinished } else { DiscardReason::NotSip };
        self.forget(reason, counters);
        self.enter(State::Lost { mid_line: false });
    }

    /// A message was given: every segment that waited was part of it.
    fn given(&mut self, counters: &mut Counters) {
        let waiting = std::mem::take(&mut self.waiting);
        counters.unfinished -= waiting;
        counters.used += waiting;
        self.fate = Fate::Used;
    }

    /// Bytes are thrown away, and those that waited were all before them.
    fn dropped(&mut self, reason: DiscardReason, counters: &mut Counters) {
        self.drop_waiting(reason, counters);
        if self.fate == Fate::Open {
            self.fate = Fate::Discarded(reason);
        }
    }

    fn drop_waiting(&mut self, reason: DiscardReason, counters: &mut Counters) {
        let waiting = std::mem::take(&mut self.waiting);
        counters.unfinished -= waiting;
        counters.unused.add(reason, waiting);
    }

    /// Goes through `bytes`, which begin where the buffer began; returns how many are done with.
    fn run(&mut self, bytes: &[u8], max: usize, counters: &mut Counters, sink: Sink<'_>) -> Option<usize> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let step = match self.state {
                State::Between => self.between(rest, counters),
                State::Headers { line, length, found } => {
                    self.headers(rest, line, length, found, max, counters, sink)
                }
                State::Body { end } if rest.len() >= end => {
                    sink(&rest[..end], false, rest.len() - end);
                    self.given(counters);
                    self.enter(State::Between);
                    Step::Used(end)
                }
                State::Body { .. } => Step::Wait,
                State::Skip { left } => self.skip(rest, left, counters),
                State::Lost { mid_line } => self.lost(rest, mid_line, counters),
            };
            match step {
                Step::Used(n) => used += n,
                Step::Wait => return Some(used),
                Step::Foreign => return None,
            }
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.searched = 0;
    }

    /// The end of the line that goes on at `self.searched`.
    fn line_end(&mut self, rest: &[u8]) -> Option<usize> {
        let end = memchr(b'\n', &rest[self.searched..]).map(|end| self.searched + end);
        #[cfg(test)]
        {
            self.looked_at += end.unwrap_or(rest.len()) - self.searched;
        }
        work::count(end.unwrap_or(rest.len()) - self.searched);
        self.searched = end.map_or(rest.len(), |end| end + 1);
        end
    }

    fn between(&mut self, rest: &[u8], counters: &mut Counters) -> Step {
        let blank = leading_line_ends(rest);
        if blank > 0 {
            work::count(blank);
            return Step::Used(blank);
        }
        let before = self.searched;
        let sip = match self.line_end(rest) {
            None if may_become_start_line(rest, before) => return Step::Wait,
            None => false,
            Some(end) => is_start_line(&rest[..end]),
        };
        if sip {
            self.start(false);
        } else if self.proven {
            counters.resyncs += 1;
            self.enter(State::Lost { mid_line: false });
        } else {
            return Step::Foreign;
        }
        Step::Used(0)
    }

    /// A start line ends at `self.searched`.
    fn start(&mut self, searching: bool) {
        self.proven |= !searching;
        let line = self.searched;
        self.state = State::Headers { line, length: LengthScan::default(), found: searching.then_some(line) };
    }

    #[allow(clippy::too_many_arguments, reason = "the state's own fields")]
    fn headers(
        &mut self,
        rest: &[u8],
        mut line: usize,
        mut length: LengthScan,
        found: Option<usize>,
        max: usize,
        counters: &mut Counters,
        sink: Sink<'_>,
    ) -> Step {
        // No further than a message may go: what is behind that is searched for the next one.
        let window = &rest[..rest.len().min(max.max(line))];
        while let Some(end) = self.line_end(window) {
            let text = &rest[line..end];
            let empty = matches!(text, [] | [b'\r']);
            // A status line in a message/sipfrag body, say: what comes after it is not a header.
            let header = if empty { found != Some(line) } else { is_header_like(text) || is_folded(text) };
            if found.is_some() && !header {
                self.enter(State::Lost { mid_line: false });
                counters.bytes_skipped += line as u64;
                self.dropped(DiscardReason::TcpSkipped, counters);
                return Step::Used(line);
            }
            if empty {
                return self.end_of_headers(rest.split_at(end + 1), length.length(), max, counters, sink);
            }
            length.line(text);
            line = end + 1;
        }
        if rest.len() > max {
            counters.too_large += 1;
            counters.bytes_skipped += window.len() as u64;
            self.dropped(DiscardReason::TcpTooLarge, counters);
            self.enter(State::Lost { mid_line: !window.ends_with(b"\n") });
            return Step::Used(window.len());
        }
        self.state = State::Headers { line, length, found };
        Step::Wait
    }

    /// `head` ends with the empty line.
    fn end_of_headers(
        &mut self,
        (head, behind): (&[u8], &[u8]),
        length: Length,
        max: usize,
        counters: &mut Counters,
        sink: Sink<'_>,
    ) -> Step {
        self.proven = true;
        let body = match length {
            Length::Bytes(n) => n,
            // RFC 3261 §18.3 demands it on streams. Without it, the next start line tells where the next
            // message begins.
            Length::Absent | Length::Bad => {
                counters.bad_length += 1;
                0
            }
        };
        match usize::try_from(body).ok().and_then(|body| head.len().checked_add(body)) {
            Some(end) if end <= max => {
                self.enter(State::Body { end });
                Step::Used(0)
            }
            // Too large, or a lie; which, the next start line tells.
            _ => {
                counters.too_large += 1;
                sink(head, true, behind.len());
                self.given(counters);
                self.enter(State::Lost { mid_line: false });
                Step::Used(head.len())
            }
        }
    }

    fn skip(&mut self, rest: &[u8], left: u64, counters: &mut Counters) -> Step {
        let here = (rest.len() as u64).min(left);
        if here > 0 {
            self.dropped(DiscardReason::TcpUnfinished, counters);
        }
        if here == left {
            self.enter(State::Between);
        } else if here == 0 {
            return Step::Wait;
        } else {
            self.enter(State::Skip { left: left - here });
        }
        Step::Used(usize::try_from(here).unwrap_or(rest.len()))
    }

    fn lost(&mut self, rest: &[u8], mid_line: bool, counters: &mut Counters) -> Step {
        let before = self.searched;
        let (used, mid_line) = match self.line_end(rest) {
            Some(end) if !mid_line && is_sure_start_line(&rest[..end]) => {
                self.start(true);
                return Step::Used(0);
            }
            Some(end) => (end + 1, false),
            None if rest.is_empty() => return Step::Wait,
            None if !mid_line && rest.len() <= MAX_START_LINE && may_become_start_line(rest, before) => {
                return Step::Wait;
            }
            None => (rest.len(), true),
        };
        counters.bytes_skipped += used as u64;
        self.dropped(DiscardReason::TcpSkipped, counters);
        self.enter(State::Lost { mid_line });
        Step::Used(used)
    }
}

fn is_folded(line: &[u8]) -> bool {
    matches!(line, [b' ' | b'\t', ..])
}
