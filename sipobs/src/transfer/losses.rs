//! What is known to be missing, and between whom.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use super::Quality;
use crate::stream::Damage;

/// Pairs of hosts that are told apart, about. Of more some share a counter, and what is missing between strangers may
/// then be counted for a call: its verdict is doubted without need, never believed without.
const COUNTERS: usize = 16_384;

/// Everything lost so far. Attempts keep a [`Mark`] and ask what came after it.
#[derive(Debug)]
pub(super) struct Losses {
    ring: u64,
    /// By the hash of a pair of hosts.
    between: Box<[Missing]>,
}

/// How much had been lost when an attempt began.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    ring: u64,
    /// By place in [`Losses::between`].
    between: Vec<(usize, Missing)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    gaps: u64,
    fragments: u64,
}

impl Default for Losses {
    fn default() -> Self {
        Self { ring: 0, between: vec![Missing::default(); COUNTERS].into() }
    }
}

impl Losses {
    pub(super) fn take(&mut self, damage: Damage) {
        match damage {
            Damage::RingLost(frames) => self.ring = self.ring.saturating_add(frames),
            Damage::TcpGap { src, dst } => self.between[place(src, dst)].gaps += 1,
            Damage::MissingFragment { src, dst } => self.between[place(src, dst)].fragments += 1,
        }
    }

    /// Frames that the capture lost, anywhere on this node.
    pub(super) const fn ring(&self) -> u64 {
        self.ring
    }

    /// Where things stand for these pairs of hosts.
    pub(super) fn mark(&self, paths: &[(IpAddr, IpAddr)]) -> Mark {
        let mut mark = Mark { ring: self.ring, between: Vec::new() };
        self.extend(&mut mark, paths);
        mark
    }

    /// Adds pairs of hosts, of a leg found later, to a mark.
    pub(super) fn extend(&self, mark: &mut Mark, paths: &[(IpAddr, IpAddr)]) {
        for &(a, b) in paths {
            let place = place(a, b);
            if !mark.between.iter().any(|(known, _)| *known == place) {
                mark.between.push((place, self.between[place]));
            }
        }
    }

    /// What was lost since.
    pub(super) fn since(&self, mark: &Mark) -> Quality {
        let (mut gaps, mut fragments) = (0, 0);
        for (place, then) in &mark.between {
            let now = self.between[*place];
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
}

/// Where a pair of hosts is counted, whichever of them comes first. Not by a random seed: the same file shall give
/// the same output, and who wants to hit a call's counter need not look for it, but can name its hosts.
fn place(a: IpAddr, b: IpAddr) -> usize {
    let mut hasher = DefaultHasher::new();
    (a.min(b), a.max(b)).hash(&mut hasher);
    usize::try_from(hasher.finish() % COUNTERS as u64).unwrap_or(0)
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
    fn what_strangers_lost_long_ago_spoils_nothing() {
        let mut losses = Losses::default();
        let host = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..50_000 {
            losses.take(Damage::MissingFragment { src: host(1), dst: host(2 + n) });
        }
        let mark = losses.mark(&[(host(7), host(8))]);
        losses.take(Damage::MissingFragment { src: host(9), dst: host(10) });
        assert_eq!(losses.since(&mark), Quality::default());
        losses.take(Damage::MissingFragment { src: host(8), dst: host(7) });
        assert_eq!(losses.since(&mark).missing_fragments, 1);
    }
}
