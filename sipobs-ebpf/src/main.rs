//! The kernel's half of sipobs: one observer behind every entry point.
//!
//! Whatever a program finds, and whatever goes wrong in it, the packet goes its way: XDP programs return
//! `XDP_PASS`, tc programs `TC_ACT_UNSPEC`, which lets the next program decide.
#![no_std]
#![no_main]

mod deliver;
mod frame;
mod maps;
mod observe;
mod parse;

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use sipobs_common::Hook;

use crate::frame::{Skb, XdpFrags, XdpLinear};
use crate::observe::observe;
use crate::parse::Link;

/// Received frames, also those in several buffers (Linux 5.18).
#[xdp(frags)]
pub fn sipobs_xdp(ctx: XdpContext) -> u32 {
    observe(&XdpFrags(ctx.ctx), Hook::Xdp, Link::Ethernet);
    XDP_PASS
}

/// Received frames in one buffer, for older kernels. Does not look into tunnels.
#[xdp]
pub fn sipobs_xdp_linear(ctx: XdpContext) -> u32 {
    observe(&XdpLinear(ctx.ctx), Hook::Xdp, Link::Ethernet);
    XDP_PASS
}

/// Received frames, where XDP cannot or shall not be.
#[classifier]
pub fn sipobs_tc_ingress(ctx: TcContext) -> i32 {
    observe(&Skb(ctx.skb.skb), Hook::TcIngress, Link::Ethernet);
    TC_ACT_UNSPEC
}

/// Received packets of an interface without a link layer.
#[classifier]
pub fn sipobs_tc_ingress_raw(ctx: TcContext) -> i32 {
    observe(&Skb(ctx.skb.skb), Hook::TcIngress, Link::Raw);
    TC_ACT_UNSPEC
}

/// Sent frames: XDP never sees them.
#[classifier]
pub fn sipobs_tc_egress(ctx: TcContext) -> i32 {
    observe(&Skb(ctx.skb.skb), Hook::TcEgress, Link::Ethernet);
    TC_ACT_UNSPEC
}

/// Sent packets of an interface without a link layer.
#[classifier]
pub fn sipobs_tc_egress_raw(ctx: TcContext) -> i32 {
    observe(&Skb(ctx.skb.skb), Hook::TcEgress, Link::Raw);
    TC_ACT_UNSPEC
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can come here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
