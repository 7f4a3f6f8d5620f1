//! What is known to be missing, and between whom.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Quality;
use crate::stream::Damage;

/// Pairs of hosts that are told apart; what is lost beyond them counts for everyone.
const PAIRS: usize = 16_384;

/// Everything lost so far. Attempts keep a [`Mark`] and ask what came after it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    ring: u64,
    between: BTreeMap<(IpAddr, IpAddr), Missing>,
    elsewhere: Missing,
}

/// How much had been lost when an attempt began.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    ring: u64,
    elsewhere: Missing,
    between: Vec<((IpAddr, IpAddr), Missing)>,
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
            Damage::TcpGap { src, dst } => self.missing(src, dst).gaps += 1,
            Damage::MissingFragment { src, dst } => self.missing(src, dst).fragments += 1,
        }
    }

    /// Frames that the capture lost, anywhere on this node.
    pub(super) const fn ring(&self) -> u64 {
        self.ring
    }

    /// Where things stand for these pairs of hosts.
    pub(super) fn mark(&self, paths: &[(IpAddr, IpAddr)]) -> Mark {
        let mut mark = Mark { ring: self.ring, elsewhere: self.elsewhere, between: Vec::new() };
        self.extend(&mut mark, paths);
        mark
    }

    /// Adds pairs of hosts, of a leg found later, to a mark.
    pub(super) fn extend(&self, mark: &mut Mark, paths: &[(IpAddr, IpAddr)]) {
        for &(a, b) in paths {
            let pair = (a.min(b), a.max(b));
            if !mark.between.iter().any(|(known, _)| *known == pair) {
                mark.between.push((pair, self.between.get(&pair).copied().unwrap_or_default()));
            }
        }
    }

    /// What was lost since.
    pub(super) fn since(&self, mark: &Mark) -> Quality {
        let mut gaps = self.elsewhere.gaps - mark.elsewhere.gaps;
        let mut fragments = self.elsewhere.fragments - mark.elsewhere.fragments;
        for (pair, then) in &mark.between {
            let now = self.between.get(pair).copied().unwrap_or_default();
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

    fn missing(&mut self, src: IpAddr, dst: IpAddr) -> &mut Missing {
        let pair = (src.min(dst), src.max(dst));
        if self.between.len() >= PAIRS && !self.between.contains_key(&pair) {
            return &mut self.elsewhere;
        }
        self.between.entry(pair).or_default()
    }
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
}
