//! Who the calls are of, and when: by that calls beside them are found on which a verdict may rest. A call that fits as well
//! is why a leg is nobody's, and a REFER may be passed on, or tried again, under another Call-ID.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::dialog::DialogKey;
use crate::leg::Party;
use crate::packet::locate::Lost;
use crate::stream::WireMessage;
use crate::timestamp::Timestamp;

/// Which calls beside those that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wide {
    /// Those between the same two.
    Pairs,
    /// Those that one of the parties has part in.
    Parties,
}

/// Who takes part in calls, between which hosts, and when.
#[derive(Clone, Default)]
pub struct Around {
    pairs: BTreeSet<[Vec<u8>; 2]>,
    parties: BTreeSet<Vec<u8>>,
    hosts: BTreeSet<[IpAddr; 2]>,
    span: Option<(Timestamp, Timestamp)>,
}

/// Only how many: numbers must not slip into a log.
impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Around({}, {})", self.parties.len(), self.hosts.len())
    }
}

/// So long before and after them calls are looked for that lie beside them.
pub const MARGIN: Duration = Duration::from_secs(60);
/// Entries of each kind, at most.
const MOST: usize = 1 << 18;

impl Around {
    pub(super) fn add(&mut self, wire: &WireMessage<'_>, key: &DialogKey<'_>) {
        let (first, last) = self.span.unwrap_or((wire.time, wire.time));
        self.span = Some((first.min(wire.time), last.max(wire.time)));
        if self.parties.len().max(self.pairs.len()).max(self.hosts.len()) >= MOST {
            return;
        }
        let both = parties(key);
        self.parties.extend(both.iter().cloned());
        self.pairs.extend(<[Vec<u8>; 2]>::try_from(both));
        self.hosts.insert(sorted([wire.src.ip(), wire.dst.ip()]));
    }

    /// Whether a message is of a call beside these.
    pub(super) fn fits(&self, wide: Wide, wire: &WireMessage<'_>, key: &DialogKey<'_>) -> bool {
        let both = parties(key);
        self.is_then(wire.time)
            && match wide {
                Wide::Pairs => <[Vec<u8>; 2]>::try_from(both).is_ok_and(|pair| self.pairs.contains(&pair)),
                Wide::Parties => both.iter().any(|party| self.parties.contains(party)),
            }
    }

    /// Whether what was lost may be of one of them.
    pub(super) fn concerns(&self, lost: &Lost<'_>) -> bool {
        self.is_then(lost.time) && self.hosts.contains(&sorted([lost.src, lost.dst]))
    }

    fn is_then(&self, time: Timestamp) -> bool {
        self.span.is_some_and(|(first, last)| time + MARGIN >= first && time <= last + MARGIN)
    }
}

/// Both ends' numbers, as far as all ways to write them have in common; the lesser first.
fn parties(key: &DialogKey<'_>) -> Vec<Vec<u8>> {
    let both = [key.from.uri, key.to.uri].into_iter().filter_map(Party::of_uri);
    let mut both: Vec<_> = both.map(|party| party.tail().to_vec()).collect();
    both.sort_unstable();
    both
}

fn sorted(mut hosts: [IpAddr; 2]) -> [IpAddr; 2] {
    hosts.sort_unstable();
    hosts
}
