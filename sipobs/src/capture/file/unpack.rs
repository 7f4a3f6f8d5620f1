//! Compressed files, unpacked as they are read, in bounded memory: gzip, Zstandard and LZ4.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::Fault;

/// What a file holds, and how it was packed.
pub(super) struct Unpacked {
    pub(super) source: Box<dyn Read + Send>,
    /// What is cut where the source ends too early.
    pub(super) packing: &'static str,
}

/// Programs that pack, and what a file of theirs begins with, which sipobs leaves to them.
const OTHERS: &[(&[u8], &str, &str)] = &[
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"PK\x03\x04", "zip", "unzip -p"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "7z x -so"),
    (b"\x1f\x9d", "compress", "gzip -dc"),
    (b"\x02\x21\x4c\x18", "lz4, in its old format", "lz4 -dc"),
];

/// Tells by its first bytes how `source` is packed.
pub(super) fn unpack(mut source: impl Read + Send + 'static) -> Result<Unpacked, Fault> {
    let mut first = [0; 6];
    let got = fill(&mut source, &mut first).map_err(|error| Fault::Read { offset: 0, error })?;
    if let Some(&(_, by, command)) = OTHERS.iter().find(|(magic, ..)| first[..got].starts_with(magic)) {
        return Err(Fault::Packed { by, command });
    }
    let whole = Cursor::new(first).take(got as u64).chain(source);
    let (source, packing): (Box<dyn Read + Send>, _) = match first {
        [0x1f, 0x8b, ..] => (Box::new(MultiGzDecoder::new(whole)), "gzip stream"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (Box::new(Zstd::new(whole)), "zstd stream"),
        [0x04, 0x22, 0x4d, 0x18, ..] => (Box::new(Lz4::new(whole)), "lz4 stream"),
        _ => (Box::new(whole), "file"),
    };
    Ok(Unpacked { source, packing })
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

/// Frames of Zstandard one behind the other (RFC 8878 §3). One that wants a window beyond 128 MiB, the decoder's
/// own limit, is an error.
struct Zstd<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    inside: bool,
}

impl<R: Read> Zstd<R> {
    fn new(source: R) -> Self {
        Self { source: BufReader::new(source), decoder: FrameDecoder::new(), inside: false }
    }

    /// Enters the next frame, past those that are to be skipped; `false` at the end.
    fn enter(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(of_zstd(error)),
            }
        }
        Ok(false)
    }

    fn check(&self) -> io::Result<()> {
        match self.decoder.get_checksum_from_data() {
            Some(sum) if self.decoder.get_calculated_checksum() != Some(sum) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the zstd frame's checksum does not fit"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside {
                self.inside = self.enter()?;
                if !self.inside {
                    return Ok(0);
                }
            }
            let got = self.decoder.read(into)?;
            if got > 0 {
                return Ok(got);
            }
            if self.decoder.is_finished() {
                self.check()?;
                self.inside = false;
            } else {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(of_zstd)?;
            }
        }
    }
}

/// A source that ended too early is told as such, as by the other decoders.
fn of_zstd(error: FrameDecoderError) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return io.kind().into();
        }
        cause = current.source();
    }
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Frames of LZ4 one behind the other. Their decoder takes a source that ends between two blocks for the end of the
/// frame; only the end mark is.
struct Lz4<R: Read> {
    decoder: lz4_flex::frame::FrameDecoder<Meter<R>>,
    inside: bool,
}

/// Counts what is taken from a source.
struct Meter<R> {
    source: R,
    taken: u64,
}

impl<R: Read> Lz4<R> {
    fn new(source: R) -> Self {
        let meter = Meter { source, taken: 0 };
        Self { decoder: lz4_flex::frame::FrameDecoder::new(meter), inside: false }
    }
}

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        const END_MARK: u64 = 4;
        loop {
            let before = self.decoder.get_ref().taken;
            let got = self.decoder.read(into)?;
            match self.decoder.get_ref().taken - before {
                _ if got > 0 => {
                    self.inside = true;
                    return Ok(got);
                }
                END_MARK.. => self.inside = false,
                0 if !self.inside => return Ok(0),
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(into)?;
        self.taken += got as u64;
        Ok(got)
    }
}
