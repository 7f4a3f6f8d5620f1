//! The two kinds of rings that frames go through to the daemon.

/// Perf rings: `bpf_perf_event_output`. The value of the programs' constant `RING`.
pub const PERF: u32 = 0;

/// BPF ring buffers: `bpf_ringbuf_reserve`. The other value of it.
pub const RINGBUF: u32 = 1;

/// Size of the ring buffer that the kernel takes as the pattern of all of them: a page, whatever its size.
pub const TEMPLATE_BYTES: usize = 64 * 1024;

/// A ring wakes its reader each time that this part of it was written.
pub const WAKEUPS: u32 = 8;
