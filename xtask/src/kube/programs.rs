//! The programs of a Kubernetes node, and its name server, built from their Go modules into the user's cache.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::children::{output, run};
use crate::setup;

/// Kubernetes alone takes six minutes on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Programs of one Go module.
pub(super) struct Module {
    name: &'static str,
    module: &'static str,
    version: &'static str,
    /// Where each is in the module, and its name.
    programs: &'static [(&'static str, &'static str)],
    /// The source of the one program, where the module's own holds far more than we need.
    source: Option<&'static str>,
}

pub(super) const ETCD: Module = Module {
    name: "etcd",
    module: "go.etcd.io/etcd/server/v3",
    version: "v3.6.5",
    programs: &[("", "etcd")],
    source: None,
};
pub(super) const KUBERNETES: Module = Module {
    name: "kubernetes",
    module: "k8s.io/kubernetes",
    version: "v1.34.4",
    programs: &[
        ("/cmd/kube-apiserver", "kube-apiserver"),
        ("/cmd/kube-controller-manager", "kube-controller-manager"),
        ("/cmd/kube-proxy", "kube-proxy"),
        ("/cmd/kube-scheduler", "kube-scheduler"),
        ("/cmd/kubelet", "kubelet"),
    ],
    source: None,
};
/// Its own program speaks to every cloud.
pub(super) const COREDNS: Module = Module {
    name: "coredns",
    module: "github.com/coredns/coredns",
    version: "v1.14.6",
    programs: &[("", "coredns")],
    source: Some(include_str!("coredns.go.txt")),
};

impl Module {
    /// Where `program` is, which [`Module::ensure`] has built.
    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.folder().join(program)
    }

    /// Builds what is not in the cache.
    pub(super) fn ensure(&self) -> Result<()> {
        let missing: Vec<_> =
            self.programs.iter().filter(|(_, program)| !self.path(program).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        setup::find("go").context("building a Kubernetes node takes Go 1.26 or newer, and there is none")?;
        println!("Building {} {} …", self.name, self.version);
        let scratch = crate::scratch("kube-go")?;
        fs::create_dir_all(self.folder())?;
        let packages =
            missing.iter().map(|(package, _)| format!("{}{package}@{}", self.module, self.version));
        fs::write(scratch.join("go.mod"), self.go_mod()?)?;
        match self.source {
            Some(source) => {
                fs::write(scratch.join("main.go"), source)?;
                run(go(&scratch).args(["get", &format!("{}@{}", self.module, self.version)]), BUILD_LIMIT)?;
                run(go(&scratch).args(["get", "."]), BUILD_LIMIT)?;
            }
            None => run(go(&scratch).args(["get", "-tool"]).args(packages), BUILD_LIMIT)?,
        }
        for (package, program) in missing {
            // Complete or not there at all: an interrupted build leaves nothing that is taken for one.
            let part = self.folder().join(format!("{program}.part"));
            let mut build = go(&scratch);
            build.args(["build", "-trimpath", "-ldflags", &self.linking(), "-o"]).arg(&part);
            match self.source {
                Some(_) => build.arg("."),
                None => build.arg(format!("{}{package}", self.module)),
            };
            run(&mut build, BUILD_LIMIT)?;
            fs::rename(&part, self.path(program))?;
        }
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        setup::cache().join("go").join(format!("{}-{}", self.name, self.version.trim_start_matches('v')))
    }

    /// Kubernetes names its own parts by folders of its repository, which a module that needs it must replace by the
    /// modules that they are published as: `v1.34.4` has them as `v0.34.4`.
    fn go_mod(&self) -> Result<String> {
        let mut text = String::from("module sipobs/programs\n\ngo 1.26\n");
        if self.name != KUBERNETES.name {
            return Ok(text);
        }
        let mut download = go(Path::new("/"));
        download.args(["mod", "download", "-json", &format!("{}@{}", self.module, self.version)]);
        let about: serde_json::Value = serde_json::from_str(&output(&mut download)?)?;
        let theirs = fs::read_to_string(about["GoMod"].as_str().context("go mod download names no go.mod")?)?;
        let version = self.version.replacen("v1.", "v0.", 1);
        for part in theirs.lines().filter_map(|line| line.split_once(" => ./staging/")) {
            writeln!(text, "replace {0} => {0} {version}", part.0.trim())?;
        }
        Ok(text)
    }

    /// Without symbols. Kubernetes' parts look at each other's versions, which its own build writes into them.
    fn linking(&self) -> String {
        let mut flags = String::from("-s -w");
        if self.name == KUBERNETES.name {
            let mut numbers = self.version.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
            for (variable, value) in [("gitVersion", self.version), ("gitMajor", major), ("gitMinor", minor)]
            {
                let _ = write!(flags, " -X k8s.io/component-base/version.{variable}={value}");
            }
        }
        flags
    }
}

fn go(folder: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folder).env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false");
    go.env("PATH", setup::search_path());
    go
}

/// What a node of ours is made of.
pub(super) fn about() -> String {
    [KUBERNETES, COREDNS].map(|it| format!("{} {}", it.name, it.version)).join(", ")
}
