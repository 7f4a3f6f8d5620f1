//! Any bytes as HEP: read within bounds, or refused; what is read of version 3 is written and read back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sipobs::hep::{begins_like_hep, decode, encode};

const MOST: usize = 10_000;

fuzz_target!(|data: &[u8]| {
    let _ = begins_like_hep(data);
    let Ok(packet) = decode(data, MOST) else { return };
    assert!(packet.payload.len() <= MOST);
    if let Some(written) = encode(&packet).ok().filter(|_| packet.version == 3) {
        let again = decode(&written, MOST).expect("it was written by us");
        assert_eq!((again.src, again.dst, again.kind, again.payload), (packet.src, packet.dst, packet.kind, packet.payload));
    }
});
