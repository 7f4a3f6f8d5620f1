//! What is kept across restarts: the REFER ratio of each trunk. Written beside the capture thread, to a new file that
//! then takes the old one's name, so that neither a slow disk nor a crash costs anything. Nothing is read, moved or
//! replaced but what sipobs has written.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sipobs::config::StateConfig;
use sipobs::files::{self, Kind, Links};
use sipobs::transfer::ratio::RatioState;

use super::{now, send_by};
use crate::cli::warn;

/// More than any state that sipobs writes: a few numbers for each day and trunk.
const MOST_BYTES: u64 = 16 << 20;

/// How every state file begins, a damaged one too.
const MARK: &[u8] = b"{\"sipobs\":\"state\",";

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    sipobs: Is,
    ratio: RatioState,
}

/// Makes [`MARK`], with the name of its field.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Is {
    State,
}

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
    /// Reads what an earlier run has kept. What is damaged of it is set aside, not overwritten.
    ///
    /// # Errors
    ///
    /// When something stands there that sipobs has not written, or nothing could be written there.
    pub(super) fn open(config: &StateConfig) -> anyhow::Result<Self> {
        let Some(path) = config.path.clone() else { return Ok(Self { restored: None, kept: None }) };
        let restored = restore(&path)?;
        let file = path.clone();
        let kept = Kept::start(config, path, move |state| write(&file, state))?;
        Ok(Self { restored, kept: Some(kept) })
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

impl Kept {
    /// Starts the thread that writes.
    fn start(
        config: &StateConfig,
        path: PathBuf,
        write: impl Fn(RatioState) -> io::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let failures = Arc::new(AtomicU64::new(0));
        let (queue, states) = sync_channel(1);
        let (ended, over) = sync_channel(1);
        let (counted, name) = (Arc::clone(&failures), path.clone());
        thread::Builder::new()
            .name("state".into())
            .spawn(move || {
                let _ = ended.send(write_all(&name, write, &states, &counted));
            })
            .context("cannot start to keep state")?;
        let every = config.every.max(Duration::from_secs(1));
        Ok(Self { every, written: now(), queue, failures, path, over })
    }
}

/// Writes one state after another; gives what came of the last.
fn write_all(
    path: &Path,
    write: impl Fn(RatioState) -> io::Result<()>,
    states: &Receiver<RatioState>,
    failures: &AtomicU64,
) -> io::Result<()> {
    let mut last = Ok(());
    for state in states {
        let result = write(state);
        if let Err(error) = &result {
            failures.fetch_add(1, Ordering::Relaxed);
            if last.is_ok() {
                warn(format_args!("state.path: {}: cannot be written: {error}", path.display()));
            }
        }
        last = result;
    }
    last
}

/// What the file holds, if it is there.
fn restore(path: &Path) -> anyhow::Result<Option<RatioState>> {
    let shown = path.display();
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_folder = folder.metadata().and_then(|it| Kind::of(&it).check(&[Kind::Directory]));
    is_folder.with_context(|| format!("state.path: {shown}: its folder, {}", folder.display()))?;
    let refused = || {
        format!(
            "state.path: {shown}: left as it is, as sipobs keeps its state in a file that it makes itself, such as \
             /var/lib/sipobs/state.json"
        )
    };
    let Some(file) = ours(path, MARK).with_context(refused)? else { return Ok(None) };
    if file.metadata().is_ok_and(|it| it.len() == 0) {
        return Ok(None);
    }
    let error = match parse(file) {
        Ok(state) => return Ok(Some(state)),
        Err(error) => error,
    };
    let aside = with_ending(path, "unreadable");
    let moved = replace(path, &aside, MARK);
    moved
        .with_context(|| format!("state.path: {shown}: {error:#}; cannot be renamed {}", aside.display()))?;
    warn(format_args!("state.path: {shown}: {error:#}; set aside as {}, learning anew", aside.display()));
    Ok(None)
}

fn parse(file: File) -> anyhow::Result<RatioState> {
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).context("cannot be read")?;
    let Content { ratio, .. } = serde_json::from_str(&text).context("is damaged")?;
    anyhow::ensure!(ratio.is_current(), "was written by another version");
    Ok(ratio)
}

