//! Child processes that never outlive the chore that started them, and waits that always end.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// How often a wait looks again.
const TICK: Duration = Duration::from_millis(10);

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Turns Ctrl-C and SIGTERM into an error at the next wait, so that everything is taken down in order.
pub(crate) fn watch_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        // The second one ends us at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, INTERRUPTED.clone())?;
        signal_hook::flag::register(signal, INTERRUPTED.clone())?;
    }
    Ok(())
}

/// Fails once Ctrl-C or SIGTERM was received.
pub(crate) fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, unless interrupted.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check_interrupt()?;
        sleep(TICK.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Asks `question` until it gives something, for at most `limit`.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        check_interrupt()?;
        if let Some(answer) = question()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        sleep(TICK);
    }
}

/// A child in a process group of its own, with its output in a file. Dropping it ends the whole group.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` with its standard output and error in `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        check_interrupt()?;
        let out = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out).process_group(0);
        let child = command.spawn().with_context(|| format!("{name}: {}", line(&command)))?;
        Ok(Self { name: name.into(), child, log: log.into(), status: None })
    }

    /// Starts `command` with its standard output where the command says and its standard error in `log`.
    pub(crate) fn start_shown(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        check_interrupt()?;
        let out = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stderr(out).process_group(0);
        let child = command.spawn().with_context(|| format!("{name}: {}", line(&command)))?;
        Ok(Self { name: name.into(), child, log: log.into(), status: None })
    }

    /// What it was started as.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it has had resident, in KiB, while it runs.
    pub(crate) fn peak_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    }

    /// CPU seconds it has used so far, the user's and the system's, while it runs; in steps of a hundredth.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold anything: proc_pid_stat(5) counts these as 14 and 15.
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
        let ticks = |index: usize| fields.as_ref()?.get(index)?.parse::<u32>().ok();
        let (user, system) = ticks(11).zip(ticks(12)).context("/proc/PID/stat has no times")?;
        #[allow(clippy::cast_precision_loss, reason = "100, as a rule")]
        let a_second = rustix::param::clock_ticks_per_second() as f64;
        Ok((f64::from(user) + f64::from(system)) / a_second)
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits until it ends by itself; ends it, and fails, after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait_for(&name, limit, || self.ended()).inspect_err(|_| self.end())
    }

    /// Waits for a successful end.
    pub(crate) fn succeed(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if status.success() {
            return Ok(());
        }
        bail!("{} ended with {status}; the end of its output:\n{}", self.name, self.tail(30))
    }

    /// Sends `signal` to it alone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).with_context(|| format!("{}: signal", self.name))
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| self.log.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The file that holds it.
    pub(crate) fn output_file(&self) -> Result<File> {
        File::open(&self.log).with_context(|| self.log.display().to_string())
    }

    /// The last `count` lines of what it has written.
    pub(crate) fn tail(&self, count: usize) -> String {
        let text = self.output().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let mut tail = String::new();
        for line in &lines[lines.len().saturating_sub(count)..] {
            let _ = writeln!(tail, "    {line}");
        }
        tail
    }

    fn end(&mut self) {
        if self.ended().is_ok_and(|status| status.is_some()) {
            return;
        }
        // The group's id is the child's, and is not free for others before it is waited for.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        self.status = self.child.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs `command` with our own output; fails unless it succeeds within `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<()> {
    check_interrupt()?;
    let text = line(command);
    command.stdin(Stdio::null()).process_group(0);
    let child = command.spawn().with_context(|| text.clone())?;
    let mut running = Running { name: text.clone(), child, log: PathBuf::new(), status: None };
    let status = running.wait(limit)?;
    if !status.success() {
        bail!("{text}: {status}");
    }
    Ok(())
}

/// Runs a quick `command` and gives its standard output; fails with its standard error unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let text = line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| text.clone())?;
    if !output.status.success() {
        bail!("{text}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.contains([' ', '"', ';', '*']) { format!("'{word}'") } else { word.into_owned() }
        })
        .collect::<Vec<_>>()
        .join(" ")
}
