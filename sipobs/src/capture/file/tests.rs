use std::io::{Cursor, Write};

use super::*;

/// A frame's time, number and bytes.
type Numbered = (Timestamp, u64, Vec<u8>);

/// Everything `bytes` hold, and the error that ended it.
fn read(bytes: Vec<u8>) -> (Vec<Numbered>, Option<Fault>) {
    let mut reader = match Reader::from_read("test", None, Cursor::new(bytes)) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error.fault)),
    };
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(frame)) => frames.push((frame.time, frame.number, frame.bytes.to_vec())),
            Ok(None) => return (frames, None),
            Err(error) => {
                assert!(matches!(reader.next(), Ok(None)), "nothing comes after an error");
                return (frames, Some(error.fault));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u16(self, v: u16) -> [u8; 2] {
        if self.big { v.to_be_bytes() } else { v.to_le_bytes() }
    }

    fn u32(self, v: u32) -> [u8; 4] {
        if self.big { v.to_be_bytes() } else { v.to_le_bytes() }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| self.u32(*w)).collect()
    }

    fn pcap(self, magic: u32, link: u32, frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut out = self.words(&[magic]);
        out.extend([self.u16(2), self.u16(4)].concat());
        out.extend(self.words(&[0, 0, 65_535, link]));
        for (seconds, fraction, bytes) in frames {
            let len = u32::try_from(bytes.len()).unwrap();
            out.extend(self.words(&[*seconds, *fraction, len, len]));
            out.extend(*bytes);
        }
        out
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let len = u32::try_from(padded + 12).unwrap();
        let mut out = self.words(&[kind, len]);
        out.extend(body);
        out.resize(8 + padded, 0);
        out.extend(self.u32(len));
        out
    }

    fn section(self) -> Vec<u8> {
        let mut body = self.u32(0x1a2b_3c4d).to_vec();
        body.extend([self.u16(1), self.u16(0)].concat());
        body.extend([0xff; 8]);
        self.block(0x0a0d_0d0a, &body)
    }

    fn interface(self, link: u16, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [self.u16(link), self.u16(0)].concat();
        body.extend(self.u32(0));
        body.extend(self.options(options));
        self.block(1, &body)
    }

    fn enhanced(self, interface: u32, units: u64, frame: &[u8], options: &[(u16, &[u8])]) -> Vec<u8> {
        let len = u32::try_from(frame.len()).unwrap();
        let mut body = self.words(&[
            interface,
            u32::try_from(units >> 32).unwrap(),
            u32::try_from(units & 0xffff_ffff).unwrap(),
            len,
            len + 7,
        ]);
        body.extend(frame);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(self.options(options));
        self.block(6, &body)
    }

    fn options(self, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (code, value) in options {
            out.extend(self.u16(*code));
            out.extend(self.u16(u16::try_from(value.len()).unwrap()));
            out.extend(*value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        if !options.is_empty() {
            out.extend([0; 4]);
        }
        out
    }
}

const ORDERS: [Order; 2] = [Order { big: false }, Order { big: true }];

#[test]
fn pcap_in_both_orders_and_resolutions() {
    for order in ORDERS {
        for (magic, nanos) in [(0xa1b2_c3d4, 7_000), (0xa1b2_3c4d, 7)] {
            let (frames, fault) = read(order.pcap(magic, 1, &[(3, 7, b"one"), (4, 0, b"")]));
            assert!(fault.is_none());
            assert_eq!(frames[0], (Timestamp::from_nanos(3_000_000_000 + nanos), 1, b"one".to_vec()));
            assert_eq!(frames[1], (Timestamp::from_nanos(4_000_000_000), 2, Vec::new()));
        }
    }
}

#[test]
fn a_truncated_tail_keeps_what_came_before() {
    let whole = ORDERS[0].pcap(0xa1b2_c3d4, 1, &[(1, 0, b"first"), (2, 0, b"second")]);
    // Header 24, first record 16 + 5, second record's header 16: its bytes begin at 61.
    for (cut, field, offset) in
        [(30, "record header", 24), (43, "frame", 40), (50, "record header", 45), (63, "frame", 61)]
    {
        let (frames, fault) = read(whole[..cut].to_vec());
        assert_eq!(frames.len(), usize::from(cut >= 45), "cut at {cut}");
        match fault {
            Some(Fault::Truncated { offset: at, field: what, .. }) => assert_eq!((at, what), (offset, field)),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    assert!(matches!(read(whole[..10].to_vec()).1, Some(Fault::Truncated { field: "file header", .. })));
    assert!(matches!(read(Vec::new()).1, Some(Fault::Truncated { left: 0, .. })));
}

#[test]
fn a_lying_length_is_an_error_not_an_allocation() {
    let mut file = ORDERS[1].pcap(0xa1b2_c3d4, 1, &[(1, 0, b"good")]);
    file.extend(ORDERS[1].words(&[1, 0, 0xffff_fff0, 60]));
    let (frames, fault) = read(file);
    assert_eq!(frames.len(), 1);
    assert!(matches!(fault, Some(Fault::Value { offset: 52, field: "captured length", value: 0xffff_fff0 })));

    for order in ORDERS {
        for len in [0, 8, 13, 0xffff_fffc] {
            let mut file = [order.section(), order.interface(1, &[])].concat();
            file.extend(order.words(&[6, len]));
            let (_, fault) = read(file);
            assert!(
                matches!(fault, Some(Fault::Value { offset: 52, field: "block length", .. })),
                "{len}: {fault:?}"
            );
        }
    }
}

#[test]
fn other_files_are_told_apart() {
    assert!(matches!(read(b"GET / HTTP/1.1".to_vec()).1, Some(Fault::Format { magic: 0x4745_5420 })));
    let missing = Reader::open("no/such/file.pcap").unwrap_err();
    assert!(missing.to_string().starts_with("no/such/file.pcap: cannot be opened"));
}

#[test]
fn files_of_others_are_named_with_what_reads_them() {
    let said = |name: &str, bytes: &[u8]| {
        Reader::from_read(name, None, Cursor::new(bytes.to_vec())).map(drop).unwrap_err().to_string()
    };
    assert_eq!(
        said("a b.xz", b"\xfd7zXZ\0\0\0"),
        "a b.xz: packed by xz: `xz -dc 'a b.xz' | sipobs pcap -` reads it"
    );
    assert!(said("x", b"BZh91AY").contains("`bzip2 -dc x | sipobs pcap -`"));
    assert!(said("x", b"PK\x03\x04....").contains("`unzip -p x | sipobs pcap -`"));
    assert_eq!(
        said("-", b"GMBU\x01\x02...."),
        "-: a Microsoft Network Monitor capture, which sipobs does not read: where Wireshark reads it, `editcap -F \
         pcapng FILE OUT.pcapng` turns it into what sipobs reads, and where that can't, `tshark -r FILE -Y sip -U 'OSI \
         layer 7' -w OUT.pcapng` takes out the SIP"
    );
    let snoop = [&b"snoop\0\0\0"[..], &[0, 0, 0, 2, 0, 0, 0, 8]].concat();
    assert!(
        said("x", &snoop).starts_with("x: a snoop capture of datalink type 8, which sipobs does not read")
    );
    assert!(
        said("x", b"hello, world")
            .starts_with("x: not a pcap, pcapng or snoop file (it starts with 0x68656c6c)")
    );
    assert_eq!(said("x", b""), "x: cut short at offset 0: 4 bytes of file header expected, 0 left");
}

#[test]
fn records_that_others_changed_are_told_by_how_they_lie() {
    // Kuznetzov's patch, with and without its own magic number; with CPU; Nokia's.
    for (magic, more) in [(0xa1b2_c3d4, 8), (0xa1b2_cd34, 8), (0xa1b2_cd34, 12), (0xa1b2_c3d4, 4)] {
        for order in ORDERS {
            for count in [0, 1, 2, 5] {
                let mut file = order.pcap(magic, 1, &[]);
                for n in 0..count {
                    file.extend(order.words(&[1_700_000_000 + n, 7, 60, 60]));
                    file.extend(vec![1; more]);
                    file.extend([u8::try_from(n).unwrap(); 60]);
                }
                let (frames, fault) = read(file.clone());
                assert!(fault.is_none(), "{magic:#x} {more} {count}: {fault:?}");
                let last: Vec<_> = frames.iter().map(|(_, _, bytes)| (bytes.len(), bytes[0])).collect();
                let expected: Vec<_> = (0..count).map(|n| (60, u8::try_from(n).unwrap())).collect();
                assert_eq!(last, expected, "{magic:#x} {more} {count}");

                file.truncate(file.len() - 1);
                assert!(matches!(read(file).1, Some(Fault::Truncated { .. })), "{magic:#x} {more} {count}");
            }
        }
    }
}

#[test]
fn lengths_that_old_programs_swapped() {
    let order = ORDERS[0];
    let mut file = order.pcap(0xa1b2_c3d4, 1, &[]);
    file[6] = 3;
    file.extend(order.words(&[1, 0, 200, 4]));
    file.extend(b"four");
    file.extend(order.words(&[2, 0, 4, 200]));
    file.extend(b"more");
    let (frames, fault) = read(file);
    assert!(fault.is_none(), "{fault:?}");
    assert_eq!(frames.iter().map(|(_, _, bytes)| &bytes[..]).collect::<Vec<_>>(), [b"four", b"more"]);
}

/// A snoop file of these frames, each with so much padding behind it.
fn snoop(datalink: u32, frames: &[&[u8]], padding: usize) -> Vec<u8> {
    let order = Order { big: true };
    let mut out = [&b"snoop\0\0\0"[..], &order.words(&[2, datalink])].concat();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        let record = len + 24 + u32::try_from(padding).unwrap();
        out.extend(order.words(&[len + 9, len, record, 0, 5, 6]));
        out.extend(*frame);
        out.extend(vec![0; padding]);
    }
    out
}

#[test]
fn snoop_is_read_to_its_end_and_no_further() {
    for (datalink, link) in [
        (4, LinkType::Ethernet),
        (0, LinkType::Ethernet),
        (14, LinkType::Null),
        (0x8000_0005, LinkType::Ipnet),
    ] {
        let file = snoop(datalink, &[b"one", b"", b"three"], 3);
        let mut reader = Reader::from_read("test", None, Cursor::new(file.clone())).unwrap();
        let frame = reader.next().unwrap().unwrap();
        assert_eq!((frame.link, frame.bytes, frame.wire_len), (link, &b"one"[..], 12));
        assert_eq!(frame.time.as_nanos(), 5_000_006_000);
        for cut in 0..file.len() {
            let (frames, fault) = read(file[..cut].to_vec());
            assert!(frames.len() <= 3);
            match fault {
                Some(Fault::Truncated { offset, needed, left, .. }) => {
                    assert!(offset + left == cut as u64 && needed > left, "{cut}: {offset} {needed} {left}");
                }
                Some(Fault::Format { .. }) => assert!(cut < 8),
                None => assert!([16, 46, 73].contains(&cut), "{cut}"),
                Some(other) => panic!("{cut}: {other}"),
            }
        }
        let (frames, fault) = read(file);
        assert_eq!((frames.len(), fault.is_none()), (3, true));
        assert_eq!(frames[2], (Timestamp::from_nanos(5_000_006_000), 3, b"three".to_vec()));
    }
    let mut lie = snoop(4, &[b"one"], 0);
    lie[16 + 11] = 26;
    let fault = read(lie).1;
    assert!(
        matches!(fault, Some(Fault::Value { offset: 24, field: "record length", value: 26 })),
        "{fault:?}"
    );
    let mut version = snoop(4, &[], 0);
    version[11] = 9;
    assert!(matches!(read(version).1, Some(Fault::Value { offset: 8, field: "version", value: 9 })));
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// The streams that are read, and how they are packed.
const PACKERS: [(&str, Pack); 3] = [
    ("gzip stream", |bytes| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }),
    ("zstd stream", |bytes| {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress_to_vec(bytes, level)
    }),
    ("lz4 stream", |bytes| {
        let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
        let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        lz4.write_all(bytes).unwrap();
        lz4.finish().unwrap()
    }),
];

#[test]
fn packed_files_are_read_wherever_their_streams_end() {
    let noise: Vec<Vec<u8>> = (0..90_u64)
        .map(|n| (0..700).map(|at| (((n * 7_919 + at) * 2_654_435_761) >> 13).to_le_bytes()[0]).collect())
        .collect();
    let records: Vec<_> = noise.iter().map(|bytes| (1, 0, &bytes[..])).collect();
    let plain = ORDERS[0].pcap(0xa1b2_c3d4, 1, &records);
    for (name, pack) in PACKERS {
        let whole = pack(&plain);
        let (frames, fault) = read(whole.clone());
        assert!(fault.is_none(), "{name}: {fault:?}");
        assert!(frames.iter().map(|(_, _, bytes)| bytes).eq(&noise), "{name}");
        let two = [pack(&plain[..5_000]), pack(&plain[5_000..])].concat();
        assert_eq!(read(two).0.len(), noise.len(), "{name}");

        // What comes before a cut is given, and the cut is told.
        for cut in (whole.len() - 40..whole.len()).chain((0..whole.len()).step_by(997)).skip(1) {
            let (frames, fault) = read(whole[..cut].to_vec());
            assert!(frames.iter().map(|(_, _, bytes)| bytes).eq(&noise[..frames.len()]), "{name}: {cut}");
            assert!(matches!(fault, Some(Fault::Truncated { .. })), "{name}: {cut}: {fault:?}");
        }
        // So is what is damaged: the decompressor tells, or the checksum does.
        let mut damaged = whole.clone();
        let last = damaged.len() - if name == "gzip stream" { 6 } else { 2 };
        damaged[last] ^= 0x40;
        let (frames, fault) = read(damaged);
        assert_eq!(frames.len(), noise.len(), "{name}");
        assert!(matches!(fault, Some(Fault::Read { .. })), "{name}: {fault:?}");
        // And what is behind the stream and is none.
        let (frames, fault) = read([&whole[..], b"garbage!"].concat());
        assert_eq!(frames.len(), noise.len(), "{name}");
        assert!(matches!(fault, Some(Fault::Read { .. } | Fault::Truncated { .. })), "{name}: {fault:?}");
    }
}

#[test]
fn zstd_passes_over_what_is_to_be_skipped() {
    let plain = ORDERS[0].pcap(0xa1b2_c3d4, 1, &[(1, 0, b"first"), (2, 0, b"second")]);
    let pack = PACKERS[1].1;
    let skipped = [&[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let file = [&pack(&plain[..45])[..], &skipped, &pack(&plain[45..]), &skipped].concat();
    let (frames, fault) = read(file.clone());
    assert_eq!((frames.len(), fault.is_none()), (2, true), "{fault:?}");
    let (frames, fault) = read(file[..file.len() - 1].to_vec());
    assert_eq!(frames.len(), 2);
    assert!(matches!(fault, Some(Fault::Truncated { field: "zstd stream", .. })), "{fault:?}");
}

#[test]
fn a_window_beyond_the_limit_is_an_error_and_no_allocation() {
    // A window of 3.75 TiB, no content size, one block that repeats a byte.
    let bomb = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0xfb, 0xff, 0x0f, b'x'];
    let fault = read(bomb.to_vec()).1;
    assert!(matches!(fault, Some(Fault::Read { offset: 0, .. })), "{fault:?}");
}

#[test]
fn pcapng_interfaces_have_their_own_clock_and_link() {
    for order in ORDERS {
        let offset = if order.big { 100_i64.to_be_bytes() } else { 100_i64.to_le_bytes() };
        let file = [
            order.section(),
            order.interface(1, &[]),
            order.interface(101, &[(9, &[9]), (14, &offset)]),
            order.interface(113, &[(9, &[0x80 | 10])]),
            order.block(0xbad, &[1; 40]),
            order.enhanced(0, 1_500_000, b"micro", &[]),
            order.enhanced(1, 7, b"nano!", &[(1, b"a note"), (2, &order.u32(2))]),
            order.enhanced(2, 1536, b"binary", &[(2, &order.u32(1))]),
        ]
        .concat();
        let mut reader = Reader::from_read("test", None, Cursor::new(file)).unwrap();
        let mut seen = Vec::new();
        while let Some(f) = reader.next().unwrap() {
            seen.push((f.time.as_nanos(), f.interface, f.link, f.direction, f.bytes.to_vec(), f.wire_len));
        }
        assert_eq!(
            seen,
            [
                (1_500_000_000, 0, LinkType::Ethernet, Direction::Unknown, b"micro".to_vec(), 12),
                (100_000_000_007, 1, LinkType::Raw, Direction::Egress, b"nano!".to_vec(), 12),
                (1_500_000_000, 2, LinkType::Sll, Direction::Ingress, b"binary".to_vec(), 13),
            ]
        );
    }
}

#[test]
fn pcapng_sections_simple_packets_and_unknown_links() {
    let (little, big) = (ORDERS[0], ORDERS[1]);
    let mut simple = big.u32(9).to_vec();
    simple.extend(b"simple-ty");
    let mut cut = [big.u16(1), big.u16(0)].concat();
    cut.extend(big.u32(4));
    let file = [
        little.section(),
        little.interface(250, &[]),
        little.enhanced(0, 1, b"what?", &[]),
        big.section(),
        big.block(1, &cut),
        big.block(3, &simple),
    ]
    .concat();
    let mut reader = Reader::from_read("test", None, Cursor::new(file)).unwrap();
    let frame = reader.next().unwrap().unwrap();
    assert_eq!((frame.number, frame.bytes, frame.link), (1, &b"what?"[..], LinkType::Other(250)));
    let frame = reader.next().unwrap().unwrap();
    assert_eq!((frame.number, frame.bytes, frame.wire_len), (2, &b"simp"[..], 9));
    assert_eq!(frame.time, Timestamp::from_nanos(1_000), "a simple packet has the time of the one before");
    assert!(reader.next().unwrap().is_none());
    assert_eq!(reader.contents().unread().collect::<Vec<_>>(), [(LinkType::Other(250), 1)]);
    assert_eq!(reader.contents().frames, 2);
    assert_eq!(reader.contents().link_types.len(), 2);
}

#[test]
fn pcapng_that_contradicts_itself() {
    let order = ORDERS[0];
    let start = [order.section(), order.interface(1, &[])].concat();
    let mut no_interface = start.clone();
    no_interface.extend(order.enhanced(1, 0, b"", &[]));
    assert!(matches!(read(no_interface).1, Some(Fault::Value { field: "interface id", value: 1, .. })));

    let mut trailing = start.clone();
    trailing.extend(order.enhanced(0, 0, b"good", &[]));
    trailing.extend(order.enhanced(0, 0, b"bad!", &[]));
    let last = trailing.len() - 4;
    trailing[last] ^= 4;
    let (frames, fault) = read(trailing);
    assert_eq!(frames.len(), 1);
    assert!(matches!(fault, Some(Fault::Value { field: "block length (trailing)", .. })));

    let mut captured = start;
    let at = captured.len() + 20;
    captured.extend(order.enhanced(0, 0, b"frame", &[]));
    captured[at] = 200;
    let expected = at as u64;
    match read(captured).1 {
        Some(Fault::Value { field: "captured length", value: 200, offset }) => assert_eq!(offset, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn gzip_is_read_through_and_its_truncation_told() {
    let plain = ORDERS[0].pcap(0xa1b2_c3d4, 1, &vec![(1, 0, &[7_u8; 1_000][..]); 400]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let total = gzip.len() as u64;

    let mut reader = Reader::from_read("test", Some(total), Cursor::new(gzip.clone())).unwrap();
    while reader.next().unwrap().is_some() {}
    assert_eq!(reader.progress(), Progress { read: total, total: Some(total) });

    let (frames, fault) = read(gzip[..gzip.len() / 2].to_vec());
    assert!((150..250).contains(&frames.len()), "{}", frames.len());
    assert!(matches!(fault, Some(Fault::Truncated { .. })), "{fault:?}");
}

#[test]
fn files_larger_than_the_buffer_keep_their_frames_apart() {
    let frames: Vec<Vec<u8>> =
        (0..3_000_u32).map(|n| n.to_be_bytes().repeat(usize::try_from(n % 700).unwrap())).collect();
    let records: Vec<_> = frames.iter().map(|f| (1, 0, &f[..])).collect();
    let (read, fault) = read(ORDERS[1].pcap(0xa1b2_3c4d, 1, &records));
    assert!(fault.is_none());
    assert!(read.iter().map(|(_, _, bytes)| bytes).eq(&frames));
}

#[test]
fn what_follows_a_gzip_stream_is_an_error_behind_what_came_before() {
    let plain = ORDERS[0].pcap(0xa1b2_c3d4, 1, &[(1, 0, b"first"), (2, 0, b"second")]);
    let zip = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    // Two streams are one file (RFC 1952 §2.2), wherever the one ends.
    let (frames, fault) = read([zip(&plain[..50]), zip(&plain[50..])].concat());
    assert_eq!((frames.len(), fault.is_none()), (2, true));

    for garbage in [&b"garbage"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0", b"\x1f\x8b\xff"] {
        let (frames, fault) = read([&zip(&plain)[..], garbage].concat());
        assert_eq!(frames.len(), 2, "{garbage:?}");
        let text = fault.map(|fault| fault.to_string()).unwrap_or_default();
        assert!(text.contains(&format!("at offset {}", plain.len())), "{garbage:?}: {text}");
    }
    // A byte of it is damaged: the checksum tells, or the decompressor does.
    let mut damaged = zip(&plain);
    let last = damaged.len() - 6;
    damaged[last] ^= 0x40;
    assert!(matches!(read(damaged).1, Some(Fault::Read { .. })));
}

#[test]
fn options_that_lie_are_passed_over() {
    for order in ORDERS {
        // An option longer than its block; a time resolution without a value; flags of the wrong size.
        let mut long = [order.u16(9), order.u16(900)].concat();
        long.push(3);
        let mut interface = [order.u16(1), order.u16(0)].concat();
        interface.extend(order.u32(0));
        interface.extend(&long);
        let file = [
            order.section(),
            order.block(1, &interface),
            order.interface(1, &[(9, &[]), (14, &[1, 2, 3])]),
            order.enhanced(0, 1_000_000, b"one", &[(2, &[1])]),
            order.enhanced(1, 2_000_000, b"two", &[]),
        ]
        .concat();
        let (frames, fault) = read(file);
        assert!(fault.is_none(), "{fault:?}");
        let times: Vec<_> = frames.iter().map(|(time, ..)| time.as_nanos()).collect();
        assert_eq!(times, [1_000_000_000, 2_000_000_000], "microseconds, where nothing else is said");
    }
}

#[test]
fn no_clock_is_too_odd() {
    let order = ORDERS[0];
    for (resolution, units, nanos) in [
        (0, 7, 7_000_000_000),
        (12, 1_500, 1),
        (127, u64::MAX, 0),
        (0x80, 3, 3_000_000_000),
        (0x80 | 30, 1 << 30, 1_000_000_000),
        (0x80 | 127, u64::MAX, 0),
        (0, u64::MAX, i64::MAX),
    ] {
        let file =
            [order.section(), order.interface(1, &[(9, &[resolution])]), order.enhanced(0, units, b"x", &[])]
                .concat();
        assert_eq!(read(file).0[0].0.as_nanos(), nanos, "{resolution:#x}");
    }
    for offset in [i64::MIN, i64::MAX] {
        let file = [
            order.section(),
            order.interface(1, &[(14, &offset.to_le_bytes())]),
            order.enhanced(0, 1, b"x", &[]),
        ]
        .concat();
        assert_eq!(read(file).0.len(), 1);
    }
}

#[test]
fn every_cut_of_a_pcapng_keeps_what_came_before_and_says_where() {
    let file: Vec<u8> = ORDERS
        .iter()
        .flat_map(|order| {
            [
                order.section(),
                order.interface(1, &[(9, &[9])]),
                order.enhanced(0, 1, b"a frame", &[(1, b"note")]),
                order.block(5, &[0; 12]),
                order.enhanced(0, 2, b"another", &[]),
            ]
            .concat()
        })
        .collect();
    let (whole, fault) = read(file.clone());
    assert_eq!((whole.len(), fault.is_none()), (4, true));
    for cut in 0..file.len() {
        let (frames, fault) = read(file[..cut].to_vec());
        assert_eq!(frames, whole[..frames.len()], "{cut}");
        match fault {
            Some(Fault::Truncated { offset, needed, left, .. }) => {
                assert!(offset + left == cut as u64 && needed > left, "{cut}: {offset} {needed} {left}");
            }
            // Between two blocks it is a file like any other.
            None => assert!(cut > 0 && cut.is_multiple_of(4), "{cut}"),
            Some(other) => panic!("{cut}: {other}"),
        }
    }
}
