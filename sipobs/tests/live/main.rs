//! The real programs in the real kernel. Needs root; without it every test says that it was skipped, unless
//! SIPOBS_TEST_LIVE is set.
#![cfg(all(feature = "live", target_os = "linux"))]
#![allow(unsafe_code, reason = "the system's interfaces are C's")]
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::time::Duration;

use sipobs::capture::live::{Error, Event, Live};

mod default_route;
mod frames;
mod lacking;
#[cfg(feature = "view")]
mod list;
mod origin;
mod programs;
mod refusal;
mod rings;
#[cfg(feature = "view")]
#[path = "../common/screen.rs"]
mod screen;
mod tags;

/// Whether this process may load programs. If not, says so, or fails where the gate asks for it.
fn may_run(test: &str) -> bool {
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        assert!(
            std::env::var_os("SIPOBS_TEST_LIVE").is_none(),
            "{test}: SIPOBS_TEST_LIVE is set, but this is not root"
        );
        println!("{test}: SKIPPED: loading eBPF programs needs root");
    }
    root
}

/// Does `work` in a thread of its own with a network namespace of its own, in which the loopback is up and these
/// commands of ip(8) have been carried out.
fn alone<T: Send>(links: &[&str], work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: a namespace for this thread and those it starts, without preconditions.
            assert_eq!(
                unsafe { libc::unshare(libc::CLONE_NEWNET) },
                0,
                "{}",
                std::io::Error::last_os_error()
            );
            for words in ["link set lo up"].iter().chain(links) {
                ip(words);
            }
            work()
        });
        thread.join().unwrap()
    })
}

/// Carries out a command of ip(8) in this thread's namespace.
fn ip(words: &str) {
    let mut ip = std::process::Command::new("ip");
    assert!(ip.args(words.split(' ')).status().unwrap().success(), "ip {words}");
}

/// Takes what comes until nothing does, and ends the capture. What was sent may be on its way for a while where
/// processors are busy.
fn settle(live: &mut Live, take: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
    let mut before = None;
    while before != Some(live.frames()) {
        before = Some(live.frames());
        for _ in 0..3 {
            live.poll(Duration::from_millis(100), take)?;
        }
    }
    live.finish(take)?;
    Ok(())
}
