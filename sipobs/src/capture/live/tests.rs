//! What the kernel makes of the programs, by what this process may do.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use aya::programs::Program;
use caps::{CapSet, Capability, CapsHashSet};

use super::ring::Rings;
use super::{Config, Error, RingChoice, RingKind, attach, maps, probe, rings_need_sys_admin};

/// With CAP_PERFMON the verifier lets pass what leaks kernel addresses or might be guessed at by speculation; without
/// it, it does not. The programs need none of that, only perf rings need it; but for the XDP program of kernels before
/// 5.18, which reads frames in place, and where there is no other way.
#[test]
fn programs_load_with_and_without_perfmon() {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        assert!(std::env::var_os("SIPOBS_TEST_LIVE").is_none(), "this is not root");
        println!("SKIPPED: loading eBPF programs needs root");
        return;
    }
    let perf_needs_it = probe().unwrap().perf_event_paranoid.is_none_or(|level| level > 0);
    for perfmon in [true, false] {
        // Capabilities are a thread's own.
        let thread = std::thread::spawn(move || {
            let mut held = CapsHashSet::from([Capability::CAP_BPF, Capability::CAP_NET_ADMIN]);
            if perfmon {
                held.insert(Capability::CAP_PERFMON);
            }
            caps::set(None, CapSet::Effective, &held).unwrap();
            caps::set(None, CapSet::Permitted, &held).unwrap();
            let open = |ring| Rings::open(&Config { ring, ring_bytes: 64 << 10, ..Config::default() }, &[0]);
            // Above 2 it depends on whose kernel it is: Debian's and Ubuntu's refuse, Linux itself knows no more than 2.
            if !perfmon || !rings_need_sys_admin() {
                let perf = open(RingChoice::Perf).map(|_| ());
                assert_eq!(perf.is_ok(), perfmon || !perf_needs_it, "CAP_PERFMON {perfmon}: {perf:?}");
                let missing =
                    "opening perf rings: not permitted: missing CAP_PERFMON; capture.ring = \"auto\" ";
                assert!(perf.is_ok() || perf.unwrap_err().to_string().starts_with(missing));
            }
            open(RingChoice::Ringbuf).unwrap();
            open(RingChoice::Auto).unwrap();
            for kind in [RingKind::Perf, RingKind::Ringbuf] {
                let (loaded, refused) = load_each(kind);
                assert_eq!(
                    loaded.len() + refused.len(),
                    6,
                    "programs in the object: {loaded:?}, {refused:?}"
                );
                let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
                let expected: &[&str] = if perfmon { &[] } else { &["sipobs_xdp_linear"] };
                assert_eq!(names, expected, "CAP_PERFMON {perfmon}, {kind:?}: {refused:#?}");
            }
        });
        thread.join().unwrap();
    }
}

/// Loads every program of the object, also those that this kernel would not need. Gives the names of those that were
/// loaded, and of those that were not, with what the verifier says.
fn load_each(rings: RingKind) -> (Vec<String>, Vec<(String, String)>) {
    let mut ebpf = maps::load(&Config::default(), rings).unwrap();
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
