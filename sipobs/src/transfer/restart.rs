//! What a successor needs to go on where this one stops, and how it takes that up.

use std::collections::{BTreeSet, VecDeque};

use super::Transfers;
use super::stage::Stage;
use super::state::PendingAttempt;
use crate::dialog::DialogKey;
use crate::journal::{Entry, Journal};
use crate::record::Output;
use crate::sip::Message;
use crate::timestamp::Timestamp;

/// What a predecessor had said nothing of yet, by when it began.
#[derive(Debug, Default)]
struct Open {
    calls: BTreeSet<Timestamp>,
    attempts: BTreeSet<Timestamp>,
}

impl Open {
    fn holds(&self, output: &Output) -> bool {
        match output {
            Output::Transfer(attempt) => self.attempts.contains(&attempt.started),
            Output::Call(call) => self.calls.contains(&call.started),
            Output::Notice(_) | Output::Alert(_) => false,
        }
    }
}

impl Transfers {
    /// Takes out what was heard of calls that are not over at `now`, for [`Self::resume`]. Nothing is heard after that.
    pub(crate) fn take_journal(&mut self, now: Timestamp) -> Journal<'static> {
        let Stage { legs, attempts, callers, .. } = &mut self.stage;
        let calls = legs.by_age().into_iter().filter_map(|leg| legs.get(leg)).filter(|leg| !leg.retired);
        let mut entries: Vec<_> =
            calls.map(|leg| Entry::OpenCall { nanos: leg.started.as_nanos() }).collect();
        entries.extend(attempts.values().map(|it| Entry::OpenAttempt { nanos: it.started.as_nanos() }));
        entries.extend(callers.iter().map(|(host, called, answered)| Entry::Caller {
            host,
            nanos: called.as_nanos(),
            answered,
        }));
        entries.extend(legs.take_log());
        entries.extend(self.early.waiting(now).map(Entry::Message));
        Journal { until: now, entries }
    }

    /// Hears again what a predecessor has heard, and comes to where it was. What that has said is not said again, also if
    /// this one, by other rules, comes to say it sooner or later.
    pub(crate) fn resume(&mut self, journal: &Journal<'_>) {
        let counted = (self.counts.clone(), self.ratio.clone(), self.stage.calls, self.stage.ring_lost);
        let (mut open, mut untold) = (Open::default(), VecDeque::new());
        for entry in &journal.entries {
            self.hear_again(entry, &mut open);
            untold.extend(self.outputs.drain(..).filter(|output| open.holds(output)));
        }
        self.handle_timeout(journal.until);
        untold.extend(self.outputs.drain(..).filter(|output| open.holds(output)));
        self.outputs = untold;
        let told = |attempt: &PendingAttempt| !open.attempts.contains(&attempt.started);
        let attempts = self.stage.attempts.iter().filter(|(_, attempt)| told(attempt));
        for id in attempts.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stage.close(id);
        }
        for leg in self.stage.legs.iter_mut().filter(|leg| !open.calls.contains(&leg.started)) {
            leg.call.leftover = true;
        }
        (self.counts, self.ratio, self.stage.calls, self.stage.ring_lost) = counted;
    }

    fn hear_again(&mut self, entry: &Entry<'_>, open: &mut Open) {
        match entry {
            Entry::OpenCall { nanos } => drop(open.calls.insert(Timestamp::from_nanos(*nanos))),
            Entry::OpenAttempt { nanos } => drop(open.attempts.insert(Timestamp::from_nanos(*nanos))),
            Entry::Caller { host, nanos, answered } => {
                let called = Timestamp::from_nanos(*nanos);
                self.stage.callers.called(*host, called);
                if *answered {
                    self.stage.callers.answered(*host, called);
                }
            }
            Entry::Message(kept) => {
                let wire = kept.as_wire();
                self.handle_timeout(wire.time);
                if let Ok(message) = Message::parse(wire.bytes)
                    && let Ok(key) = DialogKey::of(&message)
                {
                    self.message(&wire, &message, &key);
                }
            }
            Entry::Loss { between, lost } => self.stage.legs.lost(*between, *lost),
        }
    }
}
