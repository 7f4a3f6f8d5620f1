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

use crate::leg::Lost;
pub use crate::sealed::Unreadable;
use crate::sealed::{Reader, Writer};
use crate::stream::{TransportKind, WireMessage};
use crate::timestamp::Timestamp;

/// The version that is written; no other is read. It changes with the form of [`Entry`], not with what sipobs makes of it.
const VERSION: u8 = 1;

/// How long before its end anything in it was heard at most, or behind that: a hundred days, in nanoseconds. What is due is seen
/// to step by step from then on.
const SPAN: u64 = 100 * 86_400 * 1_000_000_000;

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
    /// A call of which nothing has been said yet, by when it began, …
    OpenCall { nanos: i64 },
    /// … and an attempt. Of all others in the journal all has been said.
    OpenAttempt { nanos: i64 },
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
    originated: bool,
    #[serde(borrow, with = "serde_bytes")]
    bytes: Cow<'a, [u8]>,
}

impl<'a> Journal<'a> {
    /// How every one begins. The version follows.
    pub const MARK: &'static [u8] = b"sipobs calls\n";

    /// How far it goes.
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// When `to` takes no more.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut writer = Writer::begin(to, Self::MARK, VERSION)?;
        writer.add(&self.until.as_nanos())?;
        self.entries.iter().try_for_each(|entry| writer.add(entry))?;
        writer.end()
    }

    /// Reads what [`Self::write`] has written: all of it, or nothing.
    ///
    /// # Errors
    ///
    /// When it is anything else, or tells of times that are far from its end.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::begin(bytes, Self::MARK, VERSION)?;
        let until = Timestamp::from_nanos(reader.next()?);
        let mut entries = Vec::new();
        while !reader.is_over() {
            let mut entry: Entry<'a> = reader.next()?;
            if entry.nanos_mut().is_some_and(|nanos| nanos.abs_diff(until.as_nanos()) > SPAN) {
                return Err(Unreadable::Damaged);
            }
            entries.push(entry);
        }
        Ok(Self { until, entries })
    }
}

impl Entry<'_> {
    /// It came at another time by another clock.
    pub(crate) fn change_time(&mut self, change: impl FnOnce(Timestamp) -> Timestamp) {
        if let Some(nanos) = self.nanos_mut() {
            *nanos = change(Timestamp::from_nanos(*nanos)).as_nanos();
        }
    }

    /// When it was, if that is in it.
    fn nanos_mut(&mut self) -> Option<&mut i64> {
        match self {
            Self::Message(Kept { nanos, .. })
            | Self::OpenCall { nanos }
            | Self::OpenAttempt { nanos }
            | Self::Caller { nanos, .. } => Some(nanos),
            Self::Loss { .. } => None,
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
            tcp: wire.transport != TransportKind::Udp,
            cut: wire.cut,
            originated: wire.originated,
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
            seq: None,
            bytes: &self.bytes,
            cut: self.cut,
            originated: self.originated,
        }
    }

    /// Bytes that it takes up beside itself.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len()
    }
}
