//! One CPU's perf ring, and all of them read as one stream in time order.
//!
//! aya's own opener asks for a wake-up for every record, which costs the sending program microseconds a
//! packet. These rings wake the daemon when an eighth of one is full; a timer (`linger`) sees to the rest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use aya_obj::generated::{
    PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_event_header, perf_event_mmap_page,
    perf_event_sample_format::PERF_SAMPLE_RAW, perf_event_type::PERF_RECORD_LOST,
    perf_event_type::PERF_RECORD_SAMPLE, perf_sw_ids::PERF_COUNT_SW_BPF_OUTPUT,
    perf_type_id::PERF_TYPE_SOFTWARE,
};
use sipobs_common::FrameHeader;

/// The least a ring may hold: two records of the greatest size.
const MIN_BYTES: usize = 128 << 10;

/// Bytes of a time or a count in a record.
const WORD: u16 = 8;

/// Frames younger than this stay in their rings: another CPU may have an older one whose record it has not
/// finished. A program takes microseconds from the clock to the ring.
pub(super) const HOLD: Duration = Duration::from_millis(1);

/// What a ring gives.
pub(super) enum Record<'a> {
    /// The header, and the frame's bytes.
    Frame(FrameHeader, &'a [u8]),
    /// Records the kernel could not write because this ring was full.
    Lost(u64),
}

/// All CPUs' rings.
#[derive(Debug)]
pub(super) struct Rings {
    rings: Vec<Ring>,
    /// The first frame of each ring that has one, earliest first: (time, ring). Empty between drains.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    /// A record that lies across the end of its ring, in one piece.
    scratch: Vec<u8>,
    /// Records that were none of ours or made no sense.
    damaged: u64,
    /// Frames of which the rings say that there was no room for them.
    lost: u64,
}

impl Rings {
    pub(super) const fn new() -> Self {
        Self { rings: Vec::new(), next: BinaryHeap::new(), scratch: Vec::new(), damaged: 0, lost: 0 }
    }

