//! The file that `jsonl.path` names: opened before the file system is closed, and only if it is one for records; and
//! another in its place once it has been rotated.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use rustix::fs::{OFlags, fcntl_setfl};
use sipobs::config::JsonlConfig;
use sipobs::export::{Jsonl, Sink, Summary};
use sipobs::files::{self, Kind, Links};
use sipobs::record::Output;

/// Where records go beside what is printed.
pub(super) enum Records {
    /// Nowhere.
    None,
    /// Standard output.
    Stdout,
    /// A file, or what stands for one.
    File(File, Rotation),
}

/// Who may read records: they hold Call-IDs and hosts.
const MODE: u32 = 0o640;

impl Records {
    /// Opens what is configured, to append to it.
    ///
    /// # Errors
    ///
    /// When it can't be written, or holds something else than records.
    pub(super) fn open(config: &JsonlConfig) -> anyhow::Result<Self> {
        match config.path.as_deref() {
            None => Ok(Self::None),
            // Opened anew, a pipe that somebody else has made may not be ours to write.
            Some(path) if [Path::new("-"), Path::new("/dev/stdout")].contains(&path) => Ok(Self::Stdout),
            Some(path) => {
                let file =
                    open(path).with_context(|| format!("jsonl.path: cannot open {}", path.display()))?;
                let rotation =
                    Rotation { path: path.to_owned(), place: Arc::new(Mutex::new(Place::of(&file)?)) };
                Ok(Self::File(file, rotation))
            }
        }
    }

    /// What puts another file in the place of one that was rotated.
    pub(super) fn rotation(&self) -> Option<Rotation> {
        match self {
            Self::File(_, rotation) => Some(rotation.clone()),
            Self::None | Self::Stdout => None,
        }
    }
}

/// A way to the sink's file for whoever hears that it was rotated.
#[derive(Clone)]
pub(super) struct Rotation {
    path: PathBuf,
    place: Arc<Mutex<Place>>,
}

struct Place {
    /// Device and inode of the file that was opened last.
    is: (u64, u64),
    /// That file, until the sink takes it.
    fresh: Option<File>,
}

impl Place {
    fn of(file: &File) -> io::Result<Self> {
        Ok(Self { is: identity(&file.metadata()?), fresh: None })
    }
}

