//! A Kubernetes of one node: in the agent's network namespace of a lab, with mounts, process ids and cgroups of its own.
//! Whatever it writes is in the lab's folder, and all of it goes when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::client::Client;
use super::programs::{ETCD, KUBERNETES};
use crate::children::{Running, output, wait_for};
use crate::dist::image::Image;
use crate::lab::{Lab, Side, address, ip};
use crate::setup;

/// Its name in the cluster.
pub(super) const NODE: &str = "sipobs-node";
/// Where pods ask for names.
pub(super) const DNS: &str = "10.96.0.10";
const SERVICES: &str = "10.96.0.0/16";
const TOKEN: &str = "lab-admin-token";
const PAUSE: &str = "lab.invalid/pause:1";
const CGROUP: &str = "sipobs-kube";
/// A cold start, with others at work beside it.
const LIMIT: Duration = Duration::from_secs(180);
/// Knobs of the whole machine that kubelet sets. It finds the values that it wants in files of its own.
const KNOBS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The node.
pub(super) struct Node<'a> {
    lab: &'a Lab,
    dir: PathBuf,
    cgroup: Cgroup,
    /// The programs, the last started first, and the process that keeps their namespaces at the end.
    running: Vec<Running>,
    /// Of the first process in the node's own process ids, as we see it.
    first: String,
}

impl<'a> Node<'a> {
    /// Its address, on the wire.
    pub(super) fn address() -> String {
        address(Side::Agent, 9).to_string()
    }

