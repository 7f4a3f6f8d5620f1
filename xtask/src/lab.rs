//! Two network namespaces, "trunk" and "agent", joined by one veth pair: the only wire the lab has.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::thread::LinkNameSpaceType;

use crate::children::{output, wait_for};

/// The agent's end of the wire, where sipobs listens.
pub(crate) const AGENT_INTERFACE: &str = "agent0";
/// The trunk's end.
pub(crate) const TRUNK_INTERFACE: &str = "trunk0";
const PREFIX: &str = "sipobs-lab";

/// Which end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The carrier.
    Trunk,
    /// The voice-agent platform, and sipobs beside it.
    Agent,
}

/// The namespaces, and a directory for logs. Both namespaces go when it is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    trunk: String,
    agent: String,
    /// Where the lab's processes write.
    pub(crate) dir: PathBuf,
}

impl Lab {
    /// How many addresses each end has: one pair for each call that runs at the same time.
    pub(crate) const ADDRESSES: u8 = 20;

    /// Makes the namespaces and the wire between them. Needs root.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_stale(PREFIX);
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let id = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { trunk: format!("{id}-trunk"), agent: format!("{id}-agent"), dir: dir.into() };
        ip(&["netns", "add", &lab.trunk])?;
        ip(&["netns", "add", &lab.agent])?;
        for side in [Side::Trunk, Side::Agent] {
            // No IPv6: its neighbour and router traffic would come at times of its own.
            for which in ["all", "default"] {
                let knob = format!("net.ipv6.conf.{which}.disable_ipv6=1");
                // A kernel without IPv6 has no such knob, and needs none.
                let _ = output(lab.inside(side, "sysctl").args(["-q", "-w", &knob]));
            }
        }
        ip(&[
            "-n",
            &lab.trunk,
            "link",
            "add",
            TRUNK_INTERFACE,
            "type",
            "veth",
            "peer",
            "name",
            AGENT_INTERFACE,
            "netns",
            &lab.agent,
        ])?;
        for (side, name) in [(Side::Trunk, TRUNK_INTERFACE), (Side::Agent, AGENT_INTERFACE)] {
            let namespace = lab.namespace(side);
            for number in 0..Self::ADDRESSES {
                let address = format!("{}/16", address(side, number));
                ip(&["-n", namespace, "address", "add", &address, "dev", name])?;
            }
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", name, "up"])?;
        }
        Ok(lab)
    }

    /// Two ends in one namespace, the agent's, and without addresses: what is written to one end comes out of
    /// the other, and no kernel answers. For replaying a capture of both directions.
    pub(crate) fn for_replay(dir: &Path) -> Result<Self> {
        let lab = Self::new(dir)?;
        ip(&["-n", &lab.trunk, "link", "set", TRUNK_INTERFACE, "netns", &lab.agent])?;
        for name in [TRUNK_INTERFACE, AGENT_INTERFACE] {
            ip(&["-n", &lab.agent, "address", "flush", "dev", name])?;
            ip(&["-n", &lab.agent, "link", "set", name, "up"])?;
        }
        Ok(lab)
    }

    /// A command that will run in the namespace of `side`.
    pub(crate) fn inside(&self, side: Side, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.namespace(side)]).arg(program);
        command
    }

    /// Does `work` in a thread of ours that is in the namespace of `side`. Sockets that it opens stay there.
    pub(crate) fn enter<T: Send + 'static>(
        &self,
        side: Side,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.namespace_file(side);
        let thread = thread::spawn(move || {
            let namespace = File::open(&path).with_context(|| path.display().to_string())?;
            let network = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), network)?;
            work()
        });
        thread.join().map_err(|_| anyhow!("the thread inside the lab panicked"))?
    }

    /// Waits until something listens on `address` (`ip:port`), UDP or TCP.
    pub(crate) fn wait_listening(&self, side: Side, address: &str) -> Result<()> {
        wait_for(&format!("a listener on {address}"), Duration::from_secs(10), || {
            let table = output(self.inside(side, "ss").arg("-Hlntu"))?;
            Ok(table.split_whitespace().any(|word| word == address).then_some(()))
        })
    }

    /// Packets that the agent's end of the wire has received and sent, as its driver counts them.
    pub(crate) fn packets(&self) -> Result<(u64, u64)> {
        let read = |name: &str| -> Result<u64> {
            let path = format!("/sys/class/net/{AGENT_INTERFACE}/statistics/{name}");
            let text = output(self.inside(Side::Agent, "cat").arg(path))?;
            text.trim().parse().with_context(|| format!("{name}: {text:?}"))
        };
        Ok((read("rx_packets")?, read("tx_packets")?))
    }

    /// The file that stands for the namespace of `side`.
    pub(crate) fn namespace_file(&self, side: Side) -> PathBuf {
        Path::new("/run/netns").join(self.namespace(side))
    }

    /// The name of the namespace of `side`.
    pub(crate) fn namespace(&self, side: Side) -> &str {
        match side {
            Side::Trunk => &self.trunk,
            Side::Agent => &self.agent,
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.agent, &self.trunk] {
            // The veth pair goes with its namespaces.
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

/// Where the agent's addresses are, and the trunk's are not.
pub(crate) const AGENT_NETWORK: &str = "10.77.1.0/24";

/// The address of one end for the call with this number.
pub(crate) fn address(side: Side, number: u8) -> Ipv4Addr {
    match side {
        Side::Trunk => Ipv4Addr::new(10, 77, 0, 10 + number),
        Side::Agent => Ipv4Addr::new(10, 77, 1, 10 + number),
    }
}

/// The lab's namespaces that are there now, whoever made them.
pub(crate) fn namespaces() -> Vec<String> {
    namespaces_of(PREFIX)
}

/// Removes what a killed run left behind: namespaces named `prefix-pid-…` whose maker is gone.
pub(crate) fn remove_stale(prefix: &str) {
    for name in namespaces_of(prefix) {
        let maker = name[prefix.len()..].split('-').nth(1).unwrap_or_default();
        if !maker.is_empty() && !Path::new("/proc").join(maker).exists() {
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

/// Runs `ip` and gives its standard output.
pub(crate) fn ip(arguments: &[&str]) -> Result<String> {
    output(Command::new("ip").args(arguments))
}

fn namespaces_of(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}