fn identity(file: &std::fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Rotation {
    /// Opens the file anew, if its path leads to another than before or to none. Gives whether it did.
    pub(super) fn look(&self) -> anyhow::Result<bool> {
        let is = self.lock().is;
        if self.path.metadata().is_ok_and(|there| identity(&there) == is) {
            return Ok(false);
        }
        let open = || -> io::Result<(File, Place)> {
            let file = open(&self.path)?;
            let place = Place::of(&file)?;
            Ok((file, place))
        };
        let (file, place) =
            open().with_context(|| format!("jsonl.path: cannot open {} anew", self.path.display()))?;
        *self.lock() = Place { fresh: Some(file), ..place };
        Ok(true)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes records to the file, and to the next one from the line on that comes after it was opened.
pub(super) struct RotatedJsonl {
    jsonl: Jsonl<File>,
    rotation: Rotation,
}

impl RotatedJsonl {
    pub(super) fn new(jsonl: Jsonl<File>, rotation: Rotation) -> Self {
        Self { jsonl, rotation }
    }
}

impl Sink for RotatedJsonl {
    fn output(&mut self, output: &Output) -> io::Result<()> {
        let fresh = self.rotation.lock().fresh.take();
        if let Some(file) = fresh {
            self.jsonl.reopen(file);
        }
        self.jsonl.output(output)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.jsonl.summary(summary)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.jsonl.flush()
    }
}

fn open(path: &Path) -> io::Result<File> {
    let kinds: &[Kind] =
        if path == Path::new("/dev/null") { &[Kind::CharacterDevice] } else { &[Kind::Regular, Kind::Pipe] };
    if path.metadata().is_ok_and(|file| Kind::of(&file) == Kind::Regular && file.len() > 0) {
        check(files::open(path, File::options().read(true), Links::Follow, kinds)?)?;
    }
    let file = files::open(path, File::options().create(true).append(true).mode(MODE), Links::Follow, kinds)
        .map_err(
            |error| if is_unread(&error) { io::Error::other("nobody reads this pipe") } else { error },
        )?;
    // Its thread may wait for whoever reads a pipe.
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// It holds records, as far as its beginning tells.
fn check(file: File) -> io::Result<()> {
    let mut beginning = Vec::new();
    file.take(Jsonl::<File>::BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    // A full disk may have cut off the first one.
    if !Jsonl::<File>::BEGINNING.as_bytes().starts_with(&beginning) {
        return Err(io::Error::other("holds something else than sipobs's records: left as it is"));
    }
    Ok(())
}

fn is_unread(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENXIO)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    fn opened(path: &Path) -> Result<File, String> {
        let config = JsonlConfig { path: Some(path.to_owned()), ..JsonlConfig::default() };
        match Records::open(&config) {
            Ok(Records::File(file, _)) => Ok(file),
            Ok(_) => panic!("no file"),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn records_are_appended_to_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        let link = dir.path().join("link.jsonl");
        symlink(&path, &link).unwrap();
        for name in [&path, &link] {
            opened(name).unwrap().write_all(b"{\"kind\":\"call\"}\n").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"kind\":\"call\"}\n".repeat(2));
        opened(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn records_are_not_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        let file = opened(&path).unwrap();
        // Whatever the umask takes away beside.
        assert_eq!(file.metadata().unwrap().mode() & 0o7777 & !MODE, 0);
    }

    #[test]
    fn a_file_that_was_rotated_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("records.jsonl"), dir.path().join("records.jsonl.1"));
        let config = JsonlConfig { path: Some(path.clone()), ..JsonlConfig::default() };
        let Records::File(file, rotation) = Records::open(&config).unwrap() else { panic!("no file") };
        let mut sink = RotatedJsonl::new(Jsonl::new(file, false), rotation.clone());
        let mut write = || {
            sink.summary(&Summary::default()).unwrap();
            sink.flush().unwrap();
        };
        write();
        assert!(!rotation.look().unwrap(), "it is where it was");
        fs::rename(&path, &old).unwrap();
        write();
        assert!(
            rotation.look().unwrap() && path.exists(),
            "there at once, as the next record may take its time"
        );
        assert!(!rotation.look().unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        let error = format!("{:#}", rotation.look().unwrap_err());
        assert!(error.contains("anew: holds something else than sipobs's records"), "{error}");
        let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
        assert_eq!(lines(&old), 2, "all that was written before");
    }

    #[test]
    fn what_holds_something_else_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut made: Vec<PathBuf> = Vec::new();
        for (number, text) in
            ["root:x:0:0:root:/root:/bin/bash\n", "{\"sipobs\":\"state\"", "\n"].iter().enumerate()
        {
            made.push(dir.path().join(format!("{number}")));
            fs::write(&made[number], text).unwrap();
            let error = opened(&made[number]).unwrap_err();
            assert!(error.contains("holds something else than sipobs's records"), "{error}");
            assert_eq!(fs::read_to_string(&made[number]).unwrap(), *text);
        }
        for (path, why) in [(dir.path(), "is a directory"), (Path::new("/dev/zero"), "is a device")] {
            let error = opened(path).unwrap_err();
            assert!(error.starts_with("jsonl.path: cannot open ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_pipe_needs_a_reader() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = opened(&pipe).unwrap_err();
        assert!(error.ends_with("nobody reads this pipe"), "{error}");
        let mut reader =
            files::open(&pipe, File::options().read(true), Links::Follow, &[Kind::Pipe]).unwrap();
        let mut writer = opened(&pipe).unwrap();
        writer.write_all(b"x").unwrap();
        let mut read = [0];
        reader.read_exact(&mut read).unwrap();
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK) && flags.contains(OFlags::APPEND), "{flags:?}");
    }
}
