//! Version 3: a mark, the length of the whole, and chunks of a vendor, a type, a length and a value, all big-endian.

use std::borrow::Cow;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};

use flate2::read::{DeflateDecoder, ZlibDecoder};

use super::{Error, MAGIC, Packet, moment};
use crate::work;

/// Mark and length; vendor, type and length of a chunk.
const HEADER: usize = 6;

/// Chunks of vendor 0, which every agent shares.
const FAMILY: u16 = 0x0001;
const PROTOCOL: u16 = 0x0002;
const IPV4_SRC: u16 = 0x0003;
const IPV4_DST: u16 = 0x0004;
const IPV6_SRC: u16 = 0x0005;
const IPV6_DST: u16 = 0x0006;
const SRC_PORT: u16 = 0x0007;
const DST_PORT: u16 = 0x0008;
const SECONDS: u16 = 0x0009;
const MICROSECONDS: u16 = 0x000a;
const KIND: u16 = 0x000b;
const CAPTURE_ID: u16 = 0x000c;
const KEY: u16 = 0x000e;
const PAYLOAD: u16 = 0x000f;
const COMPRESSED: u16 = 0x0010;
const CORRELATION_ID: u16 = 0x0011;
const VLAN: u16 = 0x0012;
const NODE: u16 = 0x0013;

/// What family and addresses are called in the family chunk.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What the chunks said so far.
#[derive(Default)]
struct Chunks<'a> {
    protocol: Option<u8>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
    seconds: Option<u32>,
    microseconds: Option<u32>,
    kind: Option<u8>,
    capture_id: Option<u32>,
    key: Option<&'a [u8]>,
    payload: Option<&'a [u8]>,
    compressed: Option<&'a [u8]>,
    correlation_id: Option<&'a [u8]>,
    vlan: Option<u16>,
    node: Option<&'a [u8]>,
}

pub(super) fn decode(bytes: &[u8], most: usize) -> Result<Packet<'_>, Error> {
    Chunks::read(bytes)?.packet(most)
}

pub(super) fn key(bytes: &[u8]) -> Result<Option<&[u8]>, Error> {
    Chunks::read(bytes).map(|chunks| chunks.key)
}

pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    if !bytes.iter().zip(MAGIC).all(|(byte, expected)| byte == expected) {
        return Err(Error::Version);
    }
    match bytes.get(4..HEADER).and_then(number).map(usize::from) {
        Some(length) if length < HEADER => Err(Error::Length),
        length => Ok(length),
    }
}

impl<'a> Chunks<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let length = bytes.get(4..HEADER).and_then(number).ok_or(Error::Length)?;
        let mut rest = bytes.get(HEADER..usize::from(length)).ok_or(Error::Length)?;
        let mut chunks = Chunks::default();
        while !rest.is_empty() {
            work::count(1);
            let header: &[u8; HEADER] = rest.first_chunk().ok_or(Error::Length)?;
            let [vendor, kind, length] = [0, 2, 4].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
            let value = rest.get(HEADER..usize::from(length)).ok_or(Error::ChunkLength(kind))?;
            rest = &rest[usize::from(length)..];
            // Those of vendors are their own business.
            if vendor == 0 {
                chunks.take(kind, value).ok_or(Error::ChunkLength(kind))?;
            }
        }
        Ok(chunks)
    }

    /// Takes one chunk; nothing if its value has not the length that it must have.
    fn take(&mut self, kind: u16, value: &'a [u8]) -> Option<()> {
        match kind {
            PROTOCOL => self.protocol = Some(octet(value)?),
            IPV4_SRC => self.src = Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
            IPV4_DST => self.dst = Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
            IPV6_SRC => self.src = Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
            IPV6_DST => self.dst = Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
            SRC_PORT => self.src_port = Some(number(value)?),
            DST_PORT => self.dst_port = Some(number(value)?),
            SECONDS => self.seconds = Some(long(value)?),
            MICROSECONDS => self.microseconds = Some(long(value)?),
            KIND => self.kind = Some(octet(value)?),
            CAPTURE_ID => self.capture_id = Some(long(value)?),
            KEY => self.key = Some(value),
            PAYLOAD => self.payload = Some(value),
            COMPRESSED => self.compressed = Some(value),
            CORRELATION_ID => self.correlation_id = Some(value),
            VLAN => self.vlan = Some(number(value)?),
            NODE => self.node = Some(value),
            // The family, which the addresses tell; keep-alive, hardware addresses, quality, what is yet to come.
            _ => {}
        }
        Some(())
    }

    fn packet(self, most: usize) -> Result<Packet<'a>, Error> {
        let missing = Error::Missing;
        let (src, dst) = (self.src.ok_or(missing(IPV4_SRC))?, self.dst.ok_or(missing(IPV4_DST))?);
        let src = SocketAddr::new(src, self.src_port.ok_or(missing(SRC_PORT))?);
        let dst = SocketAddr::new(dst, self.dst_port.ok_or(missing(DST_PORT))?);
        let payload = match (self.payload, self.compressed) {
            (Some(payload), _) => Cow::Borrowed(payload),
            (None, Some(compressed)) => Cow::Owned(inflate(compressed, most)?),
            (None, None) => return Err(missing(PAYLOAD)),
        };
        Ok(Packet {
            version: 3,
            src,
            dst,
            protocol: self.protocol.ok_or(missing(PROTOCOL))?,
            time: self.seconds.map(|seconds| moment(seconds, self.microseconds.unwrap_or(0))),
            kind: self.kind.ok_or(missing(KIND))?,
            capture_id: self.capture_id,
            node: self.node,
            key: self.key,
            correlation_id: self.correlation_id,
            vlan: self.vlan,
            payload,
        })
    }
}

