//! What the kernel makes of the programs, by what this process may do.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use aya::programs::Program;
use caps::{CapSet, Capability, CapsHashSet};

use super::ring::Rings;
use super::{Config, Error, attach, maps, probe, rings_need_sys_admin};

/// With CAP_PERFMON the verifier lets pass what leaks kernel addresses or might be guessed at by speculation; without
/// it, it does not. The programs need none of that, only the rings need it; but for the XDP program of kernels before
/// 5.18, which reads frames in place, and where there is no other way.
#[test]
fn programs_load_with_and_without_perfmon() {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        assert!(std::env::var_os("SIPOBS_REQUIRE_LIVE").is_none(), "this is not root");
        println!("SKIPPED: loading eBPF programs needs root");
        return;
    }
    let rings_need_it = probe().unwrap().perf_event_paranoid.is_none_or(|level| level > 0);
    for perfmon in [true, false] {
        // Capabilities are a thread's own.
        let thread = std::thread::spawn(move || {
            let mut held = CapsHashSet::from([Capability::CAP_BPF, Capability::CAP_NET_ADMIN]);
            if perfmon {
                held.insert(Capability::CAP_PERFMON);
            }
            caps::set(None, CapSet::Effective, &held).unwrap();
            caps::set(None, CapSet::Permitted, &held).unwrap();
            let ring = Rings::new().open(0, 64 << 10).map(|_| ());
            // Above 2 it depends on whose kernel it is: Debian's and Ubuntu's refuse, Linux itself knows no more than 2.
            if !perfmon || !rings_need_sys_admin() {
                assert_eq!(
                    ring.is_ok(),
                    perfmon || !rings_need_it,
                    "CAP_PERFMON {perfmon}: the ring: {ring:?}"
                );
            }
            let (loaded, refused) = load_each();
            assert_eq!(loaded.len() + refused.len(), 6, "programs in the object: {loaded:?}, {refused:?}");
            let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
            let expected: &[&str] = if perfmon { &[] } else { &["sipobs_xdp_linear"] };
            assert_eq!(names, expected, "CAP_PERFMON {perfmon}: {refused:#?}");
        });
        thread.join().unwrap();
    }
}

/// Loads every program of the object, also those that this kernel would not need. Gives the names of those that were
/// loaded, and of those that were not, with what the verifier says.
fn load_each() -> (Vec<String>, Vec<(String, String)>) {
    let mut ebpf = maps::load(&Config::default()).unwrap();
    let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    let (mut loaded, mut refused) = (Vec::new(), Vec::new());
    for name in names {
        let result = match ebpf.program_mut(&name).unwrap() {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            other => panic!("{name} is a {:?}", other.prog_type()),
        };
        match result {
            Ok(()) => loaded.push(name),
            Err(error) => refused.push((name.clone(), Error::program("", &error).to_string())),
        }
    }
    // And as live capture does it.
    attach::load_all(&mut ebpf).unwrap();
    (loaded, refused)
}
