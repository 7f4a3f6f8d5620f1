//! One network namespace for each host of a play, and one with the switch between them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::play::Play;
use crate::children::{Running, output, pause, wait_for};
use crate::lab;

const PREFIX: &str = "sipobs-stage";
const SWITCH: &str = "switch";
const INTERFACE: &str = "eth0";
/// SIP, and not the media beside it.
const SIP: &str = "portrange 5060-5099";
/// Fragments behind the first, which show no ports.
const FRAGMENTS: &str = "ip[6:2] & 0x1fff != 0";

/// The namespaces. They go when it is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    id: String,
    namespaces: BTreeMap<String, String>,
    /// Where the peers write.
    pub(super) dir: PathBuf,
}

impl Stage {
    /// Needs root.
    pub(super) fn build(dir: &Path, play: &Play) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        lab::remove_stale(PREFIX);
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let id = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut stage = Self { id, namespaces: BTreeMap::new(), dir: dir.into() };
        let switch = stage.add(SWITCH)?;
        // A switch asks no questions of its own.
        lab::ip(&["-n", &switch, "link", "add", SWITCH, "type", "bridge", "mcast_snooping", "0"])?;
        lab::ip(&["-n", &switch, "link", "set", SWITCH, "up"])?;
        for (number, host) in play.hosts.iter().enumerate() {
            let namespace = stage.add(&host.name)?;
            let port = format!("port{number}");
            let pair = ["type", "veth", "peer", "name", INTERFACE, "netns", &namespace];
            lab::ip(&[&["-n", &switch, "link", "add", &port][..], &pair].concat())?;
            lab::ip(&["-n", &switch, "link", "set", &port, "master", SWITCH, "up"])?;
            let length = if host.address.is_ipv6() { 64 } else { 24 };
            let address = format!("{}/{length}", host.address);
            let duplicates = if host.address.is_ipv6() { &["nodad"][..] } else { &[] };
            lab::ip(
                &[&["-n", &namespace, "address", "add", &address, "dev", INTERFACE], duplicates].concat(),
            )?;
            if let Some(mtu) = play.mtu {
                lab::ip(&["-n", &namespace, "link", "set", INTERFACE, "mtu", &mtu.to_string()])?;
            }
            lab::ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            lab::ip(&["-n", &namespace, "link", "set", INTERFACE, "up"])?;
        }
        Ok(stage)
    }

    /// A command that will run on `host`.
    pub(super) fn on(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespaces[host], program]);
        command
    }

    /// Waits until something on `host` listens on `address` (`ip:port`), UDP or TCP.
    pub(super) fn wait_listening(&self, host: &str, address: &str) -> Result<()> {
        wait_for(&format!("a listener on {address}"), Duration::from_secs(10), || {
            let table = output(self.on(host, "ss").arg("-Hlntu"))?;
            Ok(table.split_whitespace().any(|word| word == address).then_some(()))
        })
    }

    /// Where linphone's daemon on `host` takes orders: it insists on `/tmp`.
    pub(super) fn socket(&self, host: &str) -> PathBuf {
        Path::new("/tmp").join(format!("{}-{host}", self.id))
    }

    /// tcpdump where the play wants it.
    pub(super) fn tap(&self, play: &Play, file: &Path) -> Result<Tap> {
        let (host, interface) = match &play.tap {
            Some(host) => (host.as_str(), INTERFACE),
            None => (SWITCH, SWITCH),
        };
        let mut tcpdump = self.on(host, "tcpdump");
        // As root, it would otherwise give up the right to write where we may.
        tcpdump.args(["-Z", "root", "-U", "-i", interface, "-w"]).arg(file).arg(match play.first_fragments {
            true => SIP.to_owned(),
            false => format!("{SIP} or {FRAGMENTS}"),
        });
        let running = Running::start("tcpdump", tcpdump, &self.dir.join("tcpdump.log"))?;
        wait_for("tcpdump captures", Duration::from_secs(10), || {
            Ok(running.output()?.contains("listening on").then_some(()))
        })?;
        Ok(Tap(running))
    }

    fn add(&mut self, host: &str) -> Result<String> {
        let name = format!("{}-{host}", self.id);
        lab::ip(&["netns", "add", &name])?;
        self.namespaces.insert(host.into(), name.clone());
        Ok(name)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for (host, namespace) in &self.namespaces {
            let _ = fs::remove_file(self.socket(host));
            // The veth pairs go with their namespaces.
            let _ = lab::ip(&["netns", "delete", namespace]);
        }
    }
}

pub(super) struct Tap(Running);

impl Tap {
    /// Ends it. The file is whole then.
    pub(super) fn stop(mut self) -> Result<()> {
        // libpcap hands packets over in blocks; let the last one come.
        pause(Duration::from_millis(1_200))?;
        self.0.signal(Signal::INT)?;
        self.0.succeed(Duration::from_secs(10))
    }
}
