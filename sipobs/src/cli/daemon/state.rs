//! What is kept across restarts: the REFER ratio of each trunk. Written beside the capture thread, to a new
//! file that then takes the old one's name, so that neither a slow disk nor a crash costs anything.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sipobs::config::StateConfig;
use sipobs::transfer::ratio::RatioState;

use super::{now, send_by};
use crate::cli::note;

/// More than any state that sipobs writes: a few numbers for each day and trunk.
const MOST_BYTES: u64 = 16 << 20;

/// The state file, or none.
pub(super) struct State {
    restored: Option<RatioState>,
    kept: Option<Kept>,
}

struct Kept {
    every: Duration,
    written: Instant,
    queue: SyncSender<RatioState>,
    failures: Arc<AtomicU64>,
    path: PathBuf,
    /// Hears when the last write is over, and what came of it.
    over: Receiver<io::Result<()>>,
}

impl State {
    /// Reads what an earlier run has kept. A file that can't be understood is set aside, not overwritten.
    pub(super) fn open(config: &StateConfig) -> anyhow::Result<Self> {
        let Some(path) = config.path.clone() else { return Ok(Self { restored: None, kept: None }) };
        let restored = match File::open(&path) {
            Ok(file) => understood(&path, file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("state.path: {}: cannot be read", path.display()));
            }
        };
        let failures = Arc::new(AtomicU64::new(0));
        let (queue, states) = sync_channel(1);
        let (ended, over) = sync_channel(1);
        let (counted, file) = (Arc::clone(&failures), path.clone());
        thread::Builder::new()
            .name("state".into())
            .spawn(move || {
                let _ = ended.send(write_all(&file, &states, &counted));
            })
            .context("cannot start to keep state")?;
        let every = Duration::from_secs(u64::from(config.every_s.max(1)));
        Ok(Self { restored, kept: Some(Kept { every, written: now(), queue, failures, path, over }) })
    }

    /// What an earlier run has kept.
    pub(super) fn restored(&self) -> Option<RatioState> {
        self.restored.clone()
    }

    /// Writes `state` if it is time. Never waits: a disk that is slow gets the next one.
    pub(super) fn keep(&mut self, state: impl FnOnce() -> RatioState) {
        let Some(kept) = &mut self.kept else { return };
        if kept.written.elapsed() >= kept.every {
            kept.written = now();
            let _ = kept.queue.try_send(state());
        }
    }

    /// Writes the last `state`, and waits for that, at most for `limit`: a disk that hangs must not hold up the end.
    pub(super) fn finish(self, state: RatioState, limit: Duration) -> anyhow::Result<()> {
        let Some(Kept { queue, path, over, .. }) = self.kept else { return Ok(()) };
        let end = now() + limit;
        let gave_up =
            || format!("state.path: {}: takes no more: what was learned last is lost", path.display());
        // One that waits to be written is older.
        let sent = send_by(&queue, state, end);
        anyhow::ensure!(!matches!(sent, Err(TrySendError::Full(_))), gave_up());
        drop(queue);
        let last = over.recv_timeout(end.saturating_duration_since(now()));
        last.map_err(|_| anyhow::anyhow!(gave_up()))?.with_context(|| {
            format!("state.path: {}: cannot be written: what was learned last is lost", path.display())
        })
    }

    /// Writes that failed.
    pub(super) fn failures(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.failures.load(Ordering::Relaxed))
    }
}

/// What the file holds. One that makes no sense is set aside.
fn understood(path: &Path, file: File) -> anyhow::Result<Option<RatioState>> {
    let error = match parse(file) {
        Ok(state) => return Ok(Some(state)),
        Err(error) => error,
    };
    let aside = path.with_extension("unreadable");
    fs::rename(path, &aside)
        .with_context(|| format!("state.path: {}: {error:#}; cannot be set aside", path.display()))?;
    note(format_args!(
        "state.path: {}: {error:#}; set aside as {}, learning anew",
        path.display(),
        aside.display()
    ));
    Ok(None)
}