    /// Opens a ring for `cpu`, in the place of an older one, which goes once it is read to its end. Returns its
    /// file descriptor for the map.
    pub(super) fn open(&mut self, cpu: u32, bytes: usize) -> io::Result<BorrowedFd<'_>> {
        let ring = Ring::open(cpu, bytes)?;
        let raw = ring.fd.as_raw_fd();
        for older in self.rings.iter_mut().filter(|older| older.cpu == cpu) {
            older.retired = true;
        }
        self.rings.push(ring);
        // SAFETY: the descriptor lives in `self`, which the borrow holds.
        Ok(unsafe { BorrowedFd::borrow_raw(raw) })
    }

    /// Bytes of the smallest ring: less than asked for when memory may not be locked.
    pub(super) fn bytes(&self) -> usize {
        self.rings.iter().map(|ring| ring.size).min().unwrap_or(0)
    }

    /// Records that could not be read.
    pub(super) const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Frames of which the rings have said that there was no room for them.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Up to where the kernel has written now, in each ring: (CPU, position).
    pub(super) fn heads(&self) -> Vec<(u32, u64)> {
        self.rings.iter().map(|ring| (ring.cpu, ring.written())).collect()
    }

    /// Frames between what has been read and these positions, which [`Self::heads`] gave since the last drain.
    pub(super) fn frames_up_to(&self, heads: &[(u32, u64)]) -> u64 {
        self.rings.iter().zip(heads).map(|(ring, (_, head))| ring.frames_up_to(*head)).sum()
    }

    /// Waits until a ring has much to read, or for `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut fds: Vec<libc::pollfd> = self
            .rings
            .iter()
            .filter(|ring| !ring.retired)
            .map(|ring| libc::pollfd { fd: ring.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        let millis = i32::try_from(timeout.as_millis().max(1)).unwrap_or(i32::MAX);
        // SAFETY: `fds` is a valid array of its own length.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, millis) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        // A ring whose CPU went away reports that without end; do not spin on it.
        if ready > 0 && fds.iter().all(|fd| fd.revents & libc::POLLIN == 0) {
            std::thread::sleep(timeout.min(Duration::from_millis(10)));
        }
        Ok(())
    }

    /// Hands over every frame from before `until` (monotonic nanoseconds), earliest first, and every note of
    /// loss in its ring's order.
    pub(super) fn drain(&mut self, until: u64, take: &mut dyn FnMut(Record<'_>)) {
        self.next.clear();
        for index in 0..self.rings.len() {
            self.rings[index].refresh();
            self.advance(index, until, take);
        }
        while let Some(Reverse((_, index))) = self.next.pop() {
            let ring = &mut self.rings[index];
            let record = ring.bytes(ring.tail, ring.next_size, &mut self.scratch);
            match sample(record) {
                Some((header, bytes)) => take(Record::Frame(header, bytes)),
                None => self.damaged += 1,
            }
            ring.consume(u64::from(ring.next_size));
            self.advance(index, until, take);
        }
        for ring in &mut self.rings {
            ring.release();
        }
        self.rings.retain(|ring| !ring.retired || ring.tail != ring.head);
    }

    /// Goes on to the next frame in a ring and queues it, unless it is too young.
    fn advance(&mut self, index: usize, until: u64, take: &mut dyn FnMut(Record<'_>)) {
        let ring = &mut self.rings[index];
        while ring.tail != ring.head {
            let header = ring.header(ring.tail);
            if usize::from(header.size) < size_of::<perf_event_header>()
                || u64::from(header.size) > ring.head.wrapping_sub(ring.tail)
            {
                // Nothing after it can be found.
                self.damaged += 1;
                ring.consume(ring.head.wrapping_sub(ring.tail));
                return;
            }
            ring.next_size = header.size;
            if header.type_ == PERF_RECORD_SAMPLE as u32 {
                // The time stands first in our header, behind the record's header and the sample's size.
                let at = ring.tail + (size_of::<perf_event_header>() + size_of::<u32>()) as u64;
                let time = ring.bytes(at, WORD, &mut self.scratch);
                let time = time.try_into().map_or(0, u64::from_ne_bytes);
                if time < until {
                    self.next.push(Reverse((time, index)));
                }
                return;
            }
            if header.type_ == PERF_RECORD_LOST as u32 {
                // header, u64 id, u64 lost
                let at = ring.tail + (size_of::<perf_event_header>() + size_of::<u64>()) as u64;
                let lost = ring.bytes(at, WORD, &mut self.scratch);
                let lost = lost.try_into().map_or(0, u64::from_ne_bytes);
                self.lost = self.lost.saturating_add(lost);
                take(Record::Lost(lost));
            } else {
                self.damaged += 1;
            }
            ring.consume(u64::from(header.size));
        }
    }
}

/// A sample record: its header, the raw data's size, our header, the frame, padding.
fn sample(record: &[u8]) -> Option<(FrameHeader, &[u8])> {
    let raw = record.get(size_of::<perf_event_header>() + size_of::<u32>()..)?;
    let (header, rest) = raw.split_at_checked(FrameHeader::SIZE)?;
    // SAFETY: FrameHeader is plain integers, and `header` has its size; it need not be aligned.
    let header = unsafe { header.as_ptr().cast::<FrameHeader>().read_unaligned() };
    Some((header, rest.get(..usize::try_from(header.captured_len).ok()?)?))
}

/// One CPU's ring: a page the kernel and we tell each other positions in, then the data.
#[derive(Debug)]
struct Ring {
    cpu: u32,
    fd: OwnedFd,
    map: NonNull<perf_event_mmap_page>,
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
    /// Another ring has taken its place; it still holds what was written before.
    retired: bool,
}

// SAFETY: the mapping belongs to this value alone and is not bound to the thread that made it.
unsafe impl Send for Ring {}

impl Ring {
    fn open(cpu: u32, bytes: usize) -> io::Result<Self> {
        let fd = perf_event_open(cpu, u32::try_from(bytes / 8).unwrap_or(u32::MAX))?;
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let mut size = bytes.max(MIN_BYTES).max(page).next_power_of_two();
        loop {
            // SAFETY: a new mapping at an address of the kernel's choice.
            let map = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    page + size,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    fd.as_raw_fd(),
                    0,
                )
            };
            if map != libc::MAP_FAILED
                && let Some(map) = NonNull::new(map.cast())
            {
                let (head, tail, released, next_size, retired) = (0, 0, 0, 0, false);
                let ring = Self { cpu, fd, map, page, size, head, tail, released, next_size, retired };
                ring.enable()?;
                return Ok(ring);
            }
            // EPERM: more memory than this process may lock (RLIMIT_MEMLOCK, perf_event_mlock_kb).
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EPERM) || size / 2 < MIN_BYTES {
                return Err(error);
            }
            size /= 2;
        }
    }

    fn enable(&self) -> io::Result<()> {
        const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
        // SAFETY: the descriptor is a perf event's; the request takes no argument.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Sees what the kernel has written since.
    fn refresh(&mut self) {
        self.head = self.written();
    }

    /// Up to where the kernel has written.
    fn written(&self) -> u64 {
        // SAFETY: the page is mapped as long as `self` lives. The kernel writes `data_head` meanwhile, so it
        // is read as an atomic; acquire pairs with the kernel's barrier before that write.
        let head = unsafe { AtomicU64::from_ptr(&raw mut (*self.map.as_ptr()).data_head) };
        head.load(Ordering::Acquire)
    }

    /// Frames from `tail` to `head`, up to where the kernel has written or less.
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

    /// The header of the record at `at`, between `tail` and what the kernel has written. Records are a multiple of
    /// 8 bytes long, so it never wraps.
    fn header(&self, at: u64) -> perf_event_header {
        let at = self.offset(at);
        // SAFETY: `at` is a multiple of 8 below `size`, itself a multiple of 8, and the kernel does not
        // write between `tail` and `head`.
        unsafe { self.data().add(at).cast::<perf_event_header>().read() }
    }

    /// `len` bytes from position `at`, in place unless they wrap.
    fn bytes<'a>(&'a self, at: u64, len: u16, scratch: &'a mut Vec<u8>) -> &'a [u8] {
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
        scratch.clear();
        scratch.extend_from_slice(head);
        scratch.extend_from_slice(rest);
        scratch
    }

    /// Steps over `bytes`. Returns room to the kernel in large steps only: each is a memory barrier.
    fn consume(&mut self, bytes: u64) {
        self.tail = self.tail.wrapping_add(bytes);
        if self.tail.wrapping_sub(self.released) > (self.size / 4) as u64 {
            self.release();
        }
    }

    /// Tells the kernel that it may write where we have read.
    fn release(&mut self) {
        if self.tail != self.released {
            fence(Ordering::SeqCst);
            // SAFETY: as in `refresh`; nobody else writes `data_tail`.
            let tail = unsafe { AtomicU64::from_ptr(&raw mut (*self.map.as_ptr()).data_tail) };
            tail.store(self.tail, Ordering::Release);
            self.released = self.tail;
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
        unsafe { self.map.as_ptr().cast::<u8>().add(self.page).cast_const() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length and is not used after.
        unsafe {
            libc::munmap(self.map.as_ptr().cast(), self.page + self.size);
        }
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
