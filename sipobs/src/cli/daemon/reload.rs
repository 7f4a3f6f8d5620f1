//! The configuration, read anew beside the capture thread, checked whole, and handed to it: when SIGHUP asks for it,
//! and when its files have changed, as a ConfigMap does under a running pod.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use sd_notify::NotifyState;
use sipobs::capture::live::Error;
use sipobs::config::{Change, Config, ConfigError};
use sipobs::files;
use sipobs::transfer::Rules;

use super::records::Rotation;
use super::service;
use super::signals::Request;
use crate::cli::run::Run;
use crate::cli::{note, warn};

/// A configuration that makes sense.
pub(super) struct Reload {
    pub(super) config: Config,
    pub(super) rules: Rules,
    /// Wants to know what came of it.
    pub(super) done: SyncSender<Result<Change, Error>>,
}

/// Starts to read anew, in a thread of its own, as files may be slow: whenever something is sent, and whenever `files`
/// change. `config` is what was read first.
pub(super) fn start(
    args: Run,
    mut files: Files,
    config: &Config,
    rotation: Option<Rotation>,
    requests: Sender<Request>,
) -> anyhow::Result<Sender<()>> {
    let (sender, wanted) = channel();
    files.follow(config);
    let every = interval(config);
    let reloader = Reloader { args, files, every, rotation, requests };
    let run = move || reloader.run(&wanted);
    thread::Builder::new().name("reload".into()).spawn(run).context("cannot listen for SIGHUP")?;
    Ok(sender)
}

struct Reloader {
    args: Run,
    files: Files,
    /// Between two looks at the files; none where nobody wants them looked at.
    every: Option<Duration>,
    rotation: Option<Rotation>,
    requests: Sender<Request>,
}

impl Reloader {
    fn run(mut self, wanted: &Receiver<()>) {
        while let Ok(asked) = self.wait(wanted) {
            if !asked && !self.files.have_changed() {
                continue;
            }
            // Those that came meanwhile want no more than this.
            while wanted.try_recv().is_ok() {}
            if asked {
                self.look_at_records();
            }
            let now = NotifyState::monotonic_usec_now();
            service(&[Some(NotifyState::Reloading), now.ok()].into_iter().flatten().collect::<Vec<_>>());
            match self.reload() {
                Ok(Some(change)) => note(format_args!("{}", told(&change))),
                Ok(None) => return,
                Err(error) => {
                    warn(format_args!(
                        "the configuration was not reloaded, and all goes on as before: {error:#}"
                    ));
                }
            }
            service(&[NotifyState::Ready]);
        }
    }

    fn look_at_records(&self) {
        let Some(rotation) = &self.rotation else { return };
        match rotation.look() {
            Ok(true) => note(format_args!("records go on in a new {}", rotation.path().display())),
            Ok(false) => {}
            Err(error) => warn(format_args!("records go on where they went: {error:#}")),
        }
    }

    /// Waits until somebody asks, which it gives, or it is time to look at the files.
    fn wait(&self, wanted: &Receiver<()>) -> Result<bool, RecvError> {
        let Some(every) = self.every else { return wanted.recv().map(|()| true) };
        match wanted.recv_timeout(every) {
            Ok(()) => Ok(true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        }
    }

    /// What has changed; nothing is told once the end has begun.
    fn reload(&mut self) -> anyhow::Result<Option<Change>> {
        // Before they are read: what changes while they are is seen at the next look.
        self.files.take();
        // A pipe has given what it had at the start; opening it again waits for a writer, perhaps for ever.
        if let Some(path) = self.args.file()
            && std::fs::metadata(path).is_ok_and(|file| !file.is_file())
        {
            anyhow::bail!("{}: no regular file: it can't be read again", path.display());
        }
        let config = self.args.config().map_err(out_of_reach)?;
        let rules = Rules::new(&config.engine().transfer)?;
        let (every, (done, result)) = (interval(&config), sync_channel(1));
        let mut files = self.files.clone();
        files.follow(&config);
        let request = Request::Reload(Box::new(Reload { config, rules, done }));
        match self.requests.send(request).ok().and_then(|()| result.recv().ok()) {
            Some(change) => {
                let change = change?;
                (self.every, self.files) = (every, files);
                Ok(Some(change))
            }
            None => Ok(None),
        }
    }
}

fn interval(config: &Config) -> Option<Duration> {
    Some(config.reload.every).filter(|every| !every.is_zero())
}

/// The files of the configuration, by what they held when it was last read.
#[derive(Clone, Debug)]
pub(super) struct Files {
    file: Option<PathBuf>,
    causes: Option<PathBuf>,
    taken: [u64; 2],
    /// At the last look.
    seen: [u64; 2],
}

impl Files {
    /// Looks at the configuration file, if there is one, before it is read for the first time.
    pub(super) fn new(file: Option<&Path>) -> Self {
        let mut files = Self { file: file.map(Into::into), causes: None, taken: [0; 2], seen: [0; 2] };
        files.take();
        files
    }

