//! `--keylog`: the secrets of TLS sessions, for whoever reads files.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use sipobs::stream::KeyLog;

/// What a key log may hold: some million lines.
const LONGEST: u64 = 256 << 20;

/// Key logs.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Keys {
    /// Open TLS with the secrets in this key log (NSS format, as SSLKEYLOGFILE has it); may be given several times
    #[arg(long, value_name = "FILE")]
    keylog: Vec<PathBuf>,
}

impl Keys {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When one can't be read, or is no key log. What it holds instead is not quoted.
    pub(super) fn read(&self) -> anyhow::Result<Arc<KeyLog>> {
        let mut keys = KeyLog::default();
        for path in &self.keylog {
            let name = path.display();
            let mut text = Vec::new();
            let file = File::open(path).with_context(|| format!("--keylog {name}: cannot open it"))?;
            file.take(LONGEST + 1)
                .read_to_end(&mut text)
                .with_context(|| format!("--keylog {name}: cannot read it"))?;
            if text.len() as u64 > LONGEST {
                bail!("--keylog {name}: it is larger than {} MiB", LONGEST >> 20);
            }
            if let Err(line) = keys.add(&text) {
                bail!(
                    "--keylog {name}: line {line} is none of a key log (LABEL, random and secret in hexadecimal)"
                );
            }
        }
        if keys.is_empty() && !self.keylog.is_empty() {
            bail!("--keylog: no secret that opens a session is in it");
        }
        Ok(Arc::new(keys))
    }
}
