//! `kubectl` and `helm`, and what they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::children::{Running, output, wait_for};
use crate::{root, setup};

/// Both of the release and of its DaemonSet.
pub(super) const NAME: &str = "sipobs";

/// Whom they speak to.
pub(super) struct Client {
    network: Option<PathBuf>,
    variables: Vec<(&'static str, PathBuf)>,
    /// Where the chart is installed.
    pub(super) namespace: String,
}

/// A pod of ours.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) ready: bool,
    pub(super) restarts: u64,
    /// Why its container is not running, if so.
    pub(super) waiting: String,
}

impl Client {
    /// For the user's own cluster, as kubectl finds it.
    pub(super) fn of_user(namespace: String) -> Self {
        Self { network: None, variables: vec![], namespace }
    }

    /// For the node of a lab. What helm keeps goes below `dir`.
    pub(super) fn of_node(network: &Path, kubeconfig: &Path, dir: &Path) -> Self {
        let mut variables = vec![("KUBECONFIG", kubeconfig.to_owned())];
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            variables.push((variable, dir.join("helm").join(variable)));
        }
        Self { network: Some(network.into()), variables, namespace: NAME.into() }
    }

    pub(super) fn kubectl(&self) -> Command {
        self.command("kubectl")
    }

    pub(super) fn helm(&self) -> Command {
        self.command("helm")
    }

    /// `kubectl` in the namespace of ours.
    pub(super) fn ours(&self) -> Command {
        let mut kubectl = self.kubectl();
        kubectl.args(["--namespace", &self.namespace]);
        kubectl
    }

    /// Installs the chart with these `values` alone, or changes what is installed. `file` is written.
    pub(super) fn install(&self, file: &Path, values: &Value) -> Result<()> {
        fs::write(file, values.to_string())?;
        let mut helm = self.helm();
        helm.args(["upgrade", "--install", NAME]).arg(root().join("deploy/helm/sipobs"));
        helm.args(["--namespace", &self.namespace, "--create-namespace", "--values"]).arg(file);
        output(&mut helm).map(drop)
    }

    /// The pods of the release that are not on their way out.
    pub(super) fn pods(&self) -> Result<Vec<Pod>> {
        let selector = "app.kubernetes.io/name=sipobs";
        let said = output(self.ours().args(["get", "pods", "--selector", selector, "--output", "json"]))?;
        let said: Value = serde_json::from_str(&said).context("kubectl get pods")?;
        let pods = said["items"].as_array().into_iter().flatten();
        Ok(pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).map(Pod::read).collect())
    }

    /// Waits until there is one pod and it is as wished.
    pub(super) fn wait_pod(&self, what: &str, limit: Duration, wish: impl Fn(&Pod) -> bool) -> Result<Pod> {
        let mut last = String::new();
        let found = wait_for(what, limit, || {
            let mut pods = self.pods()?;
            last = format!("{pods:?}");
            Ok((pods.len() == 1).then(|| pods.remove(0)).filter(&wish))
        });
        found.with_context(|| format!("last seen: {last}"))
    }

    /// What the pod has written up to now, or what it had before its last restart.
    pub(super) fn log(&self, pod: &Pod, previous: bool) -> Result<String> {
        let previous = format!("--previous={previous}");
        output(self.ours().args(["logs", &pod.name, &previous]))
    }

    /// All that the pod writes until its end, into `file`.
    pub(super) fn follow(&self, pod: &Pod, file: &Path) -> Result<Running> {
        let mut kubectl = self.ours();
        kubectl.args(["logs", "--follow", &pod.name]);
        Running::start("kubectl logs", kubectl, file)
    }

    /// Applies the text of a manifest.
    pub(super) fn apply(&self, file: &Path, text: &str) -> Result<()> {
        fs::write(file, text)?;
        output(self.kubectl().args(["apply", "--filename"]).arg(file)).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let program = setup::python_program(program);
        let mut command = match &self.network {
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", network.display())).arg("--").arg(program);
                command
            }
            None => Command::new(program),
        };
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Pod {
    fn read(pod: &Value) -> Self {
        let container = &pod["status"]["containerStatuses"][0];
        Self {
            name: pod["metadata"]["name"].as_str().unwrap_or_default().into(),
            ready: container["ready"] == true,
            restarts: container["restartCount"].as_u64().unwrap_or_default(),
            waiting: container["state"]["waiting"]["reason"].as_str().unwrap_or_default().into(),
        }
    }
}