    /// Looks at those as well that `config` names.
    fn follow(&mut self, config: &Config) {
        if self.causes != config.diagnosis.path {
            self.causes.clone_from(&config.diagnosis.path);
            self.taken[1] = content(self.causes.as_deref());
        }
    }

    /// What they hold now is what is read.
    fn take(&mut self) {
        self.taken = self.contents();
    }

    /// Whether they hold something else than what was read, and have held it since the last look: who writes a file
    /// may not be through with it.
    fn have_changed(&mut self) -> bool {
        let now = self.contents();
        let rests = now == self.seen;
        self.seen = now;
        rests && now != self.taken
    }

    fn contents(&self) -> [u64; 2] {
        [content(self.file.as_deref()), content(self.causes.as_deref())]
    }
}

/// Stands for what a file holds, or for why that can't be told.
fn content(path: Option<&Path>) -> u64 {
    let Some(path) = path else { return 0 };
    // A pipe would be waited for, and be empty then.
    let read = || match std::fs::metadata(path)?.is_file() {
        true => files::read(path, Config::MOST_BYTES).map(|(bytes, _)| bytes),
        false => Ok(Vec::new()),
    };
    let mut hasher = DefaultHasher::new();
    read().map_err(|error: std::io::Error| error.kind()).hash(&mut hasher);
    hasher.finish()
}

/// Says why a file that could be read at the start may be out of reach now.
fn out_of_reach(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(ConfigError::Read { error: cause, .. }) if cause.kind() == ErrorKind::PermissionDenied => {
            anyhow!("{error}: the right to read it was given up at the start, and a restart is needed")
        }
        _ => error,
    }
}

fn told(change: &Change) -> String {
    let Change { adopted, restart } = change;
    let adopted = match &adopted[..] {
        [] => "nothing".to_owned(),
        some => some.join(", "),
    };
    match &restart[..] {
        [] => format!("configuration reloaded: {adopted} changed"),
        some => {
            format!("configuration reloaded: {adopted} changed; only a restart changes {}", some.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_taken_once_it_rests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sipobs.toml");
        fs::write(&path, "one").unwrap();
        let mut files = Files::new(Some(&path));
        assert!(!files.have_changed() && !files.have_changed());
        fs::write(&path, "tw").unwrap();
        assert!(!files.have_changed(), "it may go on");
        fs::write(&path, "two").unwrap();
        assert!(!files.have_changed() && files.have_changed());
        files.take();
        assert!(!files.have_changed() && !files.have_changed());
        fs::remove_file(&path).unwrap();
        assert!(!files.have_changed() && files.have_changed(), "gone for good");
        files.take();
        fs::write(&path, "two").unwrap();
        assert!(!files.have_changed() && files.have_changed(), "and back");
    }

    #[test]
    fn one_that_is_there_again_before_it_rests_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sipobs.toml");
        fs::write(&path, "one").unwrap();
        let mut files = Files::new(Some(&path));
        fs::write(&path, "two").unwrap();
        assert!(!files.have_changed());
        fs::write(&path, "one").unwrap();
        assert!(!files.have_changed() && !files.have_changed());
    }

    /// As kubelet lays out a ConfigMap: files are links through `..data`, which is swapped as a whole.
    #[test]
    fn a_config_map_is_seen_to_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let fill = |version: &str, text: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("sipobs.toml"), text).unwrap();
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        fill("..1", "one");
        symlink("..data/sipobs.toml", at("sipobs.toml")).unwrap();
        let mut files = Files::new(Some(&at("sipobs.toml")));
        assert!(!files.have_changed());
        fill("..2", "two");
        fs::remove_dir_all(at("..1")).unwrap();
        assert!(!files.have_changed() && files.have_changed());
    }

    #[test]
    fn the_causes_are_followed_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("causes.toml");
        fs::write(&path, "one").unwrap();
        let mut config = Config::default();
        config.diagnosis.path = Some(path.clone());
        let mut files = Files::new(None);
        files.follow(&config);
        assert!(!files.have_changed() && !files.have_changed());
        fs::write(&path, "two").unwrap();
        assert!(!files.have_changed() && files.have_changed());
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut files = Files::new(Some(&path));
        assert!(!files.have_changed() && !files.have_changed());
    }
}
