//! The manifest, the chart and the kustomizations: they fit the schemas, take no more privileges than the README says,
//! and give the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::runbooks::RUNBOOKS;
use super::{LIMIT, yaml};
use crate::children::{output, run};
use crate::{root, setup};

/// What waits is handed over for 5 s at most (`otlp.flush`, and the same for records), and the last of it again.
const LONGEST_END: u64 = 10;

/// Where the runbooks are by `ci/everything-values.yaml`.
const ELSEWHERE: &str = "https://wiki.example/sipobs";

/// Values that the chart refuses, and what its complaint must name.
const REFUSED: &[(&str, &str)] = &[
    ("memoryMib=512", "memoryMib"),
    ("metrics.listen=0.0.0.0", "/metrics/listen"),
    ("mode=fast", "/mode"),
    ("metrics.listen=loopback,podMonitor.enabled=true", "metrics.listen"),
    ("metrics.listen=node", "metrics.token.secretName"),
    ("metrics.listen=node,metrics.tls.secretName=tls", "metrics.token.secretName"),
    ("metrics.tls.clientAuthorityKey=ca.crt", "metrics.tls.secretName"),
    ("otlp.secret.headersKey=headers", "otlp.secret.name"),
    ("otlp.secret.name=otlp,otlp.secret.certificateKey=tls.crt", "otlp.secret.privateKeyKey"),
];

/// One way to install sipobs, as the objects that it makes.
#[derive(Debug)]
pub(crate) struct Installation {
    name: &'static str,
    objects: Vec<Value>,
}

impl Installation {
    /// The one object of this kind.
    fn the(&self, kind: &str) -> Result<&Value> {
        let found = self.objects.iter().find(|it| it["kind"] == kind);
        found.with_context(|| format!("{}: there is no {kind}", self.name))
    }

    fn pod(&self) -> Result<&Value> {
        Ok(&self.the("DaemonSet")?["spec"]["template"]["spec"])
    }

    /// The configuration in its ConfigMap, and the variables of its container.
    pub(crate) fn configuration(&self) -> Result<(&str, &Value)> {
        let config = &self.the("ConfigMap")?["data"]["sipobs.toml"];
        let config = config.as_str().with_context(|| format!("{}: no sipobs.toml", self.name))?;
        Ok((config, &self.pod()?["containers"][0]["env"]))
    }
}

/// Checks every way to install sipobs in a cluster, and gives what each makes.
pub(crate) fn check() -> Result<Vec<Installation>> {
    run(helm().args(["lint", "--strict", "--quiet"]).arg(chart()), LIMIT)?;
    let installations = installations()?;
    for installation in &installations {
        privileges(installation).with_context(|| installation.name)?;
    }
    schemas_bite()?;
    let [manifest, plain, everything, ..] = &installations[..] else { bail!("a way to install is missing") };
    same_as_manifest(plain, manifest)?;
    from_one_source(everything)?;
    guarded(&installations)?;
    versions(&installations)?;
    of_its_release()?;
    refused()?;
    Ok(installations)
}

