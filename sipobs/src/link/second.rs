//! A leg's chances of being a second leg.

use super::Decision;
use super::evidence::Candidate;
use super::posterior::Posterior;

/// What is known of a possible second leg beside what every leg has.
#[derive(Debug)]
pub(super) struct Second {
    /// Calls it could belong to, in order of their ids.
    pub(super) candidates: Vec<Candidate>,
    /// Calls that fit as well but are too many to weigh.
    pub(super) unweighed: usize,
    /// Whether it shows a number of the platform's own; else only stronger evidence counts.
    pub(super) by_number: bool,
    /// Whether transfers went to its target before.
    pub(super) familiar: bool,
    /// What it says for itself, once nothing more can come.
    pub(super) posterior: Option<Posterior>,
    pub(super) decided: Option<Decision>,
    /// The end of this leg and of its call have been learnt from.
    pub(super) learnt: bool,
}

impl Second {
    /// With these candidates, in order of their ids.
    pub(super) fn new(candidates: Vec<Candidate>, unweighed: usize, by_number: bool) -> Self {
        Self {
            candidates,
            unweighed,
            by_number,
            familiar: false,
            posterior: None,
            decided: None,
            learnt: false,
        }
    }

    /// Whether there is but one call it could belong to.
    pub(super) fn is_alone(&self) -> bool {
        self.unweighed == 0 && self.candidates.len() == 1
    }

    /// Whether its call is found.
    pub(super) fn is_linked(&self) -> bool {
        matches!(self.decided, Some(Decision::Linked { .. }))
    }

    /// Whether the evidence for one of its calls names that.
    pub(super) fn is_direct(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.evidence.is_direct())
    }

    /// Whether a REFER asked for it.
    pub(super) fn is_asked_for(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.refer.is_some())
    }

    /// A REFER in a call turns out to have asked for it: whatever was decided, it is to be decided anew.
    pub(super) fn asked_for(&mut self, by: Candidate) {
        (self.posterior, self.decided) = (None, None);
        match self.candidates.binary_search_by_key(&by.call, |candidate| candidate.call) {
            Ok(place) => {
                if let Some(known) = self.candidates.get_mut(place) {
                    *known = Candidate { weight: known.weight * by.weight, ..by };
                }
            }
            Err(place) => self.candidates.insert(place, by),
        }
    }

    /// Bytes that it takes up, about.
    pub(super) fn bytes(&self) -> usize {
        // With what the calls note of it.
        size_of::<Self>() + self.candidates.capacity() * (size_of::<Candidate>() + 8)
    }
}
