//! What the machine and whoever configures it can do to the daemon.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::identity::pinned;
use super::inside::{self, Programs};
use super::peers::Peers;
use super::{END, Frames, Ground, Seen, holds};
use crate::children::{output, pause, wait_for};
use crate::lab::{AGENT_INTERFACE, Side};
use crate::live::RINGS;

/// The last CPU goes and comes back. It goes for all of the machine, hence only where it is asked for.
pub(super) fn cpu(ground: &Ground) -> Result<Seen> {
    const ASKED: &str = "SIPOBS_TEST_CPU";
    if std::env::var_os(ASKED).is_none() {
        return Ok(Seen::Skipped(format!(
            "it takes a CPU from the whole machine; set {ASKED}=1 to allow it"
        )));
    }
    let number = std::thread::available_parallelism()?.get() - 1;
    let switch = PathBuf::from(format!("/sys/devices/system/cpu/cpu{number}/online"));
    if number == 0 || !switch.exists() {
        return Ok(Seen::Skipped("no CPU here can be taken offline".into()));
    }
    let off = Offline(switch);
    if let Err(error) = fs::write(&off.0, "0") {
        return Ok(Seen::Skipped(format!("{}: {error}", off.0.display())));
    }
    let seen = RINGS.map(|ring| cpu_of(ring, ground, number, &off).context(ring));
    Ok(Seen::Passed(seen.into_iter().collect::<Result<Vec<_>>>()?.join("; ")))
}

fn cpu_of(ring: &str, ground: &Ground, number: usize, off: &Offline) -> Result<String> {
    fs::write(&off.0, "1")?;
    let lab = Ground::lab("cpu")?;
    let peers = Peers::new(&lab)?;
    let mut subject = ground.plan(&lab).set("SIPOBS_CAPTURE__RING", ring).start()?;
    pinned(number, || peers.flood(10))?;
    subject.wait_count("sipobs_messages_total", &[], 10)?;
    fs::write(&off.0, "0")?;
    pinned(0, || peers.flood(10))?;
    subject.wait_count("sipobs_messages_total", &[], 20)?;
    fs::write(&off.0, "1")?;
    // Away for less than a look around, or for more: at the latest when it could not write, its ring is anew.
    pinned(number, || peers.flood(10))?;
    pause(Duration::from_millis(1500))?;
    pinned(number, || peers.flood(10))?;
    let metrics = subject.wait_count("sipobs_messages_total", &[], 30)?;
    let frames = Frames::accounted(&metrics)?;
    ensure!(frames.delivered + frames.lost == 40, "40 messages were sent: {frames:?}");
    subject.stop(0, END)?;
    Ok(format!("{ring}: CPU {number} is read again: {frames:?}"))
}

/// A CPU that comes back when this is dropped.
struct Offline(PathBuf);

impl Drop for Offline {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "1");
    }
}

/// The wall clock is set by an hour, forth and back, while a call is up. It is the whole machine's, so the daemon
/// alone is made to see that, by libfaketime before its C library; the monotonic clock stays the kernel's.
pub(super) fn clock(ground: &Ground) -> Result<Seen> {
    let Some(library) = faketime() else { return Ok(Seen::Skipped("libfaketime is not installed".into())) };
    let lab = Ground::lab("clock")?;
    let ahead = lab.dir.join("ahead");
    let set = |offset: &str| fs::write(&ahead, format!("{offset}\n"));
    set("+0")?;
    let environment = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", ahead.display()),
        "FAKETIME_NO_CACHE=1".into(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
    ];
    // The library reads from within the daemon, which is why something of the daemon's own is in the same folder.
    let plan = ground.plan(&lab).impatient().set("SIPOBS_STATE__PATH", lab.dir.join("state.json"));
    let plan = plan.set("SIPOBS_TIMERS__ENDED", "1s");
    let mut subject = plan.behind([&["env".to_owned()], &environment[..]].concat()).start()?;
    let peers = Peers::new(&lab)?;
    for (round, (offset, words)) in
        [("+3600", "set by +3600 s"), ("+0", "set by -3600 s")].into_iter().enumerate()
    {
        let call = peers.call(&format!("round{round}"))?;
        call.refer()?;
        subject.wait_count("sipobs_messages_total", &[], 9 * round as u64 + 5)?;
        set(offset)?;
        subject.wait_said(words)?;
        let metrics = subject.metrics()?;
        ensure!(metrics.text.contains("sipobs_capture_clock_step_seconds"), "no gauge of the step");
        if round == 0 {
            let step = metrics.sum("sipobs_capture_clock_step_seconds", &[])?;
            ensure!((3598..=3602).contains(&step), "the step is {step} s");
        }
        // No timer has fired: the verdict is the call's.
        call.transferred()?;
        subject.wait("the verdict, and the new time", END * 2, |subject| {
            let step = subject.metrics()?.text;
            let step = step.lines().find_map(|line| line.strip_prefix("sipobs_capture_clock_step_seconds "));
            let followed =
                step.and_then(|step| step.parse::<f64>().ok()).is_some_and(|step| step.abs() < 1.0);
            Ok((followed && subject.lines()?.len() >= 2 * (round + 1)).then_some(()))
        })?;
    }
    let (lines, said) = subject.stop(0, END)?;
    let transfers: Vec<_> = lines.iter().filter(|line| line["kind"] == "transfer").collect();
    ensure!(transfers.len() == 2, "{} transfers: {lines:?}", transfers.len());
    for transfer in &transfers {
        let took = transfer["duration_ms"].as_f64().context("no duration")?;
        ensure!(transfer["outcome"] == "succeeded", "settled as {}", transfer["outcome"]);
        ensure!((0.0..60_000.0).contains(&took), "it took {took} ms");
    }
    let hour = |line: &serde_json::Value| line["started"].as_str().map(|text| text[..13].to_owned());
    ensure!(hour(transfers[0]) != hour(transfers[1]), "the second call's time is not the new one: {lines:?}");
    ensure!(said.matches("the wall clock was set").count() == 2, "{said}");
    Ok(Seen::Passed("each said once; calls that were up judged right; times follow afterwards".into()))
}

fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|library| library.exists())
}

/// A kernel that calls itself 2.6, as far as the daemon can tell (personality(2), UNAME26): no tcx, so clsact filters,
/// which outlive a kill. What the kernel refuses rather than lacks by its number is in `sipobs/tests/live/lacking.rs`;
/// real ones are booted by `cargo xtask kernels`.
pub(super) fn old_kernel(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("old-kernel")?;
    let plan = |arguments| ground.plan(&lab).arguments(arguments).behind(["setarch", "--uname-2.6"]);
    let said = plan(&["-i", AGENT_INTERFACE]).checks(0)?;
    holds(&said, &["no  tcx (6.6)", "not tcx egress: needs Linux 6.6", "This machine can capture."])?;
    let filters = || -> Result<[usize; 2]> {
        let count = |way| -> Result<usize> {
            let mut tc = lab.inside(Side::Agent, "tc");
            let shown = output(tc.args(["filter", "show", "dev", AGENT_INTERFACE, way]))?;
            Ok(shown.matches(" handle 0x515060 sipobs_tc_").count())
        };
        Ok([count("ingress")?, count("egress")?])
    };
    let peers = Peers::new(&lab)?;
    let start = || plan(&["-i", AGENT_INTERFACE, "--mode", "tc"]).start();
    for round in 0..3 {
        let mut subject = start()?;
        ensure!(filters()? == [1, 1], "start {round}: not one filter each way: {:?}", filters()?);
        let call = peers.call(&format!("round{round}"))?;
        call.refer()?;
        call.transferred()?;
        let metrics = subject.wait_count("sipobs_messages_total", &[], 9)?;
        ensure!(Frames::accounted(&metrics)?.delivered == 9, "start {round}: {}", metrics.text);
        let why = "needs Linux 6.6)";
        let said = subject.said()?;
        holds(&said, &["clsact ingress (tcx ingress: ", "clsact egress (tcx egress: ", why])?;
        subject.kill()?;
        ensure!(filters()? == [1, 1], "kill {round}: {:?} filters", filters()?);
    }
    start()?.stop(0, END)?;
    ensure!(filters()? == [0, 0], "after an end in order: {:?} filters", filters()?);
    Ok(Seen::Passed("clsact both ways; after each of 3 kills one filter each way, after an end none".into()))
}

