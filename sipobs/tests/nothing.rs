//! A capture without a transfer: what it holds is said, by the program itself.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn said(file: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sipobs")).arg(file).env("COLUMNS", "160").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A pcap of raw IPv4 packets of this protocol from port 40,000 to `port`.
fn packets(path: &Path, protocol: u8, port: u16, payload: &[u8]) -> PathBuf {
    let header = match protocol {
        6 => [&[0; 8][..], &[0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]].concat(),
        _ => [&u16::try_from(payload.len() + 8).unwrap().to_be_bytes()[..], &[0, 0]].concat(),
    };
    let segment = [&40_000_u16.to_be_bytes()[..], &port.to_be_bytes(), &header, payload].concat();
    let len = u16::try_from(segment.len() + 20).unwrap().to_be_bytes();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut bytes = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101]);
    for n in 0..5_u8 {
        let ip = [&[0x45, 0][..], &len, &[0, n + 1, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]]
            .concat();
        let size = u32::from(u16::from_be_bytes(len));
        bytes.extend(words(&[1_700_000_000, 20_000 * u32::from(n), size, size]));
        bytes.extend([ip, segment.clone()].concat());
    }
    fs::write(path, bytes).unwrap();
    path.to_owned()
}

#[test]
fn what_was_there_is_said() {
    let dir = tempfile::TempDir::new().unwrap();
    let call = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/livekit/plain_bye_livekit.pcap");
    let text = said(&call);
    assert!(
        text.contains("No transfer was seen in this capture. 1 call ended in it, 1 of them answered."),
        "{text}"
    );
    assert!(text.contains("SIP was sent to port 5060."), "{text}");

    let tls = said(&packets(&dir.path().join("tls"), 6, 5061, &[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5]));
    assert!(tls.contains("It holds no SIP that could be read."), "{tls}");
    assert!(tls.contains("5 packets of TLS on port 5061 may carry SIP"), "{tls}");

    let rtp = said(&packets(&dir.path().join("rtp"), 17, 40_002, &[&[0x80, 0][..], &[1; 170]].concat()));
    assert!(rtp.contains("5 packets look like RTP"), "{rtp}");

    let other = said(&packets(&dir.path().join("other"), 17, 123, &[0x23; 48]));
    assert!(other.contains("no SIP that could be read. Capture where the calls pass"), "{other}");
}
