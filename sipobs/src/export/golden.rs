//! The golden cases, for tests of what leaves the engine.

use std::fs;
use std::path::{Path, PathBuf};

use crate::capture::file::Reader;
use crate::config::Config;
use crate::engine::Engine;
use crate::record::Output;
use crate::timestamp::Timestamp;

/// The folders of all cases that have a capture.
pub(super) fn cases() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = fs::read_dir(golden).unwrap().map(|case| case.unwrap().path()).collect();
    cases.retain(|case| case.join("input.pcap").exists());
    cases.sort();
    cases
}

/// All that the engine says of a case, notices among it.
pub(super) fn outputs(case: &Path) -> Vec<Output> {
    let file = Some(case.join("config.toml")).filter(|file| file.exists());
    let (mut config, _) = Config::load(file.as_deref(), []).unwrap();
    config.jsonl.notices = true;
    config.stream.reads_hep = true;
    let mut engine = Engine::new(config.engine(), config.privacy().unwrap()).unwrap();
    let mut reader = Reader::open(case.join("input.pcap")).unwrap();
    let mut last = Timestamp::default();
    while let Some(frame) = reader.next().unwrap() {
        last = frame.time;
        engine.frame(&frame);
    }
    engine.finish(last);
    std::iter::from_fn(|| engine.poll_output()).collect()
}
