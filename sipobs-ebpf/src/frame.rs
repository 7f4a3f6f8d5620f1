//! One way to read a frame, whatever the hook: by copy, as a frame may lie in several buffers.

use core::ffi::c_void;
use core::hint::black_box;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use sipobs_common::MAX_CAPTURE;

/// A frame at a hook.
pub trait Frame {
    /// Whether tunnelled frames are looked into. The verifier follows every way through the headers, and
    /// twice as many of them are more than it has patience for where each byte is read in place.
    const TUNNELS: bool = true;
    /// The most bytes that [`Self::copy`] takes.
    const MOST_COPIED: u32 = MAX_CAPTURE;
    /// The context as the helpers want it.
    fn context(&self) -> *mut c_void;
    /// Its length in bytes.
    fn len(&self) -> u32;
    /// The interface it crosses.
    fn ifindex(&self) -> u32;
    /// A VLAN tag that was taken out of its bytes.
    fn vlan(&self) -> Option<u32>;
    /// Whether an IP socket of this machine sent it. What is forwarded has lost its socket, if it ever had one; a
    /// packet socket's (packet(7)), a tap's and an emulator's are of other families.
    #[inline(always)]
    fn is_from_socket(&self) -> bool {
        false
    }
    /// Its bytes from `at`, if it has so many.
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
    /// Copies its first `len` bytes to `to`. Returns 0, or a negative errno.
    ///
    /// # Safety
    ///
    /// `to` has room for `ROOM` bytes, and `len` lies between 1 and that, as the verifier can see.
    unsafe fn copy<const ROOM: u32>(&self, to: *mut u8, len: u32) -> i64;
}

/// An XDP frame that may lie in several buffers. The helpers spare the program pointer arithmetic, which
/// the verifier allows to the holder of CAP_PERFMON only.
pub struct XdpFrags(pub *mut xdp_md);

impl Frame for XdpFrags {
    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the kernel's own. The length of a frame fits 32 bits.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn vlan(&self) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: `bytes` has room for N bytes; the helper fills them all or fails.
        unsafe {
            match bpf_xdp_load_bytes(self.0, at, bytes.as_mut_ptr().cast(), N as u32) {
                0 => Some(bytes.assume_init()),
                _ => None,
            }
        }
    }

    #[inline(always)]
    unsafe fn copy<const ROOM: u32>(&self, to: *mut u8, len: u32) -> i64 {
        // SAFETY: as the caller says.
        unsafe { bpf_xdp_load_bytes(self.0, 0, to.cast(), len) }
    }
}

/// An XDP frame in one buffer, read in place.
pub struct XdpLinear(pub *mut xdp_md);

impl Frame for XdpLinear {
    const TUNNELS: bool = false;
    // What an XDP program of such kernels is given fits a page, of 4 KiB in most.
    const MOST_COPIED: u32 = 4 * 1024;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.0).data_end - (*self.0).data }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn vlan(&self) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        // What the verifier lets one add to a packet pointer is bounded; no header starts this far in.
        if at > 0x3fff {
            return None;
        }
        // SAFETY: the bytes lie between the frame's start and end, checked right before the read.
        unsafe {
            // Opaque, so that check and reads use one and the same pointer: the verifier knows no other.
            let start = black_box((*self.0).data as usize + at as usize);
            if start + N > (*self.0).data_end as usize {
                return None;
            }
            Some((start as *const [u8; N]).read_unaligned())
        }
    }

    #[inline(always)]
    unsafe fn copy<const ROOM: u32>(&self, to: *mut u8, len: u32) -> i64 {
        // Opaque, so that each step is held against a number: older verifiers do not see that `len` is no more.
        let (words, bytes) = (black_box(len), black_box(len));
        let mut at = 0;
        while at + WORD <= ROOM && at + WORD <= words {
            let Some(word) = self.read::<{ WORD as usize }>(at) else { return FAULT };
            // SAFETY: below `ROOM`.
            unsafe { to.add(at as usize).cast::<[u8; WORD as usize]>().write_unaligned(word) };
            at += WORD;
        }
        for behind in 0..WORD - 1 {
            let at = at + behind;
            if at >= ROOM || at >= bytes {
                return 0;
            }
            let Some([byte]) = self.read(at) else { return FAULT };
            // SAFETY: below `ROOM`.
            unsafe { to.add(at as usize).write(byte) };
        }
        0
    }
}

/// Bytes that are copied at once where no helper does it.
const WORD: u32 = 8;
/// EFAULT, as the helpers return it.
const FAULT: i64 = -14;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// A frame in a socket buffer.
pub struct Skb(pub *mut __sk_buff);

impl Frame for Skb {
    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn vlan(&self) -> Option<u32> {
        // SAFETY: as above.
        unsafe { ((*self.0).vlan_present != 0).then_some((*self.0).vlan_tci) }
    }

    #[inline(always)]
    fn is_from_socket(&self) -> bool {
        // SAFETY: as above; the verifier has the socket compared with null before it is looked into.
        unsafe {
            let socket = (*self.0).__bindgen_anon_2.sk;
            !socket.is_null() && matches!((*socket).family, AF_INET | AF_INET6)
        }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: `bytes` has room for N bytes; the helper fills them all or fails.
        unsafe {
            match bpf_skb_load_bytes(self.0.cast(), at, bytes.as_mut_ptr().cast(), N as u32) {
                0 => Some(bytes.assume_init()),
                _ => None,
            }
        }
    }

    #[inline(always)]
    unsafe fn copy<const ROOM: u32>(&self, to: *mut u8, len: u32) -> i64 {
        // SAFETY: as the caller says.
        unsafe { bpf_skb_load_bytes(self.0.cast(), 0, to.cast(), len) }
    }
}
