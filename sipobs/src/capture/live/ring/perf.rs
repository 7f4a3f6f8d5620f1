//! One CPU's perf ring.
//!
//! aya's own opener asks for a wake-up for every record, which costs the sending program microseconds a
//! packet. These rings wake the daemon when an eighth of one is full; a timer (`linger`) sees to the rest.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use aya_obj::generated::{
    PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_event_header, perf_event_mmap_page,
    perf_event_sample_format::PERF_SAMPLE_RAW, perf_event_type::PERF_RECORD_LOST,
    perf_event_type::PERF_RECORD_SAMPLE, perf_sw_ids::PERF_COUNT_SW_BPF_OUTPUT,
    perf_type_id::PERF_TYPE_SOFTWARE,
};
use sipobs_common::{FrameHeader, ring::WAKEUPS};

use super::mapping::Mapping;
use super::{Next, header_and_frame};

/// Bytes of a time or a count in a record.
const WORD: u16 = 8;

/// Why a ring could not be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The kernel, or somebody in front of it, opens none for this process.
    Open(io::Error),
    /// It opens one, but maps none of this size: this process may not lock so much memory.
    Locked,
    /// Anything else.
    Other(io::Error),
}

/// A page the kernel and we tell each other positions in, then the data.
#[derive(Debug)]
pub(super) struct Ring {
    fd: OwnedFd,
    map: Mapping,
    page: usize,
    /// Bytes of data, a power of two.
    size: usize,
    /// Up to where the kernel had written at the last refresh.
    head: u64,
    /// Up to where we have read.
    tail: u64,
    /// Up to where we have told the kernel that it may write.
    released: u64,
    /// Size of the record at `tail`.
    next_size: u16,
    /// A record that lies across the end of the ring, in one piece.
    scratch: Vec<u8>,
}

impl Ring {
    /// A ring of `size` bytes, a power of two of pages, for `cpu`.
    pub(super) fn open(cpu: u32, size: usize, page: usize) -> Result<Self, Refusal> {
        let watermark = u32::try_from(size).unwrap_or(u32::MAX) / WAKEUPS;
        let fd = perf_event_open(cpu, watermark).map_err(Refusal::Open)?;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let map = Mapping::new(fd.as_fd(), 0, page + size, both).map_err(|error| {
            match error.raw_os_error() {
                // RLIMIT_MEMLOCK, perf_event_mlock_kb.
                Some(libc::EPERM) => Refusal::Locked,
                _ => Refusal::Other(error),
            }
        })?;
        let (head, tail, released, next_size, scratch) = (0, 0, 0, 0, Vec::new());
        let ring = Self { fd, map, page, size, head, tail, released, next_size, scratch };
        ring.enable().map_err(Refusal::Other)?;
        Ok(ring)
    }

    fn enable(&self) -> io::Result<()> {
        const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
        // SAFETY: the descriptor is a perf event's; the request takes no argument.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn positions(&self) -> *mut perf_event_mmap_page {
        self.map.start.as_ptr().cast()
    }

    /// The header of the record at `at`, between `tail` and what the kernel has written. Records are a multiple of
    /// 8 bytes long, so it never wraps.
    fn header(&self, at: u64) -> perf_event_header {
        let at = self.offset(at);
        // SAFETY: `at` is a multiple of 8 below `size`, itself a multiple of 8, and the kernel does not
        // write between `tail` and `head`.
        unsafe { self.data().add(at).cast::<perf_event_header>().read() }
    }

    /// `len` bytes from position `at`, in place unless they wrap.
    fn piece(&mut self, at: u64, len: u16) -> &[u8] {
        let (at, len) = (self.offset(at), usize::from(len));
        let first = len.min(self.size - at);
        // SAFETY: both pieces lie within the data, and the kernel does not write there before `release`,
        // which takes `self` mutably.
        let (head, rest) = unsafe {
            (
                slice::from_raw_parts(self.data().add(at), first),
                slice::from_raw_parts(self.data(), len - first),
            )
        };
        if rest.is_empty() {
            return head;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(head);
        self.scratch.extend_from_slice(rest);
        &self.scratch
    }

    /// A word at position `at`.
    fn word(&mut self, at: u64) -> u64 {
        self.piece(at, WORD).try_into().map_or(0, u64::from_ne_bytes)
    }

    fn consume(&mut self, bytes: u64) {
        self.tail = self.tail.wrapping_add(bytes);
        if self.tail.wrapping_sub(self.released) > (self.size / 4) as u64 {
            super::Ring::release(self);
        }
    }

    fn offset(&self, position: u64) -> usize {
        // The remainder is below `size`, a usize.
        #[allow(clippy::cast_possible_truncation)]
        let offset = (position % self.size as u64) as usize;
        offset
    }

    fn data(&self) -> *const u8 {
        // SAFETY: the mapping is `page + size` bytes long.
        unsafe { self.map.start.as_ptr().add(self.page).cast_const() }
    }
}

impl super::Ring for Ring {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn bytes(&self) -> usize {
        self.size
    }

