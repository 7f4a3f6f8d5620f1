//! Live HEP: what agents and proxies send, over UDP and TCP, as messages for the engine.
//!
//! A thread of its own reads the sockets, looks at keys and unpacks, so that whoever sends nonsense costs the capture nothing. What
//! it lets through waits, up to [`ROOM`] bytes: over TCP an agent waits until there is room, over UDP what finds none is dropped
//! and counted.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use strum::VariantArray;
use subtle::ConstantTimeEq as _;
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::live::dropped_by_socket;
use crate::config::{HepConfig, HepTransport, Secret};
use crate::discard::{DiscardCounts, DiscardReason};
use crate::hep::{self, Packet};
use crate::sip::start_line::{begins_like_sip, leading_line_ends};
use crate::stream::TransportKind;

mod sockets;

use sockets::Socket;

#[cfg(test)]
mod tests;

/// Bytes of messages that may wait for the engine.
const ROOM: usize = 8 << 20;
/// What a message that waits takes up beside its bytes, at most.
const BESIDE: usize = 256;

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("hep.listen: {}://{address}: cannot listen: {source}", transport.as_str())]
pub struct HepError {
    /// How.
    pub transport: HepTransport,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// A message that has come.
#[derive(Debug)]
pub struct Received {
    /// When it was read.
    pub at: Instant,
    /// Who sent it.
    pub src: SocketAddr,
    /// Who it was sent to.
    pub dst: SocketAddr,
    /// Over which transport it went between these.
    pub transport: TransportKind,
    /// The message.
    pub bytes: Vec<u8>,
    /// Given back once it is dropped.
    room: OwnedSemaphorePermit,
}

/// What became of packets: `received = used + unused + waiting`.
#[derive(Clone, Debug, Default)]
pub struct HepCounts {
    /// Packets read from sockets, in the order of [`HepTransport::ALL`].
    pub received: [u64; HepTransport::ALL.len()],
    /// Those of them that gave the engine a message.
    pub used: u64,
    /// Those that did not, by reason.
    pub unused: DiscardCounts,
    /// Those that wait for the engine now.
    pub waiting: u64,
    /// Packets that the kernel dropped, as they were not read in time; they are not among those received.
    pub lost_in_kernel: u64,
    /// TCP connections that are open now.
    pub connections: u64,
    /// TCP connections that were not let in, or not left open, by [`Closed`].
    pub closed: [u64; Closed::ALL.len()],
}

/// Why a connection was closed from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum Closed {
    /// There are too many.
    Limit,
    /// It sent no packet that could be used, in the time there is for the first.
    Silent,
    /// It sent something else than HEP of version 3.
    NoHep,
}

impl Closed {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// As in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Silent => "silent",
            Self::NoHep => "no_hep",
        }
    }
}

impl HepCounts {
    /// Reasons for which a packet may lead to nothing.
    const REASONS: [DiscardReason; 13] = [
        DiscardReason::HepCut,
        DiscardReason::HepLength,
        DiscardReason::HepChunk,
        DiscardReason::HepMissing,
        DiscardReason::HepCompressed,
        DiscardReason::HepTooLarge,
        DiscardReason::HepKey,
        DiscardReason::HepQueueFull,
        DiscardReason::HepOther,
        DiscardReason::OtherPort,
        DiscardReason::OtherTap,
        DiscardReason::NoPayload,
        DiscardReason::NotSip,
    ];

    /// What is told of [`Self::unused`]: the reasons that there may be, also the zeros, and whatever else is counted.
    pub fn told(unused: &DiscardCounts) -> impl Iterator<Item = (DiscardReason, u64)> + '_ {
        unused.iter().filter(|(reason, count)| *count > 0 || Self::REASONS.contains(reason))
    }

    /// Messages that have come, or should have, and will not be heard.
    pub const fn lost(&self) -> u64 {
        self.unused.of(DiscardReason::HepQueueFull) + self.lost_in_kernel
    }
}

