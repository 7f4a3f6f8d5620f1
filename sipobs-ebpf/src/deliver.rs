//! The way of a frame into this CPU's ring, of whichever kind the rings are.

use core::ffi::c_void;
use core::hint::black_box;
use core::ptr;

use aya_ebpf::bindings::{
    BPF_F_CURRENT_CPU, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_PROD_POS, BPF_RB_RING_SIZE,
};
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_perf_event_output, bpf_ringbuf_discard,
    bpf_ringbuf_query, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use sipobs_common::{FrameHeader, Hook, MAX_CAPTURE, flags, ring};

use crate::frame::Frame;
use crate::maps::{FRAMES, RING, RINGBUFS};
use crate::parse::Link;

/// Writes header and frame to this CPU's ring; says what became of it, 0 or a negative errno, and whether the frame
/// was cut.
#[inline(always)]
pub fn deliver<F: Frame>(frame: &F, hook: Hook, link: Link, marks: u32) -> (i64, bool) {
    let is_ringbuf = RING.load() == ring::RINGBUF;
    let most = if is_ringbuf { F::MOST_COPIED } else { MAX_CAPTURE };
    let wire_len = frame.len();
    let truncated = wire_len > most;
    let captured_len = if truncated { most } else { wire_len };
    let mut marks = marks;
    if truncated {
        marks |= flags::TRUNCATED;
    }
    if matches!(link, Link::Raw) {
        marks |= flags::RAW_IP;
    }
    if matches!(hook, Hook::TcEgress) && frame.is_from_socket() {
        marks |= flags::ORIGINATED;
    }
    let mut vlan_tci = 0;
    if let Some(tci) = frame.vlan() {
        marks |= flags::VLAN;
        vlan_tci = tci;
    }
    let header = FrameHeader {
        // SAFETY: the helper takes nothing and always succeeds.
        time: unsafe { bpf_ktime_get_ns() },
        ifindex: frame.ifindex(),
        hook: hook as u32,
        flags: marks,
        wire_len,
        captured_len,
        vlan_tci,
    };
    let result = if is_ringbuf { to_ringbuf(frame, &header) } else { to_perf_ring(frame, header) };
    (result, truncated)
}

#[inline(always)]
fn to_perf_ring<F: Frame>(frame: &F, mut header: FrameHeader) -> i64 {
    // The helper appends as many bytes of the frame as the upper half of the flags says.
    let flags = (u64::from(header.captured_len) << 32) | u64::from(BPF_F_CURRENT_CPU as u32);
    // SAFETY: the map is a perf event array, and the header has the size that is given.
    unsafe {
        bpf_perf_event_output(
            frame.context(),
            (&raw const FRAMES).cast_mut().cast(),
            flags,
            ptr::from_mut(&mut header).cast(),
            FrameHeader::SIZE as u64,
        )
    }
}

/// As `bpf_perf_event_output` returns them (see [`sipobs_common::Failure`]).
const NO_RING: i64 = -2;
const FULL: i64 = -28;
const FAULT: i64 = -14;

/// The verifier wants to know a record's size, so the smallest of some is taken that the frame fits; the third holds
/// what an Ethernet frame usually may be. Over all captures that the tests know a record takes 780 bytes, 430 of which
/// are the frame.
#[inline(always)]
fn to_ringbuf<F: Frame>(frame: &F, header: &FrameHeader) -> i64 {
    // SAFETY: the helper takes nothing and always succeeds.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(ringbuf) = RINGBUFS.get(cpu) else { return NO_RING };
    let ringbuf = ptr::from_ref(ringbuf).cast_mut().cast();
    match header.captured_len {
        0..=480 => put::<480, F>(ringbuf, frame, header),
        481..=992 => put::<992, F>(ringbuf, frame, header),
        993..=1568 => put::<1568, F>(ringbuf, frame, header),
        1569..=4096 => put::<4096, F>(ringbuf, frame, header),
        _ if F::MOST_COPIED <= 4096 => FAULT,
        4097..=16384 => put::<16384, F>(ringbuf, frame, header),
        _ => put::<MAX_CAPTURE, F>(ringbuf, frame, header),
    }
}

/// Puts header and frame into a record with room for `ROOM` bytes of the frame.
#[inline(always)]
fn put<const ROOM: u32, F: Frame>(ringbuf: *mut c_void, frame: &F, header: &FrameHeader) -> i64 {
    let size = FrameHeader::SIZE as u64 + u64::from(ROOM);
    // SAFETY: the map is a ring buffer. The record is as large as asked for, or there is none; it is given back on
    // both ways.
    unsafe {
        // Also where the ring's lock could not be had, which its own CPU alone takes.
        let record = bpf_ringbuf_reserve(ringbuf, size, 0).cast::<u8>();
        if record.is_null() {
            return FULL;
        }
        record.cast::<FrameHeader>().write(*header);
        // Opaque, and right before its use: older verifiers forget what they know of a value that was put aside.
        let beyond_one = black_box(u64::from(header.captured_len.wrapping_sub(1)));
        let result = if beyond_one < u64::from(ROOM) {
            frame.copy::<ROOM>(record.add(FrameHeader::SIZE), (beyond_one + 1) as u32)
        } else {
            FAULT
        };
        if result == 0 {
            bpf_ringbuf_submit(record.cast(), wakeup(ringbuf, size));
        } else {
            bpf_ringbuf_discard(record.cast(), u64::from(BPF_RB_NO_WAKEUP));
        }
        result
    }
}

/// Whether the record that was just reserved wakes the reader: the one with which another eighth of the ring is
/// written does, and a timer of the reader's sees to the rest. To wake it for each would cost far more than all else.
#[inline(always)]
unsafe fn wakeup(ringbuf: *mut c_void, size: u64) -> u64 {
    /// Before each record, for its size and state.
    const RECORD_HEADER: u64 = 8;
    // SAFETY: the map is a ring buffer.
    let (written, all) = unsafe {
        (
            bpf_ringbuf_query(ringbuf, u64::from(BPF_RB_PROD_POS)),
            bpf_ringbuf_query(ringbuf, u64::from(BPF_RB_RING_SIZE)),
        )
    };
    let part = all / u64::from(ring::WAKEUPS);
    let flag = if written & part.wrapping_sub(1) < size + RECORD_HEADER {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    u64::from(flag)
}
