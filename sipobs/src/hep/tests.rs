use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const SIP: &[u8] = b"OPTIONS sip:a@192.0.2.2 SIP/2.0\r\nCall-ID: 1\r\n\r\n";
const MOST: usize = 128 << 10;

fn packet(payload: &[u8]) -> Packet<'_> {
    Packet {
        version: 3,
        src: "192.0.2.1:5060".parse().unwrap(),
        dst: "192.0.2.2:5062".parse().unwrap(),
        protocol: UDP,
        time: Some(Timestamp::from_nanos(1_700_000_000_123_456_000)),
        kind: Packet::SIP,
        capture_id: Some(2001),
        node: Some(b"edge"),
        key: Some(b"myhep"),
        correlation_id: Some(b"1"),
        vlan: Some(7),
        payload: Cow::Borrowed(payload),
    }
}

fn chunk(vendor: u16, kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(6 + value.len()).unwrap();
    [&vendor.to_be_bytes()[..], &kind.to_be_bytes(), &length.to_be_bytes(), value].concat()
}

fn whole(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    let length = u16::try_from(6 + chunks.len()).unwrap();
    [&MAGIC[..], &length.to_be_bytes(), &chunks].concat()
}

/// What must be there, but for a payload.
fn head() -> Vec<Vec<u8>> {
    vec![
        chunk(0, 2, &[6]),
        chunk(0, 3, &[192, 0, 2, 1]),
        chunk(0, 4, &[192, 0, 2, 2]),
        chunk(0, 7, &[0x13, 0xc4]),
        chunk(0, 8, &[0x13, 0xc6]),
        chunk(0, 11, &[1]),
    ]
}

#[test]
fn what_is_written_is_read() {
    let of_v4 = packet(SIP);
    assert_eq!(decode(&encode(&of_v4).unwrap(), MOST), Ok(of_v4.clone()));
    let (src, dst) = ("[2001:db8::1]:5060".parse().unwrap(), "[2001:db8::2]:5061".parse().unwrap());
    let of_v6 = Packet { src, dst, protocol: TCP, node: None, key: None, vlan: None, ..of_v4.clone() };
    assert_eq!(decode(&encode(&of_v6).unwrap(), MOST), Ok(of_v6.clone()));
    assert_eq!(encode(&Packet { src, ..of_v4.clone() }), Err(Error::Length));
    assert_eq!(encode(&packet(&[b'a'; 65_500])), Err(Error::TooLarge));
    assert_eq!(of_v6.transport(), TransportKind::Tcp);
}

#[test]
fn chunks_of_vendors_and_those_that_nobody_knows_are_passed_over() {
    let mut chunks = head();
    chunks.extend([chunk(0x0003, 0x000f, b"theirs"), chunk(0, 0x0099, b"?"), chunk(0, 15, SIP)]);
    let bytes = whole(&chunks);
    let read = decode(&bytes, MOST).unwrap();
    assert_eq!((&*read.payload, read.src.port(), read.dst.port(), read.time), (SIP, 5060, 5062, None));
}

#[test]
fn a_compressed_payload_is_unpacked_within_bounds() {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(SIP).unwrap();
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
    bare.write_all(SIP).unwrap();
    for compressed in [zlib.finish().unwrap(), bare.finish().unwrap()] {
        let bytes = whole(&[head(), vec![chunk(0, 16, &compressed)]].concat());
        assert_eq!(&*decode(&bytes, MOST).unwrap().payload, SIP);
        assert_eq!(decode(&bytes, SIP.len() - 1), Err(Error::TooLarge));
    }
    let mut bomb = ZlibEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b'a'; 16 << 20]).unwrap();
    let bytes = whole(&[head(), vec![chunk(0, 16, &bomb.finish().unwrap())]].concat());
    assert_eq!(decode(&bytes, MOST), Err(Error::TooLarge));
    let bytes = whole(&[head(), vec![chunk(0, 16, b"\xff\xff\xff")]].concat());
    assert_eq!(decode(&bytes, MOST), Err(Error::Compressed));
}

