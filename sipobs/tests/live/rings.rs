//! Both kinds of rings under live capture: which there are where something is forbidden or scarce, that they wake
//! their reader, lose nothing without telling, and give frames in the order of their times.

use std::net::UdpSocket;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use caps::{CapSet, Capability, CapsHashSet};
use sipobs::capture::live::{Config, DryRun, Event, Live, RingChoice, RingKind};
use sipobs::frame::Direction;

use crate::frames::INVITE;
use crate::refusal::{Call, under};
use crate::{alone, may_run, settle};

const BOTH: [RingChoice; 2] = [RingChoice::Perf, RingChoice::Ringbuf];

fn on_loopback(ring: RingChoice) -> Config {
    Config { interfaces: vec!["lo".into()], ring, ring_bytes: 128 << 10, ..Config::default() }
}

/// A datagram of SIP, with a number in its start line.
fn message(number: usize, bytes: usize) -> Vec<u8> {
    let mut text = format!("INVITE sip:{number}@example.com SIP/2.0\r\nSubject: ").into_bytes();
    text.resize(bytes, b'x');
    text
}

/// The number in a frame of [`message`].
fn number(frame: &[u8]) -> usize {
    let text = String::from_utf8_lossy(&frame[14 + 20 + 8 + "INVITE sip:".len()..]);
    text.split('@').next().unwrap().parse().unwrap()
}

fn sip_socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:5060").unwrap()
}

/// More than fits, and nobody reads: what is lost is counted, the rest comes, and the account is even before, between
/// and after.
#[test]
fn a_full_ring_loses_nothing_untold() {
    if !may_run("a_full_ring_loses_nothing_untold") {
        return;
    }
    for ring in BOTH {
        alone(&[], || {
            let mut live = Live::open(&on_loopback(ring)).unwrap();
            even(&live, ring);
            let socket = sip_socket();
            for number in 0..2000 {
                socket.send_to(&message(number, 900), "127.0.0.1:5060").unwrap();
            }
            even(&live, ring);
            assert!(live.account().unwrap().in_rings > 50, "{ring:?}");
            let (mut read, mut lost) = (0_u64, 0);
            let mut take = |event: Event<'_>| match event {
                Event::Frame(_) => read += 1,
                Event::Lost { frames, .. } => lost += frames,
            };
            settle(&mut live, &mut take).unwrap();
            let account = even(&live, ring);
            let seen: u64 = account.hooks.iter().map(|(_, counters)| counters.matched).sum();
            assert_eq!((seen, account.in_rings), (4000, 0), "{ring:?}: sent and received");
            assert_eq!((read + lost, read), (seen, account.read), "{ring:?}: told of all");
            assert!(lost > 1000, "{ring:?}: {lost}");
            // Perf rings tell by themselves, of some: the last gap has no record behind it.
            assert_eq!(account.told.is_some(), ring == RingChoice::Perf);
        });
    }
}

/// The account, which must add up.
fn even(live: &Live, ring: RingChoice) -> sipobs::capture::live::Account {
    let account = live.account().unwrap();
    let mut delivered = 0;
    for (hook, counters) in &account.hooks {
        assert_eq!(counters.residual(), 0, "{ring:?}, {hook:?}: {counters:?}");
        delivered += counters.delivered;
    }
    assert_eq!(delivered, account.read + account.damaged + account.in_rings, "{ring:?}: {account:?}");
    assert_eq!(account.damaged, 0, "{ring:?}");
    account
}

/// The reader's timer is switched off, as good as: what it reads, it was woken for.
#[test]
fn a_ring_that_fills_wakes_its_reader() {
    if !may_run("a_ring_that_fills_wakes_its_reader") {
        return;
    }
    const LONG: Duration = Duration::from_secs(120);
    for ring in BOTH {
        alone(&[], || {
            let mut live = Live::open(&Config { linger: LONG, ..on_loopback(ring) }).unwrap();
            let (done, ended) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(move || {
                    let socket = sip_socket();
                    // Slowly: one after another finds the reader asleep.
                    for number in 0.. {
                        socket.send_to(&message(number, 1400), "127.0.0.1:5060").unwrap();
                        if ended.recv_timeout(Duration::from_millis(2)).is_ok() {
                            return;
                        }
                        assert!(number < 5000, "{ring:?}: nobody reads");
                    }
                });
                let mut frames = 0;
                while frames < 100 {
                    live.poll(LONG, &mut |event| frames += usize::from(matches!(event, Event::Frame(_))))
                        .unwrap();
                }
                done.send(()).unwrap();
            });
        });
    }
}

/// Two CPUs take turns, so that each ring holds every other frame: they come out as they went.
#[test]
fn frames_of_several_cpus_come_in_order() {
    if !may_run("frames_of_several_cpus_come_in_order") {
        return;
    }
    const FRAMES: usize = 200;
    for ring in BOTH {
        alone(&[], || {
            let mut live = Live::open(&Config { ring_bytes: 1 << 20, ..on_loopback(ring) }).unwrap();
            let socket = &sip_socket();
            thread::scope(|scope| {
                let [one, other] = [0, 1].map(|cpu| {
                    let (turn, turns) = mpsc::channel::<usize>();
                    let (taken, done) = mpsc::channel();
                    scope.spawn(move || {
                        run_on(cpu);
                        for number in turns {
                            socket.send_to(&message(number, 500), "127.0.0.1:5060").unwrap();
                            taken.send(()).unwrap();
                        }
                    });
                    (turn, done)
                });
                for number in 0..FRAMES {
                    let (turn, done) = if number % 2 == 0 { &one } else { &other };
                    turn.send(number).unwrap();
                    done.recv().unwrap();
                }
            });
            let (mut sent, mut received) = (Vec::new(), Vec::new());
            let mut take = |event: Event<'_>| {
                let Event::Frame(frame) = event else { panic!("{ring:?}: {event:?}") };
                match frame.direction {
                    Direction::Ingress => received.push(number(frame.bytes)),
                    Direction::Originated => sent.push(number(frame.bytes)),
                    Direction::Egress | Direction::Unknown => panic!("{ring:?}: {frame:?}"),
                }
            };
            settle(&mut live, &mut take).unwrap();
            let all: Vec<usize> = (0..FRAMES).collect();
            assert_eq!((&sent, &received), (&all, &all), "{ring:?}");
        });
    }
}

