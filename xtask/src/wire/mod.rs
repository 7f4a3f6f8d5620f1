//! Writing traffic: SIP text, UDP and TCP over IPv4 or IPv6 over Ethernet, and capture files of it.
//!
//! ```ignore
//! let mut trace = Trace::new(BufWriter::new(File::create(path)?))?;
//! let invite = Sip::request("INVITE", "sip:100@192.0.2.2").header("Call-ID", "a@b").body("application/sdp", SDP);
//! trace.udp(0, "192.0.2.1:5060".parse()?, "192.0.2.2:5060".parse()?, &invite.bytes());
//!
//! let mut connection = Tcp::open(&mut trace, 10, client, server);
//! connection.send(&mut trace, 20, From::Client, &invite.bytes());
//! connection.close(&mut trace, 30, From::Client);
//! trace.finish()?;
//! ```
//!
//! Times are microseconds since the start of the trace, which is the same moment on every run. Frames may be
//! given in any order: they are held back and written sorted by time, those of one time in the order they were
//! given. [`Trace::settle`] bounds how much is held.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

pub(crate) use self::path::{Around, Path};
pub(crate) use self::sip::{Sip, phrase};

mod path;
mod sip;

/// Where every trace begins: 2026-01-05 09:00:00 UTC, in seconds since the Unix epoch.
pub(crate) const EPOCH: u64 = 1_767_603_600;

/// A frame by its time and its turn, with the seconds that its clock is ahead.
type Held = Reverse<(u64, u64, i64, Vec<u8>)>;

/// A capture file (pcap, microseconds, Ethernet) being written.
pub(crate) struct Trace<W: Write> {
    out: W,
    held: BinaryHeap<Held>,
    given: u64,
    ident: u16,
    /// How what follows crosses the wire.
    pub(crate) path: Path,
    /// Seconds that the capture's clock is ahead at what follows.
    pub(crate) ahead: i64,
    /// The most that is kept of a frame (snap length).
    pub(crate) snap: usize,
}