fn write(path: &Path, state: RatioState) -> io::Result<()> {
    let new = with_ending(path, "new");
    let mut file = make(&new, MARK, 0o666)?;
    file.write_all(&serde_json::to_vec(&Content { sipobs: Is::State, ratio: state })?)?;
    file.sync_all()?;
    replace(&new, path, MARK)
}

/// Makes a new file of this name and mode, which is to begin with `mark`. A run that was killed may have left one.
pub(super) fn make(path: &Path, mark: &[u8], mode: u32) -> io::Result<File> {
    if ours(path, mark)?.is_some() {
        fs::remove_file(path)?;
    }
    File::options().write(true).create_new(true).mode(mode).open(path)
}

/// Gives the file `from` the name `to`, unless that is taken by something that is not ours.
pub(super) fn replace(from: &Path, to: &Path, mark: &[u8]) -> io::Result<()> {
    ours(to, mark)?;
    fs::rename(from, to)
}

/// Opens the file of this name, if there is one.
///
/// # Errors
///
/// When it is anything but an empty file or one that sipobs has written, which begins with `mark`. A link is not followed.
pub(super) fn ours(path: &Path, mark: &[u8]) -> io::Result<Option<File>> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => Kind::of(&found?).check(&[Kind::Regular])?,
    }
    let mut beginning = Vec::new();
    let file = files::open(path, File::options().read(true), Links::Refuse, &[Kind::Regular])?;
    (&file).take(mark.len() as u64).read_to_end(&mut beginning)?;
    if !mark.starts_with(&beginning) {
        return Err(io::Error::other("was not written by sipobs"));
    }
    (&file).rewind()?;
    Ok(Some(file))
}

