//! What the kernel programs and the daemon share. `no_std`, `#[repr(C)]`, no implicit padding.
#![no_std]
