//! A guest under another kernel: what it is given, its run, and what it reports.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::debian::Kernel;
use super::machines::Machine;
use crate::children::{Running, output};
use crate::lab::AGENT_NETWORK;
use crate::setup;

/// Boot, replay and verdicts take up to four minutes where a guest with eight CPUs has another beside it, by software
/// emulation.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// The guest's first process.
const INIT: &str = include_str!("init.sh");
/// What may not be built into the kernel, each after those it needs.
const MODULES: [&str; 11] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "veth",
    "sch_ingress",
    "cls_bpf",
];

/// What a guest runs, the same under every kernel.
#[derive(Debug)]
pub(super) struct Load<'a> {
    /// The program, built with live capture.
    pub(super) sipobs: &'a Path,
    /// What is replayed.
    pub(super) capture: &'a Path,
    /// How many transfers are in it.
    pub(super) transfers: usize,
}

/// What a guest wrote, line by line, under the words its lines began with.
#[derive(Debug, Default)]
pub(super) struct Report(BTreeMap<String, Vec<String>>);

impl Report {
    pub(super) fn lines(&self, kind: &str) -> &[String] {
        self.0.get(kind).map_or(&[], Vec::as_slice)
    }

    pub(super) fn text(&self, kind: &str) -> String {
        self.lines(kind).join("\n")
    }

    fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            report.0.entry(kind.to_owned()).or_default().push(rest.to_owned());
        }
        report
    }
}

/// How often a guest is booted whose kernel dies before its first process. Emulated CPUs now and then miss that another
/// has rewritten an instruction, as kernels do while they start (`Oops: int3`).
const BOOTS: u32 = 3;

/// Boots `kernel` on `machine`, lets it run `load` there, and gives its report.
pub(super) fn run(kernel: &Kernel, load: &Load, machine: &Machine, dir: &Path) -> Result<Report> {
    let initrd = initrd(kernel, load, machine, dir)?;
    let console = dir.join("console.log");
    let mut boots = 1;
    loop {
        let report = boot(kernel, machine, &initrd, dir).with_context(|| tail(&console))?;
        if report.lines("release").is_empty() && boots < BOOTS {
            boots += 1;
            continue;
        }
        ensure!(!report.lines("end").is_empty(), "the guest did not come to an end:\n{}", tail(&console));
        return Ok(report);
    }
}

/// Boots it once. Gives what it reported, which is nothing if it died before.
fn boot(kernel: &Kernel, machine: &Machine, initrd: &Path, dir: &Path) -> Result<Report> {
    let report = dir.join("report.txt");
    let mut qemu = Command::new("qemu-system-x86_64");
    // cmpxchg16b goes wrong in the emulation of some versions, and Linux dies of it.
    qemu.args(["-accel", "tcg", "-cpu", "qemu64,-cx16", "-m", "1024"]);
    qemu.args(["-smp", &machine.cpus.to_string()]);
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot", "-append", "console=ttyS0 quiet panic=-1"]);
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initrd);
    for port in [&dir.join("console.log"), &report] {
        qemu.arg("-serial").arg(format!("file:{}", port.display()));
    }
    // What one of them sends the other receives, and nothing leaves the guest.
    for (end, wire) in [("a", 0), ("b", 0), ("c", 1), ("d", 1)] {
        qemu.arg("-netdev").arg(format!("hubport,id={end},hubid={wire}"));
        qemu.arg("-device").arg(format!("virtio-net-pci,netdev={end},romfile="));
    }
    Running::start("qemu", qemu, &dir.join("qemu.log"))?.succeed(LIMIT)?;
    let text = fs::read(&report).with_context(|| report.display().to_string())?;
    Ok(Report::parse(&String::from_utf8_lossy(&text)))
}

/// The last lines of the guest's console.
fn tail(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// The guest's files, as the kernel unpacks them.
fn initrd(kernel: &Kernel, load: &Load, machine: &Machine, dir: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    for folder in ["bin", "host", "modules"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(program("busybox")?, root.join("bin/busybox"))?;
    let sipobs = root.join("host/sipobs");
    output(Command::new("strip").arg("-o").arg(&sipobs).arg(load.sipobs))?;
    // Busybox has an `ip` of its own, which cannot name the other end of a pair.
    for name in ["ip", "setpriv", "tcpreplay"] {
        fs::copy(program(name)?, root.join("host").join(name))?;
    }
    for name in ["sipobs", "ip", "setpriv", "tcpreplay"] {
        libraries(&root.join("host").join(name), &root)?;
    }

    let mut order = String::new();
    for name in MODULES {
        if let Some(module) = kernel.module(name)? {
            fs::write(root.join("modules").join(name), module)?;
            order += name;
            order.push('\n');
        }
    }
    fs::write(root.join("modules/order"), order)?;

    fs::copy(load.capture, root.join("capture.pcap"))?;
    let mut prepare = Command::new("tcpprep");
    prepare.arg(format!("--cidr={AGENT_NETWORK}")).arg("--pcap").arg(load.capture);
    output(prepare.arg("--cachefile").arg(root.join("directions.cache")))?;
    fs::write(root.join("expected"), load.transfers.to_string())?;
    let ways: String = machine.ways.iter().map(|way| format!("{}\n", way.line())).collect();
    fs::write(root.join("ways"), ways)?;
    let settings: String = machine.settings.iter().map(|setting| format!("{}\n", setting.line())).collect();
    fs::write(root.join("settings"), settings)?;
    if machine.late_cpu {
        fs::write(root.join("late"), (machine.cpus - 1).to_string())?;
    }
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;

    let archive = dir.join("initrd");
    let mut pack = Command::new("sh");
    pack.args(["-c", "find . | cpio --quiet --create --format=newc >../initrd"]).current_dir(&root);
    output(&mut pack)?;
    fs::remove_dir_all(root)?;
    Ok(archive)
}

/// Copies the shared libraries of `program` to where it looks for them.
fn libraries(program: &Path, root: &Path) -> Result<()> {
    let listed = output(Command::new("ldd").arg(program))?;
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library without a folder")?)?;
        fs::copy(library, &to).with_context(|| library.to_owned())?;
    }
    Ok(())
}

fn program(name: &str) -> Result<PathBuf> {
    setup::find(name).with_context(|| format!("no {name}"))
}
