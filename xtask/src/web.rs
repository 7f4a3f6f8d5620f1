//! `cargo xtask web`: the report as a page that makes itself: the program, built for WebAssembly, in one HTML file that reads
//! captures in whatever browser opens it. It loads nothing, so it can lie on any web server or none.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::root;
use crate::setup::{self, Need};

/// Debian's C library for WASI, which the program is linked with.
pub(crate) const C_LIBRARY: &str = "/usr/lib/wasm32-wasi";
/// Its linker.
pub(crate) const LINKER: &str = "wasm-ld-22";

#[derive(Args)]
pub(crate) struct Options {
    /// The page to write
    #[arg(short, long, default_value = "target/web/sipobs.html")]
    output: PathBuf,
}

pub(crate) fn run_chore(options: &Options) -> Result<()> {
    setup::ensure(&[Need::Web])?;
    let output = root().join(&options.output);
    write(&output, &program(true)?)?;
    println!("{}: {} kB", options.output.display(), output.metadata()?.len() / 1000);
    Ok(())
}

/// Builds the program for a browser: `sipobs pcap`, with all that needs no more of a system than files and two streams.
pub(crate) fn program(release: bool) -> Result<PathBuf> {
    let mut what = vec!["--bin", "sipobs"];
    if release {
        what.push("--release");
    }
    // Debian's compilers come without a C library for it.
    let flags = format!(
        "-Clinker={LINKER} -Clink-self-contained=no -Lnative={C_LIBRARY} -Clink-arg={C_LIBRARY}/crt1.o -Clink-arg=-lc \
         -Clink-arg=--strip-all"
    );
    let built = setup::build_bare("wasm32-wasip1", &what, &flags)?;
    Ok(built.join(if release { "release" } else { "debug" }).join("sipobs.wasm"))
}

/// Writes the page, with `program` in it.
pub(crate) fn write(output: &Path, program: &Path) -> Result<()> {
    let text =
        |path: &str| fs::read_to_string(root().join(path)).with_context(|| format!("{path} can't be read"));
    // What a report looks like, and what is allowed to it, holds for the frame that shows one, too.
    let (report_style, report_script) =
        (text("sipobs/src/export/report/page.css")?, text("sipobs/src/export/report/page.js")?);
    let style = format!("{report_style}{}", text("deploy/web/page.css")?);
    let script = text("deploy/web/page.js")?;
    let policy = format!(
        "default-src 'none'; script-src 'wasm-unsafe-eval' '{}' '{}'; style-src '{}' '{}'; img-src data:; worker-src blob:; \
         base-uri 'none'; form-action 'none'",
        hash(&script),
        hash(&report_script),
        hash(&style),
        hash(&report_style),
    );
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&fs::read(program).with_context(|| program.display().to_string())?)?;
    let packed = BASE64.encode(packed.finish()?);
    let mut page = text("deploy/web/page.html")?;
    for (name, value) in [
        ("{version}", env!("CARGO_PKG_VERSION")),
        ("{policy}", &policy),
        ("{style}", &style),
        ("{worker}", &text("deploy/web/wasi.js")?),
        ("{script}", &script),
        ("{program}", &packed),
    ] {
        page = page.replacen(name, value, 1);
    }
    let folder = output.parent().context("no folder")?;
    fs::create_dir_all(folder)?;
    fs::write(output, page).with_context(|| output.display().to_string())
}

/// As a content security policy tells what may run.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(Sha256::digest(text.as_bytes())))
}
