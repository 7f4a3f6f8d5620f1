//! Files that a slip of the pen names: nothing is done to what is not the daemon's own, nothing of it told, and none
//! holds up the start.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::peers::Peers;
use super::subject::Plan;
use super::{END, Ground, Open, Seen, holds};
use crate::children::output;
use crate::collector::Collector;
use crate::lab::{AGENT_INTERFACE, Lab, Side, ip};

/// A line of a file that nobody should see.
const PRECIOUS: &str = "root:$6$q5ecret:19000:0:99999:7:::";

/// `state.path` on whatever is no state file.
pub(super) fn state(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("state-path")?;
    let others = Others::new(&lab)?;
    for (path, why) in &others.each() {
        let named = path.display();
        let said = others.untouched(|| ground.plan(&lab).set("SIPOBS_STATE__PATH", path).fails(2))?;
        holds(&said, &[&format!("state.path: {named}: left as it is"), why])?;
    }
    for path in ["/nowhere/state.json", "/dev/null/state.json"] {
        let said = ground.plan(&lab).set("SIPOBS_STATE__PATH", path).fails(2)?;
        holds(&said, &[&format!("state.path: {path}: its folder, ")])?;
    }
    // What takes its place later, or stands where it is written first.
    for name in ["state.json", "state.json.new"] {
        let folder = lab.dir.join(format!("own-{name}"));
        fs::create_dir(&folder)?;
        let plan = ground.plan(&lab).set("SIPOBS_STATE__PATH", folder.join("state.json"));
        let mut subject = plan.set("SIPOBS_STATE__EVERY", "1s").start()?;
        let place = folder.join(name);
        // It may be written just then.
        while fs::create_dir(&place).is_err() {
            let _ = fs::remove_file(&place);
        }
        fs::write(place.join("precious"), PRECIOUS)?;
        subject.wait_count("sipobs_state_write_failures_total", &[], 1)?;
        let (_, said) = subject.stop(1, END)?;
        holds(&said, &["cannot be written: is a directory, not a regular file"])?;
        ensure!(fs::read_to_string(place.join("precious"))? == PRECIOUS, "{name} was touched");
    }
    Ok(Seen::Passed(format!(
        "{} kinds refused with exit 2, and one that comes later is said",
        others.count()
    )))
}

/// `jsonl.path` on whatever holds no records.
pub(super) fn records(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("jsonl-path")?;
    let others = Others::new(&lab)?;
    let link = others.0.join("link");
    let said = others.untouched(|| ground.plan(&lab).set("SIPOBS_JSONL__PATH", &link).fails(2))?;
    holds(&said, &["holds something else than sipobs's records"])?;
    for (path, why) in others.each().iter().filter(|(path, _)| *path != link) {
        // A pipe may be meant, and a reader come too late.
        let why = match *why {
            "is a pipe" => "nobody reads this pipe",
            "was not written by sipobs" => "holds something else than sipobs's records: left as it is",
            why => why,
        };
        let said = others.untouched(|| ground.plan(&lab).set("SIPOBS_JSONL__PATH", path).fails(2))?;
        holds(&said, &[&format!("jsonl.path: cannot open {}: ", path.display()), why])?;
    }
    Ok(Seen::Passed("refused with exit 2, and left as they are".into()))
}

