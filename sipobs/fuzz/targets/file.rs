//! Any bytes as a capture file: pcap, pcapng or snoop, packed by gzip, zstd, lz4 or not at all.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sipobs::capture::file::{MAX_FRAME, Reader};

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = Reader::from_read("-", Some(data.len() as u64), Cursor::new(data.to_vec())) else {
        return;
    };
    let mut number = 0;
    loop {
        match reader.next() {
            Ok(Some(frame)) => {
                assert!(frame.bytes.len() <= MAX_FRAME && frame.wire_len as usize >= frame.bytes.len());
                assert!(frame.number > number);
                number = frame.number;
            }
            Ok(None) => break,
            Err(error) => {
                assert!(error.to_string().starts_with("-: "));
                assert!(matches!(reader.next(), Ok(None)), "there is nothing after an error");
                break;
            }
        }
    }
    assert!(reader.progress().read <= data.len() as u64);
    let contents = reader.contents();
    assert_eq!(contents.link_types.values().sum::<u64>(), contents.frames);
    assert_eq!(contents.frames, number);
});
