//! Captures of the lab's wire by tcpdump, and their replay.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::calls::{self, Story};
use crate::children::{Running, output, pause, run, wait_for};
use crate::lab::{AGENT_INTERFACE, AGENT_NETWORK, Lab, Side, TRUNK_INTERFACE};
use crate::{root, setup};

/// The lab's calls, as they were once recorded: what the demo shows where nothing can be captured.
pub(crate) fn shipped() -> PathBuf {
    root().join("xtask/captures/lab.pcap")
}

/// `cargo xtask record`: the lab's calls into `file`.
pub(crate) fn record(file: &Path) -> Result<()> {
    setup::ensure(&[setup::Need::Lab, setup::Need::Checks])?;
    let lab = Lab::new(&crate::scratch("record")?)?;
    let tap = Tap::start(&lab, file)?;
    calls::place(&lab, &Story::ALL)?;
    tap.stop()?;
    println!("{} holds the lab's calls.", file.display());
    Ok(())
}

/// tcpdump on the agent's end of the wire.
pub(crate) struct Tap(Running);

impl Tap {
    /// Starts it and waits until it captures.
    pub(crate) fn start(lab: &Lab, file: &Path) -> Result<Self> {
        Self::start_on(lab, file, "port 5060")
    }

    /// The same for packets that fit another filter.
    pub(crate) fn start_on(lab: &Lab, file: &Path, filter: &str) -> Result<Self> {
        let mut tcpdump = lab.inside(Side::Agent, "tcpdump");
        // As root, it would otherwise give up the right to write where we may.
        tcpdump.args(["-Z", "root", "-U", "-i", AGENT_INTERFACE, "-w"]).arg(file).arg(filter);
        let running = Running::start("tcpdump", tcpdump, &lab.dir.join("tcpdump.log"))?;
        wait_for("tcpdump captures", Duration::from_secs(10), || {
            Ok(running.output()?.contains("listening on").then_some(()))
        })?;
        Ok(Self(running))
    }

    /// Ends it. The file is whole then.
    pub(crate) fn stop(mut self) -> Result<()> {
        // libpcap hands packets over in blocks; let the last one come.
        pause(Duration::from_millis(1_200))?;
        self.0.signal(Signal::INT)?;
        self.0.succeed(Duration::from_secs(10))
    }
}

/// Sends the frames of a lab's capture at their own pace: those that the agent sent out of its end, the others
/// into it, so that each crosses the end in the direction it once had. `lab` is one made for replays.
pub(crate) fn replay(lab: &Lab, capture: &Path) -> Result<()> {
    replay_at(lab, capture, AGENT_NETWORK)
}

/// The same for any capture; the agent's end is where `agent` is, an address or a network.
pub(crate) fn replay_at(lab: &Lab, capture: &Path, agent: &str) -> Result<()> {
    replay_into(lab, capture, &format!("--cidr={agent}"), ENDS)
}

/// The same by way of other interfaces: what the agent sends goes into the first, the rest into the second. Which is
/// which tcpprep is told as it likes it.
pub(crate) fn replay_into(lab: &Lab, capture: &Path, split: &str, interfaces: [&str; 2]) -> Result<()> {
    let mut tcpreplay = replayer_into(lab, capture, split, interfaces)?;
    tcpreplay.arg(capture).stdout(std::process::Stdio::null());
    run(&mut tcpreplay, Duration::from_secs(900))
}

/// tcpreplay as [`replay`] runs it, but for the name of the capture, which comes last.
pub(crate) fn replayer(lab: &Lab, capture: &Path) -> Result<Command> {
    replayer_at(lab, capture, AGENT_NETWORK)
}

/// The same for any capture, as [`replay_at`].
pub(crate) fn replayer_at(lab: &Lab, capture: &Path, agent: &str) -> Result<Command> {
    replayer_into(lab, capture, &format!("--cidr={agent}"), ENDS)
}

/// The lab's wire.
pub(crate) const ENDS: [&str; 2] = [AGENT_INTERFACE, TRUNK_INTERFACE];

fn replayer_into(lab: &Lab, capture: &Path, split: &str, interfaces: [&str; 2]) -> Result<Command> {
    // Several may be played at once.
    let name = capture.file_stem().unwrap_or_default().to_string_lossy();
    let directions = lab.dir.join(format!("{name}.directions"));
    let mut prepare = Command::new("tcpprep");
    prepare.arg(split).arg("--pcap").arg(capture).arg("--cachefile").arg(&directions);
    output(&mut prepare).context("tcpprep")?;
    let mut tcpreplay = lab.inside(Side::Agent, "tcpreplay");
    // tcpprep calls those it is told of "server"; their frames leave by the first interface.
    tcpreplay.args(["--quiet", "--intf1", interfaces[0], "--intf2", interfaces[1], "--cachefile"]);
    tcpreplay.arg(&directions);
    Ok(tcpreplay)
}
