//! Every message on, by HEP: to Homer, or to another sipobs. A thread of its own sends; the capture puts packets into its queue,
//! and what finds no room there is dropped and counted.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{HepConfig, HepOutConfig, HepTransport, HepUrl};
use crate::engine::Relay;
use crate::hep::{Packet, encode};
use crate::stream::{TransportKind, WireMessage};

#[cfg(test)]
mod tests;

/// Bytes of packets that may wait.
const ROOM: u64 = 16 << 20;
/// What is written to a connection at once.
const BATCH: usize = 64 << 10;
/// The longest datagram that UDP over IPv4 can carry.
const LONGEST: usize = 65_507;
/// The longest wait for a connection, and for a write to it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Before whoever could not be reached is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a name is believed where no connection tells that it leads nowhere.
const RENEW: Duration = Duration::from_secs(60);

/// Sends packets. Give it to [`crate::engine::Engine::relay_to`].
pub struct HepOut {
    key: Option<Vec<u8>>,
    id: u32,
    node: Vec<u8>,
    longest: usize,
    queue: Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// What is asked of it from elsewhere.
pub struct HepOutHandle {
    shared: Arc<Shared>,
    over: Receiver<()>,
}

/// What became of packets: `made = sent + dropped + waiting`.
#[derive(Clone, Debug, Default)]
pub struct HepOutCounts {
    /// One for each message.
    pub made: u64,
    /// Handed to the network. Over UDP nobody says whether they came.
    pub sent: u64,
    /// Not sent, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// In the queue, or being sent.
    pub waiting: u64,
    /// Times that the receiver could not be reached, or refused.
    pub failures: u64,
}

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<Counts>,
    /// Bytes in the queue.
    bytes: AtomicU64,
    /// Nobody waits for a receiver that is away any more.
    ends: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    made: u64,
    sent: u64,
    queue_full: u64,
    cut: u64,
    too_large: u64,
    failed: u64,
    failures: u64,
    /// What went wrong last.
    failure: String,
}

impl fmt::Debug for HepOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HepOut").field("id", &self.id).field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl HepOut {
    /// Starts to send where `config` says, if it says so, as the agent of this name, and never to where `hep` listens on this
    /// host. The thread that sends does `first` before anything else.
    ///
    /// # Errors
    ///
    /// When no thread can be started. A receiver that can't be reached is tried again.
    pub fn start(
        config: &HepOutConfig,
        hep: &HepConfig,
        node: &str,
        first: impl FnOnce() + Send + 'static,
    ) -> io::Result<Option<(Self, HepOutHandle)>> {
        let Some(to) = config.to.clone() else { return Ok(None) };
        let (queue, packets) = channel();
        let (done, over) = channel();
        let shared = Arc::new(Shared::default());
        let longest = if to.transport == HepTransport::Udp { LONGEST } else { usize::MAX };
        let sending = Sending { to, own: hep.clone(), packets, shared: Arc::clone(&shared) };
        thread::Builder::new().name("hep-out".into()).spawn(move || {
            first();
            sending.run();
            let _ = done.send(());
        })?;
        let key = config.key.as_ref().map(|key| key.expose().as_bytes().to_vec());
        let node = node.as_bytes().to_vec();
        let out = Self { key, id: config.id, node, longest, queue, shared: Arc::clone(&shared) };
        Ok(Some((out, HepOutHandle { shared, over })))
    }
}

impl Relay for HepOut {
    fn message(&mut self, message: &WireMessage<'_>) {
        if message.cut {
            // Its receiver would take it for whole.
            let mut counts = self.shared.counts();
            counts.made += 1;
            counts.cut += 1;
            return;
        }
        let packet = Packet {
            version: 3,
            src: message.src,
            dst: message.dst,
            protocol: match message.transport {
                TransportKind::Udp => 17,
                TransportKind::Tcp | TransportKind::Tls | TransportKind::Ws | TransportKind::Wss => 6,
            },
            time: Some(message.time),
            kind: Packet::SIP,
            capture_id: Some(self.id),
            node: (!self.node.is_empty()).then_some(&self.node),
            key: self.key.as_deref(),
            correlation_id: None,
            vlan: None,
            payload: message.bytes.into(),
        };
        let encoded = encode(&packet).ok().filter(|bytes| bytes.len() <= self.longest);
        let mut counts = self.shared.counts();
        counts.made += 1;
        let Some(bytes) = encoded else {
            counts.too_large += 1;
            return;
        };
        let length = bytes.len() as u64;
        // Nobody else adds to it.
        let fits = self.shared.bytes.load(Ordering::Acquire) + length <= ROOM;
        self.shared.bytes.fetch_add(if fits { length } else { 0 }, Ordering::AcqRel);
        if !fits || self.queue.send(bytes).is_err() {
            counts.queue_full += 1;
        }
    }
}

