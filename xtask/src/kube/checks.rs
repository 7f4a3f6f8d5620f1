//! What is seen on the node. Each check installs the chart as it needs it, so that any can be done alone.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::client::{Client, NAME, Pod};
use super::node::{DNS, Node};
use super::{SIPOBS, seconds};
use crate::children::{output, pause, wait_for};
use crate::collector;
use crate::daemon::{METRICS, get};
use crate::dist;
use crate::faults::Peers;
use crate::faults::inside::Programs;
use crate::lab::{Lab, Side, address};
use crate::rollout::{PROBE, Probes, probes_in};

const LIMIT: Duration = Duration::from_secs(90);
/// Around a replacement, so that both daemons see calls.
const AROUND: Duration = Duration::from_secs(1);
/// BPF, NET_ADMIN and PERFMON (linux/capability.h: 39, 12, 38).
const THREE: u64 = 1 << 39 | 1 << 38 | 1 << 12;

type Check = fn(&Trial<'_>) -> Result<String>;

pub(super) const CHECKS: [(&str, Check); 14] = [
    ("installed", installed),
    ("capabilities", capabilities),
    ("asked by exec", asked),
    ("trace in a collector, found by the cluster's DNS", traced),
    ("state kept over a pod's replacement", replaced),
    ("rolling update", updated),
    ("kill -9", killed),
    ("kill -9 twice", killed_twice),
    ("an interface that is not there", nowhere),
    ("a pattern that no interface fits", fitting_nothing),
    ("an image that is not there", no_image),
    ("without a capability", without_permission),
    ("in a namespace that forbids it", forbidden),
    ("uninstalled", uninstalled),
];

/// The node with names and a collector, and two SIP peers on its wire.
pub(super) struct Trial<'a> {
    lab: &'a Lab,
    node: &'a Node<'a>,
    client: Client,
    peers: Peers,
}

impl<'a> Trial<'a> {
    /// Waits until names and collector are there.
    pub(super) fn prepare(lab: &'a Lab, node: &'a Node<'a>) -> Result<Self> {
        let client = node.client();
        let text = include_str!("cluster.yaml");
        let text = text.replace("NODE_ADDRESS", &Node::address()).replace("DNS_ADDRESS", DNS);
        client.apply(&lab.dir.join("cluster.yaml"), &text)?;
        for (namespace, name) in [("kube-system", "coredns"), ("observability", "otel-collector")] {
            let set = format!("deployment/{name}");
            let mut kubectl = client.kubectl();
            kubectl.args(["--namespace", namespace, "rollout", "status", &set, "--timeout=45s"]);
            output(&mut kubectl).with_context(|| {
                let mut logs = client.kubectl();
                output(logs.args(["--namespace", namespace, "logs", &set, "--tail=15"])).unwrap_or_default()
            })?;
        }
        let at = [Side::Trunk, Side::Agent].map(|side| std::net::SocketAddrV4::new(address(side, 1), 5060));
        Ok(Self { lab, node, client, peers: Peers::at(lab, at)? })
    }

    /// The chart with `values` beside what the node needs, and the pod that comes of it.
    fn install(&self, values: Value) -> Result<()> {
        let mut all = json!({
            "image": {"repository": SIPOBS, "tag": dist::version(), "pullPolicy": "Never"},
            // An ended call is told at once.
            "config": "[timers]\nended = \"1s\"\n",
        });
        merge(&mut all, values);
        self.client.install(&self.lab.dir.join("values.json"), &all)
    }

    /// The chart as it comes, and its pod, ready.
    fn plain(&self) -> Result<Pod> {
        self.install(json!({}))?;
        let set = format!("daemonset/{NAME}");
        output(self.client.ours().args(["rollout", "status", &set, "--timeout=90s"]))?;
        self.client.wait_pod("the pod is ready", LIMIT, |pod| pod.ready)
    }

    /// The one process of sipobs in the node's pods.
    fn process(&self) -> Result<u32> {
        wait_for("one process of sipobs", LIMIT, || {
            let found = self.node.processes("sipobs")?;
            Ok((found.len() == 1).then(|| found[0]))
        })
    }

