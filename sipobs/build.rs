//! Builds the kernel programs for the feature `live`, and does nothing without it.
//!
//! They are another target's and need a compiler that may build `core` for it: a rustup nightly with the
//! component rust-src, or Debian's packages of the newest Rust. Whichever is there is used.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to do when the toolchain is not there.
const INSTALL: &str = "\
The feature `live` builds eBPF programs and needs a compiler for them and the linker bpf-linker.

With rustup:
    rustup toolchain install nightly --component rust-src
    cargo install bpf-linker

With Debian's packages (12 with security updates, or later):
    apt-get install cargo-web rustc-web rust-web-src llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev
    PATH=/usr/lib/llvm-22/bin:$PATH cargo install bpf-linker --no-default-features --features llvm-22

Or name an object that is already built, in the variable SIPOBS_EBPF_OBJECT.
Without the feature `live`, sipobs reads capture files and builds anywhere.";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo tells of features and target by variables, set also when this file is not compiled anew.
    if env::var_os("CARGO_FEATURE_LIVE").is_none()
        || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux")
    {
        return;
    }
    let out = cargo_dir("OUT_DIR").join("sipobs.bpf.o");
    println!("cargo::rerun-if-env-changed=SIPOBS_EBPF_OBJECT");
    let object = match env::var_os("SIPOBS_EBPF_OBJECT") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", PathBuf::from(&path).display());
            Ok(PathBuf::from(path))
        }
        None => build(),
    };
    if let Err(problem) = object.and_then(|object| copy(&object, &out)) {
        for line in problem.lines().chain(INSTALL.lines()) {
            println!("cargo::error={line}");
        }
    }
}

/// A directory that cargo tells every build script of.
fn cargo_dir(variable: &str) -> PathBuf {
    env::var_os(variable).map(PathBuf::from).expect("cargo sets it")
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(drop).map_err(|error| format!("cannot read {}: {error}", from.display()))
}

/// Builds the object and says where it is.
fn build() -> Result<PathBuf, String> {
    let root = cargo_dir("CARGO_MANIFEST_DIR").join("..");
    let source = root.join("sipobs-ebpf");
    for path in [source.join("src"), source.join("Cargo.toml"), source.join("Cargo.lock")] {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-changed={}", root.join("sipobs-common/src").display());

    let linker = bpf_linker().ok_or("bpf-linker is neither on PATH nor among cargo's own programs.")?;
    let toolchain = Toolchain::find()
        .ok_or("No compiler for eBPF: neither a rustup nightly with rust-src nor Debian's rustc-web.")?;
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    // Beside the outer build, not in it: cargo locks its target directory.
    let target_dir = cargo_dir("OUT_DIR").join("ebpf");

    // Without CAP_PERFMON the verifier also follows what a processor may speculate, and that does not end with a loop.
    let rustflags =
        format!("-C linker={} -C debuginfo=2 -C link-arg=--btf -C link-arg=--unroll-loops", linker.display());

    let mut cargo = toolchain.cargo();
    cargo
        .args(["build", "--release", "--locked", "-Z", "build-std=core", "--target", target])
        .arg("--manifest-path")
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(&source)
        .env("RUSTFLAGS", rustflags);
    let output = cargo.output().map_err(|error| format!("cannot start {cargo:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "Building sipobs-ebpf with {} failed:\n{}",
            toolchain.name(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(target_dir.join(target).join("release/sipobs"))
}

enum Toolchain {
    RustupNightly,
    /// Its cargo and its rustc.
    Debian(PathBuf, PathBuf),
}

impl Toolchain {
    fn find() -> Option<Self> {
        let nightly =
            scrubbed("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output().ok();
        if let Some(sysroot) = nightly.filter(|output| output.status.success())
            && has_source(String::from_utf8_lossy(&sysroot.stdout).trim())
        {
            return Some(Self::RustupNightly);
        }
        // By path: rustup's proxies of the same names usually come first on PATH.
        let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
        let sysroot = scrubbed(&rustc).args(["--print", "sysroot"]).output().ok()?;
        (cargo.exists() && has_source(String::from_utf8_lossy(&sysroot.stdout).trim()))
            .then_some(Self::Debian(cargo, rustc))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::RustupNightly => "rustup's nightly",
            Self::Debian(..) => "/usr/bin/cargo",
        }
    }

    fn cargo(&self) -> Command {
        match self {
            Self::RustupNightly => {
                let mut command = scrubbed("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
            Self::Debian(cargo, rustc) => {
                let mut command = scrubbed(cargo);
                // A release compiler takes `-Z` only so.
                command.env("RUSTC_BOOTSTRAP", "1").env("CARGO", cargo).env("RUSTC", rustc);
                command
            }
        }
    }
}

fn has_source(sysroot: &str) -> bool {
    Path::new(sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}

/// A command that does not see what the outer cargo, its wrappers and its flags have left in the
/// environment: they are another compiler's. What says where and how to fetch crates stays.
fn scrubbed(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let fetching = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];
        let ours = name.starts_with("CARGO") && !fetching.iter().any(|prefix| name.starts_with(prefix));
        let compiler = ["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUST_RECURSION_COUNT"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let build = ["TARGET", "HOST", "OUT_DIR", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS", "MAKEFLAGS"]
            .contains(&name.as_ref());
        if ours || compiler || build {
            command.env_remove(name.as_ref());
        }
    }
    command
}

fn bpf_linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let path: OsString = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([cargo_home, home].into_iter().flatten().map(|directory| directory.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .find(|program| program.is_file())
}