    /// Brings it up and waits until it is ready, with `images` in its store.
    pub(super) fn start(lab: &'a Lab, images: &[PathBuf]) -> Result<Self> {
        let dir = lab.dir.join("node");
        fs::create_dir_all(&dir)?;
        let cgroup = Cgroup::new(format!("{CGROUP}-{}", std::process::id()))?;
        ip(&[
            "-n",
            lab.namespace(Side::Agent),
            "route",
            "add",
            "default",
            "via",
            &address(Side::Trunk, 0).to_string(),
        ])?;
        output(in_network(lab).args(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]))?;
        let (keeper, first) = keeper(lab, &dir)?;
        let mut node = Self { lab, dir, cgroup, running: vec![keeper], first };
        node.configure()?;
        node.start_api()?;
        node.start_containers(images)?;
        node.start_rest()?;
        wait_for("the node is ready", LIMIT, || {
            node.alive()?;
            let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            let said = output(node.client().kubectl().args(["get", "node", NODE, "-o", ready]));
            Ok(said.is_ok_and(|said| said == "True").then_some(()))
        })?;
        Ok(node)
    }

    /// `kubectl` and `helm`, as the administrator.
    pub(super) fn client(&self) -> Client {
        Client::of_node(&self.lab.namespace_file(Side::Agent), &self.kubeconfig(), &self.dir)
    }

    /// The processes of this name in the node's pods.
    pub(super) fn processes(&self, name: &str) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for process in fs::read_dir("/proc")?.flatten() {
            let Some(id) = process.file_name().to_str().and_then(|id| id.parse().ok()) else { continue };
            // What has ended meanwhile is none.
            let read = |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            if read("comm").trim_end() == name && read("cgroup").contains(&self.cgroup.0) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Fails if a program of the node's has ended.
    fn alive(&mut self) -> Result<()> {
        for running in &mut self.running {
            if let Some(status) = running.ended()? {
                bail!("{} ended with {status}:\n{}", running.name(), running.tail(15));
            }
        }
        Ok(())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    fn configure(&self) -> Result<()> {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            // Whoever listens here is in the namespace that we have made.
            "clusters": [{"name": "lab", "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
        });
        self.write("kubeconfig", &kubeconfig.to_string())?;
        self.write("tokens.csv", &format!("{TOKEN},admin,admin,system:masters\n"))?;
        self.write("resolv.conf", "nameserver 127.0.0.1\n")?;
        self.write("kubelet.json", &self.kubelet().to_string())?;
        self.write("containerd.toml", &self.containerd())?;
        // All pods are on the node's network; the runtime asks for a plugin all the same.
        let network = json!({"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "loopback"}]});
        self.write("cni/10-none.conflist", &network.to_string())?;
        let mut key = Command::new("openssl");
        key.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]);
        output(key.arg(self.dir.join("accounts.key")))?;
        Ok(())
    }

    fn kubelet(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": Self::address(),
            // Nobody but the API server and the pods of ours reach it.
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", self.cgroup.0), "failCgroupV1": false,
            "failSwapOn": false, "oomScoreAdj": 0, "makeIPTablesUtilChains": false,
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "clusterDNS": [DNS], "clusterDomain": "cluster.local", "resolvConf": self.dir.join("resolv.conf"),
            "podLogsDir": self.dir.join("pods"),
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        })
    }

    fn containerd(&self) -> String {
        let dir = self.dir.display();
        format!(
            r#"version = 2
root = "{dir}/images"
state = "{dir}/containers"
[grpc]
  address = "{}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Where we may not lower it ourselves, nobody below us may.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{dir}/cni"
"#,
            self.socket().display()
        )
    }

    fn start_api(&mut self) -> Result<()> {
        let dir = self.dir.clone();
        let mut etcd = self.inside(&ETCD.path("etcd"));
        etcd.arg("--data-dir").arg(dir.join("etcd")).arg("--unsafe-no-fsync");
        self.start_program("etcd", etcd)?;
        let mut api = self.inside(&KUBERNETES.path("kube-apiserver"));
        api.args(["--etcd-servers", "http://127.0.0.1:2379", "--advertise-address", &Self::address()]);
        api.args(["--service-cluster-ip-range", SERVICES, "--authorization-mode", "Node,RBAC"]);
        api.args(["--allow-privileged", "--endpoint-reconciler-type", "lease"]);
        api.args(["--kubelet-preferred-address-types", "InternalIP"]);
        api.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        api.arg("--token-auth-file")
            .arg(dir.join("tokens.csv"))
            .arg("--cert-dir")
            .arg(dir.join("certificates"));
        for flag in ["--service-account-signing-key-file", "--service-account-key-file"] {
            api.arg(flag).arg(dir.join("accounts.key"));
        }
        self.start_program("kube-apiserver", api)?;
        wait_for("the API server is ready", LIMIT, || {
            self.alive()?;
            Ok(output(self.client().kubectl().args(["get", "--raw", "/readyz"])).ok())
        })?;
        Ok(())
    }

    fn start_containers(&mut self, images: &[PathBuf]) -> Result<()> {
        let mut containerd = self.inside(Path::new("containerd"));
        containerd.arg("--config").arg(self.dir.join("containerd.toml"));
        self.start_program("containerd", containerd)?;
        let ctr = |node: &Self| {
            let mut ctr = node.inside(Path::new("ctr"));
            ctr.arg("--address").arg(node.socket()).args(["--namespace", "k8s.io"]);
            ctr
        };
        wait_for("containerd is ready", LIMIT, || {
            self.alive()?;
            Ok(output(ctr(self).arg("version")).ok())
        })?;
        let busybox = setup::find("busybox").context("no busybox")?;
        let pause = Image {
            name: PAUSE,
            entrypoint: &["/busybox"],
            command: &["sleep", "2147483647"],
            files: vec![(busybox, "/busybox".into())],
        };
        pause.write(&self.dir.join("pause.tar"))?;
        for image in [self.dir.join("pause.tar")].iter().chain(images) {
            output(ctr(self).args(["images", "import"]).arg(image))?;
        }
        Ok(())
    }

    fn start_rest(&mut self) -> Result<()> {
        let dir = self.dir.clone();
        let program = |node: &Self, name: &str| {
            let mut command = node.inside(&KUBERNETES.path(name));
            command.arg("--kubeconfig").arg(node.kubeconfig());
            command
        };
        let mut manager = program(self, "kube-controller-manager");
        manager.args(["--leader-elect=false", "--use-service-account-credentials=false"]);
        manager.arg("--service-account-private-key-file").arg(dir.join("accounts.key"));
        // The certificate that the API server has made for itself, and who signed it.
        manager.arg("--root-ca-file").arg(dir.join("certificates/apiserver.crt"));
        self.start_program("kube-controller-manager", manager)?;
        let mut scheduler = program(self, "kube-scheduler");
        scheduler.arg("--leader-elect=false");
        self.start_program("kube-scheduler", scheduler)?;
        let mut kubelet = program(self, "kubelet");
        kubelet.arg("--config").arg(dir.join("kubelet.json")).arg("--root-dir").arg(dir.join("kubelet"));
        kubelet.args(["--hostname-override", NODE, "--node-ip", &Self::address()]);
        self.start_program("kubelet", kubelet.arg("--cert-dir").arg(dir.join("kubelet-certificates")))?;
        let mut proxy = program(self, "kube-proxy");
        proxy.args([
            "--hostname-override",
            NODE,
            "--proxy-mode",
            "iptables",
            "--conntrack-max-per-core",
            "0",
        ]);
        self.start_program("kube-proxy", proxy)
    }

    fn start_program(&mut self, name: &str, command: impl std::borrow::BorrowMut<Command>) -> Result<()> {
        let mut command = command;
        let command = std::mem::replace(command.borrow_mut(), Command::new(name));
        let running = Running::start(name, command, &self.lab.dir.join(format!("{name}.log")))?;
        self.running.insert(0, running);
        Ok(())
    }

    /// A command that will run in all of the node's namespaces.
    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first, "--mount", "--pid", "--net", "--"]).arg(program);
        command
    }

    fn socket(&self) -> PathBuf {
        // A socket's path may not be longer than 107 bytes, wherever the project lies.
        PathBuf::from("/run/containerd.sock")
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().context("a file in no folder")?)?;
        fs::write(&path, text).with_context(|| path.display().to_string())
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // The last one takes the whole of the namespace of process ids with it.
        while self.running.pop().is_some() {}
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A command that will run in the network of the lab's agent, with the machine's own /sys: there are the cgroups.
fn in_network(lab: &Lab) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", lab.namespace_file(Side::Agent).display())).arg("--");
    command
}

