//! Capture files: pcap, pcapng and snoop, plain or packed by gzip, zstd or lz4, in constant memory.
//!
//! The formats are read in one pass from any byte stream, so a file can be of any size and can come from a
//! pipe. No length that a file claims is trusted with an allocation: one buffer is made when a reader is
//! opened, and a record that claims not to fit in it is an error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use self::fault::{Fault, FileError};
use self::input::Input;
pub use self::merge::{Capture, End, MOST_OPEN, Next, Overlap};
pub use self::secrets::Secrets;
pub use self::stop::Stop;
pub use self::write::Writer;
use crate::frame::{Direction, Frame, LinkType};
use crate::stream::KeyLog;
use crate::timestamp::Timestamp;

mod fault;
mod input;
mod merge;
mod pcap;
mod pcapng;
mod secrets;
mod snoop;
mod stop;
mod unpack;
mod write;

/// The largest frame a file may hold, in bytes: libpcap's `MAXIMUM_SNAPLEN`.
pub const MAX_FRAME: usize = 262_144;

/// Reads frames from a capture file in the order it holds them.
#[derive(Debug)]
pub struct Reader {
    file: String,
    input: Input,
    format: Format,
    consumed: Arc<AtomicU64>,
    total: Option<u64>,
    contents: Contents,
    current: Option<Record>,
    done: bool,
}

/// How far a reader has come, in bytes of the file as it lies on disk (compressed, if it is).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub read: u64,
    /// Bytes in the file; `None` for a pipe.
    pub total: Option<u64>,
}

/// What a file held, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Frames.
    pub frames: u64,
    /// When the first of them that has a time was captured.
    pub first: Option<Timestamp>,
    /// When the last of them was.
    pub last: Option<Timestamp>,
    /// Until when was captured, as the file itself says (pcapng's Interface Statistics Block).
    pub until: Option<Timestamp>,
    /// The secrets in it (pcapng's Decryption Secrets Block).
    pub secrets: Secrets,
    /// How many of the frames were of which link type.
    pub link_types: BTreeMap<LinkType, u64>,
}

#[derive(Debug)]
enum Format {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
    Snoop(snoop::Header),
}

/// One frame as a format's reader found it: its bytes are `len` bytes at the input's `taken` position.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// `None` where the format has no time (pcapng Simple Packet Block).
    time: Option<Timestamp>,
    interface: u32,
    direction: Direction,
    link: LinkType,
    wire_len: u32,
    /// Where its bytes lie in the input's buffer.
    bytes: input::Span,
}

impl Record {
    /// The next `len` bytes of `input`, of a format that has one interface and no directions.
    fn take(input: &mut Input, link: LinkType, nanos: i64, wire_len: u32, len: u32) -> Result<Self, Fault> {
        Ok(Self {
            time: Some(Timestamp::from_nanos(nanos)),
            interface: 0,
            direction: Direction::Unknown,
            link,
            wire_len: wire_len.max(len),
            bytes: input.take(len as usize, "frame")?,
        })
    }
}

/// Refuses a frame's captured length, which stands at `offset`, where no frame is that long.
fn check_len(captured: u32, offset: u64) -> Result<(), Fault> {
    if captured as usize > MAX_FRAME {
        return Err(Fault::Value { offset, field: "captured length", value: u64::from(captured) });
    }
    Ok(())
}

