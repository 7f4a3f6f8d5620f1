//! Container images made without a registry and without a container engine: files, and what says how they are run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::children::{output, run};

const LIMIT: Duration = Duration::from_secs(120);
/// Whose certificates a collector's is held against, where the configuration names no other.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An archive that `docker load`, `ctr images import` and `skopeo copy docker-archive:` read.
pub(crate) struct Image<'a> {
    /// As `repository:tag`.
    pub(crate) name: &'a str,
    /// What is run, with its first arguments.
    pub(crate) entrypoint: &'a [&'a str],
    /// What is run unless the arguments are given.
    pub(crate) command: &'a [&'a str],
    /// Each file, and where it is in the image.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
}

/// The image of sipobs: with its libraries, and the authorities that this machine trusts.
pub(crate) fn of_sipobs<'a>(name: &'a str, program: &Path) -> Result<Image<'a>> {
    let mut files = with_libraries(program, "/usr/bin/sipobs")?;
    if Path::new(AUTHORITIES).exists() {
        files.push((AUTHORITIES.into(), AUTHORITIES.into()));
    }
    Ok(Image { name, entrypoint: &["/usr/bin/sipobs"], command: &["run"], files })
}

/// The program, at `path`, and the libraries that it names.
pub(crate) fn with_libraries(program: &Path, path: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = vec![(program.to_owned(), path.into())];
    files.extend(libraries(program)?.into_iter().map(|library| (library.clone(), library)));
    Ok(files)
}

impl Image<'_> {
    /// Writes it to `archive`. The same files give the same bytes.
    pub(crate) fn write(&self, archive: &Path) -> Result<()> {
        let dir = crate::scratch("image")?;
        let (root, parts) = (dir.join("root"), dir.join("parts"));
        fs::create_dir_all(&parts)?;
        for (from, to) in &self.files {
            let to = root.join(to.strip_prefix("/").unwrap_or(to));
            fs::create_dir_all(to.parent().context("a file in no folder")?)?;
            fs::copy(from, &to).with_context(|| from.display().to_string())?;
        }
        tar(&root, &parts.join("layer.tar"))?;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Entrypoint": self.entrypoint, "Cmd": self.command, "User": "0", "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&parts.join("layer.tar"))?)]},
            "history": [{"created": "1970-01-01T00:00:00Z"}],
        });
        fs::write(parts.join("config.json"), config.to_string())?;
        let config = format!("{}.json", sha256(&parts.join("config.json"))?);
        fs::rename(parts.join("config.json"), parts.join(&config))?;
        let manifest = json!([{"Config": config, "RepoTags": [self.name], "Layers": ["layer.tar"]}]);
        fs::write(parts.join("manifest.json"), manifest.to_string())?;
        tar(&parts, archive)
    }
}

/// As the registries call the one that we run on.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What the program is linked with, by `ldd`: the libraries and the loader; none of a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let text = output(Command::new("ldd").arg(program))?;
    Ok(text.lines().filter_map(library).collect())
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`; and `linux-vdso.so.1 (0x…)`,
/// which is no file.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split_once(" => ").map_or(line, |(_, path)| path).trim();
    let path = path.split(" (0x").next().unwrap_or(path);
    path.starts_with('/').then(|| path.into())
}

fn tar(folder: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
        "--mode=u=rwX,go=rX",
    ]);
    tar.arg("--create").arg("--file").arg(archive).arg("-C").arg(folder).arg(".");
    run(tar.args(["--transform", "s,^\\./,,"]), LIMIT)
}

fn sha256(file: &Path) -> Result<String> {
    let sum = output(Command::new("sha256sum").arg(file))?;
    Ok(sum.split(' ').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_lines_with_a_path() {
        let told = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tstatically linked\n";
        let found: Vec<_> = told.lines().filter_map(library).collect();
        let wanted = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(found, wanted);
    }
}
