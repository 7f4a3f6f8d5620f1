//! The folder with the files: nothing in it is read, replaced or removed but what is called as sipobs calls it, and no link is
//! followed.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use sipobs::config::{RecorderConfig, Redact};
use sipobs::files::Kind;

/// Who may look into a folder that is made here.
const FOLDER_MODE: u32 = 0o750;
/// Who may read files in which nobody is named, and those in which somebody is.
const MODE: u32 = 0o640;
const SECRET_MODE: u32 = 0o600;
/// Letters of an id: hexadecimal digits.
const ID: usize = 16;
const ENDING: &str = ".pcapng";
/// Of a file that is being written: `.` goes before its name.
const PART: &str = ".part";

/// The folder, and what it holds.
#[derive(Debug)]
pub(in crate::cli::daemon) struct Folder {
    path: PathBuf,
    mode: u32,
    most_bytes: u64,
    most_age: Duration,
    /// The oldest first.
    files: BTreeMap<(SystemTime, String), u64>,
    bytes: u64,
}

/// Files that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// For want of room.
    pub(super) for_bytes: u64,
    /// As they were old.
    pub(super) for_age: u64,
    /// The next one can't be removed.
    pub(super) is_stuck: bool,
}

/// The name of the file of this id; `None` if it is none.
pub(super) fn name(id: &str) -> Option<String> {
    is_id(id).then(|| format!("{id}{ENDING}"))
}

fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_name(text: &str) -> bool {
    text.strip_suffix(ENDING).is_some_and(is_id)
}

impl Folder {
    /// Opens the folder that is configured, if one is; makes it if it is not there.
    ///
    /// # Errors
    ///
    /// When it can't be made, or nothing can be written there.
    pub(in crate::cli::daemon) fn open(config: &RecorderConfig) -> anyhow::Result<Option<Self>> {
        let Some(path) = &config.folder else { return Ok(None) };
        let shown = path.display();
        if let Err(error) = DirBuilder::new().mode(FOLDER_MODE).create(path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("recorder.folder: {shown}: cannot be made"));
        }
        let is_folder = path.metadata().and_then(|it| Kind::of(&it).check(&[Kind::Directory]));
        is_folder.with_context(|| format!("recorder.folder: {shown}"))?;
        let path = path.canonicalize().with_context(|| format!("recorder.folder: {shown}"))?;
        let mode = match config.redact {
            Redact::Nothing => SECRET_MODE,
            Redact::Parties | Redact::Addresses => MODE,
        };
        let mut folder = Self {
            path,
            mode,
            most_bytes: config.most_bytes.bytes() as u64,
            most_age: config.most_age,
            files: BTreeMap::new(),
            bytes: 0,
        };
        let made = folder.look().and_then(|()| folder.begin(&"0".repeat(ID)).map(drop));
        made.with_context(|| {
            format!("recorder.folder: {shown}: cannot be written, so no evidence would be kept: choose a folder of sipobs's own")
        })?;
        Ok(Some(folder))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many files there are, and how much they take up.
    pub(super) fn holds(&self) -> (usize, u64) {
        (self.files.len(), self.bytes)
    }

    /// Begins the file of this id, under another name until it is whole.
    pub(super) fn begin(&self, id: &str) -> io::Result<Part> {
        let name = name(id).ok_or(io::ErrorKind::InvalidInput)?;
        let place = self.path.join(format!(".{name}{PART}"));
        // A run that was killed may have left one.
        let _ = fs::remove_file(&place);
        let file = File::options().read(true).write(true).create_new(true).mode(self.mode).open(&place)?;
        Ok(Part { file, place, name })
    }