/// Unpacks zlib (RFC 1950), or bare deflate (RFC 1951), to no more than `most` bytes.
fn inflate(compressed: &[u8], most: usize) -> Result<Vec<u8>, Error> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut whole = Vec::new();
    if ZlibDecoder::new(compressed).take(limit).read_to_end(&mut whole).is_err() {
        whole.clear();
        let bare = DeflateDecoder::new(compressed).take(limit).read_to_end(&mut whole);
        bare.map_err(|_| Error::Compressed)?;
    }
    work::count(whole.len());
    if whole.len() > most { Err(Error::TooLarge) } else { Ok(whole) }
}

fn octet(value: &[u8]) -> Option<u8> {
    <[u8; 1]>::try_from(value).ok().map(|[octet]| octet)
}

fn number(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

fn long(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

pub(super) fn encode(packet: &Packet<'_>) -> Result<Vec<u8>, Error> {
    let mut out = MAGIC.to_vec();
    out.extend([0; 2]);
    let mut chunk = |kind: u16, value: &[u8]| {
        let length = u16::try_from(HEADER + value.len()).map_err(|_| Error::TooLarge)?;
        out.extend([0; 2].into_iter().chain(kind.to_be_bytes()).chain(length.to_be_bytes()));
        out.extend_from_slice(value);
        Ok(())
    };
    match (packet.src.ip(), packet.dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            chunk(FAMILY, &[AF_INET])?;
            chunk(PROTOCOL, &[packet.protocol])?;
            chunk(IPV4_SRC, &src.octets())?;
            chunk(IPV4_DST, &dst.octets())?;
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            chunk(FAMILY, &[AF_INET6])?;
            chunk(PROTOCOL, &[packet.protocol])?;
            chunk(IPV6_SRC, &src.octets())?;
            chunk(IPV6_DST, &dst.octets())?;
        }
        _ => return Err(Error::Length),
    }
    chunk(SRC_PORT, &packet.src.port().to_be_bytes())?;
    chunk(DST_PORT, &packet.dst.port().to_be_bytes())?;
    if let Some(time) = packet.time {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(0);
        let seconds = u32::try_from(nanos / 1_000_000_000).unwrap_or(u32::MAX);
        let micros = u32::try_from(nanos % 1_000_000_000 / 1000).unwrap_or(0);
        chunk(SECONDS, &seconds.to_be_bytes())?;
        chunk(MICROSECONDS, &micros.to_be_bytes())?;
    }
    chunk(KIND, &[packet.kind])?;
    if let Some(id) = packet.capture_id {
        chunk(CAPTURE_ID, &id.to_be_bytes())?;
    }
    if let Some(vlan) = packet.vlan {
        chunk(VLAN, &vlan.to_be_bytes())?;
    }
    for (kind, value) in [(NODE, packet.node), (KEY, packet.key), (CORRELATION_ID, packet.correlation_id)] {
        if let Some(value) = value {
            chunk(kind, value)?;
        }
    }
    chunk(PAYLOAD, &packet.payload)?;
    let length = u16::try_from(out.len()).map_err(|_| Error::TooLarge)?;
    out[4..HEADER].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}
