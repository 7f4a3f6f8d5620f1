//! How much memory reading files may take on this machine.

use std::fs;

use sipobs::config::Size;

/// Half of what is free: a file is judged the same whatever its size, as far as the machine allows. `None` where that
/// can't be told.
pub(super) fn for_files() -> Option<Size> {
    let free = available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse::<usize>().ok());
    Size::new(free.min(limit.unwrap_or(usize::MAX)) / 2)
}

/// Bytes that are free, by proc(5)'s meminfo.
fn available(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_available() {
        let meminfo = "MemTotal:       24584440 kB\nMemFree:  1 kB\nMemAvailable:   22300012 kB\n";
        assert_eq!(available(meminfo), Some(22_300_012 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }
}
