//! What was heard of calls that are not over, carried over a restart.
//!
//! Not the tables, but the messages they were made of: a successor hears them again and comes to where its predecessor
//! was, be it of another version. A file of it is as hostile as the wire, and read by the same code.
//!
//! The messages hold full numbers: the file is for nobody but sipobs.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::leg::Lost;
use crate::stream::{TransportKind, WireMessage};
use crate::timestamp::Timestamp;

/// The version that is written; no other is read. It changes with the form of [`Entry`], not with what sipobs makes of it.
const VERSION: u8 = 1;
/// Of the checksum at the end.
const SUM: usize = 32;

/// Messages and losses in the order in which they were heard.
#[derive(Debug)]
pub struct Journal<'a> {
    /// How far it goes: nothing that came later is in it.
    pub(crate) until: Timestamp,
    pub(crate) entries: Vec<Entry<'a>>,
}

/// What was heard at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry<'a> {
    #[serde(borrow)]
    Message(Kept<'a>),
    /// A host whose INVITEs were seen, when the last one was, and whether one was answered.
    Caller { host: IpAddr, nanos: i64, answered: bool },
    /// What is known to be missing: between two hosts, or nobody knows between whom.
    Loss { between: Option<(IpAddr, IpAddr)>, lost: Lost },
}

/// A message, as much of it as is needed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept<'a> {
    nanos: i64,
    frame: u64,
    src: SocketAddr,
    dst: SocketAddr,
    tcp: bool,
    cut: bool,
    #[serde(borrow, with = "serde_bytes")]
    bytes: Cow<'a, [u8]>,
}

/// Why a journal can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It is none.
    #[error("is no journal of calls")]
    Another,
    /// Another version has written it.
    #[error("was written in another form (version {0}, not {VERSION})")]
    Version(u8),
    /// Some of it is missing, or is not what was written.
    #[error("is damaged")]
    Damaged,
}

impl<'a> Journal<'a> {
    /// How every one begins. The version follows.
    pub const MARK: &'static [u8] = b"sipobs calls\n";

    /// How far it goes.
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        !self.entries.iter().any(|entry| matches!(entry, Entry::Message(_)))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// When `to` takes no more.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let mut sum = Sha256::new();
        let mut add = |bytes: &[u8]| {
            sum.update(bytes);
            to.write_all(bytes)
        };
        add(Self::MARK)?;
        add(&[VERSION])?;
        add(&self.until.as_nanos().to_le_bytes())?;
        let mut bytes = Vec::new();
        for entry in &self.entries {
            bytes = postcard::to_extend(entry, bytes).map_err(io::Error::other)?;
            add(&bytes)?;
            bytes.clear();
        }
        to.write_all(&sum.finalize())?;
        to.flush()
    }

    /// Reads what [`Self::write`] has written: all of it, or nothing.
    ///
    /// # Errors
    ///
    /// When it is anything else.
    pub fn read(bytes: &'a [u8]) -> Result<Self, JournalError> {
        let rest = bytes.strip_prefix(Self::MARK).ok_or(JournalError::Another)?;
        let (version, rest) = rest.split_first().ok_or(JournalError::Damaged)?;
        if *version != VERSION {
            return Err(JournalError::Version(*version));
        }
        let (rest, sum) = rest.split_last_chunk::<SUM>().ok_or(JournalError::Damaged)?;
        if Sha256::digest(&bytes[..bytes.len() - SUM]).as_slice() != sum {
            return Err(JournalError::Damaged);
        }
        let (until, mut rest) = rest.split_first_chunk::<8>().ok_or(JournalError::Damaged)?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let entry;
            (entry, rest) = postcard::take_from_bytes(rest).map_err(|_| JournalError::Damaged)?;
            entries.push(entry);
        }
        Ok(Self { until: Timestamp::from_nanos(i64::from_le_bytes(*until)), entries })
    }
}

impl Entry<'_> {
    /// It came at another time by another clock.
    pub(crate) fn change_time(&mut self, change: impl FnOnce(Timestamp) -> Timestamp) {
        match self {
            Self::Message(Kept { nanos, .. }) | Self::Caller { nanos, .. } => {
                *nanos = change(Timestamp::from_nanos(*nanos)).as_nanos();
            }
            Self::Loss { .. } => {}
        }
    }
}

impl Kept<'_> {
    /// The message, with these bytes of it.
    pub(crate) fn new(wire: &WireMessage<'_>, bytes: Vec<u8>) -> Kept<'static> {
        Kept {
            nanos: wire.time.as_nanos(),
            frame: wire.frame,
            src: wire.src,
            dst: wire.dst,
            tcp: wire.transport == TransportKind::Tcp,
            cut: wire.cut,
            bytes: Cow::Owned(bytes),
        }
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_nanos(self.nanos)
    }

    /// As it came from the wire.
    pub(crate) fn as_wire(&self) -> WireMessage<'_> {
        WireMessage {
            time: self.time(),
            frame: self.frame,
            src: self.src,
            dst: self.dst,
            transport: if self.tcp { TransportKind::Tcp } else { TransportKind::Udp },
            bytes: &self.bytes,
            cut: self.cut,
        }
    }

    /// Bytes that it takes up beside itself.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len()
    }
}
