//! One way to read a frame, whatever the hook: by copy, as a frame may lie in several buffers.

use core::ffi::c_void;
use core::hint::black_box;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};

/// A frame at a hook.
pub trait Frame {
    /// Whether tunnelled frames are looked into. The verifier follows every way through the headers, and
    /// twice as many of them are more than it has patience for where each byte is read in place.
    const TUNNELS: bool = true;
    /// The context as the helpers want it.
    fn context(&self) -> *mut c_void;
    /// Its length in bytes.
    fn len(&self) -> u32;
    /// The interface it crosses.
    fn ifindex(&self) -> u32;
    /// A VLAN tag that was taken out of its bytes.
    fn vlan(&self) -> Option<u32>;
    /// Its bytes from `at`, if it has so many.
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
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
}

/// An XDP frame in one buffer, read in place.
pub struct XdpLinear(pub *mut xdp_md);

impl Frame for XdpLinear {
    const TUNNELS: bool = false;

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
}

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
}
