//! The package in a fresh Debian: installed, run on a file and on live calls, and removed. And the offline program in a
//! folder that holds nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::children::{output, run as run_command};
use crate::daemon::{Daemon, json_lines, read_capture};
use crate::lab::Lab;
use crate::{live, recording};

const CAPTURE: &str = "calls.pcap";
/// A fresh Debian comes over the network.
const DEBIAN_LIMIT: Duration = Duration::from_secs(600);
const LIMIT: Duration = Duration::from_secs(120);

/// Checks `package` and the `offline` program. Needs root.
pub(super) fn run(package: &Path, offline: &Path) -> Result<()> {
    reads_alone(offline)?;
    let debian = Debian::fresh()?;
    debian.install(package)?;
    debian.complete()?;
    debian.judges_live_calls()?;
    debian.remove()
}

fn reads_alone(offline: &Path) -> Result<()> {
    let bare = crate::scratch("dist-bare")?;
    fs::copy(offline, bare.join("sipobs"))?;
    fs::copy(recording::shipped(), bare.join(CAPTURE))?;
    let mut command = Command::new("chroot");
    command.arg(&bare).args(["/sipobs", "pcap", "--format", "jsonl", CAPTURE]);
    let found = json_lines(&output(&mut command)?)?;
    let wanted = read_capture(offline, &recording::shipped())?;
    ensure!(found.len() == wanted.len() && !found.is_empty(), "{} lines, not {}", found.len(), wanted.len());
    println!("   The offline program reads a capture where there is no other file.");
    Ok(())
}

/// A Debian in a folder. Its folder goes when it is dropped.
struct Debian(PathBuf);

impl Debian {
    fn fresh() -> Result<Self> {
        let root = crate::scratch("dist-debian")?.join("root");
        // The release of this machine, as the program is built against its libraries.
        let release = output(Command::new("sh").args(["-c", ". /etc/os-release && echo $VERSION_CODENAME"]))?;
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=minbase", "--include=logrotate", release.trim()]).arg(&root);
        run_command(&mut make, DEBIAN_LIMIT)?;
        Ok(Self(root))
    }

    fn inside(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.0).args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn install(&self, package: &Path) -> Result<()> {
        fs::copy(package, self.0.join("sipobs.deb"))?;
        fs::copy(recording::shipped(), self.0.join(CAPTURE))?;
        run_command(&mut self.inside(&["dpkg", "--install", "/sipobs.deb"]), LIMIT)?;
        let changed = output(&mut self.inside(&["dpkg", "--verify", "sipobs"]))?;
        ensure!(changed.is_empty(), "what is installed is not what the package holds:\n{changed}");
        Ok(())
    }

    /// What a package owes: the program with its libraries, its configuration, manual, completions, rotation.
    fn complete(&self) -> Result<()> {
        let about = output(&mut self.inside(&["sipobs", "--version"]))?;
        let commit = crate::daemon::commit()?;
        let told = [super::version(), &commit, "live"].iter().all(|part| about.contains(part));
        ensure!(told, "sipobs --version says {about}");
        let file = format!("/{CAPTURE}");
        let lines = json_lines(&output(&mut self.inside(&["sipobs", "pcap", "--format", "jsonl", &file]))?)?;
        ensure!(!lines.is_empty(), "sipobs pcap says nothing");
        output(&mut self.inside(&["sipobs", "config", "--config", "/etc/sipobs/sipobs.toml"]))?;
        let completions = "/usr/share/bash-completion/completions/sipobs";
        output(&mut self.inside(&["bash", "-n", completions]))?;
        output(&mut self.inside(&["logrotate", "--debug", "/etc/logrotate.d/sipobs"]))?;
        for page in ["sipobs", "sipobs-run", "sipobs-pcap", "sipobs-view"] {
            let page = self.0.join(format!("usr/share/man/man1/{page}.1.gz"));
            let text = output(Command::new("gzip").arg("-dc").arg(&page))?;
            ensure!(text.contains(".SH DESCRIPTION"), "{} is no manual page", page.display());
        }
        println!("   The package is installed in a fresh Debian, and whole.");
        Ok(())
    }

    /// Its daemon, run in it, sees calls on a wire and says what the file reader says.
    fn judges_live_calls(&self) -> Result<()> {
        let lab = Lab::for_replay(&crate::scratch("dist-live")?)?;
        // Where the daemon writes in its own view of the files, the lab reads in ours.
        let there = self.0.join(lab.dir.strip_prefix("/")?);
        fs::create_dir_all(&there)?;
        symlink(there.join("sipobs.jsonl"), lab.dir.join("sipobs.jsonl"))?;
        let daemon = Daemon::start_with(&lab, &self.wrapper(&lab.dir)?, &[], false)?;
        recording::replay(&lab, &recording::shipped())?;
        let wanted = read_capture(&self.0.join("usr/bin/sipobs"), &recording::shipped())?;
        let transfers =
            |lines: &[serde_json::Value]| lines.iter().filter(|it| it["kind"] == "transfer").count();
        daemon.wait_settled(transfers(&wanted), "", live::SETTLE_LIMIT)?;
        let found = daemon.stop()?;
        live::same_transfers(&found, &wanted).context("the packaged daemon, and the file")?;
        println!("   Its daemon judged {} live transfers.", transfers(&found));
        Ok(())
    }

    /// A program that runs the packaged one in its own Debian, with mounts that go when it ends.
    fn wrapper(&self, dir: &Path) -> Result<PathBuf> {
        let root = self.0.display();
        let path = dir.join("sipobs");
        let text = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount -t proc proc \"$0/proc\" && mount --rbind /sys \"$0/sys\" && \
             exec chroot \"$0\" /usr/bin/sipobs \"$@\"' '{root}' \"$@\"\n"
        );
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn remove(&self) -> Result<()> {
        // What systemd makes for the unit, and the daemon fills.
        for made in ["var/lib/private/sipobs", "var/log/private/sipobs"] {
            let folder = self.0.join(made);
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("file"), "")?;
            symlink("private/sipobs", self.0.join(made.replace("/private", "")))?;
        }
        run_command(&mut self.inside(&["dpkg", "--purge", "sipobs"]), LIMIT)?;
        for left in [
            "usr/bin/sipobs",
            "etc/sipobs",
            "etc/default/sipobs",
            "usr/share/doc/sipobs",
            "var/lib/sipobs",
            "var/lib/private/sipobs",
            "var/log/sipobs",
            "var/log/private/sipobs",
        ] {
            ensure!(!self.0.join(left).exists(), "the purged package leaves /{left}");
        }
        println!("   Purged, it leaves nothing.");
        Ok(())
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
