//! SIGHUP: another configuration while a call is up.

use std::cell::Cell;
use std::fs;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::peers::Peers;
use super::subject::Subject;
use super::{END, Ground, Open, Seen, holds, inside};
use crate::children::pause;
use crate::daemon::transfer_of;
use crate::lab::{AGENT_INTERFACE, Lab, Side, address};
use crate::wire::{Sip, Trace, frames};

const OTHER_PORT: u16 = 5080;
const TUNNEL_PORT: u16 = 4790;

/// Ports, trunks and causes change under a call, which is judged all the same; nonsense changes nothing; another
/// interface is taken up.
pub(super) fn reloaded(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("reload")?;
    // Where the daemon may not look but for its configuration.
    let folder = Open::new("reload")?;
    let file = File(folder.0.join("sipobs.toml"));
    file.write("interfaces = [\"agent0\"]\n")?;
    let manager = UnixDatagram::bind(lab.dir.join("notify"))?;
    manager.set_read_timeout(Some(END))?;
    let plan = ground.plan(&lab).arguments(&["-c", &file.name()]).impatient();
    let mut subject = plan.set("NOTIFY_SOCKET", lab.dir.join("notify")).start()?;
    ensure!(heard(&manager)?.contains("READY=1"), "the service manager is not told of the start");
    let peers = Peers::new(&lab)?;
    let elsewhere = Elsewhere::new(&lab)?;
    let call = peers.call("across")?;
    call.refer()?;
    elsewhere.send("before")?;
    let metrics = subject.wait_count("sipobs_messages_total", &[], 5)?;
    ensure!(metrics.sum("sipobs_messages_total", &[])? == 5, "a message on another port was taken");

    let causes = folder.0.join("causes.toml");
    fs::write(&causes, CAUSES)?;
    let trunk = format!("[[trunk]]\nname = \"lab\"\ncidr = [\"{}\"]\n", address(Side::Trunk, 0));
    let jsonl = "[jsonl]\nnotices = true\n";
    file.write(&format!(
        "interfaces = [\"agent0\"]\nports = [5060, {OTHER_PORT}]\nvxlan_ports = [{TUNNEL_PORT}]\n{jsonl}[diagnosis]\n\
         path = {causes:?}\n{trunk}"
    ))?;
    subject.signal(Signal::HUP)?;
    subject.wait_said(
        "configuration reloaded: capture.ports, capture.vxlan_ports, diagnosis.path, trunk changed; only a restart \
         changes jsonl.notices",
    )?;
    holds(&heard(&manager)?, &["RELOADING=1", "MONOTONIC_USEC="])?;
    ensure!(heard(&manager)?.contains("READY=1"), "the service manager is not told of the end of it");
    let series = &["trunk=\"lab\"", "outcome=\"succeeded\""];
    ensure!(
        subject.metrics()?.text.contains("sipobs_alerts_total{trunk=\"lab\""),
        "no series of the new trunk"
    );
    elsewhere.send("after")?;
    elsewhere.send_in_tunnel("tunnelled")?;
    subject.wait_count("sipobs_messages_total", &[], 7)?;
    call.transferred()?;
    let across = settled(&mut subject, "across")?;
    ensure!(across["outcome"] == "succeeded" && across["trunk"] == "other", "the call across it: {across}");
    ensure!(across["quality"]["midcall"] == 0, "the call began after the reload: {across}");
    let next = peers.call("next")?;
    next.refer()?;
    next.transferred()?;
    let next = settled(&mut subject, "next")?;
    ensure!(
        next["trunk"] == "lab" && next["diagnosis"][0]["code"] == "own",
        "neither trunk nor cause: {next}"
    );
    subject.wait_count("sipobs_transfer_attempts_total", series, 1)?;

    for (text, complaint) in [
        ("interfaces = [\"agent0\"]\nports = [\"sip\"]\n", ":3:10: capture.ports[0]: "),
        ("interfaces = [\"agent0\"]\nports = [0]\n", "capture.ports[0]: invalid value: integer"),
        ("interfaces = [\"nowhere7\"]\n", "interface nowhere7: no such interface"),
        ("interfaces = [\"agent0\"]\n[[trunk]]\nname = \"x\"\n", "trunk \"x\": give at least one of"),
        ("interfaces = [\"lo\"]\n[diagnosis]\npath = \"nowhere.toml\"\n", "nowhere.toml: cannot be read"),
        ("interfaces = [\"lo\"]\n[privacy]\nmask = \"hash\"\n", "privacy.key: "),
    ] {
        file.write(text)?;
        subject.signal(Signal::HUP)?;
        subject.wait_said(complaint)?;
        ensure!(
            heard(&manager)?.contains("RELOADING=1") && heard(&manager)?.contains("READY=1"),
            "no word of it"
        );
    }
    let said = subject.said()?;
    let refused = said.matches("the configuration was not reloaded, and all goes on as before: ").count();
    ensure!(refused == 6, "{refused} were refused:\n{said}");
    // Root's daemon could read it, and so could any other, but for what was given up at the start.
    let closed = Open::new("reload-closed")?;
    let other = closed.0.join("causes.toml");
    fs::write(&other, CAUSES)?;
    let fenced = !said.contains("no Landlock");
    if fenced {
        file.write(&format!("interfaces = [\"lo\"]\n[diagnosis]\npath = {other:?}\n"))?;
        subject.signal(Signal::HUP)?;
        subject.wait_said(&format!(
            "not reloaded, and all goes on as before: {}: cannot be read: Permission denied (os error 13): the right \
             to read it was given up at the start, and a restart is needed\n",
            other.display()
        ))?;
        ensure!(
            heard(&manager)?.contains("RELOADING=1") && heard(&manager)?.contains("READY=1"),
            "no word of it"
        );
    }
    ensure!(attached(&subject, AGENT_INTERFACE)? == 2, "the interface was let go");
    elsewhere.send("still")?;
    let before = subject.wait_count("sipobs_messages_total", &[], 7 + 4 + 9 + 1)?;
    ensure!(before.sum("sipobs_messages_total", &[])? == 21, "{}", before.text);

    file.write(&format!("interfaces = [\"agent*\", \"lo\"]\nexclude = [\"agent0\"]\n{jsonl}"))?;
    subject.signal(Signal::HUP)?;
    subject.wait_said("capture.exclude, capture.interfaces, capture.ports, capture.vxlan_ports, diagnosis.path, trunk changed")?;
    ensure!(attached(&subject, AGENT_INTERFACE)? == 0, "an interface that is excluded is watched");
    ensure!(attached(&subject, "lo")? == 2, "an interface that is meant is not watched");
    let (_, said) = subject.stop(0, END)?;
    holds(&said, &["agent0: native XDP detached", "lo: "])?;
    let out_of_reach = if fenced { "nor one out of reach" } else { "no Landlock to keep one out of reach" };
    Ok(Seen::Passed(format!("the call across it is judged; six faulty ones change nothing, {out_of_reach}")))
}

