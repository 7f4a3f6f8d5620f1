//! A window that slides over a byte stream: one buffer, made once.

use std::fmt;
use std::io::{self, Read};

use super::unpack::Unpacked;
use super::{Fault, MAX_FRAME};
use crate::work;

/// Room for the largest frame with its block header and options, and to read ahead.
pub(super) const BUFFER: usize = 2 * MAX_FRAME;

/// The window.
pub(super) struct Input {
    source: Box<dyn Read + Send>,
    buffer: Box<[u8]>,
    /// The unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The file offset of `buffer[start]`.
    offset: u64,
    /// What the source came out of, and whether that ended in its middle.
    packing: &'static str,
    cut: bool,
    /// What the source failed with. Told once somebody needs what is behind.
    failed: Option<io::Error>,
}

/// A piece of the buffer. Good until the next call that reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    from: usize,
    len: usize,
}

impl Input {
    pub(super) fn new(Unpacked { source, packing }: Unpacked) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { source, buffer, start: 0, end: 0, offset: 0, packing, cut: false, failed: None }
    }

    /// The offset of the next byte in the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        &self.buffer[span.from..span.from + span.len]
    }

    /// Whether the file ends here.
    pub(super) fn at_end(&mut self) -> Result<bool, Fault> {
        if self.available(1) > 0 {
            return Ok(false);
        }
        self.not_failed()?;
        if self.cut {
            return Err(Fault::Truncated { offset: self.offset, field: self.packing, needed: 1, left: 0 });
        }
        Ok(true)
    }

    /// The next `len` bytes, left where they are, or as many as there are before the end; no more than the buffer holds.
    pub(super) fn ahead(&mut self, len: usize) -> &[u8] {
        let len = self.available(len).min(len);
        &self.buffer[self.start..self.start + len]
    }

    /// Takes the next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Fault> {
        self.need(N, field)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.start..self.start + N]);
        self.advance(N);
        Ok(bytes)
    }

    /// Takes the next `len` bytes, which the caller knows to be no more than the buffer holds.
    pub(super) fn take(&mut self, len: usize, field: &'static str) -> Result<Span, Fault> {
        self.need(len, field)?;
        let span = Span { from: self.start, len };
        self.advance(len);
        Ok(span)
    }

    /// Passes over the next `len` bytes, however many that is.
    pub(super) fn skip(&mut self, len: u64, field: &'static str) -> Result<(), Fault> {
        let (from, mut left) = (self.offset, len);
        while left > 0 {
            let step = self.available(1).min(usize::try_from(left).unwrap_or(usize::MAX));
            if step == 0 {
                self.not_failed()?;
                return Err(Fault::Truncated { offset: from, field, needed: len, left: len - left });
            }
            self.advance(step);
            left -= step as u64;
        }
        Ok(())
    }

    fn advance(&mut self, n: usize) {
        self.start += n;
        self.offset += n as u64;
    }

    /// Whether the next `n` bytes are there; no more than the buffer holds.
    pub(super) fn need(&mut self, n: usize, field: &'static str) -> Result<(), Fault> {
        let left = self.available(n);
        if left < n {
            self.not_failed()?;
            let (needed, left) = (n as u64, left as u64);
            return Err(Fault::Truncated { offset: self.offset, field, needed, left });
        }
        Ok(())
    }

    fn not_failed(&mut self) -> Result<(), Fault> {
        match self.failed.take() {
            Some(error) => Err(Fault::Read { offset: self.offset, error }),
            None => Ok(()),
        }
    }

    /// Reads until `n` bytes are there or the source ends; returns how many are there.
    fn available(&mut self, n: usize) -> usize {
        debug_assert!(n <= BUFFER);
        if self.end - self.start < n && self.start + n > BUFFER {
            work::count(self.end - self.start);
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        while self.end - self.start < n && !self.cut && self.failed.is_none() {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(got) => {
                    work::count(got);
                    self.end += got;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A packed stream that stops early: for the reader of the capture, the file is cut short.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.cut = true,
                Err(error) => self.failed = Some(error),
            }
        }
        self.end - self.start
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Span {
    pub(super) fn len(self) -> usize {
        self.len
    }

    /// The first `at` bytes, which are there, and the rest.
    pub(super) fn split(self, at: usize) -> (Self, Self) {
        debug_assert!(at <= self.len);
        (Self { len: at, ..self }, Self { from: self.from + at, len: self.len - at })
    }
}
