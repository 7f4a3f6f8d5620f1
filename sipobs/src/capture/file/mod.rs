//! Capture files: pcap and pcapng, plain or gzipped, in constant memory.
//!
//! Both formats are read in one pass from any byte stream, so a file can be of any size and can come from a
//! pipe. No length that a file claims is trusted with an allocation: one buffer is made when a reader is
//! opened, and a record that claims not to fit in it is an error.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use self::input::Input;
use crate::frame::{Direction, Frame, LinkType};
use crate::timestamp::Timestamp;

mod input;
mod pcap;
mod pcapng;

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
    frames: u64,
    unsupported: u64,
    time: Timestamp,
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

/// Why a file could not be read, or not to its end. What came before stays valid.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}")]
pub struct FileError {
    /// The file as it was named, `-` for standard input.
    pub file: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a capture file. Offsets count from the start of the (uncompressed) file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It could not be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// The operating system, or the decompressor, failed.
    #[error("cannot be read at offset {offset}: {error}")]
    Read {
        /// Where.
        offset: u64,
        /// What they said.
        error: io::Error,
    },
    /// Neither pcap nor pcapng.
    #[error("not a pcap or pcapng file (it starts with {magic:#010x})")]
    Format {
        /// Its first four bytes, big-endian.
        magic: u32,
    },
    /// It ends in the middle of something.
    #[error("cut short at offset {offset}: {needed} bytes of {field} expected, {left} left")]
    Truncated {
        /// Where the unfinished field begins.
        offset: u64,
        /// Which field that is.
        field: &'static str,
        /// Its length in bytes.
        needed: u64,
        /// How many of them are there.
        left: u64,
    },
    /// A field holds a value that cannot be.
    #[error("{field} at offset {offset} is {value}, which cannot be")]
    Value {
        /// Where the field is.
        offset: u64,
        /// Which field it is.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// Every frame has a link type that sipobs does not know.
    #[error("link type {value} at offset {offset} is not supported")]
    LinkType {
        /// Where the link type stands.
        offset: u64,
        /// Its number in the pcap registry.
        value: u32,
    },
}

#[derive(Debug)]
enum Format {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
}

/// One frame as a format's reader found it: its bytes are `len` bytes at the input's `taken` position.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// `None` where the format has no time (pcapng Simple Packet Block).
    time: Option<Timestamp>,
    interface: u32,
    direction: Direction,
    /// `None` for a link type that sipobs does not know.
    link: Option<LinkType>,
    wire_len: u32,
    /// Where its bytes lie in the input's buffer.
    bytes: input::Span,
}

impl Reader {
    /// Opens the file at `path`; `-` is standard input.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or does not begin like a pcap or pcapng file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        if path.as_os_str() == "-" {
            return Self::from_read(file, None, io::stdin());
        }
        match File::open(path).and_then(|f| Ok((f.metadata()?, f))) {
            Ok((metadata, f)) => Self::from_read(file, metadata.is_file().then_some(metadata.len()), f),
            Err(error) => Err(FileError { file, fault: Fault::Open(error) }),
        }
    }

    /// Reads a capture of `total` bytes, if that is known, from `source`, which is called `file` in errors.
    ///
    /// # Errors
    ///
    /// When it does not begin like a pcap or pcapng file.
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
                frames: 0,
                unsupported: 0,
                time: Timestamp::default(),
                done: false,
            }),
            Err(fault) => Err(FileError { file, fault }),
        }
    }

    /// The next frame, `None` after the last. Frames of link types that sipobs does not know are left out,
    /// but have their number; see [`Self::unsupported`].
    ///
    /// # Errors
    ///
    /// When the file is damaged here. The frames before it were good; there are none after it.
    #[allow(clippy::should_implement_trait, reason = "the frame borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FileError> {
        let record = loop {
            if self.done {
                return Ok(None);
            }
            let next = match &mut self.format {
                Format::Pcap(header) => header.next(&mut self.input),
                Format::Pcapng(section) => section.next(&mut self.input),
            };
            match next {
                Ok(Some(record)) => {
                    self.frames += 1;
                    self.time = record.time.unwrap_or(self.time);
                    if let Some(link) = record.link {
                        break (record, link);
                    }
                    self.unsupported += 1;
                }
                Ok(None) => self.done = true,
                Err(fault) => {
                    self.done = true;
                    return Err(FileError { file: self.file.clone(), fault });
                }
            }
        };
        let (record, link) = record;
        Ok(Some(Frame {
            time: self.time,
            number: self.frames,
            interface: record.interface,
            direction: record.direction,
            link,
            wire_len: record.wire_len,
            bytes: self.input.bytes(record.bytes),
        }))
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        Progress { read: self.consumed.load(Ordering::Relaxed), total: self.total }
    }

    /// Frames so far that were left out because sipobs does not know their link type.
    pub fn unsupported(&self) -> u64 {
        self.unsupported
    }
}

/// Finds out what `source` holds: unzips it if need be and reads the file header.
fn begin(mut source: impl Read + Send + 'static) -> Result<(Input, Format), Fault> {
    let mut first = [0; 2];
    let got = fill(&mut source, &mut first).map_err(|error| Fault::Read { offset: 0, error })?;
    let whole = Cursor::new(first).take(got as u64).chain(source);
    let source: Box<dyn Read + Send> =
        if first == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };

    let mut input = Input::new(source);
    let magic: [u8; 4] = input.peek("file header")?;
    let format = if magic == pcapng::SECTION_HEADER {
        Format::Pcapng(pcapng::Section::default())
    } else if let Some(header) = pcap::Header::read(magic, &mut input)? {
        Format::Pcap(header)
    } else {
        return Err(Fault::Format { magic: u32::from_be_bytes(magic) });
    };
    Ok((input, format))
}

fn fill(source: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match source.read(&mut into[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Counts the bytes that come from the disk, before they are unzipped.
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

/// The link type with this number in the pcap registry.
fn link_type(number: u32) -> Option<LinkType> {
    Some(match number {
        0 => LinkType::Null,
        1 => LinkType::Ethernet,
        12 | 14 | 101 | 228 | 229 => LinkType::Raw,
        108 => LinkType::Loop,
        113 => LinkType::Sll,
        276 => LinkType::Sll2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