    fn kill(&self) -> Result<()> {
        let process = i32::try_from(self.process()?).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(process, Signal::KILL)?)
    }

    /// The lines of this kind in what the pod has written, about calls whose Call-ID begins so.
    fn records(&self, pod: &Pod, kind: &str, call: &str) -> Result<Vec<Value>> {
        Ok(records(&self.client.log(pod, false)?, kind, call))
    }

    /// Waits for the one record of a transfer.
    fn transfer(&self, pod: &Pod, call: &str) -> Result<Value> {
        let what = format!("the transfer of {call} is told");
        let mut found = wait_for(&what, LIMIT, || {
            let found = self.records(pod, "transfer", call)?;
            Ok((!found.is_empty()).then_some(found))
        })?;
        ensure!(found.len() == 1, "{} transfers", found.len());
        Ok(found.remove(0))
    }

    /// Waits until the log of a pod that does not run says `word`.
    fn says(&self, pod: &Pod, word: &str) -> Result<String> {
        wait_for(&format!("the pod's log says {word:?}"), LIMIT, || {
            let logs = [false, true].map(|previous| self.client.log(pod, previous).unwrap_or_default());
            let line = logs.iter().flat_map(|log| log.lines()).find(|line| line.contains(word));
            Ok(line.map(message))
        })
    }
}

fn installed(trial: &Trial<'_>) -> Result<String> {
    let start = Instant::now();
    let pod = trial.plain()?;
    let took = start.elapsed();
    let (status, text) = get(trial.lab, METRICS, "/readyz")?;
    ensure!(status == 200, "/readyz answers {status}: {text}");
    let attached = Programs::of(trial.lab)?;
    ensure!(attached.count() == 2, "on the node's wire: {attached:?}");
    ensure!(pod.restarts == 0, "{pod:?}");
    Ok(format!(
        "ready after {}, {} programs on the wire of the default route",
        seconds(took),
        attached.count()
    ))
}

fn capabilities(trial: &Trial<'_>) -> Result<String> {
    trial.plain()?;
    let status = fs::read_to_string(format!("/proc/{}/status", trial.process()?))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        let held = u64::from_str_radix(field(set).context("no capabilities in /proc")?, 16)?;
        ensure!(held == THREE, "{set} {held:x}, not {THREE:x}");
    }
    for (name, wanted) in [("NoNewPrivs:", "1"), ("Seccomp:", "2")] {
        ensure!(field(name) == Some(wanted), "{name} {:?}", field(name));
    }
    Ok("BPF, NET_ADMIN, PERFMON and no other; a seccomp filter; no new privileges".into())
}

fn asked(trial: &Trial<'_>) -> Result<String> {
    let pod = trial.plain()?;
    let mut exec = trial.client.ours();
    exec.args(["exec", &pod.name, "--", "/usr/bin/sipobs", "check", "--live"]);
    let said = output(&mut exec)?;
    Ok(said.lines().last().unwrap_or_default().trim().to_owned())
}

fn traced(trial: &Trial<'_>) -> Result<String> {
    let pod = trial.plain()?;
    let call = trial.peers.call("traced")?;
    call.refer()?;
    call.rings()?;
    call.transferred()?;
    let transfer = trial.transfer(&pod, "traced")?;
    ensure!(transfer["outcome"] == "succeeded", "{}", transfer["outcome"]);
    let id = transfer["trace_id"].as_str().context("no trace_id")?;
    let names = wait_for("the trace is in the collector", LIMIT, || {
        let mut logs = trial.client.kubectl();
        logs.args(["--namespace", "observability", "logs", "deployment/otel-collector"]);
        let spans = collector::spans_in(&output(&mut logs)?)?;
        let ours = spans.iter().filter(|span| span.fields.get("Trace ID").is_some_and(|it| it == id));
        let names: Vec<_> = ours.filter_map(|span| span.fields.get("Name").cloned()).collect();
        Ok(names.iter().any(|name| name == "sip.transfer").then_some(names))
    })?;
    Ok(format!("by http://otel-collector.observability:4317, {} spans: {}", names.len(), names.join(", ")))
}

/// A REFER under one pod and its NOTIFY under the next.
fn replaced(trial: &Trial<'_>) -> Result<String> {
    let first = trial.plain()?;
    let call = trial.peers.call("kept")?;
    call.refer()?;
    pause(AROUND)?;
    output(trial.client.ours().args(["delete", "pod", &first.name]))?;
    let second =
        trial.client.wait_pod("another pod is ready", LIMIT, |pod| pod.ready && pod.name != first.name)?;
    call.rings()?;
    call.transferred()?;
    let transfer = trial.transfer(&second, "kept")?;
    let quality = &transfer["quality"];
    ensure!(transfer["outcome"] == "succeeded", "{}", transfer["outcome"]);
    ensure!(quality["restarts"] == 1 && quality["refer_unseen"] != 1, "quality is {quality}");
    Ok("REFER before, NOTIFY after: one attempt, succeeded, one restart in its record".into())
}