/// A ConfigMap that changes under the daemon: nobody sends a signal.
pub(super) fn config_map(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("config-map")?;
    let folder = Open::new("config-map")?;
    let map = ConfigMap { folder: folder.0.clone(), version: Cell::new(0) };
    let every = "[reload]\nevery = \"1s\"\n";
    map.fill(&format!("[capture]\ninterfaces = [\"agent0\"]\n{every}"))?;
    symlink("..data/sipobs.toml", map.path())?;
    let mut subject = ground.plan(&lab).arguments(&["-c", &map.path().display().to_string()]).start()?;
    map.fill(&format!("[capture]\ninterfaces = [\"agent0\"]\nports = [\"sip\"]\n{every}"))?;
    subject.wait_said(":3:10: capture.ports[0]: ")?;
    pause(Duration::from_secs(4))?;
    let refused = subject.said()?.matches("the configuration was not reloaded").count();
    ensure!(refused == 1, "it says {refused} times that it is faulty");
    map.fill(&format!("[capture]\ninterfaces = [\"agent0\"]\nports = [{OTHER_PORT}]\n{every}"))?;
    subject.wait_said("configuration reloaded: capture.ports changed\n")?;
    Elsewhere::new(&lab)?.send("elsewhere")?;
    subject.wait_count("sipobs_messages_total", &[], 1)?;
    map.fill("[capture]\ninterfaces = [\"agent0\"]\n[reload]\nevery = \"0s\"\n")?;
    subject.wait_said("configuration reloaded: capture.ports, reload.every changed\n")?;
    map.fill("[capture]\ninterfaces = [\"lo\"]\n")?;
    pause(Duration::from_secs(4))?;
    let reloads = subject.said()?.matches("configuration reloaded").count();
    ensure!(reloads == 2, "{reloads} reloads, one of them after that was switched off");
    subject.signal(Signal::HUP)?;
    subject.wait_said("configuration reloaded: capture.interfaces, reload.every changed\n")?;
    subject.stop(0, END)?;
    Ok(Seen::Passed("taken up without a signal, until that is switched off".into()))
}

/// Files as kubelet lays them out: links through `..data`, which is swapped as a whole.
struct ConfigMap {
    folder: PathBuf,
    version: Cell<u32>,
}

impl ConfigMap {
    fn path(&self) -> PathBuf {
        self.folder.join("sipobs.toml")
    }

    fn fill(&self, text: &str) -> Result<()> {
        let at = |name: &str| self.folder.join(name);
        let old = format!("..{}", self.version.get());
        let new = format!("..{}", self.version.get() + 1);
        fs::create_dir(at(&new))?;
        fs::write(at(&new).join("sipobs.toml"), text)?;
        symlink(&new, at("..data_tmp"))?;
        fs::rename(at("..data_tmp"), at("..data"))?;
        if self.version.replace(self.version.get() + 1) > 0 {
            fs::remove_dir_all(at(&old))?;
        }
        Ok(())
    }
}

