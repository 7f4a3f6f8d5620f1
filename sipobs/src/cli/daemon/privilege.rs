//! What the daemon gives up before it reads a single packet: capabilities it does not use, new privileges for good,
//! system calls that it has no use for, and the file system but for what it reads and writes while it runs.

use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};
use sipobs::capture::RingChoice;
use sipobs::capture::live::{raise_descriptor_limit, rings_need_sys_admin, unlimit_memlock};
use sipobs::config::Config;

use super::syscalls;
use crate::cli::warn;

/// For maps and programs, for attaching them, for rings; the last where root has it: larger rings.
const KEPT: [Capability; 4] =
    [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON, Capability::CAP_IPC_LOCK];

/// What every thread reads of the system: which CPUs there are, the kernel's types, its settings, and how much memory
/// this process has pinned. The kernel forgets rules about /proc with the entries that it caches of it: after the start
/// nothing there counts as readable.
const SYSTEM: [&str; 6] = [
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
    "/sys/devices/system/cpu/present",
    "/sys/kernel/btf/vmlinux",
    "/proc/self/status",
    "/proc/sys/kernel",
];

/// What resolving a name takes, as nsswitch.conf(5) says: modules of the C library's, and files that others replace at
/// any time.
const RESOLVER: [&str; 5] = ["/etc", "/run", "/usr", "/lib", "/lib64"];

/// Folders of the Filesystem Hierarchy Standard, which belong to nobody alone.
const SHARED: [&str; 32] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/local/etc",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/spool",
    "/var/tmp",
];

const ABI: ABI = ABI::V5;

/// Gives up what no thread needs. Called before any is started, as all of this is a thread's and its children's. What
/// the kernel does not offer is left out, and said.
pub(super) fn drop_privileges(ring: RingChoice) {
    unlimit_memlock();
    raise_descriptor_limit();
    if let Err(error) = drop_capabilities(ring) {
        warn(format_args!("capabilities that are not used could not be given up: {error}"));
    }
    if let Err(error) = syscalls::forbid() {
        warn(format_args!("system calls that are not used could not be given up: {error}"));
    }
}

fn drop_capabilities(ring: RingChoice) -> Result<(), caps::errors::CapsError> {
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

/// Landlock (Linux 5.13), for this thread and those that it starts from here on: no file is opened but [`SYSTEM`]'s and
/// those of the configuration `file`, the causes, the webhook's secret, the token, the state, the records and the evidence. Files
/// that are open stay so.
pub(super) fn restrict_filesystem(config: &Config, file: Option<&Path>) {
    let secrets = [&config.webhook.secret_file, &config.metrics.token_file].map(|path| path.as_deref());
    let read = [file, config.diagnosis.path.as_deref()].into_iter().chain(secrets);
    let read = read.flatten().flat_map(read_again);
    let state = config.state.path.as_deref().map(folder);
    let evidence = config.recorder.folder.clone();
    for (field, what, folder) in [("state.path", "state", &state), ("recorder.folder", "evidence", &evidence)]
    {
        if let Some(shared) = folder.as_deref().filter(|folder| is_shared(folder)) {
            warn(format_args!(
                "{field}: sipobs keeps the right to write to all of {}: give the {what} a folder of its own",
                shared.display()
            ));
        }
    }
    let write = AccessFs::ReadFile
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate;
    // Where others keep theirs, a file that was rotated is not opened anew.
    let records = config.jsonl.path.as_deref().filter(|path| path.is_file()).map(folder);
    let records = records.filter(|folder| !is_shared(folder));
    let append = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::MakeReg;
    let rules = read.map(|path| (path, reading())).chain(state.map(|folder| (folder, write)));
    let rules = rules.chain(records.map(|folder| (folder, append)));
    let rules = rules.chain(evidence.map(|folder| (folder, write | AccessFs::ReadDir)));
    match restrict_to(rules) {
        Ok(RulesetStatus::NotEnforced) => {
            warn(format_args!("the file system stays open: this kernel has no Landlock"));
        }
        Ok(_) => {}
        Err(error) => warn(format_args!("the file system could not be closed: {error}")),
    }
}

/// The same for each thread that hands over spans, early words or HEP, which alone resolve names: [`SYSTEM`], and [`RESOLVER`]
/// where the collector, the webhook's server or the receiver of HEP has a name. What goes wrong is said by [`restrict_filesystem`].
pub(super) fn restrict_exporter(config: &Config) -> impl Fn() + Send + Sync + use<> {
    let proxied =
        std::env::vars_os().any(|(name, _)| name.to_string_lossy().to_ascii_lowercase().ends_with("_proxy"));
    let urls = [config.otlp.traces_url(), config.webhook.url.clone()];
    let of_hep = config.hep_out.to.as_ref().is_some_and(|to| to.socket().is_none());
    let resolves = proxied || of_hep || urls.into_iter().flatten().any(|url| !url.is_numeric());
    move || {
        let files = RESOLVER.iter().filter(|_| resolves);
        let _ = restrict_to(files.map(|path| (PathBuf::from(path), reading())));
    }
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn restrict_to(
    rules: impl Iterator<Item = (PathBuf, BitFlags<AccessFs>)>,
) -> Result<RulesetStatus, RulesetError> {
    let system = SYSTEM.iter().map(|path| (PathBuf::from(path), reading()));
    let null = ("/dev/null".into(), AccessFs::ReadFile | AccessFs::WriteFile);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI))?
        .create()?;
    let ruleset = rules.chain(system).chain([null]).try_fold(ruleset, |ruleset, (path, access)| {
        // One that is not there needs no rule.
        let Ok(opened) = PathFd::new(&path) else { return Ok(ruleset) };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI) };
        ruleset.add_rule(PathBeneath::new(opened, access))
    })?;
    Ok(ruleset.restrict_self()?.ruleset)
}