/// A changed configuration, with calls all the while.
fn updated(trial: &Trial<'_>) -> Result<String> {
    let first = trial.plain()?;
    let log = trial.lab.dir.join("first-pod.log");
    let mut follower = trial.client.follow(&first, &log)?;
    let probes = Probes::start(trial.lab)?;
    pause(AROUND)?;
    let start = Instant::now();
    trial.install(json!({"config": "[timers]\nended = \"2s\"\n"}))?;
    let second =
        trial.client.wait_pod("the next pod is ready", LIMIT, |pod| pod.ready && pod.name != first.name)?;
    let took = start.elapsed();
    pause(AROUND)?;
    let placed = probes.stop()?;
    // Their records come when the calls have been over for two seconds.
    pause(Duration::from_secs(4))?;
    follower.wait(LIMIT)?;
    let mut told = records(&follower.output()?, "call", PROBE);
    told.extend(trial.records(&second, "call", PROBE)?);
    let seen = probes_in(&told);
    let longest = seen.iter().zip(seen.iter().skip(1)).map(|(&from, &to)| placed[to] - placed[from]).max();
    ensure!(seen.last().is_some_and(|last| *last < placed.len()), "a call that was not placed");
    // Whatever one daemon saw the beginning of, and left to the next, is told by the next.
    ensure!(seen.len() < placed.len(), "no call was missed, which can't be");
    Ok(format!(
        "ready again after {}; nobody watched for {:.2} s; {} of {} calls missed",
        seconds(took),
        longest.unwrap_or_default().as_secs_f64(),
        placed.len() - seen.len(),
        placed.len()
    ))
}

fn killed(trial: &Trial<'_>) -> Result<String> {
    let pod = fresh(trial)?;
    let call = trial.peers.call("lone")?;
    call.refer()?;
    pause(AROUND)?;
    let took = killed_and_back(trial, &pod, 1)?;
    call.transferred()?;
    let quality = trial.transfer(&pod, "lone")?["quality"].clone();
    ensure!(quality["refer_unseen"] == 1 && quality["midcall"] == 1, "quality is {quality}");
    Ok(format!("ready again after {}; a NOTIFY without its REFER is told as that", seconds(took)))
}

fn killed_twice(trial: &Trial<'_>) -> Result<String> {
    let pod = fresh(trial)?;
    killed_and_back(trial, &pod, 1)?;
    let took = killed_and_back(trial, &pod, 2)?;
    let attached = Programs::of(trial.lab)?.count();
    ensure!(attached == 2, "{attached} programs on the wire");
    Ok(format!(
        "ready again after {}, by kubelet's back-off; 2 programs on the wire, as before",
        seconds(took)
    ))
}

/// A pod that has never been restarted: kubelet counts.
fn fresh(trial: &Trial<'_>) -> Result<Pod> {
    let old = trial.plain()?;
    output(trial.client.ours().args(["delete", "pod", &old.name]))?;
    trial.client.wait_pod("another pod is ready", LIMIT, |pod| pod.ready && pod.name != old.name)
}

fn killed_and_back(trial: &Trial<'_>, pod: &Pod, restarts: u64) -> Result<Duration> {
    let start = Instant::now();
    trial.kill()?;
    trial
        .client
        .wait_pod("ready again", LIMIT, |it| it.ready && it.name == pod.name && it.restarts == restarts)?;
    Ok(start.elapsed())
}

fn nowhere(trial: &Trial<'_>) -> Result<String> {
    trial.plain()?;
    trial.install(json!({"interfaces": ["nowhere0"]}))?;
    let pod = trial
        .client
        .wait_pod("the pod fails", LIMIT, |pod| !pod.ready && pod.waiting == "CrashLoopBackOff")?;
    let said = trial.says(&pod, "nowhere0: no such interface; there are ")?;
    trial.plain()?;
    Ok(format!("CrashLoopBackOff; its log: {said}"))
}

fn fitting_nothing(trial: &Trial<'_>) -> Result<String> {
    let first = trial.plain()?;
    trial.install(json!({"interfaces": ["nowhere*"]}))?;
    let pod =
        trial.client.wait_pod("the next pod is ready", LIMIT, |pod| pod.ready && pod.name != first.name)?;
    trial.says(&pod, "nothing to watch here: no interface fits")?;
    let (status, text) = get(trial.lab, METRICS, "/readyz")?;
    ensure!(status == 200 && text.contains("nothing to watch here"), "/readyz answers {status}: {text}");
    Ok(format!("ready, as a pattern need not fit on every node; /readyz: {}", text.trim()))
}

fn no_image(trial: &Trial<'_>) -> Result<String> {
    trial.plain()?;
    trial.install(json!({"image": {"tag": "absent"}}))?;
    let pod = trial.client.wait_pod("the pod waits", LIMIT, |pod| pod.waiting == "ErrImageNeverPull")?;
    let attached = Programs::of(trial.lab)?.count();
    ensure!(attached == 0, "{attached} programs on the wire without a pod");
    trial.plain()?;
    Ok(format!("{}; nothing on the wire; ready again with the right image", pod.waiting))
}

