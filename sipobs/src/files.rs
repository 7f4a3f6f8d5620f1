//! Files that somebody named, perhaps by mistake: none of them may hang us, and nothing is done to what is none.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a pipe may take to give all it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is asked.
const TICK: Duration = Duration::from_millis(10);

/// What a regular file, or a pipe, holds, and what the system says of it. `most` is in bytes.
///
/// # Errors
///
/// Also when it is longer, or anything else than a file or a pipe.
pub fn read(path: &Path, most: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let file = open(path, OpenOptions::new().read(true), Links::Follow, &[Kind::Regular, Kind::Pipe])?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    match Kind::of(&metadata) {
        Kind::Pipe => drain(&file, &mut bytes, most, PATIENCE)?,
        _ => drop((&file).take(most + 1).read_to_end(&mut bytes)?),
    }
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("longer than {} KiB", most >> 10)));
    }
    Ok((bytes, metadata))
}

/// The same as a text.
///
/// # Errors
///
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<(String, Metadata)> {
    let (bytes, metadata) = read(path, most)?;
    // The error would hold the bytes.
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("not a text (UTF-8)"))?;
    Ok((text, metadata))
}

/// Opens what is one of `kinds`. That does not wait, and neither do reads and writes where it is a pipe or a device.
///
/// # Errors
///
/// When it can't be opened so, or is of another kind.
pub fn open(path: &Path, options: &OpenOptions, links: Links, kinds: &[Kind]) -> io::Result<File> {
    // Before: opening a device may set something going. After: it may be another one by then.
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => Kind::of(&found?).check(kinds)?,
    }
    let file = without_waiting(options, links).open(path)?;
    Kind::of(&file.metadata()?).check(kinds)?;
    Ok(file)
}

/// What to do where the path's last part is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Open what it leads to.
    Follow,
    /// Fail.
    Refuse,
}

/// What a path may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file, and nothing else.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, where that was not followed.
    Link,
    /// A pipe, named or not.
    Pipe,
    /// A socket.
    Socket,
    /// A terminal, `/dev/null` and the like.
    CharacterDevice,
    /// A disk.
    BlockDevice,
}

impl Kind {
    /// What `metadata` are those of.
    #[cfg(unix)]
    pub fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::FileTypeExt as _;
        match metadata.file_type() {
            it if it.is_dir() => Self::Directory,
            it if it.is_symlink() => Self::Link,
            it if it.is_fifo() => Self::Pipe,
            it if it.is_socket() => Self::Socket,
            it if it.is_char_device() => Self::CharacterDevice,
            it if it.is_block_device() => Self::BlockDevice,
            _ => Self::Regular,
        }
    }

    /// What `metadata` are those of.
    #[cfg(not(unix))]
    pub fn of(metadata: &Metadata) -> Self {
        if metadata.is_dir() { Self::Directory } else { Self::Regular }
    }

    /// In a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Link => "a symbolic link",
            Self::Pipe => "a pipe",
            Self::Socket => "a socket",
            Self::CharacterDevice | Self::BlockDevice => "a device",
        }
    }

    /// Whether it is one of `kinds`.
    ///
    /// # Errors
    ///
    /// When it is none; the first of them is named.
    pub fn check(self, kinds: &[Self]) -> io::Result<()> {
        if kinds.contains(&self) {
            return Ok(());
        }
        let wanted = kinds.first().map_or("", |kind| kind.as_str());
        Err(io::Error::other(format!("is {}, not {wanted}", self.as_str())))
    }
}

/// Whether everybody on this host can read it.
#[cfg(unix)]
pub fn is_public(metadata: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0
}

/// Whether everybody on this host can read it: not known here.
#[cfg(not(unix))]
pub fn is_public(_metadata: &Metadata) -> bool {
    false
}

#[cfg(unix)]
fn without_waiting(options: &OpenOptions, links: Links) -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::OFlags;
    // Nor does a terminal become ours by being opened.
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    let mut options = options.clone();
    options.custom_flags(flags.bits().cast_signed());
    options
}

#[cfg(not(unix))]
fn without_waiting(options: &OpenOptions, _links: Links) -> OpenOptions {
    options.clone()
}

/// Reads a pipe that does not block to its end. One that nobody has written to yet looks as if it were there.
fn drain(mut pipe: &File, bytes: &mut Vec<u8>, most: u64, patience: Duration) -> io::Result<()> {
    let end = now() + patience;
    let mut chunk = [0; 4096];
    while bytes.len() as u64 <= most {
        match pipe.read(&mut chunk) {
            Ok(0) if !bytes.is_empty() => break,
            Ok(read @ 1..) => {
                bytes.extend_from_slice(&chunk[..read]);
                continue;
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if now() >= end {
            return Err(io::Error::other(format!("is a pipe whose end did not come within {patience:?}")));
        }
        sleep(TICK);
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "bounds a wait, judges nothing")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    fn refused(path: &Path) -> String {
        read_text(path, 100).unwrap_err().to_string()
    }

    #[test]
    fn only_files_and_pipes_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(refused(dir.path()), "is a directory, not a regular file");
        assert_eq!(refused(&socket), "is a socket, not a regular file");
        assert_eq!(refused(Path::new("/dev/zero")), "is a device, not a regular file");
        let file = dir.path().join("file");
        assert!(refused(&file).contains("No such file"));
        std::fs::write(&file, "x".repeat(100)).unwrap();
        assert_eq!(read_text(&file, 100).unwrap().0.len(), 100);
        std::fs::write(&file, "x".repeat(101)).unwrap();
        assert_eq!(refused(&file), "longer than 0 KiB");
        std::fs::write(&file, b"q5ecret\xff").unwrap();
        assert_eq!(refused(&file), "not a text (UTF-8)");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        assert!(refused(&link).contains("Too many levels"));
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let writer = thread::spawn(move || {
            for _ in 0..3 {
                sleep(TICK * 3);
                writer.write_all(b"a = 1\n").unwrap();
            }
        });
        assert_eq!(read_text(Path::new(&path), 100).unwrap().0, "a = 1\n".repeat(3));
        writer.join().unwrap();
        drop(reader);
    }

    #[test]
    fn a_pipe_that_does_not_end_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let opened = open(&pipe, OpenOptions::new().read(true), Links::Follow, &[Kind::Pipe]).unwrap();
        let mut read = Vec::new();
        let given_up = drain(&opened, &mut read, 100, TICK).unwrap_err().to_string();
        assert!(given_up.contains("did not come"), "{given_up}");
        let mut writer = OpenOptions::new().write(true).open(&pipe).unwrap();
        writer.write_all(b"some").unwrap();
        assert!(drain(&opened, &mut read, 100, TICK).is_err() && read == b"some");
        writer.write_all(&[b'x'; 200]).unwrap();
        drain(&opened, &mut read, 100, TICK).unwrap();
        assert!(read.len() > 100, "no more than it must");
    }
}
