//! Interfaces that come, go, are missing, or are not meant.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::peers::Peers;
use super::subject::Subject;
use super::{END, Ground, Seen, holds};
use crate::children::{output, pause};
use crate::lab::{AGENT_INTERFACE, Lab, Side, TRUNK_INTERFACE, address};

/// How soon an interface that is there must be captured, and one that is gone be told.
const FOLLOWED: Duration = Duration::from_secs(2);

/// A pattern that nothing fits yet; then something, which goes and comes back.
pub(super) fn followed(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("appears")?;
    in_agent(&lab, &["link", "delete", AGENT_INTERFACE])?;
    let mut subject = ground.plan(&lab).arguments(&["-i", "agent*"]).start_unready()?;
    subject.wait_said("nothing to watch here: no interface fits capture.interfaces")?;
    let (status, text) = subject.readiness()?;
    ensure!(status == 200 && text.contains("nothing to watch here"), "/readyz answers {status}: {text}");
    ensure!(watched(&subject)? == 0, "something is watched");
    let mut slowest = Duration::ZERO;
    for round in 1..=2 {
        join(&lab)?;
        let start = Instant::now();
        subject.wait("it is watched", FOLLOWED, |subject| Ok((watched(subject)? == 1).then_some(())))?;
        slowest = slowest.max(start.elapsed());
        let attached = subject.metrics()?.sum("sipobs_capture_attached", &["interface=\"agent0\""])?;
        ensure!(attached == 2, "{attached} programs are attached");
        let peers = Peers::new(&lab)?;
        peers.call(&format!("round{round}"))?;
        subject.wait_count("sipobs_messages_total", &[], 3 * round)?;
        drop(peers);
        in_agent(&lab, &["link", "delete", AGENT_INTERFACE])?;
        subject.wait("it is let go", FOLLOWED, |subject| Ok((watched(subject)? == 0).then_some(())))?;
        ensure!(subject.metrics()?.sum("sipobs_capture_attached", &[]).unwrap_or(0) == 0, "still attached");
        ensure!(subject.readiness()?.0 == 200, "a pattern that fits nothing is a fault");
    }
    let (_, said) = subject.stop(0, END)?;
    let attached = said.matches("agent0: native XDP\n").count();
    ensure!(attached == 2, "it tells of {attached} attachments:\n{said}");
    holds(&said, &["agent0: native XDP detached", "agent0: tcx egress detached"])?;
    Ok(Seen::Passed(format!("captured {:.1} s after it came, the second time too", slowest.as_secs_f32())))
}

/// A name that goes while it is watched, beside one that stays.
pub(super) fn vanished(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("vanishes")?;
    let mut subject = ground.plan(&lab).arguments(&["-i", AGENT_INTERFACE, "-i", "lo"]).start()?;
    in_agent(&lab, &["link", "delete", AGENT_INTERFACE])?;
    subject.wait_ready(503, FOLLOWED)?;
    holds(&subject.readiness()?.1, &["wanted by name, and not watched: agent0"])?;
    let missing = subject.metrics()?.sum("sipobs_capture_interfaces", &["state=\"missing\""])?;
    ensure!(missing == 1 && watched(&subject)? == 1, "{missing} are missing");
    ensure!(subject.alive()? == 200, "it would be restarted for it");
    join(&lab)?;
    subject.wait_ready(200, FOLLOWED)?;
    ensure!(watched(&subject)? == 2, "it is not watched again");
    subject.stop(0, END)?;
    Ok(Seen::Passed("not ready, and alive, until it is back".into()))
}

/// A default route that moves to another interface, and one that is there from nobody's point of view.
pub(super) fn default_route(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("default-route")?;
    let arguments = ["-i", "default-route"];
    let said = ground.plan(&lab).arguments(&arguments).checks(3)?;
    holds(&said, &["nothing to watch: no interface fits"])?;
    let mut subject = ground.plan(&lab).arguments(&arguments).start()?;
    let trunk = address(Side::Trunk, 0).to_string();
    for (commands, wanted) in [
        (&[&["route", "add", "default", "via", &trunk, "dev", AGENT_INTERFACE][..]][..], 1),
        (&[&["route", "delete", "default"]], 0),
        (
            &[
                &["nexthop", "add", "id", "1", "via", &trunk, "dev", AGENT_INTERFACE],
                &["route", "add", "default", "nhid", "1", "table", "1100"],
            ],
            0,
        ),
        (&[&["rule", "add", "from", "all", "lookup", "1100"]], 1),
        (&[&["nexthop", "delete", "id", "1"]], 0),
    ] {
        for command in commands {
            in_agent(&lab, command)?;
        }
        let last = commands.last().context("no command")?.join(" ");
        // One that must not change anything would be seen to by then.
        pause(Duration::from_millis(500))?;
        subject.wait(&format!("{wanted} watched after {last}"), FOLLOWED, |subject| {
            Ok((watched(subject)? == wanted).then_some(()))
        })?;
    }
    subject.stop(0, END)?;
    Ok(Seen::Passed("followed through routes, nexthops and rules; check says that there is none".into()))
}

/// A name is a promise.
pub(super) fn missing(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("missing")?;
    let said = ground.plan(&lab).arguments(&["-i", AGENT_INTERFACE, "-i", "nowhere7"]).fails(3)?;
    holds(&said, &["interface nowhere7: no such interface; there are agent0, lo"])?;
    let said = ground.plan(&lab).arguments(&["-i", "agent0,nowhere7"]).checks(3)?;
    holds(&said, &["interface nowhere7: no such interface; there are "])?;
    Ok(Seen::Passed("exit 3, its name, and those that there are".into()))
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

fn watched(subject: &Subject<'_>) -> Result<u64> {
    subject.metrics()?.sum("sipobs_capture_interfaces", &["state=\"watched\""])
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
