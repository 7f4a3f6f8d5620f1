//! sipobs itself, built and run by the chores.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::children::{Running, output, run, wait_for};
use crate::lab::{AGENT_INTERFACE, Lab, Side};
use crate::{root, setup};

/// Of the namespace's own loopback.
pub(crate) const METRICS: &str = "127.0.0.1:9464";
/// SIGTERM settles what is open and flushes spans, within bounds.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Its server answers at once, but for a scrape, which waits up to two seconds for fresh counters.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Link-time optimisation of a release takes a quarter of an hour where others work beside it.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);

/// What the program of a node has: all but `mcp`, which answers about files and would take 2 MB of it.
pub(crate) const NODE: &str = "live,otlp,typed,view,webhook";

/// Builds sipobs, with live capture or without, and gives the path of its program.
pub(crate) fn build(live: bool, release: bool) -> Result<PathBuf> {
    build_with(if live { &["--features", "live"] } else { &[] }, release)
}

/// Builds sipobs as it goes to nodes.
pub(crate) fn build_for_nodes() -> Result<PathBuf> {
    build_with(&["--no-default-features", "--features", NODE], true)
}

fn build_with(features: &[&str], release: bool) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--package", "sipobs"]).args(features);
    if release {
        cargo.arg("--release").env("SIPOBS_COMMIT", commit()?);
    }
    run(cargo.env("PATH", setup::search_path()).current_dir(root()), BUILD_LIMIT)?;
    let built = crate::target().join(if release { "release" } else { "debug" }).join("sipobs");
    ensure!(built.exists(), "{} was not built", built.display());
    Ok(built)
}

/// What a release says it is made of.
pub(crate) fn commit() -> Result<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(root());
    Ok(output(&mut git)?.trim().to_owned())
}

/// Why this machine can't capture live, if so: what `sipobs check` says.
pub(crate) fn cannot_capture(sipobs: &Path, lab: &Lab) -> Option<String> {
    output(lab.inside(Side::Agent, sipobs).args(["check", "-i", AGENT_INTERFACE]))
        .err()
        .map(|error| error.to_string())
}

/// How a transfer's line begins.
const TRANSFER: &str = r#"{"kind":"transfer","#;

/// `sipobs run` on the agent's end of the wire.
#[derive(Debug)]
pub(crate) struct Daemon {
    running: Running,
    jsonl: PathBuf,
}

impl Daemon {
    /// Starts it and waits until it captures. With `shown`, what it prints goes to our own output.
    pub(crate) fn start(lab: &Lab, sipobs: &Path, otlp: Option<&str>, shown: bool) -> Result<Self> {
        let otlp = otlp.map_or(vec![], |endpoint| vec!["--otlp", endpoint]);
        Self::start_with(lab, sipobs, &otlp, shown)
    }

    /// The same with further arguments.
    pub(crate) fn start_with(lab: &Lab, sipobs: &Path, arguments: &[&str], shown: bool) -> Result<Self> {
        let jsonl = lab.dir.join("sipobs.jsonl");
        let mut command = lab.inside(Side::Agent, sipobs);
        command.args(["run", "-i", AGENT_INTERFACE]).args(arguments);
        command.env("SIPOBS_JSONL__PATH", &jsonl).env("SIPOBS_METRICS__LISTEN", METRICS);
        let log = lab.dir.join("sipobs.log");
        let running = if shown {
            command.stdout(Stdio::inherit());
            Running::start_shown("sipobs", command, &log)?
        } else {
            Running::start("sipobs", command, &log)?
        };
        let mut daemon = Self { running, jsonl };
        let ready = wait_for("sipobs is ready", Duration::from_secs(20), || {
            if let Some(status) = daemon.running.ended()? {
                bail!("sipobs ended with {status}:\n{}", daemon.running.tail(30));
            }
            Ok(get(lab, METRICS, "/readyz").ok().filter(|(status, _)| *status == 200))
        });
        ready.with_context(|| daemon.running.tail(30))?;
        Ok(daemon)
    }

    /// What it exports at this moment.
    pub(crate) fn metrics(&self, lab: &Lab) -> Result<Metrics> {
        let (status, text) = get(lab, METRICS, "/metrics")?;
        ensure!(status == 200, "/metrics answers {status}");
        Metrics::parse(text)
    }

    /// The most memory it has had resident, in KiB.
    pub(crate) fn peak_kib(&self) -> Option<u64> {
        self.running.peak_kib()
    }

