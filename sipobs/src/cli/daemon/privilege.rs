//! What the daemon gives up before it reads a single packet: capabilities it does not use, new privileges for
//! good, and the file system but for the folders of what it reads and of what it is told to write.

use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules,
};
use sipobs::capture::RingChoice;
use sipobs::capture::live::{rings_need_sys_admin, unlimit_memlock};
use sipobs::config::Config;

use crate::cli::note;

/// For maps and programs, for attaching them, for rings; the last where root has it: larger rings.
const KEPT: [Capability; 4] =
    [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON, Capability::CAP_IPC_LOCK];

/// What is read while the daemon runs: the kernel's own files, and what names and certificates take.
const READ: [&str; 7] = ["/proc", "/sys", "/etc", "/usr", "/lib", "/lib64", "/run"];

/// Sheds what is not needed. Called before any thread is started: both the sets and the fence are a thread's,
/// and its children's. What the kernel does not offer is left out, and said.
pub(super) fn shed(config: &Config, file: Option<&Path>) {
    unlimit_memlock();
    if let Err(error) = shed_capabilities(config.capture.ring) {
        note(format_args!("capabilities that are not used could not be given up: {error}"));
    }
    match fence(config, file) {
        Ok(RulesetStatus::NotEnforced) => {
            note(format_args!("the file system stays open: this kernel has no Landlock"));
        }
        Ok(_) => {}
        Err(error) => note(format_args!("the file system could not be fenced off: {error}")),
    }
}

fn shed_capabilities(ring: RingChoice) -> Result<(), caps::errors::CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let mut kept: CapsHashSet = KEPT.into_iter().collect();
    // Until the end: a CPU that comes online gets its ring then.
    if ring != RingChoice::Ringbuf && rings_need_sys_admin() {
        kept.insert(Capability::CAP_SYS_ADMIN);
    }
    kept.retain(|capability| permitted.contains(capability));
    if kept.len() == permitted.len() {
        return Ok(());
    }
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// Landlock (Linux 5.13): from here on no file is opened outside [`READ`] and the folders of the files that are read
/// again, none is executed, and none is written outside the folders of the state and JSONL files. Also sets
/// no_new_privs.
fn fence(config: &Config, file: Option<&Path>) -> Result<RulesetStatus, RulesetError> {
    let abi = ABI::V3;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(abi) & !AccessFs::Execute;
    let fence = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(READ, read))?
        .add_rules(path_beneath_rules(certificates(config), AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(read_again(config, file), read))?
        .add_rules(path_beneath_rules(written(config), write))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::from_file(abi)))?
        .restrict_self()?;
    Ok(fence.ruleset)
}

/// The folders of the files that are written: they are made there anew. Right below `/` that is everything.
fn written(config: &Config) -> Vec<PathBuf> {
    let files = [config.state.path.as_deref(), config.jsonl.path.as_deref()];
    files.into_iter().flatten().map(folder).collect()
}

/// Where the files are that a reload reads. A link is followed.
fn read_again(config: &Config, file: Option<&Path>) -> Vec<PathBuf> {
    let files = [file, config.diagnosis.path.as_deref()].into_iter().flatten();
    files
        .flat_map(|file| [Some(around(file)), file.canonicalize().ok().map(|file| around(&file))])
        .flatten()
        .collect()
}

/// The folder of `file`: whoever changes it may put another in its place. Right below `/` that would be everything:
/// there, the file as it is.
fn around(file: &Path) -> PathBuf {
    let folder = folder(file);
    let is_root = folder.canonicalize().is_ok_and(|folder| folder.parent().is_none());
    if is_root { file.to_owned() } else { folder }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn certificates(config: &Config) -> Vec<&Path> {
    let otlp = &config.otlp;
    let files = [&otlp.certificate, &otlp.client_certificate, &otlp.client_key];
    files.into_iter().filter_map(|file| file.as_deref()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_not_opened_for_a_file_in_it() {
        let read = |file: &str| read_again(&Config::default(), Some(Path::new(file)));
        assert_eq!(read("/nowhere.toml"), [Path::new("/nowhere.toml")]);
        assert_eq!(read("/proc/../nowhere.toml"), [Path::new("/proc/../nowhere.toml")]);
        // A folder in it, which is there on every machine, and not a link.
        assert_eq!(read("/proc"), [Path::new("/proc"); 2]);
        assert_eq!(read("/proc/version"), [Path::new("/proc"); 2]);
        assert_eq!(read("nowhere.toml"), [Path::new(".")]);
    }
}
