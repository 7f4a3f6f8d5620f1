//! The maps, by the names the daemon knows them by.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{ArrayOfMaps, RingBuf};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, PerfEventByteArray};
use sipobs_common::{
    Counters, FRAGMENTED_DATAGRAMS, FragmentKey, Hook, PORT_WORDS, Settings, port_bit, ring,
};

/// Which of the two maps below holds the rings: set before a program is loaded, so that the verifier leaves the
/// other way out of it.
#[unsafe(no_mangle)]
pub static RING: Global<u32> = Global::new(ring::PERF);

/// Frames for the daemon: one perf ring for each CPU.
#[map]
pub static FRAMES: PerfEventByteArray = PerfEventByteArray::new(0);

/// The same, one BPF ring buffer for each CPU. The daemon sets how many there are and how large.
#[btf_map]
pub static RINGBUFS: ArrayOfMaps<RingBuf<(), { ring::TEMPLATE_BYTES }>, 1> = ArrayOfMaps::new();

/// One set of counters for each [`Hook`].
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(Hook::ALL.len() as u32, 0);

/// One bit for each port.
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Whether the first fragment of a datagram matched. Shared by all CPUs: its fragments may arrive on several.
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, u32> = LruHashMap::with_max_entries(FRAGMENTED_DATAGRAMS, 0);

/// This CPU's counters of `hook`.
#[inline(always)]
pub fn counters(hook: Hook) -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(hook as u32)
}

/// The settings in force.
#[inline(always)]
pub fn settings() -> Settings {
    match SETTINGS.get(0) {
        Some(settings) => *settings,
        None => Settings { noise: 0, vxlan_ports: [0; 2] },
    }
}

/// Whether `port` carries SIP.
#[inline(always)]
pub fn is_sip_port(port: u16) -> bool {
    let (word, bit) = port_bit(port);
    PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// What is known of the datagram a later fragment belongs to.
#[inline(always)]
pub fn first_fragment_matched(key: &FragmentKey) -> Option<bool> {
    // SAFETY: the value is an integer that is copied out at once; a concurrent write gives one or the other.
    unsafe { FRAGMENTS.get(key).map(|matched| *matched != 0) }
}

/// Remembers whether a first fragment matched. That the table is full is no reason to fail: the least
/// recently used datagram goes, and later fragments of one unknown are delivered.
#[inline(always)]
pub fn remember_first_fragment(key: &FragmentKey, matched: bool) {
    let _ = FRAGMENTS.insert(key, u32::from(matched), 0);
}