    /// CPU seconds it has used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.running.cpu_seconds()
    }

    /// Waits until it has written `count` transfers with `mark` in their lines.
    pub(crate) fn wait_settled(&self, count: usize, mark: &str, limit: Duration) -> Result<()> {
        let (mut file, mut line, mut settled) = (None, String::new(), 0);
        wait_for("every verdict settles", limit, || {
            // It is made with the first line.
            if file.is_none() {
                file = fs::File::open(&self.jsonl).ok().map(BufReader::new);
            }
            let Some(file) = &mut file else { return Ok((count == 0).then_some(())) };
            // The last line may still be in the making.
            while file.read_line(&mut line)? > 0 && line.ends_with('\n') {
                settled += usize::from(line.starts_with(TRANSFER) && line.contains(mark));
                line.clear();
            }
            Ok((settled >= count).then_some(()))
        })
    }

    /// Ends it as a service manager would, and gives all it has written.
    pub(crate) fn stop(mut self) -> Result<Vec<Value>> {
        self.end()?;
        self.lines()
    }

    /// The same. Gives the lines with `mark` in them, and how many transfers the others hold.
    pub(crate) fn stop_marked(mut self, mark: &str) -> Result<(Vec<Value>, usize)> {
        self.end()?;
        let (mut marked, mut others) = (Vec::new(), 0);
        for line in BufReader::new(fs::File::open(&self.jsonl)?).lines() {
            let line = line?;
            if line.contains(mark) {
                marked.extend(json_lines(&line)?);
            } else {
                others += usize::from(line.starts_with(TRANSFER));
            }
        }
        Ok((marked, others))
    }

    fn end(&mut self) -> Result<()> {
        self.running.signal(Signal::TERM)?;
        self.running.succeed(STOP_LIMIT)
    }

    fn lines(&self) -> Result<Vec<Value>> {
        // It is made with the first line.
        let text = fs::read_to_string(&self.jsonl).unwrap_or_default();
        // The last line may still be in the making.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        json_lines(whole)
    }
}

/// What `sipobs pcap` says of a capture.
pub(crate) fn read_capture(sipobs: &Path, capture: &Path) -> Result<Vec<Value>> {
    json_lines(&output(Command::new(sipobs).args(["pcap", "--format", "jsonl"]).arg(capture))?)
}

/// One JSON value a line.
pub(crate) fn json_lines(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
}

/// A scrape.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// As it came.
    pub(crate) text: String,
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads what `/metrics` gave.
    pub(crate) fn parse(text: String) -> Result<Self> {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            // An exemplar stands behind ` # `.
            let line = line.split(" # ").next().unwrap_or_default();
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("not a sample: {line}"))?;
            samples.insert(name.to_owned(), value.parse().with_context(|| format!("not a sample: {line}"))?);
        }
        Ok(Self { text, samples })
    }

    /// Counters that `earlier` did not have: their first increase goes by unseen.
    pub(crate) fn born_since(&self, earlier: &Self) -> Vec<&str> {
        let counters =
            self.samples.keys().filter(|series| series.split('{').next().unwrap_or("").ends_with("_total"));
        counters.filter(|series| !earlier.samples.contains_key(*series)).map(String::as_str).collect()
    }

    /// The sum of all series of `name` that hold every one of `labels` (`key="value"`).
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> Result<u64> {
        let mut found = false;
        let mut sum = 0.0;
        for (series, value) in &self.samples {
            let (metric, held) = series.split_once('{').unwrap_or((series, ""));
            if metric == name {
                found = true;
                if labels.iter().all(|label| held.contains(label)) {
                    sum += value;
                }
            }
        }
        ensure!(found, "/metrics has no {name}");
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counters, far below 2^53"
        )]
        Ok(sum as u64)
    }
}

/// The kernel's and the rings' side of the account, which must come out even.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    pub(crate) seen: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
}

impl Frames {
    /// `seen = passed + delivered + lost`, `delivered = read + damaged`: of a daemon that has read everything.
    pub(crate) fn accounted(metrics: &Metrics) -> Result<Self> {
        let count = |what: &str| metrics.sum(&format!("sipobs_capture_frames_{what}_total"), &[]);
        let (seen, passed, delivered, lost) =
            (count("seen")?, count("passed")?, count("delivered")?, count("lost")?);
        let (read, damaged) = (count("read")?, count("damaged")?);
        ensure!(
            seen == passed + delivered + lost,
            "{seen} seen, but {passed} passed + {delivered} delivered + {lost} lost"
        );
        ensure!(delivered == read + damaged, "{delivered} delivered, but {read} read + {damaged} damaged");
        Ok(Self { seen, delivered, lost })
    }
}

/// GET inside the agent's namespace: status and body.
pub(crate) fn get(lab: &Lab, address: &str, path: &str) -> Result<(u16, String)> {
    exchange(lab, address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"))
}

/// Any request inside the agent's namespace: status and body.
pub(crate) fn exchange(lab: &Lab, address: &str, request: &str) -> Result<(u16, String)> {
    let (address, request): (SocketAddr, _) = (address.parse()?, request.to_owned());
    let answer = lab.enter(Side::Agent, move || {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
    Ok((status, body.to_owned()))
}

/// The trunks' and platforms' way of writing a Call-ID, as a key.
pub(crate) fn transfer_of<'a>(lines: &'a [Value], call_id: &str) -> Option<&'a Value> {
    lines.iter().find(|line| line["kind"] == "transfer" && line["call_id"] == call_id)
}

/// The line of an ended call.
pub(crate) fn call_of<'a>(lines: &'a [Value], call_id: &str) -> Option<&'a Value> {
    lines.iter().find(|line| line["kind"] == "call" && line["call_id"] == call_id)
}
