//! One platform: how it uses its numbers, and whom its transfers go to.

use std::collections::HashMap;

use super::number_stats::Share;

/// The habits of a host that places second legs.
#[derive(Debug, Default)]
pub(super) struct PlatformStats {
    /// Second legs and others that show one of its numbers.
    pub(super) share: Share,
    /// How many second legs each target had, about.
    targets: HashMap<Vec<u8>, f64>,
    /// Second legs, and others, to new targets and to familiar ones.
    related: [f64; 2],
    unrelated: [f64; 2],
}

/// How many legs the belief counts for that targets tell nothing.
const PRIOR_LEGS: f64 = 4.0;
const MOST_LEGS: f64 = 400.0;
const MOST_TARGETS: usize = 1000;

impl PlatformStats {
    /// Whether transfers went to this target before.
    pub(super) fn is_familiar(&self, target: &[u8]) -> bool {
        self.targets.get(target).is_some_and(|legs| *legs >= 0.5)
    }

    /// How many times likelier it is for an unrelated leg than for a second leg to call such a target. A platform
    /// transfers to few numbers and calls out to many; or it does not, and this stays near 1.
    pub(super) fn unrelated_by_target(&self, familiar: bool) -> f64 {
        let share = |legs: [f64; 2]| {
            (PRIOR_LEGS / 2.0 + legs[usize::from(familiar)]) / (PRIOR_LEGS + legs[0] + legs[1])
        };
        share(self.unrelated) / share(self.related)
    }

    /// A leg to a target, familiar or not when it began, turned out to be unrelated with that probability.
    pub(super) fn learn_target(&mut self, target: &[u8], familiar: bool, unrelated: f64, legs: f64) {
        self.related[usize::from(familiar)] += (1.0 - unrelated) * legs;
        self.unrelated[usize::from(familiar)] += unrelated * legs;
        for counts in [&mut self.related, &mut self.unrelated] {
            if counts[0] + counts[1] > MOST_LEGS {
                *counts = counts.map(|legs| legs / 2.0);
            }
        }
        if self.targets.len() >= MOST_TARGETS && !self.targets.contains_key(target) {
            // Starting over costs little: what is familiar will soon be so again.
            self.targets.clear();
        }
        *self.targets.entry(target.to_vec()).or_default() += (1.0 - unrelated) * legs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_that_transfers_to_few_makes_new_targets_suspicious() {
        let mut platform = PlatformStats::default();
        assert!((platform.unrelated_by_target(false) - 1.0).abs() < 1e-9);
        for n in 0..30 {
            let familiar = platform.is_familiar(b"5550177");
            platform.learn_target(b"5550177", familiar, 0.05, 1.0);
            platform.learn_target(n.to_string().as_bytes(), false, 0.95, 1.0);
        }
        assert!(platform.is_familiar(b"5550177") && !platform.is_familiar(b"3"));
        assert!(platform.unrelated_by_target(false) > 4.0 && platform.unrelated_by_target(true) < 0.25);
    }
}