#[test]
fn what_is_wrong_is_named() {
    let full = || [head(), vec![chunk(0, 15, SIP)]].concat();
    let kinds = [(0, 2), (1, 3), (2, 4), (3, 7), (4, 8), (5, 11), (6, 15)];
    for (at, kind) in kinds {
        let mut chunks = full();
        chunks.remove(at);
        assert_eq!(decode(&whole(&chunks), MOST), Err(Error::Missing(kind)));
    }
    let odd = |kind, value: &[u8]| decode(&whole(&[chunk(0, kind, value)]), MOST).unwrap_err();
    for (kind, value) in [(2, &b""[..]), (3, b"123"), (5, b"1234"), (7, b"1"), (9, b"12"), (12, b"1")] {
        assert_eq!(odd(kind, value), Error::ChunkLength(kind));
    }
    let sound = whole(&full());
    let mut long = sound.clone();
    long[5] += 1;
    assert_eq!(decode(&long, MOST), Err(Error::Length));
    // A chunk that ends behind the packet, and one that is shorter than its own header.
    for length in [0xff, 5, 0] {
        let mut bytes = sound.clone();
        bytes[11] = length;
        assert_eq!(decode(&bytes, MOST), Err(Error::ChunkLength(2)));
    }
    assert_eq!(decode(b"HEP4\0\x06", MOST), Err(Error::Version));
    assert_eq!(decode(b"HEP3\0\x03", MOST), Err(Error::Length));
}

/// As siptrace writes them.
fn old(version: u8, with_time: bool) -> Vec<u8> {
    let mut bytes = vec![version, 16, 2, 17, 0x13, 0xc4, 0x13, 0xc6, 192, 0, 2, 1, 192, 0, 2, 2];
    if with_time {
        bytes.extend(1_700_000_000_u32.to_le_bytes());
        bytes.extend(123_456_u32.to_le_bytes());
        bytes.extend([0x2a, 0, 0, 0]);
    }
    bytes.extend(SIP);
    bytes
}

#[test]
fn older_versions_are_read_where_sip_is_behind_them() {
    let (first, second) = (old(1, false), old(2, true));
    let read = decode(&second, MOST).unwrap();
    assert_eq!((read.time, read.capture_id), (packet(SIP).time, Some(42)));
    assert_eq!((read.src, read.dst, &*read.payload), (packet(SIP).src, packet(SIP).dst, SIP));
    assert_eq!(decode(&first, MOST).unwrap().time, None);
    assert!(begins_like_hep(&first) && begins_like_hep(&second));
    // Something else that begins with the same octets.
    assert!(!begins_like_hep(&old(1, true)) && !begins_like_hep(&old(2, false)));
    assert!(!begins_like_hep(&second[..28]) && !begins_like_hep(SIP));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), is_three: bool) {
        let mut bytes = bytes;
        if is_three {
            let length = u16::try_from(bytes.len() + 6).unwrap();
            bytes.splice(0..0, [&MAGIC[..], &length.to_be_bytes()].concat());
        }
        if let Ok(packet) = decode(&bytes, 64) {
            prop_assert!(packet.payload.len() <= 64);
        }
        let _ = begins_like_hep(&bytes);
    }

    #[test]
    fn what_is_cut_or_damaged_never_panics(at in 0_usize..150, octet: u8, cut in 0_usize..150) {
        let mut bytes = encode(&packet(SIP)).unwrap();
        if let Some(place) = bytes.get_mut(at) {
            *place = octet;
        }
        let end = bytes.len().saturating_sub(cut);
        let _ = decode(&bytes[..end], MOST);
    }
}

/// What Kamailio 5.6's siptrace sent of one OPTIONS, in either version.
#[test]
fn what_kamailio_sends_is_read() {
    for (version, bytes) in
        [(3, &include_bytes!("kamailio/v3.bin")[..]), (2, include_bytes!("kamailio/v2.bin"))]
    {
        assert!(begins_like_hep(bytes));
        let read = decode(bytes, MOST).unwrap();
        assert_eq!((read.version, read.kind, read.protocol), (version, Packet::SIP, UDP));
        assert_eq!(read.src, "127.0.0.1:15999".parse().unwrap());
        assert_eq!(read.dst, SocketAddr::new(read.src.ip(), 15_060 + u16::from(version)));
        assert_eq!(read.capture_id, Some(2001));
        assert_eq!(read.key, (version == 3).then_some(&b"myhep"[..]));
        assert_eq!(read.time.unwrap().to_string().get(..10), Some("2026-11-29"));
        assert!(read.payload.starts_with(b"OPTIONS sip:t@127.0.0.1"));
        assert!(read.payload.ends_with(b"Content-Length: 0\r\n\r\n"));
    }
}
