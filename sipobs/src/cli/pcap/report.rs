//! `--html` and `--md`: where reports go, and that they get there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use sipobs::files::Kind;

/// The reports that are asked for.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Reports to hand on (instead of the text, unless --format is given)")]
pub(super) struct Reports {
    /// One page for a browser with all that is shown, which loads nothing from anywhere; `-` is standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The same as a text for tickets (Markdown); `-` is standard output
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Html,
    Markdown,
}

/// Where a report goes. What is not finished leaves nothing behind.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) form: Form,
    /// None for standard output.
    file: Option<NewFile>,
}

/// A file that gets its name when it is whole.
#[derive(Debug)]
struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Reports {
    /// Makes the files, so that one that can't be written is told before anything is read.
    ///
    /// # Errors
    ///
    /// When one can't be made, is a capture that is to be read, or both are the same.
    pub(super) fn open(&self, captures: &[PathBuf]) -> anyhow::Result<Vec<Destination>> {
        let asked = [("--html", &self.html, Form::Html), ("--md", &self.md, Form::Markdown)];
        let mut all: Vec<Destination> = Vec::new();
        for (option, path, form) in asked {
            let Some(path) = path else { continue };
            let file = match path.as_os_str() == "-" {
                true => None,
                false => Some(
                    NewFile::open(path, captures).with_context(|| format!("{option} {}", path.display()))?,
                ),
            };
            let path = |file: &Option<NewFile>| file.as_ref().map(|file| file.path.clone());
            ensure!(
                all.iter().all(|other| path(&other.file) != path(&file)),
                "--html and --md can't go to the same place"
            );
            all.push(Destination { form, file });
        }
        Ok(all)
    }
}

impl Destination {
    /// Whether it is standard output.
    pub(super) fn is_standard_output(&self) -> bool {
        self.file.is_none()
    }

    /// Writes a report, and gives its file the name that was asked for.
    pub(super) fn write(self, text: &str) -> io::Result<Option<PathBuf>> {
        let Some(mut new) = self.file else {
            let mut out = io::stdout().lock();
            return out.write_all(text.as_bytes()).and_then(|()| out.flush()).map(|()| None);
        };
        new.file.write_all(text.as_bytes())?;
        new.file.sync_all()?;
        fs::rename(&new.temporary, &new.path)?;
        Ok(Some(new.path.clone()))
    }
}

impl NewFile {
    fn open(path: &Path, captures: &[PathBuf]) -> anyhow::Result<Self> {
        // Through a link to what it leads to, so that the link stays.
        let path = match path.canonicalize() {
            Ok(there) => {
                ensure!(
                    captures.iter().all(|capture| !is_same(capture, &there)),
                    "this is a capture that is to be read: choose another name"
                );
                Kind::of(&there.metadata()?).check(&[Kind::Regular])?;
                there
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error.into()),
        };
        let Some(name) = path.file_name() else { bail!("this is not a file's name") };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.new", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = File::options().write(true).create_new(true).open(&temporary)?;
        Ok(Self { path, temporary, file })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Gone already where it got its name.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(unix)]
fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| path.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(not(unix))]
fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