/// Its name with `.ending` behind it.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipobs::transfer::ratio::{Ratio, RatioConfig};

    /// Longer than any disk here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    fn config(path: &Path) -> StateConfig {
        StateConfig { path: Some(path.to_owned()), every: Duration::from_secs(3600), handover: true }
    }

    fn state() -> RatioState {
        Ratio::new(RatioConfig::default()).state()
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_kept_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let first = State::open(&config(&path)).unwrap();
        assert_eq!(first.restored(), None, "nothing there yet");
        first.finish(state(), LIMIT).unwrap();
        assert_eq!(State::open(&config(&path)).unwrap().restored(), Some(state()));
        assert_eq!(names(dir.path()), ["state.json"], "no other file is left behind");
        assert!(fs::read(&path).unwrap().starts_with(MARK));
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for damaged in [
            "{\"sipobs\":\"state\",\"ratio\":{\"ver",
            "{\"sipobs\":\"state\",\"ratio\":{\"version\":99,\"trunks\":{}}}",
        ] {
            fs::write(&path, damaged).unwrap();
            let kept = State::open(&config(&path)).unwrap();
            assert_eq!(kept.restored(), None);
            kept.finish(state(), LIMIT).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("state.json.unreadable")).unwrap(), damaged);
            assert!(State::open(&config(&path)).unwrap().restored().is_some());
        }
    }

    #[test]
    fn what_a_killed_run_has_left_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        // Nobody loses anything by that: a file that was made beforehand.
        fs::write(&path, "").unwrap();
        for left in [&b""[..], &MARK[..5], MARK] {
            fs::write(dir.path().join("state.json.new"), left).unwrap();
            State::open(&config(&path)).unwrap().finish(state(), LIMIT).unwrap();
            assert_eq!(names(dir.path()), ["state.json"]);
        }
    }

    /// Whatever of the three names it has.
    #[test]
    fn what_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "somebody's").unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("state.json");
        let listener = |path: &Path| drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        let mkfifo = |path: &Path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        type Make<'a> = &'a dyn Fn(&Path);
        let ways: [(Make<'_>, &str); 7] = [
            (&|path| fs::create_dir(path).unwrap(), "is a directory, not a regular file"),
            (&|path| std::os::unix::fs::symlink(&outside, path).unwrap(), "is a symbolic link"),
            (&|path| std::os::unix::fs::symlink("nowhere", path).unwrap(), "is a symbolic link"),
            (&mkfifo, "is a pipe"),
            (&listener, "is a socket"),
            (&|path| fs::write(path, "somebody's").unwrap(), "was not written by sipobs"),
            (&|path| fs::write(path, "{\"version\":1,\"trunks\":{}}").unwrap(), "was not written by sipobs"),
        ];
        for (make, why) in ways {
            for name in ["state.json", "state.json.new", "state.json.unreadable"] {
                let there = folder.join(name);
                make(&there);
                let was = (there.symlink_metadata().unwrap(), fs::read_link(&there).ok());
                let result = match name {
                    "state.json" => State::open(&config(&path)).map(drop),
                    "state.json.new" => State::open(&config(&path)).unwrap().finish(state(), LIMIT),
                    _ => {
                        fs::write(&path, MARK).unwrap();
                        State::open(&config(&path)).map(drop)
                    }
                };
                let error = format!("{:#}", result.unwrap_err());
                assert!(error.starts_with("state.path: ") && error.contains(why), "{name}: {error}");
                let is = (there.symlink_metadata().unwrap(), fs::read_link(&there).ok());
                let facts = |it: &fs::Metadata| (it.file_type(), it.modified().unwrap(), it.len());
                assert_eq!((facts(&was.0), was.1), (facts(&is.0), is.1), "{name}: {why}");
                fs::remove_dir_all(&folder).unwrap();
                fs::create_dir(&folder).unwrap();
            }
        }
        assert_eq!(fs::read_to_string(&outside).unwrap(), "somebody's");
    }

    #[test]
    fn what_has_taken_its_place_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let kept = State::open(&config(&path)).unwrap();
        fs::write(&path, "somebody's").unwrap();
        let error = format!("{:#}", kept.finish(state(), LIMIT).unwrap_err());
        assert!(error.ends_with("what was learned last is lost: was not written by sipobs"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    }

    #[test]
    fn its_folder_is_one() {
        for (path, why) in [("/nowhere/state.json", "/nowhere: No such file"), ("/dev/null/x", "/dev/null: ")]
        {
            let error = State::open(&config(Path::new(path))).err().unwrap();
            let error = format!("{error:#}");
            assert!(error.contains("its folder, ") && error.contains(why), "{error}");
        }
        for path in ["/", ".."] {
            assert!(State::open(&config(Path::new(path))).is_err());
        }
    }

    #[test]
    fn a_write_that_fails_is_counted_and_the_next_one_tried() {
        let failures = AtomicU64::new(0);
        let (queue, states) = sync_channel(2);
        queue.send(state()).unwrap();
        queue.send(state()).unwrap();
        drop(queue);
        let path = Path::new("/nowhere/state.json");
        let error = write_all(path, |state| write(path, state), &states, &failures).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(failures.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_disk_that_hangs_does_not_hold_up_the_end() {
        let path = Path::new("/nowhere/state.json");
        for waiting in [0, 2] {
            let (_never, forever) = sync_channel::<()>(0);
            let hangs = move |_| forever.recv().map_err(io::Error::other);
            let kept = Kept::start(&config(path), path.to_owned(), hangs).unwrap();
            for _ in 0..waiting {
                kept.queue.send(state()).unwrap();
            }
            let kept = State { restored: None, kept: Some(kept) };
            let error = kept.finish(state(), Duration::from_millis(100)).unwrap_err().to_string();
            assert!(error.contains("state.json: takes no more: what was learned last is lost"), "{error}");
        }
    }
}
