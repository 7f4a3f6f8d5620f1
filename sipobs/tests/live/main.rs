//! The real programs in the real kernel. Needs root; without it every test says that it was skipped, unless
//! SIPOBS_REQUIRE_LIVE is set.
#![cfg(all(feature = "live", target_os = "linux"))]
#![allow(unsafe_code, reason = "the system's interfaces are C's")]
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod frames;
mod lacking;
mod programs;
mod refusal;

/// Whether this process may load programs. If not, says so, or fails where the gate asks for it.
fn may_run(test: &str) -> bool {
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        assert!(
            std::env::var_os("SIPOBS_REQUIRE_LIVE").is_none(),
            "{test}: SIPOBS_REQUIRE_LIVE is set, but this is not root"
        );
        println!("{test}: SKIPPED: loading eBPF programs needs root");
    }
    root
}