    /// Gives a file its name, in the place of one that has it. The oldest make way; gives which did.
    pub(super) fn finish(&mut self, part: &Part, now: SystemTime) -> io::Result<Removed> {
        part.file.sync_all()?;
        let metadata = part.file.metadata()?;
        let written = metadata.modified().unwrap_or(now);
        fs::rename(&part.place, self.path.join(&part.name))?;
        let before: Vec<_> = self.files.keys().filter(|(_, name)| *name == part.name).cloned().collect();
        for known in before {
            self.bytes -= self.files.remove(&known).unwrap_or_default();
        }
        self.bytes += metadata.len();
        self.files.insert((written, part.name.clone()), metadata.len());
        Ok(self.retire(now))
    }

    /// Removes what is too old at `now`, or too much; gives how many files that were.
    pub(super) fn retire(&mut self, now: SystemTime) -> Removed {
        let mut removed = Removed::default();
        while let Some(first) = self.files.first_entry() {
            let is_old = now.duration_since(first.key().0).is_ok_and(|age| age > self.most_age);
            if !is_old && self.bytes <= self.most_bytes {
                break;
            }
            let path = self.path.join(&first.key().1);
            // Somebody else may have taken it away, or put something else there.
            if matches!(size_of_file(&path), Ok(Some(_))) {
                if fs::remove_file(&path).is_err() {
                    removed.is_stuck = true;
                    break;
                }
                *(if is_old { &mut removed.for_age } else { &mut removed.for_bytes }) += 1;
            }
            self.bytes -= first.remove();
        }
        removed
    }

    /// Finds out what is there, and removes what a run that was killed had begun.
    fn look(&mut self) -> io::Result<()> {
        self.files.clear();
        self.bytes = 0;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let begun = name.strip_prefix('.').and_then(|name| name.strip_suffix(PART));
            if begun.is_some_and(is_name) {
                let _ = fs::remove_file(entry.path());
            }
            if !is_name(&name) {
                continue;
            }
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if Kind::of(&metadata) == Kind::Regular {
                self.bytes += metadata.len();
                self.files.insert((metadata.modified()?, name), metadata.len());
            }
        }
        Ok(())
    }
}

fn size_of_file(path: &Path) -> io::Result<Option<u64>> {
    let metadata = path.symlink_metadata()?;
    Ok((Kind::of(&metadata) == Kind::Regular).then_some(metadata.len()))
}

