//! Files of the repository that are made of the source: tests hold them to it.

use std::fs;
use std::path::Path;

/// Holds the file at `path`, from this package's folder, to `text`, or writes it where `SIPOBS_BLESS` asks for that.
pub(crate) fn hold(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("SIPOBS_BLESS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let held = fs::read_to_string(&file).unwrap_or_default();
    assert!(held == text, "{path} is not what the source makes of it: SIPOBS_BLESS=1 writes it anew");
}
