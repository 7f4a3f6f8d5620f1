//! What the daemon needs of root's power, and what it keeps of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::subject::{Plan, Subject};
use super::{END, Ground, Open, Seen, holds};

/// As setpriv(1) and as the daemon call them, with their numbers (linux/capability.h).
const NEEDED: [(&str, &str, u32); 3] =
    [("bpf", "CAP_BPF", 39), ("net_admin", "CAP_NET_ADMIN", 12), ("perfmon", "CAP_PERFMON", PERFMON)];
const PERFMON: u32 = 38;
/// For larger rings, where root has it to give.
const IPC_LOCK: u32 = 14;
/// For perf rings, where [`perf_needs_sys_admin`].
const SYS_ADMIN: u32 = 21;

/// As a user without any other right: with all three it captures; with one missing, it says which. Without CAP_PERFMON
/// there are no perf rings, but others.
pub(super) fn capabilities(ground: &Ground) -> Result<Seen> {
    for name in ["perf_event_paranoid", "unprivileged_bpf_disabled"] {
        let value = knob(name)?;
        if value < 1 {
            return Ok(Seen::Skipped(format!("kernel.{name} is {value}: less is needed than elsewhere")));
        }
    }
    let lab = Ground::lab("capabilities")?;
    let open = Open::new("capabilities")?;
    let sipobs = open.0.join("sipobs");
    fs::copy(&ground.sipobs, &sipobs)?;
    let plan = |missing: Option<&str>| {
        let held = NEEDED.iter().map(|(name, ..)| *name).filter(|name| Some(*name) != missing);
        // Not in the lab's folder: it is root's.
        let jsonl = open.0.join("capabilities.jsonl");
        Plan::new(&lab, &sipobs).set("SIPOBS_JSONL__PATH", jsonl).behind(with_only(held))
    };

    let subject = plan(None).start()?;
    kept(&subject, three())?;
    subject.stop(0, END)?;
    holds(&plan(None).arguments(&["-i", "agent0"]).checks(0)?, &["This machine can capture."])?;

    let [needed @ .., (perfmon, ..)] = NEEDED;
    for (name, capability, _) in needed {
        let said = plan(Some(name)).fails(3)?;
        holds(&said, &["cannot capture: ", &format!("not permitted; missing {capability}\n")])?;
        let said = plan(Some(name)).checks(3)?;
        let (_, problems) = said.split_once("This machine cannot capture:\n").context("no verdict")?;
        holds(problems, &[&format!("not permitted; missing {capability}\n")])?;
        let others = NEEDED.iter().filter(|(other, ..)| *other != name);
        for (_, other, _) in others {
            ensure!(!problems.contains(other), "{other} was there:\n{problems}");
        }
    }
    let missing = if perf_needs_sys_admin()? { "and CAP_SYS_ADMIN missing" } else { "missing CAP_PERFMON" };
    let mut subject = plan(Some(perfmon)).start()?;
    subject.wait_said("no perf rings: not permitted: ")?;
    subject.wait_said(missing)?;
    kept(&subject, three() & !(1 << PERFMON))?;
    subject.stop(0, END)?;
    let said = plan(Some(perfmon)).set("SIPOBS_CAPTURE__RING", "perf").fails(3)?;
    holds(
        &said,
        &["cannot capture: opening perf rings: not permitted: ", missing, "capture.ring = \"auto\""],
    )?;
    Ok(Seen::Passed(
        "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and not one more; each named when missing, the last replaced"
            .into(),
    ))
}

/// Started by root, it gives up the rest by itself.
pub(super) fn shed(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("shed")?;
    let subject = ground.plan(&lab).start()?;
    let ours = field(&fs::read_to_string("/proc/self/status")?, "CapEff")?;
    let admin = if perf_needs_sys_admin()? { 1 << SYS_ADMIN } else { 0 };
    let all = three() | ours & (1 << IPC_LOCK | admin);
    let threads = kept(&subject, all)?;
    let (_, said) = subject.stop(0, END)?;
    ensure!(!said.contains("could not be"), "something could not be shed:\n{said}");
    Ok(Seen::Passed(format!("{threads} threads hold {all:#x}, and no_new_privs")))
}

/// Debian's and Ubuntu's kernels have such a level, and start with it.
fn perf_needs_sys_admin() -> Result<bool> {
    Ok(knob("perf_event_paranoid")? > 2)
}

fn knob(name: &str) -> Result<i32> {
    let path = format!("/proc/sys/kernel/{name}");
    Ok(fs::read_to_string(&path).context(path)?.trim().parse()?)
}

fn three() -> u64 {
    NEEDED.iter().fold(0, |mask, (.., bit)| mask | 1 << bit)
}

/// A command line's beginning: as nobody, with these capabilities and no other.
fn with_only<'a>(held: impl Iterator<Item = &'a str>) -> Vec<String> {
    let sets = held.fold("-all".to_owned(), |sets, name| format!("{sets},+{name}"));
    let mut words = vec!["setpriv".to_owned(), "--reuid=65534".into(), "--regid=65534".into()];
    words.push("--clear-groups".into());
    words.extend(["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}={sets}")));
    words
}

/// Every thread of the daemon holds just `wanted`, and can gain nothing. Gives how many threads there are.
fn kept(subject: &Subject<'_>, wanted: u64) -> Result<usize> {
    let tasks = Path::new("/proc").join(subject.pid().to_string()).join("task");
    let mut threads = 0;
    for task in fs::read_dir(&tasks)? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let name = status.lines().next().unwrap_or_default().to_owned();
        for set in ["CapEff", "CapPrm"] {
            let held = field(&status, set)?;
            ensure!(held == wanted, "{name}: {set} is {held:#x}, not {wanted:#x}");
        }
        ensure!(field(&status, "NoNewPrivs")? == 1, "{name}: no_new_privs is not set");
        ensure!(field(&status, "Seccomp")? == 2, "{name}: every system call is allowed");
        threads += 1;
    }
    Ok(threads)
}

fn field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.with_context(|| format!("/proc/…/status has no {name}"))?.trim();
    u64::from_str_radix(value, 16).with_context(|| format!("{name}: {value}"))
}