/// What a reload may have to read in the place of `file`: its folder, as whoever changes it may put another in its
/// place, and that of the file which it is a link to. Where others keep theirs, the file as it is.
fn read_again(file: &Path) -> impl Iterator<Item = PathBuf> {
    let around = |file: PathBuf| {
        let folder = folder(&file);
        if is_shared(&folder) { file } else { folder }
    };
    [Some(file.to_owned()), file.canonicalize().ok()].into_iter().flatten().map(around)
}

fn is_shared(folder: &Path) -> bool {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    SHARED.iter().any(|shared| whole == Path::new(shared)) || whole.parent() == Some(Path::new("/home"))
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::symlink;
    use std::thread;

    use super::*;

    #[test]
    fn a_folder_that_others_use_is_not_opened_for_a_file_in_it() {
        let read = |file: &str| read_again(Path::new(file)).collect::<Vec<_>>();
        assert_eq!(read("/nowhere.toml"), [Path::new("/nowhere.toml")]);
        assert_eq!(read("/etc/../nowhere.toml"), [Path::new("/etc/../nowhere.toml")]);
        assert_eq!(read("/etc/nowhere.toml"), [Path::new("/etc/nowhere.toml")]);
        assert_eq!(read("/home/somebody/nowhere.toml"), [Path::new("/home/somebody/nowhere.toml")]);
        assert_eq!(read("/etc/sipobs/nowhere.toml"), [Path::new("/etc/sipobs")]);
        assert_eq!(read("/config/nowhere.toml"), [Path::new("/config")]);
        assert_eq!(read("nowhere.toml"), [Path::new(".")]);
        let dir = tempfile::tempdir().unwrap();
        // As Kubernetes mounts a ConfigMap.
        for folder in ["..one", "elsewhere"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("..one/sipobs.toml"), "").unwrap();
        symlink("..one", dir.path().join("..data")).unwrap();
        symlink("../..data/sipobs.toml", dir.path().join("elsewhere/sipobs.toml")).unwrap();
        let file = dir.path().join("elsewhere/sipobs.toml");
        let expected = [dir.path().join("elsewhere"), dir.path().canonicalize().unwrap().join("..one")];
        assert_eq!(read_again(&file).collect::<Vec<_>>(), expected);
    }

    /// In threads of their own, as there is no way back.
    #[test]
    fn what_is_not_named_is_out_of_reach() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["conf", "state", "logs", "evidence", "other"];
        let [conf, state, logs, evidence, other] = names.map(|name| dir.path().join(name));
        for folder in [&conf, &state, &logs, &evidence, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "").unwrap();
        }
        let mut config = Config::default();
        config.state.path = Some(state.join("state.json"));
        config.jsonl.path = Some(logs.join("file"));
        config.recorder.folder = Some(evidence.clone());
        config.otlp.endpoint = Some(sipobs::config::Endpoint::new("http://collector:4317"));
        let (file, threads) = (conf.join("sipobs.toml"), (restrict_exporter(&config), config.clone()));
        let (exporter, config) = threads;
        let denied = |result: io::Result<File>| result.unwrap_err().kind() == io::ErrorKind::PermissionDenied;
        let probe = File::open("/sys/devices/system/cpu/online").is_ok() && enforced();
        thread::scope(|scope| {
            scope.spawn(|| {
                restrict_filesystem(&config, Some(&file));
                fs::write(state.join("state.json.new"), "x").unwrap();
                fs::rename(state.join("state.json.new"), state.join("state.json")).unwrap();
                File::create_new(logs.join("once it was rotated")).unwrap();
                fs::write(evidence.join("part"), "x").unwrap();
                fs::rename(evidence.join("part"), evidence.join("whole")).unwrap();
                assert_eq!(fs::read_dir(&evidence).unwrap().count(), 2);
                fs::remove_file(evidence.join("whole")).unwrap();
                File::open("/sys/devices/system/cpu/online").unwrap();
                File::open(conf.join("file")).unwrap();
                if probe {
                    for path in ["/etc/hostname", "/proc/self/environ", "/usr/bin/env"].map(Path::new) {
                        assert!(!path.exists() || denied(File::open(path)), "{}", path.display());
                    }
                    assert!(denied(File::open(other.join("file"))));
                    assert!(denied(File::create(conf.join("file"))), "it is only read");
                    assert!(fs::create_dir(state.join("folder")).is_err(), "files, and nothing else");
                    assert!(fs::remove_file(logs.join("file")).is_err(), "records are not ours to remove");
                }
            });
            scope.spawn(|| {
                exporter();
                File::open("/etc/passwd").unwrap();
                if probe {
                    assert!(denied(File::open(other.join("file"))) && denied(File::open(conf.join("file"))));
                    assert!(denied(File::create(state.join("new"))), "it writes nothing");
                }
            });
        });
    }

    /// Whether this kernel has Landlock.
    fn enforced() -> bool {
        let status = thread::spawn(|| restrict_to(std::iter::empty())).join().unwrap().unwrap();
        status != RulesetStatus::NotEnforced
    }
}
