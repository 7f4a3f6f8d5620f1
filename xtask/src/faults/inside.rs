//! What this process does inside a lab's namespaces: sockets, and a look at the programs on an interface.

use std::fs;
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::programs::tc::{SchedClassifier, TcAttachType};
use serde_json::Value;

use super::subject::Plan;
use crate::children::output;
use crate::lab::{AGENT_INTERFACE, Lab, Side, address};

/// A UDP socket at `address`.
pub(crate) fn udp(lab: &Lab, side: Side, address: SocketAddrV4) -> Result<UdpSocket> {
    lab.enter(side, move || UdpSocket::bind(address).with_context(|| address.to_string()))
}

/// A TCP listener at `address`.
pub(crate) fn listen(lab: &Lab, side: Side, address: SocketAddrV4) -> Result<TcpListener> {
    lab.enter(side, move || TcpListener::bind(address).with_context(|| address.to_string()))
}

/// A name server that takes every question and answers none.
pub(crate) struct NameServer {
    resolv_conf: PathBuf,
    _socket: UdpSocket,
}

impl NameServer {
    /// A collector whose address only a name server could tell.
    pub(crate) const URL: &str = "http://collector.example:4318";

    pub(crate) fn mute(lab: &Lab) -> Result<Self> {
        let at = SocketAddrV4::new(address(Side::Trunk, 2), 53);
        let resolv_conf = lab.dir.join("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {}\n", at.ip()))?;
        Ok(Self { resolv_conf, _socket: udp(lab, Side::Trunk, at)? })
    }

    /// Lets the daemon ask it, in a file system of its own.
    pub(crate) fn asked_by<'a>(&self, plan: Plan<'a>) -> Plan<'a> {
        let bind = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        plan.behind(["unshare", "--mount", "sh", "-c", bind, &self.resolv_conf.display().to_string()])
    }
}

/// The ids of the programs on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(crate) xdp: Option<u64>,
    pub(crate) ingress: Vec<u32>,
    pub(crate) egress: Vec<u32>,
}

impl Programs {
    /// Those on the agent's end of the wire.
    pub(crate) fn of(lab: &Lab) -> Result<Self> {
        let link = output(lab.inside(Side::Agent, "ip").args(["-j", "-d", "link", "show", AGENT_INTERFACE]))?;
        let link: Value = serde_json::from_str(&link).context("ip -j link")?;
        let (ingress, egress) =
            lab.enter(Side::Agent, || Ok((tcx(TcAttachType::Ingress)?, tcx(TcAttachType::Egress)?)))?;
        Ok(Self { xdp: link[0]["xdp"]["prog"]["id"].as_u64(), ingress, egress })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.xdp.is_some()) + self.ingress.len() + self.egress.len()
    }
}

fn tcx(way: TcAttachType) -> Result<Vec<u32>> {
    let (_, programs) = SchedClassifier::query_tcx(AGENT_INTERFACE, way)
        .with_context(|| format!("which programs are on {AGENT_INTERFACE}"))?;
    Ok(programs.iter().map(|program| program.id()).collect())
}
