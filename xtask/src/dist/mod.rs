//! `cargo xtask dist`: a Debian package, a container image, an offline program for any Linux, a page for browsers, what they are
//! made of, and checksums.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::children::{output, run as run_command};
use crate::daemon::BUILD_LIMIT;
use crate::{root, setup, web};

mod check;
mod deb;
pub(crate) mod image;
mod sbom;

const LIMIT: Duration = Duration::from_secs(300);
/// Larger is a finding: 15 MiB.
const MOST_BYTES: u64 = 15 << 20;

#[derive(Args)]
pub(crate) struct Options {
    /// Also install the package in a fresh Debian and let its daemon judge calls. Needs root and the archive.
    #[arg(long)]
    check: bool,
}

/// Makes everything in `target/dist`.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(&[setup::Need::Live, setup::Need::Packages, setup::Need::Web])?;
    let dist = crate::target().join("dist");
    if dist.exists() {
        fs::remove_dir_all(&dist)?;
    }
    fs::create_dir_all(&dist)?;
    let program = stripped(&crate::daemon::build_for_nodes()?, &crate::scratch("dist")?)?;
    let bytes = program.metadata()?.len();
    ensure!(bytes < MOST_BYTES, "the program takes {bytes} bytes, more than {MOST_BYTES}");
    let package = deb::build(&program, &dist)?;
    let offline = offline(&dist)?;
    let name = format!("sipobs-{}-image-{}-linux.tar", version(), std::env::consts::ARCH);
    image::of_sipobs(&format!("sipobs:{}", version()), &program)?.write(&dist.join(name))?;
    web::write(&dist.join(format!("sipobs-{}-page.html", version())), &web::program(true)?)?;
    sbom::write(&dist)?;
    checksums(&dist)?;
    for made in files(&dist)? {
        println!("{:>10}  {}", made.metadata()?.len(), made.display());
    }
    if options.check {
        setup::ensure(&[setup::Need::Lab, setup::Need::Checks])?;
        output(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&dist))?;
        check::run(&package, &offline)?;
    }
    Ok(())
}

pub(crate) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// When the last commit was made: what is built of it twice is the same twice.
fn source_date() -> Result<String> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(root());
    Ok(output(&mut git)?.trim().to_owned())
}

/// A copy of `program` in `folder`, without symbols.
pub(crate) fn stripped(program: &Path, folder: &Path) -> Result<PathBuf> {
    let to = folder.join("sipobs");
    run_command(Command::new("strip").arg("-o").arg(&to).arg(program), LIMIT)?;
    Ok(to)
}

/// The analyser of files alone, without a library of the system's: runs on any Linux of this architecture.
fn offline(dist: &Path) -> Result<PathBuf> {
    let target = host()?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--release", "--package", "sipobs", "--no-default-features"]);
    // With a target named, build scripts and macros are built as usual, without the flag.
    cargo
        .args(["--features", "mcp,typed,view", "--target", &target])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("SIPOBS_COMMIT", crate::daemon::commit()?);
    run_command(cargo.env("PATH", setup::search_path()).current_dir(root()), BUILD_LIMIT)?;
    let program =
        stripped(&crate::target().join(&target).join("release/sipobs"), &crate::scratch("dist-static")?)?;
    let dynamic = output(Command::new("readelf").args(["--dynamic", "--wide"]).arg(&program))?;
    ensure!(!dynamic.contains("(NEEDED)"), "the offline program needs libraries:\n{dynamic}");

    let architecture = target.split('-').next().unwrap_or_default();
    let name = format!("sipobs-{}-offline-{architecture}-linux", version());
    let folder = crate::scratch("dist-offline")?.join(&name);
    fs::create_dir(&folder)?;
    fs::copy(&program, folder.join("sipobs"))?;
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "README.md"] {
        fs::copy(root().join(file), folder.join(file))?;
    }
    let archive = dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", source_date()?)).args(["--use-compress-program", "gzip -n9"]);
    tar.arg("--create").arg("--file").arg(&archive).arg("-C").arg(crate::target().join("xtask/dist-offline"));
    run_command(tar.arg(&name), LIMIT)?;
    Ok(folder.join("sipobs"))
}

/// The target that rustc builds for by itself.
fn host() -> Result<String> {
    let about = output(Command::new("rustc").arg("-vV").env("PATH", setup::search_path()))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names no host")
}

fn checksums(dist: &Path) -> Result<()> {
    let names: Vec<_> = files(dist)?.iter().filter_map(|it| it.file_name().map(OsStr::to_owned)).collect();
    let sums = output(Command::new("sha256sum").args(names).current_dir(dist))?;
    fs::write(dist.join("SHA256SUMS"), sums)?;
    Ok(())
}

fn files(dist: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(dist)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
