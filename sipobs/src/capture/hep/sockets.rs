//! The sockets that HEP comes in by, read by one thread.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Closed, Shared, size};
use crate::config::HepTransport;
use crate::discard::DiscardReason;
use crate::hep;

/// TCP connections at a time.
pub(super) const MOST_CONNECTIONS: usize = 256;
/// The time that a connection has for its first packet of use.
pub(super) const FIRST: Duration = Duration::from_secs(10);
/// What a socket may hold until it is read, where the kernel gives as much.
const SOCKET_BYTES: usize = 4 << 20;
/// The longest packet, as its length has two octets.
const LONGEST: usize = 65_535;
/// Bytes of a connection's buffer where no packet needs more.
const USUAL: usize = 4096;
/// Before a socket that failed is tried again.
const PAUSE: Duration = Duration::from_millis(20);
/// At the end, for what has come in already.
const LAST: Duration = Duration::from_millis(50);

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Udp(std::net::UdpSocket),
    Tcp(std::net::TcpListener),
}

impl Socket {
    pub(super) fn bind(transport: HepTransport, address: SocketAddr) -> io::Result<Self> {
        match transport {
            HepTransport::Udp => {
                let socket = std::net::UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                // As much as net.core.rmem_max allows, where it may not be more.
                if sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES).is_err() {
                    sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES)?;
                }
                Ok(Self::Udp(socket))
            }
            HepTransport::Tcp => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
        }
    }

    /// One of datagrams, once more.
    pub(super) fn datagrams(&self) -> Option<io::Result<OwnedFd>> {
        match self {
            Self::Udp(socket) => Some(socket.as_fd().try_clone_to_owned()),
            Self::Tcp(_) => None,
        }
    }
}

/// Reads all of them until told to stop.
pub(super) async fn serve(sockets: Vec<Socket>, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let mut datagrams = Vec::new();
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    for socket in sockets {
        match socket {
            Socket::Udp(socket) => {
                let Ok(socket) = UdpSocket::from_std(socket) else { continue };
                let socket = Arc::new(socket);
                tokio::spawn(read_datagrams(Arc::clone(&socket), Arc::clone(&shared)));
                datagrams.push(socket);
            }
            Socket::Tcp(listener) => {
                let Ok(listener) = TcpListener::from_std(listener) else { continue };
                tokio::spawn(accept(listener, Arc::clone(&connections), Arc::clone(&shared)));
            }
        }
    }
    let _ = stopped.await;
    // What lies in the sockets has come.
    sleep(LAST).await;
    let mut buffer = vec![0; LONGEST];
    let end = Instant::now() + LAST;
    for socket in datagrams {
        while let Ok(length) = socket.try_recv(&mut buffer) {
            datagram(&shared, &buffer[..length]);
            if Instant::now() >= end {
                break;
            }
        }
    }
}

async fn read_datagrams(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => datagram(&shared, &buffer[..length]),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn datagram(shared: &Shared, bytes: &[u8]) {
    let packet = match shared.unpack(bytes) {
        Ok(packet) => packet,
        Err(reason) => return shared.count_unused(HepTransport::Udp, reason),
    };
    match Arc::clone(&shared.room).try_acquire_many_owned(size(&packet)) {
        Ok(room) => shared.hand_over(HepTransport::Udp, packet, room),
        Err(_) => shared.count_unused(HepTransport::Udp, DiscardReason::HepQueueFull),
    }
}

async fn accept(listener: TcpListener, connections: Arc<Semaphore>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say.
            sleep(PAUSE).await;
            continue;
        };
        match Arc::clone(&connections).try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(connection(stream, Arc::clone(&shared), place))),
            Err(_) => shared.count_closed(Closed::Limit),
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, place: OwnedSemaphorePermit) {
    // One whose agent is gone without a word must not keep its place. Where it can't be said, it does.
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, Duration::from_secs(60));
    shared.counts().connections += 1;
    let closed = read_packets(&stream, &shared).await;
    drop(stream);
    drop(place);
    let mut counts = shared.counts();
    counts.connections -= 1;
    if let Some(why) = closed {
        counts.closed[why as usize] += 1;
    }
}

/// Reads packets until the other side has no more, or it is closed from this side, which it gives.
async fn read_packets(stream: &TcpStream, shared: &Shared) -> Option<Closed> {
    let end = Instant::now() + FIRST;
    let mut is_proven = false;
    let mut buffer = vec![0; USUAL];
    // What lies in it, not yet taken.
    let (mut from, mut to) = (0, 0);
    loop {
        let length = match hep::length(&buffer[from..to]) {
            Ok(length) => length,
            Err(_) => {
                // Where the next one would begin, nobody knows.
                shared.count_unused(HepTransport::Tcp, DiscardReason::HepLength);
                return Some(Closed::NoHep);
            }
        };
        if let Some(length) = length.filter(|length| from + length <= to) {
            is_proven |= packet(shared, &buffer[from..from + length]).await;
            from += length;
            continue;
        }
        // Also of one that always has more to read, but nothing of use.
        if !is_proven && Instant::now() >= end {
            return Some(Closed::Silent);
        }
        buffer.copy_within(from..to, 0);
        (from, to) = (0, to - from);
        buffer.resize(length.unwrap_or(0).max(USUAL), 0);
        let read = async {
            loop {
                stream.readable().await?;
                match stream.try_read(&mut buffer[to..]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    result => return result,
                }
            }
        };
        let read = if is_proven {
            read.await
        } else {
            match timeout_at(end, read).await {
                Ok(read) => read,
                Err(_) => return Some(Closed::Silent),
            }
        };
        match read {
            Ok(0) | Err(_) => {
                if to > 0 {
                    shared.count_unused(HepTransport::Tcp, DiscardReason::HepCut);
                }
                return None;
            }
            Ok(more) => to += more,
        }
        // Others have their turn, however much this one sends.
        tokio::task::yield_now().await;
    }
}

/// Takes a packet, as soon as there is room. Gives whether its sender may send.
async fn packet(shared: &Shared, bytes: &[u8]) -> bool {
    let packet = match shared.unpack(bytes) {
        Ok(packet) => packet,
        Err(reason) => {
            shared.count_unused(HepTransport::Tcp, reason);
            // Sound, and behind the key: RTCP, or what keeps a connection alive.
            return matches!(
                reason,
                DiscardReason::HepOther | DiscardReason::NotSip | DiscardReason::NoPayload
            );
        }
    };
    match Arc::clone(&shared.room).acquire_many_owned(size(&packet)).await {
        Ok(room) => shared.hand_over(HepTransport::Tcp, packet, room),
        Err(_) => shared.count_unused(HepTransport::Tcp, DiscardReason::HepQueueFull),
    }
    true
}
