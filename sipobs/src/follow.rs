//! All messages of a few calls, for whoever asked for these: what a second reading of a capture keeps, and a third where that
//! found more legs.
//!
//! The first reading judges, and keeps no messages but those of attempts. Which calls are to be seen whole is known behind
//! it; so ordinary runs pay nothing.

use std::collections::BTreeMap;

use crate::dialog::DialogKey;
use crate::record::{LadderLine, LegRole, Parties};
use crate::sip::{self, Message};
use crate::stream::WireMessage;
use crate::transfer::show;

/// Messages that are kept; the others are only counted.
const MOST: usize = 4_096;
/// A message that is repeated is looked for among so many before it.
const AROUND: usize = 64;

/// Keeps the messages of these calls.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    /// By Call-ID.
    legs: BTreeMap<String, LegRole>,
    /// Frames that a verdict rests on: whatever call their messages are of has to do with it.
    evidence: BTreeMap<u64, LegRole>,
    /// Calls that were found by those.
    found: BTreeMap<String, LegRole>,
    /// Users of everyone who takes part in them.
    parties: Parties,
    lines: Vec<LadderLine>,
    more: u64,
}

impl Follow {
    /// Follows calls by their Call-IDs, and finds others by the numbers of frames ([`crate::frame::Place`]).
    pub fn new(
        legs: impl IntoIterator<Item = (String, LegRole)>,
        evidence: impl IntoIterator<Item = (u64, LegRole)>,
    ) -> Self {
        let evidence = evidence.into_iter().collect();
        Self { legs: legs.into_iter().collect(), evidence, ..Self::default() }
    }

    /// The same with the calls that were found, to read once more; nothing where there were none.
    pub fn again(&self) -> Option<Self> {
        let legs = self.legs.iter().chain(&self.found).map(|(id, leg)| (id.clone(), *leg));
        (!self.found.is_empty()).then(|| Self { legs: legs.collect(), ..Self::default() })
    }

    /// The Call-IDs, and which legs they are.
    pub fn legs(&self) -> impl Iterator<Item = (&str, LegRole)> {
        self.legs.iter().map(|(id, leg)| (id.as_str(), *leg))
    }

    /// Users of everyone who takes part in them.
    pub fn parties(&self) -> &Parties {
        &self.parties
    }

    /// The messages in the order of time, and how many more there were.
    pub fn into_lines(mut self) -> (Vec<LadderLine>, u64) {
        self.lines.sort_by_key(|line| (line.time, line.frame));
        if let Some(start) = self.lines.first().map(|first| first.time) {
            self.lines.iter_mut().for_each(|line| line.t_ms = line.time.millis_since(start));
        }
        (self.lines, self.more)
    }

    pub(crate) fn lines_mut(&mut self) -> &mut [LadderLine] {
        &mut self.lines
    }

    pub(crate) fn message(&mut self, wire: &WireMessage<'_>, message: &Message<'_>, key: &DialogKey<'_>) {
        // As records have it.
        let call_id = sip::line(key.call_id);
        let Some(&leg) = self.legs.get(&*call_id) else {
            if let Some(leg) = self.evidence.get(&wire.frame) {
                self.found.entry(call_id.into_owned()).or_insert(*leg);
            }
            return;
        };
        let uris = [Some(key.from.uri), Some(key.to.uri), message.request_uri()];
        uris.into_iter().flatten().for_each(|uri| self.parties.add_user_of(uri));
        let line = show(wire, message, key.cseq, leg);
        let is_again = |known: &&mut LadderLine| {
            (known.leg, known.cseq, known.from, known.to) == (line.leg, line.cseq, line.from, line.to)
                && known.line == line.line
        };
        let has_room = self.lines.len() < MOST;
        match self.lines.iter_mut().rev().take(AROUND).find(is_again) {
            Some(known) => known.copies += 1,
            None if has_room => self.lines.push(line),
            None => self.more += 1,
        }
    }
}
