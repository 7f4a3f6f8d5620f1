//! Hosts whose INVITEs are seen from here: had they sent one, say to a second leg, it would have been seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::timestamp::Timestamp;

/// Most of them, and …
const MOST: usize = 4096;
/// … no more than one for so many bytes of the stage's memory: a host takes up about a fortieth of that.
const BYTES: usize = 4096;

/// The hosts. Anyone can write a source address into an INVITE, so one that was never answered pushes out none that
/// was: when there is no room, the one goes that nobody has answered, and of these that was silent longest.
#[derive(Debug)]
pub(super) struct Callers {
    most: usize,
    hosts: BTreeMap<IpAddr, Caller>,
    first: BTreeSet<(Caller, IpAddr)>,
    evicted: u64,
}

/// What is known of a host: the least goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Caller {
    answered: bool,
    /// When it last called.
    called: Timestamp,
}

impl Callers {
    /// None yet, of a stage that may take up `bytes`.
    pub(super) fn new(bytes: usize) -> Self {
        let most = (bytes / BYTES).clamp(1, MOST);
        Self { most, hosts: BTreeMap::new(), first: BTreeSet::new(), evicted: 0 }
    }

    /// An INVITE of `host`, the first of its leg.
    pub(super) fn called(&mut self, host: IpAddr, now: Timestamp) {
        let answered = self.hosts.get(&host).is_some_and(|caller| caller.answered);
        self.settle(host, Caller { answered, called: now });
    }

    /// An INVITE of `host` was answered by 2xx.
    pub(super) fn answered(&mut self, host: IpAddr, now: Timestamp) {
        let called = self.hosts.get(&host).map_or(now, |caller| caller.called);
        self.settle(host, Caller { answered: true, called });
    }

    /// Whether its INVITEs are seen from here.
    pub(super) fn holds(&self, host: IpAddr) -> bool {
        self.hosts.contains_key(&host)
    }

    /// All of them: host, when it last called, and whether that was ever answered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, Timestamp, bool)> {
        self.hosts.iter().map(|(host, caller)| (*host, caller.called, caller.answered))
    }

    /// How many had to go.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn settle(&mut self, host: IpAddr, caller: Caller) {
        match self.hosts.insert(host, caller) {
            Some(old) if old == caller => return,
            Some(old) => drop(self.first.remove(&(old, host))),
            None => {}
        }
        self.first.insert((caller, host));
        if self.hosts.len() > self.most
            && let Some((_, gone)) = self.first.pop_first()
        {
            self.hosts.remove(&gone);
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn host(n: usize) -> IpAddr {
        IpAddr::from(std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap()))
    }

    fn at(seconds: usize) -> Timestamp {
        Timestamp::from_nanos(0) + Duration::from_secs(seconds as u64)
    }

    #[test]
    fn forged_sources_push_out_one_another_only() {
        let mut callers = Callers::new(usize::MAX);
        let [first, late, platform] = [1, 2, 3].map(host);
        for genuine in [first, platform] {
            callers.called(genuine, at(0));
            callers.answered(genuine, at(1));
        }
        for forged in 0..3 * MOST {
            callers.called(host(1000 + forged), at(10 + forged));
        }
        assert!(callers.holds(first) && callers.holds(platform), "it was answered");
        assert_eq!((callers.hosts.len(), callers.first.len()), (MOST, MOST));
        assert_eq!(callers.evicted(), 2 * MOST as u64 + 2);
        assert!(
            !callers.holds(host(1000)) && callers.holds(host(1000 + 3 * MOST - 1)),
            "the oldest goes first"
        );
        callers.called(late, at(4 * MOST));
        callers.answered(late, at(4 * MOST));
        assert!(callers.holds(late), "there is room for one who comes later");
    }

    #[test]
    fn a_table_full_of_answered_ones_makes_room_for_another() {
        let mut callers = Callers::new(usize::MAX);
        for n in 0..MOST {
            callers.called(host(n), at(n));
            callers.answered(host(n), at(n));
        }
        callers.called(host(0), at(2 * MOST));
        callers.called(host(MOST), at(2 * MOST));
        assert!(!callers.holds(host(MOST)), "nobody answered it yet");
        callers.answered(host(MOST), at(2 * MOST + 1));
        assert!(callers.holds(host(MOST)) && callers.holds(host(0)) && !callers.holds(host(1)));
        assert_eq!(callers.hosts.len(), MOST);
    }
}