/// The process that all the others' namespaces are of, and its id as we see it. It makes the mounts: `/run` is empty
/// for the node, and what is written to `/var` is in `dir`.
fn keeper(lab: &Lab, dir: &Path) -> Result<(Running, String)> {
    let mut script = String::from("set -e\nmount --make-rshared /\n");
    for (number, (knob, value)) in KNOBS.into_iter().enumerate() {
        let file = dir.join(format!("knob-{number}"));
        fs::write(&file, format!("{value}\n"))?;
        script += &format!("mount --bind '{}' /proc/sys/{knob}\n", file.display());
    }
    let (upper, work) = (dir.join("var"), dir.join("var-work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    script += &format!(
        "mount -t overlay overlay -o 'lowerdir=/var,upperdir={},workdir={}' /var\n",
        upper.display(),
        work.display()
    );
    // Pods that are gone leave children that somebody must wait for.
    script += "mount -t tmpfs tmpfs /run\necho ready\nwhile sleep 1; do :; done\n";
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "nsenter"]);
    command.arg(format!("--net={}", lab.namespace_file(Side::Agent).display()));
    command.args([
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        &script,
    ]);
    let mut keeper = Running::start("the node's first process", command, &lab.dir.join("node.log"))?;
    wait_for("the node's mounts", Duration::from_secs(20), || {
        if let Some(status) = keeper.ended()? {
            bail!("{status}:\n{}", keeper.tail(10));
        }
        Ok(keeper.output()?.contains("ready\n").then_some(()))
    })?;
    let first = output(Command::new("pgrep").args(["--parent", &keeper.id().to_string()]))?;
    Ok((keeper, first.trim().to_owned()))
}

/// A cgroup below the machine's first, in each hierarchy. It goes when it is dropped.
struct Cgroup(String);

impl Cgroup {
    fn new(name: String) -> Result<Self> {
        let cgroup = Self(name);
        for folder in cgroup.folders()? {
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            // A new one may use no CPU at all, in the first version of cgroups.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let (Ok(all), true) =
                    (fs::read_to_string(folder.with_file_name(file)), folder.join(file).exists())
                {
                    fs::write(folder.join(file), all.trim())?;
                }
            }
        }
        Ok(cgroup)
    }

    fn folders(&self) -> Result<Vec<PathBuf>> {
        let all = Path::new("/sys/fs/cgroup");
        if all.join("cgroup.controllers").exists() {
            return Ok(vec![all.join(&self.0)]);
        }
        let hierarchies = fs::read_dir(all)?.flatten().map(|hierarchy| hierarchy.path());
        Ok(hierarchies.filter(|it| it.is_dir()).map(|it| it.join(&self.0)).collect())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in self.folders().unwrap_or_default() {
            // Its processes have been killed, and may not be gone yet.
            for _ in 0..50 {
                remove_empty(&folder);
                if !folder.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Removes a folder that holds nothing but such folders. A cgroup's files are not to be removed, and go with it.
fn remove_empty(folder: &Path) {
    for inner in fs::read_dir(folder).into_iter().flatten().flatten().filter(|it| it.path().is_dir()) {
        remove_empty(&inner.path());
    }
    let _ = fs::remove_dir(folder);
}
