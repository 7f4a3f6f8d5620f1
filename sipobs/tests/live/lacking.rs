//! What live capture does on kernels that lack something, and what it says: which program goes where instead, and
//! that frames are still seen both ways.

use std::net::UdpSocket;
use std::sync::Once;

use sipobs::capture::live::{Config, DryRun, Error, Event, Live};
use sipobs::frame::Direction;

use crate::frames::{INVITE, plain, vxlan};
use crate::refusal::{Call, under};
use crate::{alone, may_run, settle};

/// What was attached, and how many frames came on each way: plain ones, and those in a tunnel.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    attached: Vec<String>,
    plain: [usize; 2],
    tunnelled: [usize; 2],
}

/// Under a kernel that answers so, on the loopback of a network namespace of one's own. Something must be refused
/// if `lacks` something.
fn capture(lacks: impl Fn(Call) -> Option<i32> + Send, anything: bool) -> Result<Seen, Error> {
    // aya asks the kernel once a process what it has: let it do so before anything is refused.
    static ASKED: Once = Once::new();
    ASKED.call_once(|| drop(DryRun::new(&Config::default()).unwrap()));
    let (seen, refused) = alone(&[], || under(lacks, watch_loopback));
    assert_eq!(refused > 0, anything, "{refused} calls were refused: {seen:?}");
    seen
}

fn watch_loopback() -> Result<Seen, Error> {
    let config = Config { interfaces: vec!["lo".into()], ring_bytes: 1 << 20, ..Config::default() };
    let mut live = Live::open(&config)?;
    let attached = live.attachments().map(ToString::to_string).collect();
    let [sip, tunnel] = [5060, 4789].map(|port| UdpSocket::bind(("127.0.0.1", port)).unwrap());
    let inside = vxlan(&plain(INVITE));
    sip.send_to(INVITE, "127.0.0.1:5060").unwrap();
    tunnel.send_to(&inside, "127.0.0.1:4789").unwrap();
    let mut seen = Seen { attached, plain: [0; 2], tunnelled: [0; 2] };
    let mut take = |event: Event<'_>| {
        let Event::Frame(frame) = event else { panic!("lost: {event:?}") };
        let way = usize::from(matches!(frame.direction, Direction::Egress | Direction::Originated));
        match frame.bytes.len() {
            len if len == 14 + 28 + INVITE.len() => seen.plain[way] += 1,
            len if len == 14 + 28 + inside.len() => seen.tunnelled[way] += 1,
            len => panic!("a frame of {len} bytes"),
        }
    };
    settle(&mut live, &mut take)?;
    Ok(seen)
}

const ONCE: [usize; 2] = [1, 1];
const GENERIC: &str = "lo: generic XDP (native XDP: the driver does not have it)";
const TCX: &str = "lo: tcx egress";

#[test]
fn nothing() {
    if !may_run("nothing") {
        return;
    }
    let seen = capture(|_| None, false).unwrap();
    assert_eq!(seen.attached, [GENERIC, TCX]);
    assert_eq!((seen.plain, seen.tunnelled), (ONCE, ONCE));
}

/// Before Linux 5.18 an XDP program is refused that takes frames in several buffers, and the other does not see into
/// tunnels.
#[test]
fn frames_in_several_buffers() {
    if !may_run("frames_in_several_buffers") {
        return;
    }
    let seen = capture(|call| call.loads_frags().then_some(libc::EINVAL), true).unwrap();
    assert_eq!(seen.attached, [GENERIC, TCX]);
    assert_eq!((seen.plain, seen.tunnelled), (ONCE, [0, 1]));
}

/// CONFIG_NET_XGRESS may be off in a kernel that is new enough.
#[test]
fn tcx() {
    if !may_run("tcx") {
        return;
    }
    let seen = capture(|call| call.links_tcx().then_some(libc::EINVAL), true).unwrap();
    assert_eq!(seen.attached[0], GENERIC);
    assert!(seen.attached[1].starts_with("lo: clsact egress (tcx egress: "), "{seen:?}");
    assert!(seen.attached[1].contains("Invalid argument"), "{seen:?}");
    assert_eq!((seen.plain, seen.tunnelled), (ONCE, ONCE));
}

#[test]
fn xdp() {
    if !may_run("xdp") {
        return;
    }
    let seen = capture(|call| call.links_xdp().then_some(libc::EOPNOTSUPP), true).unwrap();
    let why = "native XDP: the driver does not have it; generic XDP: the driver does not have it";
    assert_eq!(seen.attached, [format!("lo: tcx ingress ({why})"), TCX.into()]);
    assert_eq!((seen.plain, seen.tunnelled), (ONCE, ONCE));
}

#[test]
fn xdp_and_tcx() {
    if !may_run("xdp_and_tcx") {
        return;
    }
    let neither = |call: Call| (call.links_xdp() || call.links_tcx()).then_some(libc::EOPNOTSUPP);
    let seen = capture(neither, true).unwrap();
    assert!(seen.attached[0].starts_with("lo: clsact ingress (native XDP: "), "{seen:?}");
    for way in ["; generic XDP: ", "; tcx ingress: "] {
        assert!(seen.attached[0].contains(way), "{seen:?}");
    }
    assert!(seen.attached[1].starts_with("lo: clsact egress (tcx egress: "), "{seen:?}");
    assert_eq!((seen.plain, seen.tunnelled), (ONCE, ONCE));
}

#[test]
fn bpf() {
    if !may_run("bpf") {
        return;
    }
    let refuse = |error: i32| move |call: Call| matches!(call, Call::Bpf(..)).then_some(error);
    let error = capture(refuse(libc::ENOSYS), true).unwrap_err().to_string();
    assert!(error.starts_with("eBPF maps: ") && error.contains("Function not implemented"), "{error}");
    // As a container's seccomp profile does.
    let error = capture(refuse(libc::EPERM), true).unwrap_err().to_string();
    assert!(error.starts_with("creating eBPF maps: not permitted; "), "{error}");
    assert!(error.contains("seccomp"), "{error}");
}
