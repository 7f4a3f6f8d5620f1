//! The hosts that a leg goes through: who may speak in it.
//!
//! They are the sender and the receiver of its first message, those that its messages went to since, and those that its
//! messages name. Ports don't count: a NAT may change them.

use std::net::IpAddr;

use super::{Leg, LegId, Legs};

/// Hosts of one leg that are remembered beside the first two.
const MOST: usize = 24;

impl Legs {
    /// Whether a host takes part in a leg.
    pub(crate) fn goes_through(&self, leg: &Leg, host: IpAddr) -> bool {
        leg.hosts.0 == host || leg.hosts.1 == host || leg.path.contains(&self.short(host))
    }

    /// These hosts take part in a leg, too.
    pub(crate) fn extend_path(&mut self, id: LegId, hosts: impl IntoIterator<Item = IpAddr>) {
        for host in hosts {
            let Some(leg) = self.get(id) else { return };
            if leg.path.len() == MOST || self.goes_through(leg, host) {
                continue;
            }
            let path = leg.path.iter().copied().chain([self.short(host)]).collect();
            if let Some(leg) = self.get_mut(id) {
                leg.path = path;
            }
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "half of a keyed hash tells the few hosts of one leg apart"
    )]
    fn short(&self, host: IpAddr) -> u32 {
        self.hash_of(host) as u32
    }
}
