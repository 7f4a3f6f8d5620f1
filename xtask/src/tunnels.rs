//! The step of the test for what carries packets between hosts: VLAN tags, VXLAN, fragments, through the real
//! programs in every way that they are attached.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::children::{output, pause, wait_for};
use crate::daemon::{Daemon, read_capture};
use crate::faults::Peers;
use crate::lab::{AGENT_INTERFACE, Lab, Side, TRUNK_INTERFACE, address};
use crate::live::{Count, nothing_lost, same_transfers, transfers};
use crate::recording::{self, Tap};

/// Each sees received frames by another program.
const MODES: [&str; 3] = ["auto", "generic", "tc"];
/// The agents' hosts in the golden case, by their Ethernet addresses: tcpprep cannot look into all that is there.
const AGENTS: &str = "--mac=02:00:0a:58:00:02,02:00:0a:58:00:04,02:00:00:00:00:02";

/// One call in each kind of tag, tunnel and fragment, replayed; and calls in a tunnel of the kernel's own.
pub(crate) fn run(sipobs: &Path) -> Result<()> {
    let capture = crate::root().join("sipobs/tests/golden/64_encapsulated/input.pcap");
    let from_file = read_capture(sipobs, &capture)?;
    for mode in MODES {
        for place in [Tags::InFrame, Tags::Beside] {
            replayed(sipobs, &capture, &from_file, mode, place)
                .with_context(|| format!("--mode {mode}, {}", place.what()))?;
        }
        kernels_own(sipobs, mode).with_context(|| format!("--mode {mode}, a VXLAN device"))?;
    }
    Ok(())
}

/// Where a frame's outer tag is when the programs see it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tags {
    /// In its bytes, as a network card without offloads has it.
    InFrame,
    /// In the kernel's record of the frame: it was taken out of the bytes on the way.
    Beside,
}

impl Tags {
    const fn what(self) -> &'static str {
        match self {
            Self::InFrame => "tags in the frame",
            Self::Beside => "tags beside the frame",
        }
    }
}

fn replayed(sipobs: &Path, capture: &Path, from_file: &[Value], mode: &str, place: Tags) -> Result<()> {
    let lab = Lab::for_replay(&crate::scratch("test-tunnels")?)?;
    let interfaces = match place {
        Tags::InFrame => recording::ENDS,
        Tags::Beside => behind_bridges(&lab)?,
    };
    let daemon = Daemon::start_with(&lab, sipobs, &["--mode", mode], false)?;
    let before = Count::take(&lab, &daemon)?;
    recording::replay_into(&lab, capture, AGENTS, interfaces)?;
    let after = Count::take(&lab, &daemon)?;
    let summary = from_file.last().context("the file reader says nothing")?;
    let (crossed, packets) = (after.wire - before.wire, &summary["packets"]);
    ensure!(*packets == crossed, "{packets} packets are in the file, and {crossed} crossed the wire");
    nothing_lost(&before, &after, &daemon.metrics(&lab)?)?;
    let lines = daemon.stop()?;
    whole(&lines)?;
    same_transfers(&lines, from_file).context("replayed, and from the file")
}

/// Puts a bridge behind each end of the wire, and gives the ways into them. A bridge takes the outer tag out of a
/// frame's bytes as it receives it, and passes it on beside them.
fn behind_bridges(lab: &Lab) -> Result<[&'static str; 2]> {
    let run = |words: &str| output(lab.inside(Side::Agent, "ip").args(words.split(' ')));
    // Where the bridge shows packets to the firewall, that puts fragments together.
    for knob in ["arptables", "ip6tables", "iptables"] {
        let knob = format!("net.bridge.bridge-nf-call-{knob}=0");
        // A kernel without that has no such knob.
        let _ = output(lab.inside(Side::Agent, "sysctl").args(["-q", "-w", &knob]));
    }
    for (bridge, port, feed, end) in
        [("br-a", "port-a", "feed-a", AGENT_INTERFACE), ("br-t", "port-t", "feed-t", TRUNK_INTERFACE)]
    {
        run(&format!("link add {bridge} type bridge stp_state 0 mcast_snooping 0"))?;
        run(&format!("link add {feed} type veth peer name {port}"))?;
        for member in [port, end] {
            run(&format!("link set {member} master {bridge}"))?;
        }
        for name in [bridge, feed, port] {
            run(&format!("link set {name} up"))?;
        }
        for member in [port, end] {
            const FORWARDING: &str = "3";
            wait_for(&format!("{member} forwards"), Duration::from_secs(10), || {
                let state = format!("/sys/class/net/{member}/brport/state");
                let state = output(lab.inside(Side::Agent, "cat").arg(state))?;
                Ok((state.trim() == FORWARDING).then_some(()))
            })?;
        }
    }
    Ok(["feed-a", "feed-t"])
}

/// Real sockets at the two ends of a VXLAN tunnel of the kernel's own, which puts the packets in and takes them out.
fn kernels_own(sipobs: &Path, mode: &str) -> Result<()> {
    let lab = Lab::new(&crate::scratch("test-vxlan")?)?;
    let inside = [(Side::Trunk, TRUNK_INTERFACE), (Side::Agent, AGENT_INTERFACE)];
    let at = [Ipv4Addr::new(10, 79, 0, 1), Ipv4Addr::new(10, 79, 0, 2)];
    for ((side, end), own) in inside.into_iter().zip(at) {
        let other = if side == Side::Trunk { Side::Agent } else { Side::Trunk };
        let (local, remote) = (address(side, 0), address(other, 0));
        let run = |words: &str| output(lab.inside(side, "ip").args(words.split(' ')));
        run(&format!("link add vx0 type vxlan id 42 dstport 4789 dev {end} local {local} remote {remote}"))?;
        run(&format!("address add {own}/24 dev vx0"))?;
        run("link set vx0 up")?;
    }
    let daemon = Daemon::start_with(&lab, sipobs, &["--mode", mode], false)?;
    let before = Count::take(&lab, &daemon)?;
    let recorded = lab.dir.join("wire.pcap");
    let tap = Tap::start_on(&lab, &recorded, "udp port 4789")?;
    let peers = Peers::at(&lab, at.map(|address| SocketAddrV4::new(address, 5060)))?;
    for id in ["first", "second"] {
        let call = peers.call(id)?;
        call.refer()?;
        call.transferred()?;
    }
    // More than a frame of the tunnel holds: its kernel cuts the packet before it puts it in.
    peers.large(3000)?;
    pause(Duration::from_millis(100))?;
    tap.stop()?;
    let after = Count::take(&lab, &daemon)?;
    let metrics = daemon.metrics(&lab)?;
    nothing_lost(&before, &after, &metrics)?;
    let messages = metrics.sum("sipobs_messages_total", &[])?;
    ensure!(messages == 19, "19 messages were sent and {messages} read");
    let lines = daemon.stop()?;
    whole(&lines)?;
    ensure!(transfers(&lines) == 2, "two transfers were made: {lines:?}");
    same_transfers(&lines, &read_capture(sipobs, &recorded)?).context("live, and from tcpdump's file")
}

/// Nothing is known to be missing from any verdict.
fn whole(lines: &[Value]) -> Result<()> {
    for line in lines.iter().filter(|line| line["kind"] == "transfer") {
        for (number, lost) in line["quality"].as_object().context("no quality")? {
            ensure!(lost == 0, "{}: quality.{number} is {lost}", line["call_id"]);
        }
    }
    Ok(())
}
