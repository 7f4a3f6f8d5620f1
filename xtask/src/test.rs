//! `cargo xtask test`: every check there is, one step after the other, and a count at the end.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::children::{check_interrupt, run as run_command};
use crate::{cases, daemon, deploy, faults, fuzz, lab, live, page, root, setup, tunnels, unit};

/// No cargo command of the test takes longer.
pub(crate) const CARGO_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long each fuzz target goes on beyond its seeds, in seconds.
const FUZZ_SECONDS: u64 = 3;

#[derive(Args)]
pub(crate) struct Options {
    /// Only these steps.
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Name the steps and do nothing.
    #[arg(long)]
    list: bool,
}

/// What a step came to, if it did not fail.
enum Verdict {
    Passed,
    /// It can't be done here, for this reason.
    Skipped(String),
}

type Step = (&'static str, &'static str, fn() -> Result<Verdict>);

const STEPS: &[Step] = &[
    ("setup", "what the checks need is there", prepare),
    ("fmt", "rustfmt", fmt),
    ("clippy", "clippy, without and with live capture", clippy),
    ("unit", "unit, golden and property tests, and the kernel programs on given frames", unit),
    ("fuzz", "every fuzz target on its seeds, and on new inputs for a moment", fuzz_shortly),
    ("pure", "the engine builds where there is no system to ask: for wasm32-unknown-unknown", pure),
    ("docs", "documentation builds without a warning", docs),
    ("deploy", "rules, manifests, example configurations, and what the documentation names", deploy_files),
    ("capture", "the shipped capture of the lab's calls is judged right", shipped),
    ("lab", "the lab's calls, captured live, and their spans in a collector", live_calls),
    ("replay", "a capture through XDP and tc says what the file says", replay),
    (
        "tunnels",
        "calls in tags, tunnels and fragments, through XDP and tc, say what the file says",
        tunnelled,
    ),
    ("hep", "what a real Kamailio sends by HEP, and what is sent on, says what the wire says", hep),
    (
        "page",
        "the report in a browser: by keyboard, without a network, whatever peers put into their names",
        page,
    ),
    ("http", "spans over HTTP", http),
    (
        "monitoring",
        "a switch of method, through Prometheus and its rules, reaches an Alertmanager",
        monitoring,
    ),
    ("faults", "what can go wrong around the daemon, made to happen", faults),
    ("clean", "nothing is left behind", clean),
];

/// Steps that take longer than a gate should: run when named.
const NAMED: &[Step] = &[
    (
        "daemon-page",
        "the daemon's page in a browser, while calls go by: found, opened, downloaded; hostile names; 10,000 attempts",
        daemon_page,
    ),
    ("scale", "many calls at once, and floods, at full size", scale),
    ("ladders", "every golden ladder, replayed live at its own pace, says what the file says", ladders),
];

/// Runs the steps. Fails if any of them failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for (name, what, _) in STEPS.iter().chain(NAMED) {
            println!("{name:12} {what}");
        }
        return Ok(());
    }
    if let Some(unknown) =
        options.steps.iter().find(|name| !STEPS.iter().chain(NAMED).any(|(known, ..)| known == name))
    {
        bail!("there is no step {unknown:?}; see cargo xtask test --list");
    }
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    let wanted = |name: &str| options.steps.iter().any(|wanted| wanted == name);
    let gate = STEPS.iter().filter(|(name, ..)| options.steps.is_empty() || wanted(name));
    for (name, what, step) in gate.chain(NAMED.iter().filter(|(name, ..)| wanted(name))) {
        println!("\n── {name}: {what}");
        let start = Instant::now();
        let verdict = step();
        let seconds = start.elapsed().as_secs_f32();
        match verdict {
            Ok(Verdict::Passed) => {
                println!("── {name}: passed in {seconds:.1} s");
                passed += 1;
            }
            // Where nobody reads the output, a check that did not run is a check that failed.
            Ok(Verdict::Skipped(reason)) if std::env::var_os("CI").is_none() => {
                println!("── {name}: SKIPPED: {reason}");
                skipped += 1;
            }
            Ok(Verdict::Skipped(reason)) => {
                println!("── {name}: FAILED: can't be skipped in CI: {reason}");
                failed.push(*name);
            }
            Err(error) => {
                println!("── {name}: FAILED after {seconds:.1} s: {error:#}");
                failed.push(*name);
            }
        }
        check_interrupt()?;
    }
    println!("\n{passed} passed, {} failed, {skipped} skipped", failed.len());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn prepare() -> Result<Verdict> {
    let mut needs = vec![setup::Need::Live, setup::Need::Lab, setup::Need::Checks, setup::Need::Page];
    if fuzz::impossible().is_none() {
        needs.push(setup::Need::Fuzz);
    }
    setup::ensure(&needs)?;
    Ok(Verdict::Passed)
}

fn fmt() -> Result<Verdict> {
    cargo(&["fmt", "--all", "--check"])?;
    Ok(Verdict::Passed)
}

