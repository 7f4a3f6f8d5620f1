//! One CPU's BPF ring buffer. Only that CPU's programs write to it, so its lock costs nothing and its records are in
//! the order of their times; one buffer for all CPUs would be neither, and a program that is interrupted in the
//! middle of its record would hold up the records of all the others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::maps::MapData;
use aya_obj::generated::{BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, bpf_map_type::BPF_MAP_TYPE_RINGBUF};
use sipobs_common::FrameHeader;

use super::mapping::Mapping;
use super::{Next, header_and_frame};
use crate::capture::live::error::errno;

/// Bytes before each record: its length and state, and a place for the kernel alone.
const RECORD_HEADER: usize = 8;

#[derive(Debug)]
pub(super) struct Ring {
    map: MapData,
    /// A page for our position.
    consumer: Mapping,
    /// A page for the kernel's position, then the data twice over: a record never wraps.
    producer: Mapping,
    page: usize,
    /// Bytes of data, a power of two.
    size: usize,
    /// Up to where the kernel had reserved room at the last refresh.
    head: u64,
    /// Up to where we have read.
    tail: u64,
    /// Up to where we have told the kernel that it may write.
    released: u64,
    /// Length of the record at `tail`, without its header.
    len: usize,
}

impl Ring {
    /// A ring of `size` bytes, a power of two of pages.
    pub(super) fn open(size: usize, page: usize) -> io::Result<Self> {
        // The kernel counts positions in a machine word, and this reader in 64 bits.
        if usize::BITS < u64::BITS {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let most = u32::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        let ringbuf = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF as u32, 0, 0, most, 0);
        let map = MapData::create(ringbuf, "sipobs_frames", None).map_err(|error| match errno(&error) {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(error),
        })?;
        let fd = map.fd().as_fd();
        let consumer = Mapping::new(fd, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let producer = Mapping::new(fd, page, page + 2 * size, libc::PROT_READ)?;
        Ok(Self { map, consumer, producer, page, size, head: 0, tail: 0, released: 0, len: 0 })
    }

    /// Length and state of the record at `at`, which lies before what the kernel has reserved.
    fn state(&self, at: u64) -> u32 {
        // SAFETY: records begin at multiples of 8 within the data. The kernel may be about to change it, so it is
        // read as an atomic; acquire pairs with its exchange, before which it has written the record.
        let state = unsafe { AtomicU32::from_ptr(self.data().add(self.offset(at)).cast::<u32>().cast_mut()) };
        state.load(Ordering::Acquire)
    }

    fn offset(&self, position: u64) -> usize {
        // The remainder is below `size`, a usize.
        #[allow(clippy::cast_possible_truncation)]
        let offset = (position % self.size as u64) as usize;
        offset
    }

    fn data(&self) -> *const u8 {
        // SAFETY: the mapping is a page and twice the data long.
        unsafe { self.producer.start.as_ptr().add(self.page).cast_const() }
    }

    /// The record at `tail`, which [`Next::Frame`] was said of, or is about to be.
    fn record(&self) -> &[u8] {
        // SAFETY: it lies within the data, which is mapped twice over, and the kernel does not write there before
        // `release`, which takes `self` mutably.
        unsafe { slice::from_raw_parts(self.data().add(self.offset(self.tail) + RECORD_HEADER), self.len) }
    }

    fn consume(&mut self, bytes: u64) {
        self.tail = self.tail.wrapping_add(bytes);
        if self.tail.wrapping_sub(self.released) > (self.size / 4) as u64 {
            super::Ring::release(self);
        }
    }
}

impl super::Ring for Ring {
    fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    fn bytes(&self) -> usize {
        self.size
    }

    fn written(&self) -> u64 {
        // SAFETY: the page is mapped as long as `self` lives, and the position stands at its start. The kernel writes
        // it meanwhile; acquire pairs with its release.
        let head = unsafe { AtomicU64::from_ptr(self.producer.start.as_ptr().cast()) };
        head.load(Ordering::Acquire)
    }

    fn refresh(&mut self) {
        self.head = self.written();
    }

    fn next(&mut self) -> Next {
        while self.tail != self.head {
            let state = self.state(self.tail);
            if state & BPF_RINGBUF_BUSY_BIT != 0 {
                return Next::End;
            }
            let len = length(state);
            let size = taken(len);
            if size > self.head.wrapping_sub(self.tail) {
                // Nothing after it can be found.
                self.consume(self.head.wrapping_sub(self.tail));
                return Next::Damaged;
            }
            // The program has counted why.
            if state & BPF_RINGBUF_DISCARD_BIT != 0 {
                self.consume(size);
                continue;
            }
            self.len = len;
            let Some((time, _)) = self.record().split_first_chunk() else {
                self.consume(size);
                return Next::Damaged;
            };
            return Next::Frame(u64::from_ne_bytes(*time));
        }
        Next::End
    }

    fn frame(&mut self) -> Option<(FrameHeader, &[u8])> {
        header_and_frame(self.record())
    }

    fn step(&mut self) {
        self.consume(taken(self.len));
    }

    fn release(&mut self) {
        if self.tail != self.released {
            // SAFETY: as in `written`; nobody else writes our position.
            let tail = unsafe { AtomicU64::from_ptr(self.consumer.start.as_ptr().cast()) };
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
            let state = self.state(at);
            let size = taken(length(state));
            if size > head.wrapping_sub(at) {
                // Nothing after it can be found; the next drain says so.
                break;
            }
            frames += u64::from(state & (BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT) == 0);
            at = at.wrapping_add(size);
        }
        frames
    }
}

/// Bytes of a record, by its state.
const fn length(state: u32) -> usize {
    (state & !(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT)) as usize
}

/// Bytes that a record of this length takes in the ring.
const fn taken(len: usize) -> u64 {
    (RECORD_HEADER + len).next_multiple_of(8) as u64
}
