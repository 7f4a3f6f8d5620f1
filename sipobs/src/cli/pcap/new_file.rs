//! A file that is written for somebody: it has its name only once it is whole, and is none of those that are read.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow, ensure};
use sipobs::files::Kind;

/// Files that are not finished, where they are.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Leaves none of them behind, as the process ends by a signal.
#[cfg(unix)]
pub(super) fn discard_unfinished() {
    unfinished().iter().for_each(|path| drop(fs::remove_file(path)));
}

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file under another name until it is finished; what is not finished leaves nothing behind.
#[derive(Debug)]
pub(super) struct NewFile {
    /// The name that it will have.
    path: PathBuf,
    /// The one that it has.
    now: PathBuf,
    file: File,
}

impl NewFile {
    /// Makes it, for `option`, before anything is read, as that may take long.
    ///
    /// # Errors
    ///
    /// When it can't be made, or is one of the captures that are to be read, or no regular file.
    pub(super) fn make(option: &str, path: &Path, captures: &[PathBuf]) -> anyhow::Result<Self> {
        Self::open(path, captures).with_context(|| format!("{option} {}", path.display()))
    }

    fn open(path: &Path, captures: &[PathBuf]) -> anyhow::Result<Self> {
        // Where a link leads to, so that it stays a link.
        let path = match real(path) {
            Ok(there) => {
                ensure!(
                    captures.iter().all(|capture| !is_same(capture, &there)),
                    "this is a capture that is to be read: choose another name"
                );
                Kind::of(&there.metadata()?).check(&[Kind::Regular])?;
                there
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                ensure!(!path.is_symlink(), "this is a link to a file that is not there");
                ensure!(!path.as_os_str().as_encoded_bytes().ends_with(b"/"), "there is no such directory");
                path.to_owned()
            }
            Err(error) => return Err(error.into()),
        };
        let name = path.file_name().context("this is not a file's name")?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", process()));
        let now = path.with_file_name(hidden);
        let mut unfinished = unfinished();
        let file = options().open(&now).map_err(|error| match error.kind() {
            // Not to be taken for the file itself, which may be written over.
            io::ErrorKind::AlreadyExists => anyhow!("something else is written there ({})", now.display()),
            _ => error.into(),
        })?;
        unfinished.insert(now.clone());
        Ok(Self { path, now, file })
    }

    /// The name that it will have.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is for now.
    pub(super) fn place(&self) -> &Path {
        &self.now
    }

    /// To write to.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name.
    ///
    /// # Errors
    ///
    /// When not all of it is on the disk, or the name can't be given.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.now, &self.path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Gone already where it got its name.
        let _ = fs::remove_file(&self.now);
        unfinished().remove(&self.now);
    }
}

/// For its owner alone: what somebody said is in it.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The process, which others of the same name are told from.
fn process() -> u32 {
    // A page has one only, and no number for it.
    if cfg!(target_os = "wasi") { 0 } else { std::process::id() }
}

/// Whether two paths lead to one file, by whatever link.
#[cfg(unix)]
fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether two paths lead to one file.
#[cfg(not(unix))]
fn is_same(one: &Path, other: &Path) -> bool {
    matches!((real(one), real(other)), (Ok(one), Ok(other)) if one == other)
}

/// Where a path leads to.
#[cfg(not(target_os = "wasi"))]
fn real(path: &Path) -> io::Result<PathBuf> {
    path.canonicalize()
}

/// Where a path leads to: a page has no links, and its C library knows of none.
#[cfg(target_os = "wasi")]
fn real(path: &Path) -> io::Result<PathBuf> {
    path.metadata().and_then(|_| std::path::absolute(path))
}