/// A configuration, causes and certificates that are no files, or endless.
pub(super) fn configuration(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("config-path")?;
    let others = Others::new(&lab)?;
    let large = lab.dir.join("large.toml");
    fs::write(&large, "# much\n".repeat(1 << 20))?;
    let mut files: Vec<(PathBuf, &str)> =
        vec![(large, "longer than 4096 KiB"), ("/dev/zero".into(), "is a device")];
    let unreadable = |it: &&(PathBuf, &str)| ["is a directory", "is a socket"].contains(&it.1);
    files.extend(others.each().iter().filter(unreadable).cloned());
    // A pipe is read, if somebody writes to it before long.
    let pipe = others.0.join("pipe").display().to_string();
    let said = ground.plan(&lab).arguments(&["-i", AGENT_INTERFACE, "-c", &pipe]).fails(2)?;
    holds(&said, &[&pipe, "is a pipe whose end did not come within 10s"])?;
    for (path, why) in &files {
        let named = path.display().to_string();
        let plans: [(Plan<'_>, &str); 3] = [
            (ground.plan(&lab).arguments(&["-i", AGENT_INTERFACE, "-c", &named]), ""),
            (ground.plan(&lab).set("SIPOBS_DIAGNOSIS__PATH", path), ""),
            (
                ground.plan(&lab).exporting("https://127.0.0.1:4317").set("SIPOBS_OTLP__CERTIFICATE", path),
                "otlp.certificate: ",
            ),
        ];
        for (plan, field) in plans {
            let said = others.untouched(|| plan.fails(2))?;
            holds(&said, &[field, &named, why.trim_start_matches("longer than 4096 KiB")])?;
        }
    }
    Ok(Seen::Passed(format!("{} kinds, in three places each: exit 2", files.len())))
}

/// A file that everybody has and that is none of ours, where causes should be: at the start, and on SIGHUP, from within
/// the configuration's folder and from outside.
pub(super) fn foreign(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("foreign-file")?;
    let folder = Open::new("foreign-file")?;
    let (config, beside) = (folder.0.join("sipobs.toml"), folder.0.join("shadow"));
    fs::write(&beside, format!("{PRECIOUS}\n"))?;
    let first_line =
        fs::read_to_string("/etc/passwd")?.lines().next().context("/etc/passwd is empty")?.to_owned();
    let quoted = |said: &str| said.contains("q5ecret") || said.contains(&first_line);
    let write = |rest: &str| fs::write(&config, format!("[capture]\ninterfaces = [\"agent0\"]\n{rest}"));
    let config_name = config.display().to_string();
    let plan = || ground.plan(&lab).arguments(&["-c", &config_name]);

    for (path, place) in [(&beside, ":1:35: key with no value"), (&PathBuf::from("/etc/passwd"), ":1:")] {
        write(&format!("[diagnosis]\npath = {path:?}\n"))?;
        let said = plan().fails(2)?;
        ensure!(!quoted(&said), "it is quoted:\n{said}");
        holds(&said, &[&format!("diagnosis.path: {}: diagnosis table: ", path.display()), &place[1..]])?;
        let named = path.display().to_string();
        let said = ground.plan(&lab).arguments(&["-i", "agent0", "-c", &named]).fails(2)?;
        ensure!(!quoted(&said), "it is quoted:\n{said}");
        holds(&said, &[&format!("{named}{place}")])?;
    }

    write("")?;
    let mut subject = plan().start()?;
    let fenced = !subject.said()?.contains("no Landlock");
    write(&format!("[diagnosis]\npath = {beside:?}\n"))?;
    subject.signal(Signal::HUP)?;
    subject.wait_said("diagnosis table: 1:35: ")?;
    for outside in ["/etc/passwd", "/proc/self/environ"] {
        write(&format!("[diagnosis]\npath = {outside:?}\n"))?;
        subject.signal(Signal::HUP)?;
        subject.wait_said(&format!("{outside}: "))?;
        if fenced {
            subject.wait_said(&format!("{outside}: cannot be read: Permission denied (os error 13)"))?;
        }
    }
    let (_, said) = subject.stop(0, END)?;
    ensure!(!quoted(&said), "it is quoted:\n{said}");
    let reach =
        if fenced { "and is out of reach outside its folder" } else { "no Landlock here to close the rest" };
    Ok(Seen::Passed(format!("said where, not what, {reach}")))
}

/// A whole life, in which the kernel forgets what it has cached of files: interfaces come, the configuration changes,
/// spans go to a collector that has a name. Nothing that the daemon opens for that is denied.
pub(super) fn closed(ground: &Ground) -> Result<Seen> {
    let lab = Ground::lab("closed")?;
    let folder = Open::new("closed")?;
    let (config, trace) = (folder.0.join("sipobs.toml"), lab.dir.join("trace"));
    let causes = folder.0.join("causes.toml");
    fs::write(&causes, "# none\n")?;
    let write = |ports: &str| {
        let new = config.with_extension("new");
        fs::write(
            &new,
            format!(
                "[capture]\ninterfaces = [\"agent*\"]\nports = [{ports}]\n[diagnosis]\npath = {causes:?}\n"
            ),
        )?;
        fs::rename(new, &config)
    };
    write("5060")?;
    let collector = Collector::start(&lab)?;
    let trace_name = trace.display().to_string();
    let traced = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        &trace_name,
        "-e",
        "trace=open,openat,openat2,creat,rename,unlink",
    ];
    let plan = ground.plan(&lab).arguments(&["-c", &config.display().to_string()]).behind(traced);
    let plan = plan.exporting("http://localhost:4318").set("SIPOBS_STATE__PATH", lab.dir.join("state.json"));
    let mut subject = plan.set("SIPOBS_STATE__EVERY", "1s").start()?;
    fs::write("/proc/sys/vm/drop_caches", "2").context("/proc/sys/vm/drop_caches")?;

    let peers = Peers::new(&lab)?;
    let call = peers.call("within")?;
    call.refer()?;
    call.transferred()?;
    subject.wait_count("sipobs_otlp_spans_acknowledged_total", &[], 1)?;
    collector.wait("a span", |spans| !spans.is_empty())?;
    let agent = lab.namespace_file(Side::Agent);
    let agent = agent.file_name().and_then(|name| name.to_str()).context("no name")?;
    ip(&["-n", agent, "link", "add", "agent7", "type", "veth", "peer", "name", "other7"])?;
    subject.wait_said("agent7: ")?;
    write("5060, 5080")?;
    subject.signal(Signal::HUP)?;
    subject.wait_said("configuration reloaded: capture.ports changed")?;
    subject.wait("the state is written", END, |_| Ok(lab.dir.join("state.json").exists().then_some(())))?;
    let (_, said) = subject.stop(0, END)?;

    let calls = fs::read_to_string(&trace)?;
    let denied: Vec<_> =
        calls.lines().filter(|line| line.contains("EACCES") || line.contains("EPERM")).collect();
    ensure!(denied.is_empty(), "denied:\n{}\nit said:\n{said}", denied.join("\n"));
    let opened = calls.lines().filter(|line| line.contains(" = ")).count();
    ensure!(
        calls.contains("/etc/hosts") && calls.contains("cpu/online") && opened > 20,
        "{opened} were traced"
    );
    Ok(Seen::Passed(format!("none of {opened} was denied")))
}