impl<W: Write> Trace<W> {
    /// Writes the file's header.
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1];
        for word in header {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(Self {
            out,
            held: BinaryHeap::new(),
            given: 0,
            ident: 0,
            path: Path::default(),
            ahead: 0,
            snap: usize::MAX,
        })
    }

    /// One datagram, in as many frames as it needs.
    pub(crate) fn udp(
        &mut self,
        time: u64,
        from: impl Into<SocketAddr>,
        to: impl Into<SocketAddr>,
        payload: &[u8],
    ) {
        let (from, to) = (from.into(), to.into());
        let length = u16::try_from(payload.len() + 8).expect("a datagram holds at most 65,507 bytes");
        let mut datagram = Vec::with_capacity(payload.len() + 8);
        datagram.extend(from.port().to_be_bytes());
        datagram.extend(to.port().to_be_bytes());
        datagram.extend(length.to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        let sum = match transport_checksum(from, to, UDP, &datagram) {
            0 => 0xffff, // RFC 768: zero would say "none"
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        self.ident = self.ident.wrapping_add(1);
        let mut frames = Vec::new();
        for piece in self.path.pieces(from.is_ipv6(), datagram.len()) {
            let (fragment, payload) = (piece.word(), &datagram[piece.bytes.clone()]);
            frames.push(if from.is_ipv4() {
                ethernet_ip(from, to, UDP, self.ident, fragment, payload)
            } else if piece.is_whole() {
                ethernet_ip(from, to, UDP, 0, 0, payload)
            } else {
                // RFC 8200 §4.5.
                let mut fragmented = vec![UDP, 0];
                fragmented.extend(piece.ipv6_word().to_be_bytes());
                fragmented.extend(u32::from(self.ident).to_be_bytes());
                fragmented.extend(payload);
                ethernet_ip(from, to, FRAGMENT, 0, 0, &fragmented)
            });
        }
        if self.path.reversed {
            frames.reverse();
        }
        for frame in frames {
            self.send(time, frame);
        }
    }

    /// One frame, and what the path puts around it.
    fn send(&mut self, time: u64, frame: Vec<u8>) {
        self.frame(time, self.path.wrap(frame));
    }

    /// One frame as it is.
    pub(crate) fn frame(&mut self, time: u64, frame: Vec<u8>) {
        self.held.push(Reverse((time, self.given, self.ahead, frame)));
        self.given += 1;
    }

    /// Writes all frames before `time`: none earlier than that will be given any more.
    pub(crate) fn settle(&mut self, time: u64) -> io::Result<()> {
        while self.held.peek().is_some_and(|Reverse((next, ..))| *next < time) {
            let Some(Reverse((time, _, ahead, frame))) = self.held.pop() else { break };
            let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
            let seconds = (EPOCH + time / 1_000_000).saturating_add_signed(ahead);
            let seconds = u32::try_from(seconds).map_err(io::Error::other)?;
            let micros = u32::try_from(time % 1_000_000).map_err(io::Error::other)?;
            let kept = &frame[..frame.len().min(self.snap)];
            let captured = u32::try_from(kept.len()).map_err(io::Error::other)?;
            for word in [seconds, micros, captured, length] {
                self.out.write_all(&word.to_le_bytes())?;
            }
            self.out.write_all(kept)?;
        }
        Ok(())
    }

    /// Writes all that is held and gives the file back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.settle(u64::MAX)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The frames of a whole file that a [`Trace`] wrote, with their times in microseconds since its start.
pub(crate) fn frames(file: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = file.get(24..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (record, behind) = rest.split_at_checked(16)?;
        let word = |at: usize| record[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let (frame, behind) = behind.split_at_checked(usize::try_from(word(8)).ok()?)?;
        rest = behind;
        Some(((u64::from(word(0)) - EPOCH) * 1_000_000 + u64::from(word(4)), frame))
    })
}

/// The two ends of a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// Who opened it.
    Client,
    /// Who accepted it.
    Server,
}

/// A TCP connection: handshake, segments, acknowledgements. Times given to one connection must not go back.
pub(crate) struct Tcp {
    client: SocketAddr,
    server: SocketAddr,
    /// Next sequence number of client and server.
    next: [u32; 2],
    /// Most bytes in one segment.
    pub(crate) mss: usize,
}

impl Tcp {
    /// SYN, SYN-ACK, ACK.
    pub(crate) fn open<W: Write>(
        trace: &mut Trace<W>,
        time: u64,
        client: impl Into<SocketAddr>,
        server: impl Into<SocketAddr>,
    ) -> Self {
        // Initial numbers near the wrap, since receivers must cope with it.
        let next = [0xffff_f000, 0x1000_0000];
        let (client, server) = (client.into(), server.into());
        let headers = if client.is_ipv6() { 60 } else { 40 };
        let mut connection = Self { client, server, next, mss: trace.path.mtu - headers };
        connection.segment(trace, time, From::Client, SYN, &[]);
        connection.segment(trace, time + 100, From::Server, SYN | ACK, &[]);
        connection.segment(trace, time + 200, From::Client, ACK, &[]);
        connection
    }

    /// Data in as many segments as it needs, and the other side's acknowledgement.
    pub(crate) fn send<W: Write>(&mut self, trace: &mut Trace<W>, time: u64, from: From, data: &[u8]) {
        let (mss, last) = (self.mss, data.len().div_ceil(self.mss).saturating_sub(1));
        for (index, piece) in data.chunks(mss).enumerate() {
            let push = if index == last { PSH } else { 0 };
            self.segment(trace, time, from, ACK | push, piece);
        }
        self.segment(trace, time + 50, from.other(), ACK, &[]);
    }

    /// One segment, numbered and acknowledging all that the other side has sent.
    pub(crate) fn segment<W: Write>(
        &mut self,
        trace: &mut Trace<W>,
        time: u64,
        from: From,
        flags: u8,
        data: &[u8],
    ) {
        let (source, target, own, other) = match from {
            From::Client => (self.client, self.server, 0, 1),
            From::Server => (self.server, self.client, 1, 0),
        };
        let acknowledged = if flags & ACK == 0 { 0 } else { self.next[other] };
        let mut segment = Vec::with_capacity(20 + data.len());
        segment.extend(source.port().to_be_bytes());
        segment.extend(target.port().to_be_bytes());
        segment.extend(self.next[own].to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(data);
        let sum = transport_checksum(source, target, TCP, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let length = u32::try_from(data.len()).expect("a segment is at most 64 KiB");
        self.next[own] = self.next[own].wrapping_add(length + u32::from(flags & SYN != 0));
        trace.ident = trace.ident.wrapping_add(1);
        let frame = ethernet_ip(source, target, TCP, trace.ident, 0x4000, &segment);
        trace.send(time, frame);
    }
}

impl From {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// TCP flags, for [`Tcp::segment`].
pub(crate) const SYN: u8 = 0x02;
/// See [`SYN`].
pub(crate) const PSH: u8 = 0x08;
/// See [`SYN`].
pub(crate) const ACK: u8 = 0x10;

const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;

fn ethernet_ip(
    from: SocketAddr,
    to: SocketAddr,
    protocol: u8,
    ident: u16,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let length =
        |header: usize| u16::try_from(payload.len() + header).expect("pieces fit the MTU").to_be_bytes();
    let mut frame = Vec::with_capacity(54 + payload.len());
    // Locally administered addresses made of the IP addresses.
    for host in [to, from] {
        frame.extend([0x02, 0]);
        let octets = octets(host);
        frame.extend(&octets[octets.len() - 4..]);
    }
    if from.is_ipv6() {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length(0));
        frame.extend([protocol, 64]);
        frame.extend(octets(from));
        frame.extend(octets(to));
    } else {
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(length(20));
        frame.extend(ident.to_be_bytes());
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, protocol, 0, 0]);
        frame.extend(octets(from));
        frame.extend(octets(to));
        let sum = fold(add(0, &frame[14..34]));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

fn octets(address: SocketAddr) -> Vec<u8> {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// RFC 768, RFC 9293 §3.1: over a pseudo-header and the segment.
fn transport_checksum(from: SocketAddr, to: SocketAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut sum = add(0, &octets(from));
    sum = add(sum, &octets(to));
    sum += u64::from(protocol) + segment.len() as u64;
    fold(add(sum, segment))
}

fn add(sum: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        sum + u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
    })
}

/// RFC 1071: the one's complement sum, complemented.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Checksums over what they cover, themselves included, come to zero.
    fn ip_and_transport_hold(frame: &[u8]) -> bool {
        let (ip, segment) = (&frame[14..34], &frame[34..]);
        let mut sum = add(0, &ip[12..20]);
        sum += u64::from(ip[9]) + segment.len() as u64;
        fold(add(0, ip)) == 0 && fold(add(sum, segment)) == 0
    }

    #[test]
    fn frames_are_sorted_and_sound() {
        let (a, b) = (at("192.0.2.1:5060"), at("192.0.2.2:5060"));
        let mut trace = Trace::new(Vec::new()).unwrap();
        let mut tcp = Tcp::open(&mut trace, 5_000_000, a, b);
        tcp.send(&mut trace, 6_000_000, From::Client, &[7; 3001]);
        trace.udp(1, b, a, b"odd");
        let file = trace.finish().unwrap();
        let (mut times, mut lengths) = (Vec::new(), Vec::new());
        for (time, frame) in frames(&file) {
            times.push(time);
            lengths.push(frame.len() - 34);
            assert!(ip_and_transport_hold(frame));
        }
        assert_eq!(times, [1, 5_000_000, 5_000_100, 5_000_200, 6_000_000, 6_000_000, 6_000_000, 6_000_050]);
        assert_eq!(lengths, [11, 20, 20, 20, 1480, 1480, 101, 20]);
    }
}