/// A running source of messages. Dropping it ends it.
#[derive(Debug)]
pub struct Hep {
    shared: Arc<Shared>,
    /// The datagram sockets once more, to be asked for what the kernel has dropped.
    datagrams: Vec<OwnedFd>,
    received: Receiver<Received>,
    next: Option<Received>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hep {
    /// Listens where `config` says, if it says so. Messages of more than `most` bytes are refused.
    ///
    /// # Errors
    ///
    /// When an address can't be listened on, or no thread can be started, which is told of the first address.
    pub fn open(config: &HepConfig, most: usize) -> Result<Option<Self>, HepError> {
        let mut sockets = Vec::new();
        let mut first = None;
        for (transport, address) in config.sockets() {
            let wrong = |source| HepError { transport, address, source };
            sockets.push(Socket::bind(transport, address).map_err(wrong)?);
            first = first.or(Some((transport, address)));
        }
        let Some((transport, address)) = first else { return Ok(None) };
        Self::start(sockets, config.key.clone(), most).map(Some).map_err(|source| HepError {
            transport,
            address,
            source,
        })
    }

    fn start(sockets: Vec<Socket>, key: Option<Secret>, most: usize) -> io::Result<Self> {
        let (sender, received) = channel();
        let (stop, stopped) = oneshot::channel();
        let room = Arc::new(Semaphore::new(ROOM));
        let shared = Arc::new(Shared { key, most, room, counts: Mutex::default(), sender });
        let datagrams = sockets.iter().filter_map(Socket::datagrams).collect::<io::Result<_>>()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let serving = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("hep".into())
            .spawn(move || runtime.block_on(sockets::serve(sockets, serving, stopped)))?;
        Ok(Self { shared, datagrams, received, next: None, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until there is something to take, at most for `timeout`.
    pub fn wait(&mut self, timeout: Duration) {
        if self.next.is_none() {
            self.next = match self.received.recv_timeout(timeout) {
                Ok(received) => Some(received),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(timeout);
                    None
                }
            };
        }
    }

    /// The next message that has come, if it came no later than `until`. Say [`Self::done`] with it.
    pub fn take(&mut self, until: Instant) -> Option<Received> {
        let next = self.next.take().or_else(|| self.received.try_recv().ok())?;
        if next.at > until {
            self.next = Some(next);
            return None;
        }
        Some(next)
    }

    /// Says what came of a message that was taken.
    pub fn done(&self, message: Received, result: Result<(), DiscardReason>) {
        let mut counts = self.shared.counts();
        counts.waiting -= 1;
        match result {
            Ok(()) => counts.used += 1,
            Err(reason) => counts.unused.add(reason, 1),
        }
        drop(message.room);
    }

    /// Takes what has already come, and no more.
    pub fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// What became of all packets so far.
    pub fn counts(&self) -> HepCounts {
        let lost_in_kernel = self.datagrams.iter().map(|socket| dropped_by_socket(socket.as_fd())).sum();
        HepCounts { lost_in_kernel, ..self.shared.counts().clone() }
    }
}

/// What both threads have.
#[derive(Debug)]
struct Shared {
    key: Option<Secret>,
    /// Bytes of a message at most.
    most: usize,
    room: Arc<Semaphore>,
    counts: Mutex<HepCounts>,
    sender: Sender<Received>,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, HepCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a packet carries, if it may be used.
    fn unpack<'a>(&self, bytes: &'a [u8]) -> Result<Packet<'a>, DiscardReason> {
        if let Some(key) = &self.key {
            // Before anything is unpacked, and in a time that tells nothing of where the keys differ.
            let shown = hep::key(bytes)?.unwrap_or_default();
            if !bool::from(shown.ct_eq(key.expose().as_bytes())) {
                return Err(DiscardReason::HepKey);
            }
        }
        let packet = hep::decode(bytes, self.most)?;
        if packet.kind != Packet::SIP {
            return Err(DiscardReason::HepOther);
        }
        // As the engine would, which need not hear of it.
        match &packet.payload[leading_line_ends(&packet.payload)..] {
            [] => Err(DiscardReason::NoPayload),
            bytes if !begins_like_sip(bytes) => Err(DiscardReason::NotSip),
            _ => Ok(packet),
        }
    }

    /// Hands a message over to the engine's thread.
    fn hand_over(&self, came_by: HepTransport, packet: Packet<'_>, room: OwnedSemaphorePermit) {
        let (src, dst, transport) = (packet.src, packet.dst, packet.transport());
        let bytes = packet.payload.into_owned();
        let mut counts = self.counts();
        // Sent before it is counted, and counted before it can be done with.
        if self.sender.send(Received { at: now(), src, dst, transport, bytes, room }).is_ok() {
            counts.received[came_by as usize] += 1;
            counts.waiting += 1;
        }
    }

    fn count_unused(&self, came_by: HepTransport, reason: DiscardReason) {
        let mut counts = self.counts();
        counts.received[came_by as usize] += 1;
        counts.unused.add(reason, 1);
    }

    fn count_closed(&self, why: Closed) {
        self.counts().closed[why as usize] += 1;
    }
}

/// Bytes of room that a message takes, with what it takes up beside its own; never more than there is.
fn size(packet: &Packet<'_>) -> u32 {
    u32::try_from((packet.payload.len() + BESIDE).min(ROOM)).unwrap_or(u32::MAX)
}

#[allow(
    clippy::disallowed_methods,
    reason = "when a packet was read; the engine's clock takes it from there"
)]
fn now() -> Instant {
    Instant::now()
}