    fn written(&self) -> u64 {
        // SAFETY: the page is mapped as long as `self` lives. The kernel writes `data_head` meanwhile, so it
        // is read as an atomic; acquire pairs with the kernel's barrier before that write.
        let head = unsafe { AtomicU64::from_ptr(&raw mut (*self.positions()).data_head) };
        head.load(Ordering::Acquire)
    }

    fn refresh(&mut self) {
        self.head = self.written();
    }

    fn next(&mut self) -> Next {
        if self.tail == self.head {
            return Next::End;
        }
        let header = self.header(self.tail);
        let behind_header = self.tail + size_of::<perf_event_header>() as u64;
        let size = u64::from(header.size);
        if size < size_of::<perf_event_header>() as u64 || size > self.head.wrapping_sub(self.tail) {
            // Nothing after it can be found.
            self.consume(self.head.wrapping_sub(self.tail));
            return Next::Damaged;
        }
        self.next_size = header.size;
        if header.type_ == PERF_RECORD_SAMPLE as u32 {
            // The time stands first in our header, behind the sample's size.
            return Next::Frame(self.word(behind_header + size_of::<u32>() as u64));
        }
        let next = if header.type_ == PERF_RECORD_LOST as u32 {
            // u64 id, u64 lost
            Next::Lost(self.word(behind_header + size_of::<u64>() as u64))
        } else {
            Next::Damaged
        };
        self.consume(size);
        next
    }

    /// A sample record: its header, the raw data's size, our header, the frame, padding.
    fn frame(&mut self) -> Option<(FrameHeader, &[u8])> {
        let record = self.piece(self.tail, self.next_size);
        header_and_frame(record.get(size_of::<perf_event_header>() + size_of::<u32>()..)?)
    }

    fn step(&mut self) {
        self.consume(u64::from(self.next_size));
    }

    fn release(&mut self) {
        if self.tail != self.released {
            fence(Ordering::SeqCst);
            // SAFETY: as in `written`; nobody else writes `data_tail`.
            let tail = unsafe { AtomicU64::from_ptr(&raw mut (*self.positions()).data_tail) };
            tail.store(self.tail, Ordering::Release);
            self.released = self.tail;
        }
    }

    fn is_read(&self) -> bool {
        self.tail == self.head
    }

    fn frames_up_to(&self, head: u64) -> u64 {
        let (mut at, mut frames) = (self.tail, 0);
        while at != head {
            let header = self.header(at);
            let size = u64::from(header.size);
            if size < size_of::<perf_event_header>() as u64 || size > head.wrapping_sub(at) {
                // Nothing after it can be found; the next drain says so.
                break;
            }
            frames += u64::from(header.type_ == PERF_RECORD_SAMPLE as u32);
            at = at.wrapping_add(size);
        }
        frames
    }
}

/// A software event of one CPU, for all processes, that wakes its reader when `watermark` bytes wait.
fn perf_event_open(cpu: u32, watermark: u32) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid perf_event_attr.
    let mut attr: perf_event_attr = unsafe { zeroed() };
    #[allow(clippy::cast_possible_truncation, reason = "some hundred bytes")]
    {
        attr.size = size_of::<perf_event_attr>() as u32;
    }
    attr.type_ = PERF_TYPE_SOFTWARE as u32;
    attr.config = PERF_COUNT_SW_BPF_OUTPUT as u64;
    attr.sample_type = PERF_SAMPLE_RAW as u64;
    attr.__bindgen_anon_1.sample_period = 1;
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = watermark;
    let (every_process, no_group) = (-1, -1);
    // SAFETY: `attr` is valid and of the size it says; the result is a new descriptor or -1.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            every_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        );
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