/// Binds this thread to a CPU; where there is no second one, to the first.
fn run_on(cpu: usize) {
    let cpus = thread::available_parallelism().unwrap().get();
    // SAFETY: all zeros is an empty set, into which a CPU of this machine is put.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu % cpus, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
    }
}

/// `perf_event_open` is refused, as a seccomp profile does, or is not there at all: ring buffers take its place, unless
/// the configuration insists.
#[test]
fn where_perf_is_forbidden_ring_buffers_do() {
    if !may_run("where_perf_is_forbidden_ring_buffers_do") {
        return;
    }
    let forbidden = "not permitted: a seccomp profile or a security module forbids perf_event_open";
    for (error, reason) in [
        (libc::EPERM, forbidden),
        (libc::EACCES, forbidden),
        (libc::ENOSYS, "Function not implemented (os error 38)"),
    ] {
        let refuse = |call: Call| matches!(call, Call::PerfEventOpen).then_some(error);
        let (rings, refused) = alone(&[], || {
            under(refuse, || {
                let mut live = Live::open(&on_loopback(RingChoice::Auto)).unwrap();
                captures(&mut live);
                live.rings().clone()
            })
        });
        assert!(refused > 0);
        assert_eq!(rings.kind, RingKind::Ringbuf);
        assert_eq!(rings.why, [format!("no perf rings: {reason}")]);
        let (insisted, _) = under(refuse, || DryRun::new(&on_loopback(RingChoice::Perf)).map(|_| ()));
        let said = insisted.unwrap_err().to_string();
        let expected = format!("opening perf rings: {reason}; capture.ring = \"auto\" ");
        assert!(said.starts_with(&expected), "{said}");
    }
}

/// One message goes out and comes in.
fn captures(live: &mut Live) {
    sip_socket().send_to(INVITE, "127.0.0.1:5060").unwrap();
    let mut frames = 0;
    let mut take = |event: Event<'_>| match event {
        Event::Frame(_) => frames += 1,
        Event::Lost { .. } => panic!("lost: {event:?}"),
    };
    settle(live, &mut take).unwrap();
    assert_eq!(frames, 2);
}

/// The three capabilities and no more memory than the kernel gives every user: each CPU has the same ring, and a second
/// capture of the same user, for which nothing is left, takes ring buffers.
#[test]
fn with_no_memory_to_lock_every_cpu_has_a_ring() {
    const ALONE: &str = "SIPOBS_TEST_NO_MEMLOCK";
    if !may_run("with_no_memory_to_lock_every_cpu_has_a_ring") {
        return;
    }
    if std::env::var_os(ALONE).is_some() {
        return no_memory_to_lock();
    }
    // The limit is a process's.
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "rings::with_no_memory_to_lock_every_cpu_has_a_ring", "--nocapture"]);
    again.env(ALONE, "1");
    // SAFETY: a system call that may be made between fork and exec.
    unsafe {
        again.pre_exec(|| {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = again.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

fn no_memory_to_lock() {
    alone(&[], || {
        // The allowance is a user's: be one that is nobody else.
        let user = 0x4000_0000 + std::process::id();
        let held = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];
        let held: CapsHashSet = held.into();
        // SAFETY: calls without preconditions; the second is this thread's alone.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, user, user, user), 0);
        }
        caps::set(None, CapSet::Effective, &CapsHashSet::new()).unwrap();
        caps::set(None, CapSet::Permitted, &held).unwrap();
        caps::set(None, CapSet::Effective, &held).unwrap();

        let config = Config { ring_bytes: 4 << 20, ..on_loopback(RingChoice::Auto) };
        {
            // A quarter is taken, so that half of it does not fit any more: all rings are made smaller, together.
            let _other = DryRun::new(&on_loopback(RingChoice::Perf)).unwrap();
            let rings = Live::open(&config).unwrap().rings().clone();
            assert_eq!((rings.kind, rings.bytes), (RingKind::Perf, 256 << 10), "{rings}");
            assert_eq!(rings.memory, rings.cpus as u64 * (260 << 10), "{rings}");
            assert!(rings.to_string().contains("others of this user have locked memory, too"), "{rings}");
        }
        let mut live = Live::open(&config).unwrap();
        let rings = live.rings().clone();
        assert_eq!((rings.kind, rings.bytes), (RingKind::Perf, 512 << 10), "{rings}");
        let said = rings.to_string();
        assert!(said.contains("RLIMIT_MEMLOCK (0 KiB)") && said.contains("CAP_IPC_LOCK"), "{said}");
        captures(&mut live);

        // Its programs are detached; its rings are still there.
        let mut second = Live::open(&config).unwrap();
        let said = second.rings().to_string();
        assert_eq!(second.rings().kind, RingKind::Ringbuf, "{said}");
        assert!(
            said.contains("no memory may be locked (CAP_IPC_LOCK, or a higher RLIMIT_MEMLOCK)"),
            "{said}"
        );
        let insists = Config { ring: RingChoice::Perf, ..config };
        let error = Live::open(&insists).unwrap_err().to_string();
        assert!(error.contains("CAP_IPC_LOCK"), "{error}");
        captures(&mut second);
        drop(live);
    });
}
