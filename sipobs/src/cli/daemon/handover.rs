//! What a daemon that is told to stop leaves to its successor, in files beside the state: the calls that are not over, and
//! spans that nobody took.
//! Each file is taken up once: it is gone before anything is made of it.
//!
//! They hold numbers in full, whatever `privacy` says: only their owner may read them, and nothing of them is ever said.

use std::fmt;
use std::fs;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use sipobs::timestamp::Timestamp;

use super::state::{make, ours, replace, with_ending};
use crate::cli::note;

/// A successor that starts later than this does not go on with the calls: too much of them has passed.
const LONGEST_GAP: Duration = Duration::from_secs(60);
/// How far two readings of one clock may go back.
const JITTER: Duration = Duration::from_secs(2);

/// One such file.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    path: PathBuf,
    mark: &'static [u8],
    most: usize,
}

/// When a predecessor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// So long ago: what it knew goes on.
    Short(Duration),
    /// So long ago, which is too long.
    Long(Duration),
    /// After now: the clock was set.
    Backwards,
}

impl Gap {
    pub(super) fn between(end: Timestamp, now: Timestamp) -> Self {
        match now.since(end) {
            _ if end.since(now) > JITTER => Self::Backwards,
            gap if gap <= LONGEST_GAP => Self::Short(gap),
            gap => Self::Long(gap),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(gap) | Self::Long(gap) => write!(f, "it ended {} s ago", gap.as_secs()),
            Self::Backwards => f.write_str("by the clock, its end is yet to come"),
        }
    }
}

impl Handover {
    /// The file of that ending beside the state's, which begins with `mark` and holds at most so many bytes.
    pub(super) fn beside(state: &Path, ending: &str, mark: &'static [u8], most: usize) -> Self {
        Self { path: with_ending(state, ending), mark, most }
    }

    /// What a predecessor has left, which is gone from the disk then. Says so where it can't be had.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        match self.read() {
            Ok(left) => left,
            Err(error) => {
                self.refuse(&format_args!("{error:#}"));
                None
            }
        }
    }

    /// Says that what a predecessor has left is of no use.
    pub(super) fn refuse(&self, why: &dyn fmt::Display) {
        note(format_args!("{}: {why}; what an earlier run left there is not taken up", self.path.display()));
    }

    fn read(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(file) = ours(&self.path, self.mark)? else { return Ok(None) };
        let most = self.most as u64;
        let mut bytes = Vec::new();
        (&file).take(most + 1).read_to_end(&mut bytes).context("cannot be read")?;
        // Before anything is made of it: twice would be wrong, and may be what ended us.
        fs::remove_file(&self.path).context("cannot be removed")?;
        anyhow::ensure!(bytes.len() as u64 <= most, "is larger than limits.memory has room for");
        Ok(Some(bytes))
    }

    /// Leaves what `write` writes, unless that takes longer than `limit`. All of it is on the disk then, or nothing is left.
    ///
    /// # Errors
    ///
    /// When nothing is left.
    pub(super) fn leave(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let (done, result) = sync_channel(1);
        let (to, mark) = (with_ending(&self.path, "new"), self.mark);
        let new = to.clone();
        thread::Builder::new().name("handover".into()).spawn(move || {
            let _ = done.send(write_new(&to, mark, write));
        })?;
        let failed = || format!("{}: cannot be written", self.path.display());
        // A disk that hangs may write on: that has another name, and the next start removes it.
        let written = result.recv_timeout(limit).map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
        written
            .and_then(|written| written)
            .and_then(|()| replace(&new, &self.path, self.mark))
            .with_context(failed)
    }
}

fn write_new(
    path: &Path,
    mark: &'static [u8],
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = BufWriter::new(make(path, mark, 0o600)?);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const MARK: &[u8] = b"mark\n";
    const LIMIT: Duration = Duration::from_secs(60);

    fn handover(dir: &Path) -> Handover {
        Handover::beside(&dir.join("state.json"), "calls", MARK, 100)
    }

    #[test]
    fn what_is_left_is_taken_once_and_read_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let handover = handover(dir.path());
        assert_eq!(handover.take(), None);
        for text in ["mark\none", "mark\ntwo"] {
            handover.leave(move |to| to.write_all(text.as_bytes()), LIMIT).unwrap();
        }
        let mode = fs::metadata(dir.path().join("state.json.calls")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(handover.take().as_deref(), Some(&b"mark\ntwo"[..]));
        assert_eq!(handover.take(), None);
    }

    #[test]
    fn what_is_not_ours_or_too_large_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let handover = handover(dir.path());
        let path = dir.path().join("state.json.calls");
        fs::write(&path, "somebody's").unwrap();
        assert_eq!(handover.take(), None);
        assert!(handover.leave(|to| to.write_all(MARK), LIMIT).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
        fs::write(&path, [MARK, &[0; 200]].concat()).unwrap();
        assert_eq!(handover.take(), None);
        assert!(!path.exists());
    }

    #[test]
    fn a_disk_that_hangs_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (never, forever) = sync_channel::<()>(0);
        let hangs = move |_: &mut dyn Write| forever.recv().map_err(io::Error::other);
        assert!(handover(dir.path()).leave(hangs, Duration::from_millis(50)).is_err());
        assert!(!dir.path().join("state.json.calls").exists());
        drop(never);
    }

    #[test]
    fn a_clock_that_was_set_back_is_no_gap() {
        let at = |seconds| Timestamp::from_nanos(0) + Duration::from_secs(seconds);
        let short = Gap::Short(Duration::from_secs(60));
        assert_eq!(Gap::between(at(100), at(160)), short);
        assert_eq!(Gap::between(at(100), at(161)), Gap::Long(Duration::from_secs(61)));
        assert_eq!(Gap::between(at(100), at(99)), Gap::Short(Duration::ZERO));
        assert_eq!(Gap::between(at(100), at(97)), Gap::Backwards);
    }
}
