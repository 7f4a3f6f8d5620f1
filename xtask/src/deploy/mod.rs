//! What can be said of `deploy/` without a container engine or a cluster: its files parse, fit their schemas,
//! and name only what exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::children::output;
use crate::{root, setup};

pub(crate) mod dashboards;
pub(crate) mod documents;
pub(crate) mod generate;
pub(crate) mod kubernetes;
pub(crate) mod monitoring;
pub(crate) mod rules;
pub(crate) mod runbooks;

const LIMIT: Duration = Duration::from_secs(120);

/// The Dockerfile and the compose file: every file, stage and volume they name is there.
pub(crate) fn containers() -> Result<()> {
    dockerfile(&root().join("deploy/Dockerfile"))?;
    let dir = root().join("deploy/compose");
    let compose = &yaml(&dir.join("compose.yaml"))?[0];
    let volumes = compose["volumes"].as_object().context("compose: no volumes")?;
    let services = compose["services"].as_object().context("compose: no services")?;
    for (name, service) in services {
        let image = service["image"].as_str();
        ensure!(
            service["build"].is_object() || image.is_some_and(|image| image.contains(':')),
            "compose: {name} has neither a build nor an image with a version"
        );
        for depends in service["depends_on"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            ensure!(
                services.contains_key(depends),
                "compose: {name} depends on {depends}, which is no service"
            );
        }
        for volume in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let source = volume.split(':').next().unwrap_or_default();
            let there = if source.starts_with('.') {
                dir.join(source).exists()
            } else {
                volumes.contains_key(source)
            };
            ensure!(there, "compose: {name} mounts {source}, which does not exist");
        }
    }
    for file in ["prometheus.yaml", "grafana-datasources.yaml", "grafana-dashboards.yaml"] {
        yaml(&dir.join(file))?;
    }
    Ok(())
}

/// The configuration files that `deploy/` holds are ones that this `sipobs` takes.
pub(crate) fn configurations(sipobs: &Path, installations: &[kubernetes::Installation]) -> Result<()> {
    let written = crate::scratch("deploy")?.join("kubernetes.toml");
    for installation in installations {
        let (config, variables) = installation.configuration()?;
        fs::write(&written, config)?;
        for host in ["192.0.2.7", "2001:db8::7"] {
            let environment = environment(variables, host)?;
            let local = environment.iter().any(|(_, value)| value.starts_with("127.0.0.1:"));
            let listen = match host {
                _ if local => "127.0.0.1:9464".to_owned(),
                v6 if v6.contains(':') => format!("[{v6}]:9464"),
                v4 => format!("{v4}:9464"),
            };
            let mut config = Command::new(sipobs);
            config.arg("config").arg("--config").arg(&written).envs(environment);
            let text = output(&mut config)?;
            let listen = format!("listen = \"{listen}\"");
            for line in [&listen, "node = \"node-7\"", "\"k8s.node.name\" = \"node-7\""] {
                ensure!(
                    text.contains(line),
                    "the DaemonSet's environment on {host} gives no {line}:\n{text}"
                );
            }
        }
    }
    for path in ["sipobs.toml", "compose/sipobs.toml", "debian/sipobs.toml"] {
        let path = root().join("deploy").join(path);
        output(Command::new(sipobs).arg("config").arg("--config").arg(&path))?;
    }
    fs::write(&written, output(Command::new(sipobs).args(["config", "--commented"]))?)?;
    let commented = output(Command::new(sipobs).arg("config").arg("--config").arg(&written))?;
    ensure!(
        commented == output(Command::new(sipobs).arg("config"))?,
        "`sipobs config --commented` is not the defaults"
    );
    Ok(())
}

/// The variables of a container on the node `node-7` at `host`, as kubelet makes them.
fn environment(variables: &Value, host: &str) -> Result<Vec<(String, String)>> {
    let mut made: Vec<(String, String)> = Vec::new();
    for variable in variables.as_array().context("no environment")? {
        let name = variable["name"].as_str().context("a variable without a name")?;
        let mut value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => "node-7".to_owned(),
            Some("status.hostIP") => host.to_owned(),
            Some(other) => anyhow::bail!("{name}: what {other} gives is not known"),
            None if variable["valueFrom"]["secretKeyRef"].is_object() => match name {
                "OTEL_EXPORTER_OTLP_HEADERS" => "authorization=Bearer%20secret".to_owned(),
                "SIPOBS_METRICS__TOKEN" => "0123456789abcdef".to_owned(),
                _ => "https://collector.example:4317".to_owned(),
            },
            None => variable["value"].as_str().with_context(|| name.to_owned())?.to_owned(),
        };
        for (earlier, held) in &made {
            value = value.replace(&format!("$({earlier})"), held);
        }
        made.push((name.to_owned(), value));
    }
    Ok(made)
}

fn dockerfile(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path)?.replace("\\\n", " ");
    let mut stages = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let instruction = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        match instruction {
            "FROM" => {
                if let [_, "AS", stage] = words[..] {
                    stages.insert(stage);
                }
            }
            "COPY" => {
                if let Some(stage) = words[0].strip_prefix("--from=") {
                    ensure!(
                        stages.contains(stage),
                        "Dockerfile copies from {stage}, which is no stage before it"
                    );
                } else {
                    ensure!(
                        root().join(words[0]).exists(),
                        "Dockerfile copies {}, which does not exist",
                        words[0]
                    );
                }
            }
            "RUN" | "WORKDIR" | "USER" | "ENTRYPOINT" | "CMD" | "ENV" | "ARG" | "EXPOSE" | "LABEL" => {}
            other => anyhow::bail!("Dockerfile: {other:?} is no instruction"),
        }
    }
    Ok(())
}

/// The documents of a YAML file, read by the same Python that checks the schemas.
fn yaml(path: &Path) -> Result<Vec<Value>> {
    let script = "import json, sys, yaml\njson.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let json = output(Command::new(setup::python_program("python")).args(["-c", script]).arg(path))?;
    Ok(serde_json::from_str(&json)?)
}
