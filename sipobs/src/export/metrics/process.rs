//! What Prometheus's clients tell of the process that they are in, by the names that all of them use.
//!
//! Landlock lets the daemon open nothing in `/proc` once it runs: the files are opened at the start, and read again at
//! each scrape.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::snapshot::Encoder;

/// Our own process.
#[derive(Debug)]
pub(super) struct Process {
    /// Seconds since 1970.
    started: f64,
    statm: File,
    /// Read on from the same descriptor: another could not be opened later.
    descriptors: Mutex<Dir>,
}

impl Process {
    /// Opens what is read later.
    ///
    /// # Errors
    ///
    /// Where there is no `/proc`, or none as Linux has it.
    pub(super) fn new() -> io::Result<Self> {
        let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            started: started()?,
            statm: File::open("/proc/self/statm")?,
            descriptors: Mutex::new(Dir::new(rustix::fs::open("/proc/self/fd", folder, Mode::empty())?)?),
        })
    }

    /// Bytes of address space, and of those in memory (proc_pid_statm(5)).
    fn memory(&self) -> io::Result<[u64; 2]> {
        let mut bytes = [0; 128];
        let length = self.statm.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        let mut pages = text.split(' ').map(|pages| pages.parse::<u64>().map_err(io::Error::other));
        let mut next = || pages.next().unwrap_or_else(|| Err(unlike("statm")));
        Ok([next()?, next()?].map(|pages| pages * page_size() as u64))
    }

    fn descriptors(&self) -> io::Result<usize> {
        let mut folder = self.descriptors.lock().unwrap_or_else(PoisonError::into_inner);
        folder.rewind();
        let mut open = 0;
        while let Some(entry) = folder.read() {
            open += usize::from(!matches!(entry?.file_name().to_bytes(), b"." | b".."));
        }
        Ok(open)
    }
}

impl Collector for Process {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Encoder(encoder);
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        out.seconds("process_cpu_seconds", "Seconds that the process has spent on CPUs", cpu)?;
        let mut gauge = |name, help, value: f64| out.gauge(name, help, [(vec![], value)]);
        gauge(
            "process_start_time_seconds",
            "When the process was started, in seconds since 1970",
            self.started,
        )?;
        if let Ok([size, resident]) = self.memory() {
            gauge("process_virtual_memory_bytes", "Bytes of the process's address space", size as f64)?;
            gauge(
                "process_resident_memory_bytes",
                "Bytes of the process that are in memory",
                resident as f64,
            )?;
        }
        if let Ok(open) = self.descriptors() {
            gauge("process_open_fds", "File descriptors that the process has open", open as f64)?;
        }
        let most = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |most| most as f64);
        gauge("process_max_fds", "File descriptors that the process may have open", most)
    }
}

/// The machine's start, and from there to the process's in ticks (proc_pid_stat(5), the 22nd field).
#[allow(clippy::cast_precision_loss, reason = "to a hundredth of a second")]
fn started() -> io::Result<f64> {
    let machine = std::fs::read_to_string("/proc/stat")?;
    let machine = machine.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<u64>().ok());
    let process = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold anything, and with which two fields are over.
    let fields = process.rsplit_once(") ").map(|(_, fields)| fields.split(' '));
    let ticks = fields.and_then(|mut fields| fields.nth(19)?.parse::<u64>().ok());
    let machine = machine.ok_or_else(|| unlike("stat"))?;
    let ticks = ticks.ok_or_else(|| unlike("self/stat"))?;
    Ok(machine as f64 + ticks as f64 / clock_ticks_per_second() as f64)
}

fn unlike(file: &str) -> io::Error {
    io::Error::other(format!("/proc/{file} is not what Linux has there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_this_one() {
        let process = Process::new().unwrap();
        let now = std::fs::metadata("/proc/self").unwrap().modified().unwrap();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - process.started).abs() < 3600.0, "started at {}, and it is {now}", process.started);
        let [size, resident] = process.memory().unwrap();
        assert!(resident > 1 << 20 && size > resident, "{size} bytes, {resident} resident");
        let before = process.descriptors().unwrap();
        let opened: Vec<_> = (0..100).map(|_| File::open("/proc/self/statm").unwrap()).collect();
        let after = process.descriptors().unwrap();
        // Other tests of this process open and close theirs meanwhile.
        assert!((before + 50..before + 150).contains(&after), "{before} descriptors, then {after}");
        drop(opened);
    }
}