fn without_permission(trial: &Trial<'_>) -> Result<String> {
    let first = trial.plain()?;
    let fewer = json!([{
        "op": "replace",
        "path": "/spec/template/spec/containers/0/securityContext/capabilities/add",
        "value": ["BPF", "PERFMON"],
    }]);
    let set = format!("daemonset/{NAME}");
    let mut patch = trial.client.ours();
    // In helm's name, which else finds somebody else's change and leaves it.
    patch.args(["patch", &set, "--field-manager=helm", "--type=json", "--patch", &fewer.to_string()]);
    output(&mut patch)?;
    let pod = trial.client.wait_pod("the next pod is there", LIMIT, |pod| pod.name != first.name)?;
    let said = trial.says(&pod, "missing CAP_NET_ADMIN")?;
    let (status, text) = get(trial.lab, METRICS, "/readyz")?;
    ensure!(status == 503 && text.contains("CAP_NET_ADMIN"), "/readyz answers {status}: {text}");
    ensure!(!trial.client.wait_pod("the pod stays", LIMIT, |it| it.name == pod.name)?.ready, "it is ready");
    output(trial.client.ours().args(["delete", &set]))?;
    trial.plain()?;
    Ok(format!("not ready; its log: {said}; /readyz: {}", text.trim()))
}

/// The namespace as Kubernetes' own restricted profile wants it.
fn forbidden(trial: &Trial<'_>) -> Result<String> {
    let pod = trial.plain()?;
    let label = |level: &str| {
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        output(trial.client.kubectl().args(["label", "--overwrite", "namespace", NAME, &label]))
    };
    label("restricted")?;
    output(trial.client.ours().args(["delete", "pod", &pod.name]))?;
    let said = wait_for("the refusal is told", LIMIT, || {
        let events =
            output(trial.client.ours().args(["get", "events", "--output", "jsonpath={.items[*].message}"]))?;
        let found = events.split("Error creating: ").find(|event| event.contains("violates PodSecurity"));
        Ok(found.map(|event| event.chars().take(400).collect::<String>()))
    })?;
    ensure!(trial.client.pods()?.is_empty(), "there is a pod all the same");
    label("privileged")?;
    output(trial.client.ours().args(["delete", &format!("daemonset/{NAME}")]))?;
    trial.plain()?;
    let what = said.split(": ").skip(1).collect::<Vec<_>>().join(": ");
    Ok(format!("no pod, and an event says why: {}", what.split(", unrestricted").next().unwrap_or_default()))
}

fn uninstalled(trial: &Trial<'_>) -> Result<String> {
    trial.plain()?;
    ensure!(Programs::of(trial.lab)?.count() == 2, "nothing was on the wire");
    let before = loaded()?;
    output(trial.client.helm().args(["uninstall", NAME, "--wait", "--namespace", NAME]))?;
    wait_for("its pod is gone", LIMIT, || Ok(trial.node.processes("sipobs")?.is_empty().then_some(())))?;
    let attached = Programs::of(trial.lab)?;
    ensure!(attached.count() == 0, "on the wire: {attached:?}");
    // The kernel frees them a moment after their last user is gone.
    let after = wait_for("the kernel frees its programs", LIMIT, || {
        let now = loaded()?;
        Ok((now + 2 <= before).then_some(now))
    })?;
    Ok(format!("nothing on the wire; programs in the kernel: {before} before, {after} after"))
}

/// How many BPF programs the kernel holds.
fn loaded() -> Result<usize> {
    Ok(aya::programs::loaded_programs().collect::<Result<Vec<_>, _>>()?.len())
}

/// The lines of this kind about calls whose Call-ID begins so.
fn records(log: &str, kind: &str, call: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| {
            line["kind"] == kind && line["call_id"].as_str().is_some_and(|id| id.starts_with(call))
        })
        .collect()
}

/// What a line of the JSON log says.
fn message(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|_| line.into());
    let fields = [&line["fields"]["message"], &line["message"], &line["msg"], &line];
    fields.iter().find_map(|field| field.as_str()).map_or_else(|| line.to_string(), str::to_owned)
}

/// Puts `more` into `all`, field by field.
fn merge(all: &mut Value, more: Value) {
    match (all, more) {
        (Value::Object(all), Value::Object(more)) => {
            for (key, value) in more {
                merge(all.entry(key).or_insert(Value::Null), value);
            }
        }
        (all, more) => *all = more,
    }
}