fn clippy() -> Result<Verdict> {
    for features in [
        &["--workspace", "--all-targets"][..],
        &["--package", "sipobs", "--all-targets", "--features", "live"],
        &["--package", "sipobs", "--no-default-features", "--features", "live"],
    ] {
        let mut arguments = vec!["clippy", "--locked"];
        arguments.extend(features);
        arguments.extend(["--", "--deny", "warnings"]);
        cargo(&arguments)?;
    }
    Ok(Verdict::Passed)
}

fn unit() -> Result<Verdict> {
    unit::test()?;
    Ok(Verdict::Passed)
}

/// What the unit tests do with a tenth of the calls and of the memory.
fn scale() -> Result<Verdict> {
    cargo(&[
        "test",
        "--locked",
        "--release",
        "--package",
        "sipobs",
        "--no-default-features",
        "--test",
        "scale",
        "--test",
        "budget",
        "--",
        "--nocapture",
    ])?;
    Ok(Verdict::Passed)
}

fn fuzz_shortly() -> Result<Verdict> {
    if let Some(reason) = fuzz::impossible() {
        return Ok(Verdict::Skipped(reason));
    }
    fuzz::short(FUZZ_SECONDS)?;
    Ok(Verdict::Passed)
}

/// Without its default features the library does no I/O and reads no clock, so it needs no system.
fn pure() -> Result<Verdict> {
    setup::build_bare("wasm32-unknown-unknown", &["--lib"], "")?;
    Ok(Verdict::Passed)
}

fn docs() -> Result<Verdict> {
    let mut doc = Command::new("cargo");
    doc.args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    doc.env("RUSTDOCFLAGS", "--deny warnings").env("PATH", setup::search_path()).current_dir(root());
    run_command(&mut doc, CARGO_LIMIT)?;
    Ok(Verdict::Passed)
}

fn deploy_files() -> Result<Verdict> {
    deploy::generate::run(true)?;
    deploy::rules::check()?;
    deploy::documents::check()?;
    deploy::dashboards::check()?;
    let installations = deploy::kubernetes::check()?;
    deploy::containers()?;
    let sipobs = daemon::build(true, false)?;
    deploy::configurations(&sipobs, &installations)?;
    deploy::runbooks::commands(&sipobs)?;
    println!("   Not run here: the images, the compose file, and a cluster.");
    Ok(Verdict::Passed)
}

fn live_calls() -> Result<Verdict> {
    captured(live::lab)
}

fn replay() -> Result<Verdict> {
    captured(live::replayed)
}

fn tunnelled() -> Result<Verdict> {
    captured(tunnels::run)
}

fn faults() -> Result<Verdict> {
    captured(|sipobs| faults::run(sipobs, std::env::var("SIPOBS_TEST_FAULT").ok().as_deref()))
}

fn monitoring() -> Result<Verdict> {
    captured(deploy::monitoring::run)
}

fn ladders() -> Result<Verdict> {
    captured(live::ladders)
}

fn http() -> Result<Verdict> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Verdict::Skipped("network namespaces need root".into()));
    }
    live::over_http(&daemon::build(true, false)?)?;
    Ok(Verdict::Passed)
}

fn hep() -> Result<Verdict> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Verdict::Skipped("network namespaces need root".into()));
    }
    // A proxy is not for every machine.
    if std::env::var_os("CI").is_some() {
        setup::ensure(&[setup::Need::Hep])?;
    } else if let Some(missing) = ["kamailio", "tshark"].into_iter().find(|it| setup::find(it).is_none()) {
        return Ok(Verdict::Skipped(format!("{missing} is not there (Debian's package {missing})")));
    }
    cases::hep::run(&daemon::build(true, false)?)?;
    Ok(Verdict::Passed)
}

fn page() -> Result<Verdict> {
    setup::ensure(&[setup::Need::Page, setup::Need::Web])?;
    page::run_all(&daemon::build(true, false)?)?;
    Ok(Verdict::Passed)
}

fn daemon_page() -> Result<Verdict> {
    setup::ensure(&[setup::Need::Page])?;
    captured(page::as_it_happens)
}

fn shipped() -> Result<Verdict> {
    live::from_file(&daemon::build(true, false)?)?;
    Ok(Verdict::Passed)
}

/// Builds sipobs for live capture and hands it to `check`, where the machine lets us capture.
fn captured(check: fn(&Path) -> Result<()>) -> Result<Verdict> {
    let sipobs = daemon::build(true, false)?;
    if let Some(reason) = live::impossible(&sipobs) {
        return Ok(Verdict::Skipped(reason));
    }
    check(&sipobs)?;
    Ok(Verdict::Passed)
}

fn clean() -> Result<Verdict> {
    let own = format!("-{}-", std::process::id());
    let left: Vec<_> = lab::namespaces().into_iter().filter(|name| name.contains(&own)).collect();
    if !left.is_empty() {
        bail!("network namespaces left behind: {}", left.join(", "));
    }
    Ok(Verdict::Passed)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).env("PATH", setup::search_path()).current_dir(root());
    run_command(&mut cargo, CARGO_LIMIT)
}
