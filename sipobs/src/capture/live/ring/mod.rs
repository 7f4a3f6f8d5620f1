//! One ring for each CPU, and all of them read as one stream in time order. There are two kinds of rings, perf rings
//! and BPF ring buffers; only [`open`] and what it opens know which these are.

mod mapping;
mod open;
mod perf;
mod plan;
mod ringbuf;
mod wait;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use sipobs_common::FrameHeader;

use self::open::Added;
pub use self::open::{RingKind, RingsInUse};
use self::wait::Waiter;
use super::Error;

/// Frames younger than this stay in their rings: another CPU may have an older one whose record it has not
/// finished. A program takes microseconds from the clock to the ring.
pub(super) const HOLD: Duration = Duration::from_millis(1);

/// One CPU's ring, as its reader sees it. Positions count bytes since it was opened.
trait Ring: fmt::Debug + Send {
    /// Its file descriptor, for the programs' map and for waiting.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Bytes of data, a power of two.
    fn bytes(&self) -> usize;
    /// Up to where the kernel has written.
    fn written(&self) -> u64;
    /// Sees what the kernel has written since.
    fn refresh(&mut self);
    /// What comes next up to the last refresh. Steps over all but a frame.
    fn next(&mut self) -> Next;
    /// The frame that [`Self::next`] has found: its header, and its bytes. None if it makes no sense.
    fn frame(&mut self) -> Option<(FrameHeader, &[u8])>;
    /// Steps over that frame. Returns room to the kernel in large steps only: each is a memory barrier.
    fn step(&mut self);
    /// Tells the kernel that it may write where we have read.
    fn release(&mut self);
    /// Whether all has been read that was there at the last refresh.
    fn is_read(&self) -> bool;
    /// Frames between what has been read and this position, up to where the kernel has written or less.
    fn frames_up_to(&self, head: u64) -> u64;
}

/// What a ring holds next.
enum Next {
    /// A frame, of this time.
    Frame(u64),
    /// A note of the kernel's that it could not write so many records for want of room.
    Lost(u64),
    /// A record that is none of ours or makes no sense.
    Damaged,
    /// Nothing that is whole yet.
    End,
}

/// All CPUs' rings.
#[derive(Debug)]
pub(super) struct Rings {
    in_use: RingsInUse,
    rings: Vec<OfCpu>,
    waiter: Waiter,
    /// The first frame of each ring that has one, earliest first: (time, ring). Empty between drains.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    /// Records that were none of ours or made no sense.
    damaged: u64,
    /// Frames of which the rings say that there was no room for them.
    lost: u64,
}

/// A ring that was opened for a CPU that has come online.
pub(super) struct Renewed<'a> {
    /// For the programs' map.
    pub(super) fd: BorrowedFd<'a>,
    /// What is to be said if it is not as the others are.
    pub(super) note: Option<String>,
}

#[derive(Debug)]
struct OfCpu {
    cpu: u32,
    ring: Box<dyn Ring>,
    /// Another ring has taken its place; it still holds what was written before.
    retired: bool,
}

impl Rings {
    /// What kind they are, how large and why.
    pub(super) const fn in_use(&self) -> &RingsInUse {
        &self.in_use
    }

    /// Each CPU's file descriptor for the programs' map.
    pub(super) fn fds(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        self.rings.iter().filter(|of_cpu| !of_cpu.retired).map(|of_cpu| (of_cpu.cpu, of_cpu.ring.fd()))
    }

    /// Sees to it that a CPU that has come online, perhaps again, has a ring that works. Gives the ring if it is new.
    ///
    /// # Errors
    ///
    /// When there is none for now: the CPU may be gone again, or an older ring of it not be read yet.
    pub(super) fn renew(&mut self, cpu: u32) -> Result<Option<Renewed<'_>>, Error> {
        let Some(Added { ring, note }) = open::renew(self, cpu)? else { return Ok(None) };
        self.waiter.add(ring.fd()).map_err(Error::Wait)?;
        self.rings.push(OfCpu { cpu, ring, retired: false });
        let in_use = self.rings.iter().filter(|of_cpu| !of_cpu.retired);
        self.in_use.cpus = in_use.count();
        self.in_use.memory = open::memory(self.in_use.kind, &self.rings);
        Ok(Some(Renewed { fd: self.rings[self.rings.len() - 1].ring.fd(), note }))
    }

    /// Records that could not be read.
    pub(super) const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Frames of which the rings have said that there was no room for them, if such rings say so.
    pub(super) fn lost(&self) -> Option<u64> {
        match self.in_use.kind {
            RingKind::Perf => Some(self.lost),
            RingKind::Ringbuf => None,
        }
    }

    /// Up to where the kernel has written now, in each ring: (CPU, position).
    pub(super) fn heads(&self) -> Vec<(u32, u64)> {
        self.rings.iter().map(|of_cpu| (of_cpu.cpu, of_cpu.ring.written())).collect()
    }

    /// Frames between what has been read and these positions, which [`Self::heads`] gave since the last drain.
    pub(super) fn frames_up_to(&self, heads: &[(u32, u64)]) -> u64 {
        self.rings.iter().zip(heads).map(|(of_cpu, (_, head))| of_cpu.ring.frames_up_to(*head)).sum()
    }

    /// Waits until a ring has much to read, or for `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        self.waiter.wait(timeout)
    }

    /// Hands over every frame from before `until` (monotonic nanoseconds), earliest first.
    pub(super) fn drain(&mut self, until: u64, take: &mut dyn FnMut(FrameHeader, &[u8])) {
        self.next.clear();
        for index in 0..self.rings.len() {
            self.rings[index].ring.refresh();
            self.advance(index, until);
        }
        while let Some(Reverse((_, index))) = self.next.pop() {
            let ring = &mut self.rings[index].ring;
            match ring.frame() {
                Some((header, bytes)) => take(header, bytes),
                None => self.damaged += 1,
            }
            ring.step();
            self.advance(index, until);
        }
        for of_cpu in &mut self.rings {
            of_cpu.ring.release();
        }
        self.rings.retain(|of_cpu| !of_cpu.retired || !of_cpu.ring.is_read());
    }

    /// Goes on to the next frame in a ring and queues it, unless it is too young.
    fn advance(&mut self, index: usize, until: u64) {
        loop {
            match self.rings[index].ring.next() {
                Next::Frame(time) if time < until => return self.next.push(Reverse((time, index))),
                Next::Frame(_) | Next::End => return,
                Next::Lost(frames) => self.lost = self.lost.saturating_add(frames),
                Next::Damaged => self.damaged += 1,
            }
        }
    }
}

/// Our header and the frame behind it, as both kinds of rings hold them.
fn header_and_frame(data: &[u8]) -> Option<(FrameHeader, &[u8])> {
    let (header, rest) = data.split_at_checked(FrameHeader::SIZE)?;
    // SAFETY: FrameHeader is plain integers, and `header` has its size; it need not be aligned.
    let header = unsafe { header.as_ptr().cast::<FrameHeader>().read_unaligned() };
    Some((header, rest.get(..usize::try_from(header.captured_len).ok()?)?))
}

/// A number of bytes, for a person.
fn human(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= MIB && bytes.is_multiple_of(MIB) {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}
