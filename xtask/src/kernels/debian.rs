//! Debian's packaged kernels, fetched beside the system's own lists and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::children::{output, run};

const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The package that depends on a release's newest kernel for virtual machines: small, with few drivers.
const NEWEST: &str = "linux-image-cloud-amd64";
const FETCH_LIMIT: Duration = Duration::from_secs(300);

/// A kernel, unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its bootable image.
    pub(super) image: PathBuf,
    files: Vec<PathBuf>,
}

impl Kernel {
    /// The newest of a Debian suite, below `dir`: fetched once and kept there.
    pub(super) fn fetch(suite: &str, dir: &Path) -> Result<Self> {
        let unpacked = dir.join("unpacked");
        if !unpacked.exists() {
            let packages = download(suite, dir).with_context(|| format!("Debian {suite}"))?;
            // In one step: what is there is whole.
            let partial = dir.join("partial");
            for package in packages {
                output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&partial))?;
            }
            fs::rename(partial, &unpacked)?;
        }
        let mut files = Vec::new();
        list(&unpacked, &mut files)?;
        files.sort();
        let image = files
            .iter()
            .find(|path| name(path).starts_with("vmlinuz"))
            .with_context(|| format!("no kernel in {}", unpacked.display()))?;
        Ok(Self { image: image.clone(), files })
    }

    /// A module by its name, as the kernel takes it. None where it is built in.
    pub(super) fn module(&self, wanted: &str) -> Result<Option<Vec<u8>>> {
        let Some(path) = self
            .files
            .iter()
            .find(|path| name(path).split_once(".ko").is_some_and(|(module, _)| module == wanted))
        else {
            return Ok(None);
        };
        if path.extension().is_none_or(|extension| extension != "xz") {
            return Ok(Some(fs::read(path)?));
        }
        let done = Command::new("xz").args(["--decompress", "--stdout"]).arg(path).output().context("xz")?;
        ensure!(done.status.success(), "xz {}: {}", path.display(), done.status);
        Ok(Some(done.stdout))
    }
}

/// Fetches a suite's newest kernel and its modules, and gives the packages.
fn download(suite: &str, dir: &Path) -> Result<Vec<PathBuf>> {
    ensure!(Path::new(KEYRING).exists(), "{KEYRING} is missing: install debian-archive-keyring");
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir.join("lists/partial"))?;
    let sources = dir.join("sources.list");
    fs::write(&sources, format!("deb [arch=amd64 signed-by={KEYRING}] {MIRROR} {suite} main\n"))?;
    let apt = |program: &str| {
        let mut apt = Command::new(program);
        let lists = dir.join("lists");
        for (option, value) in [
            ("Dir::Etc::SourceList", sources.as_path()),
            ("Dir::Etc::SourceParts", "/dev/null".as_ref()),
            ("Dir::State::Lists", lists.as_path()),
            // Its cache would take the place of the system's.
            ("Dir::Cache::PkgCache", "".as_ref()),
            ("Dir::Cache::SrcPkgCache", "".as_ref()),
            ("Acquire::Languages", "none".as_ref()),
            ("APT::Sandbox::User", "root".as_ref()),
        ] {
            apt.arg("-o").arg(format!("{option}={}", value.display()));
        }
        apt.current_dir(dir);
        apt
    };
    run(apt("apt-get").args(["--quiet=2", "update"]), FETCH_LIMIT)?;
    let needed = output(apt("apt-cache").args([
        "depends",
        "--recurse",
        "--no-recommends",
        "--no-suggests",
        "--no-conflicts",
        "--no-breaks",
        "--no-replaces",
        "--no-enhances",
        NEWEST,
    ]))?;
    // Later releases have the image and the modules in packages of their own.
    let mut names: Vec<&str> = needed
        .lines()
        .filter(|line| {
            ["linux-image-", "linux-binary-", "linux-modules-"].iter().any(|kind| {
                line.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    ensure!(!names.is_empty(), "{NEWEST} names no kernel");
    run(apt("apt-get").args(["--quiet=2", "download"]).args(names), FETCH_LIMIT)?;
    let mut files = Vec::new();
    list(dir, &mut files)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    Ok(files)
}

/// All files below `dir`.
fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