impl Reader {
    /// Opens the file at `path`; `-` is standard input.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or does not begin like a file of a format that is read here.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        Self::open_until(path.as_ref(), &Stop::never())
    }

    /// The same; what comes through a pipe ends once `stop` is asked for.
    fn open_until(path: &Path, stop: &Stop) -> Result<Self, FileError> {
        let file = path.display().to_string();
        if path.as_os_str() == "-" {
            return match standard_input() {
                Ok(input) => Self::from_read(file, None, stop.until(input)),
                Err(error) => Err(FileError { file, fault: Fault::Open(error) }),
            };
        }
        match File::open(path).and_then(|f| Ok((f.metadata()?, f))) {
            Ok((metadata, f)) if metadata.is_file() => Self::from_read(file, Some(metadata.len()), f),
            Ok((_, f)) => Self::from_read(file, None, stop.until(f)),
            Err(error) => Err(FileError { file, fault: Fault::Open(error) }),
        }
    }

    /// Reads a capture of `total` bytes, if that is known, from `source`, which is called `file` in errors.
    ///
    /// # Errors
    ///
    /// When it does not begin like a file of a format that is read here.
    pub fn from_read(
        file: impl Into<String>,
        total: Option<u64>,
        source: impl Read + Send + 'static,
    ) -> Result<Self, FileError> {
        let file = file.into();
        let consumed = Arc::new(AtomicU64::new(0));
        match begin(Counted { source, consumed: Arc::clone(&consumed) }) {
            Ok((input, format)) => Ok(Self {
                file,
                input,
                format,
                consumed,
                total,
                contents: Contents::default(),
                current: None,
                done: false,
            }),
            Err(fault) => Err(FileError { file, fault }),
        }
    }

    /// The next frame, `None` after the last.
    ///
    /// # Errors
    ///
    /// When the file is damaged here. The frames before it were good; there are none after it.
    #[allow(clippy::should_implement_trait, reason = "the frame borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FileError> {
        self.advance()?;
        Ok(self.frame())
    }

    /// Goes on to the next frame; `false` after the last.
    fn advance(&mut self) -> Result<bool, FileError> {
        self.current = None;
        if self.done {
            return Ok(false);
        }
        let next = match &mut self.format {
            Format::Pcap(header) => header.next(&mut self.input),
            Format::Pcapng(section) => section.next(&mut self.input),
            Format::Snoop(header) => header.next(&mut self.input),
        };
        self.done = !matches!(next, Ok(Some(_)));
        if let Format::Pcapng(section) = &self.format {
            (self.contents.until, self.contents.secrets) = (section.until, section.secrets);
        }
        self.current = next.map_err(|fault| FileError { file: self.file.clone(), fault })?;
        if let Some(record) = &self.current {
            self.contents.take(record);
        }
        Ok(self.current.is_some())
    }

    /// Secrets of TLS that came since they were asked for last.
    fn take_keys(&mut self) -> KeyLog {
        match &mut self.format {
            Format::Pcapng(section) if !section.keys.is_empty() => std::mem::take(&mut section.keys),
            _ => KeyLog::default(),
        }
    }

    /// The frame that it has come to.
    fn frame(&self) -> Option<Frame<'_>> {
        let record = self.current?;
        Some(Frame {
            time: self.contents.last.unwrap_or_default(),
            number: self.contents.frames,
            interface: record.interface,
            direction: record.direction,
            link: record.link,
            wire_len: record.wire_len,
            bytes: self.input.bytes(record.bytes),
        })
    }

    /// What it has held so far.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        Progress { read: self.consumed.load(Ordering::Relaxed), total: self.total }
    }

    /// The file as it was named.
    pub fn name(&self) -> &str {
        &self.file
    }
}

impl Contents {
    /// The link types among them that sipobs does not read.
    pub fn unread(&self) -> impl Iterator<Item = (LinkType, u64)> {
        let unread = self.link_types.iter().filter(|(link, _)| matches!(link, LinkType::Other(_)));
        unread.map(|(link, frames)| (*link, *frames))
    }

    fn take(&mut self, record: &Record) {
        self.frames += 1;
        *self.link_types.entry(record.link).or_default() += 1;
        self.first = self.first.or(record.time);
        self.last = record.time.or(self.last);
    }
}

/// Without a buffer of its own: whether bytes have come is asked of the descriptor ([`Stop`]).
#[cfg(unix)]
fn standard_input() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(not(unix))]
fn standard_input() -> io::Result<io::Stdin> {
    Ok(io::stdin())
}

/// Finds out what `source` holds: unpacks it if need be and reads the file header.
fn begin(source: impl Read + Send + 'static) -> Result<(Input, Format), Fault> {
    let mut input = Input::new(unpack::unpack(source)?);
    input.need(4, "file header")?;
    let ahead = input.ahead(fault::LONGEST_MAGIC);
    let magic = [ahead[0], ahead[1], ahead[2], ahead[3]];
    let (foreign, snoop) = (fault::foreign(ahead), ahead.starts_with(&snoop::MAGIC));
    let format = if magic == pcapng::SECTION_HEADER {
        Format::Pcapng(pcapng::Section::default())
    } else if snoop {
        Format::Snoop(snoop::Header::read(&mut input)?)
    } else if let Some(header) = pcap::Header::read(magic, &mut input)? {
        Format::Pcap(header)
    } else {
        return Err(foreign);
    };
    Ok((input, format))
}

/// Counts the bytes that come from the disk, before they are unpacked.
struct Counted<R> {
    source: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(into)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