/// Every way to install sipobs, each held against the schemas.
fn installations() -> Result<Vec<Installation>> {
    let folder = crate::scratch("kubernetes")?;
    let manifest = fs::read_to_string(root().join("deploy/kubernetes/sipobs.yaml"))?;
    let values = |name: &str| chart().join("ci").join(name);
    let ways = [
        ("the manifest", manifest),
        ("the chart", template(None)?),
        ("the chart, everything", template(Some(&values("everything-values.yaml")))?),
        ("the chart, the least", template(Some(&values("least-values.yaml")))?),
        ("kustomize", output(&mut kustomize("deploy/kubernetes"))?),
        ("kustomize, everything", output(&mut kustomize("deploy/kustomize-example"))?),
    ];
    let mut paths = Vec::new();
    for (name, text) in &ways {
        let path = folder.join(name.replace([',', ' '], "-")).with_extension("yaml");
        fs::write(&path, text)?;
        paths.push(path);
    }
    schemas(&paths)?;
    let read = |((name, _), path): ((&'static str, String), &PathBuf)| {
        let objects = yaml(path)?.into_iter().filter(|it| !it.is_null()).collect();
        Ok(Installation { name, objects })
    };
    ways.into_iter().zip(&paths).map(read).collect()
}

/// The privileges that the README promises, and what a pod needs beside them.
fn privileges(installation: &Installation) -> Result<()> {
    let pod = installation.pod()?;
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    let added = &security["capabilities"]["add"];
    let with_lock = json!(["BPF", "NET_ADMIN", "PERFMON", "IPC_LOCK"]);
    let asked_for = installation.name == "the chart, everything";
    for (what, found, wanted) in [
        ("hostNetwork", &pod["hostNetwork"], Value::Bool(true)),
        ("seccompProfile", &pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault".into()),
        ("runAsUser", &security["runAsUser"], 0.into()),
        ("allowPrivilegeEscalation", &security["allowPrivilegeEscalation"], Value::Bool(false)),
        ("readOnlyRootFilesystem", &security["readOnlyRootFilesystem"], Value::Bool(true)),
        ("capabilities.drop", &security["capabilities"]["drop"], json!(["ALL"])),
        (
            "capabilities.add",
            added,
            if asked_for { with_lock } else { json!(["BPF", "NET_ADMIN", "PERFMON"]) },
        ),
    ] {
        ensure!(*found == wanted, "the DaemonSet's {what} is {found}, not {wanted}");
    }
    for field in ["resources", "livenessProbe", "readinessProbe"] {
        ensure!(container[field].is_object(), "the DaemonSet has no {field}");
    }
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    ensure!(grace >= Some(LONGEST_END), "the end takes {LONGEST_END} s at most, and the pod has {grace:?}");
    if let Some(class) = pod["priorityClassName"].as_str() {
        let made = installation.the("PriorityClass")?;
        ensure!(made["metadata"]["name"] == class, "there is no PriorityClass {class}");
    }
    Ok(())
}

/// The chart without any value gives the pod of the manifest.
fn same_as_manifest(plain: &Installation, manifest: &Installation) -> Result<()> {
    let (ours, theirs) = (&plain.the("DaemonSet")?["spec"], &manifest.the("DaemonSet")?["spec"]);
    let mut template = ours["template"].clone();
    let annotations = template["metadata"]["annotations"].as_object_mut().context("no annotations")?;
    ensure!(annotations.remove("checksum/config").is_some(), "a changed configuration rolls out nothing");
    if annotations.is_empty() {
        template["metadata"].as_object_mut().context("no metadata")?.remove("annotations");
    }
    for (what, ours, theirs) in [
        ("selector", &ours["selector"], &theirs["selector"]),
        ("updateStrategy", &ours["updateStrategy"], &theirs["updateStrategy"]),
        ("metadata", &template["metadata"], &theirs["template"]["metadata"]),
        ("pod", &template["spec"], &theirs["template"]["spec"]),
    ] {
        let shown = |it: &Value| serde_json::to_string_pretty(it).unwrap_or_default();
        ensure!(
            ours == theirs,
            "the chart's {what} is not the manifest's:\n{}\n{}",
            shown(ours),
            shown(theirs)
        );
    }
    for field in ["value", "preemptionPolicy"] {
        let of = |installation: &Installation| {
            Ok::<_, anyhow::Error>(installation.the("PriorityClass")?[field].clone())
        };
        ensure!(of(plain)? == of(manifest)?, "the PriorityClasses differ in {field}");
    }
    Ok(())
}

/// The chart's rules and dashboards are the project's.
fn from_one_source(everything: &Installation) -> Result<()> {
    let mut rules = everything.the("PrometheusRule")?["spec"].to_string();
    ensure!(!rules.contains("example.invalid"), "the chart's runbooks are not where its value says");
    let source = yaml(&root().join("deploy/prometheus/prometheusrule.yaml"))?.swap_remove(0);
    let source = source["spec"].to_string();
    rules = rules.replace(ELSEWHERE, RUNBOOKS);
    ensure!(rules == source, "the chart's rules are not those of deploy/prometheus");
    let dashboards = root().join("deploy/grafana/dashboards");
    let mut count = 0;
    for file in fs::read_dir(&dashboards)?.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(file.path())?.replace(RUNBOOKS, ELSEWHERE);
        let held = everything.objects.iter().filter(|it| it["kind"] == "ConfigMap");
        let same =
            held.filter_map(|it| it["data"][&name].as_str()).any(|held| held.trim_end() == text.trim_end());
        ensure!(same, "the chart has no ConfigMap with {name}, its runbooks where `runbooks` says");
        count += 1;
    }
    ensure!(count > 0, "there are no dashboards");
    Ok(())
}

/// Where the metrics are served beyond the node, the monitors show what they take, and kubelet's probes come through.
fn guarded(installations: &[Installation]) -> Result<()> {
    for installation in installations {
        let at_node = installation.configuration()?.1.to_string().contains("$(HOST_IP)");
        for probe in ["livenessProbe", "readinessProbe"] {
            let get = &installation.pod()?["containers"][0][probe]["httpGet"];
            ensure!(
                get["host"].is_null() == at_node,
                "{}: the {probe} asks elsewhere than is served: {get}",
                installation.name
            );
            let by_tls = installation.configuration()?.1.to_string().contains("SIPOBS_METRICS__CERTIFICATE");
            ensure!((get["scheme"] == "HTTPS") == by_tls, "{}: {probe}: {get}", installation.name);
        }
        let kinds = [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")];
        for (kind, list) in kinds {
            let Ok(monitor) = installation.the(kind) else { continue };
            let endpoint = &monitor["spec"][list][0];
            let token = &endpoint["authorization"]["credentials"]["key"];
            ensure!(*token == "token", "{}: the {kind} shows no token: {endpoint}", installation.name);
            if installation.name == "the chart, everything" {
                let shown = &endpoint["tlsConfig"]["cert"]["secret"]["name"];
                ensure!(*shown == "prometheus-tls" && endpoint["scheme"] == "https", "{kind}: {endpoint}");
            }
        }
    }
    Ok(())
}

/// Two releases in one namespace do not take each other's pods for their own.
fn of_its_release() -> Result<()> {
    let mut command = helm();
    command.args(["template", "edge", "--set", "serviceMonitor.enabled=true,metrics.listen=node"]);
    command.args(["--set", "metrics.insecure=true,networkPolicy.enabled=true"]).arg(chart());
    let path = crate::scratch("kubernetes-release")?.join("edge.yaml");
    fs::write(&path, output(&mut command)?)?;
    let objects = yaml(&path)?;
    for (kind, selector) in [
        ("DaemonSet", "/spec/selector/matchLabels"),
        ("DaemonSet", "/spec/template/metadata/labels"),
        ("Service", "/spec/selector"),
        ("ServiceMonitor", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
    ] {
        let object = objects.iter().find(|it| it["kind"] == kind).with_context(|| format!("no {kind}"))?;
        let labels = object.pointer(selector).with_context(|| format!("{kind}: no {selector}"))?;
        ensure!(
            labels["app.kubernetes.io/instance"] == "edge",
            "{kind}: {selector} is not the release's: {labels}"
        );
    }
    Ok(())
}

/// The version stands in Cargo.toml, in the chart, in the manifest, and in the example of a kustomization.
fn versions(installations: &[Installation]) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let chart = yaml(&chart().join("Chart.yaml"))?.swap_remove(0);
    for field in ["version", "appVersion"] {
        ensure!(chart[field] == version, "the chart's {field} is {}, not {version}", chart[field]);
    }
    for (name, repository) in [
        ("the manifest", "sipobs"),
        ("the chart", "sipobs"),
        ("kustomize, everything", "registry.example/sipobs"),
    ] {
        let installation =
            installations.iter().find(|it| it.name == name).context("a way to install is missing")?;
        let image = &installation.pod()?["containers"][0]["image"];
        ensure!(
            *image == format!("{repository}:{version}"),
            "{name}: the image is {image}, not of {version}"
        );
    }
    Ok(())
}

/// A value that makes no sense is refused, and the complaint names it.
fn refused() -> Result<()> {
    for (value, named) in REFUSED {
        let mut command = helm();
        command.args(["template", "sipobs"]).arg(chart()).args(["--set", value]);
        let answer = command.output()?;
        let complaint = String::from_utf8_lossy(&answer.stderr);
        ensure!(!answer.status.success(), "the chart takes {value}");
        ensure!(complaint.contains(named), "of {value} the chart complains without {named}: {complaint}");
    }
    Ok(())
}

/// What the schemas are for: a typing error is refused.
fn schemas_bite() -> Result<()> {
    let folder = crate::scratch("kubernetes-wrong")?;
    let right = template(Some(&chart().join("ci/everything-values.yaml")))?;
    let errors = [
        ("hostNetwork", "hostNetwrk"),
        ("podMetricsEndpoints", "podMetricEndpoints"),
        (" for: 5m", " fro: 5m"),
    ];
    let mut paths = Vec::new();
    for (word, wrong) in errors {
        let path = folder.join(wrong.trim().replace(": ", "-")).with_extension("yaml");
        fs::write(&path, right.replacen(word, wrong, 1))?;
        paths.push(path);
    }
    let complaint = schemas(&paths).err().context("the schemas take anything")?.to_string();
    for (_, wrong) in errors {
        let word = wrong.trim().split(':').next().unwrap_or_default();
        ensure!(complaint.contains(&format!("'{word}'")), "the schemas take {word}: {complaint}");
    }
    Ok(())
}

fn schemas(paths: &[PathBuf]) -> Result<()> {
    let mut check = Command::new(setup::python_program("python"));
    output(check.arg(root().join("xtask/src/deploy/schemas.py")).args(paths)).map(drop)
}

fn chart() -> PathBuf {
    root().join("deploy/helm/sipobs")
}

fn helm() -> Command {
    Command::new(setup::python_program("helm"))
}

fn template(values: Option<&Path>) -> Result<String> {
    let mut command = helm();
    command.args(["template", "sipobs", "--namespace", "sipobs"]).arg(chart());
    if let Some(values) = values {
        command.arg("--values").arg(values);
    }
    output(&mut command)
}

fn kustomize(folder: &str) -> Command {
    let mut command = Command::new(setup::python_program("kubectl"));
    command.arg("kustomize").arg(root().join(folder));
    command
}
