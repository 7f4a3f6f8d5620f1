//! Interfaces that come, go, are missing, or are not meant.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::peers::Peers;
use super::{END, Ground, Seen, holds};
use crate::children::output;
use crate::lab::{AGENT_INTERFACE, Lab, Side, TRUNK_INTERFACE, address};

/// How soon an interface that is there must be captured, and one that is gone be told.
const FOLLOWED: Duration = Duration::from_secs(2);

/// A pattern that nothing fits yet; then something, which goes and comes back.
pub(super) fn followed(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("appears")?;
    in_agent(&lab, &["link", "delete", AGENT_INTERFACE])?;
    let mut subject = ground.plan(&lab).arguments(&["-i", "agent*"]).start_unready()?;
    subject.wait_said("no interface fits capture.interfaces yet")?;
    ensure!(subject.ready()? == 503, "ready without an interface");
    let mut slowest = Duration::ZERO;
    for round in 1..=2 {
        join(&lab)?;
        let start = Instant::now();
        subject.wait_ready(200, FOLLOWED)?;
        slowest = slowest.max(start.elapsed());
        let attached = subject.metrics()?.sum("sipobs_capture_attached", &["interface=\"agent0\""])?;
        ensure!(attached == 2, "{attached} programs are attached");
        let peers = Peers::new(&lab)?;
        peers.call(&format!("round{round}"))?;
        subject.wait_count("sipobs_messages_total", &[], 3 * round)?;
        drop(peers);
        in_agent(&lab, &["link", "delete", AGENT_INTERFACE])?;
        subject.wait_ready(503, FOLLOWED)?;
        ensure!(subject.metrics()?.sum("sipobs_capture_attached", &[]).unwrap_or(0) == 0, "still attached");
    }
    let (_, said) = subject.stop(0, END)?;
    let attached = said.matches("agent0: native XDP\n").count();
    ensure!(attached == 2, "it tells of {attached} attachments:\n{said}");
    holds(&said, &["agent0: native XDP detached", "agent0: tcx egress detached"])?;
    Ok(Seen::Passed(format!("captured {:.1} s after it came, the second time too", slowest.as_secs_f32())))
}

/// A name is a promise.
pub(super) fn missing(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("missing")?;
    let said = ground.plan(&lab).arguments(&["-i", AGENT_INTERFACE, "-i", "nowhere7"]).fails(3)?;
    holds(&said, &["interface nowhere7: no such interface"])?;
    let said = ground.plan(&lab).arguments(&["-i", "nowhere7"]).checks(3)?;
    holds(&said, &["interface nowhere7: no such interface"])?;
    Ok(Seen::Passed("exit 3, and its name".into()))
}

/// What is both meant and excluded is not watched.
pub(super) fn excluded(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("exclude")?;
    let arguments = ["-i", "agent*", "-i", "lo", "--exclude", "/^agent[0-9]$/"];
    let subject = ground.plan(&lab).arguments(&arguments).start()?;
    let metrics = subject.metrics()?;
    let attached = |interface: &str| {
        metrics.sum("sipobs_capture_attached", &[&format!("interface=\"{interface}\"")]).unwrap_or(0)
    };
    ensure!(attached("lo") == 2 && attached(AGENT_INTERFACE) == 0, "{}", metrics.text);
    let (_, said) = subject.stop(0, END)?;
    ensure!(!said.contains(AGENT_INTERFACE), "{said}");
    Ok(Seen::Passed("the other interface is watched".into()))
}

/// Makes the wire anew.
fn join(lab: &Lab) -> Result<()> {
    let trunk = lab.namespace_file(Side::Trunk);
    let trunk = trunk.file_name().and_then(|name| name.to_str()).context("a namespace without a name")?;
    let peer = ["peer", "name", TRUNK_INTERFACE, "netns", trunk];
    in_agent(lab, &[&["link", "add", AGENT_INTERFACE, "type", "veth"], &peer[..]].concat())?;
    for (side, name) in [(Side::Trunk, TRUNK_INTERFACE), (Side::Agent, AGENT_INTERFACE)] {
        let address = format!("{}/16", address(side, 0));
        output(lab.inside(side, "ip").args(["address", "add", &address, "dev", name]))?;
        output(lab.inside(side, "ip").args(["link", "set", name, "up"]))?;
    }
    Ok(())
}

fn in_agent(lab: &Lab, arguments: &[&str]) -> Result<()> {
    output(lab.inside(Side::Agent, "ip").args(arguments)).map(drop)
}
