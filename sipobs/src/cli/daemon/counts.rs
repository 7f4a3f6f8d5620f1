//! What the sources and the engine count, as it is published.

use sipobs::capture::hep::{Closed, HepCounts};
use sipobs::capture::live::{Account, Counters, Coverage, Failure, Hook, Live, RingsInUse};
use sipobs::config::HepTransport;
use sipobs::export::metrics::{self, Attached, HookCounts, Snapshot, TrunkSeen};
use sipobs::transfer::{LastSeen, Transfers};

pub(super) fn trunks_seen(transfers: &Transfers) -> Vec<TrunkSeen> {
    let seen = transfers.last_seen();
    seen.map(|(trunk, LastSeen { message, refer })| TrunkSeen { trunk: trunk.to_owned(), message, refer })
        .collect()
}

/// What is published of interfaces.
pub(super) fn snapshot_of(live: &Live, account: &Account) -> Snapshot {
    let RingsInUse { kind, bytes, memory, .. } = live.rings();
    let attached = live.attachments();
    Snapshot {
        hooks: account.hooks.iter().map(|(hook, counters)| hook_counts(*hook, counters)).collect(),
        attached: attached
            .map(|a| Attached {
                interface: a.interface.clone(),
                how: a.how.as_str(),
                hook: a.how.hook().as_str(),
                frames: live.frames_by(a),
            })
            .collect(),
        interfaces: interface_counts(&live.coverage()),
        lost_by_cpu: account.failed.iter().map(|(cpu, failed)| (*cpu, by_reason(failed))).collect(),
        lost_told: account.told,
        frames: account.read,
        damaged: account.damaged,
        in_rings: account.in_rings,
        ring_kind: kind.as_str(),
        ring_bytes: *bytes as u64,
        ring_memory: *memory,
        housekeeping_failures: live.failures(),
        ..Snapshot::default()
    }
}

fn interface_counts(coverage: &Coverage) -> Vec<(&'static str, usize)> {
    let Coverage { watched, refused, missing } = coverage;
    // One that is wanted by name counts as missing, whatever the reason.
    let refused = refused.keys().filter(|name| !missing.contains(*name)).count();
    vec![("watched", watched.len()), ("refused", refused), ("missing", missing.len())]
}

pub(super) fn hep_counts(counts: &HepCounts) -> metrics::HepCounts {
    let HepCounts { received, used, unused, waiting, lost_in_kernel, connections, closed } = counts;
    let packets = HepTransport::ALL.iter().zip(received);
    metrics::HepCounts {
        packets: packets.map(|(transport, n)| (transport.as_str(), *n)).collect(),
        used: *used,
        unused: HepCounts::told(unused).map(|(reason, n)| (reason.as_str(), n)).collect(),
        waiting: *waiting,
        lost_in_kernel: *lost_in_kernel,
        connections: *connections,
        closed: Closed::ALL.iter().zip(closed).map(|(why, n)| (why.as_str(), *n)).collect(),
    }
}

/// What came in place of SIP.
pub(super) fn came_instead(counts: &HepCounts) -> String {
    let unused = counts.unused.iter().filter(|(_, n)| *n > 0);
    let unused = unused.map(|(reason, n)| format!("{n} {}", reason.as_str())).collect::<Vec<_>>().join(", ");
    let unused = if unused.is_empty() { unused } else { format!(" ({unused})") };
    format!("{} packets came{unused}", counts.received.iter().sum::<u64>())
}

fn hook_counts(hook: Hook, counters: &Counters) -> HookCounts {
    HookCounts {
        hook: hook.as_str(),
        seen: counters.seen,
        passed: counters.passed().to_vec(),
        matched: counters.matched,
        delivered: counters.delivered,
        truncated: counters.truncated,
        lost: by_reason(&counters.failed),
    }
}

fn by_reason(failed: &[u64; Failure::COUNT]) -> Vec<(&'static str, u64)> {
    Failure::ALL.map(|failure| (failure.as_str(), failed[failure as usize])).to_vec()
}