/// A file that is not whole yet; gone, unless it gets its name.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    pub(super) place: PathBuf,
    name: String,
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already where it got its name.
        let _ = fs::remove_file(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::super::wall_clock;
    use super::*;
    use sipobs::config::Size;

    const DAY: Duration = Duration::from_secs(86_400);

    fn config(folder: &Path) -> RecorderConfig {
        RecorderConfig {
            folder: Some(folder.to_owned()),
            most_bytes: Size::new(1 << 20).unwrap(),
            most_age: 7 * DAY,
            ..RecorderConfig::default()
        }
    }

    fn opened(folder: &Path) -> Folder {
        Folder::open(&config(folder)).unwrap().unwrap()
    }

    fn id(number: u32) -> String {
        format!("{number:016x}")
    }

    fn write(folder: &mut Folder, number: u32, bytes: usize) -> Removed {
        let mut part = folder.begin(&id(number)).unwrap();
        part.file.write_all(&vec![b'x'; bytes]).unwrap();
        // So that they differ.
        let written = wall_clock() - Duration::from_secs(1000 - u64::from(number));
        part.file.set_modified(written).unwrap();
        folder.finish(&part, wall_clock()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_make_way_for_want_of_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = opened(&dir.path().join("evidence"));
        for number in 0..10 {
            let removed = write(&mut folder, number, 200 << 10);
            let expected = Removed { for_bytes: u64::from(number >= 5), ..Removed::default() };
            assert_eq!(removed, expected, "{number}");
        }
        let expected: Vec<_> = (5..10).map(|number| format!("{}.pcapng", id(number))).collect();
        assert_eq!(names(folder.path()), expected);
        assert_eq!(folder.holds(), (5, 1000 << 10));
        // One that is written anew takes up no room twice.
        write(&mut folder, 9, 100 << 10);
        assert_eq!(folder.holds(), (5, 900 << 10));
        // The next run knows them.
        assert_eq!(opened(folder.path()).holds(), (5, 900 << 10));
        // Room that somebody else made is room.
        for number in 5..9 {
            fs::remove_file(folder.path().join(name(&id(number)).unwrap())).unwrap();
        }
        for number in 10..14 {
            write(&mut folder, number, 200 << 10);
        }
        let expected: Vec<_> = (9..14).map(|number| format!("{}.pcapng", id(number))).collect();
        assert_eq!((names(folder.path()), folder.holds()), (expected, (5, 900 << 10)));
    }

    #[test]
    fn what_is_old_goes_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence");
        let mut folder = opened(&path);
        write(&mut folder, 1, 100);
        write(&mut folder, 2, 100);
        let old = File::options().write(true).open(path.join(name(&id(1)).unwrap())).unwrap();
        old.set_modified(wall_clock() - 8 * DAY).unwrap();
        for other in ["notes.txt", "1.pcapng", "0123456789ABCDEF.pcapng"] {
            fs::write(path.join(other), "somebody's").unwrap();
        }
        symlink(path.join("notes.txt"), path.join(name(&id(3)).unwrap())).unwrap();
        fs::write(path.join(format!(".{}.part", name(&id(4)).unwrap())), "begun").unwrap();
        let mut folder = opened(&path);
        assert_eq!(folder.holds(), (2, 200));
        assert_eq!(folder.retire(wall_clock()), Removed { for_age: 1, ..Removed::default() });
        let left = names(&path);
        assert_eq!(left.len(), 5, "{left:?}");
        assert!(!left.contains(&name(&id(1)).unwrap()), "{left:?}");
        assert_eq!(folder.retire(wall_clock() + 8 * DAY), Removed { for_age: 1, ..Removed::default() });
        assert_eq!(names(&path).len(), 4);
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence");
        let mut folder = opened(&path);
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let name = name(&id(1)).unwrap();
        symlink(&victim, path.join(&name)).unwrap();
        symlink(&victim, path.join(format!(".{name}.part"))).unwrap();
        write(&mut folder, 1, 10);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(Kind::of(&path.join(&name).symlink_metadata().unwrap()), Kind::Regular);
    }

    #[test]
    fn files_are_not_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        for (redact, most) in [(Redact::Parties, MODE), (Redact::Nothing, SECRET_MODE)] {
            let config = RecorderConfig { redact, ..config(&dir.path().join(format!("{redact:?}"))) };
            let mut folder = Folder::open(&config).unwrap().unwrap();
            write(&mut folder, 1, 10);
            let mode = folder.path().join(name(&id(1)).unwrap()).metadata().unwrap().mode();
            assert_eq!(mode & 0o7777 & !most, 0, "{mode:o}");
            assert_eq!(folder.path().metadata().unwrap().mode() & 0o007, 0);
        }
    }

    #[test]
    fn a_folder_that_is_none_or_cant_be_written_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| format!("{:#}", Folder::open(&config(path)).unwrap_err());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(error(&file).ends_with("is a regular file, not a directory"), "{}", error(&file));
        let nowhere = dir.path().join("no/where");
        assert!(error(&nowhere).contains("cannot be made: No such file"), "{}", error(&nowhere));
        // Root may write there all the same.
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        if File::create(closed.join("probe")).is_err() {
            let error = error(&closed);
            assert!(error.starts_with("recorder.folder: ") && error.contains("cannot be written"), "{error}");
        }
        assert!(Folder::open(&RecorderConfig::default()).unwrap().is_none());
    }

    #[test]
    fn no_other_name_than_an_id_makes_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = opened(&dir.path().join("evidence"));
        for id in ["", "../../../etc/cron.d/x", "0123456789abcdeF", "0123456789abcdef0", "0123456789abcde/"] {
            assert_eq!(folder.begin(id).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{id}");
        }
    }
}
