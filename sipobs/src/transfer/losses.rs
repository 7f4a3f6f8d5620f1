//! What is known to be missing, and between whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Quality;
use crate::stream::Damage;

/// So many pairs of hosts are never too many to look through for those that no mark names any more.
const PAIRS: usize = 1_024;

type Pair = (IpAddr, IpAddr);

/// Everything lost so far that matters to anyone. Attempts keep a [`Mark`] and ask what came after it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    ring: u64,
    /// Of the pairs of hosts that marks name; what is lost between others is nobody's evidence.
    between: BTreeMap<Pair, Missing>,
    /// How many pairs were named when they were last looked through.
    named: usize,
}

/// How much had been lost when an attempt began.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    ring: u64,
    between: Vec<(Pair, Missing)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    gaps: u64,
    fragments: u64,
}

impl Losses {
    pub(super) fn take(&mut self, damage: Damage) {
        match damage {
            Damage::RingLost(frames) => self.ring = self.ring.saturating_add(frames),
            Damage::TcpGap { src, dst } => self.missing(src, dst, |missing| missing.gaps += 1),
            Damage::MissingFragment { src, dst } => {
                self.missing(src, dst, |missing| missing.fragments += 1);
            }
        }
    }

    /// Frames that the capture lost, anywhere on this node.
    pub(super) const fn ring(&self) -> u64 {
        self.ring
    }

    /// Where things stand for these pairs of hosts.
    pub(super) fn mark(&mut self, paths: &[Pair]) -> Mark {
        let mut mark = Mark { ring: self.ring, between: Vec::new() };
        self.extend(&mut mark, paths);
        mark
    }

    /// Adds pairs of hosts, of a leg found later, to a mark.
    pub(super) fn extend(&mut self, mark: &mut Mark, paths: &[Pair]) {
        for &(a, b) in paths {
            let pair = pair(a, b);
            if !mark.between.iter().any(|(known, _)| *known == pair) {
                mark.between.push((pair, *self.between.entry(pair).or_default()));
            }
        }
    }

    /// What was lost since.
    pub(super) fn since(&self, mark: &Mark) -> Quality {
        let (mut gaps, mut fragments) = (0, 0);
        for (pair, then) in &mark.between {
            let now = self.between.get(pair).unwrap_or(then);
            gaps += now.gaps - then.gaps;
            fragments += now.fragments - then.fragments;
        }
        Quality {
            ring_lost: self.ring - mark.ring,
            tcp_gaps: gaps,
            missing_fragments: fragments,
            midcall: false,
        }
    }

    /// Whether it is time to [`Self::keep`] what is still named: there are twice as many as the last time.
    pub(super) fn is_crowded(&self) -> bool {
        self.between.len() > PAIRS.max(2 * self.named)
    }

    /// Forgets the pairs that none of these marks names.
    pub(super) fn keep<'a>(&mut self, marks: impl Iterator<Item = &'a Mark>) {
        let named: BTreeSet<Pair> = marks.flat_map(|mark| &mark.between).map(|(pair, _)| *pair).collect();
        self.between.retain(|pair, _| named.contains(pair));
        self.named = self.between.len();
    }

    fn missing(&mut self, a: IpAddr, b: IpAddr, count: impl FnOnce(&mut Missing)) {
        if let Some(missing) = self.between.get_mut(&pair(a, b)) {
            count(missing);
        }
    }
}

/// Two hosts, whichever of them comes first.
fn pair(a: IpAddr, b: IpAddr) -> Pair {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_after_the_mark_between_its_hosts_counts() {
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::from([10, 0, 0, n]));
        let mut losses = Losses::default();
        losses.take(Damage::TcpGap { src: a, dst: b });
        let mut mark = losses.mark(&[(b, a)]);
        losses.take(Damage::TcpGap { src: b, dst: a });
        losses.take(Damage::MissingFragment { src: a, dst: c });
        losses.extend(&mut mark, &[(a, c)]);
        losses.take(Damage::MissingFragment { src: c, dst: a });
        losses.take(Damage::RingLost(7));
        let quality = losses.since(&mark);
        assert_eq!((quality.ring_lost, quality.tcp_gaps, quality.missing_fragments), (7, 1, 1));
    }

    #[test]
    fn what_strangers_lose_is_nobodys_evidence() {
        let mut losses = Losses::default();
        let host = |n: u32| IpAddr::from(n.to_be_bytes());
        let call = losses.mark(&[(host(7), host(8))]);
        for n in 0..50_000 {
            losses.take(Damage::MissingFragment { src: host(1), dst: host(9 + n) });
            let stranger = losses.mark(&[(host(1), host(9 + n))]);
            assert_eq!(losses.since(&stranger), Quality::default());
            if losses.is_crowded() {
                losses.keep([&call, &stranger].into_iter());
                assert_eq!(losses.between.len(), 2);
            }
        }
        assert!(losses.between.len() <= PAIRS);
        assert_eq!(losses.since(&call), Quality::default());
        losses.take(Damage::MissingFragment { src: host(8), dst: host(7) });
        assert_eq!(losses.since(&call).missing_fragments, 1);
    }
}
