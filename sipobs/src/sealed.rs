//! Files from one run of sipobs to the next: a mark, a version, entries, and a checksum of all that.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Of the checksum at the end.
const SUM: usize = 32;

/// Why such a file can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is something else.
    #[error("was not written by sipobs")]
    Another,
    /// It has another form.
    #[error("was written in another form (version {0}) than is read here")]
    Version(u8),
    /// Some of it is missing, or is not what was written.
    #[error("is damaged")]
    Damaged,
}

/// Writes one.
pub(crate) struct Writer<W> {
    to: W,
    sum: Sha256,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn begin(to: W, mark: &[u8], version: u8) -> io::Result<Self> {
        let mut this = Self { to, sum: Sha256::new(), buffer: [mark, &[version]].concat() };
        this.pass_on()?;
        Ok(this)
    }

    pub(crate) fn add(&mut self, entry: &impl Serialize) -> io::Result<()> {
        self.buffer =
            postcard::to_extend(entry, std::mem::take(&mut self.buffer)).map_err(io::Error::other)?;
        self.pass_on()
    }

    pub(crate) fn end(mut self) -> io::Result<()> {
        self.to.write_all(&self.sum.finalize())?;
        self.to.flush()
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.sum.update(&self.buffer);
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// What is left to read of one.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins to read `bytes`, which must be whole.
    pub(crate) fn begin(bytes: &'a [u8], mark: &[u8], version: u8) -> Result<Self, Unreadable> {
        let rest = bytes.strip_prefix(mark).ok_or(Unreadable::Another)?;
        let (is, rest) = rest.split_first().ok_or(Unreadable::Damaged)?;
        if *is != version {
            return Err(Unreadable::Version(*is));
        }
        let (rest, sum) = rest.split_last_chunk::<SUM>().ok_or(Unreadable::Damaged)?;
        if Sha256::digest(&bytes[..bytes.len() - SUM]).as_slice() != sum {
            return Err(Unreadable::Damaged);
        }
        Ok(Self(rest))
    }

    /// The next entry.
    pub(crate) fn next<T: Deserialize<'a>>(&mut self) -> Result<T, Unreadable> {
        let (entry, rest) = postcard::take_from_bytes(self.0).map_err(|_| Unreadable::Damaged)?;
        self.0 = rest;
        Ok(entry)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARK: &[u8] = b"mark\n";

    fn sealed(entries: &[String]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes, MARK, 3).unwrap();
        entries.iter().for_each(|entry| writer.add(entry).unwrap());
        writer.end().unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, Unreadable> {
        let mut reader = Reader::begin(bytes, MARK, 3)?;
        let mut entries = Vec::new();
        while !reader.is_over() {
            entries.push(reader.next()?);
        }
        Ok(entries)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(entries: Vec<String>) {
            prop_assert_eq!(read(&sealed(&entries)), Ok(entries));
        }

        #[test]
        fn what_was_damaged_is_not(entries: Vec<String>, at: prop::sample::Index, with: u8, cut: bool) {
            let mut bytes = sealed(&entries);
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                prop_assume!(bytes[at] != with);
                bytes[at] = with;
            }
            prop_assert!(read(&bytes).is_err());
        }
    }
}