/// A terminal that is closed under the daemon ends it, whichever of its streams go there: it must not stay behind alone.
pub(super) fn hung_up(ground: &Ground) -> Result<Seen> {
    let redirected = ["</dev/null", "</dev/null >/dev/null", ">/dev/null 2>&1"];
    for streams in [""].into_iter().chain(redirected) {
        hung_up_with(ground, streams).with_context(|| format!("with {streams:?}"))?;
    }
    Ok(Seen::Passed("it ends in order, also where streams are redirected".into()))
}

fn hung_up_with(ground: &Ground, redirected: &str) -> Result<()> {
    let lab = Ground::lab("hangup")?;
    // A terminal whose other end is held by a process that goes when it is told to. The daemon is in a session of its
    // own there, which ends with that process, also if the row fails.
    let terminal = "import os, pty, sys, time\nchild, end = pty.fork()\nif child == 0: os.execvp('setpriv', ['setpriv', '--pdeathsig', 'KILL', *sys.argv[2:]])\n\
                    while not os.path.exists(sys.argv[1]): os.set_blocking(end, False); time.sleep(0.05)\nos.close(end)\n\
                    print('ended with', os.waitpid(child, 0)[1], flush=True)\ntime.sleep(60)\n";
    let gone = lab.dir.join("gone");
    let run = format!("exec \"$@\" {redirected}");
    let gone_name = gone.display().to_string();
    let plan = ground.plan(&lab).behind(["python3", "-c", terminal, &gone_name, "sh", "-c", &run, "sh"]);
    let mut subject = plan.start()?;
    fs::write(&gone, "")?;
    subject.wait_said("ended with 0")?;
    subject.kill()
}

/// A cause that sipobs does not know.
const CAUSES: &str = "[[row]]\ncode = \"own\"\nrank = 1\nwhen = { outcome = [\"succeeded\"] }\ncause = \"Likely ours.\"\n\
                      check = \"Look.\"\nbecause = \"So it is.\"\n";

/// The configuration. Another takes its place as a whole, as tools that write them do.
struct File(PathBuf);

impl File {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    /// Writes the section `capture`, and what follows in it.
    fn write(&self, capture: &str) -> Result<()> {
        let new: &Path = &self.0.with_extension("new");
        fs::write(new, format!("[capture]\n{capture}"))?;
        Ok(fs::rename(new, &self.0)?)
    }
}

/// Messages to a port that is not the usual one.
struct Elsewhere {
    socket: UdpSocket,
    to: SocketAddrV4,
}

impl Elsewhere {
    fn new(lab: &Lab) -> Result<Self> {
        let [from, to] =
            [Side::Trunk, Side::Agent].map(|side| SocketAddrV4::new(address(side, 0), OTHER_PORT));
        Ok(Self { socket: inside::udp(lab, Side::Trunk, from)?, to })
    }

    fn send(&self, id: &str) -> Result<()> {
        self.socket.send_to(&self.message(id), self.to)?;
        Ok(())
    }

    /// In a frame of its own, which a VXLAN (RFC 7348) carries.
    fn send_in_tunnel(&self, id: &str) -> Result<()> {
        let mut trace = Trace::new(Vec::new())?;
        let [from, to] = [1, 2].map(|host| SocketAddrV4::new([192, 0, 2, host].into(), 5060));
        trace.udp(0, from, to, &self.message(id));
        let file = trace.finish()?;
        let (_, frame) = frames(&file).next().context("no frame")?;
        let carried = [&[8, 0, 0, 0, 0, 0, 7, 0], frame].concat();
        self.socket.send_to(&carried, SocketAddrV4::new(*self.to.ip(), TUNNEL_PORT))?;
        Ok(())
    }

    fn message(&self, id: &str) -> Vec<u8> {
        let sip = Sip::request("OPTIONS", "sip:x@agent")
            .header("Via", format!("SIP/2.0/UDP {};branch=z9hG4bK{id}", self.to))
            .header("From", format!("<sip:a@x>;tag={id}"))
            .header("To", "<sip:b@x>")
            .header("Call-ID", id)
            .header("CSeq", "1 OPTIONS");
        sip.bytes()
    }
}

/// The next word to the service manager.
fn heard(manager: &UnixDatagram) -> Result<String> {
    let mut word = [0; 1024];
    let length = manager.recv(&mut word).context("nothing is said to the service manager")?;
    Ok(String::from_utf8_lossy(&word[..length]).into_owned())
}

fn settled(subject: &mut Subject<'_>, id: &str) -> Result<Value> {
    subject.wait(&format!("the verdict on {id}"), Duration::from_secs(60), |subject| {
        Ok(transfer_of(&subject.lines()?, id).cloned())
    })
}

fn attached(subject: &Subject<'_>, interface: &str) -> Result<u64> {
    Ok(subject
        .metrics()?
        .sum("sipobs_capture_attached", &[&format!("interface=\"{interface}\"")])
        .unwrap_or(0))
}