/// What is not the daemon's own, of every kind.
struct Others(PathBuf);

impl Others {
    fn new(lab: &Lab) -> Result<Self> {
        let folder = lab.dir.join("others");
        fs::create_dir(&folder)?;
        fs::create_dir(folder.join("folder"))?;
        fs::write(folder.join("folder/precious"), PRECIOUS)?;
        fs::write(folder.join("file"), format!("{PRECIOUS}\n"))?;
        fs::write(folder.join("other.json"), "{\"version\":1,\"trunks\":{}}")?;
        symlink("file", folder.join("link"))?;
        output(Command::new("mkfifo").arg(folder.join("pipe")))?;
        drop(UnixListener::bind(folder.join("socket"))?);
        output(Command::new("mknod").arg(folder.join("null")).args(["c", "1", "3"]))?;
        fs::set_permissions(folder.join("file"), fs::Permissions::from_mode(0o640))?;
        Ok(Self(folder))
    }

    /// Each with what is said of it.
    fn each(&self) -> Vec<(PathBuf, &'static str)> {
        let all = [
            ("folder", "is a directory"),
            ("folder/", "is a directory"),
            ("file", "was not written by sipobs"),
            ("other.json", "was not written by sipobs"),
            ("link", "is a symbolic link"),
            ("pipe", "is a pipe"),
            ("socket", "is a socket"),
            ("null", "is a device"),
        ];
        all.iter().map(|(name, why)| (self.0.join(name), *why)).collect()
    }

    fn count(&self) -> usize {
        self.each().len()
    }

    /// Does `work`, after which all must be as it was.
    fn untouched<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = facts(&self.0)?;
        let result = work()?;
        ensure!(facts(&self.0)? == before, "something was touched: {:?}, not {before:?}", facts(&self.0)?);
        Ok(result)
    }
}

/// What would show that a file was touched.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Facts {
    path: PathBuf,
    inode: u64,
    bytes: u64,
    modified: i64,
    text: Option<String>,
}

/// Everything in a folder.
fn facts(folder: &Path) -> Result<Vec<Facts>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        let text = metadata.is_file().then(|| fs::read_to_string(&path)).transpose()?;
        if metadata.is_dir() {
            all.extend(facts(&path)?);
        }
        // A pipe's is that of the last read.
        let modified = if metadata.file_type().is_fifo() { 0 } else { metadata.mtime_nsec() };
        all.push(Facts { path, inode: metadata.ino(), bytes: metadata.len(), modified, text });
    }
    all.sort();
    Ok(all)
}
