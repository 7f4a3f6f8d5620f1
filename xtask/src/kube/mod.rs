//! `cargo xtask kube`: the Helm chart on a real Kubernetes node, with real calls on its wire, and what becomes of sipobs
//! when things go wrong there.
//!
//! The node is our own, made of the programs that a cluster is made of, unless an image is named that the cluster of the
//! current kubeconfig can pull: then the chart is installed there, asked whether it is well, and removed.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::bench::machine;
use crate::children::{check_interrupt, output};
use crate::daemon::build;
use crate::dist::image::{self, Image};
use crate::lab::Lab;
use crate::setup::{self, Need};
use crate::{dist, root, scratch};

mod checks;
mod client;
mod node;
mod programs;

use checks::{CHECKS, Trial};
use client::{Client, NAME};
use node::Node;
use programs::{COREDNS, ETCD, KUBERNETES};

/// An image may have to be pulled.
const FOREIGN_LIMIT: &str = "5m";
const SIPOBS: &str = "lab.invalid/sipobs";

#[derive(Args)]
pub(crate) struct Options {
    /// Install on the current kubeconfig's cluster, by this image (repository:tag) that it can pull.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Run this program in place of a release build.
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    program: Option<PathBuf>,
    /// Do only the checks whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write the result to xtask/kube-results.txt, to be committed.
    #[arg(long)]
    save: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(image) = &options.image {
        setup::ensure(&[Need::Checks])?;
        return on_users_cluster(image);
    }
    setup::ensure(&[Need::Live, Need::Lab, Need::Checks, Need::Kubernetes, Need::Packages])?;
    for module in [&ETCD, &KUBERNETES, &COREDNS] {
        module.ensure()?;
    }
    let built = options.program.clone().map_or_else(|| build(true, true), Ok)?;
    let sipobs = dist::stripped(&built, &scratch("kube-program")?)?;
    let lab = Lab::new(&scratch("kube")?)?;
    let images = images(&lab, &sipobs)?;
    let start = Instant::now();
    let node = Node::start(&lab, &images)?;
    let mut report = format!("cargo xtask kube\n\n{}{}\n", machine()?, programs::about());
    let mut say = |line: String| {
        println!("{line}");
        report += &format!("{line}\n");
    };
    say(format!("The node is ready after {:.1} s.", start.elapsed().as_secs_f64()));
    let trial = Trial::prepare(&lab, &node)?;
    let mut failed = 0;
    let chosen =
        CHECKS.iter().filter(|(name, _)| options.only.as_ref().is_none_or(|only| name.contains(only)));
    for (name, check) in chosen {
        check_interrupt()?;
        match check(&trial) {
            Ok(seen) => say(format!("{name}: {seen}")),
            Err(error) => {
                failed += 1;
                say(format!("{name}: FAILED: {error:#}"));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} checks failed");
    }
    if options.save {
        fs::write(root().join("xtask/kube-results.txt"), report)?;
    }
    Ok(())
}

fn images(lab: &Lab, sipobs: &std::path::Path) -> Result<Vec<PathBuf>> {
    let mut archives = Vec::new();
    let name = format!("{SIPOBS}:{}", dist::version());
    let rotel = setup::rotel().context("rotel is not installed; run cargo xtask setup")?;
    let coredns = Image {
        name: "lab.invalid/coredns:1",
        entrypoint: &["/coredns"],
        command: &[],
        files: vec![(COREDNS.path("coredns"), "/coredns".into())],
    };
    let rotel = Image {
        name: "lab.invalid/rotel:1",
        entrypoint: &["/rotel"],
        command: &[],
        files: image::with_libraries(&rotel, "/rotel")?,
    };
    for (file, image) in
        [("sipobs.tar", image::of_sipobs(&name, sipobs)?), ("coredns.tar", coredns), ("rotel.tar", rotel)]
    {
        let archive = lab.dir.join(file);
        image.write(&archive)?;
        archives.push(archive);
    }
    Ok(archives)
}

/// Installed, well, removed.
fn on_users_cluster(image: &str) -> Result<()> {
    let (repository, tag) = image.rsplit_once(':').context("an image is named as repository:tag")?;
    let client = Client::of_user(format!("sipobs-xtask-{}", std::process::id()));
    let removed = Removed(&client);
    output(client.kubectl().args(["create", "namespace", &client.namespace]))?;
    let enforce = "pod-security.kubernetes.io/enforce=privileged";
    output(client.kubectl().args(["label", "namespace", &client.namespace, enforce]))?;
    let values = serde_json::json!({
        "image": {"repository": repository, "tag": tag},
        // Nothing of it stays on the nodes, and a class of this name may be there already.
        "state": {"hostPath": ""}, "priorityClass": {"create": false, "name": ""},
    });
    client.install(&scratch("kube")?.join("values.json"), &values)?;
    let set = format!("daemonset/{NAME}");
    let timeout = format!("--timeout={FOREIGN_LIMIT}");
    output(client.ours().args(["rollout", "status", &set, &timeout]))?;
    for pod in client.pods()? {
        let said =
            output(client.ours().args(["exec", &pod.name, "--", "/usr/bin/sipobs", "check", "--live"]))?;
        println!("{}:\n{said}", pod.name);
    }
    drop(removed);
    Ok(())
}

/// Takes the release and its namespace away.
struct Removed<'a>(&'a Client);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let Client { namespace, .. } = self.0;
        let _ = output(self.0.helm().args(["uninstall", NAME, "--wait", "--namespace", namespace]));
        let _ = output(self.0.kubectl().args(["delete", "namespace", namespace]));
    }
}

/// How long it took, to be told.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
