//! What several tests need of captures.

#![allow(dead_code, reason = "no test needs all of it")]

use std::path::{Path, PathBuf};

use sipobs::capture::file::{Reader, Writer};
use sipobs::frame::Frame;

/// The captures of recorded calls, in the order of their names.
pub(crate) fn recorded() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let mut files: Vec<PathBuf> = ["recorded", "livekit"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "pcap"))
        .collect();
    files.sort();
    assert!(files.len() > 20, "{files:?}");
    files
}

/// Five calls, as somebody gets them who is asked about one: transfers that failed and worked, and a call without one.
pub(crate) fn five() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let files = [
        "livekit/refer_busy.pcap",
        "livekit/invite_second_leg_403.pcap",
        "livekit/refer_ok_twilio.pcap",
        "livekit/plain_bye_livekit.pcap",
        "recorded/pjsua_attended_ok.pcap",
    ];
    files.iter().map(|file| root.join(file)).collect()
}

/// The frames of a capture, kept for as long as the test runs.
pub(crate) fn frames(path: &Path) -> Vec<Frame<'static>> {
    let mut reader = Reader::open(path).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        let bytes: &'static [u8] = Vec::leak(frame.bytes.to_vec());
        frames.push(Frame { bytes, ..frame });
    }
    frames
}

/// The first frames of a capture, in a file of their own.
pub(crate) fn first_frames(from: &Path, to: &Path, frames: usize) {
    let mut reader = Reader::open(from).unwrap();
    let mut writer = Writer::new(std::fs::File::create(to).unwrap()).unwrap();
    for _ in 0..frames {
        let Some(frame) = reader.next().unwrap() else { break };
        writer.frame(&frame, "", "").unwrap();
    }
    writer.finish().unwrap();
}
