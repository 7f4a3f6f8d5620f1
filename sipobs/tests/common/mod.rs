//! What several tests need of captures.

use std::path::Path;

use sipobs::capture::file::Reader;
use sipobs::frame::Frame;

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
