//! The Debian package: laid out file by file, and put together by dpkg-deb.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{LIMIT, source_date, version};
use crate::children::{output, run};
use crate::root;

/// What is copied as it is: from, to.
const FILES: &[(&str, &str)] = &[
    ("deploy/debian/sipobs.toml", "etc/sipobs/sipobs.toml"),
    ("deploy/debian/default", "etc/default/sipobs"),
    ("deploy/debian/logrotate", "etc/logrotate.d/sipobs"),
    ("deploy/systemd/sipobs.service", "lib/systemd/system/sipobs.service"),
    ("deploy/sipobs.toml", "usr/share/doc/sipobs/examples/sipobs.toml"),
    ("deploy/prometheus/sipobs.rules.yaml", "usr/share/doc/sipobs/examples/sipobs.rules.yaml"),
    ("README.md", "usr/share/doc/sipobs/README.md"),
];
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];
/// A shell, and where Debian looks for its completions.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/sipobs"),
    ("zsh", "usr/share/zsh/vendor-completions/_sipobs"),
    ("fish", "usr/share/fish/vendor_completions.d/sipobs.fish"),
];

/// Builds the package of `program` in `dist`.
pub(super) fn build(program: &Path, dist: &Path) -> Result<PathBuf> {
    let tree = crate::scratch("dist-deb")?;
    lay_out(program, &tree)?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    control(program, &tree, &architecture)?;
    let package = dist.join(format!("sipobs_{}_{architecture}.deb", version()));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "--build"]).arg(&tree).arg(&package);
    run(dpkg.env("SOURCE_DATE_EPOCH", source_date()?), LIMIT)?;
    Ok(package)
}

fn lay_out(program: &Path, tree: &Path) -> Result<()> {
    put(tree, "usr/bin/sipobs", &fs::read(program)?, 0o755)?;
    for (from, to) in FILES {
        put(tree, to, &fs::read(root().join(from)).with_context(|| (*from).to_owned())?, 0o644)?;
    }
    // All of it: the pages link to each other.
    for page in fs::read_dir(root().join("docs"))? {
        let page = page?;
        let to = format!("usr/share/doc/sipobs/docs/{}", page.file_name().to_string_lossy());
        put(tree, &to, &fs::read(page.path())?, 0o644)?;
    }
    put(tree, "usr/share/doc/sipobs/copyright", copyright()?.as_bytes(), 0o644)?;
    put(tree, "usr/share/doc/sipobs/changelog", &fs::read(root().join("CHANGELOG.md"))?, 0o644)?;
    for (shell, to) in COMPLETIONS {
        let script = output(Command::new(program).args(["completions", shell]))?;
        put(tree, to, script.as_bytes(), 0o644)?;
    }
    let manual = tree.join("usr/share/man/man1");
    fs::create_dir_all(&manual)?;
    output(Command::new(program).arg("manual").arg(&manual))?;
    let mut pack = Command::new("gzip");
    pack.arg("-n9").arg(tree.join("usr/share/doc/sipobs/changelog"));
    for page in fs::read_dir(&manual)? {
        pack.arg(page?.path());
    }
    run(&mut pack, LIMIT)
}

/// What dpkg wants to know: `deb-control(5)`, `deb-conffiles(5)`, `deb-md5sums(5)`, and the scripts.
fn control(program: &Path, tree: &Path, architecture: &str) -> Result<()> {
    let size = output(Command::new("du").args(["--summarize", "--block-size=1024"]).arg(tree))?;
    let size = size.split_whitespace().next().unwrap_or_default();
    let text = format!(
        "Package: sipobs\n\
         Version: {}\n\
         Architecture: {architecture}\n\
         Maintainer: the sipobs developers <sipobs@example.invalid>\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {}), libgcc-s1\n\
         Section: net\n\
         Priority: optional\n\
         Description: explains every SIP call transfer on the wire\n \
         XDP and tc programs pick the SIP packets out of a host's traffic; a daemon rebuilds\n \
         the dialogs and says of each transfer attempt what was tried, what came of it, and\n \
         what to check next. The same engine reads capture files.\n",
        version(),
        libc(program)?,
    );
    put(tree, "DEBIAN/control", text.as_bytes(), 0o644)?;
    let kept: String =
        FILES.iter().filter(|(_, to)| to.starts_with("etc/")).fold(String::new(), |mut all, (_, to)| {
            let _ = writeln!(all, "/{to}");
            all
        });
    put(tree, "DEBIAN/conffiles", kept.as_bytes(), 0o644)?;
    for script in SCRIPTS {
        let text = fs::read(root().join("deploy/debian").join(script))?;
        put(tree, &format!("DEBIAN/{script}"), &text, 0o755)?;
    }
    let sums = "find . -type f -not -path './DEBIAN/*' -printf '%P\\0' | sort -z | xargs -0 md5sum";
    let sums = output(Command::new("sh").args(["-c", sums]).current_dir(tree))?;
    put(tree, "DEBIAN/md5sums", sums.as_bytes(), 0o644)
}

/// The newest glibc whose symbols the program uses.
fn libc(program: &Path) -> Result<String> {
    let symbols = output(Command::new("readelf").args(["--version-info", "--wide"]).arg(program))?;
    let versions = symbols.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_"));
    let numbers = versions.filter_map(|version| {
        let (major, minor) = version.split_once('.')?;
        // Of 2.3.4 the third number is older than any glibc that matters.
        Some((major.parse::<u32>().ok()?, minor.split('.').next()?.parse::<u32>().ok()?))
    });
    let (major, minor) = numbers.max().context("the program uses no glibc")?;
    Ok(format!("{major}.{minor}"))
}

/// In Debian's form (copyright-format 1.0).
fn copyright() -> Result<String> {
    let mit = fs::read_to_string(root().join("LICENSE-MIT"))?;
    let indented = mit.lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, " {}", if line.is_empty() { "." } else { line });
        text
    });
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: sipobs\n\nFiles: *\nCopyright: the sipobs developers\nLicense: Apache-2.0 or Expat\n\n\
         License: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n\n\
         License: Expat\n{indented}"
    ))
}

fn put(tree: &Path, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(to);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, bytes).with_context(|| to.to_owned())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}