/// State and records on a disk that is full, and then has room again.
pub(super) fn disk_full(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("disk-full")?;
    let disk = lab.dir.join("disk");
    fs::create_dir(&disk)?;
    // `ip netns exec` gives the daemon mounts of its own: this one is nobody else's, and goes with it.
    let mount =
        "mount -t tmpfs -o size=64k none \"$0\" && ! head -c 1M /dev/zero 2>&- >\"$0/full\" && exec \"$@\"";
    let plan = ground.plan(&lab).impatient().behind(["bash", "-c", mount, &disk.display().to_string()]);
    let plan = plan.set("SIPOBS_STATE__PATH", disk.join("state.json")).set("SIPOBS_STATE__EVERY", "1s");
    let mut subject = plan.set("SIPOBS_JSONL__PATH", disk.join("records.jsonl")).start()?;
    let peers = Peers::new(&lab)?;
    let transfer = |id: &str| -> Result<()> {
        let call = peers.call(id)?;
        call.refer()?;
        call.transferred()
    };
    transfer("full")?;
    subject.wait_count("sipobs_state_write_failures_total", &[], 2)?;
    subject.wait_count("sipobs_outputs_dropped_total", &["sink=\"jsonl\""], 1)?;
    let full = "No space left on device";
    let said = subject.said()?;
    holds(
        &said,
        &[&format!("cannot be written: {full}"), &format!("the output jsonl cannot be written: {full}")],
    )?;
    ensure!(said.matches("state.path").count() == 1, "it repeats itself:\n{said}");

    let seen_by_it = |file: &str| {
        let root = Path::new("/proc").join(subject.pid().to_string()).join("root");
        root.join(disk.strip_prefix("/").unwrap_or(&disk)).join(file)
    };
    fs::remove_file(seen_by_it("full"))?;
    wait_for("the state is written", Duration::from_secs(5), || {
        Ok(fs::metadata(seen_by_it("state.json")).is_ok_and(|file| file.len() > 0).then_some(()))
    })?;
    transfer("room")?;
    let records = wait_for("the record is written", Duration::from_secs(60), || {
        let text = fs::read_to_string(seen_by_it("records.jsonl")).unwrap_or_default();
        Ok((text.ends_with('\n') && text.contains("\"room\"")).then_some(text))
    })?;
    crate::daemon::json_lines(&records).context("what was written once there was room")?;
    subject.stop(0, END)?;
    Ok(Seen::Passed("said once, every failed write counted, and written again once there was room".into()))
}

/// The state on a disk that hangs, as a file server does that is gone.
pub(super) fn disk_hangs(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("disk-hangs")?;
    // The daemon alone is made to see that, by a library before its C library.
    let (source, library) = (lab.dir.join("hangs.c"), lab.dir.join("hangs.so"));
    fs::write(&source, "#include <unistd.h>\nint fsync(int file) { for (;;) pause(); }\n")?;
    output(Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]))?;
    let hanging = ["env".to_owned(), format!("LD_PRELOAD={}", library.display())];
    let plan = ground.plan(&lab).set("SIPOBS_STATE__PATH", lab.dir.join("state.json")).behind(hanging);
    let subject = plan.set("SIPOBS_STATE__EVERY", "1s").start()?;
    pause(Duration::from_millis(2500))?;
    let start = Instant::now();
    let (_, said) = subject.stop(1, END)?;
    holds(&said, &["state.json: takes no more: what was learned last is lost"])?;
    Ok(Seen::Passed(format!("given up after {:.1} s, exit 1", start.elapsed().as_secs_f32())))
}

/// A value of the wrong kind, a field that is none, and fields that do not fit together.
pub(super) fn malformed_config(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("config")?;
    let file = lab.dir.join("faulty.toml");
    let name = file.display().to_string();
    for (text, place) in [
        ("[capture]\nports = [5060, \"sip\"]\n", ":2:16: capture.ports[1]: "),
        ("[otlp]\n\nendpont = \"http://c:4317\"\n", ":3:1: otlp.endpont: unknown field `endpont`"),
        ("[capture\n", ":1:9: "),
    ] {
        fs::write(&file, text)?;
        let said = ground.plan(&lab).arguments(&["-i", "agent0", "-c", &name]).fails(2)?;
        holds(&said, &[&format!("{name}{place}")])?;
        ensure!(said.lines().count() == 1, "more than a line:\n{said}");
    }
    fs::write(&file, "[capture]\nports = [0]\n")?;
    let said = ground.plan(&lab).arguments(&["-i", "agent0", "-c", &name]).fails(2)?;
    holds(&said, &["capture.ports[0]: invalid value: integer, expected a port from 1 to 65535"])?;
    Ok(Seen::Passed("exit 2, with file, line, column and field".into()))
}

/// Something else serves on our port.
pub(super) fn port_in_use(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("port")?;
    let _other = inside::listen(&lab, Side::Agent, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9464))?;
    let said = ground.plan(&lab).fails(2)?;
    holds(&said, &["metrics.listen: cannot listen on 127.0.0.1:9464: Address already in use"])?;
    ensure!(Programs::of(&lab)?.count() == 0, "a program was attached");
    Ok(Seen::Passed("exit 2, and its address".into()))
}
