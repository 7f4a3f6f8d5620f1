//! Ground that XDP or tc does not have for itself.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, ensure};

use super::inside::{self, Programs};
use super::peers::Peers;
use super::{END, Frames, Ground, Seen, holds};
use crate::children::output;
use crate::daemon::Metrics;
use crate::lab::{AGENT_INTERFACE, Lab, Side, TRUNK_INTERFACE};
use crate::wire::Sip;

/// The loopback's driver has no XDP.
pub(super) fn generic(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("no-native-xdp")?;
    let mut subject = ground.plan(&lab).arguments(&["-i", "lo"]).start()?;
    attached(&subject.metrics()?, "lo", "xdp_generic")?;
    let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5060);
    let sip = Sip::request("OPTIONS", "sip:a").header("Call-ID", "a").header("CSeq", "1 OPTIONS");
    inside::udp(&lab, Side::Agent, at)?.send_to(&sip.bytes(), at)?;
    // Once on its way out and once on its way in.
    subject.wait_count("sipobs_capture_frames_delivered_total", &["hook=\"xdp\""], 1)?;
    subject.wait_count("sipobs_capture_frames_delivered_total", &["hook=\"tc_egress\""], 1)?;
    let (_, said) = subject.stop(0, END)?;
    let why = "lo: generic XDP (native XDP: the driver does not have it)";
    holds(&said, &[why])?;
    let said = ground.plan(&lab).arguments(&["-i", "lo", "--mode", "native"]).fails(3)?;
    holds(&said, &["interface lo: cannot attach: native XDP: the driver does not have it"])?;
    Ok(Seen::Passed(format!("{why}; exit 3 where only native will do")))
}

/// A frame larger than a page: the XDP program takes it in pieces.
pub(super) fn jumbo(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("mtu-9001")?;
    for (side, name) in [(Side::Trunk, TRUNK_INTERFACE), (Side::Agent, AGENT_INTERFACE)] {
        output(lab.inside(side, "ip").args(["link", "set", name, "mtu", "9001"]))?;
    }
    let mut subject = ground.plan(&lab).start()?;
    let metrics = subject.metrics()?;
    let how = if metrics.text.contains("xdp_native") { "xdp_native" } else { "xdp_generic" };
    attached(&metrics, AGENT_INTERFACE, how)?;
    Peers::new(&lab)?.large(8_400)?;
    let metrics = subject.wait_count("sipobs_messages_total", &[], 1)?;
    let truncated = metrics.sum("sipobs_capture_frames_truncated_total", &[])?;
    ensure!(truncated == 0, "{truncated} frames were cut");
    let (_, said) = subject.stop(0, END)?;
    if how == "xdp_generic" {
        holds(&said, &["the MTU is too large for it"])?;
    }
    Ok(Seen::Passed(format!("8.4 KB in one frame, read whole by {how}")))
}

/// Two daemons on one interface.
pub(super) fn occupied(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("two-daemons")?;
    let mut first = ground.plan(&lab).start()?;
    let alone = Programs::of(&lab)?;
    let mut second = ground.plan(&lab).named("second", 9465).start()?;
    attached(&second.metrics()?, AGENT_INTERFACE, "tcx_ingress")?;
    attached(&second.metrics()?, AGENT_INTERFACE, "tcx_egress")?;
    let both = Programs::of(&lab)?;
    ensure!(both.xdp == alone.xdp, "the first one's XDP program is gone: {alone:?}, {both:?}");
    ensure!(both.egress.len() == 2 && both.egress[1] == alone.egress[0], "ours is not first: {both:?}");

    let peers = Peers::new(&lab)?;
    let call = peers.call("both")?;
    call.refer()?;
    call.transferred()?;
    for subject in [&mut first, &mut second] {
        let metrics = subject.wait_count("sipobs_messages_total", &[], 9)?;
        ensure!(Frames::accounted(&metrics)?.delivered == 9, "{}", metrics.text);
    }
    let (_, said) = second.stop(0, END)?;
    let why = "agent0: tcx ingress (native XDP: another XDP program is attached; generic XDP: ";
    holds(&said, &[why])?;
    ensure!(Programs::of(&lab)? == alone, "the second one took more than its own with it");
    peers.call("again")?;
    first.wait_count("sipobs_messages_total", &[], 12)?;
    let said =
        ground.plan(&lab).named("second", 9465).arguments(&["-i", "agent0", "--mode", "native"]).fails(3)?;
    holds(&said, &["agent0: cannot attach: native XDP: another XDP program is attached"])?;
    first.stop(0, END)?;
    Ok(Seen::Passed("the second takes tc, before the first one's; both see all 9 messages".into()))
}

/// Filters of somebody else's, on a clsact qdisc of theirs, that end the chain both ways.
pub(super) fn behind_clsact(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("tc-before")?;
    output(lab.inside(Side::Agent, "tc").args(["qdisc", "add", "dev", AGENT_INTERFACE, "clsact"]))?;
    for way in ["ingress", "egress"] {
        // One instruction that matches everything: no filter behind it is asked any more (TC_ACT_OK).
        let everything = "1,6 0 0 1,";
        let mut filter = lab.inside(Side::Agent, "tc");
        filter.args([
            "filter",
            "add",
            "dev",
            AGENT_INTERFACE,
            way,
            "prio",
            "1",
            "bpf",
            "bytecode",
            everything,
        ]);
        output(filter.args(["flowid", "1:1"]))?;
    }
    let foreign = |lab: &Lab| -> Result<[String; 2]> {
        let show = |way| output(lab.inside(Side::Agent, "tc").args(["filter", "show", "dev", "agent0", way]));
        Ok([show("ingress")?, show("egress")?])
    };
    let before = foreign(&lab)?;
    let mut subject = ground.plan(&lab).arguments(&["-i", "agent0", "--mode", "tc"]).start()?;
    let peers = Peers::new(&lab)?;
    let call = peers.call("behind")?;
    call.refer()?;
    call.transferred()?;
    let metrics = subject.wait_count("sipobs_messages_total", &[], 9)?;
    ensure!(Frames::accounted(&metrics)?.delivered == 9, "{}", metrics.text);
    subject.stop(0, END)?;
    ensure!(foreign(&lab)? == before, "the other's filters are not what they were: {:?}", foreign(&lab)?);
    Ok(Seen::Passed("all 9 messages seen, and the other's filters left as they were".into()))
}

fn attached(metrics: &Metrics, interface: &str, how: &str) -> Result<()> {
    let labels = [format!("interface=\"{interface}\""), format!("how=\"{how}\"")];
    let attached = metrics.sum("sipobs_capture_attached", &[&labels[0], &labels[1]])?;
    ensure!(attached == 1, "{attached} programs are attached as {how} to {interface}");
    Ok(())
}