fn parse(file: File) -> anyhow::Result<RatioState> {
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).context("cannot be read")?;
    let state: RatioState = serde_json::from_str(&text).context("is no state file")?;
    anyhow::ensure!(state.is_current(), "was written by another version");
    Ok(state)
}

/// Writes one state after another; gives what came of the last.
fn write_all(path: &Path, states: &Receiver<RatioState>, failures: &AtomicU64) -> io::Result<()> {
    let mut last = Ok(());
    for state in states {
        let result = write(path, &state);
        if let Err(error) = &result {
            failures.fetch_add(1, Ordering::Relaxed);
            if last.is_ok() {
                note(format_args!("state.path: {}: cannot be written: {error}", path.display()));
            }
        }
        last = result;
    }
    last
}

fn write(path: &Path, state: &RatioState) -> io::Result<()> {
    let new: PathBuf = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipobs::transfer::ratio::{Ratio, RatioConfig};

    /// Longer than any disk here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    fn config(path: &Path) -> StateConfig {
        StateConfig { path: Some(path.to_owned()), every_s: 3600 }
    }

    #[test]
    fn what_is_kept_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let first = State::open(&config(&path)).unwrap();
        assert_eq!(first.restored(), None, "nothing there yet");
        let state = Ratio::new(RatioConfig::default()).state();
        first.finish(state.clone(), LIMIT).unwrap();
        assert_eq!(State::open(&config(&path)).unwrap().restored(), Some(state));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no other file is left behind");
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        fs::write(&path, b"{\"version\":1,\"trunks\":{\"a").unwrap();
        let state = State::open(&config(&path)).unwrap();
        assert_eq!(state.restored(), None);
        state.finish(Ratio::new(RatioConfig::default()).state(), LIMIT).unwrap();
        assert!(fs::read_to_string(dir.path().join("state.unreadable")).unwrap().contains("trunks"));
        assert!(State::open(&config(&path)).unwrap().restored().is_some());
    }

    #[test]
    fn a_write_that_fails_is_counted_and_the_next_one_tried() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/state.json");
        let failures = AtomicU64::new(0);
        let (queue, states) = sync_channel(2);
        let state = Ratio::new(RatioConfig::default()).state();
        queue.send(state.clone()).unwrap();
        queue.send(state).unwrap();
        drop(queue);
        assert_eq!(write_all(&path, &states, &failures).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(failures.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_last_write_that_fails_is_told() {
        let dir = tempfile::tempdir().unwrap();
        // Nothing can be written to a directory, nor can one be written over.
        fs::create_dir(dir.path().join("state.new")).unwrap();
        let kept = State::open(&config(&dir.path().join("state.json"))).unwrap();
        let error = kept.finish(Ratio::new(RatioConfig::default()).state(), LIMIT).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("state.json: cannot be written: what was learned last is lost: "), "{error}");
    }

    #[test]
    fn a_disk_that_hangs_does_not_hold_up_the_end() {
        let dir = tempfile::tempdir().unwrap();
        // Opening a pipe that nobody reads waits for ever.
        let pipe = std::process::Command::new("mkfifo").arg(dir.path().join("state.new")).status().unwrap();
        assert!(pipe.success());
        let state = Ratio::new(RatioConfig::default()).state();
        for waiting in [0, 2] {
            let path = dir.path().join("state.json");
            let mut kept = State::open(&config(&path)).unwrap();
            for _ in 0..waiting {
                let kept = kept.kept.as_mut().unwrap();
                kept.queue.send(state.clone()).unwrap();
            }
            let error = kept.finish(state.clone(), Duration::from_millis(100)).unwrap_err().to_string();
            assert!(error.contains("state.json: takes no more: what was learned last is lost"), "{error}");
        }
    }
}
