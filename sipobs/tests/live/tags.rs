//! A VLAN tag can stand in a frame's bytes, or beside them in the kernel's own record of the frame: programs at different
//! places see it differently, and must see the frame in any case.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::Command;

use sipobs::capture::live::{Config, Event, Live, Mode};

use crate::frames::{INVITE, IPV4, Part, UDP, ethernet, ipv4, udp};
use crate::{alone, may_run, settle};

/// A wire, and a bridge at its near end that takes the outer tag out of the bytes of what it is fed.
const LINKS: &[&str] = &[
    "link add near type veth peer name far",
    "link add feed type veth peer name port",
    "link add bridge type bridge stp_state 0 mcast_snooping 0",
    "link set near master bridge",
    "link set port master bridge",
    "link set near up",
    "link set far up",
    "link set feed up",
    "link set port up",
    "link set bridge up",
];

/// The bytes of one frame as it leaves by the near end and as it comes in at the far one, if it was sent into
/// `entrance`.
fn seen(mode: Mode, entrance: &'static str, frame: &[u8]) -> [Vec<u8>; 2] {
    alone(LINKS, || {
        for port in ["near", "port"] {
            let forwards = || {
                let shown = Command::new("ip").args(["-d", "link", "show", port]).output().unwrap();
                String::from_utf8_lossy(&shown.stdout).contains("state forwarding")
            };
            assert!((0..500).any(|_| forwards()), "{port} does not forward");
        }
        let config = Config {
            interfaces: vec!["near".into(), "far".into()],
            ring_bytes: 1 << 20,
            mode,
            ..Config::default()
        };
        let mut live = Live::open(&config).unwrap();
        let ends: Vec<u32> = ["near", "far"]
            .map(|name| live.attachments().find(|attachment| attachment.interface == name).unwrap().ifindex)
            .into();
        let mut seen = [Vec::new(), Vec::new()];
        let mut take = |event: Event<'_>| {
            let Event::Frame(frame) = event else { panic!("lost: {event:?}") };
            let end = &mut seen[ends.iter().position(|index| *index == frame.interface).unwrap()];
            assert!(end.is_empty(), "a second time: {frame:?}");
            end.extend(frame.bytes);
        };
        send(entrance, frame).unwrap();
        settle(&mut live, &mut take).unwrap();
        seen
    })
}

#[test]
fn a_tag_is_in_the_bytes_or_beside_them() {
    if !may_run("a_tag_is_in_the_bytes_or_beside_them") {
        return;
    }
    let packet = ipv4(&[], UDP, Part::default(), &udp(5060, 5060, INVITE));
    let tagged = |tags: &[(u16, u16)]| ethernet(tags, IPV4, &packet);
    for (tags, inner) in [(&[(0x8100, 5)][..], &[][..]), (&[(0x88a8, 7), (0x8100, 5)], &[(0x8100, 5)])] {
        let (whole, without) = (tagged(tags), tagged(inner));
        for (mode, entrance, expected) in [
            // As sent; XDP comes before the kernel takes the tag out.
            (Mode::Native, "near", [&whole, &whole]),
            (Mode::Generic, "near", [&whole, &whole]),
            (Mode::Tc, "near", [&whole, &without]),
            // As a bridge passes it on.
            (Mode::Native, "feed", [&without, &without]),
            (Mode::Generic, "feed", [&without, &without]),
            (Mode::Tc, "feed", [&without, &without]),
        ] {
            let seen = seen(mode, entrance, &whole);
            assert_eq!([&seen[0], &seen[1]], expected, "{mode:?}, into {entrance}, tags {tags:x?}");
        }
    }
}

/// Sends a frame as it is out of an interface (packet(7)).
pub(crate) fn send(interface: &str, frame: &[u8]) -> io::Result<()> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: a name that ends in NUL; the socket's descriptor is nobody else's; all zeros is a whole address; frame
    // and address live until the return.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        to.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        to.sll_ifindex = i32::try_from(libc::if_nametoindex(name.as_ptr())).unwrap();
        let (address, length) = ((&raw const to).cast(), u32::try_from(size_of_val(&to)).unwrap());
        let sent = libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, address, length);
        if usize::try_from(sent) == Ok(frame.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