impl HepOutHandle {
    /// What became of all packets so far.
    pub fn counts(&self) -> HepOutCounts {
        let counts = self.shared.counts();
        let Counts { made, sent, queue_full, cut, too_large, failed, failures, .. } = *counts;
        HepOutCounts {
            made,
            sent,
            dropped: vec![
                ("queue_full", queue_full),
                ("cut", cut),
                ("too_large", too_large),
                ("failed", failed),
            ],
            waiting: made - sent - queue_full - cut - too_large - failed,
            failures,
        }
    }

    /// What went wrong last.
    pub fn failure(&self) -> String {
        self.shared.counts().failure.clone()
    }

    /// Once the [`HepOut`] is dropped: waits until all is sent, at most for `limit`.
    pub fn finish(&self, limit: Duration) {
        self.shared.ends.store(true, Ordering::Release);
        let _ = self.over.recv_timeout(limit);
    }
}

impl Shared {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &io::Error) {
        let mut counts = self.counts();
        counts.failures += 1;
        counts.failure = error.to_string();
    }
}

/// The far end of the queue.
struct Sending {
    to: HepUrl,
    /// Where this very process listens.
    own: HepConfig,
    packets: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
}

/// A way to the receiver.
enum Way {
    Udp(UdpSocket, Instant),
    Tcp(TcpStream),
}

impl Sending {
    fn run(self) {
        let mut way = None;
        while let Ok(packet) = self.packets.recv() {
            let mut batch = vec![packet];
            let mut bytes = batch[0].len();
            // As many as there are: one write for all of them.
            while bytes < BATCH {
                match self.packets.try_recv() {
                    Ok(packet) => {
                        bytes += packet.len();
                        batch.push(packet);
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if matches!(&way, Some(Way::Udp(_, since)) if since.elapsed() >= RENEW) {
                way = None;
            }
            if matches!(&way, Some(Way::Tcp(stream)) if has_ended(stream)) {
                way = None;
            }
            while way.is_none() {
                match self.open() {
                    Ok(open) => way = Some(open),
                    Err(error) => {
                        self.shared.failed(&error);
                        if self.pause() {
                            break;
                        }
                    }
                }
            }
            let sent = match &mut way {
                Some(open) => match self.send(open, &batch) {
                    Ok(sent) => sent,
                    Err(error) => {
                        self.shared.failed(&error);
                        way = None;
                        0
                    }
                },
                None => 0,
            };
            let mut counts = self.shared.counts();
            counts.sent += sent;
            counts.failed += batch.len() as u64 - sent;
            self.shared.bytes.fetch_sub(bytes as u64, Ordering::AcqRel);
        }
    }

    /// Waits before the receiver is tried again. Gives whether the end has come meanwhile.
    fn pause(&self) -> bool {
        let end = now() + PAUSE;
        while now() < end {
            if self.shared.ends.load(Ordering::Acquire) {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn open(&self) -> io::Result<Way> {
        let addresses: Vec<SocketAddr> = match self.to.socket() {
            Some(address) => vec![address],
            None => self.to.authority.to_socket_addrs()?.collect(),
        };
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match self.open_to(address) {
                Ok(way) => return Ok(way),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_to(&self, address: SocketAddr) -> io::Result<Way> {
        match self.to.transport {
            HepTransport::Udp => {
                let any: SocketAddr =
                    if address.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                self.refuse_own(socket.local_addr()?, socket.peer_addr()?)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Ok(Way::Udp(socket, now()))
            }
            HepTransport::Tcp => {
                let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
                self.refuse_own(stream.local_addr()?, stream.peer_addr()?)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Way::Tcp(stream))
            }
        }
    }

    /// Whoever sends to itself sends each message for ever. What a name stands for, and whose address one is, shows only here.
    fn refuse_own(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
        let ip = peer.ip().to_canonical();
        let is_own = ip.is_loopback() || local.ip().to_canonical() == ip;
        if is_own && self.own.hears(self.to.transport, peer) {
            let what = format!("{peer} is where hep.listen listens: each message would come back");
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        Ok(())
    }

    /// Sends all of them. Gives how many were.
    fn send(&self, way: &mut Way, batch: &[Vec<u8>]) -> io::Result<u64> {
        match way {
            Way::Udp(socket, _) => {
                let mut sent = 0;
                for packet in batch {
                    let mut result = socket.send(packet);
                    if let Err(error) = &result
                        && error.kind() == ErrorKind::ConnectionRefused
                    {
                        // Said of an earlier one; this one has not been tried.
                        self.shared.failed(error);
                        result = socket.send(packet);
                    }
                    match result {
                        Ok(_) => sent += 1,
                        Err(error) => self.shared.failed(&error),
                    }
                }
                Ok(sent)
            }
            Way::Tcp(stream) => {
                // How much of it arrived nobody knows where it fails: what comes next begins with a whole packet elsewhere.
                stream.write_all(&batch.concat())?;
                Ok(batch.len() as u64)
            }
        }
    }
}

/// Whether the other side has closed the connection: what is written to it then is lost without a word.
fn has_ended(stream: &TcpStream) -> bool {
    let ended = match stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0])) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).is_err() || ended
}

#[allow(clippy::disallowed_methods, reason = "paces and bounds, judges nothing")]
fn now() -> Instant {
    Instant::now()
}
